//! Goal: a level that spans regions is met when replicas have the write: not when their taker has it for them, and not when a mark
//! has moved over rows that it says nothing about.
//!
//! Method: one node in `us` ships to several in `eu`, over memory storage, joined by hand; links inside `eu` are cut.

mod core_support;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use core_support::{Region, replicas::Replicas, set};
use node::{
    core::{
        Input, RequestId,
        identity::DirectoryId,
        op::Action,
        reply::Reply,
        ship::{Home, OutboxBounds},
    },
    level::Level,
    names::{NodeName, RegionName},
    placement::{Partition, Placement},
};

const US: usize = 0;

fn nodes(region: &str, count: usize) -> BTreeSet<NodeName> {
    let names = (1..=count).map(|n| format!("{region}-{n}").parse().expect("a name"));
    names.collect()
}

/// One node in `us`, and so many in `eu` with so many replicas of each key: all joined.
fn regions(eu: usize, replicas: u8) -> Replicas {
    let (us, region): (RegionName, RegionName) =
        ("us".parse().expect("a name"), "eu".parse().expect("a name"));
    let members = BTreeMap::from([
        (us.clone(), nodes("us", 1)),
        (region.clone(), nodes("eu", eu)),
    ]);
    let counts = BTreeMap::from([(us.clone(), 1), (region.clone(), replicas)]);
    let placement = Arc::new(Placement::new(members, &counts));
    let place = |(region, node): (RegionName, NodeName)| Home {
        region,
        node,
        placement: Arc::clone(&placement),
        is_sloppy: false,
    };
    let own = nodes("us", 1).into_iter().map(|node| (us.clone(), node));
    let others = nodes("eu", eu)
        .into_iter()
        .map(|node| (region.clone(), node));
    Replicas::joined(own.chain(others).map(place))
}

/// Three in `eu` with three replicas of each key, which keep so much of their outboxes.
fn bounded(bytes_max: u64) -> Replicas {
    let mut world = regions(3, 3);
    for (node, directory) in (1..4).zip(20..) {
        let home = world.nodes[node].shard.shipper().home().clone();
        let bounds = OutboxBounds {
            window: Duration::from_secs(3600),
            bytes_max,
        };
        world.nodes[node] = Region::at(home, DirectoryId(directory), bounds);
    }
    world.join();
    world
}

/// The sessions from `us` to all of these end, so that another one takes for the region.
fn ship_to_none_of(world: &mut Replicas, others: &[usize]) {
    for &other in others {
        let session = world.session(US, other);
        world.nodes[US].input(Input::SessionDown { session });
    }
}

fn begin(world: &mut Replicas, key: &str, level: Level) -> RequestId {
    let id = world.nodes[US].request_at(key, Action::Write(set("v")), level);
    world.nodes[US].close();
    id
}

/// A key whose only replica in `eu` is this node.
fn key_of(world: &Replicas, node: &str) -> String {
    let home = world.nodes[US].shard.shipper().home();
    let region = home
        .placement
        .region(&"eu".parse().expect("a name"))
        .expect("it is placed");
    let node: NodeName = node.parse().expect("a name");
    let mut keys = (0..1000).map(|n| format!("k{n}"));
    let is_its = |key: &String| region.is_replica(&node, Partition::of(key.as_bytes()));
    keys.find(is_its).expect("some key is its")
}

#[test]
fn a_taker_that_is_no_replica_counts_for_none() {
    for level in [Level::EachQuorum, Level::Quorum, Level::All] {
        let mut world = regions(2, 1);
        ship_to_none_of(&mut world, &[2]);
        let key = key_of(&world, "eu-2");
        world.cut.extend([(1, 2), (2, 1)]);
        let id = begin(&mut world, &key, level);
        world.live(0..3, 5);
        assert_eq!(world.nodes[2].storage_value(&key), None);
        assert_eq!(
            world.reply(US, id),
            None,
            "{level}: its only replica has nothing"
        );
        world.mend();
        world.live(0..3, 5);
        assert_eq!(world.nodes[2].storage_value(&key), Some("v".to_owned()));
        assert_eq!(world.reply(US, id), Some(Reply::Ok), "{level}");
    }
}

#[test]
fn a_taker_that_is_the_replica_counts_at_once() {
    let mut world = regions(2, 1);
    ship_to_none_of(&mut world, &[2]);
    let key = key_of(&world, "eu-1");
    world.cut.extend([(1, 2), (2, 1)]);
    let id = begin(&mut world, &key, Level::All);
    world.live(0..3, 5);
    assert_eq!(world.reply(US, id), Some(Reply::Ok));
}

