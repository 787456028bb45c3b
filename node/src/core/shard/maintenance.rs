//! What a shard does without being asked: promises to idle streams, the end of expired keys, what it remembers about
//! itself, and its last batch.

use std::time::Duration;

use crdt::Hlc;

use super::{Shard, report};
use crate::{
    core::{
        Event, Now, Output,
        coordinate::Target,
        mutant::{Mutant, is_on},
        op::Key,
        recover,
    },
    level::Level,
    placement::Position,
    storage::{
        Batch, Storage, StorageError,
        record::meta::{Mark, store_tallies},
    },
};

impl Shard {
    pub(super) fn tick(&mut self, storage: &dyn Storage, now: Now, out: &mut Vec<Output>) {
        self.work_off(storage, now, out);
        if self.pending.is_clean() || is_on(Mutant::PromiseOverOpenBatch) {
            let upto = Hlc::from_millis(now.wall_ms).min(self.ceiling);
            self.clock.observe(upto);
            debug_assert!(
                upto <= self.ceiling && upto <= self.clock.last(),
                "what is stamped later lies above what is promised"
            );
            let mut send = |session, message| out.push(Output::Send { session, message });
            self.shipper.promise(self.actor, upto, now.mono, &mut send);
        }
        self.sound(now, out);
        self.wait_on(storage, now, out);
        self.ask_to_replay(storage, now, out);
        self.pump(storage, now, out);
        // What nobody waits for any more the pump passes over, and so it may be the last word that was missing.
        self.settle(storage, now, out);
    }

    /// The time has come that [`Shard::wake_at`] gave.
    pub(super) fn wake(&mut self, storage: &dyn Storage, now: Now, out: &mut Vec<Output>) {
        self.hedge(storage, now, out);
        if self.upkeep_at.is_some_and(|at| at <= now.mono) {
            self.work_off(storage, now, out);
        }
    }

    /// One bounded turn of what nobody asks for. What is left has its next turn after those who asked meanwhile; after a failure,
    /// at the next tick.
    fn work_off(&mut self, storage: &dyn Storage, now: Now, out: &mut Vec<Output>) {
        self.upkeep_at = None;
        // Neither by a clock that the others contradict.
        if self.refuses_writes().is_some() {
            return;
        }
        let done = self
            .expire_due(storage, now, out)
            .and_then(|()| self.sweep(storage, out));
        match done {
            Ok(()) if self.expiring.has_due(now.wall_ms) => self.upkeep_at = Some(now.mono),
            Ok(()) => self.upkeep_at = self.sweep.map(|_| now.mono + SWEEP_PAUSE),
            Err(error) => out.push(Output::Report(Event::Damaged(error))),
        }
    }

    /// Ends keys whose expiry has passed. Whoever set the expiry does it at once; everyone else only if that did not happen
    /// for a while, so that three regions do not tell each other the same, and only once somebody else's stamp has passed it too: a
    /// clock far ahead must not end what others keep. (Who reads sees the key gone all the same.)
    fn expire_due(
        &mut self,
        storage: &dyn Storage,
        now: Now,
        out: &mut Vec<Output>,
    ) -> Result<(), StorageError> {
        let bytes_max = self.pending.bytes() + EXPIRED_BYTES_PER_TURN;
        for _ in 0..EXPIRED_PER_TURN {
            if self.pending.bytes() >= bytes_max {
                break;
            }
            let Some(key) = self.expiring.pop_due(now.wall_ms) else {
                break;
            };
            self.expire_one(storage, &key, now, out)?;
        }
        Ok(())
    }

    fn expire_one(
        &mut self,
        storage: &dyn Storage,
        key: &Key,
        now: Now,
        out: &mut Vec<Output>,
    ) -> Result<(), StorageError> {
        let target = Target {
            key,
            position: Position::of(key),
        };
        let actor = self.actor;
        let head = self.pending.head(storage, &target.position, key)?;
        let is_foreign = !self
            .shipper
            .actors()
            .any(|own| own == head.expiry.stamp.actor);
        let Some(at_ms) = head.expiry.at_ms.filter(|at_ms| *at_ms <= now.wall_ms) else {
            return Ok(());
        };
        let is_own = head.expiry.stamp.actor == actor;
        let asks_others = self.level_check(now).asks_others(Level::LocalQuorum);
        let due_ms = self.due_ms(at_ms, is_own, asks_others);
        if due_ms > now.wall_ms {
            self.expiring.insert(due_ms, key.clone());
            return Ok(());
        }
        if is_foreign && !self.replay.has_passed(at_ms) {
            let again_ms = now.wall_ms.saturating_add(EXPIRE_OTHERS_AFTER_MS);
            self.expiring.insert(again_ms, key.clone());
            return Ok(());
        }
        if asks_others {
            self.ask_whether_it_ends(storage, key, now, out);
            return Ok(());
        }
        self.coordinator(storage, now, false)
            .finish_expired(&target)
            .map(|_| ())
    }

