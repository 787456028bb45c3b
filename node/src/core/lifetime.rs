//! Writes on a key's expiry.

use crdt::{Expiry, Part};

use super::{
    batch::Question,
    coordinate::{Coordinator, Effect, Stop, Target},
    op::ExpireCondition,
    reply::Reply,
};
use crate::storage::{StorageError, record::head::Shown};

impl Coordinator<'_> {
    pub(super) fn expire(
        &mut self,
        target: &Target<'_>,
        at_ms: i64,
        condition: ExpireCondition,
    ) -> Result<Reply, Stop> {
        if self.slot(target)? == Shown::Absent
            || !applies(condition, self.head(target)?.expiry.at_ms, at_ms)
        {
            return Ok(Reply::Int(0));
        }
        match u64::try_from(at_ms) {
            Ok(at_ms) if at_ms > self.wall_ms => self.write_expiry(target, Some(at_ms))?,
            _ => self.delete_all(target)?,
        }
        Ok(Reply::Int(1))
    }

    pub(super) fn persist(&mut self, target: &Target<'_>) -> Result<Reply, Stop> {
        if self.slot(target)? == Shown::Absent || self.head(target)?.expiry.at_ms.is_none() {
            return Ok(Reply::Int(0));
        }
        self.write_expiry(target, None)?;
        Ok(Reply::Int(1))
    }

    pub(super) fn write_expiry(
        &mut self,
        target: &Target<'_>,
        at_ms: Option<u64>,
    ) -> Result<(), StorageError> {
        let of = self.begun(target)?;
        self.effects.push(Effect::Expiry { at_ms, of });
        self.overwrites.expiry = Some(at_ms);
        let expiry = self.expiry_at(at_ms);
        self.coordinate(target, vec![expiry], Question::Expiry)
    }

    /// An expiry under a new stamp: at a Unix time in milliseconds, or none.
    pub(super) fn expiry_at(&mut self, at_ms: Option<u64>) -> Part {
        let stamp = self.stamp();
        Part::Expiry(Expiry { stamp, at_ms })
    }
}

/// Whether an EXPIRE to `new_ms` applies to a key that expires at `old_ms`; no expiry counts as never.
fn applies(condition: ExpireCondition, old_ms: Option<u64>, new_ms: i64) -> bool {
    let is_later = || old_ms.is_some_and(|old| i128::from(new_ms) > i128::from(old));
    let is_earlier = || old_ms.is_none_or(|old| i128::from(new_ms) < i128::from(old));
    match condition {
        ExpireCondition::Always => true,
        ExpireCondition::IfNone => old_ms.is_none(),
        ExpireCondition::IfSome => old_ms.is_some(),
        ExpireCondition::IfLater | ExpireCondition::IfSomeAndLater => is_later(),
        ExpireCondition::IfEarlier => is_earlier(),
        ExpireCondition::IfSomeAndEarlier => old_ms.is_some() && is_earlier(),
    }
}
