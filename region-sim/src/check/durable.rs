//! P1, as a register shows it: it holds what somebody wrote last, for a sense of *last* that each region can vouch for.
//!
//! Within a region stamps only rise, so a value must not be one that the same region was told, before, to have overwritten.
//! Between regions the stamps decide, and any region's last write may be the one.

use crdt::StringValue;
use node::core::{
    op::{Action, Condition, Write},
    reply::Reply,
};

use super::{Violation, holding::Ending};
use crate::workload::{Family, History, Operation, Outcome};

/// What is wrong.
pub fn check(history: &History, ending: &Ending<'_>) -> Vec<Violation> {
    let mut wrong = Vec::new();
    for (key, family) in history.keys() {
        if !matches!(family, Family::Register | Family::Owned) {
            continue;
        }
        let operations: Vec<&Operation> = history.of_key(&key).collect();
        for host in &ending.hosts {
            if !ending.has_all_of(host, &key) {
                continue;
            }
            let value = host
                .keys
                .get(&key)
                .map_or(StringValue::Absent, |state| state.string.value());
            wrong.extend(judge(&operations, &value).map(|detail| {
                let detail = format!("n{} under {key:?}: {detail}", host.index);
                Violation::new("P1", detail).about(&key)
            }));
        }
    }
    wrong
}

fn judge(operations: &[&Operation], value: &StringValue) -> Option<String> {
    match value {
        StringValue::Integer(number) => Some(format!("counts {number}, and nobody did")),
        StringValue::Bytes(bytes) => {
            let writer = operations
                .iter()
                .find(|operation| written(operation).is_some_and(|value| value == bytes));
            let Some(writer) = writer else {
                return Some(format!("{bytes:?} was never written"));
            };
            overwritten(operations, writer)
                .map(|later| format!("{writer:?} was overwritten by {later:?}"))
        }
        StringValue::Absent => {
            let was_set = operations
                .iter()
                .any(|operation| effect(operation) == Effect::Sure && written(operation).is_some());
            let may_be_deleted = operations
                .iter()
                .filter(|operation| is_delete(operation) && effect(operation) != Effect::None)
                .any(|delete| overwritten(operations, delete).is_none());
            (was_set && !may_be_deleted).then(|| format!("nothing is there, of {operations:?}"))
        }
    }
}

/// A write of the same region that was asked after this one was answered.
fn overwritten<'a>(operations: &[&'a Operation], write: &Operation) -> Option<&'a Operation> {
    if effect(write) != Effect::Sure {
        return None;
    }
    operations.iter().copied().find(|later| {
        later.region == write.region
            && effect(later) == Effect::Sure
            && write.completed.is_some_and(|end| end < later.invoked)
    })
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Effect {
    Sure,
    Maybe,
    None,
}

/// Whether an operation wrote something.
fn effect(operation: &Operation) -> Effect {
    let Action::Write(write) = &operation.op.action else {
        return Effect::None;
    };
    let reply = match &operation.outcome {
        Outcome::Refused | Outcome::Replied(Reply::Error(_)) => return Effect::None,
        Outcome::Pending | Outcome::Unknown => return Effect::Maybe,
        Outcome::Replied(reply) => reply,
    };
    let has_written = match (write, reply) {
        (Write::Set { .. }, Reply::Ok) => true,
        // With the old value as the reply, nil means that there was none; a SET XX then did nothing.
        (Write::Set { condition, .. }, Reply::Bulk(_)) => *condition != Condition::IfAbsent,
        (Write::GetDel, Reply::Bulk(_)) | (Write::Delete, Reply::Int(1)) => true,
        _ => false,
    };
    if has_written {
        Effect::Sure
    } else {
        Effect::None
    }
}

fn written(operation: &Operation) -> Option<&bytes::Bytes> {
    match &operation.op.action {
        Action::Write(Write::Set { value, .. }) => Some(value),
        _ => None,
    }
}

fn is_delete(operation: &Operation) -> bool {
    matches!(
        operation.op.action,
        Action::Write(Write::Delete | Write::GetDel)
    )
}
