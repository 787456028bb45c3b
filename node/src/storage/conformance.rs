//! What [`Storage`] means, as a suite that every engine passes.
//!
//! An engine's tests implement [`Engine`] for it (how to open it again, how to take its power away) and call
//! [`conformance`]. Each case begins on an empty engine and panics where the engine does something else than promised.

use std::ops::{ControlFlow, Range};

use crate::storage::{Batch, Durability, Family, Storage, StorageError, prefix_end};

/// An engine under test, and what can happen to the process and the machine it runs on.
pub trait Engine {
    /// The engine as it is open now.
    fn storage(&self) -> &dyn Storage;

    /// Closes it in good order and opens it again.
    fn reopen(&mut self);

    /// Kills the process without warning (kill -9) and opens the engine in another one.
    fn kill(&mut self);

    /// Takes the machine's power away, losing what was not synced, all of it or the newest, and opens the engine again.
    fn lose_power(&mut self);
}

/// Runs every case, each on a new, empty engine.
///
/// # Panics
/// Where the engine breaks a promise.
pub fn conformance<E: Engine>(mut open: impl FnMut() -> E) {
    for case in CASES {
        case(&mut open());
    }
}

type Case = fn(&mut dyn Engine);

const CASES: &[Case] = &[
    an_empty_engine_holds_nothing,
    a_row_reads_back_until_it_is_deleted,
    a_later_change_of_a_batch_wins,
    a_range_is_deleted_without_its_end,
    an_empty_range_deletes_and_visits_nothing,
    a_scan_goes_up_through_its_bounds,
    a_scan_within_a_prefix_sees_that_prefix_alone,
    a_scan_ends_when_its_visitor_breaks,
    a_scan_sees_the_moment_it_began,
    a_snapshot_sees_the_moment_it_was_taken_from_any_thread,
    families_do_not_see_each_other,
    empty_and_binary_keys_and_values_are_kept,
    a_big_value_is_kept,
    an_empty_batch_changes_nothing,
    a_batch_is_whole_after_reopening,
    what_was_deleted_stays_deleted_after_reopening,
    a_killed_process_loses_nothing_that_returned,
    what_was_synced_survives_power_loss,
    a_durable_commit_keeps_everything_before_it,
    commits_go_on_after_power_loss,
    threads_commit_and_read_side_by_side,
];

fn an_empty_engine_holds_nothing(engine: &mut dyn Engine) {
    for family in Family::ALL {
        assert_eq!(read(engine, family, b""), None);
        assert_eq!(keys(engine, family), NOTHING);
    }
}

fn a_row_reads_back_until_it_is_deleted(engine: &mut dyn Engine) {
    commit(engine, |batch| put(batch, b"k", b"one"));
    assert_eq!(read(engine, Family::Head, b"k"), Some(b"one".to_vec()));
    commit(engine, |batch| put(batch, b"k", b"two"));
    assert_eq!(read(engine, Family::Head, b"k"), Some(b"two".to_vec()));
    commit(engine, |batch| batch.delete(Family::Head, b"k".to_vec()));
    assert_eq!(read(engine, Family::Head, b"k"), None);
    commit(engine, |batch| {
        batch.delete(Family::Head, b"never".to_vec());
    });
}

fn a_later_change_of_a_batch_wins(engine: &mut dyn Engine) {
    commit(engine, |batch| put(batch, b"old", b"v"));
    commit(engine, |batch| {
        put(batch, b"twice", b"one");
        put(batch, b"twice", b"two");
        put(batch, b"gone", b"v");
        batch.delete(Family::Head, b"gone".to_vec());
        batch.delete(Family::Head, b"back".to_vec());
        put(batch, b"back", b"v");
        put(batch, b"ranged", b"v");
        batch.delete_range(Family::Head, b"a".to_vec(), b"z".to_vec());
        put(batch, b"later", b"v");
    });
    assert_eq!(keys(engine, Family::Head), [b"later".to_vec()]);
    commit(engine, |batch| {
        put(batch, b"twice", b"one");
        put(batch, b"twice", b"two");
    });
    assert_eq!(read(engine, Family::Head, b"twice"), Some(b"two".to_vec()));
}

fn a_range_is_deleted_without_its_end(engine: &mut dyn Engine) {
    let letters = [b"a", b"b", b"c", b"d"];
    commit(engine, |batch| {
        for key in letters {
            put(batch, key, b"v");
            batch.put(Family::Outbox, key.to_vec(), b"v".to_vec());
        }
    });
    commit(engine, |batch| {
        batch.delete_range(Family::Head, b"b".to_vec(), b"d".to_vec());
    });
    assert_eq!(keys(engine, Family::Head), [b"a".to_vec(), b"d".to_vec()]);
    assert_eq!(keys(engine, Family::Outbox).len(), letters.len());
    assert_eq!(read(engine, Family::Head, b"b"), None);
    commit(engine, |batch| put(batch, b"b", b"again"));
    assert_eq!(read(engine, Family::Head, b"b"), Some(b"again".to_vec()));
}

