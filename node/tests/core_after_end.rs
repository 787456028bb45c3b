//! Goal: what is written after the end of a key stays, and what has ended does not come back.
//!
//! Method: three replicas of one region, message by message; who writes has not heard of everything.

#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, its helpers too"
)]

mod core_support;

use core_support::{
    WALL_MS, add, bulk, bytes, incr,
    missed::{
        Held, answers_held, arrive, carry, expire, give, is_ship, members, missed_by, only, pass,
        pick, put, set_with, setnx,
    },
    remove,
    replicas::Replicas,
    set,
};
use node::core::{
    op::{Action, Read, SetExpiry, Write},
    reply::Reply,
};

fn types(three: &mut Replicas) -> Vec<Reply> {
    (0..3)
        .map(|node| three.read(node, "k", Read::Type))
        .collect()
}

/// "A key that has ended is asked about before it is ended, and before anything is written to it": the question was answered before the end,
/// a PERSIST was acknowledged well before the end, and the write is carried out after it. Also where the key has been written to so often meanwhile
/// that it is not asked about again for that.
#[test]
fn p1_a_persist_before_the_end_stands_beside_a_write_that_asked_before_it() {
    let append = Write::Append { value: bytes("x") };
    let set_range = Write::SetRange {
        offset: 1,
        value: bytes("x"),
    };
    let writes = [setnx("w"), append, set_range];
    for (write, changes) in writes.iter().flat_map(|write| [(write, 0), (write, 2)]) {
        let mut three = Replicas::three();
        let at = WALL_MS + 5000;
        let begun = three.write(0, "k", set_with("5", SetExpiry::At(at)));
        assert_eq!(begun, Reply::Ok);
        three.live(0..3, 10);
        let now = three.nodes[0].wall_ms;
        pass(&mut three, at - now - 900);
        let asked = three.begin(0, "k", Action::Write(write.clone()));
        for change in 0..changes {
            let answers = answers_held(&mut three, 0);
            let counted = three.begin(2, "k", Action::Write(incr(1)));
            three.deliver();
            assert_eq!(three.reply(2, counted), Some(Reply::Int(6 + change)));
            pass(&mut three, 10);
            give(&mut three, 0, answers);
            assert_eq!(three.reply(0, asked), None);
        }
        let answers = answers_held(&mut three, 0);
        three.cut_off(0);
        assert_eq!(three.write(1, "k", Write::Persist), Reply::Int(1));
        assert!(three.nodes[1].wall_ms + 500 < at, "well before the end");
        let now = three.nodes[0].wall_ms;
        pass(&mut three, at + 1 - now);
        give(&mut three, 0, answers);
        three.mend();
        three.live(0..3, 10);
        let reply = three.reply(0, asked);
        let left: Vec<Reply> = (0..3).map(|node| three.get(node, "k")).collect();
        let good = ["", "x"].map(|end| bulk(&format!("{}{end}", 5 + changes)));
        assert!(
            left.iter().all(|left| good.contains(left)),
            "{write:?}, {changes} changes: {reply:?} {left:?}"
        );
    }
}

/// SADD through a replica that missed that the set was replaced by a string, which has ended since.
#[test]
fn p4_an_add_after_the_end_of_a_string_that_replaced_the_set_stays() {
    let mut three = Replicas::three();
    assert_eq!(three.write(0, "k", add(&["b"])), Reply::Int(1));
    three.live(0..3, 10);
    let at = three.nodes[0].wall_ms + 1000;
    let held = missed_by(&mut three, 0, set_with("v", SetExpiry::At(at)), &Reply::Ok);
    pass(&mut three, 2000);
    let added = three.write(0, "k", add(&["a"]));
    three.live(0..3, 10);
    arrive(&mut three, held);
    three.live(0..3, 10);
    let types = types(&mut three);
    let value = three.get(1, "k");
    assert_eq!(added, Reply::Int(1));
    assert_eq!(types, vec![Reply::Simple("set"); 3], "{value:?}");
}

/// The same with text and a counter.
#[test]
fn p3_an_increment_after_the_end_of_text_begins_anew() {
    let mut three = Replicas::three();
    assert_eq!(three.write(0, "k", set("5")), Reply::Ok);
    three.live(0..3, 10);
    let at = three.nodes[0].wall_ms + 1000;
    let held = missed_by(
        &mut three,
        0,
        set_with("text", SetExpiry::At(at)),
        &Reply::Ok,
    );
    pass(&mut three, 2000);
    let counted = three.write(0, "k", incr(1));
    three.live(0..3, 10);
    arrive(&mut three, held);
    three.live(0..3, 10);
    let left: Vec<Reply> = (0..3).map(|node| three.get(node, "k")).collect();
    assert!(
        left.iter().all(|left| *left != bulk("text")),
        "{counted:?} {left:?}"
    );
}

