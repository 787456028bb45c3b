//! Requests of clients, and the other replicas that are asked before they are carried out.

use bytes::Bytes;

use super::{
    Shard,
    foresight::{self, would_begin, would_refuse},
};
use crate::{
    core::{
        Event, Now, Output, RequestId,
        batch::PendingBatch,
        compare,
        fixed::{Answer, Views},
        message::{AskId, Compare, Message, SessionId},
        mutant::{Mutant, is_on},
        op::{Action, Key, Op, Read, Write},
        progress::Walk,
        quorum_read::{AskedAbout, Opened, Turned, Waiting, lost::Lost},
        replica_requests::{Question, ReplicaRequest},
        reply::Refusal,
        view::Uncommitted,
    },
    names::NodeName,
    placement::{Partition, Position},
    storage::Storage,
};

impl Shard {
    /// A client asks: at once where this replica is enough, else when enough others have said what they know.
    pub(super) fn request(
        &mut self,
        storage: &dyn Storage,
        id: RequestId,
        op: Op,
        now: Now,
        out: &mut Vec<Output>,
    ) {
        let deadline = now.mono + self.config.timeout;
        let waiting = Waiting { id, op, deadline };
        let may_overtake = is_on(Mutant::GateIgnored)
            && !(self.level_check(now).asks_others(waiting.op.level)
                && waiting.op.profile().asks_first);
        if !self.quorum_reads.is_empty()
            && self.quorum_reads.is_closed(&waiting.op.key)
            && !may_overtake
        {
            match self.is_crowded() {
                Some(refusal) => self.reply(id, refusal.into()),
                None => self.quorum_reads.queue(kept(waiting)),
            }
            return;
        }
        self.admit(storage, waiting, now, out);
    }

    fn admit(&mut self, storage: &dyn Storage, waiting: Waiting, now: Now, out: &mut Vec<Output>) {
        if !self.level_check(now).asks_others(waiting.op.level) {
            self.carry_out_in_order(storage, vec![waiting], now);
            return;
        }
        if let Some(refusal) = self.is_crowded() {
            return self.reply(waiting.id, refusal.into());
        }
        if self.is_to_be_asked(storage, &waiting.op, now) {
            self.question_in_order(storage, vec![kept(waiting)], now, out);
        } else {
            self.carry_out_in_order(storage, vec![waiting], now);
        }
    }

    /// Carries out what asks nobody first, once the key shows what this shard wrote, where that is answered with or decided by. Gives
    /// whether it was carried out.
    fn carry_out_in_order(
        &mut self,
        storage: &dyn Storage,
        waiting: Vec<Waiting>,
        now: Now,
    ) -> bool {
        let mut is_free = |waiting: &Waiting| {
            let key = &waiting.op.key;
            let is_unsure = waiting.op.profile().tells
                && (self.is_disturbed(key)
                    || self
                        .has_ended_over_addition(storage, key, now)
                        .unwrap_or(false)
                    || self.is_contested(storage, key, now)
                    || self.ends_unsure_value(storage, &waiting.op, now));
            !is_unsure
        };
        let free = match waiting.iter().all(&mut is_free) {
            true => Some(waiting),
            false => self.hold_if_overlaid(storage, waiting.into_iter().map(kept).collect(), now),
        };
        let is_carried_out = free.is_some();
        for waiting in free.into_iter().flatten() {
            self.carry_out(storage, waiting, now);
        }
        is_carried_out
    }

    /// Whether others are to be asked first: the request answers with what is there or decides by it, or what is here would have it end
    /// the key, be refused, or begin one. Others may know that it is not so any more: a value of another type is
    /// not to be hidden, and what was begun over one could not be taken back by a process that dies.
    fn is_to_be_asked(&mut self, storage: &dyn Storage, op: &Op, now: Now) -> bool {
        let Action::Write(write) = &op.action else {
            return true;
        };
        if op.profile().asks_first {
            let is_removal = matches!(write, Write::Remove { .. } | Write::Delete);
            return !(is_removal && is_on(Mutant::RemovedUnasked));
        }
        // What cannot be read is said when it is carried out.
        let head = self.pending.head(storage, &Position::of(&op.key), &op.key);
        head.is_ok_and(|head| {
            head.is_expired(now.wall_ms)
                || (would_refuse(head, write) && !is_on(Mutant::RefusedUnasked))
                || would_begin(head, write)
        })
    }

    /// Asks enough others about a key, once it shows what this shard wrote.
    pub(super) fn question_in_order(
        &mut self,
        storage: &dyn Storage,
        covered: Vec<Waiting>,
        now: Now,
        out: &mut Vec<Output>,
    ) {
        if let Some(covered) = self.hold_if_overlaid(storage, covered, now) {
            self.question(storage, covered, now, out);
        }
    }

