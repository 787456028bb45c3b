//! Other nodes, over QUIC with mutual TLS.
//!
//! A node dials every peer it ships to and accepts every peer that ships to it: two sessions between
//! two nodes, one each way, so no side has to guess which of two crossing connections survives.
//!
//! ```text
//!   Peers ── supervisor ─┬─ dialler, one per target: attempt ▸ greet ▸ session ▸ pause ▸ …
//!                        ├─ acceptor ── handshake ▸ greet ▸ session, one task each, bounded
//!                        └─ renewal: a new identity ends every session, so that all greet again
//!
//!   session ─┬─ control stream   ping, pong, goodbye; read whatever else is stuck
//!            ├─ message stream ▸ events (bounded): not read while nobody takes events
//!            ├─ queue (bounded) ▸ message stream
//!            └─ datagrams, both ways: dropped while nobody takes them
//! ```
//!
//! Invariants: per session `Up` comes before its messages and those before `Down`, each once; messages keep their order; one peer that
//! is away, slow or hostile costs a bounded amount of memory and nobody else's time.

mod acceptor;
mod backoff;
mod close;
mod course;
mod datagram;
mod dialler;
mod endpoint;
mod frame;
mod handshake;
mod heartbeat;
mod knock;
pub mod limits;
mod link;
mod path;
mod queue;
mod refusal;
mod refusal_log;
mod roster;
mod session;
mod session_task;
mod shared;
mod stream;
mod supervisor;
mod target;
mod timer;
mod wire;

use std::{
    fmt, io,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use crdt::ActorId;
use quinn::Endpoint;
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
};

use crate::{
    core::{identity::DirectoryId, message::Message},
    names::{NodeName, RegionName},
    tls::{Credentials, CredentialsError},
};

pub use crate::core::message::{KnownPosition, Recollection, SessionId};
pub use datagram::{Datagram, DatagramError, Recipient};
pub use link::{LinkState, PeerLink, Unreached};
pub use refusal::{Refusal, RefusalKind, Refuser};
pub use refusal_log::Refused;

use refusal::CLOSE_BYE;
use shared::Shared;
use target::Targets;

/// Who is at the other end of a session, as its certificate and its handshake agree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Its name, proven by its certificate.
    pub name: NodeName,
    /// Its region.
    pub region: RegionName,
    /// Its data directory.
    pub directory: DirectoryId,
    /// The numbers that this directory had before.
    pub former: Vec<DirectoryId>,
    /// The actors that it stamps with or still ships for.
    pub actors: Vec<ActorId>,
}

/// Which side opened a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// This node did: it ships here.
    Dialled,
    /// The peer did: it ships to us.
    Accepted,
}

/// What this node tells its peers of its data directory. When it is renewed, every session ends and greets again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The data directory.
    pub directory: DirectoryId,
    /// The numbers that it had before; at most [`limits::FORMER_MAX`].
    pub former: Vec<DirectoryId>,
    /// Its actors, and earlier ones that it still ships for; at most [`limits::ACTORS_MAX`].
    pub actors: Vec<ActorId>,
}

/// A peer to dial.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerTarget {
    /// `HOST:PORT`; a host's name is looked up anew for every attempt.
    pub address: String,
    /// Who has to answer there; any node of the cluster if none. A seed turns out to be this node itself, or a node that
    /// another target names: then it is dropped.
    pub expect: Option<NodeName>,
}

/// Answers what a dialling peer asks in its handshake.
pub trait Memory: Send + Sync {
    /// What this node knows of a peer and its actors. May block for a moment, on a thread made for that.
    fn recollect(&self, peer: &Peer) -> Recollection;
}

/// The node's wall clock, with whatever offset its tests give it. Peers compare theirs with it.
pub trait WallClock: Send + Sync {
    /// Unix microseconds.
    fn now_us(&self) -> u64;
}

/// The system's wall clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl WallClock for SystemClock {
    fn now_us(&self) -> u64 {
        let elapsed = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX)
    }
}

