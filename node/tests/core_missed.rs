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

use core_support::{
    Region, UNBOUNDED, WALL_MS, add, bulk, bytes, incr, pair, remove, replicas::Replicas, set, ship,
};
use node::{
    core::{
        Input,
        identity::DirectoryId,
        message::{Message, SessionId},
        op::{Action, Condition, ExpireCondition, Read, SetExpiry, Write},
        reply::Reply,
        ship::{Destination, Home, OutboxBounds},
    },
    level::Level,
    names::{NodeName, RegionName},
    placement::{Partition, Placement, Position},
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

fn expire(at_ms: u64) -> Write {
    Write::Expire {
        at_ms: at_ms as i64,
        condition: ExpireCondition::Always,
    }
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

#[test]
fn p7_a_key_that_was_persisted_at_a_quorum_is_not_ended_by_a_replica_that_missed_that() {
    let mut three = Replicas::three();
    let ends = SetExpiry::At(WALL_MS + 5000);
    assert_eq!(three.write(0, "k", set_with("v", ends)), Reply::Ok);
    let held = missed_by(&mut three, 0, Write::Persist, &Reply::Int(1));
    // us-1 still hears nothing, and the end that it knows of has passed.
    three.cut_off(0);
    pass(&mut three, 6000);
    three.nodes[0].tick();
    three.cut.clear();
    arrive(&mut three, held);
    three.live(0..3, 5);
    for node in 0..3 {
        assert_eq!(three.get(node, "k"), bulk("v"), "through {node}");
    }
}

#[test]
fn p4_elements_of_a_key_that_was_persisted_at_a_quorum_survive_an_add_through_a_replica_that_missed_that()
 {
    let mut three = Replicas::three();
    three.write(0, "k", add(&["a"]));
    assert_eq!(three.write(1, "k", expire(WALL_MS + 5000)), Reply::Int(1));
    let held = missed_by(&mut three, 0, Write::Persist, &Reply::Int(1));
    pass(&mut three, 6000);
    three.write(0, "k", add(&["b"]));
    arrive(&mut three, held);
    for node in 0..3 {
        let left = members(&three.read(node, "k", Read::Members));
        assert_eq!(left, of(&["a", "b"]), "through {node}");
    }
}

#[test]
fn p3_increments_of_a_key_whose_end_was_put_off_at_a_quorum_survive_one_through_a_replica_that_missed_that()
 {
    let mut three = Replicas::three();
    assert_eq!(three.write(1, "k", incr(100)), Reply::Int(100));
    assert_eq!(three.write(1, "k", expire(WALL_MS + 5000)), Reply::Int(1));
    let held = missed_by(&mut three, 0, expire(WALL_MS + 500_000), &Reply::Int(1));
    pass(&mut three, 6000);
    three.write(0, "k", incr(1));
    arrive(&mut three, held);
    for node in 0..3 {
        assert_eq!(three.get(node, "k"), bulk("101"), "through {node}");
    }
}

#[test]
fn p3_an_increment_after_the_end_through_a_replica_that_missed_the_expire_stays() {
    let mut three = Replicas::three();
    assert_eq!(three.write(1, "k", incr(5)), Reply::Int(5));
    let held = missed_by(&mut three, 2, expire(WALL_MS + 2000), &Reply::Int(1));
    pass(&mut three, 6000);
    assert!(matches!(three.write(2, "k", incr(7)), Reply::Int(_)));
    for node in 0..3 {
        let shown = three.get(node, "k");
        assert!(
            shown == bulk("7") || shown == bulk("12"),
            "through {node}: {shown:?}"
        );
    }
    arrive(&mut three, held);
    three.live(0..3, 5);
    assert_ne!(three.get(0, "k"), Reply::Nil);
}

#[test]
fn p4_an_add_after_the_end_through_a_replica_that_missed_the_expire_stays() {
    let mut three = Replicas::three();
    three.write(1, "k", add(&["a"]));
    let held = missed_by(&mut three, 2, expire(WALL_MS + 2000), &Reply::Int(1));
    pass(&mut three, 6000);
    assert_eq!(three.write(2, "k", add(&["b"])), Reply::Int(1));
    for node in 0..3 {
        let there = three.read(
            node,
            "k",
            Read::AreMembers {
                members: vec![bytes("b")],
            },
        );
        assert_eq!(there, Reply::Array(vec![Reply::Int(1)]), "through {node}");
    }
    arrive(&mut three, held);
    three.live(0..3, 5);
    let there = three.read(
        0,
        "k",
        Read::AreMembers {
            members: vec![bytes("b")],
        },
    );
    assert_eq!(there, Reply::Array(vec![Reply::Int(1)]));
}

#[test]
fn p4_a_set_that_was_emptied_through_a_replica_that_missed_part_of_it_leaves_no_end_to_the_next_one()
 {
    let mut three = Replicas::three();
    three.write(0, "k", add(&["a", "b"]));
    let held = missed_by(&mut three, 2, expire(WALL_MS + 10_000), &Reply::Int(1));
    let more = missed_by(&mut three, 2, remove(&["b"]), &Reply::Int(1));
    // Here "b" is left; everywhere else nothing is.
    assert_eq!(three.write(2, "k", remove(&["a"])), Reply::Int(1));
    assert_eq!(three.read(0, "k", Read::Exists), Reply::Int(0));
    assert_eq!(three.read(2, "k", Read::Exists), Reply::Int(0));
    assert_eq!(three.write(2, "k", add(&["c"])), Reply::Int(1));
    arrive(&mut three, held);
    arrive(&mut three, more);
    pass(&mut three, 20_000);
    for node in 0..3 {
        let left = members(&three.read(node, "k", Read::Members));
        assert_eq!(left, of(&["c"]), "through {node}");
    }
}

#[test]
fn p4_a_set_that_two_regions_emptied_together_leaves_no_end_to_the_next_one() {
    let (mut us, mut eu) = pair();
    us.write("k", add(&["a", "b"]));
    us.write("k", expire(WALL_MS + 10_000));
    ship(&mut us, &mut eu, 1);
    us.write("k", remove(&["a"]));
    eu.write("k", remove(&["b"]));
    ship(&mut us, &mut eu, 3);
    ship(&mut eu, &mut us, 4);
    assert_eq!(us.read("k", Read::Exists), Reply::Int(0));
    assert_eq!(eu.read("k", Read::Exists), Reply::Int(0));
    // Both have all of that. What is made now is another key.
    assert_eq!(us.write("k", add(&["c"])), Reply::Int(1));
    ship(&mut us, &mut eu, 5);
    us.pass(20_000);
    eu.pass(20_000);
    assert_eq!(us.read("k", Read::Cardinality), Reply::Int(1));
    assert_eq!(eu.read("k", Read::Cardinality), Reply::Int(1));
}

#[test]
fn p3_a_delete_beside_an_expire_in_another_region_leaves_no_end_to_the_next_counter() {
    let (mut us, mut eu) = pair();
    us.write("k", set("v"));
    ship(&mut us, &mut eu, 1);
    assert_eq!(us.write("k", expire(WALL_MS + 10_000)), Reply::Int(1));
    assert_eq!(eu.write("k", Write::Delete), Reply::Int(1));
    ship(&mut us, &mut eu, 3);
    ship(&mut eu, &mut us, 4);
    assert_eq!(us.read("k", Read::Exists), Reply::Int(0));
    assert_eq!(us.write("k", incr(1)), Reply::Int(1));
    us.pass(20_000);
    assert_eq!(us.get("k"), bulk("1"), "no SET or DEL came after it");
}

#[test]
fn p3_a_delete_beside_an_expire_in_one_region_leaves_no_end_to_the_next_counter() {
    let mut three = Replicas::three();
    three.write(0, "k", set("v"));
    // Both are under way at once: EXPIRE is carried out through us-1, DEL through us-3, and us-2 hears DEL first.
    let expires = three.begin(0, "k", Action::Write(expire(WALL_MS + 10_000)));
    while three.nodes[0].storage_value("k").is_some()
        && !three.nodes[0]
            .sent
            .iter()
            .any(|(_, message)| matches!(message, Message::Ship(_)))
    {
        assert!(three.deliver_from(0) | three.deliver_from(1) | three.deliver_from(2));
    }
    let held = three.hold(0);
    let deletes = three.begin(2, "k", Action::Write(Write::Delete));
    three.cut.extend([(2, 0), (0, 2)]);
    three.deliver();
    assert_eq!(three.reply(2, deletes), Some(Reply::Int(1)));
    three.release(0, held);
    three.deliver();
    assert_eq!(three.reply(0, expires), Some(Reply::Int(1)));
    three.mend();
    three.live(0..3, 5);
    assert_eq!(three.read(1, "k", Read::Exists), Reply::Int(0));
    assert_eq!(three.write(1, "k", incr(1)), Reply::Int(1));
    pass(&mut three, 20_000);
    for node in 0..3 {
        assert_eq!(three.get(node, "k"), bulk("1"), "through {node}");
    }
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
fn p7_a_set_that_a_later_expire_put_an_end_to_is_not_ended_by_the_end_of_an_earlier_set() {
    let (mut three, held) = with_an_end_ahead();
    let a = three.begin(0, "k", Action::Write(set("a")));
    let b = three.nodes[0].request_at("k", Action::Write(expire(WALL_MS + 100_000)), ONE);
    three.nodes[0].close();
    three.deliver();
    assert_eq!(three.reply(0, a), Some(Reply::Ok));
    assert_eq!(three.reply(0, b), Some(Reply::Int(1)));
    three.release(1, held);
    pass(&mut three, 20_000);
    for node in 0..3 {
        assert_eq!(three.get(node, "k"), bulk("a"), "through {node}");
    }
}

#[test]
fn p7_a_set_that_one_at_one_replaced_is_not_ended_by_the_end_of_an_earlier_set() {
    let (mut three, held) = with_an_end_ahead();
    let a = three.begin(0, "k", Action::Write(set("a")));
    let b = three.nodes[0].request_at("k", Action::Write(set("b")), ONE);
    three.nodes[0].close();
    three.deliver();
    assert_eq!(three.reply(0, a), Some(Reply::Ok));
    assert_eq!(three.reply(0, b), Some(Reply::Ok));
    three.release(1, held);
    for node in 0..3 {
        assert_eq!(three.get(node, "k"), bulk("b"), "through {node}");
    }
    pass(&mut three, 20_000);
    for node in 0..3 {
        assert_eq!(three.get(node, "k"), bulk("b"), "later, through {node}");
    }
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

#[test]
fn p7_a_string_that_was_acknowledged_is_not_hidden_by_an_add_through_a_replica_that_missed_it() {
    let mut three = Replicas::three();
    let held = missed_by(&mut three, 2, set("v"), &Reply::Ok);
    let added = three.write(2, "k", add(&["a"]));
    for node in 0..3 {
        assert_eq!(
            three.get(node, "k"),
            bulk("v"),
            "through {node} after {added:?}"
        );
    }
    arrive(&mut three, held);
    assert_eq!(three.get(0, "k"), bulk("v"));
}

#[test]
fn p4_a_set_that_was_acknowledged_is_not_hidden_by_an_increment_through_a_replica_that_missed_it() {
    let mut three = Replicas::three();
    let held = missed_by(&mut three, 2, add(&["a"]), &Reply::Int(1));
    let counted = three.write(2, "k", incr(1));
    for node in 0..3 {
        let shown = three.read(node, "k", Read::Members);
        assert_eq!(
            shown,
            Reply::Set(vec![bulk("a")]),
            "through {node} after {counted:?}"
        );
    }
    arrive(&mut three, held);
}

#[test]
fn an_element_that_was_added_before_the_end_does_not_come_back_after_it() {
    let mut three = Replicas::three();
    three.write(0, "k", add(&["a"]));
    assert_eq!(three.write(0, "k", expire(WALL_MS + 5000)), Reply::Int(1));
    let held = missed_by(&mut three, 0, add(&["b"]), &Reply::Int(1));
    three.cut_off(0);
    pass(&mut three, 6000);
    for node in 1..3 {
        assert_eq!(three.read(node, "k", Read::Exists), Reply::Int(0));
    }
    three.nodes[0].tick();
    three.cut.clear();
    arrive(&mut three, held);
    three.live(0..3, 5);
    for node in 0..3 {
        let exists = three.read(node, "k", Read::Exists);
        assert_eq!(exists, Reply::Int(0), "through {node}: nobody wrote since");
    }
}

#[test]
fn p3_a_set_that_a_delete_at_one_replaced_leaves_no_end_of_an_earlier_set_to_the_next_counter() {
    let (mut three, held) = with_an_end_ahead();
    let a = three.begin(0, "k", Action::Write(set("a")));
    let b = three.nodes[0].request_at("k", Action::Write(Write::Delete), ONE);
    three.nodes[0].close();
    three.deliver();
    assert_eq!(three.reply(0, a), Some(Reply::Ok));
    assert_eq!(three.reply(0, b), Some(Reply::Int(1)));
    three.release(1, held);
    assert_eq!(three.get(0, "k"), Reply::Nil);
    assert_eq!(three.write(0, "k", incr(1)), Reply::Int(1));
    pass(&mut three, 20_000);
    for node in 0..3 {
        assert_eq!(three.get(node, "k"), bulk("1"), "through {node}");
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

#[test]
fn a_level_that_spans_regions_is_answered_although_one_message_between_them_is_lost() {
    for lost in ["nothing", "ship", "taken"] {
        let mut world = two_regions(UNBOUNDED);
        world.live(0..4, 3);
        let each = world.nodes[0].request_at("k", Action::Write(set("v")), Level::EachQuorum);
        world.nodes[0].close();
        let is_ship = |message: &Message| matches!(message, Message::Ship(_));
        let is_taken = |message: &Message| matches!(message, Message::Taken(_));
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
            Message::Mend { .. } => lost == "mend",
            Message::Mended { .. } => lost == "mended",
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
fn p4_an_element_is_shown_that_was_added_through_a_replica_that_missed_how_the_set_became_a_string()
{
    let mut three = Replicas::three();
    three.write(0, "k", add(&["a"]));
    let held = missed_by(&mut three, 2, set("v"), &Reply::Ok);
    let added = three.write(2, "k", add(&["b"]));
    arrive(&mut three, held);
    let shown = three.read(0, "k", Read::Members);
    // Either it is refused, as the others know better, or it is there.
    assert!(
        matches!(added, Reply::Error(_)) || matches!(shown, Reply::Set(_)),
        "{added:?}, and then {shown:?}"
    );
}

#[test]
fn an_increment_is_not_refused_for_text_that_a_number_has_replaced() {
    let mut three = Replicas::three();
    three.write(0, "k", set("text"));
    let held = missed_by(&mut three, 2, set("5"), &Reply::Ok);
    let counted = three.write(2, "k", incr(1));
    assert!(matches!(counted, Reply::Int(_)), "{counted:?}");
    arrive(&mut three, held);
}

#[test]
fn an_add_is_not_refused_for_a_string_that_was_deleted() {
    let mut three = Replicas::three();
    three.write(0, "k", set("v"));
    let held = missed_by(&mut three, 2, Write::Delete, &Reply::Int(1));
    assert_eq!(three.write(2, "k", add(&["a"])), Reply::Int(1));
    arrive(&mut three, held);
}

#[test]
fn p7_an_element_is_removed_through_a_replica_that_still_has_the_string_that_was_there_before() {
    let mut three = Replicas::three();
    three.write(0, "k", set("v"));
    let mut held = missed_by(&mut three, 2, Write::Delete, &Reply::Int(1));
    held.extend(missed_by(&mut three, 2, add(&["a"]), &Reply::Int(1)));
    assert_eq!(three.write(2, "k", remove(&["a"])), Reply::Int(1));
    drop(held);
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