/// DEL of a key that has ended deletes nothing.
#[test]
fn p7_a_delete_of_a_key_that_has_ended_deletes_nothing() {
    let mut three = Replicas::three();
    let at = three.nodes[0].wall_ms + 1000;
    let held = missed_by(&mut three, 0, set_with("v", SetExpiry::At(at)), &Reply::Ok);
    pass(&mut three, 2000);
    let deleted = three.write(0, "k", Write::Delete);
    assert_eq!(deleted, Reply::Int(0));
    drop(held);
}

/// SREM of an element of a key that has ended removes nothing.
#[test]
fn p7_a_removal_from_a_key_that_has_ended_removes_nothing() {
    let mut three = Replicas::three();
    let at = three.nodes[0].wall_ms + 1000;
    let mut held = missed_by(&mut three, 0, add(&["a"]), &Reply::Int(1));
    held.extend(missed_by(&mut three, 0, expire(at), &Reply::Int(1)));
    pass(&mut three, 2000);
    let removed = three.write(0, "k", remove(&["a"]));
    assert_eq!(removed, Reply::Int(0));
    drop(held);
}

/// "A value that is written after the end stays": an addition through a replica that had the value and had not heard of its expiry, while the
/// one that set the expiry asks whether the key ends.
#[test]
fn p1_an_addition_beside_the_end_of_its_key_stays() {
    for (value, addition) in [(set("5"), incr(1)), (add(&["a"]), add(&["b"]))] {
        let mut three = Replicas::three();
        three.write(0, "k", value);
        three.live(0..3, 10);
        let at = three.nodes[0].wall_ms + 1000;
        let held = missed_by(&mut three, 2, expire(at), &Reply::Int(1)); // through us-1
        // It has ended long ago: us-1 asks us-2, which knows nothing else.
        let now = three.nodes[0].wall_ms;
        pass(&mut three, at + 3100 - now);
        three.nodes[0].tick();
        let answers = answers_held(&mut three, 0);
        three.hold(0);
        assert!(
            matches!(&answers[..], [(1, held), (2, none)] if held.len() == 1 && none.is_empty())
        );
        // INCR through us-3: its row arrives at us-1 before that answer.
        let added = three.begin(2, "k", Action::Write(addition.clone()));
        only(&mut three, 2, 0);
        give(&mut three, 0, answers);
        three.deliver();
        three.live(0..3, 10);
        let reply = three.reply(2, added);
        arrive(&mut three, held);
        three.live(0..3, 20);
        let types = types(&mut three);
        assert!(
            !matches!(reply, Some(Reply::Int(_))) || !types.contains(&Reply::Simple("none")),
            "{addition:?}: {reply:?} {types:?}"
        );
        let shown = three.read(0, "k", Read::Members);
        assert!(matches!(addition, Write::IncrBy { .. }) || members(&shown).contains("b"));
    }
}

/// What was there, two additions after its end, how they are read, and what may be read.
fn two_additions() -> [(Write, [Write; 2], Read, Vec<Reply>); 2] {
    let both = Read::AreMembers {
        members: vec![bytes("b"), bytes("c")],
    };
    let there = Reply::Array(vec![Reply::Int(1), Reply::Int(1)]);
    let sums = vec![bulk("3"), bulk("103")];
    [
        (set("100"), [incr(1), incr(2)], Read::Get, sums),
        (add(&["a"]), [add(&["b"]), add(&["c"])], both, vec![there]),
    ]
}

/// Three that hold this and are behind its end, of which us-1 has not heard. Gives what is under way to it.
fn behind_an_end(first: Write) -> (Replicas, Vec<Held>) {
    let mut three = Replicas::three();
    let at = WALL_MS + 3000;
    three.write(0, "k", first);
    three.live(0..3, 5);
    let held = missed_by(&mut three, 0, expire(at), &Reply::Int(1));
    let now = three.nodes[0].wall_ms;
    pass(&mut three, at + 10 - now);
    (three, held)
}

fn assert_all_read(three: &mut Replicas, read: &Read, good: &[Reply], told: &str) {
    for node in 0..3 {
        let left = three.read(node, "k", read.clone());
        assert!(good.contains(&left), "{told}: {left:?} through {node}");
    }
}

