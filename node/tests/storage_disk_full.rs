//! Goal: a full disk stops commits and nothing else; nothing acknowledged is lost; commits go on when there is space.
//!
//! Method: RocksDB on a tmpfs of a few MiB beside a ballast file that is removed to make space. Needs the right to mount;
//! where that is missing the tests say so and pass.
#![cfg(feature = "server")]
#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, its helpers too"
)]

use std::{fs, io::Write, path::Path, process::Command};

use node::storage::{
    Batch, Durability, Family, Storage, StorageError,
    rocks::{RocksOptions, RocksStorage},
};

/// A mounted tmpfs, unmounted when dropped.
struct SmallDisk {
    folder: tempfile::TempDir,
}

impl SmallDisk {
    fn mount() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=8m", "tmpfs"])
            .arg(folder.path())
            .output();
        match mounted {
            Ok(output) if output.status.success() => Some(Self { folder }),
            Ok(output) => {
                let reason = String::from_utf8_lossy(&output.stderr);
                eprintln!("skipped: no tmpfs can be mounted here: {}", reason.trim());
                None
            }
            Err(error) => {
                eprintln!("skipped: mount cannot be run here: {error}");
                None
            }
        }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Makes the ballast as large as leaves about `room` bytes free.
    fn leave(&self, room: u64) {
        let ballast = fs::OpenOptions::new()
            .append(true)
            .open(self.path().join("ballast"));
        let mut ballast = ballast.unwrap();
        while ballast.write_all(&[1; 4096]).is_ok() {}
        let length = ballast.metadata().unwrap().len();
        ballast.set_len(length - room).unwrap();
    }

    fn write_ballast(&self, bytes: usize) {
        fs::write(self.path().join("ballast"), vec![1; bytes]).unwrap();
    }

    fn remove_ballast(&self) {
        fs::remove_file(self.path().join("ballast")).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg("-l").arg(self.path()).status();
        assert!(unmounted.is_ok_and(|status| status.success()));
    }
}

const BALLAST: usize = 3 << 20;

const OPTIONS: RocksOptions = RocksOptions {
    cache: 1 << 20,
    memtables: 16 << 20,
    wal: 16 << 20,
    background_jobs: 2,
    open_files: 64,
};

/// A batch of about 32 KiB that does not compress, in two families.
fn batch(number: u32) -> Batch {
    let mut batch = Batch::default();
    for family in [Family::Head, Family::Outbox] {
        batch.put(family, number.to_be_bytes().to_vec(), noise(number));
    }
    batch
}

fn noise(seed: u32) -> Vec<u8> {
    let mut state = u64::from(seed) + 1;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..16 << 10).map(|_| next()).collect()
}

/// Commits from `first` on until the disk is full; gives the number that was refused, and why.
fn fill(storage: &RocksStorage, first: u32, durability: Durability) -> (u32, StorageError) {
    for number in first..10_000 {
        if let Err(error) = storage.commit(&batch(number), durability) {
            return (number, error);
        }
    }
    panic!("the disk never filled up");
}

fn holds_all(storage: &RocksStorage, below: u32) {
    for number in 0..below {
        for family in [Family::Head, Family::Outbox] {
            let value = storage.get(family, &number.to_be_bytes()).unwrap();
            assert_eq!(value, Some(noise(number)), "row {number} of {family:?}");
        }
    }
}

fn a_full_disk_loses_nothing(durability: Durability) {
    let Some(disk) = SmallDisk::mount() else {
        return;
    };
    disk.write_ballast(BALLAST);
    let rows = disk.path().join("rocksdb");
    let storage = RocksStorage::open(&rows, OPTIONS).unwrap();
    let (mut refused, error) = fill(&storage, 0, durability);
    assert!(refused > 10, "{refused}: {error}");
    assert!(storage.failure().is_some());
    disk.leave(0);
    holds_all(&storage, refused);

    let again = storage.commit(&batch(refused), durability).unwrap_err();
    assert!(again.to_string().contains("refused"), "{again}");
    assert!(storage.sync().is_err());
    // The engine may give space back behind the ballast, by dropping a log that it flushed: then it is used up again.
    while storage.reopen().is_ok() {
        refused = fill(&storage, refused, durability).0;
        disk.leave(0);
    }
    assert!(storage.commit(&batch(refused), durability).is_err());
    holds_all(&storage, refused);

    disk.remove_ballast();
    storage.reopen().unwrap();
    assert_eq!(storage.failure(), None);
    holds_all(&storage, refused);
    let after = refused + 1;
    storage.commit(&batch(refused), durability).unwrap();
    storage.commit(&batch(after), durability).unwrap();
    storage.reopen().unwrap();
    holds_all(&storage, after + 1);
}

#[test]
fn a_full_disk_loses_nothing_when_commits_are_not_synced() {
    a_full_disk_loses_nothing(Durability::Process);
}

#[test]
fn a_full_disk_loses_nothing_when_commits_are_synced() {
    a_full_disk_loses_nothing(Durability::Power);
}

#[test]
fn commits_go_on_in_less_space_than_the_log_takes() {
    let Some(disk) = SmallDisk::mount() else {
        return;
    };
    disk.write_ballast(BALLAST);
    let rows = disk.path().join("rocksdb");
    let storage = RocksStorage::open(&rows, OPTIONS).unwrap();
    let (refused, _) = fill(&storage, 0, Durability::Process);
    disk.leave(1 << 20);
    storage.reopen().unwrap();
    holds_all(&storage, refused);
    let (next, _) = fill(&storage, refused, Durability::Power);
    assert!(next > refused);
    holds_all(&storage, next);

    // Another process finds all of it, with little space and with much.
    drop(storage);
    disk.leave(1 << 20);
    let storage = RocksStorage::open(&rows, OPTIONS).unwrap();
    holds_all(&storage, next);
    storage.commit(&batch(next), Durability::Power).unwrap();
    drop(storage);
    disk.remove_ballast();
    let storage = RocksStorage::open(&rows, OPTIONS).unwrap();
    holds_all(&storage, next + 1);
}
