//! A client's write becomes a delta: what it saw, what it does about it, and the same join that every other delta takes.
//!
//! ```text
//!   write ── adds to a key that has ended? ──▶ a delta that deletes what was seen
//!         ── type, condition, range? ──▶ refusal, nothing changed
//!         ── delta = f(head, rows, new stamp) ──▶ Working::coordinate = join here + queue for the other regions
//! ```
//! A write that changes nothing here makes no delta.
//!
//! A key that has ended is as if it were not there. What adds to it deletes what is left of it first, and DEL and SREM delete it for good:
//! by another clock it has not ended yet. What neither adds nor removes leaves it alone, because it is not for PERSIST to end a key.

use std::collections::BTreeMap;

use bytes::Bytes;
use crdt::{Clock, Count, Delta, Hlc, Part, Stamp};

use super::{
    batch::{PendingBatch, Question},
    message::About,
    mutant::{Mutant, is_on},
    op::{Key, SetExpiry, Write},
    reply::{Refusal, Reply},
};
use crate::{
    placement::Position,
    storage::{
        Storage, StorageError,
        record::head::{Head, Shown},
    },
};

/// Carries out one write after the other in a shard's batch.
pub struct Coordinator<'a> {
    pub(super) storage: &'a dyn Storage,
    pub(super) pending: &'a mut PendingBatch,
    pub(super) clock: &'a mut Clock,
    pub(super) actor: crdt::ActorId,
    pub(super) wall_ms: u64,
    pub(super) value_bytes_max: usize,
    /// Whether other regions or replicas want to hear of it.
    pub(super) is_shipping: bool,
    /// Whether other replicas are waited for: they may know what this one does not.
    pub(super) is_asking: bool,
    /// Whether the key was begun by an addition that may still be refused: what is added to that may be too.
    pub(super) is_beginning: bool,
    /// Whether this shard waits with writes on the key, a SET or DEL among them.
    pub(super) is_behind_statement: bool,
    /// What the write came to, for its correction.
    pub(super) effects: Vec<Effect>,
    /// What of the key it took the place of.
    pub(super) overwrites: Overwrites,
    /// Whether it made a delta: a row that others are sent, and can answer for.
    pub(super) is_queued: bool,
}

/// What a write had seen of the counters.
pub type Floors = BTreeMap<crdt::ActorId, crdt::Count>;

/// What of a key a write takes the place of, and what by: an earlier write of the same is not to be done again over it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Overwrites {
    /// The string's value; `Some(None)`: by nothing.
    pub register: Option<Option<Bytes>>,
    /// When the key ends, in Unix milliseconds; `Some(None)`: never.
    pub expiry: Option<Option<u64>>,
}

/// What of a write no later write of this shard has replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Current {
    /// The register.
    pub register: bool,
    /// When the key ends.
    pub expiry: bool,
    /// Later increments up to this total were refused, and could not be taken back before this write is.
    pub refused: Count,
}

/// What a write did, in terms that can be done again over what it did not know. Persisted nowhere.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// The register was written over these counts, and the expiry with it.
    Register {
        value: Bytes,
        expiry: SetExpiry,
        floors: Floors,
        told: Told,
    },
    /// Elements were removed, or all that was there, of which others had been asked before: they have nothing to teach.
    Remove,
    /// Elements were added.
    Add(Addition),
    /// The expiry was set or cleared of what was begun then.
    Expiry { at_ms: Option<u64>, of: Stamp },
    /// A number was added.
    Increment(Increment),
}

/// What an addition of elements did.
#[derive(Debug, Clone, PartialEq)]
pub struct Addition {
    /// The elements that were not there, with their dots.
    pub added: Vec<(Bytes, Stamp)>,
    /// Those that were, with the dots that they got besides.
    pub again: Vec<(Bytes, Stamp)>,
    /// Whether nothing was under the key.
    pub is_creating: bool,
    /// Whether nothing was there before what this shard is waiting with, either.
    pub is_beginning: bool,
}

/// What an increment did.
#[derive(Debug, Clone, PartialEq)]
pub struct Increment {
    /// What this actor had counted before.
    pub before: Count,
    /// What it had counted then.
    pub total: Count,
    /// As with an addition.
    pub is_creating: bool,
    /// As with an addition.
    pub is_beginning: bool,
    /// What it was added to.
    pub on: CountsOn,
}

/// What the client is told of the value that its SET takes the place of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    /// Nothing: whatever was there is over.
    Nothing,
    /// All of it (SET with GET): only what it is told is over. Who harvests a counter so loses nothing of what was counted
    /// meanwhile: that stays for the next time.
    Value,
}

