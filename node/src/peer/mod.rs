//! Other nodes, over QUIC with mutual TLS.
//!
//! A node dials every peer it ships to and accepts every peer that ships to it: two sessions between
//! two nodes, one each way, so no side has to guess which of two crossing connections survives.

use crdt::{ActorId, Hlc};
use serde::{Deserialize, Serialize};

use crate::{
    core::identity::DirectoryId,
    names::{NodeName, RegionName},
};

/// Who is at the other end of a session, as its certificate and its handshake agree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Its name, proven by its certificate.
    pub name: NodeName,
    /// Its region.
    pub region: RegionName,
    /// Its data directory.
    pub directory: DirectoryId,
    /// The actors that it stamps with or still ships for.
    pub actors: Vec<ActorId>,
}

/// A session's number, never used twice in a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub u64);

/// Which side opened a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// This node did: it ships here.
    Dialled,
    /// The peer did: it ships to us.
    Accepted,
}

/// How far this node has taken an actor's writes, and the newest of its stamps that it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// Whose.
    pub actor: ActorId,
    /// Everything up to here is durable at the speaker.
    pub taken: Hlc,
    /// The newest stamp of it that the speaker holds anywhere; newer than the actor's own newest means the actor forgot.
    pub newest: Hlc,
}
