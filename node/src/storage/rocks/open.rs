//! Opening the database: for writing, with little space, or at least for reading.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

use rocksdb::{Cache, DB};

use super::options::{self, Replayed, RocksOptions};
use crate::storage::disk;

/// Opens the database for reading and writing. Where the disk has no space for the tables that the log's rows would go
/// to, they stay in the log: a disk that was full has less space than the log is long, and yet takes commits.
pub(super) fn writable(path: &Path, options: &RocksOptions, cache: &Cache) -> Result<DB, String> {
    if has_space_for_tables(path) {
        return replaying(path, options, cache, Replayed::ToTables)
            .map_err(rocksdb::Error::into_string);
    }
    // Asked beforehand, not tried: an attempt that fails leaves half of its tables behind, and no space for this.
    keeping_log(path, options, cache)
}

/// Opens the database for reading alone. Writes nothing and needs no space.
pub(super) fn read_only(path: &Path, options: &RocksOptions, cache: &Cache) -> Result<DB, String> {
    let open = || {
        let families = options::families(options, cache, Replayed::ToMemory)?;
        let database = options::database(options, Replayed::ToMemory)?;
        DB::open_cf_descriptors_read_only(&database, path, families, false)
    };
    open().map_err(rocksdb::Error::into_string)
}

/// Writes, syncs and removes a small file: whether the disk takes anything at all.
pub(super) fn probe_disk(path: &Path) -> io::Result<()> {
    let file = path.join("probe.tmp");
    let written = File::create(&file).and_then(|mut probe| {
        probe.write_all(&[0; PROBE_BYTES])?;
        probe.sync_all()
    });
    let removed = fs::remove_file(&file);
    written.and(removed)
}

fn replaying(
    path: &Path,
    options: &RocksOptions,
    cache: &Cache,
    replayed: Replayed,
) -> Result<DB, rocksdb::Error> {
    let families = options::families(options, cache, replayed)?;
    let database = options::database(options, replayed)?;
    DB::open_cf_descriptors(&database, path, families)
}

/// The new database syncs only what it writes itself: logs that it keeps are synced before, so that its first sync
/// covers what an earlier process left to the kernel.
fn keeping_log(path: &Path, options: &RocksOptions, cache: &Cache) -> Result<DB, String> {
    sync_logs(path).map_err(|error| error.to_string())?;
    replaying(path, options, cache, Replayed::ToMemory).map_err(rocksdb::Error::into_string)
}

fn sync_logs(path: &Path) -> io::Result<()> {
    for log in logs(path)? {
        File::open(log)?.sync_all()?;
    }
    Ok(())
}

/// Where neither can be found out, RocksDB will tell what is wrong.
fn has_space_for_tables(path: &Path) -> bool {
    let space = || -> io::Result<bool> {
        let mut needed = TABLES_BYTES_MIN;
        for log in logs(path)? {
            needed += log.metadata()?.len();
        }
        Ok(disk::free_bytes(path)? >= needed)
    };
    space().unwrap_or(true)
}

fn logs(path: &Path) -> io::Result<Vec<PathBuf>> {
    let mut logs = Vec::new();
    for file in fs::read_dir(path)? {
        let file = file?.path();
        if file.extension().is_some_and(|extension| extension == "log") {
            logs.push(file);
        }
    }
    Ok(logs)
}

/// What opening writes besides the rows of the log: manifest, options, the tables' own indexes.
const TABLES_BYTES_MIN: u64 = 1 << 20;
/// Of the disk and of the database: small enough to fit anywhere, a page so that it takes space.
pub(super) const PROBE_BYTES: usize = 4096;
