//! What everything in the driver stands on: a handle on the running node, and what that is made of. What a node does with it is in
//! `node.rs` and the files that it calls; none of them is known here.

use std::{
    sync::{Arc, OnceLock, PoisonError, RwLock, atomic::AtomicBool},
    time::Duration,
};

use tokio::sync::{Notify, Semaphore};

use super::{
    answering::Answering, clock::WallClock, configured::Configured, forward::Forwards,
    handoff::Legacies, health::Health, hot_heads::HotHeads, known::Known, membership::Membership,
    outbound::Outbound, queue::ShardQueue,
};
use crate::{
    core::node::{CurrentTopology, Topology},
    names::{ClusterName, NodeName, RegionName},
    storage::rocks::RocksStorage,
};

/// A handle on the running node; clones are the same node.
#[derive(Clone)]
pub struct Node(pub(super) Arc<Inner>);

/// What a [`Node`] is made of.
pub struct Inner {
    /// Its cluster.
    pub cluster: ClusterName,
    /// Its name.
    pub name: NodeName,
    /// Its region.
    pub region: RegionName,
    /// The other regions.
    pub regions: Vec<RegionName>,
    /// What the configuration says about who holds what.
    pub configured: Configured,
    /// Its shards, by index.
    pub shards: Vec<ShardQueue>,
    /// Where it is stored.
    pub storage: Arc<RocksStorage>,
    /// What was read from it lately.
    pub hot: Arc<HotHeads>,
    /// The time.
    pub clock: Arc<WallClock>,
    /// Its peers and its inbox.
    pub outbound: Arc<Outbound>,
    /// Who holds what around it.
    pub topology: RwLock<CurrentTopology>,
    /// What is under way to other nodes and from them.
    pub forwards: Forwards,
    /// Which replicas take what they are sent.
    pub answering: Answering,
    /// Who was met and not forgotten.
    pub known: Arc<Known>,
    /// Who else there is, once this node gossips.
    pub membership: OnceLock<Arc<Membership>>,
    /// Asks the node to end, as a signal does.
    pub leave: Notify,
    /// What it has not delivered it will not: it leaves all the same.
    pub is_final: AtomicBool,
    /// What nodes that left have not delivered.
    pub legacies: Legacies,
    /// How it does.
    pub health: Arc<Health>,
    /// How long a client waits for a shard.
    pub timeout: Duration,
    /// Places for reads that wait for the disk.
    pub disk_reads: Arc<Semaphore>,
}

impl Inner {
    /// Who else there is, once this node gossips.
    pub fn membership(&self) -> Option<&Arc<Membership>> {
        self.membership.get()
    }

    /// Who holds what around it, as it is believed now.
    pub fn topology(&self) -> Arc<Topology> {
        // It is replaced as a whole: it is whole whatever panicked elsewhere.
        let told = self.topology.read();
        told.unwrap_or_else(PoisonError::into_inner).current()
    }

    /// Who holds what changed, or who is believed to live.
    pub fn set_topology(&self, topology: Topology) {
        let told = self.topology.write();
        told.unwrap_or_else(PoisonError::into_inner).tell(topology);
    }
}

impl Node {
    /// A handle on the node made of `inner`.
    pub fn new(inner: Inner) -> Self {
        assert!(!inner.shards.is_empty(), "a node has at least one shard");
        Self(Arc::new(inner))
    }

    /// What it is made of.
    pub fn inner(&self) -> &Inner {
        &self.0
    }
}
