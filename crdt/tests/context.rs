//! Goal: a context is a set of dots: each operation means what it means on sets, and equal sets are equal structs and equal bytes.
//!
//! Method: random intervals over few actors and short times, beside a plain `BTreeSet` of dots. Times lie at the beginning and at the very end
//! of time, where arithmetic would break first.

mod common;

use std::collections::BTreeSet;

use common::{actor, at, hlc};
use crdt::{ActorId, CodecError, Context, Hlc, Stamp, decode, encode};
use proptest::{collection::vec, prelude::*, sample::subsequence};

const VERSION: u8 = 1;
const SPAN: u64 = 24;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn an_interval_context_is_the_set_of_its_dots(intervals in intervals()) {
        let (context, dots) = (context_of(&intervals), dots_of(&intervals));
        for dot in all_dots() {
            prop_assert_eq!(context.contains(dot), dots.contains(&dot));
        }
        for name in 0..=ACTORS {
            let theirs = dots.iter().filter(|dot| dot.actor == actor(name));
            prop_assert_eq!(context.newest(actor(name)), theirs.map(|dot| dot.hlc).max());
        }
        prop_assert_eq!(context.is_empty(), dots.is_empty());
        let newest = dots.iter().map(|dot| dot.hlc).max().unwrap_or(Hlc::ZERO);
        prop_assert_eq!(context.newest_of_all(), newest);
    }

    #[test]
    fn equal_sets_are_equal_structs_and_bytes(intervals in intervals().prop_shuffle()) {
        let context = context_of(&intervals);
        let one_by_one: Context = dots_of(&intervals).into_iter().collect();
        let backwards: Context = dots_of(&intervals).into_iter().rev().collect();
        prop_assert_eq!(&context, &one_by_one);
        prop_assert_eq!(&context, &backwards);
        prop_assert_eq!(encode(VERSION, &context), encode(VERSION, &backwards));
        prop_assert_eq!(decode(VERSION, &encode(VERSION, &context)), Ok(context));
    }

    #[test]
    fn union_difference_and_covers_are_those_of_sets(a in intervals(), b in intervals()) {
        let (mine, theirs) = (context_of(&a), context_of(&b));
        let (my_dots, their_dots) = (dots_of(&a), dots_of(&b));
        let mut union = mine.clone();
        union.union(&theirs);
        prop_assert_eq!(&union, &my_dots.union(&their_dots).copied().collect());
        let difference: Context = my_dots.difference(&their_dots).copied().collect();
        prop_assert_eq!(mine.difference(&theirs), difference);
        prop_assert_eq!(mine.covers(&theirs), my_dots.is_superset(&their_dots));
        prop_assert!(union.covers(&mine) && union.covers(&theirs));
    }

    #[test]
    fn a_part_is_always_covered(
        (whole, part) in intervals().prop_flat_map(|all| {
            let count = all.len();
            (Just(all.clone()), subsequence(all, 0..=count))
        }),
    ) {
        prop_assert!(context_of(&whole).covers(&context_of(&part)));
    }

    #[test]
    fn listed_intervals_rebuild_the_context(intervals in intervals()) {
        let context = context_of(&intervals);
        let mut rebuilt = Context::new();
        for (actor, lo, hi) in context.intervals() {
            prop_assert!(lo < hi);
            rebuilt.insert_interval(actor, lo, hi);
        }
        prop_assert_eq!(rebuilt, context);
    }
}

#[test]
fn touching_intervals_become_one() {
    let mut context = Context::new();
    context.insert_interval(actor(1), hlc(0), hlc(3));
    context.insert_interval(actor(1), hlc(5), hlc(7));
    assert_eq!(context.intervals().count(), 2);
    context.insert_interval(actor(1), hlc(3), hlc(5));
    let whole = (actor(1), hlc(0), hlc(7));
    assert_eq!(context.intervals().collect::<Vec<_>>(), [whole]);
}

#[test]
fn nothing_is_inserted_by_an_empty_or_reversed_interval() {
    let mut context = Context::new();
    context.insert_interval(actor(1), hlc(3), hlc(3));
    context.insert_interval(actor(1), hlc(4), hlc(3));
    assert_eq!(context, Context::new());
}

#[test]
fn bytes_that_are_not_in_normal_form_are_refused() {
    type Lists = Vec<(ActorId, Vec<(u64, u64)>)>;
    let hostile: [(&str, Lists); 8] = [
        ("an empty list", vec![(actor(1), vec![])]),
        ("an empty interval", vec![(actor(1), vec![(5, 0)])]),
        ("beyond the end", vec![(actor(1), vec![(u64::MAX, 1)])]),
        ("touching", vec![(actor(1), vec![(0, 2), (2, 2)])]),
        ("overlapping", vec![(actor(1), vec![(0, 3), (2, 2)])]),
        ("unsorted", vec![(actor(1), vec![(8, 1), (2, 2)])]),
        (
            "an actor twice",
            vec![(actor(1), vec![(0, 1)]), (actor(1), vec![(5, 1)])],
        ),
        (
            "actors unsorted",
            vec![(actor(2), vec![(0, 1)]), (actor(1), vec![(5, 1)])],
        ),
    ];
    for (case, lists) in hostile {
        let refused = decode::<Context>(VERSION, &encode(VERSION, &lists));
        assert!(
            matches!(refused, Err(CodecError::Malformed { .. })),
            "{case}: {refused:?}"
        );
    }
    let sound: Lists = vec![(actor(1), vec![(0, 2), (3, 2)])];
    let decoded = decode::<Context>(VERSION, &encode(VERSION, &sound)).expect("normal form");
    assert!(decoded.contains(at(2, 1)) && !decoded.contains(at(3, 1)));
}

const ACTORS: u64 = 3;

/// `(actor, lo, length)`, near the beginning or the end of time.
type Raw = (u64, u64, u64);

fn intervals() -> impl Strategy<Value = Vec<Raw>> {
    let start = prop_oneof![0..SPAN, (u64::MAX - SPAN)..=u64::MAX];
    let interval = (0..ACTORS, start, 0u64..6);
    let inside = interval.prop_map(|(actor, lo, length)| (actor, lo, length.min(u64::MAX - lo)));
    vec(inside, 0..24)
}

fn context_of(intervals: &[Raw]) -> Context {
    let mut context = Context::new();
    for (name, lo, length) in intervals {
        context.insert_interval(actor(*name), hlc(*lo), hlc(lo + length));
    }
    context
}

fn dots_of(intervals: &[Raw]) -> BTreeSet<Stamp> {
    let dots = intervals.iter().flat_map(|(name, lo, length)| {
        let times = (1..=*length).map(move |step| lo + step);
        times.map(|time| at(time, *name))
    });
    dots.collect()
}

fn all_dots() -> impl Iterator<Item = Stamp> {
    let times = (0..2 * SPAN).chain((u64::MAX - 2 * SPAN)..=u64::MAX);
    times.flat_map(|time| (0..=ACTORS).map(move |name| at(time, name)))
}
