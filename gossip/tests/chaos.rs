//! Goal: after any mixture of faults, and with values that change all the time, all views and all values become equal by themselves.
//!
//! Method: seeded turns of everything that can happen to a node or a way, then quiet, then every view is compared with the truth.

mod common;

use bytes::Bytes;
use common::{millis, seconds, world, world::World};
use gossip::{Key, Standing};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

const HOSTS: usize = 12;

struct Chaos {
    world: World,
    rng: ChaCha8Rng,
}

impl Chaos {
    fn new(seed: u64) -> Self {
        let mut world = world(HOSTS, 0.05, seed);
        world.config.dead_grace = seconds(60);
        world.config.tombstone_grace = seconds(5);
        world.network.near.duplication = 0.05;
        world.network.far.jitter = millis(100);
        world.start_all();
        world.run_for(seconds(5));
        let rng = ChaCha8Rng::seed_from_u64(seed);
        Self { world, rng }
    }

    fn host(&mut self) -> usize {
        self.rng.random_range(0..HOSTS)
    }

    fn turn(&mut self) {
        let host = self.host();
        let runs = self.world.running().contains(&host);
        match (self.rng.random_range(0..12), runs) {
            (0, true) => self.world.kill(host),
            (1, true) => self.world.depart(host),
            (2, true) => {
                let pause = millis(self.rng.random_range(100..20_000));
                self.world.pause(host, pause);
            }
            (3, true) => self.world.gossip_mut(host).leave(),
            (4, _) => self.cut(),
            (5, _) => self.world.network.heal(),
            (6, false) => self.wipe(host),
            (_, false) => self.world.start(host),
            (_, true) => self.publish(host),
        }
    }

    fn cut(&mut self) {
        let group: Vec<usize> = (0..HOSTS).filter(|_| self.rng.random_bool(0.3)).collect();
        let rest: Vec<usize> = (0..HOSTS).filter(|host| !group.contains(host)).collect();
        self.world.network.part(&group, &rest);
    }

    fn wipe(&mut self, host: usize) {
        self.world.hosts[host].directory += 1_000;
        self.world.start(host);
    }

    fn publish(&mut self, host: usize) {
        for _ in 0..self.rng.random_range(1..20) {
            let key: Key = format!("key-{}", self.rng.random_range(0..40))
                .parse()
                .expect("a key");
            if self.rng.random_bool(0.3) {
                self.world.gossip_mut(host).unset(&key);
                continue;
            }
            let length = self.rng.random_range(0..300);
            let value = Bytes::from(vec![self.rng.random(); length]);
            assert_eq!(self.world.gossip_mut(host).set(key, value), Ok(()));
        }
    }

    fn run(&mut self, turns: usize) {
        for _ in 0..turns {
            self.turn();
            let pause = millis(self.rng.random_range(10..2_000));
            self.world.run_for(pause);
        }
        self.world.network.heal();
        for host in 0..HOSTS {
            if !self.world.running().contains(&host) {
                self.world.start(host);
            }
        }
        // Sleepers wake, and whoever fell often is believed again.
        self.world.run_for(seconds(60));
    }

    fn assert_all_agree(&self, seed: u64) {
        for observer in 0..HOSTS {
            for observed in (0..HOSTS).filter(|observed| *observed != observer) {
                self.assert_agree(seed, observer, observed);
            }
        }
    }

    fn assert_agree(&self, seed: u64, observer: usize, observed: usize) {
        let what = format!("seed {seed}: {observer} of {observed}");
        let (view, truth) = (self.world.gossip(observer), self.world.gossip(observed));
        let name = &truth.identity().node;
        let member = view
            .member(name)
            .unwrap_or_else(|| panic!("{what}: unknown"));
        assert_eq!(member.identity, truth.identity(), "{what}");
        assert_eq!(member.status, truth.status(), "{what}");
        assert!(
            matches!(member.standing, Standing::Up | Standing::Leaving),
            "{what}: {member:?}"
        );
        assert!(
            view.values(name).eq(truth.values(name)),
            "{what}: values differ"
        );
    }
}

fn survives(seed: u64, turns: usize) {
    let mut chaos = Chaos::new(seed);
    chaos.run(turns);
    chaos.assert_all_agree(seed);
}

#[test]
fn after_any_mixture_of_faults_all_agree() {
    (0..8).for_each(|seed| survives(seed, 80));
}

#[test]
#[ignore = "a soak: minutes"]
fn after_any_mixture_of_faults_all_agree_with_many_seeds() {
    (100..400).for_each(|seed| survives(seed, 150));
}
