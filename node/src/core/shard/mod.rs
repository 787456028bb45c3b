//! One shard: the single writer of its keys.
//!
//! Inputs change the batch that is being built; [`Input::Close`] ends it. While it is being committed nothing else is handled, and
//! what depends on it (replies, acknowledgements to other regions, shipping) waits in the shard until [`Input::Committed`].

mod after_end;
mod apply;
mod carry_out;
mod ending;
mod foresight;
mod maintenance;
mod overtaken;
mod repairs;
mod replicas;
mod replication;
mod restamp;
mod sure;

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use crdt::{ActorId, Clock, Hlc};

use self::{after_end::AfterEnd, ending::Endings, restamp::Replay};
use super::{
    batch::{PendingBatch, TallyMove},
    budget::Budget,
    coordinate::{Coordinator, Overwrites},
    expiring::Expiring,
    fixed::{Answer, Views},
    identity::relay_of,
    inbox::{Applied, Done, RelayMark, Ticket},
    message::{KnownPosition, Message, SessionId, Unanswered},
    mutant::{Mutant, is_on},
    op::Key,
    passage::Passage,
    pending_writes::{PendingWrite, PendingWrites},
    quorum_read::QuorumReads,
    recover,
    reply::{Refusal, Reply},
    ship::{Home, OutboxBounds, ShipEvent, Shipper},
    tally::Tallies,
    {Event, Input, Now, Output, RequestId},
};
use crate::{
    placement::Position,
    storage::{
        Batch, Family, Storage, StorageError,
        record::{meta::Mark, outbox},
    },
};

/// What a shard is told when it is opened.
#[derive(Debug, Clone)]
pub struct ShardConfig {
    /// Which shard, of how many.
    pub index: u16,
    /// How many shards the directory has.
    pub shards: u16,
    /// The actor that it stamps as.
    pub actor: ActorId,
    /// Actors that this shard renewed and whose rows may not have been taken everywhere.
    pub former: Vec<ActorId>,
    /// Where it stands, and who holds what.
    pub home: Home,
    /// How long a client waits for other replicas.
    pub timeout: Duration,
    /// Bounds of this shard's part of the outbox.
    pub outbox: OutboxBounds,
    /// Bytes of decoded heads to keep.
    pub cache_bytes: usize,
    /// Longest value that a client may make.
    pub value_bytes_max: usize,
    /// Bounds of what one read makes the shard do.
    pub reads: ReadBounds,
    /// How far two clocks may differ, `clock.max_skew` in milliseconds.
    pub max_skew_ms: u64,
    /// Whether the last stop was orderly, so that stored tallies hold.
    pub was_clean: bool,
    /// Seeds the choice of pauses and the numbers of questions: another one at each opening.
    pub entropy: u64,
}

/// What the shard itself does for one read, at most, before it turns to the next input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadBounds {
    /// A read that looks at more rows than this is carried out beside the shard. Too small, and reads of small sets pay for a change of
    /// thread; too large, and everybody waits for those of large ones.
    pub rows_at_once: u64,
    /// About so many bytes of rows are compared with another replica at a time. Too small, and a large key costs many round trips;
    /// too large, and everybody waits while a page is joined. A page must fit into a message.
    pub page_bytes: usize,
}

impl Default for ReadBounds {
    /// A millisecond's worth of the one, some ten of the other.
    fn default() -> Self {
        Self {
            rows_at_once: 128,
            page_bytes: 256 << 10,
        }
    }
}

/// A shard's state.
#[derive(Debug)]
pub struct Shard {
    config: ShardConfig,
    actor: ActorId,
    clock: Clock,
    ceiling: Hlc,
    recalled: BTreeMap<ActorId, Recalled>,
    pending: PendingBatch,
    tallies: Tallies,
    shipper: Shipper,
    expiring: Expiring,
    sweep: Option<Position>,
    /// When what nobody asks for goes on, if that is before the next tick.
    upkeep_at: Option<Duration>,
    replay: Replay,
    passage: Passage,
    endings: Endings,
    after_end: AfterEnd,
    read_only: Option<String>,
    clock_skew: Option<String>,
    waiting: Waiting,
    pending_writes: PendingWrites,
    quorum_reads: QuorumReads,
    views: Views,
    /// Keys of which a question has ended: what waited behind it goes on.
    freed: Vec<Key>,
    relay_mark: RelayMark,
    /// When those who wait for others are told if these are gone.
    doubt_at: Option<Duration>,
    is_committing: bool,
    is_over: bool,
    maintain_at: Duration,
}

