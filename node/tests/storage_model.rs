//! Goal: both engines hold what an ordered map per family would hold, whatever is committed, and however often they are
//! closed, killed or lose power.
//!
//! Method: random batches, syncs, reopenings, kills and power losses on both engines and on a list of whole states of a
//! model; after each step everything both of them hold is compared, and random ranges of it.
#![cfg(feature = "server")]
#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, its helpers too"
)]

mod storage_support;

use std::{
    collections::BTreeMap,
    ops::{Bound, ControlFlow},
};

use node::storage::{Batch, Change, Durability, Family, Storage, conformance::Engine};
use proptest::prelude::*;
use storage_support::{Memory, Rocks};

type Model = BTreeMap<(Family, Vec<u8>), Vec<u8>>;
type Found = Vec<(Vec<u8>, Vec<u8>)>;

const FAMILIES: [Family; 3] = [Family::Head, Family::Row, Family::Outbox];

#[derive(Debug, Clone)]
enum Step {
    Commit(Vec<Change>, Durability),
    Sync,
    Reopen,
    Kill,
    LosePower,
    Scan(Family, Vec<u8>, Option<Vec<u8>>),
}

/// Keys that collide often, some long enough to have a row's prefix.
fn key() -> impl Strategy<Value = Vec<u8>> {
    let byte = || prop::sample::select(&[0_u8, 1, 0xff]);
    let short = prop::collection::vec(byte(), 0..3);
    let long = (byte(), prop::collection::vec(byte(), 0..3)).prop_map(|(hash, rest)| {
        let mut key = vec![0; 9];
        key.push(hash);
        key.extend(rest);
        key
    });
    prop_oneof![short, long]
}

fn family() -> impl Strategy<Value = Family> {
    prop::sample::select(&FAMILIES)
}

fn value() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 0..40)
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        6 => (family(), key(), value()).prop_map(|(family, key, value)| Change::Put { family, key, value }),
        2 => (family(), key()).prop_map(|(family, key)| Change::Delete { family, key }),
        1 => (family(), key(), key()).prop_map(|(family, from, to)| Change::DeleteRange { family, from, to }),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let changes = prop::collection::vec(change(), 0..8);
    let durability = prop_oneof![4 => Just(Durability::Process), 1 => Just(Durability::Power)];
    let scan = (family(), key(), prop::option::of(key()));
    prop_oneof![
        12 => (changes, durability).prop_map(|(changes, durability)| Step::Commit(changes, durability)),
        6 => scan.prop_map(|(family, from, to)| Step::Scan(family, from, to)),
        1 => Just(Step::Sync),
        1 => Just(Step::Reopen),
        1 => Just(Step::Kill),
        1 => Just(Step::LosePower),
    ]
}

fn apply(model: &mut Model, change: &Change) {
    match change {
        Change::Put { family, key, value } => {
            model.insert((*family, key.clone()), value.clone());
        }
        Change::Delete { family, key } => {
            model.remove(&(*family, key.clone()));
        }
        Change::DeleteRange { family, from, to } => {
            model.retain(|(held, key), _| held != family || key < from || key >= to);
        }
    }
}

fn expected(model: &Model, family: Family, from: &[u8], to: Option<&[u8]>) -> Found {
    let rows = model.range((Bound::Included((family, from.to_vec())), Bound::Unbounded));
    let within = rows
        .take_while(|((held, key), _)| *held == family && to.is_none_or(|to| key.as_slice() < to));
    within
        .map(|((_, key), value)| (key.clone(), value.clone()))
        .collect()
}

fn found(storage: &dyn Storage, family: Family, from: &[u8], to: Option<&[u8]>) -> Found {
    let mut found = Found::new();
    let scanned = storage.scan(family, from, to, &mut |key, value| {
        found.push((key.to_vec(), value.to_vec()));
        ControlFlow::Continue(())
    });
    scanned.unwrap();
    found
}

/// Both engines, and the states that power loss may leave: the last one is what reads see.
struct World {
    memory: Memory,
    rocks: Rocks,
    states: Vec<Model>,
}

impl World {
    fn new() -> Self {
        Self {
            memory: Memory::default(),
            rocks: Rocks::new(),
            states: vec![Model::new()],
        }
    }

    fn model(&self) -> &Model {
        self.states.last().unwrap()
    }

    fn engines(&mut self) -> [&mut dyn Engine; 2] {
        [&mut self.memory, &mut self.rocks]
    }

    fn each(&mut self, act: impl Fn(&mut dyn Engine)) {
        self.engines().into_iter().for_each(act);
    }

    fn run(&mut self, step: Step) {
        match step {
            Step::Commit(changes, durability) => self.commit(changes, durability),
            Step::Sync => {
                self.each(|engine| engine.storage().sync().unwrap());
                self.synced();
            }
            Step::Reopen => self.each(|engine| engine.reopen()),
            Step::Kill => self.each(|engine| engine.kill()),
            Step::LosePower => self.lose_power(),
            Step::Scan(family, from, to) => self.compare(family, &from, to.as_deref()),
        }
    }

    fn commit(&mut self, changes: Vec<Change>, durability: Durability) {
        let mut next = self.model().clone();
        changes.iter().for_each(|change| apply(&mut next, change));
        self.states.push(next);
        let batch = Batch { changes };
        for engine in self.engines() {
            engine.storage().commit(&batch, durability).unwrap();
        }
        if durability == Durability::Power {
            self.synced();
        }
    }

    fn synced(&mut self) {
        self.states.drain(..self.states.len() - 1);
    }

    /// RocksDB may have synced more than it was asked to; memory is made to lose as little.
    fn lose_power(&mut self) {
        self.rocks.lose_power();
        let left = self
            .states
            .iter()
            .rposition(|state| holds(self.rocks.storage(), state));
        let left = left.expect("power loss left no prefix of the commits");
        self.memory.0.crash(left);
        self.states = vec![self.states.swap_remove(left)];
    }

    fn compare(&mut self, family: Family, from: &[u8], to: Option<&[u8]>) {
        let expected = expected(self.model(), family, from, to);
        for engine in self.engines() {
            assert_eq!(found(engine.storage(), family, from, to), expected);
        }
    }

    fn compare_all(&mut self) {
        for family in FAMILIES {
            self.compare(family, b"", None);
            for (key, value) in expected(self.model(), family, b"", None) {
                for engine in self.engines() {
                    let read = engine.storage().get(family, &key).unwrap();
                    assert_eq!(read.as_ref(), Some(&value));
                }
            }
        }
    }
}

fn holds(storage: &dyn Storage, state: &Model) -> bool {
    FAMILIES
        .into_iter()
        .all(|family| found(storage, family, b"", None) == expected(state, family, b"", None))
}

/// Few cases, as each opens RocksDB some dozen times; `PROPTEST_CASES` asks for more.
fn config() -> ProptestConfig {
    let default = ProptestConfig::default();
    match std::env::var_os("PROPTEST_CASES") {
        Some(_) => default,
        None => ProptestConfig {
            cases: 20,
            ..default
        },
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn both_engines_hold_what_an_ordered_map_would(steps in prop::collection::vec(step(), 1..60)) {
        let mut world = World::new();
        for step in steps {
            world.run(step);
            world.compare_all();
        }
    }
}
