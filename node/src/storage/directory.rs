//! A node's data directory: whose it is, that nobody else has it open, and whether its actors may go on.
//!
//! ```text
//!   data/
//!     meridian.lock   held while open; names its holder
//!     FORMAT          what this folder is and in which version; written once, before anything else
//!     rocksdb/        the rows; the identity is one of them
//! ```
//!
//! Opening looks before it touches: a folder of something else, of a newer version, in use, of another node or another
//! cluster is refused and left as it is.

mod error;
mod format;
mod lock;

pub use error::DirectoryError;

use std::{
    fs::{self, File},
    io,
    num::NonZeroU16,
    ops::ControlFlow,
    path::{Path, PathBuf},
    sync::Arc,
};

use rand::{TryRngCore, rngs::OsRng};

use self::lock::Lock;
use crate::{
    core::identity::{BootId, Identity, Renewal},
    names::{ClusterName, NodeName},
    storage::{
        Batch, Durability, Family, Storage, StorageError,
        rocks::{RocksOptions, RocksStorage},
    },
};

/// An open data directory. It stays locked until this is dropped and nobody holds its storage.
pub struct DataDirectory {
    /// Its rows.
    pub storage: Arc<RocksStorage>,
    /// Who it is, as stored when it was opened.
    pub identity: Identity,
    /// Its number was drawn anew because it may have forgotten its last stamps.
    pub renewal: Option<Renewal>,
    /// The session before closed it in good order: what that session noted at its end holds.
    pub was_clean: bool,
    path: PathBuf,
    /// Dropped after the storage: whoever takes it next finds RocksDB closed.
    _lock: Lock,
}

impl DataDirectory {
    /// Opens the directory for a node, creating it where there is none. `shards` counts only then: a directory keeps the
    /// count that it was created with. `fsync_always` says whether this session syncs every commit before it is answered.
    ///
    /// # Errors
    /// [`DirectoryError`]: nothing was changed that matters to whoever the directory belongs to.
    pub fn open(
        path: &Path,
        node: &NodeName,
        cluster: &ClusterName,
        shards: NonZeroU16,
        fsync_always: bool,
        options: RocksOptions,
    ) -> Result<Self, DirectoryError> {
        let opening = Opening {
            path,
            node,
            cluster,
            shards,
            fsync_always,
            options,
            boot: kernel_boot(path)?,
        };
        opening.open()
    }

    /// Notes that the directory was closed in good order, after a last sync. Nothing may be committed after it: the
    /// next opening trusts that no stamp was made since.
    ///
    /// # Errors
    /// Where it could not be written: the next opening treats this session as one that died. *Safe to retry.*
    pub fn mark_clean(&self) -> Result<(), DirectoryError> {
        // Read again: the node may have been renewed since it was opened.
        let identity = self.stored()?.closed_cleanly();
        store(&self.storage, &identity).map_err(|source| self.failed(source))
    }

    fn stored(&self) -> Result<Identity, DirectoryError> {
        let stored = Identity::load(&*self.storage).map_err(|source| self.failed(source))?;
        stored.ok_or_else(|| DirectoryError::NoIdentity {
            path: self.path.clone(),
        })
    }

    fn failed(&self, source: StorageError) -> DirectoryError {
        DirectoryError::Storage {
            path: self.path.clone(),
            source,
        }
    }
}

/// A random number from the system, for what must never come twice.
///
/// # Errors
/// Where the system has no randomness to give.
pub fn draw() -> io::Result<u64> {
    OsRng.try_next_u64().map_err(io::Error::other)
}

/// Who an opened directory is.
struct Identified {
    identity: Identity,
    renewal: Option<Renewal>,
    was_clean: bool,
}

struct Opening<'a> {
    path: &'a Path,
    node: &'a NodeName,
    cluster: &'a ClusterName,
    shards: NonZeroU16,
    fsync_always: bool,
    options: RocksOptions,
    boot: BootId,
}