/// What an actor recalled when its shard was opened, to be held against what peers know *at their first handshake since*.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recalled {
    /// Its newest row.
    row: Hlc,
    /// A bound of its stamps, which it stores ahead of them and of its promises.
    bound: Hlc,
}

impl Recalled {
    /// The newest row of an actor, and the bound of its stamps.
    pub fn new(row: Hlc, bound: Hlc) -> Self {
        Self { row, bound }
    }

    /// Whether a row was forgotten: a row is shipped only once it is stored. The bound would not do, because it is ahead of the rows:
    /// it hides what an old copy lacks of the last moments before it.
    pub fn lacks_rows(self, held: &KnownPosition) -> bool {
        held.newest > self.row
    }

    /// Whether the actor must not go on: it would stamp below rows that it forgot, or below what it promised and forgot.
    pub fn may_repeat(self, held: &KnownPosition) -> bool {
        self.lacks_rows(held) || held.passed > self.bound
    }
}

/// What waits for the commit.
#[derive(Debug, Default)]
struct Waiting {
    replies: Vec<(RequestId, Answer)>,
    /// Writes that will wait for other replicas then, at these places.
    awaiting: Vec<(Hlc, PendingWrite)>,
    /// What these take.
    budget: Budget,
    /// Answers to other nodes' questions.
    answers: Vec<(SessionId, Message)>,
    applied: Vec<(Ticket, Done)>,
    rows: Vec<(Hlc, Bytes)>,
    relayed: Vec<(Hlc, Bytes)>,
    moves: Vec<TallyMove>,
    ceiling: Option<Hlc>,
}

impl Shard {
    /// Takes up a shard where storage left it.
    pub fn open(storage: &dyn Storage, config: ShardConfig) -> Result<Self, StorageError> {
        let mut actors = config.former.clone();
        actors.retain(|_| !is_on(Mutant::FormerLogsForgotten));
        actors.push(config.actor);
        let shipper = Shipper::open(
            storage,
            config.home.clone(),
            config.index,
            &actors,
            config.outbox,
            config.entropy,
        )?;
        let mut recalled = BTreeMap::new();
        for &actor in &actors {
            let recalls = Recalled {
                row: shipper.newest(actor),
                bound: Mark::Ceiling.load(storage, actor)?,
            };
            recalled.insert(actor, recalls);
        }
        let ceiling = Mark::Ceiling.load(storage, config.actor)?;
        // A renewed actor has no ceiling yet; it goes on after the ones that it followed, or its writes would lose against theirs.
        let mut floor = ceiling;
        for &former in &config.former {
            floor = floor.max(Mark::Ceiling.load(storage, former)?);
        }
        if is_on(Mutant::CeilingNotKept) {
            floor = Hlc::ZERO;
        }
        let newest = actors.iter().flat_map(|actor| [*actor, relay_of(*actor)]);
        let newest = newest.map(|log| shipper.newest(log).millis()).max();
        let replay = Replay::open(storage, config.actor, &config.former)?;
        let tallies = recover::tallies(storage, config.index, config.shards, config.was_clean)?;
        Ok(Self {
            actor: config.actor,
            clock: Clock::new(floor),
            ceiling,
            recalled,
            pending: PendingBatch::new(config.cache_bytes),
            tallies,
            shipper,
            expiring: Expiring::default(),
            sweep: Some(Position::FIRST),
            upkeep_at: None,
            replay,
            passage: Passage::since(newest.unwrap_or(0)),
            endings: Endings::default(),
            after_end: AfterEnd::default(),
            read_only: None,
            clock_skew: None,
            waiting: Waiting::default(),
            pending_writes: PendingWrites::default(),
            quorum_reads: QuorumReads::new(config.entropy),
            views: Views::new(config.reads.rows_at_once),
            freed: Vec::new(),
            relay_mark: RelayMark::default(),
            doubt_at: None,
            is_committing: false,
            is_over: false,
            maintain_at: Duration::ZERO,
            config,
        })
    }

