//! Goal: a key ends when it is to end, whoever missed what was said of that.
//!
//! Method: three replicas of one region, or two regions, message by message; one misses what a majority acknowledged of an expiry.

#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, its helpers too"
)]

mod core_support;

use core_support::{
    WALL_MS, add, bulk, bytes, incr,
    missed::{Held, ONE, arrive, expire, members, missed_by, of, pass, set_with},
    pair, remove,
    replicas::Replicas,
    set, ship,
};
use node::core::{
    message::Message,
    op::{Action, Read, SetExpiry, Write},
    reply::Reply,
};

#[test]
fn p7_a_key_that_was_persisted_at_a_quorum_is_not_ended_by_a_replica_that_missed_that() {
    let mut three = Replicas::three();
    let ends = SetExpiry::At(WALL_MS + 5000);
    assert_eq!(three.write(0, "k", set_with("v", ends)), Reply::Ok);
    let held = missed_by(&mut three, 0, Write::Persist, &Reply::Int(1));
    // us-1 still hears nothing, and the end that it knows of has passed.
    three.cut_off(0);
    pass(&mut three, 6000);
    three.nodes[0].tick();
    three.cut.clear();
    arrive(&mut three, held);
    three.live(0..3, 5);
    for node in 0..3 {
        assert_eq!(three.get(node, "k"), bulk("v"), "through {node}");
    }
}

#[test]
fn p4_elements_of_a_key_that_was_persisted_at_a_quorum_survive_an_add_through_a_replica_that_missed_that()
 {
    let mut three = Replicas::three();
    three.write(0, "k", add(&["a"]));
    assert_eq!(three.write(1, "k", expire(WALL_MS + 5000)), Reply::Int(1));
    let held = missed_by(&mut three, 0, Write::Persist, &Reply::Int(1));
    pass(&mut three, 6000);
    three.write(0, "k", add(&["b"]));
    arrive(&mut three, held);
    for node in 0..3 {
        let left = members(&three.read(node, "k", Read::Members));
        assert_eq!(left, of(&["a", "b"]), "through {node}");
    }
}

#[test]
fn p3_increments_of_a_key_whose_end_was_put_off_at_a_quorum_survive_one_through_a_replica_that_missed_that()
 {
    let mut three = Replicas::three();
    assert_eq!(three.write(1, "k", incr(100)), Reply::Int(100));
    assert_eq!(three.write(1, "k", expire(WALL_MS + 5000)), Reply::Int(1));
    let held = missed_by(&mut three, 0, expire(WALL_MS + 500_000), &Reply::Int(1));
    pass(&mut three, 6000);
    three.write(0, "k", incr(1));
    arrive(&mut three, held);
    for node in 0..3 {
        assert_eq!(three.get(node, "k"), bulk("101"), "through {node}");
    }
}

#[test]
fn p3_an_increment_after_the_end_through_a_replica_that_missed_the_expire_stays() {
    let mut three = Replicas::three();
    assert_eq!(three.write(1, "k", incr(5)), Reply::Int(5));
    let held = missed_by(&mut three, 2, expire(WALL_MS + 2000), &Reply::Int(1));
    pass(&mut three, 6000);
    assert!(matches!(three.write(2, "k", incr(7)), Reply::Int(_)));
    for node in 0..3 {
        let shown = three.get(node, "k");
        assert!(
            shown == bulk("7") || shown == bulk("12"),
            "through {node}: {shown:?}"
        );
    }
    arrive(&mut three, held);
    three.live(0..3, 5);
    assert_ne!(three.get(0, "k"), Reply::Nil);
}

#[test]
fn p4_an_add_after_the_end_through_a_replica_that_missed_the_expire_stays() {
    let mut three = Replicas::three();
    three.write(1, "k", add(&["a"]));
    let held = missed_by(&mut three, 2, expire(WALL_MS + 2000), &Reply::Int(1));
    pass(&mut three, 6000);
    assert_eq!(three.write(2, "k", add(&["b"])), Reply::Int(1));
    for node in 0..3 {
        let there = three.read(
            node,
            "k",
            Read::AreMembers {
                members: vec![bytes("b")],
            },
        );
        assert_eq!(there, Reply::Array(vec![Reply::Int(1)]), "through {node}");
    }
    arrive(&mut three, held);
    three.live(0..3, 5);
    let there = three.read(
        0,
        "k",
        Read::AreMembers {
            members: vec![bytes("b")],
        },
    );
    assert_eq!(there, Reply::Array(vec![Reply::Int(1)]));
}

