//! Where a node's state lives: ordered families of rows, written in atomic batches.
//!
//! The trait is small on purpose: point reads, one ordered scan, a snapshot of both, one atomic commit, one sync. The
//! conformance suite in [`conformance`] defines what it means; both engines pass it.
//!
//! ```text
//!   commit(Process) ──▶ visible, survives kill -9 ──▶ sync, or a later commit(Power) ──▶ survives power loss
//!   commit(Power)   ──▶ visible, survives power loss, and so does everything before it
//!   commit fails    ──▶ not visible; every later commit and sync fails; reads go on
//!                       └─ reopened: the failed batch is there whole or not at all, commits go on
//! ```
//!
//! What power loss takes is always the newest batches, whole ones: what remains is a prefix of the commits.

pub mod conformance;
pub mod memory;

#[cfg(feature = "server")]
pub mod directory;
#[cfg(feature = "server")]
pub mod disk;
#[cfg(feature = "server")]
pub mod rocks;

pub mod record;

use std::{fmt, ops::ControlFlow, sync::Arc};

use serde::{Deserialize, Serialize};

/// A column family: rows of one record type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Family {
    /// Key → slots, context, counts, expiry.
    Head,
    /// Key and element → dots and payloads.
    Row,
    /// Actor and stamp → deltas of one commit batch.
    Outbox,
    /// Destination, actor, stamp → delta.
    Hint,
    /// Destination and actor → how far it is.
    Cursor,
    /// Identity, ceilings, watermarks, versions.
    Meta,
}

impl Family {
    /// Every family, in a fixed order.
    pub const ALL: [Self; 6] = [
        Self::Head,
        Self::Row,
        Self::Outbox,
        Self::Hint,
        Self::Cursor,
        Self::Meta,
    ];

    /// The family's name on disk. Persisted: keep stable.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Head => "head",
            Self::Row => "row",
            Self::Outbox => "outbox",
            Self::Hint => "hint",
            Self::Cursor => "cursor",
            Self::Meta => "meta",
        }
    }
}

/// One change of a batch. Later changes of a batch win over earlier ones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Writes a row. Keys and values may be empty.
    Put {
        family: Family,
        key: Vec<u8>,
        value: Vec<u8>,
    },
    /// Deletes a row, if it is there.
    Delete { family: Family, key: Vec<u8> },
    /// Deletes every row in `from..to`; nothing where `from` is not below `to`. A queue is best trimmed in
    /// adjoining ranges (each `from` the last `to`): ranges that overlap cost readers time until they are compacted.
    DeleteRange {
        family: Family,
        from: Vec<u8>,
        to: Vec<u8>,
    },
}

/// Changes that become visible and durable together or not at all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Batch {
    /// The changes in order.
    pub changes: Vec<Change>,
}

impl Batch {
    /// Whether there is nothing to commit.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// Adds the write of a row.
    pub fn put(&mut self, family: Family, key: Vec<u8>, value: Vec<u8>) {
        self.changes.push(Change::Put { family, key, value });
    }

    /// Adds the deletion of a row.
    pub fn delete(&mut self, family: Family, key: Vec<u8>) {
        self.changes.push(Change::Delete { family, key });
    }

    /// Adds the deletion of every row in `from..to`.
    pub fn delete_range(&mut self, family: Family, from: Vec<u8>, to: Vec<u8>) {
        self.changes.push(Change::DeleteRange { family, from, to });
    }
}

/// When a commit may be answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Once it survives the death of the process; power loss may take the newest ones.
    Process,
    /// Once it survives power loss.
    Power,
}

/// Why storage did not do as asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StorageError {
    /// The engine failed: a full disk, an I/O error. Whether a commit that failed so happened is unknown until the
    /// engine is reopened; a read that failed so changed nothing. *State unknown, safe to retry after reopening.*
    #[error("storage failed: {detail}")]
    Failed { detail: String },
    /// A row is not what its format says. *State unchanged. Fatal for that row.*
    #[error("{family} row of key {key}: {detail}")]
    Corrupt {
        family: &'static str,
        key: String,
        detail: String,
    },
    /// A row was written by a newer version. *State unchanged.*
    #[error(
        "{family} row of key {key} has format version {found}, this binary knows up to {known}: run a newer binary"
    )]
    Newer {
        family: &'static str,
        key: String,
        found: u8,
        known: u8,
    },
    /// A key holds as much as it may of a type that only newer releases know. *State unchanged.*
    #[error(
        "key {key} holds {bytes} bytes of types that this binary does not know: run a newer binary"
    )]
    UnknownTypes { key: String, bytes: usize },
}

/// Visits one row of a scan; `Break` ends it.
pub type Visit<'a> = &'a mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>;

/// An engine. Reads see every commit that returned before they began, and nothing of one that failed or goes on.
///
/// Every method may be called from any thread, and from inside the visitor of a scan.
pub trait Storage: Send + Sync + 'static {
    /// The row's value, if there is one.
    ///
    /// # Errors
    /// [`StorageError::Failed`] on an I/O error. Does not stop commits.
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Vec<u8>>, StorageError>;

    /// Visits the rows in `from..to` (`to` absent: to the end of the family) in ascending order of their keys, byte by
    /// byte, as of the moment the scan began: what is committed meanwhile, by the visitor too, is not seen.
    ///
    /// # Errors
    /// [`StorageError::Failed`] on an I/O error; the rows visited until then were right. Does not stop commits.
    fn scan(
        &self,
        family: Family,
        from: &[u8],
        to: Option<&[u8]>,
        visit: Visit<'_>,
    ) -> Result<(), StorageError>;

    /// What is committed now, to be read later and from any thread; nothing that is committed meanwhile is seen. Cheap to take, but
    /// what it still sees cannot be reclaimed: whoever takes one bounds their number and lets go of each soon. An engine that is to
    /// be reopened waits for them, and gives up where they stay.
    ///
    /// # Errors
    /// [`StorageError::Failed`] where there is nothing to read from. Does not stop commits.
    fn snapshot(&self) -> Result<Arc<dyn Snapshot>, StorageError>;

    /// Commits a batch atomically and returns once it is as durable as asked. Commits of different threads are
    /// ordered; what survives a crash is a prefix of that order.
    ///
    /// # Errors
    /// [`StorageError::Failed`]: the batch is not visible, and every later commit and sync fails at once, until the
    /// engine is reopened. Then the batch is there whole or not at all. Reads go on.
    fn commit(&self, batch: &Batch, durability: Durability) -> Result<(), StorageError>;

    /// Makes every commit that returned survive power loss.
    ///
    /// # Errors
    /// [`StorageError::Failed`], as for a commit: what is durable is unknown until the engine is reopened.
    fn sync(&self) -> Result<(), StorageError>;
}

/// What an engine held at one moment. It lasts as long as somebody holds it.
pub trait Snapshot: fmt::Debug + Send + Sync + 'static {
    /// The row's value at that moment, if there was one.
    ///
    /// # Errors
    /// [`StorageError::Failed`] on an I/O error.
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Vec<u8>>, StorageError>;

    /// Visits the rows in `from..to` as of that moment, as [`Storage::scan`] does.
    ///
    /// # Errors
    /// [`StorageError::Failed`] on an I/O error; the rows visited until then were right.
    fn scan(
        &self,
        family: Family,
        from: &[u8],
        to: Option<&[u8]>,
        visit: Visit<'_>,
    ) -> Result<(), StorageError>;
}

/// The smallest key above every key that begins with `prefix`, or none if there is no such key.
pub fn prefix_end(prefix: &[u8]) -> Option<Vec<u8>> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            return Some(end);
        }
    }
    None
}
