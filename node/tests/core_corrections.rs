//! Goal: a correction does again just what its write did. It takes back nothing that the same connection did later, and leaves nothing
//! that any replica of the level knew.
//!
//! Method: three shards over memory storage, joined by hand; one replica misses a write that the other two acknowledge, and is then
//! written through.

mod core_support;

use std::collections::BTreeSet;

use core_support::{
    WALL_MS, add, bulk, bytes, incr,
    missed::{Held, answers_held, give},
    remove,
    replicas::Replicas,
    set,
};
use node::{
    core::{
        RequestId,
        message::{Message, SessionId},
        op::{Action, Condition, ExpireCondition, Read, SetExpiry, Write},
        reply::{Refusal, Reply},
    },
    level::Level,
};

fn one() -> Level {
    "one".parse().expect("a level")
}

fn members(reply: &Reply) -> BTreeSet<String> {
    let Reply::Set(items) = reply else {
        panic!("no set: {reply:?}");
    };
    items.iter().map(core_support::text).collect()
}

fn expire(at_ms: u64) -> Write {
    Write::Expire {
        at_ms: at_ms as i64,
        condition: ExpireCondition::Always,
    }
}

/// The first two nodes acknowledge a write that the third one misses, and what is under way to it.
fn missed_by_the_third(
    three: &mut Replicas,
    write: Write,
    reply: &Reply,
) -> Vec<Vec<(node::core::message::SessionId, node::core::message::Message)>> {
    three.cut_off(2);
    let id = three.begin(0, "k", Action::Write(write));
    three.deliver();
    three.live(0..2, 1);
    assert_eq!(three.reply(0, id).as_ref(), Some(reply));
    let held = (0..2).map(|node| three.hold(node)).collect();
    three.cut.clear();
    held
}

fn arrive(
    three: &mut Replicas,
    held: Vec<Vec<(node::core::message::SessionId, node::core::message::Message)>>,
) {
    for (node, held) in held.into_iter().enumerate() {
        three.release(node, held);
    }
}

#[test]
fn a_delete_ends_an_expiry_that_only_others_know() {
    for (first, again) in [(set("v"), incr(1)), (add(&["a"]), add(&["b"]))] {
        let mut three = Replicas::three();
        three.write(0, "k", first);
        let held = missed_by_the_third(&mut three, expire(WALL_MS + 10_000), &Reply::Int(1));
        assert_eq!(three.write(2, "k", Write::Delete), Reply::Int(1));
        three.write(2, "k", again);
        arrive(&mut three, held);
        for node in 0..3 {
            assert_eq!(three.read(node, "k", Read::ExpiresAtMs), Reply::Int(-1));
        }
        three.nodes.iter_mut().for_each(|node| node.pass(20_000));
        for node in 0..3 {
            let exists = three.read(node, "k", Read::Exists);
            assert_eq!(exists, Reply::Int(1), "through {node}");
        }
    }
}

#[test]
fn the_last_removal_ends_an_expiry_that_only_others_know() {
    let mut three = Replicas::three();
    three.write(0, "k", add(&["a"]));
    let held = missed_by_the_third(&mut three, expire(WALL_MS + 10_000), &Reply::Int(1));
    assert_eq!(three.write(2, "k", remove(&["a"])), Reply::Int(1));
    assert_eq!(three.read(0, "k", Read::Exists), Reply::Int(0));
    three.write(2, "k", add(&["b"]));
    arrive(&mut three, held);
    three.nodes.iter_mut().for_each(|node| node.pass(20_000));
    for node in 0..3 {
        let left = members(&three.read(node, "k", Read::Members));
        assert_eq!(left, BTreeSet::from(["b".to_owned()]), "through {node}");
    }
}

#[test]
fn the_last_removal_and_an_add_in_one_batch_end_it_too() {
    let mut three = Replicas::three();
    three.write(0, "k", add(&["a"]));
    let held = missed_by_the_third(&mut three, expire(WALL_MS + 10_000), &Reply::Int(1));
    let removed = three.nodes[2].request("k", Action::Write(remove(&["a"])));
    let added = three.nodes[2].request("k", Action::Write(add(&["b"])));
    three.nodes[2].close();
    three.deliver();
    assert_eq!(three.reply(2, removed), Some(Reply::Int(1)));
    assert_eq!(three.reply(2, added), Some(Reply::Int(1)));
    arrive(&mut three, held);
    three.nodes.iter_mut().for_each(|node| node.pass(20_000));
    for node in 0..3 {
        let left = members(&three.read(node, "k", Read::Members));
        assert_eq!(left, BTreeSet::from(["b".to_owned()]), "through {node}");
    }
}

