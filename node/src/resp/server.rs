//! The listener, and the door that any stream can come through.

use std::{
    future::{Future, poll_fn},
    io,
    net::SocketAddr,
    pin::pin,
    sync::{Arc, atomic::Ordering},
    task::Poll,
    time::Duration,
};

use socket2::{SockRef, TcpKeepalive};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpSocket, TcpStream},
    select,
    sync::watch,
    task::{JoinError, JoinSet},
    time::{Instant, sleep_until, timeout},
};
use tracing::{debug, error, info, warn};

pub use super::clients::Ends;
use super::{
    backend::Backend,
    connection::{Connection, Ending},
    levels::Levels,
    limits::{FAREWELL, Limits, TURNED_AWAY_MAX},
    server_state::ServerState,
    session::Session,
};

/// The door: what connections of every kind share. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Door<B> {
    backend: B,
    lobby: Arc<ServerState>,
}

impl<B: Backend> Door<B> {
    /// A door to `backend`; connections begin with these levels. Metrics go to the recorder that is installed by now.
    pub fn new(backend: B, limits: Limits, levels: Levels) -> Self {
        let lobby = Arc::new(ServerState::new(limits, levels));
        Self { backend, lobby }
    }

    /// Serves one client over `stream` until it leaves, breaks the protocol, does not read its replies, or `stop`
    /// turns true (or its sender is dropped): then what is in flight is finished, answered, and the stream closed.
    ///
    /// # Errors
    /// The stream failed, or the last replies could not be sent in time.
    pub async fn serve<S>(
        &self,
        mut stream: S,
        ends: Ends,
        stop: watch::Receiver<bool>,
    ) -> io::Result<()>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let remote = ends.remote.clone();
        let Some(admission) = self.lobby.clients.admit(ends, self.lobby.limits.clients) else {
            return timeout(FAREWELL, turn_away(&mut stream))
                .await
                .unwrap_or(Ok(()));
        };
        let session = Session::new(admission.client(), self.lobby.levels);
        let lobby = Arc::clone(&self.lobby);
        let connection = Connection::new(stream, self.backend.clone(), lobby, session);
        // The place is given back when the connection has ended.
        let ending = connection.run(stop).await;
        drop(admission);
        match ending? {
            Ending::Stuck => warn!(%remote, "closed a client that does not read its replies"),
            Ending::Broken => debug!(%remote, "closed a client that broke the protocol"),
            Ending::Client | Ending::Stopped => {}
        }
        Ok(())
    }
}

async fn turn_away<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S) -> io::Result<()> {
    stream
        .write_all(b"-ERR max number of clients reached\r\n")
        .await?;
    stream.shutdown().await?;
    drop_what_came(stream).await;
    Ok(())
}

/// Drops what the client has sent already: a socket that is closed with unread input is reset, and the reset can overtake the
/// error. Waits for nothing: the place is wanted by others who are turned away.
async fn drop_what_came<S: AsyncRead + Unpin>(stream: &mut S) {
    let mut dropped = [0; 4096];
    for _ in 0..TURNED_AWAY_READS_MAX {
        let read = poll_fn(|context| {
            let read = pin!(stream.read(&mut dropped));
            Poll::Ready(read.poll(context))
        });
        if !matches!(read.await, Poll::Ready(Ok(1..))) {
            return;
        }
    }
}

/// A TCP listener for the Redis protocol.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
}

impl Server {
    /// Binds `address`, whose port may be 0, and listens.
    ///
    /// # Errors
    /// The address is taken, or not this machine's.
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        let socket = match address {
            SocketAddr::V4(_) => TcpSocket::new_v4()?,
            SocketAddr::V6(_) => TcpSocket::new_v6()?,
        };
        // A node that restarts finds its own port in TIME_WAIT.
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        let listener = socket.listen(BACKLOG)?;
        Ok(Self { listener })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// The system does not tell.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Accepts clients until `stop` turns true (or its sender is dropped), then lets every connection finish what is in
    /// flight, for [`STOP`] at most.
    pub async fn serve<B: Backend>(self, door: Door<B>, mut stop: watch::Receiver<bool>) {
        if let Ok(address) = self.local_addr() {
            door.lobby.port.store(address.port(), Ordering::Relaxed);
            info!(%address, "accepting Redis clients");
        }
        let mut connections = JoinSet::new();
        let mut refusals = Refusals::default();
        // Whoever is to be turned away takes a descriptor until then: the others wait to be accepted.
        let most = door.lobby.limits.clients.saturating_add(TURNED_AWAY_MAX);
        loop {
            let has_room = connections.len() < most;
            let event = select! {
                biased;
                _ = stop.wait_for(|stop| *stop) => Event::Stop,
                Some(ended) = connections.join_next(), if !connections.is_empty() => Event::Ended(ended),
                accepted = accept(&self.listener, refusals.until), if has_room => Event::Accepted(accepted),
            };
            match event {
                Event::Stop => break,
                Event::Ended(ended) => note_end(ended),
                Event::Accepted(Ok((stream, remote))) => {
                    refusals.end();
                    connections.spawn(welcome(door.clone(), stream, remote, stop.clone()));
                }
                Event::Accepted(Err(error)) => refusals.note(&error, Instant::now()),
            }
        }
        drop(self.listener);
        finish(connections).await;
    }
}

