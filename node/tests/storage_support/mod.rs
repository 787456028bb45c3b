//! Engines that can be killed and lose power, for the suites that both of them run.
#![allow(dead_code, reason = "each suite uses its part")]

use std::collections::BTreeMap;
use std::{fs, path::Path, sync::Mutex};

use node::storage::{
    Batch, Durability, Family, Storage, StorageError, Visit,
    conformance::Engine,
    memory::MemoryStorage,
    rocks::{RocksOptions, RocksStorage},
};
use tempfile::TempDir;

/// The memory engine.
#[derive(Default)]
pub struct Memory(pub MemoryStorage);

impl Engine for Memory {
    fn storage(&self) -> &dyn Storage {
        &self.0
    }

    fn reopen(&mut self) {
        self.0.reopen().unwrap();
    }

    fn kill(&mut self) {
        self.0.reopen().unwrap();
    }

    fn lose_power(&mut self) {
        self.0.crash(0);
    }
}

/// RocksDB in a temporary folder. Its process dies by copying the folder while it is open; power is lost by cutting the
/// copied logs where they were when last synced.
pub struct Rocks {
    open: Option<Watched>,
    folder: TempDir,
}

impl Rocks {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let open = Some(Watched::open(folder.path()));
        Self { open, folder }
    }

    pub fn engine(&self) -> &RocksStorage {
        &self.watched().storage
    }

    /// Opens a copy of the folder in the state that `damage` leaves it in, as another process would find it.
    pub fn fail_over(&mut self, damage: impl FnOnce(&Path)) {
        let copy = copy_files(self.folder.path());
        damage(copy.path());
        self.open = None;
        self.folder = copy;
        self.open = Some(Watched::open(self.folder.path()));
    }

    /// The bytes of each log file that were synced.
    pub fn synced(&self) -> BTreeMap<String, u64> {
        self.watched().synced.lock().unwrap().clone()
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    fn watched(&self) -> &Watched {
        self.open.as_ref().unwrap()
    }
}

impl Engine for Rocks {
    fn storage(&self) -> &dyn Storage {
        self.watched()
    }

    fn reopen(&mut self) {
        self.open = None;
        self.open = Some(Watched::open(self.folder.path()));
    }

    fn kill(&mut self) {
        self.fail_over(|_| ());
    }

    fn lose_power(&mut self) {
        let synced = self.synced();
        self.fail_over(|folder| {
            for log in logs(folder).into_keys() {
                cut(&folder.join(&log), synced.get(&log).copied().unwrap_or(0));
            }
        });
    }
}

/// An engine that remembers how much of its logs was synced.
struct Watched {
    storage: RocksStorage,
    synced: Mutex<BTreeMap<String, u64>>,
    path: std::path::PathBuf,
}

impl Watched {
    fn open(path: &Path) -> Self {
        Self {
            storage: RocksStorage::open(path, small()).unwrap(),
            synced: Mutex::new(logs(path)),
            path: path.to_owned(),
        }
    }

    fn note_synced(&self) {
        *self.synced.lock().unwrap() = logs(&self.path);
    }
}

impl Storage for Watched {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Vec<u8>>, StorageError> {
        self.storage.get(family, key)
    }

    fn scan(
        &self,
        family: Family,
        from: &[u8],
        to: Option<&[u8]>,
        visit: Visit<'_>,
    ) -> Result<(), StorageError> {
        self.storage.scan(family, from, to, visit)
    }

    fn commit(&self, batch: &Batch, durability: Durability) -> Result<(), StorageError> {
        self.storage.commit(batch, durability)?;
        if durability == Durability::Power {
            self.note_synced();
        }
        Ok(())
    }

    fn sync(&self) -> Result<(), StorageError> {
        self.storage.sync()?;
        self.note_synced();
        Ok(())
    }
}

/// Options that suit a test's few rows.
pub fn small() -> RocksOptions {
    RocksOptions {
        cache: 8 << 20,
        memtables: 8 << 20,
        wal: 8 << 20,
        background_jobs: 2,
        open_files: 64,
    }
}

/// The log files of a database and their lengths.
pub fn logs(folder: &Path) -> BTreeMap<String, u64> {
    let mut files = files(folder);
    files.retain(|name, _| name.ends_with(".log"));
    files
}

/// The files of a folder and their lengths, except those that disappear meanwhile.
fn files(folder: &Path) -> BTreeMap<String, u64> {
    let files = fs::read_dir(folder).unwrap().map(|file| file.unwrap());
    let named = files.filter_map(|file| {
        let length = file.metadata().ok()?.len();
        Some((file.file_name().into_string().unwrap(), length))
    });
    named.collect()
}

pub fn cut(file: &Path, length: u64) {
    let file = fs::OpenOptions::new().write(true).open(file).unwrap();
    file.set_len(length).unwrap();
}

/// Copies the files of an open database as they are at one moment: again, if its background work changed them meanwhile.
fn copy_files(from: &Path) -> TempDir {
    for _ in 0..100 {
        let copy = tempfile::tempdir().unwrap();
        let before = files(from);
        let copied = before
            .keys()
            .all(|name| fs::copy(from.join(name), copy.path().join(name)).is_ok());
        if copied && files(from) == before {
            return copy;
        }
    }
    panic!("{} does not come to rest", from.display());
}