#[test]
fn a_removal_leaves_the_expiry_of_elements_that_it_does_not_know() {
    let mut three = Replicas::three();
    three.write(0, "k", add(&["a"]));
    let held = missed_by_the_third(&mut three, add(&["b"]), &Reply::Int(1));
    let more = missed_by_the_third(&mut three, expire(WALL_MS + 10_000), &Reply::Int(1));
    // Empty here, and not there.
    assert_eq!(three.write(2, "k", remove(&["a"])), Reply::Int(1));
    arrive(&mut three, held);
    arrive(&mut three, more);
    for node in 0..3 {
        let expires = three.read(node, "k", Read::ExpiresAtMs);
        assert_eq!(
            expires,
            Reply::Int((WALL_MS + 10_000) as i64),
            "through {node}"
        );
    }
}

/// The second node's clock is ahead, and it has a value that the first one misses.
fn ahead_at_the_second(
    three: &mut Replicas,
    write: Write,
) -> Vec<(node::core::message::SessionId, node::core::message::Message)> {
    three.nodes[1].wall_ms = WALL_MS + 600;
    three.cut_off(0);
    let reply = three.write(1, "k", write);
    assert!(!matches!(reply, Reply::Error(_)));
    let held = three.hold(1);
    three.cut.clear();
    held
}

#[test]
fn a_correction_stays_below_a_later_write_that_waits_for_nobody() {
    let mut three = Replicas::three();
    let held = ahead_at_the_second(&mut three, set("x"));
    let a = three.begin(0, "k", Action::Write(set("a")));
    let b = three.nodes[0].request_at("k", Action::Write(set("b")), one());
    three.nodes[0].close();
    three.deliver();
    assert_eq!(three.reply(0, a), Some(Reply::Ok));
    assert_eq!(three.reply(0, b), Some(Reply::Ok));
    three.release(1, held);
    assert_ne!(three.get(0, "k"), bulk("a"), "b came after it");
}

#[test]
fn a_correction_at_a_wide_level_stays_below_a_later_write_that_was_answered_before() {
    let mut three = Replicas::three();
    three.nodes[2].wall_ms = WALL_MS + 600;
    three.cut_off(2);
    three.begin(2, "k", Action::Write(set("x")));
    three.nodes[2].sent.clear();
    let a = three.nodes[0].request_at("k", Action::Write(set("a")), Level::All);
    three.nodes[0].close();
    let b = three.begin(0, "k", Action::Write(set("b")));
    three.deliver();
    assert_eq!(three.reply(0, b), Some(Reply::Ok));
    assert_eq!(three.reply(0, a), None);
    three.mend();
    assert_ne!(three.get(0, "k"), bulk("a"), "b came after it");
}

#[test]
fn a_later_expire_does_not_keep_a_write_from_being_corrected() {
    let mut three = Replicas::three();
    let held = ahead_at_the_second(&mut three, set("x"));
    let a = three.begin(0, "k", Action::Write(set("a")));
    let level = one();
    let expire = Action::Write(expire(WALL_MS + 100_000));
    let b = three.nodes[0].request_at("k", expire, level);
    three.nodes[0].close();
    three.deliver();
    assert_eq!(three.reply(0, a), Some(Reply::Ok));
    assert_eq!(three.reply(0, b), Some(Reply::Int(1)));
    three.release(1, held);
    for node in 0..3 {
        assert_eq!(three.get(node, "k"), bulk("a"), "through {node}");
    }
}

#[test]
fn an_increment_that_learns_of_text_takes_back_itself_and_nothing_later() {
    let mut three = Replicas::three();
    let held = ahead_at_the_second(&mut three, set("text"));
    three.nodes[1].wall_ms = WALL_MS;
    let first = three.begin(0, "k", Action::Write(incr(1)));
    let ten = three.begin(0, "k", Action::Write(set("10")));
    let second = three.begin(0, "k", Action::Write(incr(1)));
    three.deliver();
    assert_eq!(three.reply(0, first), Some(Refusal::NotAnInteger.into()));
    assert_eq!(three.reply(0, ten), Some(Reply::Ok));
    assert_eq!(three.reply(0, second), Some(Reply::Int(11)));
    three.release(1, held);
    for node in 0..3 {
        assert_eq!(three.get(node, "k"), bulk("11"), "through {node}");
    }
}

