//! Where a shard stands among those that it ships to.

use std::{collections::BTreeSet, sync::Arc};

use super::destination::Destination;
use crate::{
    level::Level,
    names::{NodeName, RegionName},
    placement::{Partition, Placement, RegionPlacement},
};

/// Where a shard stands, and who else holds what.
#[derive(Debug, Clone)]
pub struct Home {
    /// Its region.
    pub region: RegionName,
    /// Its node.
    pub node: NodeName,
    /// Who holds what.
    pub placement: Arc<Placement>,
    /// Whether nodes that are no replicas take writes in the place of replicas that are not believed to live.
    pub is_sloppy: bool,
}

impl Home {
    /// Everybody that rows are shipped to: the regions that keep anything, and the other members of this one.
    pub fn destinations(&self) -> impl Iterator<Item = Destination> + '_ {
        self.placement
            .regions()
            .flat_map(move |(region, placement)| {
                let is_home = *region == self.region;
                let keeps = !is_home && placement.replicas() > 0;
                let others = placement.members().iter();
                let others = others.filter(move |node| is_home && **node != self.node);
                let region = keeps.then(|| Destination::Region(region.clone()));
                region
                    .into_iter()
                    .chain(others.cloned().map(Destination::Replica))
            })
    }

    /// How many replicas each key has in this region.
    pub fn replicas(&self) -> u8 {
        let region = self.placement.region(&self.region);
        region.map_or(1, RegionPlacement::replicas)
    }

    /// Whether a request of this level waits for other nodes.
    pub fn asks_others(&self, level: Level) -> bool {
        let is_alone = self.replicas() <= 1;
        let mut others = self.placement.regions();
        match level {
            Level::Replicas(count) => count.get() > 1,
            Level::LocalQuorum => !is_alone,
            Level::EachQuorum | Level::Quorum | Level::All => {
                !is_alone
                    || others.any(|(region, placement)| {
                        *region != self.region && placement.replicas() > 0
                    })
            }
        }
    }

    /// Whether this node is a replica of a partition.
    pub fn holds(&self, partition: Partition) -> bool {
        let region = self.placement.region(&self.region);
        region.is_none_or(|region| region.is_whole() || region.is_replica(&self.node, partition))
    }

    /// Whether others of this region are replicas of a partition.
    pub fn passes_on(&self, partition: Partition) -> bool {
        let region = self.placement.region(&self.region);
        region.is_some_and(|region| {
            region.replicas() > 1
                || region
                    .preferred_nodes(partition)
                    .any(|node| *node != self.node)
        })
    }

    /// Whether rows wait for a replica that nobody has met yet.
    pub(super) fn lacks_members(&self) -> bool {
        let region = self.placement.region(&self.region);
        region.is_some_and(|region| region.members().len() < usize::from(region.replicas()))
    }

    /// Whether several nodes take for a destination and pass on to each other what they took: then one that lacks rows is not all
    /// that is there. So it is with several replicas of a key, and with several nodes that each keep some of the keys.
    pub(super) fn is_shared(&self, destination: &Destination) -> bool {
        let Destination::Region(region) = destination else {
            return false;
        };
        let region = self.placement.region(region);
        region.is_some_and(|region| region.replicas() > 1 || region.members().len() > 1)
    }

    /// Whether everything concerns this destination, so that rows need not be looked into.
    pub(super) fn is_whole(&self, destination: &Destination) -> bool {
        let region = self.placement.region(&self.region);
        matches!(destination, Destination::Region(_))
            || region.is_none_or(RegionPlacement::is_whole)
    }

    /// Whether a partition's rows go to a destination, while these nodes are believed to live; `has_stand_ins`: also to those that
    /// take them in the place of replicas.
    pub(super) fn concerns(
        &self,
        destination: &Destination,
        partition: Partition,
        trusted: &Trusted,
        has_stand_ins: bool,
    ) -> bool {
        match destination {
            Destination::Region(_) => true,
            Destination::Replica(node) => {
                let region = self.placement.region(&self.region);
                region.is_some_and(|region| region.is_replica(node, partition))
                    || (has_stand_ins
                        && self
                            .stand_ins(partition, trusted)
                            .any(|stand_in| stand_in == node))
            }
        }
    }

    /// Who takes a partition's writes in the place of its replicas that are not believed to live: as many others, in rendezvous
    /// order. DeCandia et al., "Dynamo: Amazon's Highly Available Key-value Store" (2007), §4.6.
    pub(super) fn stand_ins<'a>(
        &'a self,
        partition: Partition,
        trusted: &'a Trusted,
    ) -> impl Iterator<Item = &'a NodeName> {
        let lives = |node: &NodeName| *node == self.node || is_trusted(trusted, node);
        let region = self.placement.region(&self.region);
        let region = region.filter(|region| self.is_sloppy && !region.is_whole());
        let away = region.map_or(0, |region| {
            let replicas = region.preferred_nodes(partition);
            replicas.filter(|node| !lives(node)).count()
        });
        let others = region
            .into_iter()
            .flat_map(move |region| region.stand_ins(partition));
        let others = others.filter(move |node| **node != self.node && is_trusted(trusted, node));
        others.take(away)
    }
}

/// The nodes that are believed to live; `None` until somebody says, and then all are.
pub(super) type Trusted = Option<Arc<BTreeSet<NodeName>>>;

pub(super) fn is_trusted(trusted: &Trusted, node: &NodeName) -> bool {
    trusted
        .as_ref()
        .is_none_or(|trusted| trusted.contains(node))
}
