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

use std::collections::{BTreeMap, VecDeque};

use crdt::{ActorId, Delta, Hlc};

use super::message::{Decline, Held, Message, SessionId, Ship};
use crate::{
    placement::Partition,
    storage::{
        Batch, Family, Storage, StorageError, prefix_end,
        record::{inbox, inbox::Intake, outbox},
    },
};

/// The intake of one node, over all origins.
#[derive(Debug)]
pub struct Inbox {
    shards: u16,
    max_skew_ms: u64,
    sources: BTreeMap<ActorId, Source>,
}

/// One part of a message on its way through a shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket {
    actor: ActorId,
    number: u64,
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

/// What the inbox wants done.
#[derive(Debug, PartialEq)]
pub enum Intent {
    /// Have a shard join deltas and report with the ticket when they are durable.
    Apply {
        shard: u16,
        ticket: Ticket,
        deltas: Vec<Delta>,
    },
    /// Send a message on a session.
    Send {
        session: SessionId,
        message: Message,
    },
    /// Tell an operator.
    Report(InboxEvent),
}

/// Something an operator should hear of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InboxEvent {
    /// A peer's message was not taken.
    Declined { actor: ActorId, reason: Decline },
    /// An origin dropped rows before this node took them: a reconciliation must bring them.
    Missed {
        actor: ActorId,
        after: Hlc,
        upto: Hlc,
    },
}

#[derive(Debug, Default)]
struct Source {
    intake: Intake,
    is_stored: bool,
    /// The stream is accepted up to here: durable, or in `queue`.
    accepted: Hlc,
    queue: VecDeque<Arrival>,
    queued_bytes: usize,
    next_number: u64,
}

#[derive(Debug)]
struct Arrival {
    number: u64,
    session: SessionId,
    upto: Hlc,
    parts_left: usize,
    bytes: usize,
    /// Nothing in it is missing here.
    is_whole: bool,
}

impl Inbox {
    /// Takes up the intake where storage left it, for a node with `shards` shards.
    pub fn open(
        storage: &dyn Storage,
        shards: u16,
        max_skew_ms: u64,
    ) -> Result<Self, StorageError> {
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
                                is_stored: true,
                                accepted: intake.position,
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
            }),
            Err,
        )
    }

    /// What this node has of some actors, for a handshake.
    pub fn held(&self, actors: &[ActorId]) -> Vec<Held> {
        let held = |&actor: &ActorId| {
            let source = self.sources.get(&actor)?;
            Some(Held {
                actor,
                taken: source.intake.position,
                newest: source.accepted.max(source.intake.position),
            })
        };
        actors.iter().filter_map(held).collect()
    }

    /// Takes a message that a peer shipped.
    pub fn message(&mut self, session: SessionId, message: Message, wall_ms: u64) -> Vec<Intent> {
        match message {
            Message::Ship(ship) => self.ship(session, ship, wall_ms),
            Message::Promise { actor, after, upto } => self.pass(session, actor, after, upto, true),
            Message::Skip { actor, after, upto } => {
                let mut intents = self.pass(session, actor, after, upto, false);
                intents.push(Intent::Report(InboxEvent::Missed { actor, after, upto }));
                intents
            }
            // For the shipper; the driver takes them there.
            Message::Taken { .. } | Message::Declined { .. } => Vec::new(),
        }
    }

    /// A shard is done with a part.
    pub fn applied(&mut self, ticket: Ticket, applied: Applied) -> Vec<Intent> {
        let Some(source) = self.sources.get_mut(&ticket.actor) else {
            return Vec::new();
        };
        let Some(arrival) = source
            .queue
            .iter_mut()
            .find(|arrival| arrival.number == ticket.number)
        else {
            return Vec::new(); // of an arrival that was refused as a whole
        };
        assert!(arrival.parts_left > 0, "a part was applied twice");
        arrival.parts_left -= 1;
        match applied {
            Applied::Whole => {}
            Applied::Damaged => arrival.is_whole = false,
            Applied::Refused => {
                let session = arrival.session;
                return source.refuse(session, ticket.actor, Decline::ReadOnly);
            }
        }
        source.advance(ticket.actor)
    }

    /// What changed since this was last called, to be committed: after the rows that it speaks of, never before.
    pub fn unsaved(&mut self) -> Batch {
        let mut batch = Batch::default();
        for (&actor, source) in &mut self.sources {
            if !std::mem::replace(&mut source.is_stored, true) {
                batch.put(
                    Family::Meta,
                    inbox::stored_key(actor),
                    source.intake.encode(),
                );
            }
        }
        batch
    }

    fn ship(&mut self, session: SessionId, ship: Ship, wall_ms: u64) -> Vec<Intent> {
        let actor = ship.actor;
        let source = self.sources.entry(actor).or_default();
        if ship.last <= source.intake.position {
            return vec![source.taken(session, actor)];
        }
        if ship.after > source.accepted {
            return source.refuse(session, actor, Decline::Gap);
        }
        if source.queued_bytes > QUEUED_BYTES_MAX {
            return source.refuse(session, actor, Decline::Busy);
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
        let excess_ms = newest
            .millis()
            .saturating_sub(wall_ms.saturating_add(self.max_skew_ms));
        if excess_ms > 0 {
            return source.refuse(session, actor, Decline::ClockAhead { excess_ms });
        }
        let parts = by_shard(deltas, self.shards);
        let ticket = source.accept(session, actor, ship.last, parts.len(), bytes, true);
        let mut intents: Vec<Intent> = parts
            .into_iter()
            .map(|(shard, deltas)| Intent::Apply {
                shard,
                ticket,
                deltas,
            })
            .collect();
        intents.extend(source.advance(actor));
        intents
    }

    /// Moves the stream over stamps that carry nothing, or nothing any more.
    fn pass(
        &mut self,
        session: SessionId,
        actor: ActorId,
        after: Hlc,
        upto: Hlc,
        is_whole: bool,
    ) -> Vec<Intent> {
        let source = self.sources.entry(actor).or_default();
        if after > source.accepted {
            return source.refuse(session, actor, Decline::Gap);
        }
        if upto <= source.intake.position {
            return vec![source.taken(session, actor)];
        }
        source.accept(session, actor, upto, 0, 0, is_whole);
        source.advance(actor)
    }
}

