//! The driver: threads, clock, disk and sockets around the core.
//!
//! ```text
//!   resp ─▶ Node::submit ─▶ queue ─▶ ShardLoop ─▶ core::Shard ─▶ one commit ─▶ replies
//!   resp ─▶ Node::try_read ─▶ what is committed (memory only; the disk is read off the workers)
//!
//!   peers ─▶ Router ─┬─▶ Outbound::shipped ─▶ core::Inbox ─▶ queues ─▶ … ─▶ applied ─▶ Taken ─▶ peers
//!                    └─▶ SessionUp/Down, Taken, Declined ─▶ queues
//!   Watch ─▶ free space, failures, reopening, the intake's memory        sync_log ─▶ fsync every so often
//! ```
//! One thread for each shard, two for storage, tokio for what waits on sockets. Threads end when the other end of their channel
//! is dropped or when they are told to; a panic in a shard ends the process, because nobody else may write its keys.

mod advertised;
mod agreement;
mod answering;
mod cached;
mod certificates;
mod clock;
mod configured;
mod conflicts;
mod context;
mod descriptors;
mod doors;
mod drain;
mod errand;
mod forward;
mod gauges;
mod gossiping;
mod handoff;
mod health;
mod hot_heads;
mod incarnation;
mod info;
mod joining;
mod known;
mod membership;
mod node;
mod outbound;
mod queue;
mod reachability;
mod region;
mod report;
mod router;
mod scatter;
mod serving;
mod shard_loop;
mod shards;
mod shutdown;
mod start;
mod status_report;
mod stop_reason;
mod telling;
mod threads;
mod walk;
mod watch;

use std::{io, net::SocketAddr};

pub use self::{context::Node, start::run};
use self::{descriptors::TooFew, membership::MembershipError};
use crate::{
    peer::StartError, storage::StorageError, storage::directory::DirectoryError,
    tls::CredentialsError,
};

/// Why a node does not run, or no longer.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The data directory is not this node's to use. *State unchanged.*
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// The certificates cannot be used. *State unchanged.*
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// The peers' door cannot be opened. *State unchanged.*
    #[error(transparent)]
    Peers(#[from] StartError),
    /// An address cannot be listened on. *State unchanged.*
    #[error("{key} = \"{address}\" cannot be listened on: {source}")]
    Listen {
        /// The setting.
        key: &'static str,
        /// Its value.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// What is stored cannot be read. *State unchanged.*
    #[error("the data directory cannot be read: {0}")]
    Storage(#[from] StorageError),
    /// The node cannot take part in the gossip. *State unchanged.*
    #[error(transparent)]
    Membership(#[from] MembershipError),
    /// The system gives too few file descriptors. *State unchanged.*
    #[error(transparent)]
    Descriptors(#[from] TooFew),
    /// The system gave no thread, or no signal. *State unchanged.*
    #[error("the system refused: {0}")]
    System(#[from] io::Error),
    /// A shard's thread ended. *What was acknowledged is durable; the node must be started anew.*
    #[error("shard {0} ended: see the log for its panic; what was acknowledged is durable")]
    ShardEnded(u16),
}

impl RunError {
    /// What the process exits with: 1 failed, 2 configuration, 3 data directory refused.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Directory(_) => 3,
            Self::Credentials(_) | Self::Membership(_) => 2,
            Self::Peers(_)
            | Self::Descriptors(_)
            | Self::Listen { .. }
            | Self::Storage(_)
            | Self::System(_)
            | Self::ShardEnded(_) => 1,
        }
    }
}
