//! Writes that were stamped by a clock far ahead, and that nobody took, become new writes of a new actor.
//!
//! ```text
//!   a node starts with a clock an hour ahead, stamps, is started again with a right one
//!
//!   shard  rows, or a promise where there are none (Shard::sound) ──▶ peer
//!   peer   Declined(ClockAhead) ──▶ does that peer's clock agree with this one now?  is it far ahead?  can it be put right?
//!                                    │ yes
//!   shard  Renew ─────────────────▶ driver: a new number, stored; every shard: Input::Renew
//!                                    │
//!   old    ──●──●─┤ kept          ●──●──●   withdrawn: further ahead than any right clock lets pass
//!   new             ●──●──●                 the same deltas in the same order, stamped from now on
//! ```
//!
//! **Nobody has what is withdrawn.** It is stamped further ahead of this node's clock, and by its own word of the clock of one that refused it,
//! than [`Shard::horizon`]: two times `clock.max_skew` and a margin for a message that was on its way. So a node whose clock is
//! right cannot have taken it, and will not before that message is long lost. A row that somebody said he took is kept whatever its stamp. Two
//! clocks that are wrong together are beyond this: what one took of the other is kept, and waits until its time has come; so it is
//! where rows of such stamps were dropped past the bounds of the outbox.
//!
//! **Nobody here sees another value.** The new stamps begin at or after all that are kept, this shard's own and every one that it ever
//! saw of others (the mark *observed*), so the order of all stamps stays what it is; see [`crdt::restamp`].
//! Against writes made elsewhere meanwhile the new stamps decide, as for any write made now.
//!
//! **Dying between any two lines is safe.** The new number is stored first; a shard that dies before it handles the renewal is
//! opened under it, with everything as it was, and is refused again. Everything else is one commit: the heads and rows under their
//! new stamps, the new outbox rows, the end of the old ones, the old actors' ceilings and the new one's. Shards do not
//! depend on each other. It costs one batch about twice as large as what is withdrawn, that is up to twice the shard's
//! share of `hints.max_bytes`, and as much memory while it lasts.

use std::{collections::BTreeMap, ops::ControlFlow, time::Duration};

use crdt::{ActorId, Clock, Delta, Hlc, Restamp, Withdrawn};

use super::Shard;
use crate::{
    core::{
        Event, Now, Output,
        batch::Touched,
        identity::{is_relay, relay_of},
        message::{Message, NackReason, SessionId},
    },
    storage::{
        Batch, Family, Storage, StorageError,
        record::{meta::Mark, outbox},
    },
};

/// What a shard remembers so that it can take stamps back.
#[derive(Debug, Default)]
pub(super) struct Replay {
    /// A peer whose clock agrees with this node's refused stamps of this shard.
    is_refused: bool,
    /// Not asked for before.
    ask_at: Duration,
    /// The newest stamp of others that was joined, at least.
    observed: Hlc,
    /// What is stored of it for the present actor; the batch that is being committed included.
    observed_mark: Hlc,
    /// For the open batch: the end of what was withdrawn.
    ends: Batch,
}

/// What there is to do.
struct Plan {
    seam: Seam,
    rows: Vec<Row>,
}

/// Where the old actors end and the new one begins.
struct Seam {
    /// The last stamp of each actor that stays its own.
    kept: BTreeMap<ActorId, Hlc>,
    /// New stamps come after it.
    base: Hlc,
}

/// An outbox row that is withdrawn.
struct Row {
    actor: ActorId,
    last: Hlc,
    bytes: u64,
    deltas: Vec<Delta>,
}

impl Replay {
    /// Takes up what storage remembers of the shard's actors.
    pub(super) fn open(
        storage: &dyn Storage,
        actor: ActorId,
        former: &[ActorId],
    ) -> Result<Self, StorageError> {
        let observed_mark = Mark::Observed.load(storage, actor)?;
        let mut observed = observed_mark;
        for &former in former {
            observed = observed.max(Mark::Observed.load(storage, former)?);
        }
        Ok(Self {
            observed,
            observed_mark,
            ..Self::default()
        })
    }

    /// A stamp of another actor is joined.
    pub(super) fn observe(&mut self, stamp: Hlc) {
        self.observed = self.observed.max(stamp);
    }

    /// Whether a stamp that another actor made shows that a time has passed.
    pub(super) fn has_passed(&self, at_ms: u64) -> bool {
        self.observed.millis() >= at_ms
    }

    /// The newest time that other actors' stamps show, in Unix milliseconds.
    pub(super) fn observed_ms(&self) -> u64 {
        self.observed.millis()
    }

    /// Another actor stamps from now on. What others are known to hold of the one before does not count as observed: it
    /// may be a mere promise of a clock that was far ahead.
    pub(super) fn renewed(&mut self) {
        self.observed_mark = Hlc::ZERO;
        self.is_refused = false;
    }

