//! Goal: a crash is noticed within a few heartbeat intervals, in clusters of the size that most have.
//!
//! Method: 50 crashes at all phases of the round in small clusters, and 20 of nodes that have just started, after a long first gap; from
//! the crash to the suspicion, over all survivors.

mod common;

use std::time::Duration;

use common::{config, millis, seconds, settled, world::World};
use gossip::{Event, Standing};

/// How long after a moment others took to suspect a host.
fn suspicions(world: &World, victim: usize, begin: Duration) -> Vec<Duration> {
    let name = &world.hosts[victim].name;
    let is_it =
        |verdict: &gossip::Verdict| verdict.node == *name && verdict.standing == Standing::Suspect;
    let reports = world.reports.iter().filter(|(at, _, event)| {
        *at >= begin && matches!(event, Event::Believed(verdict) if is_it(verdict))
    });
    reports.map(|(at, ..)| *at - begin).collect()
}

/// Kills a host and takes it back; how long each survivor took to suspect it.
fn crash(world: &mut World, victim: usize) -> Vec<Duration> {
    let begin = world.now();
    world.kill(victim);
    world.run_for(seconds(5));
    let times = suspicions(world, victim, begin);
    world.start(victim);
    world.run_for(seconds(15));
    times
}

fn crashes(hosts: usize, loss: f64) -> Vec<Duration> {
    let mut world = settled(hosts, loss, 61);
    world.run_for(seconds(60));
    let mut times = Vec::new();
    for turn in 0..50 {
        world.run_for(millis(turn as u64 * 37 % 200));
        times.extend(crash(&mut world, turn % hosts));
    }
    assert!(times.len() >= 50 * (hosts - 1), "every survivor notices");
    times.sort_unstable();
    times
}

#[test]
fn half_of_the_survivors_suspect_a_crashed_node_within_three_intervals() {
    for (hosts, loss, intervals) in [(3, 0.0, 3), (9, 0.0, 3), (9, 0.2, 4)] {
        let times = crashes(hosts, loss);
        let (p50, p99) = (times[times.len() / 2], times[times.len() * 99 / 100]);
        println!("{hosts} hosts, loss {loss}: p50 {p50:?}, p99 {p99:?}");
        assert!(p50 <= intervals * config().interval);
        assert!(p99 <= 2 * intervals * config().interval);
    }
}

/// A cluster whose hosts hear of each other, then nothing for a while (their connections are being made), then live regularly for as long
/// as they are given, until one is killed; how long each survivor took to suspect it.
fn crash_of_the_young(hosts: usize, gap: Duration, life: Duration, seed: u64) -> Vec<Duration> {
    let mut world = common::world(hosts, 0.0, seed);
    world.start_all();
    world.run_for(millis(100));
    world.network.lose(1.0);
    world.run_for(gap);
    world.network.lose(0.0);
    world.run_for(life);
    let victim = seed as usize % hosts;
    let begin = world.now();
    world.kill(victim);
    world.run_for(seconds(5));
    let times = suspicions(&world, victim, begin);
    assert_eq!(
        times.len(),
        hosts - 1,
        "every survivor notices, seed {seed}"
    );
    times
}

#[test]
fn a_long_gap_at_the_start_does_not_slow_the_suspicion_of_a_young_node() {
    for (hosts, gap, life) in [
        (3, 0, 1),
        (3, 6, 1),
        (3, 6, 2),
        (3, 9, 1),
        (9, 6, 1),
        (9, 6, 2),
    ] {
        let gap = gap * config().interval;
        let run = |seed| crash_of_the_young(hosts, gap, seconds(life), seed);
        let mut times: Vec<Duration> = (0..20).flat_map(run).collect();
        times.sort_unstable();
        let (p50, longest) = (times[times.len() / 2], times[times.len() - 1]);
        println!("{hosts} hosts, gap {gap:?}, {life} s old: p50 {p50:?}, longest {longest:?}");
        assert!(p50 <= 4 * config().interval);
        let look = config().interval / 4;
        assert!(longest <= 5 * config().interval + look);
    }
}

#[test]
fn the_young_that_live_are_not_suspected() {
    for (hosts, loss) in [(3, 0.0), (3, 0.2), (9, 0.0), (9, 0.2)] {
        for seed in 0..20 {
            let mut world = common::world(hosts, loss, seed);
            let begin = world.now();
            world.start_all();
            world.run_for(seconds(20));
            let all: Vec<usize> = (0..hosts).collect();
            let suspicions = world.suspicions(begin, &all);
            assert_eq!(suspicions, 0, "{hosts} hosts, loss {loss}, seed {seed}");
        }
    }
}
