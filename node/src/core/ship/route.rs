//! The way to one destination: the nodes there that can be shipped to, the one that is, and a stream for each log.

use std::collections::BTreeMap;

use crdt::{ActorId, Hlc};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::{
    Lag, ShipEvent,
    destination::Destination,
    home::{Trusted, is_trusted},
    log::Log,
    stream::{Place, Stream},
};
use crate::{
    core::{
        identity::DirectoryId,
        message::{Held, SessionId},
    },
    names::NodeName,
    storage::{Storage, StorageError},
};

#[derive(Debug)]
pub(super) struct Route {
    /// Whether other replicas there have what the taker lost: then a stream goes on from what their majority has.
    pub(super) is_shared: bool,
    pub(super) candidates: BTreeMap<NodeName, Candidate>,
    active: Option<NodeName>,
    pub(super) streams: BTreeMap<ActorId, Stream>,
}

/// A node at the destination with which there is a session.
#[derive(Debug)]
pub(super) struct Candidate {
    session: SessionId,
    directory: DirectoryId,
    held: Vec<Held>,
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
            candidates: BTreeMap::new(),
            active: None,
            streams,
        })
    }

    /// A session to a node came up; it takes the place of an older one.
    pub(super) fn meet(
        &mut self,
        node: NodeName,
        session: SessionId,
        directory: DirectoryId,
        held: Vec<Held>,
    ) {
        if self.active.as_ref() == Some(&node) {
            self.part();
        }
        let candidate = Candidate {
            session,
            directory,
            held,
        };
        self.candidates.insert(node, candidate);
    }

    /// A session ended. Whether it was one of this route's.
    pub(super) fn lose(&mut self, session: SessionId) -> bool {
        let lost = self
            .candidates
            .iter()
            .find(|(_, candidate)| candidate.session == session)
            .map(|(node, _)| node.clone());
        let Some(node) = lost else { return false };
        self.candidates.remove(&node);
        if self.active.as_ref() == Some(&node) {
            self.part();
        }
        true
    }

    /// The session that is shipped on, while there is one.
    pub(super) fn session(&self) -> Option<SessionId> {
        let active = self.candidates.get(self.active.as_ref()?)?;
        Some(active.session)
    }

    /// The session to one of its nodes.
    pub(super) fn session_to(&self, node: &NodeName) -> Option<SessionId> {
        Some(self.candidates.get(node)?.session)
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
        let is_good = |node: &NodeName| self.candidates.contains_key(node) && whose.trusts(node);
        if self.active.as_ref().is_some_and(is_good) {
            return Ok(());
        }
        let best = self
            .candidates
            .keys()
            .filter(|node| whose.trusts(node))
            .max_by_key(|node| xxh3_64_with_seed(node.as_str().as_bytes(), whose.shard.into()));
        let best = best.cloned();
        if self.active.is_some() {
            self.part();
        }
        self.active = best;
        let Some(active) = self
            .active
            .as_ref()
            .and_then(|node| self.candidates.get(node))
        else {
            return Ok(());
        };
        for (&actor, stream) in &mut self.streams {
            let taken = active
                .held
                .iter()
                .find(|held| held.actor == actor)
                .map_or(Hlc::ZERO, |held| held.taken);
            let Some(log) = logs.get(&actor) else {
                continue;
            };
            let place = Place {
                destination: whose.destination,
                is_shared: self.is_shared,
                directory: active.directory,
                taken,
                awaited: whose
                    .awaited
                    .filter(|(awaited, _)| *awaited == actor)
                    .map(|(_, from)| from),
            };
            stream.meet(storage, actor, &place, log, events)?;
        }
        Ok(())
    }

    /// What the active node has taken is noted with what its handshake said: should it be chosen again within this session,
    /// the stream goes on from there.
    pub(super) fn note(&mut self, actor: ActorId, taken: Hlc) {
        let Some(active) = self
            .active
            .as_ref()
            .and_then(|node| self.candidates.get_mut(node))
        else {
            return;
        };
        match active.held.iter_mut().find(|held| held.actor == actor) {
            Some(held) => held.taken = taken,
            None => active.held.push(Held {
                actor,
                taken,
                newest: taken,
            }),
        }
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
            needs_repair: self
                .streams
                .values()
                .any(|stream| stream.cursor.hole.is_some()),
        }
    }

    /// What is in flight is in doubt and will be sent again.
    fn part(&mut self) {
        self.active = None;
        self.streams.values_mut().for_each(Stream::rewind);
    }
}

/// For whom a route chooses, and whom it may.
pub(super) struct Choice<'a> {
    pub(super) destination: &'a Destination,
    pub(super) shard: u16,
    pub(super) trusted: &'a Trusted,
    /// The log in which clients wait for the word of replicas, and the place before the oldest such row.
    pub(super) awaited: Option<(ActorId, Hlc)>,
}

impl Choice<'_> {
    fn trusts(&self, node: &NodeName) -> bool {
        is_trusted(self.trusted, node)
    }
}
