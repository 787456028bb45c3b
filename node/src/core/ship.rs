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

mod extent;
mod log;
mod stream;
mod withdraw;

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use crdt::{ActorId, Hlc};

use self::{
    extent::{cut_beyond, measure},
    log::Log,
    stream::Stream,
};
use super::{
    identity::DirectoryId,
    message::{Decline, Held, Message, SessionId},
    sample::Sampler,
};
use crate::{
    names::RegionName,
    storage::{
        Batch, Family, Storage, StorageError,
        record::{cursor, meta::Mark, outbox},
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

#[derive(Debug, Default)]
struct Destination {
    session: Option<(SessionId, DirectoryId)>,
    streams: BTreeMap<ActorId, Stream>,
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
        let gone = measure(storage, actor, log.trimmed, Some(upto))?;
        if gone.rows == 0 {
            return Ok(());
        }
        // To the last row that goes, never to a promise beyond it: the mark says what this actor has stamped.
        let upto = gone.newest;
        batch.delete_range(
            Family::Outbox,
            outbox::stored_key(actor, log.trimmed.next()),
            outbox::stored_key(actor, upto.next()),
        );
        Mark::Trimmed.store(batch, actor, upto);
        log.bytes = log.bytes.saturating_sub(gone.bytes);
        log.trimmed = upto;
        log.forget_tail(upto);
        Ok(())
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
