//! The engine on disk: RocksDB, one column family per [`Family`].
//!
//! A commit is one `WriteBatch`; its log record is whole or damaged, so it is atomic across crashes, and after a
//! crash the log is replayed up to the first damaged record (`rocks/options.rs` says why that is the right mode).
//!
//! **A write that fails marks the engine failed.** Every further commit and sync is refused at once, reads go on.
//! [`RocksStorage::reopen`] closes the database, opens it again, and lifts the mark only when a write has worked.
//! RocksDB's own recovery from a full disk is not relied upon: it happens in the background, for some errors, and says
//! nothing about the commit that failed.

mod handle;
mod open;
mod options;
mod snapshot;

pub use options::RocksOptions;

use std::{
    fs,
    ops::ControlFlow,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, RwLock},
};

use crossbeam_channel::{Receiver, Sender, bounded};
use rocksdb::{
    Cache, ColumnFamily, DB, DBRawIterator, ErrorKind, ReadOptions, ReadTier, WriteBatch,
    WriteOptions, properties,
};

use self::handle::Handle;
use crate::storage::{Batch, Change, Durability, Family, Snapshot, Storage, StorageError, Visit};

/// The engine.
pub struct RocksStorage {
    path: PathBuf,
    options: RocksOptions,
    /// Outlives the databases that are opened one after the other.
    cache: Cache,
    handle: Handle,
    /// Why commits are refused, if they are.
    failure: RwLock<Option<Arc<str>>>,
    reopening: Mutex<()>,
    /// Holds a word while something is written that nobody was told to sync.
    unsynced: (Sender<()>, Receiver<()>),
}

/// What a read that may not touch the disk found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cached {
    /// The row's value.
    Found(Vec<u8>),
    /// There is no such row.
    Absent,
    /// Only the disk knows.
    NotCached,
}

/// What the engine holds and uses, in bytes where not said otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RocksStats {
    /// All its files.
    pub disk: u64,
    /// Of these, sorted tables.
    pub tables: u64,
    /// Written rows in memory, not yet in tables.
    pub memtables: u64,
    /// Blocks, indexes and filters in memory.
    pub cache: u64,
    /// Of these, those that cannot be dropped now.
    pub cache_pinned: u64,
    /// Estimated bytes that compaction has yet to rewrite.
    pub compaction_pending: u64,
    /// How many rows there are, all families together; an estimate.
    pub rows_estimated: u64,
}

impl RocksStorage {
    /// Opens the database in the folder `path`, creating it where there is none.
    ///
    /// # Errors
    /// [`StorageError::Failed`] where it is open elsewhere, damaged, or the disk does not take it.
    pub fn open(path: &Path, options: RocksOptions) -> Result<Self, StorageError> {
        let cache = Cache::new_lru_cache(options.cache);
        let db = open::writable(path, &options, &cache).map_err(|error| failed(path, error))?;
        Ok(Self {
            path: path.to_owned(),
            options,
            cache,
            handle: Handle::new(db),
            failure: RwLock::new(None),
            reopening: Mutex::new(()),
            unsynced: bounded(1),
        })
    }

    /// The row's value if memory has it. Never waits for the disk, so it may be called from an asynchronous task.
    ///
    /// # Errors
    /// [`StorageError::Failed`] where the row is damaged or the database closed.
    pub fn try_get(&self, family: Family, key: &[u8]) -> Result<Cached, StorageError> {
        let db = match self.handle.try_lease() {
            None => return Ok(Cached::NotCached),
            Some(leased) => leased.map_err(|reason| self.failed(reason))?,
        };
        let mut read = ReadOptions::default();
        read.set_read_tier(ReadTier::BlockCache);
        match db.get_pinned_cf_opt(self.family(&db, family)?, key, &read) {
            Ok(Some(value)) => Ok(Cached::Found(value.to_vec())),
            Ok(None) => Ok(Cached::Absent),
            Err(error) if error.kind() == ErrorKind::Incomplete => Ok(Cached::NotCached),
            Err(error) => Err(self.failed(error)),
        }
    }

