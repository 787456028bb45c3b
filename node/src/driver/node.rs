//! The node as its doors see it: commands to shards, reads from storage, the status of it all.

use std::{
    future::Future,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tokio::{
    sync::oneshot,
    task::spawn_blocking,
    time::{Instant, sleep, timeout},
};

use super::{
    cached::CachedView,
    context::Node,
    drain::{Drained, objections},
    forward, gauges, gossiping,
    handoff::Debts,
    queue::{Inspection, Work},
    region::position,
    scatter::{Scatter, put},
    status_report::StatusReport,
    walk,
};
use crate::{
    core::{
        message::Errand,
        node::{Elsewhere, Kind, Split, Topology},
        op::{Action, Key, Op, ScanFilter, Write},
        read::read,
        reply::{Refusal, Reply},
        view::Committed,
    },
    http::{NodeView, Owed, VerbError},
    level::Level,
    names::NodeName,
    placement::{PARTITIONS, Partition, Position},
    resp::backend::Backend,
    status::{ConflictStatus, Reason, Status},
    storage::{StorageError, rocks::RocksStorage},
};

impl Node {
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
                is_silent: true,
                ..Inspection::default()
            }));
        }
        inspections
    }

    /// Why nothing is carried out now, if so.
    pub(super) fn refused(&self) -> Option<Reply> {
        refusal_of(&self.0.topology())
    }

    /// Whether a request of this level waits for other nodes: so does any where this one lacks writes, if there are other replicas.
    fn asks_others(&self, level: Level) -> bool {
        let configured = &self.0.configured;
        configured.asks_others(level)
            || (self.0.topology().is_short() && configured.has_other_replicas())
    }

    /// Whether a key is here, as far as anybody can say.
    fn holds(&self, op: &Op) -> bool {
        let topology = self.0.topology();
        let holds = topology.holds_all() || topology.holds(Partition::of(&op.key));
        holds && topology.crowded().is_none()
    }

    /// Reads of keys that are here and of keys that are not.
    async fn spread(&self, ops: Vec<Op>) -> Vec<Reply> {
        let split = Split::of(ops, &self.0.topology());
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
                let (count, kind) = (share.ops.len(), Kind::of(&share.ops));
                let errand = Errand::Ops(share.ops);
                let (_, answer) = node.run_elsewhere(share.nodes, kind, errand, None).await;
                (share.places, forward::replies(answer, count))
            });
        }
        under_way.join_all().await
    }

    pub(super) async fn read_here(&self, ops: Vec<Op>) -> Vec<Reply> {
        if ops.iter().any(|op| self.asks_others(op.level)) {
            // The shards ask them. What visits many rows they only fix: it is read beside them, by whoever gathers the answers.
            return self.submit(ops).await;
        }
        self.read_committed(ops).await
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

    /// The cluster as this node sees it, when its shards say this.
    pub fn status_of(&self, inspections: &[Inspection], partitions: bool) -> Status {
        let inner = self.inner();
        StatusReport { inner, inspections }.status(partitions)
    }

    /// What the shards owe, by this count, once it is nothing or the time is up.
    async fn debts_after(&self, within: Duration, count: impl Fn(&[Inspection]) -> Debts) -> Debts {
        let until = Instant::now() + within;
        loop {
            let debts = count(&self.inspect(false).await);
            if debts.are_none() || Instant::now() >= until {
                return debts;
            }
            sleep(HANDOFF_LOOK).await; // of every shard: a look at their figures costs less than telling of each row
        }
    }

    /// Runs something that reads storage off the asynchronous workers.
    pub(super) async fn with_storage<T: Send + 'static>(
        &self,
        work: impl FnOnce(&RocksStorage, u64) -> Result<T, StorageError> + Send + 'static,
    ) -> Result<T, Reply> {
        let stopping = || Refusal::Unavailable("this node is stopping".to_owned());
        let place = Arc::clone(&self.0.disk_reads).acquire_owned().await;
        let place = place.map_err(|_| stopping())?;
        let storage = Arc::clone(&self.0.storage);
        let wall_ms = self.0.clock.now().wall_ms;
        let work = move || {
            // Until it is done, also where nobody waits for it any more.
            let _place = place;
            work(&storage, wall_ms)
        };
        match spawn_blocking(work).await {
            Ok(outcome) => outcome.map_err(|error| Refusal::Unavailable(error.to_string()).into()),
            Err(_) => Err(stopping().into()),
        }
    }
}

