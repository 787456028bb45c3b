//! Writes of this shard that others may still know better than, and what is asked about their keys meanwhile.
//!
//! ```text
//!   SET k a ── committed, no answer yet          us-2 has an older value of k, stamped by a clock that is ahead
//!   GET k   ── us-2 is asked, its value is joined, and stands over "a" until the answer to SET has "a" written again
//! ```
//! The same connection may have made both, and is to see what it wrote. So whatever depends on what is there waits while the key does not
//! show what was written: until the writes were answered, corrected or given up.
//!
//! ```text
//!   INCR k  ── committed, no answer yet          us-2 has a set under k: the answer will take the increment back
//!   APPEND k x ── us-2 is asked, its set is joined, and hidden by the number until then: "1x" would remove the set
//! ```
//! So it is beside what created a key and may be taken back.
//!
//! ```text
//!   SET k a  ── committed, no answer yet         us-2 has it, and us-3 an older element under k
//!   DEL k    ── asked about, carried out
//!   SADD k m ── us-2 adds m over that, and us-3 hears of it; then us-3 answers the SET: what it knows of the set has to go
//! ```
//! Nobody can tell which of what us-3 knows came before the DEL. So what ends a key waits for the SETs before it.
//!
//! ```text
//!   INCR k  ── committed, no answer yet          us-2 knows that k had ended before that, and us-1 hears of it
//!   INCR k  ── would end all that is here, and the first INCR with it
//! ```
//! The answer to the first has that end taken away. So whatever comes to a key that has ended waits for what was added to it.

use bytes::Bytes;

use super::{Shard, foresight::would_end};
use crate::{
    core::{
        Now,
        coordinate::Effect,
        mutant::{Mutant, is_on},
        op::{Action, Key, Op, SetExpiry},
        quorum_read::Waiting,
    },
    placement::Position,
    storage::{
        Storage, StorageError,
        record::head::{Head, Shown},
    },
};

impl Shard {
    /// Whether this shard has written to a key what it may have to write again.
    pub(super) fn is_disturbed(&self, key: &Key) -> bool {
        self.pending_writes.is_disturbed(key)
    }

