//! Stories by chance about one key of three replicas, or five. What is told of them must be explained by what was acknowledged.

#![allow(dead_code, reason = "each test program uses its own part of this")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking, its helpers too"
)]

mod told;

use std::{collections::BTreeSet, fmt::Write as _, num::NonZeroU8};

use self::told::{COUNTS_MAX, Kind, Shown, Told, unexplained};
use crate::core_support::{Region, home, replicas::Replicas};
use node::{
    core::{
        Input, RequestId,
        message::{Message, SessionId},
    },
    level::Level,
};
use proptest::{
    prelude::Rng,
    test_runner::{RngAlgorithm, TestRng},
};

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

impl Trouble {
    pub const ALL: [Self; 3] = [Self::Order, Self::Loss, Self::Crashes];
}

impl Flavour {
    pub const ALL: [Self; 3] = [Self::Element, Self::Register, Self::Mixed];
}

/// What is asked of the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flavour {
    /// Elements of a set, at levels that make majorities.
    Element,
    /// Values and increments, at such levels.
    Register,
    /// Both, at any level.
    Mixed,
}

/// What a message brings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Load {
    Rows,
    /// What was taken of these.
    Answers,
    /// Questions, and what is said to them.
    Questions,
}

impl Load {
    fn of(message: &Message) -> Self {
        match message {
            Message::Ship(_) => Self::Rows,
            Message::Ack(_) | Message::Nack { .. } => Self::Answers,
            _ => Self::Questions,
        }
    }
}

/// A story that is being told.
pub struct Story {
    dice: TestRng,
    seed: u64,
    trouble: Trouble,
    flavour: Flavour,
    replicas: Replicas,
    told: Vec<Told>,
    nodes: usize,
    /// How often each process began anew.
    lives: Vec<usize>,
    /// What does not arrive now: of which link, and of which kind.
    slow: BTreeSet<(usize, usize, Load)>,
    at: usize,
}

