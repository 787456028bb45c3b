//! The outbox on its way to the other regions.
//!
//! ```text
//!            committed rows                        ┌─ stream (region, actor) ─┐
//!   outbox ═══════════════════▶ time               │ cursor ≤ sent ≤ newest   │
//!          trimmed   cursor      sent     newest   └──────────────────────────┘
//!   ───────┼─────────┼───────────┼────────┼──▶
//!    gone  │ taken    in flight    waiting
//! ```
//! One ordered stream for each destination region and each actor of this shard. A row is in flight after it is committed,
//! leaves when every region has acknowledged it as durable, and is sent again from the cursor whenever a session dies or the
//! receiver declines. What is in memory is a copy: the tail that streams which keep up read from, and never more than its bound.

use std::{
    collections::{BTreeMap, VecDeque},
    ops::ControlFlow,
    time::Duration,
};

use bytes::Bytes;
use crdt::{ActorId, Hlc};

use super::{
    identity::DirectoryId,
    message::{Decline, Held, Message, SessionId, Ship},
    sample::Sampler,
};
use crate::{
    names::RegionName,
    storage::{
        Batch, Family, Storage, StorageError,
        record::{cursor, cursor::Cursor, meta::Mark, outbox},
    },
};

/// Ships the outbox of one shard.
#[derive(Debug)]
pub struct Shipper {
    bounds: OutboxBounds,
    logs: BTreeMap<ActorId, Log>,
    destinations: BTreeMap<RegionName, Destination>,
    jitter: Sampler,
}

/// How much of the outbox is kept for regions that do not take it.
#[derive(Debug, Clone, Copy)]
pub struct OutboxBounds {
    /// Older rows are dropped.
    pub window: Duration,
    /// Of this shard; the oldest rows beyond it are dropped.
    pub bytes_max: u64,
}

/// Something about a region that an operator should hear of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ShipEvent {
    /// Rows that the region never took were dropped: it needs a full repair.
    Dropped {
        region: RegionName,
        actor: ActorId,
        after: Hlc,
        upto: Hlc,
        rows: u64,
    },
    /// The region lost what it had taken: another data directory answers there.
    Replaced {
        region: RegionName,
        actor: ActorId,
        had: Hlc,
        has: Hlc,
    },
    /// The region does not take a batch now; it is offered again.
    Declined {
        region: RegionName,
        actor: ActorId,
        reason: Decline,
    },
}

/// How far a region is behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lag {
    /// Rows that it has not taken.
    pub rows: u64,
    /// Everything up to here is there.
    pub watermark: Hlc,
    /// When the oldest row that it has not taken was stamped; `None` when it has all.
    pub since: Option<Hlc>,
    /// Whether rows were dropped that it never took.
    pub needs_repair: bool,
}

/// One actor's rows in the outbox.
#[derive(Debug, Default)]
struct Log {
    trimmed: Hlc,
    newest: Hlc,
    bytes: u64,
    /// The newest rows; all that come after `tail_after`.
    tail: VecDeque<(Hlc, Bytes)>,
    tail_after: Hlc,
    tail_bytes: usize,
}

#[derive(Debug, Default)]
struct Destination {
    session: Option<(SessionId, DirectoryId)>,
    streams: BTreeMap<ActorId, Stream>,
}

#[derive(Debug, Default)]
struct Stream {
    cursor: Cursor,
    is_cursor_stored: bool,
    sent: Hlc,
    in_flight: VecDeque<InFlight>,
    in_flight_bytes: usize,
    pending_rows: u64,
    pending_since: Hlc,
    /// Rows up to here were given up: trimming does not wait for them.
    released: Hlc,
    resume_at: Duration,
    backoff: Duration,
    /// Since when nothing that is in flight was answered, and how long that is borne.
    silent_since: Option<Duration>,
    patience: Duration,
}

/// A message on its way: the half-open interval `(after, last]` of the stream.
#[derive(Debug)]
struct InFlight {
    after: Hlc,
    last: Hlc,
    /// How many rows it carries; `None` where some of them were dropped since.
    rows: Option<u64>,
    bytes: usize,
}

