//! What a write would do to what is shown, as far as that decides whether others are asked first.

use crate::{
    core::{op::Write, strings::incremented},
    storage::record::head::{Head, Shown},
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

/// Whether an addition finds nothing under its key.
pub(super) fn would_begin(head: &Head, write: &Write) -> bool {
    let is_addition = matches!(write, Write::Add { .. } | Write::IncrBy { .. });
    is_addition && head.slot() == Shown::Absent
}
