//! What a write would do to what is shown, as far as that decides whether others are asked first.

use crate::{
    core::{
        batch::PendingBatch,
        op::{Action, Op, SetExpiry, Write},
        strings::incremented,
    },
    placement::Position,
    storage::{
        Storage,
        record::head::{Head, Shown},
    },
};

/// Whether a write is refused because of what is under its key.
pub(super) fn would_refuse(head: &Head, write: &Write) -> bool {
    match write {
        Write::Add { .. } => head.slot() == Shown::String,
        Write::IncrBy { by } => match head.slot() {
            Shown::Absent => false,
            Shown::Set => true,
            Shown::String => incremented(head.string.value(), *by).is_err(),
        },
        Write::Set { .. }
        | Write::GetDel
        | Write::GetEx { .. }
        | Write::Append { .. }
        | Write::SetRange { .. }
        | Write::Expire { .. }
        | Write::Persist
        | Write::Remove { .. }
        | Write::Pop { .. }
        | Write::Delete => false,
    }
}

/// Whether a write deletes all that is under its key: by what it is, or because that has ended.
pub(super) fn would_end(head: &Head, write: &Write, wall_ms: u64) -> bool {
    is_deletion(write, wall_ms) || head.is_expired(wall_ms)
}

fn is_deletion(write: &Write, wall_ms: u64) -> bool {
    match write {
        Write::Delete | Write::GetDel => true,
        Write::Expire { at_ms, .. } => *at_ms <= wall_ms.try_into().unwrap_or(i64::MAX),
        Write::GetEx {
            expiry: SetExpiry::At(at_ms),
        } => *at_ms <= wall_ms,
        _ => false,
    }
}

/// Whether an addition finds nothing under its key.
pub(super) fn would_begin(head: &Head, write: &Write) -> bool {
    let is_addition = matches!(write, Write::Add { .. } | Write::IncrBy { .. });
    is_addition && head.slot() == Shown::Absent
}

/// Whether a write removes, of what is under its key, what it finds. Not where it is refused for the type of that.
pub(super) fn is_removal(
    storage: &dyn Storage,
    pending: &mut PendingBatch,
    op: &Op,
    wall_ms: u64,
) -> bool {
    let refused = match &op.action {
        Action::Write(Write::GetDel | Write::GetEx { .. }) => Some(Shown::Set),
        Action::Write(Write::Remove { .. } | Write::Pop { .. }) => Some(Shown::String),
        Action::Write(_) | Action::Read(_) => None,
    };
    let head = pending.head(storage, &Position::of(&op.key), &op.key);
    let removes = match &op.action {
        Action::Write(Write::Remove { .. } | Write::Pop { .. }) => true,
        Action::Write(write) => is_deletion(write, wall_ms),
        Action::Read(_) => false,
    };
    removes && head.is_ok_and(|head| refused != Some(head.slot()))
}

/// What a removal finds here of all that it would remove: each part of the key, or each element. Nothing where that cannot be read, which is
/// said when it is carried out.
pub(super) fn found(
    storage: &dyn Storage,
    pending: &mut PendingBatch,
    op: &Op,
    wall_ms: u64,
) -> Vec<bool> {
    let position = Position::of(&op.key);
    let Ok(head) = pending.head(storage, &position, &op.key) else {
        return Vec::new();
    };
    let parts = vec![!head.string.is_empty(), head.set.live > 0];
    match &op.action {
        Action::Write(Write::Pop { .. }) => parts,
        Action::Write(Write::Remove { members }) => {
            let mut is_here = |member| {
                let dots = pending.row(storage, &position, &op.key, member);
                dots.is_ok_and(|dots| !dots.is_empty())
            };
            members.iter().map(|member| is_here(member)).collect()
        }
        Action::Write(write) if is_deletion(write, wall_ms) => parts,
        Action::Write(_) | Action::Read(_) => Vec::new(),
    }
}