impl Backend for Node {
    fn try_read(&self, op: &Op) -> Option<Reply> {
        let Action::Read(action) = &op.action else {
            return None;
        };
        if self.asks_others(op.level) || !self.holds(op) {
            return None;
        }
        let view = CachedView::new(&self.0.storage, &self.0.hot);
        read(&view, &op.key, action, self.0.clock.now().wall_ms).ok()
    }

    async fn read(&self, ops: Vec<Op>) -> Vec<Reply> {
        if let Some(refused) = self.refused() {
            return vec![refused; ops.len()];
        }
        if !self.0.topology().holds_all() {
            return self.spread(ops).await;
        }
        self.read_here(ops).await
    }

    fn submit(&self, ops: Vec<Op>) -> impl Future<Output = Vec<Reply>> + Send + 'static {
        let node = self.clone();
        let topology = self.0.topology();
        let (ops, refused) = match refusal_of(&topology) {
            Some(refused) => (Vec::new(), vec![refused; ops.len()]),
            None => (ops, Vec::new()),
        };
        let split = if topology.holds_all() {
            Split::here(ops)
        } else {
            Split::of(ops, &topology)
        };
        // Queued at once, before anything is waited for: what a connection asks next comes behind it.
        let shares = Scatter::of(split.here, &self.0.shards);
        // A shard that waits for other replicas says itself which of them did not answer in time: it is given a moment for that.
        let limit = self.0.timeout + SHARD_GRACE;
        let (places, there, count) = (split.places, split.there, split.count);
        async move {
            if !refused.is_empty() {
                return refused;
            }
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
        if !self.0.topology().holds_all() {
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
        let from = position(cursor)?;
        if self.0.topology().holds_all() {
            self.scan_here(from, filter, PARTITIONS).await
        } else {
            self.scan_region(from, filter).await
        }
    }

    async fn random_key(&self, entropy: u64) -> Result<Option<Key>, Reply> {
        if !self.0.topology().holds_all() {
            return self.random_key_of_region(entropy).await;
        }
        self.with_storage(move |storage, wall_ms| {
            for from in [Position::at_random(entropy), Position::FIRST] {
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

    fn conflicts(&self, count: usize) -> Vec<ConflictStatus> {
        self.0.outbound.conflicts.last(count)
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

    async fn owed(&self, within: Duration) -> Owed {
        let debts = self.debts_after(within, Debts::of).await;
        Owed {
            batches: debts.total(),
            lacking: debts.sentences(&self.0.name),
            lost: debts.losses(&self.0.name),
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
        let own = Debts::standing(&inspections, self.0.clock.now().wall_ms);
        Ok(objections(
            self.inner(),
            &own,
            &drained,
            &status.nodes,
            &status.regions,
        ))
    }

    fn conflicts(&self, count: usize) -> Vec<ConflictStatus> {
        self.0.outbound.conflicts.last(count)
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
        let stored = spawn_blocking(move || gossiping::store(&storage, &node, directory)).await;
        let not_stored = |error: String| {
            VerbError::NotStored(format!(
                "the nodes that run now forget it, but this one could not store that: {error}"
            ))
        };
        stored
            .map_err(|error| not_stored(error.to_string()))?
            .map_err(|error| not_stored(error.to_string()))
    }

    async fn leave(&self, is_forced: bool, within: Duration) -> Result<(), VerbError> {
        let standing =
            |inspections: &[Inspection]| Debts::standing(inspections, self.0.clock.now().wall_ms);
        let debts = self.debts_after(within, standing).await;
        if !debts.are_none() {
            let said = debts.sentences(&self.0.name).join("; ");
            if !is_forced {
                return Err(VerbError::Refused(said));
            }
            tracing::error!("an operator has this node leave with what it owes: {said}");
            self.0.is_final.store(true, Ordering::Relaxed);
            gauges::publish_debts(self, &debts);
        }
        if let Some(membership) = self.0.membership() {
            membership.leave();
        }
        self.0.leave.notify_one();
        Ok(())
    }
}

/// Why nothing is carried out in such a topology, if so.
fn refusal_of(topology: &Topology) -> Option<Reply> {
    let crowded = topology.crowded().cloned();
    crowded.map(|reason| Refusal::Unavailable(reason).into())
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

/// How much longer than a command may wait for other replicas it waits for its shard.
const SHARD_GRACE: Duration = Duration::from_millis(500);
/// Between two looks at what is owed.
const HANDOFF_LOOK: Duration = Duration::from_millis(20);
/// Keys deleted per round of FLUSHALL.
const FLUSH_PAGE: usize = 1024;