/// What [`Peers::start`] needs.
pub struct PeersConfig {
    /// Certificate, key and CA; cluster and name with them.
    pub credentials: Credentials,
    /// This node's region.
    pub region: RegionName,
    /// This node's data directory and actors, now and whenever they are renewed.
    pub identity: watch::Receiver<Identity>,
    /// Whom to dial.
    pub targets: Vec<PeerTarget>,
    /// Where to be dialled, and to dial from. Port 0: the system chooses.
    pub listen: SocketAddr,
    /// For the clock offsets of peers.
    pub clock: Arc<dyn WallClock>,
    /// Where the datagrams of peers go. While it is full they are dropped, and counted.
    pub datagrams: mpsc::Sender<Datagram>,
}

/// What happens with peers. The channel of events is bounded: while it is full, sessions are not read, and their senders wait.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// A session is agreed on. The first event of a session.
    Up {
        /// Its number.
        session: SessionId,
        /// Who dialled.
        direction: Direction,
        /// Who it is.
        peer: Peer,
        /// What the peer knows of this node, if we dialled.
        recollection: Recollection,
    },
    /// The peer said something.
    Message {
        /// In which session.
        session: SessionId,
        /// What.
        message: Message,
    },
    /// A session is over. The last event of a session.
    Down {
        /// Its number.
        session: SessionId,
        /// Who it was.
        peer: NodeName,
        /// Why, for people.
        reason: String,
    },
    /// A task of this layer panicked: a fault of this program. The node should refuse work and stop.
    Failed {
        /// What is known of it.
        reason: String,
    },
}

/// Why peers cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The address cannot be listened on. *State unchanged.*
    #[error("listen.quic = \"{address}\": {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The certificate cannot be used. *State unchanged.*
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// TLS and QUIC do not fit. *State unchanged.*
    #[error("QUIC cannot be set up: {0}")]
    Quic(String),
    /// Two targets expect one node, or one expects this node, which is also said of [`Peers::dial`]. *State unchanged.*
    #[error("[peers.dial] \"{name}\": {problem}")]
    Target {
        /// The node.
        name: NodeName,
        /// What is wrong.
        problem: &'static str,
    },
    /// [`limits::TARGETS_MAX`] targets are dialled. *State unchanged, safe to retry* when others were taken away.
    #[error(
        "{address} is not dialled: {} targets are already",
        limits::TARGETS_MAX
    )]
    TooManyTargets {
        /// What was to be dialled.
        address: String,
    },
}

/// Why a message was not queued. *State unchanged.*
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// [`limits::QUEUE_BYTES_MAX`] wait to be sent. Try again when the peer has answered something.
    #[error("the session's queue is full")]
    Full,
    /// The session is over or ending.
    #[error("the session is closed")]
    Closed,
    /// More than [`limits::FRAME_BYTES_MAX`]. Trying again is of no use.
    #[error(
        "a message of {bytes} bytes is above the limit of {}",
        limits::FRAME_BYTES_MAX
    )]
    TooLarge {
        /// The message's bytes.
        bytes: usize,
    },
}

/// The node's sessions with its peers. Dropping it ends them without a goodbye; see [`Peers::shutdown`].
pub struct Peers {
    shared: Arc<Shared>,
    endpoint: Endpoint,
    supervisor: Mutex<Option<JoinHandle<()>>>,
}

impl Peers {
    /// Listens, and dials every target until shut down. To be called within a tokio runtime with time and I/O enabled.
    pub fn start(
        config: PeersConfig,
        events: mpsc::Sender<Event>,
        memory: Arc<dyn Memory>,
    ) -> Result<Self, StartError> {
        let PeersConfig {
            credentials,
            region,
            identity,
            targets,
            listen,
            clock,
            datagrams,
        } = config;
        let (registry, added) = Targets::new();
        let targets = registry.configure(&credentials, targets)?;
        let endpoint = endpoint::bind(&credentials, listen)?;
        let shared = Arc::new(Shared::new(shared::Parts {
            credentials,
            region,
            identity,
            clock,
            memory,
            events,
            datagrams,
            targets: registry,
        }));
        let supervisor = supervisor::start(shared.clone(), endpoint.clone(), targets, added);
        Ok(Self {
            shared,
            endpoint,
            supervisor: Mutex::new(Some(supervisor)),
        })
    }

