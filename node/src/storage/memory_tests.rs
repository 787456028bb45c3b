//! Goal: a crash of the memory engine leaves a prefix of the commits that holds everything synced, and its faults are
//! those of a disk.
//!
//! Method: named cases; random commits, syncs and crashes against a list of whole states.

use proptest::prelude::*;

use super::*;

fn put(key: &str, value: &str) -> Batch {
    let mut batch = Batch::default();
    batch.put(Family::Head, key.into(), value.into());
    batch
}

fn value(storage: &MemoryStorage, key: &str) -> Option<Vec<u8>> {
    storage.get(Family::Head, key.as_bytes()).unwrap()
}

fn commit(storage: &MemoryStorage, key: &str) -> Result<(), StorageError> {
    storage.commit(&put(key, "v"), Durability::Process)
}

#[test]
fn a_crash_takes_unsynced_commits_from_the_newest_on() {
    let storage = MemoryStorage::new();
    for key in ["a", "b", "c", "d"] {
        commit(&storage, key).unwrap();
        if key == "a" {
            storage.sync().unwrap();
        }
    }
    storage.crash(1);
    let left: Vec<_> = ["a", "b", "c", "d"]
        .into_iter()
        .filter(|key| value(&storage, key).is_some())
        .collect();
    assert_eq!(left, ["a", "b"]);
    assert_eq!(
        storage.usage(),
        Usage {
            bytes: 4,
            rows: 2,
            unsynced: 0,
            failed: false
        }
    );
}

#[test]
fn a_commit_with_power_durability_keeps_what_was_before_it() {
    let storage = MemoryStorage::new();
    commit(&storage, "a").unwrap();
    storage
        .commit(&Batch::default(), Durability::Power)
        .unwrap();
    commit(&storage, "b").unwrap();
    storage.crash(0);
    assert!(value(&storage, "a").is_some());
    assert!(value(&storage, "b").is_none());
}

#[test]
fn a_failed_commit_is_invisible_and_stops_commits_until_reopened() {
    let storage = MemoryStorage::new();
    storage.plan_commits([CommitOutcome::Succeeds, CommitOutcome::FailsUnwritten]);
    commit(&storage, "a").unwrap();
    assert!(commit(&storage, "b").is_err());
    assert!(commit(&storage, "c").is_err());
    assert!(storage.sync().is_err());
    assert!(value(&storage, "a").is_some(), "reads go on");
    storage.reopen().unwrap();
    commit(&storage, "d").unwrap();
    assert!(value(&storage, "b").is_none());
    assert!(value(&storage, "c").is_none());
}

#[test]
fn a_commit_that_failed_after_it_was_written_appears_when_reopened() {
    let storage = MemoryStorage::new();
    storage.plan_commits([CommitOutcome::FailsWritten]);
    assert!(commit(&storage, "a").is_err());
    assert!(value(&storage, "a").is_none());
    storage.reopen().unwrap();
    assert!(value(&storage, "a").is_some());
}

#[test]
fn a_commit_that_failed_after_it_was_written_is_the_newest_a_crash_can_take() {
    for (torn, survives) in [(1, false), (2, true)] {
        let storage = MemoryStorage::new();
        storage.plan_commits([CommitOutcome::Succeeds, CommitOutcome::FailsWritten]);
        commit(&storage, "a").unwrap();
        assert!(commit(&storage, "b").is_err());
        storage.crash(torn);
        assert!(value(&storage, "a").is_some());
        assert_eq!(value(&storage, "b").is_some(), survives);
        commit(&storage, "c").unwrap();
    }
}

#[test]
fn a_full_disk_refuses_commits_and_takes_them_again_when_there_is_space() {
    let storage = MemoryStorage::new();
    storage.limit_bytes(Some(4));
    commit(&storage, "a").unwrap();
    commit(&storage, "b").unwrap();
    assert!(commit(&storage, "c").is_err());
    assert_eq!(storage.usage().bytes, 4, "nothing of it was written");
    storage.limit_bytes(Some(3));
    assert!(storage.reopen().is_err());
    assert!(storage.usage().failed);
    assert!(value(&storage, "b").is_some());
    storage.limit_bytes(Some(6));
    storage.reopen().unwrap();
    commit(&storage, "c").unwrap();
}

