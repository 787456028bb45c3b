//! What other regions ship to this node: taken in order, spread over the shards, acknowledged when it is durable.
//!
//! ```text
//!   Ship(actor, (after, last]) ─▶ continuous? clock in bounds? ─▶ deltas by shard ─▶ Apply … ─▶ Applied (durable)
//!                                        │ no                                                      │ all parts, in order
//!                                        ▼                                                         ▼
//!                                    Declined                                            position moves, Taken
//! ```
//! A delta may come twice (a session died, a cursor was behind): joining it again changes nothing. What must never happen is a position
//! that passes rows that are not durable here; so it moves only over a prefix of what was accepted, when each part was committed.
//!
//! What is taken for the whole region is passed on within it, by the shards; their relay logs say how far that is ([`relay`]), and
//! the origin hears how far a majority of the region is, and all of it.
//!
//! What another node of this region ships for this node alone is answered row by row, with what this node knew about it, also
//! when it came before: the origin waits for that word, and the first one may have been lost.

mod intent;
mod relay;
mod source;

use std::collections::BTreeMap;

use crdt::{ActorId, Delta, Hlc};

pub use self::{
    intent::{InboxEvent, Intent, Purpose, Ticket},
    relay::RelayMark,
};
use self::{
    relay::Passing,
    source::{Arrival, Source},
};
use super::{
    identity::is_relay,
    message::{KnownPosition, Message, NackReason, SessionId, Ship, Teaching},
    mutant::{Mutant, is_on},
};
use crate::{
    placement::Partition,
    storage::{
        Batch, Family, Storage, StorageError, prefix_end,
        record::{inbox, inbox::Intake, outbox, shortage::Shortage},
    },
};

/// The intake of one node, over all origins.
#[derive(Debug)]
pub struct Inbox {
    shards: u16,
    max_skew_ms: u64,
    sources: BTreeMap<ActorId, Source>,
    /// How far each shard is with passing on.
    relays: Vec<RelayMark>,
    /// What this node lacks for good, and what of that is stored.
    shortage: Shortage,
    saved_shortage: Shortage,
    saving_shortage: Shortage,
}

/// What a shard did with a part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Done {
    /// What became of it.
    pub applied: Applied,
    /// Where in the shard's relay log it stands, if it is to be passed on.
    pub place: Option<Hlc>,
    /// What the shard knew about it.
    pub taught: Vec<Teaching>,
}

/// What became of a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Applied {
    /// It is durable.
    Whole,
    /// It is durable but for deltas that could not be joined: a row of theirs here is damaged.
    Damaged,
    /// The shard cannot write now.
    Refused,
}

impl Inbox {
    /// Takes up the intake where storage left it, for a node with `shards` shards whose directory has these `logs`.
    pub fn open(
        storage: &dyn Storage,
        shards: u16,
        logs: impl Iterator<Item = ActorId>,
        max_skew_ms: u64,
    ) -> Result<Self, StorageError> {
        let relayed = relay::relayed(storage, logs)?;
        let shortage = Shortage::load(storage)?;
        let mut sources = BTreeMap::new();
        let mut failed = None;
        storage.scan(
            Family::Meta,
            inbox::PREFIX,
            prefix_end(inbox::PREFIX).as_deref(),
            &mut |stored, value| {
                match (inbox::actor(stored), Intake::decode(stored, value)) {
                    (Some(actor), Ok(intake)) => {
                        sources.insert(
                            actor,
                            Source {
                                intake,
                                saved: intake.position,
                                saving: intake.position,
                                accepted: intake.position,
                                passing: Passing::resumed(intake.position, &relayed),
                                ..Source::default()
                            },
                        );
                    }
                    (None, _) => {}
                    (_, Err(error)) => failed = Some(error),
                }
                std::ops::ControlFlow::Continue(())
            },
        )?;
        failed.map_or(
            Ok(Self {
                shards,
                max_skew_ms,
                sources,
                relays: vec![RelayMark::default(); usize::from(shards)],
                shortage,
                saved_shortage: shortage,
                saving_shortage: shortage,
            }),
            Err,
        )
    }

