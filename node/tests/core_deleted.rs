//! Goal: a key that was deleted stays deleted, whatever the levels of the DEL and of the SET before it, and what is made behind the DEL stays.
//!
//! Method: three replicas of one region, or five, message by message.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking, its helpers too"
)]

mod core_support;

use std::num::NonZeroU8;

use core_support::{
    add, bulk, bytes, incr,
    minority::{answers_of_two, five, lose_all, questions, rows_arrive, talk, two_die},
    missed::{Held, ONE, begin_at, carry, expire, is_ship, missed_by, pick, put},
    remove,
    replicas::Replicas,
    set,
};
use node::{
    core::{
        message::Message,
        op::{Action, Read, SetExpiry, Write},
        reply::Reply,
    },
    level::Level,
};

const TWO: Level = Level::Replicas(NonZeroU8::new(2).expect("two is not zero"));

fn assert_gone(replicas: &mut Replicas) {
    for node in 0..replicas.nodes.len() {
        let shown = replicas.read(node, "k", Read::Type);
        assert_eq!(shown, Reply::Simple("none"), "through {node}");
    }
}

/// P7. us-1 misses what us-2 and us-3 acknowledge. SET at a quorum, and what deletes the key at ONE behind it: the SET ends what was missed.
#[test]
fn p7_a_set_with_a_delete_at_one_behind_it_ends_what_was_missed() {
    let missed: [(Write, Reply); 3] = [
        (add(&["m"]), Reply::Int(1)),
        (set("old"), Reply::Ok),
        (incr(3), Reply::Int(3)),
    ];
    for (before, reply) in missed {
        for delete in [Write::Delete, Write::GetDel, expire(1)] {
            let mut three = Replicas::three();
            three.nodes[1].wall_ms += 600;
            let _held = missed_by(&mut three, 0, before.clone(), &reply);
            let written = three.begin(0, "k", Action::Write(set("a")));
            let deleted = begin_at(&mut three, 0, Action::Write(delete), ONE);
            three.live(0..3, 20);
            assert_eq!(three.reply(0, written), Some(Reply::Ok));
            let deleted = three.reply(0, deleted);
            assert!(!matches!(deleted, None | Some(Reply::Error(_))));
            assert_gone(&mut three);
        }
    }
}

/// P4. What is added behind such a DEL is alone there.
#[test]
fn p4_what_is_added_behind_a_delete_at_one_is_all_that_is_there() {
    let mut three = Replicas::three();
    let _held = missed_by(&mut three, 0, add(&["m"]), &Reply::Int(1));
    let written = three.begin(0, "k", Action::Write(set("a")));
    let _deleted = begin_at(&mut three, 0, Action::Write(Write::Delete), ONE);
    let added = three.begin(0, "k", Action::Write(add(&["x"])));
    three.live(0..3, 20);
    assert_eq!(three.reply(0, written), Some(Reply::Ok));
    assert_eq!(three.reply(0, added), Some(Reply::Int(1)));
    for node in 0..3 {
        let shown = three.read(node, "k", Read::Members);
        assert_eq!(shown, Reply::Set(vec![bulk("x")]), "through {node}");
    }
}

/// us-3 alone has a value (at ONE); SET at ALL through us-1, DEL at a quorum behind it. Whoever was asked by the DEL alone would not know.
#[test]
fn a_set_at_all_with_a_delete_at_a_quorum_behind_it_ends_what_one_replica_had() {
    for (before, ahead) in [(set("old"), 600), (add(&["m"]), 0), (incr(3), 0)] {
        let mut three = Replicas::three();
        three.nodes[2].wall_ms += ahead;
        let first = begin_at(&mut three, 2, Action::Write(before), ONE);
        assert!(three.reply(2, first).is_some());
        let late = three.hold(2);
        let written = begin_at(&mut three, 0, Action::Write(set("a")), Level::All);
        let deleted = three.begin(0, "k", Action::Write(Write::Delete));
        talk(&mut three, 0, &[1], 6);
        assert_eq!(three.reply(0, written), None, "us-3 has not heard of it");
        talk(&mut three, 0, &[1, 2], 6);
        assert_eq!(three.reply(0, written), Some(Reply::Ok));
        three.release(2, late);
        three.live(0..3, 20);
        assert_eq!(three.reply(0, deleted), Some(Reply::Int(1)));
        assert_gone(&mut three);
    }
}

