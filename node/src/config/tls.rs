//! `[tls]`: how a node proves to others who it is.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::faults::Faults;

/// A node's certificate and the authority that vouches for it and for every other node: PEM files, as
/// `meridian tls init` and `meridian tls issue` make them. Paths are relative to the directory that the node is
/// started in. Every key is required.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// The cluster's authority, equal on all nodes. Whoever holds its *key* can be any node: keep that off the nodes.
    pub ca: PathBuf,
    /// This node's certificate; its DNS name is `NAME.CLUSTER.meridian`.
    pub cert: PathBuf,
    /// The certificate's private key; readable by the node's user only.
    pub key: PathBuf,
}

impl Tls {
    pub(super) fn check(&self, faults: &mut Faults) {
        faults.path("tls.ca", &self.ca);
        faults.path("tls.cert", &self.cert);
        faults.path("tls.key", &self.key);
    }
}