#[test]
fn p4_a_set_that_was_emptied_through_a_replica_that_missed_part_of_it_leaves_no_end_to_the_next_one()
 {
    let mut three = Replicas::three();
    three.write(0, "k", add(&["a", "b"]));
    let held = missed_by(&mut three, 2, expire(WALL_MS + 10_000), &Reply::Int(1));
    let more = missed_by(&mut three, 2, remove(&["b"]), &Reply::Int(1));
    // Here "b" is left; everywhere else nothing is.
    assert_eq!(three.write(2, "k", remove(&["a"])), Reply::Int(1));
    assert_eq!(three.read(0, "k", Read::Exists), Reply::Int(0));
    assert_eq!(three.read(2, "k", Read::Exists), Reply::Int(0));
    assert_eq!(three.write(2, "k", add(&["c"])), Reply::Int(1));
    arrive(&mut three, held);
    arrive(&mut three, more);
    pass(&mut three, 20_000);
    for node in 0..3 {
        let left = members(&three.read(node, "k", Read::Members));
        assert_eq!(left, of(&["c"]), "through {node}");
    }
}

#[test]
fn p4_a_set_that_two_regions_emptied_together_leaves_no_end_to_the_next_one() {
    let (mut us, mut eu) = pair();
    us.write("k", add(&["a", "b"]));
    us.write("k", expire(WALL_MS + 10_000));
    ship(&mut us, &mut eu, 1);
    us.write("k", remove(&["a"]));
    eu.write("k", remove(&["b"]));
    ship(&mut us, &mut eu, 3);
    ship(&mut eu, &mut us, 4);
    assert_eq!(us.read("k", Read::Exists), Reply::Int(0));
    assert_eq!(eu.read("k", Read::Exists), Reply::Int(0));
    // Both have all of that. What is made now is another key.
    assert_eq!(us.write("k", add(&["c"])), Reply::Int(1));
    ship(&mut us, &mut eu, 5);
    us.pass(20_000);
    eu.pass(20_000);
    assert_eq!(us.read("k", Read::Cardinality), Reply::Int(1));
    assert_eq!(eu.read("k", Read::Cardinality), Reply::Int(1));
}

#[test]
fn p3_a_delete_beside_an_expire_in_another_region_leaves_no_end_to_the_next_counter() {
    let (mut us, mut eu) = pair();
    us.write("k", set("v"));
    ship(&mut us, &mut eu, 1);
    assert_eq!(us.write("k", expire(WALL_MS + 10_000)), Reply::Int(1));
    assert_eq!(eu.write("k", Write::Delete), Reply::Int(1));
    ship(&mut us, &mut eu, 3);
    ship(&mut eu, &mut us, 4);
    assert_eq!(us.read("k", Read::Exists), Reply::Int(0));
    assert_eq!(us.write("k", incr(1)), Reply::Int(1));
    us.pass(20_000);
    assert_eq!(us.get("k"), bulk("1"), "no SET or DEL came after it");
}

#[test]
fn p3_a_delete_beside_an_expire_in_one_region_leaves_no_end_to_the_next_counter() {
    let mut three = Replicas::three();
    three.write(0, "k", set("v"));
    // Both are under way at once: EXPIRE is carried out through us-1, DEL through us-3, and us-2 hears DEL first.
    let expires = three.begin(0, "k", Action::Write(expire(WALL_MS + 10_000)));
    while three.nodes[0].storage_value("k").is_some()
        && !three.nodes[0]
            .sent
            .iter()
            .any(|(_, message)| matches!(message, Message::Ship(_)))
    {
        assert!(three.deliver_from(0) | three.deliver_from(1) | three.deliver_from(2));
    }
    let held = three.hold(0);
    let deletes = three.begin(2, "k", Action::Write(Write::Delete));
    three.cut.extend([(2, 0), (0, 2)]);
    three.deliver();
    assert_eq!(three.reply(2, deletes), Some(Reply::Int(1)));
    three.release(0, held);
    three.deliver();
    assert_eq!(three.reply(0, expires), Some(Reply::Int(1)));
    three.mend();
    three.live(0..3, 5);
    assert_eq!(three.read(1, "k", Read::Exists), Reply::Int(0));
    assert_eq!(three.write(1, "k", incr(1)), Reply::Int(1));
    pass(&mut three, 20_000);
    for node in 0..3 {
        assert_eq!(three.get(node, "k"), bulk("1"), "through {node}");
    }
}

