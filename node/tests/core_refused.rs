//! Goal: an addition that is refused for a value of another type, or comes to nothing, leaves no trace; what was acknowledged beside it stays,
//! and is not hidden for good.
//!
//! Method: three replicas of one region, or two regions, message by message; one of them adds to a key without having heard what is there.

#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, its helpers too"
)]

mod core_support;

use core_support::{
    add, bulk, incr,
    missed::{Held, ONE, arrive, members, missed_by, of, only, pass},
    remove,
    replicas::Replicas,
    set,
};
use node::core::{
    op::{Action, Read, Write},
    reply::{Refusal, Reply},
};

/// P3. An increment that is refused for a set takes back what was acknowledged before it.
#[test]
fn p3_a_refused_increment_takes_back_only_itself() {
    let mut three = Replicas::three();
    let held = missed_by(&mut three, 2, incr(5), &Reply::Int(5)); // through us-1, us-3 misses it
    // SADD at ONE through us-3: it knows of no counter.
    three.cut_off(0);
    let added = three.nodes[2].request_at("k", Action::Write(add(&["a"])), ONE);
    three.nodes[2].close();
    three.deliver(); // to us-2
    assert_eq!(three.reply(2, added), Some(Reply::Int(1)));
    let later = (0..3).map(|node| three.hold(node)).collect::<Vec<Held>>();
    three.cut.clear();
    let refused = three.begin(0, "k", Action::Write(incr(1)));
    three.deliver();
    three.live(0..3, 5);
    let refused = three.reply(0, refused);
    arrive(&mut three, held);
    arrive(&mut three, later);
    three.live(0..3, 40);
    let removed = three.write(0, "k", remove(&["a"]));
    three.live(0..3, 5);
    // Where what was counted before is not over, the increment stays with it and is not refused.
    let expected = match refused {
        Some(Reply::Int(6)) => "6",
        _ => "5",
    };
    for node in 0..3 {
        let left = three.get(node, "k");
        assert_eq!(
            left,
            bulk(expected),
            "through {node}; {refused:?}, {removed:?}"
        );
    }
}

/// DEL of a string was acknowledged; one replica missed it, and it teaches SADD of the string. Behind SADD the connection SETs.
#[test]
fn p7_an_add_is_not_refused_for_a_string_that_was_deleted_where_its_connection_sets_one_after_it() {
    let mut three = Replicas::three();
    three.write(0, "k", set("0"));
    let held = missed_by(&mut three, 0, Write::Delete, &Reply::Int(1)); // through us-2, with us-3
    let added = three.nodes[2].request("k", Action::Write(add(&["a"])));
    let over = three.nodes[2].request("k", Action::Write(set("1")));
    three.nodes[2].close();
    three.deliver();
    three.live(0..3, 5);
    assert_eq!(three.reply(2, over), Some(Reply::Ok));
    assert_eq!(three.reply(2, added), Some(Reply::Int(1)));
    drop(held);
}

/// An increment with a DEL behind it is not refused for the text that it came to.
#[test]
fn p7_an_increment_with_a_delete_behind_it_is_refused_for_text_that_was_there() {
    let mut three = Replicas::three();
    let held = missed_by(&mut three, 0, set("text"), &Reply::Ok);
    let counted = three.nodes[0].request("k", Action::Write(incr(1)));
    let deleted = three.nodes[0].request("k", Action::Write(Write::Delete));
    three.nodes[0].close();
    three.deliver();
    three.live(0..3, 5);
    assert_eq!(three.reply(0, deleted), Some(Reply::Int(1)));
    assert_eq!(
        three.reply(0, counted),
        Some(Reply::Error(Refusal::NotAnInteger))
    );
    drop(held);
}

