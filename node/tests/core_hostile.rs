//! Goal: a peer that says nonsense stops nobody else: no read, no stream and no write of the nodes that listen to it.
//!
//! Method: shards over memory storage, joined by hand; the messages of one node are changed while they are under way.

mod core_support;

use bytes::Bytes;
use core_support::{WALL_MS, add, bulk, replicas::Replicas, set, text};
use crdt::{ActorId, Dots, Hlc, Stamp};
use node::core::{
    message::{KeyCopy, Message, SessionId},
    op::{Action, Read, Write},
    reply::Reply,
};

fn members(reply: &Reply) -> Vec<String> {
    let Reply::Set(items) = reply else {
        panic!("no set: {reply:?}");
    };
    let mut members: Vec<String> = items.iter().map(text).collect();
    members.sort();
    members
}

type UnderWay = Vec<(SessionId, Message)>;

/// Two replicas acknowledge a write that us-3 misses. Returns what is under way to us-3.
fn missed_by_the_third(three: &mut Replicas, write: Write) -> UnderWay {
    three.cut_off(2);
    let id = three.begin(0, "k", Action::Write(write));
    three.deliver();
    three.live(0..2, 1);
    assert!(three.reply(0, id).is_some(), "the other two are a quorum");
    three.nodes[2].pass(100); // its clock runs too
    let held = three.hold(0);
    three.cut.clear();
    held
}

/// Changes the copies that a node has answered with. Returns how many these are.
fn forge(three: &mut Replicas, node: usize, forged: impl Fn(&mut KeyCopy)) -> usize {
    let answers = three.nodes[node].sent.iter_mut();
    let copies = answers.filter_map(|(_, message)| match message {
        Message::Compared { copy, .. } => copy.as_mut(),
        _ => None,
    });
    copies.map(forged).count()
}

#[test]
fn a_copy_that_does_not_decode_is_no_answer() {
    let mut three = Replicas::three();
    let held = missed_by_the_third(&mut three, set("v"));
    let id = three.begin(2, "k", Action::Read(Read::Get));
    three.deliver_from(2);
    let garbage = |copy: &mut KeyCopy| copy.head = Bytes::from_static(b"garbage");
    let told: usize = (0..2).map(|node| forge(&mut three, node, garbage)).sum();
    assert_eq!(told, 1);
    three.deliver();
    assert_eq!(
        three.reply(2, id),
        Some(bulk("v")),
        "another one is asked at once"
    );
    three.release(0, held);
}

#[test]
fn a_copy_whose_pages_never_end_is_no_answer() {
    for (next, has_rows) in [(Some(0), true), (Some(0), false), (Some(1 << 40), false)] {
        let mut three = Replicas::three();
        three.write(0, "k", add(&["a"]));
        let held = missed_by_the_third(&mut three, add(&["b"]));
        let id = three.begin(2, "k", Action::Read(Read::Members));
        three.deliver_from(2);
        let endless = |copy: &mut KeyCopy| {
            copy.next = next;
            copy.rows.retain(|_| has_rows);
        };
        let told: usize = (0..2).map(|node| forge(&mut three, node, endless)).sum();
        assert_eq!(told, 1);
        three.deliver();
        let reply = three.reply(2, id).expect("another one is asked at once");
        assert_eq!(members(&reply), ["a", "b"]);
        three.release(0, held);
    }
}

#[test]
fn a_copy_with_dots_that_are_not_in_its_context_is_no_answer() {
    let mut three = Replicas::three();
    let held = missed_by_the_third(&mut three, add(&["a"]));
    let id = three.begin(2, "k", Action::Read(Read::Members));
    three.deliver_from(2);
    let far = Stamp::new(Hlc::from_millis(WALL_MS * 3), ActorId::new(77, 0));
    let row = (Bytes::from_static(b"far"), Dots::single(far, ()));
    let told: usize = (0..2)
        .map(|node| forge(&mut three, node, |copy| copy.rows.push(row.clone())))
        .sum();
    assert_eq!(told, 1);
    three.deliver();
    let reply = three.reply(2, id).expect("another one is asked at once");
    assert_eq!(members(&reply), ["a"]);
    three.release(0, held);
    // A context with that dot in it would be declined by every peer, and everything behind it would wait.
    assert_eq!(three.write(2, "k", Write::Delete), Reply::Int(1));
    assert_eq!(three.write(2, "other", set("v")), Reply::Ok);
}
