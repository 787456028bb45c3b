//! An engine in memory that keeps what is synced apart from what is not, and fails on demand.
//!
//! The simulator runs on it, so its failures are RocksDB's: a failed commit is invisible until the engine is
//! reopened, and then there or not; a crash loses the newest unsynced batches, whole ones; a full disk refuses commits.
//!
//! ```text
//!   commits   ── synced ──┬── unsynced: one undo each ──┬── uncertain: failed, yet written
//!                         └ crash(torn) keeps `torn` ───┘   of these, reopen() all of them
//! ```
//!
//! Invariant: undoing the unsynced commits, newest first, gives exactly what was synced last.

use std::{
    collections::{BTreeMap, VecDeque},
    ops::{Bound, ControlFlow},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::storage::{Batch, Change, Durability, Family, Snapshot, Storage, StorageError, Visit};

/// The engine. One instance is one disk: it outlives the simulated processes that use it.
#[derive(Debug, Default)]
pub struct MemoryStorage {
    disk: Mutex<Disk>,
}

/// What becomes of one commit, for [`MemoryStorage::plan_commits`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CommitOutcome {
    /// It succeeds, unless the disk is full.
    Succeeds,
    /// It fails and never happened (no space left).
    FailsUnwritten,
    /// It fails and yet reached the log: it is there after reopening.
    FailsWritten,
}

/// What an engine holds at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Keys and values, in bytes.
    pub bytes: u64,
    /// Rows of all families.
    pub rows: u64,
    /// Commits that power loss would take.
    pub unsynced: usize,
    /// Whether commits are refused until the engine is reopened.
    pub failed: bool,
}

impl MemoryStorage {
    /// An empty disk.
    pub fn new() -> Self {
        Self::default()
    }

    /// Power is lost and comes back: unsynced commits are gone, except the `torn` oldest of them. A commit that
    /// failed and yet was written counts as the newest. Planned faults stay; commits go on, if the disk has space.
    pub fn crash(&self, torn: usize) {
        let mut disk = self.disk();
        disk.write_uncertain();
        while disk.undos.len() > torn {
            disk.undo_newest();
        }
        disk.sync();
        disk.failed = false;
    }

    /// The process dies or closes the engine, and it is opened again: no commit that returned is lost. A commit that
    /// failed and yet was written appears.
    ///
    /// # Errors
    /// [`StorageError::Failed`] while the next commit is planned to fail or the disk is full: still failed. The planned
    /// failure is used up by the attempt.
    pub fn reopen(&self) -> Result<(), StorageError> {
        let mut disk = self.disk();
        disk.write_uncertain();
        disk.failed = true;
        match disk.commit_outcome() {
            CommitOutcome::Succeeds if !disk.is_over_capacity() => {
                disk.failed = false;
                Ok(())
            }
            CommitOutcome::Succeeds
            | CommitOutcome::FailsUnwritten
            | CommitOutcome::FailsWritten => Err(no_space()),
        }
    }

    /// Decides what becomes of the next commits, one outcome each, replacing what was planned. Those beyond the plan succeed.
    pub fn plan_commits(&self, outcomes: impl IntoIterator<Item = CommitOutcome>) {
        self.disk().plan = outcomes.into_iter().collect();
    }

    /// While on, every read fails with an I/O error.
    pub fn fail_reads(&self, on: bool) {
        self.disk().reads_fail = on;
    }

    /// While on, every sync, and every commit that asks for [`Durability::Power`], fails after it was written.
    pub fn fail_syncs(&self, on: bool) {
        self.disk().syncs_fail = on;
    }

    /// Bounds the bytes of keys and values; a commit that would leave more fails as on a full disk. A bound below what
    /// is held makes every commit fail that does not get below it.
    pub fn limit_bytes(&self, capacity: Option<u64>) {
        self.disk().capacity = capacity;
    }