/// SADD a; DEL; INCR: the first answer is lost, the rows are sent again.
#[test]
fn p7_an_add_is_not_refused_for_the_counter_that_its_connection_began_after_it() {
    let mut three = Replicas::three();
    let added = three.begin(0, "k", Action::Write(add(&["a"])));
    let deleted = three.begin(0, "k", Action::Write(Write::Delete));
    let counted = three.begin(0, "k", Action::Write(incr(1)));
    three.deliver_from(0);
    for node in 1..3 {
        three.nodes[node].returned.clear();
    }
    three.deliver();
    three.live(0..3, 10);
    assert_eq!(three.reply(0, deleted), Some(Reply::Int(1)));
    assert_eq!(three.reply(0, counted), Some(Reply::Int(1)));
    assert_eq!(three.reply(0, added), Some(Reply::Int(1)));
}

/// An element that is added again while the key shows a string elsewhere.
#[test]
fn p4_a_refused_add_takes_back_only_itself() {
    let mut three = Replicas::three();
    let held = missed_by(&mut three, 2, add(&["a"]), &Reply::Int(1)); // through us-1
    three.cut_off(0);
    let counted = three.nodes[2].request_at("k", Action::Write(incr(1)), ONE);
    three.nodes[2].close();
    three.deliver();
    assert_eq!(three.reply(2, counted), Some(Reply::Int(1)));
    let later = (0..3).map(|node| three.hold(node)).collect::<Vec<Held>>();
    three.cut.clear();
    let refused = three.begin(0, "k", Action::Write(add(&["a"])));
    three.deliver();
    three.live(0..3, 5);
    let refused = three.reply(0, refused);
    arrive(&mut three, held);
    arrive(&mut three, later);
    three.live(0..3, 40);
    let rows: Vec<usize> = three.nodes.iter().map(|node| node.rows()).collect();
    assert_eq!(rows, [1, 1, 1], "{refused:?}");
}

/// P3, all at the default level: a counter in eu, a set in us that had not heard of it. One of eu has not heard of the set when it adds
/// again.
#[test]
fn p3_a_refused_increment_takes_back_only_itself_across_regions() {
    for deaf in 1..4 {
        let mut world = core_support::missed::two_regions(core_support::UNBOUNDED);
        // us-1 is 0, eu-1.. are 1..=3. The ocean is cut.
        world.cut_off(0);
        let counted = world.begin(deaf, "k", Action::Write(incr(5)));
        world.deliver();
        world.live(0..4, 3);
        assert_eq!(world.reply(deaf, counted), Some(Reply::Int(5)));
        world.nodes[0].pass(50);
        let added = world.begin(0, "k", Action::Write(add(&["a"])));
        world.deliver();
        assert_eq!(world.reply(0, added), Some(Reply::Int(1)));
        world.cut.clear();
        // The ocean is whole again, but one of eu hears of nobody.
        for other in (0..4).filter(|other| *other != deaf) {
            world.cut.extend([(deaf, other), (other, deaf)]);
        }
        world.live(0..4, 10);
        let held: Vec<Held> = (0..4)
            .map(|node| {
                if node == deaf {
                    vec![]
                } else {
                    world.hold(node)
                }
            })
            .collect();
        world.cut.clear();
        let again = world.begin(deaf, "k", Action::Write(incr(1)));
        world.deliver();
        world.live(0..4, 3);
        let again = world.reply(deaf, again);
        arrive(&mut world, held);
        world.live(0..4, 40);
        let kinds: Vec<Reply> = (0..4)
            .map(|node| world.read(node, "k", Read::Type))
            .collect();
        let removed = world.write(0, "k", remove(&["a"]));
        world.live(0..4, 40);
        for node in 0..4 {
            let left = world.get(node, "k");
            assert!(
                left == bulk("5") || left == bulk("6"),
                "through {node} {left:?}; deaf {deaf} {again:?}, {kinds:?}, {removed:?}"
            );
        }
    }
}