    /// What this node has of each of some actors, for a handshake: nothing is an answer too.
    pub fn held(&self, actors: &[ActorId]) -> Vec<KnownPosition> {
        let held = |&actor: &ActorId| match self.sources.get(&actor) {
            None => KnownPosition::nothing(actor),
            Some(source) => KnownPosition {
                actor,
                taken: source.intake.position,
                passed: source.accepted.max(source.intake.position),
                newest: source.intake.newest,
            },
        };
        actors.iter().map(held).collect()
    }

    /// What this node lacks that nobody will ship to it.
    pub fn shortage(&self) -> Shortage {
        self.shortage
    }

    /// This node lacks writes that nobody will ship to it: rows were dropped before it took them, or its data directory is a new or an
    /// old one.
    pub fn fall_short(&mut self, of: Shortage) -> Vec<Intent> {
        let shortage = self.shortage.with(of);
        if shortage == self.shortage {
            return Vec::new();
        }
        self.shortage = shortage;
        vec![Intent::FallShort(shortage)]
    }

    /// Takes a message that a peer shipped.
    pub fn message(&mut self, session: SessionId, message: Message, wall_ms: u64) -> Vec<Intent> {
        let intents = self.take(session, message, wall_ms);
        self.signed(intents)
    }

    fn take(&mut self, session: SessionId, message: Message, wall_ms: u64) -> Vec<Intent> {
        match message {
            Message::Ship(ship) => self.ship(session, ship, wall_ms),
            Message::ClosedTimestamp { actor, after, upto } => self
                .decline_news_ahead(session, actor, upto, wall_ms)
                .unwrap_or_else(|| self.pass(session, actor, (after, upto), true)),
            Message::Gap {
                actor,
                after,
                upto,
                is_for_region,
            } => self
                .decline_news_ahead(session, actor, upto, wall_ms)
                .unwrap_or_else(|| self.skip(session, actor, (after, upto), is_for_region)),
            // For the shards, or for the driver itself.
            Message::Ack(_)
            | Message::Nack { .. }
            | Message::Compare(_)
            | Message::Compared { .. }
            | Message::Repair { .. }
            | Message::Repaired { .. }
            | Message::Forward { .. }
            | Message::Forwarded { .. }
            | Message::Unanswered { .. } => Vec::new(),
        }
    }

    /// A shard says how far it is with passing on; it may say so twice.
    pub fn relayed(&mut self, shard: u16, mark: RelayMark) -> Vec<Intent> {
        let Some(known) = self.relays.get_mut(usize::from(shard)) else {
            return Vec::new();
        };
        *known = mark;
        let relays = &self.relays;
        let moved = |(&actor, source): (&ActorId, &mut Source)| {
            let has_moved = source.passing.advance(relays);
            let session = source.session.filter(|_| has_moved)?;
            Some(source.taken(session, actor, None))
        };
        let intents = self.sources.iter_mut().filter_map(moved).collect();
        self.signed(intents)
    }

    /// What stood behind `kept` in a shard's relay log stands at `place` now, or before it.
    pub fn relocated(&mut self, shard: u16, kept: Hlc, place: Hlc) {
        for source in self.sources.values_mut() {
            source.passing.relocate(shard, kept, place);
            let places = source
                .queue
                .iter_mut()
                .flat_map(|arrival| &mut arrival.places);
            relay::relocate(places, shard, kept, place);
        }
    }

    /// A shard is done with a part.
    pub fn applied(&mut self, shard: u16, ticket: Ticket, done: Done) -> Vec<Intent> {
        let intents = self.conclude(shard, ticket, done);
        self.signed(intents)
    }