    /// What it holds now.
    pub fn usage(&self) -> Usage {
        let disk = self.disk();
        Usage {
            bytes: disk.bytes,
            rows: disk.families.iter().map(|rows| rows.len() as u64).sum(),
            unsynced: disk.undos.len(),
            failed: disk.failed,
        }
    }

    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Storage for MemoryStorage {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Vec<u8>>, StorageError> {
        Ok(self.disk().readable(family)?.get(key).cloned())
    }

    fn scan(
        &self,
        family: Family,
        from: &[u8],
        to: Option<&[u8]>,
        visit: Visit<'_>,
    ) -> Result<(), StorageError> {
        // A share of the rows, not the lock, is held while the visitor runs: it may read and write here.
        let rows = Arc::clone(self.disk().readable(family)?);
        visit_range(&rows, from, to, visit);
        Ok(())
    }

    fn snapshot(&self) -> Result<Arc<dyn Snapshot>, StorageError> {
        let disk = self.disk();
        disk.refuse_if_unreadable()?;
        Ok(Arc::new(Moment {
            families: disk.families.clone(),
        }))
    }

    fn commit(&self, batch: &Batch, durability: Durability) -> Result<(), StorageError> {
        let mut disk = self.disk();
        disk.refuse_if_failed()?;
        match disk.commit_outcome() {
            CommitOutcome::Succeeds => disk.write(batch)?,
            CommitOutcome::FailsUnwritten => return Err(disk.fail()),
            CommitOutcome::FailsWritten => return Err(disk.fail_written(batch)),
        }
        match durability {
            Durability::Process => Ok(()),
            Durability::Power if disk.syncs_fail => {
                disk.undo_newest();
                Err(disk.fail_written(batch))
            }
            Durability::Power => {
                disk.sync();
                Ok(())
            }
        }
    }

    fn sync(&self) -> Result<(), StorageError> {
        let mut disk = self.disk();
        disk.refuse_if_failed()?;
        if disk.syncs_fail {
            return Err(disk.fail());
        }
        disk.sync();
        Ok(())
    }
}

/// A share of all rows as they were.
#[derive(Debug)]
struct Moment {
    families: [Arc<Rows>; Family::ALL.len()],
}

impl Snapshot for Moment {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Vec<u8>>, StorageError> {
        Ok(self.families[family as usize].get(key).cloned())
    }

    fn scan(
        &self,
        family: Family,
        from: &[u8],
        to: Option<&[u8]>,
        visit: Visit<'_>,
    ) -> Result<(), StorageError> {
        visit_range(&self.families[family as usize], from, to, visit);
        Ok(())
    }
}

fn visit_range(rows: &Rows, from: &[u8], to: Option<&[u8]>, visit: Visit<'_>) {
    if to.is_some_and(|to| to <= from) {
        return;
    }
    let end = to.map_or(Bound::Unbounded, Bound::Excluded);
    for (key, value) in rows.range::<[u8], _>((Bound::Included(from), end)) {
        if let ControlFlow::Break(()) = visit(key, value) {
            break;
        }
    }
}

type Rows = BTreeMap<Vec<u8>, Vec<u8>>;

#[derive(Debug, Default)]
struct Disk {
    /// What reads see, by position in [`Family::ALL`]. Shared with running scans and snapshots: copied when written under one.
    families: [Arc<Rows>; Family::ALL.len()],
    bytes: u64,
    /// How to take each unsynced commit back, oldest first.
    undos: VecDeque<Undo>,
    /// Failed, and yet in the log.
    uncertain: Option<Batch>,
    failed: bool,
    plan: VecDeque<CommitOutcome>,
    reads_fail: bool,
    syncs_fail: bool,
    capacity: Option<u64>,
}

/// What the rows that one commit changed were before, in the order of the changes.
type Undo = Vec<(Family, Vec<u8>, Option<Vec<u8>>)>;

impl Disk {
    fn readable(&self, family: Family) -> Result<&Arc<Rows>, StorageError> {
        self.refuse_if_unreadable()?;
        Ok(&self.families[family as usize])
    }

