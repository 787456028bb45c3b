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
    minority::{answers_of_two, five, lose_all, questions, rows_arrive, talk},
    missed::{
        answers_held, begin_at, carry, expire, give, is_ship, pass, pick, put, set_with, setnx,
    },
    remove,
    replicas::Replicas,
    set,
};
use node::{
    core::{
        op::{Action, Read, SetExpiry, Write},
        reply::Reply,
    },
    level::Level,
};

/// P1. A key that is written all the time is asked about as often as it may be; the last question was answered before the end, a PERSIST was
/// acknowledged well before the end, and the write is carried out after it.
#[test]
fn p1_a_persist_before_the_end_stands_beside_a_write_that_asked_for_the_last_time_before_it() {
    for write in [
        setnx("w"),
        Write::Append { value: bytes("x") },
        Write::SetRange {
            offset: 1,
            value: bytes("x"),
        },
    ] {
        let mut three = Replicas::three();
        let at = WALL_MS + 5000;
        assert_eq!(
            three.write(0, "k", set_with("5", SetExpiry::At(at))),
            Reply::Ok
        );
        three.live(0..3, 10);
        let now = three.nodes[0].wall_ms;
        pass(&mut three, at - now - 900);
        let asked = three.begin(0, "k", Action::Write(write.clone()));
        for round in 0..2 {
            let answers = answers_held(&mut three, 0);
            let counted = three.begin(2, "k", Action::Write(incr(1)));
            three.deliver();
            assert_eq!(three.reply(2, counted), Some(Reply::Int(6 + round)));
            pass(&mut three, 10);
            give(&mut three, 0, answers);
            assert_eq!(three.reply(0, asked), None);
        }
        let answers = answers_held(&mut three, 0);
        three.cut_off(0);
        assert_eq!(three.write(1, "k", Write::Persist), Reply::Int(1));
        assert!(three.nodes[1].wall_ms + 500 < at, "long before the end");
        let now = three.nodes[0].wall_ms;
        pass(&mut three, at + 1 - now);
        give(&mut three, 0, answers);
        three.mend();
        three.live(0..3, 10);
        let reply = three.reply(0, asked);
        let left: Vec<Reply> = (0..3).map(|node| three.get(node, "k")).collect();
        let good = [bulk("7"), bulk("7x")];
        assert!(
            left.iter().all(|left| good.contains(left)),
            "{write:?}: {reply:?} {left:?}"
        );
    }
}

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
        lose_all(&mut five);
        five.cut_off(0);
        five.cut_off(1);
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
        lose_all(&mut five);
        five.cut_off(0);
        five.cut_off(1);
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

/// P3, P4. EXPIRE soon, and behind its end something new, on one connection; PERSIST of another client beside the EXPIRE.
#[test]
fn p4_an_expire_that_has_passed_is_not_done_again_over_what_came_after_its_end() {
    for (first, anew, read, good) in [
        (set("100"), incr(2), Read::Get, vec![bulk("2"), bulk("102")]),
        (
            add(&["a"]),
            add(&["b"]),
            Read::AreMembers {
                members: vec![bytes("b")],
            },
            vec![Reply::Array(vec![Reply::Int(1)])],
        ),
        (
            set("a"),
            Write::Append { value: bytes("b") },
            Read::Get,
            vec![bulk("b"), bulk("ab")],
        ),
        (set("a"), set("b"), Read::Get, vec![bulk("b")]),
        (set("a"), setnx("b"), Read::Get, vec![bulk("b"), bulk("a")]),
    ] {
        let mut three = Replicas::three();
        three.write(0, "k", first.clone());
        assert_eq!(
            three.write(0, "k", expire(WALL_MS + 900_000)),
            Reply::Int(1)
        );
        three.live(0..3, 5);
        let at = three.nodes[0].wall_ms + 700;
        let ends = three.begin(0, "k", Action::Write(expire(at)));
        ask_one(&mut three, 0, 2);
        assert!(
            three.nodes[0]
                .sent
                .iter()
                .any(|(_, message)| is_ship(message)),
            "it is carried out"
        );
        pass(&mut three, 10);
        let stays = three.begin(1, "k", Action::Write(Write::Persist));
        ask_one(&mut three, 1, 2);
        assert!(
            three.nodes[1]
                .sent
                .iter()
                .any(|(_, message)| is_ship(message)),
            "it is carried out"
        );
        let now = three.nodes[0].wall_ms;
        pass(&mut three, at + 10 - now);
        let made = three.begin(0, "k", Action::Write(anew.clone()));
        ask_one(&mut three, 0, 2);
        // us-2 hears of both, and says so.
        carry(&mut three, 0, 1);
        carry(&mut three, 1, 0);
        three.live(0..3, 20);
        let ends = three.reply(0, ends);
        let made = three.reply(0, made);
        let stays = three.reply(1, stays);
        let left: Vec<_> = (0..3)
            .map(|node| three.read(node, "k", read.clone()))
            .collect();
        assert!(
            left.iter().all(|left| good.contains(left)),
            "EXPIRE {ends:?}, PERSIST {stays:?}, {anew:?} {made:?}: {left:?}"
        );
    }
}

