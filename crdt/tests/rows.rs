//! The subtle cases of rows, each by name. Most of them broke an earlier, simpler rule.

mod common;

use std::collections::BTreeMap;

use common::{Set, actor, at, bytes, hlc};
use crdt::{Context, Delta, Dots, Named, Part, Rows, RowsDelta, Stamp};

#[test]
fn a_remove_that_overtakes_its_add_still_removes() {
    let (mut a, mut b) = (Set::default(), Set::default());
    let add = a.add(at(1, 1), "x");
    let remove = a.remove(&["x"]);
    b.join(&[&remove, &add]);
    assert!(b.live().is_empty());
    assert_eq!(a, b);
}

#[test]
fn an_element_removed_and_added_again_is_there_in_any_order() {
    let mut a = Set::default();
    let deltas = [a.add(at(1, 1), "x"), a.remove(&["x"]), a.add(at(2, 1), "x")];
    let orders = [
        [0, 1, 2],
        [0, 2, 1],
        [1, 0, 2],
        [1, 2, 0],
        [2, 0, 1],
        [2, 1, 0],
    ];
    for order in orders {
        let mut b = Set::default();
        b.join(&order.map(|i| &deltas[i]));
        assert_eq!(b.live(), [b"x"], "in order {order:?}");
        assert_eq!(a, b);
    }
}

#[test]
fn an_add_wins_over_a_concurrent_remove() {
    let (mut a, mut b) = (Set::default(), Set::default());
    let first = a.add(at(1, 1), "x");
    b.join(&[&first]);
    let again = a.add(at(2, 1), "x");
    let remove = b.remove(&["x"]);
    a.join(&[&remove]);
    b.join(&[&again]);
    assert_eq!(a.live(), [b"x"]);
    assert_eq!(a, b);
}

#[test]
fn a_remove_does_not_win_over_an_add_it_never_saw() {
    let (mut a, mut b) = (Set::default(), Set::default());
    let add = a.add(at(1, 1), "x");
    let remove = b.remove(&["x"]);
    a.join(&[&remove]);
    b.join(&[&add]);
    assert_eq!(a.live(), [b"x"]);
    assert_eq!(a, b);
}

#[test]
fn an_add_of_two_elements_overtaken_by_the_remove_of_one_keeps_the_other() {
    let (mut a, mut b) = (Set::default(), Set::default());
    let mut both = a.add(at(4, 1), "x");
    both.merge(a.add(at(5, 1), "y")).expect("two adds coalesce");
    let remove = a.remove(&["x"]);
    b.join(&[&remove, &both]);
    assert_eq!(b.live(), [b"y"]);
    a.exchange(&mut b);
    assert_eq!(a.live(), [b"y"]);
}

/// Why an add of several elements takes several stamps.
#[test]
fn one_stamp_for_two_elements_would_lose_the_second() {
    let (mut a, mut b) = (Set::default(), Set::default());
    let dots = || Dots::single(at(5, 1), ());
    let both = RowsDelta {
        context: interval(1, 0, 5),
        named: Named::Rows(BTreeMap::from([(bytes("x"), dots()), (bytes("y"), dots())])),
        created: at(5, 1),
    };
    a.join(&[&both]);
    let remove = a.remove(&["x"]);
    b.join(&[&remove, &both]);
    assert!(
        b.live().is_empty(),
        "the remove's context holds the dot of y"
    );
}

#[test]
fn an_actor_that_stamps_a_key_it_no_longer_holds_deletes_nothing() {
    let (mut a, mut b) = (Set::default(), Set::default());
    let acknowledged = a.add(at(5, 1), "held");
    b.join(&[&acknowledged]);
    // The key moved away from the actor and back; its copy is not whole yet.
    a = Set::default();
    let add = a.add(at(50, 1), "new");
    assert_eq!(add.context, interval(1, 49, 50));
    b.join(&[&add]);
    a.exchange(&mut b);
    assert_eq!(b.live(), [&b"held"[..], b"new"]);
}

/// Why an interval never claims what the shard cannot see.
#[test]
fn an_interval_from_zero_would_delete_what_the_actor_forgot() {
    let (mut a, mut b) = (Set::default(), Set::default());
    let acknowledged = a.add(at(5, 1), "held");
    b.join(&[&acknowledged]);
    a = Set::default();
    let mut add = a.add(at(50, 1), "new");
    add.context = interval(1, 0, 50);
    a.join(&[&add]);
    b.join(&[&add]);
    a.exchange(&mut b);
    assert_eq!(b.live(), [b"new"]);
}

#[test]
fn an_add_continues_the_interval_of_its_actor() {
    let mut a = Set::default();
    let first = a.add(at(3, 1), "x");
    let second = a.add(at(9, 1), "y");
    assert_eq!(first.context, interval(1, 2, 3));
    assert_eq!(second.context, interval(1, 3, 9));
    assert_eq!(a.state.context, interval(1, 2, 9));
}

