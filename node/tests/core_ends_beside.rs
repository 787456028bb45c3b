//! Goal: an end that was acknowledged is kept, one that was taken away is gone, and neither is that of anything else than what it was said of.
//!
//! Method: three replicas of one region, or five, message by message.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking, its helpers too"
)]

mod core_support;

use core_support::{
    WALL_MS, add, bulk, bytes, incr,
    minority::{answers_of_two, five, lose_all, questions, rows_arrive, talk, two_die},
    missed::{begin_at, carry, expire, is_ship, pass, pick, put, setnx},
    remove,
    replicas::Replicas,
    set,
};
use node::{
    core::{
        op::{Action, Read, Write},
        reply::Reply,
    },
    level::Level,
};

/// P1. A key has ended by its time. us-1 is asked to add to it and asks us-3 and us-4; then us-2 ends it, of which only us-1 hears, and us-1
/// adds. us-1 and us-2 die.
#[test]
fn p1_what_has_ended_does_not_come_back_with_an_addition() {
    for (first, other, write) in [
        (add(&["m"]), Write::Delete, add(&["b"])),
        (add(&["m"]), add(&["c"]), add(&["b"])),
        (add(&["m"]), remove(&["m"]), add(&["b"])),
        (incr(5), Write::Delete, incr(100)),
        (incr(5), incr(10), incr(100)),
    ] {
        let mut five = five();
        let at = WALL_MS + 5000;
        five.write(2, "k", first.clone());
        assert_eq!(five.write(2, "k", expire(at)), Reply::Int(1));
        five.live(0..5, 10);
        lose_all(&mut five);
        let now = five.nodes[0].wall_ms;
        pass(&mut five, at + 10 - now);
        let id = five.begin(0, "k", Action::Write(write.clone()));
        let said = answers_of_two(&mut five);
        let ended = five.begin(1, "k", Action::Write(other.clone()));
        questions(&mut five, 1, &[2, 3], 10);
        rows_arrive(&mut five, 1, &[0]);
        for held in said {
            put(&mut five, 0, held);
        }
        let ended = five.reply(1, ended);
        talk(&mut five, 0, &[2, 3, 4], 10);
        let reply = five.reply(0, id);
        two_die(&mut five);
        five.live(2..5, 10);
        let shown = match first {
            Write::Add { .. } => five.read(2, "k", Read::Members),
            _ => five.get(2, "k"),
        };
        // What us-2 had added was not acknowledged, and may be there.
        let good = [
            Reply::Set(vec![bulk("b")]),
            Reply::Set(vec![bulk("b"), bulk("c")]),
            bulk("100"),
            bulk("110"),
        ];
        assert!(
            good.contains(&shown),
            "{first:?}, {other:?} ({ended:?}), {write:?}: {reply:?}, then {shown:?}"
        );
    }
}

/// P1. The set {a, m} will end. us-1 is asked to remove m; us-2 removes a, of which only us-1 hears. us-1 and us-2 die.
#[test]
fn p1_a_removal_does_not_take_the_end_of_what_another_one_alone_removed() {
    for write in [
        remove(&["m"]),
        Write::Pop {
            count: 1,
            entropy: 7,
        },
    ] {
        let mut five = five();
        let at = WALL_MS + 60_000;
        five.write(2, "k", add(&["a", "m"]));
        assert_eq!(five.write(2, "k", expire(at)), Reply::Int(1));
        five.live(0..5, 10);
        lose_all(&mut five);
        let id = five.begin(0, "k", Action::Write(write.clone()));
        let said = answers_of_two(&mut five);
        let other = five.begin(1, "k", Action::Write(remove(&["a"])));
        questions(&mut five, 1, &[2, 3], 10);
        rows_arrive(&mut five, 1, &[0]);
        for held in said {
            put(&mut five, 0, held);
        }
        talk(&mut five, 0, &[2, 3, 4], 10);
        let reply = five.reply(0, id);
        let other = five.reply(1, other);
        two_die(&mut five);
        five.live(2..5, 10);
        let shown = five.read(2, "k", Read::Members);
        let end = five.read(2, "k", Read::ExpiresAtMs);
        assert!(
            end == Reply::Int(at as i64) || end == Reply::Int(-2),
            "{write:?}: {reply:?} ({other:?}), then {shown:?} ends {end:?}"
        );
    }
}

/// A node asks one other, and what is not a question or an answer waits.
fn ask_one(three: &mut Replicas, node: usize, other: usize) {
    for _ in 0..5 {
        for _ in 0..3 {
            let asked = pick(three, node, other, |message| !is_ship(message));
            put(three, other, asked);
            let said = pick(three, other, node, |message| !is_ship(message));
            put(three, node, said);
        }
        three.nodes[node].pass(20);
        three.nodes[node].tick();
    }
}

