//! P7: inside a region a read sees every write that was acknowledged before it began, through whichever node; and an
//! acknowledged write is not undone by one that was acknowledged before it began.
//!
//! A regular register, key by key: of the writes of the read's own region, the one that is shown must not have been overwritten
//! by another that began after it was acknowledged and was acknowledged before the read began. Other regions may have written
//! at any time, so what they wrote is never stale.

use bytes::Bytes;
use node::core::{
    op::{Action, Read, Write},
    reply::Reply,
};

use super::Violation;
use crate::workload::{Family, History, Operation, Outcome};

/// What is wrong.
pub fn check(history: &History) -> Vec<Violation> {
    let mut wrong = Vec::new();
    for (key, family) in history.keys() {
        let operations: Vec<&Operation> = history.of_key(&key).collect();
        let stale: fn(&[&Operation], &Operation) -> Option<String> = match family {
            Family::Register | Family::Owned => stale_register,
            Family::Unique => stale_set,
            Family::Counter
            | Family::Balance
            | Family::Resettable
            | Family::Small
            | Family::Anything
            | Family::Local => continue,
        };
        let reads = operations.iter().filter(|operation| is_read(operation));
        wrong.extend(reads.filter_map(|read| {
            let detail = stale(&operations, read)?;
            let detail = format!("{read:?} under {key:?}: {detail}");
            Some(Violation::new("P7", detail).about(&key))
        }));
    }
    wrong
}

fn stale_register(operations: &[&Operation], read: &Operation) -> Option<String> {
    let shown = match reply(read)? {
        Reply::Bulk(shown) => shown,
        Reply::Nil => return lost_register(operations, read),
        _ => return None,
    };
    let writer = operations
        .iter()
        .find(|operation| written(operation) == Some(shown))?;
    let end = acknowledged(writer).filter(|_| writer.region == read.region)?;
    let later = operations
        .iter()
        .filter(|later| later.region == read.region && is_sure_write(later))
        .find(|later| {
            end < later.invoked && acknowledged(later).is_some_and(|end| end < read.invoked)
        })?;
    Some(format!("{writer:?} was overwritten by {later:?}"))
}

/// Nothing is shown although something was set, and nobody can have deleted it.
fn lost_register(operations: &[&Operation], read: &Operation) -> Option<String> {
    let may_end = |operation: &&&Operation| match &operation.op.action {
        Action::Write(Write::Set { expiry, .. }) => {
            matches!(expiry, node::core::op::SetExpiry::At(_))
        }
        Action::Write(_) => true,
        Action::Read(_) => false,
    };
    if operations.iter().any(|operation| may_end(&operation)) {
        return None;
    }
    let set = operations.iter().find(|set| {
        set.region == read.region
            && is_sure_write(set)
            && acknowledged(set).is_some_and(|end| end < read.invoked)
    })?;
    Some(format!("nothing is there, after {set:?}"))
}

/// An element that was added by an acknowledged operation of this region, and that nobody removed, is there.
fn stale_set(operations: &[&Operation], read: &Operation) -> Option<String> {
    let Reply::Set(shown) = reply(read)? else {
        return None;
    };
    let has = |member: &Bytes| {
        shown
            .iter()
            .any(|item| matches!(item, Reply::Bulk(bytes) if bytes == member))
    };
    let may_remove = |member: &Bytes| {
        operations
            .iter()
            .any(|operation| match &operation.op.action {
                Action::Write(Write::Remove { members }) => {
                    members.contains(member)
                        && read.completed.is_none_or(|end| operation.invoked < end)
                }
                Action::Write(Write::Add { .. }) | Action::Read(_) => false,
                Action::Write(_) => true,
            })
    };
    for add in operations.iter().filter(|add| add.region == read.region) {
        let Action::Write(Write::Add { members }) = &add.op.action else {
            continue;
        };
        if acknowledged(add).is_none_or(|end| end >= read.invoked) {
            continue;
        }
        if let Some(member) = members
            .iter()
            .find(|member| !has(member) && !may_remove(member))
        {
            return Some(format!("{member:?} is not there, after {add:?}"));
        }
    }
    None
}

fn is_read(operation: &Operation) -> bool {
    matches!(operation.op.action, Action::Read(Read::Get | Read::Members))
}

fn reply(operation: &Operation) -> Option<&Reply> {
    match &operation.outcome {
        Outcome::Replied(reply) => Some(reply),
        Outcome::Pending | Outcome::Refused | Outcome::Unknown => None,
    }
}

/// When a write was acknowledged, if it was.
fn acknowledged(operation: &Operation) -> Option<std::time::Duration> {
    match reply(operation)? {
        Reply::Error(_) => None,
        _ => operation.completed,
    }
}

/// Whether an operation surely wrote its value.
fn is_sure_write(operation: &Operation) -> bool {
    written(operation).is_some() && matches!(reply(operation), Some(Reply::Ok))
}

fn written(operation: &Operation) -> Option<&Bytes> {
    match &operation.op.action {
        Action::Write(Write::Set { value, .. }) => Some(value),
        _ => None,
    }
}
