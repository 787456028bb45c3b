//! The status of a node, from what its shards and its peers say.

use std::{collections::BTreeMap, time::Duration};

use gossip::{Cause, Standing};

use super::{
    context::Inner,
    membership,
    queue::Inspection,
    reachability::{self, Contact, Paths},
};
use crate::{
    core::{ship::Destination, tally::Tally},
    names::{NodeName, RegionName},
    peer::{LinkState, PeerLink, Unreached},
    placement::PARTITIONS,
    status::{NodeState, NodeStatus, RegionState, RegionStatus, Status},
    storage::record::shortage::Shortage,
};

/// What a status is made from.
pub struct StatusReport<'a> {
    /// The node.
    pub inner: &'a Inner,
    /// What each shard says.
    pub inspections: &'a [Inspection],
}

impl StatusReport<'_> {
    /// The cluster as this node sees it.
    pub fn status(&self, partitions: bool) -> Status {
        let reasons = self.inner.health.reasons();
        let total = self
            .inspections
            .iter()
            .fold(Tally::default(), |sum, shard| Tally {
                keys: sum.keys + shard.total.keys,
                digest: sum.digest.wrapping_add(shard.total.digest),
            });
        let nodes = self.nodes();
        Status {
            cluster: self.inner.cluster.clone(),
            node: self.inner.name.clone(),
            region: self.inner.region.clone(),
            epoch: EPOCH,
            ready: reasons.is_empty(),
            reasons,
            digest: format!("{:032x}", total.digest),
            keys: total.keys,
            regions: self
                .inner
                .regions
                .iter()
                .map(|region| self.region(region, &nodes))
                .collect(),
            nodes,
            partitions: u32::from(PARTITIONS),
            partition_digests: partitions.then(|| self.partition_digests()),
        }
    }

    /// How far a region is behind, over all shards.
    pub fn region(&self, name: &RegionName, nodes: &[NodeStatus]) -> RegionStatus {
        let lags: Vec<_> = self
            .inspections
            .iter()
            .flat_map(|shard| &shard.lags)
            .filter(|(destination, _)| *destination == Destination::Region(name.clone()))
            .map(|(_, lag)| lag)
            .collect();
        let now_ms = self.inner.clock.now().wall_ms;
        let since_ms = lags
            .iter()
            .filter_map(|lag| lag.since)
            .map(|since| since.millis())
            .min();
        let lag = since_ms.map_or(0, |since_ms| now_ms.saturating_sub(since_ms));
        let lag = Duration::from_millis(lag);
        let watermarks = lags
            .iter()
            .map(|lag| lag.watermark.millis())
            .filter(|watermark| *watermark > 0);
        RegionStatus {
            name: name.clone(),
            state: self.region_state(name, nodes, lag),
            lag_seconds: lag.as_secs_f64(),
            outbox_entries: lags.iter().map(|lag| lag.rows).sum(),
            watermark: watermarks.min().unwrap_or(0),
            needs_repair: self.needs_repair(&Destination::Region(name.clone()))
                || nodes.iter().any(|node| self.is_region_short(name, node)),
        }
    }

    /// Whether what a node of a region lacks no other node there has.
    fn is_region_short(&self, region: &RegionName, node: &NodeStatus) -> bool {
        let shortage = self.shortage_of(&node.name);
        let topology = self.inner.topology();
        let placed = topology.placement.region(region);
        let is_alone = placed.is_some_and(|placed| placed.replicas() <= 1);
        node.region == *region && (shortage.of_region || (shortage.is_of_replica() && is_alone))
    }

    /// What a node lacks, as it says itself, or as its directory shows.
    fn shortage_of(&self, node: &NodeName) -> Shortage {
        if *node == self.inner.name {
            return self.inner.outbound.shortage();
        }
        let membership = self.inner.membership();
        membership.map_or(Shortage::NONE, |membership| membership.shortage_of(node))
    }

    /// Whether a destination lacks rows that nobody will ship to it any more.
    fn needs_repair(&self, destination: &Destination) -> bool {
        let lags = self.inspections.iter().flat_map(|shard| &shard.lags);
        let mut own = lags.filter(|(to, _)| to == destination);
        own.any(|(_, lag)| lag.needs_repair) || self.inner.legacies.concern(destination)
    }

    fn region_state(&self, name: &RegionName, nodes: &[NodeStatus], lag: Duration) -> RegionState {
        let destination = Destination::Region(name.clone());
        let ships = |shard: &&Inspection| shard.lags.iter().any(|(to, _)| *to == destination);
        let shipping = self.inspections.iter().filter(ships);
        let (shards, linked) = shipping.fold((0, 0), |(shards, linked), shard| {
            let is_linked = shard.linked.contains(&destination);
            (shards + 1, linked + usize::from(is_linked))
        });
        let states = nodes.iter().filter(|node| node.region == *name);
        reachability::region_state(
            states.map(|node| node.state),
            &Paths {
                shards,
                linked,
                lag,
            },
        )
    }

    fn partition_digests(&self) -> Vec<String> {
        let mut digests = vec![0u128; usize::from(PARTITIONS)];
        for (partition, tally) in self.inspections.iter().flat_map(|shard| &shard.partitions) {
            digests[usize::from(*partition)] = tally.digest;
        }
        digests
            .iter()
            .map(|digest| format!("{digest:032x}"))
            .collect()
    }

    /// This node and every other that it has heard of or is to dial.
    fn nodes(&self) -> Vec<NodeStatus> {
        let links = self
            .inner
            .outbound
            .peers()
            .map(|peers| peers.status())
            .unwrap_or_default();
        let mut nodes = self.known_nodes();
        nodes.extend(linked_nodes(&links));
        for (mut member, silence) in self.members() {
            let contact = reachability::contact(&links, &member.name);
            doubt(&mut member, silence, contact);
            // What gossip knows stands above what one link shows.
            nodes.insert(member.name.clone(), member);
        }
        nodes.insert(self.inner.name.clone(), self.this_node());
        for node in nodes.values_mut() {
            let (own, region) = (
                Destination::Replica(node.name.clone()),
                Destination::Region(node.region.clone()),
            );
            node.hints = self.hints(&node.name);
            let shortage = self.shortage_of(&node.name);
            node.needs_repair = self.needs_repair(&own)
                || shortage.is_any()
                || self.inner.legacies.concern(&region);
        }
        nodes.into_values().collect()
    }

    /// The nodes that were met and not forgotten, as if nothing had been heard of them since.
    fn known_nodes(&self) -> BTreeMap<NodeName, NodeStatus> {
        let known = self.inner.known.regions().into_iter();
        let unheard = known.map(|(name, region)| {
            let status = NodeStatus {
                name: name.clone(),
                region,
                state: NodeState::Joining,
                phi: 0.0,
                cause: "not heard of since this node started".to_owned(),
                rtt_ms: None,
                clock_offset_ms: None,
                hints: 0,
                needs_repair: false,
                ready: false,
            };
            (name, status)
        });
        unheard.collect()
    }

    /// Rows that a node of this region has not taken, over all shards.
    fn hints(&self, name: &NodeName) -> u64 {
        let destination = Destination::Replica(name.clone());
        let lags = self.inspections.iter().flat_map(|shard| &shard.lags);
        let own = lags.filter(|(to, _)| *to == destination);
        own.map(|(_, lag)| lag.rows).sum()
    }

    /// The nodes that gossip knows, and how long ago anything was heard of them.
    fn members(&self) -> Vec<(NodeStatus, Duration)> {
        let Some(membership) = self.inner.membership() else {
            return Vec::new();
        };
        let known = membership.members(|member| Some((member_status(member)?, member.silence)));
        known
            .into_iter()
            .flatten()
            .map(|(mut node, silence)| {
                let ready = membership.value(&node.name, membership::READY);
                node.ready &= ready.is_some_and(|ready| ready.is_empty());
                (node, silence)
            })
            .collect()
    }

    fn this_node(&self) -> NodeStatus {
        NodeStatus {
            name: self.inner.name.clone(),
            region: self.inner.region.clone(),
            state: NodeState::Up,
            phi: 0.0,
            cause: String::new(),
            rtt_ms: None,
            clock_offset_ms: None,
            hints: 0,
            needs_repair: false,
            ready: self.inner.health.reasons().is_empty(),
        }
    }
}

