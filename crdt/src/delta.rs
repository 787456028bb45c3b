//! A delta: everything that one change did to one key. And the key's state in memory, which joins it.

use std::collections::BTreeSet;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::{
    expiry::Expiry,
    part::{Part, UnknownPart},
    rows::{Rows, RowsDelta, clear},
    stamp::{Hlc, Stamp},
    string::StringState,
};

/// A change of one key: what is written to the outbox, shipped, replayed and repaired with. Its parts may be joined
/// in any order, and twice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delta {
    /// Which key.
    pub key: Bytes,
    /// What changed in it. Several parts of one kind are all meant.
    pub parts: Vec<Part>,
}

impl Delta {
    /// The newest time in it, of anything that could push a clock; [`Hlc::ZERO`] if there is nothing. A receiver
    /// compares it with its own time *before* it joins: one far ahead would win every race until the clocks catch up.
    pub fn newest(&self) -> Hlc {
        self.parts
            .iter()
            .map(Part::newest)
            .max()
            .unwrap_or(Hlc::ZERO)
    }

    /// About how many bytes it takes encoded: for bounds, not for formats.
    pub fn approximate_bytes(&self) -> usize {
        self.key.len()
            + DELTA_BYTES
            + self
                .parts
                .iter()
                .map(Part::approximate_bytes)
                .sum::<usize>()
    }

    /// Coalesces `later`, which the same coordinator made after this one, for the same key: joining the result is joining both.
    pub fn merge(&mut self, later: Self) {
        debug_assert_eq!(self.key, later.key, "only deltas of one key coalesce");
        for part in later.parts {
            match part {
                Part::String(state) => self.merge_string(state),
                Part::Set(rows) => self.merge_set(rows),
                Part::Expiry(expiry) => self.merge_expiry(expiry),
                Part::Unknown(_) => self.parts.push(part),
            }
        }
    }

    fn merge_string(&mut self, later: StringState) {
        let mine = self.parts.iter_mut().find_map(|part| match part {
            Part::String(state) => Some(state),
            Part::Set(_) | Part::Expiry(_) | Part::Unknown(_) => None,
        });
        match mine {
            Some(state) => state.join(&later),
            None => self.parts.push(Part::String(later)),
        }
    }

    fn merge_expiry(&mut self, later: Expiry) {
        let mine = self.parts.iter_mut().find_map(|part| match part {
            Part::Expiry(expiry) => Some(expiry),
            Part::Set(_) | Part::String(_) | Part::Unknown(_) => None,
        });
        match mine {
            Some(expiry) => expiry.join(&later),
            None => self.parts.push(Part::Expiry(later)),
        }
    }

    /// Joins into the newest set part. What comes out is joined into the one before it, and so on: a clear swallows
    /// everything, so however long clears and adds alternate, at most one clear and the adds since remain.
    fn merge_set(&mut self, later: RowsDelta<()>) {
        let Some(mut rows) = self.take_newest_set() else {
            self.parts.push(Part::Set(later));
            return;
        };
        match rows.merge(later) {
            Ok(()) => self.merge_set(rows),
            Err(later) => self.parts.extend([Part::Set(rows), Part::Set(later)]),
        }
    }

    fn take_newest_set(&mut self) -> Option<RowsDelta<()>> {
        let is_set = |part: &Part| matches!(part, Part::Set(_));
        let at = self.parts.iter().rposition(is_set)?;
        match self.parts.remove(at) {
            Part::Set(rows) => Some(rows),
            Part::String(_) | Part::Expiry(_) | Part::Unknown(_) => {
                unreachable!("a set part was found there")
            }
        }
    }
}

/// Everything known of one key, in memory: what storage keeps in its head and rows, and the reference for it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct KeyState {
    /// The string slot.
    pub string: StringState,
    /// The set slot.
    pub set: Rows<()>,
    /// The expiry, of every slot.
    pub expiry: Expiry,
    /// Parts of types that this release does not know.
    pub unknown: BTreeSet<UnknownPart>,
}

/// Which slot of a key a reader sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Visible {
    /// None: no such key.
    Absent,
    /// The string.
    String,
    /// The set.
    Set,
}

impl KeyState {
    /// Joins a delta of this key.
    pub fn join(&mut self, delta: &Delta) {
        for part in &delta.parts {
            match part {
                Part::String(state) => self.string.join(state),
                Part::Set(rows) => self.set.join(rows),
                Part::Expiry(expiry) => self.expiry.join(expiry),
                Part::Unknown(unknown) => {
                    self.unknown.insert(unknown.clone());
                }
            }
        }
    }

    /// The whole state as a delta of `key`. Without parts if nothing is known.
    pub fn delta(&self, key: Bytes) -> Delta {
        let mut parts = Vec::new();
        if self.string != StringState::default() {
            parts.push(Part::String(self.string.clone()));
        }
        parts.extend(self.set.deltas().into_iter().map(Part::Set));
        if self.expiry != Expiry::default() {
            parts.push(Part::Expiry(self.expiry));
        }
        parts.extend(self.unknown.iter().cloned().map(Part::Unknown));
        Delta { key, parts }
    }

    /// The delta of this key's expiry: it deletes what is seen here, in every slot, and nothing else.
    pub fn expired(&self, key: Bytes) -> Delta {
        let string = Part::String(self.string.expired());
        let set = Part::Set(clear(&self.set.context));
        let expiry = Part::Expiry(self.expiry.ended());
        Delta {
            key,
            parts: vec![string, set, expiry],
        }
    }

    /// Which slot is seen at `now_ms` (Unix milliseconds, the reader's clock): of those that are not empty the one that last
    /// became so.
    pub fn visible(&self, now_ms: u64) -> Visible {
        if self.expiry.is_past(now_ms) {
            return Visible::Absent;
        }
        match (self.string.is_empty(), self.set.is_empty()) {
            (true, true) => Visible::Absent,
            (false, true) => Visible::String,
            (true, false) => Visible::Set,
            (false, false) => self.newer_slot(),
        }
    }

    /// Whether two slots hold something: types were written concurrently under one key.
    pub fn has_clash(&self) -> bool {
        !self.string.is_empty() && !self.set.is_empty()
    }

    fn newer_slot(&self) -> Visible {
        debug_assert!(
            self.string.created != self.set.created || self.set.created == Stamp::ZERO,
            "no stamp creates two slots"
        );
        if self.string.created >= self.set.created {
            Visible::String
        } else {
            Visible::Set
        }
    }
}

/// What a delta takes besides its key and parts.
const DELTA_BYTES: usize = 16;
