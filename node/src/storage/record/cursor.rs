//! `cursor`: how far a region has taken an actor's outbox.
//!
//! ```text
//! key    actor u64 BE · region name
//! value  version u8 · bincode(Cursor)
//! ```

use crdt::{ActorId, Hlc};
use serde::{Deserialize, Serialize};

use crate::{
    core::identity::DirectoryId,
    names::RegionName,
    storage::{Family, StorageError},
};

/// How far a region is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Cursor {
    /// Everything up to here was acknowledged as durable there.
    pub taken: Hlc,
    /// Everything up to here is on a majority of its replicas: the outbox is trimmed behind this.
    pub majority: Hlc,
    /// The data directory that took it. Another one there knows only what it says it knows.
    pub holder: Option<DirectoryId>,
    /// Rows after this stamp were dropped before the region took them. It needs a repair, and no watermark of it passes here until then.
    pub hole: Option<Hlc>,
}

impl Cursor {
    /// The row's value.
    pub fn encode(&self) -> Vec<u8> {
        crdt::codec::encode(VERSION, self)
    }

    /// Reads a row. Errors name its stored key.
    pub fn decode(stored: &[u8], value: &[u8]) -> Result<Self, StorageError> {
        super::decode(Family::Cursor, stored, VERSION, value)
    }
}

/// The stored key of an actor's cursor in a region.
pub fn stored_key(actor: ActorId, region: &RegionName) -> Vec<u8> {
    let mut stored = actor.as_u64().to_be_bytes().to_vec();
    stored.extend_from_slice(region.as_str().as_bytes());
    stored
}

/// Persisted: keep stable.
const VERSION: u8 = 1;
