//! Random choice from entropy that is given: the same entropy chooses the same.

/// SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014): small, and good enough
/// to pick members of a set.
#[derive(Debug, Clone)]
pub struct Sampler(u64);

impl Sampler {
    /// From 64 random bits.
    pub fn new(entropy: u64) -> Self {
        Self(entropy)
    }

    /// 64 bits.
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    /// A number below `bound`, which must not be 0. Lemire's multiply-shift; its bias is below 2^-32 for bounds below 2^32.
    pub fn below(&mut self, bound: usize) -> usize {
        assert!(bound > 0, "nothing to choose from");
        ((u128::from(self.draw()) * bound as u128) >> 64) as usize
    }

    /// Moves `count` randomly chosen items to the front, in random order (Fisher and Yates).
    pub fn shuffle_front<T>(&mut self, items: &mut [T], count: usize) {
        for index in 0..count.min(items.len()) {
            let chosen = index + self.below(items.len() - index);
            items.swap(index, chosen);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shuffle_keeps_every_item_and_reaches_every_place() {
        let mut sampler = Sampler::new(7);
        let mut firsts = [0usize; 5];
        for _ in 0..5000 {
            let mut items = [0, 1, 2, 3, 4];
            sampler.shuffle_front(&mut items, 2);
            firsts[items[0]] += 1;
            items.sort_unstable();
            assert_eq!(items, [0, 1, 2, 3, 4]);
        }
        assert!(firsts.iter().all(|&count| count > 800), "{firsts:?}");
    }
}