/// What was there, what is made after its end, how that is read, and what may be read.
fn after_an_end() -> [(Write, Write, Read, Vec<Reply>); 5] {
    let is_member = Read::AreMembers {
        members: vec![bytes("b")],
    };
    let append = Write::Append { value: bytes("b") };
    let either = |one, other| vec![bulk(one), bulk(other)];
    [
        (set("100"), incr(2), Read::Get, either("2", "102")),
        (
            add(&["a"]),
            add(&["b"]),
            is_member,
            vec![Reply::Array(vec![Reply::Int(1)])],
        ),
        (set("a"), append, Read::Get, either("b", "ab")),
        (set("a"), set("b"), Read::Get, vec![bulk("b")]),
        (set("a"), setnx("b"), Read::Get, either("b", "a")),
    ]
}

/// Three that hold this; it will end, but not soon.
fn to_end_late(first: Write) -> Replicas {
    let mut three = Replicas::three();
    three.write(0, "k", first);
    let late = three.write(0, "k", expire(WALL_MS + 900_000));
    assert_eq!(late, Reply::Int(1));
    three.live(0..3, 5);
    three
}

fn assert_carried_out(three: &Replicas, node: usize) {
    let mut sent = three.nodes[node].sent.iter();
    assert!(sent.any(|(_, message)| is_ship(message)), "by {node}");
}

fn assert_all_read(three: &mut Replicas, read: &Read, good: &[Reply], told: &str) {
    for node in 0..3 {
        let left = three.read(node, "k", read.clone());
        assert!(good.contains(&left), "{told}: {left:?} through {node}");
    }
}

/// Two nodes talk; time passes for the one of them.
fn converse(three: &mut Replicas, node: usize, other: usize, passing: usize) {
    for _ in 0..10 {
        carry(three, node, other);
        carry(three, other, node);
        three.nodes[passing].pass(30);
        three.nodes[passing].tick();
    }
}

/// P3, P4. EXPIRE soon, and behind its end something new, on one connection; PERSIST of another client beside the EXPIRE.
#[test]
fn p4_an_expire_that_has_passed_is_not_done_again_over_what_came_after_its_end() {
    for (first, anew, read, good) in after_an_end() {
        let mut three = to_end_late(first);
        let at = three.nodes[0].wall_ms + 700;
        let ends = three.begin(0, "k", Action::Write(expire(at)));
        ask_one(&mut three, 0, 2);
        assert_carried_out(&three, 0);
        pass(&mut three, 10);
        let stays = three.begin(1, "k", Action::Write(Write::Persist));
        ask_one(&mut three, 1, 2);
        assert_carried_out(&three, 1);
        let now = three.nodes[0].wall_ms;
        pass(&mut three, at + 10 - now);
        let made = three.begin(0, "k", Action::Write(anew.clone()));
        ask_one(&mut three, 0, 2);
        // us-2 hears of both, and says so.
        carry(&mut three, 0, 1);
        carry(&mut three, 1, 0);
        three.live(0..3, 20);
        let [ends, made] = [ends, made].map(|id| three.reply(0, id));
        let stays = three.reply(1, stays);
        let told = format!("EXPIRE {ends:?}, PERSIST {stays:?}, {anew:?} {made:?}");
        assert_all_read(&mut three, &read, &good, &told);
    }
}

/// P3, P4. The same with EXPIRE at ALL, on links that keep their order: that to us-2 is slow.
#[test]
fn p4_an_expire_at_all_that_has_passed_is_not_done_again_over_what_was_acknowledged_after_its_end()
{
    for (first, anew, read, good) in after_an_end() {
        let mut three = to_end_late(first);
        // PERSIST through us-2 asks us-3, whose answer is on its way for a while.
        let stays = three.begin(1, "k", Action::Write(Write::Persist));
        three.nodes[1].pass(100);
        for _ in 0..2 {
            three.nodes[1].tick();
        }
        carry(&mut three, 1, 2);
        // EXPIRE at ALL through us-1 asks both.
        let at = three.nodes[0].wall_ms + 700;
        let ends = begin_at(&mut three, 0, Action::Write(expire(at)), Level::All);
        for (from, to) in [(0, 1), (0, 2), (1, 0), (2, 0)] {
            carry(&mut three, from, to);
        }
        // us-3 has the row and says so; that to us-2 is slow.
        for (from, to) in [(0, 2), (2, 0), (2, 1)] {
            carry(&mut three, from, to);
        }
        assert_carried_out(&three, 1);
        let now = three.nodes[0].wall_ms;
        pass(&mut three, at + 10 - now);
        let made = three.begin(0, "k", Action::Write(anew.clone()));
        converse(&mut three, 0, 2, 0);
        let made = three.reply(0, made);
        let shown = three.begin(2, "k", Action::Read(read.clone()));
        converse(&mut three, 0, 2, 2);
        let shown = three.reply(2, shown);
        three.live(0..3, 10);
        let ends = three.reply(0, ends);
        let stays = three.reply(1, stays);
        let told = format!("EXPIRE {ends:?}, PERSIST {stays:?}, {anew:?} {made:?}, read {shown:?}");
        assert_all_read(&mut three, &read, &good, &told);
    }
}
