//! One fault in one place, and what it takes hold of while it lasts.

use std::fmt;

use crate::live::{Change, Topology};

/// A fault in its place. Nodes and regions go by name.
#[derive(Debug, Clone, PartialEq)]
pub enum Fault {
    /// A node is dead.
    Kill(String),
    /// A node stands still.
    Pause(String),
    /// A node is cut off from all others.
    Isolate(String),
    /// Two regions are cut off from each other, or one from all others.
    Partition(String, Option<String>),
    /// What the first sends to the second is lost.
    OneWay(String, String),
    /// Every node of a region is dead.
    RegionLoss(String),
    /// Two regions are joined by a link that is worse than usual.
    Link(String, String, Change),
    /// A node's clock is off by so many milliseconds.
    Skew(String, i64),
    /// Something else keeps the disk busy.
    Disk,
}

/// Something that only one fault may hold at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hold {
    /// A node: whether it works, and with whom.
    Node(usize),
    /// Whether datagrams pass from one node to another.
    Path(usize, usize),
    /// How a link treats datagrams.
    Settings(usize, usize),
    /// A node's clock.
    Clock(usize),
    /// The disk.
    Disk,
}

impl Fault {
    /// What it takes hold of.
    pub fn holds(&self, topology: &Topology) -> Vec<Hold> {
        let nodes = |name: &str| topology.select(name).unwrap_or_default();
        match self {
            Self::Kill(name) | Self::Pause(name) | Self::RegionLoss(name) => {
                nodes(name).into_iter().map(Hold::Node).collect()
            }
            Self::Isolate(name) => {
                let mut holds = Self::Partition(name.clone(), None).holds(topology);
                holds.extend(nodes(name).into_iter().map(Hold::Node));
                holds
            }
            Self::Partition(a, b) => {
                let pairs = match b {
                    Some(b) => topology.pairs_between(a, b),
                    None => topology.pairs_around(a),
                };
                let pairs = pairs.unwrap_or_default().into_iter();
                pairs.flat_map(both_ways).collect()
            }
            Self::OneWay(from, to) => {
                let (from, to) = (nodes(from), nodes(to));
                let paths = from
                    .iter()
                    .flat_map(|&i| to.iter().map(move |&j| Hold::Path(i, j)));
                paths.collect()
            }
            Self::Link(a, b, _) => {
                let pairs = topology.pairs_between(a, b).unwrap_or_default();
                let settings = pairs.iter().map(|pair| Hold::Settings(pair.low, pair.high));
                settings.collect()
            }
            Self::Skew(name, _) => nodes(name).into_iter().map(Hold::Clock).collect(),
            Self::Disk => vec![Hold::Disk],
        }
    }

    /// Whether its region goes on without a majority while it lasts: nobody counts how many others are missing.
    pub fn takes_whole_region(&self) -> bool {
        matches!(self, Self::RegionLoss(_))
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kill(node) => write!(f, "kill {node}"),
            Self::Pause(node) => write!(f, "pause {node}"),
            Self::Isolate(node) => write!(f, "isolate {node}"),
            Self::Partition(a, Some(b)) => write!(f, "partition {a}-{b}"),
            Self::Partition(a, None) => write!(f, "partition {a}"),
            Self::OneWay(from, to) => write!(f, "one-way cut {from}→{to}"),
            Self::RegionLoss(region) => write!(f, "loss of region {region}"),
            Self::Link(a, b, change) => {
                write!(f, "link {a}-{b}")?;
                if let Some(rtt) = change.rtt {
                    write!(f, " {rtt:?}")?;
                }
                if let Some(jitter) = change.jitter {
                    write!(f, " ±{jitter:?}")?;
                }
                if let Some(loss) = change.loss {
                    write!(f, " loses {loss}")?;
                }
                match change.rate {
                    Some(crate::live::Limit::Rate(rate)) => write!(f, " {rate}"),
                    _ => Ok(()),
                }
            }
            Self::Skew(node, offset_ms) => write!(f, "clock {node} {offset_ms:+} ms"),
            Self::Disk => f.write_str("busy disk"),
        }
    }
}

fn both_ways(pair: crate::live::Pair) -> [Hold; 2] {
    [
        Hold::Path(pair.low, pair.high),
        Hold::Path(pair.high, pair.low),
    ]
}