/// The second node's clock is ahead, and it has a value with an end that the first one misses.
fn with_an_end_ahead() -> (Replicas, Held) {
    let mut three = Replicas::three();
    three.nodes[1].wall_ms = WALL_MS + 600;
    three.cut_off(0);
    let ends = SetExpiry::At(WALL_MS + 5000);
    assert_eq!(three.write(1, "k", set_with("x", ends)), Reply::Ok);
    let held = three.hold(1);
    three.cut.clear();
    (three, held)
}

#[test]
fn p7_a_set_that_a_later_expire_put_an_end_to_is_not_ended_by_the_end_of_an_earlier_set() {
    let (mut three, held) = with_an_end_ahead();
    let a = three.begin(0, "k", Action::Write(set("a")));
    let b = three.nodes[0].request_at("k", Action::Write(expire(WALL_MS + 100_000)), ONE);
    three.nodes[0].close();
    three.deliver();
    assert_eq!(three.reply(0, a), Some(Reply::Ok));
    assert_eq!(three.reply(0, b), Some(Reply::Int(1)));
    three.release(1, held);
    pass(&mut three, 20_000);
    for node in 0..3 {
        assert_eq!(three.get(node, "k"), bulk("a"), "through {node}");
    }
}

#[test]
fn p7_a_set_that_one_at_one_replaced_is_not_ended_by_the_end_of_an_earlier_set() {
    let (mut three, held) = with_an_end_ahead();
    let a = three.begin(0, "k", Action::Write(set("a")));
    let b = three.nodes[0].request_at("k", Action::Write(set("b")), ONE);
    three.nodes[0].close();
    three.deliver();
    assert_eq!(three.reply(0, a), Some(Reply::Ok));
    assert_eq!(three.reply(0, b), Some(Reply::Ok));
    three.release(1, held);
    for node in 0..3 {
        assert_eq!(three.get(node, "k"), bulk("b"), "through {node}");
    }
    pass(&mut three, 20_000);
    for node in 0..3 {
        assert_eq!(three.get(node, "k"), bulk("b"), "later, through {node}");
    }
}

#[test]
fn p7_a_set_is_not_ended_by_the_end_of_an_earlier_set() {
    let (mut three, held) = with_an_end_ahead();
    assert_eq!(three.write(0, "k", set("a")), Reply::Ok);
    three.release(1, held);
    pass(&mut three, 20_000);
    for node in 0..3 {
        assert_eq!(three.get(node, "k"), bulk("a"), "through {node}");
    }
}

#[test]
fn an_element_that_was_added_before_the_end_does_not_come_back_after_it() {
    let mut three = Replicas::three();
    three.write(0, "k", add(&["a"]));
    assert_eq!(three.write(0, "k", expire(WALL_MS + 5000)), Reply::Int(1));
    let held = missed_by(&mut three, 0, add(&["b"]), &Reply::Int(1));
    three.cut_off(0);
    pass(&mut three, 6000);
    for node in 1..3 {
        assert_eq!(three.read(node, "k", Read::Exists), Reply::Int(0));
    }
    three.nodes[0].tick();
    three.cut.clear();
    arrive(&mut three, held);
    three.live(0..3, 5);
    for node in 0..3 {
        let exists = three.read(node, "k", Read::Exists);
        assert_eq!(exists, Reply::Int(0), "through {node}: nobody wrote since");
    }
}

#[test]
fn p3_a_set_that_a_delete_at_one_replaced_leaves_no_end_of_an_earlier_set_to_the_next_counter() {
    let (mut three, held) = with_an_end_ahead();
    let a = three.begin(0, "k", Action::Write(set("a")));
    let b = three.nodes[0].request_at("k", Action::Write(Write::Delete), ONE);
    three.nodes[0].close();
    three.deliver();
    assert_eq!(three.reply(0, a), Some(Reply::Ok));
    assert_eq!(three.reply(0, b), Some(Reply::Int(1)));
    three.release(1, held);
    assert_eq!(three.get(0, "k"), Reply::Nil);
    assert_eq!(three.write(0, "k", incr(1)), Reply::Int(1));
    pass(&mut three, 20_000);
    for node in 0..3 {
        assert_eq!(three.get(node, "k"), bulk("1"), "through {node}");
    }
}

