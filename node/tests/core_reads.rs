//! Goal: a read of many rows shows what enough replicas have confirmed and nothing that came later; copies of large keys are brought together
//! a bounded page at a time, and what was brought together stays so although the request that asked for it ends.
//!
//! Method: shards over memory storage, joined by hand; each test holds back just the messages that would show the fault. Reads that are fixed
//! are carried out at the very end, when everything else has happened.

mod core_support;

use std::{collections::BTreeSet, sync::Arc};

use bytes::Bytes;
use core_support::{READS, Region, add, bytes, missed::ONE, place_of, remove, replicas::Replicas};
use node::core::{
    Event, Input, ReadBounds,
    message::{Compare, KeyCopy, Message, SessionId, Unanswered},
    op::{Action, Pick, Read, Write},
    reply::{Refusal, Reply},
};

fn elements(reply: &Reply) -> BTreeSet<String> {
    match reply {
        Reply::Set(items) => items.iter().map(core_support::text).collect(),
        Reply::Array(items) => match items.as_slice() {
            [_, Reply::Array(page)] => page.iter().map(core_support::text).collect(),
            items => items.iter().map(core_support::text).collect(),
        },
        other => panic!("no elements: {other:?}"),
    }
}

fn set_of(elements: &[&str]) -> BTreeSet<String> {
    elements.iter().map(ToString::to_string).collect()
}

/// Each way to read all elements of a small set.
fn reads() -> [Read; 3] {
    [
        Read::Members,
        Read::ScanMembers {
            cursor: 0,
            count: 100,
            pattern: None,
        },
        Read::RandomMembers {
            pick: Pick::Distinct(100),
            entropy: 7,
        },
    ]
}

/// Five replicas of a set of three; nothing gets through between them.
fn five_that_are_cut_off() -> Replicas {
    let nodes = ["us-1", "us-2", "us-3", "us-4", "us-5"];
    let places = nodes.map(|node| core_support::home("us", node, &[("us", &nodes)], 5));
    let mut five = Replicas::joined(places.into_iter());
    assert_eq!(five.write(0, "k", add(&["a", "b", "c"])), Reply::Int(3));
    for node in 0..5 {
        five.cut_off(node);
    }
    five
}

/// A write that a node has carried out and that has got nowhere yet: the message that takes it to the first one.
fn unfinished(five: &mut Replicas, node: usize, write: Write) -> (SessionId, Message) {
    five.nodes[node].request_at("k", Action::Write(write), ONE);
    five.nodes[node].close();
    let to_first = five.session(node, 0);
    let sent = core_support::take(&mut five.nodes[node].sent, to_first.0);
    five.nodes[node].sent.clear();
    let message = sent.into_iter().next().expect("it is shipped to all");
    (to_first, message)
}

#[test]
fn a_read_of_many_rows_shows_nothing_that_came_after_the_others_were_asked() {
    for read in reads() {
        let mut five = five_that_are_cut_off();
        let id = five.nodes[0].request("k", Action::Read(read));
        let (session, message) = unfinished(&mut five, 4, add(&["unfinished"]));
        // Into the batch in which the read was asked, which is still open; and into a later one.
        five.nodes[0].receive(session, message);
        five.nodes[0].close();
        let (session, message) = unfinished(&mut five, 4, Write::Delete);
        five.nodes[0].receive(session, message);
        five.nodes[0].close();
        five.cut.clear();
        five.cut_off(4);
        five.deliver();
        let shown = five.reply(0, id).expect("the read is answered");
        assert_eq!(elements(&shown), set_of(&["a", "b", "c"]));
    }
}

#[test]
fn a_read_of_many_rows_shows_what_the_open_batch_had_changed_before_it_and_leaves_it_on_a_majority()
{
    for read in reads() {
        let mut five = five_that_are_cut_off();
        let (session, message) = unfinished(&mut five, 4, add(&["unfinished"]));
        five.nodes[0].receive(session, message);
        let id = five.nodes[0].request("k", Action::Read(read));
        five.nodes[0].close();
        five.cut.clear();
        five.cut_off(4);
        five.deliver();
        let shown = five.reply(0, id).expect("the read is answered");
        assert_eq!(elements(&shown), set_of(&["a", "b", "c", "unfinished"]));
        five.cut_off(0);
        for node in 1..4 {
            let later = elements(&five.read(node, "k", Read::Members));
            assert!(later.contains("unfinished"), "through {node}: {later:?}");
        }
    }
}

