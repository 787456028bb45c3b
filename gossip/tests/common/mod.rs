//! The simulated network and the world of hosts that the tests share.

#![allow(dead_code)]

pub mod network;
pub mod world;

use std::time::Duration;

use gossip::Config;

use network::{Link, Network};
use world::World;

pub fn config() -> Config {
    Config::new("demo".parse().expect("a name"))
}

pub fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Three regions, 1 ms inside and 40 ms across, with jitter; nothing started yet.
pub fn world(hosts: usize, loss: f64, seed: u64) -> World {
    let network = Network::new(Link::new(1, 1, loss), Link::new(40, 10, loss), 3, seed);
    World::new(hosts, network, config(), seed)
}

/// The same, started and converged.
pub fn settled(hosts: usize, loss: f64, seed: u64) -> World {
    let mut world = world(hosts, loss, seed);
    world.start_all();
    let rounds = world.rounds_until(200, World::is_converged);
    assert!(rounds.is_some(), "{hosts} hosts did not find each other");
    world.run_for(seconds(20));
    world
}
