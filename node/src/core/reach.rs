//! Who can be asked, and who has answered: what a level comes to for one key, right now.

use std::{fmt::Write as _, time::Duration};

use crdt::{ActorId, Hlc};

use super::{
    message::SessionId,
    mutant::{Mutant, is_on},
    quorum::Awaiting,
    reply::Refusal,
    ship::{Destination, Shipper},
};
use crate::{
    level::Level,
    names::{NodeName, RegionName},
    placement::{Partition, RegionPlacement},
    wording::counted,
};

/// What a shard sees of the other replicas of its keys.
#[derive(Clone, Copy)]
pub struct Reach<'a> {
    /// The streams to them.
    pub shipper: &'a Shipper,
    /// The log that its own writes are in.
    pub actor: ActorId,
    /// Since the process started.
    pub now: Duration,
}

/// How many replicas have a write, and whether that is enough.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Count {
    /// Replicas that have it, of those that the level is about, as far as is known.
    pub have: u8,
    /// Whether the level is met.
    pub is_met: bool,
}

/// Whom a read asks.
#[derive(Debug, PartialEq, Eq)]
pub struct Asked {
    /// How many others must answer.
    pub needed: usize,
    /// Others that can be asked now, best first.
    pub others: Vec<(NodeName, SessionId)>,
}

/// Replicas of one region, of one key.
struct Share {
    replicas: u8,
    have: u8,
    /// Others that have it in the place of replicas.
    stand_ins: u8,
}

impl Share {
    fn has_majority(&self) -> bool {
        self.replicas == 0 || self.counted() > self.replicas / 2
    }

    /// With those that stand in, as far as they can count.
    fn counted(&self) -> u8 {
        self.have.saturating_add(self.stand_ins).min(self.replicas)
    }

    fn has_every(&self) -> bool {
        if is_on(Mutant::StandInsCountForAll) {
            return self.counted() >= self.replicas;
        }
        self.have >= self.replicas
    }
}

impl<'a> Reach<'a> {
    /// Whether this level asks anybody else than this replica.
    pub fn asks_others(&self, level: Level) -> bool {
        self.shipper.home().asks_others(level)
    }

    /// Refuses a write whose level is known to be out of reach.
    pub fn admits_write(&self, level: Level, partition: Partition) -> Result<(), Refusal> {
        let local = self.local_share(
            partition,
            |node| self.is_reachable(node),
            |stand_in| self.is_reachable(stand_in),
        );
        let remote = || {
            self.remote_regions()
                .map(|(region, placement)| self.reachable_remote(region, placement, partition))
        };
        if meets(level, &local, remote) {
            return Ok(());
        }
        Err(self.unreachable(level, partition, None))
    }

    /// How many replicas have a write that stands at `place` of this shard's own log.
    pub fn count(&self, write: &Awaiting, place: Hlc) -> Count {
        let (level, partition) = (write.level, write.partition);
        let counts = |node: &NodeName| !write.without.contains(node);
        let local = self.local_share(
            partition,
            |node| counts(node) && self.has(node, place),
            |stand_in| counts(stand_in) && self.stands_in(stand_in, place),
        );
        let remote = || {
            self.remote_regions()
                .map(|(region, placement)| self.remote_share(region, placement, partition, place))
        };
        let is_wide = matches!(level, Level::EachQuorum | Level::Quorum | Level::All);
        let have = remote()
            .filter(|_| is_wide)
            .fold(local.counted(), |sum, share| sum.saturating_add(share.have));
        let is_met = meets(level, &local, remote);
        Count { have, is_met }
    }

    /// Whom a read of this level asks, or why it cannot be answered.
    pub fn asked(&self, level: Level, partition: Partition) -> Result<Asked, Refusal> {
        let is_wide = matches!(level, Level::Quorum | Level::All);
        let local = self.others_here(partition);
        let remote = self.remote_regions().filter(|_| is_wide);
        let replicas: u32 =
            self.remote_replicas(is_wide) + u32::from(self.shipper.home().replicas());
        let needed = match level {
            Level::Replicas(count) => u32::from(count.get()),
            Level::LocalQuorum | Level::EachQuorum | Level::Quorum => replicas / 2 + 1,
            Level::All => replicas,
        };
        let nodes =
            local.chain(remote.flat_map(|(_, placement)| placement.preferred_nodes(partition)));
        let others: Vec<_> = nodes
            .filter_map(|node| Some((node.clone(), self.session(node)?)))
            .collect();
        let without = 1 + u32::from(is_on(Mutant::ReadQuorumShort));
        let needed = needed.saturating_sub(without) as usize;
        if others.len() < needed {
            return Err(self.unreachable(level, partition, None));
        }
        Ok(Asked { needed, others })
    }

    /// The refusal that says who could not be reached; `applied`: replicas that have the write all the same.
    pub fn unreachable(&self, level: Level, partition: Partition, applied: Option<u8>) -> Refusal {
        let home = self.shipper.home();
        let replicas = home.replicas();
        if let Level::Replicas(count) = level
            && count.get() > replicas
        {
            return Refusal::NoQuorum {
                detail: format!(
                    "level {level} asks for more replicas than region {} keeps ({replicas})",
                    home.region
                ),
                applied,
            };
        }
        let mut detail = format!(
            "level {level} cannot be met: of {} in region {} this node ({})",
            counted(replicas, "replica"),
            home.region,
            home.node
        );
        for node in self.others_here(partition) {
            let state = if self.is_reachable(node) {
                "can be reached"
            } else {
                "cannot be reached"
            };
            // Writing to a string does not fail.
            let _ = write!(detail, ", {node} {state}");
        }
        let is_wide = matches!(level, Level::EachQuorum | Level::Quorum | Level::All);
        for (region, placement) in self.remote_regions().filter(|_| is_wide) {
            let share = self.reachable_remote(region, placement, partition);
            let _ = write!(
                detail,
                "; {} of {} in region {region}",
                share.have, share.replicas
            );
        }
        Refusal::NoQuorum { detail, applied }
    }