    /// Asks enough others about a key; what waits for it is carried out when they have answered.
    pub(super) fn question(
        &mut self,
        storage: &dyn Storage,
        covered: Vec<Waiting>,
        now: Now,
        out: &mut Vec<Output>,
    ) {
        let Some(first) = covered.first() else { return };
        let (key, level) = (first.op.key.clone(), first.op.level);
        debug_assert!(
            covered
                .iter()
                .all(|waiting| waiting.op.key == key && waiting.op.level == level),
            "a question is about one key, at one level"
        );
        let asked = self.level_check(now).asked(level, Partition::of(&key));
        let asked = match asked {
            Ok(mut asked) if asked.needed > 0 => {
                self.quorum_reads.arrange(&mut asked.others, now.mono);
                asked
            }
            Ok(_) => {
                let opened = Opened {
                    covered,
                    ..Opened::default()
                };
                return self.open_gate(storage, &key, opened, now, out);
            }
            Err(refusal) => return self.refuse_all(&key, covered, &refusal),
        };
        if asked.others.len() < asked.needed {
            let refusal = Refusal::Busy(TOO_MANY_QUESTIONS.to_owned());
            return self.refuse_all(&key, covered, &refusal);
        }
        let digest = match compare::digest(storage, &mut self.pending, &key) {
            Ok(digest) => digest,
            Err(error) => {
                let refusal = Refusal::Unavailable(error.to_string());
                return self.refuse_all(&key, covered, &refusal);
            }
        };
        // One that is asked and this one are all but a minority that nobody else makes a majority with.
        let found = match asked.needed > 1 {
            true => foresight::found(storage, &mut self.pending, &first.op, now.wall_ms),
            false => Vec::new(),
        };
        let first = self
            .quorum_reads
            .close(key.clone(), covered, asked, digest, found, now.mono);
        self.answer_reads(storage, &key, digest, now, out);
        for whom in first {
            self.begin_asking(&key, whom, digest, now, out);
        }
    }

    /// Asks a replica whether its copy is equal, and if it is not for a page of it: the first, or the one behind what was compared before.
    fn begin_asking(
        &mut self,
        key: &Key,
        (node, session): (NodeName, SessionId),
        digest: u128,
        now: Now,
        out: &mut Vec<Output>,
    ) {
        let walk = self.quorum_reads.resume(key, &node, session);
        self.ask(key, (node, session), (Some(digest), walk), now, out);
    }

    pub(super) fn ask(
        &mut self,
        key: &Key,
        (node, session): (NodeName, SessionId),
        (digest, walk): (Option<u128>, Walk),
        now: Now,
        out: &mut Vec<Output>,
    ) {
        let from = walk.from;
        let ask = ReplicaRequest {
            key: key.clone(),
            node,
            session,
            question: Question::Copy(walk),
            version: self.quorum_reads.version(key),
        };
        let ask = self.question_id(ask, now);
        let message = Message::Compare(Compare {
            ask,
            key: key.clone(),
            digest,
            from,
        });
        out.push(Output::Send { session, message });
    }

    pub(super) fn question_id(&mut self, ask: ReplicaRequest, now: Now) -> AskId {
        AskId {
            shard: self.config.index,
            number: self.quorum_reads.ask(ask, now.mono),
        }
    }

    /// A replica holds an answer, or will be asked again about a newer one.
    pub(super) fn agreed(
        &mut self,
        storage: &dyn Storage,
        ask: ReplicaRequest,
        now: Now,
        out: &mut Vec<Output>,
    ) {
        if is_on(Mutant::ReadsUnanswered) {
            return;
        }
        match self.quorum_reads.agrees(&ask) {
            Turned::Waits => {}
            Turned::Again => {
                let instead = vec![(ask.key, ask.node, ask.session)];
                self.ask_instead(storage, instead, now, out);
            }
            Turned::Opens(opened) => self.open_gate(storage, &ask.key, opened, now, out),
        }
    }

    /// Reads that wait for a key are answered with what is here now, and with nothing that comes before enough others hold that: a
    /// later read, through another replica, might miss it. Gives the answer's number, also where the question has ended over it.
    pub(super) fn answer_reads(
        &mut self,
        storage: &dyn Storage,
        key: &Key,
        digest: u128,
        now: Now,
        out: &mut Vec<Output>,
    ) -> u32 {
        let covered = self.quorum_reads.covered(key);
        let Some(answers) = answers_now(storage, &self.pending, &mut self.views, key, covered, now)
        else {
            return self.quorum_reads.version(key);
        };
        let again = self.quorum_reads.answer(key, digest, answers);
        let version = self.quorum_reads.version(key);
        for node in again {
            let Some(session) = self.shipper.session_to(&node) else {
                let lost = self.quorum_reads.give_up(key, &node);
                self.go_on_without(storage, lost, now, out);
                continue;
            };
            self.ask_instead(storage, vec![(key.clone(), node, session)], now, out);
        }
        version
    }