/// What an increment was added to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CountsOn {
    /// The stamp of the register.
    pub register: Stamp,
    /// Whether it was behind a SET or DEL of this shard: a SET may have been corrected since.
    pub is_behind_statement: bool,
}

impl Effect {
    /// Whether it is taught by what is about writes of this kind.
    pub fn is_of(&self, about: About) -> bool {
        match self {
            Self::Register { .. } | Self::Expiry { .. } => about == About::Statement,
            // Some of what there was, or all.
            Self::Remove => matches!(about, About::Removal | About::Statement),
            Self::Add(_) => about == About::Elements,
            Self::Increment(_) => about == About::Increment,
        }
    }

    /// Whether the reply says what it took the place of.
    pub fn is_told(&self) -> bool {
        matches!(
            self,
            Self::Register {
                told: Told::Value,
                ..
            }
        )
    }

    /// Whether it added something where nothing was.
    pub fn is_creating(&self) -> bool {
        match self {
            Self::Add(Addition { is_creating, .. })
            | Self::Increment(Increment { is_creating, .. }) => *is_creating,
            Self::Register { .. } | Self::Remove | Self::Expiry { .. } => false,
        }
    }

    /// Whether it wrote a value.
    pub fn is_value(&self) -> bool {
        matches!(self, Self::Register { .. })
    }

    /// Whether it added to what was there.
    pub fn is_addition(&self) -> bool {
        matches!(self, Self::Add(_) | Self::Increment(_))
    }

    /// Whether it may be done again over what others knew, or be taken back for that: what is shown meanwhile may be neither what was
    /// there before nor what will be.
    pub fn is_unsure(&self) -> bool {
        match self {
            Self::Register { .. } | Self::Expiry { .. } => true,
            Self::Remove => false,
            Self::Add(Addition { is_creating, .. })
            | Self::Increment(Increment { is_creating, .. }) => *is_creating,
        }
    }
}

/// Why a write stopped.
#[derive(Debug, PartialEq)]
pub enum Stop {
    /// The client is told why; nothing changed.
    Refused(Refusal),
    /// Storage could not be read.
    Storage(StorageError),
}

impl From<StorageError> for Stop {
    fn from(error: StorageError) -> Self {
        Self::Storage(error)
    }
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// The key that a write is about.
pub(super) struct Target<'a> {
    pub(super) key: &'a Key,
    pub(super) position: Position,
}

