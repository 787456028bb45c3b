//! Who holds what, and who of them is believed to live: what the shards are told of the membership.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use gossip::Standing;

use super::{health, membership::Membership, node::Node, queue::Work};
use crate::{
    config::Config,
    core::Input,
    level::Level,
    names::{NodeName, RegionName},
    peer::{Direction, LinkState, Peers},
    placement::{PARTITIONS, Partition, Placement, RegionPlacement},
    storage::record::shortage::Shortage,
    wording::counted,
};

/// What the configuration says about who holds what.
#[derive(Debug, Clone)]
pub struct Settled {
    node: NodeName,
    region: RegionName,
    replicas: BTreeMap<RegionName, u8>,
    /// Regions whose members are listed. Those of others are the nodes that are met there.
    listed: BTreeMap<RegionName, BTreeSet<NodeName>>,
    levels: [Level; 2],
}

/// Nodes and their regions.
type Met = Vec<(NodeName, RegionName)>;

/// What was worked out and told last.
#[derive(Debug, Default)]
pub struct Told {
    /// The placement over these nodes: it takes a thousand orders to work out, and hardly ever changes.
    placed: Option<(Met, Arc<Placement>)>,
    told: Option<Word>,
}

/// What is to be told.
#[derive(Debug, Clone, PartialEq)]
struct Word {
    /// The same as was told last where nothing changed: it is compared by where it is.
    placement: Placed,
    trusted: Arc<BTreeSet<NodeName>>,
    /// The region that is served.
    region: RegionName,
    /// What this node lacks, and which others lack something.
    shortage: Shortage,
    short: Arc<BTreeSet<NodeName>>,
}

#[derive(Debug, Clone)]
struct Placed(Arc<Placement>);

