//! A key as a reader sees it, over committed state alone or under the changes of a batch.

use std::{
    iter::Peekable,
    ops::{ControlFlow, Deref},
    sync::Arc,
};

use crdt::Tag;

use super::batch::PendingBatch;
use crate::{
    placement::Position,
    storage::{
        Family, Storage, StorageError, Visit, prefix_end,
        record::{
            head::{self, Head},
            row,
        },
    },
};

/// Visits an element: its hash and its bytes. `Break` ends the visit.
pub type VisitElement<'a> = &'a mut dyn FnMut(u64, &[u8]) -> ControlFlow<()>;

/// Where reads look. What it gives is a view, never a delta: joined into storage it would swallow rows that it does not carry.
pub trait View {
    /// Why a read failed.
    type Error;

    /// A key's head, if it has one.
    fn head(&self, position: &Position, key: &[u8]) -> Result<Option<HeadRef<'_>>, Self::Error>;

    /// Whether an element is there.
    fn has_element(
        &self,
        position: &Position,
        key: &[u8],
        element: &[u8],
    ) -> Result<bool, Self::Error>;

    /// Visits the elements whose hash is at least `from`, in the order of their hashes.
    fn elements(
        &self,
        position: &Position,
        key: &[u8],
        from: u64,
        visit: VisitElement<'_>,
    ) -> Result<(), Self::Error>;
}

/// A head, from wherever it was found.
pub enum HeadRef<'a> {
    /// In a batch.
    PendingBatch(&'a Head),
    /// Committed, and perhaps in a cache that others look into.
    Committed(Arc<Head>),
}

impl Deref for HeadRef<'_> {
    type Target = Head;

    fn deref(&self) -> &Head {
        match self {
            Self::PendingBatch(head) => head,
            Self::Committed(head) => head,
        }
    }
}

fn stored_head<'a>(
    storage: &dyn Storage,
    position: &Position,
    key: &[u8],
) -> Result<Option<HeadRef<'a>>, StorageError> {
    let stored = storage.get(Family::Head, &head::stored_key(position, key))?;
    stored
        .map(|value| {
            Head::decode(key, &value)
                .map(Arc::new)
                .map(HeadRef::Committed)
        })
        .transpose()
}

/// What is committed.
pub struct Committed<'a>(pub &'a dyn Storage);

impl View for Committed<'_> {
    type Error = StorageError;

    fn head(&self, position: &Position, key: &[u8]) -> Result<Option<HeadRef<'_>>, StorageError> {
        stored_head(self.0, position, key)
    }

    fn has_element(
        &self,
        position: &Position,
        key: &[u8],
        element: &[u8],
    ) -> Result<bool, StorageError> {
        Ok(self
            .0
            .get(
                Family::Row,
                &row::stored_key(position, Tag::SET, key, element),
            )?
            .is_some())
    }

    fn elements(
        &self,
        position: &Position,
        key: &[u8],
        from: u64,
        visit: VisitElement<'_>,
    ) -> Result<(), StorageError> {
        Elements::of(position, key, from).visit(Some(scan_of(self.0)), std::iter::empty(), visit)
    }
}

/// What is committed, under what a batch changed.
pub struct Uncommitted<'a> {
    /// What is committed.
    pub storage: &'a dyn Storage,
    /// What the batch changed.
    pub pending: &'a PendingBatch,
}

impl View for Uncommitted<'_> {
    type Error = StorageError;

    fn head(&self, position: &Position, key: &[u8]) -> Result<Option<HeadRef<'_>>, StorageError> {
        match self.pending.peek(key) {
            Some(head) => Ok(Some(HeadRef::PendingBatch(head))),
            None => stored_head(self.storage, position, key),
        }
    }

    fn has_element(
        &self,
        position: &Position,
        key: &[u8],
        element: &[u8],
    ) -> Result<bool, StorageError> {
        let stored = row::stored_key(position, Tag::SET, key, element);
        match self.pending.peek_row(&stored) {
            Some(dots) => Ok(!dots.is_empty()),
            None if self.pending.is_cleared(&stored) => Ok(false),
            None => Ok(self.storage.get(Family::Row, &stored)?.is_some()),
        }
    }

    fn elements(
        &self,
        position: &Position,
        key: &[u8],
        from: u64,
        visit: VisitElement<'_>,
    ) -> Result<(), StorageError> {
        let elements = Elements::of(position, key, from);
        let is_cleared = self.pending.is_cleared(&elements.from);
        let touched = self.pending.touched_rows(&elements.from, &elements.to);
        let touched = touched.map(|(stored, dots)| (stored, !dots.is_empty()));
        elements.visit((!is_cleared).then(|| scan_of(self.storage)), touched, visit)
    }
}

/// Rows of a storage, from one stored key to another.
fn scan_of(
    storage: &dyn Storage,
) -> impl FnOnce(&[u8], &[u8], Visit<'_>) -> Result<(), StorageError> + '_ {
    |from, to, visit| storage.scan(Family::Row, from, Some(to), visit)
}

/// A run of one key's element rows.
pub(super) struct Elements {
    prefix_bytes: usize,
    pub(super) from: Vec<u8>,
    pub(super) to: Vec<u8>,
}

impl Elements {
    pub(super) fn of(position: &Position, key: &[u8], from: u64) -> Self {
        let prefix = row::prefix(position, Tag::SET, key);
        let to = prefix_end(&prefix)
            .expect("a prefix begins with a partition below 1024, so a larger key exists");
        Self {
            prefix_bytes: prefix.len(),
            from: row::from_hash(position, Tag::SET, key, from),
            to,
        }
    }

    /// Merges stored rows, if any count, with touched ones, both in order; a touched one stands for the stored one of its key, and
    /// says whether it is there.
    pub(super) fn visit<'a>(
        &self,
        scan: Option<impl FnOnce(&[u8], &[u8], Visit<'_>) -> Result<(), StorageError>>,
        touched: impl Iterator<Item = (&'a [u8], bool)>,
        visit: VisitElement<'_>,
    ) -> Result<(), StorageError> {
        let mut touched = touched.peekable();
        let mut failed = None;
        let mut step = |stored: &[u8]| match row::element(stored, self.prefix_bytes) {
            Ok((hash, element)) => visit(hash, element),
            Err(error) => {
                failed = Some(error);
                ControlFlow::Break(())
            }
        };
        let mut flow = ControlFlow::Continue(());
        if let Some(scan) = scan {
            scan(&self.from, &self.to, &mut |stored, _| {
                flow = merge_step(&mut touched, stored, &mut step);
                flow
            })?;
        }
        if flow.is_continue() {
            for (stored, is_there) in touched {
                if is_there && step(stored).is_break() {
                    break;
                }
            }
        }
        failed.map_or(Ok(()), Err)
    }
}

/// Gives out the touched rows up to `stored`, then `stored` unless a touched row stands for it.
fn merge_step<'a>(
    touched: &mut Peekable<impl Iterator<Item = (&'a [u8], bool)>>,
    stored: &[u8],
    step: &mut impl FnMut(&[u8]) -> ControlFlow<()>,
) -> ControlFlow<()> {
    while let Some((key, is_there)) = touched.next_if(|(key, _)| *key <= stored) {
        if is_there {
            step(key)?;
        }
        if key == stored {
            return ControlFlow::Continue(());
        }
    }
    step(stored)
}
