//! How far destinations are, for those who wait for them.

use std::time::Duration;

use crdt::{ActorId, Hlc};

use super::{Destination, Progress, Shipper, home::is_trusted};
use crate::{
    core::{identity::relay_of, inbox::RelayMark, message::SessionId},
    names::NodeName,
    placement::Partition,
};

impl Shipper {
    /// How far a destination is with a log, if rows can be sent there now or not.
    pub fn progress(&self, destination: &Destination, actor: ActorId) -> Option<Progress> {
        let stream = self.routes.get(destination)?.streams.get(&actor)?;
        Some(Progress {
            answered: stream.answered,
            taken: stream.cursor.taken,
            majority: stream.majority,
            every: stream.every,
            assigned_after: stream.assigned_after,
        })
    }

    /// Nobody has said anything about rows of this log behind this place.
    pub fn furthest(&self, actor: ActorId) -> Hlc {
        let streams = self
            .routes
            .values()
            .filter_map(|route| route.streams.get(&actor));
        streams
            .map(|stream| stream.cursor.taken.max(stream.answered))
            .max()
            .unwrap_or(Hlc::ZERO)
    }

    /// How far the relay log of this shard is: on a majority of the replicas of every key, and on every one. Where members hold
    /// different keys this counts as if each concerned all of them, so it is behind rather than ahead.
    pub fn relay_mark(&self, actor: ActorId) -> RelayMark {
        let log = relay_of(actor);
        let Some(newest) = self.logs.get(&log).map(|log| log.newest) else {
            return RelayMark::default();
        };
        let region = self.home.placement.region(&self.home.region);
        let Some(region) = region.filter(|region| region.replicas() > 1) else {
            return RelayMark {
                majority: Hlc::MAX,
                every: Hlc::MAX,
            };
        };
        let mut taken: Vec<Hlc> = self
            .routes
            .iter()
            .filter(|(destination, _)| matches!(destination, Destination::Replica(_)))
            .filter_map(|(_, route)| Some(route.streams.get(&log)?.cursor.taken))
            .collect();
        let members = region.members().len().max(region.replicas().into());
        taken.resize(members.saturating_sub(1), Hlc::ZERO); // those that nobody has met have nothing
        taken.sort_unstable_by(|a, b| b.cmp(a));
        // This node has it and one less than a majority of the others must: of any N members that are the replicas of a key.
        let spare = usize::from(region.replicas() - region.majority());
        let majority = taken[taken.len() - 1 - spare.min(taken.len() - 1)];
        let every = taken[taken.len() - 1];
        RelayMark {
            majority: majority.min(newest),
            every: every.min(newest),
        }
    }

    /// The session on which a destination takes rows of a log now, as far as is known.
    pub fn taking(
        &self,
        destination: &Destination,
        actor: ActorId,
        now: Duration,
    ) -> Option<SessionId> {
        let route = self.routes.get(destination)?;
        let stream = route.streams.get(&actor)?;
        route.session().filter(|_| stream.is_taking(now))
    }

    /// The session on which a node can be asked something now, wherever it is.
    pub fn session_to(&self, node: &NodeName) -> Option<SessionId> {
        let session = self
            .routes
            .values()
            .find_map(|route| route.session_to(node));
        session.filter(|_| self.trusts(node))
    }

    /// Whether a node is believed to live.
    pub fn trusts(&self, node: &NodeName) -> bool {
        is_trusted(&self.trusted, node)
    }

    /// Who takes a partition's writes in the place of its replicas that are not believed to live.
    pub fn stand_ins(&self, partition: Partition) -> impl Iterator<Item = &NodeName> {
        self.home.stand_ins(partition, &self.trusted)
    }
}
