//! The node as its doors see it: commands to shards, reads from storage, the status of it all.

use std::{
    future::Future,
    sync::{Arc, OnceLock, PoisonError, RwLock},
    time::Duration,
};

use tokio::{
    sync::{Notify, oneshot},
    task::spawn_blocking,
    time::{Instant, sleep, timeout},
};

use super::{
    cached::CachedView,
    census::Census,
    clock::WallClock,
    forward::{self, Forwards, Place},
    handoff::{self, Debt, Drained},
    health::Health,
    hot_heads::HotHeads,
    membership::{self, Membership},
    neighbours::{Neighbours, Settled},
    outbound::Outbound,
    queue::{Inspection, ShardQueue, Work},
    walk,
};
use crate::{
    core::{
        message::{Answer, Errand},
        op::{Action, Key, Op, Read, ScanFilter, Write},
        read::read,
        reply::{Refusal, Reply},
        view::Committed,
    },
    http::{NodeView, VerbError},
    level::Level,
    names::{ClusterName, NodeName, RegionName},
    placement::{PARTITIONS, Partition, Position},
    resp::backend::Backend,
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
    /// What the configuration says about who holds what.
    pub settled: Settled,
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
    pub neighbours: RwLock<Arc<Neighbours>>,
    /// What is under way to other nodes and from them.
    pub forwards: Forwards,
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

    /// Who holds what around it, as it is believed now.
    pub fn neighbours(&self) -> Arc<Neighbours> {
        // It is replaced as a whole: it is whole whatever panicked elsewhere.
        let current = self.neighbours.read();
        Arc::clone(&current.unwrap_or_else(PoisonError::into_inner))
    }

    /// Who holds what changed, or who is believed to live.
    pub fn set_neighbours(&self, neighbours: Neighbours) {
        let current = self.neighbours.write();
        *current.unwrap_or_else(PoisonError::into_inner) = Arc::new(neighbours);
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

    fn holds(&self, op: &Op) -> bool {
        let neighbours = self.0.neighbours();
        neighbours.holds_all() || neighbours.holds(Partition::of(&op.key))
    }

    /// Reads of keys that are here and of keys that are not.
    async fn spread(&self, ops: Vec<Op>) -> Vec<Reply> {
        let split = Split::of(ops, &self.0.neighbours());
        let mut replies = vec![Reply::Nil; split.count];
        let (own, others) = tokio::join!(self.read_here(split.here), self.forward_all(split.there));
        put(&mut replies, split.places, own);
        for (places, given) in others {
            put(&mut replies, places, given);
        }
        replies
    }

    /// Has other nodes carry out their share, all at once.
    async fn forward_all(&self, there: Vec<Elsewhere>) -> Vec<(Vec<usize>, Vec<Reply>)> {
        let mut under_way = tokio::task::JoinSet::new();
        for share in there {
            let node = self.clone();
            under_way.spawn(async move {
                let count = share.ops.len();
                let answer = forward::run(&node, share.nodes, Errand::Ops(share.ops)).await;
                (share.places, forward::replies(answer, count))
            });
        }
        under_way.join_all().await
    }

    /// Runs an errand of another node, on what is here.
    pub async fn run_here(&self, errand: Errand) -> Answer {
        match errand {
            Errand::Ops(ops) => {
                let neighbours = self.0.neighbours();
                let is_elsewhere = |op: &Op| !neighbours.holds(Partition::of(&op.key));
                if ops.iter().any(is_elsewhere) {
                    return Answer::Refused(Refusal::Unavailable(format!(
                        "{} does not hold the key either: do all nodes know the same members?",
                        self.0.name
                    )));
                }
                let is_read = ops.iter().all(|op| matches!(op.action, Action::Read(_)));
                Answer::Replies(if is_read {
                    self.read_here(ops).await
                } else {
                    Shares::of(ops, &self.0.shards).gather(self.0.timeout).await
                })
            }
            Errand::Count => match self.count_here().await {
                Ok(counts) => Answer::Counts(counts),
                Err(refusal) => Answer::Refused(refusal),
            },
            Errand::Scan {
                cursor,
                filter,
                upto,
            } => match self.scan_here(cursor, filter, upto).await {
                Ok((next, keys)) => Answer::Page { next, keys },
                Err(Reply::Error(refusal)) => Answer::Refused(refusal),
                Err(_) => Answer::Refused(Refusal::Unavailable("no page came of it".to_owned())),
            },
        }
    }

    async fn read_here(&self, ops: Vec<Op>) -> Vec<Reply> {
        if ops.iter().any(|op| self.0.settled.asks_others(op.level)) {
            return self.read_asking(ops).await;
        }
        self.read_committed(ops).await
    }

    async fn scan_here(
        &self,
        cursor: u64,
        filter: ScanFilter,
        upto: u16,
    ) -> Result<(u64, Vec<Key>), Reply> {
        self.with_storage(move |storage, wall_ms| {
            walk::page(storage, cursor, &filter, upto, wall_ms)
        })
        .await
    }

    /// Keys in each partition that this node holds.
    async fn count_here(&self) -> Result<Vec<(u16, u64)>, Refusal> {
        let inspections = self.inspect(true).await;
        if let Some(reason) = inspections
            .iter()
            .find_map(|inspection| inspection.failed.clone())
        {
            return Err(Refusal::Unavailable(format!(
                "a shard of {} could not count its keys: {reason}",
                self.0.name
            )));
        }
        let tallies = inspections
            .into_iter()
            .flat_map(|inspection| inspection.partitions);
        Ok(tallies
            .map(|(partition, tally)| (partition, tally.keys))
            .collect())
    }

    /// Keys of the region: of each partition as a replica of it counts them.
    async fn count_region(&self) -> Result<u64, Refusal> {
        let neighbours = self.0.neighbours();
        let mut answers = Vec::new();
        for node in neighbours.living() {
            answers.push(forward::run(self, vec![node], Errand::Count).await);
        }
        if neighbours.holds_any() {
            answers.push(self.run_here(Errand::Count).await);
        }
        let mut counts: Vec<Option<u64>> = vec![None; usize::from(PARTITIONS)];
        for answer in answers {
            let Answer::Counts(known) = answer else {
                continue; // another replica may have answered for its partitions
            };
            for (partition, keys) in known {
                if let Some(count) = counts.get_mut(usize::from(partition)) {
                    *count = (*count).max(Some(keys));
                }
            }
        }
        let unknown = counts.iter().filter(|count| count.is_none()).count();
        if unknown > 0 {
            return Err(Refusal::Unavailable(format!(
                "nobody answered for {unknown} of {PARTITIONS} partitions"
            )));
        }
        Ok(counts.into_iter().flatten().sum())
    }

    /// The first key from a random place on.
    async fn random_key_of_region(&self, entropy: u64) -> Result<Option<Key>, Reply> {
        let filter = ScanFilter {
            count: 1,
            pattern: None,
            kind: None,
        };
        for from in [entropy, 0] {
            let mut cursor = from;
            loop {
                let (next, keys) = self.scan_region(cursor, filter.clone()).await?;
                if let Some(key) = keys.into_iter().next() {
                    return Ok(Some(key));
                }
                if next == 0 {
                    break;
                }
                cursor = next;
            }
        }
        Ok(None)
    }

    /// One page of the region's keys. A run of partitions that one node holds is walked there; a page ends where it is full, or
    /// after a few runs.
    async fn scan_region(
        &self,
        mut cursor: u64,
        filter: ScanFilter,
    ) -> Result<(u64, Vec<Key>), Reply> {
        let neighbours = self.0.neighbours();
        let mut found = Vec::new();
        for _ in 0..RUNS_PER_PAGE {
            let first = Position::from_cursor(cursor).partition;
            let nodes = match forward::place(&neighbours, first) {
                Place::Here => Vec::new(),
                Place::There(nodes) => nodes,
            };
            let upto = neighbours.run_end(first, nodes.first());
            let errand = Errand::Scan {
                cursor,
                filter: filter.clone(),
                upto,
            };
            let answer = if nodes.is_empty() {
                self.run_here(errand).await
            } else {
                let one = nodes.into_iter().next();
                forward::run(self, one.into_iter().collect(), errand).await
            };
            let (next, keys) = match answer {
                Answer::Page { next, keys } => (next, keys),
                Answer::Refused(refusal) => return Err(refusal.into()),
                Answer::Replies(_) | Answer::Counts(_) => {
                    let odd = "another node answered something else".to_owned();
                    return Err(Refusal::Unavailable(odd).into());
                }
            };
            found.extend(keys);
            if next != 0 {
                return Ok((next, found));
            }
            let Some(behind) = Partition::all().find(|partition| partition.index() == upto) else {
                return Ok((0, found));
            };
            cursor = Position::first_of(behind).cursor();
            if found.len() >= filter.count {
                break;
            }
        }
        Ok((cursor, found))
    }

    async fn read_committed(&self, ops: Vec<Op>) -> Vec<Reply> {
        let count = ops.len();
        let replies = self.with_storage(move |storage, wall_ms| {
            Ok(ops
                .iter()
                .map(|op| read_committed(storage, op, wall_ms))
                .collect::<Vec<_>>())
        });
        replies.await.unwrap_or_else(|reply| vec![reply; count])
    }

    /// Reads for which other replicas are asked, by the shards. Of what visits many rows a shard only makes sure that it is
    /// here: it is then read beside it, so that its next commit does not wait.
    async fn read_asking(&self, ops: Vec<Op>) -> Vec<Reply> {
        let asked = ops.iter().map(|op| {
            let action = if visits_many(op) {
                Action::Read(Read::Exists)
            } else {
                op.action.clone()
            };
            Op {
                action,
                ..op.clone()
            }
        });
        let mut replies = self.submit(asked.collect()).await;
        let (places, many): (Vec<usize>, Vec<Op>) = ops
            .into_iter()
            .enumerate()
            .filter(|(place, op)| visits_many(op) && !matches!(replies[*place], Reply::Error(_)))
            .unzip();
        if !many.is_empty() {
            for (place, reply) in places.into_iter().zip(self.read_committed(many).await) {
                replies[place] = reply;
            }
        }
        replies
    }

    /// The cluster as this node sees it, when its shards say this.
    pub fn status_of(&self, inspections: &[Inspection], partitions: bool) -> Status {
        let inner = self.inner();
        Census { inner, inspections }.status(partitions)
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
        if self.0.settled.asks_others(op.level) || !self.holds(op) {
            return None;
        }
        let view = CachedView::new(&self.0.storage, &self.0.hot);
        read(&view, &op.key, action, self.0.clock.now().wall_ms).ok()
    }

    async fn read(&self, ops: Vec<Op>) -> Vec<Reply> {
        if !self.0.neighbours().holds_all() {
            return self.spread(ops).await;
        }
        self.read_here(ops).await
    }

    fn submit(&self, ops: Vec<Op>) -> impl Future<Output = Vec<Reply>> + Send + 'static {
        let node = self.clone();
        let split = if self.0.neighbours().holds_all() {
            Split::here(ops)
        } else {
            Split::of(ops, &self.0.neighbours())
        };
        // Queued at once, before anything is waited for: what a connection asks next comes behind it.
        let shares = Shares::of(split.here, &self.0.shards);
        let limit = self.0.timeout;
        let (places, there, count) = (split.places, split.there, split.count);
        async move {
            if there.is_empty() {
                return shares.gather(limit).await;
            }
            let mut replies = vec![Reply::Nil; count];
            let (own, others) = tokio::join!(shares.gather(limit), node.forward_all(there));
            put(&mut replies, places, own);
            for (places, given) in others {
                put(&mut replies, places, given);
            }
            replies
        }
    }

    async fn key_count(&self) -> Result<u64, Reply> {
        if !self.0.neighbours().holds_all() {
            return self.count_region().await.map_err(Reply::from);
        }
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
        if self.0.neighbours().holds_all() {
            self.scan_here(cursor, filter, PARTITIONS).await
        } else {
            self.scan_region(cursor, filter).await
        }
    }

    async fn random_key(&self, entropy: u64) -> Result<Option<Key>, Reply> {
        if !self.0.neighbours().holds_all() {
            return self.random_key_of_region(entropy).await;
        }
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
        self.status_of(&inspections, partitions)
    }

    async fn owed(&self, within: Duration) -> u64 {
        let until = Instant::now() + within;
        loop {
            let inspections = self.inspect(false).await;
            let unknown = inspections.iter().any(|shard| shard.failed.is_some());
            let owed = Debt::of(&inspections).owed + u64::from(unknown);
            if owed == 0 || Instant::now() >= until {
                return owed;
            }
            sleep(HANDOFF_LOOK).await; // of every shard: a look at their figures costs less than telling of each row
        }
    }

    async fn drain_check(&self, what: String) -> Result<Vec<String>, VerbError> {
        let inspections = self.inspect(false).await;
        let status = self.status_of(&inspections, false);
        let is_node = status.nodes.iter().any(|node| node.name.as_str() == what);
        let is_region = status.nodes.iter().any(|node| node.region.as_str() == what);
        let unknown = || VerbError::Unknown(format!("no node and no region '{what}'"));
        let drained = if is_node {
            Drained::Node(what.parse().map_err(|_| unknown())?)
        } else if is_region {
            Drained::Region(what.parse().map_err(|_| unknown())?)
        } else {
            return Err(unknown());
        };
        let own = Debt::of(&inspections);
        Ok(handoff::objections(
            self.inner(),
            own,
            &drained,
            &status.nodes,
            &status.regions,
        ))
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

/// Requests by where they are carried out.
struct Split {
    count: usize,
    here: Vec<Op>,
    /// Where the replies to those belong.
    places: Vec<usize>,
    there: Vec<Elsewhere>,
}

/// Requests that another node carries out.
struct Elsewhere {
    nodes: Vec<NodeName>,
    ops: Vec<Op>,
    places: Vec<usize>,
}

impl Split {
    fn here(ops: Vec<Op>) -> Self {
        Self {
            count: ops.len(),
            places: (0..ops.len()).collect(),
            here: ops,
            there: Vec::new(),
        }
    }

    /// What goes to one node goes together and in order; what may be large goes alone, because a message has a bound.
    fn of(ops: Vec<Op>, neighbours: &Neighbours) -> Self {
        let mut split = Self::here(Vec::new());
        split.count = ops.len();
        for (place, op) in ops.into_iter().enumerate() {
            match forward::place(neighbours, Partition::of(&op.key)) {
                Place::Here => {
                    split.here.push(op);
                    split.places.push(place);
                }
                Place::There(nodes) => split.there_too(nodes, op, place),
            }
        }
        split
    }

    fn there_too(&mut self, nodes: Vec<NodeName>, op: Op, place: usize) {
        let is_alone = forward::is_large(&op);
        let known = self.there.iter_mut().find(|share| {
            let has_room =
                share.ops.len() < OPS_PER_FORWARD && !share.ops.iter().any(forward::is_large);
            !is_alone && has_room && share.nodes == nodes
        });
        match known {
            Some(share) => {
                share.ops.push(op);
                share.places.push(place);
            }
            None => self.there.push(Elsewhere {
                nodes,
                ops: vec![op],
                places: vec![place],
            }),
        }
    }
}

fn put(replies: &mut [Reply], places: Vec<usize>, given: Vec<Reply>) {
    for (place, reply) in places.into_iter().zip(given) {
        replies[place] = reply;
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

/// Whether a read may visit very many rows.
fn visits_many(op: &Op) -> bool {
    matches!(
        op.action,
        Action::Read(
            Read::Members
                | Read::ScanMembers { .. }
                | Read::RandomMembers { .. }
                | Read::MemoryUsage
        )
    )
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

/// Between two looks at what is owed.
const HANDOFF_LOOK: Duration = Duration::from_millis(20);
/// Runs of partitions that one page of SCAN walks over, at most.
const RUNS_PER_PAGE: usize = 64;
/// Requests in one message to another node.
const OPS_PER_FORWARD: usize = 256;
/// Keys deleted per round of FLUSHALL.
const FLUSH_PAGE: usize = 1024;
