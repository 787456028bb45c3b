//! Where rows are shipped to.

use std::fmt;

use crdt::ActorId;

use crate::{
    core::identity::is_relay,
    names::{NodeName, RegionName},
    storage::record::cursor,
};

/// Who takes rows and has a cursor of its own in the outbox.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Destination {
    /// Another region: one of its nodes takes the rows and sees to it that the others get them.
    Region(RegionName),
    /// Another node of this region: it takes the rows for itself. Rows that it has not taken are its hints.
    Replica(NodeName),
}

impl Destination {
    /// Whether rows of this log go there: what another region sent is passed on within this one only.
    pub(super) fn takes(&self, log: ActorId) -> bool {
        match self {
            Self::Region(_) => !is_relay(log),
            Self::Replica(_) => true,
        }
    }

    pub(super) fn cursor_key(&self, actor: ActorId) -> Vec<u8> {
        match self {
            Self::Region(region) => cursor::region_key(actor, region),
            Self::Replica(node) => cursor::replica_key(actor, node),
        }
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Region(region) => write!(f, "region {region}"),
            Self::Replica(node) => write!(f, "node {node}"),
        }
    }
}
