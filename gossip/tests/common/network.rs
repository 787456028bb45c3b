//! A simulated network: what becomes of a datagram, decided by a seeded die.

use std::{collections::BTreeSet, time::Duration};

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// How a way between two hosts behaves, in one direction.
#[derive(Debug, Clone, Copy)]
pub struct Link {
    pub delay: Duration,
    /// Added at random, from none to all of it: messages overtake each other.
    pub jitter: Duration,
    /// Chance that a datagram is lost.
    pub loss: f64,
    /// Chance that it comes twice.
    pub duplication: f64,
}

impl Link {
    pub fn new(delay_ms: u64, jitter_ms: u64, loss: f64) -> Self {
        Self {
            delay: Duration::from_millis(delay_ms),
            jitter: Duration::from_millis(jitter_ms),
            loss,
            duplication: 0.0,
        }
    }
}

pub struct Network {
    /// Inside a region and between regions.
    pub near: Link,
    pub far: Link,
    regions: usize,
    /// Ways that are cut, by direction.
    cut: BTreeSet<(usize, usize)>,
    rng: ChaCha8Rng,
}

impl Network {
    pub fn new(near: Link, far: Link, regions: usize, seed: u64) -> Self {
        let rng = ChaCha8Rng::seed_from_u64(seed);
        let cut = BTreeSet::new();
        Self {
            near,
            far,
            regions,
            cut,
            rng,
        }
    }

    pub fn region(&self, host: usize) -> usize {
        host % self.regions
    }

    pub fn lose(&mut self, loss: f64) {
        self.near.loss = loss;
        self.far.loss = loss;
    }

    pub fn cut(&mut self, from: usize, to: usize) {
        self.cut.insert((from, to));
    }

    /// Cuts every way between the two groups.
    pub fn part(&mut self, group: &[usize], other: &[usize]) {
        for (one, two) in group
            .iter()
            .flat_map(|one| other.iter().map(move |two| (*one, *two)))
        {
            self.cut(one, two);
            self.cut(two, one);
        }
    }

    pub fn heal(&mut self) {
        self.cut.clear();
    }

    /// After how long a datagram arrives: not at all, once, or twice.
    pub fn fate(&mut self, from: usize, to: usize) -> Vec<Duration> {
        if self.cut.contains(&(from, to)) {
            return Vec::new();
        }
        let same = self.region(from) == self.region(to);
        let link = if same { self.near } else { self.far };
        let copies =
            1 + usize::from(link.duplication > 0.0 && self.rng.random_bool(link.duplication));
        let mut arrivals = Vec::new();
        for _ in 0..copies {
            if link.loss > 0.0 && self.rng.random_bool(link.loss) {
                continue;
            }
            let jitter = link.jitter.as_micros() as u64;
            let jitter = Duration::from_micros(self.rng.random_range(0..=jitter));
            arrivals.push(link.delay + jitter);
        }
        arrivals
    }
}