impl Source {
    fn accept(
        &mut self,
        session: SessionId,
        actor: ActorId,
        upto: Hlc,
        parts: usize,
        bytes: usize,
        is_whole: bool,
    ) -> Ticket {
        let number = self.next_number;
        self.next_number += 1;
        self.accepted = self.accepted.max(upto);
        self.queued_bytes += bytes;
        self.queue.push_back(Arrival {
            number,
            session,
            upto,
            parts_left: parts,
            bytes,
            is_whole,
        });
        Ticket { actor, number }
    }

    /// Moves the position over the arrivals at the front that are durable.
    fn advance(&mut self, actor: ActorId) -> Vec<Intent> {
        let mut session = None;
        while let Some(done) = self.queue.pop_front_if(|arrival| arrival.parts_left == 0) {
            self.queued_bytes -= done.bytes;
            session = Some(done.session);
            self.pass_over(&done);
        }
        session
            .map(|session| self.taken(session, actor))
            .into_iter()
            .collect()
    }

    fn pass_over(&mut self, done: &Arrival) {
        if done.upto <= self.intake.position {
            return;
        }
        if done.is_whole && self.intake.complete == self.intake.position {
            self.intake.complete = done.upto;
        }
        self.intake.position = done.upto;
        self.is_stored = false;
        assert!(
            self.intake.complete <= self.intake.position,
            "the watermark never passes the position"
        );
    }

    /// Forgets what is accepted and not durable: the origin sends it again from the position.
    fn refuse(&mut self, session: SessionId, actor: ActorId, reason: Decline) -> Vec<Intent> {
        self.queue.clear();
        self.queued_bytes = 0;
        self.accepted = self.intake.position;
        let message = Message::Declined {
            actor,
            taken: self.intake.position,
            reason,
        };
        vec![
            Intent::Send { session, message },
            Intent::Report(InboxEvent::Declined { actor, reason }),
        ]
    }

    fn taken(&self, session: SessionId, actor: ActorId) -> Intent {
        let position = self.intake.position;
        Intent::Send {
            session,
            message: Message::Taken {
                actor,
                taken: position,
                majority: position,
            },
        }
    }
}

fn decode(ship: &Ship) -> Result<Vec<Delta>, Decline> {
    let mut deltas = Vec::new();
    for row in &ship.rows {
        deltas.append(&mut outbox::decode(row).map_err(|_| Decline::Malformed)?);
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