/// us-1 adds after the end, and before that is acknowledged it hears of the EXPIRE; then it adds once more, or us-3 does.
#[test]
fn p3_an_addition_after_the_end_stays_beside_the_next_one() {
    for through in [0, 2] {
        for (first, [one, two], read, good) in two_additions() {
            let (mut three, held) = behind_an_end(first);
            let begun = three.begin(0, "k", Action::Write(one));
            let rows = three.hold(0);
            assert!(
                rows.iter().any(|(_, message)| is_ship(message)),
                "it is carried out"
            );
            arrive(&mut three, held);
            let second = three.begin(through, "k", Action::Write(two));
            three.deliver();
            assert_eq!(three.reply(0, begun), None);
            three.release(0, rows);
            three.live(0..3, 20);
            let told = format!(
                "{:?} {:?}",
                three.reply(0, begun),
                three.reply(through, second)
            );
            assert_all_read(&mut three, &read, &good, &told);
        }
    }
}

/// The same through us-3, which has heard of the end and of the first addition, and whose word on that is slow.
#[test]
fn p3_an_addition_after_the_end_stays_beside_one_through_a_replica_that_heard_of_both() {
    for is_word_first in [true, false] {
        for (first, [one, two], read, good) in two_additions() {
            let (mut three, _held) = behind_an_end(first);
            let begun = three.begin(0, "k", Action::Write(one));
            let late = pick(&mut three, 0, 1, is_ship);
            let rows = pick(&mut three, 0, 2, is_ship);
            assert!(!rows.is_empty(), "it is carried out");
            put(&mut three, 2, rows);
            let word = pick(&mut three, 2, 0, |_| true);
            let second = three.begin(2, "k", Action::Write(two));
            for _ in 0..3 {
                carry(&mut three, 2, 1);
                carry(&mut three, 1, 2);
                three.nodes[2].pass(50);
                three.nodes[2].tick();
            }
            if is_word_first {
                put(&mut three, 0, word);
                carry(&mut three, 2, 0);
            } else {
                carry(&mut three, 2, 0);
                put(&mut three, 0, word);
            }
            put(&mut three, 1, late);
            three.live(0..3, 20);
            let told = format!("{:?} {:?}", three.reply(0, begun), three.reply(2, second));
            assert_all_read(&mut three, &read, &good, &told);
        }
    }
}

/// Whoever added after the end dies before it has taken that away: others wait for it no longer than their clients do.
#[test]
fn p6_an_addition_behind_the_end_is_carried_out_where_the_one_before_it_is_never_decided() {
    for (first, [one, two], read, _) in two_additions() {
        let (mut three, _held) = behind_an_end(first);
        three.begin(0, "k", Action::Write(one));
        let rows = pick(&mut three, 0, 2, is_ship);
        assert!(!rows.is_empty(), "it is carried out");
        put(&mut three, 2, rows);
        three.cut_off(0);
        let second = three.begin(2, "k", Action::Write(two));
        three.live(1..3, 40);
        let reply = three.reply(2, second);
        assert!(matches!(reply, Some(Reply::Int(_))), "{reply:?}");
        let shown = three.read(1, "k", read);
        let good = [
            bulk("2"),
            bulk("3"),
            Reply::Array(vec![Reply::Int(0), Reply::Int(1)]),
            Reply::Array(vec![Reply::Int(1), Reply::Int(1)]),
        ];
        assert!(good.contains(&shown), "{shown:?}");
    }
}

/// A connection reads what it added after an end of which its node had not heard.
#[test]
fn p7_a_connection_reads_what_it_added_after_an_end_that_its_node_had_missed() {
    let cases = [
        (set("100"), incr(1), Read::Get, vec![bulk("1"), bulk("101")]),
        (
            add(&["a"]),
            add(&["b"]),
            Read::AreMembers {
                members: vec![bytes("b")],
            },
            vec![Reply::Array(vec![Reply::Int(1)])],
        ),
    ];
    for (first, one, read, good) in cases {
        let (mut three, _held) = behind_an_end(first);
        let begun = three.begin(0, "k", Action::Write(one));
        let shown = three.begin(0, "k", Action::Read(read));
        three.live(0..3, 20);
        let (begun, shown) = (three.reply(0, begun), three.reply(0, shown));
        let is_good = good.iter().any(|good| shown.as_ref() == Some(good));
        assert!(is_good, "{begun:?}, then {shown:?}");
    }
}
