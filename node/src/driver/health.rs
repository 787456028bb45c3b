//! Why the node cannot meet its default levels now, if it cannot.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use crate::status::Reason;

/// Reasons for not being ready, one of each kind.
#[derive(Debug, Default)]
pub struct Health {
    reasons: Mutex<BTreeMap<&'static str, String>>,
}

impl Health {
    /// Something is wrong.
    pub fn fail(&self, kind: &'static str, detail: String) {
        self.lock().insert(kind, detail);
    }

    /// It no longer is.
    pub fn mend(&self, kind: &'static str) {
        self.lock().remove(kind);
    }

    /// All that is wrong.
    pub fn reasons(&self) -> Vec<Reason> {
        self.lock()
            .iter()
            .map(|(kind, detail)| Reason {
                kind: (*kind).to_owned(),
                detail: detail.clone(),
            })
            .collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<&'static str, String>> {
        // Every change is one call on the map: it is whole whatever panicked elsewhere.
        self.reasons.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The disk is full or failed.
pub const DISK: &str = "disk";
/// A shard does not answer.
pub const SHARDS: &str = "shards";
/// The clock differs from the others'.
pub const CLOCK: &str = "clock";
/// Those whom the settings name have not been met yet.
pub const JOINING: &str = "joining";
/// What must be equal on all nodes differs from what most others have.
pub const SETTINGS: &str = "settings";
/// This node lacks writes that nobody will ship to it.
pub const RECOVERING: &str = "recovering";
/// Too few replicas answer for the default levels.
pub const QUORUM: &str = "quorum";
/// An operator had this node forgotten.
pub const FORGOTTEN: &str = "forgotten";
/// The node is on its way out.
pub const STOPPING: &str = "stopping";
