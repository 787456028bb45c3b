//! The subtle cases of whole keys: two types under one name, and expiry over both.

mod common;

use common::{KEY, Set, at, bytes, hlc};
use crdt::{Delta, Expiry, KeyState, Part, Visible};

const NOW_MS: u64 = 1_000;

#[test]
fn of_two_types_written_side_by_side_the_one_created_last_is_seen() {
    let (us, eu) = (string(at(5, 1), "v"), set(at(6, 2), "x"));
    let (mut a, mut b) = (after(&[&us]), after(&[&eu]));
    assert_eq!(
        (a.visible(NOW_MS), b.visible(NOW_MS)),
        (Visible::String, Visible::Set)
    );
    a.join(&eu);
    b.join(&us);
    assert_eq!(a, b);
    assert_eq!(a.visible(NOW_MS), Visible::Set);
    assert!(a.has_clash());
}

#[test]
fn a_del_acts_on_every_slot_so_that_no_hidden_one_appears() {
    let mut a = after(&[&string(at(5, 1), "v"), &set(at(6, 2), "x")]);
    let visible_only = delta(vec![Part::Set(crdt::clear(&a.set.context))]);
    let mut wronged = a.clone();
    wronged.join(&visible_only);
    assert_eq!(wronged.visible(NOW_MS), Visible::String);
    let del = delta(vec![
        Part::String(a.string.set(at(7, 1), None)),
        Part::Set(crdt::clear(&a.set.context)),
    ]);
    a.join(&del);
    assert_eq!(a.visible(NOW_MS), Visible::Absent);
}

#[test]
fn a_slot_recreated_after_a_clash_is_the_one_seen() {
    let mut a = after(&[&set(at(6, 2), "x")]);
    let late = string(at(5, 1), "v");
    let overwrite = delta(vec![
        Part::String(a.string.set(at(7, 2), Some(bytes("w")))),
        Part::Set(crdt::clear(&a.set.context)),
    ]);
    a.join(&overwrite);
    a.join(&late);
    assert_eq!(a.visible(NOW_MS), Visible::String);
    assert!(!a.has_clash());
}

#[test]
fn past_its_expiry_a_key_is_absent_by_the_readers_clock() {
    let a = after(&[&string(at(5, 1), "v"), &expiry(6, Some(NOW_MS))]);
    assert_eq!(a.visible(NOW_MS - 1), Visible::String);
    assert_eq!(a.visible(NOW_MS), Visible::Absent);
}

#[test]
fn expiry_beside_a_concurrent_set_spares_the_set() {
    let old = delta(vec![
        Part::String(KeyState::default().string.set(at(1, 1), Some(bytes("old")))),
        Part::Expiry(Expiry {
            stamp: at(1, 1),
            at_ms: Some(100),
        }),
    ]);
    let (mut fast, mut right) = (after(&[&old]), after(&[&old]));
    // A fast clock carries the expiry out while, elsewhere, the key is written anew without one.
    let expired = fast.expired(KEY);
    fast.join(&expired);
    let new = delta(vec![
        Part::String(right.string.set(at(2, 2), Some(bytes("new")))),
        Part::Expiry(Expiry {
            stamp: at(2, 2),
            at_ms: None,
        }),
    ]);
    right.join(&new);
    fast.join(&new);
    right.join(&expired);
    assert_eq!(fast, right);
    assert_eq!(fast.visible(NOW_MS), Visible::String);
}

#[test]
fn expiry_takes_the_members_it_saw_and_spares_a_concurrent_add() {
    let mut eu = Set::default();
    let x = eu.add(at(1, 2), "x");
    let mut us = after(&[&delta(vec![Part::Set(x)])]);
    let y = delta(vec![Part::Set(eu.add(at(2, 2), "y"))]);
    let expired = us.expired(KEY);
    us.join(&expired);
    assert_eq!(us.visible(NOW_MS), Visible::Absent);
    us.join(&y);
    assert_eq!(us.set.live().collect::<Vec<_>>(), ["y"]);
}

#[test]
fn the_newest_time_of_a_delta_is_that_of_its_newest_part() {
    assert_eq!(delta(Vec::new()).newest(), hlc(0));
    let mut all = string(at(5, 1), "v");
    all.merge(set(at(9, 2), "x"));
    assert_eq!(all.newest(), hlc(9));
    all.merge(expiry(12, None));
    assert_eq!(all.newest(), hlc(12));
}

#[test]
fn deltas_of_one_key_coalesce_part_by_part() {
    let deltas = [
        string(at(5, 1), "v"),
        expiry(6, Some(9)),
        string(at(7, 1), "w"),
        expiry(8, None),
    ];
    let mut merged = delta(Vec::new());
    deltas.iter().for_each(|delta| merged.merge(delta.clone()));
    assert_eq!(merged.parts.len(), 2);
    assert_eq!(after(&[&merged]), after(&deltas.each_ref()));
}

#[test]
fn a_key_of_which_nothing_is_known_is_an_empty_delta() {
    assert_eq!(KeyState::default().delta(KEY), delta(Vec::new()));
}

fn delta(parts: Vec<Part>) -> Delta {
    Delta { key: KEY, parts }
}

fn string(stamp: crdt::Stamp, value: &str) -> Delta {
    let written = KeyState::default().string.set(stamp, Some(bytes(value)));
    delta(vec![Part::String(written)])
}

fn set(stamp: crdt::Stamp, element: &str) -> Delta {
    delta(vec![Part::Set(Set::default().add(stamp, element))])
}

fn expiry(time: u64, at_ms: Option<u64>) -> Delta {
    let stamp = at(time, 1);
    delta(vec![Part::Expiry(Expiry { stamp, at_ms })])
}

fn after(deltas: &[&Delta]) -> KeyState {
    let mut state = KeyState::default();
    deltas.iter().for_each(|delta| state.join(delta));
    state
}
