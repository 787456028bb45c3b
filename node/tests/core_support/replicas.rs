//! Several nodes of one region, joined by hand: each message can be held back, lost, doubled or moved.
//!
//! A scenario is a few lines. One replica misses a write that the other two acknowledge, and is then written through:
//!
//! ```text
//!   let mut three = Replicas::three();
//!   three.cut_off(2);                                   // nothing gets from or to us-3
//!   assert_eq!(three.write(0, "k", set("v")), Reply::Ok); // through us-1, acknowledged with us-2
//!   let held = three.hold(0);                           // what us-1 sent to us-3 stays under way
//!   three.cut.clear();
//!   assert_eq!(three.write(2, "k", Write::Delete), Reply::Int(1));
//!   three.release(0, held);                             // and arrives late
//!   assert_eq!(three.get(0, "k"), Reply::Nil);
//! ```
//!
//! `nodes[n].sent` and `nodes[n].returned` are what a node sent as the dialler and as the acceptor of its sessions: take from them to lose a
//! message, clone to double it, reverse to change places. `begin` and `reply` are a request that waits; `live` lets time pass;
//! `nodes[n].wall_ms` is a clock; `bounded` keeps little of the outbox; `lose` and `join` end sessions and open new ones.

use std::{collections::BTreeSet, ops::Range};

use node::core::{
    Input, ReadBounds, RequestId,
    identity::{DirectoryId, relay_of},
    message::{Message, SessionId},
    op::{Action, Read, Write},
    reply::Reply,
    ship::{Home, Met, OutboxBounds},
};

use super::{READS, Region, UNBOUNDED, place_of};

/// Nodes of one region, and the links between them that do not carry anything now.
pub struct Replicas {
    pub nodes: Vec<Region>,
    pub cut: BTreeSet<(usize, usize)>,
    /// Counts the sessions between each two: an old one is of no use any more.
    generation: u64,
}

impl Replicas {
    /// Three that hold everything, all of them joined.
    pub fn three() -> Self {
        Self::joined((0..3).map(place_of))
    }

    /// Three that hold everything and keep no more of their outbox than this.
    pub fn bounded(bounds: OutboxBounds) -> Self {
        let mut three = Self::three();
        let places = (0..3).map(place_of).zip(10..);
        let nodes = places.map(|(place, id)| Region::at(place, DirectoryId(id), bounds));
        three.nodes = nodes.collect();
        three.join();
        three
    }

    /// Nodes at these places, all of them joined.
    pub fn joined(places: impl Iterator<Item = Home>) -> Self {
        Self::reading(places, READS)
    }

    /// The same, with other bounds for reads.
    pub fn reading(places: impl Iterator<Item = Home>, reads: ReadBounds) -> Self {
        let nodes = places.zip(10..);
        let nodes =
            nodes.map(|(place, id)| Region::reading(place, DirectoryId(id), UNBOUNDED, reads));
        let mut replicas = Self {
            nodes: nodes.collect(),
            cut: BTreeSet::new(),
            generation: 0,
        };
        replicas.join();
        replicas
    }

    /// Opens a session from each to each other one.
    pub fn join(&mut self) {
        self.generation += 1;
        for from in 0..self.nodes.len() {
            for to in (0..self.nodes.len()).filter(|to| *to != from) {
                self.connect(from, to);
            }
        }
        self.deliver();
    }

    pub fn connect(&mut self, from: usize, to: usize) {
        let actor = self.nodes[from].actor();
        let held = self.nodes[to].inbox.held(&[actor, relay_of(actor)]);
        let met = Met {
            region: self.nodes[to].name.clone(),
            node: self.nodes[to].node.clone(),
            session: self.session(from, to),
            directory: self.nodes[to].directory,
            held,
            shortage: self.nodes[to].inbox.shortage(),
        };
        self.nodes[from].input(Input::SessionUp(met));
    }

    pub fn session(&self, from: usize, to: usize) -> SessionId {
        SessionId(self.generation * 100 + from as u64 * 10 + to as u64)
    }

