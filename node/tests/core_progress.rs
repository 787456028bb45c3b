//! Goal: no message that is lost, doubled, late or out of order ends the progress of a stream, and what was dropped counts for nobody.
//!
//! Method: three shards over memory storage, joined by hand. Each test takes one message away, or changes two, while the sessions
//! live, and then asks for what every client may ask for: that the next writes are acknowledged.

mod core_support;

use std::{sync::Arc, time::Duration};

use core_support::{Region, UNBOUNDED, WALL_MS, add, home, place_of, replicas::Replicas, set};
use node::core::{
    Input,
    identity::DirectoryId,
    message::Message,
    op::{Action, Read, Write},
    reply::Reply,
    ship::OutboxBounds,
};

/// Small enough that a second's writes are too many.
const SMALL: OutboxBounds = OutboxBounds {
    window: Duration::from_secs(3600),
    bytes_max: 3_000,
};

/// Writes through the first node, one after the other, while only the first two live. Gives how many were acknowledged.
fn acknowledged(three: &mut Replicas, writes: usize) -> usize {
    let mut count = 0;
    for round in 0..writes {
        let id = three.begin(0, "k", Action::Write(set(&format!("w{round}"))));
        three.live(0..2, 30);
        count += usize::from(three.reply(0, id) == Some(Reply::Ok));
    }
    count
}

fn fill(three: &mut Replicas, rounds: usize) {
    for n in 0..rounds {
        let value = format!("{n}{}", "x".repeat(1000));
        three.begin(0, "filler", Action::Write(set(&value)));
    }
}

#[test]
fn an_acknowledgement_that_is_lost_is_asked_for_again() {
    let mut three = Replicas::three();
    three.cut_off(2);
    assert_eq!(three.write(0, "k", set("v0")), Reply::Ok);
    let id = three.begin(0, "k", Action::Write(set("v1")));
    three.deliver_from(0);
    assert_eq!(three.nodes[1].returned.len(), 1);
    three.nodes[1].returned.clear();
    three.live(0..2, 15);
    assert_eq!(three.reply(0, id), Some(Reply::Ok), "before its time is up");
    assert_eq!(acknowledged(&mut three, 5), 5);
}

#[test]
fn every_acknowledgement_may_be_lost_once() {
    let mut three = Replicas::three();
    three.cut_off(2);
    for lost in 0..6 {
        let ids: Vec<_> = (0..6)
            .map(|n| three.begin(0, &format!("k{n}"), Action::Write(set("v"))))
            .collect();
        three.deliver_from(0);
        assert!(three.nodes[1].returned.len() >= 6);
        three.nodes[1].returned.remove(lost);
        three.live(0..2, 15);
        for id in ids {
            assert_eq!(
                three.reply(0, id),
                Some(Reply::Ok),
                "answer {lost} was lost"
            );
        }
    }
}

#[test]
fn acknowledgements_may_change_places_and_come_twice() {
    let mut three = Replicas::three();
    three.cut_off(2);
    let ids: Vec<_> = (0..5)
        .map(|n| three.begin(0, &format!("k{n}"), Action::Write(set("v"))))
        .collect();
    three.deliver_from(0);
    let mut twice = three.nodes[1].returned.clone();
    twice.reverse();
    three.nodes[1].returned.extend(twice);
    three.nodes[1].returned.rotate_left(3);
    three.deliver();
    for id in ids {
        assert_eq!(three.reply(0, id), Some(Reply::Ok));
    }
    assert_eq!(acknowledged(&mut three, 5), 5);
}

#[test]
fn rows_that_are_lost_doubled_or_change_places_arrive_all_the_same() {
    let mut three = Replicas::three();
    three.cut_off(2);
    let rows = |three: &Replicas| three.nodes[0].sent.len();
    for change in 0..3 {
        let ids: Vec<_> = (0..4)
            .map(|n| three.begin(0, &format!("k{n}"), Action::Write(set("v"))))
            .collect();
        assert!(rows(&three) >= 4);
        match change {
            0 => drop(three.nodes[0].sent.remove(1)),
            1 => three.nodes[0].sent.reverse(),
            _ => {
                let again = three.nodes[0].sent.clone();
                three.nodes[0].sent.extend(again);
            }
        }
        three.live(0..2, 18);
        for id in ids {
            assert_eq!(three.reply(0, id), Some(Reply::Ok), "change {change}");
        }
    }
}

