//! How far destinations are, for those who wait for them.

use std::time::Duration;

use crdt::{ActorId, Hlc};

use super::{
    Shipper, destination::Destination, home::is_trusted, reached::Progress, stream::Stream,
};
use crate::{
    core::{identity::is_relay, inbox::RelayMark, message::SessionId},
    names::NodeName,
    placement::Partition,
};

impl Shipper {
    /// How far a destination is with a log, if rows can be sent there now or not.
    pub fn progress(&self, destination: &Destination, actor: ActorId) -> Option<Progress<'_>> {
        let route = self.routes.get(destination)?;
        let stream = route.streams.get(&actor)?;
        Some(Progress {
            answered: stream.answers.upto(),
            taken: stream.cursor.taken,
            majority: stream.majority,
            every: stream.every,
            assigned_after: stream.assigned_after,
            taker: route.taker(),
            lost: stream.lost,
            bridged: stream.bridged,
            unpassed: stream.unpassed,
        })
    }

    /// The newest row of a log.
    pub fn newest(&self, actor: ActorId) -> Hlc {
        self.logs.get(&actor).map_or(Hlc::ZERO, |log| log.newest)
    }

    /// Nobody has said anything about rows of this log behind this place.
    pub fn furthest(&self, actor: ActorId) -> Hlc {
        let streams = self
            .routes
            .values()
            .filter_map(|route| route.streams.get(&actor));
        streams
            .map(|stream| stream.cursor.taken.max(stream.answers.upto()))
            .max()
            .unwrap_or(Hlc::ZERO)
    }

    /// How far this shard is with passing on: what stands in its relay logs up to here is on a majority of the replicas of its key,
    /// and on every one. Where members hold different keys this counts as if each row concerned all of them, so it is behind rather
    /// than ahead.
    pub fn relay_mark(&self) -> RelayMark {
        let relays = || self.logs.iter().filter(|(log, _)| is_relay(**log));
        let Some(newest) = relays().map(|(_, log)| log.newest).max() else {
            return RelayMark::default();
        };
        let mut mark = RelayMark {
            majority: newest,
            every: newest,
            passed: newest,
        };
        // A log of a former actor that was not passed on to the end holds the marks back: what it has is missing somewhere.
        for (&relay, log) in relays() {
            let taken = self.of_members(relay, |stream| stream.cursor.taken);
            let complete = self.of_members(relay, Stream::has_without_gap);
            hold_back(&mut mark.majority, complete.on_majority, log.newest);
            hold_back(&mut mark.every, complete.on_all, log.newest);
            hold_back(&mut mark.passed, taken.on_majority, log.newest);
        }
        mark
    }

    /// How far a relay log is on the members of this region.
    fn of_members(&self, relay: ActorId, place: impl Fn(&Stream) -> Hlc) -> Reached {
        let nobody_else = Reached {
            on_majority: Hlc::MAX,
            on_all: Hlc::MAX,
        };
        let Some(region) = self.home.placement.region(&self.home.region) else {
            return nobody_else;
        };
        let replicas = self.routes.iter();
        let replicas = replicas.filter(|(to, _)| matches!(to, Destination::Replica(_)));
        let streams = replicas.filter_map(|(_, route)| route.streams.get(&relay));
        let mut places: Vec<Hlc> = streams.map(place).collect();
        let members = region.members().len().max(region.replicas().into());
        places.resize(members.saturating_sub(1), Hlc::ZERO); // those that nobody has met have nothing
        places.sort_unstable_by(|a, b| b.cmp(a));
        let Some(last) = places.len().checked_sub(1) else {
            return nobody_else;
        };
        // This node need not be a replica of the key. So many of the others may lack a row, and still a majority of any N has it.
        let spare = usize::from(region.replicas().saturating_sub(region.majority()));
        Reached {
            on_majority: places[last - spare.min(last)],
            on_all: places[last],
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

    /// Whether a destination is sent what comes next of a log soon: there is a session, and it has not just declined for a reason that
    /// lasts. A row that it lacks, or a queue that is full, is sent again within a moment.
    pub fn is_offered(&self, destination: &Destination, actor: ActorId, now: Duration) -> bool {
        let route = self.routes.get(destination);
        route.is_some_and(|route| {
            let stream = route.streams.get(&actor);
            route.session().is_some() && stream.is_some_and(|stream| !stream.is_refused(now))
        })
    }

    /// The session on which a node can be asked something now, wherever it is.
    pub fn session_to(&self, node: &NodeName) -> Option<SessionId> {
        self.peers.session_to(node).filter(|_| self.trusts(node))
    }

    /// The node at the other end of a session.
    pub fn node_of(&self, session: SessionId) -> Option<&NodeName> {
        self.peers.node_of(session)
    }

    /// Rows of a log up to here are gone: nobody is sent them any more.
    pub fn trimmed(&self, actor: ActorId) -> Hlc {
        self.logs.get(&actor).map_or(Hlc::ZERO, |log| log.trimmed)
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

/// A place in a relay log, by how many members have it: so many that a majority of any N of them does, and all.
struct Reached {
    on_majority: Hlc,
    on_all: Hlc,
}

/// A log that is passed on up to `reached` holds a mark back, unless that is all of it.
fn hold_back(mark: &mut Hlc, reached: Hlc, newest: Hlc) {
    if reached < newest {
        *mark = (*mark).min(reached);
    }
}
