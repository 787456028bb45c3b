//! Goal: views converge in few rounds, whatever the network does to datagrams, and at a cost that does not grow with the cluster.
//!
//! Method: worlds of 3, 50 and 500 hosts in virtual time, three regions; rounds are counted until every running host sees every
//! running host up in its present life, and nobody else.

mod common;

use bytes::Bytes;
use common::{config, millis, settled, world, world::World};
use gossip::{Key, Standing};

/// A cluster that starts all at once from two seeds: each member has to hear the descriptions of all, whose number its bytes
/// per round divide; the factor leaves room for that.
fn rounds_from_nothing(hosts: usize) -> u32 {
    4 + 5 * hosts.ilog2()
}

/// One change in a cluster that knows itself.
fn rounds_for_news(hosts: usize) -> u32 {
    4 + 2 * hosts.ilog2()
}

fn key() -> Key {
    "colour".parse().expect("a key")
}

fn converge_from_nothing(world: &mut World) {
    let hosts = world.hosts.len();
    world.start_all();
    let rounds = world.rounds_until(200, World::is_converged);
    println!("{hosts} hosts find each other: {rounds:?} rounds");
    let most = rounds_from_nothing(hosts);
    assert!(
        rounds.is_some_and(|rounds| rounds <= most),
        "at most {most}"
    );
}

fn value_spreads(world: &mut World) {
    let hosts = world.hosts.len();
    let author = world.hosts[1].name.clone();
    let value = Bytes::from_static(b"blue");
    let set = world.gossip_mut(1).set(key(), value.clone());
    assert_eq!(set, Ok(()));
    let rounds = world.rounds_until(100, |world| {
        let mut running = world.running().into_iter();
        running.all(|host| world.gossip(host).value(&author, &key()) == Some(&value))
    });
    println!("{hosts} hosts learn of a value: {rounds:?} rounds");
    let most = rounds_for_news(hosts);
    assert!(
        rounds.is_some_and(|rounds| rounds <= most),
        "at most {most}"
    );
}

fn newcomer_is_known(world: &mut World, newcomer: usize) {
    world.start(newcomer);
    let rounds = world.rounds_until(100, World::is_converged);
    let running = world.running().len();
    println!("{running} hosts and a newcomer know each other: {rounds:?} rounds");
    // It has to hear of everybody, and everybody to be asked or heard of three times.
    let most = rounds_for_news(running) + u32::try_from(running / 20).expect("few");
    assert!(
        rounds.is_some_and(|rounds| rounds <= most),
        "at most {most}"
    );
}

fn crash_is_noticed(world: &mut World, victim: usize) {
    world.kill(victim);
    let rounds = world.rounds_until(100, |world| {
        let mut running = world.running().into_iter();
        running.all(|host| world.standing(host, victim) != Some(Standing::Up))
    });
    let running = world.running().len();
    println!("{running} hosts notice a crash: {rounds:?} rounds");
    let most = rounds_for_news(running);
    assert!(
        rounds.is_some_and(|rounds| rounds <= most),
        "at most {most}"
    );
}

/// Bytes that a host sends in a round, on average.
fn bytes_per_round(world: &mut World, rounds: u32) -> u64 {
    let before = world.bytes_sent();
    world.run_for(config().interval * rounds);
    let sent = world.bytes_sent() - before;
    sent / (u64::from(rounds) * world.running().len() as u64)
}

#[test]
fn three_nodes_find_each_other_and_hear_all_news() {
    for loss in [0.0, 0.3] {
        let mut world = world(3, loss, 1);
        converge_from_nothing(&mut world);
        value_spreads(&mut world);
    }
}

#[test]
fn fifty_nodes_find_each_other_and_hear_all_news() {
    for loss in [0.0, 0.1, 0.3] {
        let mut world = world(50, loss, 2);
        converge_from_nothing(&mut world);
        value_spreads(&mut world);
        world.run_for(millis(2_000));
        world.kill(49);
        world.run_for(millis(10_000));
        newcomer_is_known(&mut world, 49);
    }
}

#[test]
fn five_hundred_nodes_find_each_other_and_hear_all_news_within_the_budget() {
    let mut world = world(500, 0.0, 3);
    converge_from_nothing(&mut world);
    value_spreads(&mut world);
    let bytes = bytes_per_round(&mut world, 3);
    println!("500 hosts send {bytes} bytes a round each");
    assert!(bytes < config().round_bytes as u64);
    crash_is_noticed(&mut world, 77);
}

#[test]
fn delayed_doubled_overtaken_and_lost_datagrams_delay_convergence_and_prevent_nothing() {
    let mut world = world(50, 0.2, 4);
    world.network.near.jitter = millis(150);
    world.network.far.jitter = millis(400);
    world.network.near.duplication = 0.2;
    world.network.far.duplication = 0.2;
    converge_from_nothing(&mut world);
    value_spreads(&mut world);
}

#[test]
fn bytes_per_node_do_not_grow_with_the_cluster_once_a_digest_fills_a_datagram() {
    let mut bytes = Vec::new();
    for hosts in [3, 50, 140, 220] {
        let mut world = world(hosts, 0.0, 5);
        world.config.datagram_bytes = 1_000;
        world.start_all();
        assert!(world.rounds_until(200, World::is_converged).is_some());
        world.run_for(millis(1_000));
        let now = bytes_per_round(&mut world, 10);
        println!("{hosts} hosts send {now} bytes a round each");
        assert!(now < config().round_bytes as u64);
        bytes.push(now as f64);
    }
    let (full, double) = (bytes[2], bytes[3]);
    assert!(
        double < 1.1 * full,
        "140 hosts: {full}; 220 hosts: {double}"
    );
}

#[test]
fn a_quiet_cluster_suspects_nobody() {
    for (hosts, loss) in [(3, 0.0), (3, 0.1), (50, 0.05)] {
        let mut world = settled(hosts, loss, 6);
        let begin = world.now();
        world.run_for(millis(60_000));
        let all: Vec<usize> = (0..hosts).collect();
        assert_eq!(
            world.suspicions(begin, &all),
            0,
            "{hosts} hosts, loss {loss}"
        );
    }
}

#[test]
#[ignore = "a soak: minutes"]
fn five_hundred_nodes_in_a_bad_network_find_each_other() {
    for seed in 0..3 {
        let mut world = world(500, 0.2, seed);
        converge_from_nothing(&mut world);
        value_spreads(&mut world);
        crash_is_noticed(&mut world, 77);
        world.run_for(millis(10_000));
        newcomer_is_known(&mut world, 77);
    }
}
