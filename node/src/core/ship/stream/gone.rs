//! Rows that are gone before the destination took them.

use crdt::{ActorId, Hlc};

use super::Stream;
use crate::{
    core::ship::{
        destination::Destination, event::ShipEvent, extent::measure, sieve::Sieve, span::Span,
    },
    storage::{Storage, StorageError},
};

impl Stream {
    /// Up to here no row is kept for the destination.
    pub(in crate::core::ship) fn needs_none_of(&self) -> Hlc {
        self.cursor.settled.max(self.released)
    }

    /// Nothing up to `cut` is kept for the destination any longer. What it takes before the rows are trimmed it has all the same.
    pub(in crate::core::ship) fn give_up(&mut self, cut: Hlc) {
        self.released = self.released.max(cut);
    }

    /// Whether nothing in `(after, upto]` was to be sent: there is none, or it is gone and concerns others.
    pub(super) fn is_spared(&self, after: Hlc, upto: Hlc) -> bool {
        let covers = |span: Span| span.after <= after && upto <= span.upto;
        upto <= after || self.spared.is_some_and(covers)
    }

    /// Rows are trimmed that were the first of the log: what the destination has not taken of them, and concerns it, it lacks from
    /// now on, but for what of it is in flight and arrives.
    pub(in crate::core::ship) fn trimmed(
        &mut self,
        storage: &dyn Storage,
        sieve: &Sieve<'_>,
        actor: ActorId,
        gone: Span,
        events: &mut Vec<ShipEvent>,
    ) -> Result<(), StorageError> {
        let (after, upto) = (self.cursor.taken, gone.upto);
        if after >= upto {
            return Ok(());
        }
        let rows = measure(storage, actor, after, Some(upto))?.rows;
        self.pending_rows = self.pending_rows.saturating_sub(rows);
        self.pending_since = self.pending_since.max(upto);
        self.in_flight.trim(upto);
        let rows = sieve.count(storage, actor, after, upto)?;
        if rows > 0 {
            self.lack(sieve.destination, actor, upto, rows, events);
        } else {
            self.spare(Span {
                after: after.max(gone.after),
                upto,
            });
        }
        Ok(())
    }

    /// Rows are gone that concern others alone.
    fn spare(&mut self, gone: Span) {
        let before = self.spared.filter(|before| gone.after <= before.upto);
        self.spared = Some(gone.widened(before));
    }

    /// Rows up to `upto` are gone that the destination has not taken. To be stored with the trimming: it is told to go on behind
    /// them, and looks after a restart like one that took them.
    pub(super) fn lack(
        &mut self,
        destination: &Destination,
        actor: ActorId,
        upto: Hlc,
        rows: u64,
        events: &mut Vec<ShipEvent>,
    ) {
        let after = self.cursor.taken;
        self.gone = upto;
        self.cursor.hole = Some(self.cursor.hole.map_or(after, |hole| hole.min(after)));
        self.is_cursor_stored = false;
        events.push(ShipEvent::Dropped {
            destination: destination.clone(),
            actor,
            after,
            upto,
            rows,
        });
    }
}
