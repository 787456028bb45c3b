//! Who holds what, and who of them is believed to live.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use crate::{
    config::Config,
    level::Level,
    names::{NodeName, RegionName},
    placement::{PARTITIONS, Partition, Placement},
    wording::counted,
};

/// What the configuration says about who holds what.
#[derive(Debug, Clone)]
pub struct Settled {
    pub(super) node: NodeName,
    pub(super) region: RegionName,
    replicas: BTreeMap<RegionName, u8>,
    /// Regions whose members are listed. Those of others are the nodes that are met there.
    listed: BTreeMap<RegionName, BTreeSet<NodeName>>,
    levels: [Level; 2],
}

/// Who holds what around a node, as it is believed now.
#[derive(Debug, Clone)]
pub struct Neighbours {
    pub(super) node: NodeName,
    /// The region whose keys this node serves: its own, or the nearest one where its own keeps nothing.
    pub(super) region: RegionName,
    pub(super) placement: Arc<Placement>,
    pub(super) trusted: Arc<BTreeSet<NodeName>>,
    /// Whether this node lacks writes that other replicas have; and the others that do.
    pub(super) is_short: bool,
    pub(super) short: Arc<BTreeSet<NodeName>>,
    /// Why nobody can say who holds which key, if so.
    pub(super) crowded: Option<String>,
}

impl Neighbours {
    /// Why no request can be carried out, if none can: nodes that were met in another order, or not all, would look for a key
    /// in different places.
    pub fn crowded(&self) -> Option<&String> {
        self.crowded.as_ref()
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
        let mut nodes: Vec<NodeName> = region.preferred_nodes(partition).cloned().collect();
        nodes.sort_by_key(|node| (!self.trusts(node), self.lacks_writes(node))); // stable: else as preferred
        nodes
    }

    /// Whether this is another node.
    pub fn is_other(&self, node: &NodeName) -> bool {
        *node != self.node
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

impl Settled {
    /// As a configuration says.
    pub fn of(config: &Config) -> Self {
        Self {
            node: config.node.name.clone(),
            region: config.node.region.clone(),
            replicas: config.regions.0.clone(),
            listed: config.members.listed(),
            levels: [config.consistency.read, config.consistency.write],
        }
    }

    /// The placement over the listed members, and over these nodes where nobody is listed.
    pub fn placement(&self, met: &[(NodeName, RegionName)]) -> Placement {
        let mut members = self.listed.clone();
        let own = (self.node.clone(), self.region.clone());
        for (node, region) in met.iter().chain([&own]) {
            if !self.listed.contains_key(region) && self.replicas.contains_key(region) {
                members
                    .entry(region.clone())
                    .or_default()
                    .insert(node.clone());
            }
        }
        Placement::new(members, &self.replicas)
    }

    /// As it is before anybody is heard of, over the nodes that are known.
    pub fn neighbours(&self, placement: Arc<Placement>) -> Neighbours {
        let region = self.serving().next().unwrap_or(&self.region);
        Neighbours {
            node: self.node.clone(),
            region: region.clone(),
            crowded: self.crowded(region, &placement),
            placement,
            trusted: Arc::default(),
            is_short: false,
            short: Arc::default(),
        }
    }

    /// Whether keys have other replicas in this region.
    pub fn has_other_replicas(&self) -> bool {
        self.replicas
            .get(&self.region)
            .is_some_and(|count| *count > 1)
    }

    /// Why nobody can say who holds which key of a region, if so: more nodes than replicas, and no list of them.
    pub(super) fn crowded(&self, served: &RegionName, placement: &Placement) -> Option<String> {
        let region = placement.region(served)?;
        let (nodes, replicas) = (region.members().len(), region.replicas());
        (nodes > usize::from(replicas) && !self.listed.contains_key(served)).then(|| {
            let names: Vec<&str> = region.members().iter().map(NodeName::as_str).collect();
            format!(
                "region {served} has {nodes} nodes ({}) and {replicas} replicas of each key: list its nodes in [members] on every node, or have those forgotten that never return",
                names.join(", ")
            )
        })
    }

    /// Why the default levels cannot be met by a node that has met nobody yet, if they cannot.
    pub fn alone(&self) -> Option<String> {
        let nearest = self.serving().next().unwrap_or(&self.region);
        self.out_of_reach(nearest, &self.placement(&[]), &BTreeSet::new())
    }

    /// The regions whose keys this node may serve: its own, or where that keeps nothing all that keep something.
    pub(super) fn serving(&self) -> impl Iterator<Item = &RegionName> {
        let keeps = |region: &RegionName| self.replicas.get(region).is_some_and(|count| *count > 0);
        let is_own = keeps(&self.region);
        let regions = self.replicas.keys();
        regions.filter(move |region| keeps(region) && (!is_own || **region == self.region))
    }

    /// Whether any request of this level waits for other nodes.
    pub fn asks_others(&self, level: Level) -> bool {
        let own = self.replicas.get(&self.region).copied().unwrap_or(0);
        let others = self
            .replicas
            .iter()
            .any(|(region, replicas)| *region != self.region && *replicas > 0);
        match level {
            Level::Replicas(count) => count.get() > 1,
            Level::LocalQuorum => own > 1,
            Level::EachQuorum | Level::Quorum | Level::All => own > 1 || others,
        }
    }

    /// Why the default levels cannot be met in a region with these nodes, if they cannot.
    pub(super) fn out_of_reach(
        &self,
        served: &RegionName,
        placement: &Placement,
        reached: &BTreeSet<NodeName>,
    ) -> Option<String> {
        let region = placement.region(served)?;
        let members = region.members();
        let living = members
            .iter()
            .filter(|member| **member == self.node || reached.contains(*member))
            .count();
        let needed = self.levels.iter().map(|level| match level {
            Level::Replicas(count) => count.get(),
            Level::All => region.replicas(),
            Level::LocalQuorum | Level::EachQuorum | Level::Quorum => region.majority(),
        });
        let needed = needed.max().unwrap_or(1);
        let dead = members.len() - living;
        let spare = usize::from(region.replicas().saturating_sub(needed));
        let lacking = usize::from(region.replicas()).saturating_sub(members.len());
        (dead + lacking > spare).then(|| {
            format!(
                "{living} of the {} of region {served} answer, and the default level needs {needed} of {}",
                counted(members.len() as u64, "node"),
                counted(region.replicas(), "replica")
            )
        })
    }
}
