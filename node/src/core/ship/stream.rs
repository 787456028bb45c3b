//! One actor's rows on their way to one region.

use std::{collections::VecDeque, time::Duration};

use crdt::{ActorId, Hlc};

use super::{
    ShipEvent,
    extent::{first_row, measure},
    log::{FRAME_BYTES, Log},
};
use crate::{
    core::{
        identity::DirectoryId,
        message::{Message, Ship},
    },
    names::RegionName,
    storage::{
        Family, Storage, StorageError,
        record::{cursor, cursor::Cursor},
    },
};

#[derive(Debug, Default)]
pub(super) struct Stream {
    pub(super) cursor: Cursor,
    pub(super) is_cursor_stored: bool,
    pub(super) sent: Hlc,
    pub(super) in_flight: VecDeque<InFlight>,
    pub(super) in_flight_bytes: usize,
    pub(super) pending_rows: u64,
    pub(super) pending_since: Hlc,
    /// Rows up to here were given up: trimming does not wait for them.
    pub(super) released: Hlc,
    pub(super) resume_at: Duration,
    pub(super) backoff: Duration,
    /// Since when nothing that is in flight was answered, and how long that is borne.
    pub(super) silent_since: Option<Duration>,
    pub(super) patience: Duration,
}

/// A message on its way: the half-open interval `(after, last]` of the stream.
#[derive(Debug)]
pub(super) struct InFlight {
    pub(super) after: Hlc,
    pub(super) last: Hlc,
    /// How many rows it carries; `None` where some of them were dropped since.
    pub(super) rows: Option<u64>,
    pub(super) bytes: usize,
}

impl Stream {
    pub(super) fn open(
        storage: &dyn Storage,
        actor: ActorId,
        region: &RegionName,
        log: &Log,
    ) -> Result<Self, StorageError> {
        let stored = cursor::stored_key(actor, region);
        let value = storage.get(Family::Cursor, &stored)?;
        let cursor = value
            .map(|value| Cursor::decode(&stored, &value))
            .transpose()?
            .unwrap_or_default();
        let pending_rows = measure(storage, actor, cursor.taken, None)?.rows;
        let pending_since = first_row(storage, actor, cursor.taken)?.unwrap_or(log.newest);
        Ok(Self {
            cursor,
            is_cursor_stored: true,
            sent: cursor.taken,
            pending_rows,
            pending_since,
            backoff: BACKOFF_MIN,
            ..Self::default()
        })
    }

    /// Begins a session with a node that has everything up to `taken`.
    pub(super) fn meet(
        &mut self,
        region: &RegionName,
        actor: ActorId,
        directory: DirectoryId,
        taken: Hlc,
        log: &Log,
        events: &mut Vec<ShipEvent>,
    ) {
        let is_same_holder = self.cursor.holder.is_none_or(|holder| holder == directory);
        // What a directory has saved it has for good; one that has less now is a copy of what it was, and lacks the rest. What
        // it took and had not saved it may say that it lacks, after any crash, and is sent it again.
        let has_lost = !is_same_holder || taken < self.cursor.majority;
        if has_lost && taken < self.cursor.taken {
            events.push(ShipEvent::Replaced {
                region: region.clone(),
                actor,
                had: self.cursor.taken,
                has: taken,
            });
        }
        self.cursor.taken = taken;
        self.cursor.majority = self.cursor.majority.min(taken);
        self.cursor.holder = Some(directory);
        if self.cursor.taken < log.trimmed {
            events.push(ShipEvent::Dropped {
                region: region.clone(),
                actor,
                after: self.cursor.taken,
                upto: log.trimmed,
                rows: 0,
            });
            self.cursor.hole = Some(
                self.cursor
                    .hole
                    .map_or(self.cursor.taken, |hole| hole.min(self.cursor.taken)),
            );
        }
        self.is_cursor_stored = false;
        self.resume_at = Duration::ZERO;
        // What a peer did not answer before says nothing about the one that has just greeted.
        self.patience = PATIENCE_MIN;
        self.rewind();
    }

    /// The receiver has everything up to `taken`, and up to `majority` for good.
    pub(super) fn advance(
        &mut self,
        storage: &dyn Storage,
        actor: ActorId,
        taken: Hlc,
        majority: Hlc,
    ) -> Result<(), StorageError> {
        if majority > self.cursor.majority {
            self.cursor.majority = majority;
            self.is_cursor_stored = false;
        }
        if taken <= self.cursor.taken {
            return Ok(());
        }
        let rows = match self.land(taken) {
            Some(rows) => rows,
            None => measure(storage, actor, self.cursor.taken, Some(taken))?.rows,
        };
        self.pending_rows = self.pending_rows.saturating_sub(rows);
        self.cursor.taken = taken;
        self.backoff = BACKOFF_MIN;
        (self.silent_since, self.patience) = (None, PATIENCE_MIN);
        self.is_cursor_stored = false;
        if self.in_flight.is_empty() {
            // An answer to what was sent before a rewind need not be asked for again.
            self.sent = self.sent.max(taken);
        }
        Ok(())
    }

    /// The receiver is behind what it said: it restarted its intake within a session.
    pub(super) fn fall_back(
        &mut self,
        storage: &dyn Storage,
        actor: ActorId,
        taken: Hlc,
    ) -> Result<(), StorageError> {
        if taken >= self.cursor.taken {
            return Ok(());
        }
        let before = self.cursor.taken;
        self.cursor.taken = taken;
        self.cursor.majority = self.cursor.majority.min(taken);
        self.is_cursor_stored = false;
        self.recount(storage, actor, before)
    }