    /// Why commits are refused until [`RocksStorage::reopen`], if they are.
    pub fn failure(&self) -> Option<Arc<str>> {
        let failure = self.failure.read();
        failure.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Closes the database and opens it again, then writes to it; commits go on when that worked. Waits up to 2 s for
    /// scans that run; reads that come meanwhile wait for the new database. Where the disk is plainly still full nothing is
    /// closed, and where the database does not open for writing it is opened for reading, so that reads go on. Blocks:
    /// not for an asynchronous task.
    ///
    /// # Errors
    /// [`StorageError::Failed`] where commits are still refused. *Safe to retry.*
    pub fn reopen(&self) -> Result<(), StorageError> {
        let _turn = self
            .reopening
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        self.mark_failed("it is being opened again");
        let outcome = self.reopen_and_probe();
        self.set_failure(outcome.as_ref().err().cloned());
        outcome.map_err(|reason| self.failed(reason))
    }

    /// Has a word once something is written that only the process's death survives: who takes it syncs what was written before.
    pub fn unsynced(&self) -> &Receiver<()> {
        &self.unsynced.1
    }

    /// What it holds and uses now; zeros for what cannot be known.
    pub fn stats(&self) -> RocksStats {
        let disk = disk_bytes(&self.path);
        let cache = self.cache.get_usage() as u64;
        let cache_pinned = self.cache.get_pinned_usage() as u64;
        let used = RocksStats {
            disk,
            cache,
            cache_pinned,
            ..RocksStats::default()
        };
        match self.handle.try_lease() {
            Some(Ok(db)) => RocksStats {
                tables: sum(&db, properties::TOTAL_SST_FILES_SIZE),
                memtables: sum(&db, properties::SIZE_ALL_MEM_TABLES),
                compaction_pending: sum(&db, properties::ESTIMATE_PENDING_COMPACTION_BYTES),
                rows_estimated: sum(&db, properties::ESTIMATE_NUM_KEYS),
                ..used
            },
            Some(Err(_)) | None => used,
        }
    }

    fn reopen_and_probe(&self) -> Result<(), String> {
        open::probe_disk(&self.path).map_err(|error| error.to_string())?;
        let mut refused = None;
        self.handle.replace(|| {
            open::writable(&self.path, &self.options, &self.cache).or_else(|reason| {
                refused = Some(reason);
                open::read_only(&self.path, &self.options, &self.cache)
            })
        })?;
        match refused {
            Some(reason) => Err(reason),
            None => self.probe_database(),
        }
    }

    /// Writes and deletes a row in the family that RocksDB insists on and nothing else uses.
    fn probe_database(&self) -> Result<(), String> {
        let db = self.handle.lease()?;
        let mut batch = WriteBatch::default();
        batch.put(b"probe", [0; open::PROBE_BYTES]);
        batch.delete(b"probe");
        db.write_opt(batch, &write_options(Durability::Power))
            .map_err(rocksdb::Error::into_string)
    }

    fn lease(&self) -> Result<Arc<DB>, StorageError> {
        self.handle.lease().map_err(|reason| self.failed(reason))
    }

    /// A database for writing. The mark is looked at before, to refuse at once, and again with the lease in hand: a
    /// database that was just opened again is not written to before its probe has worked.
    fn lease_for_writing(&self) -> Result<Arc<DB>, StorageError> {
        self.refuse_if_failed()?;
        let db = self.lease()?;
        self.refuse_if_failed()?;
        Ok(db)
    }

    fn refuse_if_failed(&self) -> Result<(), StorageError> {
        match self.failure() {
            Some(reason) => {
                Err(self.failed(format!("commits are refused until reopened: {reason}")))
            }
            None => Ok(()),
        }
    }

    /// The first failure is the one to tell: those that follow are its consequences.
    fn mark_failed(&self, reason: &str) {
        if self.failure().is_none() {
            self.set_failure(Some(reason.to_owned()));
        }
    }

    fn set_failure(&self, reason: Option<String>) {
        let mut failure = self.failure.write().unwrap_or_else(PoisonError::into_inner);
        *failure = reason.map(Arc::from);
    }

    /// Marks the engine failed while the lease is held: a reopening that follows sees the mark.
    fn written(
        &self,
        _lease: &Arc<DB>,
        outcome: Result<(), rocksdb::Error>,
    ) -> Result<(), StorageError> {
        outcome.map_err(|error| {
            self.mark_failed(error.as_ref());
            self.failed(error)
        })
    }

    fn family<'db>(&self, db: &'db DB, family: Family) -> Result<&'db ColumnFamily, StorageError> {
        family_of(db, family).map_err(|reason| self.failed(reason))
    }

    fn write_batch(&self, db: &DB, batch: &Batch) -> Result<WriteBatch, StorageError> {
        let mut write = WriteBatch::default();
        for change in &batch.changes {
            match change {
                Change::Put { family, key, value } => {
                    write.put_cf(self.family(db, *family)?, key, value);
                }
                Change::Delete { family, key } => write.delete_cf(self.family(db, *family)?, key),
                Change::DeleteRange { family, from, to } if from < to => {
                    write.delete_range_cf(self.family(db, *family)?, from, to);
                }
                // RocksDB calls a range that ends before it begins an error.
                Change::DeleteRange { .. } => {}
            }
        }
        Ok(write)
    }

    fn failed(&self, detail: impl std::fmt::Display) -> StorageError {
        failed(&self.path, detail)
    }
}

