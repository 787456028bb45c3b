//! One actor's rows in the outbox, the newest of them in memory.

use std::{collections::VecDeque, ops::ControlFlow};

use bytes::Bytes;
use crdt::{ActorId, Hlc};

use super::extent::measure;
use crate::storage::{
    Family, Storage, StorageError,
    record::{meta::Mark, outbox},
};

/// One actor's rows in the outbox.
#[derive(Debug, Default)]
pub(super) struct Log {
    pub(super) trimmed: Hlc,
    pub(super) newest: Hlc,
    /// No row and no promise of the log went beyond this: nobody can have taken more.
    pub(super) told: Hlc,
    /// Rows up to here were kept for too long.
    pub(super) given_up: Hlc,
    pub(super) bytes: u64,
    /// The newest rows; all that come after `tail_after`.
    pub(super) tail: VecDeque<(Hlc, Bytes)>,
    pub(super) tail_after: Hlc,
    pub(super) tail_bytes: usize,
}

impl Log {
    pub(super) fn open(storage: &dyn Storage, actor: ActorId) -> Result<Self, StorageError> {
        let trimmed = Mark::Trimmed.load(storage, actor)?;
        let rows = measure(storage, actor, Hlc::ZERO, None)?;
        let newest = rows.newest.max(trimmed);
        Ok(Self {
            trimmed,
            newest,
            told: newest.max(Mark::Ceiling.load(storage, actor)?),
            bytes: rows.bytes,
            tail_after: newest,
            ..Self::default()
        })
    }

    pub(super) fn push(&mut self, last: Hlc, row: Bytes) {
        assert!(
            last > self.newest,
            "outbox rows of one actor are in order: {last} after {}",
            self.newest
        );
        self.newest = last;
        self.told = self.told.max(last);
        self.bytes += row.len() as u64;
        self.tail_bytes += row.len();
        self.tail.push_back((last, row));
        debug_assert!(
            self.trimmed < self.newest && self.newest <= self.told,
            "trimmed {}, newest {}, told {}",
            self.trimmed,
            self.newest,
            self.told
        );
        while self.tail_bytes > TAIL_BYTES_MAX {
            let Some((first, row)) = self.tail.pop_front() else {
                break;
            };
            self.tail_after = first;
            self.tail_bytes -= row.len();
        }
    }

    pub(super) fn forget_tail(&mut self, upto: Hlc) {
        while let Some((first, row)) = self.tail.pop_front_if(|(last, _)| *last <= upto) {
            self.tail_after = first;
            self.tail_bytes -= row.len();
        }
        debug_assert!(
            !self.tail.is_empty() || self.tail_bytes == 0,
            "bytes of the tail are those of its rows"
        );
    }

    /// The first of the rows after `sent` that does not decode, among as many as one frame holds.
    pub(super) fn damaged(
        &self,
        storage: &dyn Storage,
        actor: ActorId,
        sent: Hlc,
    ) -> Result<Option<Hlc>, StorageError> {
        let rows = self.read(storage, actor, sent)?;
        let damaged = rows.iter().find(|(_, row)| outbox::decode(row).is_err());
        Ok(damaged.map(|(place, _)| *place))
    }

    /// Rows after `sent`, as many as one frame holds, at least one if there is one.
    pub(super) fn read(
        &self,
        storage: &dyn Storage,
        actor: ActorId,
        sent: Hlc,
    ) -> Result<Vec<(Hlc, Bytes)>, StorageError> {
        let mut frame = Frame::default();
        if sent >= self.tail_after {
            let start = self.tail.partition_point(|(last, _)| *last <= sent);
            for (last, row) in self.tail.range(start..) {
                if frame.push(*last, || row.clone()).is_break() {
                    break;
                }
            }
            return Ok(frame.rows);
        }
        let from = outbox::stored_key(actor, sent.next());
        let to = outbox::stored_key(actor, self.newest.next());
        storage.scan(Family::Outbox, &from, Some(&to), &mut |stored, value| {
            match outbox::last_stamp(stored) {
                Some(last) => frame.push(last, || Bytes::copy_from_slice(value)),
                None => ControlFlow::Continue(()),
            }
        })?;
        Ok(frame.rows)
    }
}

/// Rows that one message carries.
#[derive(Default)]
pub(super) struct Frame {
    pub(super) rows: Vec<(Hlc, Bytes)>,
    pub(super) bytes: usize,
}

impl Frame {
    pub(super) fn push(&mut self, last: Hlc, row: impl FnOnce() -> Bytes) -> ControlFlow<()> {
        if self.bytes >= FRAME_BYTES {
            return ControlFlow::Break(());
        }
        debug_assert!(
            self.rows.last().is_none_or(|(before, _)| *before < last),
            "rows of one message are in order"
        );
        let row = row();
        self.bytes += row.len();
        self.rows.push((last, row));
        ControlFlow::Continue(())
    }
}

/// A frame is closed when it has about this many bytes.
pub(super) const FRAME_BYTES: usize = 256 << 10;
/// Newest rows kept in memory per actor, for the streams that keep up.
const TAIL_BYTES_MAX: usize = 2 << 20;

const _: () = assert!(FRAME_BYTES <= TAIL_BYTES_MAX);
