//! Requests that other replicas are asked about before they are carried out.
//!
//! ```text
//!   read, or a write that depends on what is there
//!     ─▶ Compare(key, digest) to as many others as the level wants
//!          ─ equal ──────────────────────────────────────────────────────────▶ ┐
//!          ─ differs ─▶ what is lacking here is joined, what is lacking there  ├─▶ carried out here
//!                       is sent (Mend) and durable there (Mended) ───────────▶ ┘
//! ```
//! So the copy here is at least what enough replicas knew when they were asked, and what is answered from it is on enough of them
//! before it is answered: another read that begins later sees it as well.
//!
//! A key with a question under way has a *gate*: what comes for it meanwhile waits its turn behind it, or the commands of one
//! connection would change places.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use super::{
    RequestId,
    message::SessionId,
    mutant::{Mutant, is_on},
    op::{Action, Key, Op},
};
use crate::names::NodeName;

/// The gates of one shard.
#[derive(Debug)]
pub struct Gates {
    gates: BTreeMap<Key, Gate>,
    /// Whose each question is.
    asks: BTreeMap<u64, Ask>,
    next_ask: u64,
    waiting: usize,
}

/// A request that waits.
#[derive(Debug, Clone, PartialEq)]
pub struct Waiting {
    /// Who asked.
    pub id: RequestId,
    /// What.
    pub op: Op,
    /// Since the process started.
    pub deadline: Duration,
}

/// A key with a question under way.
#[derive(Debug, Default)]
struct Gate {
    /// Carried out when the question is answered.
    covered: Vec<Waiting>,
    /// What comes after them.
    queue: VecDeque<Waiting>,
    /// Replicas that are still to be heard of, of those that were asked or can be.
    needed: usize,
    asked: Vec<NodeName>,
    others: VecDeque<(NodeName, SessionId)>,
    /// When another one is asked in the place of one that is silent.
    hedge_at: Duration,
}

/// A question that is under way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ask {
    /// About which key.
    pub key: Key,
    /// Whom.
    pub node: NodeName,
    /// On which session.
    pub session: SessionId,
    /// From which hash on; `None`: whether what was sent is durable there.
    pub from: Option<u64>,
}

/// What became of a gate.
#[derive(Debug, PartialEq)]
pub enum Turned {
    /// It still waits.
    Waits,
    /// These may be carried out.
    Opens(Vec<Waiting>),
}

impl Gates {
    /// None. Questions are numbered from `first_ask` on: another number at each opening, or an answer to a question of the shard
    /// before would be taken for one to a question of this.
    pub fn new(first_ask: u64) -> Self {
        Self {
            gates: BTreeMap::new(),
            asks: BTreeMap::new(),
            next_ask: first_ask,
            waiting: 0,
        }
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.gates.is_empty()
    }

    /// How many requests wait.
    pub fn len(&self) -> usize {
        self.waiting
    }

    /// Whether a key has one.
    pub fn is_closed(&self, key: &Key) -> bool {
        self.gates.contains_key(key)
    }

    /// Waits behind a gate that is closed.
    pub fn queue(&mut self, waiting: Waiting) {
        if let Some(gate) = self.gates.get_mut(&waiting.op.key) {
            gate.queue.push_back(waiting);
            self.waiting += 1;
        }
    }

    /// Closes a gate over what is to be carried out when `needed` of `others` have answered. Gives whom to ask now.
    pub fn close(
        &mut self,
        key: Key,
        covered: Vec<Waiting>,
        needed: usize,
        others: Vec<(NodeName, SessionId)>,
        hedge_at: Duration,
    ) -> Vec<(NodeName, SessionId)> {
        assert!(
            needed > 0 && needed <= others.len(),
            "there are enough to ask"
        );
        self.waiting += covered.len();
        let mut others: VecDeque<_> = others.into();
        let first: Vec<_> = others.drain(..needed).collect();
        let gate = self.gates.entry(key).or_default();
        gate.covered = covered;
        gate.needed = needed;
        gate.asked = first.iter().map(|(node, _)| node.clone()).collect();
        gate.others = others;
        gate.hedge_at = hedge_at;
        first
    }

    /// A question is under way. Gives its number.
    pub fn ask(&mut self, ask: Ask) -> u64 {
        let number = self.next_ask;
        self.next_ask = self.next_ask.wrapping_add(1);
        self.asks.insert(number, ask);
        number
    }

    /// A question was answered, on this session. `None` for one that nobody waits for any more.
    pub fn answered(&mut self, number: u64, session: SessionId) -> Option<Ask> {
        let is_asked = self.asks.get(&number)?.session == session;
        is_asked.then(|| self.asks.remove(&number))?
    }

    /// A replica's copy and the one here agree now, unless more questions to it are under way.
    pub fn agrees(&mut self, key: &Key, node: &NodeName) -> Turned {
        let is_awaited = |ask: &&Ask| ask.from.is_some() || !is_on(Mutant::MendNotAwaited);
        let mut asks = self.asks.values().filter(is_awaited);
        if asks.any(|ask| ask.key == *key && ask.node == *node) {
            return Turned::Waits;
        }
        let Some(gate) = self.gates.get_mut(key) else {
            return Turned::Waits;
        };
        let Some(at) = gate.asked.iter().position(|asked| asked == node) else {
            return Turned::Waits;
        };
        gate.asked.swap_remove(at);
        gate.needed -= 1;
        if gate.needed > 0 {
            return Turned::Waits;
        }
        self.asks.retain(|_, ask| ask.key != *key);
        let covered = std::mem::take(&mut gate.covered);
        self.waiting -= covered.len();
        Turned::Opens(covered)
    }

