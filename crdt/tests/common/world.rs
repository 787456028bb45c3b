//! Random histories: replicas that write one key, and deltas that reach them in any order, twice, whole, in pieces, coalesced,
//! or as another replica's whole state.
//!
//! Every state in a world is reachable: a replica stamps only what it holds, and one that was wiped goes on as a new actor.

use std::{collections::BTreeSet, ops::Range};

use bytes::Bytes;
use crdt::{
    ActorId, Clock, Delta, Dots, Expiry, Hlc, KeyState, Part, Stamp, StringValue, decode, encode,
};
use proptest::{collection::vec, prelude::*, sample::Index};

use super::{
    KEY, actor,
    model::{Effect, Seen},
};

pub const REPLICAS: usize = 3;

/// A client's command.
#[derive(Debug, Clone)]
pub enum Command {
    Set(Bytes),
    Del,
    IncrBy(i64),
    Sadd(Vec<Bytes>),
    Srem(Vec<Bytes>),
    Expire(u64),
    /// The key's expiry is carried out. (The algebra must not care whether its time has come.)
    Lapse,
}

/// One thing that happens in a world.
#[derive(Debug, Clone)]
pub enum Step {
    /// A replica carries out a command.
    Write(usize, Command),
    /// One piece of a command arrives: nothing of the other pieces.
    Piece(usize, Index),
    /// A command's whole delta arrives.
    Whole(usize, Index),
    /// Several commands of one actor arrive as one coalesced delta.
    Batch(usize, Index, usize),
    /// A replica's whole state arrives at another.
    State(usize, usize),
    /// A replica loses everything and goes on as a new actor.
    Wipe(usize),
}

/// A delta that cannot be split further, and what it means.
#[derive(Debug, Clone)]
pub struct World {
    pub replicas: Vec<Replica>,
    /// Every piece ever made, and the same pieces as the model sees them.
    pub pieces: Vec<Delta>,
    pub effects: Vec<Effect>,
    /// The pieces of each command, and its actor.
    pub commands: Vec<(ActorId, Range<usize>)>,
    actors: u64,
    now_ms: u64,
}

#[derive(Debug, Clone)]
pub struct Replica {
    pub actor: ActorId,
    pub state: KeyState,
    /// The pieces that reached it.
    pub known: BTreeSet<usize>,
    clock: Clock,
    skew_ms: u64,
    increments: usize,
}

impl World {
    pub fn new() -> Self {
        let replica = |index| Replica::new(actor(index as u64 + 1), index as u64 * 3);
        Self {
            replicas: (0..REPLICAS).map(replica).collect(),
            pieces: Vec::new(),
            effects: Vec::new(),
            commands: Vec::new(),
            actors: REPLICAS as u64,
            now_ms: 1,
        }
    }

    /// A world in which all of `steps` happened.
    pub fn after(steps: &[Step]) -> Self {
        let mut world = Self::new();
        steps.iter().for_each(|step| world.step(step));
        world
    }

    pub fn step(&mut self, step: &Step) {
        self.now_ms += 1;
        match step {
            Step::Write(by, command) => self.write(*by, command),
            Step::Wipe(at) => self.wipe(*at),
            Step::State(from, to) => self.send_state(*from, *to),
            Step::Piece(to, which) => {
                if let Some(ids) = self.pick_piece(which) {
                    self.deliver(*to, ids);
                }
            }
            Step::Whole(to, which) => self.deliver_batch(*to, which, 1),
            Step::Batch(to, which, count) => self.deliver_batch(*to, which, *count),
        }
    }

    /// The replica that a step changes.
    pub fn changed(step: &Step) -> usize {
        match step {
            Step::Write(at, _) | Step::Wipe(at) | Step::State(_, at) => *at,
            Step::Piece(to, _) | Step::Whole(to, _) | Step::Batch(to, _, _) => *to,
        }
    }

    /// A replica's clock is ahead by so much more from now on.
    pub fn leap(&mut self, at: usize, ahead_ms: u64) {
        self.replicas[at].skew_ms += ahead_ms;
    }

