//! The node as its doors see it: commands to shards, reads from storage, the status of it all.

use std::{
    future::Future,
    sync::{Arc, OnceLock},
    time::Duration,
};

use tokio::{
    sync::{Notify, oneshot},
    task::spawn_blocking,
    time::timeout,
};

use super::{
    cached::CachedView,
    census::Census,
    clock::WallClock,
    health::Health,
    hot_heads::HotHeads,
    membership::{self, Membership},
    outbound::Outbound,
    queue::{Inspection, ShardQueue, Work},
    walk,
};
use crate::{
    core::{
        op::{Action, Key, Op, Write},
        read::read,
        reply::{Refusal, Reply},
        view::Committed,
    },
    http::{NodeView, VerbError},
    level::Level,
    names::{ClusterName, NodeName, RegionName},
    placement::Partition,
    resp::backend::{Backend, ScanFilter},
    status::{Reason, Status},
    storage::{StorageError, rocks::RocksStorage},
};

/// A handle on the running node; clones are the same node.
#[derive(Clone)]
pub struct Node(Arc<Inner>);

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
    /// Who else there is, once this node gossips.
    pub membership: OnceLock<Arc<Membership>>,
    /// Asks the node to end, as a signal does.
    pub leave: Notify,
    /// How it does.
    pub health: Arc<Health>,
    /// How long a client waits for a shard.
    pub timeout: Duration,
}

impl Inner {
    /// Who else there is, once this node gossips.
    pub fn membership(&self) -> Option<&Arc<Membership>> {
        self.membership.get()
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

    /// How things stand in every shard; in one that does not answer in time, as failed.
    pub async fn inspect(&self, partitions: bool) -> Vec<Inspection> {
        let asked: Vec<_> = self
            .0
            .shards
            .iter()
            .map(|shard| {
                let (answer, answered) = oneshot::channel();
                shard
                    .send(Work::Inspect { partitions, answer })
                    .map(|()| answered)
            })
            .collect();
        let mut inspections = Vec::with_capacity(asked.len());
        for asked in asked {
            let answer = match asked {
                Ok(answered) => timeout(self.0.timeout, answered)
                    .await
                    .ok()
                    .and_then(Result::ok),
                Err(_) => None,
            };
            inspections.push(answer.unwrap_or_else(|| Inspection {
                failed: Some("it does not answer".to_owned()),
                ..Inspection::default()
            }));
        }
        inspections
    }

    /// Runs something that reads storage off the asynchronous workers.
    async fn with_storage<T: Send + 'static>(
        &self,
        work: impl FnOnce(&RocksStorage, u64) -> Result<T, StorageError> + Send + 'static,
    ) -> Result<T, Reply> {
        let storage = Arc::clone(&self.0.storage);
        let wall_ms = self.0.clock.now().wall_ms;
        match spawn_blocking(move || work(&storage, wall_ms)).await {
            Ok(outcome) => outcome.map_err(|error| Refusal::Unavailable(error.to_string()).into()),
            Err(_) => Err(Refusal::Unavailable("this node is stopping".to_owned()).into()),
        }
    }
}

impl Backend for Node {
    fn try_read(&self, op: &Op) -> Option<Reply> {
        let Action::Read(action) = &op.action else {
            return None;
        };
        let view = CachedView::new(&self.0.storage, &self.0.hot);
        read(&view, &op.key, action, self.0.clock.now().wall_ms).ok()
    }

    async fn read(&self, ops: Vec<Op>) -> Vec<Reply> {
        let count = ops.len();
        let replies = self.with_storage(move |storage, wall_ms| {
            Ok(ops
                .iter()
                .map(|op| read_committed(storage, op, wall_ms))
                .collect::<Vec<_>>())
        });
        replies.await.unwrap_or_else(|reply| vec![reply; count])
    }

    fn submit(&self, ops: Vec<Op>) -> impl Future<Output = Vec<Reply>> + Send + 'static {
        let shares = Shares::of(ops, &self.0.shards);
        let limit = self.0.timeout;
        async move { shares.gather(limit).await }
    }

    async fn key_count(&self) -> Result<u64, Reply> {
        let inspections = self.inspect(false).await;
        if let Some(reason) = inspections
            .iter()
            .find_map(|inspection| inspection.failed.clone())
        {
            return Err(Refusal::Unavailable(format!(
                "a shard of this node could not count its keys: {reason}"
            ))
            .into());
        }
        Ok(inspections
            .iter()
            .map(|inspection| inspection.total.keys)
            .sum())
    }

    async fn scan(&self, cursor: u64, filter: ScanFilter) -> Result<(u64, Vec<Key>), Reply> {
        self.with_storage(move |storage, wall_ms| walk::page(storage, cursor, &filter, wall_ms))
            .await
    }

    async fn random_key(&self, entropy: u64) -> Result<Option<Key>, Reply> {
        self.with_storage(move |storage, wall_ms| {
            for from in [entropy, 0] {
                if let Some(key) = walk::first_shown(storage, from, wall_ms)? {
                    return Ok(Some(key));
                }
            }
            Ok(None)
        })
        .await
    }

    async fn flush_all(&self) -> Result<(), Reply> {
        let filter = ScanFilter {
            count: FLUSH_PAGE,
            pattern: None,
            kind: None,
        };
        let mut cursor = 0;
        loop {
            let (next, keys) = self.scan(cursor, filter.clone()).await?;
            let deletes = keys
                .into_iter()
                .map(|key| Op {
                    key,
                    action: Action::Write(Write::Delete),
                    level: Level::default(),
                })
                .collect();
            if let Some(refused) = self
                .submit(deletes)
                .await
                .into_iter()
                .find(|reply| matches!(reply, Reply::Error(_)))
            {
                return Err(refused);
            }
            if next == 0 {
                return Ok(());
            }
            cursor = next;
        }
    }

    async fn status_json(&self) -> String {
        let status = self.status(false).await;
        serde_json::to_string(&status).expect("a status has string keys only, which JSON takes")
    }

    fn info(&self) -> Vec<(&'static str, Vec<(String, String)>)> {
        super::info::sections(self.inner())
    }

    fn wall_us(&self) -> u64 {
        self.0.clock.wall_us()
    }

    fn entropy(&self) -> u64 {
        rand::random()
    }
}

