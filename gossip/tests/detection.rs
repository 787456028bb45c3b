//! Goal: a crash is noticed within a few heartbeat intervals, in clusters of the size that most have.
//!
//! Method: 50 crashes at all phases of the round in small clusters; from the crash to the suspicion, over all survivors.

mod common;

use std::time::Duration;

use common::{config, millis, seconds, settled, world::World};
use gossip::{Event, Standing};

/// Kills a host and takes it back; how long each survivor took to suspect it.
fn crash(world: &mut World, victim: usize) -> Vec<Duration> {
    let begin = world.now();
    world.kill(victim);
    world.run_for(seconds(5));
    let name = &world.hosts[victim].name;
    let suspicions = world.reports.iter().filter(|(at, _, event)| {
        let is_it = |verdict: &gossip::Verdict| {
            verdict.node == *name && verdict.standing == Standing::Suspect
        };
        *at >= begin && matches!(event, Event::Believed(verdict) if is_it(verdict))
    });
    let times: Vec<Duration> = suspicions.map(|(at, ..)| *at - begin).collect();
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