#[test]
fn an_increment_that_is_overwritten_in_its_batch_learns_of_text_all_the_same() {
    let mut three = Replicas::three();
    let held = ahead_at_the_second(&mut three, set("text"));
    let first = three.nodes[0].request("k", Action::Write(incr(1)));
    let ten = three.nodes[0].request("k", Action::Write(set("10")));
    three.nodes[0].close();
    three.deliver();
    assert_eq!(three.reply(0, first), Some(Refusal::NotAnInteger.into()));
    assert_eq!(three.reply(0, ten), Some(Reply::Ok));
    three.release(1, held);
    assert_eq!(three.get(0, "k"), bulk("10"));
}

#[test]
fn a_delete_asks_what_it_asks_whatever_is_done_beside_it_in_a_batch() {
    for known in [set("7"), incr(7)] {
        let mut three = Replicas::three();
        three.cut_off(0);
        three.write(1, "k", known);
        let held = three.hold(1);
        three.cut.clear();
        let added = three.nodes[0].request("k", Action::Write(add(&["x"])));
        let deleted = three.nodes[0].request("k", Action::Write(Write::Delete));
        let counted = three.nodes[0].request("k", Action::Write(incr(1)));
        three.nodes[0].close();
        three.deliver();
        for id in [added, deleted, counted] {
            let reply = three.reply(0, id);
            assert!(
                matches!(reply, Some(Reply::Int(_) | Reply::Error(_))),
                "{reply:?}"
            );
        }
        three.release(1, held);
        for node in 0..3 {
            assert_eq!(three.get(node, "k"), bulk("1"), "through {node}");
        }
    }
}

#[test]
fn a_write_that_is_overwritten_takes_back_the_increments_that_it_was_taught_all_the_same() {
    let mut three = Replicas::three();
    three.cut_off(0);
    assert_eq!(three.write(1, "k", incr(4)), Reply::Int(4));
    let held = three.hold(1);
    three.cut.clear();
    // us-3 is away: the second SET, which has the register, waits for it.
    three.cut_off(2);
    let first = three.nodes[0].request("k", Action::Write(set("0")));
    let second = three.nodes[0].request_at("k", Action::Write(set("0")), Level::All);
    three.nodes[0].close();
    three.deliver();
    assert_eq!(three.reply(0, first), Some(Reply::Ok));
    assert_eq!(three.reply(0, second), None);
    for node in 0..2 {
        assert_eq!(three.get(node, "k"), bulk("0"), "through {node}");
    }
    three.release(1, held);
    three.mend();
    assert_eq!(three.reply(0, second), Some(Reply::Ok));
    for node in 0..3 {
        assert_eq!(three.get(node, "k"), bulk("0"), "through {node}");
    }
}

/// A row whose answer was lost is sent again; by then its replica knows what the same connection did later, which is no news.
#[test]
fn what_is_taught_again_takes_back_nothing_that_came_later() {
    for (first, later, read, expected) in [
        (set("5"), incr(1), Read::Get, bulk("6")),
        (Write::Delete, incr(1), Read::Get, bulk("1")),
        (Write::Delete, add(&["b"]), Read::Cardinality, Reply::Int(1)),
        (
            remove(&["b"]),
            add(&["b"]),
            Read::Cardinality,
            Reply::Int(2),
        ),
    ] {
        let mut three = Replicas::three();
        let is_set = matches!(read, Read::Cardinality);
        three.write(0, "k", if is_set { add(&["a"]) } else { set("1") });
        three.cut_off(2);
        let before = three.begin(0, "k", Action::Write(first));
        three.deliver_from(0);
        three.nodes[1].returned.clear();
        let after = three.begin(0, "k", Action::Write(later));
        three.live(0..2, 15);
        for id in [before, after] {
            let reply = three.reply(0, id);
            assert!(
                matches!(reply, Some(Reply::Ok | Reply::Int(_))),
                "{reply:?}"
            );
        }
        three.mend();
        for node in 0..3 {
            assert_eq!(
                three.read(node, "k", read.clone()),
                expected,
                "through {node}"
            );
        }
    }
}

