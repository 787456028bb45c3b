//! The listener, and the door that any stream can come through.

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use socket2::{SockRef, TcpKeepalive};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpSocket, TcpStream},
    select,
    sync::watch,
    task::{JoinError, JoinSet},
    time::{sleep, timeout},
};
use tracing::{debug, error, info, warn};

pub use super::clients::Ends;
use super::{
    backend::Backend,
    connection::{Connection, Ending},
    levels::Levels,
    limits::{FAREWELL, Limits},
    lobby::Lobby,
    session::Session,
};

/// The door: what connections of every kind share. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Door<B> {
    backend: B,
    lobby: Arc<Lobby>,
}

impl<B: Backend> Door<B> {
    /// A door to `backend`; connections begin with these levels. Metrics go to the recorder that is installed by now.
    pub fn new(backend: B, limits: Limits, levels: Levels) -> Self {
        let lobby = Arc::new(Lobby::new(limits, levels));
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

async fn turn_away<S: AsyncWrite + Unpin>(stream: &mut S) -> io::Result<()> {
    stream
        .write_all(b"-ERR max number of clients reached\r\n")
        .await?;
    stream.shutdown().await
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
        loop {
            let event = select! {
                biased;
                _ = stop.wait_for(|stop| *stop) => Event::Stop,
                Some(ended) = connections.join_next(), if !connections.is_empty() => Event::Ended(ended),
                accepted = self.listener.accept() => Event::Accepted(accepted),
            };
            match event {
                Event::Stop => break,
                Event::Ended(ended) => note_end(ended),
                Event::Accepted(Ok((stream, remote))) => {
                    connections.spawn(welcome(door.clone(), stream, remote, stop.clone()));
                }
                Event::Accepted(Err(error)) => {
                    // Out of descriptors, mostly: they come back when clients leave.
                    warn!(%error, "cannot accept a client");
                    sleep(ACCEPT_PAUSE).await;
                }
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

/// How long a failed accept is waited after.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Redis's `tcp-keepalive`.
const KEEPALIVE: Duration = Duration::from_secs(300);

const _: () = assert!(FAREWELL.as_millis() < STOP.as_millis());