#[test]
fn a_renewed_actor_goes_on_without_hurting_its_former_self() {
    let (mut a, mut b) = (Set::default(), Set::default());
    let (first, second) = (a.add(at(1, 1), "x"), a.add(at(2, 1), "y"));
    b.join(&[&first]);
    // The directory was lost: a new actor, stamping earlier times than the old one, adds, and removes what it gets back.
    a = Set::default();
    let renewed = a.add(at(1, 7), "z");
    a.join(&[&first]);
    let remove = a.remove(&["x"]);
    b.join(&[&renewed, &remove]);
    assert_eq!(b.live(), [b"z"]);
    // What only the old actor had shipped elsewhere arrives late, and counts.
    b.join(&[&second]);
    a.exchange(&mut b);
    assert_eq!(a.live(), [b"y", b"z"]);
}

#[test]
fn a_clear_spares_a_concurrent_add() {
    let (mut a, mut b) = (Set::default(), Set::default());
    let (x, y) = (a.add(at(1, 1), "x"), a.add(at(2, 1), "y"));
    b.join(&[&x, &y]);
    let clear = a.clear();
    let add = b.add(at(2, 2), "x");
    a.join(&[&add]);
    b.join(&[&clear]);
    assert_eq!(a.live(), [b"x"]);
    assert_eq!(a, b);
}

#[test]
fn a_clear_that_overtakes_the_adds_it_saw_still_clears_them() {
    let (mut a, mut b) = (Set::default(), Set::default());
    let (x, y) = (a.add(at(1, 1), "x"), a.add(at(2, 1), "y"));
    let clear = a.clear();
    b.join(&[&clear, &y, &x]);
    assert!(b.state.is_empty());
    assert_eq!(a, b);
}

#[test]
fn a_clear_of_a_large_set_is_small() {
    let mut a = Set::default();
    for time in 1..=1_000 {
        a.add(at(time, 1), &format!("element {time}"));
    }
    let clear = a.clear();
    assert!(crdt::encode(1, &clear).len() < 32);
    assert!(a.state.is_empty());
}

#[test]
fn a_remove_of_what_is_unknown_here_names_the_row_and_changes_nothing() {
    let (mut a, mut b) = (Set::default(), Set::default());
    let add = a.add(at(1, 1), "x");
    let remove = b.remove(&["x"]);
    assert_eq!(
        remove.named,
        Named::Rows(BTreeMap::from([(bytes("x"), Dots::new())]))
    );
    assert!(remove.context.is_empty());
    a.join(&[&remove]);
    assert_eq!(a.live(), [b"x"]);
    assert_eq!(a.state, after(&[&add]));
}

#[test]
fn an_add_replaces_the_dots_it_saw_and_no_others() {
    let (mut a, mut b) = (Set::default(), Set::default());
    let (mine, theirs) = (a.add(at(1, 1), "x"), b.add(at(1, 2), "x"));
    a.join(&[&theirs]);
    b.join(&[&mine]);
    let concurrent = b.add(at(2, 2), "x");
    let again = a.add(at(3, 1), "x");
    assert_eq!(dots(&a, "x"), [at(3, 1)]);
    a.join(&[&concurrent]);
    b.join(&[&again]);
    assert_eq!(dots(&a, "x"), [at(2, 2), at(3, 1)]);
    assert_eq!(a, b);
}

#[test]
fn the_newest_creation_wins() {
    let (mut a, mut b) = (Set::default(), Set::default());
    let x = a.add(at(1, 1), "x");
    let y = a.add(at(2, 1), "y");
    assert_eq!((x.created, y.created), (at(1, 1), Stamp::ZERO));
    let clear = a.clear();
    let z = a.add(at(3, 1), "z");
    b.join(&[&z, &y, &clear, &x]);
    assert_eq!(b.state.created, at(3, 1));
    assert_eq!(a, b);
}

#[test]
fn an_add_after_a_clear_does_not_coalesce_with_it() {
    let mut a = Set::default();
    a.add(at(1, 1), "x");
    let (mut clear, add) = (a.clear(), a.add(at(2, 1), "y"));
    let before = clear.clone();
    assert_eq!(clear.merge(add.clone()), Err(add));
    assert_eq!(clear, before);
}

#[test]
fn coalescing_keeps_the_dots_that_a_later_change_of_the_row_did_not_see() {
    let (mut a, mut b) = (Set::default(), Set::default());
    let mut both = a.add(at(1, 1), "x");
    // An add of the same element that never saw the first: both name the row, and neither may replace the other's dot.
    let theirs = b.add(at(1, 2), "x");
    both.merge(theirs.clone()).expect("two adds coalesce");
    a.join(&[&theirs]);
    assert_eq!(after(&[&both]), a.state);
    assert_eq!(dots(&a, "x"), [at(1, 1), at(1, 2)]);
}

