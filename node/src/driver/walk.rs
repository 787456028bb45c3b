//! Walks over the keys of a node, in the order of their positions.
//!
//! Between the keys lie the heads of those that were deleted, for as long as another region may still ask about them. A page is
//! bounded in both: a client neither waits for a walk over a million deleted keys nor needs a round trip for every few of them.

use std::ops::ControlFlow;

use bytes::Bytes;

use crate::{
    core::{
        glob,
        op::{Key, Kind, ScanFilter},
        recover::visit_heads,
    },
    placement::Position,
    storage::{
        Storage, StorageError,
        record::head::{Head, Shown},
    },
};

/// One page of SCAN: keys from a position on, of the partitions below `upto`, and the next cursor. Keys that share a cursor share a page.
pub fn page(
    storage: &dyn Storage,
    from: Position,
    filter: &ScanFilter,
    upto: u16,
    wall_ms: u64,
) -> Result<(u64, Vec<Key>), StorageError> {
    let (mut next, mut last) = (0, None);
    let (mut shown, mut absent) = (0, 0);
    let mut keys = Vec::new();
    visit_heads(
        storage,
        &from.to_bytes(),
        Some(&upto.to_be_bytes()),
        &mut |position, key, _, head| {
            let at = position.cursor();
            let is_full = shown >= filter.count || absent >= ABSENT_PER_PAGE_MAX;
            if is_full && last != Some(at) && at != 0 {
                next = at;
                return ControlFlow::Break(());
            }
            last = Some(at);
            // A damaged one is neither shown nor known to be gone: whoever asks for it by name is told.
            match head.ok().and_then(|head| kind(head, wall_ms)) {
                None => absent += 1,
                Some(kind) => {
                    shown += 1;
                    if is_wanted(filter, kind, key) {
                        keys.push(Bytes::copy_from_slice(key));
                    }
                }
            }
            ControlFlow::Continue(())
        },
    )?;
    Ok((next, keys))
}

/// A key's type; `None` where a reader sees no key.
fn kind(head: &Head, wall_ms: u64) -> Option<Kind> {
    match head.shown(wall_ms) {
        Shown::Absent => None,
        Shown::String => Some(Kind::String),
        Shown::Set => Some(Kind::Set),
    }
}

fn is_wanted(filter: &ScanFilter, kind: Kind, key: &[u8]) -> bool {
    filter.kind.is_none_or(|wanted| wanted == kind)
        && filter
            .pattern
            .as_deref()
            .is_none_or(|pattern| glob::matches(pattern, key))
}

/// The first key from a position on.
pub fn first_shown(
    storage: &dyn Storage,
    from: Position,
    wall_ms: u64,
) -> Result<Option<Key>, StorageError> {
    let mut found = None;
    visit_heads(storage, &from.to_bytes(), None, &mut |_, key, _, head| {
        if head.map_or(Shown::Absent, |head| head.shown(wall_ms)) == Shown::Absent {
            return ControlFlow::Continue(());
        }
        found = Some(Bytes::copy_from_slice(key));
        ControlFlow::Break(())
    })?;
    Ok(found)
}

/// Heads of deleted keys on one page: a few milliseconds' worth.
const ABSENT_PER_PAGE_MAX: usize = 1024;

#[cfg(test)]
mod tests {
    use crdt::{ActorId, Hlc, Stamp};

    use super::*;
    use crate::placement::PARTITIONS;
    use crate::storage::{Batch, Durability, Family, memory::MemoryStorage, record::head};

    /// Keys that are there, and so many that were deleted.
    fn storage_with(keys: usize, deleted: usize) -> MemoryStorage {
        storage_of((0..keys + deleted).map(|number| {
            let key = number.to_string();
            (Position::of(key.as_bytes()), key, number < keys)
        }))
    }

