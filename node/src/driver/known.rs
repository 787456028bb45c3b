//! The nodes that this one knows: those that it met, in this life or an earlier one, and that nobody had forgotten since.
//!
//! They are dialled from the start, so that a restart needs no seed; and keys stay placed on them while they are silent or away: a node
//! that said goodbye may be back in a moment. Only an operator's `forget` ends that. Bounded; stored when it changes.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::outbound::Outbound;
use crate::{
    core::identity::DirectoryId,
    names::{NodeName, RegionName},
    peer::{self, Peer, Recollection},
    storage::{
        Batch, Storage, StorageError,
        record::{
            forgotten,
            met::{self, Met},
        },
    },
};

/// See the module.
#[derive(Debug, Default)]
pub struct Known(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    nodes: BTreeMap<NodeName, Met>,
    /// Of these storage holds something else.
    unsaved: BTreeSet<NodeName>,
}

impl Known {
    /// As storage remembers them; without those that were forgotten just before this node died.
    pub fn load(storage: &dyn Storage) -> Result<Self, StorageError> {
        let nodes = met::load(storage)?.into_iter().collect();
        let known = Self(Mutex::new(State {
            nodes,
            unsaved: BTreeSet::new(),
        }));
        for (node, directory) in forgotten::load(storage)? {
            known.forget(&node, directory);
        }
        Ok(known)
    }

    /// A node was met. False if there are too many to remember this one. Which directory its name had before is remembered.
    pub fn meet(&self, node: &NodeName, mut met: Met) -> bool {
        let mut state = self.lock();
        if let Some(before) = state.nodes.get(node) {
            let is_another = before.directory != met.directory;
            met.replaced = before
                .replaced
                .or(is_another.then_some(before.directory))
                .filter(|replaced| *replaced != met.directory);
        }
        if state.nodes.get(node) == Some(&met) {
            return true;
        }
        if state.nodes.len() >= KNOWN_MAX && !state.nodes.contains_key(node) {
            return false;
        }
        state.nodes.insert(node.clone(), met);
        state.unsaved.insert(node.clone());
        true
    }

    /// The directory that a peer's name had before, where that is none of its own: it lost what it held. A directory that only renewed
    /// its number names the former ones, and lost nothing.
    pub fn replaced(&self, peer: &Peer) -> Option<DirectoryId> {
        let is_own = |directory: &DirectoryId| {
            *directory == peer.directory || peer.former.contains(directory)
        };
        let mut state = self.lock();
        let met = state.nodes.get_mut(&peer.name)?;
        if met.replaced.as_ref().is_some_and(is_own) {
            met.replaced = None;
            state.unsaved.insert(peer.name.clone());
        }
        let met = state.nodes.get(&peer.name)?;
        let known = met.replaced.into_iter().chain([met.directory]);
        known.into_iter().find(|directory| !is_own(directory))
    }

    /// An operator had a node's directory forgotten; a later one of the same name stays.
    pub fn forget(&self, node: &NodeName, directory: DirectoryId) {
        let mut state = self.lock();
        let Some(met) = state.nodes.get_mut(node) else {
            return;
        };
        if met.directory == directory {
            state.nodes.remove(node);
        } else if met.replaced == Some(directory) {
            met.replaced = None;
        } else {
            return;
        }
        state.unsaved.insert(node.clone());
    }

    /// What is remembered of a node.
    pub fn of(&self, node: &NodeName) -> Option<Met> {
        self.lock().nodes.get(node).cloned()
    }

    /// All of them, by name.
    pub fn all(&self) -> Vec<(NodeName, Met)> {
        let state = self.lock();
        let nodes = state.nodes.iter();
        nodes
            .map(|(name, met)| (name.clone(), met.clone()))
            .collect()
    }

    /// All of them and their regions, by name.
    pub fn regions(&self) -> BTreeMap<NodeName, RegionName> {
        let state = self.lock();
        let nodes = state.nodes.iter();
        nodes
            .map(|(name, met)| (name.clone(), met.region.clone()))
            .collect()
    }

    /// Has what changed since the last time stored by `commit`. What could not be is stored with the next call.
    pub fn save(
        &self,
        commit: impl FnOnce(&Batch) -> Result<(), StorageError>,
    ) -> Result<(), StorageError> {
        let (batch, names) = self.take_unsaved();
        if names.is_empty() {
            return Ok(());
        }
        let saved = commit(&batch);
        if saved.is_err() {
            self.lock().unsaved.extend(names);
        }
        saved
    }