    fn refuse_if_unreadable(&self) -> Result<(), StorageError> {
        if self.reads_fail {
            return Err(failed("input/output error"));
        }
        Ok(())
    }

    fn refuse_if_failed(&self) -> Result<(), StorageError> {
        if self.failed {
            return Err(failed("an earlier commit failed; reopen the storage"));
        }
        Ok(())
    }

    fn fail(&mut self) -> StorageError {
        self.failed = true;
        no_space()
    }

    fn fail_written(&mut self, batch: &Batch) -> StorageError {
        assert!(
            self.uncertain.is_none(),
            "a failed engine takes no second commit"
        );
        self.uncertain = Some(batch.clone());
        self.fail()
    }

    fn commit_outcome(&mut self) -> CommitOutcome {
        self.plan.pop_front().unwrap_or(CommitOutcome::Succeeds)
    }

    fn is_over_capacity(&self) -> bool {
        self.capacity.is_some_and(|capacity| self.bytes > capacity)
    }

    /// Applies a batch as the newest unsynced commit, or nothing of it where it does not fit.
    fn write(&mut self, batch: &Batch) -> Result<(), StorageError> {
        self.apply(batch);
        if self.is_over_capacity() {
            self.undo_newest();
            return Err(self.fail());
        }
        Ok(())
    }

    fn write_uncertain(&mut self) {
        if let Some(batch) = self.uncertain.take() {
            self.apply(&batch);
        }
    }

    fn apply(&mut self, batch: &Batch) {
        let mut undo = Undo::new();
        for change in &batch.changes {
            match change {
                Change::Put { family, key, value } => {
                    self.replace(*family, key.clone(), Some(value.clone()), &mut undo);
                }
                Change::Delete { family, key } => {
                    self.replace(*family, key.clone(), None, &mut undo);
                }
                Change::DeleteRange { family, from, to } => {
                    for key in self.keys(*family, from, to) {
                        self.replace(*family, key, None, &mut undo);
                    }
                }
            }
        }
        self.undos.push_back(undo);
    }

    fn keys(&self, family: Family, from: &[u8], to: &[u8]) -> Vec<Vec<u8>> {
        if to <= from {
            return Vec::new();
        }
        let range = (Bound::Included(from), Bound::Excluded(to));
        let rows = self.families[family as usize].range::<[u8], _>(range);
        rows.map(|(key, _)| key.clone()).collect()
    }

    fn replace(&mut self, family: Family, key: Vec<u8>, value: Option<Vec<u8>>, undo: &mut Undo) {
        let previous = self.set(family, &key, value);
        undo.push((family, key, previous));
    }

    fn set(&mut self, family: Family, key: &[u8], value: Option<Vec<u8>>) -> Option<Vec<u8>> {
        let rows = Arc::make_mut(&mut self.families[family as usize]);
        let size = |value: &Option<Vec<u8>>| {
            let held = value.as_ref().map(|value| key.len() + value.len());
            held.unwrap_or(0) as u64
        };
        let written = size(&value);
        let previous = match value {
            Some(value) => rows.insert(key.to_vec(), value),
            None => rows.remove(key),
        };
        self.bytes = self.bytes + written - size(&previous);
        previous
    }

    fn undo_newest(&mut self) {
        for (family, key, previous) in self.undos.pop_back().into_iter().flatten().rev() {
            self.set(family, &key, previous);
        }
    }

    fn sync(&mut self) {
        self.undos.clear();
    }
}

fn failed(detail: &str) -> StorageError {
    StorageError::Failed {
        detail: detail.to_owned(),
    }
}

fn no_space() -> StorageError {
    failed("no space left on device")
}

// `family as usize` is a family's position in `Family::ALL`.
const _: () = {
    let mut position = 0;
    while position < Family::ALL.len() {
        assert!(Family::ALL[position] as usize == position);
        position += 1;
    }
};

#[cfg(test)]
#[path = "memory_tests.rs"]
mod tests;
