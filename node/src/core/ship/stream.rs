//! One log's rows on their way to one destination.

mod gone;
mod idle;

use std::time::Duration;

use crdt::{ActorId, Hlc};

use super::{
    answers::Answers,
    destination::Destination,
    event::ShipEvent,
    extent::{first_row, measure},
    flight::{Carries, Flight},
    log::Log,
    span::Span,
};
use crate::{
    core::{
        identity::DirectoryId,
        message::{Ack, Message, SessionId, Ship},
        mutant::{Mutant, is_on},
    },
    storage::{Family, Storage, StorageError, record::cursor::Cursor},
};

#[derive(Debug, Default)]
pub(super) struct Stream {
    pub(super) cursor: Cursor,
    pub(super) is_cursor_stored: bool,
    pub(super) sent: Hlc,
    /// The session that it was begun on last, and how far it ever was sent on that: answers to it may still come, also where it was sent
    /// again from an earlier place, or the destination was not believed to live for a while.
    begun_on: Option<SessionId>,
    furthest: Hlc,
    pub(super) in_flight: Flight,
    pub(super) pending_rows: u64,
    pub(super) pending_since: Hlc,
    /// Rows up to here were given up: trimming does not wait for them.
    released: Hlc,
    /// Rows up to here are gone that it had not taken by then.
    gone: Hlc,
    /// Rows that are gone, none of which concerns it.
    spared: Option<Span>,
    /// The row here does not decode.
    damaged: Hlc,
    pub(super) resume_at: Duration,
    /// Whether it pauses because the destination cannot take anything now.
    is_refused: bool,
    /// When it was promised something last, and how often since it carried rows.
    promised_at: Duration,
    promises: u32,
    pub(super) backoff: Duration,
    /// Since when nothing that is in flight was answered, and how long that is borne.
    pub(super) silent_since: Option<Duration>,
    pub(super) hedge_delay: Duration,
    /// What the destination has said, within this session, that it knew and the rows did not.
    pub(super) answers: Answers,
    /// Rows that were gone before the destination took them: it has none of them, whatever it took since.
    pub(super) lost: Option<Span>,
    /// Rows behind this were sent, or will be, under the stand-ins of today.
    pub(super) assigned_after: Hlc,
    /// How far the destination's replicas are, as it said last.
    pub(super) majority: Hlc,
    pub(super) every: Hlc,
    /// The taker is told of a place, and does not say yet that it is there.
    bridge: Option<Bridge>,
    /// Rows that a taker was bridged over; whether every replica of its region has them it cannot say.
    pub(super) bridged: Option<Span>,
    /// Those of them of which the taker before did not say that a majority has them: it had dropped some before it passed them on.
    pub(super) unpassed: Option<Span>,
}

/// What tells a taker that nothing in `(after, upto]` will be sent to it, until it says that it is at `upto`.
#[derive(Debug, Clone, Copy)]
struct Bridge {
    /// Zero, where the taker lacks rows that are gone here and that others of its region have: it is to go on from `upto`. Or
    /// `upto` itself, where it said before that it has everything up to there, and its greeting says less: one that still has it
    /// says so again, an old copy of its directory declines.
    after: Hlc,
    upto: Hlc,
    is_sent: bool,
}

/// Who reads a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reader {
    /// Another region: its taker passes the rows on. Clients wait for its word about rows behind `awaited`.
    Region { awaited: Hlc },
    /// A replica that takes what was passed on to it, and answers for no row.
    Passive,
    /// A replica that answers for each row. Clients wait for its word about rows behind `awaited`.
    Replica { awaited: Hlc },
}

impl Reader {
    fn is_region(self) -> bool {
        matches!(self, Self::Region { .. })
    }
}

/// What is known of a destination when a stream begins there.
pub(super) struct Place<'a> {
    pub(super) destination: &'a Destination,
    pub(super) is_shared: bool,
    pub(super) directory: DirectoryId,
    pub(super) session: SessionId,
    /// What the node there says it has taken; `None` where it was not asked: a node that renewed its actors often does not ask about
    /// the oldest.
    pub(super) taken: Option<Hlc>,
    /// Clients wait for its word about rows behind this.
    pub(super) awaited: Option<Hlc>,
}

