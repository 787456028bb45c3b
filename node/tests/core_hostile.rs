//! Goal: a peer that says nonsense stops nobody else: no read, no stream and no write of the nodes that listen to it.
//!
//! Method: shards over memory storage, joined by hand; the messages of one node are changed while they are under way.

mod core_support;

use bytes::Bytes;
use core_support::{
    Region, WALL_MS, add, bulk, connect, deliver, pair, position, replicas::Replicas, set, ship,
    take, text,
};
use crdt::{ActorId, Dots, Hlc, Stamp};
use node::core::{
    Input,
    message::{KeyCopy, KnownPosition, Message, NackReason, SessionId},
    op::{Action, Read, Write},
    reply::Reply,
    ship::Met,
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
        let liar = (0..2).find(|node| forge(&mut three, *node, endless) > 0);
        let liar = liar.expect("one is asked");
        for _ in 0..10 {
            for node in 0..3 {
                three.deliver_from(node);
            }
            forge(&mut three, liar, endless);
        }
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

/// What a node has answered to who ships to it says that it is at the end of time.
fn claim_all(region: &mut Region) -> usize {
    let answers = region.returned.iter_mut();
    let claims = answers.filter_map(|(_, message)| match message {
        Message::Ack(taken) => Some(taken),
        _ => None,
    });
    let end = Hlc::MAX;
    claims
        .map(|taken| {
            (taken.taken, taken.majority, taken.every) = (end, end, end);
            (taken.passed, taken.saved) = (end, end);
            taken.answers = taken.answers.map(|(after, _)| (after, end));
        })
        .count()
}

#[test]
fn an_acknowledgement_of_what_was_never_sent_counts_for_nothing() {
    let mut three = Replicas::three();
    three.cut_off(2);
    let id = three.begin(0, "k", Action::Write(set("v")));
    three.deliver_from(0);
    assert!(claim_all(&mut three.nodes[1]) > 0);
    three.deliver();
    assert_eq!(three.reply(0, id), Some(Reply::Ok), "that was sent");
    let next = three.begin(0, "next", Action::Write(set("v")));
    assert_eq!(three.reply(0, next), None);
    three.deliver();
    assert_eq!(three.reply(0, next), Some(Reply::Ok));
    assert_eq!(three.nodes[1].storage_value("next"), Some("v".to_owned()));
}

#[test]
fn an_acknowledgement_of_what_was_never_sent_does_not_end_the_stream_to_a_region() {
    let (mut us, mut eu) = pair();
    connect(&mut us, &eu, 1);
    us.write("k", set("v"));
    for message in take(&mut us.sent, 1) {
        eu.receive(SessionId(1), message);
        eu.close();
    }
    assert!(claim_all(&mut eu) > 0);
    deliver(&mut us, &mut eu, 1);
    us.write("next", set("v"));
    deliver(&mut us, &mut eu, 1);
    assert_eq!(eu.storage_value("next"), Some("v".to_owned()));
}

#[test]
fn a_greeting_of_what_was_never_sent_does_not_end_a_stream() {
    let (mut us, mut eu) = pair();
    us.write("k", set("v"));
    let held = vec![KnownPosition {
        taken: Hlc::MAX,
        ..KnownPosition::nothing(us.actor())
    }];
    us.input(Input::SessionUp(Met {
        region: eu.name.clone(),
        node: eu.node.clone(),
        session: SessionId(1),
        directory: eu.directory,
        held,
        shortage: eu.inbox.shortage(),
    }));
    us.write("next", set("v"));
    for _ in 0..3 {
        deliver(&mut us, &mut eu, 1);
        us.pass(1000); // it was declined, and is sent again
        eu.pass(1000);
        us.tick();
    }
    assert_eq!(eu.storage_value("next"), Some("v".to_owned()));
}

#[test]
fn a_word_about_the_end_of_time_is_declined_like_rows_of_then() {
    let (mut us, mut eu) = pair();
    us.write("k", set("v"));
    ship(&mut us, &mut eu, 1);
    let (actor, after, upto) = (us.actor(), position(&us, &eu), Hlc::MAX);
    let promise = Message::ClosedTimestamp { actor, after, upto };
    let skip = Message::Gap {
        actor,
        after,
        upto,
        is_for_region: true,
    };
    for word in [promise, skip] {
        eu.receive(SessionId(1), word);
        let answers = take(&mut eu.returned, 1);
        let [Message::Nack { taken, reason, .. }] = &answers[..] else {
            panic!("it is not declined: {answers:?}");
        };
        assert_eq!(*taken, after);
        assert!(matches!(reason, NackReason::ClockAhead { .. }));
    }
    assert!(!eu.inbox.shortage().is_any(), "nothing was dropped");
    us.write("next", set("v"));
    deliver(&mut us, &mut eu, 1);
    assert_eq!(eu.storage_value("next"), Some("v".to_owned()));
}