#[test]
fn a_clear_swallows_the_adds_before_it() {
    let mut a = Set::default();
    let mut delta = a.add(at(1, 1), "x");
    delta.merge(a.clear()).expect("the clear saw the add");
    assert_eq!(delta.named, Named::All);
    assert_eq!(after(&[&delta]), a.state);
}

#[test]
fn a_clear_that_did_not_see_an_add_does_not_swallow_it() {
    let (mut a, mut b) = (Set::default(), Set::default());
    let mut add = a.add(at(1, 1), "x");
    b.add(at(1, 2), "y");
    let clear = b.clear();
    assert_eq!(add.merge(clear.clone()), Err(clear));
}

#[test]
fn a_remove_after_a_clear_coalesces_with_it() {
    let (mut a, mut b) = (Set::default(), Set::default());
    let (x, y) = (a.add(at(1, 1), "x"), b.add(at(2, 2), "y"));
    let mut clear = a.clear();
    a.join(&[&y]);
    clear.merge(a.remove(&["y"])).expect("nothing is added");
    b.join(&[&x, &clear]);
    assert!(b.state.is_empty());
    assert_eq!(a, b);
}

#[test]
fn clears_and_adds_alternating_coalesce_to_one_of_each() {
    let mut a = Set::default();
    let mut merged = Delta {
        key: common::KEY,
        parts: Vec::new(),
    };
    for time in 1..=50 {
        for rows in [a.add(at(time, 1), "x"), a.clear()] {
            let parts = vec![Part::Set(rows)];
            merged.merge(Delta {
                key: common::KEY,
                parts,
            });
        }
    }
    assert_eq!(merged.parts.len(), 1);
    let last = a.add(at(51, 1), "y");
    merged.merge(Delta {
        key: common::KEY,
        parts: vec![Part::Set(last)],
    });
    assert_eq!(merged.parts.len(), 2);
    assert_eq!(a.state, rows_of(&merged));
}

/// A view, and a state sent as if it were one delta, are not deltas.
#[test]
fn live_rows_with_the_whole_context_would_stop_a_removal_from_arriving() {
    let (mut a, mut b) = (Set::default(), Set::default());
    let (x, y) = (a.add(at(1, 1), "x"), a.add(at(2, 1), "y"));
    b.join(&[&x, &y]);
    a.remove(&["x"]);
    let view = RowsDelta {
        context: a.state.context.clone(),
        named: Named::Rows(a.state.rows.clone()),
        created: a.state.created,
    };
    let mut wronged = b.clone();
    wronged.join(&[&view]);
    assert_eq!(wronged.live(), [b"x", b"y"]);
    a.state
        .deltas()
        .iter()
        .for_each(|delta| b.state.join(delta));
    assert_eq!(a, b);
}

#[test]
fn the_newest_time_counts_dots_contexts_and_creation() {
    let mut a = Set::default();
    let mut add = a.add(at(5, 1), "x");
    assert_eq!(add.newest(), hlc(5));
    add.created = at(6, 1);
    assert_eq!(add.newest(), hlc(6));
    add.context.insert(at(7, 3));
    assert_eq!(add.newest(), hlc(7));
    assert_eq!(a.clear().newest(), hlc(5));
    assert_eq!(crdt::clear::<()>(&Context::new()).newest(), hlc(0));
}

/// Rows are written for any payload: fields, later scores and increments.
#[test]
fn a_payload_hangs_on_its_dot() {
    let (mut a, mut b) = (Rows::default(), Rows::default());
    let write = |rows: &Rows<&'static str>, stamp, value| {
        let none = Dots::new();
        let held = rows.dots(b"field").unwrap_or(&none);
        crdt::add(
            &rows.context,
            stamp,
            bytes("field"),
            held,
            value,
            rows.is_empty(),
        )
    };
    let (old, new) = (write(&a, at(1, 1), "old"), write(&b, at(2, 2), "new"));
    a.join(&old);
    a.join(&new);
    b.join(&new);
    b.join(&old);
    assert_eq!(a, b);
    let field = a.dots(b"field").expect("the field is live");
    assert_eq!(field.newest(), Some((at(2, 2), &"new")));
    assert_eq!(field.len(), 2);
}

fn interval(name: u64, lo: u64, hi: u64) -> Context {
    let mut context = Context::new();
    context.insert_interval(actor(name), hlc(lo), hlc(hi));
    context
}

fn dots(set: &Set, element: &str) -> Vec<Stamp> {
    let row = set.state.dots(element.as_bytes());
    row.map_or_else(Vec::new, |dots| dots.stamps().collect())
}

fn after(deltas: &[&RowsDelta<()>]) -> Rows<()> {
    let mut rows = Rows::default();
    deltas.iter().for_each(|delta| rows.join(delta));
    rows
}

fn rows_of(delta: &Delta) -> Rows<()> {
    let mut state = crdt::KeyState::default();
    state.join(delta);
    state.set
}