/// P1, P7. A string that was acknowledged; SADD through one that missed it; that one is killed before it takes that back.
#[test]
fn p1_a_string_that_was_acknowledged_is_not_hidden_by_an_add_whose_coordinator_was_killed() {
    let mut three = Replicas::three();
    let held = missed_by(&mut three, 0, set("v"), &Reply::Ok);
    three.begin(0, "k", Action::Write(add(&["a"])));
    only(&mut three, 0, 1); // its row gets as far as us-2
    three.lose(0);
    three.nodes[0].restart();
    three.join();
    three.live(0..3, 40);
    for node in 0..3 {
        assert_eq!(three.get(node, "k"), bulk("v"), "through {node}");
    }
    drop(held);
}

#[test]
fn p1_a_set_that_was_acknowledged_is_not_hidden_by_an_increment_whose_coordinator_was_killed() {
    let mut three = Replicas::three();
    let held = missed_by(&mut three, 0, add(&["a"]), &Reply::Int(1));
    three.begin(0, "k", Action::Write(incr(1)));
    only(&mut three, 0, 1);
    three.lose(0);
    three.nodes[0].restart();
    three.join();
    three.live(0..3, 40);
    for node in 0..3 {
        let shown = three.read(node, "k", Read::Members);
        assert_eq!(shown, Reply::Set(vec![bulk("a")]), "through {node}");
    }
    drop(held);
}

/// P7. Nobody dies: SADD is told that nobody knows what comes of it, and arrives afterwards.
#[test]
fn p7_a_string_that_was_acknowledged_is_not_hidden_by_an_add_that_timed_out() {
    let mut three = Replicas::three();
    let held = missed_by(&mut three, 0, set("v"), &Reply::Ok);
    let added = three.begin(0, "k", Action::Write(add(&["a"])));
    three.cut_off(0);
    three.live(0..3, 25);
    let reply = three.reply(0, added);
    assert!(
        matches!(reply, Some(Reply::Error(Refusal::Timeout(_)))),
        "{reply:?}"
    );
    three.mend();
    three.live(0..3, 100);
    arrive(&mut three, held);
    three.live(0..3, 40);
    for node in 0..3 {
        assert_eq!(three.get(node, "k"), bulk("v"), "through {node}");
    }
}

/// An addition that will be refused, and its node goes on under another number.
#[test]
fn p7_a_string_that_was_acknowledged_is_not_hidden_by_an_add_whose_node_renewed_its_number() {
    let mut three = Replicas::three();
    let held = missed_by(&mut three, 0, set("v"), &Reply::Ok);
    let added = three.begin(0, "k", Action::Write(add(&["a"])));
    three.nodes[0].renew(99);
    three.nodes[0].close();
    three.deliver();
    three.live(0..3, 40);
    arrive(&mut three, held);
    three.live(0..3, 40);
    let reply = three.reply(0, added);
    for node in 0..3 {
        assert_eq!(three.get(node, "k"), bulk("v"), "through {node}; {reply:?}");
    }
}

/// An addition that will be refused, and its node is stopped in an orderly way.
#[test]
fn p7_a_string_that_was_acknowledged_is_not_hidden_by_an_add_whose_node_stopped() {
    let mut three = Replicas::three();
    let held = missed_by(&mut three, 0, set("v"), &Reply::Ok);
    three.begin(0, "k", Action::Write(add(&["a"])));
    only(&mut three, 0, 1);
    three.nodes[0].input(node::core::Input::Stop);
    three.lose(0);
    three.nodes[0].restart();
    three.join();
    three.live(0..3, 40);
    for node in 0..3 {
        assert_eq!(three.get(node, "k"), bulk("v"), "through {node}");
    }
    drop(held);
}