impl Storage for RocksStorage {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Vec<u8>>, StorageError> {
        let db = self.lease()?;
        let value = db.get_pinned_cf(self.family(&db, family)?, key);
        let value = value.map_err(|error| self.failed(error))?;
        Ok(value.map(|value| value.to_vec()))
    }

    fn scan(
        &self,
        family: Family,
        from: &[u8],
        to: Option<&[u8]>,
        visit: Visit<'_>,
    ) -> Result<(), StorageError> {
        if to.is_some_and(|to| to <= from) {
            return Ok(());
        }
        let db = self.lease()?;
        let read = scan_options(family, from, to);
        // An iterator sees the database as of its creation.
        let rows = db.raw_iterator_cf_opt(self.family(&db, family)?, read);
        visit_from(rows, from, visit).map_err(|error| self.failed(error))
    }

    fn snapshot(&self) -> Result<Arc<dyn Snapshot>, StorageError> {
        Ok(Arc::new(snapshot::Moment::of(self.lease()?, &self.path)))
    }

    fn commit(&self, batch: &Batch, durability: Durability) -> Result<(), StorageError> {
        let db = self.lease_for_writing()?;
        let write = self.write_batch(&db, batch)?;
        if !write.is_empty() {
            self.written(&db, db.write_opt(write, &write_options(durability)))?;
            if durability == Durability::Process {
                // Full while a word is there that nobody took: it is of this write too.
                let _ = self.unsynced.0.try_send(());
            }
            return Ok(());
        }
        match durability {
            Durability::Process => Ok(()),
            Durability::Power => self.written(&db, db.flush_wal(true)),
        }
    }

    fn sync(&self) -> Result<(), StorageError> {
        let db = self.lease_for_writing()?;
        self.written(&db, db.flush_wal(true))
    }
}

fn family_of(db: &DB, family: Family) -> Result<&ColumnFamily, String> {
    db.cf_handle(family.name())
        .ok_or_else(|| format!("it has no family {}", family.name()))
}

fn visit_from(
    mut rows: DBRawIterator<'_>,
    from: &[u8],
    visit: Visit<'_>,
) -> Result<(), rocksdb::Error> {
    rows.seek(from);
    while let Some((key, value)) = rows.item() {
        if let ControlFlow::Break(()) = visit(key, value) {
            return Ok(());
        }
        rows.next();
    }
    rows.status()
}

fn write_options(durability: Durability) -> WriteOptions {
    let mut write = WriteOptions::default();
    write.set_sync(durability == Durability::Power);
    write
}

fn scan_options(family: Family, from: &[u8], to: Option<&[u8]>) -> ReadOptions {
    let mut read = ReadOptions::default();
    if let Some(to) = to {
        read.set_iterate_upper_bound(to);
    }
    // Where both bounds begin with the same prefix, so does every key between them, and tables without that prefix
    // are skipped by their filters. Any other scan must not let the filters decide.
    let prefix = |key: &[u8]| key.get(..options::ROW_PREFIX_BYTES).map(<[u8]>::to_vec);
    let within_prefix = prefix(from).is_some() && prefix(from) == to.and_then(prefix);
    read.set_total_order_seek(!(family == Family::Row && within_prefix));
    read
}

fn disk_bytes(path: &Path) -> u64 {
    let files = fs::read_dir(path).into_iter().flatten().flatten();
    files
        .filter_map(|file| file.metadata().ok())
        .map(|metadata| metadata.len())
        .sum()
}

fn sum(db: &DB, property: &rocksdb::properties::PropName) -> u64 {
    let of = |family: Family| {
        let family = db.cf_handle(family.name())?;
        db.property_int_value_cf(family, property).ok().flatten()
    };
    Family::ALL.into_iter().filter_map(of).sum()
}

fn failed(path: &Path, detail: impl std::fmt::Display) -> StorageError {
    StorageError::Failed {
        detail: format!("{}: {detail}", path.display()),
    }
}
