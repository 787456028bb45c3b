//! The way to one destination: the nodes there that can be shipped to, the one that is, and a stream for each log.

use std::collections::BTreeMap;

use crdt::{ActorId, Hlc};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::{
    destination::Destination,
    event::{Awaited, Lag, ShipEvent},
    home::{Trusted, is_trusted},
    log::Log,
    peers::{Met, Peers},
    stream::{Place, Stream},
};
use crate::{
    core::message::SessionId,
    names::{NodeName, RegionName},
    storage::{Storage, StorageError},
};

#[derive(Debug)]
pub(super) struct Route {
    /// Whether other replicas there have what the taker lost: then a stream goes on from what their majority has.
    pub(super) is_shared: bool,
    taker: Option<Taker>,
    pub(super) streams: BTreeMap<ActorId, Stream>,
}

/// The node that takes the rows, on its session.
#[derive(Debug)]
struct Taker {
    node: NodeName,
    session: SessionId,
}

impl Route {
    pub(super) fn open(
        storage: &dyn Storage,
        destination: &Destination,
        is_shared: bool,
        logs: &BTreeMap<ActorId, Log>,
    ) -> Result<Self, StorageError> {
        let mut streams = BTreeMap::new();
        for (&actor, log) in logs.iter().filter(|(actor, _)| destination.takes(**actor)) {
            streams.insert(actor, Stream::open(storage, actor, destination, log)?);
        }
        Ok(Self {
            is_shared,
            taker: None,
            streams,
        })
    }

    /// The session that is shipped on, while there is one.
    pub(super) fn session(&self) -> Option<SessionId> {
        Some(self.taker.as_ref()?.session)
    }

    /// The node that is shipped to, while there is one.
    pub(super) fn taker(&self) -> Option<&NodeName> {
        Some(&self.taker.as_ref()?.node)
    }

    /// Ships to the node that is to be shipped to: the one it is already, while it is trusted; else of the trusted ones the first
    /// by rendezvous, so that the shards spread over them.
    pub(super) fn choose(
        &mut self,
        storage: &dyn Storage,
        whose: &Choice<'_>,
        logs: &BTreeMap<ActorId, Log>,
        events: &mut Vec<ShipEvent>,
    ) -> Result<(), StorageError> {
        let candidates = whose.peers.at(whose.destination, whose.home);
        let candidates = candidates.filter(|met| is_trusted(whose.trusted, &met.node));
        let rank = |met: &&Met| xxh3_64_with_seed(met.node.as_str().as_bytes(), whose.shard.into());
        let is_taker = |met: &&Met| Some(met.session) == self.session();
        let best = candidates.max_by_key(|met| (is_taker(met), rank(met)));
        if best.is_some_and(|met| is_taker(&met)) {
            return Ok(());
        }
        if self.taker.is_some() {
            self.part();
        }
        let Some(met) = best else { return Ok(()) };
        self.taker = Some(Taker {
            node: met.node.clone(),
            session: met.session,
        });
        let mut failed = Ok(());
        for (&actor, stream) in &mut self.streams {
            let Some(log) = logs.get(&actor) else {
                continue;
            };
            let awaited = whose.awaited.filter(|(awaited, _)| *awaited == actor);
            let place = Place {
                destination: whose.destination,
                is_shared: self.is_shared,
                directory: met.directory,
                session: met.session,
                taken: met.taken(actor),
                awaited: awaited.map(|(_, from)| from),
            };
            failed = failed.and(stream.meet(storage, actor, &place, log, events));
        }
        failed
    }

    pub(super) fn lag(&self) -> Lag {
        let pending = || {
            self.streams
                .values()
                .filter(|stream| stream.pending_rows > 0)
        };
        // A former actor's stream that was taken whole says nothing about today: only what is pending holds the watermark back.
        let behind = pending().map(|stream| stream.cursor.taken).min();
        let newest = self
            .streams
            .values()
            .map(|stream| stream.cursor.taken)
            .max();
        Lag {
            rows: pending().map(|stream| stream.pending_rows).sum(),
            watermark: behind.or(newest).unwrap_or(Hlc::ZERO),
            since: pending()
                .map(|stream| stream.pending_since.max(stream.cursor.taken))
                .min(),
            needs_repair: self.lacks_rows(),
        }
    }

    /// Whether rows are gone that the destination never took.
    pub(super) fn lacks_rows(&self) -> bool {
        let mut streams = self.streams.values();
        streams.any(|stream| stream.cursor.hole.is_some())
    }

    /// What is in flight is in doubt and will be sent again.
    pub(super) fn part(&mut self) {
        self.taker = None;
        self.streams.values_mut().for_each(Stream::rewind);
    }
}

/// For whom a route chooses, and whom it may.
pub(super) struct Choice<'a> {
    pub(super) destination: &'a Destination,
    /// The region of the node that ships.
    pub(super) home: &'a RegionName,
    pub(super) shard: u16,
    pub(super) peers: &'a Peers,
    pub(super) trusted: &'a Trusted,
    pub(super) awaited: Awaited,
}