fn an_empty_range_deletes_and_visits_nothing(engine: &mut dyn Engine) {
    commit(engine, |batch| put(batch, b"b", b"v"));
    for (from, to) in [(b"b", b"b"), (b"c", b"a")] {
        commit(engine, |batch| {
            batch.delete_range(Family::Head, from.to_vec(), to.to_vec());
        });
        assert_eq!(scan(engine, Family::Head, from, Some(to)), NOTHING);
    }
    assert_eq!(keys(engine, Family::Head), [b"b".to_vec()]);
}

fn a_scan_goes_up_through_its_bounds(engine: &mut dyn Engine) {
    let ordered: [&[u8]; 7] = [b"", b"\0", b"a", b"a\0", b"ab", b"b", b"\xff\xff"];
    commit(engine, |batch| {
        for key in ordered.iter().rev() {
            put(batch, key, key);
        }
    });
    let all: Vec<_> = ordered.iter().map(|key| key.to_vec()).collect();
    assert_eq!(keys(engine, Family::Head), all);
    /// From, to, and the positions in `all` of what lies between.
    type Bounds = (&'static [u8], Option<&'static [u8]>, Range<usize>);
    let cases: [Bounds; 6] = [
        (b"a", Some(b"b"), 2..5),
        (b"a", Some(b"a\0"), 2..3),
        (b"\x01", Some(b"b\0"), 2..6),
        (b"b", None, 5..7),
        (b"\xff\xff\xff", None, 7..7),
        (b"", Some(b""), 0..0),
    ];
    for (from, to, expected) in cases {
        assert_eq!(scan(engine, Family::Head, from, to), all[expected]);
    }
}

fn a_scan_within_a_prefix_sees_that_prefix_alone(engine: &mut dyn Engine) {
    let mut expected = Vec::new();
    commit(engine, |batch| {
        for prefix in [b"0123456788", b"0123456789", b"012345678:"] {
            for element in 0..20_u8 {
                let key = [prefix.as_slice(), &[element]].concat();
                batch.put(Family::Row, key.clone(), vec![element]);
                expected.push(key);
            }
        }
        batch.put(Family::Row, b"0123".to_vec(), Vec::new());
    });
    for _ in 0..2 {
        let end = prefix_end(b"0123456789");
        let found = scan(engine, Family::Row, b"0123456789", end.as_deref());
        assert_eq!(found, expected[20..40]);
        let found = scan(
            engine,
            Family::Row,
            b"0123456789\x03",
            Some(b"0123456789\x05"),
        );
        assert_eq!(found, expected[23..25]);
        assert_eq!(
            scan(engine, Family::Row, b"01234567", None),
            expected[..60].to_vec()
        );
        engine.reopen();
    }
}