impl Opening<'_> {
    fn open(self) -> Result<DataDirectory, DirectoryError> {
        create_folder(self.path)?;
        format::refuse_foreign(self.path)?;
        let lock = Lock::take(self.path, self.node)?;
        format::establish(self.path)?;
        let storage = self.open_storage()?;
        let Identified {
            identity,
            renewal,
            was_clean,
        } = self.identify(&storage)?;
        store(&storage, &identity).map_err(|source| self.failed(source))?;
        Ok(DataDirectory {
            storage: Arc::new(storage),
            identity,
            renewal,
            was_clean,
            path: self.path.to_owned(),
            _lock: lock,
        })
    }

    fn open_storage(&self) -> Result<RocksStorage, DirectoryError> {
        let rows = self.path.join(ROWS);
        create_folder(&rows)?;
        RocksStorage::open(&rows, self.options).map_err(|source| self.failed(source))
    }

    /// The identity of this session: a new one in an empty directory, else the stored one, opened again.
    fn identify(&self, storage: &RocksStorage) -> Result<Identified, DirectoryError> {
        let draw = draw().map_err(|source| self.inaccessible(source))?;
        match Identity::load(storage).map_err(|source| self.failed(source))? {
            Some(stored) => {
                self.refuse_others(&stored)?;
                self.tell_of_other_shards(&stored);
                let (identity, renewal) = stored.reopened(&self.boot, self.fsync_always, draw);
                Ok(Identified {
                    identity,
                    renewal,
                    was_clean: stored.clean,
                })
            }
            None if holds_rows(storage).map_err(|source| self.failed(source))? => {
                Err(DirectoryError::NoIdentity {
                    path: self.path.to_owned(),
                })
            }
            None => Ok(Identified {
                identity: self.create(draw),
                renewal: None,
                was_clean: false,
            }),
        }
    }

    fn create(&self, draw: u64) -> Identity {
        Identity::create(
            self.node.clone(),
            self.cluster.clone(),
            self.shards,
            self.boot.clone(),
            self.fsync_always,
            draw,
        )
    }

    fn refuse_others(&self, stored: &Identity) -> Result<(), DirectoryError> {
        if stored.cluster != *self.cluster {
            return Err(DirectoryError::OtherCluster {
                path: self.path.to_owned(),
                found: stored.cluster.clone(),
                expected: self.cluster.clone(),
            });
        }
        if stored.node != *self.node {
            return Err(DirectoryError::OtherNode {
                path: self.path.to_owned(),
                found: stored.node.clone(),
                expected: self.node.clone(),
            });
        }
        Ok(())
    }

    fn tell_of_other_shards(&self, stored: &Identity) {
        if stored.shards != self.shards {
            tracing::info!(
                path = %self.path.display(),
                kept = stored.shards,
                wanted = self.shards,
                "the data directory keeps the number of shards that it was created with",
            );
        }
    }

    fn failed(&self, source: StorageError) -> DirectoryError {
        DirectoryError::Storage {
            path: self.path.to_owned(),
            source,
        }
    }

    fn inaccessible(&self, source: io::Error) -> DirectoryError {
        DirectoryError::inaccessible(self.path, source)
    }
}

fn store(storage: &RocksStorage, identity: &Identity) -> Result<(), StorageError> {
    let mut batch = Batch::default();
    identity.put(&mut batch);
    // Durable itself, and so is every commit before it.
    storage.commit(&batch, Durability::Power)
}

fn holds_rows(storage: &RocksStorage) -> Result<bool, StorageError> {
    let mut found = false;
    for family in Family::ALL {
        storage.scan(family, b"", None, &mut |_, _| {
            found = true;
            ControlFlow::Break(())
        })?;
    }
    Ok(found)
}

/// Makes the folder and its parents, and their names durable.
fn create_folder(path: &Path) -> Result<(), DirectoryError> {
    if path.is_dir() {
        return Ok(());
    }
    let created = fs::create_dir_all(path).and_then(|()| sync_folder(path.parent()));
    created.map_err(|source| DirectoryError::inaccessible(path, source))
}

/// A new name in a folder survives power loss once the folder is synced.
fn sync_folder(folder: Option<&Path>) -> io::Result<()> {
    match folder {
        Some(folder) if !folder.as_os_str().is_empty() => File::open(folder)?.sync_all(),
        _ => Ok(()),
    }
}

/// The kernel's boot id: another one each time the machine starts.
fn kernel_boot(path: &Path) -> Result<BootId, DirectoryError> {
    if let Ok(id) = fs::read_to_string(KERNEL_BOOT_ID) {
        return Ok(BootId(id.trim().to_owned()));
    }
    // A boot nobody has seen before: a directory that was not closed cleanly renews, which is always safe.
    tracing::warn!(
        file = KERNEL_BOOT_ID,
        "the kernel does not say when it was started"
    );
    let draw = draw().map_err(|source| DirectoryError::inaccessible(path, source))?;
    Ok(BootId(format!("unknown-{draw:016x}")))
}

const ROWS: &str = "rocksdb";
const KERNEL_BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

#[cfg(test)]
#[path = "directory_tests.rs"]
mod tests;
