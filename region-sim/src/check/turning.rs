//! P3 and P4 for keys that clients of one region use as a counter and as a set in turn: what is of one type is refused while the key is of
//! the other, and only then; and neither hides what was acknowledged of the other.
//!
//! ```text
//!   SADD a ─▶ 1 ── INCR ─▶ WRONGTYPE ── DEL ─▶ 1 ── INCR ─▶ 1 ── SADD b ─▶ WRONGTYPE
//! ```

use node::core::{
    op::{Action, Read, Write},
    reply::{Refusal, Reply},
};

use super::Violation;
use crate::workload::{Family, History, Operation, Outcome};

/// What is wrong.
pub fn check(history: &History) -> Vec<Violation> {
    let mut wrong = Vec::new();
    for (key, family) in history.keys() {
        if family != Family::Turning {
            continue;
        }
        let operations: Vec<&Operation> = history.of_key(&key).collect();
        wrong.extend(operations.iter().filter_map(|operation| {
            let detail = beside_other(&operations, operation)
                .or_else(|| refused(&operations, operation))
                .or_else(|| lost(&operations, operation))?;
            let detail = format!("{operation:?} under {key:?}: {detail}");
            Some(Violation::new("P4", detail).about(&key))
        }));
    }
    wrong
}

/// What a write adds.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Element,
    Number,
}

fn kind(operation: &Operation) -> Option<Kind> {
    match &operation.op.action {
        Action::Write(Write::Add { .. }) => Some(Kind::Element),
        Action::Write(Write::IncrBy { .. }) => Some(Kind::Number),
        Action::Write(_) | Action::Read(_) => None,
    }
}

/// An addition was accepted although one of the other kind was acknowledged before it began, and nothing may have removed that.
fn beside_other(operations: &[&Operation], added: &Operation) -> Option<String> {
    let own = kind(added).filter(|_| is_accepted(added))?;
    // What nobody knows anything of may have come first, and have the key. What was refused was there until it was taken back.
    let may_have_the_key = |operation: &Operation, since: &Operation| {
        let is_refused = matches!(operation.reply(), Some(Reply::Error(_)))
            && added.completed.is_none_or(|end| operation.invoked < end)
            && operation.completed.is_none_or(|end| end >= since.invoked);
        let is_begun = is_unknown(operation) && operation.is_begun_before_end_of(added);
        // Or it made a conflict, in which what was added to the hidden value was accepted.
        let has_made_conflict = is_unknown(operation)
            && kind(operation) == kind(since)
            && operation.is_begun_before_end_of(since);
        (kind(operation) == Some(own) && (is_refused || is_begun)) || has_made_conflict
    };
    let mut others = operations.iter().filter(|other| {
        kind(other).is_some_and(|kind| kind != own)
            && is_accepted(other)
            && other.is_over_before(added)
            && !operations.iter().any(|excuse| {
                let is_removed = is_removal(excuse)
                    && excuse.is_begun_before_end_of(added)
                    && !excuse.is_over_before(other);
                is_removed || may_have_the_key(excuse, other)
            })
    });
    others
        .next()
        .map(|other| format!("it was accepted, after {other:?}"))
}

/// An addition was refused for its type although all of the other kind was removed before it began.
fn refused(operations: &[&Operation], added: &Operation) -> Option<String> {
    let own = kind(added)?;
    if added.reply() != Some(&Reply::Error(Refusal::WrongType)) {
        return None;
    }
    let may_be_there = |other: &&&Operation| {
        let is_other = kind(other).is_some_and(|kind| kind != own);
        // What is refused itself was there until it was.
        let is_beside = added.completed.is_none_or(|end| other.invoked < end)
            && other.completed.is_none_or(|end| end >= added.invoked);
        let is_there =
            other.is_begun_before_end_of(added) && !is_removed_before(operations, other, added);
        is_other && (is_beside || is_there)
    };
    let is_excused = operations.iter().any(|other| may_be_there(&other));
    (!is_excused).then(|| "it was refused, and nothing of the other type may be there".to_owned())
}

/// An element that was acknowledged is not there, although nothing may have removed it and no number may hide it.
fn lost(operations: &[&Operation], read: &Operation) -> Option<String> {
    let (Action::Read(Read::Members), Some(reply)) = (&read.op.action, read.reply()) else {
        return None;
    };
    let shown: &[Reply] = match reply {
        Reply::Set(shown) => shown,
        Reply::Error(Refusal::WrongType) => &[],
        _ => return None,
    };
    let mut adds = operations
        .iter()
        .filter(|add| is_accepted(add) && add.is_over_before(read));
    adds.find_map(|add| {
        let mut members = add.added().iter();
        let member = members.find(|member| !shown.contains(&Reply::Bulk((*member).clone())))?;
        // What is refused itself was there until it was.
        let is_beside = |other: &Operation, add: &Operation, read: &Operation| {
            read.completed.is_none_or(|end| other.invoked < end)
                && other.completed.is_none_or(|end| end >= add.invoked)
        };
        let may_hide = |other: &&&Operation| {
            let is_later = other.is_begun_before_end_of(read) && !other.is_over_before(add);
            (is_removal(other) && is_later)
                || (kind(other) == Some(Kind::Number)
                    && ((is_unknown(other) && other.is_begun_before_end_of(read))
                        || is_beside(other, add, read)))
        };
        let is_excused = operations.iter().any(|other| may_hide(&other));
        (!is_excused).then(|| format!("{member:?} is not there, after {add:?}"))
    })
}

/// Whether an addition was surely removed before another operation began.
fn is_removed_before(operations: &[&Operation], added: &Operation, other: &Operation) -> bool {
    is_accepted(added)
        && operations.iter().any(|removal| {
            is_removal(removal)
                && removal.reply() == Some(&Reply::Int(1))
                && added.is_over_before(removal)
                && removal.is_over_before(other)
        })
}

fn is_accepted(operation: &Operation) -> bool {
    matches!(operation.reply(), Some(Reply::Int(_)))
}

fn is_unknown(operation: &Operation) -> bool {
    matches!(operation.outcome, Outcome::Unknown | Outcome::Pending)
}

fn is_removal(operation: &Operation) -> bool {
    matches!(operation.op.action, Action::Write(Write::Delete))
}