    /// What is to be carried out next for a key whose gate opened; the gate goes when nothing waits behind it. Reads that
    /// follow each other share a question, a write has one of its own.
    pub fn next(&mut self, key: &Key) -> Vec<Waiting> {
        let Some(gate) = self.gates.get_mut(key) else {
            return Vec::new();
        };
        let is_read = |waiting: &Waiting| matches!(waiting.op.action, Action::Read(_));
        let mut next: Vec<Waiting> = gate.queue.pop_front().into_iter().collect();
        while next.last().is_some_and(is_read) {
            let Some(more) = gate.queue.pop_front_if(|waiting| {
                is_read(waiting)
                    && next
                        .last()
                        .is_some_and(|last| last.op.level == waiting.op.level)
            }) else {
                break;
            };
            next.push(more);
        }
        self.waiting -= next.len();
        if next.is_empty() {
            self.gates.remove(key);
        }
        next
    }

    /// Others to ask in the place of those that are silent, by key.
    pub fn hedge(&mut self, now: Duration) -> Vec<(Key, NodeName, SessionId)> {
        let mut more = Vec::new();
        for (key, gate) in &mut self.gates {
            if gate.hedge_at > now || gate.needed == 0 {
                continue;
            }
            if let Some((node, session)) = gate.others.pop_front() {
                gate.asked.push(node.clone());
                more.push((key.clone(), node, session));
            }
        }
        more
    }

    /// A session ended: who was asked on it will not answer. Others are asked at once; gives them, and the keys for which there
    /// are not enough left, with what waited there.
    pub fn lose(&mut self, session: SessionId) -> Lost {
        let mut lost = Lost::default();
        let gone: Vec<Ask> = self
            .asks
            .values()
            .filter(|ask| ask.session == session)
            .cloned()
            .collect();
        self.asks.retain(|_, ask| ask.session != session);
        for gate in self.gates.values_mut() {
            gate.others.retain(|(_, other)| *other != session);
        }
        for ask in gone {
            self.replace(&ask, &mut lost);
        }
        lost
    }

    /// One that was asked is of no use: another one is asked in its place.
    pub fn give_up(&mut self, ask: &Ask) -> Lost {
        let mut lost = Lost::default();
        self.asks
            .retain(|_, other| other.key != ask.key || other.node != ask.node);
        self.replace(ask, &mut lost);
        lost
    }

    fn replace(&mut self, ask: &Ask, lost: &mut Lost) {
        let Some(gate) = self.gates.get_mut(&ask.key) else {
            return;
        };
        let Some(at) = gate.asked.iter().position(|node| *node == ask.node) else {
            return;
        };
        gate.asked.swap_remove(at);
        if let Some((node, session)) = gate.others.pop_front() {
            gate.asked.push(node.clone());
            lost.instead.push((ask.key.clone(), node, session));
        } else if gate.asked.len() < gate.needed {
            let covered = std::mem::take(&mut gate.covered);
            self.waiting -= covered.len();
            gate.needed = 0;
            gate.asked.clear();
            lost.failed.push((ask.key.clone(), covered));
        }
    }

    /// A question cannot be answered. Gives what waited for it.
    pub fn fail(&mut self, key: &Key) -> Vec<Waiting> {
        self.asks.retain(|_, ask| ask.key != *key);
        let Some(gate) = self.gates.get_mut(key) else {
            return Vec::new();
        };
        let covered = std::mem::take(&mut gate.covered);
        self.waiting -= covered.len();
        gate.needed = 0;
        gate.asked.clear();
        covered
    }

    /// Who is asked, and on which sessions.
    pub fn sessions(&self) -> Vec<(NodeName, SessionId)> {
        let mut sessions: Vec<_> = self
            .asks
            .values()
            .map(|ask| (ask.node.clone(), ask.session))
            .collect();
        sessions.sort_unstable();
        sessions.dedup();
        sessions
    }

    /// Requests whose time is up, taken from where they wait.
    pub fn overdue(&mut self, now: Duration) -> Vec<(Key, Vec<Waiting>)> {
        let mut overdue = Vec::new();
        for (key, gate) in &mut self.gates {
            if gate.covered.iter().any(|waiting| waiting.deadline <= now) {
                let covered = std::mem::take(&mut gate.covered);
                self.waiting -= covered.len();
                gate.needed = 0;
                gate.asked.clear();
                overdue.push((key.clone(), covered));
            }
        }
        for (key, _) in &overdue {
            self.asks.retain(|_, ask| ask.key != *key);
        }
        overdue
    }

    /// Everything that waits, in order; nothing does afterwards.
    pub fn drain(&mut self) -> Vec<Waiting> {
        self.asks.clear();
        self.waiting = 0;
        let gates = std::mem::take(&mut self.gates).into_values();
        gates
            .flat_map(|gate| gate.covered.into_iter().chain(gate.queue))
            .collect()
    }
}

/// What the end of a session means for those who wait.
#[derive(Debug, Default)]
pub struct Lost {
    /// To be asked in its place, by key.
    pub instead: Vec<(Key, NodeName, SessionId)>,
    /// Nobody is left to be asked.
    pub failed: Vec<(Key, Vec<Waiting>)>,
}
