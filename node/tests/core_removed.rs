//! Goal: an element that was removed stays removed, whatever the node that removed it had missed, and nothing else goes with it.
//!
//! Method: three (or five) replicas of one region, message by message.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking, its helpers too"
)]

mod core_support;

use core_support::{
    add, bytes, home,
    missed::{Held, ONE, begin_at, carry, expire, is_ship, members, of, pick, put},
    remove,
    replicas::Replicas,
    set,
};
use node::{
    core::{
        Input, RequestId,
        message::Message,
        op::{Action, Read, Write},
        reply::{Refusal, Reply},
    },
    level::Level,
};

const M: &str = "m";

fn is_m() -> Read {
    Read::AreMembers {
        members: vec![bytes(M)],
    }
}

fn there(count: i64) -> Reply {
    Reply::Array(vec![Reply::Int(count)])
}

fn is_question(message: &Message) -> bool {
    matches!(message, Message::Compare(_) | Message::Repair { .. })
}

/// us-3 takes a newer add of `m`, which us-2 acknowledges and us-1 misses. Gives what is under way from us-3 to us-1.
fn newer_add(three: &mut Replicas) -> Held {
    assert_eq!(three.write(0, "k", add(&[M, "other"])), Reply::Int(2));
    three.live(0..3, 10);
    let id = three.begin(2, "k", Action::Write(add(&[M])));
    for _ in 0..4 {
        carry(three, 2, 1);
        carry(three, 1, 2);
    }
    assert_eq!(
        three.reply(2, id),
        Some(Reply::Int(0)),
        "the add is acknowledged"
    );
    let late = pick(three, 2, 0, is_ship);
    three.nodes.iter_mut().for_each(|node| {
        node.sent.clear();
        node.returned.clear();
    });
    late
}

/// Then us-2 alone removes it. Gives what is under way from us-2 to us-1.
fn removed_alone(three: &mut Replicas) -> Held {
    let _alone = begin_at(three, 1, Action::Write(remove(&[M])), ONE);
    let unheard = pick(three, 1, 0, is_ship);
    assert!(!unheard.is_empty(), "it is carried out");
    three.nodes[1].sent.clear();
    unheard
}

/// us-1 and us-2 talk, us-3 hears nothing; only us-1 lives on.
fn first_and_second(three: &mut Replicas, ticks: usize) {
    for _ in 0..ticks {
        three.nodes[0].pass(100);
        three.nodes[0].tick();
        for _ in 0..4 {
            carry(three, 0, 1);
            let held = pick(three, 1, 0, |message| !is_ship(message));
            put(three, 0, held);
        }
    }
}

fn assert_hidden_without_second(three: &mut Replicas) {
    three.cut.clear();
    three.cut_off(1);
    for node in [0, 2] {
        assert_eq!(three.read(node, "k", is_m()), there(0), "through {node}");
    }
}

/// P7. The newer add comes to us-1 by its own stream after the removal has begun, and us-2, which acknowledges that, has removed the add alone.
#[test]
fn p7_an_add_that_arrives_between_a_removal_and_its_acknowledgement_is_removed() {
    let mut three = Replicas::three();
    let late = newer_add(&mut three);
    let _unheard = removed_alone(&mut three);
    let removed = three.begin(0, "k", Action::Write(remove(&[M])));
    put(&mut three, 0, late);
    first_and_second(&mut three, 6);
    assert!(matches!(three.reply(0, removed), Some(Reply::Int(_))));
    assert_hidden_without_second(&mut three);
}

