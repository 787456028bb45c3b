//! The address at which a node tells others to reach it.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};

use tokio::{
    net::{UdpSocket, lookup_host},
    time::timeout,
};

use crate::config::Config;

/// The address that others are told. A node that listens on every address says the one from which it reaches its first seed.
pub async fn advertised(config: &Config, quic: SocketAddr) -> SocketAddr {
    if !quic.ip().is_unspecified() {
        return quic;
    }
    let target = first_seed(config, quic).await.unwrap_or(ANYWHERE);
    match source_of_route(quic.ip(), target).await {
        Ok(source) => SocketAddr::new(source, quic.port()),
        Err(error) => {
            tracing::warn!(%error, "the address of this machine could not be found: give it as listen.quic, or list this node under [peers.dial] on the others");
            SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), quic.port())
        }
    }
}

/// Nothing is sent: the system chooses a source address for the route.
async fn source_of_route(from: IpAddr, target: SocketAddr) -> std::io::Result<IpAddr> {
    let socket = UdpSocket::bind(SocketAddr::new(from, 0)).await?;
    socket.connect(target).await?;
    Ok(socket.local_addr()?.ip())
}

/// The first address of `[peers]` that fits this node's; a name that is not found in time is passed over.
async fn first_seed(config: &Config, quic: SocketAddr) -> Option<SocketAddr> {
    let fits = |address: &SocketAddr| address.is_ipv4() || quic.is_ipv6();
    for seed in &config.peers.seeds {
        let found = timeout(LOOKUP_MAX, lookup_host(seed.as_str())).await;
        if let Ok(Ok(mut found)) = found
            && let Some(address) = found.find(fits)
        {
            return Some(address);
        }
    }
    config.peers.dial.values().copied().find(fits)
}

/// How long a name may take.
const LOOKUP_MAX: Duration = Duration::from_secs(1);
/// An address that no machine has (RFC 5737): the route to it is the default one.
const ANYWHERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 9);
