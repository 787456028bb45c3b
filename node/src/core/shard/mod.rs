//! One shard: the single writer of its keys.
//!
//! Inputs change the batch that is being built; [`Input::Close`] ends it. While it is being committed nothing else is handled, and
//! what depends on it (replies, acknowledgements to other regions, shipping) waits in the shard until [`Input::Committed`].

mod replay;
mod upkeep;

use std::time::Duration;

use bytes::Bytes;
use crdt::{ActorId, Clock, Delta, Hlc};

use self::replay::Replay;
use super::{
    coordinate::{Coordinator, Stop},
    expiring::Expiring,
    inbox::{Applied, Ticket},
    message::Message,
    op::{Action, Op},
    read::read,
    recover,
    reply::{Refusal, Reply},
    ship::{OutboxBounds, ShipEvent, Shipper},
    tally::Tallies,
    view::Uncommitted,
    working::{TallyMove, Working},
    {Event, Input, Now, Output, RequestId},
};
use crate::{
    names::RegionName,
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
    /// The regions to ship to.
    pub regions: Vec<RegionName>,
    /// Bounds of this shard's part of the outbox.
    pub outbox: OutboxBounds,
    /// Bytes of decoded heads to keep.
    pub cache_bytes: usize,
    /// Longest value that a client may make.
    pub value_bytes_max: usize,
    /// How far two clocks may differ, `clock.max_skew` in milliseconds.
    pub max_skew_ms: u64,
    /// Whether the last stop was orderly, so that stored tallies hold.
    pub was_clean: bool,
    /// Seeds the choice of pauses.
    pub entropy: u64,
}

/// A shard's state.
#[derive(Debug)]
pub struct Shard {
    config: ShardConfig,
    actor: ActorId,
    clock: Clock,
    ceiling: Hlc,
    recalled: Hlc,
    working: Working,
    tallies: Tallies,
    shipper: Shipper,
    expiring: Expiring,
    sweep: Option<Position>,
    replay: Replay,
    read_only: Option<String>,
    clock_skew: Option<String>,
    waiting: Waiting,
    is_committing: bool,
    is_over: bool,
    maintain_at: Duration,
}

/// What waits for the commit.
#[derive(Debug, Default)]
struct Waiting {
    replies: Vec<(RequestId, Reply)>,
    applied: Vec<(Ticket, Applied)>,
    rows: Vec<(Hlc, Bytes)>,
    moves: Vec<TallyMove>,
    ceiling: Option<Hlc>,
}

impl Shard {
    /// Takes up a shard where storage left it.
    pub fn open(storage: &dyn Storage, config: ShardConfig) -> Result<Self, StorageError> {
        let mut actors = config.former.clone();
        actors.push(config.actor);
        let shipper = Shipper::open(
            storage,
            &actors,
            &config.regions,
            config.outbox,
            config.entropy,
        )?;
        let ceiling = Mark::Ceiling.load(storage, config.actor)?;
        // A renewed actor has no ceiling yet; it goes on after the ones that it followed, or its writes would lose against theirs.
        let mut floor = ceiling;
        for &former in &config.former {
            floor = floor.max(Mark::Ceiling.load(storage, former)?);
        }
        let replay = Replay::open(storage, config.actor, &config.former)?;
        let tallies = recover::tallies(storage, config.index, config.shards, config.was_clean)?;
        Ok(Self {
            actor: config.actor,
            clock: Clock::new(floor),
            ceiling,
            recalled: ceiling,
            working: Working::new(config.cache_bytes),
            tallies,
            shipper,
            expiring: Expiring::default(),
            sweep: Some(Position::from_cursor(0)),
            replay,
            read_only: None,
            clock_skew: None,
            waiting: Waiting::default(),
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
            Input::Request { id, op } => self.request(storage, id, &op, now),
            Input::Remote { ticket, deltas } => self.remote(storage, ticket, &deltas, out),
            Input::SessionUp {
                region,
                session,
                directory,
                held,
            } => {
                let mut events = Vec::new();
                let met = self.shipper.session_up(
                    storage,
                    &region,
                    session,
                    directory,
                    &held,
                    &mut events,
                );
                report(events, met, out);
                self.pump(storage, now, out);
            }
            Input::SessionDown { session } => self.shipper.session_down(session),
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
                self.renew(actor, newest);
                if replays {
                    self.replay(storage, now, out);
                }
            }
            Input::Tick => self.tick(storage, now, out),
            Input::Close => self.close(storage, now, out),
            Input::Committed => self.committed(storage, now, out),
            Input::CommitFailed(reason) => self.commit_failed(&reason, out),
            Input::Stop => self.stop(storage, now, out),
        }
    }

