//! Goal: both engines are the storage that `node::storage::conformance` describes, and RocksDB keeps its word where only
//! a disk can break it.
//!
//! Method: the one suite on both; then logs cut and damaged at every place behind the last sync, and disks that are full.
#![cfg(feature = "server")]
#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, its helpers too"
)]

mod storage_support;

use std::{
    collections::BTreeSet,
    fs,
    ops::ControlFlow,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use node::storage::{
    Batch, Durability, Family, Storage,
    conformance::{Engine, conformance},
    rocks::{Cached, RocksStorage},
};
use storage_support::{Memory, Rocks, cut, logs, small};

#[test]
fn memory_is_the_storage_that_the_suite_describes() {
    conformance(Memory::default);
}

#[test]
fn rocksdb_is_the_storage_that_the_suite_describes() {
    conformance(Rocks::new);
}

/// Writes the row `number` in two families, so that half a batch would show.
fn commit(storage: &dyn Storage, number: u8) {
    let mut batch = Batch::default();
    batch.put(Family::Head, vec![number], vec![number; 40]);
    batch.put(Family::Outbox, vec![number], vec![number; 40]);
    storage.commit(&batch, Durability::Process).unwrap();
}

/// The numbers of the rows, which are the same in both families.
fn numbers(storage: &dyn Storage) -> Vec<u8> {
    let keys = |family| {
        let mut keys = Vec::new();
        let scanned = storage.scan(family, b"", None, &mut |key, value| {
            assert_eq!(value, vec![key[0]; 40]);
            keys.push(key[0]);
            ControlFlow::Continue(())
        });
        scanned.unwrap();
        keys
    };
    let heads = keys(Family::Head);
    assert_eq!(heads, keys(Family::Outbox), "half a batch");
    heads
}

/// Three synced batches and three that are not; gives the newest log's name, its synced length and its length.
fn half_synced() -> (Rocks, String, u64, u64) {
    let rocks = Rocks::new();
    (0..3).for_each(|number| commit(rocks.storage(), number));
    rocks.storage().sync().unwrap();
    (3..6).for_each(|number| commit(rocks.storage(), number));
    let (log, length) = logs(rocks.path()).pop_last().unwrap();
    let synced = rocks.synced()[&log];
    assert!(synced < length);
    (rocks, log, synced, length)
}

/// What is left when the newest log is damaged at `at` and found so by another process; checks that commits go on.
fn left_after(at: u64, damage: impl FnOnce(&Path, u64)) -> Vec<u8> {
    let (mut rocks, log, ..) = half_synced();
    rocks.fail_over(|folder| damage(&folder.join(&log), at));
    let left = numbers(rocks.storage());
    commit(rocks.storage(), 9);
    rocks.kill();
    let expected: Vec<_> = left.iter().copied().chain([9]).collect();
    assert_eq!(numbers(rocks.storage()), expected);
    left
}

/// Damages every few bytes behind the last sync; gives how many batches were left each time.
fn damaged_everywhere(damage: impl Fn(&Path, u64)) -> BTreeSet<usize> {
    let (_, _, synced, length) = half_synced();
    let mut counts = BTreeSet::new();
    for at in (synced..length).step_by(13) {
        let left = left_after(at, &damage);
        let prefix: Vec<_> = (0..6).take(left.len()).collect();
        assert_eq!(left, prefix, "what is left is a prefix");
        assert!(left.len() >= 3, "synced batches are gone: {left:?}");
        counts.insert(left.len());
    }
    counts
}

#[test]
fn a_log_cut_behind_its_last_sync_loses_whole_newest_batches_and_nothing_else() {
    assert_eq!(damaged_everywhere(cut), BTreeSet::from([3, 4, 5]));
}

#[test]
fn a_log_with_a_hole_behind_its_last_sync_ends_at_the_hole() {
    let hole = |log: &Path, at: u64| {
        let mut bytes = fs::read(log).unwrap();
        bytes
            .iter_mut()
            .skip(at as usize)
            .take(16)
            .for_each(|byte| *byte = 0);
        fs::write(log, bytes).unwrap();
    };
    assert_eq!(damaged_everywhere(hole), BTreeSet::from([3, 4, 5]));
}

#[test]
fn a_read_that_may_not_wait_finds_what_memory_has() {
    let mut rocks = Rocks::new();
    commit(rocks.storage(), 1);
    let found = Cached::Found(vec![1; 40]);
    assert_eq!(
        rocks.engine().try_get(Family::Head, &[1]),
        Ok(found.clone())
    );
    assert_eq!(
        rocks.engine().try_get(Family::Head, &[2]),
        Ok(Cached::Absent)
    );
    rocks.reopen();
    assert_eq!(
        rocks.engine().try_get(Family::Head, &[1]),
        Ok(Cached::NotCached)
    );
    assert!(rocks.storage().get(Family::Head, &[1]).unwrap().is_some());
    assert_eq!(rocks.engine().try_get(Family::Head, &[1]), Ok(found));
}

#[test]
fn a_database_that_is_open_is_not_opened_twice() {
    let rocks = Rocks::new();
    let error = RocksStorage::open(rocks.path(), small()).err().unwrap();
    let text = error.to_string();
    assert!(text.contains(&rocks.path().display().to_string()), "{text}");
}

fn first(storage: &dyn Storage, family: Family) -> Option<Vec<u8>> {
    let mut first = None;
    let scanned = storage.scan(family, b"", None, &mut |key, _| {
        first = Some(key.to_vec());
        ControlFlow::Break(())
    });
    scanned.unwrap();
    first
}

#[test]
fn reads_go_on_while_the_database_is_opened_again() {
    let rocks = Rocks::new();
    commit(rocks.storage(), 1);
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                assert!(rocks.storage().get(Family::Head, &[1]).unwrap().is_some());
                assert!(first(rocks.storage(), Family::Outbox).is_some());
            }
        });
        for number in 2..6 {
            rocks.engine().reopen().unwrap();
            commit(rocks.storage(), number);
        }
        done.store(true, Ordering::Relaxed);
    });
    assert_eq!(numbers(rocks.storage()), [1, 2, 3, 4, 5]);
    assert_eq!(rocks.engine().failure(), None);
}