/// A node whose clock differs from the majority's refuses writes. Ends are writes too.
#[test]
fn p7_a_node_that_refuses_writes_for_its_clock_ends_no_key_by_it() {
    let mut three = Replicas::three();
    three.write(0, "k", set("v"));
    let at = core_support::WALL_MS + 1_800_000;
    assert_eq!(three.write(0, "k", expire(at)), Reply::Int(1));
    three.live(0..3, 5);
    // Its clock was set wrong before it started again, and the others say so.
    three.nodes[0].input(node::core::Input::ClockSkew(Some(
        "an hour ahead".to_owned(),
    )));
    three.nodes[0].wall_ms += 3_600_000;
    three.live(0..3, 20);
    // The operator sets it right.
    three.nodes[0].wall_ms -= 3_600_000;
    three.nodes[0].input(node::core::Input::ClockSkew(None));
    three.live(0..3, 20);
    for node in 1..3 {
        assert_eq!(three.get(node, "k"), bulk("v"), "through {node}");
    }
}

/// What an add is told of the expiry is no news to the removal before it, which saw no element of the others.
#[test]
fn p7_an_expiry_is_not_ended_by_a_removal_with_an_add_behind_it_through_a_replica_that_missed_both()
{
    let mut three = Replicas::three();
    let at = WALL_MS + 60_000;
    let mut held = missed_by(&mut three, 0, add(&["a", "b"]), &Reply::Int(2));
    held.extend(missed_by(&mut three, 0, expire(at), &Reply::Int(1)));
    let removed = three.nodes[0].request("k", Action::Write(remove(&["a"])));
    let added = three.nodes[0].request("k", Action::Write(add(&["c"])));
    three.nodes[0].close();
    three.deliver();
    three.live(0..3, 5);
    assert_eq!(three.reply(0, removed), Some(Reply::Int(1)));
    assert_eq!(three.reply(0, added), Some(Reply::Int(1)));
    for node in 0..3 {
        let ends = three.read(node, "k", Read::ExpiresAtMs);
        assert_eq!(ends, Reply::Int(at as i64), "through {node}");
    }
}

/// An increment after the end of a text is refused for that, by a replica that has not heard of the end yet.
#[test]
fn p7_an_increment_is_not_refused_for_text_that_has_ended() {
    let mut three = Replicas::three();
    three.write(0, "k", set_with("text", SetExpiry::At(WALL_MS + 5000)));
    three.live(0..3, 5);
    // us-3 does not hear that the key has ended.
    three.cut_off(2);
    pass(&mut three, 10_000);
    three.live(0..3, 10);
    assert_eq!(three.get(0, "k"), Reply::Nil);
    let held: Vec<Held> = (0..3).map(|node| three.hold(node)).collect();
    three.cut.clear();
    three.cut_off(1); // and answers first
    let counted = three.begin(0, "k", Action::Write(incr(1)));
    // The rows of the end come on the stream before the increment: in one message, or lost and declined.
    three.deliver();
    three.live(0..3, 10);
    three.mend();
    three.live(0..3, 10);
    let reply = three.reply(0, counted);
    arrive(&mut three, held);
    assert_eq!(reply, Some(Reply::Int(1)));
}

/// An INCR through us-2, which did not end the key itself.
#[test]
fn p7_an_increment_is_not_refused_for_text_that_another_replica_ended() {
    let mut three = Replicas::three();
    three.write(0, "k", set_with("text", SetExpiry::At(WALL_MS + 5000)));
    three.live(0..3, 5);
    three.cut.extend([(0, 2), (2, 0)]);
    pass(&mut three, 10_000);
    three.live(0..3, 20);
    three.cut_off(0); // us-3 still has not heard of the end, us-2 has.
    let counted = three.begin(1, "k", Action::Write(incr(1)));
    three.deliver();
    three.live(1..3, 10);
    let reply = three.reply(1, counted);
    let shown = (
        three.nodes[1].storage_value("k"),
        three.nodes[2].storage_value("k"),
    );
    assert_eq!(reply, Some(Reply::Int(1)), "{shown:?}");
}

/// Elements are left that the replica does not know: the end of the set is still to come.
#[test]
fn a_removal_through_a_replica_that_missed_an_element_ends_no_expiry() {
    let mut three = Replicas::three();
    let at = WALL_MS + 60_000;
    three.write(0, "k", add(&["a"]));
    assert_eq!(three.write(0, "k", expire(at)), Reply::Int(1));
    three.live(0..3, 3);
    let held = missed_by(&mut three, 0, add(&["b"]), &Reply::Int(1));
    assert_eq!(three.write(0, "k", remove(&["a"])), Reply::Int(1));
    for node in 0..3 {
        let ends = three.read(node, "k", Read::ExpiresAtMs);
        assert_eq!(ends, Reply::Int(at as i64), "through {node}");
    }
    drop(held);
}

