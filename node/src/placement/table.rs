//! Which nodes hold which partition.
//!
//! Thaler and Ravishankar, "Using Name-Based Mappings to Increase Hit Rates" (1998): each node has a weight of its own for
//! each partition, and the heaviest N hold it. A node that comes or goes moves only the places that it takes or leaves;
//! nobody else's order changes.
//!
//! The weights come from names alone, so that nodes that know the same members agree without a word.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
};

use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::{PARTITIONS, Partition};
use crate::names::{NodeName, RegionName};

/// Who holds what: in each region the N replicas of each partition, by rendezvous hashing over its members.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placement {
    regions: BTreeMap<RegionName, RegionPlacement>,
}

impl Placement {
    /// The placement over `members`, the nodes of each region, with `replicas`, N of each region (0: the region only
    /// forwards). A region that only one of them names has no members, or no replicas.
    ///
    /// # Panics
    /// If a region has more than [`MEMBERS_MAX`] members.
    pub fn new(
        members: BTreeMap<RegionName, BTreeSet<NodeName>>,
        replicas: &BTreeMap<RegionName, u8>,
    ) -> Self {
        let mut members = members;
        for region in replicas.keys() {
            members.entry(region.clone()).or_default();
        }
        let placed = members.into_iter().map(|(region, nodes)| {
            let replicas = replicas.get(&region).copied().unwrap_or(0);
            (region, RegionPlacement::new(nodes, replicas))
        });
        Self {
            regions: placed.collect(),
        }
    }

    /// The placement inside one region, if it is known.
    pub fn region(&self, region: &RegionName) -> Option<&RegionPlacement> {
        self.regions.get(region)
    }

    /// Every region with its placement, by name.
    pub fn regions(&self) -> impl Iterator<Item = (&RegionName, &RegionPlacement)> {
        self.regions.iter()
    }
}

/// Who holds what inside one region.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegionPlacement {
    replicas: u8,
    /// Sorted.
    members: Box<[NodeName]>,
    /// All members, heaviest first, as indices into `members`: one run of them per partition.
    orders: Box<[u8]>,
}

impl RegionPlacement {
    fn new(members: BTreeSet<NodeName>, replicas: u8) -> Self {
        assert!(
            members.len() <= MEMBERS_MAX,
            "a region has at most {MEMBERS_MAX} members, not {}",
            members.len()
        );
        let members: Box<[NodeName]> = members.into_iter().collect();
        let orders: Box<[u8]> = Partition::all()
            .flat_map(|partition| order(&members, partition))
            .collect();
        debug_assert_eq!(orders.len(), members.len() * usize::from(PARTITIONS));
        Self {
            replicas,
            members,
            orders,
        }
    }

    /// N as configured, also where there are fewer members.
    pub fn replicas(&self) -> u8 {
        self.replicas
    }

    /// The nodes of the region, sorted.
    pub fn members(&self) -> &[NodeName] {
        &self.members
    }

    /// The partition's preference list: its first N members (fewer where there are fewer), best first, as indices into
    /// [`members`](Self::members).
    pub fn preference(&self, partition: Partition) -> &[u8] {
        self.split(partition).0
    }

    /// The names on the partition's preference list, best first.
    pub fn preferred_nodes(&self, partition: Partition) -> impl Iterator<Item = &NodeName> {
        self.names(self.split(partition).0)
    }

    /// All members behind the preference list, in rendezvous order: whom a sloppy write asks to stand in. Every member
    /// where N is 0.
    pub fn stand_ins(&self, partition: Partition) -> impl Iterator<Item = &NodeName> {
        self.names(self.split(partition).1)
    }

    /// Whether `node` is on the partition's preference list.
    pub fn is_replica(&self, node: &NodeName, partition: Partition) -> bool {
        self.members.binary_search(node).is_ok_and(|index| {
            let mut preferred = self.preference(partition).iter();
            preferred.any(|&place| usize::from(place) == index)
        })
    }

    /// Whether every member holds every partition, so that nothing needs sorting out.
    pub fn is_whole(&self) -> bool {
        self.members.len() <= usize::from(self.replicas)
    }

    /// How many replicas are a majority of N; 0 where N is 0.
    pub fn majority(&self) -> u8 {
        match self.replicas {
            0 => 0,
            replicas => replicas / 2 + 1,
        }
    }

    /// The partition's members, heaviest first: the preference list, and those behind it.
    fn split(&self, partition: Partition) -> (&[u8], &[u8]) {
        let count = self.members.len();
        let start = usize::from(partition.index()) * count;
        let order = &self.orders[start..start + count];
        order.split_at(count.min(usize::from(self.replicas)))
    }

    fn names<'a>(&'a self, places: &'a [u8]) -> impl Iterator<Item = &'a NodeName> {
        places
            .iter()
            .map(|&place| &self.members[usize::from(place)])
    }
}

/// The order of `members`, which are sorted, for a partition: the heaviest first, equal weights by name.
fn order(members: &[NodeName], partition: Partition) -> Vec<u8> {
    let weighed = members.iter().zip(0u8..);
    let mut order: Vec<(Reverse<u64>, u8)> = weighed
        .map(|(node, place)| (Reverse(weight(node, partition)), place))
        .collect();
    order.sort_unstable();
    order.into_iter().map(|(_, place)| place).collect()
}

/// xxh3 of the name's bytes, then the partition's number in two bytes, big end first. Agreed on by all nodes: never
/// changes.
fn weight(node: &NodeName, partition: Partition) -> u64 {
    let name = node.as_str().as_bytes();
    let mut bytes = Vec::with_capacity(name.len() + size_of::<u16>());
    bytes.extend_from_slice(name);
    bytes.extend_from_slice(&partition.index().to_be_bytes());
    xxh3_64_with_seed(&bytes, WEIGHT_SEED)
}

/// The most members of a region: places in the table are bytes.
pub const MEMBERS_MAX: usize = u8::MAX as usize;

/// Keeps the weights apart from the hash that gives keys their partitions. Agreed on by all nodes: never changes.
const WEIGHT_SEED: u64 = 0x7072_6566_6572_656e;

#[cfg(test)]
mod tests;
