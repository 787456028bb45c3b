//! Where nodes listen: in ranges above a base port, or wherever the system has room.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket},
};

use super::{
    config::Doors,
    error::{Doing, Error},
    topology::NODES_MAX,
};

/// The rule by which nodes get their ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ports {
    /// Node i has RESP at base + i, QUIC a hundred above, HTTP two hundred above.
    From(u16),
    /// Any free ones. A node keeps its ports over restarts while nobody else takes them.
    System,
}

impl Ports {
    /// The rule for `--base-port`.
    pub fn new(base: u16) -> Result<Self, Error> {
        match base {
            0 => Ok(Self::System),
            base if usize::from(base) + 3 * NODES_MAX <= usize::from(u16::MAX) => {
                Ok(Self::From(base))
            }
            base => Err(Error::Usage(format!(
                "--base-port {base} leaves no room for 300 ports above it"
            ))),
        }
    }

    /// Where a node is to listen that last listened at `last`.
    pub fn doors(self, index: usize, node: &str, last: Option<Doors>) -> Result<Doors, Error> {
        match (self, last) {
            (Self::From(base), _) => {
                let doors = fixed(base, index);
                check_free(doors, node)?;
                Ok(doors)
            }
            (Self::System, Some(last)) if check_free(last, node).is_ok() => Ok(last),
            (Self::System, _) => Ok(Doors {
                resp: local(0),
                quic: local(0),
                http: local(0),
            }),
        }
    }

    /// Whether a node that last listened at `last` cannot go back there, and may listen elsewhere.
    pub fn are_lost(self, node: &str, last: Option<Doors>) -> bool {
        let is_lost = last.is_some_and(|last| check_free(last, node).is_err());
        self == Self::System && is_lost
    }
}

fn fixed(base: u16, index: usize) -> Doors {
    let port = |range: u16| local(base + range * NODES_MAX as u16 + index as u16);
    Doors {
        resp: port(0),
        quic: port(1),
        http: port(2),
    }
}

fn local(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

fn check_free(doors: Doors, node: &str) -> Result<(), Error> {
    let tcp = |address: SocketAddr| TcpListener::bind(address).map(drop);
    let udp = |address: SocketAddr| UdpSocket::bind(address).map(drop);
    let check = |address, door, bound: io::Result<()>| match bound {
        Err(e) if e.kind() == io::ErrorKind::AddrInUse => Err(Error::PortBusy {
            address,
            node: node.to_owned(),
            door,
        }),
        bound => bound.doing(|| format!("listen at {address} for {node}'s {door}")),
    };
    check(doors.resp, "RESP", tcp(doors.resp))?;
    check(doors.quic, "QUIC", udp(doors.quic))?;
    check(doors.http, "HTTP", tcp(doors.http))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_lie_in_three_ranges_above_the_base() {
        let doors = fixed(7000, 2);
        assert_eq!(
            [doors.resp, doors.quic, doors.http],
            [local(7002), local(7102), local(7202)]
        );
        assert!(Ports::new(65_400).is_err());
        assert_eq!(Ports::new(0).unwrap(), Ports::System);
    }

    #[test]
    fn a_busy_port_is_named() {
        let taken = TcpListener::bind(local(0)).unwrap();
        let base = taken.local_addr().unwrap().port();
        let Ok(ports) = Ports::new(base) else { return };
        let error = ports.doors(0, "us-1", None).unwrap_err();
        assert!(
            error
                .to_string()
                .contains(&format!("127.0.0.1:{base} for us-1's RESP is busy")),
            "{error}"
        );
    }

    #[test]
    fn a_node_returns_to_its_ports_unless_they_are_taken() {
        let taken = TcpListener::bind(local(0)).unwrap();
        let last = Doors {
            resp: taken.local_addr().unwrap(),
            quic: local(0),
            http: local(0),
        };
        assert_eq!(
            Ports::System.doors(0, "us-1", Some(last)).unwrap().resp,
            local(0)
        );
        assert!(Ports::System.are_lost("us-1", Some(last)));
        assert!(!Ports::System.are_lost("us-1", None));
        assert!(
            !Ports::From(7000).are_lost("us-1", Some(last)),
            "others are no choice of its own"
        );
        let free = last.resp;
        drop(taken);
        assert_eq!(
            Ports::System.doors(0, "us-1", Some(last)).unwrap().resp,
            free
        );
    }
}
