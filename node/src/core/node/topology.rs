//! Who holds what around a node, and who of them is believed to live.

use std::{collections::BTreeSet, sync::Arc};

use crate::{
    core::mutant::{Mutant, is_on},
    names::{NodeName, RegionName},
    placement::{PARTITIONS, Partition, Placement},
};

/// Who holds what around a node, as it is believed now.
#[derive(Debug, Clone)]
pub struct Topology {
    /// This node.
    pub node: NodeName,
    /// The region whose keys this node serves: its own, or the nearest one where its own keeps nothing.
    pub region: RegionName,
    /// Who holds which partition.
    pub placement: Arc<Placement>,
    /// The other nodes that are believed to live.
    pub trusted: Arc<BTreeSet<NodeName>>,
    /// Whether this node lacks writes that other replicas have.
    pub is_short: bool,
    /// The others that do, as they say themselves.
    pub short: Arc<BTreeSet<NodeName>>,
    /// Why nobody can say who holds which key, if so.
    pub crowded: Option<String>,
}

/// The topology, as this node was told last.
#[derive(Debug)]
pub struct CurrentTopology(Arc<Topology>);

impl CurrentTopology {
    /// At first.
    pub fn new(topology: Topology) -> Self {
        Self(Arc::new(topology))
    }

    /// As it is believed now.
    pub fn current(&self) -> Arc<Topology> {
        Arc::clone(&self.0)
    }

    /// Who holds what changed, or who is believed to live.
    pub fn tell(&mut self, topology: Topology) {
        if !is_on(Mutant::StaleTopology) {
            self.0 = Arc::new(topology);
        }
    }
}

/// Where a request is carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// This node holds the key.
    Here,
    /// These nodes do, the one to ask first.
    There(Vec<NodeName>),
}

impl Topology {
    /// Why no request can be carried out, if none can: nodes that were met in another order, or not all, would look for a key
    /// in different places.
    pub fn crowded(&self) -> Option<&String> {
        self.crowded.as_ref()
    }

    /// Where a key's requests are carried out.
    pub fn place(&self, partition: Partition) -> Place {
        if self.holds(partition) {
            Place::Here
        } else {
            Place::There(self.replicas(partition))
        }
    }

    /// Where keys are looked through. Not at a replica that lacks writes, while there is another one.
    pub fn walked_at(&self, partition: Partition) -> Place {
        if self.is_short {
            let replicas = self.replicas(partition).into_iter();
            let whole: Vec<NodeName> = replicas
                .filter(|node| *node != self.node)
                .filter(|node| self.trusts(node) && !self.lacks_writes(node))
                .collect();
            if !whole.is_empty() {
                return Place::There(whole);
            }
        }
        self.place(partition)
    }

    /// Whether this node holds everything of its region and lacks nothing, so that nothing is to be forwarded.
    pub fn holds_all(&self) -> bool {
        let region = self.placement.region(&self.region);
        !self.is_short
            && region
                .is_none_or(|region| region.is_whole() && region.members().contains(&self.node))
    }

    /// Whether this node holds a partition.
    pub fn holds(&self, partition: Partition) -> bool {
        let region = self.placement.region(&self.region);
        region.is_none_or(|region| region.is_replica(&self.node, partition))
    }

    /// Whether this node lacks writes that other replicas have.
    pub fn is_short(&self) -> bool {
        self.is_short
    }

    /// Whether another node does, as it says itself.
    pub fn lacks_writes(&self, node: &NodeName) -> bool {
        self.short.contains(node)
    }

    /// The nodes to be asked about a partition, the first one first: those that are believed to live before the others, and those that
    /// lack nothing before those that lack writes.
    pub fn replicas(&self, partition: Partition) -> Vec<NodeName> {
        let Some(region) = self.placement.region(&self.region) else {
            return Vec::new();
        };
        if is_on(Mutant::AskedByName) {
            let others = region.members().iter().filter(|node| **node != self.node);
            return others.cloned().collect();
        }
        let mut nodes: Vec<NodeName> = region.preferred_nodes(partition).cloned().collect();
        nodes.sort_by_key(|node| (!self.trusts(node), self.lacks_writes(node))); // stable: else as preferred
        nodes
    }

    /// Whether another node is believed to live.
    pub fn trusts(&self, node: &NodeName) -> bool {
        self.trusted.contains(node)
    }

    /// Whether this node holds anything.
    pub fn holds_any(&self) -> bool {
        let region = self.placement.region(&self.region);
        region.is_some_and(|region| region.members().contains(&self.node))
    }

    /// The first partition behind `first` that a node (or this one) does not hold.
    pub fn run_end(&self, first: Partition, node: Option<&NodeName>) -> u16 {
        let node = node.unwrap_or(&self.node);
        let region = self.placement.region(&self.region);
        let others = Partition::all().skip_while(|partition| *partition <= first);
        let mut others = others
            .filter(|partition| !region.is_some_and(|region| region.is_replica(node, *partition)));
        others.next().map_or(PARTITIONS, Partition::index)
    }

    /// Other members of the region that are believed to live.
    pub fn living(&self) -> Vec<NodeName> {
        let region = self.placement.region(&self.region);
        let members = region.into_iter().flat_map(|region| region.members());
        let living = members.filter(|node| **node != self.node && self.trusts(node));
        living.cloned().collect()
    }
}
