//! Goal: where others are known to have failed, this does not.
//!
//! Method: each failure that was reported against a gossip library, played through in a small world of its own.

mod common;

use common::{millis, seconds, settled, world, world::World};
use gossip::{Event, Standing};

/// chitchat#59: a digest that outgrew its datagram was not sent at all, and the cluster fell apart.
#[test]
fn a_digest_that_outgrows_a_datagram_goes_round_in_turns() {
    // 75 mentions fill the smallest datagram; every send asserts the bound.
    let mut world = world(150, 0.0, 51);
    world.config.datagram_bytes = 1_000;
    world.config.round_bytes = 12_000;
    world.start_all();
    // Long versions make long digests.
    for (host, turn) in (0..150).flat_map(|host| (0..300_u32).map(move |turn| (host, turn))) {
        let value = bytes::Bytes::from(turn.to_be_bytes().to_vec());
        let key = "turn".parse().expect("a key");
        assert_eq!(world.gossip_mut(host).set(key, value), Ok(()));
    }
    let rounds = world.rounds_until(60, World::is_converged);
    println!("150 hosts, digests of 75: {rounds:?} rounds");
    assert!(rounds.is_some());
    let begin = world.now();
    world.run_for(seconds(10));
    let all: Vec<usize> = (0..150).collect();
    assert_eq!(world.suspicions(begin, &all), 0);
}

/// chitchat#94, #155, #161: dead generations were gossiped for ever, and came back after they had been collected.
#[test]
fn a_dead_generation_is_collected_everywhere_and_never_returns() {
    let mut world = world(12, 0.1, 52);
    world.config.dead_grace = seconds(40);
    world.start_all();
    assert!(world.rounds_until(50, World::is_converged).is_some());
    for _ in 0..5 {
        world.kill(5);
        world.run_for(millis(300));
        world.start(5);
        world.run_for(seconds(3));
    }
    world.kill(5);
    let rounds = world.rounds_until(300, |world| world.nobody_knows(5));
    println!("collected after {rounds:?} rounds of 0.2 s, the grace being 40 s");
    assert!(rounds.is_some_and(|rounds| rounds <= 230), "{rounds:?}");
    let begin = world.now();
    world.run_for(seconds(120));
    assert!(world.nobody_knows(5));
    let name = &world.hosts[5].name;
    let met = world.reports.iter().filter(|(at, _, event)| {
        *at >= begin && matches!(event, Event::Met(identity) if identity.node == *name)
    });
    assert_eq!(met.count(), 0);
}

/// The same, when one member was asleep while the others collected: it remembers a corpse that they have buried.
#[test]
fn one_who_slept_through_a_burial_does_not_undo_it() {
    let mut world = world(6, 0.0, 53);
    world.config.dead_grace = seconds(40);
    world.start_all();
    assert!(world.rounds_until(50, World::is_converged).is_some());
    world.kill(5);
    world.run_for(seconds(5));
    world.pause(4, seconds(60));
    world.run_for(seconds(55));
    let begin = world.now();
    world.run_for(seconds(10));
    assert_eq!(
        world.standing(4, 5),
        Some(Standing::Down),
        "it has been awake for 10 s only"
    );
    world.run_for(seconds(60));
    assert!(world.nobody_knows(5));
    let name = &world.hosts[5].name;
    let met = world.reports.iter().filter(|(at, _, event)| {
        *at >= begin && matches!(event, Event::Met(identity) if identity.node == *name)
    });
    assert_eq!(met.count(), 0);
}

/// foca#31: at members behind a long and lossy way, the list of members grew without bound.
#[test]
fn members_do_not_multiply_at_far_and_lossy_nodes() {
    let mut world = world(12, 0.0, 54);
    world.config.dead_grace = seconds(60);
    world.network.far.loss = 0.3;
    world.network.far.delay = millis(300);
    world.network.far.jitter = millis(300);
    world.start_all();
    for turn in 0..60 {
        world.run_for(seconds(3));
        world.kill(turn % 12);
        world.run_for(millis(500));
        world.start(turn % 12);
        for host in world.running() {
            assert!(world.gossip(host).members().count() <= 11);
        }
    }
    assert!(world.rounds_until(100, World::is_converged).is_some());
}

/// foca#15: once every other member was down, nobody was asked any more, and there was no way back.
#[test]
fn there_is_a_way_back_from_nobody() {
    for loss in [0.0, 0.2] {
        let mut world = settled(9, loss, 55);
        let all: Vec<usize> = (0..9).collect();
        for host in 0..9 {
            let others: Vec<usize> = all.iter().copied().filter(|other| *other != host).collect();
            world.network.part(&[host], &others);
        }
        world.run_for(seconds(60));
        for host in 0..9 {
            let up = world
                .gossip(host)
                .members()
                .filter(|member| member.standing == Standing::Up);
            assert_eq!(up.count(), 0);
        }
        world.network.heal();
        let rounds = world.rounds_until(40, World::is_converged);
        println!("back from nobody, loss {loss}: {rounds:?} rounds");
        assert!(rounds.is_some());
    }
}

/// The same, when they have even forgotten each other, and only seeds are left.
#[test]
fn there_is_a_way_back_from_having_forgotten_everybody() {
    let mut world = world(9, 0.0, 56);
    world.config.dead_grace = seconds(20);
    world.start_all();
    assert!(world.rounds_until(50, World::is_converged).is_some());
    let all: Vec<usize> = (0..9).collect();
    for host in 0..9 {
        let others: Vec<usize> = all.iter().copied().filter(|other| *other != host).collect();
        world.network.part(&[host], &others);
    }
    world.run_for(seconds(120));
    assert!((0..9).all(|host| world.gossip(host).members().count() == 0));
    world.network.heal();
    assert!(world.rounds_until(60, World::is_converged).is_some());
}

/// Islands that had forgotten each other stayed split: nobody had a reason to look across.
#[test]
fn split_islands_that_forgot_each_other_find_each_other() {
    let mut world = world(12, 0.0, 57);
    world.config.dead_grace = seconds(20);
    world.start_all();
    assert!(world.rounds_until(50, World::is_converged).is_some());
    // Each island holds one of the two seeds.
    let even: Vec<usize> = (0..12).filter(|host| host % 2 == 0).collect();
    let odd: Vec<usize> = (0..12).filter(|host| host % 2 == 1).collect();
    world.network.part(&even, &odd);
    world.run_for(seconds(120));
    assert_eq!(
        world.gossip(0).members().count(),
        5,
        "the other island is forgotten"
    );
    world.network.heal();
    let rounds = world.rounds_until(60, World::is_converged);
    println!("islands rejoin after {rounds:?} rounds");
    assert!(rounds.is_some());
}
