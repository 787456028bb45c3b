//! A shard's thread: drain the queue, let the core decide, commit once, tell everybody.
//!
//! ```text
//!   ┌▶ wait for work or the next tick
//!   │  handle it and all that is queued behind it, up to a bound      ─┐
//!   │  Close ─▶ one commit, synced if `fsync = "always"`               ├ one turn
//!   └─ Committed ─▶ replies, acknowledgements, ships                  ─┘
//! ```
//! While a commit runs the queue fills, so the slower the disk the larger the next batch: group commit with no timer.
//!
//! A commit that fails ends the shard: what it remembers may or may not be what is stored. Until storage is reopened
//! reads are answered from it and writes are refused; then another shard is opened in its place.

mod fallback;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap}, // the map is looked up, never iterated
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use crdt::ActorId;
use crossbeam_channel::{Receiver, RecvTimeoutError};
use foldhash::fast::RandomState; // of a map that is never iterated
use tokio::sync::oneshot;

use self::fallback::{answer_without_shard, unanswered};
use super::{
    clock::WallClock,
    hot_heads::HotHeads,
    outbound::Outbound,
    queue::{Inspection, Work},
};
use crate::{
    core::{
        Event, Input, Output, Recalled, RequestId, Shard, ShardConfig,
        fixed::Answer,
        inbox::{Applied, Done},
        message::{KnownPosition, Message, SessionId},
        op::Op,
        reply::{Refusal, Reply},
        ship::Met,
    },
    names::NodeName,
    storage::{
        Batch, Durability, Storage, StorageError,
        record::{meta::store_probe, shortage::Shortage},
        rocks::RocksStorage,
    },
};

/// What a shard's thread works with.
pub struct ShardLoop {
    pub(super) config: ShardConfig,
    pub(super) storage: Arc<RocksStorage>,
    pub(super) hot: Arc<HotHeads>,
    pub(super) durability: Durability,
    pub(super) clock: Arc<WallClock>,
    pub(super) outbound: Arc<Outbound>,
    pub(super) queue: Receiver<Work>,
    pub(super) queued_bytes: Arc<AtomicUsize>,
    state: State,
    sessions: BTreeMap<SessionId, Met>,
    read_only: Option<String>,
    clock_skew: Option<String>,
    trusted: Option<Arc<BTreeSet<NodeName>>>,
    shortage: Shortage,
    open: HashMap<u64, Open, RandomState>, // looked up, never iterated
    next_open: u64,
    tick_at: Instant,
    /// When it wrote last.
    stored_at: Instant,
}

enum State {
    Works(Box<Shard>),
    /// Its storage failed, for this reason.
    Failed(String),
}

/// What was acknowledged since the handshake counts: to a shard that is opened again, a peer that has less than it once said
/// looks as if it had lost data.
fn note(met: &mut Met, message: &Message) {
    let Message::Ack(said) = message else {
        return;
    };
    met.shortage = met.shortage.with(said.shortage);
    match met.held.iter_mut().find(|held| held.actor == said.actor) {
        Some(held) => held.taken = held.taken.max(said.taken),
        None => met.held.push(KnownPosition {
            actor: said.actor,
            taken: said.taken,
            passed: said.taken,
            newest: said.taken,
        }),
    }
}

/// Requests of one connection that were asked together and are answered together.
struct Open {
    answers: Vec<Option<Answer>>,
    /// How many have no answer yet.
    left: usize,
    to: oneshot::Sender<Vec<Answer>>,
}

/// What a [`ShardLoop`] is made of.
pub struct Parts {
    /// For the shard itself.
    pub config: ShardConfig,
    /// Where it is stored.
    pub storage: Arc<RocksStorage>,
    /// What readers keep of it.
    pub hot: Arc<HotHeads>,
    /// When a commit may be answered.
    pub durability: Durability,
    /// The time.
    pub clock: Arc<WallClock>,
    /// The way to the peers and the inbox.
    pub outbound: Arc<Outbound>,
    /// Its queue.
    pub queue: Receiver<Work>,
    /// How many bytes clients have in it.
    pub queued_bytes: Arc<AtomicUsize>,
}

