//! The QUIC endpoint: one UDP socket to dial from and to be dialled at.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use quinn::{
    ConnectionId, ConnectionIdGenerator, Endpoint, EndpointConfig, IdleTimeout, ServerConfig,
    TransportConfig, VarInt,
    congestion::{BbrConfig, ControllerFactory},
    crypto::rustls::{QuicClientConfig, QuicServerConfig},
};
use ring::hmac;
use socket2::{Domain, Protocol, Socket, Type};
use tracing::info;

use super::{
    StartError,
    limits::{
        CONNECTION_WINDOW_BYTES, DATAGRAM_BUFFER_BYTES, HANDSHAKES_MAX, IDLE_MAX, INITIAL_RTT,
        KEEP_ALIVE, SEND_WINDOW_BYTES, SOCKET_BUFFER_BYTES, STREAM_WINDOW_BYTES, STREAMS_MAX,
    },
    timer::QuietRuntime,
};
use crate::{names::NodeName, tls::Credentials};

/// Binds the socket and starts the endpoint.
pub(super) fn bind(credentials: &Credentials, listen: SocketAddr) -> Result<Endpoint, StartError> {
    let in_listen = |source| StartError::Listen {
        address: listen,
        source,
    };
    let socket = socket(listen).map_err(in_listen)?;
    let server = server_config(credentials)?;
    let runtime = Arc::new(QuietRuntime);
    Endpoint::new(endpoint_config(credentials), Some(server), socket, runtime).map_err(in_listen)
}

/// How a peer is dialled: as the named node, or as any node of the cluster.
pub(super) fn client_config(
    credentials: &Credentials,
    expect: Option<&NodeName>,
) -> Result<quinn::ClientConfig, StartError> {
    let tls = credentials.dialling(expect)?;
    let crypto =
        QuicClientConfig::try_from(tls).map_err(|error| StartError::Quic(error.to_string()))?;
    let mut config = quinn::ClientConfig::new(Arc::new(crypto));
    config.transport_config(Arc::new(transport()));
    Ok(config)
}

fn server_config(credentials: &Credentials) -> Result<ServerConfig, StartError> {
    let tls = credentials.accepting()?;
    let crypto =
        QuicServerConfig::try_from(tls).map_err(|error| StartError::Quic(error.to_string()))?;
    let mut config = ServerConfig::with_crypto(Arc::new(crypto));
    // A path may move (NAT, a relay that restarts): the connection ID and the certificate say who it is. That is QUIC's default.
    config
        .transport_config(Arc::new(transport()))
        .max_incoming(HANDSHAKES_MAX)
        .incoming_buffer_size(INCOMING_BYTES)
        .incoming_buffer_size_total(INCOMING_BYTES * HANDSHAKES_MAX as u64);
    Ok(config)
}

fn transport() -> TransportConfig {
    let mut config = TransportConfig::default();
    config
        .max_idle_timeout(Some(IdleTimeout::from(VarInt::from_u32(IDLE_MAX_MS))))
        .keep_alive_interval(Some(KEEP_ALIVE))
        .initial_rtt(INITIAL_RTT)
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW_BYTES))
        .receive_window(VarInt::from_u32(CONNECTION_WINDOW_BYTES))
        .send_window(SEND_WINDOW_BYTES)
        .max_concurrent_bidi_streams(VarInt::from_u32(STREAMS_MAX))
        .max_concurrent_uni_streams(VarInt::from_u32(STREAMS_MAX))
        .datagram_receive_buffer_size(Some(DATAGRAM_BUFFER_BYTES))
        .datagram_send_buffer_size(DATAGRAM_BUFFER_BYTES)
        .congestion_controller_factory(congestion());
    config
}

/// BBR, not quinn's default of Cubic, which takes every lost packet for congestion and falls to a standstill on a long path. Measured over
/// 80 ms round trip with 2,000 small messages a second, one-way p99: without loss the two are level (46 ms); with 0.1 % loss 96 ms against
/// 843; with 1 % loss 130 ms against 28 s and growing. In bulk it is 8 to 12 MiB/s against 0.3 at 1 %. Quinn calls its BBR
/// experimental; what it may have in flight is bounded by the windows above.
fn congestion() -> Arc<dyn ControllerFactory + Send + Sync> {
    Arc::new(BbrConfig::default())
}

/// Keys that outlive the process, derived from the node's private key: a node that restarted answers packets of its earlier
/// life with a reset that its peers believe (RFC 9000 §10.3.2), so they notice at once and not by silence.
fn endpoint_config(credentials: &Credentials) -> EndpointConfig {
    let secret = hmac::Key::new(hmac::HMAC_SHA256, credentials.secret());
    let reset = hmac::sign(&secret, RESET_LABEL);
    let mut config =
        EndpointConfig::new(Arc::new(hmac::Key::new(hmac::HMAC_SHA256, reset.as_ref())));
    // Quinn's own generator drops packets with connection IDs of an earlier process, before a reset could answer them.
    config.cid_generator(|| Box::new(RandomIds));
    config
}

struct RandomIds;

impl ConnectionIdGenerator for RandomIds {
    fn generate_cid(&mut self) -> ConnectionId {
        ConnectionId::new(&rand::random::<[u8; ID_BYTES]>())
    }

    fn cid_len(&self) -> usize {
        ID_BYTES
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

fn socket(listen: SocketAddr) -> std::io::Result<std::net::UdpSocket> {
    let socket = Socket::new(
        Domain::for_address(listen),
        Type::DGRAM,
        Some(Protocol::UDP),
    )?;
    if listen.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.set_recv_buffer_size(SOCKET_BUFFER_BYTES)?;
    socket.set_send_buffer_size(SOCKET_BUFFER_BYTES)?;
    report_buffers(&socket)?;
    socket.bind(&listen.into())?;
    Ok(socket.into())
}

/// The system may give less than it was asked for, without an error.
fn report_buffers(socket: &Socket) -> std::io::Result<()> {
    let (receive, send) = (socket.recv_buffer_size()?, socket.send_buffer_size()?);
    if receive.min(send) < SOCKET_BUFFER_BYTES {
        info!(
            receive_bytes = receive,
            send_bytes = send,
            wanted_bytes = SOCKET_BUFFER_BYTES,
            "UDP socket buffers are smaller than wanted: raise net.core.rmem_max and net.core.wmem_max for fast links",
        );
    }
    Ok(())
}

const IDLE_MAX_MS: u32 = IDLE_MAX.as_millis() as u32;
/// What one handshake that is not accepted yet may buffer.
const INCOMING_BYTES: u64 = 64 << 10;
const ID_BYTES: usize = 8;
const RESET_LABEL: &[u8] = b"meridian stateless reset";