impl Coordinator<'_> {
    /// Carries out a write on a key.
    pub fn write(&mut self, key: &Key, write: &Write) -> Result<Reply, Stop> {
        let target = Target {
            key,
            position: Position::of(key),
        };
        match write {
            Write::Set {
                value,
                expiry,
                condition,
                return_old,
            } => self.set(&target, value, *expiry, *condition, *return_old),
            Write::GetDel => self.get_delete(&target),
            Write::GetEx { expiry } => self.get_expire(&target, *expiry),
            Write::Append { value } => self.append(&target, value),
            Write::SetRange { offset, value } => self.set_range(&target, *offset, value),
            Write::IncrBy { by } => self.increment(&target, *by),
            Write::Delete => self.delete(&target),
            Write::Expire { at_ms, condition } => self.expire(&target, *at_ms, *condition),
            Write::Persist => self.persist(&target),
            Write::Add { members } => self.add(&target, members),
            Write::Remove { members } => self.remove(&target, members),
            Write::Pop { count, entropy } => self.pop(&target, *count, *entropy),
        }
    }

    /// Deletes what an expiry that has passed was about: what is seen here and nothing else. The register becomes a
    /// tombstone of its own stamp, so that a SET that ran beside it elsewhere wins over it, whatever the clocks say.
    pub(super) fn finish_expired(&mut self, target: &Target<'_>) -> Result<bool, StorageError> {
        let wall_ms = self.wall_ms;
        if !self.head(target)?.is_expired(wall_ms) {
            return Ok(false);
        }
        let head = self.head(target)?;
        let mut parts = clear_set(head);
        if !head.string.is_empty() {
            parts.push(Part::String(head.string.expired()));
        }
        parts.push(Part::Expiry(head.expiry.ended()));
        self.overwrites.expiry = Some(None);
        self.place();
        self.coordinate(target, parts, Question::Nothing)?;
        Ok(true)
    }

    /// Every slot, and the expiry. Of a key that is not here others have said that it is gone, where they are asked.
    pub(super) fn delete(&mut self, target: &Target<'_>) -> Result<Reply, Stop> {
        let was_shown = self.slot(target)? != Shown::Absent;
        if self.holds_anything(target)? {
            self.delete_all(target)?;
        }
        Ok(Reply::Int(i64::from(was_shown)))
    }

    /// Whether there is something under a key, also where it has ended.
    pub(super) fn holds_anything(&mut self, target: &Target<'_>) -> Result<bool, StorageError> {
        Ok(self.head(target)?.slot() != Shown::Absent)
    }

    /// Deletes what is here. Others were asked for what they have, so there is nothing else that was acknowledged before.
    pub(super) fn delete_all(&mut self, target: &Target<'_>) -> Result<(), StorageError> {
        let stamp = self.stamp();
        let head = self.head(target)?;
        let mut parts = clear_set(head);
        if !head.string.is_empty() {
            parts.push(Part::String(head.string.set(stamp, None)));
        }
        if !is_on(Mutant::ExpiryOutlivesDelete) {
            parts.push(Part::Expiry(head.expiry.ended()));
        }
        self.effects.push(Effect::Remove);
        self.overwrites = EVERYTHING;
        self.coordinate(target, parts, Question::Expiry)
    }

    /// When what is under a key was begun.
    pub(super) fn begun(&mut self, target: &Target<'_>) -> Result<Stamp, StorageError> {
        let head = self.head(target)?;
        Ok(head.string.created.max(head.set.created))
    }

    pub(super) fn head(&mut self, target: &Target<'_>) -> Result<&Head, StorageError> {
        self.pending
            .head(self.storage, &target.position, target.key)
    }

    /// What is seen under a key: nothing where it has ended.
    pub(super) fn slot(&mut self, target: &Target<'_>) -> Result<Shown, StorageError> {
        let wall_ms = self.wall_ms;
        Ok(self.head(target)?.shown(wall_ms))
    }

    /// The string under a key: `WRONGTYPE` where a set is visible.
    pub(super) fn expect_string(&mut self, target: &Target<'_>) -> Result<Shown, Stop> {
        match self.slot(target)? {
            Shown::Set => Err(Refusal::WrongType.into()),
            shown @ (Shown::Absent | Shown::String) => Ok(shown),
        }
    }

    /// The set under a key: `WRONGTYPE` where a string is visible.
    pub(super) fn expect_set(&mut self, target: &Target<'_>) -> Result<Shown, Stop> {
        match self.slot(target)? {
            Shown::String => Err(Refusal::WrongType.into()),
            shown @ (Shown::Absent | Shown::Set) => Ok(shown),
        }
    }

    /// What a write states of the expiry that adds to a key. Where nothing is left of an earlier one but its expiry, that ends here: it is
    /// not the new one's. Else it is what is known here, so that others say where they know of another.
    pub(super) fn expiry_of_addition(
        &mut self,
        target: &Target<'_>,
    ) -> Result<Option<Part>, StorageError> {
        let is_asking = self.is_asking;
        let head = self.head(target)?;
        let known = head.expiry;
        let is_left_over = head.slot() == Shown::Absent && known.at_ms.is_some();
        if is_left_over && !is_on(Mutant::ExpiryOutlivesDelete) {
            self.overwrites.expiry = Some(None);
            return Ok(Some(self.expiry_at(None)));
        }
        let is_known = is_asking && known.stamp != Stamp::ZERO;
        Ok(is_known.then_some(Part::Expiry(known)))
    }

    /// A new stamp, above every one that this shard made or saw.
    pub(super) fn stamp(&mut self) -> Stamp {
        let before = self.clock.last();
        let stamp = Stamp::new(self.clock.tick(self.wall_ms), self.actor);
        debug_assert!(stamp.hlc > before, "no two stamps are equal");
        stamp
    }

    /// A place in the outbox for a delta that carries no stamp of its own: a stamp that nothing else will have.
    pub(super) fn place(&mut self) {
        self.stamp();
    }

    /// Joins parts made here and queues them for the other regions. `question`: what it asks of its replicas; deltas
    /// that ask differently are not merged, or the one's question would be lost in the other.
    pub(super) fn coordinate(
        &mut self,
        target: &Target<'_>,
        parts: Vec<Part>,
        question: Question,
    ) -> Result<(), StorageError> {
        let delta = Delta {
            key: target.key.clone(),
            parts,
        };
        if !self.is_shipping {
            return self.pending.join(self.storage, &delta);
        }
        let last: Hlc = self.clock.last();
        self.is_queued = true;
        let question = if self.is_asking {
            question
        } else {
            Question::Nothing
        };
        self.pending.coordinate(self.storage, delta, last, question)
    }
}

/// What DEL takes the place of.
const EVERYTHING: Overwrites = Overwrites {
    register: Some(None),
    expiry: Some(None),
};

/// The removal of every element that is here, if there are any.
pub(super) fn clear_set(head: &Head) -> Vec<Part> {
    if head.set.live == 0 {
        Vec::new()
    } else {
        vec![Part::Set(crdt::rows::clear(&head.set.context))]
    }
}
