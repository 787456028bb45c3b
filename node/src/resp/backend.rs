//! What a connection needs of the node behind it.

use std::future::Future;

use crate::{
    core::{
        op::{Key, Op, ScanFilter},
        reply::Reply,
    },
    status::ConflictStatus,
};

/// The node, as a connection sees it. Implemented by the driver; the tests implement it over the memory storage.
pub trait Backend: Clone + Send + Sync + 'static {
    /// Answers a read from committed state without touching the disk or running long;
    /// `None` when it would have to, or when `op` writes.
    fn try_read(&self, op: &Op) -> Option<Reply>;

    /// Answers reads from committed state, off the async workers. One reply per op, in order.
    fn read(&self, ops: Vec<Op>) -> impl Future<Output = Vec<Reply>> + Send;

    /// Queues ops (reads and writes) to the shards that own their keys, in order, at once: when this returns they are
    /// queued, and the future gives one reply per op, in order, each after the commit that it depends on.
    fn submit(&self, ops: Vec<Op>) -> impl Future<Output = Vec<Reply>> + Send + 'static;

    /// Keys of the region, each once.
    fn key_count(&self) -> impl Future<Output = Result<u64, Reply>> + Send;

    /// One page of the keys of the region: `(next cursor, keys)`; the cursor 0 begins and ends.
    fn scan(
        &self,
        cursor: u64,
        filter: ScanFilter,
    ) -> impl Future<Output = Result<(u64, Vec<Key>), Reply>> + Send;

    /// Some key of the region.
    fn random_key(&self, entropy: u64) -> impl Future<Output = Result<Option<Key>, Reply>> + Send;

    /// Deletes every key that is visible here.
    fn flush_all(&self) -> impl Future<Output = Result<(), Reply>> + Send;

    /// The last conflicts that this node saw, the newest first.
    fn conflicts(&self, count: usize) -> Vec<ConflictStatus>;

    /// The JSON of `/v1/status`.
    fn status_json(&self) -> impl Future<Output = String> + Send;

    /// `field:value` pairs for the sections of INFO that only the node knows, by section (`Server`, `Replication`, …).
    fn info(&self) -> Vec<(&'static str, Vec<(String, String)>)>;

    /// Wall clock, Unix microseconds.
    fn wall_us(&self) -> u64;

    /// 64 random bits.
    fn entropy(&self) -> u64;
}
