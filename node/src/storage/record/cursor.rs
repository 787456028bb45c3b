//! `cursor`: how far a region, or another node of this region, has taken an actor's outbox.
//!
//! ```text
//! key    actor u64 BE · region name            no region's name has a slash
//!        actor u64 BE · "/" · node name
//! value  version u8 · bincode(Cursor)
//! ```

use crdt::{ActorId, Hlc};
use serde::{Deserialize, Serialize};

use crate::{
    core::identity::DirectoryId,
    names::{NodeName, RegionName},
    storage::{Family, StorageError},
};

/// How far a destination is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Cursor {
    /// Everything up to here was acknowledged as durable there.
    pub taken: Hlc,
    /// Everything up to here is there for good: on a majority of the region's replicas, or saved by the node. The outbox is
    /// trimmed behind this.
    pub settled: Hlc,
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

/// The stored key of a region's cursor in an actor's outbox.
pub fn region_key(actor: ActorId, region: &RegionName) -> Vec<u8> {
    stored_key(actor, b"", region.as_str())
}

/// The stored key of a node's cursor in an actor's outbox.
pub fn replica_key(actor: ActorId, node: &NodeName) -> Vec<u8> {
    stored_key(actor, b"/", node.as_str())
}

fn stored_key(actor: ActorId, mark: &[u8], name: &str) -> Vec<u8> {
    [&actor.as_u64().to_be_bytes()[..], mark, name.as_bytes()].concat()
}

/// Persisted: keep stable.
const VERSION: u8 = 1;
