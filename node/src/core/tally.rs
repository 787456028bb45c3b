//! What a shard holds, counted as it writes: keys and digest per partition.
//!
//! A partition's digest is the wrapping sum of its keys' digests, so it follows every write at the cost of
//! one hash, does not depend on the order of anything, and sums over partitions to the node's digest.

use crate::{
    placement::{PARTITIONS, Partition},
    storage::record::meta::StoredTallies,
};

/// Keys and digest of one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    /// Keys that are shown, expiry aside.
    pub keys: u64,
    /// Wrapping sum of the digests of all its keys.
    pub digest: u128,
}

/// The tallies of the partitions that a shard owns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tallies {
    shard: u16,
    shards: u16,
    partitions: Vec<Tally>,
}

impl Tallies {
    /// Nothing held yet, by shard `shard` of `shards`.
    pub fn new(shard: u16, shards: u16) -> Self {
        assert!(shard < shards, "shard {shard} of {shards}");
        let owned = (PARTITIONS - shard).div_ceil(shards);
        Self {
            shard,
            shards,
            partitions: vec![Tally::default(); usize::from(owned)],
        }
    }

    /// From what an orderly stop stored.
    pub fn restore(shard: u16, shards: u16, stored: &StoredTallies) -> Self {
        let mut tallies = Self::new(shard, shards);
        for &(partition, keys, digest) in stored {
            if let Some(slot) = tallies.slot(partition) {
                *slot = Tally { keys, digest };
            }
        }
        tallies
    }

    /// What an orderly stop stores.
    pub fn store(&self) -> StoredTallies {
        self.iter()
            .filter(|(_, tally)| *tally != Tally::default())
            .map(|(p, tally)| (p, tally.keys, tally.digest))
            .collect()
    }

    /// Replaces a key's share: whether it was shown, and its digest, before and after.
    pub fn replace(&mut self, partition: Partition, before: (bool, u128), after: (bool, u128)) {
        let Some(slot) = self.slot(partition.index()) else {
            return;
        };
        debug_assert!(
            slot.keys >= u64::from(before.0),
            "a key that was never counted leaves"
        );
        slot.keys = slot.keys + u64::from(after.0) - u64::from(before.0);
        slot.digest = slot.digest.wrapping_sub(before.1).wrapping_add(after.1);
    }

    /// Number and tally of every owned partition.
    pub fn iter(&self) -> impl Iterator<Item = (u16, Tally)> + '_ {
        let (shard, shards) = (self.shard, self.shards);
        self.partitions
            .iter()
            .zip(0u16..)
            .map(move |(tally, index)| (shard + index * shards, *tally))
    }

    /// Over all owned partitions.
    pub fn total(&self) -> Tally {
        self.partitions
            .iter()
            .fold(Tally::default(), |sum, tally| Tally {
                keys: sum.keys + tally.keys,
                digest: sum.digest.wrapping_add(tally.digest),
            })
    }

    fn slot(&mut self, partition: u16) -> Option<&mut Tally> {
        debug_assert_eq!(
            partition % self.shards,
            self.shard,
            "partition {partition} is another shard's"
        );
        self.partitions
            .get_mut(usize::from(partition / self.shards))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_partition_is_owned_by_one_shard() {
        for shards in [1u16, 2, 3, 7, 64] {
            let mut seen: Vec<u16> = (0..shards)
                .flat_map(|shard| {
                    Tallies::new(shard, shards)
                        .iter()
                        .map(|(p, _)| p)
                        .collect::<Vec<_>>()
                })
                .collect();
            seen.sort_unstable();
            assert_eq!(seen, (0..PARTITIONS).collect::<Vec<_>>());
        }
    }

    #[test]
    fn stored_tallies_come_back_as_they_were() {
        let mut tallies = Tallies::new(1, 2);
        let key = (0u32..)
            .find(|n| Partition::of(&n.to_le_bytes()).shard(2) == 1)
            .map(u32::to_le_bytes)
            .unwrap();
        tallies.replace(Partition::of(&key), (false, 0), (true, 77));
        assert_eq!(Tallies::restore(1, 2, &tallies.store()), tallies);
        assert_eq!(
            tallies.total(),
            Tally {
                keys: 1,
                digest: 77
            }
        );
    }
}
