//! Writes that a later write of this shard replaced, and that are taught something newer than both.
//!
//! ```text
//!   SET k a ── place 1 ──▶ taught: a register at 5       it is not done again: "b" would be undone
//!   SET k b ── place 2 ──▶ taught the same ─▶ corrected: "b" above 5, at place 6
//! ```
//! Until that correction is where it is to be, a reader elsewhere sees the register at 5, which was acknowledged before either SET began. So
//! the first one is answered with the correction of the second, and not before. An increment between them was added to "a", and waits with it: the
//! register at 5 may be text.

use bytes::Bytes;
use crdt::{Hlc, Stamp};

use super::Shard;
use crate::{
    core::pending_writes::{Outcome, PendingWrite, Turn, Written},
    placement::Position,
    storage::{Storage, StorageError},
};

/// How a write stands that was replaced, beside what it was taught.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Overtaken {
    /// It was not replaced, or was taught nothing newer, or something newer came from elsewhere: it has its turn.
    No,
    /// What replaced it stands above what it was taught, from this place on.
    Above(Hlc),
    /// What replaced it does not, and waits for nobody: that is to be written again, also where what was taught has come here itself since.
    /// Whoever saw it saw no more than this one replica promises.
    PassedBy,
    /// What replaced it does not, and nobody knows what comes of it.
    Failed,
    /// What replaced it does not yet.
    Waits,
}

/// How a write stands whose register, expiry or both were replaced.
#[derive(Debug, Clone)]
pub(super) struct Standing {
    register: Overtaken,
    expiry: Overtaken,
    /// What replaced the register.
    value: Option<Bytes>,
    /// When the key is to end by what replaced the expiry, in Unix milliseconds.
    ends_at_ms: Option<u64>,
}

impl Standing {
    /// It was not replaced.
    const FREE: Self = Self {
        register: Overtaken::No,
        expiry: Overtaken::No,
        value: None,
        ends_at_ms: None,
    };

    /// It was added to what a SET of this shard wrote, which is to be done again above what both were taught: it would be refused for that.
    const BEHIND: Self = Self {
        register: Overtaken::Waits,
        ..Self::FREE
    };

    /// The worse of both.
    pub(super) fn overtaken(&self) -> Overtaken {
        self.register.max(self.expiry)
    }

    /// The value that is to be written again, if one is; `Some(None)`: its absence.
    pub(super) fn register_again(&self) -> Option<Option<&Bytes>> {
        (self.register == Overtaken::PassedBy).then_some(self.value.as_ref())
    }

    /// The expiry that is to be written again, likewise.
    pub(super) fn expiry_again(&self) -> Option<Option<u64>> {
        (self.expiry == Overtaken::PassedBy).then_some(self.ends_at_ms)
    }
}

impl Shard {
    /// How a waiting write stands.
    pub(super) fn standing(
        &mut self,
        storage: &dyn Storage,
        turn: Turn,
    ) -> Result<Standing, StorageError> {
        let Some(awaiting) = self.pending_writes.get(turn) else {
            return Ok(Standing::FREE);
        };
        let Some(lesson) = awaiting.lesson.as_ref().filter(|lesson| !lesson.is_empty()) else {
            return Ok(Standing::FREE);
        };
        if lesson.may_refuse_increment(&awaiting.effects)
            && self.pending_writes.is_behind_taught(awaiting)
        {
            return Ok(Standing::BEHIND);
        }
        let replaced = self.pending_writes.replaced_by(awaiting);
        let over = lesson.register_over(&awaiting.effects);
        let register = replaced.register.zip(over);
        let over = lesson.expiry_over(&awaiting.effects);
        let expiry = replaced.expiry.zip(over);
        if register.is_none() && expiry.is_none() {
            return Ok(Standing::FREE);
        }
        let key = awaiting.key.clone();
        let head = self.pending.head(storage, &Position::of(&key), &key)?;
        let written = head.string.register.as_ref().map(|register| register.stamp);
        let (written, ends) = (written.unwrap_or(Stamp::ZERO), head.expiry.stamp);
        let mut standing = Standing::FREE;
        if let Some(((later, value), taught)) = register {
            standing.register = self.beside(later, taught, written);
            standing.value = value;
        }
        if let Some(((later, ends_at_ms), taught)) = expiry {
            standing.expiry = self.beside(later, taught, ends);
            standing.ends_at_ms = ends_at_ms;
        }
        Ok(standing)
    }

    /// How what stands here now is beside what was taught; `later` is the write that put it here.
    fn beside(&self, later: Written, taught: Hlc, here: Stamp) -> Overtaken {
        if here.hlc > taught {
            return match here.actor == self.actor {
                true => Overtaken::Above(here.hlc),
                false => Overtaken::No,
            };
        }
        match later.outcome {
            Outcome::PassedBy => Overtaken::PassedBy,
            Outcome::Failed => Overtaken::Failed,
            Outcome::Waits if self.is_waiting(later.number) => Overtaken::Waits,
            // It was answered, and not over this: what was taught came beside it, or shows nothing.
            Outcome::Waits => Overtaken::No,
        }
    }

    fn is_waiting(&self, number: u64) -> bool {
        let open = self.waiting.awaiting.iter().map(|(_, awaiting)| awaiting);
        let mut all = self
            .pending_writes
            .iter()
            .map(|(_, awaiting)| awaiting)
            .chain(open);
        all.any(|awaiting: &PendingWrite| awaiting.number == number)
    }
}
