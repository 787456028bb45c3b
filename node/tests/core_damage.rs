//! Goal: a commit that fails and a row that cannot be read are told as what they are, and stop nothing else.
//!
//! Method: two shards and their inboxes over a memory storage that fails when it is told to, or holds what is no row.

#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, its helpers too"
)]

mod core_support;

use std::ops::ControlFlow;

use core_support::{Region, add, bulk, connect, deliver, pair, position, set, ship, take};
use crdt::Hlc;
use node::{
    core::{
        Event,
        message::{Message, NackReason, SessionId},
        reply::{Refusal, Reply},
        ship::ShipEvent,
    },
    storage::{Batch, Durability, Family, Storage, memory::CommitOutcome},
};

#[test]
fn a_position_whose_commit_failed_is_not_taken_for_saved() {
    let (mut us, mut eu) = pair();
    us.write("k", set("v"));
    ship(&mut us, &mut eu, 1);
    drop(eu.inbox.unsaved()); // its commit fails
    eu.save_inbox();
    let saved = position(&us, &eu);
    eu.restart();
    assert_eq!(position(&us, &eu), saved);
}

#[test]
fn a_failed_commit_is_told_as_unknown_and_ends_the_shard() {
    let (mut us, mut eu) = pair();
    us.write("k", set("before"));
    us.storage.plan_commits([CommitOutcome::FailsWritten]);
    let reply = us.write("k", set("after"));
    assert!(
        matches!(reply, Reply::Error(Refusal::Timeout(_))),
        "{reply:?}"
    );
    us.restart();
    assert_eq!(us.get("k"), bulk("after"));
    ship(&mut us, &mut eu, 1);
    assert_eq!(eu.get("k"), bulk("after"), "its row ships, too");
}

#[test]
fn a_failed_commit_that_was_not_written_leaves_no_trace() {
    let (mut us, mut eu) = pair();
    us.write("s", add(&["before"]));
    us.storage.plan_commits([CommitOutcome::FailsUnwritten]);
    us.write("s", add(&["after"]));
    us.restart();
    assert_eq!(us.members("s"), ["before"]);
    us.write("s", add(&["later"]));
    ship(&mut us, &mut eu, 1);
    assert_eq!(eu.members("s"), ["before", "later"]);
    assert_eq!(us.shard.tallies().total(), eu.shard.tallies().total());
}

#[test]
fn a_commit_that_fails_refuses_what_it_carried_for_others() {
    let (mut us, mut eu) = pair();
    connect(&mut us, &eu, 1);
    us.sent.clear();
    us.write("k", set("v"));
    for message in take(&mut us.sent, 1) {
        eu.receive(SessionId(1), message);
    }
    eu.storage.plan_commits([CommitOutcome::FailsUnwritten]);
    eu.close();
    let returned = take(&mut eu.returned, 1);
    assert!(
        matches!(
            returned[..],
            [Message::Nack {
                reason: NackReason::ReadOnly,
                ..
            }]
        ),
        "{returned:?}"
    );
    assert_eq!(position(&us, &eu), Hlc::ZERO);
}

#[test]
fn a_damaged_row_is_reported_and_stops_nothing_else() {
    let (mut us, mut eu) = pair();
    eu.write("k", set("mine"));
    let stored =
        node::storage::record::head::stored_key(&node::placement::Position::of(b"k"), b"k");
    let mut batch = node::storage::Batch::default();
    batch.put(Family::Head, stored, b"\x01garbage".to_vec());
    eu.storage
        .commit(&batch, node::storage::Durability::Process)
        .unwrap();
    // A shard that has nothing cached, and need not count.
    us.write("k", set("v"));
    us.write("other", set("v"));
    connect(&mut us, &eu, 1);
    let mut fresh = Region::new("eu", &["us"], 2);
    fresh.storage = std::mem::take(&mut eu.storage);
    deliver(&mut us, &mut fresh, 1);
    assert_eq!(fresh.get("other"), bulk("v"));
    assert!(
        fresh
            .events
            .iter()
            .any(|event| matches!(event, Event::Damaged(_)))
    );
    assert_eq!(us.lag("eu").rows, 0);
}

#[test]
fn what_is_no_row_is_declined_as_malformed() {
    let (us, mut eu) = pair();
    let message = Message::Ship(node::core::message::Ship {
        actor: us.actor(),
        after: Hlc::ZERO,
        last: Hlc::from_millis(us.wall_ms),
        rows: vec![core_support::bytes("garbage")],
        is_for_region: true,
    });
    eu.receive(SessionId(1), message);
    let returned = take(&mut eu.returned, 1);
    assert!(matches!(
        returned[..],
        [Message::Nack {
            reason: NackReason::Malformed,
            ..
        }]
    ));
}

#[test]
fn a_row_that_nobody_can_decode_is_passed_over_loudly_and_holds_up_none_behind_it() {
    for damaged in [0, 1, 2] {
        let (mut us, mut eu) = pair();
        for n in 0..3 {
            us.write(&format!("k{n}"), set("v"));
        }
        let rows = rows_of(&us);
        let mut batch = Batch::default();
        batch.put(
            Family::Outbox,
            rows[damaged].clone(),
            b"\x01\xff\xff".to_vec(),
        );
        us.storage.commit(&batch, Durability::Process).unwrap();
        us.restart();
        connect(&mut us, &eu, 1);
        for _ in 0..60 {
            deliver(&mut us, &mut eu, 1);
            us.pass(100);
            eu.pass(100);
            us.tick();
        }
        for n in 0..3 {
            let is_there = eu.get(&format!("k{n}")) == bulk("v");
            assert_eq!(is_there, n != damaged, "k{n} with row {damaged} damaged");
        }
        us.write("more", set("v"));
        deliver(&mut us, &mut eu, 1);
        assert_eq!(eu.get("more"), bulk("v"));
        let lag = us.lag("eu");
        assert_eq!((lag.rows, lag.needs_repair), (0, true));
        assert!(us.shard.shipper().is_drained());
        let said = us
            .events
            .iter()
            .filter(|event| matches!(event, Event::Ship(ShipEvent::Dropped { rows: 1, .. })));
        assert_eq!(said.count(), 1);
    }
}

/// The stored keys of an outbox.
fn rows_of(region: &Region) -> Vec<Vec<u8>> {
    let mut rows = Vec::new();
    let mut note = |stored: &[u8], _: &[u8]| {
        rows.push(stored.to_vec());
        ControlFlow::Continue(())
    };
    let scanned = region.storage.scan(Family::Outbox, b"", None, &mut note);
    scanned.unwrap();
    rows
}
