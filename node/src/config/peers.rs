//! `[peers]`: the nodes that a node connects to.

use std::{collections::BTreeMap, net::SocketAddr};

use serde::{Deserialize, Serialize};

use super::{Reason, address, faults::Faults, seed::Seed};
use crate::names::NodeName;

/// The nodes that a node connects to. Without any it serves alone, and ships what it owes once it has them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Peers {
    /// QUIC addresses of nodes whose names are learnt from their certificates: `IP:PORT`, or `NAME:PORT`, which is looked up again at
    /// every attempt. One of this node itself, or of a node that is connected already, does no harm. Default none.
    pub seeds: Vec<Seed>,
    /// Where to reach a node by name instead of at its own address: a relay, a NAT. Whoever answers there must prove
    /// that name. Default none.
    #[serde(deserialize_with = "address::by_node")]
    pub dial: BTreeMap<NodeName, SocketAddr>,
}

impl Peers {
    pub(super) fn check(&self, own_name: &NodeName, own_quic: SocketAddr, faults: &mut Faults) {
        for seed in &self.seeds {
            if let Some(address) = seed.address() {
                faults.dialled("peers.seeds", address);
            }
        }
        let mut taken: BTreeMap<SocketAddr, &NodeName> = BTreeMap::new();
        for (name, &address) in &self.dial {
            let key = format!("peers.dial.{name}");
            faults.dialled(&key, address);
            if name == own_name {
                faults.note(&key, Reason::OwnName { name: name.clone() });
            } else if address == own_quic {
                faults.note(&key, Reason::OwnAddress { address });
            }
            if let Some(other) = taken.insert(address, name) {
                let other = other.clone();
                faults.note(&key, Reason::SharedAddress { address, other });
            }
        }
    }
}
