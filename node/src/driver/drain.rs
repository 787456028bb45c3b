//! Whether a node, or a region, can be stopped without losing what only it has.

use super::{
    context::Inner,
    handoff::{Debts, Published},
    membership::HANDOFF,
};
use crate::{
    names::{NodeName, RegionName},
    status::{NodeState, NodeStatus, RegionState, RegionStatus},
};

/// What a node says by gossip; nothing where it said nothing yet.
pub fn published_by(inner: &Inner, node: &NodeName) -> Option<Published> {
    let value = inner.membership()?.value(node, HANDOFF)?;
    Published::parse(std::str::from_utf8(&value).ok()?)
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
    own: &Debts,
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
    objections.extend(needs_repair(what, nodes, regions));
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

/// Writes that would be delivered by nobody once it is away.
fn owes(inner: &Inner, own: &Debts, what: &Drained, node: &NodeStatus) -> Vec<String> {
    let name = &node.name;
    let debts = if *name == inner.name {
        Some(own.clone())
    } else {
        let published = published_by(inner, name);
        published.map(|published| published.debts)
    };
    let Some(debts) = debts else {
        return vec![format!("what {name} owes to others is not known here")];
    };
    match what {
        Drained::Node(_) => debts.sentences(name),
        Drained::Region(_) => debts.abroad().sentences(name),
    }
}

/// Copies that are not what they should be: the more are stopped, the fewer have what those lack.
fn needs_repair(what: &Drained, nodes: &[NodeStatus], regions: &[RegionStatus]) -> Vec<String> {
    let of = match what {
        Drained::Node(name) => nodes.iter().find(|node| node.name == *name),
        Drained::Region(region) => nodes.iter().find(|node| node.region == *region),
    };
    let of = of.map(|node| &node.region);
    let nodes = nodes
        .iter()
        .filter(|node| node.needs_repair && Some(&node.region) == of);
    let nodes = nodes.map(|node| {
        format!(
            "{} lacks writes and needs a repair, for which others of region {} are needed",
            node.name, node.region
        )
    });
    let regions = regions
        .iter()
        .filter(|region| region.needs_repair && Some(&region.name) != of);
    let regions = regions.map(|region| {
        format!(
            "region {} lacks writes and needs a repair, for which the other regions are needed",
            region.name
        )
    });
    nodes.chain(regions).collect()
}

/// Whether too few replicas of its region would be left for the default levels.
fn lacks_quorum(inner: &Inner, name: &NodeName, nodes: &[NodeStatus]) -> Option<String> {
    let region = &nodes.iter().find(|node| node.name == *name)?.region;
    let topology = inner.topology();
    let placement = topology.placement.region(region)?;
    let lives = |member: &&NodeName| {
        let mut own = nodes.iter().filter(|node| node.name == **member);
        own.any(|node| node.state == NodeState::Up && !node.needs_repair)
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
