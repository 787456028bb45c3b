//! Goal: at every moment of every history, a replica reads exactly as the effects that reached it demand: an element is live
//! while some add of it is known that nothing known has removed, a string is its newest write plus the increments that no write
//! known here had seen.
//!
//! Method: random histories with lost, late, doubled, reordered, split and coalesced deltas, whole states, and wiped replicas that go
//! on as new actors. After each step the replica that it changed is compared with a naive model, which keeps no state but the set of
//! effects known and, for each, exactly what its maker had seen.

mod common;

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use common::world::{REPLICAS, World, histories};
use crdt::{KeyState, Stamp, StringValue};
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn a_replica_reads_what_the_effects_known_to_it_demand(steps in histories(40)) {
        let mut world = World::new();
        for step in &steps {
            world.step(step);
            agrees(&world, World::changed(step))?;
        }
        world.heal();
        for at in 0..REPLICAS {
            agrees(&world, at)?;
        }
    }
}

fn agrees(world: &World, at: usize) -> Result<(), TestCaseError> {
    let (state, model) = (&world.replicas[at].state, world.seen(at));
    prop_assert_eq!(rows(state), model.live());
    prop_assert_eq!(state.string.value(), model.string());
    prop_assert_eq!(
        state.string.is_empty(),
        model.string() == StringValue::Absent
    );
    prop_assert_eq!(state.expiry, model.expiry());
    prop_assert_eq!(state.string.created, model.string_created());
    prop_assert_eq!(state.set.created, model.set_created());
    for now_ms in [0, 20, 40, u64::MAX] {
        prop_assert_eq!(state.visible(now_ms), model.visible(now_ms));
    }
    Ok(())
}

fn rows(state: &KeyState) -> BTreeMap<Bytes, BTreeSet<Stamp>> {
    let rows = state.set.rows.iter();
    rows.map(|(element, dots)| (element.clone(), dots.stamps().collect()))
        .collect()
}
