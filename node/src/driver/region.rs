//! Commands over all keys of a region whose nodes hold different ones, and what this node does of them for others.

use std::sync::Arc;

use super::{context::Node, scatter::Scatter, walk};
use crate::{
    core::{
        message::{Answer, Errand},
        node::{Counts, Kind, Place, Topology},
        op::{Action, Key, Op, ScanFilter},
        reply::{Refusal, Reply},
    },
    placement::{Partition, Position},
};

impl Node {
    /// Runs an errand of another node, on what is here.
    pub async fn run_here(&self, errand: Errand) -> Answer {
        match errand {
            Errand::Ops(ops) => {
                if let Some(Reply::Error(refusal)) = self.refused() {
                    return Answer::Refused(refusal);
                }
                let topology = self.inner().topology();
                let is_elsewhere = |op: &Op| !topology.holds(Partition::of(&op.key));
                if ops.iter().any(is_elsewhere) {
                    return Answer::Refused(Refusal::Unavailable(format!(
                        "{} does not hold the key either: do all nodes know the same members?",
                        self.inner().name
                    )));
                }
                let is_read = ops.iter().all(|op| matches!(op.action, Action::Read(_)));
                Answer::Replies(if is_read {
                    self.read_here(ops).await
                } else {
                    Scatter::of(ops, &self.inner().shards)
                        .gather(self.inner().timeout)
                        .await
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
            } => match self.scan_from(cursor, filter, upto).await {
                Ok((next, keys)) => Answer::Page { next, keys },
                Err(Reply::Error(refusal)) => Answer::Refused(refusal),
                Err(_) => Answer::Refused(Refusal::Unavailable("no page came of it".to_owned())),
            },
        }
    }

    async fn scan_from(
        &self,
        cursor: u64,
        filter: ScanFilter,
        upto: u16,
    ) -> Result<(u64, Vec<Key>), Reply> {
        self.scan_here(position(cursor)?, filter, upto).await
    }

    pub(super) async fn scan_here(
        &self,
        from: Position,
        filter: ScanFilter,
        upto: u16,
    ) -> Result<(u64, Vec<Key>), Reply> {
        self.with_storage(move |storage, wall_ms| walk::page(storage, from, &filter, upto, wall_ms))
            .await
    }

    /// Keys in each partition that this node holds. Others are left out, however few it has of them: who asks takes a partition that is
    /// named for counted.
    async fn count_here(&self) -> Result<Vec<(u16, u64)>, Refusal> {
        let inspections = self.inspect(true).await;
        if let Some(reason) = inspections
            .iter()
            .find_map(|inspection| inspection.failed.clone())
        {
            return Err(Refusal::Unavailable(format!(
                "a shard of {} could not count its keys: {reason}",
                self.inner().name
            )));
        }
        let tallies = inspections
            .into_iter()
            .flat_map(|inspection| inspection.partitions);
        let topology = self.inner().topology();
        let held: Vec<bool> = Partition::all()
            .map(|partition| topology.holds(partition))
            .collect();
        Ok(tallies
            .filter(|(partition, _)| held.get(usize::from(*partition)) == Some(&true))
            .map(|(partition, tally)| (partition, tally.keys))
            .collect())
    }

    /// Keys of the region: of each partition as a replica of it counts them.
    pub(super) async fn count_region(&self) -> Result<u64, Refusal> {
        let topology = self.inner().topology();
        let mut counts = Counts::default();
        let is_whole = !topology.is_short();
        if topology.holds_any() && is_whole {
            counts.add(self.run_here(Errand::Count).await);
        }
        let mut counts = self.count_elsewhere(topology.living(), counts).await;
        if topology.holds_any() && !is_whole && !counts.is_whole() {
            // Nobody who lacks nothing answered for these.
            counts.fill_in(self.run_here(Errand::Count).await);
        }
        counts.total()
    }

    /// The first key from a random place on.
    pub(super) async fn random_key_of_region(&self, entropy: u64) -> Result<Option<Key>, Reply> {
        let filter = ScanFilter {
            count: 1,
            pattern: None,
            kind: None,
        };
        for begin in [Position::at_random(entropy), Position::FIRST] {
            let mut from = begin;
            loop {
                let (next, keys) = self.scan_region(from, filter.clone()).await?;
                if let Some(key) = keys.into_iter().next() {
                    return Ok(Some(key));
                }
                if next == 0 {
                    break;
                }
                from = position(next)?;
            }
        }
        Ok(None)
    }

    /// One page of a run of partitions that one node holds, from the first of them that answers: the end of the run, the next
    /// cursor in it, and keys.
    async fn scan_run(
        &self,
        topology: &Arc<Topology>,
        from: Position,
        filter: &ScanFilter,
    ) -> Result<(u16, u64, Vec<Key>), Reply> {
        let first = from.partition;
        let errand = Errand::Scan {
            cursor: from.cursor(),
            filter: filter.clone(),
            upto: topology.run_end(first, None),
        };
        let (by, answer) = match topology.walked_at(first) {
            Place::Here => (None, self.run_here(errand).await),
            Place::There(nodes) => {
                let walks_by = Some(Arc::clone(topology));
                self.run_elsewhere(nodes, Kind::Scan, errand, walks_by)
                    .await
            }
        };
        match answer {
            Answer::Page { next, keys } => Ok((topology.run_end(first, by.as_ref()), next, keys)),
            Answer::Refused(refused) => Err(refused.into()),
            Answer::Replies(_) | Answer::Counts(_) => {
                let what = "another node answered something else".to_owned();
                Err(Refusal::Unavailable(what).into())
            }
        }
    }

    /// One page of the region's keys. A run of partitions that one node holds is walked there; a page ends where it is full, or
    /// after a few runs.
    pub(super) async fn scan_region(
        &self,
        mut from: Position,
        filter: ScanFilter,
    ) -> Result<(u64, Vec<Key>), Reply> {
        let topology = self.inner().topology();
        let mut found = Vec::new();
        for _ in 0..RUNS_PER_PAGE {
            let (upto, next, keys) = self.scan_run(&topology, from, &filter).await?;
            found.extend(keys);
            if next != 0 {
                return Ok((next, found));
            }
            let Some(behind) = Partition::all().find(|partition| partition.index() == upto) else {
                return Ok((0, found));
            };
            from = Position::first_of(behind);
            if found.len() >= filter.count {
                break;
            }
        }
        Ok((from.cursor(), found))
    }
}

/// Where a page with this cursor begins.
pub(super) fn position(cursor: u64) -> Result<Position, Reply> {
    let unknown = || Refusal::Redis("ERR invalid cursor".to_owned());
    Position::from_cursor(cursor).ok_or_else(|| unknown().into())
}

/// Runs of partitions that one page of SCAN walks over, at most.
const RUNS_PER_PAGE: usize = 64;