    /// Bytes of the batch so far, about: a driver closes it before it grows large.
    pub fn batch_bytes(&self) -> usize {
        self.working.bytes()
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

    /// The newest stamp that its actor can have made before this shard was opened, as far as storage remembers.
    ///
    /// A peer that holds a newer one *at its first handshake since* shows that storage is an old copy: the actor is to be
    /// renewed. Comparing with [`Shard::newest`] would not do: what was stamped since the opening hides what was forgotten.
    pub fn recalled(&self) -> Hlc {
        self.recalled
    }

    fn request(&mut self, storage: &dyn Storage, id: RequestId, op: &Op, now: Now) {
        let reply = match &op.action {
            Action::Read(action) => read(
                &Uncommitted {
                    storage,
                    working: &self.working,
                },
                &op.key,
                action,
                now.wall_ms,
            )
            .map_err(Stop::Storage),
            Action::Write(write) => match self.refuses_writes() {
                Some(refusal) => Err(Stop::Refused(refusal)),
                None => self.coordinator(storage, now).write(&op.key, write),
            },
        };
        let reply = reply.unwrap_or_else(|stop| match stop {
            Stop::Refused(refusal) => refusal.into(),
            Stop::Storage(error) => Refusal::Unavailable(error.to_string()).into(),
        });
        self.waiting.replies.push((id, reply));
    }

    /// Why clients' writes are refused, if they are. What other regions wrote is still taken under a wrong clock: it is their stamps
    /// that count there.
    fn refuses_writes(&self) -> Option<Refusal> {
        let read_only = self.read_only.clone().map(Refusal::ReadOnly);
        read_only.or_else(|| self.clock_skew.clone().map(Refusal::ClockSkew))
    }

    fn coordinator<'a>(&'a mut self, storage: &'a dyn Storage, now: Now) -> Coordinator<'a> {
        Coordinator {
            storage,
            working: &mut self.working,
            clock: &mut self.clock,
            actor: self.actor,
            wall_ms: now.wall_ms,
            value_bytes_max: self.config.value_bytes_max,
            is_shipping: self.shipper.has_destinations(),
        }
    }

    fn remote(
        &mut self,
        storage: &dyn Storage,
        ticket: Ticket,
        deltas: &[Delta],
        out: &mut Vec<Output>,
    ) {
        let mut applied = Applied::Whole;
        if self.read_only.is_some() {
            applied = Applied::Refused;
        } else {
            for delta in deltas {
                self.clock.observe(delta.newest());
                self.replay.observe(delta.newest());
                match self.working.join(storage, delta) {
                    Ok(()) => {}
                    Err(StorageError::Failed { .. }) => applied = Applied::Refused,
                    Err(error) => {
                        applied = Applied::Damaged;
                        out.push(Output::Report(Event::Damaged(error)));
                    }
                }
            }
        }
        let conflicts = self.working.take_conflicts();
        out.extend(
            conflicts
                .into_iter()
                .map(|kind| Output::Report(Event::Conflict { kind })),
        );
        self.waiting.applied.push((ticket, applied));
    }

    fn acknowledged(
        &mut self,
        storage: &dyn Storage,
        session: super::message::SessionId,
        message: Message,
        now: Now,
        out: &mut Vec<Output>,
    ) {
        self.note_refusal(session, &message, now);
        let mut events = Vec::new();
        let met = match message {
            Message::Taken {
                actor,
                taken,
                majority,
            } => self.shipper.taken(storage, session, actor, taken, majority),
            Message::Declined {
                actor,
                taken,
                reason,
            } => self.shipper.declined(
                storage,
                session,
                actor,
                taken,
                reason,
                now.mono,
                &mut events,
            ),
            // For the inbox; the driver takes them there.
            Message::Ship(_) | Message::Promise { .. } | Message::Skip { .. } => Ok(()),
        };
        report(events, met, out);
        self.pump(storage, now, out);
    }

    /// Goes on as another actor: this one may have forgotten stamps that others have seen.
    fn renew(&mut self, actor: ActorId, newest: Hlc) {
        debug_assert!(self.working.is_clean(), "a batch is of one actor");
        self.clock.observe(newest);
        self.actor = actor;
        self.ceiling = Hlc::ZERO;
        self.recalled = Hlc::ZERO;
        self.shipper.begin(actor);
        self.replay.renewed();
    }

    /// Ends the batch: everything it changed in one commit, with what is to be remembered about the shipping once a second.
    fn close(&mut self, storage: &dyn Storage, now: Now, out: &mut Vec<Output>) {
        let mut batch = Batch::default();
        let closed = self.working.close(&mut batch, &mut self.expiring);
        self.waiting.moves = closed.moves;
        for row in closed.outbox {
            let value = Bytes::from(outbox::encode(&row.deltas));
            batch.put(
                Family::Outbox,
                outbox::stored_key(self.actor, row.last),
                value.to_vec(),
            );
            self.waiting.rows.push((row.last, value));
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
        self.is_committing = true;
        out.push(Output::Commit(batch));
    }

    fn committed(&mut self, storage: &dyn Storage, now: Now, out: &mut Vec<Output>) {
        assert!(self.is_committing, "a commit that was not asked for");
        self.is_committing = false;
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
        self.release(out);
        self.pump(storage, now, out);
    }

    /// Whether the batch happened is unknown until storage is reopened, so nothing that this shard remembers can be trusted: whoever
    /// waits is told so, and the shard is over. Another one is opened once storage is.
    fn commit_failed(&mut self, reason: &str, out: &mut Vec<Output>) {
        self.is_over = true;
        for (_, reply) in &mut self.waiting.replies {
            *reply = Refusal::Timeout(format!("the storage of this node failed while it committed; the write may take effect: {reason}")).into();
        }
        for (_, applied) in &mut self.waiting.applied {
            *applied = Applied::Refused;
        }
        self.release(out);
    }

    fn release(&mut self, out: &mut Vec<Output>) {
        out.extend(
            self.waiting
                .replies
                .drain(..)
                .map(|(id, reply)| Output::Reply { id, reply }),
        );
        out.extend(
            self.waiting
                .applied
                .drain(..)
                .map(|(ticket, applied)| Output::Applied { ticket, applied }),
        );
    }

    fn pump(&mut self, storage: &dyn Storage, now: Now, out: &mut Vec<Output>) {
        let mut sent = Vec::new();
        let pumped = self
            .shipper
            .pump(storage, now.mono, &mut |session, message| {
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
