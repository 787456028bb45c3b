//! A UDP socket that takes and gives whole trains of datagrams (GRO and GSO), which is what makes a
//! relay in user space cheap: one system call for dozens of datagrams, at the boundaries they came with.

use std::{
    cell::RefCell,
    io::{self, IoSliceMut},
    net::{Ipv4Addr, SocketAddr},
};

use quinn_udp::{EcnCodepoint, RecvMeta, Transmit, UdpSockRef, UdpSocketState};
use tokio::{io::Interest, net::UdpSocket};

/// A socket on loopback.
#[derive(Debug)]
pub(super) struct Socket {
    socket: UdpSocket,
    offload: UdpSocketState,
    local: SocketAddr,
}

/// Datagrams of one sender that were received together: all but the last are `stride` bytes long.
#[derive(Debug, Clone, Copy)]
pub(super) struct Train<'a> {
    pub from: SocketAddr,
    pub bytes: &'a [u8],
    pub stride: usize,
    pub ecn: Option<EcnCodepoint>,
}

impl Socket {
    /// Binds a port of the system's choice.
    pub fn bind() -> io::Result<Self> {
        let socket = std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        socket.set_nonblocking(true)?;
        let offload = UdpSocketState::new(UdpSockRef::from(&socket))?;
        // The system caps these at its own limit; less only means that bursts are dropped earlier.
        offload.set_send_buffer_size(UdpSockRef::from(&socket), SOCKET_BUFFER_BYTES)?;
        offload.set_recv_buffer_size(UdpSockRef::from(&socket), SOCKET_BUFFER_BYTES)?;
        let local = socket.local_addr()?;
        Ok(Self {
            socket: UdpSocket::from_std(socket)?,
            offload,
            local,
        })
    }

    /// Binds a port that exchanges datagrams with `peer` alone.
    pub async fn connected(peer: SocketAddr) -> io::Result<Self> {
        let socket = Self::bind()?;
        socket.socket.connect(peer).await?;
        Ok(socket)
    }

    /// The socket's own address.
    pub fn local(&self) -> SocketAddr {
        self.local
    }

    /// Waits until there is something to receive.
    pub async fn readable(&self) -> io::Result<()> {
        self.socket.readable().await
    }

    /// Receives what is there, up to [`TRAINS`], and gives each train to `each`. Returns whether there
    /// may be more.
    pub fn receive(&self, mut each: impl FnMut(Train<'_>)) -> io::Result<bool> {
        SCRATCH.with_borrow_mut(|scratch| {
            let mut meta = [RecvMeta::default(); TRAINS];
            let received = self.fill(scratch, &mut meta);
            let count = match received {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                // The port behind this connected socket is closed: its process is down.
                Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => return Ok(true),
                received => received?,
            };
            for (meta, buffer) in meta
                .iter()
                .zip(scratch.chunks_exact(TRAIN_BYTES))
                .take(count)
            {
                each(Train {
                    from: meta.addr,
                    bytes: &buffer[..meta.len],
                    stride: meta.stride,
                    ecn: meta.ecn,
                });
            }
            Ok(true)
        })
    }

    fn fill(&self, scratch: &mut [u8], meta: &mut [RecvMeta; TRAINS]) -> io::Result<usize> {
        let mut chunks = scratch.chunks_exact_mut(TRAIN_BYTES);
        let mut buffers: [IoSliceMut<'_>; TRAINS] =
            std::array::from_fn(|_| IoSliceMut::new(chunks.next().unwrap_or_default()));
        self.socket.try_io(Interest::READABLE, || {
            self.offload
                .recv(UdpSockRef::from(&self.socket), &mut buffers, meta)
        })
    }

    /// Sends as many datagrams of a train as the socket takes now; returns their bytes. Fewer than all
    /// means that it is full for the moment.
    pub fn send(&self, train: Train<'_>, to: SocketAddr) -> io::Result<usize> {
        let mut sent = 0;
        while sent < train.bytes.len() {
            // Asked anew each time: the first failure of the offload switches it off.
            let chunk_bytes = train.stride * self.offload.max_gso_segments().max(1);
            let chunk = &train.bytes[sent..train.bytes.len().min(sent + chunk_bytes)];
            match self.send_chunk(chunk, train, to) {
                Ok(()) => sent += chunk.len(),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                Err(e) => return Err(e),
            }
        }
        Ok(sent)
    }

    fn send_chunk(
        &self,
        contents: &[u8],
        train: Train<'_>,
        destination: SocketAddr,
    ) -> io::Result<()> {
        let segment_size = (contents.len() > train.stride).then_some(train.stride);
        let transmit = Transmit {
            destination,
            ecn: train.ecn,
            contents,
            segment_size,
            src_ip: None,
        };
        // Not through tokio's readiness: that is unknown for a socket which was just bound.
        self.offload
            .try_send(UdpSockRef::from(&self.socket), &transmit)
    }
}

thread_local! {
    /// Where trains are received before they are judged: one for each thread, not for each socket,
    /// because a cluster of a hundred nodes has twenty thousand sockets.
    static SCRATCH: RefCell<Vec<u8>> = RefCell::new(vec![0; TRAINS * TRAIN_BYTES]);
}

/// Trains received by one system call.
const TRAINS: usize = 8;
/// The most that one train can hold: the largest UDP payload.
const TRAIN_BYTES: usize = 64 * 1024;
const SOCKET_BUFFER_BYTES: usize = 4 * 1024 * 1024;
