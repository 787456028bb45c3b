//! What the shards are told of the membership: who holds what, who of them is believed to live, and who lacks writes.

use std::{collections::BTreeSet, sync::Arc};

use gossip::Standing;

use super::{configured::Configured, context::Node, health, membership::Membership, queue::Work};
use crate::{
    core::Input,
    core::node::Topology,
    names::{NodeName, RegionName},
    peer::{Direction, LinkState, Peers},
    placement::{Placement, RegionPlacement},
    storage::record::shortage::Shortage,
};

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
    fn placement_over(&mut self, configured: &Configured, met: Met) -> Arc<Placement> {
        if let Some((known, placement)) = &self.placed
            && *known == met
        {
            return Arc::clone(placement);
        }
        let placement = Arc::new(configured.placement(&met));
        self.placed = Some((met, Arc::clone(&placement)));
        placement
    }
}

/// Tells the shards what has changed since they were told last. What a full queue did not take is told next time.
pub fn tell(node: &Node, membership: &Membership, told: &mut Told) {
    let configured = &node.inner().configured;
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
    let placement = told.placement_over(configured, met.into_iter().collect());
    let linked = linked(node);
    let stalled = node.inner().answering.stalled();
    let is_reached = |name: &&NodeName| linked.contains(*name) && !stalled.contains(*name);
    let reached = trusted.iter().filter(is_reached).cloned().collect();
    let region = serving(node, configured, &placement, &reached);
    let crowded = configured.crowded(&region, &placement);
    let out_of_reach = || configured.out_of_reach(&region, &placement, &reached);
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
    node.inner().set_topology(Topology {
        node: configured.node.clone(),
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
    configured: &Configured,
    placement: &Placement,
    reached: &BTreeSet<NodeName>,
) -> RegionName {
    let peers = node.inner().outbound.peers();
    let links = peers.map(Peers::status).unwrap_or_default();
    let served = node.inner().topology().region.clone();
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
    configured
        .serving()
        .min_by(|a, b| round_trip(a).total_cmp(&round_trip(b)))
        .unwrap_or(&configured.region)
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
