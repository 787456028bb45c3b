//! `[listen]`: a node's three doors.

use std::net::{Ipv4Addr, SocketAddr};

use serde::{Deserialize, Serialize};

use super::{Reason, address, faults::Faults};

/// Where a node listens. Port 0 takes a free one, which the node's ready line shows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Listen {
    /// Clients: the Redis protocol over TCP. Default `127.0.0.1:7000`.
    #[serde(deserialize_with = "address::one")]
    pub resp: SocketAddr,
    /// Other nodes: QUIC over UDP, with mutual TLS; may be any address. Default `127.0.0.1:7100`. Must be reachable by
    /// every other node, through `[peers.dial]` there if not directly.
    #[serde(deserialize_with = "address::one")]
    pub quic: SocketAddr,
    /// Operators: health, metrics, status. Default `127.0.0.1:7200`.
    #[serde(deserialize_with = "address::one")]
    pub http: SocketAddr,
    /// Lets `resp` and `http` listen on addresses that are not loopback. Default `false`, as neither of the two asks
    /// who is calling: whoever reaches `resp` reads and writes everything. Set it only where a firewall or a private
    /// network decides who does.
    pub allow_public: bool,
}

impl Default for Listen {
    fn default() -> Self {
        let loopback = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        Self {
            resp: loopback(7000),
            quic: loopback(7100),
            http: loopback(7200),
            allow_public: false,
        }
    }
}

impl Listen {
    pub(super) fn check(&self, faults: &mut Faults) {
        for (key, address) in [("listen.resp", self.resp), ("listen.http", self.http)] {
            if !self.allow_public && !address.ip().is_loopback() {
                faults.note(key, Reason::Public { address });
            }
        }
        if self.resp == self.http && self.resp.port() != 0 {
            faults.note(
                "listen.http",
                Reason::SameAddress {
                    address: self.http,
                    other: "listen.resp",
                },
            );
        }
    }
}