/// P3, P4. The same with EXPIRE at ALL, on links that keep their order: that to us-2 is slow.
#[test]
fn p4_an_expire_at_all_that_has_passed_is_not_done_again_over_what_was_acknowledged_after_its_end()
{
    for (first, anew, read, good) in [
        (set("100"), incr(2), Read::Get, vec![bulk("2"), bulk("102")]),
        (
            add(&["a"]),
            add(&["b"]),
            Read::AreMembers {
                members: vec![bytes("b")],
            },
            vec![Reply::Array(vec![Reply::Int(1)])],
        ),
        (
            set("a"),
            Write::Append { value: bytes("b") },
            Read::Get,
            vec![bulk("b"), bulk("ab")],
        ),
    ] {
        let mut three = Replicas::three();
        three.write(0, "k", first.clone());
        assert_eq!(
            three.write(0, "k", expire(WALL_MS + 900_000)),
            Reply::Int(1)
        );
        three.live(0..3, 5);
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
        carry(&mut three, 0, 1);
        carry(&mut three, 0, 2);
        carry(&mut three, 1, 0);
        carry(&mut three, 2, 0);
        // us-3 has the row and says so; that to us-2 is slow.
        carry(&mut three, 0, 2);
        carry(&mut three, 2, 0);
        carry(&mut three, 2, 1);
        assert!(
            three.nodes[1]
                .sent
                .iter()
                .any(|(_, message)| is_ship(message)),
            "PERSIST is carried out"
        );
        let now = three.nodes[0].wall_ms;
        pass(&mut three, at + 10 - now);
        let made = three.begin(0, "k", Action::Write(anew.clone()));
        for _ in 0..10 {
            carry(&mut three, 0, 2);
            carry(&mut three, 2, 0);
            three.nodes[0].pass(30);
            three.nodes[0].tick();
        }
        let made = three.reply(0, made);
        let before = three.reply(0, ends);
        let shown = three.begin(2, "k", Action::Read(read.clone()));
        for _ in 0..10 {
            carry(&mut three, 0, 2);
            carry(&mut three, 2, 0);
            three.nodes[2].pass(30);
            three.nodes[2].tick();
        }
        let shown = three.reply(2, shown);
        three.live(0..3, 10);
        let ends = before.or_else(|| three.reply(0, ends));
        let stays = three.reply(1, stays);
        let left: Vec<_> = (0..3)
            .map(|node| three.read(node, "k", read.clone()))
            .collect();
        assert!(
            left.iter().all(|left| good.contains(left)),
            "EXPIRE {ends:?}, PERSIST {stays:?}, {anew:?} {made:?}, read {shown:?}, then {left:?}"
        );
    }
}