    /// Keys at positions, and whether they are there or were deleted.
    fn storage_of(keys: impl Iterator<Item = (Position, String, bool)>) -> MemoryStorage {
        let storage = MemoryStorage::new();
        let stamp = Stamp::new(Hlc::from_millis(1), ActorId::new(1, 0));
        let mut batch = Batch::default();
        for (position, key, is_there) in keys {
            let value = is_there.then(|| Bytes::from_static(b"value"));
            let mut head = Head::default();
            head.string = head.string.set(stamp, value);
            let stored = head::stored_key(&position, key.as_bytes());
            batch.put(Family::Head, stored, head.encode());
        }
        storage
            .commit(&batch, Durability::Process)
            .expect("the disk has room");
        storage
    }

    #[test]
    fn keys_that_share_a_cursor_are_all_on_one_page() {
        let one = Position::of(b"some key");
        let begin = Position::from_cursor(one.cursor()).expect("a position's cursor is one");
        let crowd = 300;
        // As many behind each other as the bits that a cursor lacks leave apart, and a few before and behind them.
        let hashes = (0..crowd).map(|number| begin.hash + number * 7_000);
        let around = [
            begin.hash - 1,
            begin.hash + (1 << 21),
            begin.hash + (2 << 21),
        ];
        let keys = hashes.chain(around).enumerate().map(|(number, hash)| {
            let partition = begin.partition;
            (Position { partition, hash }, number.to_string(), true)
        });
        let storage = storage_of(keys);
        let filter = ScanFilter {
            count: 2,
            pattern: None,
            kind: None,
        };
        let (mut sizes, mut from) = (Vec::new(), Position::FIRST);
        loop {
            let (next, keys) =
                page(&storage, from, &filter, PARTITIONS, 1).expect("storage can be read");
            sizes.push(keys.len());
            if next == 0 {
                break;
            }
            from = Position::from_cursor(next as f64 as i64 as u64).expect("a page ends with one");
        }
        assert_eq!(sizes, [1 + crowd as usize, 2]);
    }

    #[test]
    fn a_random_place_leads_to_any_key() {
        let count = 20_000;
        let storage = storage_with(count, 0);
        let mut entropy = 1_u64;
        let mut drawn = std::collections::BTreeSet::new();
        for _ in 0..count {
            entropy = entropy
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let from = Position::at_random(entropy);
            drawn.extend(first_shown(&storage, from, 1).expect("storage can be read"));
        }
        // Half of them are expected: a key is drawn by the gap before it.
        assert!(drawn.len() > count / 3, "{} of {count}", drawn.len());
    }

    /// Every key that a walk finds, and its number of pages.
    fn walk(storage: &MemoryStorage, count: usize) -> (Vec<Key>, usize) {
        let filter = ScanFilter {
            count,
            pattern: None,
            kind: None,
        };
        let (mut found, mut pages, mut cursor) = (Vec::new(), 0, 0);
        loop {
            let from = Position::from_cursor(cursor).expect("a page ends with a cursor");
            let (next, keys) =
                page(storage, from, &filter, PARTITIONS, 1).expect("storage can be read");
            assert!(keys.len() <= count, "no two of these keys share a cursor");
            found.extend(keys);
            pages += 1;
            if next == 0 {
                return (found, pages);
            }
            assert!(next > cursor, "a walk goes on");
            // As a client may keep it.
            cursor = next as f64 as i64 as u64;
        }
    }

    #[test]
    fn a_walk_finds_every_key_once() {
        let storage = storage_with(500, 500);
        for count in [1, 7, 10_000] {
            let (mut found, _) = walk(&storage, count);
            found.sort();
            found.dedup();
            assert_eq!(found.len(), 500, "COUNT {count}");
        }
    }

    #[test]
    fn deleted_keys_cost_no_pages_of_a_few_and_no_endless_page_either() {
        let (found, pages) = walk(&storage_with(10, 900), 10);
        assert_eq!(found.len(), 10);
        assert!(pages <= 2, "{pages} pages");
        let (found, pages) = walk(&storage_with(0, 5 * ABSENT_PER_PAGE_MAX), 10);
        assert_eq!((found.len(), pages), (0, 5));
    }
}