/// P7. us-3, us-4 and us-5 acknowledge a value; SET at a quorum through us-1, DEL at TWO behind it, for which us-2 is enough.
#[test]
fn p7_a_set_with_a_delete_at_two_of_five_behind_it_ends_what_was_missed() {
    for (before, ahead) in [(set("old"), 900), (add(&["m"]), 0)] {
        let mut five = five();
        five.nodes[2].wall_ms += ahead;
        let first = five.begin(2, "k", Action::Write(before));
        talk(&mut five, 2, &[3, 4], 8);
        let first = five.reply(2, first);
        assert!(matches!(first, Some(Reply::Ok | Reply::Int(_))));
        lose_all(&mut five);
        let written = five.begin(0, "k", Action::Write(set("a")));
        let deleted = begin_at(&mut five, 0, Action::Write(Write::Delete), TWO);
        talk(&mut five, 0, &[1], 6);
        talk(&mut five, 0, &[1, 2, 3, 4], 8);
        assert_eq!(five.reply(0, written), Some(Reply::Ok));
        five.live(0..5, 20);
        assert_eq!(five.reply(0, deleted), Some(Reply::Int(1)));
        assert_gone(&mut five);
    }
}

/// us-1 is asked to remove something. When it has asked about the key, that changes by something else; at last us-2 alone deletes it, unless us-1
/// has carried out its removal by then. Then those two die. Gives the reply of us-1.
fn deleted_by_another_alone(five: &mut Replicas, write: &Write, changes: &[Write]) -> Reply {
    let id = five.begin(0, "k", Action::Write(write.clone()));
    for change in changes {
        let said = answers_of_two(five);
        begin_at(five, 4, Action::Write(change.clone()), ONE);
        rows_arrive(five, 4, &[0, 1, 2, 3]);
        said.into_iter().for_each(|held| put(five, 0, held));
        if five.nodes[0].sent.iter().any(|(_, sent)| is_ship(sent)) {
            break;
        }
    }
    if !five.nodes[0].sent.iter().any(|(_, sent)| is_ship(sent)) {
        let said = answers_of_two(five);
        let gone = begin_at(five, 1, Action::Write(Write::Delete), ONE);
        assert_eq!(five.reply(1, gone), Some(Reply::Int(1)));
        rows_arrive(five, 1, &[0]);
        said.into_iter().for_each(|held| put(five, 0, held));
    }
    talk(five, 0, &[2, 3], 10);
    let reply = five.reply(0, id).expect("it is answered");
    two_die(five);
    reply
}

/// P7. us-1 finds nothing any more, and must not say so: it and us-2 are two of five.
#[test]
fn p7_what_is_not_found_any_more_is_asked_about_however_often_that_was_done() {
    let writes = [Write::Delete, remove(&["m"]), expire(1)];
    for (write, changes) in writes.iter().flat_map(|write| [(write, 0), (write, 2)]) {
        let mut five = five();
        assert_eq!(five.write(0, "k", add(&["m"])), Reply::Int(1));
        five.live(0..5, 10);
        lose_all(&mut five);
        let others = ["x", "y"].map(|name| add(&[name]));
        let reply = deleted_by_another_alone(&mut five, write, &others[..changes]);
        assert!(matches!(reply, Reply::Int(_)), "{reply:?}");
        let members = vec![bytes("m")];
        let shown = five.read(2, "k", Read::AreMembers { members });
        assert_eq!(shown, Reply::Array(vec![Reply::Int(0)]), "{write:?}");
    }
}

