//! Goal: a newcomer depends on its seed for one exchange, not longer.
//!
//! Method: small worlds; the seed dies as soon as its answers have come, whatever the moment between two rounds; then everybody who
//! lives has to find everybody.

mod common;

use common::{
    millis, seconds, settled, world,
    world::{Host, World, address},
};
use gossip::{Input, Target};

/// The moments of an interval at which newcomers come.
fn moments() -> impl Iterator<Item = u64> {
    (0..200).step_by(20)
}

#[test]
fn two_who_joined_through_a_seed_that_dies_find_each_other() {
    for moment in moments() {
        let mut world = world(3, 0.0, 70 + moment);
        world.seeds = vec![0];
        world.start(0);
        world.run_for(seconds(2) + millis(moment));
        world.start(1);
        world.run_for(millis(5));
        world.start(2);
        // There and back across two regions, and not a round longer.
        world.run_for(millis(110));
        world.kill(0);
        let rounds = world.rounds_until(10, |world| knows(world, 1, 2) && knows(world, 2, 1));
        assert!(rounds.is_some(), "{moment} ms after a round");
    }
}

#[test]
fn a_newcomer_is_told_of_all_in_one_exchange_however_many_they_are() {
    for moment in moments() {
        let mut world = settled(40, 0.0, 71);
        world.hosts.push(Host::new(40));
        world.seeds = vec![0];
        world.run_for(millis(moment));
        world.start(40);
        world.run_for(millis(110));
        world.kill(0);
        let known = world.gossip(40).members().count();
        assert_eq!(known, 40, "{moment} ms after a round");
    }
}

#[test]
fn whoever_is_reached_is_asked_at_once_and_tells_all() {
    let mut world = settled(20, 0.0, 72);
    world.hosts.push(Host::new(20));
    world.seeds = Vec::new();
    world.start(20);
    world.run_for(seconds(1) + millis(10));
    assert_eq!(world.gossip(20).members().count(), 0, "nobody is known yet");
    let reached = |name| Target {
        node: name,
        address: address(3),
    };
    world.handle(20, Input::Reached(reached(None)));
    world.run_for(millis(110));
    assert_eq!(world.gossip(20).members().count(), 20);
    // One that is known by name is asked as well: it may have restarted meanwhile.
    let name = world.hosts[3].name.clone();
    let asked = world.gossip(20).counters().datagrams_sent;
    world.handle(20, Input::Reached(reached(Some(name))));
    assert_eq!(world.gossip(20).counters().datagrams_sent, asked + 1);
}

fn knows(world: &World, observer: usize, observed: usize) -> bool {
    world.standing(observer, observed) == Some(gossip::Standing::Up)
}
