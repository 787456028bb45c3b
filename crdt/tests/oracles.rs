//! Goal: where an independent implementation means the same, ours agrees with it.
//!
//! Method: the crate `crdts` beside ours, on random schedules. Its `Orswot` needs each actor's operations without gaps and in causal order,
//! so rows are compared under that delivery only; its counters and its register take any order and repetition.

mod common;

use std::collections::BTreeSet;

use bytes::Bytes;
use common::{Set, actor, at, hlc};
use crdt::{Register, RowsDelta, Stamp, StringState, StringValue};
use crdts::{CmRDT, CvRDT, GCounter, LWWReg, Orswot, PNCounter};
use proptest::{collection::vec, prelude::*, sample::Index};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn rows_agree_with_orswot(steps in vec(set_step(), 1..60)) {
        let mut world = SetWorld::new();
        for step in &steps {
            let changed = world.step(step);
            world.agree(changed)?;
        }
        for (from, to) in [(0, 1), (1, 2), (2, 0), (2, 1)] {
            world.sync(from, to);
            world.agree(to)?;
        }
    }

    #[test]
    fn rows_joined_as_states_agree_with_orswots_merged(steps in vec(set_step(), 1..60)) {
        let mut world = SetWorld::new();
        for step in &steps {
            let changed = match step {
                SetStep::Sync(from, to) => world.merge(*from, *to),
                local => world.step(local),
            };
            world.agree(changed)?;
        }
    }

    #[test]
    fn increments_agree_with_a_grow_only_counter(
        steps in vec((0..ACTORS, 1u64..1_000), 1..30),
        arrivals in vec(any::<Index>(), 0..90),
    ) {
        let mut oracles = vec![GCounter::<usize>::new(); ACTORS];
        let mut world = CounterWorld::new();
        let mut ops = Vec::new();
        for (by, amount) in steps {
            world.increment(by, i128::from(amount));
            let op = oracles[by].inc_many(by, amount);
            oracles[by].apply(op);
            ops.push(op);
        }
        let (mut mine, mut oracle) = (StringState::default(), GCounter::new());
        for arrival in arrivals {
            mine.join(arrival.get(&world.deltas));
            oracle.apply(*arrival.get(&ops));
            prop_assert_eq!(integer(&mine).to_string(), oracle.read().to_string());
        }
    }

    #[test]
    fn increments_and_decrements_agree_with_a_counter_of_both(
        steps in vec((0..ACTORS, -1_000i64..1_000), 1..30),
        arrivals in vec(any::<Index>(), 0..90),
    ) {
        let mut oracles = vec![PNCounter::<usize>::new(); ACTORS];
        let mut world = CounterWorld::new();
        let mut ops = Vec::new();
        for (by, amount) in steps {
            world.increment(by, i128::from(amount));
            let size = amount.unsigned_abs();
            let op = if amount < 0 {
                oracles[by].dec_many(by, size)
            } else {
                oracles[by].inc_many(by, size)
            };
            oracles[by].apply(op.clone());
            ops.push((by, op));
        }
        // An operation of theirs is one total, a delta of ours both: so each arrives with those before it of its actor.
        let (mut mine, mut oracle) = (StringState::default(), PNCounter::new());
        for arrival in arrivals {
            let newest = arrival.index(ops.len());
            mine.join(&world.deltas[newest]);
            let same = ops[..=newest].iter().filter(|(by, _)| *by == ops[newest].0);
            same.for_each(|(_, op)| oracle.apply(op.clone()));
            prop_assert_eq!(integer(&mine).to_string(), oracle.read().to_string());
        }
    }

    #[test]
    fn registers_agree_with_a_last_writer_wins_register(
        writes in vec((1u64..50, 0..3u64), 1..20),
        arrivals in vec(any::<Index>(), 1..60),
    ) {
        // A stamp is used once, so its value is a function of it.
        let write = |&(time, by): &(u64, u64)| (at(time, by), Bytes::from(format!("{time} {by}")));
        let writes: Vec<(Stamp, Bytes)> = writes.iter().map(write).collect();
        let first = arrivals[0].get(&writes).clone();
        let mut oracle = LWWReg { val: first.1.clone(), marker: first.0 };
        let mut mine = register(&first);
        for arrival in &arrivals {
            let (stamp, value) = arrival.get(&writes).clone();
            mine.join(&register(&(stamp, value.clone())));
            oracle.update(value, stamp);
            prop_assert_eq!((&mine.value, mine.stamp), (&Some(oracle.val.clone()), oracle.marker));
        }
    }
}

const ACTORS: usize = 3;

