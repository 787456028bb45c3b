//! P7 for keys that one client alone uses, through one replica now and another one then, one answer after the other: then nothing is
//! concurrent, whoever missed what, and every answer is that of a single copy.
//!
//! Not looked at: how much DEL, SADD, SREM and INCR counted, and that SREM finds a string, which is told as the replica knew it; and whether
//! a key is there about the time of its end, when clocks differ.

use node::core::{
    op::{Action, SetExpiry, Write},
    reply::Reply,
};

use super::{
    Violation,
    reference::{State, agree, apply, determined},
};
use crate::workload::{Family, History, Operation, Outcome};

/// What is wrong.
pub fn check(history: &History) -> Vec<Violation> {
    let keys = history.keys().into_iter();
    let keys = keys.filter(|(_, family)| *family == Family::Single);
    keys.filter_map(|(key, _)| {
        let detail = follow(history.of_key(&key))?;
        Some(Violation::new("P7", detail).about(&key))
    })
    .collect()
}

/// Follows the answers about a key, up to the first of which nobody knows what came of it.
fn follow<'a>(operations: impl Iterator<Item = &'a Operation>) -> Option<String> {
    let mut state = State::default();
    for operation in operations {
        let action = &operation.op.action;
        let reply = match &operation.outcome {
            Outcome::Replied(reply) => reply,
            Outcome::Refused => continue,
            Outcome::Pending | Outcome::Unknown if matches!(action, Action::Read(_)) => continue,
            // It may take effect at any time from now on.
            Outcome::Pending | Outcome::Unknown => return None,
        };
        if is_about_to_end(&state, operation) {
            state = State::Unsure;
        }
        let State::Sure(entry) = &mut state else {
            state = determined(action, reply);
            continue;
        };
        let before = entry.clone();
        let expected = apply(entry, action, wall_ms(operation), reply);
        if !agree(&expected, reply) && !is_as_known(action, &expected, reply) {
            return Some(format!(
                "{operation:?} was answered {reply:?}, a single copy that holds {before:?} answers {expected:?}"
            ));
        }
        if is_about_to_end(&state, operation) || ends_soon(operation) {
            state = State::Unsure;
        }
    }
    None
}

/// Whether an operation itself says that the key ends about now.
fn ends_soon(operation: &Operation) -> bool {
    let at_ms = match &operation.op.action {
        Action::Write(Write::Expire { at_ms, .. }) => u64::try_from(*at_ms).ok(),
        Action::Write(
            Write::Set {
                expiry: SetExpiry::At(at_ms),
                ..
            }
            | Write::GetEx {
                expiry: SetExpiry::At(at_ms),
            },
        ) => Some(*at_ms),
        _ => None,
    };
    at_ms.is_some_and(|at_ms| is_about(at_ms, operation))
}

/// Whether the key ends about when something is asked about it: it may be there or not, by whose clock it is asked.
fn is_about_to_end(state: &State, operation: &Operation) -> bool {
    let State::Sure(Some(entry)) = state else {
        return false;
    };
    entry
        .expires_ms
        .is_some_and(|at_ms| is_about(at_ms, operation))
}

/// Whether a time is about that of an operation, by some clock.
fn is_about(at_ms: u64, operation: &Operation) -> bool {
    let asked_ms = wall_ms(operation);
    let answered = operation.completed.unwrap_or(operation.invoked);
    let took_ms = answered.saturating_sub(operation.invoked).as_millis() as u64;
    asked_ms + took_ms + GRACE_MS >= at_ms && asked_ms <= at_ms + GRACE_MS
}

/// Whether an answer may differ from that of a single copy, by what its replica knew.
fn is_as_known(action: &Action, expected: &Reply, reply: &Reply) -> bool {
    let Action::Write(write) = action else {
        return false;
    };
    let is_count = |reply: &Reply| matches!(reply, Reply::Int(_));
    match write {
        Write::Delete | Write::Add { .. } | Write::IncrBy { .. } => {
            is_count(expected) && is_count(reply)
        }
        Write::Remove { .. } => is_count(reply) && !matches!(expected, Reply::Nil),
        _ => false,
    }
}

/// The time that right clocks show when an operation is asked.
fn wall_ms(operation: &Operation) -> u64 {
    crate::sim::clock::EPOCH_MS as u64 + operation.invoked.as_millis() as u64
}

/// How far a clock may be off, twice.
const GRACE_MS: u64 = 1000;
