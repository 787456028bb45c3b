//! The messages: this is the protocol.
//!
//! ```text
//!   initiator                                       responder
//!     Ask     what I know, by digest            →
//!             ← Answer   what is newer here; what I want; what I know besides
//!     Tell    what was wanted; what I want      →
//!             ← Tell     what was wanted
//! ```
//!
//! A digest entry ([`DigestEntry`]) names a life by 6 bytes, its heartbeat and its version. Whoever does not know the life, or holds
//! a lower version, wants it; a [`Delta`] describes it. A digest that does not hold every member says so, and absence from
//! it means nothing. Every message is one datagram: what does not fit goes in a later round.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::{
    identity::{Directory, Heartbeat, Identity, Tag, Version},
    limits::ENVELOPE_BYTES_MAX,
    list,
    name::{Cluster, Key, NodeId},
    settings::Settings,
};

/// One datagram.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Message {
    pub(crate) envelope: Envelope,
    /// Rumours of lives that an operator had forgotten.
    #[serde(with = "list")]
    pub(crate) gone: Vec<Gone>,
    pub(crate) body: Body,
}

/// Who speaks. Every message shows that its sender lived when it was sent.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Envelope {
    pub(crate) cluster: ClusterDigest,
    pub(crate) from: Tag,
    pub(crate) heartbeat: Heartbeat,
    pub(crate) version: Version,
    /// Microseconds on the sender's clock: grows with every message, so an overtaken one is known as such.
    pub(crate) stamp: u64,
}

/// Digest of the cluster's name: in every message, so that a stray one never does harm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ClusterDigest(pub(crate) [u8; 8]);

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) enum Body {
    /// Opens an exchange. With an empty digest it only asks: do you live?
    Ask {
        /// Who I am in full, for one who may not know me.
        hello: Option<Box<Hello>>,
        /// Whether the digest names every member that I know.
        complete: bool,
        #[serde(with = "list")]
        digest: Vec<DigestEntry>,
    },
    /// Proves that the responder lives: it holds the question's stamp.
    Answer {
        to: Tag,
        /// The question's stamp.
        echo: u64,
        /// Unix milliseconds on the responder's clock.
        wall_ms: u64,
        #[serde(with = "list")]
        digest: Vec<DigestEntry>,
        #[serde(with = "list")]
        wants: Vec<Want>,
        #[serde(with = "list")]
        deltas: Vec<Delta>,
    },
    /// The rest of an exchange.
    Tell {
        #[serde(with = "list")]
        wants: Vec<Want>,
        #[serde(with = "list")]
        deltas: Vec<Delta>,
    },
}

/// An introduction.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Hello {
    pub(crate) cluster: Cluster,
    pub(crate) identity: Identity,
    pub(crate) settings: Settings,
}

/// A life in a digest. Heartbeat 0: I have heard nothing of it for long, and this is no sign of life.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct DigestEntry {
    pub(crate) tag: Tag,
    pub(crate) heartbeat: Heartbeat,
    pub(crate) version: Version,
}

/// A request for all that is newer than `version` of a life.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Want {
    pub(crate) tag: Tag,
    pub(crate) version: Version,
}

/// A life that was forgotten, with its directory.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Gone {
    pub(crate) tag: Tag,
    pub(crate) node: NodeId,
    pub(crate) directory: Directory,
}

/// What a node does, by its own word. It only ever moves on within one life.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub enum Status {
    /// It takes part.
    #[default]
    Up,
    /// It drains: no new work, please.
    Leaving,
    /// It said goodbye.
    Left,
}

/// What became of a life: everything that its versions above `from` and up to `to` say.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Delta {
    pub(crate) tag: Tag,
    /// For whoever has no description of it yet.
    pub(crate) introduction: Option<Introduction>,
    pub(crate) status: Status,
    pub(crate) from: Version,
    pub(crate) to: Version,
    /// Removed keys up to here are no longer listed: whoever is below begins afresh from here.
    pub(crate) floor: Version,
    #[serde(with = "list")]
    pub(crate) entries: Vec<Entry>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Introduction {
    pub(crate) identity: Identity,
    pub(crate) heartbeat: Heartbeat,
    /// Milliseconds since the teller last heard anything new of it.
    pub(crate) silence_ms: u64,
}

