//! Goal: what a join keeps from a reader is seen, once in the cluster: registers that were overwritten by somebody who had not seen them,
//! and slots that are hidden behind others.
//!
//! Method: two regions, each of one shard, that write before they hear of each other; then what each reports.

#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, its helpers too"
)]

mod core_support;

use core_support::{Region, add, bytes, connect, incr, pair, set, ship};
use node::core::{
    Event,
    batch::{Clash, Conflict},
    op::{Key, Write},
};

/// Two regions whose writes are on their way to each other only when they are shipped.
fn apart() -> (Region, Region) {
    let (mut us, mut eu) = pair();
    connect(&mut us, &eu, 1);
    connect(&mut eu, &us, 2);
    (us, eu)
}

fn exchange(us: &mut Region, eu: &mut Region) {
    ship(us, eu, 1);
    ship(eu, us, 2);
}

fn clashes(region: &Region) -> Vec<Clash> {
    let events = region.events.iter();
    let clashes = events.filter_map(|event| match event {
        Event::Conflict(clash) => Some(clash.clone()),
        _ => None,
    });
    clashes.collect()
}

fn kinds(region: &Region) -> Vec<(Key, Conflict)> {
    let clashes = clashes(region).into_iter();
    clashes.map(|clash| (clash.key, clash.kind)).collect()
}

#[test]
fn a_register_that_was_overwritten_unseen_is_counted_where_it_lost_and_nowhere_else() {
    let (mut us, mut eu) = apart();
    us.write("k", set("lost"));
    eu.pass(5);
    eu.write("k", set("kept"));
    exchange(&mut us, &mut eu);
    assert_eq!(us.get("k"), eu.get("k"));
    assert_eq!(kinds(&us), []);
    let [clash] = &clashes(&eu)[..] else {
        panic!("{:?}", eu.events);
    };
    assert_eq!(
        (&clash.key, clash.kind),
        (&bytes("k"), Conflict::Overwritten)
    );
    assert_eq!(clash.kept.actor, eu.actor());
    assert_eq!(clash.lost.actor, us.actor());
    assert!(clash.kept > clash.lost);
}

#[test]
fn a_register_that_was_seen_by_who_overwrote_it_is_no_conflict() {
    let (mut us, mut eu) = apart();
    us.write("k", set("first"));
    exchange(&mut us, &mut eu);
    eu.pass(5);
    eu.write("k", set("second"));
    exchange(&mut us, &mut eu);
    us.pass(10);
    us.write("k", Write::Delete);
    exchange(&mut us, &mut eu);
    assert_eq!((kinds(&us), kinds(&eu)), (Vec::new(), Vec::new()));
}

/// It lost to a write that its overwriter made later, or to its delete; a delete that loses took nothing away.
#[test]
fn what_is_lost_is_a_value() {
    let (mut us, mut eu) = apart();
    us.write("gone", set("lost"));
    us.write("kept", set("early"));
    eu.write("gone", set("early"));
    eu.write("kept", set("early"));
    exchange(&mut us, &mut eu);
    us.events.clear();
    eu.events.clear();
    us.pass(5);
    us.write("gone", set("lost"));
    us.write("kept", Write::Delete);
    eu.pass(10);
    eu.write("gone", Write::Delete);
    eu.write("kept", set("kept"));
    exchange(&mut us, &mut eu);
    assert_eq!(kinds(&us), []);
    assert_eq!(kinds(&eu), [(bytes("gone"), Conflict::Overwritten)]);
}

#[test]
fn a_hidden_slot_and_waiting_increments_say_what_is_kept_and_what_is_not() {
    let (mut us, mut eu) = apart();
    us.write("types", add(&["member"]));
    us.write("count", incr(1));
    eu.pass(5);
    eu.write("types", set("text"));
    eu.write("count", set("text"));
    exchange(&mut us, &mut eu);
    let expected = [
        (bytes("types"), Conflict::TwoTypes),
        (bytes("count"), Conflict::TextAndCounter),
    ];
    for region in [&us, &eu] {
        assert_eq!(kinds(region), expected);
        for clash in clashes(region) {
            assert_eq!(clash.kept.actor, eu.actor(), "{clash:?}");
            assert_eq!(clash.lost.actor, us.actor(), "{clash:?}");
        }
    }
    exchange(&mut us, &mut eu);
    assert_eq!(kinds(&us).len(), 2, "each is said once");
}
