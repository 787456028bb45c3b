//! Requests of clients, and the other replicas that are asked before they are carried out.

use bytes::Bytes;

use super::Shard;
use crate::{
    core::{
        Event, Now, Output, RequestId,
        asks::Ask,
        compare::{self, Difference},
        coordinate::{Effect, Overwrites, Stop},
        correct::Lesson,
        gate::{Lost, Turned, Waiting},
        message::{AskId, Compare, KeyCopy, Message, SessionId},
        mutant::{Mutant, is_on},
        op::{Action, Condition, Key, Op, SetExpiry, Write},
        quorum::Awaiting,
        reach::Asked,
        read::read,
        reply::{Refusal, Reply},
        room::Room,
        view::Uncommitted,
    },
    names::NodeName,
    placement::Partition,
    storage::{Storage, StorageError},
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
            && !(self.reach(now).asks_others(waiting.op.level)
                && depends_on_what_is_there(&waiting.op.action));
        if !self.gates.is_empty() && self.gates.is_closed(&waiting.op.key) && !may_overtake {
            match self.is_crowded() {
                Some(refusal) => self.reply(id, refusal.into()),
                None => self.gates.queue(kept(waiting)),
            }
            return;
        }
        self.admit(storage, waiting, now, out);
    }

    fn admit(&mut self, storage: &dyn Storage, waiting: Waiting, now: Now, out: &mut Vec<Output>) {
        if !self.reach(now).asks_others(waiting.op.level) {
            return self.carry_out(storage, waiting, now);
        }
        if let Some(refusal) = self.is_crowded() {
            return self.reply(waiting.id, refusal.into());
        }
        if depends_on_what_is_there(&waiting.op.action) {
            self.question(storage, vec![kept(waiting)], now, out);
        } else {
            self.carry_out(storage, waiting, now);
        }
    }

    /// Asks enough others about a key; what waits for it is carried out when they have answered.
    fn question(
        &mut self,
        storage: &dyn Storage,
        covered: Vec<Waiting>,
        now: Now,
        out: &mut Vec<Output>,
    ) {
        let Some(first) = covered.first() else { return };
        let (key, level) = (first.op.key.clone(), first.op.level);
        let asked = self.reach(now).asked(level, Partition::of(&key));
        let asked = match asked {
            Ok(mut asked) if asked.needed > 0 => {
                self.gates.arrange(&mut asked.others, now.mono);
                asked
            }
            Ok(_) => return self.open_gate(storage, &key, covered, Vec::new(), now, out),
            Err(refusal) => return self.refuse_all(storage, &key, covered, &refusal, now, out),
        };
        if asked.others.len() < asked.needed {
            let refusal = Refusal::Busy(
                "other replicas of the key have too many questions of this node to answer"
                    .to_owned(),
            );
            return self.refuse_all(storage, &key, covered, &refusal, now, out);
        }
        let digest = match compare::digest(storage, &mut self.working, &key) {
            Ok(digest) => digest,
            Err(error) => {
                let refusal = Refusal::Unavailable(error.to_string());
                return self.refuse_all(storage, &key, covered, &refusal, now, out);
            }
        };
        let Asked { needed, others } = asked;
        let first = self
            .gates
            .close(key.clone(), covered, needed, others, now.mono);
        self.answer_reads(storage, &key, digest, now, out);
        for (node, session) in first {
            self.ask(&key, (node, session), (digest, 0), now, out);
        }
    }

    fn ask(
        &mut self,
        key: &Key,
        (node, session): (NodeName, SessionId),
        (digest, from): (u128, u64),
        now: Now,
        out: &mut Vec<Output>,
    ) {
        let ask = Ask {
            key: key.clone(),
            node,
            session,
            from: Some(from),
            version: self.gates.version(key),
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

    fn question_id(&mut self, ask: Ask, now: Now) -> AskId {
        AskId {
            shard: self.config.index,
            number: self.gates.ask(ask, now.mono),
        }
    }

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
        let Some(ask) = self.gates.answered(ask.number, session, now.mono) else {
            return;
        };
        let met = match copy {
            None => {
                self.gates.heard(&ask.key, &ask.node);
                Ok(Some(ask.version))
            }
            Some(copy) => self.meet_copy(storage, &ask, &copy, now, out),
        };
        match met {
            Ok(Some(version)) => self.agreed(storage, Ask { version, ..ask }, now, out),
            Ok(None) => {
                let lost = self.gates.give_up(&ask.key, &ask.node);
                self.go_on_without(storage, lost, now, out);
            }
            Err(error) => {
                out.push(Output::Report(Event::Damaged(error.clone())));
                let refusal = Refusal::Unavailable(error.to_string());
                let covered = self.gates.fail(&ask.key);
                self.refuse_all(storage, &ask.key, covered, &refusal, now, out);
            }
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
        if let Some(ask) = self.gates.answered(ask.number, session, now.mono) {
            self.agreed(storage, ask, now, out);
        }
    }

    /// Joins what the copy here lacks, and sends what the other one does. Not where it is stamped too far ahead: such a stamp would
    /// win every race until the clocks catch up, from whichever door it came in. Gives which answer the other one holds once it has
    /// what was sent; `None` where its copy is not taken.
    fn meet_copy(
        &mut self,
        storage: &dyn Storage,
        ask: &Ask,
        copy: &KeyCopy,
        now: Now,
        out: &mut Vec<Output>,
    ) -> Result<Option<u32>, StorageError> {
        let from = ask.from.unwrap_or_default();
        let key = &ask.key;
        let Difference {
            newest,
            mine,
            theirs,
        } = compare::compare(storage, &mut self.working, key, from, copy)?;
        if self.is_ahead(newest, now) {
            return Ok(None);
        }
        if let Some(delta) = compare::delta(key, mine) {
            self.observe(newest);
            if !is_on(Mutant::CopyNotJoined) {
                self.working.join(storage, &delta)?;
            }
        }
        let mut version = self.gates.version(key);
        if copy.next.is_none() && self.gates.is_news(key, &ask.node) {
            // Also where nothing was lacking: what it knows may have come here by another way since reads were answered.
            let digest = compare::digest(storage, &mut self.working, key)?;
            version = self.answer_reads(storage, key, digest, now, out);
            if from > 0 {
                // Rows of an earlier page may have changed here since that was sent: whether all of them are there is asked once more.
                version = version.wrapping_sub(1);
            }
            self.gates.heard(key, &ask.node);
        }
        if let Some(delta) = compare::delta(key, theirs) {
            let mend = Ask {
                from: None,
                version,
                ..ask.clone()
            };
            let ask_id = self.question_id(mend, now);
            let message = Message::Mend { ask: ask_id, delta };
            self.waiting.answers.push((ask.session, message));
        }
        if let Some(next) = copy.next {
            let whom = (ask.node.clone(), ask.session);
            self.ask(key, whom, (0, next), now, out);
        }
        Ok(Some(version))
    }

    fn agreed(&mut self, storage: &dyn Storage, ask: Ask, now: Now, out: &mut Vec<Output>) {
        if is_on(Mutant::ReadsUnanswered) {
            return;
        }
        match self.gates.agrees(&ask) {
            Turned::Waits => {}
            Turned::Again => {
                let instead = vec![(ask.key, ask.node, ask.session)];
                self.ask_instead(storage, instead, now, out);
            }
            Turned::Opens(covered, replies) => {
                self.open_gate(storage, &ask.key, covered, replies, now, out);
            }
        }
    }

    /// Reads that wait for a key are answered with what is here now, and with nothing that comes before enough others hold that: a
    /// later read, through another replica, might miss it. Gives the answer's number, also where the question has ended over it.
    fn answer_reads(
        &mut self,
        storage: &dyn Storage,
        key: &Key,
        digest: u128,
        now: Now,
        out: &mut Vec<Output>,
    ) -> u32 {
        let view = Uncommitted {
            storage,
            working: &self.working,
        };
        let reads = self.gates.covered(key).iter().map(|waiting| &waiting.op);
        let replies: Option<Vec<Reply>> = reads
            .map(|op| match &op.action {
                Action::Read(action) => {
                    let reply = read(&view, &op.key, action, now.wall_ms);
                    Some(reply.unwrap_or_else(|e| Refusal::Unavailable(e.to_string()).into()))
                }
                Action::Write(_) => None,
            })
            .collect();
        let Some(replies) = replies else {
            return self.gates.version(key);
        };
        let again = self.gates.answer(key, digest, replies);
        let version = self.gates.version(key);
        for node in again {
            let Some(session) = self.shipper.session_to(&node) else {
                let lost = self.gates.give_up(key, &node);
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
        covered: Vec<Waiting>,
        replies: Vec<Reply>,
        now: Now,
        out: &mut Vec<Output>,
    ) {
        if replies.is_empty() {
            for waiting in covered {
                self.carry_out(storage, waiting, now);
            }
        } else {
            for (waiting, reply) in covered.into_iter().zip(replies) {
                self.reply(waiting.id, reply);
            }
        }
        self.go_on(storage, key, now, out);
    }

    fn go_on(&mut self, storage: &dyn Storage, key: &Key, now: Now, out: &mut Vec<Output>) {
        loop {
            let next = self.gates.next(key);
            let Some(first) = next.first() else { return };
            let asks = self.reach(now).asks_others(first.op.level)
                && depends_on_what_is_there(&first.op.action);
            if asks {
                return self.question(storage, next, now, out);
            }
            for waiting in next {
                self.carry_out(storage, waiting, now);
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
            match compare::digest(storage, &mut self.working, &key) {
                Ok(digest) => {
                    if self.gates.is_news(&key, &node) && self.gates.digest(&key) != digest {
                        // What it says is held against what is here now, so reads are to be answered with no less.
                        self.answer_reads(storage, &key, digest, now, out);
                    }
                    self.ask(&key, (node, session), (digest, 0), now, out);
                }
                Err(error) => out.push(Output::Report(Event::Damaged(error))),
            }
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
            self.fail_question(storage, &key, covered, now, out);
        }
    }

    /// Nobody is left who could answer for a key.
    fn fail_question(
        &mut self,
        storage: &dyn Storage,
        key: &Key,
        covered: Vec<Waiting>,
        now: Now,
        out: &mut Vec<Output>,
    ) {
        let Some(first) = covered.first() else { return };
        let reach = self.reach(now);
        let refusal = reach.unreachable(first.op.level, Partition::of(key), None);
        self.refuse_all(storage, key, covered, &refusal, now, out);
    }

    pub(super) fn refuse_all(
        &mut self,
        storage: &dyn Storage,
        key: &Key,
        covered: Vec<Waiting>,
        refusal: &Refusal,
        now: Now,
        out: &mut Vec<Output>,
    ) {
        for waiting in covered {
            self.reply(waiting.id, refusal.clone().into());
        }
        self.go_on(storage, key, now, out);
    }

    /// Does what is asked, on the copy that is here.
    fn carry_out(&mut self, storage: &dyn Storage, waiting: Waiting, now: Now) {
        let Waiting { id, op, deadline } = waiting;
        let room = Room::of(&op);
        let write = match &op.action {
            Action::Read(action) => {
                let view = Uncommitted {
                    storage,
                    working: &self.working,
                };
                let reply = read(&view, &op.key, action, now.wall_ms);
                let reply =
                    reply.unwrap_or_else(|error| Refusal::Unavailable(error.to_string()).into());
                return self.reply(id, reply);
            }
            Action::Write(write) => write,
        };
        match self.write(storage, &op, write, now) {
            Ok((reply, None)) => self.reply(id, reply),
            Ok((reply, Some((effects, overwrites)))) => {
                let awaiting = Awaiting {
                    number: self.quorum.enter(&op.key, overwrites),
                    id,
                    partition: Partition::of(&op.key),
                    key: op.key,
                    level: op.level,
                    room,
                    effects,
                    reply,
                    deadline,
                    lesson: Some(Lesson::default()),
                    without: Vec::new(),
                };
                self.await_others(awaiting);
            }
            Err(Stop::Refused(refusal)) => self.reply(id, refusal.into()),
            Err(Stop::Storage(error)) => {
                self.reply(id, Refusal::Unavailable(error.to_string()).into())
            }
        }
    }

    /// Carries out a write. Gives what it came to where others are to have it before it is answered.
    fn write(
        &mut self,
        storage: &dyn Storage,
        op: &Op,
        write: &Write,
        now: Now,
    ) -> Result<(Reply, Option<(Vec<Effect>, Overwrites)>), Stop> {
        if let Some(refusal) = self.refuses_writes() {
            return Err(refusal.into());
        }
        let reach = self.reach(now);
        let is_asking = reach.asks_others(op.level);
        if is_asking {
            reach.admits_write(op.level, Partition::of(&op.key))?;
        }
        let mut coordinator = self.coordinator(storage, now, is_asking);
        let reply = coordinator.write(&op.key, write)?;
        let effects = std::mem::take(&mut coordinator.effects);
        let overwrites = coordinator.overwrites;
        // What made no delta waits for nobody: there is no row that others could answer for.
        let is_shipped = coordinator.is_queued && !effects.is_empty();
        if is_asking && is_shipped && !is_on(Mutant::WriteQuorumShort) {
            return Ok((reply, Some((effects, overwrites))));
        }
        self.quorum.pass_by(&op.key, overwrites);
        Ok((reply, None))
    }
}

/// Whether a request must know what other replicas know before it can be carried out: it answers with it, or decides by it.
fn depends_on_what_is_there(action: &Action) -> bool {
    match action {
        Action::Read(_) => true,
        Action::Write(write) => match write {
            Write::Set {
                expiry,
                condition,
                return_old,
                ..
            } => *return_old || *condition != Condition::Always || *expiry == SetExpiry::Keep,
            Write::GetDel
            | Write::GetEx { .. }
            | Write::Append { .. }
            | Write::SetRange { .. }
            | Write::Expire { .. }
            | Write::Persist
            | Write::Pop { .. } => true,
            // These are told what they did not know by the acknowledgements.
            Write::IncrBy { .. } | Write::Delete | Write::Add { .. } | Write::Remove { .. } => {
                false
            }
        },
    }
}

/// A request that is kept for a while: its key may be a slice of a connection's read buffer, which must not live as long.
fn kept(mut waiting: Waiting) -> Waiting {
    waiting.op.key = Bytes::copy_from_slice(&waiting.op.key);
    waiting
}