/// An addition that will be refused; its node loses its sessions for a second, and is told that its level cannot be met.
#[test]
fn p7_a_string_that_was_acknowledged_is_not_hidden_by_an_add_that_was_refused_for_its_level() {
    let mut three = Replicas::three();
    let held = missed_by(&mut three, 0, set("v"), &Reply::Ok);
    let added = three.begin(0, "k", Action::Write(add(&["a"])));
    only(&mut three, 0, 1);
    three.nodes[1].returned.clear();
    three.lose(0);
    three.live(0..3, 8);
    let reply = three.reply(0, added);
    assert!(
        matches!(reply, Some(Reply::Error(Refusal::NoQuorum { .. }))),
        "{reply:?}"
    );
    three.join();
    three.live(0..3, 40);
    for node in 0..3 {
        assert_eq!(three.get(node, "k"), bulk("v"), "through {node}; {reply:?}");
    }
    drop(held);
}

/// P3, one region, every command at the default level, nobody dies: us-2 is behind, and adds an element that will be refused. What us-1 adds
/// meanwhile to its counter is refused for that element, and takes with it what was acknowledged before.
#[test]
fn p3_an_increment_that_was_acknowledged_stays_whatever_is_refused_after_it() {
    let mut three = Replicas::three();
    let _held = missed_by(&mut three, 1, incr(5), &Reply::Int(5)); // through us-3
    let added = three.begin(1, "k", Action::Write(add(&["a"])));
    let rows = three.hold(1);
    let again = three.begin(0, "k", Action::Write(incr(1)));
    only(&mut three, 0, 1); // both increments arrive at us-2
    for (session, message) in std::mem::take(&mut three.nodes[1].returned) {
        three.take(0, false, session, message);
    }
    three.deliver();
    three.release(1, rows);
    three.live(0..3, 10);
    let replies = (three.reply(0, again), three.reply(1, added));
    three.live(0..3, 40);
    // Whatever the type is now: without the element the counter is there.
    let removed = three.write(0, "k", remove(&["a"]));
    three.live(0..3, 5);
    for node in 0..3 {
        let left = three.get(node, "k");
        assert!(
            left == bulk("5") || left == bulk("6"),
            "through {node}: {left:?}; {replies:?}, {removed:?}"
        );
    }
}

#[test]
fn p4_an_element_that_was_acknowledged_stays_whatever_is_refused_after_it() {
    let mut three = Replicas::three();
    let _held = missed_by(&mut three, 1, add(&["a"]), &Reply::Int(1)); // through us-3
    let counted = three.begin(1, "k", Action::Write(incr(1)));
    let rows = three.hold(1);
    let again = three.begin(0, "k", Action::Write(add(&["a"])));
    only(&mut three, 0, 1);
    for (session, message) in std::mem::take(&mut three.nodes[1].returned) {
        three.take(0, false, session, message);
    }
    three.deliver();
    three.release(1, rows);
    three.live(0..3, 10);
    let replies = (three.reply(0, again), three.reply(1, counted));
    three.live(0..3, 40);
    let rows: Vec<usize> = three.nodes.iter().map(|node| node.rows()).collect();
    assert_eq!(rows, [1, 1, 1], "{replies:?}; {:?}", three.get(0, "k"));
}

/// Two types met under one key, the set is shown, the string is hidden; everybody knows both.
fn with_two_types(is_set_shown: bool) -> Replicas {
    let mut three = Replicas::three();
    let (first, second) = match is_set_shown {
        true => (set("v"), add(&["a"])),
        false => (add(&["a"]), incr(1)),
    };
    three.cut_off(0);
    three.cut_off(1);
    let one = three.nodes[1].request_at("k", Action::Write(first), ONE);
    three.nodes[1].close();
    pass(&mut three, 50);
    let two = three.nodes[0].request_at("k", Action::Write(second), ONE);
    three.nodes[0].close();
    assert!(three.reply(1, one).is_some() && three.reply(0, two).is_some());
    three.mend();
    three.live(0..3, 10);
    three
}