    /// Whether a key shows something else than this shard wrote there and may write again. Says so too where it only may, because of what
    /// this shard wrote since.
    pub(super) fn is_overlaid(
        &mut self,
        storage: &dyn Storage,
        key: &Key,
        now: Now,
    ) -> Result<bool, StorageError> {
        if self.has_ended_over_addition(storage, key, now)? {
            return Ok(true);
        }
        if !self.is_disturbed(key) || is_on(Mutant::UnsureShown) {
            return Ok(false);
        }
        let position = Position::of(key);
        let head = self.pending.head(storage, &position, key)?.clone();
        let waiting = self
            .pending_writes
            .iter()
            .map(|(turn, waits)| (turn.place, waits));
        let open = self.waiting.awaiting.iter();
        let open = open.map(|(place, waits)| (*place, waits));
        for (_, awaiting) in waiting.chain(open) {
            if awaiting.key != *key || awaiting.lesson.is_none() {
                continue;
            }
            let mut effects = awaiting.effects.iter();
            if !effects.all(|effect| self.shows(&head, key, effect)) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether a key has ended to which this shard added: that may have been after the end, of which it had not heard.
    pub(super) fn has_ended_over_addition(
        &mut self,
        storage: &dyn Storage,
        key: &Key,
        now: Now,
    ) -> Result<bool, StorageError> {
        if !self.pending_writes.has_open_addition(key) {
            return Ok(false);
        }
        let head = self.pending.head(storage, &Position::of(key), key)?;
        Ok(head.is_expired(now.wall_ms))
    }

    /// Whether a head is as a write left it, or the later one that replaced it; beside an addition, whether it is of no other type.
    fn shows(&self, head: &Head, key: &Key, effect: &Effect) -> bool {
        let (value, ends_at_ms) = self.pending_writes.left(key);
        match effect {
            Effect::Register { expiry, .. } => {
                let is_kept = *expiry == SetExpiry::Keep || head.expiry.at_ms == ends_at_ms;
                shows_register(head, value) && is_kept
            }
            Effect::Remove => true,
            Effect::Expiry { .. } => head.expiry.at_ms == ends_at_ms,
            Effect::Increment(increment) => !increment.is_creating || head.set.live == 0,
            Effect::Add(addition) => !addition.is_creating || head.string.is_empty(),
        }
    }

    /// Whether a key has just been begun by another node over a value of the other type. The two were begun beside each other, and the
    /// later one may be refused: what is done to it until then would keep it there, hiding the other for good. Or whether another node has just
    /// added to it after its end.
    pub(super) fn is_contested(&mut self, storage: &dyn Storage, key: &Key, now: Now) -> bool {
        let actor = self.actor;
        let within_ms = self.config.timeout.as_millis() as u64 / 2;
        // What cannot be read is said by whoever reads it next.
        let head = self.pending.head(storage, &Position::of(key), key);
        let is_noted = self.after_end.has(key, now.mono);
        head.is_ok_and(|head| {
            if is_noted && head.is_expired(now.wall_ms) {
                return true;
            }
            let begun = head.string.created.max(head.set.created);
            head.set.live > 0
                && !head.string.is_empty()
                && begun.actor != actor
                && begun.hlc.millis().saturating_add(within_ms) > now.wall_ms
        })
    }

    /// Whether a write would end a key of which a SET of this shard may still be done again.
    pub(super) fn ends_unsure_value(&mut self, storage: &dyn Storage, op: &Op, now: Now) -> bool {
        let Action::Write(write) = &op.action else {
            return false;
        };
        if !self.pending_writes.has_open_value(&op.key) {
            return false;
        }
        // What cannot be read is said when it is carried out.
        let head = self.pending.head(storage, &Position::of(&op.key), &op.key);
        head.is_ok_and(|head| would_end(head, write, now.wall_ms))
    }

    /// Waits where a key is overlaid, or is written to and contested, or is to end behind a SET, before all that came later. Gives what need not
    /// wait.
    pub(super) fn hold_if_overlaid(
        &mut self,
        storage: &dyn Storage,
        waiting: Vec<Waiting>,
        now: Now,
    ) -> Option<Vec<Waiting>> {
        let key = waiting.first()?.op.key.clone();
        let mut requests = waiting.iter();
        let level_check = self.level_check(now);
        // Where nobody is asked, nobody refuses.
        let writes = requests.any(|Waiting { op, .. }| {
            matches!(op.action, Action::Write(_)) && level_check.asks_others(op.level)
        });
        // What cannot be read is said by whoever reads it next.
        let is_held = self.is_overlaid(storage, &key, now).unwrap_or(false)
            || (writes && self.is_contested(storage, &key, now))
            || waiting
                .iter()
                .any(|waiting| self.ends_unsure_value(storage, &waiting.op, now));
        if !is_held {
            return Some(waiting);
        }
        self.quorum_reads.hold(&key, waiting);
        None
    }

    /// Frees what waited until this shard's own writes were sure.
    pub(super) fn free_where_sure(&mut self, storage: &dyn Storage, now: Now) {
        let held = self.quorum_reads.held();
        let sure: Vec<Key> = held
            .filter(|key| !self.is_disturbed(key) && !self.pending_writes.has_open_value(key))
            .cloned()
            .collect();
        for key in sure {
            let has_ended = self.has_ended_over_addition(storage, &key, now);
            if has_ended.unwrap_or(false) || self.is_contested(storage, &key, now) {
                continue;
            }
            self.quorum_reads.release(&key);
            self.freed.push(key);
        }
    }
}

/// Whether a head shows a value, and no increments on it; or nothing.
fn shows_register(head: &Head, value: Option<&Bytes>) -> bool {
    let Some(value) = value else {
        return head.slot() == Shown::Absent;
    };
    let string = &head.string;
    let register = string.register.as_ref();
    let is_written = register.is_some_and(|register| register.value.as_ref() == Some(value));
    let mut counts = string.counts.iter();
    head.slot() == Shown::String
        && is_written
        && counts.all(|(actor, count)| count.above(string.floors.get(actor)) == (0, 0))
}