/// The nodes at the other end of a session or a configured address.
fn linked_nodes(links: &[PeerLink]) -> BTreeMap<NodeName, NodeStatus> {
    let mut nodes: BTreeMap<NodeName, NodeStatus> = BTreeMap::new();
    for link in links {
        let (Some(name), Some(region)) = (&link.name, &link.region) else {
            continue;
        };
        let status = node_status(name, region, link);
        let entry = nodes.entry(name.clone()).or_insert_with(|| status.clone());
        if rank(status.state) > rank(entry.state)
            || (entry.rtt_ms.is_none() && status.state == entry.state)
        {
            *entry = status;
        }
    }
    nodes
}

/// In a young cluster, which has few heartbeats to judge by, gossip is slow to suspect. Without a session plain silence has a say, and
/// what the address of the node does shows why it is silent.
fn doubt(member: &mut NodeStatus, silence: Duration, contact: Contact) {
    let unreached = match contact {
        Contact::Linked => return,
        Contact::Never(unreached) => {
            // What others say of it comes before the first word with it.
            if matches!(
                member.state,
                NodeState::Up | NodeState::Suspect | NodeState::Down
            ) {
                member.state = NodeState::Connecting;
                member.ready = false;
            }
            unreached
        }
        Contact::Lost(unreached) => {
            if member.state == NodeState::Up && silence >= SUSPECT_UNLINKED {
                member.state = if silence < DOWN_UNLINKED {
                    NodeState::Suspect
                } else {
                    NodeState::Down
                };
                member.ready = false;
            }
            unreached
        }
    };
    let is_silent = matches!(
        member.state,
        NodeState::Suspect | NodeState::Down | NodeState::Connecting
    );
    if is_silent && member.cause != cause(Some(Cause::SelfSlow)) {
        member.cause = match unreached {
            Some(Unreached::Refused) => PROCESS_GONE,
            Some(Unreached::Silent) | None => cause(Some(Cause::PathDown)),
        }
        .to_owned();
    }
}

