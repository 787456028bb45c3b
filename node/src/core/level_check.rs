//! Who can be asked, and who has answered: what a level comes to for one key, right now.
//!
//! A replica may be *short*: it lacks writes that other replicas have, and nobody will ship them to it. A *whole* one lacks none.
//!
//! - One that has forgotten what it had acknowledged (its data directory is new or an old copy) may be what two majorities had in common.
//!   So a level needs whole replicas enough to have one in common with every majority that there ever was: N - majority + 1 of N. For an
//!   odd N that is a majority of whole ones; of two replicas one may be short, because the other one was in every majority.
//! - One that missed writes (rows for it were dropped while it was away) never acknowledged them, so majorities still meet without them. It
//!   counts like one that forgot while there are whole replicas enough, up or not; where there are not it counts as whole, or one
//!   node that was cut off for long would end the quorums of all others.
//!
//! Levels that name a number ask for so many whole ones, or for all N.

use std::{fmt::Write as _, time::Duration};

use crdt::{ActorId, Hlc};

use super::{
    message::SessionId,
    mutant::{Mutant, is_on},
    pending_writes::PendingWrite,
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
pub struct LevelCheck<'a> {
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
    /// Of those that have it, the ones that are not short.
    whole: u8,
    /// Others that have it in the place of replicas.
    stand_ins: u8,
}

/// Sees which replicas count as whole.
struct Eye<'a> {
    shipper: &'a Shipper,
    /// There are not whole ones enough: those that only missed writes count as whole.
    bears_missed: bool,
}

impl Eye<'_> {
    fn is_whole(&self, node: &NodeName) -> bool {
        let shortage = self.shipper.shortage(node);
        !shortage.has_forgotten && (!shortage.has_missed || self.bears_missed)
    }
}

/// How many replicas a read asks.
struct Wanted {
    total: usize,
    /// So many of them are not to be short.
    whole: usize,
}

/// Of so many replicas, how many have one in common with every majority. One alone has nobody to be compared with.
const fn whole_needed(replicas: u32) -> u32 {
    match replicas {
        0 | 1 => 0,
        _ => replicas - replicas / 2,
    }
}

impl Share {
    /// Of another region. It reads with whole replicas enough itself, and teaches nobody: how it stands is its own affair.
    fn afar(replicas: u8, have: u8) -> Self {
        Self {
            replicas,
            have,
            whole: have,
            stand_ins: 0,
        }
    }

    fn has_majority(&self) -> bool {
        self.replicas == 0 || (self.counted() > self.replicas / 2 && self.has_whole_enough())
    }

    /// Whether it has a whole replica in common with every majority.
    fn has_whole_enough(&self) -> bool {
        u32::from(self.whole_counted()) >= whole_needed(self.replicas.into())
    }

    /// Whether so many replicas have it, whichever they are.
    fn has(&self, count: u8) -> bool {
        match count {
            // As durable on a short one as on any, and it has no other to be of one mind with.
            0 | 1 => self.counted() >= count,
            // Better than all there is not.
            _ if count == self.replicas => self.counted() >= count,
            _ => self.whole_counted() >= count,
        }
    }