    fn conclude(&mut self, shard: u16, ticket: Ticket, done: Done) -> Vec<Intent> {
        let relays = &self.relays;
        let Some(source) = self.sources.get_mut(&ticket.actor) else {
            return Vec::new();
        };
        let Some(at) = source
            .queue
            .iter()
            .position(|arrival| arrival.number == ticket.number)
        else {
            return Vec::new(); // of an arrival that was refused as a whole
        };
        let arrival = &mut source.queue[at];
        assert!(arrival.parts_left > 0, "a part was applied twice");
        arrival.parts_left -= 1;
        arrival.taught.extend(done.taught);
        arrival
            .places
            .extend(done.place.map(|place| (shard, place)));
        match done.applied {
            Applied::Whole => {}
            Applied::Damaged => arrival.is_whole = false,
            Applied::Refused => return source.forget_from(at, ticket.actor, NackReason::ReadOnly),
        }
        let mut intents = source.advance(ticket.actor, relays);
        if done.applied == Applied::Damaged {
            // The stream goes on; what could not be joined nobody will send again.
            intents.extend(self.fall_short(Shortage::MISSED));
        }
        intents
    }

    /// With this node's word about itself in every acknowledgement.
    fn signed(&self, mut intents: Vec<Intent>) -> Vec<Intent> {
        for intent in &mut intents {
            if let Intent::Send {
                message: Message::Ack(taken),
                ..
            } = intent
            {
                taken.shortage = self.shortage;
            }
        }
        intents
    }

    /// What is not saved yet, to be committed: after the rows that it speaks of, never before, and so that
    /// it survives power loss together with them. Then [`Inbox::saved`] is to be called.
    pub fn unsaved(&mut self) -> Batch {
        let mut batch = Batch::default();
        self.saving_shortage = self.shortage;
        if self.saving_shortage != self.saved_shortage {
            self.saving_shortage.put(&mut batch);
        }
        for (&actor, source) in &mut self.sources {
            source.saving = source.intake.position;
            if source.saving != source.saved {
                batch.put(
                    Family::Meta,
                    inbox::stored_key(actor),
                    source.intake.encode(),
                );
            }
        }
        batch
    }

    /// What [`Inbox::unsaved`] gave last is durable, and so is every row that it speaks of: no crash takes it back. The origins
    /// hear of it with their next acknowledgement, and only then let go of the rows.
    pub fn saved(&mut self) {
        self.saved_shortage = self.saving_shortage;
        for source in self.sources.values_mut() {
            source.saved = source.saving;
        }
    }

    fn ship(&mut self, session: SessionId, ship: Ship, wall_ms: u64) -> Vec<Intent> {
        let actor = ship.actor;
        let purpose = match (ship.is_for_region, is_relay(actor)) {
            (true, _) => Purpose::PassOn,
            (false, true) => Purpose::Join,
            (false, false) => Purpose::Teach,
        };
        let is_answered = purpose == Purpose::Teach;
        let source = self.sources.entry(actor).or_default();
        source.session = Some(session);
        if !is_answered && ship.last <= source.intake.position {
            return vec![source.taken(session, actor, None)];
        }
        if !is_answered && ship.last <= source.accepted {
            source.wait_with(session, ship.last);
            return Vec::new();
        }
        if ship.after > source.accepted && !is_on(Mutant::GapAccepted) {
            return source.refuse(session, actor, NackReason::Gap);
        }
        if source.queued_bytes > QUEUED_BYTES_MAX {
            return source.refuse(session, actor, NackReason::Busy);
        }
        let bytes = ship.rows.iter().map(|row| row.len()).sum();
        let deltas = match decode(&ship) {
            Ok(deltas) => deltas,
            Err(reason) => return source.refuse(session, actor, reason),
        };
        let newest = deltas
            .iter()
            .map(Delta::newest)
            .max()
            .unwrap_or(ship.last)
            .max(ship.last);
        if let Some(declined) = self.decline_ahead(session, actor, newest, wall_ms) {
            return declined;
        }
        let source = self.sources.entry(actor).or_default();
        let parts = by_shard(deltas, self.shards);
        let ticket = source.accept(
            actor,
            Arrival {
                sessions: vec![session],
                after: ship.after,
                upto: ship.last,
                parts_left: parts.len(),
                bytes,
                is_whole: true,
                has_rows: true,
                is_answered,
                ..Arrival::default()
            },
        );
        let mut intents: Vec<Intent> = parts
            .into_iter()
            .map(|(shard, deltas)| Intent::Apply {
                shard,
                ticket,
                deltas,
                purpose,
            })
            .collect();
        intents.extend(source.advance(actor, &self.relays));
        intents
    }