impl Shipper {
    /// Takes up the outbox where storage left it. `actors`: the shard's own one and those that it renewed.
    pub fn open(
        storage: &dyn Storage,
        actors: &[ActorId],
        regions: &[RegionName],
        bounds: OutboxBounds,
        entropy: u64,
    ) -> Result<Self, StorageError> {
        let mut shipper = Self {
            bounds,
            logs: BTreeMap::new(),
            destinations: BTreeMap::new(),
            jitter: Sampler::new(entropy),
        };
        for &actor in actors {
            shipper.logs.insert(actor, Log::open(storage, actor)?);
        }
        for region in regions {
            let mut destination = Destination::default();
            for (&actor, log) in &shipper.logs {
                destination
                    .streams
                    .insert(actor, Stream::open(storage, actor, region, log)?);
            }
            shipper.destinations.insert(region.clone(), destination);
        }
        Ok(shipper)
    }

    /// Whether any other region wants rows. Without one the outbox is not written.
    pub fn has_destinations(&self) -> bool {
        !self.destinations.is_empty()
    }

    /// Begins an actor's log: this shard stamps as `actor` from now on.
    pub fn begin(&mut self, actor: ActorId) {
        self.logs.entry(actor).or_default();
        for destination in self.destinations.values_mut() {
            destination.streams.entry(actor).or_default();
        }
    }

    /// The rows of a batch were committed.
    pub fn committed(&mut self, actor: ActorId, rows: Vec<(Hlc, Bytes)>) {
        let Some(log) = self.logs.get_mut(&actor) else {
            return;
        };
        for destination in self.destinations.values_mut() {
            let Some(stream) = destination.streams.get_mut(&actor) else {
                continue;
            };
            if let (0, Some((first, _))) = (stream.pending_rows, rows.first()) {
                stream.pending_since = *first;
            }
            stream.pending_rows += rows.len() as u64;
        }
        for (last, row) in rows {
            log.push(last, row);
        }
    }

    /// A session to a region came up. `held`: what its node says it has of this directory's actors.
    pub fn session_up(
        &mut self,
        storage: &dyn Storage,
        region: &RegionName,
        session: SessionId,
        directory: DirectoryId,
        held: &[Held],
        events: &mut Vec<ShipEvent>,
    ) -> Result<(), StorageError> {
        let Some(destination) = self.destinations.get_mut(region) else {
            return Ok(());
        };
        destination.session = Some((session, directory));
        for (&actor, stream) in &mut destination.streams {
            let taken = held
                .iter()
                .find(|held| held.actor == actor)
                .map_or(Hlc::ZERO, |held| held.taken);
            let Some(log) = self.logs.get(&actor) else {
                continue;
            };
            let before = stream.cursor.taken;
            stream.meet(region, actor, directory, taken, log, events);
            stream.recount(storage, actor, before)?;
        }
        Ok(())
    }

    /// A session ended: what was in flight is in doubt and will be sent again.
    pub fn session_down(&mut self, session: SessionId) {
        for destination in self.destinations.values_mut() {
            if destination
                .session
                .is_some_and(|(current, _)| current == session)
            {
                destination.session = None;
                destination.streams.values_mut().for_each(Stream::rewind);
            }
        }
    }

    /// A region acknowledged.
    pub fn taken(
        &mut self,
        storage: &dyn Storage,
        session: SessionId,
        actor: ActorId,
        taken: Hlc,
        majority: Hlc,
    ) -> Result<(), StorageError> {
        match self.stream(session, actor) {
            Some((_, stream)) => stream.advance(storage, actor, taken, majority),
            None => Ok(()),
        }
    }

    /// A region did not take what was sent: it is sent again from `taken`, after a pause.
    #[allow(clippy::too_many_arguments)] // the message's parts, and what is needed to act on it
    pub fn declined(
        &mut self,
        storage: &dyn Storage,
        session: SessionId,
        actor: ActorId,
        taken: Hlc,
        reason: Decline,
        now: Duration,
        events: &mut Vec<ShipEvent>,
    ) -> Result<(), StorageError> {
        let draw = self.jitter.draw();
        let Some((region, stream)) = self.stream(session, actor) else {
            return Ok(());
        };
        stream.advance(storage, actor, taken, Hlc::ZERO)?;
        stream.fall_back(storage, actor, taken)?;
        if stream.in_flight.is_empty() {
            return Ok(()); // an answer to what was sent before the last rewind
        }
        events.push(ShipEvent::Declined {
            region,
            actor,
            reason,
        });
        stream.rewind();
        stream.pause(now, draw);
        Ok(())
    }

    /// A message could not be queued: the session is slower than the stream.
    pub fn unsent(&mut self, session: SessionId, actor: ActorId, now: Duration) {
        let draw = self.jitter.draw();
        if let Some((_, stream)) = self.stream(session, actor) {
            stream.rewind();
            stream.pause(now, draw);
        }
    }