    /// Answers the reads that waited for a key, or carries out the write, and goes on with what came after.
    fn open_gate(
        &mut self,
        storage: &dyn Storage,
        key: &Key,
        opened: Opened,
        now: Now,
        out: &mut Vec<Output>,
    ) {
        let Opened {
            covered,
            answers,
            is_repaired,
            asked_about,
        } = opened;
        if is_repaired {
            let requests = covered.len() as u64;
            out.push(Output::Report(Event::Repaired { requests }));
        }
        if answers.is_empty() {
            let Some(covered) = self.hold_if_overlaid(storage, covered, now) else {
                return;
            };
            if self.has_changed(storage, key, &covered, asked_about.as_ref(), now) {
                self.question(storage, covered, now, out);
                return self.quorum_reads.ask_once_more(key);
            }
            for waiting in covered {
                self.carry_out(storage, waiting, now);
            }
        } else {
            debug_assert_eq!(covered.len(), answers.len(), "each read has its answer");
            for (waiting, answer) in covered.into_iter().zip(answers) {
                match self.end_if_ended(storage, waiting.id, asked_about.as_ref(), now) {
                    Ok(false) => self.answer(waiting.id, answer),
                    Ok(true) => {}
                    Err(error) => out.push(Output::Report(Event::Damaged(error))),
                }
            }
        }
        self.freed.push(key.clone());
    }

    /// Whether a write would decide by something that came here since others were asked: they may not have it, and a later read that asks
    /// them would not see what this write saw. They are asked once more then, and are sent it. Likewise where the key has ended since: a
    /// `PERSIST` may have been acknowledged before that, and before the write ends the key they are asked whether it ends.
    ///
    /// A removal carries with it what it decides by, but for what it does not find any more: who removed that may have told nobody else. So it is
    /// asked for again for this alone, however often.
    fn has_changed(
        &mut self,
        storage: &dyn Storage,
        key: &Key,
        covered: &[Waiting],
        asked_about: Option<&AskedAbout>,
        now: Now,
    ) -> bool {
        let Some(about) = asked_about else {
            return false;
        };
        let since = now.mono.saturating_sub(about.at).as_millis() as u64;
        let asked_ms = now.wall_ms.saturating_sub(since);
        // What cannot be read is said when it is carried out.
        let head = self.pending.head(storage, &Position::of(key), key);
        let has_ended =
            head.is_ok_and(|head| head.is_expired(now.wall_ms) && !head.is_expired(asked_ms));
        if has_ended {
            return true;
        }
        let mut covered = covered.iter().map(|waiting| &waiting.op);
        covered.any(
            |op| match foresight::is_removal(storage, &mut self.pending, op, now.wall_ms) {
                true => {
                    let now = foresight::found(storage, &mut self.pending, op, now.wall_ms);
                    let mut found = about.found.iter().zip(now);
                    found.any(|(before, now)| *before && !now)
                }
                false => {
                    (op.profile().asks_first || is_addition(op))
                        && !about.is_last
                        && compare::digest(storage, &mut self.pending, key)
                            .is_ok_and(|digest| digest != about.digest)
                }
            },
        )
    }

    /// A copy was joined: what a removal that waits for it would find now is asked about with the rest. What comes by rows need not be: who
    /// answers later is sent what is known of it here, and what others acknowledged before is in their answers.
    pub(super) fn find_again(&mut self, storage: &dyn Storage, key: &Key, now: Now) {
        let Some(op) = self.quorum_reads.seeker(key) else {
            return;
        };
        let found = foresight::found(storage, &mut self.pending, op, now.wall_ms);
        self.quorum_reads.finds(key, &found);
    }

    /// Goes on with what waited for the questions that have ended. Not where each of them ends: what is refused at once frees what waits behind
    /// it, which is refused at once, and thousands of them would be calls within calls.
    pub(super) fn go_on_with_freed(
        &mut self,
        storage: &dyn Storage,
        now: Now,
        out: &mut Vec<Output>,
    ) {
        while let Some(key) = self.freed.pop() {
            self.go_on(storage, &key, now, out);
        }
    }