/// P7. SREM k m, then SMEMBERS k on the same connection; us-3 says that the add is there, us-2 that it is not.
#[test]
fn p7_what_a_connection_asks_behind_its_removal_does_not_show_the_element() {
    let mut three = Replicas::three();
    let _late = newer_add(&mut three);
    let _unheard = removed_alone(&mut three);
    let removed = three.begin(0, "k", Action::Write(remove(&[M])));
    let shown = three.begin(0, "k", Action::Read(Read::Members));
    // us-3 answers the question first; us-2 is slow.
    for _ in 0..12 {
        three.nodes[0].pass(20);
        three.nodes[0].tick();
        for _ in 0..3 {
            let asked = pick(&mut three, 0, 2, is_question);
            put(&mut three, 2, asked);
            let answered = pick(&mut three, 2, 0, |message| !is_ship(message));
            put(&mut three, 0, answered);
        }
    }
    let ships = pick(&mut three, 0, 1, is_ship);
    three.nodes[0].sent.clear();
    put(&mut three, 1, ships);
    let answered = pick(&mut three, 1, 0, |message| !is_ship(message));
    put(&mut three, 0, answered);
    // us-2 is away from now on.
    for _ in 0..15 {
        three.nodes[0].pass(100);
        three.nodes[0].tick();
        for _ in 0..4 {
            three.nodes[0].sent.retain(|(of, _)| of.0 % 10 != 1);
            carry(&mut three, 0, 2);
            let answers = pick(&mut three, 2, 0, |message| !is_ship(message));
            put(&mut three, 0, answers);
        }
    }
    assert_eq!(three.reply(0, removed), Some(Reply::Int(1)));
    let shown = three.reply(0, shown).expect("it is answered");
    assert_eq!(members(&shown), of(&["other"]));
}

/// P7. What us-2 removed comes to us-1 in the batch in which us-2 answers: nothing is left to remove, and the client hears of that when it
/// is durable, since a process that dies before would have forgotten it.
#[test]
fn p7_a_removal_is_not_answered_before_what_it_heard_is_durable() {
    let mut three = Replicas::three();
    let _late = newer_add(&mut three);
    let unheard = removed_alone(&mut three);
    let removed = three.begin(0, "k", Action::Write(remove(&[M])));
    let asked = pick(&mut three, 0, 1, is_question);
    assert!(!asked.is_empty(), "{:?}", three.nodes[0].sent);
    put(&mut three, 1, asked);
    let answers = pick(&mut three, 1, 0, |message| !is_ship(message));
    assert!(!answers.is_empty(), "no answer");
    assert!(!unheard.is_empty(), "nothing unheard");
    // One batch of us-1, which it does not live to commit.
    for (session, message) in unheard {
        three.nodes[0].receive(session, message);
    }
    for (session, message) in answers {
        three.nodes[0].input(Input::Acknowledged { session, message });
    }
    assert_eq!(three.reply(0, removed), None);
    three.nodes[0].close();
    for _ in 0..4 {
        let asked = pick(&mut three, 0, 1, is_question);
        put(&mut three, 1, asked);
        let answers = pick(&mut three, 1, 0, |message| !is_ship(message));
        put(&mut three, 0, answers);
    }
    assert_eq!(three.reply(0, removed), Some(Reply::Int(0)));
    three.cut_off(1);
    for node in 0..3 {
        three.lose(node);
    }
    three.nodes[0].restart();
    three.join();
    three.live(0..3, 10);
    for node in [0, 2] {
        assert_eq!(three.read(node, "k", is_m()), there(0), "through {node}");
    }
}

/// SREM k m, SET k v on one connection: both are answered.
#[test]
fn a_removal_behind_which_the_key_became_a_string_is_answered() {
    let mut three = Replicas::three();
    let _late = newer_add(&mut three);
    let _unheard = removed_alone(&mut three);
    let removed = three.begin(0, "k", Action::Write(remove(&[M])));
    let written = three.begin(0, "k", Action::Write(set("v")));
    first_and_second(&mut three, 10);
    assert_eq!(three.reply(0, written), Some(Reply::Ok));
    assert_eq!(three.reply(0, removed), Some(Reply::Int(0)));
}

/// us-1 has missed that the key is a string.
#[test]
fn a_removal_through_a_replica_that_missed_that_the_key_is_a_string_is_refused() {
    let mut three = Replicas::three();
    let _late = newer_add(&mut three);
    let written = three.begin(2, "k", Action::Write(set("v")));
    for _ in 0..4 {
        carry(&mut three, 2, 1);
        carry(&mut three, 1, 2);
    }
    assert_eq!(three.reply(2, written), Some(Reply::Ok));
    three.nodes[2].sent.clear();
    let removed = three.begin(0, "k", Action::Write(remove(&[M])));
    first_and_second(&mut three, 25);
    let reply = three.reply(0, removed);
    assert_eq!(reply, Some(Reply::Error(Refusal::WrongType)));
}

