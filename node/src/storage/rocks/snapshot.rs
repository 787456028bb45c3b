//! What the database held at one moment, with the lease of it that the moment needs.
//!
//! RocksDB's snapshot borrows the database. The two are kept together here, so that a snapshot can be handed to another thread and
//! outlive whoever took it; the database is not closed while there is one.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

use rocksdb::{DB, ReadOptions};
use self_cell::self_cell;

use super::{failed, family_of, scan_options, visit_from};
use crate::storage::{Family, Snapshot, StorageError, Visit};

type Borrowed<'db> = rocksdb::Snapshot<'db>;

self_cell!(
    struct Taken {
        owner: Arc<DB>,

        #[covariant]
        dependent: Borrowed,
    }
);

/// A snapshot and the database that it is of.
pub(super) struct Moment {
    taken: Taken,
    /// For what is said where it cannot be read.
    path: PathBuf,
}

impl Moment {
    pub(super) fn of(db: Arc<DB>, path: &Path) -> Self {
        Self {
            taken: Taken::new(db, |db| db.snapshot()),
            path: path.to_owned(),
        }
    }

    fn failed(&self, detail: impl fmt::Display) -> StorageError {
        failed(&self.path, detail)
    }
}

impl fmt::Debug for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sequence = self.taken.borrow_dependent().sequence_number();
        f.debug_struct("Moment")
            .field("sequence", &sequence)
            .finish_non_exhaustive()
    }
}

impl Snapshot for Moment {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Vec<u8>>, StorageError> {
        let family = family_of(self.taken.borrow_owner(), family);
        let family = family.map_err(|reason| self.failed(reason))?;
        let snapshot = self.taken.borrow_dependent();
        let value = snapshot.get_pinned_cf_opt(family, key, ReadOptions::default());
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
        let read = scan_options(family, from, to);
        let family = family_of(self.taken.borrow_owner(), family);
        let family = family.map_err(|reason| self.failed(reason))?;
        let rows = self
            .taken
            .borrow_dependent()
            .raw_iterator_cf_opt(family, read);
        visit_from(rows, from, visit).map_err(|error| self.failed(error))
    }
}