    /// Takes one input; what is to be done about it is appended to `out`, in order.
    pub fn handle(&mut self, storage: &dyn Storage, input: Input, now: Now, out: &mut Vec<Output>) {
        assert!(
            !self.is_over,
            "input after a failed commit: the shard is to be opened anew"
        );
        assert!(
            !self.is_committing || matches!(input, Input::Committed | Input::CommitFailed(_)),
            "input while a batch is being committed"
        );
        match input {
            Input::Request { id, op } => self.request(storage, id, op, now, out),
            Input::Remote {
                ticket,
                deltas,
                purpose,
            } => self.remote(storage, ticket, deltas, purpose, now, out),
            Input::Asked { session, message } => self.asked(storage, session, message, now, out),
            Input::SessionUp(met) => self.session_up(storage, met, now, out),
            Input::SessionDown { session } => self.session_down(storage, session, now, out),
            Input::Trusted(trusted) => self.trust(storage, trusted, now, out),
            Input::Placed(placement) => self.place(storage, placement, now, out),
            Input::Short(shortage) => self.shipper.fall_short(shortage),
            Input::Acknowledged { session, message } => {
                self.acknowledged(storage, session, message, now, out)
            }
            Input::Unsent { session, actor } => self.shipper.unsent(session, actor, now.mono),
            Input::ReadOnly(reason) => self.read_only = reason,
            Input::ClockSkew(detail) => self.clock_skew = detail,
            Input::Renew {
                actor,
                newest,
                replays,
            } => {
                self.renew(actor, newest, out);
                if replays {
                    self.replay(storage, now, out);
                }
            }
            Input::Tick => self.tick(storage, now, out),
            Input::Wake => self.wake(storage, now, out),
            Input::Close => self.close(storage, now, out),
            Input::Committed => self.committed(storage, now, out),
            Input::CommitFailed(reason) => self.commit_failed(&reason, out),
            Input::Stop => self.stop(storage, now, out),
        }
        if !self.is_committing && !self.is_over {
            self.free_where_sure(storage, now);
            self.go_on_with_freed(storage, now, out);
        }
    }

    /// Bytes of the batch so far, about: a driver closes it before it grows large.
    pub fn batch_bytes(&self) -> usize {
        self.pending.bytes()
    }

    /// When it wants [`Input::Wake`], since the process started: before the next tick, or not.
    pub fn wake_at(&self) -> Option<Duration> {
        [self.quorum_reads.hedge_at(), self.upkeep_at]
            .into_iter()
            .flatten()
            .min()
    }

    /// Whether ticks have nothing to do but to promise and to remember, before something comes or `within` passes.
    pub fn is_at_rest(&self, now: Now, within: Duration) -> bool {
        let soon_ms = now.wall_ms.saturating_add(within.as_millis() as u64);
        self.pending_writes.is_empty()
            && self.quorum_reads.is_empty()
            && self.doubt_at.is_none()
            && self.upkeep_at.is_none()
            && self.sweep.is_none()
            && !self.expiring.has_due(soon_ms)
            && self.shipper.is_at_rest(self.actor)
    }

    /// Keys and digests of the shard's partitions, as of the last closed batch.
    pub fn tallies(&self) -> &Tallies {
        &self.tallies
    }

    /// The outbox, for its figures.
    pub fn shipper(&self) -> &Shipper {
        &self.shipper
    }

    /// The actor that it stamps as.
    pub fn actor(&self) -> ActorId {
        self.actor
    }

    /// The newest stamp that it made or saw.
    pub fn newest(&self) -> Hlc {
        self.clock.last()
    }

    /// What each of its actors recalled when this shard was opened. Comparing with [`Shard::newest`] would not do: what was stamped since
    /// hides what was forgotten.
    pub fn recalled(&self) -> &BTreeMap<ActorId, Recalled> {
        &self.recalled
    }

    /// Why clients' writes are refused, if they are. What other regions wrote is still taken under a wrong clock: it is their stamps
    /// that count there.
    fn refuses_writes(&self) -> Option<Refusal> {
        let read_only = self.read_only.clone().map(Refusal::ReadOnly);
        read_only.or_else(|| self.clock_skew.clone().map(Refusal::ClockSkew))
    }