/// SADD and SREM at ONE through us-3, of which nobody has heard; SREM at ALL through us-1; then the row of the add arrives, and us-3 dies.
#[test]
fn a_removal_at_all_hides_the_element_from_a_quorum() {
    let mut three = Replicas::three();
    assert_eq!(three.write(0, "k", add(&[M, "other"])), Reply::Int(2));
    three.live(0..3, 10);
    let added = begin_at(&mut three, 2, Action::Write(add(&[M])), ONE);
    assert_eq!(three.reply(2, added), Some(Reply::Int(0)));
    let late = three.hold(2);
    let gone = begin_at(&mut three, 2, Action::Write(remove(&[M])), ONE);
    assert_eq!(three.reply(2, gone), Some(Reply::Int(1)));
    three.nodes[2].sent.clear();
    let removed = begin_at(&mut three, 0, Action::Write(remove(&[M])), Level::All);
    for _ in 0..6 {
        three.nodes[0].pass(100);
        three.nodes[0].tick();
        for _ in 0..4 {
            carry(&mut three, 0, 1);
            carry(&mut three, 1, 0);
            carry(&mut three, 0, 2);
            let taken = pick(&mut three, 2, 0, |message| !is_ship(message));
            put(&mut three, 0, taken);
        }
    }
    assert_eq!(
        three.reply(0, removed),
        Some(Reply::Int(0)),
        "us-3 has done it"
    );
    for (session, message) in late {
        let to = session.0 as usize % 10;
        three.take(to, true, session, message);
    }
    assert_hidden_without_third(&mut three);
}

fn assert_hidden_without_third(three: &mut Replicas) {
    three.cut.clear();
    three.cut_off(2);
    for node in [0, 1] {
        assert_eq!(three.read(node, "k", is_m()), there(0), "through {node}");
    }
}

/// The same of five: the newer add, of which us-2 has not heard, comes to it behind the removal. The removal was acknowledged by ALL, the read is
/// at ONE.
#[test]
fn a_removal_at_all_hides_the_element_from_one() {
    let names = ["us-1", "us-2", "us-3", "us-4", "us-5"];
    let places = names.map(|name| home("us", name, &[("us", &names)], 5));
    let mut five = Replicas::joined(places.into_iter());
    assert_eq!(five.write(0, "k", add(&[M, "other"])), Reply::Int(2));
    five.live(0..5, 10);
    five.nodes.iter_mut().for_each(|node| node.sent.clear());
    let among = |five: &mut Replicas| {
        for _ in 0..4 {
            for other in [3, 4] {
                carry(five, 2, other);
                carry(five, other, 2);
            }
        }
    };
    let added = five.begin(2, "k", Action::Write(add(&[M])));
    among(&mut five);
    assert_eq!(five.reply(2, added), Some(Reply::Int(0)));
    let late = pick(&mut five, 2, 1, is_ship);
    let gone = begin_at(&mut five, 2, Action::Write(remove(&[M])), ONE);
    among(&mut five);
    assert_eq!(five.reply(2, gone), Some(Reply::Int(1)));
    five.nodes.iter_mut().for_each(|node| node.sent.clear());
    let removed = begin_at(&mut five, 0, Action::Write(remove(&[M])), Level::All);
    for _ in 0..40 {
        five.nodes[0].pass(100);
        five.nodes[0].tick();
        for _ in 0..4 {
            for other in 1..5 {
                carry(&mut five, 0, other);
                let answers = pick(&mut five, other, 0, |message| !is_ship(message));
                put(&mut five, 0, answers);
            }
        }
    }
    five.nodes[0].close();
    assert_eq!(five.reply(0, removed), Some(Reply::Int(0)));
    put(&mut five, 1, late);
    let read = begin_at(&mut five, 1, Action::Read(is_m()), ONE);
    assert_eq!(five.reply(1, read), Some(there(0)));
}