    fn whole_counted(&self) -> u8 {
        self.whole.saturating_add(self.stand_ins).min(self.replicas)
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

impl<'a> LevelCheck<'a> {
    /// Whether this level asks anybody else than this replica. One that is short asks always, if there is anybody.
    pub fn asks_others(&self, level: Level) -> bool {
        let home = self.shipper.home();
        home.asks_others(level) || (home.replicas() > 1 && self.shipper.is_short(&home.node))
    }

    /// Which of the replicas of a partition count as whole: of this region, or of all.
    fn eye(&self, partition: Partition, is_wide: bool) -> Eye<'a> {
        let own = std::iter::once(&self.shipper.home().node);
        let remote = self.remote_regions().filter(|_| is_wide);
        let remote = remote.flat_map(|(_, placement)| placement.preferred_nodes(partition));
        let placed = own.chain(self.others_here(partition)).chain(remote);
        let short = placed.filter(|node| self.shipper.is_short(node)).count();
        let replicas = self.replicas(is_wide);
        Eye {
            shipper: self.shipper,
            bears_missed: replicas.saturating_sub(short as u32) < whole_needed(replicas),
        }
    }

    /// Replicas of a key, of this region or of all.
    fn replicas(&self, is_wide: bool) -> u32 {
        self.remote_replicas(is_wide) + u32::from(self.shipper.home().replicas())
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
    pub fn count(&self, write: &PendingWrite, place: Hlc) -> Count {
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

    /// Whom a read of this level asks, or why it cannot be answered. Short replicas are asked only where the whole ones do not suffice.
    pub fn asked(&self, level: Level, partition: Partition) -> Result<Asked, Refusal> {
        let is_wide = matches!(level, Level::Quorum | Level::All);
        let local = self.others_here(partition);
        let remote = self.remote_regions().filter(|_| is_wide);
        let nodes =
            local.chain(remote.flat_map(|(_, placement)| placement.preferred_nodes(partition)));
        let nodes = nodes.filter_map(|node| Some((node.clone(), self.session(node)?)));
        let eye = self.eye(partition, is_wide);
        let (mut others, short): (Vec<_>, Vec<_>) = nodes.partition(|(node, _)| eye.is_whole(node));
        let Wanted { total, whole } = self.wanted(level, is_wide);
        let itself = usize::from(eye.is_whole(&self.shipper.home().node));
        let needed = (total - 1).max(whole.saturating_sub(itself));
        let needed = needed.saturating_sub(usize::from(is_on(Mutant::ReadQuorumShort)));
        if others.len() >= needed {
            return Ok(Asked { needed, others });
        }
        if total == 1 {
            // Nobody else can be asked, and ONE promises nothing of what other replicas have.
            let (needed, others) = (0, Vec::new());
            return Ok(Asked { needed, others });
        }
        let lacking = needed - others.len();
        if others.len() + itself < whole || short.len() < lacking {
            return Err(self.unreachable(level, partition, None));
        }
        // All of them are needed: no short one is asked in the place of a whole one.
        others.extend(short.into_iter().take(lacking));
        debug_assert!(others.len() == needed, "as many are asked as are needed");
        Ok(Asked { needed, others })
    }

    /// How many replicas a read of this level asks, this one included.
    fn wanted(&self, level: Level, is_wide: bool) -> Wanted {
        let replicas = self.replicas(is_wide);
        let (total, whole) = match level {
            Level::Replicas(count) if u32::from(count.get()) != replicas => {
                (count.get().into(), count.get().into())
            }
            // Better than all there is not.
            Level::Replicas(_) | Level::All => (replicas, 0),
            Level::LocalQuorum | Level::EachQuorum | Level::Quorum => {
                (replicas / 2 + 1, whole_needed(replicas))
            }
        };
        debug_assert!(
            whole <= total,
            "those that lack nothing are among those that are asked"
        );
        Wanted {
            total: total as usize,
            whole: whole as usize,
        }
    }

    /// The refusal that says who could not be reached; `applied`: replicas that have the write all the same.
    pub fn unreachable(&self, level: Level, partition: Partition, applied: Option<u8>) -> Refusal {
        let home = self.shipper.home();
        let replicas = home.replicas();
        if matches!(level, Level::Replicas(count) if count.get() > replicas) {
            let region = &home.region;
            let detail = format!(
                "level {level} asks for more replicas than region {region} keeps ({replicas})"
            );
            return Refusal::NoQuorum { detail, applied };
        }
        let mut detail = format!(
            "level {level} cannot be met: of {} in region {} this node ({}{})",
            counted(replicas, "replica"),
            home.region,
            home.node,
            match self.shipper.is_short(&home.node) {
                true => ", which lacks writes and needs a repair",
                false => "",
            }
        );
        for node in self.others_here(partition) {
            let state = match (self.is_reachable(node), self.shipper.is_short(node)) {
                (false, _) => "cannot be reached",
                (true, true) => "lacks writes and needs a repair",
                (true, false) => "can be reached",
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
        let eye = self.eye(partition, false);
        let home = self.shipper.home();
        // A placement that came late may have made it none of the key's replicas.
        let is_replica = home.holds(partition);
        let mut have = u8::from(is_replica);
        let mut whole = u8::from(is_replica && eye.is_whole(&home.node));
        for node in self.others_here(partition).filter(|node| has(node)) {
            have = have.saturating_add(1);
            whole = whole.saturating_add(u8::from(eye.is_whole(node)));
        }
        let stand_ins = self.shipper.stand_ins(partition);
        let stand_ins = stand_ins.filter(|node| stands_in(node));
        Share {
            replicas: self.shipper.home().replicas(),
            have,
            whole,
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
        let is_taking = self.shipper.is_offered(&destination, self.actor, self.now);
        let trusted = placement
            .preferred_nodes(partition)
            .filter(|node| is_taking && self.shipper.trusts(node));
        Share::afar(
            placement.replicas(),
            u8::try_from(trusted.count()).unwrap_or(u8::MAX),
        )
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
        Share::afar(replicas, have)
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
        self.shipper.is_offered(&destination, self.actor, self.now)
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
        Level::Replicas(count) => local.has(count.get()),
        Level::LocalQuorum => local.has_majority(),
        Level::EachQuorum => local.has_majority() && remote().all(|share| share.has_majority()),
        Level::All => local.has_every() && remote().all(|share| share.has_every()),
        Level::Quorum => {
            let sum = |of: fn(&Share) -> u8| {
                remote().fold(u32::from(of(local)), |sum, share| {
                    sum + u32::from(of(&share))
                })
            };
            let replicas = sum(|share| share.replicas);
            sum(Share::counted) > replicas / 2
                && sum(Share::whole_counted) >= whole_needed(replicas)
        }
    }
}
