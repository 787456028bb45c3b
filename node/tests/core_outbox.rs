//! Goal: what is kept for other regions stays within its bounds, is shipped within its window, and goes when they have it.
//!
//! Method: two or three shards and their inboxes, message by message; the rows of the outbox are counted in storage.

#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, its helpers too"
)]

mod core_support;

use std::{num::NonZeroU8, time::Duration};

use core_support::{
    Region, UNBOUNDED, bulk, connect, deliver, home, maintain, outbox_rows, pair,
    replicas::Replicas, set, ship, take,
};
use node::{
    core::{
        Event, Input,
        identity::DirectoryId,
        inbox::InboxEvent,
        message::{Message, SessionId},
        op::{Action, Read},
        reply::Reply,
        ship::{Destination, OutboxBounds, ShipEvent},
    },
    level::Level,
    placement::Partition,
};

#[test]
fn the_outbox_is_trimmed_behind_what_every_region_has_saved() {
    let mut us = Region::new("us", &["eu", "ap"], 1);
    let (mut eu, mut ap) = (Region::new("eu", &["us"], 2), Region::new("ap", &["us"], 3));
    for n in 0..5 {
        us.write(&format!("k{n}"), set("v"));
    }
    ship(&mut us, &mut eu, 1);
    ship(&mut us, &mut ap, 2);
    maintain(&mut us);
    assert_eq!(outbox_rows(&us), 5, "taken, and forgotten after a crash");
    eu.save_inbox();
    us.write("more", set("v"));
    deliver(&mut us, &mut eu, 1);
    deliver(&mut us, &mut ap, 2);
    maintain(&mut us);
    assert_eq!(outbox_rows(&us), 6, "one region has not saved it");
    ap.save_inbox();
    us.write("most", set("v"));
    deliver(&mut us, &mut eu, 1);
    deliver(&mut us, &mut ap, 2);
    maintain(&mut us);
    assert_eq!(outbox_rows(&us), 2);
}

#[test]
fn rows_beyond_the_bytes_are_dropped_and_skipped_loudly() {
    let bounds = OutboxBounds {
        bytes_max: 2000,
        ..UNBOUNDED
    };
    let mut us = Region::bounded("us", &["eu"], 1, bounds);
    let mut eu = Region::new("eu", &["us"], 2);
    for n in 0..100 {
        us.write(&format!("k{n}"), set(&"v".repeat(100)));
    }
    maintain(&mut us);
    assert!(outbox_rows(&us) < 20);
    assert!(us.lag("eu").needs_repair);
    let dropped = us.events.iter().find_map(|event| match event {
        Event::Ship(ShipEvent::Dropped { rows, .. }) => Some(*rows),
        _ => None,
    });
    assert_eq!(dropped, Some(100 - outbox_rows(&us) as u64));
    ship(&mut us, &mut eu, 1);
    assert_eq!(eu.get("k0"), Reply::Nil);
    assert_eq!(eu.get("k99"), bulk(&"v".repeat(100)));
    assert_eq!(us.lag("eu").rows, 0);
    assert!(us.lag("eu").needs_repair, "until it is reconciled");
    assert!(
        eu.inbox_events
            .iter()
            .any(|event| matches!(event, InboxEvent::Missed { .. }))
    );
    us.events.clear();
    for _ in 0..3 {
        maintain(&mut us);
    }
    assert!(us.events.is_empty(), "it is said once: {:?}", us.events);
}

#[test]
fn rows_older_than_the_window_are_dropped_and_younger_ones_are_not() {
    let bounds = OutboxBounds {
        window: Duration::from_secs(10),
        ..UNBOUNDED
    };
    let mut us = Region::bounded("us", &["eu"], 1, bounds);
    let mut eu = Region::new("eu", &["us"], 2);
    us.write("old", set("v"));
    us.pass(8000);
    us.write("young", set("v"));
    us.pass(3000);
    us.close();
    eu.pass(11_000);
    ship(&mut us, &mut eu, 1);
    assert_eq!(eu.get("old"), Reply::Nil);
    assert_eq!(eu.get("young"), bulk("v"));
}

