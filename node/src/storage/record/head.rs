//! `head`: one row per key: its slots, its expiry, and what is known of its element rows without reading them.
//!
//! ```text
//! key    partition u16 BE · xxh3(key) u64 BE · key
//! value  1 u8 · bincode(string · set · expiry)
//!        2 u8 · bincode(string · set · expiry · further slots by tag)     where there are further slots
//! ```
//! The first three slots have no tag in a head: every release knows them. A head that holds nothing else is written as version 1,
//! so that releases before further slots read it and digest it alike.
//!
//! The encoding is canonical (sorted maps, normal-form contexts): equal heads are equal bytes, so digests are taken over them.

use bytes::Bytes;
use crdt::{Context, Expiry, Stamp, StringState};
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::{xxh3_64, xxh3_128_with_seed};

use super::unknown::UnknownSlots;
use crate::{
    placement::{POSITION_BYTES, Position},
    storage::{Family, StorageError},
};

/// Everything of a key but its element rows.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// The string slot.
    pub string: StringState,
    /// The set slot.
    pub set: RowsHead,
    /// When the key ends.
    pub expiry: Expiry,
    /// Slots of types that a newer release has.
    #[serde(skip)]
    pub unknown: UnknownSlots,
}

/// What a key's head knows of its element rows.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowsHead {
    /// Every dot ever seen here.
    pub context: Context,
    /// Rows that exist; a row with no dots does not.
    pub live: u64,
    /// Wrapping sum of the rows' digests.
    pub sum: u128,
    /// The last change from empty to not empty.
    pub created: Stamp,
}

/// What a reader sees under a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shown {
    /// Nothing.
    Absent,
    /// The string slot.
    String,
    /// The set slot.
    Set,
}

/// Something written in two regions at once that one reader cannot be shown whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Conflict {
    /// A register lost to one whose writer had not seen it.
    Overwritten,
    /// Increments wait behind text.
    TextAndCounter,
    /// A slot of another type is hidden behind the visible one.
    TwoTypes,
}

impl Conflict {
    /// The word for it in metrics and replies.
    pub fn word(self) -> &'static str {
        match self {
            Self::Overwritten => "overwritten",
            Self::TextAndCounter => "text_and_counter",
            Self::TwoTypes => "two_types",
        }
    }
}

/// A conflict, and by which stamps it was decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clash {
    /// The key.
    pub key: Bytes,
    /// What kind of conflict it is.
    pub kind: Conflict,
    /// Of what a reader sees.
    pub kept: Stamp,
    /// Of what one does not see.
    pub lost: Stamp,
}

impl Head {
    /// The slot that is visible, expiry aside: of those that are not empty the one that last became so.
    pub fn slot(&self) -> Shown {
        match (!self.string.is_empty(), self.set.live > 0) {
            (false, false) => Shown::Absent,
            (true, false) => Shown::String,
            (false, true) => Shown::Set,
            (true, true) if self.set.created > self.string.created => Shown::Set,
            (true, true) => Shown::String,
        }
    }

    /// What a reader sees whose clock shows `wall_ms`.
    pub fn shown(&self, wall_ms: u64) -> Shown {
        if self.is_expired(wall_ms) {
            Shown::Absent
        } else {
            self.slot()
        }
    }

    /// Whether its expiry has passed by a clock that shows `wall_ms`.
    pub fn is_expired(&self, wall_ms: u64) -> bool {
        self.expiry.at_ms.is_some_and(|at_ms| at_ms <= wall_ms)
    }

    /// What it holds that a reader does not see, if anything, and by which stamps: of what is shown, and of what is not.
    pub fn clash(&self, key: &Bytes) -> Option<Clash> {
        let kind = self.conflict()?;
        let (kept, lost) = match (kind, self.slot()) {
            (Conflict::TextAndCounter | Conflict::Overwritten, _) => {
                let text = self.string.register.as_ref();
                (
                    text.map_or(Stamp::ZERO, |text| text.stamp),
                    self.string.newest_above_floors(),
                )
            }
            (Conflict::TwoTypes, Shown::Set) => (self.set.created, self.string.created),
            (Conflict::TwoTypes, Shown::String | Shown::Absent) => {
                (self.string.created, self.set.created)
            }
        };
        let key = key.clone();
        Some(Clash {
            key,
            kind,
            kept,
            lost,
        })
    }

    /// What it holds that a reader does not see, if anything.
    pub fn conflict(&self) -> Option<Conflict> {
        if !self.string.is_empty() && self.set.live > 0 {
            return Some(Conflict::TwoTypes);
        }
        self.string
            .has_conflict()
            .then_some(Conflict::TextAndCounter)
    }

    /// The row's value.
    pub fn encode(&self) -> Vec<u8> {
        match self.unknown.is_empty() {
            true => crdt::codec::encode(VERSION_PLAIN, self),
            false => crdt::codec::encode(VERSION, &(self, &self.unknown)),
        }
    }

    /// Reads the row of `key`. Errors name the key.
    pub fn decode(key: &[u8], value: &[u8]) -> Result<Self, StorageError> {
        if value.first() == Some(&VERSION_PLAIN) {
            return super::decode(Family::Head, key, VERSION_PLAIN, value);
        }
        let (head, unknown): (Self, UnknownSlots) =
            super::decode(Family::Head, key, VERSION, value)?;
        Ok(Self { unknown, ..head })
    }
}

/// The stored key of a key.
pub fn stored_key(position: &Position, key: &[u8]) -> Vec<u8> {
    let mut stored = Vec::with_capacity(POSITION_BYTES + key.len());
    stored.extend_from_slice(&position.to_bytes());
    stored.extend_from_slice(key);
    stored
}

/// The key inside a stored key; an error when it is too short to be one.
pub fn user_key(stored: &[u8]) -> Result<(Position, &[u8]), StorageError> {
    let position = Position::from_bytes(stored).ok_or_else(|| StorageError::Corrupt {
        family: Family::Head.name(),
        key: stored.escape_ascii().to_string(),
        detail: "the stored key does not begin with a position".to_owned(),
    })?;
    Ok((position, &stored[POSITION_BYTES..]))
}

/// A key's share of its partition's digest.
pub fn digest(key: &[u8], value: &[u8]) -> u128 {
    xxh3_128_with_seed(value, xxh3_64(key))
}

/// Persisted: keep stable.
const VERSION: u8 = 2;
/// Of a head without further slots.
const VERSION_PLAIN: u8 = 1;
