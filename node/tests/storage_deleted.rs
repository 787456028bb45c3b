//! Goal: what a read costs follows what is there, not what was deleted.
//!
//! Method: the rows of one set in RocksDB, nearly all of them deleted; RocksDB itself counts the deletions that a walk over the set
//! passes.
#![cfg(feature = "server")]
#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, its helpers too"
)]

mod storage_support;

use std::{
    ops::ControlFlow,
    thread,
    time::{Duration, Instant},
};

use node::storage::{Batch, Durability, Family, Storage, rocks::RocksStorage};
use rocksdb::perf::{PerfContext, PerfMetric, PerfStatsLevel, set_perf_stats};
use storage_support::small;
use xxhash_rust::xxh3::xxh3_64;

/// The row of a set's element: all have one prefix, and their places are those of a hash.
fn row(number: u64) -> Vec<u8> {
    let mut row = b"0123456789set".to_vec();
    row.extend_from_slice(&xxh3_64(&number.to_be_bytes()).to_be_bytes());
    row
}

fn put(storage: &RocksStorage, numbers: impl Iterator<Item = u64>) {
    let mut batch = Batch::default();
    numbers.for_each(|number| batch.put(Family::Row, row(number), vec![1; 40]));
    storage.commit(&batch, Durability::Process).unwrap();
}

fn delete(storage: &RocksStorage, numbers: impl Iterator<Item = u64>) {
    let mut batch = Batch::default();
    numbers.for_each(|number| batch.delete(Family::Row, row(number)));
    storage.commit(&batch, Durability::Process).unwrap();
}

/// Walks over the set: how many rows there are, and how many deletions lie between them.
fn walk(storage: &RocksStorage) -> (usize, u64) {
    let mut rows = 0;
    set_perf_stats(PerfStatsLevel::EnableCount);
    let mut counts = PerfContext::default();
    counts.reset();
    let (from, to) = (b"0123456789set".as_slice(), b"0123456789seu".as_slice());
    let walked = storage.scan(Family::Row, from, Some(to), &mut |_, _| {
        rows += 1;
        ControlFlow::Continue(())
    });
    walked.unwrap();
    let passed = counts.metric(PerfMetric::InternalDeleteSkippedCount);
    set_perf_stats(PerfStatsLevel::Disable);
    (rows, passed)
}

/// Walks again and again, as readers do while others write, until few deletions are left.
fn comes_to_pass_few(storage: &RocksStorage, rows: usize) {
    let begun = Instant::now();
    loop {
        let (found, passed) = walk(storage);
        assert_eq!(found, rows);
        if passed < 2048 {
            return;
        }
        assert!(begun.elapsed() < PATIENCE, "{passed} deletions are left");
        put(storage, std::iter::once(0));
        thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_queue_through_which_much_has_passed_is_read_as_fast_as_a_new_one() {
    let folder = tempfile::tempdir().unwrap();
    let storage = RocksStorage::open(folder.path(), small()).unwrap();
    put(&storage, 0..200);
    for number in 200..20_000 {
        put(&storage, std::iter::once(number));
        delete(&storage, std::iter::once(number));
    }
    comes_to_pass_few(&storage, 200);
}

#[test]
fn what_is_left_of_a_large_set_is_read_as_fast_as_a_small_one() {
    let folder = tempfile::tempdir().unwrap();
    let storage = RocksStorage::open(folder.path(), small()).unwrap();
    put(&storage, 0..30_000);
    drop(storage); // opened again, it has them in a table
    let storage = RocksStorage::open(folder.path(), small()).unwrap();
    delete(&storage, 100..30_000);
    comes_to_pass_few(&storage, 100);
}

const PATIENCE: Duration = Duration::from_secs(20);
