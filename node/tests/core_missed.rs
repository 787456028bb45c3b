//! Goal: what was acknowledged stays, whoever missed it: a replica that is behind, or a message that was lost.
//!
//! Method: three replicas of one region, or two regions, message by message; rows are damaged, messages lost, clocks wrong.

#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, its helpers too"
)]

mod core_support;

use std::{sync::Arc, time::Duration};

use core_support::{
    Region, UNBOUNDED, WALL_MS, add, bulk, bytes,
    missed::{ONE, arrive, missed_by, two_regions},
    pair, remove,
    replicas::Replicas,
    set, ship,
};
use node::{
    core::{
        Input,
        message::Message,
        op::{Action, Read},
        reply::Reply,
        ship::Destination,
    },
    level::Level,
    names::NodeName,
    placement::{Partition, Position},
    storage::{Batch, Durability, Family, Storage, record::head::stored_key},
};

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

#[test]
fn a_level_that_spans_regions_is_answered_although_one_message_between_them_is_lost() {
    for lost in ["nothing", "ship", "taken"] {
        let mut world = two_regions(UNBOUNDED);
        world.live(0..4, 3);
        let each = world.nodes[0].request_at("k", Action::Write(set("v")), Level::EachQuorum);
        world.nodes[0].close();
        let is_ship = |message: &Message| matches!(message, Message::Ship(_));
        let is_taken = |message: &Message| matches!(message, Message::Ack(_));
        if lost == "taken" {
            world.deliver_from(0);
            for node in 1..4 {
                let returned = &mut world.nodes[node].returned;
                returned.retain(|(_, message)| !is_taken(message));
            }
        } else if lost == "ship" {
            let sent = world.nodes[0].sent.len();
            world.nodes[0].sent.retain(|(_, message)| !is_ship(message));
            assert!(world.nodes[0].sent.len() < sent);
        }
        world.live(0..4, 19);
        let reply = world.reply(0, each);
        assert_eq!(reply, Some(Reply::Ok), "{lost} was lost");
    }
}

#[test]
fn a_read_is_answered_although_one_message_of_its_question_is_lost() {
    for lost in ["nothing", "compare", "compared", "mend", "mended"] {
        let mut three = Replicas::three();
        let held = missed_by(&mut three, 0, add(&["a"]), &Reply::Int(1));
        three.cut_off(2);
        // The one that is asked lacks something, and so does who asks.
        let only_here = three.nodes[0].request_at("k", Action::Write(add(&["b"])), ONE);
        three.nodes[0].close();
        assert!(three.reply(0, only_here).is_some());
        three.nodes[0].sent.clear();
        let id = three.begin(0, "k", Action::Read(Read::Members));
        let is_it = |message: &Message| match message {
            Message::Compare(_) => lost == "compare",
            Message::Compared { .. } => lost == "compared",
            Message::Repair { .. } => lost == "mend",
            Message::Repaired { .. } => lost == "mended",
            _ => false,
        };
        let mut is_lost = false;
        for _ in 0..19 {
            for _ in 0..6 {
                for node in 0..2 {
                    let sent = &mut three.nodes[node].sent;
                    let at = sent.iter().position(|(session, message)| {
                        let ends = [session.0 / 10 % 10, session.0 % 10];
                        !is_lost && is_it(message) && !ends.contains(&2)
                    });
                    if let Some(at) = at {
                        sent.remove(at);
                        is_lost = true;
                    }
                    three.deliver_from(node);
                }
            }
            for node in 0..2 {
                three.nodes[node].pass(100);
                three.nodes[node].tick();
            }
        }
        assert!(is_lost || lost == "nothing", "{lost}");
        let reply = three.reply(0, id);
        let reply = reply.unwrap_or_else(|| panic!("{lost} was lost: no answer"));
        assert!(matches!(reply, Reply::Set(_)), "{lost} was lost: {reply:?}");
        drop(held);
    }
}

#[test]
fn a_node_that_is_no_replica_any_more_does_not_count_itself() {
    let nodes = ["us-1", "us-2", "us-3", "us-4"];
    let four = nodes.map(|node| core_support::home("us", node, &[("us", &nodes)], 3));
    // They meet before all of them know of the fourth one.
    let before = nodes.map(|node| core_support::home("us", node, &[("us", &nodes[..3])], 3));
    let mut world = Replicas::joined(before.into_iter().take(3).chain([four[3].clone()]));
    let placement = Arc::clone(&four[0].placement);
    let region = placement
        .region(&"us".parse().expect("a name"))
        .expect("it is placed");
    let first: NodeName = "us-1".parse().expect("a name");
    let mut keys = (0..1000).map(|n| format!("k{n}"));
    let key = keys.find(|key| !region.is_replica(&first, Partition::of(key.as_bytes())));
    let key = key.expect("some key is on the others");
    let id = world.begin(0, &key, Action::Write(set("v")));
    let held = world.hold(0);
    for node in 0..3 {
        world.nodes[node].input(Input::Placed(Arc::clone(&placement)));
    }
    world.cut.extend([(0, 2), (0, 3), (1, 3), (1, 2)]);
    world.release(0, held);
    world.live(0..4, 5);
    let having = (1..4).filter(|node| stores(&world.nodes[*node], &key, "v"));
    let having = having.count();
    let reply = world.reply(0, id);
    assert!(
        reply != Some(Reply::Ok) || having >= 2,
        "acknowledged, and on {having} of its three replicas"
    );
}

#[test]
fn a_start_with_a_clock_far_ahead_drops_nothing_that_others_have_not_taken() {
    let (mut us, mut eu) = pair();
    assert_eq!(us.write("k", set("v")), Reply::Ok);
    // eu is away for a moment; us starts with a clock of this evening, and is started again with the right one.
    us.wall_ms += 4 * 3600 * 1000;
    us.restart();
    core_support::maintain(&mut us);
    us.wall_ms = WALL_MS + 2000;
    us.restart();
    eu.wall_ms = WALL_MS + 2000;
    ship(&mut us, &mut eu, 1);
    assert_eq!(eu.get("k"), bulk("v"));
    assert!(!us.lag("eu").needs_repair);
}

#[test]
fn a_node_that_knows_that_its_clock_is_wrong_drops_nothing_by_it() {
    let (mut us, mut eu) = pair();
    assert_eq!(us.write("k", set("v")), Reply::Ok);
    us.input(Input::ClockSkew(Some(
        "four hours ahead of the others".to_owned(),
    )));
    us.wall_ms += 4 * 3600 * 1000;
    core_support::maintain(&mut us);
    us.wall_ms = WALL_MS + 2000;
    us.input(Input::ClockSkew(None));
    eu.wall_ms = WALL_MS + 2000;
    ship(&mut us, &mut eu, 1);
    assert_eq!(eu.get("k"), bulk("v"));
}

/// Rows age by what two clocks agree on.
#[test]
fn a_wall_clock_that_is_wrong_twice_drops_nothing_that_is_new() {
    let hours = |n: u64| n * 3_600_000;
    let mut us = core_support::Region::new("us", &["eu"], 1);
    us.wall_ms += hours(10);
    core_support::maintain(&mut us);
    us.wall_ms -= hours(10);
    us.write("k", set("v"));
    core_support::maintain(&mut us);
    us.wall_ms += hours(10);
    for _ in 0..3 {
        core_support::maintain(&mut us);
    }
    us.wall_ms -= hours(10);
    assert_eq!(
        core_support::outbox_rows(&us),
        1,
        "it was written seconds ago"
    );
    assert!(!us.lag("eu").needs_repair);
}
