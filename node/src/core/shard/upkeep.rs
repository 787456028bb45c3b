//! What a shard does without being asked: promises to idle streams, the end of expired keys, what it remembers about
//! itself, and its last batch.

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
    placement::Position,
    storage::{
        Batch, Storage, StorageError,
        record::meta::{Mark, store_tallies},
    },
};

impl Shard {
    pub(super) fn tick(&mut self, storage: &dyn Storage, now: Now, out: &mut Vec<Output>) {
        if self.read_only.is_none()
            && let Err(error) = self
                .expire_due(storage, now)
                .and_then(|()| self.sweep(storage, now, out))
        {
            out.push(Output::Report(Event::Damaged(error)));
        }
        if self.working.is_clean() || is_on(Mutant::PromiseOverOpenBatch) {
            let upto = Hlc::from_millis(now.wall_ms).min(self.ceiling);
            self.clock.observe(upto);
            let mut send = |session, message| out.push(Output::Send { session, message });
            self.shipper.promise(self.actor, upto, &mut send);
        }
        self.wait_on(storage, now, out);
        self.ask_to_replay(storage, now, out);
        self.pump(storage, now, out);
    }

    /// Ends keys whose expiry has passed. Whoever set the expiry does it at once; everyone else only if that did not happen
    /// for a while, so that three regions do not tell each other the same, and only once somebody else's stamp has passed it too: a
    /// clock far ahead must not end what others keep. (Who reads sees the key gone all the same.)
    fn expire_due(&mut self, storage: &dyn Storage, now: Now) -> Result<(), StorageError> {
        for _ in 0..EXPIRED_PER_TICK {
            let Some(key) = self.expiring.pop_due(now.wall_ms) else {
                break;
            };
            self.expire_one(storage, &key, now)?;
        }
        Ok(())
    }

    fn expire_one(
        &mut self,
        storage: &dyn Storage,
        key: &Key,
        now: Now,
    ) -> Result<(), StorageError> {
        let target = Target {
            key,
            position: Position::of(key),
        };
        let actor = self.actor;
        let head = self.working.head(storage, &target.position, key)?;
        let is_foreign = !self
            .shipper
            .actors()
            .any(|own| own == head.expiry.stamp.actor);
        let Some(at_ms) = head.expiry.at_ms.filter(|at_ms| *at_ms <= now.wall_ms) else {
            return Ok(());
        };
        let due_ms = if head.expiry.stamp.actor == actor {
            at_ms
        } else {
            at_ms.saturating_add(EXPIRE_OTHERS_AFTER_MS)
        };
        if due_ms > now.wall_ms {
            self.expiring.insert(due_ms, key.clone());
            return Ok(());
        }
        if is_foreign && !self.replay.has_passed(at_ms) {
            let again_ms = now.wall_ms.saturating_add(EXPIRE_OTHERS_AFTER_MS);
            self.expiring.insert(again_ms, key.clone());
            return Ok(());
        }
        self.coordinator(storage, now, false)
            .finish_expired(&target)
            .map(|_| ())
    }

    /// Walks over a few keys, for expiries that are not remembered: after a start, and when there were too many to remember.
    /// Rows that cannot be read are told of, once per walk.
    fn sweep(
        &mut self,
        storage: &dyn Storage,
        now: Now,
        out: &mut Vec<Output>,
    ) -> Result<(), StorageError> {
        if self.expiring.overflowed() && self.sweep.is_none() {
            self.sweep = Some(Position::from_cursor(0));
        }
        let Some(from) = self.sweep else {
            return Ok(());
        };
        let page = recover::volatile_keys(storage, from, self.config.index, self.config.shards)?;
        for (at_ms, key) in page.found {
            self.expiring.insert(at_ms.max(now.wall_ms), key);
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
        let maintained = self
            .shipper
            .maintain(storage, awaited, now.wall_ms, batch, &mut events);
        report(events, maintained, out);
    }

    /// The last batch: where every stream is, and the tallies, so that the next start need not count.
    pub(super) fn stop(&mut self, storage: &dyn Storage, now: Now, out: &mut Vec<Output>) {
        debug_assert!(
            self.working.is_clean(),
            "the open batch is closed before a shard stops"
        );
        let mut batch = Batch::default();
        self.maintain(storage, now, &mut batch, out);
        store_tallies(&mut batch, self.config.index, &self.tallies.store());
        self.give_up_waiting("this node stopped", out);
        self.finish_close(batch, out);
    }
}

/// Keys ended per tick, at most.
const EXPIRED_PER_TICK: usize = 256;
/// How long after the expiry a node ends a key whose expiry another set.
const EXPIRE_OTHERS_AFTER_MS: u64 = 60_000;
/// How far ahead the ceiling is set: what a restarted actor may stamp ahead of its clock. Below the default `clock.max_skew`.
const CEILING_LEAD_MS: u64 = 800;
/// The ceiling is set anew when less than this is left.
const CEILING_LEAD_MIN_MS: u64 = 200;

const _: () = assert!(CEILING_LEAD_MIN_MS < CEILING_LEAD_MS);