#[test]
fn a_sync_that_fails_leaves_commits_to_the_mercy_of_a_crash() {
    let storage = MemoryStorage::new();
    commit(&storage, "a").unwrap();
    storage.fail_syncs(true);
    assert!(storage.sync().is_err());
    assert!(value(&storage, "a").is_some());
    storage.crash(0);
    assert!(value(&storage, "a").is_none());
    assert!(storage.commit(&put("b", "v"), Durability::Power).is_err());
    assert!(value(&storage, "b").is_none());
    storage.reopen().unwrap();
    assert!(value(&storage, "b").is_some());
}

#[test]
fn reads_fail_while_the_disk_does_and_commits_do_not_mind() {
    let storage = MemoryStorage::new();
    commit(&storage, "a").unwrap();
    storage.fail_reads(true);
    assert!(storage.get(Family::Head, b"a").is_err());
    let mut visited = 0;
    let scanned = storage.scan(Family::Head, b"", None, &mut |_, _| {
        visited += 1;
        ControlFlow::Continue(())
    });
    assert!(scanned.is_err());
    assert_eq!(visited, 0);
    commit(&storage, "b").unwrap();
    storage.fail_reads(false);
    assert!(value(&storage, "b").is_some());
}

#[derive(Debug, Clone)]
enum Step {
    Commit(Vec<Change>),
    Sync,
    Crash { torn: usize },
}

fn change() -> impl Strategy<Value = Change> {
    let family = prop::sample::select(&[Family::Head, Family::Row]);
    let key = || prop::collection::vec(0_u8..3, 0..3);
    prop_oneof![
        (family.clone(), key(), key()).prop_map(|(family, key, value)| Change::Put {
            family,
            key,
            value
        }),
        (family.clone(), key()).prop_map(|(family, key)| Change::Delete { family, key }),
        (family, key(), key()).prop_map(|(family, from, to)| Change::DeleteRange {
            family,
            from,
            to
        }),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => prop::collection::vec(change(), 0..5).prop_map(Step::Commit),
        1 => Just(Step::Sync),
        1 => (0_usize..5).prop_map(|torn| Step::Crash { torn }),
    ]
}

type Row = (Family, Vec<u8>, Vec<u8>);

/// Every family's rows, and the bytes they take.
fn state(storage: &MemoryStorage) -> (Vec<Row>, u64) {
    let mut rows = Vec::new();
    for family in Family::ALL {
        let scanned = storage.scan(family, b"", None, &mut |key, value| {
            rows.push((family, key.to_vec(), value.to_vec()));
            ControlFlow::Continue(())
        });
        scanned.unwrap();
    }
    let bytes = rows.iter().map(|(_, key, value)| key.len() + value.len());
    let bytes = bytes.sum::<usize>() as u64;
    (rows, bytes)
}

proptest! {
    #[test]
    fn a_crash_leaves_the_state_after_one_of_the_commits_since_the_last_sync(
        steps in prop::collection::vec(step(), 0..40)
    ) {
        let storage = MemoryStorage::new();
        let mut states = vec![state(&storage)];
        for step in steps {
            match step {
                Step::Commit(changes) => {
                    storage.commit(&Batch { changes }, Durability::Process).unwrap();
                    states.push(state(&storage));
                }
                Step::Sync => {
                    storage.sync().unwrap();
                    states.drain(..states.len() - 1);
                }
                Step::Crash { torn } => {
                    storage.crash(torn);
                    states.truncate(torn + 1);
                    states.drain(..states.len() - 1);
                    prop_assert_eq!(&state(&storage), &states[0]);
                }
            }
            prop_assert_eq!(storage.usage().bytes, state(&storage).1);
            prop_assert_eq!(storage.usage().unsynced, states.len() - 1);
        }
    }
}
