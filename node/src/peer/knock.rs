//! Tells a process that is gone from a path that is cut.
//!
//! QUIC hears nothing in either case. A machine whose port nobody listens on says so (ICMP), and a connected socket is told.

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
};

use tokio::{net::UdpSocket, time::timeout};

use super::{limits::KNOCK_MAX, link::Unreached};

/// Sends a byte that is no QUIC packet, which whoever listens drops, and waits a moment for the machine's word.
pub(super) async fn knock(address: SocketAddr) -> Unreached {
    match timeout(KNOCK_MAX, answer(address)).await {
        Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => Unreached::Refused,
        Ok(_) | Err(_) => Unreached::Silent,
    }
}

async fn answer(address: SocketAddr) -> io::Result<()> {
    let any = match address {
        SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
        SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
    };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(address).await?;
    socket.send(&[0]).await?;
    socket.recv(&mut [0; 1]).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_port_that_nobody_has_refuses_and_one_that_is_held_by_a_silent_process_does_not() {
        let socket = UdpSocket::bind("127.0.0.1:0")
            .await
            .expect("a port is free");
        let address = socket.local_addr().expect("it is bound");
        assert_eq!(knock(address).await, Unreached::Silent);
        drop(socket);
        assert_eq!(knock(address).await, Unreached::Refused);
    }
}
