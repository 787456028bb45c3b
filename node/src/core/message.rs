//! What nodes say to each other about data. The documentation of each variant is the protocol.
//!
//! A session is dialled by the side that ships: `Ship` and `Promise` run from the dialler to the acceptor,
//! `Taken` and `Declined` back. Sessions are ordered and reliable while they live; when one dies, what was in flight may
//! or may not have arrived, so every message is idempotent, and a stream starts again at its cursor.

use bytes::Bytes;
use crdt::{ActorId, Hlc};
use serde::{Deserialize, Serialize};

/// One message between two nodes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Message {
    /// Outbox rows of one actor, in order and without a gap.
    Ship(Ship),
    /// Everything of `actor` up to `taken` is durable here. Up to `majority` a majority of this region has it and has saved that
    /// it does, so that no crash makes it ask again: only there may the sender forget.
    Taken {
        actor: ActorId,
        taken: Hlc,
        majority: Hlc,
    },
    /// A `Ship` of `actor` was not taken; this region is at `taken`. The sender keeps the rows, waits, and goes on from `taken`.
    Declined {
        actor: ActorId,
        taken: Hlc,
        reason: Decline,
    },
    /// Every stamp that `actor` will make from now on is above `upto`, and every one up to there was shipped at or before `after`.
    Promise {
        actor: ActorId,
        after: Hlc,
        upto: Hlc,
    },
    /// Rows in `(after, upto]` were dropped before this region took them. It goes on behind them, but nothing is complete
    /// here beyond `after` until it has been reconciled.
    Skip {
        actor: ActorId,
        after: Hlc,
        upto: Hlc,
    },
}

/// Outbox rows of one actor: the half-open interval `(after, last]` of its stamps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ship {
    /// Whose writes these are.
    pub actor: ActorId,
    /// The receiver must have taken everything up to here, else it declines.
    pub after: Hlc,
    /// The last stamp in `rows`.
    pub last: Hlc,
    /// Stored outbox rows, as stored: each decodes to the deltas of one commit batch.
    pub rows: Vec<Bytes>,
}

/// Why a `Ship` was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Decline {
    /// Rows between `taken` and `after` never came.
    Gap,
    /// A stamp is further ahead of the receiver's clock than `clock.max_skew` allows, by this many milliseconds.
    ClockAhead { excess_ms: u64 },
    /// The receiver cannot write: its disk is full or its storage failed.
    ReadOnly,
    /// The receiver's queues are full.
    Busy,
    /// A row could not be decoded.
    Malformed,
}

/// A session's number, never used twice in a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub u64);

/// How far a node has taken an actor's writes, as it tells the actor's node in the handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// Whose.
    pub actor: ActorId,
    /// Everything up to here is durable at the speaker.
    pub taken: Hlc,
    /// The newest stamp of it that the speaker knows of; newer than the actor's own newest means that the actor forgot.
    pub newest: Hlc,
}

impl Message {
    /// Whose stream it is about.
    pub fn actor(&self) -> ActorId {
        match self {
            Self::Ship(ship) => ship.actor,
            Self::Taken { actor, .. }
            | Self::Declined { actor, .. }
            | Self::Promise { actor, .. }
            | Self::Skip { actor, .. } => *actor,
        }
    }
}