enum Event {
    Stop,
    Ended(Result<(), JoinError>),
    Accepted(io::Result<(TcpStream, SocketAddr)>),
}

async fn accept(
    listener: &TcpListener,
    not_before: Option<Instant>,
) -> io::Result<(TcpStream, SocketAddr)> {
    if let Some(not_before) = not_before {
        sleep_until(not_before).await;
    }
    listener.accept().await
}

/// The system's refusals to accept: out of descriptors or memory, mostly, which come back when clients leave. Trying on at once would
/// keep a core busy with failing and fill the log.
#[derive(Debug, Default)]
struct Refusals {
    /// When it is tried again; `None` while all is well.
    until: Option<Instant>,
    pause: Duration,
    told: Option<Instant>,
    untold: u64,
}

impl Refusals {
    fn end(&mut self) {
        self.until = None;
        self.pause = Duration::ZERO;
    }

    fn note(&mut self, error: &io::Error, now: Instant) {
        self.pause = (self.pause * 2).clamp(ACCEPT_PAUSE, ACCEPT_PAUSE_MAX);
        self.until = Some(now + self.pause);
        let is_due = |told: Instant| now.saturating_duration_since(told) >= TELL_INTERVAL;
        if self.told.is_none_or(is_due) {
            warn!(%error, before = self.untold, "cannot accept a client; it is tried again");
            self.told = Some(now);
            self.untold = 0;
        } else {
            self.untold += 1;
        }
    }
}

async fn welcome<B: Backend>(
    door: Door<B>,
    stream: TcpStream,
    remote: SocketAddr,
    stop: watch::Receiver<bool>,
) {
    let served = async {
        prepare(&stream)?;
        let local = stream.local_addr()?.to_string();
        let remote = remote.to_string();
        door.serve(stream, Ends { remote, local }, stop).await
    };
    if let Err(error) = served.await {
        debug!(%remote, %error, "a client's connection failed");
    }
}

/// Small replies leave at once, and clients that vanished without a word are found out.
fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE);
    SockRef::from(stream).set_tcp_keepalive(&keepalive)
}

async fn finish(mut connections: JoinSet<()>) {
    let all = async {
        while let Some(ended) = connections.join_next().await {
            note_end(ended);
        }
    };
    if timeout(STOP, all).await.is_err() {
        warn!(left = connections.len(), "clients did not finish in time");
        connections.shutdown().await;
    }
}

fn note_end(ended: Result<(), JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        error!(%error, "a connection ended by a defect");
        metrics::counter!("meridian_connection_panics_total").increment(1);
    }
}

/// How long connections may take to finish when the node stops: longer than a commit, and than the last replies need.
pub const STOP: Duration = Duration::from_secs(10);

/// Connections that wait to be accepted.
const BACKLOG: u32 = 1024;

/// How long a failed accept is waited after: twice as long each time.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
const ACCEPT_PAUSE_MAX: Duration = Duration::from_secs(1);

/// How often it is said that clients cannot be accepted, at most.
const TELL_INTERVAL: Duration = Duration::from_secs(60);

/// Reads of what a client that is turned away has sent.
const TURNED_AWAY_READS_MAX: usize = 16;

/// Redis's `tcp-keepalive`.
const KEEPALIVE: Duration = Duration::from_secs(300);

const _: () = assert!(FAREWELL.as_millis() < STOP.as_millis());

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_waited_after_longer_each_time_and_told_of_once_a_minute() {
        let begun = Instant::now();
        let error = io::Error::from_raw_os_error(24);
        let (mut refusals, mut now, mut told) = (Refusals::default(), begun, 0);
        while now < begun + Duration::from_secs(150) {
            refusals.note(&error, now);
            told += u64::from(refusals.untold == 0);
            now = refusals.until.expect("it is tried again");
        }
        assert_eq!(told, 3);
        assert_eq!(refusals.pause, ACCEPT_PAUSE_MAX);
        refusals.end();
        assert_eq!((refusals.until, refusals.pause), (None, Duration::ZERO));
        refusals.note(&error, now);
        assert_eq!(refusals.pause, ACCEPT_PAUSE);
        assert!(refusals.untold > 1, "it was told less than a minute ago");
    }
}
