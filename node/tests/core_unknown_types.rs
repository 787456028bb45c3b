//! Goal: while a cluster is upgraded node by node, a node loses nothing of what newer ones write of types that it does not know.
//!
//! Method: rows of one node have a part of an unknown type put into them on their way, as a newer release would have written it; the
//! nodes that get them are asked for what they hold, pass on and digest, are restarted, and learn the type.

#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, its helpers too"
)]

mod core_support;

use std::ops::ControlFlow;

use bytes::Bytes;
use core_support::{
    Region, UNBOUNDED, acknowledge, add, bulk, bytes, connect, deliver, home, pair, position,
    replicas::Replicas, set, take,
};
use crdt::{ActorId, Context, Dots, Hlc, Part, RowsDelta, Stamp, Tag};
use node::{
    core::{
        adopt::{Adopted, adopt},
        identity::DirectoryId,
        message::{Message, SessionId},
        op::{Action, Read},
        reply::Reply,
    },
    placement::Position,
    storage::{
        Batch, Durability, Family, Storage,
        record::{
            head::{self, Head},
            meta, outbox,
        },
    },
};

/// A type that no release knows yet.
const NEWER: Tag = Tag::new(200);

fn newer_part(body: &str) -> Part {
    Part::from_body(NEWER, bytes(body)).unwrap()
}

/// The message with a part of a newer type in its first delta.
fn with_part(message: Message, part: &Part) -> Message {
    let Message::Ship(mut ship) = message else {
        return message;
    };
    let mut deltas = outbox::decode(&ship.rows[0]).unwrap();
    deltas[0].parts.push(part.clone());
    ship.rows[0] = Bytes::from(outbox::encode(&deltas));
    Message::Ship(ship)
}

fn head_of(region: &Region, key: &str) -> Head {
    let key = bytes(key);
    let stored = head::stored_key(&Position::of(&key), &key);
    let value = region.storage.get(Family::Head, &stored).unwrap().unwrap();
    Head::decode(&key, &value).unwrap()
}

/// Ships what is there to the other region, with a part of a newer type.
fn ship_with_part(us: &mut Region, eu: &mut Region, part: &Part) {
    connect(us, eu, 1);
    for message in take(&mut us.sent, 1) {
        eu.receive(SessionId(1), with_part(message, part));
        eu.close();
    }
    for message in take(&mut eu.returned, 1) {
        acknowledge(us, 1, message);
    }
}

#[test]
fn a_part_of_an_unknown_type_is_kept_beside_what_is_known() {
    let (mut us, mut eu) = pair();
    us.write("k", set("v"));
    ship_with_part(&mut us, &mut eu, &newer_part("new"));
    assert!(position(&us, &eu) > Hlc::ZERO, "the row is taken");
    assert_eq!(eu.get("k"), bulk("v"));
    eu.restart();
    assert_eq!(eu.get("k"), bulk("v"));
    let held = head_of(&eu, "k").unknown;
    assert_eq!(
        held.missing_in(&head_of(&us, "k").unknown),
        [newer_part("new")]
    );
}

#[test]
fn a_part_of_an_unknown_type_is_passed_on_within_the_region() {
    let us_place = home("us", "us-1", &[("eu", &["eu-1", "eu-2"])], 1);
    let eu_place = home(
        "eu",
        "eu-1",
        &[("eu", &["eu-1", "eu-2"]), ("us", &["us-1"])],
        2,
    );
    let mut us = Region::at(us_place, DirectoryId(1), UNBOUNDED);
    let mut eu = Region::at(eu_place, DirectoryId(2), UNBOUNDED);
    us.write("k", set("v"));
    ship_with_part(&mut us, &mut eu, &newer_part("new"));
    let mut passed_on = Vec::new();
    let visit = &mut |_: &[u8], value: &[u8]| {
        passed_on.extend(outbox::decode(value).unwrap());
        ControlFlow::Continue(())
    };
    eu.storage.scan(Family::Outbox, b"", None, visit).unwrap();
    let mut parts = passed_on.iter().flat_map(|delta| &delta.parts);
    assert!(
        parts.any(|part| *part == newer_part("new")),
        "{passed_on:?}"
    );
}