    fn go_on(&mut self, storage: &dyn Storage, key: &Key, now: Now, out: &mut Vec<Output>) {
        // What is held back goes on where this shard's own writes are sure, and not behind a question that was asked meanwhile.
        if self.quorum_reads.is_held(key) {
            return;
        }
        loop {
            let next = self.quorum_reads.next(key);
            let Some(first) = next.first() else { return };
            self.quorum_reads.begin_anew(key);
            let op = first.op.clone();
            let asks = self.level_check(now).asks_others(op.level)
                && self.is_to_be_asked(storage, &op, now);
            if asks {
                return self.question_in_order(storage, next, now, out);
            }
            if !self.carry_out_in_order(storage, next, now) {
                return;
            }
        }
    }

    /// Asks others in the place of those that do not answer.
    pub(super) fn ask_instead(
        &mut self,
        storage: &dyn Storage,
        instead: Vec<(Key, NodeName, SessionId)>,
        now: Now,
        out: &mut Vec<Output>,
    ) {
        for (key, node, session) in instead {
            match compare::digest(storage, &mut self.pending, &key) {
                Ok(digest) => {
                    if self.quorum_reads.is_news(&key, &node)
                        && self.quorum_reads.digest(&key) != digest
                    {
                        if self.is_overlaid(storage, &key, now).unwrap_or(false) {
                            let covered = self.quorum_reads.fail(&key);
                            self.quorum_reads.hold(&key, covered);
                            continue;
                        }
                        // What it says is held against what is here now, so reads are to be answered with no less.
                        self.answer_reads(storage, &key, digest, now, out);
                    }
                    self.begin_asking(&key, (node, session), digest, now, out);
                }
                Err(error) => out.push(Output::Report(Event::Damaged(error))),
            }
        }
    }

    /// Whoever was asked on a session will not answer. Where nobody is left of those that could be asked then, it is asked anew: one that
    /// had too many questions at that time may have fewer now, or has come back.
    pub(super) fn go_on_without_session(
        &mut self,
        storage: &dyn Storage,
        session: SessionId,
        now: Now,
        out: &mut Vec<Output>,
    ) {
        let lost = self.quorum_reads.lose(session);
        self.ask_instead(storage, lost.instead, now, out);
        for (_, covered) in lost.failed {
            self.question(storage, covered, now, out);
        }
    }

    /// Some that were asked will not answer.
    pub(super) fn go_on_without(
        &mut self,
        storage: &dyn Storage,
        lost: Lost,
        now: Now,
        out: &mut Vec<Output>,
    ) {
        self.ask_instead(storage, lost.instead, now, out);
        for (key, covered) in lost.failed {
            self.fail_question(&key, covered, now);
        }
    }

    /// Nobody is left who could answer for a key.
    fn fail_question(&mut self, key: &Key, covered: Vec<Waiting>, now: Now) {
        let Some(first) = covered.first() else { return };
        let level_check = self.level_check(now);
        let refusal = level_check.unreachable(first.op.level, Partition::of(key), None);
        self.refuse_all(key, covered, &refusal);
    }

    pub(super) fn refuse_all(&mut self, key: &Key, covered: Vec<Waiting>, refusal: &Refusal) {
        for waiting in covered {
            self.reply(waiting.id, refusal.clone().into());
        }
        self.freed.push(key.clone());
    }
}

/// Says what the end is of what it adds to.
fn is_addition(op: &Op) -> bool {
    matches!(
        op.action,
        Action::Write(Write::Add { .. } | Write::IncrBy { .. })
    )
}

/// What requests on a key are answered with as it is now; `None` where they do not all read.
fn answers_now(
    storage: &dyn Storage,
    pending: &PendingBatch,
    views: &mut Views,
    key: &Key,
    covered: &[Waiting],
    now: Now,
) -> Option<Vec<Answer>> {
    let reads = covered.iter().map(|waiting| as_read(&waiting.op));
    let reads: Vec<&Read> = reads.collect::<Option<_>>()?;
    let view = Uncommitted { storage, pending };
    Some(views.answers(&view, key, reads.into_iter(), now.wall_ms))
}

fn as_read(op: &Op) -> Option<&Read> {
    match &op.action {
        Action::Read(read) => Some(read),
        Action::Write(_) => None,
    }
}

/// A request that is kept for a while: its key may be a slice of a connection's read buffer, which must not live as long.
fn kept(mut waiting: Waiting) -> Waiting {
    waiting.op.key = Bytes::copy_from_slice(&waiting.op.key);
    waiting
}

const TOO_MANY_QUESTIONS: &str =
    "other replicas of the key have too many questions of this node to answer";