    pub fn seen(&self, at: usize) -> Seen<'_> {
        Seen {
            effects: &self.effects,
            known: &self.replicas[at].known,
        }
    }

    /// The coalesced delta of some pieces.
    pub fn merged(&self, pieces: &[usize]) -> Delta {
        let mut merged = Delta {
            key: KEY,
            parts: Vec::new(),
        };
        let each = pieces.iter().map(|id| self.pieces[*id].clone());
        each.for_each(|delta| merged.merge(delta));
        merged
    }

    /// The pieces of up to `count` commands in a row by one actor, starting somewhere.
    pub fn batch(&self, which: &Index, count: usize) -> Vec<usize> {
        if self.commands.is_empty() {
            return Vec::new();
        }
        let start = which.index(self.commands.len());
        let actor = self.commands[start].0;
        let same = self.commands[start..].iter().filter(|(by, _)| *by == actor);
        same.take(count).flat_map(|(_, ids)| ids.clone()).collect()
    }

    /// Everything reaches everyone.
    pub fn heal(&mut self) {
        let all: Vec<usize> = (0..self.pieces.len()).collect();
        for to in 0..REPLICAS {
            all.iter().for_each(|id| self.deliver(to, vec![*id]));
        }
    }

    fn pick_piece(&self, which: &Index) -> Option<Vec<usize>> {
        (!self.pieces.is_empty()).then(|| vec![which.index(self.pieces.len())])
    }

    fn deliver_batch(&mut self, to: usize, which: &Index, count: usize) {
        let ids = self.batch(which, count);
        self.deliver(to, ids);
    }

    fn deliver(&mut self, to: usize, ids: Vec<usize>) {
        let delta = self.merged(&ids);
        self.replicas[to].receive(&delta);
        self.replicas[to].known.extend(ids);
    }

    fn send_state(&mut self, from: usize, to: usize) {
        let delta = self.replicas[from].state.delta(KEY);
        let known = self.replicas[from].known.clone();
        self.replicas[to].receive(&delta);
        self.replicas[to].known.extend(known);
    }

    fn wipe(&mut self, at: usize) {
        self.actors += 1;
        let skew_ms = self.replicas[at].skew_ms;
        self.replicas[at] = Replica::new(actor(self.actors), skew_ms);
    }

    fn write(&mut self, by: usize, command: &Command) {
        let first = self.pieces.len();
        match command {
            Command::Set(value) => self.set(by, Some(value.clone())),
            Command::Del => self.set(by, None),
            Command::IncrBy(amount) => self.increment(by, *amount),
            Command::Sadd(elements) => elements.iter().for_each(|e| self.add(by, e)),
            Command::Srem(elements) => self.remove(by, elements),
            Command::Expire(at_ms) => self.expire(by, Some(*at_ms)),
            Command::Lapse => self.lapse(by),
        }
        let actor = self.replicas[by].actor;
        self.commands.push((actor, first..self.pieces.len()));
    }

    /// SET and DEL act on every slot.
    fn set(&mut self, by: usize, value: Option<Bytes>) {
        let stamp = self.stamp(by);
        let absent = self.seen(by).string() == StringValue::Absent;
        let effect = Effect::Written {
            stamp,
            value: value.clone(),
            seen: self.seen(by).increments(),
            created: value.is_some() && absent,
        };
        let part = Part::String(self.replicas[by].state.string.set(stamp, value));
        self.commit(by, part, effect);
        self.clear(by);
        self.expire(by, None);
    }

    fn clear(&mut self, by: usize) {
        let dots = self.seen(by).dots();
        let part = Part::Set(crdt::clear(&self.replicas[by].state.set.context));
        self.commit(by, part, Effect::Removed { dots });
    }

    fn increment(&mut self, by: usize, amount: i64) {
        let stamp = self.stamp(by);
        self.replicas[by].increments += 1;
        let effect = Effect::Stepped {
            stamp,
            index: self.replicas[by].increments,
            by: amount,
            created: self.seen(by).string() == StringValue::Absent,
        };
        let part = Part::String(self.replicas[by].state.string.increment(stamp, amount));
        self.commit(by, part, effect);
    }

    fn add(&mut self, by: usize, element: &Bytes) {
        let stamp = self.stamp(by);
        let live = self.seen(by).live();
        let effect = Effect::Added {
            element: element.clone(),
            dot: stamp,
            replaced: live.get(element).cloned().unwrap_or_default(),
            created: live.is_empty(),
        };
        let set = &self.replicas[by].state.set;
        let none = Dots::new();
        let replaced = set.dots(element).unwrap_or(&none);
        let element = element.clone();
        let delta = crdt::add(&set.context, stamp, element, replaced, (), set.is_empty());
        self.commit(by, Part::Set(delta), effect);
    }

    fn remove(&mut self, by: usize, elements: &[Bytes]) {
        let live = self.seen(by).live();
        let dots = elements.iter().filter_map(|e| live.get(e)).flatten();
        let effect = Effect::Removed {
            dots: dots.copied().collect(),
        };
        let set = &self.replicas[by].state.set;
        let none = Dots::new();
        let held = elements
            .iter()
            .map(|e| (e.clone(), set.dots(e).unwrap_or(&none)));
        let delta = crdt::remove(held);
        self.commit(by, Part::Set(delta), effect);
    }

    fn expire(&mut self, by: usize, at_ms: Option<u64>) {
        let stamp = self.stamp(by);
        let expiry = Expiry { stamp, at_ms };
        self.commit(by, Part::Expiry(expiry), Effect::Expires(expiry));
    }

    fn lapse(&mut self, by: usize) {
        let effect = Effect::Lapsed {
            stamp: self.seen(by).register().map(|(stamp, _)| stamp),
            seen: self.seen(by).increments(),
        };
        let part = Part::String(self.replicas[by].state.string.expired());
        self.commit(by, part, effect);
        self.clear(by);
    }

    fn stamp(&mut self, by: usize) -> Stamp {
        let replica = &mut self.replicas[by];
        let time = replica.clock.tick(self.now_ms + replica.skew_ms);
        Stamp::new(time, replica.actor)
    }

    fn commit(&mut self, by: usize, part: Part, effect: Effect) {
        let delta = Delta {
            key: KEY,
            parts: vec![part],
        };
        self.replicas[by].receive(&delta);
        self.replicas[by].known.insert(self.pieces.len());
        self.pieces.push(delta);
        self.effects.push(effect);
    }
}

