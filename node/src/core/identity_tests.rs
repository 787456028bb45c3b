use proptest::prelude::*;

use super::*;
use crate::storage::{Durability, memory::MemoryStorage};

fn boot(name: &str) -> BootId {
    BootId(name.to_owned())
}

fn created(fsync_always: bool) -> Identity {
    Identity::create(
        "us-1".parse().unwrap(),
        "shop".parse().unwrap(),
        NonZeroU16::new(2).unwrap(),
        boot("one"),
        fsync_always,
        7,
    )
}

#[test]
fn a_directory_renews_only_when_its_last_stamps_may_be_gone() {
    let table = [
        // clean, booted since, synced always, renews
        (true, false, false, false),
        (true, false, true, false),
        (true, true, false, false),
        (true, true, true, false),
        (false, false, false, false),
        (false, false, true, false),
        (false, true, false, true),
        (false, true, true, false),
    ];
    for (clean, booted, synced_always, renews) in table {
        let mut before = created(synced_always);
        if clean {
            before = before.closed_cleanly();
        }
        let now = boot(if booted { "two" } else { "one" });
        let (after, renewal) = before.reopened(&now, synced_always, 8);
        let case = format!("clean {clean}, booted {booted}, synced always {synced_always}");
        assert_eq!(renewal.is_some(), renews, "{case}");
        assert_eq!(after.directory != before.directory, renews, "{case}");
        assert_eq!(after.boot, now, "{case}");
        assert!(!after.clean, "{case}");
    }
}

#[test]
fn how_the_session_before_synced_decides_not_how_this_one_does() {
    let (_, renewal) = created(false).reopened(&boot("two"), true, 8);
    assert!(renewal.is_some(), "always was switched on too late");
    let (after, renewal) = created(true).reopened(&boot("two"), false, 8);
    assert!(renewal.is_none());
    let (_, renewal) = after.reopened(&boot("three"), true, 9);
    assert!(renewal.is_some(), "always was switched off in between");
}

#[test]
fn a_renewal_closes_the_number_and_keeps_it_to_ship_for() {
    let (renewed, renewal) = created(false).renewed(8);
    assert_eq!(
        renewal,
        Renewal {
            closed: DirectoryId(7),
            opened: DirectoryId(8)
        }
    );
    assert_eq!(renewed.former, [DirectoryId(7)]);
    let actors: Vec<_> = renewed.actors().filter(|actor| !is_relay(*actor)).collect();
    assert_eq!(
        renewed.actors().count(),
        2 * actors.len(),
        "a relay log each"
    );
    let expected = [(8, 0), (8, 1), (7, 0), (7, 1)];
    assert_eq!(
        actors,
        expected.map(|(number, shard)| ActorId::new(number, shard))
    );
    let (again, _) = renewed.renewed(9);
    let numbers: Vec<_> = again.actors().map(ActorId::directory).collect();
    assert_eq!(
        numbers,
        [9, 9, 9, 9, 8, 8, 8, 8, 7, 7, 7, 7],
        "the newest first"
    );
}

#[test]
fn a_clean_close_is_forgotten_when_the_directory_is_opened() {
    let (opened, _) = created(false)
        .closed_cleanly()
        .reopened(&boot("two"), false, 8);
    let (_, renewal) = opened.reopened(&boot("three"), false, 9);
    assert!(renewal.is_some());
}

#[test]
fn an_identity_is_stored_under_golden_bytes() {
    let (identity, _) = created(true).renewed(0x0001_0000_0000_0009);
    let golden = [
        b"\x01\x04us-1\x04shop\x09\x01\x07\x02".as_slice(),
        b"\x03one\x00\x01",
    ]
    .concat();
    assert_eq!(identity.encode(), golden);
    assert_eq!(Identity::decode(&golden), Ok(identity));
}

#[test]
fn a_stored_identity_is_read_back_and_a_damaged_one_is_named() {
    let storage = MemoryStorage::new();
    assert_eq!(Identity::load(&storage), Ok(None));
    let mut batch = Batch::default();
    created(false).put(&mut batch);
    storage.commit(&batch, Durability::Power).unwrap();
    assert_eq!(Identity::load(&storage), Ok(Some(created(false))));

    let mut newer = created(false).encode();
    newer[0] = 9;
    for (bytes, expected) in [(newer, "newer binary"), (b"\x01\x04us".to_vec(), "meta")] {
        let mut batch = Batch::default();
        batch.put(Family::Meta, KEY.to_vec(), bytes);
        storage.commit(&batch, Durability::Process).unwrap();
        let text = Identity::load(&storage).unwrap_err().to_string();
        assert!(
            text.contains(expected) && text.contains("identity"),
            "{text}"
        );
    }
}

proptest! {
    #[test]
    fn numbers_are_48_bits_not_zero_and_never_used_again(
        first in any::<u64>(),
        draws in prop::collection::vec(prop_oneof![any::<u64>(), 0_u64..4, Just(u64::MAX)], 0..20),
    ) {
        let mut identity = created(false);
        identity.directory = DirectoryId::drawn(first);
        for draw in draws {
            identity = identity.renewed(draw).0;
            prop_assert!(identity.directory.0 != 0 && identity.directory.0 < 1 << 48);
            prop_assert!(!identity.former.contains(&identity.directory));
        }
        prop_assert_eq!(Identity::decode(&identity.encode()), Ok(identity));
    }
}
