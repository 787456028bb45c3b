//! What other replicas say about their copies of a key, and how the copies are brought together: a page at a time.

use crdt::{Delta, Part, Stamp};

use super::Shard;
use crate::{
    core::{
        Event, Now, Output,
        compare::{self, TheirPage},
        message::{AskId, KeyCopy, Message, SessionId, Unanswered},
        mutant::{Mutant, is_on},
        progress::Walk,
        replica_requests::{Question, ReplicaRequest},
        reply::Refusal,
    },
    storage::{Storage, StorageError},
};

/// What came of a page.
enum Met {
    /// The copy is not taken: it is stamped too far ahead, or is none.
    Unfit,
    /// There is more to ask of the replica.
    GoesOn,
    /// It holds this answer.
    Holds(u32),
    /// What it knows stands over what this shard wrote and may write again.
    Overlays,
}

impl Shard {
    /// Another replica said how its copy of a key differs from the one here.
    pub(super) fn compared(
        &mut self,
        storage: &dyn Storage,
        session: SessionId,
        ask: AskId,
        copy: Option<KeyCopy>,
        now: Now,
        out: &mut Vec<Output>,
    ) {
        let Some(mut ask) = self.quorum_reads.answered(ask.number, session, now.mono) else {
            return;
        };
        match self.meet(storage, &ask, copy, now, out) {
            Ok(Met::Holds(version)) => {
                ask.version = version;
                self.agreed(storage, ask, now, out);
            }
            Ok(Met::GoesOn) => {}
            Ok(Met::Overlays) => {
                let covered = self.quorum_reads.fail(&ask.key);
                self.quorum_reads.hold(&ask.key, covered);
            }
            Ok(Met::Unfit) => {
                let lost = self.quorum_reads.give_up(&ask.key, &ask.node);
                self.go_on_without(storage, lost, now, out);
            }
            Err(error) => {
                out.push(Output::Report(Event::Damaged(error.clone())));
                let refusal = Refusal::Unavailable(error.to_string());
                let covered = self.quorum_reads.fail(&ask.key);
                self.refuse_all(&ask.key, covered, &refusal);
            }
        }
    }

    fn meet(
        &mut self,
        storage: &dyn Storage,
        ask: &ReplicaRequest,
        copy: Option<KeyCopy>,
        now: Now,
        out: &mut Vec<Output>,
    ) -> Result<Met, StorageError> {
        match (copy, ask.question.clone()) {
            (None, Question::Copy(_)) => {
                self.quorum_reads.heard(&ask.key, &ask.node);
                Ok(Met::Holds(ask.version))
            }
            (Some(copy), Question::Copy(walk)) => {
                self.meet_copy(storage, ask, walk, copy, now, out)
            }
            // It was not asked that.
            (_, Question::Repair { .. }) => Ok(Met::Unfit),
        }
    }

    /// What was sent to another replica is durable there.
    pub(super) fn mended(
        &mut self,
        storage: &dyn Storage,
        session: SessionId,
        ask: AskId,
        now: Now,
        out: &mut Vec<Output>,
    ) {
        let Some(ask) = self.quorum_reads.answered(ask.number, session, now.mono) else {
            return;
        };
        match ask.question.clone() {
            Question::Repair { walk, next } => match next {
                Some(from) => self.ask_on(&ask, Walk { from, ..walk }, now, out),
                None => self.agreed(storage, ask, now, out),
            },
            // It was not sent anything.
            Question::Copy(_) => {
                let lost = self.quorum_reads.give_up(&ask.key, &ask.node);
                self.go_on_without(storage, lost, now, out);
            }
        }
    }

    /// Another replica cannot answer, or cannot be asked: another one is, at once, or whoever waits is told.
    pub(super) fn unanswered(
        &mut self,
        storage: &dyn Storage,
        session: SessionId,
        ask: AskId,
        why: Unanswered,
        now: Now,
        out: &mut Vec<Output>,
    ) {
        let Some(ask) = self.quorum_reads.answered(ask.number, session, now.mono) else {
            return;
        };
        let lost = self.quorum_reads.give_up(&ask.key, &ask.node);
        let refusal = Refusal::Unavailable(format!(
            "{} could not say what it has of the key, and no other replica is left to be asked: {why}; nothing was written",
            ask.node
        ));
        self.quorum_reads.keep(ask);
        self.ask_instead(storage, lost.instead, now, out);
        for (key, covered) in lost.failed {
            self.refuse_all(&key, covered, &refusal);
        }
    }

