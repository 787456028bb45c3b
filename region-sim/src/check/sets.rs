//! P4: an element added and acknowledged is there unless a remove saw it or ran beside it; one removed and acknowledged does not
//! come back unless it is added again.

use std::collections::BTreeSet;

use bytes::Bytes;
use node::core::{
    op::{Action, Write},
    reply::Reply,
};

use super::{Violation, holding::Ending};
use crate::workload::{Family, History, Operation, Outcome};

/// What is wrong.
pub fn check(history: &History, ending: &Ending<'_>) -> Vec<Violation> {
    let mut wrong = Vec::new();
    for (key, family) in history.keys() {
        let verdict: fn(&[&Operation], &Bytes) -> Verdict = match family {
            Family::Unique => unique,
            Family::Small => repeated,
            Family::Counter
            | Family::Balance
            | Family::Resettable
            | Family::Register
            | Family::Owned
            | Family::Anything
            | Family::Local
            | Family::Single
            | Family::Fading
            | Family::Turning => continue,
        };
        let operations: Vec<&Operation> = history.of_key(&key).collect();
        let elements: BTreeSet<&Bytes> = operations.iter().flat_map(|op| adds(op)).collect();
        for host in &ending.hosts {
            if !ending.has_all_of(host, &key) {
                continue;
            }
            let set = host.keys.get(&key).map(|state| &state.set.rows);
            for element in &elements {
                let is_there = set.is_some_and(|set| set.contains_key(*element));
                let is_right = match verdict(&operations, element) {
                    Verdict::There => is_there,
                    Verdict::Gone => !is_there,
                    Verdict::Either => true,
                };
                if !is_right {
                    let detail = format!(
                        "n{} under {key:?}: {element:?} is there: {is_there}",
                        host.index
                    );
                    wrong.push(Violation::new("P4", detail).about(&key));
                }
            }
            let invented = set
                .into_iter()
                .flat_map(|set| set.keys())
                .find(|held| !elements.contains(held));
            wrong.extend(invented.map(|held| {
                let detail = format!("n{} under {key:?}: nobody added {held:?}", host.index);
                Violation::new("P4", detail).about(&key)
            }));
        }
    }
    wrong
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    There,
    Gone,
    Either,
}

/// An element that one operation adds, and no other ever does.
fn unique(operations: &[&Operation], element: &Bytes) -> Verdict {
    let Some(add) = operations.iter().find(|op| adds(op).contains(element)) else {
        return Verdict::Either;
    };
    if operations.iter().any(|op| has_removed(op, element, add)) {
        return Verdict::Gone;
    }
    let may_be_gone = operations
        .iter()
        .any(|op| may_remove(op, element) && !is_before(op, add));
    match &add.outcome {
        Outcome::Refused | Outcome::Replied(Reply::Error(_)) => Verdict::Gone,
        Outcome::Replied(_) if !may_be_gone => Verdict::There,
        _ => Verdict::Either,
    }
}

/// An element that is added and removed again and again. An add that every remove was answered before cannot have been seen by one.
fn repeated(operations: &[&Operation], element: &Bytes) -> Verdict {
    let adding: Vec<&&Operation> = operations
        .iter()
        .filter(|op| adds(op).contains(element) && op.outcome != Outcome::Refused)
        .collect();
    let removing: Vec<&&Operation> = operations
        .iter()
        .filter(|op| may_remove(op, element))
        .collect();
    let stays = |add: &Operation| {
        matches!(add.outcome, Outcome::Replied(Reply::Int(_)))
            && removing.iter().all(|remove| is_before(remove, add))
    };
    if adding.iter().any(|add| stays(add)) {
        return Verdict::There;
    }
    let ends = |remove: &Operation| {
        matches!(remove.outcome, Outcome::Replied(Reply::Int(_)))
            && !matches!(remove.op.action, Action::Write(Write::Pop { .. }))
            && adding
                .iter()
                .all(|add| add.region == remove.region && is_before(add, remove))
    };
    if operations.iter().any(|op| names(op, element) && ends(op)) {
        return Verdict::Gone;
    }
    Verdict::Either
}

/// Whether an operation, as answered, has removed the element that `add` added.
fn has_removed(operation: &Operation, element: &Bytes, add: &Operation) -> bool {
    let Outcome::Replied(reply) = &operation.outcome else {
        return false;
    };
    match (&operation.op.action, reply) {
        (Action::Write(Write::Remove { members }), Reply::Int(removed)) => {
            let named: BTreeSet<&Bytes> = members.iter().collect();
            let has_seen = *removed as usize == named.len() || must_see(operation, add);
            named.contains(element) && has_seen
        }
        (Action::Write(Write::Pop { .. }), Reply::Array(items)) => {
            items.contains(&Reply::Bulk(element.clone()))
        }
        (Action::Write(Write::Delete), Reply::Int(_)) => must_see(operation, add),
        _ => false,
    }
}

/// Whether an add was acknowledged by its region before the same region was asked to remove.
fn must_see(removal: &Operation, add: &Operation) -> bool {
    add.region == removal.region
        && matches!(add.outcome, Outcome::Replied(Reply::Int(_)))
        && is_before(add, removal)
}

/// Whether an operation may have removed an element, if it saw it.
fn may_remove(operation: &Operation, element: &Bytes) -> bool {
    let Action::Write(write) = &operation.op.action else {
        return false;
    };
    let is_about = match write {
        Write::Remove { members } => members.contains(element),
        Write::Pop { .. } | Write::Delete => true,
        _ => false,
    };
    is_about
        && match &operation.outcome {
            Outcome::Refused | Outcome::Replied(Reply::Error(_) | Reply::Int(0)) => false,
            Outcome::Replied(Reply::Array(items)) => items.contains(&Reply::Bulk(element.clone())),
            Outcome::Replied(_) | Outcome::Pending | Outcome::Unknown => true,
        }
}

/// Whether an operation removes this element wherever it finds it.
fn names(operation: &Operation, element: &Bytes) -> bool {
    match &operation.op.action {
        Action::Write(Write::Remove { members }) => members.contains(element),
        Action::Write(Write::Delete) => true,
        _ => false,
    }
}

fn adds(operation: &Operation) -> &[Bytes] {
    match &operation.op.action {
        Action::Write(Write::Add { members }) => members,
        _ => &[],
    }
}

fn is_before(first: &Operation, second: &Operation) -> bool {
    matches!(first.outcome, Outcome::Replied(_))
        && first.completed.is_some_and(|end| end < second.invoked)
}