fn a_scan_ends_when_its_visitor_breaks(engine: &mut dyn Engine) {
    commit(engine, |batch| {
        (0..10).for_each(|key| put(batch, &[key], b"v"));
    });
    let mut visited = Vec::new();
    let scanned = engine
        .storage()
        .scan(Family::Head, b"", None, &mut |key, _| {
            visited.extend_from_slice(key);
            if visited.len() == 3 {
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        });
    works(scanned);
    assert_eq!(visited, [0, 1, 2]);
}

fn a_scan_sees_the_moment_it_began(engine: &mut dyn Engine) {
    commit(engine, |batch| {
        (0..5).for_each(|key| put(batch, &[key], b"old"));
    });
    let storage = engine.storage();
    let mut visited = Vec::new();
    let scanned = storage.scan(Family::Head, b"", None, &mut |key, value| {
        visited.push((key.to_vec(), value.to_vec()));
        let mut batch = Batch::default();
        batch.delete_range(Family::Head, vec![2], vec![4]);
        put(&mut batch, &[4], b"new");
        put(&mut batch, &[9], b"new");
        works(storage.commit(&batch, Durability::Process));
        let seen = works(storage.get(Family::Head, &[9]));
        assert_eq!(seen, Some(b"new".to_vec()), "a read sees the newest");
        ControlFlow::Continue(())
    });
    works(scanned);
    let before: Vec<_> = (0..5).map(|key| (vec![key], b"old".to_vec())).collect();
    assert_eq!(visited, before);
    assert_eq!(
        keys(engine, Family::Head),
        [vec![0], vec![1], vec![4], vec![9]]
    );
}

fn a_snapshot_sees_the_moment_it_was_taken_from_any_thread(engine: &mut dyn Engine) {
    commit(engine, |batch| {
        (0..5).for_each(|key| put(batch, &[key], b"old"));
    });
    let snapshot = works(engine.storage().snapshot());
    commit(engine, |batch| {
        batch.delete_range(Family::Head, vec![2], vec![4]);
        put(batch, &[4], b"new");
        put(batch, &[9], b"new");
        batch.put(Family::Row, vec![1], b"new".to_vec());
    });
    let later = works(engine.storage().snapshot());
    // What is written to tables meanwhile does not take from it what it sees.
    works(engine.storage().sync());
    let look = move || {
        let mut visited = Vec::new();
        works(
            snapshot.scan(Family::Head, &[1], Some(&[9]), &mut |key, value| {
                visited.push((key.to_vec(), value.to_vec()));
                ControlFlow::Continue(())
            }),
        );
        let before: Vec<_> = (1..5).map(|key| (vec![key], b"old".to_vec())).collect();
        assert_eq!(visited, before);
        let value = works(snapshot.get(Family::Head, &[3]));
        assert_eq!(value, Some(b"old".to_vec()));
        for (family, key) in [(Family::Head, 9), (Family::Row, 1)] {
            assert_eq!(works(snapshot.get(family, &[key])), None);
        }
    };
    assert!(std::thread::spawn(look).join().is_ok());
    assert_eq!(works(later.get(Family::Head, &[3])), None);
    assert_eq!(works(later.get(Family::Head, &[9])), Some(b"new".to_vec()));
    drop(later);
    engine.reopen();
    assert_eq!(read(engine, Family::Head, &[9]), Some(b"new".to_vec()));
}

fn families_do_not_see_each_other(engine: &mut dyn Engine) {
    commit(engine, |batch| {
        for family in Family::ALL {
            batch.put(family, b"k".to_vec(), family.name().into());
        }
    });
    for deleted in Family::ALL {
        commit(engine, |batch| {
            batch.delete_range(deleted, b"a".to_vec(), b"z".to_vec());
        });
        for family in Family::ALL {
            let expected = (family > deleted).then(|| family.name().as_bytes().to_vec());
            assert_eq!(read(engine, family, b"k"), expected);
        }
    }
}

fn empty_and_binary_keys_and_values_are_kept(engine: &mut dyn Engine) {
    let every_byte: Vec<u8> = (0..=u8::MAX).collect();
    let pairs: [(&[u8], &[u8]); 5] = [
        (b"", b"empty key"),
        (b"empty value", b""),
        (b"\0", b"\0\0"),
        (b"\r\n", &every_byte),
        (&every_byte, b"\xff"),
    ];
    commit(engine, |batch| {
        for (key, value) in pairs {
            put(batch, key, value);
        }
    });
    for _ in 0..2 {
        for (key, value) in pairs {
            assert_eq!(read(engine, Family::Head, key), Some(value.to_vec()));
        }
        engine.reopen();
    }
    commit(engine, |batch| batch.delete(Family::Head, Vec::new()));
    assert_eq!(read(engine, Family::Head, b""), None);
}

fn a_big_value_is_kept(engine: &mut dyn Engine) {
    let big: Vec<u8> = (0..1_u32 << 20)
        .map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    commit(engine, |batch| put(batch, b"big", &big));
    assert_eq!(read(engine, Family::Head, b"big"), Some(big.clone()));
    engine.kill();
    assert_eq!(read(engine, Family::Head, b"big"), Some(big));
}

fn an_empty_batch_changes_nothing(engine: &mut dyn Engine) {
    commit(engine, |batch| put(batch, b"k", b"v"));
    for durability in [Durability::Process, Durability::Power] {
        works(engine.storage().commit(&Batch::default(), durability));
    }
    assert_eq!(keys(engine, Family::Head), [b"k".to_vec()]);
}

fn a_batch_is_whole_after_reopening(engine: &mut dyn Engine) {
    commit(engine, |batch| {
        for family in Family::ALL {
            for key in 0..100_u8 {
                batch.put(family, vec![key], vec![key; 100]);
            }
        }
    });
    engine.reopen();
    for family in Family::ALL {
        assert_eq!(keys(engine, family).len(), 100);
        assert_eq!(read(engine, family, &[42]), Some(vec![42; 100]));
    }
}

fn what_was_deleted_stays_deleted_after_reopening(engine: &mut dyn Engine) {
    commit(engine, |batch| {
        (0..100).for_each(|key| put(batch, &[key], b"v"));
    });
    engine.reopen();
    commit(engine, |batch| {
        batch.delete(Family::Head, vec![5]);
        batch.delete_range(Family::Head, vec![10], vec![90]);
    });
    engine.reopen();
    let left = keys(engine, Family::Head);
    let expected = (0..10).filter(|key| *key != 5).chain(90..100);
    assert_eq!(left, expected.map(|key| vec![key]).collect::<Vec<_>>());
}

fn a_killed_process_loses_nothing_that_returned(engine: &mut dyn Engine) {
    for round in 0..3_u8 {
        commit(engine, |batch| {
            put(batch, &[round], &[round; 1000]);
            batch.put(Family::Outbox, vec![round], Vec::new());
        });
        engine.kill();
        let expected: Vec<_> = (0..=round).map(|key| vec![key]).collect();
        assert_eq!(keys(engine, Family::Head), expected);
        assert_eq!(keys(engine, Family::Outbox), expected);
    }
}

fn what_was_synced_survives_power_loss(engine: &mut dyn Engine) {
    commit(engine, |batch| put(batch, b"a", b"v"));
    commit(engine, |batch| put(batch, b"b", b"v"));
    works(engine.storage().sync());
    commit(engine, |batch| {
        put(batch, b"c", b"v");
        batch.put(Family::Outbox, b"c".to_vec(), b"v".to_vec());
    });
    engine.lose_power();
    let left = keys(engine, Family::Head);
    assert_eq!(left[..2], [b"a".to_vec(), b"b".to_vec()]);
    let unsynced = left.len() == 3;
    let outbox = read(engine, Family::Outbox, b"c").is_some();
    assert_eq!(unsynced, outbox, "a batch is there whole or not at all");
}

fn a_durable_commit_keeps_everything_before_it(engine: &mut dyn Engine) {
    commit(engine, |batch| put(batch, b"a", b"v"));
    commit(engine, |batch| {
        batch.put(Family::Row, b"b".to_vec(), Vec::new());
    });
    let mut durable = Batch::default();
    put(&mut durable, b"c", b"v");
    works(engine.storage().commit(&durable, Durability::Power));
    engine.lose_power();
    assert_eq!(keys(engine, Family::Head), [b"a".to_vec(), b"c".to_vec()]);
    assert_eq!(keys(engine, Family::Row), [b"b".to_vec()]);
}

fn commits_go_on_after_power_loss(engine: &mut dyn Engine) {
    for round in 0..3_u8 {
        commit(engine, |batch| put(batch, &[round], b"v"));
        works(engine.storage().sync());
        commit(engine, |batch| put(batch, &[100 + round], b"v"));
        engine.lose_power();
        let synced: Vec<_> = (0..=round).map(|key| vec![key]).collect();
        let left = scan(engine, Family::Head, b"", Some(&[100]));
        assert_eq!(left, synced);
    }
}

fn threads_commit_and_read_side_by_side(engine: &mut dyn Engine) {
    const COMMITS: u8 = 50;
    let storage = engine.storage();
    std::thread::scope(|scope| {
        for thread in 0..4_u8 {
            scope.spawn(move || {
                for round in 0..COMMITS {
                    let mut batch = Batch::default();
                    put(&mut batch, &[thread, round], &[round]);
                    batch.put(Family::Row, vec![thread, round], vec![round]);
                    works(storage.commit(&batch, Durability::Process));
                    let own = works(storage.get(Family::Row, &[thread, round]));
                    assert_eq!(own, Some(vec![round]), "a commit that returned is seen");
                }
            });
        }
    });
    let all = 4 * usize::from(COMMITS);
    assert_eq!(keys(engine, Family::Head).len(), all);
    engine.kill();
    assert_eq!(keys(engine, Family::Row).len(), all);
}

fn put(batch: &mut Batch, key: &[u8], value: &[u8]) {
    batch.put(Family::Head, key.to_vec(), value.to_vec());
}

fn commit(engine: &dyn Engine, fill: impl FnOnce(&mut Batch)) {
    let mut batch = Batch::default();
    fill(&mut batch);
    works(engine.storage().commit(&batch, Durability::Process));
}

fn read(engine: &dyn Engine, family: Family, key: &[u8]) -> Option<Vec<u8>> {
    works(engine.storage().get(family, key))
}

/// The keys that a scan visits; each value is checked against what a read of its key gives.
fn scan(engine: &dyn Engine, family: Family, from: &[u8], to: Option<&[u8]>) -> Vec<Vec<u8>> {
    let storage = engine.storage();
    let mut visited = Vec::new();
    works(storage.scan(family, from, to, &mut |key, value| {
        let read = works(storage.get(family, key));
        assert_eq!(read.as_deref(), Some(value), "scan and read agree");
        visited.push(key.to_vec());
        ControlFlow::Continue(())
    }));
    visited
}

fn keys(engine: &dyn Engine, family: Family) -> Vec<Vec<u8>> {
    scan(engine, family, b"", None)
}

fn works<T>(outcome: Result<T, StorageError>) -> T {
    outcome.expect("no fault was injected")
}

const NOTHING: [Vec<u8>; 0] = [];
