//! Writes that wait for other replicas, and the streams that say how far those are.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use crdt::{ActorId, Hlc};

use super::{
    Shard,
    overtaken::{Overtaken, Standing},
    report,
};
use crate::{
    core::{
        Now, Output, RequestId,
        budget::Budget,
        coordinate::{Effect, Target},
        fixed::Answer,
        level_check::LevelCheck,
        message::{Ack, NackReason, SessionId, Teaching},
        mutant::{Mutant, is_on},
        pending_writes::{PendingWrite, Turn},
        reply::{Refusal, Reply},
        ship::{Awaited, Met},
    },
    names::NodeName,
    placement::{Placement, Position},
    storage::{Storage, StorageError},
};

impl Shard {
    pub(super) fn level_check(&self, now: Now) -> LevelCheck<'_> {
        LevelCheck {
            shipper: &self.shipper,
            actor: self.actor,
            now: now.mono,
        }
    }

    /// An answer that may be given when the batch is durable.
    pub(super) fn reply(&mut self, id: RequestId, reply: Reply) {
        self.answer(id, reply.into());
    }

    /// The same, of a read that may still be to be carried out.
    pub(super) fn answer(&mut self, id: RequestId, answer: Answer) {
        if self.ask_again_whether_it_ends(id) {
            return;
        }
        self.waiting.replies.push((id, answer));
    }

    /// Whether a stamp is further ahead of this node's clock than two clocks may differ.
    pub(super) fn is_ahead(&self, stamp: Hlc, now: Now) -> bool {
        if is_on(Mutant::SkewAcceptedFromReplicas) {
            return false;
        }
        stamp.millis() > now.wall_ms.saturating_add(self.config.max_skew_ms)
    }

    /// A stamp of another node is taken in.
    pub(super) fn observe(&mut self, stamp: Hlc) {
        if !is_on(Mutant::ClockNotRaised) {
            self.clock.observe(stamp);
        }
        self.replay.observe(stamp);
    }

    /// Why no more requests may wait for other replicas, if so.
    pub(super) fn is_crowded(&self) -> Option<Refusal> {
        let budget =
            self.pending_writes.budget() + self.quorum_reads.budget() + self.waiting.budget;
        budget.is_full().then(|| {
            Refusal::Busy(format!(
                "{} requests of {} bytes wait for other replicas in shard {} of this node",
                budget.requests, budget.bytes, self.config.index
            ))
        })
    }

    /// The log in which clients wait for others, and the place before the first such row.
    pub(super) fn awaited(&self) -> Awaited {
        let after = self.pending_writes.awaited_after()?;
        Some((self.actor, after))
    }

    pub(super) fn session_up(
        &mut self,
        storage: &dyn Storage,
        met: Met,
        now: Now,
        out: &mut Vec<Output>,
    ) {
        let mut events = Vec::new();
        let awaited = self.awaited();
        let met = self.shipper.session_up(storage, met, awaited, &mut events);
        report(events, met, out);
        self.pump(storage, now, out);
    }

    pub(super) fn session_down(
        &mut self,
        storage: &dyn Storage,
        session: SessionId,
        now: Now,
        out: &mut Vec<Output>,
    ) {
        let mut events = Vec::new();
        let awaited = self.awaited();
        let met = self
            .shipper
            .session_down(storage, session, awaited, &mut events);
        report(events, met, out);
        self.go_on_without_session(storage, session, now, out);
        self.doubt_at.get_or_insert(now.mono + DOUBT);
        self.pump(storage, now, out);
    }

    pub(super) fn trust(
        &mut self,
        storage: &dyn Storage,
        trusted: Arc<BTreeSet<NodeName>>,
        now: Now,
        out: &mut Vec<Output>,
    ) {
        let mut events = Vec::new();
        let awaited = self.awaited();
        let met = self.shipper.trust(storage, trusted, awaited, &mut events);
        report(events, met, out);
        let unsure: Vec<SessionId> = self
            .quorum_reads
            .sessions()
            .into_iter()
            .filter(|(node, _)| !self.shipper.trusts(node))
            .map(|(_, session)| session)
            .collect();
        for session in unsure {
            self.go_on_without_session(storage, session, now, out);
        }
        self.doubt_at.get_or_insert(now.mono + DOUBT);
        self.pump(storage, now, out);
    }

    pub(super) fn place(
        &mut self,
        storage: &dyn Storage,
        placement: Arc<Placement>,
        now: Now,
        out: &mut Vec<Output>,
    ) {
        self.config.home.placement = Arc::clone(&placement);
        let mut events = Vec::new();
        let awaited = self.awaited();
        let placed = self.shipper.place(storage, placement, awaited, &mut events);
        report(events, placed, out);
        self.pump(storage, now, out);
    }

    /// A destination says how far it is, and what it knew.
    pub(super) fn taken(
        &mut self,
        storage: &dyn Storage,
        session: SessionId,
        said: Ack,
        now: Now,
        out: &mut Vec<Output>,
    ) {
        let heard = self.shipper.taken(storage, session, &said);
        report(Vec::new(), heard, out);
        if said.actor == self.actor {
            self.learn(storage, session, said, now, out);
        }
        self.settle(storage, now, out);
        self.tell_relayed(out);
    }

    /// A replica says what it knew and shipped rows did not. Where a clock far ahead stamped that, nothing can be stamped above it; and what
    /// it could not join it does not have. The writes that this is about do not count that replica, and nothing else waits for it.
    fn learn(
        &mut self,
        storage: &dyn Storage,
        session: SessionId,
        said: Ack,
        now: Now,
        out: &mut Vec<Output>,
    ) {
        let Some((after, last)) = said.answers else {
            return;
        };
        let does_not_count =
            |teaching: &Teaching| teaching.is_lost || self.is_ahead(teaching.newest_of_all(), now);
        let (unfit, taught): (Vec<_>, Vec<_>) = said.taught.into_iter().partition(does_not_count);
        if let Some(node) = self.shipper.node_of(session) {
            self.pending_writes.discount(node, after, last, &unfit);
        }
        self.pending_writes.learn(self.actor, after, last, &taught);
        for teaching in &taught {
            self.observe(teaching.newest_of_all());
            self.pending_writes.disturb(&teaching.delta.key);
            let joined = self.pending.join(storage, &teaching.delta);
            report(Vec::new(), joined, out);
        }
    }

    /// Rows that clients wait for were dropped before enough replicas took them: nobody will send them any more.
    pub(super) fn fail_dropped(&mut self, now: Now, out: &mut Vec<Output>) {
        let level_check = self.level_check(now);
        let dropped = self.pending_writes.upto(self.shipper.trimmed(self.actor));
        let unmet = dropped.filter_map(|(turn, awaiting)| {
            let count = level_check.count(awaiting, turn.place);
            (!count.is_met).then_some((turn, count.have))
        });
        for (turn, have) in unmet.collect::<Vec<_>>() {
            let Some(awaiting) = self.pending_writes.fail(turn) else {
                continue;
            };
            let reply = Refusal::Timeout(format!(
                "level {} was not met before the outbox of this node was full (hints.max_bytes, hints.window) and the write was \
                 dropped from it: {have} of its replicas have it, and it may take effect",
                awaiting.level
            ));
            out.push(Output::Reply {
                id: awaiting.id,
                reply: reply.into(),
            });
        }
    }

    pub(super) fn declined(
        &mut self,
        storage: &dyn Storage,
        session: SessionId,
        (actor, taken, reason): (ActorId, Hlc, NackReason),
        now: Now,
        out: &mut Vec<Output>,
    ) {
        let mut events = Vec::new();
        let met = self.shipper.declined(
            storage,
            session,
            actor,
            taken,
            reason,
            now.mono,
            &mut events,
        );
        report(events, met, out);
    }

    /// A write waits for others once the batch is durable: for the first time, or again with its correction.
    pub(super) fn await_others(&mut self, awaiting: PendingWrite) {
        let place = self.clock.last();
        self.waiting.budget += awaiting.budget;
        self.waiting.awaiting.push((place, awaiting));
    }

    /// The batch is durable: its writes wait for the others from now on.
    pub(super) fn begin_waiting(&mut self) {
        self.waiting.budget = Budget::default();
        for (place, awaiting) in std::mem::take(&mut self.waiting.awaiting) {
            self.pending_writes.wait(place, awaiting);
        }
    }

    /// Answers the writes whose level is met, or corrects them first.
    pub(super) fn settle(&mut self, storage: &dyn Storage, now: Now, out: &mut Vec<Output>) {
        if self.pending_writes.is_empty() || is_on(Mutant::WritesUnanswered) {
            return;
        }
        let level_check = self.level_check(now);
        let furthest = self.shipper.furthest(self.actor);
        let is_met =
            |turn: &Turn, awaiting: &PendingWrite| level_check.count(awaiting, turn.place).is_met;
        let met: Vec<Turn> = self
            .pending_writes
            .upto(furthest)
            .filter(|(turn, awaiting)| is_met(turn, awaiting))
            .map(|(turn, _)| turn)
            .collect();
        for turn in met {
            self.conclude(storage, turn, now, out);
        }
    }

    fn conclude(&mut self, storage: &dyn Storage, turn: Turn, now: Now, out: &mut Vec<Output>) {
        let standing = self.standing(storage, turn);
        let waits = |standing: &Standing| standing.overtaken() == Overtaken::Waits;
        if standing.as_ref().is_ok_and(waits) {
            return; // it is looked at again with every word of a replica
        }
        let Some((mut awaiting, current)) = self.pending_writes.take(turn) else {
            return;
        };
        let (id, reply) = (awaiting.id, awaiting.reply.clone());
        let Some(lesson) = awaiting.lesson.take().filter(|lesson| !lesson.is_empty()) else {
            out.push(Output::Reply { id, reply });
            return;
        };
        let target = Target {
            key: &awaiting.key,
            position: Position::of(&awaiting.key),
        };
        let mut coordinator = self.coordinator(storage, now, true);
        let corrected = standing.and_then(|standing| {
            let effects = &awaiting.effects;
            let mut corrected = coordinator.correct(&target, effects, current, &lesson, reply)?;
            if let Some(value) = standing.register_again() {
                coordinator.stand_again(&target, value, &lesson)?;
                corrected.0 = true;
            }
            if let Some(at_ms) = standing.expiry_again() {
                coordinator.end_again(&target, at_ms)?;
                corrected.0 = true;
            }
            Ok((standing.overtaken(), corrected))
        });
        self.finish(awaiting, corrected, now, out);
    }

    /// Answers a write that was looked at with all that it was taught, or waits for what that had to be written again.
    fn finish(
        &mut self,
        mut awaiting: PendingWrite,
        corrected: Result<(Overtaken, (bool, Reply)), StorageError>,
        now: Now,
        out: &mut Vec<Output>,
    ) {
        let id = awaiting.id;
        if let Ok((_, (_, Reply::Error(_)))) = &corrected {
            self.note_refused(&awaiting);
        }
        match corrected {
            Ok((Overtaken::Failed, _)) => {
                let reply = Refusal::Timeout(OVERTAKEN.to_owned()).into();
                out.push(Output::Reply { id, reply });
            }
            Ok((Overtaken::Above(place), (false, reply))) => {
                awaiting.reply = reply;
                self.await_place(place, awaiting, now, out);
            }
            Ok((_, (false, reply))) => out.push(Output::Reply { id, reply }),
            Ok((_, (true, reply))) if is_on(Mutant::CorrectionNotAwaited) => {
                out.push(Output::Reply { id, reply });
            }
            Ok((_, (true, reply))) => {
                awaiting.reply = reply;
                self.await_others(awaiting);
            }
            Err(error) => {
                let reply = Refusal::Timeout(format!(
                    "what other replicas knew could not be taken into account, and the write may take effect: {error}"
                ));
                let reply = reply.into();
                out.push(Output::Reply { id, reply });
            }
        }
    }

    /// What refused increments added goes with what was added before them.
    fn note_refused(&mut self, awaiting: &PendingWrite) {
        for effect in &awaiting.effects {
            if let Effect::Increment(increment) = effect {
                self.pending_writes
                    .refuse_upto(&awaiting.key, increment.total);
            }
        }
    }

    /// A write is answered when what this shard wrote at a place is where it is to be.
    fn await_place(&mut self, place: Hlc, awaiting: PendingWrite, now: Now, out: &mut Vec<Output>) {
        if place > self.shipper.newest(self.actor) {
            self.waiting.budget += awaiting.budget;
            self.waiting.awaiting.push((place, awaiting));
        } else if self.level_check(now).count(&awaiting, place).is_met {
            let (id, reply) = (awaiting.id, awaiting.reply);
            out.push(Output::Reply { id, reply });
        } else {
            self.pending_writes.wait(place, awaiting);
        }
    }

    /// Time passed: those whose time is up are told so, and others are asked in the place of those that are silent.
    pub(super) fn wait_on(&mut self, storage: &dyn Storage, now: Now, out: &mut Vec<Output>) {
        self.tell_relayed(out);
        if self.doubt_at.is_some_and(|at| at <= now.mono) {
            self.doubt_at = None;
            self.fail_out_of_reach(now, out);
        }
        let overdue: Vec<Turn> = self
            .pending_writes
            .iter()
            .filter(|(_, awaiting)| awaiting.deadline <= now.mono)
            .map(|(turn, _)| turn)
            .collect();
        for turn in overdue {
            let Some(awaiting) = self.pending_writes.fail(turn) else {
                continue;
            };
            let count = self.level_check(now).count(&awaiting, turn.place);
            let reply = Refusal::Timeout(format!(
                "level {} was not met within {:?}: {} the write, and it may take effect",
                awaiting.level,
                self.config.timeout,
                crate::wording::having(count.have, "replica")
            ));
            out.push(Output::Reply {
                id: awaiting.id,
                reply: reply.into(),
            });
        }
        let overdue = self.quorum_reads.overdue(now.mono);
        let refusal = Refusal::Timeout(format!(
            "other replicas of the key did not answer within {:?}; nothing was written",
            self.config.timeout
        ));
        for waiting in overdue.queued {
            self.reply(waiting.id, refusal.clone().into());
        }
        for (key, covered) in overdue.covered {
            self.refuse_all(&key, covered, &refusal);
        }
        self.hedge(storage, now, out);
    }

    /// Asks others in the place of those that are silent for longer than they usually are.
    pub(super) fn hedge(&mut self, storage: &dyn Storage, now: Now, out: &mut Vec<Output>) {
        let more = self.quorum_reads.hedge(now.mono);
        self.ask_instead(storage, more, now, out);
    }

    /// Tells those whose level can no longer be met. Not at once when a session ends: many come back within a moment, and what waited
    /// is shipped again and answered then.
    fn fail_out_of_reach(&mut self, now: Now, out: &mut Vec<Output>) {
        let level_check = self.level_check(now);
        let failed: Vec<(Turn, Refusal)> = self
            .pending_writes
            .iter()
            .filter_map(|(turn, awaiting)| {
                let (level, partition) = (awaiting.level, awaiting.partition);
                level_check.admits_write(level, partition).err()?;
                let applied = level_check.count(awaiting, turn.place).have;
                Some((
                    turn,
                    level_check.unreachable(level, partition, Some(applied)),
                ))
            })
            .collect();
        for (turn, refusal) in failed {
            if let Some(awaiting) = self.pending_writes.fail(turn) {
                out.push(Output::Reply {
                    id: awaiting.id,
                    reply: refusal.into(),
                });
            }
        }
    }

    /// Tells everybody who waits that nobody knows what comes of it.
    pub(super) fn give_up_waiting(&mut self, why: &str, out: &mut Vec<Output>) {
        let reply =
            || -> Reply { Refusal::Timeout(format!("{why}; the write may take effect")).into() };
        let ids = self.pending_writes.drain().map(|awaiting| awaiting.id);
        let ids: Vec<RequestId> = ids
            .chain(
                self.quorum_reads
                    .drain()
                    .into_iter()
                    .map(|waiting| waiting.id),
            )
            .collect();
        for id in ids {
            if self.ask_again_whether_it_ends(id) {
                continue;
            }
            let reply = reply();
            out.push(Output::Reply { id, reply });
        }
    }

    /// Tells the inbox how far what it took for the region is passed on, when that has moved.
    pub(super) fn tell_relayed(&mut self, out: &mut Vec<Output>) {
        let mark = self.shipper.relay_mark();
        if mark != self.relay_mark {
            self.relay_mark = mark;
            out.push(Output::Relayed(mark));
        }
    }
}

/// How long after the end of a session those who wait for its other end are told that it is gone.
const DOUBT: Duration = Duration::from_millis(500);
const OVERTAKEN: &str = "another replica has a newer value, and nobody knows what comes of the later write that replaced this one: it may take effect";