    /// Sends what the windows have room for.
    pub fn pump(
        &mut self,
        storage: &dyn Storage,
        now: Duration,
        send: &mut dyn FnMut(SessionId, Message),
    ) -> Result<(), StorageError> {
        for destination in self.destinations.values_mut() {
            let Some((session, _)) = destination.session else {
                continue;
            };
            for (&actor, stream) in &mut destination.streams {
                let Some(log) = self.logs.get(&actor) else {
                    continue;
                };
                stream.pump(storage, actor, log, now, &mut |message| {
                    send(session, message)
                })?;
            }
        }
        Ok(())
    }

    /// Tells every region that has all of `actor` that no later stamp of it will be at or below `upto`.
    pub fn promise(&mut self, actor: ActorId, upto: Hlc, send: &mut dyn FnMut(SessionId, Message)) {
        for destination in self.destinations.values_mut() {
            let (Some((session, _)), Some(log), Some(stream)) = (
                destination.session,
                self.logs.get(&actor),
                destination.streams.get_mut(&actor),
            ) else {
                continue;
            };
            // What the receiver has said, never what was counted here: a promise over a row that it lacks would lose the row.
            let has_all = stream.cursor.taken >= log.newest && stream.in_flight.is_empty();
            if has_all && upto > stream.sent {
                let after = stream.sent;
                stream.depart(upto, 0, 0);
                send(session, Message::Promise { actor, after, upto });
            }
        }
    }

    /// Adds to a batch what is to be remembered: cursors that moved, and the end of rows that every region has, or that
    /// are past the bounds.
    pub fn maintain(
        &mut self,
        storage: &dyn Storage,
        wall_ms: u64,
        batch: &mut Batch,
        events: &mut Vec<ShipEvent>,
    ) -> Result<(), StorageError> {
        let actors: Vec<ActorId> = self.logs.keys().copied().collect();
        for actor in actors {
            self.drop_beyond_bounds(storage, actor, wall_ms, events)?;
            self.trim(storage, actor, batch)?;
        }
        for (region, destination) in &mut self.destinations {
            for (&actor, stream) in &mut destination.streams {
                if !stream.is_cursor_stored {
                    batch.put(
                        Family::Cursor,
                        cursor::stored_key(actor, region),
                        stream.cursor.encode(),
                    );
                    stream.is_cursor_stored = true;
                }
            }
        }
        Ok(())
    }

    /// Whether every region has taken everything.
    pub fn is_drained(&self) -> bool {
        self.destinations
            .values()
            .flat_map(|destination| destination.streams.values())
            .all(|stream| stream.pending_rows == 0)
    }

    /// How far each region is behind this shard.
    pub fn lags(&self) -> impl Iterator<Item = (&RegionName, Lag)> + '_ {
        self.destinations
            .iter()
            .map(|(region, destination)| (region, destination.lag()))
    }

    fn stream(&mut self, session: SessionId, actor: ActorId) -> Option<(RegionName, &mut Stream)> {
        let (region, destination) = self.destinations.iter_mut().find(|(_, destination)| {
            destination
                .session
                .is_some_and(|(current, _)| current == session)
        })?;
        Some((region.clone(), destination.streams.get_mut(&actor)?))
    }

    /// Moves the cursors of regions that are too far behind over rows that are too old or too many, and says so.
    fn drop_beyond_bounds(
        &mut self,
        storage: &dyn Storage,
        actor: ActorId,
        wall_ms: u64,
        events: &mut Vec<ShipEvent>,
    ) -> Result<(), StorageError> {
        let Some(log) = self.logs.get(&actor) else {
            return Ok(());
        };
        let oldest =
            Hlc::from_millis(wall_ms.saturating_sub(self.bounds.window.as_millis() as u64));
        let is_behind = self
            .destinations
            .values()
            .filter_map(|destination| destination.streams.get(&actor))
            .any(|stream| stream.pending_rows > 0 && stream.cursor.taken < oldest);
        if log.bytes <= self.bounds.bytes_max && !is_behind {
            return Ok(());
        }
        let cut = cut_beyond(storage, actor, log, self.bounds.bytes_max, oldest)?;
        if cut <= log.trimmed {
            return Ok(());
        }
        for (region, destination) in &mut self.destinations {
            let Some(stream) = destination.streams.get_mut(&actor) else {
                continue;
            };
            if stream.cursor.taken < cut {
                stream.give_up(storage, region, actor, cut, events)?;
            }
        }
        Ok(())
    }

    /// Ends the rows that every region has on a majority.
    fn trim(
        &mut self,
        storage: &dyn Storage,
        actor: ActorId,
        batch: &mut Batch,
    ) -> Result<(), StorageError> {
        let behind = self
            .destinations
            .values()
            .filter_map(|destination| destination.streams.get(&actor))
            .map(|stream| stream.cursor.majority.max(stream.released))
            .min();
        let (Some(upto), Some(log)) = (behind, self.logs.get_mut(&actor)) else {
            return Ok(());
        };
        let upto = upto.min(log.newest);
        if upto <= log.trimmed {
            return Ok(());
        }
        batch.delete_range(
            Family::Outbox,
            outbox::stored_key(actor, log.trimmed.next()),
            outbox::stored_key(actor, upto.next()),
        );
        Mark::Trimmed.store(batch, actor, upto);
        log.bytes = log
            .bytes
            .saturating_sub(measure(storage, actor, log.trimmed, Some(upto))?.bytes);
        log.trimmed = upto;
        log.forget_tail(upto);
        Ok(())
    }
}