    /// Where this node is dialled, with the port that the system chose.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.endpoint.local_addr()
    }

    /// Queues a message; from any thread, without waiting.
    pub fn try_send(&self, session: SessionId, message: &Message) -> Result<(), SendError> {
        let session = self
            .shared
            .roster
            .session(session)
            .ok_or(SendError::Closed)?;
        let lane = if message.is_acknowledgement() {
            queue::Lane::Acknowledgement
        } else {
            queue::Lane::Bulk
        };
        session
            .queue
            .push(wire::encode_message(session.version, message), lane)
    }

    /// Sends a datagram on the session with that peer that was heard last, if there is one and its path takes so many
    /// bytes: [`limits::DATAGRAM_BYTES_SAFE`] always pass. Never waits; while too many wait in QUIC, the oldest is dropped.
    pub fn send_datagram(&self, to: Recipient<'_>, bytes: Bytes) -> Result<(), DatagramError> {
        let session = self.shared.roster.nearest(to);
        session
            .ok_or(DatagramError::NoSession)?
            .send_datagram(bytes)
    }

    /// Dials a node from now on, by name; at another address than before if it was dialled already: then its session at the
    /// old one is closed politely. A node that is dialled by name since the start keeps its address, and nothing happens.
    /// Cheap when nothing changes. While a seed holds a session with the node, that one is left alone, and the address is
    /// tried when it ends.
    pub fn dial(&self, node: &NodeName, address: &str) -> Result<(), StartError> {
        if self.shared.is_stopping() {
            return Ok(());
        }
        let Shared {
            credentials,
            targets,
            ..
        } = &*self.shared;
        targets.dial(credentials, node, address)
    }

    /// Stops dialling a node that was added with [`Peers::dial`], and politely closes its sessions with this reason: the one
    /// that was dialled, and the one that it opened. Nothing happens if it was not added; what the configuration lists is
    /// dialled on, a seed that leads to the node too.
    pub fn undial(&self, node: &NodeName, reason: &str) {
        if self.shared.targets.undial(node, reason) {
            self.shared.roster.close_accepted(node, reason);
        }
    }

    /// Somebody has heard of this node: if this one pauses between two attempts to reach it, it tries now.
    pub fn give_sign(&self, node: &NodeName) {
        self.shared.targets.give_sign(node);
    }

    /// Takes no session with a data directory any more that an operator had forgotten, and ends those that there are.
    pub fn forget(&self, directory: DirectoryId, reason: &str) {
        self.shared.roster.forget(directory, reason);
    }

    /// Ends a session politely: what is queued is sent, then a goodbye. The reason is shown on both sides. Nothing happens if it is over.
    pub fn close(&self, session: SessionId, reason: &str) {
        if let Some(session) = self.shared.roster.session(session) {
            session.close(reason);
        }
    }

    /// Every target, and every session that a peer opened.
    pub fn status(&self) -> Vec<PeerLink> {
        self.shared.roster.links(std::time::Instant::now())
    }

    /// Recent refusals in both directions, the newest last; at most [`limits::REFUSALS_MAX`].
    pub fn refusals(&self) -> Vec<Refused> {
        self.shared.journal.refusals()
    }

    /// Changes whenever [`Peers::status`] or [`Peers::refusals`] would say something new, measurements aside.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.shared.roster.changes()
    }

    /// Stops dialling and accepting, says goodbye to every peer, and returns when all have it, or after
    /// [`limits`]' time for it. Events have to be taken meanwhile. Later calls return at once.
    pub async fn shutdown(&self) {
        self.shared.stop();
        let supervisor = lock(&self.supervisor).take();
        if let Some(mut supervisor) = supervisor {
            let ended = tokio::time::timeout(limits::SHUTDOWN_MAX, &mut supervisor).await;
            if ended.is_err() {
                tracing::warn!("peers did not all take their goodbye in time");
                supervisor.abort();
            }
        }
        self.endpoint.close(CLOSE_BYE, STOPPING.as_bytes());
        let idle = tokio::time::timeout(limits::DRAIN_MAX, self.endpoint.wait_idle()).await;
        if idle.is_err() {
            tracing::debug!("connections were still being closed when the node stopped");
        }
    }
}

impl Drop for Peers {
    fn drop(&mut self) {
        self.shared.stop();
        self.endpoint.close(CLOSE_BYE, STOPPING.as_bytes());
    }
}

impl fmt::Debug for Peers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Peers")
            .field("endpoint", &self.endpoint)
            .finish_non_exhaustive()
    }
}

/// Every critical section of this layer leaves its state whole, so a panic elsewhere does not spoil it.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

const STOPPING: &str = "the node stops";

#[cfg(test)]
mod tests;