    fn remote_regions(
        &self,
    ) -> impl Iterator<Item = (&'a RegionName, &'a RegionPlacement)> + use<'a> {
        let home = self.shipper.home();
        home.placement
            .regions()
            .filter(|(region, placement)| **region != home.region && placement.replicas() > 0)
    }

    fn remote_replicas(&self, is_wide: bool) -> u32 {
        let regions = self.remote_regions().filter(|_| is_wide);
        regions
            .map(|(_, placement)| u32::from(placement.replicas()))
            .sum()
    }

    /// The other replicas of a partition in this region, best first.
    fn others_here(&self, partition: Partition) -> impl Iterator<Item = &'a NodeName> + use<'a> {
        let home = self.shipper.home();
        let region = home.placement.region(&home.region);
        region
            .into_iter()
            .flat_map(move |region| region.preferred_nodes(partition))
            .filter(|node| **node != home.node)
    }

    fn local_share(
        &self,
        partition: Partition,
        has: impl Fn(&NodeName) -> bool,
        stands_in: impl Fn(&NodeName) -> bool,
    ) -> Share {
        let others = self.others_here(partition).filter(|node| has(node));
        let stand_ins = self.shipper.stand_ins(partition);
        let stand_ins = stand_ins.filter(|node| stands_in(node));
        Share {
            replicas: self.shipper.home().replicas(),
            have: u8::try_from(1 + others.count()).unwrap_or(u8::MAX),
            stand_ins: u8::try_from(stand_ins.count()).unwrap_or(u8::MAX),
        }
    }

    fn reachable_remote(
        &self,
        region: &RegionName,
        placement: &RegionPlacement,
        partition: Partition,
    ) -> Share {
        let destination = Destination::Region(region.clone());
        let is_taking = self
            .shipper
            .taking(&destination, self.actor, self.now)
            .is_some();
        let trusted = placement
            .preferred_nodes(partition)
            .filter(|node| is_taking && self.shipper.trusts(node));
        Share {
            replicas: placement.replicas(),
            have: u8::try_from(trusted.count()).unwrap_or(u8::MAX),
            stand_ins: 0,
        }
    }

    fn remote_share(
        &self,
        region: &RegionName,
        placement: &RegionPlacement,
        partition: Partition,
        place: Hlc,
    ) -> Share {
        let destination = Destination::Region(region.clone());
        let replicas = placement.replicas();
        let is_replica = |taker: &NodeName| placement.is_replica(taker, partition);
        let have = match self.shipper.progress(&destination, self.actor) {
            Some(progress) if progress.is_everywhere(place) => replicas,
            Some(progress) if progress.is_on_majority(place) => replicas / 2 + 1,
            // A taker that is no replica has it for others, and does not count for them.
            Some(progress) if progress.is_taken(place) => {
                let counts = progress.taker.is_some_and(is_replica);
                u8::from(counts || is_on(Mutant::TakerIsReplica))
            }
            _ => 0,
        };
        Share {
            replicas,
            have,
            stand_ins: 0,
        }
    }

    fn has(&self, node: &NodeName, place: Hlc) -> bool {
        let destination = Destination::Replica(node.clone());
        let progress = self.shipper.progress(&destination, self.actor);
        progress.is_some_and(|progress| progress.has(place))
    }

    /// Whether a node that is no replica has a write as a hint for one.
    fn stands_in(&self, node: &NodeName, place: Hlc) -> bool {
        let destination = Destination::Replica(node.clone());
        let progress = self.shipper.progress(&destination, self.actor);
        progress.is_some_and(|progress| {
            let is_assigned =
                progress.assigned_after < place || is_on(Mutant::StandInCountsTooEarly);
            is_assigned && progress.has(place)
        })
    }

    fn is_reachable(&self, node: &NodeName) -> bool {
        let destination = Destination::Replica(node.clone());
        self.shipper
            .taking(&destination, self.actor, self.now)
            .is_some()
    }

    fn session(&self, node: &NodeName) -> Option<SessionId> {
        self.shipper.session_to(node)
    }
}

fn meets<I: Iterator<Item = Share>>(level: Level, local: &Share, remote: impl Fn() -> I) -> bool {
    let is_wide = matches!(level, Level::EachQuorum | Level::Quorum | Level::All);
    if is_wide && is_on(Mutant::WideLevelsAreLocal) {
        return local.has_majority();
    }
    match level {
        Level::Replicas(count) => local.counted() >= count.get(),
        Level::LocalQuorum => local.has_majority(),
        Level::EachQuorum => local.has_majority() && remote().all(|share| share.has_majority()),
        Level::All => local.has_every() && remote().all(|share| share.has_every()),
        Level::Quorum => {
            let sum = |of: fn(&Share) -> u8| {
                remote().fold(u32::from(of(local)), |sum, share| {
                    sum + u32::from(of(&share))
                })
            };
            sum(Share::counted) > sum(|share| share.replicas) / 2
        }
    }
}
