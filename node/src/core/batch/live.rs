//! The rows of a key as they will be after the batch: those that are stored, and over them those that the batch touched.

use std::ops::ControlFlow;

use crdt::Dots;

use super::PendingBatch;
use crate::storage::{Family, Storage, StorageError, record::row};

/// Rows with their dots, by their stored keys.
type StoredRows = Vec<(Vec<u8>, Dots<()>)>;

/// Is shown a row's stored key and its dots.
type VisitLive<'a> = &'a mut dyn FnMut(&[u8], &Dots<()>) -> ControlFlow<()>;

impl PendingBatch {
    /// Every row in `from..to` that has dots.
    pub(in crate::core) fn live_rows(
        &self,
        storage: &dyn Storage,
        from: &[u8],
        to: &[u8],
    ) -> Result<StoredRows, StorageError> {
        let mut live = StoredRows::new();
        self.visit_live_rows(storage, from, to, &mut |stored, dots| {
            live.push((stored.to_vec(), dots.clone()));
            ControlFlow::Continue(())
        })?;
        Ok(live)
    }

    /// Visits every row in `from..to` that has dots, in the order of their stored keys, and reads no further than it is asked to.
    pub(in crate::core) fn visit_live_rows(
        &self,
        storage: &dyn Storage,
        from: &[u8],
        to: &[u8],
        visit: VisitLive<'_>,
    ) -> Result<(), StorageError> {
        let mut visit = |stored: &[u8], dots: &Dots<()>| match dots.is_empty() {
            true => ControlFlow::Continue(()),
            false => visit(stored, dots),
        };
        let mut touched = self.touched_rows(from, to).peekable();
        let mut ended = ControlFlow::Continue(());
        let mut failed = None;
        if !self.is_cleared(from) {
            storage.scan(Family::Row, from, Some(to), &mut |stored, value| {
                while let Some((before, dots)) = touched.next_if(|(row, _)| *row < stored) {
                    ended = visit(before, dots);
                    ended?;
                }
                if let Some((row, dots)) = touched.next_if(|(row, _)| *row == stored) {
                    ended = visit(row, dots);
                    return ended;
                }
                match row::decode(stored, value) {
                    Ok(dots) => ended = visit(stored, &dots),
                    Err(error) => {
                        failed = Some(error);
                        ended = ControlFlow::Break(());
                    }
                }
                ended
            })?;
        }
        if ended.is_continue() {
            let _ = touched.try_for_each(|(row, dots)| visit(row, dots));
        }
        failed.map_or(Ok(()), Err)
    }
}
