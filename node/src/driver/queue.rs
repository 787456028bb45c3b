//! The way into a shard: one bounded queue, with room that clients cannot take from replication.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use crdt::{ActorId, Hlc};
use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use tokio::sync::oneshot;

use crate::core::{
    Input,
    fixed::Answer,
    op::Op,
    reply::Refusal,
    ship::{Destination, Lag},
    tally::Tally,
};

/// Something for a shard to do.
#[derive(Debug)]
pub enum Work {
    /// Requests of one connection; the answers are given together once each may be.
    Ops {
        ops: Vec<Op>,
        bytes: usize,
        replies: oneshot::Sender<Vec<Answer>>,
    },
    /// An input of the core.
    Input(Input),
    /// Stamp as another actor, once the open batch is committed.
    Renew {
        actor: ActorId,
        newest: Hlc,
        replays: bool,
    },
    /// Say how things stand.
    Inspect {
        partitions: bool,
        answer: oneshot::Sender<Inspection>,
    },
    /// Storage was reopened after a failure.
    Reopened,
    /// Commit what is open, remember everything, end.
    Stop { done: oneshot::Sender<()> },
}

/// How things stand in a shard.
#[derive(Debug, Default)]
pub struct Inspection {
    /// Over its partitions.
    pub total: Tally,
    /// Each of its partitions, if asked for.
    pub partitions: Vec<(u16, Tally)>,
    /// How far each destination is behind.
    pub lags: Vec<(Destination, Lag)>,
    /// Those of them that rows can be sent to now.
    pub linked: BTreeSet<Destination>,
    /// Why it does not work, if it does not.
    pub failed: Option<String>,
    /// Whether it did not answer in time: nothing else is known of it then.
    pub is_silent: bool,
}

/// The sending end of a shard's queue.
#[derive(Debug, Clone)]
pub struct ShardQueue {
    index: u16,
    sender: Sender<Work>,
    queued_bytes: Arc<AtomicUsize>,
}

/// The queue is full, or its shard has ended. *State unchanged, safe to retry.*
#[derive(Debug, thiserror::Error)]
#[error("the queue of shard {shard} {}", if *.is_closed { "is closed" } else { "is full" })]
pub struct QueueError {
    shard: u16,
    is_closed: bool,
}

impl QueueError {
    /// Whether the shard has ended: it makes no room any more.
    pub fn is_closed(&self) -> bool {
        self.is_closed
    }
}

/// Both ends of a shard's queue.
pub fn shard_queue(index: u16) -> (ShardQueue, Receiver<Work>, Arc<AtomicUsize>) {
    let (sender, receiver) = bounded(QUEUE_WORKS_MAX);
    let queued_bytes = Arc::new(AtomicUsize::new(0));
    (
        ShardQueue {
            index,
            sender,
            queued_bytes: Arc::clone(&queued_bytes),
        },
        receiver,
        queued_bytes,
    )
}

impl ShardQueue {
    /// Queues the requests of a client, unless the shard has enough to do.
    pub fn request(&self, ops: Vec<Op>) -> Result<oneshot::Receiver<Vec<Answer>>, Refusal> {
        let bytes = ops.iter().map(Op::bytes).sum();
        let is_full = self.sender.len() >= CLIENT_WORKS_MAX
            || self.queued_bytes.load(Ordering::Relaxed) >= CLIENT_BYTES_MAX;
        if is_full {
            metrics::counter!(crate::metrics::BUSY_TOTAL).increment(1);
            return Err(Refusal::Busy(format!(
                "the queue of shard {} of this node is full",
                self.index
            )));
        }
        let (replies, receiver) = oneshot::channel();
        self.queued_bytes.fetch_add(bytes, Ordering::Relaxed);
        match self.sender.try_send(Work::Ops {
            ops,
            bytes,
            replies,
        }) {
            Ok(()) => Ok(receiver),
            Err(error) => {
                self.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
                Err(match error {
                    TrySendError::Full(_) => Refusal::Busy(format!(
                        "the queue of shard {} of this node is full",
                        self.index
                    )),
                    TrySendError::Disconnected(_) => {
                        Refusal::Unavailable("this node is stopping".to_owned())
                    }
                })
            }
        }
    }

    /// Queues anything else.
    pub fn send(&self, work: Work) -> Result<(), QueueError> {
        self.sender.try_send(work).map_err(|error| QueueError {
            shard: self.index,
            is_closed: matches!(error, TrySendError::Disconnected(_)),
        })
    }
}

/// Entries of a queue.
const QUEUE_WORKS_MAX: usize = 16_384;
/// Clients are refused from here on; the rest is for peers and upkeep.
const CLIENT_WORKS_MAX: usize = 8_192;
/// Clients are refused when their queued requests hold this much.
const CLIENT_BYTES_MAX: usize = 256 << 20;

const _: () = assert!(CLIENT_WORKS_MAX < QUEUE_WORKS_MAX);