impl ShardLoop {
    /// Opens the shard. Reads what storage remembers, which takes a moment per million keys after an unclean stop.
    pub fn open(parts: Parts) -> Result<Self, StorageError> {
        let Parts {
            config,
            storage,
            hot,
            durability,
            clock,
            outbound,
            queue,
            queued_bytes,
        } = parts;
        let shard = Shard::open(storage.as_ref(), config.clone())?;
        let state = State::Works(Box::new(shard));
        let (sessions, open, tick_at) = (BTreeMap::new(), HashMap::default(), Instant::now());
        Ok(Self {
            config,
            storage,
            hot,
            durability,
            clock,
            outbound,
            queue,
            queued_bytes,
            state,
            sessions,
            read_only: None,
            clock_skew: None,
            trusted: None,
            shortage: Shortage::NONE,
            open,
            next_open: 0,
            tick_at,
            stored_at: tick_at,
        })
    }

    /// What it recalled of each of its actors when it was opened.
    pub fn recalled(&self) -> BTreeMap<ActorId, Recalled> {
        match &self.state {
            State::Works(shard) => shard.recalled().clone(),
            State::Failed(_) => BTreeMap::new(),
        }
    }

    /// Works until it is told to stop, or nobody can tell it any more.
    pub fn run(mut self) {
        loop {
            let first = match self.queue.recv_deadline(self.wake_at()) {
                Ok(work) => Some(work),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            if let Some(done) = self.turn(first) {
                self.stop();
                // Whoever asked may have stopped waiting.
                let _ = done.send(());
                return;
            }
        }
    }

    /// One batch. Gives whom to tell if the shard is to stop.
    fn turn(&mut self, first: Option<Work>) -> Option<oneshot::Sender<()>> {
        let mut next = first;
        let mut works = 0;
        let mut stop = None;
        while let Some(work) = next.take() {
            if let Work::Stop { done } = work {
                stop = Some(done);
                break;
            }
            self.work(work);
            works += 1;
            if works < TURN_WORKS_MAX && self.batch_bytes() < BATCH_BYTES {
                next = self.queue.try_recv().ok();
            }
        }
        if Instant::now() >= self.tick_at {
            self.input(Input::Tick);
            self.tick_at = Instant::now() + TICK_AT_REST;
        } else if self.wants_waking() {
            self.input(Input::Wake);
        }
        self.close();
        self.hurry();
        stop
    }

    /// Ticks often, unless the shard is at rest.
    fn hurry(&mut self) {
        let soon = Instant::now() + TICK_INTERVAL;
        let is_at_rest = |shard: &Shard| shard.is_at_rest(self.clock.now(), TICK_AT_REST);
        if self.tick_at > soon && !matches!(&self.state, State::Works(shard) if is_at_rest(shard)) {
            self.tick_at = soon;
        }
    }

    /// When there is something to do without any work: at the next tick, or before it.
    fn wake_at(&self) -> Instant {
        let State::Works(shard) = &self.state else {
            return self.tick_at;
        };
        let Some(wake_at) = shard.wake_at() else {
            return self.tick_at;
        };
        let left = wake_at.saturating_sub(self.clock.now().mono);
        self.tick_at.min(Instant::now() + left)
    }

    fn wants_waking(&self) -> bool {
        let State::Works(shard) = &self.state else {
            return false;
        };
        shard
            .wake_at()
            .is_some_and(|at| at <= self.clock.now().mono)
    }

    fn work(&mut self, work: Work) {
        match work {
            Work::Ops {
                ops,
                bytes,
                replies,
            } => {
                self.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
                self.request(ops, replies);
            }
            Work::Input(input) => self.remember(&input).then_input(self, input),
            Work::Renew {
                actor,
                newest,
                replays,
            } => {
                self.close();
                self.config.former.push(self.config.actor);
                self.config.actor = actor;
                self.input(Input::Renew {
                    actor,
                    newest,
                    replays,
                });
            }
            Work::Inspect { partitions, answer } => {
                self.probe();
                // Whoever asked may have stopped waiting.
                let _ = answer.send(self.inspect(partitions));
            }
            Work::Reopened => self.reopen(),
            Work::Stop { .. } => unreachable!("a turn ends at a stop"),
        }
    }

    fn request(&mut self, ops: Vec<Op>, to: oneshot::Sender<Vec<Answer>>) {
        assert!(
            ops.len() < 1 << REQUEST_BITS,
            "a command's bytes bound its keys"
        );
        let chunk = self.next_open;
        self.next_open += 1;
        let open = Open {
            answers: vec![None; ops.len()],
            left: ops.len(),
            to,
        };
        self.open.insert(chunk, open);
        for (place, op) in ops.into_iter().enumerate() {
            let id = RequestId(chunk << REQUEST_BITS | place as u64);
            match &mut self.state {
                State::Works(_) => self.input(Input::Request { id, op }),
                State::Failed(reason) => {
                    let reply = answer_without_shard(
                        self.storage.as_ref(),
                        &op,
                        self.config.home.asks_others(op.level),
                        self.clock.now().wall_ms,
                        reason,
                    );
                    self.answer(id, reply.into());
                }
            }
        }
    }

    /// Puts an answer in its place; the last one of those that were asked together sends them all.
    fn answer(&mut self, id: RequestId, answer: Answer) {
        if matches!(answer, Answer::Reply(Reply::Error(Refusal::Busy(_)))) {
            metrics::counter!(crate::metrics::BUSY_TOTAL).increment(1);
        }
        let chunk = id.0 >> REQUEST_BITS;
        let place = (id.0 & ((1 << REQUEST_BITS) - 1)) as usize;
        let Some(open) = self.open.get_mut(&chunk) else {
            return;
        };
        let Some(slot @ None) = open.answers.get_mut(place) else {
            return;
        };
        *slot = Some(answer);
        open.left -= 1;
        if open.left > 0 {
            return;
        }
        if let Some(Open { answers, to, .. }) = self.open.remove(&chunk) {
            // A connection that is gone wants no reply.
            let _ = to.send(answers.into_iter().flatten().collect());
        }
    }

    /// Ends the batch, commits it, and gives out what waited for it.
    fn close(&mut self) {
        self.input(Input::Close);
    }

    /// The last batch of a life.
    fn stop(&mut self) {
        self.input(Input::Stop);
    }

    fn input(&mut self, input: Input) {
        let now = self.clock.now();
        let State::Works(shard) = &mut self.state else {
            return;
        };
        let mut outputs = Vec::new();
        shard.handle(self.storage.as_ref(), input, now, &mut outputs);
        self.perform(outputs);
    }

    fn perform(&mut self, outputs: Vec<Output>) {
        for output in outputs {
            match output {
                Output::Reply { id, reply } => self.answer(id, reply.into()),
                // Whoever asked carries it out: a shard's thread is for what is short.
                Output::Read { id, read } => self.answer(id, Answer::Fixed(read)),
                Output::Applied { ticket, done } => {
                    self.outbound.applied(self.config.index, ticket, done)
                }
                Output::Relayed(mark) => self.outbound.relayed(self.config.index, mark),
                Output::Relocated { kept, place } => {
                    self.outbound.relocated(self.config.index, kept, place)
                }
                Output::Commit(batch) => self.commit(&batch),
                Output::Send { session, message } => self.send(session, message),
                Output::Renew => self.outbound.renewal.notify_one(),
                Output::Report(event) => self.report(event),
            }
        }
    }

    fn report(&self, event: Event) {
        super::report::core(&event);
        if let Event::Conflict(clash) = event {
            let at_ms = self.clock.now().wall_ms;
            self.outbound.conflicts.note(clash, at_ms);
        }
    }

    fn commit(&mut self, batch: &Batch) {
        match self.store(batch) {
            Ok(()) => self.input(Input::Committed),
            Err(error) => self.fail(&error),
        }
    }

    fn store(&mut self, batch: &Batch) -> Result<(), StorageError> {
        let begun = Instant::now();
        let commit = || self.storage.commit(batch, self.durability);
        let outcome = self.hot.around(batch, commit);
        metrics::histogram!(crate::metrics::COMMIT_DURATION_SECONDS)
            .record(begun.elapsed().as_secs_f64());
        self.stored_at = Instant::now();
        outcome
    }

    fn fail(&mut self, error: &StorageError) {
        tracing::error!(shard = self.config.index, %error, "a commit failed; writes are refused until storage is reopened");
        self.input(Input::CommitFailed(error.to_string()));
        self.state = State::Failed(error.to_string());
    }

    /// Writes for nobody where nobody wrote for a while: that storage does not take writes any more, readiness says before a client
    /// has to find it out.
    fn probe(&mut self) {
        let is_idle = self.stored_at.elapsed() >= PROBE_INTERVAL;
        if !is_idle || matches!(self.state, State::Failed(_)) {
            return;
        }
        let mut batch = Batch::default();
        store_probe(&mut batch, self.config.index, self.clock.now().wall_ms);
        if let Err(error) = self.store(&batch) {
            self.fail(&error);
        }
    }

    fn send(&mut self, session: SessionId, message: Message) {
        let (actor, ask, is_question) = (message.actor(), message.ask(), message.is_question());
        let Err(error) = self.outbound.send(session, message) else {
            return;
        };
        if let Some(actor) = actor {
            self.input(Input::Unsent { session, actor });
        }
        if let Some(ask) = ask {
            let message = unanswered(session, ask, &error);
            if is_question {
                self.input(Input::Acknowledged { session, message });
            } else {
                self.outbound.refuse(session, message);
            }
        }
    }

    /// Storage is back: the shard begins again from what is stored, and meets its sessions again.
    fn reopen(&mut self) {
        let State::Failed(_) = &self.state else {
            return;
        };
        let config = ShardConfig {
            was_clean: false,
            entropy: rand::random(),
            ..self.config.clone()
        };
        match Shard::open(self.storage.as_ref(), config) {
            Ok(shard) => self.state = State::Works(Box::new(shard)),
            Err(error) => {
                tracing::error!(shard = self.config.index, %error, "a shard could not be opened again");
                return;
            }
        }
        tracing::info!(
            shard = self.config.index,
            "a shard was opened again; writes are taken"
        );
        self.input(Input::ReadOnly(self.read_only.clone()));
        self.input(Input::ClockSkew(self.clock_skew.clone()));
        if let Some(trusted) = self.trusted.clone() {
            self.input(Input::Trusted(trusted));
        }
        self.input(Input::Short(self.shortage));
        for met in self.sessions.clone().into_values() {
            self.input(Input::SessionUp(met));
        }
    }

    /// Keeps what a shard that is opened again must be told.
    fn remember(&mut self, input: &Input) -> Remembered {
        match input {
            Input::SessionUp(met) => {
                self.sessions.insert(met.session, met.clone());
            }
            Input::SessionDown { session } => {
                self.sessions.remove(session);
            }
            Input::Acknowledged { session, message } => {
                if let Some(met) = self.sessions.get_mut(session) {
                    note(met, message);
                }
            }
            Input::Trusted(trusted) => self.trusted = Some(Arc::clone(trusted)),
            Input::Placed(placement) => self.config.home.placement = Arc::clone(placement),
            Input::Short(shortage) => self.shortage = *shortage,
            Input::ReadOnly(reason) => self.read_only.clone_from(reason),
            Input::ClockSkew(detail) => self.clock_skew.clone_from(detail),
            _ => {}
        }
        Remembered
    }

    fn batch_bytes(&self) -> usize {
        match &self.state {
            State::Works(shard) => shard.batch_bytes(),
            State::Failed(_) => 0,
        }
    }

    fn inspect(&self, partitions: bool) -> Inspection {
        let shard = match &self.state {
            State::Works(shard) => shard,
            State::Failed(reason) => {
                return Inspection {
                    failed: Some(reason.clone()),
                    ..Inspection::default()
                };
            }
        };
        Inspection {
            total: shard.tallies().total(),
            partitions: if partitions {
                shard.tallies().iter().collect()
            } else {
                Vec::new()
            },
            lags: shard
                .shipper()
                .lags()
                .map(|(destination, lag)| (destination.clone(), lag))
                .collect(),
            linked: shard
                .shipper()
                .lags()
                .map(|(destination, _)| destination)
                .filter(|destination| shard.shipper().is_linked(destination))
                .cloned()
                .collect(),
            failed: None,
            is_silent: false,
        }
    }
}

/// Proof that an input was remembered before it is handled.
struct Remembered;

impl Remembered {
    fn then_input(self, shard: &mut ShardLoop, input: Input) {
        match (&shard.state, &input) {
            (State::Failed(_), Input::Remote { ticket, .. }) => {
                let done = Done {
                    applied: Applied::Refused,
                    place: None,
                    taught: Vec::new(),
                };
                shard.outbound.applied(shard.config.index, *ticket, done);
            }
            _ => shard.input(input),
        }
    }
}

/// Bits of a request's number that say which one it is of those that were asked together.
const REQUEST_BITS: u32 = 24;
/// How often a shard is told that time passes.
const TICK_INTERVAL: Duration = Duration::from_millis(100);
/// The same of a shard that has nothing to do.
const TICK_AT_REST: Duration = Duration::from_millis(500);
/// How long nobody writes before a shard sees for itself whether storage takes writes.
const PROBE_INTERVAL: Duration = Duration::from_secs(5);
/// Entries of the queue handled in one turn, at most: what bounds how long the first of them waits for its reply.
const TURN_WORKS_MAX: usize = 1024;
/// A batch is closed when it has about this many bytes.
const BATCH_BYTES: usize = 4 << 20;