/// A member as gossip sees it; nothing for a name that no certificate can have.
fn member_status(member: gossip::Member<'_>) -> Option<NodeStatus> {
    let is_usable = member.standing == Standing::Up && member.cause.is_none();
    Some(NodeStatus {
        name: member.identity.node.as_str().parse().ok()?,
        region: member.identity.region.as_str().parse().ok()?,
        state: match member.standing {
            Standing::Joining => NodeState::Joining,
            Standing::Up => NodeState::Up,
            Standing::Suspect => NodeState::Suspect,
            Standing::Down => NodeState::Down,
            Standing::Leaving => NodeState::Leaving,
            Standing::Left => NodeState::Left,
        },
        phi: member.phi,
        cause: cause(member.cause).to_owned(),
        rtt_ms: member.rtt.map(|rtt| rtt.as_secs_f64() * 1e3),
        clock_offset_ms: member.clock_offset.map(|offset| offset.ahead_ms as f64),
        hints: 0,
        needs_repair: false,
        ready: is_usable,
    })
}

fn cause(cause: Option<Cause>) -> &'static str {
    match cause {
        None => "",
        Some(Cause::PeerSlow) => "peer slow",
        Some(Cause::PathDown) => "path down",
        Some(Cause::SelfSlow) => "self slow",
    }
}

fn node_status(name: &NodeName, region: &RegionName, link: &PeerLink) -> NodeStatus {
    let is_up = link.state == LinkState::Up;
    NodeStatus {
        name: name.clone(),
        region: region.clone(),
        state: match (is_up, link.last_heard) {
            (true, _) => NodeState::Up,
            (false, Some(_)) => NodeState::Down,
            (false, None) => NodeState::Connecting,
        },
        phi: 0.0,
        cause: if is_up {
            String::new()
        } else {
            link.last_error.clone().unwrap_or_default()
        },
        rtt_ms: link.rtt_ms,
        clock_offset_ms: link.clock_offset_ms,
        hints: 0,
        needs_repair: false,
        ready: is_up,
    }
}

/// Two links to one node: the one that is better off speaks for it.
fn rank(state: NodeState) -> u8 {
    match state {
        NodeState::Up => 3,
        NodeState::Suspect => 2,
        NodeState::Joining | NodeState::Connecting | NodeState::Leaving => 1,
        NodeState::Down | NodeState::Left => 0,
    }
}

/// The cause where the machine of a node answers for it that nobody listens.
const PROCESS_GONE: &str = "process gone";
/// Without a session and unheard of for so long, a node is suspected; a session that is only opened again takes less.
const SUSPECT_UNLINKED: Duration = Duration::from_secs(1);
/// And for so long, it counts as down.
const DOWN_UNLINKED: Duration = Duration::from_millis(4500);
/// Membership is what the configuration says: there is one epoch.
const EPOCH: u64 = 1;