impl Stream {
    pub(super) fn open(
        storage: &dyn Storage,
        actor: ActorId,
        destination: &Destination,
        log: &Log,
    ) -> Result<Self, StorageError> {
        let stored = destination.cursor_key(actor);
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

    /// Begins a session with a node that has everything up to `place.taken`.
    pub(super) fn meet(
        &mut self,
        storage: &dyn Storage,
        actor: ActorId,
        place: &Place<'_>,
        log: &Log,
        events: &mut Vec<ShipEvent>,
    ) -> Result<(), StorageError> {
        let before = self.cursor.taken;
        self.bridge = None;
        let is_known = place.is_shared || self.is_held_by(place.directory);
        let unasked = if is_known { before } else { Hlc::ZERO };
        let taken = place.taken.unwrap_or(unasked).min(self.tellable(log));
        if place.is_shared {
            self.go_on_with(taken);
        } else {
            self.begin_with(actor, place, taken, log, events);
        }
        self.cursor.holder = Some(place.directory);
        if !self.is_spared(self.cursor.taken, log.trimmed) {
            self.lack(place.destination, actor, log.trimmed, 0, events);
        }
        self.is_cursor_stored = false;
        self.resume_at = Duration::ZERO;
        // What a peer did not answer before says nothing about the one that has just greeted.
        self.hedge_delay = Duration::ZERO;
        self.rewind();
        self.recount(storage, actor, before)?;
        if let Some(awaited) = place.awaited.filter(|awaited| *awaited < self.sent) {
            // What a client waits for is sent again although it was taken: what the taker knew about it may have been said on the
            // session before, and was lost with it.
            self.sent = awaited.max(log.trimmed);
        }
        self.answers.begin(self.sent);
        if self.begun_on.replace(place.session) != Some(place.session) {
            self.furthest = Hlc::ZERO;
        }
        self.furthest = self.furthest.max(self.sent);
        self.assigned_after = self.furthest;
        Ok(())
    }

    /// The destination stands in for others than before: what was sent so far was sent without their rows, so its answers to that
    /// say nothing about these.
    pub(super) fn reassign(&mut self) {
        self.assigned_after = self.assigned_after.max(self.furthest);
    }

    /// Whether a directory is the one that took what was taken, as far as is known.
    fn is_held_by(&self, directory: DirectoryId) -> bool {
        let holder = self.cursor.holder;
        holder.is_none_or(|holder| holder == directory)
    }

    /// The one node there says what it has.
    fn begin_with(
        &mut self,
        actor: ActorId,
        place: &Place<'_>,
        taken: Hlc,
        log: &Log,
        events: &mut Vec<ShipEvent>,
    ) {
        if !self.is_held_by(place.directory) {
            self.replace(place.destination, actor, taken, events);
            return;
        }
        // What a directory has saved it has for good. A greeting that says less was overtaken by acknowledgements, or is of a copy of
        // what the directory was. What was taken and not saved may be lacking after any crash, and is sent again, unless it is gone.
        let mut had = self.cursor.settled;
        if self.cursor.taken >= log.trimmed {
            had = had.max(log.trimmed);
        }
        self.cursor.taken = taken.max(had);
        self.bridge = (taken < had).then_some(Bridge {
            after: had,
            upto: had,
            is_sent: false,
        });
    }

    /// The one node there lacks what was taken there.
    fn replace(
        &mut self,
        destination: &Destination,
        actor: ActorId,
        taken: Hlc,
        events: &mut Vec<ShipEvent>,
    ) {
        if taken < self.cursor.taken {
            events.push(ShipEvent::Replaced {
                destination: destination.clone(),
                actor,
                had: self.cursor.taken,
                has: taken,
            });
        }
        self.cursor.taken = taken;
        self.cursor.settled = self.cursor.settled.min(taken);
    }

    /// One of several nodes there goes on from what most of them have, or from what it took itself, if that is more. What it took
    /// and may not have passed on it still has to pass on; what another one took and did not pass on is sent again.
    fn go_on_with(&mut self, taken: Hlc) {
        let upto = taken.max(self.cursor.settled);
        self.cursor.taken = upto;
        self.bridge = (taken < upto).then_some(Bridge {
            after: Hlc::ZERO,
            upto,
            is_sent: false,
        });
        if taken < upto {
            self.bridged = Span::behind(self.every, upto, self.bridged);
            self.unpassed = Span::behind(self.majority, upto, self.unpassed);
        }
    }

    /// The destination may say that it is here, and no further. A word beyond that would end the stream: every later row would
    /// count as taken, and none of them would be sent.
    fn tellable(&self, log: &Log) -> Hlc {
        // A former actor's log was told more than is recalled of it, where its end was withdrawn before the start.
        log.told.max(self.cursor.taken)
    }

    /// The destination says how far it is.
    pub(super) fn hear(
        &mut self,
        storage: &dyn Storage,
        log: &Log,
        said: &Ack,
    ) -> Result<(), StorageError> {
        let tellable = self.tellable(log);
        let settled = said.passed.min(said.saved).min(tellable);
        if settled > self.cursor.settled {
            self.cursor.settled = settled;
            self.is_cursor_stored = false;
        }
        self.majority = self.majority.max(said.majority.min(tellable));
        self.every = self.every.max(said.every.min(tellable));
        if let Some((after, last)) = said.answers {
            let last = last.min(tellable);
            if after < last {
                self.answers.hear(after, last);
            }
        }
        self.advance(storage, said.actor, said.taken.min(tellable))
    }

    /// Up to here the destination has taken every row: nothing before it was dropped.
    pub(super) fn has_without_gap(&self) -> Hlc {
        let hole = self.cursor.hole.unwrap_or(Hlc::MAX);
        self.cursor.taken.min(hole)
    }

    /// The receiver has everything up to `taken`.
    fn advance(
        &mut self,
        storage: &dyn Storage,
        actor: ActorId,
        taken: Hlc,
    ) -> Result<(), StorageError> {
        let landed = self.in_flight.land(self.cursor.taken, taken);
        self.fill_hole(landed.filled);
        self.bridge = self.bridge.filter(|bridge| bridge.upto > taken);
        if taken <= self.cursor.taken {
            return Ok(());
        }
        let rows = match landed.rows {
            Some(rows) => rows,
            None => measure(storage, actor, self.cursor.taken, Some(taken))?.rows,
        };
        self.pending_rows = self.pending_rows.saturating_sub(rows);
        self.cursor.taken = taken;
        self.backoff = BACKOFF_MIN;
        (self.silent_since, self.hedge_delay) = (None, Duration::ZERO);
        self.is_cursor_stored = false;
        if self.in_flight.is_empty() {
            // An answer to what was sent before a rewind need not be asked for again.
            self.sent = self.sent.max(taken);
        }
        Ok(())
    }

    /// The receiver did not take what was sent, and is at `taken`: behind what it said, where it restarted its intake within a
    /// session, or where an old copy of its directory answers.
    #[allow(clippy::too_many_arguments)] // the message's parts, and what is needed to act on it
    pub(super) fn fall_back(
        &mut self,
        storage: &dyn Storage,
        destination: &Destination,
        actor: ActorId,
        is_shared: bool,
        log: &Log,
        taken: Hlc,
        events: &mut Vec<ShipEvent>,
    ) -> Result<(), StorageError> {
        let taken = taken.min(self.tellable(log));
        self.advance(storage, actor, taken)?;
        if taken >= self.cursor.taken {
            return Ok(());
        }
        let before = self.cursor.taken;
        if is_shared {
            self.go_on_with(taken);
        } else if self.bridge.take().is_some() {
            self.replace(destination, actor, taken, events);
            if !self.is_spared(taken, log.trimmed) {
                self.lack(destination, actor, log.trimmed, 0, events);
            }
            self.rewind();
        } else {
            // What it has saved it has for good: a word from before that comes late takes nothing of it back.
            self.cursor.taken = taken.max(self.cursor.settled);
        }
        self.is_cursor_stored = false;
        self.recount(storage, actor, before)
    }

    /// Whether everything that was sent has been answered for: nothing has to be sent again.
    pub(super) fn is_answered(&self) -> bool {
        self.in_flight.is_empty() && self.sent <= self.cursor.taken
    }

    /// Whether the destination takes rows now, as far as is known.
    pub(super) fn is_taking(&self, now: Duration) -> bool {
        now >= self.resume_at
    }

    /// Whether the destination has declined what was sent, for a reason that lasts.
    pub(super) fn is_refused(&self, now: Duration) -> bool {
        self.is_refused && !self.is_taking(now)
    }

    /// A message leaves.
    pub(super) fn depart(&mut self, last: Hlc, carries: Carries, bytes: usize) {
        assert!(last > self.sent, "a stream only goes on");
        self.in_flight.depart(self.sent, last, carries, bytes);
        self.sent = last;
        self.furthest = self.furthest.max(last);
        debug_assert!(
            self.in_flight.lasts().last() == Some(self.sent),
            "what was sent last is under way"
        );
    }

    /// Rows up to `filled` came without a gap: those that were in flight when they were trimmed are not lacking.
    fn fill_hole(&mut self, filled: Hlc) {
        if self.cursor.hole == Some(self.cursor.taken) && filled > self.cursor.taken {
            self.cursor.hole = (filled < self.gone).then_some(filled);
            self.is_cursor_stored = false;
        }
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
        self.rewind_to(self.cursor.taken);
    }

    fn rewind_to(&mut self, place: Hlc) {
        self.in_flight.clear();
        self.sent = place;
        self.silent_since = None;
        if let Some(bridge) = &mut self.bridge {
            bridge.is_sent = false;
        }
    }

    /// Whether the taker has yet to hear where it is to go on: until then it takes nothing.
    pub(super) fn is_bridging(&self) -> bool {
        self.bridge.is_some()
    }

    /// Sends rows again that the destination took, and that clients wait for its word about, where that word is missing: it was
    /// lost, and what it taught with it. Rows up to `awaited` nobody waits for.
    fn ask_again(&mut self, awaited: Hlc, now: Duration) {
        self.answers.pass(awaited.min(self.cursor.taken));
        if self.answers.are_overdue(self.cursor.taken, now) {
            self.rewind_to(self.answers.upto());
        }
    }

    /// An answer can be lost while its session lives, where a queue on its way was full, and with nothing more to send nobody
    /// would ever ask for it. So what is in flight for too long is sent again.
    fn notice_silence(&mut self, reader: Reader, now: Duration) {
        if self.in_flight.is_empty() && self.bridge.is_none() {
            self.silent_since = None;
            return;
        }
        let since = *self.silent_since.get_or_insert(now);
        let least = match reader {
            Reader::Replica { awaited } | Reader::Region { awaited } if awaited < self.sent => {
                PATIENCE_AWAITED
            }
            Reader::Replica { .. } | Reader::Region { .. } | Reader::Passive => HEDGE_DELAY_MIN,
        };
        let hedge_delay = self.hedge_delay.max(least);
        if now >= since + hedge_delay {
            self.hedge_delay = (hedge_delay * 2).min(HEDGE_DELAY_MAX);
            self.rewind();
        }
    }

    pub(super) fn pause(&mut self, now: Duration, draw: u64, is_refused: bool) {
        self.is_refused = is_refused;
        self.resume_at = now
            + self
                .backoff
                .mul_f64(0.5 + 0.5 * (draw >> 11) as f64 / (1u64 << 53) as f64);
        self.backoff = (self.backoff * 2).clamp(BACKOFF_MIN, BACKOFF_MAX);
        if is_on(Mutant::DeclinedForGood) {
            self.resume_at = Duration::MAX;
        }
    }

    pub(super) fn pump(
        &mut self,
        storage: &dyn Storage,
        actor: ActorId,
        log: &Log,
        reader: Reader,
        now: Duration,
        send: &mut dyn FnMut(Message),
    ) -> Result<(), StorageError> {
        self.notice_silence(reader, now);
        if let Reader::Replica { awaited } = reader {
            self.ask_again(awaited, now);
        }
        if now < self.resume_at {
            return Ok(());
        }
        if let Some(bridge) = self.bridge.as_mut().filter(|bridge| !bridge.is_sent)
            && !is_on(Mutant::BridgeNotSent)
        {
            bridge.is_sent = true;
            let (after, upto) = (bridge.after, bridge.upto);
            send(Message::ClosedTimestamp { actor, after, upto });
        }
        if self.sent < log.trimmed {
            let is_for_region = reader.is_region();
            self.skip(actor, log.trimmed, Carries::Nothing, is_for_region, send);
        }
        while self.sent < log.newest && self.in_flight.has_room() {
            let mut rows = log.read(storage, actor, self.sent)?;
            match rows.iter().position(|(last, _)| *last == self.damaged) {
                Some(0) => {
                    self.skip(
                        actor,
                        self.damaged,
                        Carries::Damaged,
                        reader.is_region(),
                        send,
                    );
                    continue;
                }
                Some(sound) => rows.truncate(sound),
                None => {}
            }
            let Some(&(last, _)) = rows.last() else { break };
            let bytes = rows.iter().map(|(_, row)| row.len()).sum();
            let after = self.sent;
            let is_first = self.in_flight.is_empty() && rows.len() > 1;
            let without = usize::from(is_first && is_on(Mutant::RowSkipped));
            self.depart(last, Carries::Rows(rows.len() as u64), bytes);
            self.promises = 0;
            send(Message::Ship(Ship {
                actor,
                after,
                last,
                rows: rows.into_iter().skip(without).map(|(_, row)| row).collect(),
                is_for_region: reader.is_region(),
            }));
        }
        Ok(())
    }

    /// The row at a place does not decode, here either: like one that was dropped it reaches nobody, and holds up none behind it.
    pub(super) fn pass_over(
        &mut self,
        destination: &Destination,
        actor: ActorId,
        damaged: Hlc,
        events: &mut Vec<ShipEvent>,
    ) {
        if self.damaged != damaged {
            self.damaged = damaged;
            self.lack(destination, actor, damaged, 1, events);
        }
    }

    /// Goes on behind rows that are gone.
    pub(super) fn skip(
        &mut self,
        actor: ActorId,
        upto: Hlc,
        carries: Carries,
        is_for_region: bool,
        send: &mut dyn FnMut(Message),
    ) {
        let after = self.sent;
        self.depart(upto, carries, 0);
        self.answers.hear(after, upto); // there is nothing to answer for, and nothing that counts
        self.lost = Some(Span { after, upto }.widened(self.lost));
        if self.is_spared(after, upto) {
            send(Message::ClosedTimestamp { actor, after, upto });
        } else if !is_on(Mutant::SkipNotSent) {
            send(Message::Gap {
                actor,
                after,
                upto,
                is_for_region,
            });
        }
    }
}

/// First pause after a region declined.
const BACKOFF_MIN: Duration = Duration::from_millis(100);
/// Longest pause.
const BACKOFF_MAX: Duration = Duration::from_secs(3);
/// What is in flight and not answered for so long is sent again: far above a round trip, a batch and a slow disk together.
const HEDGE_DELAY_MIN: Duration = Duration::from_secs(3);
/// The same where a client waits, who is to be answered in its time although one message was lost.
const PATIENCE_AWAITED: Duration = Duration::from_millis(600);
/// Where that does not help the peer is slow, and is not to be asked all the time.
const HEDGE_DELAY_MAX: Duration = Duration::from_secs(12);
