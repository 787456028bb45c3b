//! `inbox` rows of the meta family: how far this node has taken the outbox of another directory's actor.
//!
//! ```text
//! key    "inbox/" · actor u64 BE
//! value  version u8 · bincode(Intake)
//! ```
//! Version 1 had no `newest`, and is read as if no row had come.
//! Written about once a second, after the rows it speaks of: a crash leaves it behind, never ahead, and
//! the origin sends the difference again.

use crdt::{ActorId, Hlc};
use serde::{Deserialize, Serialize};

use crate::storage::{Family, StorageError};

/// How far an actor's writes are here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Intake {
    /// The stream is durable here up to this stamp.
    pub position: Hlc,
    /// The watermark: *everything* up to this stamp is durable here. Behind `position` while rows that the origin dropped are missing.
    pub complete: Hlc,
    /// The last stamp of the newest row that came: the actor made that one, whatever it promised of later ones.
    pub newest: Hlc,
}

impl Intake {
    /// The row's value.
    pub fn encode(&self) -> Vec<u8> {
        crdt::codec::encode(VERSION, self)
    }

    /// Reads a row. Errors name its stored key.
    pub fn decode(stored: &[u8], value: &[u8]) -> Result<Self, StorageError> {
        if value.first() == Some(&WITHOUT_NEWEST) {
            let (position, complete) = super::decode(Family::Meta, stored, WITHOUT_NEWEST, value)?;
            return Ok(Self {
                position,
                complete,
                newest: Hlc::ZERO,
            });
        }
        super::decode(Family::Meta, stored, VERSION, value)
    }
}

/// The stored key of an actor's intake.
pub fn stored_key(actor: ActorId) -> Vec<u8> {
    let mut stored = PREFIX.to_vec();
    stored.extend_from_slice(&actor.as_u64().to_be_bytes());
    stored
}

/// The actor in a stored key; `None` if it is not one.
pub fn actor(stored: &[u8]) -> Option<ActorId> {
    let bits: [u8; 8] = stored.strip_prefix(PREFIX)?.try_into().ok()?;
    Some(ActorId::from_u64(u64::from_be_bytes(bits)))
}

/// First bytes of every stored key. Persisted: keep stable.
pub const PREFIX: &[u8] = b"inbox/";
/// Persisted: keep stable.
const VERSION: u8 = 2;
/// Read, and written no more.
const WITHOUT_NEWEST: u8 = 1;