    fn due_ms(&self, at_ms: u64, is_own: bool, asks_others: bool) -> u64 {
        match (is_own, asks_others) {
            (true, false) => at_ms,
            (true, true) => at_ms.saturating_add(self.doubt_of_ends_ms()),
            (false, _) => at_ms.saturating_add(EXPIRE_OTHERS_AFTER_MS),
        }
    }

    /// Walks over a page of keys, for expiries that are not remembered: after a start, and when there were too many to remember.
    /// Rows that cannot be read are told of, once per walk.
    fn sweep(&mut self, storage: &dyn Storage, out: &mut Vec<Output>) -> Result<(), StorageError> {
        if self.sweep.is_none() && self.expiring.wants_sweep() {
            self.expiring.begin_sweep();
            self.sweep = Some(Position::FIRST);
        }
        let Some(from) = self.sweep else {
            return Ok(());
        };
        let page = recover::volatile_keys(storage, from, self.config.index, self.config.shards)?;
        for (at_ms, key) in page.found {
            self.expiring.insert(at_ms, key);
        }
        let damaged = page.damaged.into_iter();
        out.extend(damaged.map(|error| Output::Report(Event::Damaged(error))));
        self.sweep = page.next;
        Ok(())
    }

    /// Keeps the ceiling above every stamp that is committed and above the promises of the next moments.
    pub(super) fn raise_ceiling(&mut self, batch: &mut Batch, now: Now) {
        let last = self.clock.last().max(Hlc::from_millis(now.wall_ms));
        let is_wanted =
            !batch.is_empty() || (self.shipper.has_destinations() && self.read_only.is_none());
        if is_wanted && last.millis() + CEILING_LEAD_MIN_MS > self.ceiling.millis() {
            let ceiling = Hlc::from_millis(last.millis() + CEILING_LEAD_MS);
            Mark::Ceiling.store(batch, self.actor, ceiling);
            self.waiting.ceiling = Some(ceiling);
        }
    }

    pub(super) fn maintain(
        &mut self,
        storage: &dyn Storage,
        now: Now,
        batch: &mut Batch,
        out: &mut Vec<Output>,
    ) {
        let mut events = Vec::new();
        let awaited = self.awaited();
        let reached_ms = self.passage.reached(now, self.replay.observed_ms());
        let maintained = self
            .shipper
            .maintain(storage, awaited, reached_ms, batch, &mut events);
        if let Ok(true) = maintained {
            (self.maintain_at, self.upkeep_at) = (now.mono, Some(now.mono));
        }
        report(events, maintained.map(|_| ()), out);
        self.fail_dropped(now, out);
    }

    /// The last batch: where every stream is, and the tallies, so that the next start need not count.
    pub(super) fn stop(&mut self, storage: &dyn Storage, now: Now, out: &mut Vec<Output>) {
        debug_assert!(
            self.pending.is_clean(),
            "the open batch is closed before a shard stops"
        );
        let mut batch = Batch::default();
        self.maintain(storage, now, &mut batch, out);
        store_tallies(&mut batch, self.config.index, &self.tallies.store());
        self.give_up_waiting("this node stopped", out);
        self.finish_close(batch, out);
    }
}

/// Keys looked at per turn because they are due, at most: some milliseconds, which is what a request may wait for. More cost fewer
/// commits.
const EXPIRED_PER_TURN: usize = 512;
/// What they add to the batch, about: after so many bytes the turn ends, however few keys these were.
const EXPIRED_BYTES_PER_TURN: usize = 1 << 20;
/// Between two pages of a walk that finds nothing that is due: it takes a small part of a core, and 100,000 keys take a second.
/// While what it finds is due it goes on at once.
const SWEEP_PAUSE: Duration = Duration::from_millis(5);
/// How long after the expiry a node ends a key whose expiry another set.
const EXPIRE_OTHERS_AFTER_MS: u64 = 60_000;
/// How far ahead the ceiling is set: what a restarted actor may stamp ahead of its clock. Below the default `clock.max_skew`.
const CEILING_LEAD_MS: u64 = 800;
/// The ceiling is set anew when less than this is left.
const CEILING_LEAD_MIN_MS: u64 = 200;

const _: () = assert!(CEILING_LEAD_MIN_MS < CEILING_LEAD_MS);
