//! What was stamped far ahead is stamped anew: the heads and rows that it touched, and its deltas in the outbox.

use crdt::{Delta, Hlc, Restamp, Tag};

use super::{OutboxRow, PendingBatch, ROW_OVERHEAD_BYTES, Touched};
use crate::{
    placement::Position,
    storage::{Storage, StorageError, record::row},
};

impl PendingBatch {
    /// Reads everything that [`PendingBatch::restamp`] will change. Changes nothing.
    pub fn load(&mut self, storage: &dyn Storage, touched: &Touched) -> Result<(), StorageError> {
        for (key, elements) in &touched.0 {
            let position = Position::of(key);
            self.entry(storage, &position, key)?;
            for element in elements {
                self.row_entry(storage, row::stored_key(&position, Tag::SET, key, element))?;
            }
        }
        Ok(())
    }

    /// Maps the stamps of everything that was loaded.
    pub fn restamp(&mut self, touched: &Touched, restamp: &Restamp) {
        for (key, elements) in &touched.0 {
            let position = Position::of(key);
            let mut sum = 0u128;
            for element in elements {
                let stored = row::stored_key(&position, Tag::SET, key, element);
                sum = sum.wrapping_add(self.restamp_row(&stored, element, restamp));
            }
            let entry = self
                .heads
                .get_mut(key)
                .expect("the head was loaded, and none is dropped within a batch");
            let head = &mut entry.head;
            head.string = restamp.string(&head.string);
            head.expiry = restamp.expiry(&head.expiry);
            head.set.context = restamp.context(&head.set.context);
            head.set.created = restamp.stamp(head.set.created);
            head.set.sum = head.set.sum.wrapping_add(sum);
            self.touch(key);
        }
    }

    /// Queues deltas for the other regions as a row of their own; joined they are already.
    pub fn requeue(&mut self, deltas: Vec<Delta>, last: Hlc) {
        debug_assert!(
            self.outbox.last().is_none_or(|row| row.last < last),
            "stamps of one actor only rise"
        );
        let bytes = deltas.iter().map(Delta::approximate_bytes).sum();
        self.bytes += bytes;
        self.outbox.push(OutboxRow {
            deltas,
            last,
            bytes,
        });
    }

    /// Gives by how much the sum of the key's rows changes.
    fn restamp_row(&mut self, stored: &[u8], element: &[u8], restamp: &Restamp) -> u128 {
        let entry = self
            .rows
            .get_mut(stored)
            .expect("the row was loaded, and none is dropped within a batch");
        let given = restamp.dots(&entry.dots);
        if given == entry.dots {
            return 0;
        }
        assert_eq!(given.len(), entry.dots.len(), "no dot comes or goes");
        let before = row::digest(element, &row::encode(&entry.dots));
        let after = row::digest(element, &row::encode(&given));
        entry.dots = given;
        entry.is_changed = true;
        self.bytes += stored.len() + ROW_OVERHEAD_BYTES;
        after.wrapping_sub(before)
    }
}
