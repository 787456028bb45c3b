//! What is told of destinations: to operators, and to those who wait for them.

use crdt::{ActorId, Hlc};

use super::destination::Destination;
use crate::core::message::NackReason;

/// Something about a destination that an operator should hear of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ShipEvent {
    /// Rows that it never took were dropped: it needs a full repair.
    Dropped {
        destination: Destination,
        actor: ActorId,
        after: Hlc,
        upto: Hlc,
        rows: u64,
    },
    /// It lost what it had taken: another data directory answers there.
    Replaced {
        destination: Destination,
        actor: ActorId,
        had: Hlc,
        has: Hlc,
    },
    /// It does not take a batch now; it is offered again.
    Declined {
        destination: Destination,
        actor: ActorId,
        reason: NackReason,
    },
}

/// How far a destination is behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lag {
    /// Rows that it has not taken.
    pub rows: u64,
    /// Everything up to here is there.
    pub watermark: Hlc,
    /// When the oldest row that it has not taken was stamped; `None` when it has all.
    pub since: Option<Hlc>,
    /// Whether rows were dropped that it never took.
    pub needs_repair: bool,
}

/// The log in which clients wait for the word of replicas, and the place before the oldest such row.
pub type Awaited = Option<(ActorId, Hlc)>;
