//! The end of outbox rows: when every destination has them for good, or when they are past the bounds.

use std::ops::ControlFlow;

use crdt::{ActorId, Hlc};

use super::{
    Awaited, ShipEvent, Shipper, extent::measure_first, log::Log, sieve::Sieve, span::Span,
    stream::Stream,
};
use crate::{
    core::mutant::{Mutant, is_on},
    storage::{
        Batch, Family, Storage, StorageError,
        record::{meta::Mark, outbox},
    },
};

impl Shipper {
    /// Adds to a batch what is to be remembered: cursors that moved, and the end of rows that every region has, or that
    /// are past the bounds. Says whether more rows could end than one turn bears.
    pub fn maintain(
        &mut self,
        storage: &dyn Storage,
        awaited: Awaited,
        reached_ms: u64,
        batch: &mut Batch,
        events: &mut Vec<ShipEvent>,
    ) -> Result<bool, StorageError> {
        let actors: Vec<ActorId> = self.logs.keys().copied().collect();
        let mut has_more = false;
        for actor in actors {
            self.drop_beyond_bounds(storage, actor, reached_ms)?;
            has_more |= self.trim(storage, actor, awaited, batch, events)?;
        }
        for (destination, route) in &mut self.routes {
            for (&actor, stream) in &mut route.streams {
                if !stream.is_cursor_stored {
                    batch.put(
                        Family::Cursor,
                        destination.cursor_key(actor),
                        stream.cursor.encode(),
                    );
                    stream.is_cursor_stored = true;
                }
            }
        }
        Ok(has_more)
    }

    /// Gives up for destinations that are too far behind what is too old or too much.
    fn drop_beyond_bounds(
        &mut self,
        storage: &dyn Storage,
        actor: ActorId,
        reached_ms: u64,
    ) -> Result<(), StorageError> {
        let Some(log) = self.logs.get_mut(&actor) else {
            return Ok(());
        };
        let oldest =
            Hlc::from_millis(reached_ms.saturating_sub(self.bounds.window.as_millis() as u64));
        let is_behind = self
            .routes
            .values()
            .filter_map(|route| route.streams.get(&actor))
            .any(|stream| stream.pending_rows > 0 && stream.cursor.taken < oldest);
        let waits_for_strangers = self.home.lacks_members() && log.trimmed < oldest;
        if log.bytes <= self.bounds.bytes_max && !is_behind && !waits_for_strangers {
            return Ok(());
        }
        let cut = cut_beyond(storage, actor, log, self.bounds.bytes_max, oldest)?;
        if cut <= log.trimmed {
            return Ok(());
        }
        log.given_up = cut;
        let routes = self.routes.values_mut();
        let streams = routes.filter_map(|route| route.streams.get_mut(&actor));
        streams
            .filter(|stream| stream.cursor.taken < cut)
            .for_each(|stream| stream.give_up(cut));
        Ok(())
    }

    /// Up to here no destination needs an actor's rows, if there is any.
    fn needed_by_none(&self, actor: ActorId) -> Option<Hlc> {
        let log = self.logs.get(&actor)?;
        let routes = self.routes.values();
        let streams = routes.filter_map(|route| route.streams.get(&actor));
        let positions = streams.map(Stream::needs_none_of);
        // A member that nobody has met yet has nothing.
        let positions = positions.chain(self.home.lacks_members().then_some(log.given_up));
        match is_on(Mutant::TrimmedBehindFirst) {
            true => positions.max(),
            false => positions.min(),
        }
    }

    /// Ends the rows that every destination has for good, about as many as one turn bears. Says whether that may have left some.
    fn trim(
        &mut self,
        storage: &dyn Storage,
        actor: ActorId,
        awaited: Awaited,
        batch: &mut Batch,
        events: &mut Vec<ShipEvent>,
    ) -> Result<bool, StorageError> {
        let needed_by_none = self.needed_by_none(actor);
        let (Some(log), Some(upto)) = (self.logs.get_mut(&actor), needed_by_none) else {
            return Ok(false);
        };
        // Rows that clients wait for may have to be sent once more, for an answer that was lost. Beyond the bounds they go.
        let waits = awaited.filter(|(awaited, _)| *awaited == actor);
        let kept = waits.map_or(Hlc::MAX, |(_, after)| after.max(log.given_up));
        let upto = upto.min(log.newest).min(kept);
        if upto <= log.trimmed {
            return Ok(false);
        }
        let enough = TRIM_BYTES_PER_TURN;
        let gone = measure_first(storage, actor, log.trimmed, Some(upto), enough)?;
        if gone.rows == 0 {
            return Ok(false);
        }
        debug_assert!(
            log.trimmed < gone.newest && gone.newest <= upto,
            "rows are trimmed from the front, and none that is wanted"
        );
        // To the last row that goes, never to a promise beyond it: the mark says what this actor has stamped.
        let upto = gone.newest;
        for (destination, route) in &mut self.routes {
            if let Some(stream) = route.streams.get_mut(&actor) {
                let sieve = Sieve {
                    home: &self.home,
                    destination,
                    trusted: &self.trusted,
                    is_whole: self.home.is_whole(destination),
                    has_stand_ins: false, // one that is no replica lacks nothing
                };
                let gone = Span {
                    after: log.trimmed,
                    upto,
                };
                stream.trimmed(storage, &sieve, actor, gone, events)?;
            }
        }
        batch.delete_range(
            Family::Outbox,
            outbox::stored_key(actor, log.trimmed.next()),
            outbox::stored_key(actor, upto.next()),
        );
        Mark::Trimmed.store(batch, actor, upto);
        log.bytes = log.bytes.saturating_sub(gone.bytes);
        log.trimmed = upto;
        log.forget_tail(upto);
        self.note_shortages();
        Ok(gone.bytes >= TRIM_BYTES_PER_TURN)
    }
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

/// Rows that end are read to be measured: a few milliseconds' work.
const TRIM_BYTES_PER_TURN: u64 = 4 << 20;