    /// The sessions of a node end.
    pub fn lose(&mut self, node: usize) {
        for other in (0..self.nodes.len()).filter(|other| *other != node) {
            for (from, to) in [(node, other), (other, node)] {
                let session = self.session(from, to);
                self.nodes[from].input(Input::SessionDown { session });
                for end in [from, to] {
                    self.nodes[end].sent.retain(|(of, _)| *of != session);
                    self.nodes[end].returned.retain(|(of, _)| *of != session);
                }
            }
        }
    }

    /// Carries everything that is under way, and what comes of it, but on links that are cut.
    pub fn deliver(&mut self) {
        while (0..self.nodes.len()).any(|node| self.deliver_from(node)) {}
    }

    pub fn deliver_from(&mut self, node: usize) -> bool {
        let mut moved = false;
        let sent = std::mem::take(&mut self.nodes[node].sent);
        let returned = std::mem::take(&mut self.nodes[node].returned);
        for (session, message) in sent.into_iter().chain(returned) {
            let (from, to) = (session.0 as usize / 10 % 10, session.0 as usize % 10);
            let is_stale = session.0 / 100 != self.generation;
            let other = if node == from { to } else { from };
            if self.cut.contains(&(node, other)) {
                self.nodes[node].sent.push((session, message));
            } else if !is_stale {
                self.take(other, node == from, session, message);
                moved = true;
            }
        }
        moved
    }

    pub fn take(&mut self, node: usize, is_asked: bool, session: SessionId, message: Message) {
        let node = &mut self.nodes[node];
        match message {
            Message::Compare(_) | Message::Repair { .. } => {
                node.input(Input::Asked { session, message });
            }
            message if is_asked => node.receive(session, message),
            message => node.input(Input::Acknowledged { session, message }),
        }
        node.close();
    }

    pub fn begin(&mut self, node: usize, key: &str, action: Action) -> RequestId {
        let id = self.nodes[node].request(key, action);
        self.nodes[node].close();
        id
    }

    pub fn reply(&mut self, node: usize, id: RequestId) -> Option<Reply> {
        self.nodes[node].reply(id)
    }

    pub fn write(&mut self, node: usize, key: &str, write: Write) -> Reply {
        let id = self.begin(node, key, Action::Write(write));
        self.deliver();
        // Where some of those that were asked first are silent, others are.
        for _ in 0..self.nodes.len() {
            if let Some(reply) = self.reply(node, id) {
                return reply;
            }
            self.nodes[node].pass(100);
            self.nodes[node].tick();
            self.deliver();
        }
        self.reply(node, id).expect("the write is answered")
    }

    pub fn read(&mut self, node: usize, key: &str, read: Read) -> Reply {
        let id = self.begin(node, key, Action::Read(read));
        self.deliver();
        // Where some of those that were asked are silent, others are.
        for _ in 0..self.nodes.len() {
            self.nodes[node].pass(100);
            self.nodes[node].tick();
            self.deliver();
        }
        self.reply(node, id).expect("the read is answered")
    }

    pub fn get(&mut self, node: usize, key: &str) -> Reply {
        self.read(node, key, Read::Get)
    }

    /// Time passes at these nodes, a tick after the other, and what is under way arrives.
    pub fn live(&mut self, nodes: Range<usize>, ticks: usize) {
        for _ in 0..ticks {
            for node in nodes.clone() {
                self.nodes[node].pass(100);
                self.nodes[node].tick();
            }
            self.deliver();
        }
    }

    /// What a node sent and nobody received is held back until it is given to [`Replicas::release`].
    pub fn hold(&mut self, node: usize) -> Vec<(SessionId, Message)> {
        std::mem::take(&mut self.nodes[node].sent)
    }

    /// What was held back arrives.
    pub fn release(&mut self, node: usize, held: Vec<(SessionId, Message)>) {
        self.nodes[node].sent.extend(held);
        self.deliver();
    }

    /// Nothing gets from or to a node.
    pub fn cut_off(&mut self, node: usize) {
        for other in (0..self.nodes.len()).filter(|other| *other != node) {
            self.cut.extend([(node, other), (other, node)]);
        }
    }

    pub fn mend(&mut self) {
        self.cut.clear();
        self.deliver();
    }
}