#[derive(Debug, Clone)]
enum SetStep {
    Add(usize, &'static str),
    Remove(usize, &'static str),
    Sync(usize, usize),
}

fn set_step() -> impl Strategy<Value = SetStep> {
    let element = || prop::sample::select(vec!["x", "y", "z"]);
    prop_oneof![
        3 => (0..ACTORS, element()).prop_map(|(by, element)| SetStep::Add(by, element)),
        2 => (0..ACTORS, element()).prop_map(|(by, element)| SetStep::Remove(by, element)),
        3 => (0..ACTORS, 0..ACTORS).prop_map(|(from, to)| SetStep::Sync(from, to)),
    ]
}

type Oracle = Orswot<&'static str, usize>;

/// Replicas of both kinds side by side. The log's order is causal, and replicas receive it in that order.
struct SetWorld {
    mine: Vec<Set>,
    oracles: Vec<Oracle>,
    known: Vec<BTreeSet<usize>>,
    log: Vec<(RowsDelta<()>, crdts::orswot::Op<&'static str, usize>)>,
}

impl SetWorld {
    fn new() -> Self {
        Self {
            mine: vec![Set::default(); ACTORS],
            oracles: vec![Oracle::new(); ACTORS],
            known: vec![BTreeSet::new(); ACTORS],
            log: Vec::new(),
        }
    }

    fn step(&mut self, step: &SetStep) -> usize {
        match step {
            SetStep::Add(by, element) => self.add(*by, element),
            SetStep::Remove(by, element) => self.remove(*by, element),
            SetStep::Sync(from, to) => self.sync(*from, *to),
        }
    }

    fn add(&mut self, by: usize, element: &'static str) -> usize {
        let stamp = at(self.log.len() as u64 + 1, by as u64);
        let delta = self.mine[by].add(stamp, element);
        let context = self.oracles[by].read_ctx().derive_add_ctx(by);
        let op = self.oracles[by].add(element, context);
        self.record(by, delta, op)
    }

    fn remove(&mut self, by: usize, element: &'static str) -> usize {
        let delta = self.mine[by].remove(&[element]);
        let context = self.oracles[by].contains(&element).derive_rm_ctx();
        let op = self.oracles[by].rm(element, context);
        self.record(by, delta, op)
    }

    fn record(
        &mut self,
        by: usize,
        delta: RowsDelta<()>,
        op: crdts::orswot::Op<&'static str, usize>,
    ) -> usize {
        self.oracles[by].apply(op.clone());
        self.known[by].insert(self.log.len());
        self.log.push((delta, op));
        by
    }

    fn sync(&mut self, from: usize, to: usize) -> usize {
        let missing: Vec<usize> = self.known[from]
            .difference(&self.known[to])
            .copied()
            .collect();
        for id in missing {
            let (delta, op) = &self.log[id];
            self.mine[to].join(&[delta]);
            self.oracles[to].apply(op.clone());
            self.known[to].insert(id);
        }
        to
    }

    fn merge(&mut self, from: usize, to: usize) -> usize {
        let (mine, oracle) = (self.mine[from].state.clone(), self.oracles[from].clone());
        self.mine[to].state.join_state(&mine);
        self.oracles[to].merge(oracle);
        to
    }

    fn agree(&self, replica: usize) -> Result<(), TestCaseError> {
        let mine: BTreeSet<&[u8]> = self.mine[replica].live().into_iter().collect();
        let members = self.oracles[replica].read().val;
        let theirs: BTreeSet<&[u8]> = members.iter().map(|member| member.as_bytes()).collect();
        prop_assert_eq!(mine, theirs);
        Ok(())
    }
}

struct CounterWorld {
    states: Vec<StringState>,
    deltas: Vec<StringState>,
}

impl CounterWorld {
    fn new() -> Self {
        Self {
            states: vec![StringState::default(); ACTORS],
            deltas: Vec::new(),
        }
    }

    fn increment(&mut self, by: usize, amount: i128) {
        let time = hlc(self.deltas.len() as u64 + 1);
        let stamp = Stamp::new(time, actor(by as u64));
        let delta = self.states[by].increment(stamp, amount);
        self.states[by].join(&delta);
        self.deltas.push(delta);
    }
}

fn integer(state: &StringState) -> i128 {
    match state.value() {
        StringValue::Integer(sum) => sum,
        other => panic!("a counter reads as an integer, not as {other:?}"),
    }
}

fn register((stamp, value): &(Stamp, Bytes)) -> Register {
    Register {
        stamp: *stamp,
        value: Some(value.clone()),
    }
}