#[test]
fn what_one_replica_alone_has_seen_removed_is_removed_for_every_later_read() {
    let mut three = Replicas::three();
    three.cut_off(1);
    assert_eq!(three.write(0, "s", add(&["x", "y", "z"])), Reply::Int(3));
    three.cut_off(0);
    three.begin(0, "s", Action::Write(remove(&["x"])));
    three.nodes[0].sent.clear();
    three.cut.clear();
    three.cut_off(2);
    let first = three.read(0, "s", Read::Members);
    assert_eq!(elements(&first), set_of(&["y", "z"]));
    three.cut.clear();
    three.cut_off(0);
    let second = three.read(1, "s", Read::Members);
    assert_eq!(elements(&second), set_of(&["y", "z"]));
}

/// A set of so many that one of two replicas lacks, and pages of a few rows.
fn with_a_large_set(page_bytes: usize) -> Replicas {
    let reads = ReadBounds {
        page_bytes,
        ..READS
    };
    let mut three = Replicas::reading((0..3).map(place_of), reads);
    three.cut_off(1);
    for chunk in 0..10 {
        let names: Vec<String> = (0..LARGE / 10).map(|n| format!("m{chunk}:{n}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let added = three.write(0, "s", add(&names));
        assert_eq!(added, Reply::Int((LARGE / 10) as i64));
        three.nodes[0].pass(3);
    }
    // Some that only its context still knows of.
    assert_eq!(
        three.write(0, "s", remove(&["m3:3", "m7:1"])),
        Reply::Int(2)
    );
    three.nodes[0].sent.clear();
    three.cut.clear();
    three.cut_off(2);
    let living = [0, 1].map(|node| three.nodes[node].node.clone());
    let trusted = Arc::new(BTreeSet::from(living));
    for node in [0, 1] {
        three.nodes[node].input(Input::Trusted(Arc::clone(&trusted)));
    }
    three
}

/// Carries one message at a time, so many, and gives what was carried.
fn carry(three: &mut Replicas, count: usize) -> Vec<Message> {
    let mut carried = Vec::new();
    for _ in 0..count {
        let next = [0, 1].into_iter().find_map(|node| {
            let between = [three.session(0, 1), three.session(1, 0)];
            let node = &mut three.nodes[node];
            let is_carried = |(on, message): &(SessionId, Message)| {
                between.contains(on) && message.actor().is_none()
            };
            let at = node.sent.iter().position(is_carried)?;
            Some(node.sent.remove(at))
        });
        let Some((session, message)) = next else {
            break;
        };
        carried.push(message.clone());
        let asker = session.0 as usize / 10 % 10;
        let other = session.0 as usize % 10;
        let is_question = message.is_question();
        let to = if is_question { other } else { asker };
        three.take(to, is_question, session, message);
    }
    carried
}

fn rows_of(message: &Message) -> usize {
    match message {
        Message::Compared {
            copy: Some(KeyCopy { rows, .. }),
            ..
        } => rows.len(),
        Message::Repair { delta, .. } => {
            let rows = |part: &crdt::Part| match part {
                crdt::Part::Set(crdt::RowsDelta {
                    named: crdt::Named::Rows(rows),
                    ..
                }) => rows.len(),
                _ => 0,
            };
            delta.parts.iter().map(rows).sum()
        }
        _ => 0,
    }
}

#[test]
fn a_large_set_that_a_replica_lacks_is_repaired_in_pages_by_a_read_through_either() {
    for reader in [0, 1] {
        let mut three = with_a_large_set(400);
        let id = three.begin(reader, "s", Action::Read(Read::Members));
        let carried = carry(&mut three, 10_000);
        let largest = carried.iter().map(rows_of).max().unwrap_or_default();
        assert!(largest <= ROWS_PER_PAGE, "{largest} rows in one message");
        let reply = three.reply(reader, id);
        let reply = reply.unwrap_or_else(|| panic!("no answer through {reader}: {carried:?}"));
        assert_eq!(elements(&reply).len(), LARGE - 2, "through {reader}");
        // The copies are equal now, to the digest: the next read costs one question.
        let id = three.begin(reader, "s", Action::Read(Read::Cardinality));
        let carried = carry(&mut three, 10_000);
        let [Message::Compare(_), Message::Compared { copy: None, .. }] = carried.as_slice() else {
            panic!("more than a question: {carried:?}");
        };
        let count = three.reply(reader, id);
        assert_eq!(count, Some(Reply::Int(LARGE as i64 - 2)));
        let repaired = |event: &&Event| matches!(event, Event::Repaired { .. });
        let events = three.nodes[reader].events.iter().filter(repaired);
        assert_eq!(events.count(), 1, "one read was repaired");
    }
}

#[test]
fn what_a_request_repaired_before_its_time_was_up_the_next_one_does_not_do_again() {
    for reader in [0, 1] {
        let mut three = with_a_large_set(400);
        let mut begun = Vec::new();
        let reply = (0..50).find_map(|_| {
            let id = three.begin(reader, "s", Action::Read(Read::Exists));
            let carried = carry(&mut three, 12);
            begun.extend(carried.iter().find_map(from));
            three.nodes[reader].pass(2_001);
            three.nodes[reader].tick();
            // What is under way then is lost.
            (0..2).for_each(|node| three.nodes[node].sent.clear());
            let reply = three.reply(reader, id).expect("it is answered or refused");
            (!matches!(reply, Reply::Error(Refusal::Timeout(_)))).then_some(reply)
        });
        assert_eq!(reply, Some(Reply::Int(1)), "through {reader}: {begun:?}");
        // The last question, whether all is equal now, may have been cut off.
        begun.pop_if(|from| *from == 0);
        assert!(begun.len() > 4, "one request was enough: {begun:?}");
        let goes_on = begun.windows(2).all(|pair| pair[0] < pair[1]);
        assert!(goes_on, "through {reader}: {begun:?}");
    }
}

#[test]
fn a_read_that_goes_on_where_another_one_stood_sees_what_was_acknowledged_since() {
    let mut three = with_a_large_set(400);
    let id = three.begin(1, "s", Action::Read(Read::Members));
    carry(&mut three, 12);
    three.nodes[1].pass(2_001);
    three.nodes[1].tick();
    assert!(matches!(
        three.reply(1, id),
        Some(Reply::Error(Refusal::Timeout(_)))
    ));
    // The two that the reader is not have it; what it has of the first pages is older.
    (0..2).for_each(|node| three.nodes[node].sent.clear());
    three.cut.clear();
    three.cut_off(1);
    let others = [0, 2].map(|node| three.nodes[node].node.clone());
    let trusted = Arc::new(BTreeSet::from(others));
    three.nodes[0].input(Input::Trusted(trusted));
    assert_eq!(three.write(0, "s", Write::Delete), Reply::Int(1));
    (0..3).for_each(|node| three.nodes[node].sent.clear());
    three.cut.clear();
    three.cut_off(2);
    let id = three.begin(1, "s", Action::Read(Read::Members));
    let carried = carry(&mut three, 10_000);
    assert!(carried.iter().find_map(from) > Some(0), "it goes on");
    assert_eq!(three.reply(1, id), Some(Reply::Set(Vec::new())));
}

/// Where the first comparison of some messages began.
fn from(message: &Message) -> Option<u64> {
    match message {
        Message::Compare(Compare { from, .. }) => Some(*from),
        _ => None,
    }
}

#[test]
fn who_cannot_answer_says_so_and_another_one_is_asked_at_once() {
    let mut three = Replicas::three();
    three.write(0, "s", add(&["a", "b"]));
    let id = three.begin(0, "s", Action::Read(Read::Members));
    let mut asked = BTreeSet::new();
    for why in [Unanswered::TooLarge, Unanswered::Damaged] {
        let at = three.nodes[0]
            .sent
            .iter()
            .position(|(_, message)| message.is_question());
        let (session, message) = three.nodes[0].sent.remove(at.expect("one is asked"));
        let ask = message.ask().expect("it is a question");
        assert!(asked.insert(session), "each is asked once");
        let message = Message::Unanswered { ask, why };
        three.nodes[0].input(Input::Acknowledged { session, message });
        three.nodes[0].close();
    }
    let refused = three.reply(0, id).expect("nobody is left to be asked");
    let Reply::Error(Refusal::Unavailable(reason)) = refused else {
        panic!("{refused:?}");
    };
    assert!(reason.contains("a row of the key is damaged"), "{reason}");
}

#[test]
fn a_replica_whose_storage_takes_nothing_says_that_it_does_not_take_a_repair() {
    let mut three = Replicas::three();
    three.cut_off(1);
    three.write(0, "s", add(&["a", "b"]));
    three.nodes[0].sent.clear();
    three.cut.clear();
    three.cut_off(2);
    three.nodes[1].input(Input::ReadOnly(Some("full".to_owned())));
    let id = three.begin(0, "s", Action::Read(Read::Members));
    three.deliver();
    assert_eq!(three.reply(0, id), None, "the third one is asked");
    three.cut.clear();
    three.deliver();
    let shown = three.reply(0, id).expect("the third one has it");
    assert_eq!(elements(&shown), set_of(&["a", "b"]));
}

#[test]
fn a_read_that_nobody_waits_for_ends() {
    let mut one = Region::new("us", &[], 1);
    let names: Vec<String> = (0..5_000).map(|n| n.to_string()).collect();
    let members: Vec<Bytes> = names.iter().map(|name| bytes(name)).collect();
    one.write("s", Write::Add { members });
    let id = one.request("s", Action::Read(Read::Members));
    one.close();
    let at = one.fixed.iter().position(|(other, _)| *other == id);
    let (_, read) = one.fixed.remove(at.expect("it is a read of many rows"));
    let looks = std::cell::Cell::new(0);
    let goes_on = || {
        looks.set(looks.get() + 1);
        looks.get() < 3
    };
    let ended = read.answer(&goes_on);
    assert!(
        matches!(ended, Reply::Error(Refusal::Timeout(_))),
        "{ended:?}"
    );
    assert_eq!(looks.get(), 3);
}

#[test]
fn no_more_views_are_kept_than_is_said_and_one_is_dropped_with_its_read() {
    let mut one = Region::new("us", &[], 1);
    one.write("s", add(&["a", "b", "c"]));
    let refused = (0..1_000).position(|_| {
        let id = one.request("s", Action::Read(Read::Members));
        one.close();
        let is_fixed = one.fixed.last().is_some_and(|(other, _)| *other == id);
        !is_fixed && matches!(one.reply(id), Some(Reply::Error(Refusal::Busy(_))))
    });
    assert!(
        refused.is_some_and(|at| (8..200).contains(&at)),
        "{refused:?}"
    );
    one.fixed.clear();
    assert_eq!(one.members("s"), ["a", "b", "c"]);
}

const LARGE: usize = 300;
/// Of 400 bytes, 32 for each row and its element.
const ROWS_PER_PAGE: usize = 400 / 32 + 1;

/// As many questions as two replicas may owe answers to. What one of them had no room for is asked of the other one alone, and that ends.
#[test]
fn questions_to_a_replica_that_ends_go_to_one_that_had_too_many_before() {
    for ends in [1, 2] {
        let mut three = Replicas::three();
        let ids: Vec<_> = (0..2 * 8192)
            .map(|key| three.nodes[0].request(&key.to_string(), Action::Read(Read::Exists)))
            .collect();
        three.nodes[0].close();
        let is_lost = |(of, _): &(SessionId, Message)| of.0 as usize % 10 == ends;
        let sent = std::mem::take(&mut three.nodes[0].sent);
        let (lost, kept): (Vec<_>, Vec<_>) = sent.into_iter().partition(is_lost);
        assert_eq!((lost.len(), kept.len()), (8192, 8192));
        three.nodes[0].sent = kept;
        three.deliver();
        three.lose(ends);
        three.nodes[0].close();
        three.deliver();
        for id in ids {
            assert_eq!(three.reply(0, id), Some(Reply::Int(0)));
        }
    }
}
