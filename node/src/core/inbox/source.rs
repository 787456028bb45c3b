//! One origin's log, as far as it was taken.

use std::collections::{BTreeSet, VecDeque};

use crdt::{ActorId, Hlc};

use super::{
    intent::{InboxEvent, Intent, Ticket},
    relay::{Passing, RelayMark},
};
use crate::{
    core::{
        message::{Ack, Message, NackReason, SessionId, Teaching},
        mutant::{Mutant, is_on},
    },
    storage::record::{inbox::Intake, shortage::Shortage},
};

#[derive(Debug, Default)]
pub(super) struct Source {
    pub(super) intake: Intake,
    /// The position that a crash leaves; and the one that is being stored.
    pub(super) saved: Hlc,
    pub(super) saving: Hlc,
    /// The stream is accepted up to here: durable, or in `queue`.
    pub(super) accepted: Hlc,
    pub(super) queue: VecDeque<Arrival>,
    pub(super) queued_bytes: usize,
    pub(super) next_number: u64,
    pub(super) passing: Passing,
    /// Where the origin hears how far the region is.
    pub(super) session: Option<SessionId>,
}

#[derive(Debug, Default)]
pub(super) struct Arrival {
    pub(super) number: u64,
    /// Who waits for it: a stream that was sent again on another session waits for what came on the first one.
    pub(super) sessions: Vec<SessionId>,
    /// The stream's interval `(after, upto]`.
    pub(super) after: Hlc,
    pub(super) upto: Hlc,
    pub(super) parts_left: usize,
    pub(super) bytes: usize,
    /// Nothing in it is missing here.
    pub(super) is_whole: bool,
    /// It carries rows, and no mere word about them.
    pub(super) has_rows: bool,
    /// Whether its origin waits for an answer to just this.
    pub(super) is_answered: bool,
    pub(super) taught: Vec<Teaching>,
    /// Where its parts stand in the relay logs: shard and place.
    pub(super) places: Vec<(u16, Hlc)>,
}

impl Source {
    pub(super) fn accept(&mut self, actor: ActorId, arrival: Arrival) -> Ticket {
        let number = self.next_number;
        self.next_number += 1;
        self.accepted = self.accepted.max(arrival.upto);
        self.queued_bytes += arrival.bytes;
        debug_assert!(
            self.queue.back().is_none_or(|last| last.number < number),
            "arrivals are numbered as they come"
        );
        debug_assert!(
            arrival.after <= arrival.upto,
            "an arrival is a part of the stream"
        );
        self.queue.push_back(Arrival { number, ..arrival });
        Ticket { actor, number }
    }

    /// Another session waits for what was accepted up to `upto`.
    pub(super) fn wait_with(&mut self, session: SessionId, upto: Hlc) {
        let covering = self.queue.iter_mut().find(|arrival| arrival.upto >= upto);
        if let Some(arrival) = covering
            && !arrival.sessions.contains(&session)
        {
            arrival.sessions.push(session);
        }
    }

    /// Moves the position over the arrivals at the front that are durable. Those who wait for it hear of it once, those who wait
    /// for an answer to one arrival hear of each.
    pub(super) fn advance(&mut self, actor: ActorId, relays: &[RelayMark]) -> Vec<Intent> {
        let mut sessions = BTreeSet::new();
        let mut answers = Vec::new();
        while let Some(done) = self.queue.pop_front_if(|arrival| arrival.parts_left == 0) {
            self.queued_bytes -= done.bytes;
            self.pass_over(&done);
            if done.is_answered {
                answers.push(done);
            } else {
                sessions.extend(done.sessions);
            }
        }
        debug_assert!(
            !self.queue.is_empty() || self.queued_bytes == 0,
            "bytes are those of arrivals"
        );
        self.passing.advance(relays);
        let answered = answers.into_iter().flat_map(|done| {
            let session = done.sessions.first().copied();
            session.map(|session| self.taken(session, actor, Some(done)))
        });
        let mut intents: Vec<Intent> = answered.collect();
        intents.extend(
            sessions
                .into_iter()
                .map(|session| self.taken(session, actor, None)),
        );
        intents
    }

    pub(super) fn pass_over(&mut self, done: &Arrival) {
        self.passing.push(done.upto, &done.places);
        if done.has_rows {
            self.intake.newest = self.intake.newest.max(done.upto);
        }
        if done.upto <= self.intake.position {
            return;
        }
        if done.is_whole && self.intake.complete == self.intake.position {
            self.intake.complete = done.upto;
        }
        self.intake.position = done.upto;
        assert!(
            self.intake.complete <= self.intake.position,
            "the watermark never passes the position"
        );
    }

    /// Does not take a message. What was accepted before it stays.
    pub(super) fn refuse(
        &self,
        session: SessionId,
        actor: ActorId,
        reason: NackReason,
    ) -> Vec<Intent> {
        vec![
            self.declined(session, actor, reason),
            Intent::Report(InboxEvent::Declined { actor, reason }),
        ]
    }

    /// Forgets what was accepted from an arrival on: it is not durable, and the origin sends it again.
    pub(super) fn forget_from(
        &mut self,
        at: usize,
        actor: ActorId,
        reason: NackReason,
    ) -> Vec<Intent> {
        let forgotten = self.queue.split_off(at);
        let sessions: BTreeSet<SessionId> = forgotten
            .iter()
            .flat_map(|arrival| arrival.sessions.iter().copied())
            .collect();
        self.queued_bytes = self.queue.iter().map(|arrival| arrival.bytes).sum();
        let kept = self.queue.iter().map(|arrival| arrival.upto).max();
        self.accepted = self.intake.position.max(kept.unwrap_or(Hlc::ZERO));
        sessions
            .into_iter()
            .map(|session| self.declined(session, actor, reason))
            .chain([Intent::Report(InboxEvent::Declined { actor, reason })])
            .collect()
    }

    pub(super) fn declined(
        &self,
        session: SessionId,
        actor: ActorId,
        reason: NackReason,
    ) -> Intent {
        let taken = self.intake.position;
        let message = Message::Nack {
            actor,
            taken,
            reason,
        };
        Intent::Send { session, message }
    }

    pub(super) fn taken(
        &self,
        session: SessionId,
        actor: ActorId,
        answered: Option<Arrival>,
    ) -> Intent {
        let (answers, taught) = match answered {
            Some(done) => (Some((done.after, done.upto)), done.taught),
            None => (None, Vec::new()),
        };
        debug_assert!(
            self.saved <= self.intake.position,
            "what is saved was taken"
        );
        let is_early = is_on(Mutant::SavedBeforeStored);
        let RelayMark {
            majority,
            every,
            passed,
        } = self.passing.marks();
        let majority = if is_on(Mutant::MajorityIsTaken) {
            self.intake.position
        } else {
            majority
        };
        let every = if is_on(Mutant::EveryIsMajority) {
            majority
        } else {
            every
        };
        let taken = Ack {
            actor,
            taken: self.intake.position,
            majority,
            every,
            passed,
            saved: if is_early {
                self.intake.position
            } else {
                self.saved
            },
            answers,
            taught,
            shortage: Shortage::NONE, // as the inbox as a whole says: see `signed`
        };
        Intent::Send {
            session,
            message: Message::Ack(taken),
        }
    }
}