impl Log {
    fn open(storage: &dyn Storage, actor: ActorId) -> Result<Self, StorageError> {
        let trimmed = Mark::Trimmed.load(storage, actor)?;
        let rows = measure(storage, actor, Hlc::ZERO, None)?;
        let newest = rows.newest.max(trimmed);
        Ok(Self {
            trimmed,
            newest,
            bytes: rows.bytes,
            tail_after: newest,
            ..Self::default()
        })
    }

    fn push(&mut self, last: Hlc, row: Bytes) {
        assert!(
            last > self.newest,
            "outbox rows of one actor are in order: {last} after {}",
            self.newest
        );
        self.newest = last;
        self.bytes += row.len() as u64;
        self.tail_bytes += row.len();
        self.tail.push_back((last, row));
        while self.tail_bytes > TAIL_BYTES_MAX {
            let Some((first, row)) = self.tail.pop_front() else {
                break;
            };
            self.tail_after = first;
            self.tail_bytes -= row.len();
        }
    }

    fn forget_tail(&mut self, upto: Hlc) {
        while let Some((first, row)) = self.tail.pop_front_if(|(last, _)| *last <= upto) {
            self.tail_after = first;
            self.tail_bytes -= row.len();
        }
    }

    /// Rows after `sent`, as many as one frame holds, at least one if there is one.
    fn read(
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
        let (from, to) = outbox::after(actor, sent);
        storage.scan(
            Family::Outbox,
            &from,
            to.as_deref(),
            &mut |stored, value| match outbox::last_stamp(stored) {
                Some(last) => frame.push(last, || Bytes::copy_from_slice(value)),
                None => ControlFlow::Continue(()),
            },
        )?;
        Ok(frame.rows)
    }
}

/// Rows that one message carries.
#[derive(Default)]
struct Frame {
    rows: Vec<(Hlc, Bytes)>,
    bytes: usize,
}

impl Frame {
    fn push(&mut self, last: Hlc, row: impl FnOnce() -> Bytes) -> ControlFlow<()> {
        if self.bytes >= FRAME_BYTES {
            return ControlFlow::Break(());
        }
        let row = row();
        self.bytes += row.len();
        self.rows.push((last, row));
        ControlFlow::Continue(())
    }
}

impl Destination {
    fn lag(&self) -> Lag {
        let pending = || {
            self.streams
                .values()
                .filter(|stream| stream.pending_rows > 0)
        };
        // A former actor's stream that was taken whole says nothing about today: only what is pending holds the watermark back.
        let behind = pending().map(|stream| stream.cursor.taken).min();
        let newest = self
            .streams
            .values()
            .map(|stream| stream.cursor.taken)
            .max();
        Lag {
            rows: pending().map(|stream| stream.pending_rows).sum(),
            watermark: behind.or(newest).unwrap_or(Hlc::ZERO),
            since: pending()
                .map(|stream| stream.pending_since.max(stream.cursor.taken))
                .min(),
            needs_repair: self
                .streams
                .values()
                .any(|stream| stream.cursor.hole.is_some()),
        }
    }
}

