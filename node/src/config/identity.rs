//! `[node]`: who a node is.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::faults::Faults;
use crate::names::{ClusterName, NodeName, RegionName};

/// Who a node is. Every key is required: a node that guessed its name could take another one's place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    /// The node's name, `[a-z0-9-]{1,32}`, unique in the cluster. Its certificate carries it and its data directory
    /// belongs to it: to rename a node is to make a new one.
    pub name: NodeName,
    /// The region it serves, `[a-z0-9]{1,16}`; a key of `[regions]`. Rule of thumb: one region per place whose
    /// network fails on its own.
    pub region: RegionName,
    /// The cluster's name, `[a-z0-9-]{1,32}`, equal on all nodes. Nodes of different clusters refuse each other.
    pub cluster: ClusterName,
    /// The folder of everything that the node keeps; created if it is not there, locked while in use. Relative to the
    /// directory that the node is started in. Belongs to one node name and cluster, for ever.
    pub data_dir: PathBuf,
}

impl Identity {
    pub(super) fn check(&self, faults: &mut Faults) {
        faults.path("node.data_dir", &self.data_dir);
    }
}
