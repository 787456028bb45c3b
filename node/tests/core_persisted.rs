//! Goal: a PERSIST that was acknowledged in time keeps the key, whoever takes it for ended: a replica that missed it, or one whose clock is ahead.
//!
//! Method: three replicas of one region, message by message.

#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, its helpers too"
)]

mod core_support;

use core_support::{
    add, bulk, bytes, incr,
    missed::{Held, answers_held, arrive, expire, give, only, pass, set_with},
    remove,
    replicas::Replicas,
    set,
};
use node::core::{
    op::{Action, Read, SetExpiry, Write},
    reply::Reply,
};

/// us-2 and us-3 have a text that ends soon, and us-1 has not heard of it. A PERSIST through us-3 is acknowledged by us-1, and us-2 has not heard of
/// that. Then the time has come by which us-2 believes that it ended.
fn persisted_text(before: Write, reply: Reply) -> Replicas {
    let mut three = Replicas::three();
    assert_eq!(three.write(0, "k", before), reply);
    three.live(0..3, 10);
    let at = three.nodes[0].wall_ms + 1000;
    three.cut_off(0);
    let written = three.begin(1, "k", Action::Write(set_with("v", SetExpiry::At(at))));
    three.deliver();
    assert_eq!(three.reply(1, written), Some(Reply::Ok));
    // us-3 asks us-2, and its row gets to us-1 only.
    let persisted = three.begin(2, "k", Action::Write(Write::Persist));
    let mut answers = answers_held(&mut three, 2);
    if !answers
        .iter()
        .any(|(node, held)| *node == 1 && !held.is_empty())
    {
        pass(&mut three, 100);
        three.nodes[2].tick();
        answers = answers_held(&mut three, 2);
    }
    answers.retain(|(node, _)| *node == 1);
    assert!(!answers[0].1.is_empty(), "us-2 was asked");
    three.cut.clear();
    three.cut_off(1);
    give(&mut three, 2, answers);
    three.deliver();
    assert_eq!(three.reply(2, persisted), Some(Reply::Int(1)));
    three.live(0..3, 12);
    assert!(three.nodes[0].wall_ms > at);
    three
}

/// What us-2 shipped to us-1 and us-3 to us-2 is lost (a session ends, and its rows come later), and us-1 writes, and us-2 answers first.
fn written_beside_persisted(before: Write, reply: Reply, write: Write) {
    let mut three = persisted_text(before, reply);
    let held: Vec<Held> = (0..3).map(|node| three.hold(node)).collect();
    three.cut.clear();
    three.cut_off(2);
    let id = three.begin(0, "k", Action::Write(write.clone()));
    only(&mut three, 0, 1);
    let returned = std::mem::take(&mut three.nodes[1].returned);
    for (session, message) in returned {
        three.take(0, false, session, message);
    }
    three.cut.clear();
    arrive(&mut three, held);
    three.live(0..3, 40);
    let reply = three.reply(0, id);
    for node in 0..3 {
        assert_eq!(
            three.get(node, "k"),
            bulk("v"),
            "through {node}: {write:?} was answered {reply:?}"
        );
    }
}

/// Without that addition the text is there.
#[test]
fn a_text_that_was_persisted_stays() {
    let mut three = persisted_text(incr(5), Reply::Int(5));
    let held: Vec<Held> = (0..3).map(|node| three.hold(node)).collect();
    three.cut.clear();
    arrive(&mut three, held);
    three.live(0..3, 40);
    for node in 0..3 {
        assert_eq!(three.get(node, "k"), bulk("v"), "through {node}");
    }
}

/// P1, P7. SET k v PX, PERSIST k, both acknowledged; INCR through a replica that has heard of the PERSIST only.
#[test]
fn p7_a_text_that_was_persisted_is_not_ended_by_an_increment() {
    written_beside_persisted(incr(5), Reply::Int(5), incr(1));
}

/// P1, P7. The same of SADD.
#[test]
fn p7_a_text_that_was_persisted_is_not_ended_by_an_addition() {
    written_beside_persisted(add(&["x"]), Reply::Int(1), add(&["y"]));
}

