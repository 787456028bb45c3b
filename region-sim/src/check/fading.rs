//! P1 and P7 for keys that expire, are deleted and are made again, by clients of one region: an expiry ends what it was set on, and
//! nothing that was made after it had been ended itself.
//!
//! ```text
//!   SADD a ── EXPIRE ── DEL ── SADD b ──────────▶ b stays, without an expiry
//!   SADD a ── EXPIRE ───────── due ─────────────▶ a is gone
//! ```

use bytes::Bytes;
use node::core::{
    op::{Action, Read, Write},
    reply::Reply,
};

use super::Violation;
use crate::workload::{Family, History, Operation, Outcome};

/// What is wrong. `is_timely`: clocks are about right, so that it can be said when an expiry is due.
pub fn check(history: &History, is_timely: bool) -> Vec<Violation> {
    let mut wrong = Vec::new();
    for (key, family) in history.keys() {
        if family != Family::Fading {
            continue;
        }
        let operations: Vec<&Operation> = history.of_key(&key).collect();
        let reads = operations
            .iter()
            .filter(|operation| matches!(operation.op.action, Action::Read(_)));
        wrong.extend(reads.filter_map(|read| {
            let detail = lost(&operations, read, is_timely)
                .or_else(|| inherited(&operations, read))
                .or_else(|| outlived(&operations, read).filter(|_| is_timely))?;
            let detail = format!("{read:?} under {key:?}: {detail}");
            Some(Violation::new("P7", detail).about(&key))
        }));
    }
    wrong
}

/// Something is not there that nothing has removed, and no expiry that still held when it was due.
fn lost(operations: &[&Operation], read: &Operation, is_timely: bool) -> Option<String> {
    let is_gone = |member: &Bytes| match (&read.op.action, read.reply()) {
        (Action::Read(Read::Members), Some(Reply::Set(shown))) => {
            !shown.contains(&Reply::Bulk(member.clone()))
        }
        (Action::Read(Read::Exists), Some(Reply::Int(count))) => *count == 0,
        (Action::Read(Read::ExpiresAtMs), Some(Reply::Int(at))) => *at == -2,
        _ => false,
    };
    let mut known = operations.iter().filter(|add| add.is_over_before(read));
    known.find_map(|add| {
        let member = add.added().iter().find(|member| is_gone(member))?;
        let may_end = |other: &&&Operation| {
            let is_later = other.is_begun_before_end_of(read) && !other.is_over_before(add);
            let is_running = sets_expiry(other)
                && other.is_begun_before_end_of(read)
                && !is_ended_before(operations, other, add)
                && !(is_timely && is_replaced_in_time(operations, other));
            (is_removal(other) && is_later) || is_running
        };
        if operations.iter().any(|other| may_end(&other)) {
            return None;
        }
        Some(format!("{member:?} is not there, after {add:?}"))
    })
}

/// An expiry is there although each that was ever set has been ended.
fn inherited(operations: &[&Operation], read: &Operation) -> Option<String> {
    let (Action::Read(Read::ExpiresAtMs), Some(Reply::Int(at))) = (&read.op.action, read.reply())
    else {
        return None;
    };
    let holds = |expire: &&&Operation| {
        sets_expiry(expire)
            && expire.is_begun_before_end_of(read)
            && !is_ended_before(operations, expire, read)
    };
    let is_wrong = *at >= 0 && !operations.iter().any(|expire| holds(&expire));
    is_wrong.then(|| format!("it expires at {at}, and nothing says so"))
}

/// Something is there long after it was to expire.
fn outlived(operations: &[&Operation], read: &Operation) -> Option<String> {
    let Some(Reply::Set(shown)) = read.reply() else {
        return None;
    };
    let expire = operations.iter().rev().find(|expire| {
        let is_due = matches!(expire.op.action, Action::Write(Write::Expire { at_ms, .. })
            if at_ms + GRACE_MS < wall_ms(read));
        is_due && expire.reply() == Some(&Reply::Int(1)) && expire.is_over_before(read)
    })?;
    let is_disturbed = operations.iter().any(|other| {
        let is_other = !std::ptr::eq(*other, *expire);
        // What is added through a replica that has not heard of the expiry, by whose clock it has passed, goes on without it.
        let goes_on = !other.added().is_empty() && !expire.is_over_before(other);
        is_other
            && (sets_expiry(other) || is_persist(other) || goes_on)
            && other.is_begun_before_end_of(read)
            && !other.is_over_before(expire)
    });
    if is_disturbed {
        return None;
    }
    let there = operations.iter().filter(|add| add.is_over_before(expire));
    let mut members = there.flat_map(|add| add.added());
    let member = members.find(|member| shown.contains(&Reply::Bulk((*member).clone())))?;
    Some(format!("{member:?} is there, after {expire:?}"))
}

/// Whether an expiry that was surely set was surely ended before another operation began.
fn is_ended_before(operations: &[&Operation], expire: &Operation, other: &Operation) -> bool {
    operations.iter().any(|end| {
        let ends = match &end.op.action {
            Action::Write(Write::Delete | Write::Persist) => end.reply() == Some(&Reply::Int(1)),
            Action::Write(Write::Remove { members }) => {
                end.acknowledged().is_some() && is_emptying(operations, end, members)
            }
            _ => false,
        };
        ends && expire.is_over_before(end) && end.is_over_before(other)
    })
}

/// Whether an expiry that was surely set was surely ended, or another one set in its place, while it was not due by any clock.
fn is_replaced_in_time(operations: &[&Operation], expire: &Operation) -> bool {
    let Action::Write(Write::Expire { at_ms, .. }) = expire.op.action else {
        return false;
    };
    operations.iter().any(|later| {
        let is_statement = matches!(
            later.op.action,
            Action::Write(Write::Persist | Write::Expire { .. })
        );
        let is_done = is_statement && later.reply() == Some(&Reply::Int(1));
        let done_ms = later.completed.map(|end| {
            crate::sim::clock::EPOCH_MS + i64::try_from(end.as_millis()).unwrap_or(i64::MAX)
        });
        is_done
            && expire.is_over_before(later)
            && done_ms.is_some_and(|done_ms| done_ms + GRACE_MS < at_ms)
    })
}

/// Whether a removal surely left no element.
fn is_emptying(operations: &[&Operation], removal: &Operation, members: &[Bytes]) -> bool {
    let mut added = operations
        .iter()
        .filter(|add| add.is_begun_before_end_of(removal))
        .flat_map(|add| add.added());
    added.all(|member| members.contains(member))
}

fn sets_expiry(operation: &Operation) -> bool {
    matches!(operation.op.action, Action::Write(Write::Expire { .. }))
        && operation.outcome != Outcome::Refused
        && operation.reply() != Some(&Reply::Int(0))
}

fn is_persist(operation: &Operation) -> bool {
    matches!(operation.op.action, Action::Write(Write::Persist))
}

fn is_removal(operation: &Operation) -> bool {
    let Action::Write(write) = &operation.op.action else {
        return false;
    };
    matches!(
        write,
        Write::Delete | Write::Remove { .. } | Write::Pop { .. }
    )
}

/// The time that right clocks show when an operation is asked.
fn wall_ms(operation: &Operation) -> i64 {
    crate::sim::clock::EPOCH_MS + operation.invoked.as_millis() as i64
}

/// How far clocks may be off, twice, and some.
const GRACE_MS: i64 = 2000;
