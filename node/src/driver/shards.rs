//! The shards of a node, each on a thread of its own.

use std::{collections::BTreeMap, io, sync::Arc, thread};

use crdt::ActorId;
use tokio::sync::{mpsc, oneshot};

use super::{
    RunError,
    clock::WallClock,
    hot_heads::HotHeads,
    incarnation::{actors_of, former_actors},
    outbound::Outbound,
    queue::{ShardQueue, shard_queue},
    shard_loop::{Parts, ShardLoop},
};
use crate::{
    config::{Config, Fsync},
    core::{
        ReadBounds, Recalled, ShardConfig,
        identity::Identity,
        ship::{Home, OutboxBounds},
    },
    placement::Placement,
    storage::{Durability, StorageError, rocks::RocksStorage},
};

/// The shards' queues, and word of those that end.
pub(super) struct Shards {
    pub(super) queues: Vec<ShardQueue>,
    /// What each of their actors recalled.
    pub(super) recalled: BTreeMap<ActorId, Recalled>,
    pub(super) ended: mpsc::UnboundedReceiver<u16>,
}

impl Shards {
    /// Opens every shard on a thread of its own, all at once: after an unclean stop each counts its keys.
    #[allow(clippy::too_many_arguments)] // everything that a shard is made of
    pub(super) async fn start(
        config: &Config,
        storage: &Arc<RocksStorage>,
        hot: &Arc<HotHeads>,
        identity: &Identity,
        was_clean: bool,
        clock: &Arc<WallClock>,
        outbound: &Arc<Outbound>,
        placement: &Arc<Placement>,
    ) -> Result<Self, RunError> {
        let (end, ended) = mpsc::unbounded_channel();
        let mut shards = Self {
            queues: Vec::new(),
            recalled: BTreeMap::new(),
            ended,
        };
        let mut opening = Vec::new();
        for (index, actor) in (0u16..).zip(actors_of(identity)) {
            let (queue, receiver, queued_bytes) = shard_queue(index);
            shards.queues.push(queue);
            let parts = Parts {
                config: shard_config(config, identity, index, actor, was_clean, placement),
                storage: Arc::clone(storage),
                hot: Arc::clone(hot),
                durability: if config.storage.fsync == Fsync::Always {
                    Durability::Power
                } else {
                    Durability::Process
                },
                clock: Arc::clone(clock),
                outbound: Arc::clone(outbound),
                queue: receiver,
                queued_bytes,
            };
            opening.push(spawn_shard(index, parts, end.clone())?);
        }
        for opened in opening {
            // A thread that ends before it answers has panicked, which it logged.
            let recalled = opened.await.unwrap_or_else(|_| {
                Err(StorageError::Failed {
                    detail: "a shard ended while it was opened".to_owned(),
                })
            })?;
            shards.recalled.extend(recalled);
        }
        Ok(shards)
    }
}

/// Starts a shard's thread; the receiver hears whether it opened, and what each of its actors recalled.
fn spawn_shard(
    index: u16,
    parts: Parts,
    end: mpsc::UnboundedSender<u16>,
) -> io::Result<oneshot::Receiver<Result<BTreeMap<ActorId, Recalled>, StorageError>>> {
    let (answer, opened) = oneshot::channel();
    thread::Builder::new()
        .name(format!("shard-{index}"))
        .spawn(move || {
            let _end = Ends { index, end };
            let (outcome, shard) = match ShardLoop::open(parts) {
                Ok(shard) => (Ok(shard.recalled()), Some(shard)),
                Err(error) => (Err(error), None),
            };
            let is_wanted = answer.send(outcome).is_ok();
            if let Some(shard) = shard.filter(|_| is_wanted) {
                shard.run();
            }
        })?;
    Ok(opened)
}

/// Says when a shard's thread ends, by a panic too.
struct Ends {
    index: u16,
    end: mpsc::UnboundedSender<u16>,
}

impl Drop for Ends {
    fn drop(&mut self) {
        // Nobody listens once the node is stopping.
        let _ = self.end.send(self.index);
    }
}

fn shard_config(
    config: &Config,
    identity: &Identity,
    index: u16,
    actor: ActorId,
    was_clean: bool,
    placement: &Arc<Placement>,
) -> ShardConfig {
    let shards = identity.shards;
    ShardConfig {
        index,
        shards: shards.get(),
        actor,
        former: former_actors(identity, index),
        home: Home {
            region: config.node.region.clone(),
            node: config.node.name.clone(),
            placement: Arc::clone(placement),
            is_sloppy: config.consistency.sloppy,
        },
        timeout: config.consistency.timeout,
        outbox: OutboxBounds {
            window: config.hints.window,
            bytes_max: config.hints.max_bytes.bytes() / u64::from(shards.get()),
        },
        cache_bytes: config.storage.cache.to_usize() / HEAD_CACHE_SHARE / usize::from(shards.get()),
        value_bytes_max: config.limits.value_bytes.to_usize(),
        reads: ReadBounds::default(),
        max_skew_ms: config.clock.max_skew.as_millis() as u64,
        was_clean,
        entropy: rand::random(),
    }
}

/// One part in this many of `storage.cache` goes to decoded heads, over and above RocksDB's blocks.
const HEAD_CACHE_SHARE: usize = 2;