/// The same of a string.
#[test]
fn p7_a_string_that_is_not_found_any_more_is_asked_about_likewise() {
    let getex = Write::GetEx {
        expiry: SetExpiry::At(1),
    };
    let writes = [Write::Delete, Write::GetDel, expire(1), getex];
    for (write, changes) in writes.iter().flat_map(|write| [(write, 0), (write, 2)]) {
        let mut five = five();
        assert_eq!(five.write(0, "k", set("1")), Reply::Ok);
        five.live(0..5, 10);
        lose_all(&mut five);
        let reply = deleted_by_another_alone(&mut five, write, &vec![incr(1); changes]);
        assert!(!matches!(reply, Reply::Error(_)), "{reply:?}");
        let shown = five.read(2, "k", Read::Type);
        assert_eq!(shown, Reply::Simple("none"), "{write:?}");
    }
}

/// The others acknowledge what us-1 misses; us-1 has something else that they lack. Gives what us-3 has under way to it.
fn missed_by_one(five: &mut Replicas, write: &Write) -> Held {
    begin_at(five, 0, Action::Write(add(&["x"])), ONE);
    begin_at(five, 0, Action::Write(remove(&["x"])), ONE);
    lose_all(five);
    let id = five.begin(2, "k", Action::Write(write.clone()));
    talk(five, 2, &[1, 3, 4], 8);
    let made = five.reply(2, id);
    assert!(matches!(made, Some(Reply::Ok | Reply::Int(1))), "{made:?}");
    let rows = pick(five, 2, 0, is_ship);
    lose_all(five);
    rows
}

/// P7. us-1 hears of what it is to remove after it has asked: by the answers, or by the row. While these answers, or its word of what they lack, are
/// on their way, us-2 alone removes it, and us-1 hears of that. us-1 finds nothing, as when it asked, and must not say so: it and us-2 are two of
/// five.
#[test]
fn p7_what_was_heard_of_since_and_another_one_removed_is_not_said_to_be_gone() {
    let pop = Write::Pop {
        count: 1,
        entropy: 1,
    };
    let writes = [remove(&["m"]), Write::Delete, Write::GetDel, pop];
    for (write, by_row) in writes
        .iter()
        .flat_map(|write| [(write, false), (write, true)])
    {
        let mut five = five();
        let first = match write {
            Write::GetDel => set("v"),
            _ => add(&["m"]),
        };
        let rows = missed_by_one(&mut five, &first);
        let id = five.begin(0, "k", Action::Write(write.clone()));
        let said = answers_of_two(&mut five);
        let late: Vec<Held> = if by_row {
            assert!(!rows.is_empty(), "us-3 ships it");
            put(&mut five, 0, rows);
            said
        } else {
            said.into_iter().for_each(|held| put(&mut five, 0, held));
            let word_of = |other| {
                let sent = pick(&mut five, 0, other, |message| !is_ship(message));
                put(&mut five, other, sent);
                pick(&mut five, other, 0, |message| !is_ship(message))
            };
            [2, 3].map(word_of).into()
        };
        let gone = five.begin(1, "k", Action::Write(Write::Delete));
        questions(&mut five, 1, &[2, 3, 4], 12);
        let to_first = pick(&mut five, 1, 0, is_ship);
        assert!(!to_first.is_empty(), "it is carried out");
        put(&mut five, 0, to_first);
        late.into_iter().for_each(|held| put(&mut five, 0, held));
        talk(&mut five, 0, &[2, 3, 4], 10);
        let (reply, gone) = (five.reply(0, id), five.reply(1, gone));
        two_die(&mut five);
        let shown = five.read(2, "k", Read::Type);
        assert!(
            shown == Reply::Simple("none"),
            "{first:?} {write:?}, by its row {by_row}: {reply:?} ({gone:?}), then {shown:?}"
        );
    }
}

