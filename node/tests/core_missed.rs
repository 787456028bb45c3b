//! Goal: what was acknowledged stays, whoever missed it: a replica that is behind is written through, read through and asked.
//!
//! Method: three replicas of one region, or two regions, message by message; one misses what a majority acknowledged.

#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, its helpers too"
)]

mod core_support;

use std::{
    collections::{BTreeMap, BTreeSet},
    num::NonZeroU8,
    sync::Arc,
    time::Duration,
};

use core_support::{Region, UNBOUNDED, WALL_MS, add, bulk, bytes, remove, replicas::Replicas, set};
use node::{
    core::{
        Input,
        identity::DirectoryId,
        message::{Message, SessionId},
        op::{Action, Condition, Read, SetExpiry, Write},
        reply::Reply,
        ship::{Destination, Home, OutboxBounds},
    },
    level::Level,
    names::{NodeName, RegionName},
    placement::{Placement, Position},
    storage::{Batch, Durability, Family, Storage, record::head::stored_key},
};

const ONE: Level = Level::Replicas(NonZeroU8::MIN);

type Held = Vec<(SessionId, Message)>;

fn members(reply: &Reply) -> BTreeSet<String> {
    let Reply::Set(items) = reply else {
        panic!("no set: {reply:?}");
    };
    items.iter().map(core_support::text).collect()
}

fn of(elements: &[&str]) -> BTreeSet<String> {
    elements
        .iter()
        .map(|element| (*element).to_owned())
        .collect()
}

fn set_with(value: &str, expiry: SetExpiry) -> Write {
    Write::Set {
        value: bytes(value),
        expiry,
        condition: Condition::Always,
        return_old: false,
    }
}

/// The others acknowledge a write that one node misses. Gives what is under way to it.
fn missed_by(three: &mut Replicas, node: usize, write: Write, reply: &Reply) -> Vec<Held> {
    three.cut_off(node);
    let through = (node + 1) % 3;
    let id = three.begin(through, "k", Action::Write(write));
    three.deliver();
    for _ in 0..2 {
        for other in (0..3).filter(|other| *other != node) {
            three.nodes[other].pass(100);
            three.nodes[other].tick();
        }
        three.nodes[node].pass(100); // its clock runs too
        three.deliver();
    }
    assert_eq!(three.reply(through, id).as_ref(), Some(reply));
    let held = (0..3).map(|node| three.hold(node)).collect();
    three.cut.clear();
    held
}

fn arrive(three: &mut Replicas, held: Vec<Held>) {
    for (node, held) in held.into_iter().enumerate() {
        three.release(node, held);
    }
}

fn pass(three: &mut Replicas, millis: u64) {
    three.nodes.iter_mut().for_each(|node| node.pass(millis));
}

/// The second node's clock is ahead, and it has a value with an end that the first one misses.
fn with_an_end_ahead() -> (Replicas, Held) {
    let mut three = Replicas::three();
    three.nodes[1].wall_ms = WALL_MS + 600;
    three.cut_off(0);
    let ends = SetExpiry::At(WALL_MS + 5000);
    assert_eq!(three.write(1, "k", set_with("x", ends)), Reply::Ok);
    let held = three.hold(1);
    three.cut.clear();
    (three, held)
}

#[test]
fn p7_a_set_is_not_ended_by_the_end_of_an_earlier_set() {
    let (mut three, held) = with_an_end_ahead();
    assert_eq!(three.write(0, "k", set("a")), Reply::Ok);
    three.release(1, held);
    pass(&mut three, 20_000);
    for node in 0..3 {
        assert_eq!(three.get(node, "k"), bulk("a"), "through {node}");
    }
}

