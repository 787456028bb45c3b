//! Goal: what was shown, or decided by, is there for whoever reads later; and what is shown was there at one moment.
//!
//! Method: five replicas of one region, or three, message by message; a row or a deletion comes while others are asked.

#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, its helpers too"
)]

mod core_support;

use core_support::{
    add, bulk, bytes,
    missed::{Held, members, missed_by, of, only},
    replicas::Replicas,
    set,
};
use node::core::{
    op::{Action, Condition, Read, SetExpiry, Write},
    reply::Reply,
};

const NODES: [&str; 5] = ["us-1", "us-2", "us-3", "us-4", "us-5"];

fn five() -> Replicas {
    let places = NODES
        .iter()
        .map(|node| core_support::home("us", node, &[("us", &NODES)], 5));
    Replicas::joined(places)
}

/// What a command saw that answers with what is there, or decides by it, a later read sees. Here it saw what had come to its replica alone
/// since the others were asked.
fn shown_and_gone(asked: Write, gives: &Reply) {
    let mut five = five();
    let asks = five.begin(0, "k", Action::Write(asked));
    // Those who are asked answer; before that arrives, a SET through one who was not arrives at us-1, and nowhere else.
    let mut whom = Vec::new();
    for (session, message) in five.hold(0) {
        let to = session.0 as usize % 10;
        five.take(to, true, session, message);
        whom.push(to);
    }
    let answers: Vec<Held> = (0..5)
        .map(|node| std::mem::take(&mut five.nodes[node].returned))
        .collect();
    let writer = (1..5).find(|node| !whom.contains(node)).unwrap();
    let other = (1..5)
        .find(|node| !whom.contains(node) && *node != writer)
        .unwrap();
    five.begin(writer, "k", Action::Write(set("v")));
    only(&mut five, writer, 0);
    five.nodes[writer].sent.clear();
    five.cut_off(writer); // it dies
    for (node, answers) in answers.into_iter().enumerate() {
        if node != 0 {
            five.nodes[node].returned.extend(answers);
        }
    }
    five.deliver();
    let reply = five.reply(0, asks);
    assert!(reply.is_some());
    five.cut_off(0);
    let later = five.get(other, "k");
    assert!(
        reply.as_ref() != Some(gives) || later == bulk("v"),
        "{reply:?}, and then {later:?}"
    );
}

#[test]
fn p7_what_a_getex_showed_a_later_read_sees() {
    shown_and_gone(
        Write::GetEx {
            expiry: SetExpiry::Keep,
        },
        &bulk("v"),
    );
}

#[test]
fn p7_what_a_set_if_absent_found_a_later_read_sees() {
    let set = Write::Set {
        value: bytes("mine"),
        expiry: SetExpiry::Clear,
        condition: Condition::IfAbsent,
        return_old: false,
    };
    shown_and_gone(set, &Reply::Nil);
}

/// A set of several pages, deleted while it is compared: it was whole, and then it was gone.
#[test]
fn p7_a_read_of_several_pages_shows_no_part_of_a_set_that_was_deleted_meanwhile() {
    let reads = node::core::ReadBounds {
        rows_at_once: 1,
        page_bytes: 1,
    };
    let mut torn = Vec::new();
    for steps in 1..12 {
        let mut three = Replicas::reading((0..3).map(core_support::place_of), reads);
        let held = missed_by(&mut three, 0, add(&["a", "b", "c"]), &Reply::Int(3));
        three.cut.extend([(0, 2), (2, 0)]);
        let read = three.begin(0, "k", Action::Read(Read::Members));
        let between = three.session(0, 1);
        // So many messages of the comparison.
        for step in 0..steps {
            let (from, to, is_asked) = if step % 2 == 0 {
                (0, 1, true)
            } else {
                (1, 0, false)
            };
            let Some(at) = three.nodes[from]
                .sent
                .iter()
                .position(|(of, _)| *of == between)
            else {
                break;
            };
            let (session, message) = three.nodes[from].sent.remove(at);
            three.take(to, is_asked, session, message);
        }
        let under_way: Vec<Held> = (0..2)
            .map(|node| {
                let all = three.hold(node);
                let (of, other): (Held, Held) = all.into_iter().partition(|(of, _)| *of == between);
                three.nodes[node].sent = other;
                of
            })
            .collect();
        three.cut.extend([(0, 1), (1, 0)]);
        let deleted = three.begin(1, "k", Action::Write(Write::Delete));
        three.live(1..3, 8);
        assert_eq!(three.reply(1, deleted), Some(Reply::Int(1)));
        three.cut.remove(&(0, 1));
        three.cut.remove(&(1, 0));
        for (node, messages) in under_way.into_iter().enumerate() {
            let later = three.hold(node);
            three.nodes[node].sent = messages;
            three.nodes[node].sent.extend(later);
        }
        three.deliver();
        three.live(0..3, 8);
        if let Some(reply) = three.reply(0, read) {
            let shown = members(&reply);
            if shown != of(&["a", "b", "c"]) && shown != of(&[]) {
                torn.push((steps, shown));
            }
        }
        drop(held);
    }
    assert!(torn.is_empty(), "{torn:?}");
}
