//! What the inbox wants done: by the shards, by the sessions, and by the operator who reads the log.

use crdt::{ActorId, Delta, Hlc};

use crate::{
    core::message::{Message, NackReason, SessionId},
    storage::record::shortage::Shortage,
};

/// One part of a message on its way through a shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket {
    pub(super) actor: ActorId,
    pub(super) number: u64,
}

/// What the inbox wants done.
#[derive(Debug, PartialEq)]
pub enum Intent {
    /// Have a shard join deltas and report with the ticket when they are durable.
    Apply {
        shard: u16,
        ticket: Ticket,
        deltas: Vec<Delta>,
        purpose: Purpose,
    },
    /// Send a message on a session.
    Send {
        session: SessionId,
        message: Message,
    },
    /// Tell an operator.
    Report(InboxEvent),
    /// Tell the shards: this node lacks more than before.
    FallShort(Shortage),
}

/// What deltas are for, besides being joined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Nothing: they are hints, or were passed on.
    Join,
    /// Clients of their coordinator wait: what is known here and not there is to be said.
    Teach,
    /// The other replicas of this region are to have them as well.
    PassOn,
}

/// Something an operator should hear of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InboxEvent {
    /// A peer's message was not taken.
    Declined { actor: ActorId, reason: NackReason },
    /// An origin dropped rows before this node took them: a reconciliation must bring them.
    Missed {
        actor: ActorId,
        after: Hlc,
        upto: Hlc,
    },
}