/// Requests wait for a question about one key, and nobody is left to be asked: each is refused, and frees the one behind it. A shard's stack
/// does not hold as many calls as requests may wait.
#[test]
fn many_that_wait_for_one_key_are_refused_without_a_stack_of_them() {
    let mut three = Replicas::three();
    assert_eq!(three.write(0, "k", add(&[M])), Reply::Int(1));
    three.live(0..3, 10);
    let count = 20_000;
    for entropy in 0..count {
        three.nodes[0].request("k", Action::Write(Write::Pop { count: 1, entropy }));
    }
    three.nodes[0].close();
    three.lose(0);
    three.nodes[0].close();
    three.live(0..1, 30);
    assert_eq!(three.nodes[0].replies.len() as u64, count);
}

/// P1. The removal leaves nothing here, and beside it another node adds to the set and has it end: that end is about what it added.
#[test]
fn p1_an_expiry_of_what_was_added_beside_a_removal_stays() {
    let mut three = Replicas::three();
    let at_ms = three.nodes[0].wall_ms + 600_000;
    assert_eq!(three.write(0, "k", add(&[M])), Reply::Int(1));
    assert_eq!(three.write(0, "k", expire(at_ms)), Reply::Int(1));
    three.live(0..3, 10);
    // Asks first, because it may end the set; is carried out, and sent.
    let removed = three.begin(0, "k", Action::Write(remove(&[M])));
    for _ in 0..3 {
        let asked = pick(&mut three, 0, 1, is_question);
        put(&mut three, 1, asked);
        let answers = pick(&mut three, 1, 0, |message| !is_ship(message));
        put(&mut three, 0, answers);
        let asked = pick(&mut three, 0, 2, is_question);
        put(&mut three, 2, asked);
        let answers = pick(&mut three, 2, 0, |message| !is_ship(message));
        put(&mut three, 0, answers);
    }
    let removal = pick(&mut three, 0, 1, is_ship);
    assert!(!removal.is_empty(), "it is carried out");
    three.nodes[0].sent.clear();
    // Beside it: SADD k x and EXPIRE k, acknowledged by us-2 and us-3; then us-2 alone removes x.
    for write in [add(&["x"]), expire(at_ms + 1000)] {
        let id = three.begin(2, "k", Action::Write(write));
        for _ in 0..6 {
            three.nodes[2].pass(100);
            three.nodes[2].tick();
            carry(&mut three, 2, 1);
            carry(&mut three, 1, 2);
        }
        assert_eq!(three.reply(2, id), Some(Reply::Int(1)));
    }
    three.nodes[2].sent.clear();
    let _alone = three.begin(1, "k", Action::Write(remove(&["x"])));
    three.nodes[1].sent.clear();
    // us-2 acknowledges the removal; us-3 says what is left.
    put(&mut three, 1, removal);
    let taken = pick(&mut three, 1, 0, |message| !is_ship(message));
    put(&mut three, 0, taken);
    for _ in 0..20 {
        three.nodes[0].pass(50);
        three.nodes[0].tick();
        for _ in 0..4 {
            let asked = pick(&mut three, 0, 2, is_question);
            put(&mut three, 2, asked);
            let answers = pick(&mut three, 2, 0, |message| !is_ship(message));
            put(&mut three, 0, answers);
            let ships = pick(&mut three, 0, 1, is_ship);
            put(&mut three, 1, ships);
            let taken = pick(&mut three, 1, 0, |message| {
                matches!(message, Message::Ack(_))
            });
            put(&mut three, 0, taken);
        }
    }
    let reply = three.reply(0, removed);
    assert!(matches!(reply, Some(Reply::Int(1))), "{reply:?}");
    three.cut.clear();
    three.cut_off(1);
    for node in [0, 2] {
        let left = three.read(node, "k", Read::Members);
        let expiry = three.read(node, "k", Read::ExpiresAtMs);
        let is_sound = match members(&left).is_empty() {
            true => expiry == Reply::Int(-2),
            false => expiry == Reply::Int((at_ms + 1000) as i64),
        };
        assert!(is_sound, "through {node}: {left:?} ends at {expiry:?}");
    }
}