impl NodeView for Node {
    async fn status(&self, partitions: bool) -> Status {
        let inspections = self.inspect(partitions).await;
        Census {
            inner: self.inner(),
            inspections: &inspections,
        }
        .status(partitions)
    }

    fn ready(&self) -> Vec<Reason> {
        self.0.health.reasons()
    }

    async fn forget(&self, node: NodeName) -> Result<(), VerbError> {
        let refused = |error: gossip::ForgetError| match error {
            gossip::ForgetError::Unknown(_) => VerbError::Unknown(error.to_string()),
            gossip::ForgetError::Lives(_) => VerbError::Refused(error.to_string()),
        };
        if node == self.0.name {
            return Err(VerbError::Refused(format!(
                "'{node}' is this node itself: have it leave"
            )));
        }
        let membership = self.0.membership();
        let membership = membership
            .ok_or_else(|| VerbError::Refused("this node does not gossip yet".to_owned()))?;
        let id = node.as_str().parse();
        let id = id.map_err(|error: gossip::NameError| VerbError::Unknown(error.to_string()))?;
        let directory = membership.forget(self, &id).map_err(refused)?;
        // The others learn of it meanwhile; the operator hears that it is done once it outlasts them all.
        let storage = Arc::clone(&self.0.storage);
        let stored = spawn_blocking(move || membership::store(&storage, &node, directory)).await;
        let not_stored = |error: String| {
            VerbError::NotStored(format!(
                "the nodes that run now forget it, but this one could not store that: {error}"
            ))
        };
        stored
            .map_err(|error| not_stored(error.to_string()))?
            .map_err(|error| not_stored(error.to_string()))
    }

    fn leave(&self) {
        if let Some(membership) = self.0.membership() {
            membership.leave();
        }
        self.0.leave.notify_one();
    }
}

/// One command's ops, on their way through the shards that own their keys.
struct Shares {
    count: usize,
    shares: Vec<Share>,
}

struct Share {
    /// Where each reply belongs.
    places: Vec<usize>,
    replies: Result<oneshot::Receiver<Vec<Reply>>, Refusal>,
}

impl Shares {
    /// Queues every op, in order for each shard.
    fn of(ops: Vec<Op>, shards: &[ShardQueue]) -> Self {
        let count = ops.len();
        let mut split: Vec<(Vec<usize>, Vec<Op>)> = vec![Default::default(); shards.len()];
        for (place, op) in ops.into_iter().enumerate() {
            // At most 65,535 shards: the configuration's type says so.
            let shard = Partition::of(&op.key).shard(shards.len() as u16);
            let (places, share) = &mut split[usize::from(shard)];
            places.push(place);
            share.push(op);
        }
        let queue = |((places, ops), shard): ((Vec<usize>, Vec<Op>), &ShardQueue)| Share {
            places,
            replies: shard.request(ops),
        };
        let shares = split
            .into_iter()
            .zip(shards)
            .filter(|((places, _), _)| !places.is_empty())
            .map(queue)
            .collect();
        Self { count, shares }
    }

    async fn gather(self, limit: Duration) -> Vec<Reply> {
        let mut replies = vec![Reply::Nil; self.count];
        let deadline = tokio::time::Instant::now() + limit;
        for share in self.shares {
            let answers = match share.replies {
                Ok(receiver) => match tokio::time::timeout_at(deadline, receiver).await {
                    Ok(Ok(answers)) => Ok(answers),
                    Ok(Err(_)) => Err(Refusal::Timeout(
                        "this node stopped before it answered; the write may take effect"
                            .to_owned(),
                    )),
                    Err(_) => Err(Refusal::Timeout(format!(
                        "a shard of this node did not answer within {limit:?}; the write may take effect"
                    ))),
                },
                Err(refusal) => Err(refusal),
            };
            match answers {
                Ok(answers) => share
                    .places
                    .into_iter()
                    .zip(answers)
                    .for_each(|(place, reply)| replies[place] = reply),
                Err(refusal) => share
                    .places
                    .into_iter()
                    .for_each(|place| replies[place] = refusal.clone().into()),
            }
        }
        replies
    }
}

fn read_committed(storage: &RocksStorage, op: &Op, wall_ms: u64) -> Reply {
    match &op.action {
        Action::Read(action) => read(&Committed(storage), &op.key, action, wall_ms)
            .unwrap_or_else(|error| Refusal::Unavailable(error.to_string()).into()),
        Action::Write(_) => {
            Refusal::Unavailable("a write was sent where only reads are answered".to_owned()).into()
        }
    }
}

/// Keys deleted per round of FLUSHALL.
const FLUSH_PAGE: usize = 1024;
