//! Addresses: `"127.0.0.1:7000"`, `"[::1]:7000"`. Names are not looked up: a node's door must not depend on a resolver.

use std::{collections::BTreeMap, net::SocketAddr};

use serde::{Deserialize, Deserializer};

use crate::names::NodeName;

/// Reads one address.
pub fn one<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SocketAddr, D::Error> {
    Ok(Address::deserialize(deserializer)?.0)
}

/// Reads a table of addresses by node.
pub fn by_node<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<BTreeMap<NodeName, SocketAddr>, D::Error> {
    let addresses = BTreeMap::<NodeName, Address>::deserialize(deserializer)?;
    let unwrapped = addresses
        .into_iter()
        .map(|(node, address)| (node, address.0));
    Ok(unwrapped.collect())
}

/// An address that is refused by its own words.
#[derive(Deserialize)]
#[serde(try_from = "String")]
struct Address(SocketAddr);

impl TryFrom<String> for Address {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let refused =
            |_| format!("'{text}' is no address: write IP:PORT, as in \"127.0.0.1:7000\"");
        text.parse().map(Self).map_err(refused)
    }
}