#[test]
fn what_a_taker_is_bridged_over_is_not_on_every_replica() {
    let mut world = regions(3, 3);
    ship_to_none_of(&mut world, &[2, 3]);
    // eu-3 hears nothing from eu-1, which takes; eu-1 and eu-2 are the majority, and eu-1 remembers it for good.
    world.cut.extend([(1, 3), (3, 1)]);
    let id = begin(&mut world, "k", Level::All);
    world.live(0..4, 3);
    for node in 1..4 {
        world.nodes[node].save_inbox();
    }
    begin(&mut world, "another", Level::LocalQuorum);
    world.live(0..4, 3);
    assert_eq!(world.reply(US, id), None, "eu-3 lacks it");
    // eu-1 is gone, and eu-2 takes: of what the majority has nothing is sent again.
    world.cut_off(1);
    let session = world.session(US, 1);
    world.nodes[US].input(Input::SessionDown { session });
    world.connect(US, 2);
    world.live(0..4, 5);
    assert_eq!(world.nodes[3].storage_value("k"), None, "nobody told it");
    let reply = world.reply(US, id);
    assert_ne!(
        reply,
        Some(Reply::Ok),
        "a replica that lives lacks the write"
    );
    // What is written now is on every replica that eu-2 can tell for, and no hole holds it up.
    let quorum = begin(&mut world, "later", Level::EachQuorum);
    world.live(0..4, 5);
    assert_eq!(world.reply(US, quorum), Some(Reply::Ok));
}

#[test]
fn what_a_taker_dropped_before_it_passed_it_on_is_on_no_majority() {
    let mut world = bounded(400);
    ship_to_none_of(&mut world, &[2, 3]);
    // eu-1 takes, and has no session to the others of its region.
    for other in [2, 3] {
        let session = world.session(1, other);
        world.nodes[1].input(Input::SessionDown { session });
    }
    let id = begin(&mut world, "k", Level::EachQuorum);
    for round in 0..5 {
        let value = format!("{round:0>200}");
        world.nodes[US].write(&format!("filler{round}"), set(&value));
    }
    for _ in 0..12 {
        world.live(0..4, 1);
        world.nodes[1].save_inbox();
    }
    // What is left beyond its bounds is passed on, and eu-1 says that no more will be.
    world.connect(1, 2);
    world.connect(1, 3);
    world.live(0..4, 1);
    world.nodes[1].save_inbox();
    begin(&mut world, "another", Level::LocalQuorum);
    world.live(0..4, 1);
    // eu-1 is gone, and eu-2 goes on behind that.
    world.cut_off(1);
    let session = world.session(US, 1);
    world.nodes[US].input(Input::SessionDown { session });
    world.connect(US, 2);
    world.live(0..4, 5);
    assert_eq!(world.nodes[2].storage_value("k"), None, "nobody told it");
    assert_ne!(
        world.reply(US, id),
        Some(Reply::Ok),
        "two of three lack the write"
    );
    let quorum = begin(&mut world, "later", Level::EachQuorum);
    world.live(0..4, 5);
    assert_eq!(world.reply(US, quorum), Some(Reply::Ok));
}

/// Carries everything, but for the n-th message; gives how many there were.
fn deliver_but(world: &mut Replicas, count: &mut usize, lost: usize) {
    loop {
        let mut moved = false;
        for node in 0..world.nodes.len() {
            let sent = std::mem::take(&mut world.nodes[node].sent);
            let returned = std::mem::take(&mut world.nodes[node].returned);
            for (session, message) in sent.into_iter().chain(returned) {
                *count += 1;
                if *count == lost {
                    continue;
                }
                let (from, to) = (session.0 as usize / 10 % 10, session.0 as usize % 10);
                let other = if node == from { to } else { from };
                world.take(other, node == from, session, message);
                moved = true;
            }
        }
        if !moved {
            return;
        }
    }
}

/// Each of the first sixty messages is lost once. Whoever asked is answered, and everything goes on and arrives.
#[test]
fn p6_a_lost_message_between_regions_holds_nothing_up() {
    for level in ["all", "each_quorum", "quorum"] {
        let mut lost = 0;
        loop {
            lost += 1;
            let mut world = core_support::missed::two_regions(core_support::UNBOUNDED);
            world.live(0..4, 3);
            let mut count = 0;
            let mut ids = Vec::new();
            for (node, key) in [(0, "a"), (1, "b"), (2, "a")] {
                ids.push((
                    node,
                    world.nodes[node].request_at(
                        key,
                        Action::Write(set(key)),
                        level.parse().unwrap(),
                    ),
                ));
                world.nodes[node].close();
            }
            for _ in 0..150 {
                deliver_but(&mut world, &mut count, lost);
                for node in 0..4 {
                    world.nodes[node].pass(100);
                    world.nodes[node].tick();
                    world.nodes[node].save_inbox();
                }
            }
            let replies: Vec<_> = ids
                .into_iter()
                .map(|(node, id)| world.reply(node, id))
                .collect();
            assert!(
                replies.iter().all(Option::is_some),
                "{level}, {lost} lost: {replies:?}"
            );
            let again =
                world.nodes[0].request_at("c", Action::Write(set("c")), level.parse().unwrap());
            world.nodes[0].close();
            world.live(0..4, 10);
            assert_eq!(
                world.reply(0, again),
                Some(Reply::Ok),
                "{level}, {lost} lost"
            );
            for node in 0..4 {
                for key in ["a", "b", "c"] {
                    assert_eq!(
                        world.nodes[node].storage_value(key).as_deref(),
                        Some(key),
                        "{level}, {lost} lost, {node}"
                    );
                }
                let lags: Vec<_> = world.nodes[node]
                    .shard
                    .shipper()
                    .lags()
                    .map(|(_, lag)| lag.rows)
                    .collect();
                assert!(
                    lags.iter().all(|rows| *rows == 0),
                    "{level}, {lost} lost, {node}: {lags:?}"
                );
            }
            if lost > 60 || lost > count {
                break;
            }
        }
    }
}
