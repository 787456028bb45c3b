//! Who holds what, by the configuration and by who was met.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use crate::{
    config::Config,
    core::node::Topology,
    level::Level,
    names::{NodeName, RegionName},
    placement::Placement,
    wording::counted,
};

/// What the configuration says about who holds what.
#[derive(Debug, Clone)]
pub struct Configured {
    pub(super) node: NodeName,
    pub(super) region: RegionName,
    replicas: BTreeMap<RegionName, u8>,
    /// Regions whose members are listed. Those of others are the nodes that are met there.
    listed: BTreeMap<RegionName, BTreeSet<NodeName>>,
    levels: [Level; 2],
}

impl Configured {
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
    pub fn topology(&self, placement: Arc<Placement>) -> Topology {
        let region = self.serving().next().unwrap_or(&self.region);
        Topology {
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
