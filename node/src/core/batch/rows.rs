//! The rows of a key: loaded, joined, cleared.

use std::{collections::BTreeMap, ops::ControlFlow};

use bytes::Bytes;
use crdt::{Context, Delta, Dots, Named, Part, RowsDelta, Tag, join_row};

use super::{PendingBatch, RANGE_DELETE_ROWS_MIN, ROW_OVERHEAD_BYTES, RowEntry};
use crate::{
    core::{
        mutant::{Mutant, is_on},
        op::Key,
    },
    placement::Position,
    storage::{
        Storage, StorageError, prefix_end,
        record::{head, row},
    },
};

impl PendingBatch {
    /// Reads what several parts of one delta will change before the first of them changes anything: a row of the second one may be
    /// damaged.
    pub(super) fn load_rows(
        &mut self,
        storage: &dyn Storage,
        position: &Position,
        delta: &Delta,
    ) -> Result<(), StorageError> {
        let sets = || {
            delta
                .parts
                .iter()
                .filter(|part| matches!(part, Part::Set(_)))
        };
        if sets().count() < 2 {
            return Ok(());
        }
        for part in sets() {
            let Part::Set(rows) = part else { continue };
            match &rows.named {
                Named::Rows(named) => {
                    for element in named.keys() {
                        self.row_entry(
                            storage,
                            row::stored_key(position, Tag::SET, &delta.key, element),
                        )?;
                    }
                }
                Named::All => {
                    let prefix = row::prefix(position, Tag::SET, &delta.key);
                    if let Some(end) = prefix_end(&prefix) {
                        self.visit_live_rows(storage, &prefix, &end, &mut |_, _| {
                            ControlFlow::Continue(())
                        })?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Joins the rows that a delta names, and then its context: a row that it does not name is not compared with it.
    pub(super) fn join_rows(
        &mut self,
        storage: &dyn Storage,
        position: &Position,
        key: &Key,
        delta: &RowsDelta<()>,
    ) -> Result<(), StorageError> {
        let mut set = std::mem::take(&mut self.entry(storage, position, key)?.head.set);
        let joined = match &delta.named {
            Named::Rows(rows) => self.join_named(storage, position, key, rows, delta, &mut set),
            Named::All if delta.context.covers(&set.context) => {
                self.clear_rows(storage, position, key, &mut set)
            }
            Named::All => self.remove_covered(storage, position, key, delta, &mut set),
        };
        if joined.is_ok() {
            set.context.union(&delta.context);
            set.created = set.created.max(delta.created);
        }
        self.entry(storage, position, key)?.head.set = set;
        joined
    }

    fn join_named(
        &mut self,
        storage: &dyn Storage,
        position: &Position,
        key: &[u8],
        rows: &BTreeMap<Bytes, Dots<()>>,
        delta: &RowsDelta<()>,
        set: &mut head::RowsHead,
    ) -> Result<(), StorageError> {
        for element in rows.keys() {
            self.row_entry(storage, row::stored_key(position, Tag::SET, key, element))?;
        }
        rows.iter().try_for_each(|(element, dots)| {
            self.join_row(storage, position, key, element, dots, delta, set)
        })
    }

    #[allow(clippy::too_many_arguments)] // the row's address, both sides of the join, and the head that counts it
    fn join_row(
        &mut self,
        storage: &dyn Storage,
        position: &Position,
        key: &[u8],
        element: &[u8],
        theirs: &Dots<()>,
        delta: &RowsDelta<()>,
        set: &mut head::RowsHead,
    ) -> Result<(), StorageError> {
        let entry = self.row_entry(storage, row::stored_key(position, Tag::SET, key, element))?;
        let nothing = Context::new();
        let is_blind = is_on(Mutant::ContextIgnored);
        let seen = if is_blind { &nothing } else { &set.context };
        let joined = join_row(&entry.dots, seen, theirs, &delta.context);
        if joined == entry.dots {
            return Ok(());
        }
        for (dots, is_new) in [(&entry.dots, false), (&joined, true)] {
            if dots.is_empty() {
                continue;
            }
            let digest = row::digest(element, &row::encode(dots));
            if is_new {
                (set.live, set.sum) = (set.live + 1, set.sum.wrapping_add(digest));
            } else {
                assert!(
                    set.live > 0,
                    "a row that was not counted is replaced: {}",
                    key.escape_ascii()
                );
                (set.live, set.sum) = (set.live - 1, set.sum.wrapping_sub(digest));
            }
        }
        entry.dots = joined;
        entry.is_changed = true;
        self.bytes += element.len() + key.len() + ROW_OVERHEAD_BYTES;
        Ok(())
    }

    /// Deletes every row of a key: as one range where they are many, one by one where they are few, because every later
    /// read of the neighbourhood pays for a range that was deleted.
    fn clear_rows(
        &mut self,
        storage: &dyn Storage,
        position: &Position,
        key: &[u8],
        set: &mut head::RowsHead,
    ) -> Result<(), StorageError> {
        let prefix = row::prefix(position, Tag::SET, key);
        let end = prefix_end(&prefix)
            .expect("a prefix begins with a partition below 1024, so a larger key exists");
        if set.live > RANGE_DELETE_ROWS_MIN {
            let touched: Vec<Vec<u8>> = self
                .touched_rows(&prefix, &end)
                .map(|(stored, _)| stored.to_vec())
                .collect();
            for stored in touched {
                self.rows.remove(&stored);
            }
            self.cleared.push((prefix, end));
        } else if set.live > 0 {
            for (stored, _) in self.live_rows(storage, &prefix, &end)? {
                self.bytes += stored.len() + ROW_OVERHEAD_BYTES;
                self.rows.insert(
                    stored,
                    RowEntry {
                        dots: Dots::default(),
                        is_changed: true,
                    },
                );
            }
        }
        (set.live, set.sum) = (0, 0);
        self.bytes += ROW_OVERHEAD_BYTES;
        Ok(())
    }

    /// A whole-key remove that has not seen all that is here: only what it saw goes.
    fn remove_covered(
        &mut self,
        storage: &dyn Storage,
        position: &Position,
        key: &[u8],
        delta: &RowsDelta<()>,
        set: &mut head::RowsHead,
    ) -> Result<(), StorageError> {
        let prefix = row::prefix(position, Tag::SET, key);
        let end = prefix_end(&prefix)
            .expect("a prefix begins with a partition below 1024, so a larger key exists");
        let live = self.live_rows(storage, &prefix, &end)?;
        let elements = live
            .iter()
            .map(|(stored, _)| row::element(stored, prefix.len()).map(|(_, element)| element))
            .collect::<Result<Vec<_>, _>>()?;
        for (stored, dots) in &live {
            self.rows.entry(stored.clone()).or_insert_with(|| RowEntry {
                dots: dots.clone(),
                is_changed: false,
            });
        }
        elements.into_iter().try_for_each(|element| {
            self.join_row(
                storage,
                position,
                key,
                element,
                &Dots::default(),
                delta,
                set,
            )
        })
    }
}
