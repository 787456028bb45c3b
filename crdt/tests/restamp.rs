//! Goal: what an actor stamped far ahead, and nobody else has, can be given stamps of now without anybody seeing another value;
//! the state mapped as a whole is the state that the mapped deltas make; and who joins those is equal to who made them.
//!
//! Method: random histories, in which one replica's clock leaps ahead at some moment and nobody gets what it writes from then on.

mod common;

use std::collections::BTreeMap;

use common::{
    KEY, actor, at, hlc,
    world::{Command, Step, World, command, histories},
};
use crdt::{Context, Delta, Hlc, KeyState, Part, Restamp, Rows, Withdrawn};
use proptest::{collection::vec, prelude::*, sample::Index};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn what_is_stamped_anew_is_what_it_was_for_everybody(
        before in histories(25),
        after in vec(alone(), 1..25),
        heals in any::<bool>(),
    ) {
        let story = Story::of(&before, &after, heals);
        let mapped = map_state(&story.restamp, &story.origin);
        prop_assert_eq!(mapped.string.value(), story.origin.string.value());
        prop_assert_eq!(mapped.visible(0), story.origin.visible(0));
        prop_assert_eq!(mapped.expiry.at_ms, story.origin.expiry.at_ms);
        prop_assert!(mapped.set.live().eq(story.origin.set.live()));
        prop_assert!(mapped.delta(KEY).newest() <= story.restamp.newest());

        let made = joined(&story.kept, &story.withdrawn, &story.restamp);
        prop_assert_eq!(&made, &mapped);
        let twice = joined(&[mapped.delta(KEY)], &story.withdrawn, &story.restamp);
        prop_assert_eq!(&twice, &mapped);
    }
}

/// The replica that is ahead writes, somebody else does, or something of the others arrives at it.
fn alone() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => command().prop_map(|command: Command| Step::Write(0, command)),
        1 => command().prop_map(|command: Command| Step::Write(1, command)),
        2 => any::<Index>().prop_map(|which| Step::Piece(0, which)),
    ]
}

struct Story {
    origin: KeyState,
    /// What the origin has that others have too, or made.
    kept: Vec<Delta>,
    withdrawn: Vec<Delta>,
    restamp: Restamp,
}

impl Story {
    fn of(before: &[Step], after: &[Step], heals: bool) -> Self {
        let mut world = World::after(before);
        if heals {
            world.heal();
        }
        let first = world.pieces.len();
        let newest = |deltas: &[Delta]| deltas.iter().map(Delta::newest).max();
        let mut base = newest(&world.pieces).unwrap_or(Hlc::ZERO);
        world.leap(0, AHEAD_MS);
        after.iter().for_each(|step| world.step(step));

        let closed = world.replicas[0].actor;
        let own = |id: &usize| {
            let command = world.commands.iter().find(|(_, ids)| ids.contains(id));
            command.is_some_and(|(by, _)| *by == closed) && *id >= first
        };
        let (withdrawn, kept): (Vec<usize>, Vec<usize>) =
            world.replicas[0].known.iter().copied().partition(own);
        let deltas = |ids: &[usize]| -> Vec<Delta> {
            ids.iter().map(|id| world.pieces[*id].clone()).collect()
        };
        let (withdrawn, kept) = (deltas(&withdrawn), deltas(&kept));
        base = base.max(newest(&kept).unwrap_or(Hlc::ZERO));
        let mut noted = Withdrawn::after(BTreeMap::from([(closed, base)]));
        withdrawn.iter().for_each(|delta| noted.note_delta(delta));
        Self {
            origin: world.replicas[0].state.clone(),
            kept,
            withdrawn,
            restamp: noted.restamp(actor(99), base),
        }
    }
}

fn joined(kept: &[Delta], withdrawn: &[Delta], restamp: &Restamp) -> KeyState {
    let mut state = KeyState::default();
    kept.iter().for_each(|delta| state.join(delta));
    for delta in withdrawn {
        state.join(&restamp.delta(delta));
    }
    state
}

/// As a shard maps it: head and rows, each by itself.
fn map_state(restamp: &Restamp, state: &KeyState) -> KeyState {
    let rows = state.set.rows.iter();
    KeyState {
        string: restamp.string(&state.string),
        set: Rows {
            context: restamp.context(&state.set.context),
            rows: rows
                .map(|(element, dots)| (element.clone(), restamp.dots(dots)))
                .collect(),
            created: restamp.stamp(state.set.created),
        },
        expiry: restamp.expiry(&state.expiry),
        unknown: state.unknown.clone(),
    }
}

#[test]
fn an_interval_is_cut_at_what_was_kept() {
    let (old, new) = (1, 2);
    let mut withdrawn = Withdrawn::after(BTreeMap::from([(actor(old), hlc(10))]));
    [500, 700]
        .into_iter()
        .for_each(|time| withdrawn.note(hlc(time)));
    let restamp = withdrawn.restamp(actor(new), hlc(20));
    let mut context = Context::new();
    context.insert_interval(actor(old), hlc(3), hlc(700));
    let mut expected = Context::new();
    expected.insert_interval(actor(old), hlc(3), hlc(10));
    expected.insert_interval(actor(new), hlc(20), hlc(22));
    assert_eq!(restamp.context(&context), expected);
    assert_eq!(restamp.stamp(at(500, old)), at(21, new));
    assert_eq!(restamp.stamp(at(10, old)), at(10, old));
    assert_eq!(restamp.stamp(at(700, 3)), at(700, 3));
}

#[test]
fn a_counter_that_others_know_keeps_its_entry_and_one_that_they_do_not_is_born_anew() {
    let mut known = KeyState::default();
    let part = known.string.increment(at(5, 1), 3);
    known.string.join(&part);
    let grown = known.string.increment(at(900, 1), 4);
    let unknown = KeyState::default().string.increment(at(901, 1), 7);
    let mut withdrawn = Withdrawn::after(BTreeMap::from([(actor(1), hlc(10))]));
    for part in [&grown, &unknown] {
        let parts = vec![Part::String(part.clone())];
        withdrawn.note_delta(&Delta { key: KEY, parts });
    }
    let restamp = withdrawn.restamp(actor(2), hlc(20));
    assert_eq!(restamp.string(&grown), grown, "nothing in it says when");
    let born = restamp.string(&unknown);
    assert_eq!(born.counts[&actor(1)].birth, hlc(21));
    assert_eq!((born.counts[&actor(1)].inc, born.created), (7, at(21, 2)));
}

const AHEAD_MS: u64 = 3_600_000;