/// The clock of us-1 is 300 ms ahead, and by it alone the key has ended. Gives when it ends.
fn ended_by_one_clock(before: Write, reply: Reply) -> (Replicas, u64) {
    let mut three = Replicas::three();
    three.nodes[0].wall_ms += 300;
    let at = three.nodes[1].wall_ms + 1000;
    assert_eq!(three.write(1, "k", before), reply);
    assert_eq!(three.write(1, "k", expire(at)), Reply::Int(1));
    three.live(0..3, 8);
    assert!(three.nodes[0].wall_ms >= at && three.nodes[1].wall_ms < at);
    (three, at)
}

/// The clock of us-1 is 300 ms ahead, and the key is about to end. A client is told by us-1 that nothing is there to persist, and us-1's row that ends
/// the key is late. Then PERSIST through us-3, by whose clock it has not ended, is acknowledged by us-2: the key is to stay.
fn persisted_behind_an_end_that_nobody_has(before: Write, reply: Reply, first: Write) {
    let (mut three, at) = ended_by_one_clock(before, reply);
    let first = three.begin(0, "k", Action::Write(first));
    let answers = answers_held(&mut three, 0);
    give(&mut three, 0, answers);
    let first = three.reply(0, first);
    let late = three.hold(0);
    let second = three.begin(2, "k", Action::Write(Write::Persist));
    three.cut_off(0);
    three.deliver();
    let second = three.reply(2, second);
    assert!(three.nodes[1].wall_ms < at);
    three.cut.clear();
    three.release(0, late);
    three.live(0..3, 40);
    let there: Vec<Reply> = (0..3)
        .map(|node| three.read(node, "k", Read::Exists))
        .collect();
    assert_eq!(second, Some(Reply::Int(1)), "by its clock it is there");
    assert_eq!(there, vec![Reply::Int(1); 3], "{first:?}, then {second:?}");
}

/// P1. A PERSIST that was acknowledged before the end, as every clock but one has it, is undone by the end.
#[test]
fn p1_a_string_that_was_persisted_is_not_ended_by_a_clock_that_is_ahead() {
    persisted_behind_an_end_that_nobody_has(set("v"), Reply::Ok, Write::Persist);
}

/// P1. The same behind what writes nothing: a SETRANGE of nothing, and an APPEND that is refused.
#[test]
fn p1_what_writes_nothing_ends_nothing() {
    let nothing = Write::SetRange {
        offset: 0,
        value: bytes(""),
    };
    let too_long = Write::Append {
        value: bytes(&"x".repeat(2 << 20)),
    };
    for first in [nothing, too_long] {
        persisted_behind_an_end_that_nobody_has(set("v"), Reply::Ok, first);
    }
}

/// P1. The same of a set.
#[test]
fn p1_a_set_that_was_persisted_is_not_ended_by_a_clock_that_is_ahead() {
    persisted_behind_an_end_that_nobody_has(add(&["a"]), Reply::Int(1), Write::Persist);
}

/// P7. DEL through us-1, by whose clock (300 ms ahead) the key has ended: it asks, ends the key, and is answered before anybody has that. Whoever asks
/// others next finds the value, and DEL had been acknowledged; where us-1 is killed now, a PERSIST keeps it for good.
#[test]
fn p7_a_delete_of_what_has_ended_by_its_own_clock_is_seen() {
    for (before, reply, removal) in [
        (set("v"), Reply::Ok, Write::Delete),
        (add(&["a"]), Reply::Int(1), Write::Delete),
        (add(&["a"]), Reply::Int(1), remove(&["a"])),
    ] {
        let (mut three, at) = ended_by_one_clock(before, reply);
        let deleted = three.begin(0, "k", Action::Write(removal.clone()));
        let answers = answers_held(&mut three, 0);
        give(&mut three, 0, answers);
        let deleted = three.reply(0, deleted);
        if deleted.is_none() {
            continue; // it waits for others to have it
        }
        let late = three.hold(0);
        three.cut_off(0); // killed
        let id = three.begin(2, "k", Action::Read(Read::Exists));
        three.deliver();
        assert!(three.nodes[1].wall_ms < at);
        assert_eq!(
            three.reply(2, id),
            Some(Reply::Int(0)),
            "{removal:?} had been answered {deleted:?}"
        );
        drop(late);
    }
}
