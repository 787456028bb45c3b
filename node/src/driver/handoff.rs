//! What a node owes to others, and whether it can be stopped.
//!
//! Each node publishes what it owes as a value of the gossip, so that any of them can be asked about any other.

use std::fmt;

use super::{membership::HANDOFF, node::Inner, queue::Inspection};
use crate::{
    core::ship::{Destination, Lag},
    names::{NodeName, RegionName},
    status::{NodeState, NodeStatus, RegionState, RegionStatus},
};

/// Rows that a node has and others lack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Debt {
    /// Not taken by some node or region.
    pub owed: u64,
    /// Not taken by some other region.
    pub abroad: u64,
    /// Taken by nobody else: at most so many.
    pub alone: u64,
}

impl Debt {
    /// Of a node whose shards say this.
    pub fn of(inspections: &[Inspection]) -> Self {
        inspections.iter().fold(Self::default(), |sum, shard| {
            let own = Self::of_shard(&shard.lags);
            Self {
                owed: sum.owed + own.owed,
                abroad: sum.abroad + own.abroad,
                alone: sum.alone + own.alone,
            }
        })
    }

    fn of_shard(lags: &[(Destination, Lag)]) -> Self {
        let rows = |of: fn(&Destination) -> bool| {
            lags.iter()
                .filter(move |(to, _)| of(to))
                .map(|(_, lag)| lag.rows)
        };
        Self {
            owed: rows(|_| true).sum(),
            abroad: rows(|to| matches!(to, Destination::Region(_))).sum(),
            alone: rows(|_| true).min().unwrap_or(0),
        }
    }

    /// From what a node published.
    pub fn parse(text: &str) -> Option<Self> {
        let mut numbers = text.split(' ').map(str::parse);
        let mut next = || numbers.next()?.ok();
        Some(Self {
            owed: next()?,
            abroad: next()?,
            alone: next()?,
        })
    }
}

impl fmt::Display for Debt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.owed, self.abroad, self.alone)
    }
}

/// What may be stopped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Drained {
    /// One node.
    Node(NodeName),
    /// All nodes of a region.
    Region(RegionName),
}

/// Why it is not safe to stop something; nothing where it is.
pub fn objections(
    inner: &Inner,
    own: Debt,
    what: &Drained,
    nodes: &[NodeStatus],
    regions: &[RegionStatus],
) -> Vec<String> {
    let stopped = |node: &&NodeStatus| match what {
        Drained::Node(name) => node.name == *name,
        Drained::Region(region) => node.region == *region,
    };
    let mut objections = Vec::new();
    for node in nodes.iter().filter(stopped) {
        objections.extend(owes(inner, own, what, node));
    }
    match what {
        Drained::Node(name) => objections.extend(lacks_quorum(inner, name, nodes)),
        Drained::Region(region) => {
            let others = regions.iter().filter(|other| other.name != *region);
            let dead = others.filter(|other| other.state != RegionState::Up);
            objections.extend(dead.map(|other| {
                format!(
                    "region {} is {}: what only it has is not everywhere yet",
                    other.name, other.state
                )
            }));
        }
    }
    objections
}

/// Acknowledged writes that would be away with it.
fn owes(inner: &Inner, own: Debt, what: &Drained, node: &NodeStatus) -> Option<String> {
    let name = &node.name;
    let debt = if *name == inner.name {
        Some(own)
    } else {
        let published = inner
            .membership()
            .and_then(|membership| membership.value(name, HANDOFF));
        published.and_then(|value| Debt::parse(std::str::from_utf8(&value).ok()?))
    };
    let Some(debt) = debt else {
        return Some(format!("what {name} owes to others is not known here"));
    };
    match what {
        Drained::Node(_) if debt.alone > 0 => Some(format!(
            "up to {} batches of writes are on {name} and nowhere else",
            debt.alone
        )),
        Drained::Region(region) if debt.abroad > 0 => Some(format!(
            "{} batches of writes of {name} are in no region but {region}",
            debt.abroad
        )),
        Drained::Node(_) | Drained::Region(_) => None,
    }
}

/// Whether too few replicas of its region would be left for the default levels.
fn lacks_quorum(inner: &Inner, name: &NodeName, nodes: &[NodeStatus]) -> Option<String> {
    let region = &nodes.iter().find(|node| node.name == *name)?.region;
    let neighbours = inner.neighbours();
    let placement = neighbours.placement.region(region)?;
    let lives = |member: &&NodeName| {
        let mut own = nodes.iter().filter(|node| node.name == **member);
        own.any(|node| node.state == NodeState::Up)
    };
    let left = placement.members().iter().filter(|member| *member != name);
    let dead = 1 + left.filter(|member| !lives(member)).count();
    let spare = usize::from(placement.replicas() - placement.majority());
    (placement.replicas() > 1 && dead > spare).then(|| {
        format!(
            "without {name}, {dead} of the {} nodes of region {region} would be away: LOCAL_QUORUM bears {spare}",
            placement.members().len()
        )
    })
}