impl Replica {
    fn new(actor: ActorId, skew_ms: u64) -> Self {
        Self {
            actor,
            state: KeyState::default(),
            known: BTreeSet::new(),
            clock: Clock::new(Hlc::ZERO),
            skew_ms,
            increments: 0,
        }
    }

    /// Joins a delta as it comes off the wire.
    fn receive(&mut self, delta: &Delta) {
        let sent = encode(VERSION, delta);
        let received: Delta = decode(VERSION, &sent).expect("what was encoded decodes");
        assert_eq!(&received, delta);
        self.clock.observe(received.newest());
        self.state.join(&received);
    }
}

/// Histories of up to `length` steps.
pub fn histories(length: usize) -> impl Strategy<Value = Vec<Step>> {
    vec(step(), 1..=length)
}

fn step() -> impl Strategy<Value = Step> {
    let replica = || 0..REPLICAS;
    prop_oneof![
        8 => (replica(), command()).prop_map(|(by, command)| Step::Write(by, command)),
        5 => (replica(), any::<Index>()).prop_map(|(to, which)| Step::Piece(to, which)),
        3 => (replica(), any::<Index>()).prop_map(|(to, which)| Step::Whole(to, which)),
        3 => (replica(), any::<Index>(), 2..6usize)
            .prop_map(|(to, which, count)| Step::Batch(to, which, count)),
        2 => (replica(), replica()).prop_map(|(from, to)| Step::State(from, to)),
        1 => replica().prop_map(Step::Wipe),
    ]
}

pub fn command() -> impl Strategy<Value = Command> {
    let texts = prop::sample::select(vec!["", "text", "7", "-3", "007", "9223372036854775807"]);
    let amounts = prop_oneof![-3i64..4, Just(i64::MAX), Just(i64::MIN)];
    prop_oneof![
        2 => texts.prop_map(|text| Command::Set(Bytes::from_static(text.as_bytes()))),
        1 => Just(Command::Del),
        3 => amounts.prop_map(Command::IncrBy),
        4 => elements().prop_map(Command::Sadd),
        3 => elements().prop_map(Command::Srem),
        1 => (0u64..60).prop_map(Command::Expire),
        1 => Just(Command::Lapse),
    ]
}

fn elements() -> impl Strategy<Value = Vec<Bytes>> {
    let element = prop::sample::select(vec!["x", "y", "z"]);
    vec(element.prop_map(|e| Bytes::from_static(e.as_bytes())), 1..4)
}

const VERSION: u8 = 1;
