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

/// One page of SCAN: keys from the cursor's position on, of the partitions below `upto`, and the next cursor. Keys that share a cursor share a page.
pub fn page(
    storage: &dyn Storage,
    cursor: u64,
    filter: &ScanFilter,
    upto: u16,
    wall_ms: u64,
) -> Result<(u64, Vec<Key>), StorageError> {
    let (mut next, mut last) = (0, None);
    let (mut shown, mut absent) = (0, 0);
    let mut keys = Vec::new();
    visit_heads(
        storage,
        &Position::from_cursor(cursor).to_bytes(),
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

/// The first key from the cursor's position on.
pub fn first_shown(
    storage: &dyn Storage,
    cursor: u64,
    wall_ms: u64,
) -> Result<Option<Key>, StorageError> {
    let mut found = None;
    visit_heads(
        storage,
        &Position::from_cursor(cursor).to_bytes(),
        None,
        &mut |_, key, _, head| {
            if head.map_or(Shown::Absent, |head| head.shown(wall_ms)) == Shown::Absent {
                return ControlFlow::Continue(());
            }
            found = Some(Bytes::copy_from_slice(key));
            ControlFlow::Break(())
        },
    )?;
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
        let storage = MemoryStorage::new();
        let stamp = Stamp::new(Hlc::from_millis(1), ActorId::new(1, 0));
        let mut batch = Batch::default();
        for number in 0..keys + deleted {
            let key = number.to_string();
            let value = (number < keys).then(|| Bytes::from_static(b"value"));
            let mut head = Head::default();
            head.string = head.string.set(stamp, value);
            let stored = head::stored_key(&Position::of(key.as_bytes()), key.as_bytes());
            batch.put(Family::Head, stored, head.encode());
        }
        storage
            .commit(&batch, Durability::Process)
            .expect("the disk has room");
        storage
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
            let (next, keys) =
                page(storage, cursor, &filter, PARTITIONS, 1).expect("storage can be read");
            assert!(keys.len() <= count, "no two of these keys share a cursor");
            found.extend(keys);
            pages += 1;
            if next == 0 {
                return (found, pages);
            }
            assert!(next > cursor, "a walk goes on");
            cursor = next;
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