impl PartialEq for Placed {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Told {
    fn placement_over(&mut self, settled: &Settled, met: Met) -> Arc<Placement> {
        if let Some((known, placement)) = &self.placed
            && *known == met
        {
            return Arc::clone(placement);
        }
        let placement = Arc::new(settled.placement(&met));
        self.placed = Some((met, Arc::clone(&placement)));
        placement
    }
}

/// Who holds what around a node, as it is believed now.
#[derive(Debug, Clone)]
pub struct Neighbours {
    node: NodeName,
    /// The region whose keys this node serves: its own, or the nearest one where its own keeps nothing.
    region: RegionName,
    pub(super) placement: Arc<Placement>,
    trusted: Arc<BTreeSet<NodeName>>,
    /// Whether this node lacks writes that other replicas have; and the others that do.
    is_short: bool,
    short: Arc<BTreeSet<NodeName>>,
    /// Why nobody can say who holds which key, if so.
    crowded: Option<String>,
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
    fn crowded(&self, served: &RegionName, placement: &Placement) -> Option<String> {
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
    fn serving(&self) -> impl Iterator<Item = &RegionName> {
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
    fn out_of_reach(
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

/// Tells the shards what has changed since they were told last. What a full queue did not take is told next time.
pub fn tell(node: &Node, membership: &Membership, told: &mut Told) {
    let settled = &node.inner().settled;
    // One that never returns is out of the placement when it is forgotten, not when it is silent or said goodbye.
    let mut met = node.inner().known.regions();
    let (mut trusted, mut short) = (BTreeSet::new(), BTreeSet::new());
    for (name, region, standing) in membership.standings() {
        if membership.shortage_of(&name).is_of_replica() {
            short.insert(name.clone());
        }
        met.insert(name.clone(), region);
        if matches!(standing, Standing::Up | Standing::Leaving) {
            trusted.insert(name);
        }
    }
    let placement = told.placement_over(settled, met.into_iter().collect());
    let linked = linked(node);
    let stalled = node.inner().answering.stalled();
    let is_reached = |name: &&NodeName| linked.contains(*name) && !stalled.contains(*name);
    let reached = trusted.iter().filter(is_reached).cloned().collect();
    let region = serving(node, settled, &placement, &reached);
    let crowded = settled.crowded(&region, &placement);
    let out_of_reach = || settled.out_of_reach(&region, &placement, &reached);
    match crowded.clone().or_else(out_of_reach) {
        Some(detail) => node.inner().health.fail(health::QUORUM, detail),
        None => node.inner().health.mend(health::QUORUM),
    }
    let shortage = node.inner().outbound.shortage();
    match lacking(shortage) {
        Some(detail) => node.inner().health.fail(health::RECOVERING, detail),
        None => node.inner().health.mend(health::RECOVERING),
    }
    let word = Word {
        placement: Placed(placement),
        trusted: Arc::new(trusted),
        region,
        shortage,
        short: Arc::new(short),
    };
    if told.told.as_ref() == Some(&word) {
        return;
    }
    node.inner().set_neighbours(Neighbours {
        node: settled.node.clone(),
        region: word.region.clone(),
        placement: Arc::clone(&word.placement.0),
        trusted: Arc::clone(&word.trusted),
        is_short: shortage.is_of_replica(),
        short: Arc::clone(&word.short),
        crowded,
    });
    if every_shard(node, || Input::Placed(Arc::clone(&word.placement.0)))
        && every_shard(node, || Input::Short(shortage))
        && every_shard(node, || Input::Trusted(Arc::clone(&word.trusted)))
    {
        told.told = Some(word);
    }
}

/// What this node lacks, in words.
fn lacking(shortage: Shortage) -> Option<String> {
    if shortage.is_of_replica() {
        let why = if shortage.has_forgotten {
            "its data directory is new or an old copy"
        } else {
            "it was away for longer than hints.window, or they were more than hints.max_bytes"
        };
        return Some(format!(
            "this node lacks writes that other replicas have ({why}): it needs a full repair, and until then reads ask others and it counts for no quorum"
        ));
    }
    shortage.of_region.then(|| {
        "this node lacks writes of another region, which were dropped there before they were taken here (hints.window, hints.max_bytes): its region needs a full repair".to_owned()
    })
}

/// The region whose keys a node serves: its own, or where that keeps nothing the nearest one that does, by round trip. It stays
/// the one that it is unless another is much nearer, because what was written through one region is read in another a little later.
fn serving(
    node: &Node,
    settled: &Settled,
    placement: &Placement,
    reached: &BTreeSet<NodeName>,
) -> RegionName {
    let peers = node.inner().outbound.peers();
    let links = peers.map(Peers::status).unwrap_or_default();
    let served = node.inner().neighbours().region.clone();
    let round_trip = |region: &RegionName| {
        let members = placement.region(region).map(RegionPlacement::members);
        let living = members.into_iter().flatten();
        let living = living.filter(|member| reached.contains(*member));
        let trips = living.filter_map(|member| {
            let own = links
                .iter()
                .filter(|link| link.name.as_ref() == Some(member));
            own.filter_map(|link| link.rtt_ms).reduce(f64::min)
        });
        let nearest = trips.reduce(f64::min).unwrap_or(f64::INFINITY);
        if *region == served {
            nearest / MUCH_NEARER - NEARER_MS
        } else {
            nearest
        }
    };
    settled
        .serving()
        .min_by(|a, b| round_trip(a).total_cmp(&round_trip(b)))
        .unwrap_or(&settled.region)
        .clone()
}

/// The nodes that rows can be shipped to.
fn linked(node: &Node) -> BTreeSet<NodeName> {
    let peers = node.inner().outbound.peers();
    let links = peers.map(Peers::status).unwrap_or_default();
    links
        .into_iter()
        .filter(|link| link.state == LinkState::Up && link.direction == Direction::Dialled)
        .filter_map(|link| link.name)
        .collect()
}

fn every_shard(node: &Node, input: impl Fn() -> Input) -> bool {
    node.inner().shards.iter().all(|shard| {
        let told = shard.send(Work::Input(input()));
        if let Err(error) = &told {
            tracing::warn!(%error, "a shard was not told about the other nodes; it is tried again");
        }
        told.is_ok()
    })
}

/// By this factor another region's round trip must be shorter than that of the one that is served.
const MUCH_NEARER: f64 = 2.0;
/// And by so many milliseconds: of two regions on one site the first figures differ by more than a factor, and a client that is served by
/// the other one from now on does not see there yet what it has just written.
const NEARER_MS: f64 = 10.0;
