//! Commands over all keys of a region whose nodes hold different ones, and what this node does of them for others.

use super::{
    forward::{self, Place},
    neighbours::Neighbours,
    node::Node,
    shares::Shares,
    walk,
};
use crate::{
    core::{
        message::{Answer, Errand},
        op::{Action, Key, Op, ScanFilter},
        reply::{Refusal, Reply},
    },
    placement::{PARTITIONS, Partition, Position},
};

impl Node {
    /// Runs an errand of another node, on what is here.
    pub async fn run_here(&self, errand: Errand) -> Answer {
        match errand {
            Errand::Ops(ops) => {
                let neighbours = self.inner().neighbours();
                let is_elsewhere = |op: &Op| !neighbours.holds(Partition::of(&op.key));
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
                    Shares::of(ops, &self.inner().shards)
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
            } => match self.scan_here(cursor, filter, upto).await {
                Ok((next, keys)) => Answer::Page { next, keys },
                Err(Reply::Error(refusal)) => Answer::Refused(refusal),
                Err(_) => Answer::Refused(Refusal::Unavailable("no page came of it".to_owned())),
            },
        }
    }

    pub(super) async fn scan_here(
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
                self.inner().name
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
    pub(super) async fn count_region(&self) -> Result<u64, Refusal> {
        let neighbours = self.inner().neighbours();
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
    pub(super) async fn random_key_of_region(&self, entropy: u64) -> Result<Option<Key>, Reply> {
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

    /// One page of a run of partitions that one node holds, from the first of them that answers: the end of the run, the next
    /// cursor in it, and keys.
    async fn scan_run(
        &self,
        neighbours: &Neighbours,
        first: Partition,
        cursor: u64,
        filter: &ScanFilter,
    ) -> Result<(u16, u64, Vec<Key>), Reply> {
        let nodes = match forward::place(neighbours, first) {
            Place::Here => vec![None],
            Place::There(nodes) => nodes.into_iter().map(Some).collect(),
        };
        let mut refusal = Refusal::Unavailable("nobody holds these keys".to_owned());
        for node in nodes {
            let upto = neighbours.run_end(first, node.as_ref());
            let errand = Errand::Scan {
                cursor,
                filter: filter.clone(),
                upto,
            };
            let answer = match node {
                None => self.run_here(errand).await,
                Some(node) => forward::run(self, vec![node], errand).await,
            };
            match answer {
                Answer::Page { next, keys } => return Ok((upto, next, keys)),
                Answer::Refused(refused) => refusal = refused,
                Answer::Replies(_) | Answer::Counts(_) => {
                    refusal =
                        Refusal::Unavailable("another node answered something else".to_owned());
                }
            }
        }
        Err(refusal.into())
    }

    /// One page of the region's keys. A run of partitions that one node holds is walked there; a page ends where it is full, or
    /// after a few runs.
    pub(super) async fn scan_region(
        &self,
        mut cursor: u64,
        filter: ScanFilter,
    ) -> Result<(u64, Vec<Key>), Reply> {
        let neighbours = self.inner().neighbours();
        let mut found = Vec::new();
        for _ in 0..RUNS_PER_PAGE {
            let first = Position::from_cursor(cursor).partition;
            let (upto, next, keys) = self.scan_run(&neighbours, first, cursor, &filter).await?;
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
}

/// Runs of partitions that one page of SCAN walks over, at most.
const RUNS_PER_PAGE: usize = 64;