#[test]
fn a_batch_of_large_values_is_several_rows_and_arrives_whole() {
    let (mut us, mut eu) = pair();
    connect(&mut us, &eu, 1);
    us.sent.clear();
    for n in 0..5 {
        us.request(&format!("k{n}"), Action::Write(set(&"v".repeat(700_000))));
    }
    us.close();
    assert_eq!(outbox_rows(&us), 3);
    let messages = take(&mut us.sent, 1);
    let largest = messages
        .iter()
        .map(|message| match message {
            Message::Ship(ship) => ship.rows.iter().map(|row| row.len()).sum(),
            _ => 0,
        })
        .max();
    assert!(largest < Some(2 << 20), "{largest:?}");
    for message in messages {
        eu.receive(SessionId(1), message);
        eu.close();
    }
    for n in 0..5 {
        assert_eq!(eu.read(&format!("k{n}"), Read::Strlen), Reply::Int(700_000));
    }
}

#[test]
fn a_long_outbox_is_shipped_within_its_window_until_all_is_there() {
    let (mut us, mut eu) = pair();
    for n in 0..300 {
        us.write(&format!("k{n}"), set(&"v".repeat(100_000)));
    }
    connect(&mut us, &eu, 1);
    let in_flight: usize = us
        .sent
        .iter()
        .map(|(_, message)| match message {
            Message::Ship(ship) => ship.rows.iter().map(|row| row.len()).sum(),
            _ => 0,
        })
        .sum();
    assert!((1 << 20..6 << 20).contains(&in_flight), "{in_flight}");
    deliver(&mut us, &mut eu, 1);
    assert_eq!(eu.read("k299", Read::Strlen), Reply::Int(100_000));
    assert_eq!(us.lag("eu").rows, 0);
}

#[test]
fn a_long_outbox_that_everybody_has_ends_in_turns_that_follow_each_other_at_once() {
    let (mut us, mut eu) = pair();
    let large = "x".repeat(1 << 20);
    for number in 0..20 {
        us.write(&format!("k{number}"), set(&large));
    }
    ship(&mut us, &mut eu, 1);
    eu.save_inbox();
    us.write("more", set("v")); // its answer says that the others are saved
    deliver(&mut us, &mut eu, 1);
    maintain(&mut us);
    let mut left = vec![outbox_rows(&us)];
    while us.wake() {
        left.push(outbox_rows(&us));
    }
    assert!(left[0] > 10, "one turn reads a few of them: {left:?}");
    assert_eq!(left.last(), Some(&1), "{left:?}");
}

const TEN_SECONDS: OutboxBounds = OutboxBounds {
    window: Duration::from_secs(10),
    ..UNBOUNDED
};

#[test]
fn rows_that_were_given_up_and_came_in_time_are_not_lacking() {
    let mut us = Region::bounded("us", &["eu", "ap"], 1, TEN_SECONDS);
    let (mut eu, mut ap) = (Region::new("eu", &["us"], 2), Region::new("ap", &["us"], 3));
    for n in 0..5 {
        us.write(&format!("k{n}"), set("v"));
    }
    ship(&mut us, &mut eu, 1);
    us.pass(11_000);
    ap.pass(11_000);
    maintain(&mut us);
    assert_eq!(outbox_rows(&us), 5, "a crash of eu may forget them");
    connect(&mut us, &ap, 2);
    assert_eq!(us.lag("ap").rows, 5, "they are still to come");
    deliver(&mut us, &mut ap, 2);
    assert_eq!(ap.get("k0"), bulk("v"));
    let lag = us.lag("ap");
    assert_eq!((lag.rows, lag.needs_repair), (0, false));
    eu.save_inbox();
    us.write("more", set("v"));
    deliver(&mut us, &mut eu, 1);
    deliver(&mut us, &mut ap, 2);
    maintain(&mut us);
    assert!(!us.lag("ap").needs_repair, "it lacks nothing");
}