impl Stream {
    fn open(
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
    fn meet(
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
        self.rewind();
    }

    /// The receiver has everything up to `taken`, and up to `majority` for good.
    fn advance(
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
    fn fall_back(
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
    fn depart(&mut self, last: Hlc, rows: u64, bytes: usize) {
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
    fn land(&mut self, taken: Hlc) -> Option<u64> {
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
    fn recount(
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

    fn rewind(&mut self) {
        self.in_flight.clear();
        self.in_flight_bytes = 0;
        self.sent = self.cursor.taken;
        self.silent_since = None;
    }

    /// An answer can be lost while its session lives, where a queue on its way was full, and with nothing more to send nobody
    /// would ever ask for it. So what is in flight for too long is sent again.
    fn notice_silence(&mut self, now: Duration) {
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

    fn pause(&mut self, now: Duration, draw: u64) {
        self.resume_at = now
            + self
                .backoff
                .mul_f64(0.5 + 0.5 * (draw >> 11) as f64 / (1u64 << 53) as f64);
        self.backoff = (self.backoff * 2).clamp(BACKOFF_MIN, BACKOFF_MAX);
    }

    fn pump(
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
    fn skip(&mut self, actor: ActorId, upto: Hlc, send: &mut dyn FnMut(Message)) {
        let after = self.sent;
        self.depart(upto, 0, 0);
        send(Message::Skip { actor, after, upto });
    }

    /// Counts everything up to `cut` as never to be taken.
    fn give_up(
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

/// Rows of an actor's outbox.
#[derive(Debug, Default)]
struct Extent {
    rows: u64,
    bytes: u64,
    newest: Hlc,
}

/// Measures an actor's rows in `(after, upto]`.
fn measure(
    storage: &dyn Storage,
    actor: ActorId,
    after: Hlc,
    upto: Option<Hlc>,
) -> Result<Extent, StorageError> {
    let mut extent = Extent::default();
    let (from, end) = outbox::after(actor, after);
    let to = upto
        .map(|upto| outbox::stored_key(actor, upto.next()))
        .or(end);
    storage.scan(
        Family::Outbox,
        &from,
        to.as_deref(),
        &mut |stored, value| {
            extent.rows += 1;
            extent.bytes += value.len() as u64;
            extent.newest = outbox::last_stamp(stored).unwrap_or(extent.newest);
            ControlFlow::Continue(())
        },
    )?;
    Ok(extent)
}

fn first_row(
    storage: &dyn Storage,
    actor: ActorId,
    after: Hlc,
) -> Result<Option<Hlc>, StorageError> {
    let mut first = None;
    let (from, to) = outbox::after(actor, after);
    storage.scan(Family::Outbox, &from, to.as_deref(), &mut |stored, _| {
        first = outbox::last_stamp(stored);
        ControlFlow::Break(())
    })?;
    Ok(first)
}

/// The last row to drop so that what is left is within the bounds, with some room so that this is rare.
fn cut_beyond(
    storage: &dyn Storage,
    actor: ActorId,
    log: &Log,
    bytes_max: u64,
    oldest: Hlc,
) -> Result<Hlc, StorageError> {
    let mut excess = if log.bytes > bytes_max {
        log.bytes - bytes_max + bytes_max / 10
    } else {
        0
    };
    let mut cut = log.trimmed;
    let (from, to) = outbox::after(actor, log.trimmed);
    storage.scan(
        Family::Outbox,
        &from,
        to.as_deref(),
        &mut |stored, value| {
            let Some(last) = outbox::last_stamp(stored) else {
                return ControlFlow::Continue(());
            };
            if excess == 0 && last >= oldest {
                return ControlFlow::Break(());
            }
            excess = excess.saturating_sub(value.len() as u64);
            cut = last;
            ControlFlow::Continue(())
        },
    )?;
    Ok(cut)
}

/// A frame is closed when it has about this many bytes.
const FRAME_BYTES: usize = 256 << 10;
/// In flight per region and actor: enough for 50 MB/s over 80 ms.
const WINDOW_BYTES: usize = 4 << 20;
/// Messages in flight per region and actor.
const WINDOW_FRAMES: usize = 1024;
/// Newest rows kept in memory per actor, for the streams that keep up.
const TAIL_BYTES_MAX: usize = 2 << 20;
/// First pause after a region declined.
const BACKOFF_MIN: Duration = Duration::from_millis(100);
/// Longest pause.
const BACKOFF_MAX: Duration = Duration::from_secs(3);
/// What is in flight and not answered for so long is sent again: far above a round trip, a batch and a slow disk together.
const PATIENCE_MIN: Duration = Duration::from_secs(3);
/// Where that does not help the peer is slow, and is not to be asked all the time.
const PATIENCE_MAX: Duration = Duration::from_secs(60);

const _: () = assert!(FRAME_BYTES <= WINDOW_BYTES && FRAME_BYTES <= TAIL_BYTES_MAX);