    /// Adds to a batch the end of what was withdrawn, and the bound of what was observed where it is passed. Gives whether anything
    /// was withdrawn.
    pub(super) fn close(&mut self, batch: &mut Batch, actor: ActorId) -> bool {
        if self.observed > self.observed_mark {
            self.observed_mark = Hlc::from_millis(self.observed.millis() + OBSERVED_LEAD_MS);
            Mark::Observed.store(batch, actor, self.observed_mark);
        }
        let ends = std::mem::take(&mut self.ends);
        let has_withdrawn = !ends.is_empty();
        batch.changes.extend(ends.changes);
        has_withdrawn
    }
}

impl Shard {
    /// A peer declined. Where its clock and this node's agree, and the stamps are far ahead of both, they were wrong.
    pub(super) fn note_refusal(&mut self, session: SessionId, message: &Message, now: Now) {
        let Message::Nack {
            actor,
            taken,
            reason: NackReason::ClockAhead { excess_ms },
        } = message
        else {
            return;
        };
        let Some(last) = self.shipper.declined_last(session, *actor, *taken) else {
            return;
        };
        let allowed_ms = excess_ms.saturating_add(self.config.max_skew_ms);
        let its_wall_ms = last.millis().saturating_sub(allowed_ms);
        let agrees = its_wall_ms.abs_diff(now.wall_ms) <= self.config.max_skew_ms + LATENCY_MS;
        self.replay.is_refused |= agrees;
    }

    /// Promises the others that no stamp of this shard will be below what its clock has come to, where that is far ahead: who has a right
    /// clock refuses such a promise like a row. A shard that nobody writes to has nothing else that could be refused, and it would learn
    /// of its clock from a client, when the stamps are no longer far enough ahead to be taken back, and he would have to wait.
    pub(super) fn sound(&mut self, now: Now, out: &mut Vec<Output>) {
        let upto = self.clock.last().min(self.ceiling);
        if upto <= self.horizon(now) {
            return;
        }
        debug_assert!(
            upto <= self.ceiling,
            "what is promised survives the process"
        );
        let mut send = |session, message| out.push(Output::Send { session, message });
        self.shipper.sound(self.actor, upto, now.mono, &mut send);
    }

    /// Asks for a new actor where that puts refused stamps right.
    pub(super) fn ask_to_replay(&mut self, storage: &dyn Storage, now: Now, out: &mut Vec<Output>) {
        // Taken up each time: of an older word nobody knows whether the clocks still agree.
        let may_ask = std::mem::take(&mut self.replay.is_refused)
            && now.mono >= self.replay.ask_at
            && self.read_only.is_none()
            && self.clock_skew.is_none();
        if !may_ask {
            return;
        }
        self.replay.ask_at = now.mono + ASK_INTERVAL;
        match self.seam(storage, now) {
            Ok(Some(_)) => out.push(Output::Renew),
            Ok(None) => {}
            Err(error) => out.push(Output::Report(Event::Damaged(error))),
        }
    }

    /// Gives what nobody took stamps of the new actor, and lets the clock come down. Changes nothing where that cannot be done.
    pub(super) fn replay(&mut self, storage: &dyn Storage, now: Now, out: &mut Vec<Output>) {
        if self.read_only.is_some() {
            return; // refused again once it can write
        }
        let plan = match self.plan(storage, now) {
            Ok(Some(plan)) => plan,
            Ok(None) => return,
            Err(error) => {
                out.push(Output::Report(Event::Damaged(error)));
                return;
            }
        };
        let ahead_ms = self.clock.last().millis().saturating_sub(now.wall_ms);
        let rows = plan.rows.len() as u64;
        if let Err(error) = self.rewrite(storage, plan, out) {
            out.push(Output::Report(Event::Damaged(error)));
            return;
        }
        out.push(Output::Report(Event::Replayed { rows, ahead_ms }));
    }

    /// No node whose clock is right takes a stamp beyond this, nor will it while a message lives.
    fn horizon(&self, now: Now) -> Hlc {
        Hlc::from_millis(now.wall_ms + 2 * self.config.max_skew_ms + MESSAGE_LIFE_MS)
    }

    /// `None` where nothing is far ahead, or new stamps would be as far.
    fn seam(&self, storage: &dyn Storage, now: Now) -> Result<Option<Seam>, StorageError> {
        let horizon = self.horizon(now);
        if self.clock.last() <= horizon {
            return Ok(None);
        }
        let mut kept = BTreeMap::new();
        for actor in self.shipper.actors() {
            kept.insert(actor, self.shipper.kept(storage, actor, horizon)?);
        }
        let newest = kept.values().copied().max().unwrap_or(Hlc::ZERO);
        let base = Hlc::from_millis(now.wall_ms)
            .max(self.replay.observed)
            .max(newest);
        Ok((base <= horizon).then_some(Seam { kept, base }))
    }

    fn plan(&self, storage: &dyn Storage, now: Now) -> Result<Option<Plan>, StorageError> {
        let Some(mut seam) = self.seam(storage, now)? else {
            return Ok(None);
        };
        seam.kept.remove(&self.actor);
        seam.kept.remove(&relay_of(self.actor));
        let mut rows = Vec::new();
        for (&actor, &kept) in &seam.kept {
            read_after(storage, actor, kept, &mut rows)?;
        }
        rows.sort_by_key(|row| (row.last, row.actor));
        Ok(Some(Plan { seam, rows }))
    }

