//! P7 for one connection: what it asks is done in the order in which it asks, so a later write on a key is never undone by an earlier one
//! of the same connection, whatever their levels.
//!
//! Looked at in the end, and only where the node that was asked holds the key: elsewhere each request may be handed to another one.

use crdt::StringValue;
use node::core::{
    op::{Action, Condition, Write},
    reply::Reply,
};

use super::{
    Violation,
    holding::{Ending, Holder},
};
use crate::workload::{Family, History, Operation};

/// What is wrong.
pub fn check(history: &History, ending: &Ending<'_>) -> Vec<Violation> {
    let mut wrong = Vec::new();
    for (key, family) in history.keys() {
        let undone: fn(&[&Operation], &Holder, &[u8]) -> Option<String> = match family {
            Family::Register | Family::Owned => undone_register,
            Family::Unique => undone_removal,
            Family::Counter
            | Family::Balance
            | Family::Resettable
            | Family::Small
            | Family::Anything
            | Family::Local
            | Family::Single
            | Family::Fading
            | Family::Turning => continue,
        };
        let asked_here = |operation: &&Operation| {
            let host = operation.client % ending.hosts.len();
            ending.hosts[host].holds(&key)
        };
        let operations: Vec<&Operation> = history.of_key(&key).filter(asked_here).collect();
        let whole = ending
            .hosts
            .iter()
            .filter(|host| ending.has_all_of(host, &key));
        wrong.extend(whole.filter_map(|host| {
            let detail = undone(&operations, host, &key)?;
            let detail = format!("n{} under {key:?}: {detail}", host.index);
            Some(Violation::new("P7", detail).about(&key))
        }));
    }
    wrong
}

/// A register shows what its writer has overwritten since. The operations are in the order in which they were asked.
fn undone_register(operations: &[&Operation], host: &Holder, key: &[u8]) -> Option<String> {
    let StringValue::Bytes(shown) = host.keys.get(key)?.string.value() else {
        return None;
    };
    let is_writer = |operation: &&Operation| operation.set_value() == Some(&shown);
    let at = operations.iter().position(is_writer)?;
    let mut later = operations[at + 1..].iter();
    let later = later.find(|later| is_after(operations[at], later) && has_replaced(later))?;
    Some(format!("{:?} is there, after {later:?}", operations[at]))
}

/// An element is there that whoever added it has removed since.
fn undone_removal(operations: &[&Operation], host: &Holder, key: &[u8]) -> Option<String> {
    let rows = &host.keys.get(key)?.set.rows;
    operations.iter().enumerate().find_map(|(at, add)| {
        let mut there = add
            .added()
            .iter()
            .filter(|member| rows.contains_key(*member));
        there.find_map(|member| {
            let ends = |removal: &&&Operation| {
                let names = match &removal.op.action {
                    Action::Write(Write::Remove { members }) => members.contains(member),
                    Action::Write(Write::Delete) => true,
                    _ => false,
                };
                names && is_after(add, removal) && removal.acknowledged().is_some()
            };
            let removal = operations[at + 1..].iter().find(ends)?;
            Some(format!("{member:?} of {add:?} is there, after {removal:?}"))
        })
    })
}

/// Whether a later operation came on the connection of an earlier one: who gives an answer up asks again on another one, and what was
/// on its way on the first may come after that.
fn is_after(earlier: &Operation, later: &Operation) -> bool {
    let is_given_up = earlier.acknowledged().is_none()
        && earlier.completed.is_some_and(|end| end < later.invoked);
    earlier.client == later.client && !is_given_up
}

/// Whether a write has surely taken the place of what its client wrote before.
pub(super) fn has_replaced(write: &Operation) -> bool {
    match (&write.op.action, write.reply()) {
        (Action::Write(Write::Set { condition, .. }), Some(Reply::Ok)) => {
            *condition == Condition::Always
        }
        (Action::Write(Write::Delete), Some(Reply::Int(1))) => true,
        _ => false,
    }
}