/// P1. DEL, and something made anew behind it, while an EXPIRE elsewhere runs beside the DEL: that end is not the new one's.
#[test]
fn p1_what_is_made_behind_a_delete_beside_an_expire_stays() {
    let made = [
        (set("new"), Read::Get, bulk("new")),
        (add(&["x"]), Read::Cardinality, Reply::Int(1)),
        (incr(7), Read::Get, bulk("7")),
    ];
    for (anew, read, want) in made {
        let mut three = Replicas::three();
        let soon = three.nodes[0].wall_ms + 5_000;
        assert_eq!(three.write(0, "k", set("1")), Reply::Ok);
        three.live(0..3, 10);
        lose_all(&mut three);
        let deleted = three.begin(0, "k", Action::Write(Write::Delete));
        for _ in 0..3 {
            for other in [1, 2] {
                let asked = pick(&mut three, 0, other, |message| !is_ship(message));
                put(&mut three, other, asked);
                let said = pick(&mut three, other, 0, |message| !is_ship(message));
                put(&mut three, 0, said);
            }
        }
        let made = three.begin(0, "k", Action::Write(anew));
        let ends = three.begin(2, "k", Action::Write(expire(soon)));
        talk(&mut three, 2, &[1], 6);
        assert_eq!(three.reply(2, ends), Some(Reply::Int(1)));
        talk(&mut three, 0, &[1], 10);
        assert_eq!(three.reply(0, deleted), Some(Reply::Int(1)));
        let made = three.reply(0, made);
        assert!(matches!(made, Some(Reply::Ok | Reply::Int(_))));
        three.live(0..3, 120);
        for node in 0..3 {
            assert_eq!(three.read(node, "k", read.clone()), want, "through {node}");
        }
    }
}

/// us-2 answers questions and takes rows; its word that it has them is lost.
fn talk_without_words(three: &mut Replicas) {
    for _ in 0..6 {
        carry(three, 0, 1);
        let said = |message: &Message| !is_ship(message) && !matches!(message, Message::Ack(_));
        let said = pick(three, 1, 0, said);
        let _lost = pick(three, 1, 0, |message| !is_ship(message));
        put(three, 0, said);
    }
}

/// P4. DEL k, SADD k m on one connection; another node adds `m` again over that. What the DEL ends is what was there before it.
#[test]
fn p4_an_add_behind_a_delete_is_not_lost_with_one_that_replaced_it() {
    let deletes = [
        (add(&["m", "other"]), Write::Delete, Reply::Int(1)),
        (set("v"), Write::GetDel, bulk("v")),
    ];
    for (before, delete, deleted) in deletes {
        let mut three = Replicas::three();
        let begun = begin_at(&mut three, 0, Action::Write(before), Level::All);
        three.live(0..3, 10);
        assert!(three.reply(0, begun).is_some());
        let id = three.begin(0, "k", Action::Write(delete));
        let added = three.begin(0, "k", Action::Write(add(&["m"])));
        talk_without_words(&mut three);
        three.nodes[0].sent.retain(|(_, message)| is_ship(message));
        let late = pick(&mut three, 0, 2, is_ship);
        // us-3 takes the second add first.
        let again = three.begin(1, "k", Action::Write(add(&["m"])));
        talk(&mut three, 1, &[2], 8);
        assert!(matches!(three.reply(1, again), Some(Reply::Int(_))));
        put(&mut three, 2, late);
        three.live(0..3, 30);
        assert_eq!(three.reply(0, id), Some(deleted));
        assert!(matches!(three.reply(0, added), Some(Reply::Int(_))));
        for node in 0..3 {
            let shown = three.read(
                node,
                "k",
                Read::AreMembers {
                    members: vec![bytes("m")],
                },
            );
            assert_eq!(shown, Reply::Array(vec![Reply::Int(1)]), "through {node}");
        }
    }
}

/// P4. SET, DEL, SADD on one connection: nothing is added before the SET is sure, or what it is taught then could be newer than the DEL.
#[test]
fn p4_a_delete_waits_for_the_set_before_it() {
    let mut three = Replicas::three();
    let writes = [set("v"), Write::Delete, add(&["m"])];
    let ids = writes.map(|write| three.begin(0, "k", Action::Write(write)));
    talk_without_words(&mut three);
    let shown = begin_at(&mut three, 1, Action::Read(Read::Get), ONE);
    let shown = three.reply(1, shown);
    assert_eq!(shown, Some(bulk("v")), "us-2 has the SET alone");
    three.live(0..3, 30);
    let replies = ids.map(|id| three.reply(0, id));
    assert_eq!(
        replies,
        [Some(Reply::Ok), Some(Reply::Int(1)), Some(Reply::Int(1))]
    );
    for node in 0..3 {
        let shown = three.read(node, "k", Read::Members);
        assert_eq!(shown, Reply::Set(vec![bulk("m")]), "through {node}");
    }
}