    /// Reads all that is to be read first: an error leaves everything as it was.
    fn rewrite(
        &mut self,
        storage: &dyn Storage,
        plan: Plan,
        out: &mut Vec<Output>,
    ) -> Result<(), StorageError> {
        // Of an actor that has nothing to withdraw all stays: a counter that was born anew keeps its actor, and may be taken.
        let mut closed = plan.seam.kept.clone();
        closed.retain(|actor, _| plan.rows.iter().any(|row| row.actor == *actor));
        let (mut withdrawn, mut touched) = (Withdrawn::after(closed), Touched::default());
        for row in &plan.rows {
            withdrawn.note(row.last);
            for delta in &row.deltas {
                withdrawn.note_delta(delta);
                touched.note(delta);
            }
        }
        self.pending.load(storage, &touched)?;
        let restamp = withdrawn.restamp(self.actor, plan.seam.base);
        self.pending.restamp(&touched, &restamp);
        debug_assert!(
            restamp.newest() >= plan.seam.base,
            "new stamps begin behind all that stays"
        );
        self.clock = Clock::new(restamp.newest());
        // The inbox waits for places that are given up: what it took stands at new ones, none of them after the last of these. Not after what
        // else was stamped anew: the relay log may never come that far. Where it has no row left, its end will do. A place does not say in
        // which of the shard's relay logs it is, but they follow each other: what is kept of the last is not before anything of the others.
        let relays = plan.seam.kept.iter().filter(|(actor, _)| is_relay(**actor));
        let kept = relays.map(|(_, kept)| *kept).max();
        let relayed = plan.rows.iter().filter(|row| is_relay(row.actor));
        let last = relayed.map(|row| restamp.time(row.last)).max();
        for (actor, kept) in plan.seam.kept {
            self.end(actor, kept, &plan.rows);
        }
        if let Some(kept) = kept {
            let place = last.unwrap_or(kept);
            out.push(Output::Relocated { kept, place });
        }
        self.requeue(plan.rows, &restamp);
        Ok(())
    }

    /// Ends a former actor's stream at what it keeps, and its ceiling with it: what is opened later must not stamp above that again.
    fn end(&mut self, actor: ActorId, kept: Hlc, rows: &[Row]) {
        let own = || rows.iter().filter(|row| row.actor == actor);
        debug_assert!(
            own().all(|row| row.last > kept),
            "nothing that is kept is withdrawn"
        );
        let ends = &mut self.replay.ends;
        Mark::Ceiling.store(ends, actor, kept);
        let Some(last) = own().map(|row| row.last).max() else {
            return;
        };
        ends.delete_range(
            Family::Outbox,
            outbox::stored_key(actor, kept.next()),
            outbox::stored_key(actor, last.next()),
        );
        let bytes = own().map(|row| row.bytes).sum();
        self.shipper
            .withdraw(actor, kept, own().count() as u64, bytes);
    }

    fn requeue(&mut self, rows: Vec<Row>, restamp: &Restamp) {
        for row in rows {
            let place = restamp.time(row.last);
            if is_relay(row.actor) {
                // Of other regions, with stamps of theirs; only its places in this shard's log were wrong.
                for delta in row.deltas {
                    self.pending.relay(delta, place);
                }
                continue;
            }
            let deltas = row
                .deltas
                .iter()
                .map(|delta| restamp.delta(delta))
                .collect();
            self.pending.requeue(deltas, place);
        }
    }
}

fn read_after(
    storage: &dyn Storage,
    actor: ActorId,
    kept: Hlc,
    rows: &mut Vec<Row>,
) -> Result<(), StorageError> {
    let (from, to) = outbox::after(actor, kept);
    let mut failed = None;
    storage.scan(
        Family::Outbox,
        &from,
        to.as_deref(),
        &mut |stored, value| match (outbox::last_stamp(stored), outbox::read(stored, value)) {
            (Some(last), Ok(deltas)) => {
                rows.push(Row {
                    actor,
                    last,
                    bytes: value.len() as u64,
                    deltas,
                });
                ControlFlow::Continue(())
            }
            (None, Ok(_)) => ControlFlow::Continue(()),
            (_, Err(error)) => {
                failed = Some(error);
                ControlFlow::Break(())
            }
        },
    )?;
    failed.map_or(Ok(()), Err)
}

/// How long a message may be on its way, a receiver that stood still included, and still be taken. Below it a stamp that is ahead
/// is waited for; far below it, and a message could arrive after what it carries was stamped anew, and count twice.
const MESSAGE_LIFE_MS: u64 = 20_000;
/// How old the word of a refusal may be beside the difference of the clocks.
const LATENCY_MS: u64 = 4_000;
/// How far ahead the mark of what was observed is set, so that it is stored seldom.
const OBSERVED_LEAD_MS: u64 = 800;
/// How often a new actor is asked for, at most: what could not be stored once is tried again.
const ASK_INTERVAL: Duration = Duration::from_secs(10);

const _: () = assert!(LATENCY_MS < MESSAGE_LIFE_MS);