    /// Joins what the copy here lacks, and sends what the other one does. Not where it is stamped too far ahead: such a stamp would
    /// win every race until the clocks catch up, from whichever door it came in. A copy that no sound replica would give is no answer.
    fn meet_copy(
        &mut self,
        storage: &dyn Storage,
        ask: &ReplicaRequest,
        walk: Walk,
        copy: KeyCopy,
        now: Now,
        out: &mut Vec<Output>,
    ) -> Result<Met, StorageError> {
        let key = &ask.key;
        let page_bytes = self.config.reads.page_bytes;
        let Some(theirs) = TheirPage::parse(key, walk.from, copy) else {
            return Ok(Met::Unfit);
        };
        let page = compare::compare(storage, &mut self.pending, key, &walk, theirs, page_bytes)?;
        if self.is_ahead(page.newest, now) {
            return Ok(Met::Unfit);
        }
        if !page.is_none() {
            self.quorum_reads.differs(key);
        }
        if let Some(delta) = compare::delta(key, page.mine) {
            self.observe(page.newest);
            if !is_on(Mutant::CopyNotJoined) {
                self.join_copy(storage, &delta, &page.theirs, now)?;
            }
        }
        // Also where the copy brought nothing: something may have come by its own stream since the question was asked.
        if self.is_overlaid(storage, key, now)? {
            return Ok(Met::Overlays);
        }
        let mut version = ask.version;
        if page.next.is_none() {
            version = self.heard_all(storage, ask, &walk, now, out)?;
        }
        let walk = Walk {
            seen: Some(page.seen),
            ..walk
        };
        let Some(delta) = compare::delta(key, page.theirs) else {
            return Ok(match page.next {
                None => Met::Holds(version),
                Some(from) => {
                    self.ask_on(ask, Walk { from, ..walk }, now, out);
                    Met::GoesOn
                }
            });
        };
        let next = page.next;
        let repair = ReplicaRequest {
            question: Question::Repair { walk, next },
            version,
            ..ask.clone()
        };
        let ask_id = self.question_id(repair, now);
        let message = Message::Repair { ask: ask_id, delta };
        // What it speaks of may be of the open batch.
        self.waiting.answers.push((ask.session, message));
        if is_on(Mutant::MendNotAwaited) && next.is_none() {
            return Ok(Met::Holds(version));
        }
        Ok(Met::GoesOn)
    }

    /// Joins what another replica's copy brings; `theirs` is what it lacks itself. If that is the end of the key, it has not heard of it, and what
    /// it added may have been added after that.
    fn join_copy(
        &mut self,
        storage: &dyn Storage,
        delta: &Delta,
        theirs: &[Part],
        now: Now,
    ) -> Result<(), StorageError> {
        let key = &delta.key;
        self.pending_writes.disturb(key);
        self.pending.join(storage, delta)?;
        self.find_again(storage, key, now);
        let mut theirs = theirs.iter();
        let is_unheard = theirs.any(|part| matches!(part, Part::Expiry(_)));
        match is_unheard && delta.parts.iter().any(adds) {
            true => self.note_if_ended(storage, key, Stamp::ZERO, now),
            false => Ok(()),
        }
    }

    /// A replica has given its last page. Where that was all it knows, reads are answered with no less from now on. Gives which answer it
    /// holds once it has what it lacks.
    fn heard_all(
        &mut self,
        storage: &dyn Storage,
        ask: &ReplicaRequest,
        walk: &Walk,
        now: Now,
        out: &mut Vec<Output>,
    ) -> Result<u32, StorageError> {
        let key = &ask.key;
        let version = self.quorum_reads.version(key);
        if walk.is_resumed {
            return Ok(version.wrapping_sub(1));
        }
        if !self.quorum_reads.is_news(key, &ask.node) {
            return Ok(version);
        }
        // Also where nothing was lacking: what it knows may have come here by another way since reads were answered.
        let digest = compare::digest(storage, &mut self.pending, key)?;
        let version = self.answer_reads(storage, key, digest, now, out);
        if walk.from == 0 || !self.quorum_reads.may_be_torn(key) {
            self.quorum_reads.heard(key, &ask.node);
        }
        // Rows of an earlier page may have changed here since that was sent: whether all of them are there is asked once more.
        Ok(if walk.from > 0 {
            version.wrapping_sub(1)
        } else {
            version
        })
    }

    /// Asks a replica for the next page. That the copies differ is known.
    fn ask_on(&mut self, ask: &ReplicaRequest, walk: Walk, now: Now, out: &mut Vec<Output>) {
        let whom = (ask.node.clone(), ask.session);
        self.ask(&ask.key, whom, (None, walk), now, out);
    }
}

/// Whether a part of a copy may have been added: what only states a value, or its absence, was not.
fn adds(part: &Part) -> bool {
    match part {
        Part::String(state) => !state.counts.is_empty(),
        Part::Set(_) => true,
        Part::Expiry(_) | Part::Unknown(_) => false,
    }
}
