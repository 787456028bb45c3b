//! Stories by chance about one key of three replicas. What is told of them must be explained by what was acknowledged.

#![allow(dead_code, reason = "each test program uses its own part of this")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking, its helpers too"
)]

use std::{collections::BTreeSet, fmt::Write as _, num::NonZeroU8};

use crate::core_support::{Region, add, bulk, bytes, remove, replicas::Replicas, set};
use node::{
    core::{
        Input, RequestId,
        message::{Message, SessionId},
        op::{Action, Read, Write},
        reply::Reply,
    },
    level::Level,
};
use proptest::{
    prelude::Rng,
    test_runner::{RngAlgorithm, TestRng},
};

/// The element that is added and removed.
const M: &str = "m";
const NODES: usize = 3;

/// What goes wrong in a story.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// Nothing is lost; messages of different links and kinds overtake each other.
    Order,
    /// Single messages are lost, or come twice.
    Loss,
    /// So they are, and processes end and begin anew.
    Crashes,
}

/// What the key holds: whether `m` is in a set, or a string.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flavour {
    Element,
    Register,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// The value that it leaves: of a set there is one.
    Put(usize),
    Remove,
    Delete,
    /// Removes what it is answered with.
    Take,
    Read,
}

/// An operation, and what came of it. Steps of the story are its time.
#[derive(Debug, Clone)]
struct Told {
    flavour: Flavour,
    kind: Kind,
    node: usize,
    life: usize,
    id: RequestId,
    begun: usize,
    ended: Option<usize>,
    reply: Option<Reply>,
}

impl Told {
    fn is_acknowledged(&self) -> bool {
        let reply = self.reply.as_ref();
        reply.is_some_and(|reply| !matches!(reply, Reply::Error(_)))
    }

    /// The state that a write leaves, or may have left: nothing, or a value. `None`: it changes nothing.
    fn leaves(&self) -> Option<Option<usize>> {
        match self.kind {
            Kind::Put(value) => Some(Some(value)),
            Kind::Remove | Kind::Delete => Some(None),
            Kind::Take if self.found_nothing() => None,
            Kind::Take => Some(None),
            Kind::Read => None,
        }
    }

    fn found_nothing(&self) -> bool {
        match &self.reply {
            Some(Reply::Array(taken)) => !taken.contains(&bulk(M)),
            Some(Reply::Nil) => true,
            _ => false,
        }
    }

    /// The state that a read shows.
    fn shows(&self) -> Option<Option<usize>> {
        match (self.kind, self.reply.as_ref()?) {
            (Kind::Read, Reply::Array(items)) => Some((items[0] == Reply::Int(1)).then_some(0)),
            (Kind::Read, Reply::Nil) => Some(None),
            (Kind::Read, Reply::Bulk(value)) => {
                Some(Some(std::str::from_utf8(value).unwrap().parse().unwrap()))
            }
            _ => None,
        }
    }

    /// Whether it was acknowledged before the other began, or stands before it in one connection.
    fn precedes(&self, other: &Self) -> bool {
        let is_before = self.ended.is_some_and(|ended| ended < other.begun);
        let is_same = self.node == other.node && self.life == other.life;
        self.is_acknowledged() && (is_before || (is_same && self.begun < other.begun))
    }

    fn action(&self, entropy: u64) -> Action {
        let members = vec![bytes(M)];
        match (self.flavour, self.kind) {
            (Flavour::Element, Kind::Put(_)) => Action::Write(add(&[M])),
            (Flavour::Register, Kind::Put(value)) => Action::Write(set(&value.to_string())),
            (Flavour::Element, Kind::Take) => Action::Write(Write::Pop { count: 1, entropy }),
            (Flavour::Register, Kind::Take) => Action::Write(Write::GetDel),
            (Flavour::Element, Kind::Read) => Action::Read(Read::AreMembers { members }),
            (Flavour::Register, Kind::Read) => Action::Read(Read::Get),
            (Flavour::Element, Kind::Remove) => Action::Write(remove(&[M])),
            (Flavour::Register, Kind::Remove) | (_, Kind::Delete) => Action::Write(Write::Delete),
        }
    }
}

/// The first read that nothing explains: an acknowledged write came before it and left something else, and every write that leaves what is
/// shown came before that write or after the read.
fn unexplained(story: &[Told]) -> Option<String> {
    let reads = story.iter().filter_map(|read| Some((read, read.shows()?)));
    for (read, shown) in reads {
        let writes = || story.iter().filter(|write| write.leaves().is_some());
        let mut others = writes().filter(|write| write.leaves() != Some(shown));
        let contradicts = |write: &&Told| {
            let mut causes = writes().filter(|cause| cause.leaves() == Some(shown));
            write.precedes(read)
                && causes.all(|cause| cause.precedes(write) || read.precedes(cause))
        };
        if let Some(write) = others.find(contradicts) {
            return Some(format!("{read:?}\n  although {write:?}"));
        }
    }
    None
}