impl Story {
    pub fn new(seed: u64, trouble: Trouble, flavour: Flavour) -> Self {
        let mut bytes = [0x5a; 16];
        // Few are about five replicas, which have the more messages.
        let nodes = if seed % 5 == 4 { 5 } else { 3 };
        let names = ["us-1", "us-2", "us-3", "us-4", "us-5"];
        let names = &names[..nodes];
        let place = |name: &&str| home("us", name, &[("us", names)], nodes as u8);
        bytes[..8].copy_from_slice(&seed.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_le_bytes());
        Self {
            dice: TestRng::from_seed(RngAlgorithm::XorShift, &bytes),
            seed,
            trouble,
            flavour,
            replicas: Replicas::joined(names.iter().map(place)),
            told: Vec::new(),
            nodes,
            lives: vec![0; nodes],
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
        if self.chance(2) {
            let ahead = self.below(self.nodes);
            self.replicas.nodes[ahead].wall_ms += 600;
        }
    }

    fn slow_down(&mut self) {
        self.slow.clear();
        for link in 0..self.nodes * self.nodes {
            for load in [Load::Rows, Load::Answers, Load::Questions] {
                if self.chance(3) {
                    let (from, to) = (link / self.nodes, link % self.nodes);
                    self.slow.insert((from, to, load));
                }
            }
        }
    }

    fn ask(&mut self) {
        let node = self.below(self.nodes);
        let life = self.lives[node];
        let is_open = |told: &&Told| told.node == node && told.life == life && told.reply.is_none();
        if self.told.iter().filter(is_open).count() > self.pipelined() {
            return;
        }
        let kind = self.kind();
        let level = self.level();
        let mut told = self.asked(kind, level, node);
        told.id = self.replicas.nodes[node].request_at("k", told.action(), level);
        if !self.chance(3) {
            self.replicas.nodes[node].close();
        }
        self.told.push(told);
    }

    /// So many may wait before the next one on one connection.
    fn pipelined(&self) -> usize {
        let most = (self.seed % 3) as usize;
        match self.flavour {
            Flavour::Element | Flavour::Register => most,
            Flavour::Mixed => 2 * most,
        }
    }

    fn asked(&self, kind: Kind, level: Level, node: usize) -> Told {
        let is_weak = match level {
            Level::Replicas(count) => usize::from(count.get()) <= self.nodes / 2,
            _ => false,
        };
        Told {
            kind,
            level,
            is_weak,
            node,
            life: self.lives[node],
            id: RequestId(0),
            begun: self.at,
            ended: None,
            reply: None,
        }
    }

    fn kind(&mut self) -> Kind {
        let element = usize::from(self.chance(4));
        let entropy = self.dice.next_u64();
        let counts = self.told.iter();
        let counts = counts.filter(|told| matches!(told.kind, Kind::Increment(_)));
        let count = counts.count();
        // One bit for each.
        let increment = match count < COUNTS_MAX {
            true => Kind::Increment(count),
            false => Kind::ReadString,
        };
        let value = self.told.len() + 1;
        let value = match self.below(3) {
            0 => Kind::SetText(value),
            _ => Kind::SetNumber(value),
        };
        match (self.flavour, self.below(12)) {
            (Flavour::Element, 0..=2) => Kind::Add(0),
            (Flavour::Element, 3..=5) => Kind::Remove(0),
            (Flavour::Element, 6..=9) => Kind::ReadElements,
            (Flavour::Element, 10) => Kind::Delete,
            (Flavour::Element, _) => Kind::Pop { entropy },
            (Flavour::Register, 0..=3) => value,
            (Flavour::Register, 4..=5) => increment,
            (Flavour::Register, 6..=9) => Kind::ReadString,
            (Flavour::Register, 10) => Kind::Delete,
            (Flavour::Register, _) => Kind::Take,
            (Flavour::Mixed, 0..=1) => Kind::Add(element),
            (Flavour::Mixed, 2) => Kind::Remove(element),
            (Flavour::Mixed, 3..=4) => value,
            (Flavour::Mixed, 5) => increment,
            (Flavour::Mixed, 6..=7) => Kind::ReadElements,
            (Flavour::Mixed, 8) => Kind::ReadString,
            (Flavour::Mixed, 9) => Kind::Delete,
            (Flavour::Mixed, 10) => Kind::End,
            (Flavour::Mixed, _) if entropy.is_multiple_of(2) => Kind::Take,
            (Flavour::Mixed, _) => Kind::Pop { entropy },
        }
    }

    fn level(&mut self) -> Level {
        let replicas = |count| Level::Replicas(NonZeroU8::new(count).expect("it is not zero"));
        match (self.flavour, self.below(6)) {
            (Flavour::Mixed, 0) => replicas(1),
            (Flavour::Mixed, 1) => Level::All,
            (_, 2..=3) => replicas(self.nodes as u8 / 2 + 1),
            (Flavour::Mixed, 4) => replicas(2),
            _ => Level::LocalQuorum,
        }
    }

    fn pass(&mut self) {
        let millis = [1, 20, 50, 100][self.below(4)];
        for node in &mut self.replicas.nodes {
            node.pass(millis);
        }
        let node = self.below(self.nodes);
        self.replicas.nodes[node].tick();
    }

    /// A process ends with what it has not committed, and begins anew; all sessions do.
    fn crash(&mut self) {
        let node = self.below(self.nodes);
        self.replicas.lose(node);
        self.replicas.nodes[node].restart();
        let mono = self.replicas.nodes.iter().map(|node| node.mono).max();
        self.replicas.nodes[node].mono = mono.expect("there are nodes");
        self.lives[node] += 1;
        for other in (0..self.nodes).filter(|other| *other != node) {
            self.replicas.nodes[other].close();
            self.replicas.lose(other);
        }
        // Nothing is delivered by opening the sessions.
        let nodes = self.nodes;
        let links = (0..nodes).flat_map(|from| (0..nodes).map(move |to| (from, to)));
        self.replicas.cut = links.collect();
        self.replicas.join();
        self.replicas.cut.clear();
    }

    /// One message of those that are under way on links that are not slow. Where there is none, open batches end.
    fn carry(&mut self) {
        let under_way = self.under_way();
        if under_way.is_empty() {
            return self.replicas.nodes.iter_mut().for_each(Region::close);
        }
        let (node, is_sent, place) = under_way[self.below(under_way.len())];
        let (is_lost, is_doubled) = match self.trouble {
            Trouble::Order => (false, false),
            Trouble::Loss | Trouble::Crashes => (self.chance(24), self.chance(24)),
        };
        let queue = match is_sent {
            true => &mut self.replicas.nodes[node].sent,
            false => &mut self.replicas.nodes[node].returned,
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
        for (at, node) in self.replicas.nodes.iter().enumerate() {
            for (is_sent, queue) in [(true, &node.sent), (false, &node.returned)] {
                let fast = queue.iter().enumerate().filter(|(_, (session, message))| {
                    let link = (at, other_end(*session, at));
                    !self.slow.contains(&(link.0, link.1, Load::of(message)))
                });
                under_way.extend(fast.map(|(place, _)| (at, is_sent, place)));
            }
        }
        under_way
    }

    fn arrive(&mut self, from: usize, session: SessionId, message: Message, closes: bool) {
        let to = other_end(session, from);
        let is_dialler = session == self.replicas.session(from, to);
        if !is_dialler && session != self.replicas.session(to, from) {
            return;
        }
        let node = &mut self.replicas.nodes[to];
        match message {
            Message::Compare(_) | Message::Repair { .. } => {
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
            if let Some(reply) = self.replicas.reply(told.node, told.id) {
                told.reply = Some(reply);
                told.ended = Some(self.at);
            }
        }
    }

    /// Everything arrives, in most stories but at a minority, of which nobody hears any more. Then each one is asked.
    fn end_in_peace(mut self) -> Result<(), String> {
        let mut dead = BTreeSet::new();
        if !self.seed.is_multiple_of(4) {
            dead.extend((0..self.nodes / 2).map(|_| self.below(self.nodes)));
        }
        for node in &dead {
            self.replicas.nodes[*node].sent.clear();
            self.replicas.nodes[*node].returned.clear();
            self.replicas.cut_off(*node);
        }
        let living: Vec<usize> = (0..self.nodes)
            .filter(|node| !dead.contains(node))
            .collect();
        self.live(&living, 40);
        let is_forgotten = |told: &&Told| {
            living.contains(&told.node)
                && told.life == self.lives[told.node]
                && told.reply.is_none()
        };
        if let Some(told) = self.told.iter().find(is_forgotten) {
            return Err(self.so_far(&format!("never answered: {told:?}")));
        }
        let reads: &[Kind] = match self.flavour {
            Flavour::Element => &[Kind::ReadElements],
            Flavour::Register => &[Kind::ReadString],
            Flavour::Mixed => &[Kind::ReadElements, Kind::ReadString],
        };
        // Of five that live one may be the only one that had heard of something: that is seen where it is asked, and from then on.
        if self.nodes > 3 {
            for kind in reads {
                self.read_through(&living, *kind)?;
            }
        }
        for kind in reads {
            let shown = self.read_through(&living, *kind)?;
            if shown.len() > 1 {
                return Err(self.so_far(&format!("in the end, {dead:?} being dead: {shown:?}")));
            }
        }
        match unexplained(&self.told) {
            Some(wrong) => Err(self.so_far(&wrong)),
            None => Ok(()),
        }
    }

    /// What each of these shows. Who asks two that are dead, one after the other, may have no time left for a third; it asks them last then.
    fn read_through(&mut self, nodes: &[usize], kind: Kind) -> Result<BTreeSet<Shown>, String> {
        let mut all = BTreeSet::new();
        for node in nodes {
            let tries = self.nodes / 2 + usize::from(self.nodes > 3);
            let shown = (0..tries).find_map(|_| self.read(nodes, *node, kind));
            all.insert(shown.ok_or_else(|| self.so_far("unanswered in the end"))?);
        }
        Ok(all)
    }

    fn read(&mut self, nodes: &[usize], node: usize, kind: Kind) -> Option<Shown> {
        let read = self.asked(kind, Level::LocalQuorum, node);
        let id = self.replicas.begin(node, "k", read.action());
        self.told.push(Told { id, ..read });
        self.live(nodes, 25);
        self.told.last().and_then(Told::shows)
    }

    fn live(&mut self, nodes: &[usize], ticks: usize) {
        for _ in 0..ticks {
            for node in nodes {
                self.replicas.nodes[*node].pass(100);
                self.replicas.nodes[*node].tick();
            }
            self.replicas.deliver();
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