#[test]
fn p7_a_removal_of_so_many_elements_that_it_takes_several_rows_is_told_of_each_by_those_who_know_them()
 {
    let names: Vec<String> = (0..1100).map(|n| format!("{n:0>1100}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut three = Replicas::three();
    let held = missed_by(&mut three, 2, add(&names), &Reply::Int(1100));
    let removed = three.write(2, "k", remove(&names));
    let left = three.read(0, "k", Read::Cardinality);
    assert_eq!(
        left,
        Reply::Int(0),
        "of them it says to have removed {removed:?}"
    );
    arrive(&mut three, held);
    three.live(0..3, 5);
    for node in 0..3 {
        let left = three.read(node, "k", Read::Cardinality);
        assert_eq!(left, Reply::Int(0), "through {node}");
    }
}

/// One node in `us`, and three in `eu` with three replicas of each key: all joined. They keep so much of their outboxes.
fn two_regions(bounds: OutboxBounds) -> Replicas {
    let (us, eu): (RegionName, RegionName) =
        ("us".parse().expect("a name"), "eu".parse().expect("a name"));
    let node = |name: &str| -> NodeName { name.parse().expect("a name") };
    let eus: BTreeSet<NodeName> = ["eu-1", "eu-2", "eu-3"].map(node).into();
    let members = BTreeMap::from([
        (us.clone(), BTreeSet::from([node("us-1")])),
        (eu.clone(), eus.clone()),
    ]);
    let counts = BTreeMap::from([(us.clone(), 1), (eu.clone(), 3)]);
    let placement = Arc::new(Placement::new(members, &counts));
    let place = |region: &RegionName, node: &NodeName| Home {
        region: region.clone(),
        node: node.clone(),
        placement: Arc::clone(&placement),
        is_sloppy: false,
    };
    let mut places = vec![place(&us, &node("us-1"))];
    places.extend(eus.iter().map(|node| place(&eu, node)));
    let mut world = Replicas::joined(places.clone().into_iter());
    world.nodes = places
        .into_iter()
        .zip(10..)
        .map(|(place, id)| {
            let is_us = place.node.as_str() == "us-1";
            let bounds = if is_us { UNBOUNDED } else { bounds };
            Region::at(place, DirectoryId(id), bounds)
        })
        .collect();
    world.join();
    world
}

/// What is stored of a key here is no row any more; nobody has looked at it since the start.
fn damage(region: &Region, key: &str) {
    let stored = stored_key(&Position::of(key.as_bytes()), key.as_bytes());
    let mut batch = Batch::default();
    batch.put(Family::Head, stored, b"\x01garbage".to_vec());
    let committed = region.storage.commit(&batch, Durability::Process);
    committed.expect("memory takes everything");
}

/// Whether what is stored of a key here can be read and is this.
fn stores(region: &Region, key: &str, value: &str) -> bool {
    let stored = stored_key(&Position::of(key.as_bytes()), key.as_bytes());
    let head = region.storage.get(Family::Head, &stored);
    let head = head.expect("memory can be read");
    let head =
        head.and_then(|head| node::storage::record::head::Head::decode(key.as_bytes(), &head).ok());
    let register = head.and_then(|head| head.string.register);
    register.and_then(|register| register.value) == Some(bytes(value))
}

#[test]
fn p1_a_replica_that_could_not_join_a_write_does_not_count_for_it() {
    let mut three = Replicas::three();
    damage(&three.nodes[1], "k");
    three.cut_off(2);
    let id = three.begin(0, "k", Action::Write(set("v")));
    three.live(0..2, 15);
    let having = (0..3).filter(|node| stores(&three.nodes[*node], "k", "v"));
    let having = having.count();
    let reply = three.reply(0, id);
    assert!(
        reply != Some(Reply::Ok) || having >= 2,
        "acknowledged at a quorum, and on {having} of three"
    );
}

#[test]
fn a_taker_that_could_not_join_a_write_passes_it_on_all_the_same() {
    let mut world = two_regions(UNBOUNDED);
    let taker = (1..4).find(|taker| {
        let session = world.session(0, *taker);
        let eu = Destination::Region("eu".parse().expect("a name"));
        let actor = world.nodes[0].actor();
        let shipper = world.nodes[0].shard.shipper();
        shipper.taking(&eu, actor, Duration::MAX) == Some(session)
    });
    let taker = taker.expect("somebody takes");
    damage(&world.nodes[taker], "k");
    let each = world.nodes[0].request_at("k", Action::Write(set("v")), Level::EachQuorum);
    world.nodes[0].close();
    world.live(0..4, 15);
    let having = (1..4).filter(|node| stores(&world.nodes[*node], "k", "v"));
    let having = having.count();
    let reply = world.reply(0, each);
    assert!(
        reply != Some(Reply::Ok) || having >= 2,
        "acknowledged at each_quorum, and on {having} of three there"
    );
    assert_eq!(having, 2, "those whose rows are sound");
}

#[test]
fn a_write_is_answered_although_the_answer_to_one_before_it_that_nobody_waits_for_was_lost() {
    let mut three = Replicas::three();
    three.cut_off(2);
    let first = three.nodes[0].request_at("a", Action::Write(set("v")), ONE);
    three.nodes[0].close();
    assert_eq!(three.reply(0, first), Some(Reply::Ok));
    three.deliver_from(0);
    assert_eq!(three.nodes[1].returned.len(), 1);
    three.nodes[1].returned.clear();
    // Nothing else is lost. The second one arrives, and its answer too.
    let second = three.begin(0, "b", Action::Write(set("v")));
    three.live(0..2, 19);
    assert_eq!(three.nodes[1].storage_value("b"), Some("v".to_owned()));
    assert_eq!(three.reply(0, second), Some(Reply::Ok));
}

#[test]
fn a_write_is_not_refused_because_a_message_before_it_was_lost() {
    let mut three = Replicas::three();
    three.cut_off(2);
    let session = three.session(0, 2);
    three.nodes[0].input(Input::SessionDown { session });
    let first = three.nodes[0].request_at("a", Action::Write(set("v")), ONE);
    three.nodes[0].close();
    assert_eq!(three.reply(0, first), Some(Reply::Ok));
    three.nodes[0].sent.clear(); // this one is lost
    let second = three.begin(0, "b", Action::Write(set("v")));
    three.deliver();
    let third = three.begin(0, "c", Action::Write(set("v")));
    three.live(0..2, 19);
    assert_eq!(three.reply(0, second), Some(Reply::Ok));
    assert_eq!(three.reply(0, third), Some(Reply::Ok));
}

/// The second node's clock is ahead, and a key was deleted through it that the first one still has, or never had.
fn deleted_ahead() -> (Replicas, Held) {
    let mut three = Replicas::three();
    three.nodes[1].wall_ms = WALL_MS + 600;
    three.cut_off(0);
    assert_eq!(three.write(1, "k", set("x")), Reply::Ok);
    assert_eq!(three.write(1, "k", Write::Delete), Reply::Int(1));
    let held = three.hold(1);
    three.cut.clear();
    (three, held)
}

#[test]
fn a_connection_reads_what_it_wrote_before_in_one_pipeline() {
    let (mut three, held) = deleted_ahead();
    let written = three.nodes[0].request("k", Action::Write(set("a")));
    let seen = three.nodes[0].request("k", Action::Read(Read::Get));
    three.nodes[0].close();
    three.deliver();
    three.live(0..3, 5);
    assert_eq!(three.reply(0, written), Some(Reply::Ok));
    assert_eq!(three.reply(0, seen), Some(bulk("a")));
    drop(held);
}

#[test]
fn a_set_if_absent_finds_what_the_connection_set_before_in_one_pipeline() {
    let (mut three, held) = deleted_ahead();
    let written = three.nodes[0].request("k", Action::Write(set("a")));
    let if_absent = Write::Set {
        value: bytes("b"),
        expiry: SetExpiry::Clear,
        condition: Condition::IfAbsent,
        return_old: false,
    };
    let again = three.nodes[0].request("k", Action::Write(if_absent));
    three.nodes[0].close();
    three.deliver();
    three.live(0..3, 5);
    assert_eq!(three.reply(0, written), Some(Reply::Ok));
    assert_eq!(three.reply(0, again), Some(Reply::Nil));
    assert_eq!(three.get(0, "k"), bulk("a"));
    drop(held);
}

#[test]
fn p7_an_append_appends_to_what_the_connection_set_before_in_one_pipeline() {
    let (mut three, held) = deleted_ahead();
    let written = three.nodes[0].request("k", Action::Write(set("a")));
    let longer = three.nodes[0].request("k", Action::Write(Write::Append { value: bytes("b") }));
    three.nodes[0].close();
    three.deliver();
    three.live(0..3, 5);
    assert_eq!(three.reply(0, written), Some(Reply::Ok));
    assert_eq!(three.reply(0, longer), Some(Reply::Int(2)));
    assert_eq!(three.get(0, "k"), bulk("ab"));
    drop(held);
}

/// Two requests of one connection through the first node, one after the other, without waiting between them.
fn pipeline(three: &mut Replicas, first: Write, second: Action) -> (Reply, Reply) {
    let first = three.nodes[0].request("k", Action::Write(first));
    let second = three.nodes[0].request("k", second);
    three.nodes[0].close();
    three.deliver();
    three.live(0..3, 5);
    let first = three.reply(0, first).expect("the first is answered");
    (
        first,
        three.reply(0, second).expect("the second is answered"),
    )
}

#[test]
fn p7_an_append_behind_a_delete_in_one_pipeline_does_not_bring_back_what_was_deleted() {
    let mut three = Replicas::three();
    let held = missed_by(&mut three, 0, set("old"), &Reply::Ok);
    let append = Action::Write(Write::Append {
        value: bytes("new"),
    });
    let (deleted, length) = pipeline(&mut three, Write::Delete, append);
    assert_eq!(deleted, Reply::Int(1));
    for node in 0..3 {
        let shown = three.get(node, "k");
        assert_eq!(shown, bulk("new"), "through {node}, of length {length:?}");
    }
    drop(held);
}

#[test]
fn a_set_if_absent_behind_a_delete_in_one_pipeline_sets() {
    let mut three = Replicas::three();
    let held = missed_by(&mut three, 0, set("old"), &Reply::Ok);
    let if_absent = Action::Write(Write::Set {
        value: bytes("new"),
        expiry: SetExpiry::Clear,
        condition: Condition::IfAbsent,
        return_old: false,
    });
    let replies = pipeline(&mut three, Write::Delete, if_absent);
    assert_eq!(replies, (Reply::Int(1), Reply::Ok));
    assert_eq!(three.get(1, "k"), bulk("new"));
    drop(held);
}

#[test]
fn a_connection_does_not_see_what_it_removed_before_in_one_pipeline() {
    let mut three = Replicas::three();
    let held = missed_by(&mut three, 0, add(&["a"]), &Reply::Int(1));
    let (removed, seen) = pipeline(&mut three, remove(&["a"]), Action::Read(Read::Members));
    assert_eq!(removed, Reply::Int(1));
    assert_eq!(
        members(&seen),
        of(&[]),
        "it was removed by the same connection"
    );
    drop(held);
}

#[test]
fn p4_a_pop_behind_a_removal_in_one_pipeline_gives_out_nothing_that_was_removed() {
    let mut three = Replicas::three();
    let held = missed_by(&mut three, 0, add(&["a"]), &Reply::Int(1));
    let pop = Action::Write(Write::Pop {
        count: 1,
        entropy: 7,
    });
    let (removed, popped) = pipeline(&mut three, remove(&["a"]), pop);
    assert_eq!(removed, Reply::Int(1));
    assert_eq!(popped, Reply::Array(Vec::new()), "both got the one element");
    drop(held);
}