#[test]
fn rows_that_are_trimmed_in_flight_are_lacking_only_if_they_do_not_arrive() {
    for arrive in [true, false] {
        let mut us = Region::bounded("us", &["eu"], 1, TEN_SECONDS);
        let mut eu = Region::new("eu", &["us"], 2);
        for n in 0..5 {
            us.write(&format!("k{n}"), set("v"));
        }
        us.pass(9_999);
        eu.pass(11_000);
        connect(&mut us, &eu, 1);
        us.pass(1_001);
        maintain(&mut us);
        assert_eq!(outbox_rows(&us), 0);
        if !arrive {
            us.sent.clear();
            us.input(Input::SessionDown {
                session: SessionId(1),
            });
            connect(&mut us, &eu, 2);
        }
        deliver(&mut us, &mut eu, if arrive { 1 } else { 2 });
        assert_eq!(eu.get("k0") == bulk("v"), arrive);
        let lag = us.lag("eu");
        assert_eq!((lag.rows, lag.needs_repair), (0, !arrive));
        us.write("more", set("v"));
        deliver(&mut us, &mut eu, if arrive { 1 } else { 2 });
        assert_eq!(eu.get("more"), bulk("v"));
    }
}

/// Three nodes that keep two replicas of each key, and little of their outboxes.
fn two_of_three() -> Replicas {
    let nodes = ["us-1", "us-2", "us-3"];
    let places = nodes.map(|node| home("us", node, &[("us", &nodes)], 2));
    let mut three = Replicas::joined(places.clone().into_iter());
    let bounds = OutboxBounds {
        bytes_max: 2000,
        ..UNBOUNDED
    };
    let places = places.into_iter().zip(10..);
    let nodes = places.map(|(place, directory)| Region::at(place, DirectoryId(directory), bounds));
    three.nodes = nodes.collect();
    three.join();
    three
}

/// The first node writes keys that it and this other one are the replicas of, more than is kept. The second one takes them for good.
fn write_for(three: &mut Replicas, other: usize) {
    let is_of = |node: usize, key: &String| {
        let home = three.nodes[node].shard.shipper().home();
        home.holds(Partition::of(key.as_bytes()))
    };
    let keys = (0..500).map(|n| format!("k{n}"));
    let keys: Vec<String> = keys
        .filter(|key| is_of(0, key) && is_of(other, key))
        .collect();
    let write = |region: &mut Region, key: &String| {
        let write = Action::Write(set(&"v".repeat(50)));
        region.request_at(key, write, Level::Replicas(NonZeroU8::MIN));
        region.close();
    };
    keys.iter().for_each(|key| write(&mut three.nodes[0], key));
    three.deliver();
    three.nodes[1].save_inbox();
    write(&mut three.nodes[0], &keys[0]); // its answer says that the others are saved
    three.live(0..2, 25);
    three.nodes[2].pass(2500); // its clock runs too
    assert!(outbox_rows(&three.nodes[0]) < 50, "they are dropped");
}

fn lacks_rows(three: &Replicas, node: &str) -> bool {
    let node = Destination::Replica(node.parse().unwrap());
    let mut lags = three.nodes[0].shard.shipper().lags();
    lags.find(|(to, _)| **to == node).unwrap().1.needs_repair
}

#[test]
fn a_node_lacks_dropped_rows_only_where_it_is_a_replica_of_their_keys() {
    let mut three = two_of_three();
    three.lose(2);
    for (of, is_lacking) in [(1, false), (2, true)] {
        write_for(&mut three, of);
        assert_eq!(lacks_rows(&three, "us-3"), is_lacking);
        three.join();
        three.live(0..3, 5);
        assert_eq!(lacks_rows(&three, "us-3"), is_lacking);
        assert_eq!(three.nodes[2].inbox.shortage().is_any(), is_lacking);
        three.lose(2);
    }
}
