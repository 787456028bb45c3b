//! Chance, from the seed and nothing else.

use rand::{RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// A stream of random numbers. Each part of a world has one of its own, so that a draw more in one part does not move the others.
#[derive(Debug, Clone)]
pub struct Dice(ChaCha8Rng);

/// Which part of a world draws.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u64)]
pub enum Stream {
    /// What kind of world it is.
    Plan = 1,
    /// What clients ask.
    Workload = 2,
    /// What breaks, and when.
    Faults = 3,
    /// How long messages take.
    Network = 4,
    /// How long hosts take, and how they batch.
    Hosts = 5,
    /// How long datagrams take, which are lost, and whom hosts gossip with.
    Gossip = 6,
    /// What few worlds are like.
    Rare = 7,
    /// Which single messages are lost, doubled or overtaken, and in which worlds.
    Mishaps = 8,
    /// In which worlds clients ask about one kind of keys, and which.
    Focus = 9,
    /// In which of these only one kind of thing goes wrong, and which.
    Narrow = 10,
}

impl Dice {
    /// One stream of a seed.
    pub fn new(seed: u64, stream: Stream) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(stream as u64);
        Self(rng)
    }

    /// 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// A number below `bound`, which is not 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        assert!(bound > 0, "nothing to choose from");
        ((u128::from(self.bits()) * u128::from(bound)) >> 64) as u64
    }

    /// A number from `low` to `high`, both included.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        assert!(low <= high);
        low + self.below(high - low + 1)
    }

    /// A signed number from `low` to `high`, both included.
    pub fn between_signed(&mut self, low: i64, high: i64) -> i64 {
        assert!(low <= high);
        low + self.below(low.abs_diff(high) + 1) as i64
    }

    /// True with a probability of `parts` in a thousand.
    pub fn chance(&mut self, parts: u64) -> bool {
        self.below(1000) < parts
    }

    /// One of several.
    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len() as u64) as usize]
    }

    /// The index of a weight, as often as the weights say. At least one is not 0.
    pub fn weighted(&mut self, weights: &[u64]) -> usize {
        let mut left = self.below(weights.iter().sum());
        for (index, &weight) in weights.iter().enumerate() {
            if left < weight {
                return index;
            }
            left -= weight;
        }
        unreachable!("a number below the sum of the weights falls on one of them")
    }

    /// The generator itself, for code that takes one.
    pub fn rng(&mut self) -> &mut ChaCha8Rng {
        &mut self.0
    }
}