/// P4. SREM k m, SADD k m on one connection; another node adds `m` again over that, and the word of the one that took both was lost. Every add is
/// acknowledged, and the one removal came before them.
#[test]
fn p4_an_add_behind_a_removal_is_not_lost_with_one_that_replaced_it() {
    let mut three = Replicas::three();
    assert_eq!(three.write(0, "k", add(&[M, "other"])), Reply::Int(2));
    three.live(0..3, 10);
    let removed = three.begin(0, "k", Action::Write(remove(&[M])));
    let added = three.begin(0, "k", Action::Write(add(&[M])));
    let ships = pick(&mut three, 0, 1, is_ship);
    put(&mut three, 1, ships);
    // The word of us-2 is lost, and us-3 is slow.
    let _lost = pick(&mut three, 1, 0, |message| {
        matches!(message, Message::Ack(_))
    });
    three.nodes[0].sent.clear();
    let again = three.begin(1, "k", Action::Write(add(&[M])));
    for _ in 0..10 {
        three.nodes[0].pass(100);
        three.nodes[0].tick();
        for _ in 0..4 {
            carry(&mut three, 0, 1);
            let answers = pick(&mut three, 1, 0, |message| !is_ship(message));
            put(&mut three, 0, answers);
        }
    }
    three.live(0..3, 10);
    assert_eq!(three.reply(0, removed), Some(Reply::Int(1)));
    assert!(matches!(three.reply(0, added), Some(Reply::Int(_))));
    assert_eq!(three.reply(1, again), Some(Reply::Int(0)));
    for node in 0..3 {
        assert_eq!(three.read(node, "k", is_m()), there(1), "through {node}");
    }
}

/// DEL and SCARD behind a removal.
#[test]
fn a_delete_behind_a_removal_deletes_all() {
    let mut three = Replicas::three();
    let _late = newer_add(&mut three);
    let _unheard = removed_alone(&mut three);
    let removed = three.begin(0, "k", Action::Write(remove(&[M])));
    let deleted = three.begin(0, "k", Action::Write(Write::Delete));
    let counted = three.begin(0, "k", Action::Read(Read::Cardinality));
    for _ in 0..15 {
        three.nodes[0].pass(100);
        three.nodes[0].tick();
        for _ in 0..4 {
            carry(&mut three, 0, 2);
            let answers = pick(&mut three, 2, 0, |message| !is_ship(message));
            put(&mut three, 0, answers);
        }
    }
    assert_eq!(three.reply(0, removed), Some(Reply::Int(1)));
    assert_eq!(three.reply(0, deleted), Some(Reply::Int(1)));
    assert_eq!(three.reply(0, counted), Some(Reply::Int(0)));
    assert_hidden_without_second(&mut three);
}

/// Removals wait for the same key, each for its own question.
#[test]
fn many_removals_from_one_key_are_all_answered() {
    let mut three = Replicas::three();
    let names: Vec<String> = (0..500).map(|number| number.to_string()).collect();
    let all: Vec<&str> = names.iter().map(String::as_str).collect();
    assert_eq!(three.write(0, "k", add(&all)), Reply::Int(500));
    assert_eq!(three.write(0, "k", add(&[M])), Reply::Int(1));
    three.live(0..3, 10);
    let id = three.begin(2, "k", Action::Write(add(&[M])));
    for _ in 0..4 {
        carry(&mut three, 2, 1);
        carry(&mut three, 1, 2);
    }
    assert_eq!(three.reply(2, id), Some(Reply::Int(0)));
    three.nodes.iter_mut().for_each(|node| node.sent.clear());
    let _unheard = removed_alone(&mut three);
    let ids: Vec<RequestId> = all
        .iter()
        .map(|name| three.nodes[0].request("k", Action::Write(remove(&[name]))))
        .collect();
    three.nodes[0].close();
    for _ in 0..15 {
        three.nodes[0].pass(100);
        three.nodes[0].tick();
        for _ in 0..600 {
            let asked = pick(&mut three, 0, 1, |_| true);
            if asked.is_empty() {
                break;
            }
            put(&mut three, 1, asked);
            let answers = pick(&mut three, 1, 0, |message| !is_ship(message));
            put(&mut three, 0, answers);
        }
    }
    for id in ids {
        assert_eq!(three.reply(0, id), Some(Reply::Int(1)));
    }
}