/// Two writes of one connection through the third node, one batch after the other, over a newer register that it never got: only the first
/// one's answer is back, and it teaches that register.
fn first_of_two_is_taught(
    three: &mut Replicas,
    first: Write,
    second: Write,
) -> (RequestId, RequestId, Vec<(SessionId, Message)>) {
    three.nodes[..2].iter_mut().for_each(|node| node.pass(300));
    let _lost = missed_by_the_third(three, set("newer"), &Reply::Ok);
    let first = three.begin(2, "k", Action::Write(first));
    // The first one is carried there and back.
    three.deliver_from(2);
    let second = three.begin(2, "k", Action::Write(second));
    let held = three.hold(2);
    for node in 0..2 {
        three.deliver_from(node);
    }
    (first, second, held)
}

#[test]
fn a_write_that_a_later_one_replaced_is_not_answered_while_a_newer_register_that_it_was_taught_stands_above_both()
 {
    for (first, second, shown) in [
        (set("v1"), set("v2"), bulk("v2")),
        (Write::Delete, set("v2"), bulk("v2")),
        (set("v1"), Write::Delete, Reply::Nil),
    ] {
        let mut three = Replicas::three();
        assert_eq!(three.write(0, "k", set("old")), Reply::Ok);
        let (first, second, held) = first_of_two_is_taught(&mut three, first, second);
        assert_eq!(
            three.reply(2, first),
            None,
            "a read elsewhere shows what is newer"
        );
        three.release(2, held);
        three.live(0..3, 3);
        for id in [first, second] {
            let reply = three.reply(2, id);
            assert!(
                matches!(reply, Some(Reply::Ok | Reply::Int(1))),
                "{reply:?}"
            );
        }
        for node in 0..3 {
            assert_eq!(three.get(node, "k"), shown, "through {node}");
        }
    }
}

#[test]
fn a_write_that_was_replaced_by_one_that_waits_for_nobody_is_acknowledged_once_that_stands_above_a_newer_register()
 {
    let mut three = Replicas::three();
    assert_eq!(three.write(0, "k", set("old")), Reply::Ok);
    three.nodes[..2].iter_mut().for_each(|node| node.pass(300));
    let _lost = missed_by_the_third(&mut three, set("newer"), &Reply::Ok);
    let first = three.begin(2, "k", Action::Write(set("v1")));
    let second = three.nodes[2].request_at("k", Action::Write(set("v2")), one());
    three.nodes[2].close();
    assert_eq!(three.reply(2, second), Some(Reply::Ok));
    three.live(0..3, 3);
    assert_eq!(three.reply(2, first), Some(Reply::Ok));
    for node in 0..3 {
        assert_eq!(three.get(node, "k"), bulk("v2"), "through {node}");
    }
}

/// Counters are harvested with GETDEL and with SET GET while others count: an increment that was acknowledged is in the answer, or stays for
/// the next time.
#[test]
fn p3_increments_beside_a_harvest_are_in_its_answer_or_stay() {
    for harvest in [Write::GetDel, getset("0")] {
        let mut three = Replicas::three();
        assert_eq!(three.write(0, "k", incr(5)), Reply::Int(5));
        three.live(0..3, 10);
        let harvest = three.begin(0, "k", Action::Write(harvest));
        let answers = answers_held(&mut three, 0);
        three.cut_off(0);
        let counted = three.begin(1, "k", Action::Write(incr(1)));
        three.deliver();
        assert_eq!(three.reply(1, counted), Some(Reply::Int(6)));
        three.cut.clear();
        let held: Vec<Held> = (0..3).map(|node| three.hold(node)).collect();
        give(&mut three, 0, answers);
        three.deliver();
        three.live(0..3, 5);
        let harvested = three.reply(0, harvest);
        arrive(&mut three, held);
        three.live(0..3, 20);
        let left = three.get(1, "k");
        assert!(
            harvested == Some(bulk("6")) || (harvested == Some(bulk("5")) && left == bulk("1")),
            "harvested {harvested:?}, left {left:?}"
        );
    }
}

fn getset(value: &str) -> Write {
    Write::Set {
        value: bytes(value),
        expiry: SetExpiry::Clear,
        condition: Condition::Always,
        return_old: true,
    }
}