/// What us-1 has heard of a set of others is only that it will end.
fn knows_only_the_end(first: Write) -> (Replicas, Vec<Held>, u64) {
    let mut three = Replicas::three();
    let at = WALL_MS + 60_000;
    // Through us-2; us-1 hears nothing.
    let held = missed_by(&mut three, 0, first, &Reply::Int(1));
    // Through us-3: all hear of it.
    assert_eq!(three.write(2, "k", expire(at)), Reply::Int(1));
    three.live(0..3, 2);
    (three, held, at)
}

#[test]
fn an_add_through_a_replica_that_knows_only_the_expiry_does_not_end_that() {
    for (first, second) in [(add(&["a"]), add(&["b"])), (incr(1), incr(1))] {
        let (mut three, held, at) = knows_only_the_end(first);
        let added = three.write(0, "k", second);
        for node in 0..3 {
            let ends = three.read(node, "k", Read::ExpiresAtMs);
            assert_eq!(ends, Reply::Int(at as i64), "through {node}; {added:?}");
        }
        drop(held);
    }
}

#[test]
fn a_removal_of_nothing_through_a_replica_that_knows_only_the_expiry_does_not_end_that() {
    let (mut three, held, at) = knows_only_the_end(add(&["a"]));
    assert_eq!(three.write(0, "k", remove(&["x"])), Reply::Int(0));
    for node in 0..3 {
        let ends = three.read(node, "k", Read::ExpiresAtMs);
        assert_eq!(ends, Reply::Int(at as i64), "through {node}");
    }
    drop(held);
}

/// A string that has ended does not come back behind a set that was made after it.
#[test]
fn what_has_ended_does_not_come_back_behind_a_value_of_another_type() {
    let mut three = Replicas::three();
    let held = missed_by(
        &mut three,
        0,
        set_with("v", SetExpiry::At(WALL_MS + 5000)),
        &Reply::Ok,
    );
    pass(&mut three, 5500);
    assert_eq!(three.write(0, "k", add(&["a"])), Reply::Int(1));
    three.live(0..3, 40);
    assert_eq!(three.write(0, "k", remove(&["a"])), Reply::Int(1));
    for node in 0..3 {
        assert_eq!(three.get(node, "k"), Reply::Nil, "through {node}");
    }
    drop(held);
}

#[test]
fn p7_an_increment_is_not_refused_for_text_whose_time_is_up() {
    let mut three = Replicas::three();
    let held = missed_by(
        &mut three,
        0,
        set_with("v", SetExpiry::At(WALL_MS + 5000)),
        &Reply::Ok,
    );
    pass(&mut three, 5500);
    assert_eq!(three.write(0, "k", incr(1)), Reply::Int(1));
    drop(held);
}

/// An expiry that ended with the set of that time does not come back to the next one: EXPIRE, SREM of the last element, SADD in one pipeline;
/// another client's EXPIRE runs beside it.
#[test]
fn an_expire_that_ended_with_its_set_is_not_done_again_over_the_next_one() {
    let mut three = Replicas::three();
    three.write(0, "k", add(&["a"]));
    three.live(0..3, 2);
    three.nodes[1].wall_ms += 500;
    // The question of EXPIRE is answered; then the other client's EXPIRE is acknowledged.
    let at = WALL_MS + 60_000;
    let first = three.nodes[0].request("k", Action::Write(expire(at)));
    let second = three.nodes[0].request("k", Action::Write(remove(&["a"])));
    let third = three.nodes[0].request("k", Action::Write(add(&["b"])));
    three.nodes[0].close();
    let questions = three.hold(0);
    let mut whom = 0;
    for (session, message) in questions {
        whom = session.0 as usize % 10;
        three.take(whom, true, session, message);
    }
    for (session, message) in three.hold(whom) {
        three.take(0, false, session, message);
    }
    let rows = three.hold(0);
    assert!(!rows.is_empty());
    three.cut_off(0);
    let other = three.begin(1, "k", Action::Write(expire(WALL_MS + 100_000)));
    three.deliver();
    three.live(1..3, 3);
    assert_eq!(three.reply(1, other), Some(Reply::Int(1)));
    three.cut.clear();
    three.release(0, rows);
    three.live(0..3, 10);
    let replies = (
        three.reply(0, first),
        three.reply(0, second),
        three.reply(0, third),
    );
    let ends = three.read(0, "k", Read::ExpiresAtMs);
    let shown = members(&three.read(0, "k", Read::Members));
    assert!(
        ends == Reply::Int(-1) || ends == Reply::Int(WALL_MS as i64 + 100_000),
        "{ends:?} {replies:?} {shown:?}"
    );
}