    /// Declines a word about rows that do not come, like the rows of that time. A position that is far ahead would count all that the
    /// origin stamps until then as taken. What was accepted before, by another clock, is no news.
    fn decline_news_ahead(
        &mut self,
        session: SessionId,
        actor: ActorId,
        upto: Hlc,
        wall_ms: u64,
    ) -> Option<Vec<Intent>> {
        let source = self.sources.get(&actor);
        let accepted = source.map_or(Hlc::ZERO, |source| source.accepted);
        if upto <= accepted {
            return None;
        }
        self.decline_ahead(session, actor, upto, wall_ms)
    }

    /// Declines what is stamped further ahead than a clock may be.
    fn decline_ahead(
        &mut self,
        session: SessionId,
        actor: ActorId,
        newest: Hlc,
        wall_ms: u64,
    ) -> Option<Vec<Intent>> {
        let allowed_ms = wall_ms.saturating_add(self.max_skew_ms);
        let excess_ms = newest.millis().saturating_sub(allowed_ms);
        if excess_ms == 0 || is_on(Mutant::SkewAccepted) {
            return None;
        }
        let source = self.sources.entry(actor).or_default();
        source.session = Some(session);
        Some(source.refuse(session, actor, NackReason::ClockAhead { excess_ms }))
    }

    /// Goes on behind rows that were dropped. This node is short before its position passes them: no moment is left in which it would
    /// count as a replica that has them. Said again of what it has already, it means nothing.
    fn skip(
        &mut self,
        session: SessionId,
        actor: ActorId,
        (after, upto): (Hlc, Hlc),
        is_for_region: bool,
    ) -> Vec<Intent> {
        let accepted = self.sources.get(&actor).map(|source| source.accepted);
        let mut intents = Vec::new();
        if accepted.unwrap_or(Hlc::ZERO) < upto {
            intents = self.fall_short(match is_for_region {
                true => Shortage::OF_REGION,
                false => Shortage::MISSED,
            });
            intents.push(Intent::Report(InboxEvent::Missed { actor, after, upto }));
        }
        intents.extend(self.pass(session, actor, (after, upto), false));
        intents
    }

    /// Moves the stream over stamps that carry nothing, or nothing any more.
    fn pass(
        &mut self,
        session: SessionId,
        actor: ActorId,
        (after, upto): (Hlc, Hlc),
        is_whole: bool,
    ) -> Vec<Intent> {
        let source = self.sources.entry(actor).or_default();
        source.session = Some(session);
        if after > source.accepted {
            return source.refuse(session, actor, NackReason::Gap);
        }
        if upto <= source.intake.position {
            return vec![source.taken(session, actor, None)];
        }
        let arrival = Arrival {
            sessions: vec![session],
            after,
            upto,
            is_whole,
            ..Arrival::default()
        };
        source.accept(actor, arrival);
        source.advance(actor, &self.relays)
    }
}

fn decode(ship: &Ship) -> Result<Vec<Delta>, NackReason> {
    let mut deltas = Vec::new();
    for row in &ship.rows {
        deltas.append(&mut outbox::decode(row).map_err(|_| NackReason::Malformed)?);
    }
    Ok(deltas)
}

/// Deltas by the shard that owns their key, in order.
fn by_shard(deltas: Vec<Delta>, shards: u16) -> BTreeMap<u16, Vec<Delta>> {
    let mut parts: BTreeMap<u16, Vec<Delta>> = BTreeMap::new();
    for delta in deltas {
        parts
            .entry(Partition::of(&delta.key).shard(shards))
            .or_default()
            .push(delta);
    }
    parts
}

/// Accepted and not yet durable, per actor: beyond it the origin is told to wait. Above what an origin keeps in flight.
const QUEUED_BYTES_MAX: usize = 48 << 20;
