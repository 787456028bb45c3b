//! Where a key belongs: its partition, its shard, its position in the order that storage keeps, and the nodes that hold it
//! ([`table`]).
//!
//! Keys are stored by `(partition, hash, key)`. The order is the same on every node, so a SCAN cursor is a number that
//! any node of a region understands, and everything that works partition by partition reads one run of rows.

pub mod table;

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

pub use self::table::{Placement, RegionPlacement};

/// Number of partitions of the key space. Persisted in every key's position and agreed on by all nodes: never changes.
pub const PARTITIONS: u16 = 1 << PARTITION_BITS;

/// One of the [`PARTITIONS`] parts of the key space.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Partition(u16);

impl Partition {
    /// The partition of a key: of its hash tag, if it has one, else of all of it.
    pub fn of(key: &[u8]) -> Self {
        Self((xxh3_64(hash_tag(key)) >> (64 - PARTITION_BITS)) as u16)
    }

    /// Every partition, by number.
    pub fn all() -> impl ExactSizeIterator<Item = Self> {
        (0..PARTITIONS).map(Self)
    }

    /// Its number, below [`PARTITIONS`].
    pub const fn index(self) -> u16 {
        self.0
    }

    /// The shard that owns it on a node with `shards` of them.
    pub const fn shard(self, shards: u16) -> u16 {
        self.0 % shards
    }
}

/// Where a key stands in the order of storage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// The key's partition.
    pub partition: Partition,
    /// xxh3 of the whole key.
    pub hash: u64,
}

impl Position {
    /// Where the order begins.
    pub const FIRST: Self = Self::first_of(Partition(0));

    /// The position of a key.
    pub fn of(key: &[u8]) -> Self {
        let hash = xxh3_64(key);
        let tag = hash_tag(key);
        let partition = if tag.len() == key.len() {
            Partition((hash >> (64 - PARTITION_BITS)) as u16)
        } else {
            Partition::of(key)
        };
        Self { partition, hash }
    }

    /// The SCAN cursor of this position, below 2^[`CURSOR_BITS`]: partition, then as much of the hash as fits. Keys that share a
    /// cursor are always shown on one page, so nothing hides behind the bits that are cut off.
    pub const fn cursor(self) -> u64 {
        ((self.partition.0 as u64) << CURSOR_HASH_BITS) | (self.hash >> (64 - CURSOR_HASH_BITS))
    }

    /// The first position of a partition.
    pub const fn first_of(partition: Partition) -> Self {
        Self { partition, hash: 0 }
    }

    /// The first position that has this cursor; `None` for a number that is no cursor, 2^[`CURSOR_BITS`] and more.
    pub const fn from_cursor(cursor: u64) -> Option<Self> {
        if cursor >> CURSOR_BITS != 0 {
            return None;
        }
        Some(Self {
            partition: Partition((cursor >> CURSOR_HASH_BITS) as u16),
            hash: cursor << (64 - CURSOR_HASH_BITS),
        })
    }

    /// A position drawn by 64 random bits, at which a page of SCAN may begin: among those of keys without a hash tag, whose partition
    /// is the beginning of their hash. Any hash in any partition would nearly always lie before or behind all of them.
    pub const fn at_random(entropy: u64) -> Self {
        Self {
            partition: Partition((entropy >> (64 - PARTITION_BITS)) as u16),
            hash: (entropy >> (64 - CURSOR_HASH_BITS)) << (64 - CURSOR_HASH_BITS),
        }
    }

    /// The position as the first bytes of a stored key.
    pub fn to_bytes(self) -> [u8; POSITION_BYTES] {
        let mut bytes = [0; POSITION_BYTES];
        bytes[..2].copy_from_slice(&self.partition.0.to_be_bytes());
        bytes[2..].copy_from_slice(&self.hash.to_be_bytes());
        bytes
    }

    /// The position that begins a stored key, if it is long enough and names a partition.
    pub fn from_bytes(stored: &[u8]) -> Option<Self> {
        let (partition, rest) = stored.split_first_chunk::<2>()?;
        let (hash, _) = rest.split_first_chunk::<8>()?;
        let partition = u16::from_be_bytes(*partition);
        (partition < PARTITIONS).then(|| Self {
            partition: Partition(partition),
            hash: u64::from_be_bytes(*hash),
        })
    }
}