#[test]
fn a_reader_that_does_not_let_go_makes_reopening_give_way() {
    let rocks = Rocks::new();
    commit(rocks.storage(), 1);
    let scanned = rocks.storage().scan(Family::Head, b"", None, &mut |_, _| {
        assert!(rocks.engine().reopen().is_err());
        assert!(rocks.storage().get(Family::Head, &[1]).unwrap().is_some());
        ControlFlow::Continue(())
    });
    scanned.unwrap();
    assert!(rocks.engine().failure().is_some());
    rocks.engine().reopen().unwrap();
    commit(rocks.storage(), 2);
}

#[test]
fn reads_go_on_where_the_database_does_not_open_for_writing() {
    let rocks = Rocks::new();
    commit(rocks.storage(), 1);
    // Who opens for writing takes this file, who opens for reading does not.
    let lock = rocks.path().join("LOCK");
    fs::remove_file(&lock).unwrap();
    fs::create_dir(&lock).unwrap();
    assert!(rocks.engine().reopen().is_err());
    let reason = rocks.engine().failure().unwrap();
    assert!(reason.contains("LOCK"), "{reason}");
    assert_eq!(numbers(rocks.storage()), [1]);
    let cached = rocks.engine().try_get(Family::Head, &[1]);
    assert_eq!(cached, Ok(Cached::Found(vec![1; 40])));
    let refused = rocks
        .storage()
        .commit(&Batch::default(), Durability::Process);
    assert!(refused.unwrap_err().to_string().contains("refused"));

    fs::remove_dir(&lock).unwrap();
    rocks.engine().reopen().unwrap();
    commit(rocks.storage(), 2);
    assert_eq!(numbers(rocks.storage()), [1, 2]);
}

#[test]
fn the_engine_says_what_it_holds_and_uses() {
    let mut rocks = Rocks::new();
    (0..200).for_each(|number| commit(rocks.storage(), number));
    let before = rocks.engine().stats();
    assert!(before.memtables > 0 && before.disk > 0);
    rocks.reopen();
    let after = rocks.engine().stats();
    assert!(after.tables > 0 && after.disk >= after.tables);
    assert_eq!(after.rows_estimated, 400);
}

#[test]
fn the_folder_of_a_database_holds_no_heap_of_logs() {
    let mut rocks = Rocks::new();
    (0..6).for_each(|_| rocks.reopen());
    let files = fs::read_dir(rocks.path()).unwrap();
    let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
    let reports: Vec<_> = names.filter(|name| name.starts_with("LOG")).collect();
    assert!(reports.len() <= 2, "{reports:?}");
}

#[test]
fn who_syncs_hears_of_every_write_that_is_not_synced_and_of_nothing_else() {
    let mut rocks = Rocks::new();
    let is_owed = |rocks: &Rocks| rocks.engine().unsynced().try_recv().is_ok();
    while is_owed(&rocks) {}
    for number in 0..3 {
        commit(rocks.engine(), number);
        commit(rocks.engine(), number);
        assert!(is_owed(&rocks), "a sync that is left out would miss it");
        assert!(!is_owed(&rocks), "one word is enough for many writes");
        numbers(rocks.engine());
        rocks.engine().sync().unwrap();
        assert!(!is_owed(&rocks));
    }
    rocks.reopen();
    commit(rocks.engine(), 3);
    assert!(is_owed(&rocks));
}