    fn coordinator<'a>(
        &'a mut self,
        storage: &'a dyn Storage,
        now: Now,
        is_asking: bool,
    ) -> Coordinator<'a> {
        Coordinator {
            storage,
            pending: &mut self.pending,
            clock: &mut self.clock,
            actor: self.actor,
            wall_ms: now.wall_ms,
            value_bytes_max: self.config.value_bytes_max,
            is_shipping: self.shipper.has_destinations(),
            is_asking,
            is_beginning: false,
            is_behind_statement: false,
            effects: Vec::new(),
            overwrites: Overwrites::default(),
            is_queued: false,
        }
    }

    fn acknowledged(
        &mut self,
        storage: &dyn Storage,
        session: SessionId,
        message: Message,
        now: Now,
        out: &mut Vec<Output>,
    ) {
        self.note_refusal(session, &message, now);
        match message {
            Message::Ack(said) => self.taken(storage, session, said, now, out),
            Message::Nack {
                actor,
                taken,
                reason,
            } => self.declined(storage, session, (actor, taken, reason), now, out),
            Message::Compared {
                ask,
                copy,
                shortage,
            } => {
                if self.shipper.learn(session, shortage) {
                    let why = Unanswered::Forgot;
                    self.unanswered(storage, session, ask, why, now, out);
                } else {
                    self.compared(storage, session, ask, copy, now, out);
                }
            }
            Message::Repaired { ask } => self.mended(storage, session, ask, now, out),
            Message::Unanswered { ask, why } => {
                self.unanswered(storage, session, ask, why, now, out)
            }
            // For the inbox, and for the shard that is asked; the driver takes them there.
            Message::Ship(_)
            | Message::ClosedTimestamp { .. }
            | Message::Gap { .. }
            | Message::Compare(_)
            | Message::Repair { .. }
            | Message::Forward { .. }
            | Message::Forwarded { .. } => {}
        }
        self.pump(storage, now, out);
    }

    /// Goes on as another actor: this one may have forgotten stamps that others have seen.
    fn renew(&mut self, actor: ActorId, newest: Hlc, out: &mut Vec<Output>) {
        debug_assert!(self.pending.is_clean(), "a batch is of one actor");
        self.clock.observe(newest);
        self.actor = actor;
        self.ceiling = Hlc::ZERO;
        self.give_up_waiting("this node goes on under another number", out);
        self.shipper.begin(actor);
        self.replay.renewed();
    }

    /// Ends the batch: everything it changed in one commit, with what is to be remembered about the shipping once a second.
    fn close(&mut self, storage: &dyn Storage, now: Now, out: &mut Vec<Output>) {
        let mut batch = Batch::default();
        let closed = self.pending.close(&mut batch, &mut self.expiring);
        self.waiting.moves = closed.moves;
        for row in closed.outbox {
            let value = Bytes::from(outbox::encode(&row.deltas));
            let stored = outbox::stored_key(self.actor, row.last);
            if !is_on(Mutant::OutboxRowNotStored) {
                batch.put(Family::Outbox, stored, value.to_vec());
            }
            self.waiting.rows.push((row.last, value));
        }
        for row in closed.relay {
            let value = Bytes::from(outbox::encode(&row.deltas));
            let stored = outbox::stored_key(relay_of(self.actor), row.last);
            if !is_on(Mutant::HintNotStored) {
                batch.put(Family::Outbox, stored, value.to_vec());
            }
            self.waiting.relayed.push((row.last, value));
        }
        let has_withdrawn = self.replay.close(&mut batch, self.actor);
        self.raise_ceiling(&mut batch, now);
        // What was withdrawn is still stored: the outbox is not measured before it is gone.
        if now.mono >= self.maintain_at && !has_withdrawn {
            self.maintain_at = now.mono + MAINTAIN_INTERVAL;
            self.maintain(storage, now, &mut batch, out);
        }
        self.finish_close(batch, out);
    }

    fn finish_close(&mut self, batch: Batch, out: &mut Vec<Output>) {
        if batch.is_empty() {
            self.release(out);
            return;
        }
        let ceiling = self.waiting.ceiling.unwrap_or(self.ceiling);
        let mut rows = self.waiting.rows.iter();
        debug_assert!(
            rows.all(|(last, _)| *last <= ceiling),
            "no stamp lies above the ceiling that is stored with it"
        );
        if is_on(Mutant::AnsweredBeforeCommit) {
            self.tell_clients(out);
        }
        if is_on(Mutant::TakenBeforeCommit) {
            self.tell_inbox(out);
        }
        self.is_committing = true;
        out.push(Output::Commit(batch));
    }

    fn committed(&mut self, storage: &dyn Storage, now: Now, out: &mut Vec<Output>) {
        assert!(self.is_committing, "a commit that was not asked for");
        self.is_committing = false;
        debug_assert!(
            self.waiting
                .ceiling
                .is_none_or(|ceiling| ceiling > self.ceiling),
            "a ceiling only rises"
        );
        for (partition, before, after) in self.waiting.moves.drain(..) {
            self.tallies.replace(partition, before, after);
        }
        if let Some(ceiling) = self.waiting.ceiling.take() {
            self.ceiling = ceiling;
        }
        let rows = std::mem::take(&mut self.waiting.rows);
        if !rows.is_empty() {
            self.shipper.committed(self.actor, rows);
        }
        let relayed = std::mem::take(&mut self.waiting.relayed);
        if !relayed.is_empty() {
            self.shipper.committed(relay_of(self.actor), relayed);
        }
        self.begin_waiting();
        self.release(out);
        self.pump(storage, now, out);
    }

    /// Whether the batch happened is unknown until storage is reopened, so nothing that this shard remembers can be trusted: whoever
    /// waits is told so, and the shard is over. Another one is opened once storage is.
    fn commit_failed(&mut self, reason: &str, out: &mut Vec<Output>) {
        self.is_over = true;
        let waiting = self.waiting.replies.iter_mut();
        for (_, reply) in waiting.filter(|_| !is_on(Mutant::FailedCommitAnswered)) {
            let refusal = Refusal::Timeout(format!(
                "the storage of this node failed while it committed; the write may take effect: {reason}"
            ));
            *reply = Reply::from(refusal).into();
        }
        for (_, done) in &mut self.waiting.applied {
            done.applied = Applied::Refused;
        }
        // What others were to be told of this batch they are not told, and ask again.
        self.waiting.answers.clear();
        self.begin_waiting();
        self.give_up_waiting(
            &format!("the storage of this node failed while it committed: {reason}"),
            out,
        );
        self.release(out);
    }

    fn release(&mut self, out: &mut Vec<Output>) {
        self.tell_clients(out);
        self.tell_inbox(out);
        let answers = self.waiting.answers.drain(..);
        out.extend(answers.map(|(session, message)| Output::Send { session, message }));
    }

    fn tell_clients(&mut self, out: &mut Vec<Output>) {
        let replies = self.waiting.replies.drain(..);
        out.extend(replies.map(|(id, answer)| match answer {
            Answer::Reply(reply) => Output::Reply { id, reply },
            Answer::Fixed(read) => Output::Read { id, read },
        }));
    }

    fn tell_inbox(&mut self, out: &mut Vec<Output>) {
        let applied = self.waiting.applied.drain(..);
        out.extend(applied.map(|(ticket, done)| Output::Applied { ticket, done }));
    }

    fn pump(&mut self, storage: &dyn Storage, now: Now, out: &mut Vec<Output>) {
        let mut sent = Vec::new();
        let awaited = self.awaited();
        let afar = self.pending_writes.awaited_afar_after();
        let afar = afar.map(|after| (self.actor, after));
        let pumped =
            self.shipper
                .pump(storage, awaited, afar, now.mono, &mut |session, message| {
                    sent.push(Output::Send { session, message })
                });
        out.append(&mut sent);
        report(Vec::new(), pumped, out);
    }
}

/// Reports events and a failure.
fn report(events: Vec<ShipEvent>, result: Result<(), StorageError>, out: &mut Vec<Output>) {
    out.extend(
        events
            .into_iter()
            .map(|event| Output::Report(Event::Ship(event))),
    );
    out.extend(
        result
            .err()
            .map(|error| Output::Report(Event::Damaged(error))),
    );
}

/// How often cursors are stored and the outbox is trimmed: what is sent again after a crash is at most about this much.
const MAINTAIN_INTERVAL: Duration = Duration::from_secs(1);