/// P7. SADD k m (us-2 and us-3), SREM k m (us-2 alone), SREM k m (us-1, acknowledged by us-2). Then us-2 dies.
#[test]
fn p7_an_element_removed_by_an_older_add_stays_removed() {
    let mut three = Replicas::three();
    let _late = newer_add(&mut three);
    let _unheard = removed_alone(&mut three);
    let removed = three.begin(0, "k", Action::Write(remove(&[M])));
    first_and_second(&mut three, 6);
    assert!(matches!(three.reply(0, removed), Some(Reply::Int(_))));
    assert_hidden_without_second(&mut three);
    for node in [0, 2] {
        let left = three.read(node, "k", Read::Members);
        assert_eq!(members(&left), of(&["other"]), "through {node}");
    }
}

/// P4. What was added again through the same node behind the removal stays.
#[test]
fn p4_what_was_added_behind_the_removal_stays() {
    let mut three = Replicas::three();
    let _late = newer_add(&mut three);
    let _unheard = removed_alone(&mut three);
    let removed = three.begin(0, "k", Action::Write(remove(&[M])));
    let added = three.begin(0, "k", Action::Write(add(&[M])));
    first_and_second(&mut three, 10);
    assert!(matches!(three.reply(0, removed), Some(Reply::Int(_))));
    assert_eq!(three.reply(0, added), Some(Reply::Int(1)));
    three.cut.clear();
    three.cut_off(1);
    for node in [0, 2] {
        let there = three.read(node, "k", Read::Members);
        assert_eq!(members(&there), of(&[M, "other"]), "through {node}");
    }
}

/// Where nobody says what is there, nothing is removed, and the client hears so.
#[test]
fn a_removal_that_nobody_answers_removes_nothing() {
    let mut three = Replicas::three();
    assert_eq!(three.write(0, "k", add(&[M])), Reply::Int(1));
    three.live(0..3, 10);
    let id = three.begin(0, "k", Action::Write(remove(&[M])));
    three.nodes[0].sent.clear();
    for _ in 0..40 {
        three.nodes[0].pass(100);
        three.nodes[0].tick();
        three.nodes[0].sent.clear();
    }
    let reply = three.reply(0, id);
    assert!(
        matches!(&reply, Some(Reply::Error(refusal)) if refusal.to_string().contains("nothing was written")),
        "{reply:?}"
    );
    for node in 0..3 {
        let read = begin_at(&mut three, node, Action::Read(is_m()), ONE);
        assert_eq!(three.reply(node, read), Some(there(1)));
    }
}

/// P7. SREM k m twice on one connection: the second one finds nothing, because the first has removed it here, and is not answered with that before
/// others know.
#[test]
fn p7_a_removal_that_finds_nothing_behind_another_is_answered_when_others_know() {
    let mut three = Replicas::three();
    assert_eq!(three.write(0, "k", add(&[M, "other"])), Reply::Int(2));
    three.live(0..3, 10);
    let first = three.begin(0, "k", Action::Write(remove(&[M])));
    let second = three.begin(0, "k", Action::Write(remove(&[M])));
    // Both wait: the first for its question, the second behind it. The question is answered, and no row of us-1 gets anywhere.
    for _ in 0..8 {
        for other in [1, 2] {
            let asked = pick(&mut three, 0, other, |message| {
                matches!(message, Message::Compare(_))
            });
            put(&mut three, other, asked);
            let answers = pick(&mut three, other, 0, |message| !is_ship(message));
            put(&mut three, 0, answers);
        }
    }
    assert_eq!(three.reply(0, first), None);
    assert_eq!(three.reply(0, second), None, "us-1 alone knows");
    three.live(0..3, 10);
    assert_eq!(three.reply(0, first), Some(Reply::Int(1)));
    assert_eq!(three.reply(0, second), Some(Reply::Int(0)));
}
