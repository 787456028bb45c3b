//! What deltas changed.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use crdt::{Delta, Named, Part};

use crate::core::op::Key;

/// Keys that deltas changed, and the elements that they named.
#[derive(Debug, Default)]
pub struct Touched(pub(super) BTreeMap<Key, BTreeSet<Bytes>>);

impl Touched {
    /// Adds what a delta changed.
    pub fn note(&mut self, delta: &Delta) {
        if delta.parts.iter().all(Part::says_nothing) {
            return; // it only asked, and a head that was never written is not to be
        }
        let elements = self.0.entry(delta.key.clone()).or_default();
        for part in &delta.parts {
            if let Part::Set(rows) = part
                && let Named::Rows(named) = &rows.named
            {
                elements.extend(named.keys().cloned());
            }
        }
    }
}
