//! Writes on strings: a register, and increments that stand above its floors.

use bytes::{Bytes, BytesMut};
use crdt::{Expiry, Part, StringState, StringValue, parse_integer};

use super::{
    batch::Question,
    coordinate::{
        Coordinator, CountsOn, Effect, Increment, Overwrites, Stop, Target, Told, clear_set,
    },
    mutant::{Mutant, is_on},
    op::{Condition, SetExpiry},
    read::string_text,
    reply::{Refusal, Reply},
};
use crate::storage::{StorageError, record::head::Shown};

impl Coordinator<'_> {
    pub(super) fn set(
        &mut self,
        target: &Target<'_>,
        value: &Bytes,
        expiry: SetExpiry,
        condition: Condition,
        return_old: bool,
    ) -> Result<Reply, Stop> {
        if value.len() > self.value_bytes_max {
            return Err(Refusal::StringTooLong.into());
        }
        let shown = if return_old {
            self.expect_string(target)?
        } else {
            self.slot(target)?
        };
        let old = match (return_old, shown) {
            (true, Shown::String) => Some(Reply::Bulk(string_text(self.head(target)?))),
            (true, Shown::Absent | Shown::Set) => Some(Reply::Nil),
            (false, _) => None,
        };
        let holds = match condition {
            Condition::Always => true,
            Condition::IfAbsent => shown == Shown::Absent,
            Condition::IfPresent => shown != Shown::Absent,
        };
        if holds {
            let told = if return_old {
                Told::Value
            } else {
                Told::Nothing
            };
            self.write_register(target, Bytes::copy_from_slice(value), expiry, told)?;
        }
        Ok(old.unwrap_or(if holds { Reply::Ok } else { Reply::Nil }))
    }

    pub(super) fn get_delete(&mut self, target: &Target<'_>) -> Result<Reply, Stop> {
        if self.expect_string(target)? == Shown::Absent {
            if self.holds_anything(target)? {
                self.delete_all(target)?;
            }
            return Ok(Reply::Nil);
        }
        let old = string_text(self.head(target)?);
        self.delete_all(target)?;
        Ok(Reply::Bulk(old))
    }

    pub(super) fn get_expire(
        &mut self,
        target: &Target<'_>,
        expiry: SetExpiry,
    ) -> Result<Reply, Stop> {
        if self.expect_string(target)? == Shown::Absent {
            return Ok(Reply::Nil);
        }
        let value = string_text(self.head(target)?);
        match expiry {
            SetExpiry::Keep => {}
            SetExpiry::At(at_ms) if at_ms <= self.wall_ms => {
                self.delete_all(target)?;
            }
            SetExpiry::At(at_ms) => self.write_expiry(target, Some(at_ms))?,
            SetExpiry::Clear if self.head(target)?.expiry.at_ms.is_none() => {}
            SetExpiry::Clear => self.write_expiry(target, None)?,
        }
        Ok(Reply::Bulk(value))
    }

    pub(super) fn append(&mut self, target: &Target<'_>, tail: &Bytes) -> Result<Reply, Stop> {
        let old = self.text(target)?;
        let length = old.len() + tail.len();
        if length > self.value_bytes_max {
            return Err(Refusal::StringTooLong.into());
        }
        let mut joined = BytesMut::with_capacity(length);
        joined.extend_from_slice(&old);
        joined.extend_from_slice(tail);
        self.write_register(target, joined.freeze(), SetExpiry::Keep, Told::Nothing)?;
        Ok(Reply::Int(length as i64))
    }

    pub(super) fn set_range(
        &mut self,
        target: &Target<'_>,
        offset: usize,
        part: &Bytes,
    ) -> Result<Reply, Stop> {
        let old = self.text(target)?;
        if part.is_empty() {
            return Ok(Reply::Int(old.len() as i64));
        }
        let end = offset
            .checked_add(part.len())
            .filter(|&end| end <= self.value_bytes_max)
            .ok_or(Refusal::StringTooLong)?;
        let mut written = BytesMut::zeroed(old.len().max(end));
        written[..old.len()].copy_from_slice(&old);
        written[offset..end].copy_from_slice(part);
        let length = written.len();
        self.write_register(target, written.freeze(), SetExpiry::Keep, Told::Nothing)?;
        Ok(Reply::Int(length as i64))
    }

    /// An increment adds to this actor's own count and leaves the register alone, so it survives a SET that did not see it.
    pub(super) fn increment(&mut self, target: &Target<'_>, by: i64) -> Result<Reply, Stop> {
        self.finish_expired(target)?;
        self.expect_string(target)?;
        let sum = incremented(self.head(target)?.string.value(), by)?;
        let is_creating = self.slot(target)? == Shown::Absent;
        let expiry = self.expiry_of_addition(target)?;
        let stamp = self.stamp();
        let actor = self.actor;
        let known = &self.head(target)?.string;
        let part = known.increment(stamp, i128::from(by));
        let count = |state: &StringState| state.counts.get(&actor).copied().unwrap_or_default();
        let (before, total) = (count(known), count(&part));
        let register = known.register.as_ref().map(|register| register.stamp);
        self.effects.push(Effect::Increment(Increment {
            before,
            total,
            is_creating,
            is_beginning: is_creating || self.is_beginning,
            on: CountsOn {
                register: register.unwrap_or_default(),
                is_behind_statement: self.is_behind_statement,
            },
        }));
        let parts = std::iter::once(Part::String(part)).chain(expiry);
        self.coordinate(target, parts.collect(), Question::Increment)?;
        Ok(i64::try_from(sum)
            .map_or_else(|_| Reply::Bulk(Bytes::from(sum.to_string())), Reply::Int))
    }

    /// The text that is seen under a key; none where it has ended.
    fn text(&mut self, target: &Target<'_>) -> Result<Bytes, Stop> {
        Ok(match self.expect_string(target)? {
            Shown::Absent => Bytes::new(),
            Shown::String | Shown::Set => string_text(self.head(target)?),
        })
    }

    /// Writes the register: what has ended goes first, floors rise to the increments that were seen, and a set under the same key goes.
    fn write_register(
        &mut self,
        target: &Target<'_>,
        value: Bytes,
        expiry: SetExpiry,
        told: Told,
    ) -> Result<(), StorageError> {
        self.finish_expired(target)?;
        let stamp = self.stamp();
        let is_asking = self.is_asking;
        let head = self.head(target)?;
        let is_left_over = head.slot() == Shown::Absent && head.expiry.at_ms.is_some();
        let expiry = match expiry {
            // Of an earlier key of that name, which is gone: it is not kept for this one.
            SetExpiry::Keep if is_left_over => SetExpiry::Clear,
            expiry => expiry,
        };
        let mut parts = clear_set(head);
        if parts.is_empty() && is_asking {
            // Others may know of a set here, and a clock ahead may have stamped it: it would hide the string.
            parts.push(Part::Set(crdt::rows::clear(&head.set.context)));
        }
        let mut written = head.string.set(stamp, Some(value.clone()));
        if head.slot() != Shown::String {
            // Also where a string is hidden: what it says of its beginning would hide this one behind a set that others still have.
            written.created = stamp;
        }
        if is_on(Mutant::FloorsNotRaised) {
            written.floors.clear();
        }
        let floors = written.floors.clone();
        parts.push(Part::String(written));
        self.overwrites = Overwrites {
            register: Some(Some(value.clone())),
            expiry: match expiry {
                // As the end of what was there before may have left it.
                SetExpiry::Keep => self.overwrites.expiry,
                SetExpiry::Clear => Some(None),
                SetExpiry::At(at_ms) => Some(Some(at_ms)),
            },
        };
        if self.is_asking {
            self.effects.push(Effect::Register {
                value,
                expiry,
                floors,
                told,
            });
        }
        let expiry = match expiry {
            SetExpiry::Keep => None,
            SetExpiry::Clear if is_on(Mutant::ExpiryOutlivesSet) => None,
            // Stated even where there is none here: an EXPIRE made elsewhere before this SET must not end the new value.
            SetExpiry::Clear => Some(Expiry { stamp, at_ms: None }),
            SetExpiry::At(at_ms) => Some(Expiry {
                stamp,
                at_ms: Some(at_ms),
            }),
        };
        parts.extend(expiry.map(Part::Expiry));
        self.coordinate(target, parts, Question::Register)
    }
}

/// What a string comes to with an increment.
///
/// # Errors
/// The refusal where it is text that is no integer, or the sum is out of range.
pub(super) fn incremented(value: StringValue, by: i64) -> Result<i128, Refusal> {
    let value = match value {
        StringValue::Absent => 0,
        StringValue::Integer(number) => number,
        StringValue::Bytes(text) => i128::from(parse_integer(&text).ok_or(Refusal::NotAnInteger)?),
    };
    let sum = value.checked_add(i128::from(by)).ok_or(Refusal::Overflow)?;
    // Beyond 64 bits only joined regions can bring a value; from there a step back is taken, a step further is not.
    let is_further_out =
        (by > 0 && sum > i128::from(i64::MAX)) || (by < 0 && sum < i128::from(i64::MIN));
    if is_further_out {
        return Err(Refusal::Overflow);
    }
    Ok(sum)
}