#[test]
fn a_read_gives_a_replica_the_parts_that_it_lacks() {
    let mut three = Replicas::three();
    let id = three.begin(0, "k", Action::Write(set("v")));
    let sent = three.hold(0);
    let sent = sent.into_iter().map(|(session, message)| {
        let is_to_second = session == three.session(0, 1);
        match is_to_second {
            true => (session, with_part(message, &newer_part("new"))),
            false => (session, message),
        }
    });
    let sent = sent.collect();
    three.release(0, sent);
    assert_eq!(three.reply(0, id), Some(Reply::Ok));
    assert!(head_of(&three.nodes[2], "k").unknown.is_empty());
    assert_eq!(three.get(2, "k"), bulk("v"));
    three.cut_off(0);
    assert_eq!(three.get(2, "k"), bulk("v"));
    assert_eq!(
        head_of(&three.nodes[2], "k"),
        head_of(&three.nodes[1], "k"),
        "us-3 was asked, and us-2 had more"
    );
}

fn added(element: &str, actor: ActorId) -> RowsDelta<()> {
    let stamp = Stamp::new(Hlc::from_millis(1), actor);
    crdt::add(
        &Context::new(),
        stamp,
        bytes(element),
        &Dots::new(),
        (),
        true,
    )
}

/// Stores a head that holds a part of the set, as a release would have kept it that had no sets.
fn keep_unjoined(region: &Region, key: &str, body: Vec<u8>) {
    let kept = [&[1, Tag::SET.number(), 0, 1, body.len() as u8][..], &body].concat();
    let mut value = Head::default().encode();
    value[0] = 2;
    value.extend(kept);
    let key = bytes(key);
    let mut batch = Batch::default();
    let stored = head::stored_key(&Position::of(&key), &key);
    batch.put(Family::Head, stored, value);
    meta::note_unknown(&mut batch);
    region.storage.commit(&batch, Durability::Power).unwrap();
}

#[test]
fn what_was_kept_is_joined_by_the_release_that_knows_its_type() {
    let mut us = Region::new("us", &[], 1);
    us.write("other", add(&["x"]));
    let body = crdt::encode(0, &added("x", us.actor())).split_off(1);
    keep_unjoined(&us, "kept", body.clone());
    keep_unjoined(&us, "kept too", body);
    assert_eq!(adopt(&us.storage).unwrap().keys, 2);
    us.restart();
    assert_eq!(us.read("kept", Read::Cardinality), Reply::Int(1));
    assert_eq!(us.read("kept too", Read::Cardinality), Reply::Int(1));
    assert_eq!(us.shard.tallies().total().keys, 3);
    assert_eq!(adopt(&us.storage), Ok(Adopted::default()));
    assert!(!meta::has_unknown(&us.storage).unwrap());
}

#[test]
fn what_was_kept_and_is_damaged_is_left_and_the_others_are_joined() {
    let mut us = Region::new("us", &[], 1);
    let part = added("x", us.actor());
    keep_unjoined(&us, "sound", crdt::encode(0, &part).split_off(1));
    keep_unjoined(&us, "damaged", vec![0xff]);
    let adopted = adopt(&us.storage).unwrap();
    assert_eq!((adopted.keys, adopted.damaged), (1, 1));
    assert!(adopted.first.unwrap().to_string().contains("damaged"));
    us.restart();
    assert_eq!(us.read("sound", Read::Cardinality), Reply::Int(1));
    let kept = head_of(&us, "damaged").unknown;
    assert!(kept.has_known(), "it is there for a later try");
    assert!(meta::has_unknown(&us.storage).unwrap());
}

#[test]
fn what_is_still_unknown_is_left_as_it_is() {
    let (mut us, mut eu) = pair();
    us.write("k", set("v"));
    ship_with_part(&mut us, &mut eu, &newer_part("new"));
    let before = head_of(&eu, "k");
    assert_eq!(adopt(&eu.storage), Ok(Adopted::default()));
    assert_eq!(head_of(&eu, "k"), before);
    assert!(meta::has_unknown(&eu.storage).unwrap());
}

#[test]
fn a_key_takes_no_more_of_unknown_types_than_it_may() {
    let (mut us, mut eu) = pair();
    let large = |fill: &str| newer_part(&fill.repeat(600 << 10));
    for fill in ["a", "b", "c"] {
        us.write("k", set(fill));
        ship_with_part(&mut us, &mut eu, &large(fill));
    }
    assert!(head_of(&eu, "k").unknown.bytes() < 2 << 20);
    us.write("other", set("v"));
    connect(&mut us, &eu, 2);
    deliver(&mut us, &mut eu, 2);
    assert_eq!(eu.get("other"), bulk("v"), "other keys go on");
}
