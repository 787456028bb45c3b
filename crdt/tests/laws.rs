//! Goal: the join is commutative, associative and idempotent, and only ever adds; so replicas that received the same deltas are
//! equal, bytes included, whatever the order, the repetitions, and how the deltas were cut or put together on the way.
//!
//! Method: random reachable histories. The laws are checked on the states that occurred and on states made of few deltas; convergence by
//! delivering everything to fresh replicas in shuffled orders, in pieces, in batches, with repetitions.

mod common;

use common::{
    KEY,
    world::{REPLICAS, Step, World, histories},
};
use crdt::{Delta, KeyState, Part, encode};
use proptest::{collection::vec, prelude::*, sample::Index};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn states_join_in_any_order_any_grouping_and_any_number((states, picks) in states()) {
        let [a, b, c] = picks.map(|pick| pick.get(&states).clone());
        prop_assert_eq!(joined(&a, &b), joined(&b, &a));
        prop_assert_eq!(joined(&joined(&a, &b), &c), joined(&a, &joined(&b, &c)));
        prop_assert_eq!(joined(&a, &a), a.clone());
        prop_assert_eq!(joined(&joined(&a, &b), &b), joined(&a, &b));
    }

    #[test]
    fn a_state_sent_as_a_delta_is_the_state((states, picks) in states()) {
        let [a, b, _] = picks.map(|pick| pick.get(&states).clone());
        let mut parts = b.delta(KEY).parts;
        for _ in 0..2 {
            let mut received = a.clone();
            received.join(&Delta { key: KEY, parts: parts.clone() });
            prop_assert_eq!(received, joined(&a, &b));
            parts.reverse();
        }
    }

    #[test]
    fn deltas_converge_in_any_order_cut_and_coalesced(
        steps in histories(40),
        orders in vec((vec(any::<Index>(), 0..60), any::<u64>()), 2),
    ) {
        let mut world = World::after(&steps);
        world.heal();
        let expected = world.replicas[0].state.clone();
        for at in 1..REPLICAS {
            prop_assert_eq!(&world.replicas[at].state, &expected);
        }
        for (picks, seed) in orders {
            let state = delivered(&world, &picks, seed);
            prop_assert_eq!(bytes_of(&state), bytes_of(&expected));
            prop_assert_eq!(&state, &expected);
        }
    }

    #[test]
    fn a_join_never_forgets(steps in histories(30), which in any::<Index>(), to in 0..REPLICAS) {
        let world = World::after(&steps);
        prop_assume!(!world.pieces.is_empty());
        let before = &world.replicas[to].state;
        let delta = which.get(&world.pieces);
        let mut after = before.clone();
        after.join(delta);
        prop_assert!(after.set.context.covers(&before.set.context));
        prop_assert!(after.expiry.stamp >= before.expiry.stamp);
        prop_assert_eq!(joined(&after, before), after.clone());
        for part in &delta.parts {
            if let Part::Set(rows) = part {
                prop_assert!(after.set.context.covers(&rows.context));
            }
        }
        prop_assert!(delta.newest() <= newest(&after).max(newest(before)));
    }
}

/// States of one history: those of its replicas, at its end and halfway, and those that know a few pieces only; and three picks.
fn states() -> impl Strategy<Value = (Vec<KeyState>, [Index; 3])> {
    let few = vec(vec(any::<Index>(), 1..4), 3);
    let picks = any::<[Index; 3]>();
    (histories(40), few, picks).prop_map(|(steps, few, picks)| (states_of(&steps, &few), picks))
}

fn states_of(steps: &[Step], few: &[Vec<Index>]) -> Vec<KeyState> {
    let halfway = World::after(&steps[..steps.len() / 2]);
    let end = World::after(steps);
    let replicas = halfway.replicas.iter().chain(&end.replicas);
    let mut states: Vec<KeyState> = replicas.map(|r| r.state.clone()).collect();
    if !end.pieces.is_empty() {
        states.extend(few.iter().map(|picks| knowing(&end, picks)));
    }
    states
}

fn knowing(world: &World, picks: &[Index]) -> KeyState {
    let mut state = KeyState::default();
    picks
        .iter()
        .for_each(|pick| state.join(pick.get(&world.pieces)));
    state
}

fn joined(a: &KeyState, b: &KeyState) -> KeyState {
    let mut joined = a.clone();
    joined.string.join(&b.string);
    joined.set.join_state(&b.set);
    joined.expiry.join(&b.expiry);
    joined
}

/// A fresh replica after all pieces: some coalesced first, the rest shuffled, each maybe twice.
fn delivered(world: &World, picks: &[Index], seed: u64) -> KeyState {
    let mut state = KeyState::default();
    for (turn, pick) in picks.iter().enumerate() {
        state.join(&world.merged(&world.batch(pick, turn % 5 + 1)));
    }
    for id in shuffled(world.pieces.len(), seed) {
        state.join(&world.pieces[id]);
        if id % 3 == 0 {
            state.join(&world.pieces[id]);
        }
    }
    state
}

/// A permutation of `0..count` (Fisher and Yates, with a linear congruential generator).
fn shuffled(count: usize, seed: u64) -> Vec<usize> {
    let mut order: Vec<usize> = (0..count).collect();
    let mut state = seed;
    for last in (1..count).rev() {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        order.swap(last, (state >> 33) as usize % (last + 1));
    }
    order
}

fn bytes_of(state: &KeyState) -> Vec<u8> {
    encode(1, &state.delta(KEY))
}

fn newest(state: &KeyState) -> crdt::Hlc {
    state.delta(KEY).newest()
}
