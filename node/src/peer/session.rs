//! A session: what everyone may know and do of it. Its task is in `session_task.rs`.

use std::{
    fmt,
    net::SocketAddr,
    sync::{Mutex, OnceLock, atomic::AtomicBool},
    time::Instant,
};

use bytes::Bytes;
use metrics::Counter;
use quinn::Connection;
use tokio::{sync::watch, time::timeout};

use super::{
    DatagramError, Direction, Peer, SessionId,
    close::{End, Ending},
    datagram,
    heartbeat::{Pulse, Reading},
    limits::DRAIN_MAX,
    lock,
    queue::Queue,
    refusal::{CLOSE_BYE, CLOSE_REPLACED, printable},
};

/// What everyone may know and do of a session.
pub(super) struct Session {
    pub(super) id: SessionId,
    pub(super) direction: Direction,
    pub(super) peer: Peer,
    pub(super) address: SocketAddr,
    /// What was dialled, if this node did.
    pub(super) target: Option<String>,
    /// The version that both sides speak.
    pub(super) version: u8,
    pub(super) queue: Queue,
    pub(super) ending: Ending,
    pub(super) pulse: Mutex<Pulse>,
    /// The peer's goodbye, if it said one.
    pub(super) goodbye: watch::Sender<Option<String>>,
    pub(super) announced: AtomicBool,
    /// Known once it runs: before the greeting is over, nothing but the greeting is sent.
    pub(super) connection: OnceLock<Connection>,
    pub(super) sent: Counter,
    pub(super) received: Counter,
}

impl Session {
    pub(super) fn new(
        id: SessionId,
        direction: Direction,
        peer: Peer,
        address: SocketAddr,
        version: u8,
    ) -> Self {
        let bytes = |way: &'static str| {
            let region = peer.region.as_str().to_owned();
            metrics::counter!("meridian_wan_bytes_total", "region" => region, "direction" => way)
        };
        Self {
            id,
            direction,
            address,
            target: None,
            version,
            sent: bytes("out"),
            received: bytes("in"),
            peer,
            queue: Queue::default(),
            ending: Ending::new(),
            pulse: Mutex::new(Pulse::new(Instant::now())),
            goodbye: watch::Sender::new(None),
            announced: AtomicBool::new(false),
            connection: OnceLock::new(),
        }
    }

    /// Says what was dialled.
    pub(super) fn dialled_at(self, target: Option<&str>) -> Self {
        Self {
            target: target.map(str::to_owned),
            ..self
        }
    }

    /// Sends a datagram, if the session runs. Never waits.
    pub(super) fn send_datagram(&self, bytes: Bytes) -> Result<(), DatagramError> {
        let connection = self.connection.get().ok_or(DatagramError::NoSession)?;
        let count = bytes.len() as u64;
        datagram::send(connection, bytes)?;
        self.sent.increment(count);
        Ok(())
    }

    /// Whether datagrams may be sent in it: it runs, and is not ending.
    pub(super) fn takes_datagrams(&self) -> bool {
        self.connection.get().is_some() && self.ending.is_open()
    }

    /// A datagram of so many bytes came.
    pub(super) fn hear_datagram(&self, bytes: usize) {
        self.hear();
        self.received.increment(bytes as u64);
    }

    /// Ends it politely: what is queued, then a goodbye.
    pub(super) fn close(&self, reason: &str) {
        self.queue.close();
        self.ending
            .close(End::new(CLOSE_BYE, printable(reason.as_bytes())));
    }

    /// Ends it at once: the peer opened another one.
    pub(super) fn replace(&self) {
        self.ending.end(End::new(
            CLOSE_REPLACED,
            "a newer session of the same node replaces this one",
        ));
    }

    pub(super) fn is_alive(&self, now: Instant) -> bool {
        lock(&self.pulse).is_alive(now)
    }

    pub(super) fn reading(&self) -> Reading {
        lock(&self.pulse).read()
    }

    /// Something came from the peer.
    pub(super) fn hear(&self) {
        lock(&self.pulse).hear(Instant::now());
    }

    /// The peer's goodbye, if it says one in time: it comes on another stream than the end of its messages.
    pub(super) async fn goodbye(&self) -> Option<End> {
        let mut goodbyes = self.goodbye.subscribe();
        let said = timeout(DRAIN_MAX, goodbyes.wait_for(Option::is_some))
            .await
            .ok()?
            .ok()?;
        said.as_deref().map(goodbye)
    }
}

/// The end of a session whose peer said goodbye.
pub(super) fn goodbye(reason: &str) -> End {
    End::new(CLOSE_BYE, format!("the peer said goodbye: {reason}"))
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("id", &self.id)
            .field("direction", &self.direction)
            .field("peer", &self.peer)
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}
