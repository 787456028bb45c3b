//! What an older release kept without knowing its type is joined, at the first start of a release that does.
//!
//! ```text
//!   release 1: part of type 9 ──▶ head { …, unknown: 9 → its bytes }        kept, passed on
//!   release 2, which has type 9, starts ──▶ the part is joined, the head holds it no more
//! ```
//! Before the shards start: nobody has read or counted anything yet. A process that dies in the middle goes on at the next start,
//! because a key's head changes and what it kept is joined in one commit, and joining twice changes nothing.

use std::ops::ControlFlow;

use bytes::Bytes;
use crdt::Delta;

use super::{batch::PendingBatch, expiring::Expiring, op::Key, recover::visit_heads};
use crate::{
    placement::Position,
    storage::{
        Batch, Durability, Storage, StorageError,
        record::{head, meta},
    },
};

/// What came of it.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Adopted {
    /// Keys of which all that had been kept is joined.
    pub keys: u64,
    /// Keys of which nothing is, because a row is damaged or what was kept is no part of its type. They are left as they are, and tried
    /// again at the next start.
    pub damaged: u64,
    /// What is wrong with the first of these.
    pub first: Option<StorageError>,
}

/// Joins what heads hold of types that have become known.
///
/// # Errors
/// Where storage cannot be read or written. One that is damaged is no reason not to start.
pub fn adopt(storage: &dyn Storage) -> Result<Adopted, StorageError> {
    let mut adopted = Adopted::default();
    if !meta::has_unknown(storage)? {
        return Ok(adopted);
    }
    let mut from = Some(Vec::new());
    let mut are_left = false;
    while let Some(start) = from.take() {
        let page = page(storage, &start)?;
        are_left |= page.are_left;
        from = page.next;
        for key in page.keys {
            match adopt_key(storage, &key) {
                Ok(()) => adopted.keys += 1,
                Err(error @ StorageError::Failed { .. }) => return Err(error),
                Err(error) => {
                    are_left = true;
                    adopted.damaged += 1;
                    adopted.first.get_or_insert(error);
                }
            }
        }
    }
    let mut batch = Batch::default();
    if adopted.keys > 0 {
        meta::forget_tallies(storage, &mut batch)?;
    }
    if !are_left {
        meta::forget_unknown(&mut batch);
    }
    storage.commit(&batch, Durability::Power)?;
    Ok(adopted)
}

fn adopt_key(storage: &dyn Storage, key: &Key) -> Result<(), StorageError> {
    let mut pending = PendingBatch::new(0);
    let mut batch = Batch::default();
    let parts = pending.take_known(storage, &Position::of(key), key)?;
    pending.join(
        storage,
        &Delta {
            key: key.clone(),
            parts,
        },
    )?;
    pending.close(&mut batch, &mut Expiring::default());
    storage.commit(&batch, Durability::Process)
}

/// Keys of a part of a walk over all heads.
struct Page {
    /// Those that hold parts of types that are known.
    keys: Vec<Key>,
    /// Others hold parts of types that are not.
    are_left: bool,
    /// Where the walk goes on.
    next: Option<Vec<u8>>,
}

fn page(storage: &dyn Storage, from: &[u8]) -> Result<Page, StorageError> {
    let (mut keys, mut are_left, mut next) = (Vec::new(), false, None);
    visit_heads(storage, from, None, &mut |position, key, _, head| {
        if keys.len() >= KEYS_PER_PAGE {
            next = Some(head::stored_key(&position, key));
            return ControlFlow::Break(());
        }
        // One that is damaged is no reason not to start.
        if let Ok(head) = head
            && !head.unknown.is_empty()
        {
            match head.unknown.has_known() {
                true => keys.push(Bytes::copy_from_slice(key)),
                false => are_left = true,
            }
        }
        ControlFlow::Continue(())
    })?;
    Ok(Page {
        keys,
        are_left,
        next,
    })
}

/// Keys that are remembered between two looks at storage.
const KEYS_PER_PAGE: usize = 1_024;
