//! What other nodes ship to this one, and what they ask.

use crdt::{Delta, Part, Stamp};

use super::Shard;
use crate::{
    core::{
        Event, Now, Output, compare,
        inbox::{Applied, Done, Purpose, Ticket},
        message::{About, AskId, Compare, Message, SessionId, Teaching, Unanswered},
        mutant::{Mutant, is_on},
        op::Key,
        teach::teach,
    },
    placement::{Partition, Position},
    storage::{Storage, StorageError},
};

impl Shard {
    /// What another node shipped is joined; what is known here and not in it is said, and what is for the whole region is passed on.
    pub(super) fn remote(
        &mut self,
        storage: &dyn Storage,
        ticket: Ticket,
        deltas: Vec<Delta>,
        purpose: Purpose,
        now: Now,
        out: &mut Vec<Output>,
    ) {
        let mut done = Done {
            applied: Applied::Whole,
            place: None,
            taught: Vec::new(),
        };
        if self.read_only.is_some() {
            if !is_on(Mutant::RefusedIsTaken) {
                done.applied = Applied::Refused;
            }
        } else {
            for delta in deltas {
                let key = delta.key.clone();
                match self.take_in(storage, delta, purpose, now, &mut done) {
                    Ok(()) => {}
                    Err(StorageError::Failed { .. }) => done.applied = Applied::Refused,
                    Err(error) => {
                        done.applied = Applied::Damaged;
                        if purpose == Purpose::Teach {
                            done.taught.push(Teaching::lost(key));
                        }
                        out.push(Output::Report(Event::Damaged(error)));
                    }
                }
            }
        }
        let conflicts = self.pending.take_conflicts();
        out.extend(
            conflicts
                .into_iter()
                .map(|clash| Output::Report(Event::Conflict(clash))),
        );
        self.waiting.applied.push((ticket, done));
    }

    fn take_in(
        &mut self,
        storage: &dyn Storage,
        delta: Delta,
        purpose: Purpose,
        now: Now,
        done: &mut Done,
    ) -> Result<(), StorageError> {
        let partition = Partition::of(&delta.key);
        self.observe(delta.newest());
        let holds = self.shipper.home().holds(partition);
        self.pass_on(&delta, holds, purpose, now, done);
        let is_addition = purpose == Purpose::Teach && About::of(&delta).is_addition();
        let mut named = delta.parts.iter().map(|part| match part {
            Part::Expiry(expiry) => expiry.stamp,
            Part::String(_) | Part::Set(_) | Part::Unknown(_) => Stamp::ZERO,
        });
        let named = is_addition.then(|| named.by_ref().max()).flatten();
        // What was passed on to this node is its own to keep, whatever it believes of the placement: nobody will send it again.
        if holds || purpose == Purpose::Join {
            if purpose == Purpose::Teach {
                // Of this region: whoever lost is taught, and writes again.
                done.taught
                    .extend(teach(storage, &mut self.pending, &delta, now.wall_ms)?);
            } else {
                self.pending.note_overwritten(storage, &delta, self.actor)?;
            }
            self.pending_writes.disturb(&delta.key);
            self.pending.join(storage, &delta)?;
            if is_addition {
                self.note_if_ended(storage, &delta.key, named.unwrap_or_default(), now)?;
            }
        }
        Ok(())
    }

    /// Notes a key to which another node has added and that has ended here nevertheless. Not where that node `named` this very end, in a
    /// stamp: it counts on that, and added before it.
    pub(super) fn note_if_ended(
        &mut self,
        storage: &dyn Storage,
        key: &Key,
        named: Stamp,
        now: Now,
    ) -> Result<(), StorageError> {
        let head = self.pending.head(storage, &Position::of(key), key)?;
        if head.is_expired(now.wall_ms) && head.expiry.stamp != named {
            let until = now.mono + self.config.timeout / 2;
            self.after_end.note(key, now.mono, until);
        }
        Ok(())
    }

    /// Keeps for others what is theirs too: before it is joined, since a damaged row here is no reason for them to miss it.
    fn pass_on(&mut self, delta: &Delta, holds: bool, purpose: Purpose, now: Now, done: &mut Done) {
        let partition = Partition::of(&delta.key);
        let is_passed_on = match purpose {
            Purpose::PassOn => {
                self.shipper.home().passes_on(partition) && !is_on(Mutant::PassedOnByNobody)
            }
            // This node stands in for a replica: the row is that one's hint, and counts because it is as durable as a copy.
            Purpose::Teach => !holds && !is_on(Mutant::StandInKeepsNothing),
            Purpose::Join => false,
        };
        if is_passed_on {
            let place = self.clock.tick(now.wall_ms);
            self.pending.relay(delta.clone(), place);
            done.place = Some(place);
        }
    }

    /// Another replica asks about a key. The answer waits for the batch: it may speak of what is not durable yet.
    pub(super) fn asked(
        &mut self,
        storage: &dyn Storage,
        session: SessionId,
        message: Message,
        now: Now,
        out: &mut Vec<Output>,
    ) {
        let (ask, answer) = match message {
            Message::Compare(question) => (question.ask, self.compare(storage, question)),
            Message::Repair { ask, delta } => (ask, self.mend(storage, ask, &delta, now)),
            _ => return,
        };
        let answer = answer.unwrap_or_else(|error| {
            out.push(Output::Report(Event::Damaged(error)));
            let why = Unanswered::Damaged;
            Message::Unanswered { ask, why }
        });
        self.waiting.answers.push((session, answer));
    }

    fn compare(
        &mut self,
        storage: &dyn Storage,
        question: Compare,
    ) -> Result<Message, StorageError> {
        let Compare {
            ask,
            key,
            digest,
            from,
        } = question;
        let is_equal = match digest {
            Some(digest) => compare::digest(storage, &mut self.pending, &key)? == digest,
            None => false,
        };
        let copy = if is_equal {
            None
        } else {
            let page_bytes = self.config.reads.page_bytes;
            let pending = &mut self.pending;
            Some(compare::copy(storage, pending, &key, from, page_bytes)?)
        };
        Ok(Message::Compared {
            ask,
            copy,
            shortage: self.shipper.shortage(&self.shipper.home().node),
        })
    }

    fn mend(
        &mut self,
        storage: &dyn Storage,
        ask: AskId,
        delta: &Delta,
        now: Now,
    ) -> Result<Message, StorageError> {
        let why = if self.read_only.is_some() {
            Unanswered::ReadOnly
        } else if self.is_ahead(delta.newest(), now) {
            Unanswered::ClockAhead
        } else {
            self.observe(delta.newest());
            self.pending_writes.disturb(&delta.key);
            self.pending.join(storage, delta)?;
            return Ok(Message::Repaired { ask });
        };
        Ok(Message::Unanswered { ask, why })
    }
}
