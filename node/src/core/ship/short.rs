//! Which nodes lack writes that nobody will ship to them, as far as a shard knows: by their own word, and by rows that are gone here.

use super::{Shipper, destination::Destination, route::Route};
use crate::{core::message::SessionId, names::NodeName, storage::record::shortage::Shortage};

impl Shipper {
    /// What this node lacks from now on.
    pub fn fall_short(&mut self, shortage: Shortage) {
        self.shortages.own = shortage;
        self.note_shortages();
    }

    /// What a node lacks that nobody will ship to it.
    pub fn shortage(&self, node: &NodeName) -> Shortage {
        if !self.shortages.are_any {
            return Shortage::NONE;
        }
        if *node == self.home.node {
            return self.shortages.own;
        }
        let route = self.routes.get(&Destination::Replica(node.clone()));
        let has_missed = route.is_some_and(Route::lacks_rows);
        let said = self.peers.shortage(node);
        Shortage {
            has_missed: said.has_missed || has_missed,
            ..said
        }
    }

    /// Whether a node lacks writes that other replicas of its region have.
    pub fn is_short(&self, node: &NodeName) -> bool {
        self.shortages.are_any && self.shortage(node).is_of_replica()
    }

    /// The node at the other end of a session says what it lacks. Whether whoever asked it something thought that it had forgotten
    /// nothing, and is wrong.
    pub fn learn(&mut self, session: SessionId, shortage: Shortage) -> bool {
        if !shortage.is_any() {
            return false;
        }
        let node = self.peers.node_of(session);
        let is_news =
            shortage.has_forgotten && node.is_some_and(|node| !self.shortage(node).has_forgotten);
        self.peers.learn(session, shortage);
        self.note_shortages();
        is_news
    }

    /// To be called wherever what a node lacks may have changed.
    pub(super) fn note_shortages(&mut self) {
        let mut replicas = self.routes.iter();
        let lack_rows = replicas.any(|(destination, route)| {
            matches!(destination, Destination::Replica(_)) && route.lacks_rows()
        });
        self.shortages.are_any =
            self.shortages.own.is_any() || self.peers.are_any_short() || lack_rows;
    }
}
