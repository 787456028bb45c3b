//! What a node says of itself and its cluster: one value behind `/v1/status`, `CLUSTER.STATUS`,
//! `meridian status` and the metrics.

use std::fmt;

use bytes::Bytes;
use serde::{Deserialize, Serialize, Serializer};

use crate::names::{ClusterName, NodeName, RegionName};

/// The cluster as one node sees it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// The cluster's name.
    pub cluster: ClusterName,
    /// The node that speaks.
    pub node: NodeName,
    /// Its region.
    pub region: RegionName,
    /// Number of the placement epoch that it acts in.
    pub epoch: u64,
    /// Whether it can meet its default levels now.
    pub ready: bool,
    /// Why it cannot: empty when `ready`.
    pub reasons: Vec<Reason>,
    /// 32 hexadecimal digits over the canonical content that it holds. Equal content, equal digest.
    pub digest: String,
    /// Keys that it holds and shows.
    pub keys: u64,
    /// Every other region, by name.
    pub regions: Vec<RegionStatus>,
    /// Every node it knows of, itself included, by name.
    pub nodes: Vec<NodeStatus>,
    /// Number of partitions of the key space.
    pub partitions: u32,
    /// One digest per partition, where asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partition_digests: Option<Vec<String>>,
}

/// Something that a join kept from readers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ConflictStatus {
    /// The key; in JSON with signs of replacement where it is not UTF-8.
    #[serde(serialize_with = "lossy")]
    pub key: Bytes,
    /// `overwritten`, `two_types` or `text_and_counter`.
    pub kind: String,
    /// What a reader sees.
    pub kept: ConflictSide,
    /// What one does not see.
    pub lost: ConflictSide,
    /// Unix milliseconds at which this node noticed.
    #[serde(rename = "at-ms")]
    pub at_ms: u64,
}

/// One of the two writes that a conflict is between.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ConflictSide {
    /// When it was made and by whom, as `MILLISECONDS.COUNT@DIRECTORY/SHARD`.
    pub stamp: String,
    /// In which region, where this node knows.
    pub region: Option<RegionName>,
}

fn lossy<S: Serializer>(key: &Bytes, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&String::from_utf8_lossy(key))
}

/// A reason for not being ready, as a word a script can match and a sentence a person can act on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reason {
    /// `disk`, `clock`, `joining`, `settings`, `quorum`, `recovering` or `stopping`.
    pub kind: String,
    /// What happened and what to do.
    pub detail: String,
}

/// How far a region is behind this node's own writes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RegionStatus {
    /// The region's name.
    pub name: RegionName,
    /// Whether it answers.
    pub state: RegionState,
    /// How far this node's own writes trail there, in seconds; 0 when it has all of them.
    pub lag_seconds: f64,
    /// Outbox rows (one per commit batch) that it has not taken.
    pub outbox_entries: u64,
    /// Unix milliseconds up to which it has everything of this node.
    pub watermark: u64,
    /// Whether it lacks rows that nobody will ship to it any more, because they were dropped or the node that had them left: it needs
    /// a full repair.
    pub needs_repair: bool,
}

/// Whether a region answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RegionState {
    /// None of its nodes was met since this node started.
    Connecting,
    /// All its nodes answer, and it takes what this node writes.
    Up,
    /// Some of its nodes answer, some shards have no way to it, or it is far behind.
    Degraded,
    /// None of its nodes answers, or no shard has a way to any.
    Down,
    /// Taken out of the epoch by an operator.
    Fenced,
}

impl fmt::Display for RegionState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connecting => "connecting",
            Self::Up => "up",
            Self::Degraded => "degraded",
            Self::Down => "down",
            Self::Fenced => "fenced",
        })
    }
}

/// A node as this node sees it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NodeStatus {
    /// The node's name.
    pub name: NodeName,
    /// Its region.
    pub region: RegionName,
    /// Its life as this node sees it.
    pub state: NodeState,
    /// Suspicion; 0 for a node that was just heard.
    pub phi: f64,
    /// Why it is suspected, empty if it is not.
    pub cause: String,
    /// Round trip in milliseconds, where measured.
    pub rtt_ms: Option<f64>,
    /// How far its clock is ahead of this node's, in milliseconds, where measured.
    pub clock_offset_ms: Option<f64>,
    /// Hints held for it.
    pub hints: u64,
    /// Whether it says that it can meet its default levels.
    pub ready: bool,
    /// Whether it lacks rows that nobody will ship to it any more: it needs a full repair.
    #[serde(default)]
    pub needs_repair: bool,
}

/// The life of a node as another sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NodeState {
    /// Known from others, not met since this node started.
    Connecting,
    /// Configured or met in an earlier life, not heard of yet.
    Joining,
    /// Heard of lately.
    Up,
    /// Not heard of for longer than usual.
    Suspect,
    /// Not heard of for too long.
    Down,
    /// Said goodbye, still draining.
    Leaving,
    /// Gone.
    Left,
}

impl fmt::Display for NodeState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connecting => "connecting",
            Self::Joining => "joining",
            Self::Up => "up",
            Self::Suspect => "suspect",
            Self::Down => "down",
            Self::Leaving => "leaving",
            Self::Left => "left",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_are_shown_as_they_are_in_the_json() {
        use NodeState::{Connecting, Down, Joining, Leaving, Left, Suspect, Up};
        for state in [Connecting, Joining, Up, Suspect, Down, Leaving, Left] {
            assert_eq!(format!("{state:?}").to_lowercase(), state.to_string());
        }
        use RegionState::{Degraded, Fenced};
        for state in [
            RegionState::Connecting,
            RegionState::Up,
            Degraded,
            RegionState::Down,
            Fenced,
        ] {
            assert_eq!(format!("{state:?}").to_lowercase(), state.to_string());
        }
    }
}