#[test]
fn p7_a_string_that_was_acknowledged_is_not_hidden_by_an_add_beside_an_older_one() {
    let mut three = with_two_types(true);
    for node in 0..3 {
        assert_eq!(three.read(node, "k", Read::Type), Reply::Simple("set"));
    }
    let held = missed_by(&mut three, 0, set("w"), &Reply::Ok);
    assert_eq!(three.get(1, "k"), bulk("w"));
    let (mut three, held) = {
        // The read may have told us-1: once more without one.
        drop((three, held));
        let mut three = with_two_types(true);
        let held = missed_by(&mut three, 0, set("w"), &Reply::Ok);
        (three, held)
    };
    let added = three.write(0, "k", add(&["b"]));
    three.live(0..3, 10);
    for node in 0..3 {
        assert_eq!(three.get(node, "k"), bulk("w"), "through {node}; {added:?}");
    }
    drop(held);
}

#[test]
fn p4_a_set_that_was_acknowledged_is_not_hidden_by_an_increment_beside_an_older_one() {
    let mut three = with_two_types(false);
    assert_eq!(three.read(0, "k", Read::Type), Reply::Simple("string"));
    // It is made a set: DEL, SADD.
    let mut held = missed_by(&mut three, 0, Write::Delete, &Reply::Int(1));
    held.extend(missed_by(&mut three, 0, add(&["n"]), &Reply::Int(1)));
    let counted = three.write(0, "k", incr(1));
    three.live(0..3, 10);
    for node in 0..3 {
        let shown = three.read(node, "k", Read::Members);
        assert_eq!(
            shown,
            Reply::Set(vec![bulk("n")]),
            "through {node}; {counted:?}"
        );
    }
    drop(held);
}

/// INCR behind SET, both at a quorum: what came by a stream between them.
#[test]
fn p7_an_increment_behind_a_set_counts_on_what_the_connection_wrote() {
    let mut three = Replicas::three();
    three.nodes[1].wall_ms += 500;
    let held = missed_by(&mut three, 0, set("70"), &Reply::Ok);
    let written = three.begin(0, "k", Action::Write(set("5")));
    let rows = three.hold(0);
    arrive(&mut three, held);
    let counted = three.nodes[0].request("k", Action::Write(incr(1)));
    three.nodes[0].close();
    three.release(0, rows);
    three.live(0..3, 10);
    assert_eq!(three.reply(0, written), Some(Reply::Ok));
    let counted = three.reply(0, counted);
    for node in 0..3 {
        assert_eq!(three.get(node, "k"), bulk("6"), "through {node}");
    }
    assert_eq!(counted, Some(Reply::Int(6)));
}

/// DEL behind SADD and INCR: the reply, and what is left.
#[test]
fn p4_an_add_behind_a_delete_is_not_refused_for_a_string_that_comes_by_a_stream_between_them() {
    let mut three = Replicas::three();
    three.nodes[1].wall_ms += 500;
    let held = missed_by(&mut three, 0, set("v"), &Reply::Ok);
    let deleted = three.begin(0, "k", Action::Write(Write::Delete));
    let rows = three.hold(0);
    arrive(&mut three, held);
    let added = three.nodes[0].request("k", Action::Write(add(&["a"])));
    three.nodes[0].close();
    three.release(0, rows);
    three.live(0..3, 10);
    let replies = (three.reply(0, deleted), three.reply(0, added));
    assert_eq!(replies, (Some(Reply::Int(1)), Some(Reply::Int(1))));
    for node in 0..3 {
        assert_eq!(
            members(&three.read(node, "k", Read::Members)),
            of(&["a"]),
            "through {node}"
        );
    }
}

/// What would be refused asks first: also what overflows. The others have a smaller number.
#[test]
fn p7_an_increment_does_not_overflow_what_was_overwritten() {
    let mut three = Replicas::three();
    assert_eq!(three.write(0, "k", set("9223372036854775807")), Reply::Ok);
    three.live(0..3, 10);
    let held = missed_by(&mut three, 0, set("5"), &Reply::Ok);
    assert!(matches!(three.write(0, "k", incr(1)), Reply::Int(_)));
    assert_eq!(three.get(0, "k"), bulk("6"));
    drop(held);
}
