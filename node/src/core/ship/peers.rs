//! The nodes with which there is a session, wherever they are.
//!
//! Kept apart from the routes: a node may be met before the placement knows it, and a placement may forget it and take it back
//! within one session.

use std::collections::BTreeMap;

use crdt::{ActorId, Hlc};

use super::destination::Destination;
use crate::{
    core::{
        identity::DirectoryId,
        message::{KnownPosition, SessionId},
    },
    names::{NodeName, RegionName},
    storage::record::shortage::Shortage,
};

/// A session to a node, as its handshake made it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Met {
    /// The node's region.
    pub region: RegionName,
    /// The node.
    pub node: NodeName,
    /// The session.
    pub session: SessionId,
    /// The node's data directory.
    pub directory: DirectoryId,
    /// What it has of this node's logs.
    pub held: Vec<KnownPosition>,
    /// What it lacks that nobody will ship to it, as far as either side knew.
    pub shortage: Shortage,
}

/// One session to each node that was met: the newest.
#[derive(Debug, Default)]
pub(super) struct Peers(BTreeMap<NodeName, Met>);

impl Peers {
    /// A session came up. Gives the one that it replaces.
    pub(super) fn meet(&mut self, met: Met) -> Option<SessionId> {
        let replaced = self.0.insert(met.node.clone(), met)?;
        Some(replaced.session)
    }

    /// A session ended.
    pub(super) fn lose(&mut self, session: SessionId) {
        self.0.retain(|_, met| met.session != session);
    }

    /// The session to a node.
    pub(super) fn session_to(&self, node: &NodeName) -> Option<SessionId> {
        Some(self.0.get(node)?.session)
    }

    /// The node at the other end of a session.
    pub(super) fn node_of(&self, session: SessionId) -> Option<&NodeName> {
        let met = self.0.values().find(|met| met.session == session)?;
        Some(&met.node)
    }

    /// The nodes that can take rows for a destination, seen from a node of region `home`.
    pub(super) fn at<'a>(
        &'a self,
        destination: &'a Destination,
        home: &'a RegionName,
    ) -> impl Iterator<Item = &'a Met> {
        self.0.values().filter(move |met| match destination {
            Destination::Region(region) => met.region == *region,
            Destination::Replica(node) => met.node == *node && met.region == *home,
        })
    }

    /// What a node lacks, as it was known when there was a session with it last.
    pub(super) fn shortage(&self, node: &NodeName) -> Shortage {
        self.0.get(node).map_or(Shortage::NONE, |met| met.shortage)
    }

    /// Whether any of them lacks something.
    pub(super) fn are_any_short(&self) -> bool {
        self.0.values().any(|met| met.shortage.is_any())
    }

    /// A node says what it lacks. What others knew of it before it knew itself stays so for this session.
    pub(super) fn learn(&mut self, session: SessionId, shortage: Shortage) {
        if !shortage.is_any() {
            return;
        }
        if let Some(met) = self.0.values_mut().find(|met| met.session == session) {
            met.shortage = met.shortage.with(shortage);
        }
    }

    /// What a node has taken is noted with what its handshake said: should it be chosen again within this session, the stream goes
    /// on from there. An answer that comes late says less than is known.
    pub(super) fn note(&mut self, session: SessionId, actor: ActorId, taken: Hlc) {
        if let Some(held) = self.held(session, actor) {
            held.taken = held.taken.max(taken);
        }
    }

    /// The same where a node goes back, because it took up what it takes anew within the session.
    pub(super) fn note_back(&mut self, session: SessionId, actor: ActorId, taken: Hlc) {
        if let Some(held) = self.held(session, actor) {
            held.taken = taken;
        }
    }

    fn held(&mut self, session: SessionId, actor: ActorId) -> Option<&mut KnownPosition> {
        let met = self.0.values_mut().find(|met| met.session == session)?;
        let known = met.held.iter().position(|held| held.actor == actor);
        let at = known.unwrap_or_else(|| {
            met.held.push(KnownPosition::nothing(actor));
            met.held.len() - 1
        });
        met.held.get_mut(at)
    }
}

impl Met {
    /// How far the node said it has taken a log; `None` where it was not asked.
    pub(super) fn taken(&self, log: ActorId) -> Option<Hlc> {
        let held = self.held.iter().find(|held| held.actor == log)?;
        Some(held.taken)
    }
}