#[test]
fn a_teaching_that_is_too_far_ahead_holds_up_no_other_write() {
    let mut three = Replicas::three();
    three.nodes[1].wall_ms = WALL_MS + 900;
    three.nodes[2].wall_ms = WALL_MS + 1_400;
    // us-3 writes k; us-2 takes it, us-1 does not get it.
    three.cut.extend([(2, 0), (0, 2)]);
    assert_eq!(three.write(2, "k", set("of us-3")), Reply::Ok);
    let taught = three.begin(0, "k", Action::Write(set("of us-1")));
    three.deliver();
    assert_eq!(
        three.reply(0, taught),
        None,
        "it cannot be stamped above what it was taught"
    );
    three.cut_off(2);
    let other = three.begin(0, "other", Action::Write(set("v")));
    three.live(0..2, 1);
    assert_eq!(three.reply(0, other), Some(Reply::Ok));
    three.live(0..2, 25);
    let Some(Reply::Error(refusal)) = three.reply(0, taught) else {
        panic!("a replica that knows better counted all the same");
    };
    assert!(refusal.to_string().starts_with("TIMEOUT"), "{refusal}");
    assert_eq!(acknowledged(&mut three, 5), 5);
}

#[test]
fn rows_that_are_given_up_while_others_are_under_way_hold_up_nothing() {
    let mut three = Replicas::bounded(SMALL);
    three.cut_off(2);
    three.cut.extend([(0, 1), (1, 0)]);
    for _ in 0..10 {
        fill(&mut three, 1);
        three.nodes.iter_mut().for_each(|node| node.pass(1100));
        three.nodes[0].tick();
        three.nodes[0].close();
    }
    three.cut.remove(&(0, 1));
    three.cut.remove(&(1, 0));
    three.live(0..2, 5);
    assert_eq!(acknowledged(&mut three, 5), 5);
}

#[test]
fn rows_that_were_dropped_count_for_no_level() {
    let mut three = Replicas::bounded(SMALL);
    three.cut_off(0);
    let id = three.begin(0, "k", Action::Write(set("v")));
    fill(&mut three, 10);
    three.nodes[0].pass(1100);
    three.nodes[0].tick();
    three.nodes[0].close();
    three.nodes[0].sent.clear();
    let Some(Reply::Error(refusal)) = three.reply(0, id) else {
        panic!("a write whose row is gone still waits");
    };
    assert!(refusal.to_string().contains("dropped"), "{refusal}");
    three.cut.clear();
    three.join();
    three.live(0..3, 3);
    assert_eq!(three.nodes[1].storage_value("k"), None);
    assert_eq!(
        acknowledged(&mut three, 3),
        3,
        "what comes later counts again"
    );
}

#[test]
fn a_session_that_is_up_before_the_placement_is_shipped_on() {
    let mut three = Replicas::three();
    let full = place_of(0).placement;
    // us-1 begins alone: it knows only itself.
    let alone = home("us", "us-1", &[("us", &["us-1"])], 3);
    three.nodes[0] = Region::at(alone, DirectoryId(50), UNBOUNDED);
    three.join();
    three.nodes[0].input(Input::Placed(Arc::clone(&full)));
    let id = three.begin(0, "k", Action::Write(set("v")));
    three.deliver();
    assert_eq!(three.reply(0, id), Some(Reply::Ok));
    assert_eq!(
        (three.nodes[0].hints("us-2"), three.nodes[0].hints("us-3")),
        (0, 0)
    );
}

#[test]
fn a_node_that_a_placement_leaves_out_for_a_while_is_shipped_to_again() {
    let mut three = Replicas::three();
    let full = place_of(0).placement;
    let without = home("us", "us-1", &[("us", &["us-1", "us-2"])], 3).placement;
    three.nodes[0].input(Input::Placed(without));
    assert_eq!(three.write(0, "k", set("v")), Reply::Ok);
    three.nodes[0].input(Input::Placed(full));
    three.cut.extend([(0, 1), (1, 0)]);
    let id = three.begin(0, "k", Action::Write(set("w")));
    three.live(0..3, 3);
    assert_eq!(three.reply(0, id), Some(Reply::Ok), "us-3 is enough");
}

#[test]
fn what_changes_nothing_is_answered_at_once() {
    let mut three = Replicas::three();
    // A clock that saw a later stamp than it ever shipped.
    three.nodes[1].wall_ms = WALL_MS + 500;
    three.write(0, "s", add(&["a"]));
    three.write(1, "other", set("v"));
    let pop = Write::Pop {
        count: 0,
        entropy: 1,
    };
    let id = three.begin(0, "s", Action::Write(pop));
    three.deliver();
    assert_eq!(three.reply(0, id), Some(Reply::Array(vec![])));
    assert_eq!(three.read(0, "s", Read::Cardinality), Reply::Int(1));
}

/// The kit itself: a message that nobody receives is none.
#[test]
fn held_messages_are_acknowledged_by_nobody() {
    let mut three = Replicas::three();
    let id = three.begin(0, "k", Action::Write(set("v")));
    let held = three.hold(0);
    assert!(
        held.iter()
            .any(|(_, message)| matches!(message, Message::Ship(_)))
    );
    three.live(1..3, 3);
    assert_eq!(three.reply(0, id), None);
    three.release(0, held);
    assert_eq!(three.reply(0, id), Some(Reply::Ok));
}