    /// A message leaves.
    pub(super) fn depart(&mut self, last: Hlc, rows: u64, bytes: usize) {
        assert!(last > self.sent, "a stream only goes on");
        self.in_flight.push_back(InFlight {
            after: self.sent,
            last,
            rows: Some(rows),
            bytes,
        });
        self.in_flight_bytes += bytes;
        self.sent = last;
    }

    /// Messages up to `taken` have arrived. Gives how many rows came with them since the cursor; `None` where the messages do
    /// not say, because others were sent before a rewind.
    pub(super) fn land(&mut self, taken: Hlc) -> Option<u64> {
        let mut reached = self.cursor.taken;
        let mut rows = Some(0);
        while let Some(done) = self.in_flight.pop_front_if(|sent| sent.last <= taken) {
            self.in_flight_bytes -= done.bytes;
            let is_next = done.after == reached;
            rows = rows
                .zip(done.rows)
                .filter(|_| is_next)
                .map(|(sum, more)| sum + more);
            reached = done.last;
        }
        rows.filter(|_| reached == taken)
    }

    /// Counts again what is pending, after the cursor was moved from `before`, forwards or back.
    pub(super) fn recount(
        &mut self,
        storage: &dyn Storage,
        actor: ActorId,
        before: Hlc,
    ) -> Result<(), StorageError> {
        let after = self.cursor.taken;
        let between = measure(storage, actor, before.min(after), Some(before.max(after)))?.rows;
        self.pending_rows = if after < before {
            self.pending_rows + between
        } else {
            self.pending_rows.saturating_sub(between)
        };
        Ok(())
    }

    pub(super) fn rewind(&mut self) {
        self.in_flight.clear();
        self.in_flight_bytes = 0;
        self.sent = self.cursor.taken;
        self.silent_since = None;
    }

    /// An answer can be lost while its session lives, where a queue on its way was full, and with nothing more to send nobody
    /// would ever ask for it. So what is in flight for too long is sent again.
    pub(super) fn notice_silence(&mut self, now: Duration) {
        if self.in_flight.is_empty() {
            self.silent_since = None;
            return;
        }
        let since = *self.silent_since.get_or_insert(now);
        let patience = self.patience.max(PATIENCE_MIN);
        if now >= since + patience {
            self.patience = (patience * 2).min(PATIENCE_MAX);
            self.rewind();
        }
    }

    pub(super) fn pause(&mut self, now: Duration, draw: u64) {
        self.resume_at = now
            + self
                .backoff
                .mul_f64(0.5 + 0.5 * (draw >> 11) as f64 / (1u64 << 53) as f64);
        self.backoff = (self.backoff * 2).clamp(BACKOFF_MIN, BACKOFF_MAX);
    }

    pub(super) fn pump(
        &mut self,
        storage: &dyn Storage,
        actor: ActorId,
        log: &Log,
        now: Duration,
        send: &mut dyn FnMut(Message),
    ) -> Result<(), StorageError> {
        self.notice_silence(now);
        if now < self.resume_at {
            return Ok(());
        }
        if self.sent < log.trimmed {
            self.skip(actor, log.trimmed, send);
        }
        while self.sent < log.newest
            && self.in_flight_bytes < WINDOW_BYTES
            && self.in_flight.len() < WINDOW_FRAMES
        {
            let rows = log.read(storage, actor, self.sent)?;
            let Some(&(last, _)) = rows.last() else { break };
            let bytes = rows.iter().map(|(_, row)| row.len()).sum();
            let after = self.sent;
            self.depart(last, rows.len() as u64, bytes);
            send(Message::Ship(Ship {
                actor,
                after,
                last,
                rows: rows.into_iter().map(|(_, row)| row).collect(),
            }));
        }
        Ok(())
    }

    /// Goes on behind rows that are gone.
    pub(super) fn skip(&mut self, actor: ActorId, upto: Hlc, send: &mut dyn FnMut(Message)) {
        let after = self.sent;
        self.depart(upto, 0, 0);
        send(Message::Skip { actor, after, upto });
    }

    /// Counts everything up to `cut` as never to be taken.
    pub(super) fn give_up(
        &mut self,
        storage: &dyn Storage,
        region: &RegionName,
        actor: ActorId,
        cut: Hlc,
        events: &mut Vec<ShipEvent>,
    ) -> Result<(), StorageError> {
        let rows = measure(storage, actor, cut, None)?.rows;
        let dropped = self.pending_rows.saturating_sub(rows);
        events.push(ShipEvent::Dropped {
            region: region.clone(),
            actor,
            after: self.cursor.taken,
            upto: cut,
            rows: dropped,
        });
        self.cursor.hole = Some(self.cursor.hole.unwrap_or(self.cursor.taken));
        // `taken` stays: the region is told by a `Skip` and answers for it. Only the trimming goes on.
        self.released = cut;
        self.in_flight.iter_mut().for_each(|sent| sent.rows = None);
        self.pending_rows = rows;
        self.pending_since = cut;
        self.is_cursor_stored = false;
        Ok(())
    }
}

/// In flight per region and actor: enough for 50 MB/s over 80 ms.
const WINDOW_BYTES: usize = 4 << 20;
/// Messages in flight per region and actor.
const WINDOW_FRAMES: usize = 1024;
/// First pause after a region declined.
const BACKOFF_MIN: Duration = Duration::from_millis(100);
/// Longest pause.
const BACKOFF_MAX: Duration = Duration::from_secs(3);
/// What is in flight and not answered for so long is sent again: far above a round trip, a batch and a slow disk together.
const PATIENCE_MIN: Duration = Duration::from_secs(3);
/// Where that does not help the peer is slow, and is not to be asked all the time.
const PATIENCE_MAX: Duration = Duration::from_secs(60);

const _: () = assert!(FRAME_BYTES <= WINDOW_BYTES);