/// A story that is being told.
pub struct Story {
    dice: TestRng,
    seed: u64,
    trouble: Trouble,
    flavour: Flavour,
    three: Replicas,
    told: Vec<Told>,
    /// How often each process began anew.
    lives: [usize; NODES],
    /// Links whose rows, or whose other messages, do not arrive now.
    slow: BTreeSet<(usize, usize, bool)>,
    at: usize,
}

impl Story {
    pub fn new(seed: u64, trouble: Trouble, flavour: Flavour) -> Self {
        let mut bytes = [0x5a; 16];
        bytes[..8].copy_from_slice(&seed.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_le_bytes());
        Self {
            dice: TestRng::from_seed(RngAlgorithm::XorShift, &bytes),
            seed,
            trouble,
            flavour,
            three: Replicas::three(),
            told: Vec::new(),
            lives: [0; NODES],
            slow: BTreeSet::new(),
            at: 0,
        }
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.dice.next_u64() % bound as u64) as usize
    }

    fn chance(&mut self, one_of: usize) -> bool {
        self.below(one_of) == 0
    }

    pub fn tell(mut self) -> Result<(), String> {
        self.begin();
        let steps = 120 + self.below(200);
        let calm = 15 + 15 * (self.seed / 3 % 3) as usize;
        let traffic = 20 + 20 * (self.seed / 9 % 3) as usize;
        for _ in 0..steps {
            if self.chance(calm) {
                self.slow_down();
            }
            match self.below(traffic) {
                0..=2 => self.ask(),
                3 => self.pass(),
                4 if self.trouble == Trouble::Crashes && self.chance(12) => self.crash(),
                _ => self.carry(),
            }
            self.collect();
            self.at += 1;
        }
        self.end_in_peace()
    }

    fn begin(&mut self) {
        if self.flavour == Flavour::Element && self.chance(2) {
            self.three.write(0, "k", add(&["other"]));
            self.three.live(0..NODES, 5);
        }
        if self.chance(2) {
            let ahead = self.below(NODES);
            self.three.nodes[ahead].wall_ms += 600;
        }
    }

    fn slow_down(&mut self) {
        self.slow.clear();
        for link in 0..NODES * NODES * 2 {
            if self.chance(3) {
                let (from, to) = (link / 2 / NODES, link / 2 % NODES);
                self.slow.insert((from, to, link % 2 == 0));
            }
        }
    }

    fn ask(&mut self) {
        let node = self.below(NODES);
        let life = self.lives[node];
        let is_open = |told: &&Told| told.node == node && told.life == life && told.reply.is_none();
        if self.told.iter().filter(is_open).count() > (self.seed % 3) as usize {
            return;
        }
        let value = match self.flavour {
            Flavour::Element => 0,
            Flavour::Register => self.told.len(),
        };
        let kind = match self.below(12) {
            0..=2 => Kind::Put(value),
            3..=5 if self.flavour == Flavour::Element => Kind::Remove,
            3..=5 => Kind::Put(value),
            6..=9 => Kind::Read,
            10 => Kind::Delete,
            _ => Kind::Take,
        };
        let level = match self.below(3) {
            0 => Level::Replicas(NonZeroU8::new(2).expect("two is not zero")),
            _ => Level::LocalQuorum,
        };
        let entropy = self.dice.next_u64();
        let mut told = Told {
            flavour: self.flavour,
            kind,
            node,
            life,
            id: RequestId(0),
            begun: self.at,
            ended: None,
            reply: None,
        };
        told.id = self.three.nodes[node].request_at("k", told.action(entropy), level);
        if !self.chance(3) {
            self.three.nodes[node].close();
        }
        self.told.push(told);
    }

    fn pass(&mut self) {
        let millis = [1, 20, 50, 100][self.below(4)];
        for node in &mut self.three.nodes {
            node.pass(millis);
        }
        let node = self.below(NODES);
        self.three.nodes[node].tick();
    }

    /// A process ends with what it has not committed, and begins anew; all sessions do.
    fn crash(&mut self) {
        let node = self.below(NODES);
        self.three.lose(node);
        self.three.nodes[node].restart();
        let mono = self.three.nodes.iter().map(|node| node.mono).max();
        self.three.nodes[node].mono = mono.expect("there are nodes");
        self.lives[node] += 1;
        for other in (0..NODES).filter(|other| *other != node) {
            self.three.nodes[other].close();
            self.three.lose(other);
        }
        // Nothing is delivered by opening the sessions.
        let links = (0..NODES).flat_map(|from| (0..NODES).map(move |to| (from, to)));
        self.three.cut = links.collect();
        self.three.join();
        self.three.cut.clear();
    }

    /// One message of those that are under way on links that are not slow. Where there is none, open batches end.
    fn carry(&mut self) {
        let under_way = self.under_way();
        if under_way.is_empty() {
            return self.three.nodes.iter_mut().for_each(Region::close);
        }
        let (node, is_sent, place) = under_way[self.below(under_way.len())];
        let (is_lost, is_doubled) = match self.trouble {
            Trouble::Order => (false, false),
            Trouble::Loss | Trouble::Crashes => (self.chance(24), self.chance(24)),
        };
        let queue = match is_sent {
            true => &mut self.three.nodes[node].sent,
            false => &mut self.three.nodes[node].returned,
        };
        let (session, message) = queue.remove(place);
        if is_lost {
            return;
        }
        if is_doubled {
            queue.push((session, message.clone()));
        }
        let closes = !self.chance(4);
        self.arrive(node, session, message, closes);
    }

    /// By node, whether it was sent by a dialler, and where in its queue.
    fn under_way(&self) -> Vec<(usize, bool, usize)> {
        let mut under_way = Vec::new();
        for (at, node) in self.three.nodes.iter().enumerate() {
            for (is_sent, queue) in [(true, &node.sent), (false, &node.returned)] {
                let fast = queue.iter().enumerate().filter(|(_, (session, message))| {
                    let link = (at, other_end(*session, at));
                    let is_row = matches!(message, Message::Ship(_));
                    !self.slow.contains(&(link.0, link.1, is_row))
                });
                under_way.extend(fast.map(|(place, _)| (at, is_sent, place)));
            }
        }
        under_way
    }

    fn arrive(&mut self, from: usize, session: SessionId, message: Message, closes: bool) {
        let to = other_end(session, from);
        let is_dialler = session == self.three.session(from, to);
        if !is_dialler && session != self.three.session(to, from) {
            return;
        }
        let node = &mut self.three.nodes[to];
        match message {
            Message::Compare(_) | Message::Mend { .. } => {
                node.input(Input::Asked { session, message });
            }
            message if is_dialler => node.receive(session, message),
            message => node.input(Input::Acknowledged { session, message }),
        }
        if closes {
            node.close();
        }
    }

    fn collect(&mut self) {
        let open = self.told.iter_mut().filter(|told| told.reply.is_none());
        for told in open.filter(|told| told.life == self.lives[told.node]) {
            if let Some(reply) = self.three.reply(told.node, told.id) {
                told.reply = Some(reply);
                told.ended = Some(self.at);
            }
        }
    }

    /// Everything arrives, in most stories but at one node, of which nobody hears any more. Then each one is asked.
    fn end_in_peace(mut self) -> Result<(), String> {
        let dead = (!self.seed.is_multiple_of(4)).then(|| self.below(NODES));
        if let Some(dead) = dead {
            self.three.nodes[dead].sent.clear();
            self.three.nodes[dead].returned.clear();
            self.three.cut_off(dead);
        }
        let living: Vec<usize> = (0..NODES).filter(|node| Some(*node) != dead).collect();
        self.live(&living, 40);
        let is_forgotten = |told: &&Told| {
            living.contains(&told.node)
                && told.life == self.lives[told.node]
                && told.reply.is_none()
        };
        if let Some(told) = self.told.iter().find(is_forgotten) {
            return Err(self.so_far(&format!("never answered: {told:?}")));
        }
        for node in &living {
            let read = Told {
                flavour: self.flavour,
                kind: Kind::Read,
                node: *node,
                life: self.lives[*node],
                id: RequestId(0),
                begun: self.at,
                ended: None,
                reply: None,
            };
            let id = self.three.begin(*node, "k", read.action(0));
            self.told.push(Told { id, ..read });
            self.live(&living, 25);
        }
        let last = &self.told[self.told.len() - living.len()..];
        let shown: BTreeSet<_> = last.iter().map(Told::shows).collect();
        if shown.len() > 1 || shown.contains(&None) {
            return Err(self.so_far(&format!("in the end, {dead:?} being dead: {shown:?}")));
        }
        match unexplained(&self.told) {
            Some(wrong) => Err(self.so_far(&wrong)),
            None => Ok(()),
        }
    }

    fn live(&mut self, nodes: &[usize], ticks: usize) {
        for _ in 0..ticks {
            for node in nodes {
                self.three.nodes[*node].pass(100);
                self.three.nodes[*node].tick();
            }
            self.three.deliver();
            self.collect();
            self.at += 1;
        }
    }

    fn so_far(&self, wrong: &str) -> String {
        let mut text = format!("{wrong}\nin this story:\n");
        for told in &self.told {
            writeln!(text, "  {told:?}").expect("a string takes everything");
        }
        text
    }
}

fn other_end(session: SessionId, node: usize) -> usize {
    let (dialler, acceptor) = (session.0 as usize / 10 % 10, session.0 as usize % 10);
    if node == dialler { acceptor } else { dialler }
}