    fn take_unsaved(&self) -> (Batch, BTreeSet<NodeName>) {
        let mut state = self.lock();
        let names = std::mem::take(&mut state.unsaved);
        let mut batch = Batch::default();
        for name in &names {
            match state.nodes.get(name) {
                Some(met) => met::store(&mut batch, name, met),
                None => met::delete(&mut batch, name),
            }
        }
        (batch, names)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change is whole before the lock is let go of.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is known of a peer that dials.
pub struct Acquaintance {
    /// How far this node is with its actors, and how it stands itself.
    pub outbound: Arc<Outbound>,
    /// Who it was before.
    pub known: Arc<Known>,
}

impl peer::Memory for Acquaintance {
    fn recollect(&self, peer: &Peer) -> Recollection {
        Recollection {
            held: self.outbound.held(&peer.actors),
            replaced: self.known.replaced(peer),
            shortage: self.outbound.shortage(),
        }
    }
}

/// Nodes that are remembered, at most: as many as the gossip keeps.
const KNOWN_MAX: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::{Durability, memory::MemoryStorage};

    fn name(name: &str) -> NodeName {
        name.parse().unwrap()
    }

    fn met(directory: u64) -> Met {
        Met {
            region: "us".parse().unwrap(),
            directory: DirectoryId(directory),
            address: "a:1".to_owned(),
            replaced: None,
        }
    }

    fn peer(directory: u64, former: &[u64]) -> Peer {
        Peer {
            name: name("us-1"),
            region: "us".parse().unwrap(),
            directory: DirectoryId(directory),
            former: former.iter().copied().map(DirectoryId).collect(),
            actors: Vec::new(),
        }
    }

    #[test]
    fn a_directory_that_took_the_place_of_another_one_is_noticed_also_after_restarts_of_both() {
        let storage = MemoryStorage::default();
        let known = Known::load(&storage).unwrap();
        assert!(known.meet(&name("us-1"), met(1)));
        assert_eq!(known.replaced(&peer(1, &[])), None);
        // The handshake comes before the gossip or behind it.
        assert_eq!(known.replaced(&peer(2, &[])), Some(DirectoryId(1)));
        assert!(known.meet(&name("us-1"), met(2)));
        assert_eq!(known.replaced(&peer(2, &[])), Some(DirectoryId(1)));
        save(&known, &storage);
        let again = Known::load(&storage).unwrap();
        assert!(again.meet(&name("us-1"), met(2)));
        assert_eq!(again.replaced(&peer(2, &[])), Some(DirectoryId(1)));
        again.forget(&name("us-1"), DirectoryId(1));
        assert_eq!(again.replaced(&peer(2, &[])), None);
    }

    #[test]
    fn a_directory_that_only_renewed_its_number_lost_nothing() {
        let known = Known::default();
        assert!(known.meet(&name("us-1"), met(1)));
        assert_eq!(known.replaced(&peer(2, &[1])), None);
        assert!(known.meet(&name("us-1"), met(2)));
        assert_eq!(known.replaced(&peer(2, &[1])), None);
        // Once that is known it need not name the former number any more.
        assert_eq!(known.replaced(&peer(2, &[])), None);
    }

    fn save(known: &Known, storage: &MemoryStorage) -> usize {
        let mut rows = 0;
        let commit = |batch: &Batch| {
            rows = 1;
            storage.commit(batch, Durability::Power)
        };
        known.save(commit).unwrap();
        rows
    }

    #[test]
    fn who_was_met_and_not_forgotten_is_known_in_the_next_life() {
        let storage = MemoryStorage::default();
        let known = Known::load(&storage).unwrap();
        assert!(known.meet(&name("us-1"), met(1)) && known.meet(&name("us-2"), met(2)));
        assert_eq!(save(&known, &storage), 1);
        assert!(known.meet(&name("us-1"), met(1)));
        assert_eq!(save(&known, &storage), 0, "nothing changed");
        known.forget(&name("us-1"), DirectoryId(9));
        assert!(known.of(&name("us-1")).is_some(), "another directory");
        known.forget(&name("us-1"), DirectoryId(1));
        assert_eq!(save(&known, &storage), 1);
        let again = Known::load(&storage).unwrap();
        assert_eq!(again.all(), [(name("us-2"), met(2))]);
    }

    #[test]
    fn who_was_forgotten_is_not_known_although_that_was_not_stored_here_in_time() {
        let storage = MemoryStorage::default();
        let known = Known::load(&storage).unwrap();
        assert!(known.meet(&name("us-1"), met(1)) && known.meet(&name("us-2"), met(2)));
        save(&known, &storage);
        let mut batch = Batch::default();
        forgotten::store(&mut batch, &name("us-1"), DirectoryId(1));
        // A former directory of one that came back with another.
        forgotten::store(&mut batch, &name("us-2"), DirectoryId(9));
        storage.commit(&batch, Durability::Power).unwrap();
        let again = Known::load(&storage).unwrap();
        assert_eq!(again.all(), [(name("us-2"), met(2))]);
    }

    #[test]
    fn what_could_not_be_stored_is_stored_the_next_time() {
        let storage = MemoryStorage::default();
        let known = Known::load(&storage).unwrap();
        assert!(known.meet(&name("us-1"), met(1)));
        let refused = StorageError::Failed {
            detail: "full".to_owned(),
        };
        assert!(known.save(|_| Err(refused)).is_err());
        assert_eq!(save(&known, &storage), 1);
        assert_eq!(Known::load(&storage).unwrap().all().len(), 1);
    }

    #[test]
    fn they_are_bounded_and_those_that_are_known_may_change() {
        let known = Known::default();
        for number in 0..KNOWN_MAX {
            assert!(known.meet(&name(&format!("us-{number}")), met(1)));
        }
        assert!(!known.meet(&name("one-more"), met(1)));
        assert!(known.meet(&name("us-0"), met(2)));
    }
}