/// The part of a key between its first `{` and the next `}`, if there is something between them; else the whole key.
/// Redis Cluster specification, "Hash tags".
fn hash_tag(key: &[u8]) -> &[u8] {
    let Some(open) = key.iter().position(|&byte| byte == b'{') else {
        return key;
    };
    let inner = &key[open + 1..];
    match inner.iter().position(|&byte| byte == b'}') {
        None | Some(0) => key,
        Some(close) => &inner[..close],
    }
}

/// Bytes of an encoded [`Position`].
pub const POSITION_BYTES: usize = 10;

/// Bits of a cursor of SCAN or SSCAN. Clients keep a cursor as a signed number or as a double, which holds no more bits exactly: one of
/// 64 bits comes back as another one, and keys are missed or shown for ever.
pub const CURSOR_BITS: u32 = 53;

const PARTITION_BITS: u32 = 10;
/// What of a cursor is left for the hash.
const CURSOR_HASH_BITS: u32 = CURSOR_BITS - PARTITION_BITS;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn keys_with_one_hash_tag_share_a_partition() {
        let partition = Partition::of(b"{user:1}:cart");
        assert_eq!(partition, Partition::of(b"{user:1}:name"));
        assert_eq!(partition, Partition::of(b"user:1"));
        assert_eq!(Position::of(b"{user:1}:cart").partition, partition);
    }

    #[test]
    fn all_partitions_are_there_once_and_in_order() {
        let numbers: Vec<_> = Partition::all().map(Partition::index).collect();
        assert_eq!(numbers, (0..PARTITIONS).collect::<Vec<_>>());
    }

    #[test]
    fn an_empty_or_open_hash_tag_is_no_tag() {
        for key in [&b"{}a"[..], b"{a", b"}a{", b"a"] {
            assert_eq!(hash_tag(key), key);
        }
    }

    fn positions() -> impl Strategy<Value = Position> {
        (0..PARTITIONS, any::<u64>()).prop_map(|(partition, hash)| Position {
            partition: Partition(partition),
            hash,
        })
    }

    proptest! {
        #[test]
        fn a_cursor_leads_back_to_the_first_position_that_has_it(position in positions()) {
            let cursor = position.cursor();
            let first = Position::from_cursor(cursor).expect("a position's cursor is one");
            prop_assert!(first <= position);
            prop_assert_eq!(first.cursor(), cursor);
            prop_assert_eq!(first.hash.trailing_zeros().min(21), 21, "no position before it has its cursor");
        }

        #[test]
        fn a_cursor_outlasts_clients_that_keep_it_as_a_double_or_signed(position in positions()) {
            let cursor = position.cursor();
            prop_assert_eq!(cursor as f64 as u64, cursor);
            prop_assert!(i64::try_from(cursor).is_ok());
        }

        #[test]
        fn cursors_are_in_the_order_of_positions(one in positions(), other in positions()) {
            prop_assert!(one > other || one.cursor() <= other.cursor());
        }
    }

    #[test]
    fn a_number_beyond_all_cursors_is_none() {
        let last = Position {
            partition: Partition(PARTITIONS - 1),
            hash: u64::MAX,
        };
        assert_eq!(last.cursor(), (1 << CURSOR_BITS) - 1);
        for number in [1 << CURSOR_BITS, u64::MAX] {
            assert_eq!(Position::from_cursor(number), None);
        }
    }

    #[test]
    fn stored_order_is_the_order_of_positions() {
        let mut positions: Vec<_> = (0..1000u32)
            .map(|n| Position::of(&n.to_le_bytes()))
            .collect();
        positions.sort();
        assert!(
            positions
                .windows(2)
                .all(|pair| pair[0].to_bytes() < pair[1].to_bytes())
        );
        assert!(
            positions
                .iter()
                .all(|p| Position::from_bytes(&p.to_bytes()) == Some(*p))
        );
    }
}
