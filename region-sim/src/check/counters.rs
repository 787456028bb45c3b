//! P3: the acknowledged increments (that no SET or DEL overlapped or followed) ≤ the counter ≤ those and the ones that were not
//! acknowledged.

use crdt::StringValue;
use node::core::{
    op::{Action, Read, Write},
    reply::Reply,
};

use super::{Violation, holding::Ending};
use crate::workload::{Family, History, Operation, Outcome};

/// What is wrong.
pub fn check(history: &History, ending: &Ending<'_>) -> Vec<Violation> {
    let mut wrong = Vec::new();
    for (key, family) in history.keys() {
        let bounds: fn(&[&Operation]) -> (i128, i128) = match family {
            Family::Counter | Family::Balance => all,
            Family::Resettable => since_reset,
            Family::Unique
            | Family::Small
            | Family::Register
            | Family::Owned
            | Family::Anything
            | Family::Local
            | Family::Single
            | Family::Fading
            | Family::Turning => continue,
        };
        let operations: Vec<&Operation> = history.of_key(&key).collect();
        let (low, high) = bounds(&operations);
        for host in &ending.hosts {
            if !ending.has_all_of(host, &key) {
                continue;
            }
            let value = host
                .keys
                .get(&key)
                .map_or(Some(0), |state| number(&state.string.value()));
            if value.is_none_or(|value| value < low || high < value) {
                let detail = format!(
                    "n{} counts {value:?} under {key:?}, not {low} to {high}",
                    host.index
                );
                wrong.push(Violation::new("P3", detail).about(&key));
            }
        }
        if family == Family::Resettable && ending.are_replicas {
            wrong.extend(check_resets(&operations));
        }
        if family == Family::Counter {
            wrong.extend(check_reads(&operations, ending));
        }
    }
    wrong
}

/// A read shows at least what its own region acknowledged before, and at most what anybody had asked for by then.
fn check_reads(operations: &[&Operation], ending: &Ending<'_>) -> Vec<Violation> {
    let mut wrong = Vec::new();
    for read in operations {
        let Some(shown) = shown(read) else { continue };
        let known: i128 = operations
            .iter()
            .filter(|other| other.region == read.region && is_before(other, read))
            .filter(|other| matches!(other.outcome, Outcome::Replied(_)))
            .map(|other| step(other))
            .sum();
        let asked: i128 = operations
            .iter()
            .filter(|other| other.outcome != Outcome::Refused)
            .filter(|other| read.completed.is_some_and(|end| other.invoked <= end))
            .map(|other| step(other))
            .sum();
        let low = if ending.are_replicas {
            known.max(shown_before(operations, read))
        } else if ending.hosts[read.region].has_lost {
            0
        } else {
            known
        };
        if shown < low || asked < shown {
            let detail = format!(
                "a read of {:?} in r{} at {:?} showed {shown}, not {low} to {asked}",
                read.op.key, read.region, read.invoked
            );
            wrong.push(Violation::new("P3", detail).about(&read.op.key));
        }
    }
    wrong
}

/// The most that reads of the same region have shown which were answered before this one began.
fn shown_before(operations: &[&Operation], read: &Operation) -> i128 {
    let earlier = operations
        .iter()
        .filter(|other| other.region == read.region && is_before(other, read));
    earlier.filter_map(|other| shown(other)).max().unwrap_or(0)
}

fn shown(operation: &Operation) -> Option<i128> {
    match (&operation.op.action, &operation.outcome) {
        (Action::Read(Read::Get), Outcome::Replied(Reply::Nil)) => Some(0),
        (Action::Read(Read::Get), Outcome::Replied(Reply::Bulk(bytes))) => {
            std::str::from_utf8(bytes).ok()?.parse().ok()
        }
        _ => None,
    }
}

/// Every increment counts.
fn all(operations: &[&Operation]) -> (i128, i128) {
    bounds(
        operations
            .iter()
            .map(|operation| (step(operation), *operation)),
    )
}

/// What was asked before the last SET or DEL was answered counts or not.
fn since_reset(operations: &[&Operation]) -> (i128, i128) {
    let mut open_end = false;
    let mut last_end = None;
    for operation in operations {
        if is_reset(operation) && operation.outcome != Outcome::Refused {
            open_end |= !matches!(operation.outcome, Outcome::Replied(_));
            last_end = last_end.max(operation.completed);
        }
    }
    let (_, high) = bounds_of(operations, |step| !is_ended(operations, step, None));
    let after = operations
        .iter()
        .filter(|operation| !open_end && last_end.is_none_or(|end| operation.invoked > end));
    let (low, _) = bounds(after.map(|operation| (step(operation), *operation)));
    (low, high)
}

/// Of those that count.
fn bounds_of(operations: &[&Operation], counts: impl Fn(&Operation) -> bool) -> (i128, i128) {
    let counted = operations.iter().filter(|operation| counts(operation));
    bounds(counted.map(|operation| (step(operation), *operation)))
}

/// Whether a SET or DEL of the same region has surely seen an increment: it was acknowledged before that was asked. `before`: only
/// what was acknowledged before this was asked has ended anything.
fn is_ended(operations: &[&Operation], step: &Operation, before: Option<&Operation>) -> bool {
    operations.iter().any(|reset| {
        is_reset(reset)
            && reset.acknowledged().is_some()
            && reset.region == step.region
            && step.is_over_before(reset)
            && before.is_none_or(|read| reset.region == read.region && reset.is_over_before(read))
    })
}

fn is_reset(operation: &Operation) -> bool {
    matches!(
        operation.op.action,
        Action::Write(Write::Set { .. } | Write::Delete)
    )
}

/// After a SET or DEL no more is shown than what it did not surely see.
fn check_resets(operations: &[&Operation]) -> Vec<Violation> {
    let too_much = |read: &&Operation| {
        let shown = shown(read)?;
        let (_, high) = bounds_of(operations, |step| {
            step.is_begun_before_end_of(read) && !is_ended(operations, step, Some(read))
        });
        (shown > high).then(|| {
            let detail = format!(
                "a read of {:?} in r{} at {:?} showed {shown}, and what was not reset comes to {high}",
                read.op.key, read.region, read.invoked
            );
            Violation::new("P3", detail).about(&read.op.key)
        })
    };
    operations.iter().filter_map(too_much).collect()
}

fn bounds<'a>(steps: impl Iterator<Item = (i128, &'a Operation)>) -> (i128, i128) {
    let (mut low, mut high) = (0, 0);
    for (step, operation) in steps {
        match operation.outcome {
            Outcome::Replied(Reply::Error(_)) | Outcome::Refused => {}
            Outcome::Replied(_) => (low, high) = (low + step, high + step),
            Outcome::Pending | Outcome::Unknown => {
                (low, high) = (low + step.min(0), high + step.max(0));
            }
        }
    }
    (low, high)
}

fn step(operation: &Operation) -> i128 {
    match operation.op.action {
        Action::Write(Write::IncrBy { by }) => i128::from(by),
        _ => 0,
    }
}

fn number(value: &StringValue) -> Option<i128> {
    match value {
        StringValue::Absent => Some(0),
        StringValue::Integer(number) => Some(*number),
        StringValue::Bytes(text) => crdt::parse_integer(text).map(i128::from),
    }
}

fn is_before(first: &Operation, second: &Operation) -> bool {
    first.completed.is_some_and(|end| end < second.invoked)
}
