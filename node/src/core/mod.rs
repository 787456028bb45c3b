//! The core: what a node decides, as values. `handle(input, now) -> outputs`, with storage to read from; no
//! socket, task, clock, random source or lock is in here.
//!
//! ```text
//!                inputs                                 outputs
//!   client ─▶ Request(op)  ─┐                        ┌─▶ Reply, Read    ─▶ client
//!   inbox  ─▶ Remote(deltas)┤   ┌────────────────┐   ├─▶ Applied        ─▶ inbox
//!   peers  ─▶ SessionUp/Down┼──▶│ Shard::handle  │──▶┼─▶ Commit(batch)  ─▶ storage ─┐
//!             Acknowledged  │   └────────────────┘   ├─▶ Send(message)  ─▶ peers    │
//!   time   ─▶ Tick, Close  ─┘           ▲            └─▶ Report(event)  ─▶ operator │
//!                                       └──────────── Committed / CommitFailed ◀────┘
//! ```
//!
//! The life of one write:
//!
//! ```text
//!   Request(INCR k)
//!     │  coordinate: stamp, delta                 nothing durable, nobody told
//!     │  working: joined, queued for the outbox
//!   Close ─▶ Commit(head of k + outbox row)       ONE batch, with everything else that came meanwhile
//!     ⋮      (storage)
//!   Committed
//!     └─▶ Send(Ship(actor, after, last, row))     to each other replica, and to one node of each other region
//!             ⋮      (late, twice or never: the row stays)
//!   Acknowledged(Taken upto last, taught …)       durable there, and what was known there and not here
//!     ├─▶ level met ─▶ Reply 1                    the client knows; P1 holds from here (at once, where this replica is enough)
//!     └─▶ next Close: cursor stored, row trimmed once everybody has it
//! ```
//!
//! And on the other side: `Inbox::message(Ship) → Intent::Apply → Shard Remote … Committed → Applied → Ack`.
//!
//! Dying between any two lines is safe: before `Committed` the client was told nothing; after it the row is in the outbox and
//! is sent from the cursor, again if need be; a join that happens twice changes nothing.

pub mod adopt;
pub mod batch;
mod budget;
pub mod compare;
pub mod coordinate;
mod correct;
pub mod expiring;
pub mod fixed;
pub mod generations;
pub mod glob;
pub mod identity;
pub mod inbox;
pub mod latency;
mod lesson;
mod level_check;
mod lifetime;
pub mod message;
pub mod mutant;
pub mod node;
pub mod op;
mod passage;
mod pending_writes;
pub mod profile;
mod progress;
mod quorum_read;
pub mod read;
pub mod recover;
mod replica_requests;
pub mod reply;
pub mod sample;
mod sets;
pub mod shard;
pub mod ship;
mod strings;
pub mod tally;
mod teach;
pub mod view;

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use crdt::{ActorId, Delta, Hlc};

pub use self::shard::{ReadBounds, Recalled, Shard, ShardConfig};
use self::{
    batch::Clash,
    fixed::FixedRead,
    inbox::{Done, Purpose, RelayMark, Ticket},
    message::{Message, SessionId},
    op::Op,
    reply::Reply,
    ship::{Met, ShipEvent},
};
use crate::{
    names::NodeName,
    placement::Placement,
    storage::{Batch, StorageError, record::shortage::Shortage},
};

/// The time of an input: the driver owns the only clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// Since the process started. Never goes back.
    pub mono: Duration,
    /// Unix milliseconds by this node's wall clock. May be wrong, may step.
    pub wall_ms: u64,
}

/// Names a request until it is replied to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

/// What a shard is told.
#[derive(Debug, Clone, PartialEq)]
pub enum Input {
    /// A client asks.
    Request { id: RequestId, op: Op },
    /// Deltas of another node, for keys of this shard.
    Remote {
        ticket: Ticket,
        deltas: Vec<Delta>,
        purpose: Purpose,
    },
    /// Another node asks about a key of this shard, on this session.
    Asked {
        session: SessionId,
        message: Message,
    },
    /// A session to a node can be shipped on.
    SessionUp(Met),
    /// A session is gone.
    SessionDown { session: SessionId },
    /// These nodes are believed to live. Until this is said, all are.
    Trusted(Arc<BTreeSet<NodeName>>),
    /// Who holds what, from now on.
    Placed(Arc<Placement>),
    /// What this node lacks that nobody will ship to it.
    Short(Shortage),
    /// A node answered what was shipped to it, or asked of it.
    Acknowledged {
        session: SessionId,
        message: Message,
    },
    /// A message of an actor's stream could not be queued on its session.
    Unsent { session: SessionId, actor: ActorId },
    /// Writes are refused from now on for this reason, or taken again.
    ReadOnly(Option<String>),
    /// This node's clock differs from most others' by this much, in words: it does not coordinate writes; or it no longer does.
    ClockSkew(Option<String>),
    /// Stamp as this actor from now on, above `newest`. Only between batches. `replays`: a shard asked for it with
    /// [`Output::Renew`], and what nobody took of the actors before is to be stamped anew.
    Renew {
        actor: ActorId,
        newest: Hlc,
        replays: bool,
    },
    /// Some time passed: about ten a second.
    Tick,
    /// The time has come that [`Shard::wake_at`] gave.
    Wake,
    /// The batch ends here.
    Close,
    /// The batch is durable.
    Committed,
    /// Whether the batch is durable is unknown. The last input of this shard: it is opened anew when storage is.
    CommitFailed(String),
    /// Prepare to end: only after the last batch was committed. Gives a last commit.
    Stop,
}

/// What a shard wants done, in order.
#[derive(Debug, Clone, PartialEq)]
pub enum Output {
    /// Tell a client.
    Reply { id: RequestId, reply: Reply },
    /// Carry out a read of many rows where that holds up nobody, and tell the client. It is fixed: it may be done at any later time.
    Read { id: RequestId, read: FixedRead },
    /// Tell the inbox.
    Applied { ticket: Ticket, done: Done },
    /// Tell the inbox how far what it took for the region is passed on.
    Relayed(RelayMark),
    /// Tell the inbox that what stood behind `kept` in the relay log stands at `place` now, or before it.
    Relocated { kept: Hlc, place: Hlc },
    /// Commit, then give [`Input::Committed`] or [`Input::CommitFailed`] before any other input.
    Commit(Batch),
    /// Send to a peer.
    Send {
        session: SessionId,
        message: Message,
    },
    /// Draw the directory a new number, store it, and give every shard its new actor with [`Input::Renew`], to replay. Asked for again
    /// where nothing comes of it.
    Renew,
    /// Tell an operator.
    Report(Event),
}

/// Something that an operator should hear of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// About shipping to a region.
    Ship(ShipEvent),
    /// A join kept something from a reader.
    Conflict(Clash),
    /// Writes that a clock far ahead had stamped, and nobody took, were stamped anew: so many outbox rows, by a clock so far ahead.
    Replayed { rows: u64, ahead_ms: u64 },
    /// So many requests were answered after copies of their key that differed were brought together.
    Repaired { requests: u64 },
    /// A row is damaged, or storage could not be read.
    Damaged(StorageError),
}
