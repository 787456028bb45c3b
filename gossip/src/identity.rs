//! Who a node is: its name, its data directory, and which of its lives this is.

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use crate::name::{Address, NodeId, Region};

/// The number of a data directory. A node that was wiped has the same name and another directory.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(from = "[u8; 8]", into = "[u8; 8]")]
pub struct Directory(pub u64);

/// Which life of a node this is: grows with every start. Unix milliseconds at the start serve well; any number that grows and
/// stays below the wall clock's milliseconds plus [`GENERATION_AHEAD_MS`] does.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub struct Generation(pub u64);

/// How often a node showed that it lives, in this generation: grows with every round and every answer.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(from = "[u8; 4]", into = "[u8; 4]")]
pub struct Heartbeat(pub u32);

/// How often what a node publishes has changed, in this generation.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub struct Version(pub u64);

/// Which releases a node understands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Protocol {
    /// The version that it speaks.
    pub speaks: u16,
    /// The oldest that it understands: at most `speaks`.
    pub accepts: u16,
}

impl Protocol {
    /// Whether two nodes understand each other.
    pub fn understands(self, other: Self) -> bool {
        self.speaks >= other.accepts && other.speaks >= self.accepts
    }
}

/// One life of a node. It never changes: a node that moves or comes back begins another one.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Identity {
    /// Its name.
    pub node: NodeId,
    /// Its data directory.
    pub directory: Directory,
    /// Which life of the node this is.
    pub generation: Generation,
    /// Where it stands.
    pub region: Region,
    /// Where it is reached.
    pub address: Address,
    /// Digest of its cluster-wide settings.
    pub settings: SettingsDigest,
    /// Which releases it understands.
    pub protocol: Protocol,
}

/// Digest of a node's cluster-wide settings: equal settings, equal digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(from = "[u8; 8]", into = "[u8; 8]")]
pub struct SettingsDigest(pub u64);

/// A life of a node in 6 bytes: how digests name it. 48 bits of xxh3 over name, directory and generation (wire format: keep stable).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(from = "[u8; 6]", into = "[u8; 6]")]
pub(crate) struct Tag(u64);

impl From<[u8; 6]> for Tag {
    fn from([a, b, c, d, e, f]: [u8; 6]) -> Self {
        Self(u64::from_le_bytes([a, b, c, d, e, f, 0, 0]))
    }
}

impl From<Tag> for [u8; 6] {
    fn from(tag: Tag) -> Self {
        let [a, b, c, d, e, f, _, _] = tag.0.to_le_bytes();
        [a, b, c, d, e, f]
    }
}

#[cfg(test)]
impl Tag {
    pub(crate) fn of(number: u64) -> Self {
        Self(number & TAG_MASK)
    }
}

impl Tag {
    fn of_life(node: &NodeId, directory: Directory, generation: Generation) -> Self {
        let mut bytes = Vec::with_capacity(128);
        bytes.extend_from_slice(node.as_str().as_bytes());
        bytes.push(0);
        bytes.extend_from_slice(&directory.0.to_be_bytes());
        bytes.extend_from_slice(&generation.0.to_be_bytes());
        Self(xxh3_64(&bytes) & TAG_MASK)
    }

    /// Of a node's data directory, where none of its lives was heard of: no life has generation 0.
    pub(crate) fn unheard(node: &NodeId, directory: Directory) -> Self {
        Self::of_life(node, directory, Generation(0))
    }
}

impl Identity {
    pub(crate) fn tag(&self) -> Tag {
        Tag::of_life(&self.node, self.directory, self.generation)
    }

    /// Whether this life began after the other one of the same name. Every node decides alike, whatever it heard first.
    pub(crate) fn succeeds(&self, other: &Self) -> bool {
        (self.generation, self.directory) > (other.generation, other.directory)
    }
}

const TAG_MASK: u64 = (1 << 48) - 1;

macro_rules! fixed {
    ($type:ident, $number:ty, $bytes:literal) => {
        impl From<[u8; $bytes]> for $type {
            fn from(bytes: [u8; $bytes]) -> Self {
                Self(<$number>::from_le_bytes(bytes))
            }
        }

        impl From<$type> for [u8; $bytes] {
            fn from(value: $type) -> Self {
                value.0.to_le_bytes()
            }
        }
    };
}

fixed!(Directory, u64, 8);
fixed!(SettingsDigest, u64, 8);
fixed!(Heartbeat, u32, 4);

/// How far above the wall clock's milliseconds a generation may be: ten years. Further ahead it is an error or a lie, and refused:
/// a life that nothing could succeed would occupy its name for ever.
pub const GENERATION_AHEAD_MS: u64 = 10 * 365 * 24 * 3_600 * 1_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn life(node: &str, directory: u64, generation: u64) -> Identity {
        Identity {
            node: node.parse().expect("a name"),
            directory: Directory(directory),
            generation: Generation(generation),
            region: "us".parse().expect("a region"),
            address: "a:1".parse().expect("an address"),
            settings: SettingsDigest(0),
            protocol: Protocol {
                speaks: 1,
                accepts: 1,
            },
        }
    }

    #[test]
    fn a_tag_names_one_life() {
        let one = life("us-1", 1, 1);
        assert_eq!(one.tag(), life("us-1", 1, 1).tag());
        assert_ne!(one.tag(), life("us-1", 1, 2).tag());
        assert_ne!(one.tag(), life("us-1", 2, 1).tag());
        assert_ne!(one.tag(), life("us-2", 1, 1).tag());
    }

    #[test]
    fn tags_are_the_same_in_every_release() {
        assert_eq!(life("us-1", 7, 9).tag(), Tag::from(GOLDEN));
    }

    #[test]
    fn releases_understand_each_other_only_both_ways() {
        let old = Protocol {
            speaks: 1,
            accepts: 1,
        };
        let both = Protocol {
            speaks: 2,
            accepts: 1,
        };
        let new = Protocol {
            speaks: 3,
            accepts: 2,
        };
        assert!(old.understands(both) && both.understands(old));
        assert!(both.understands(new) && new.understands(both));
        assert!(!old.understands(new) && !new.understands(old));
    }

    const GOLDEN: [u8; 6] = [116, 172, 245, 128, 17, 203];
}