/// One key as of one version; without a value it was removed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Entry {
    pub(crate) version: Version,
    pub(crate) key: Key,
    pub(crate) value: Option<Bytes>,
}

impl Message {
    /// An upper bound on the bytes on the wire, tight but for the envelope.
    pub(crate) fn wire_bytes(&self) -> usize {
        let gone: usize = self.gone.iter().map(Gone::wire_bytes).sum();
        ENVELOPE_BYTES_MAX + gone + self.body.wire_bytes()
    }
}

impl Body {
    fn wire_bytes(&self) -> usize {
        match self {
            Self::Ask { hello, digest, .. } => {
                let hello = hello.as_ref().map_or(0, |hello| hello.wire_bytes());
                ASK_HEAD_BYTES + hello + sum(digest, DigestEntry::wire_bytes)
            }
            Self::Answer {
                digest,
                wants,
                deltas,
                ..
            } => {
                crate::limits::ANSWER_BYTES_MAX
                    + sum(digest, DigestEntry::wire_bytes)
                    + sum(wants, Want::wire_bytes)
                    + sum(deltas, Delta::wire_bytes)
            }
            Self::Tell { wants, deltas } => {
                TELL_HEAD_BYTES + sum(wants, Want::wire_bytes) + sum(deltas, Delta::wire_bytes)
            }
        }
    }
}

fn sum<T>(list: &[T], bytes: fn(&T) -> usize) -> usize {
    list.iter().map(bytes).sum()
}

impl Hello {
    pub(crate) fn wire_bytes(&self) -> usize {
        self.cluster.wire_bytes() + self.identity.wire_bytes() + self.settings.wire_bytes()
    }
}

impl Identity {
    fn wire_bytes(&self) -> usize {
        self.node.wire_bytes()
            + 8
            + varint_bytes(self.generation.0)
            + self.region.wire_bytes()
            + self.address.wire_bytes()
            + 8
            + varint_bytes(self.protocol.speaks.into())
            + varint_bytes(self.protocol.accepts.into())
    }
}

impl DigestEntry {
    pub(crate) fn wire_bytes(&self) -> usize {
        6 + 4 + varint_bytes(self.version.0)
    }
}

impl Want {
    pub(crate) fn wire_bytes(&self) -> usize {
        6 + varint_bytes(self.version.0)
    }
}

impl Gone {
    pub(crate) fn wire_bytes(&self) -> usize {
        6 + self.node.wire_bytes() + 8
    }
}

impl Delta {
    /// Bytes without the entries, with room for any number of them.
    pub(crate) fn head_bytes(&self) -> usize {
        let introduction = self.introduction.as_ref().map_or(0, |introduction| {
            introduction.identity.wire_bytes() + 4 + varint_bytes(introduction.silence_ms)
        });
        // `to` is known only when the entries are chosen.
        6 + 1 + introduction + 1 + varint_bytes(self.from.0) + 9 + varint_bytes(self.floor.0) + 1
    }

    pub(crate) fn wire_bytes(&self) -> usize {
        self.head_bytes() + sum(&self.entries, Entry::wire_bytes)
    }
}

impl Entry {
    pub(crate) fn wire_bytes(&self) -> usize {
        let value = self
            .value
            .as_ref()
            .map_or(0, |value| varint_bytes(value.len() as u64) + value.len());
        varint_bytes(self.version.0) + self.key.wire_bytes() + 1 + value
    }
}

/// Bytes of an integer on the wire.
const fn varint_bytes(value: u64) -> usize {
    match value {
        0..=250 => 1,
        251..=0xFFFF => 3,
        0x1_0000..=0xFFFF_FFFF => 5,
        _ => 9,
    }
}

/// Body tag, hello's presence, completeness, length of the digest.
pub(crate) const ASK_HEAD_BYTES: usize = 1 + 1 + 1 + 3;
/// Body tag and the lengths of two lists.
pub(crate) const TELL_HEAD_BYTES: usize = 1 + 3 + 3;
/// The shortest digest entry.
pub(crate) const MENTION_BYTES_MIN: usize = 11;
