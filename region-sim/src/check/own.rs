//! P7 for one connection: a read shows nothing that was over before the same connection wrote or removed it anew, however closely the two
//! follow each other.
//!
//! ```text
//!   SET k old ─▶ OK          (anybody)
//!                SET k new ─ GET k ─▶ old        (one connection, without waiting between them)
//! ```
//! Of one region: what another one acknowledged may not be known here yet. Looked at only where the node that was asked holds the key: elsewhere each request may be handed to another one.

use bytes::Bytes;
use node::core::{
    op::{Action, Read, Write},
    reply::Reply,
};

use super::{Violation, holding::Ending, order::has_replaced};
use crate::workload::{Family, History, Operation};

/// What is wrong.
pub fn check(history: &History, ending: &Ending<'_>) -> Vec<Violation> {
    let mut wrong = Vec::new();
    for (key, family) in history.keys() {
        let stale: fn(&[&Operation], &Operation) -> Option<String> = match family {
            Family::Register | Family::Owned => stale_register,
            Family::Unique => stale_element,
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
        let operations: Vec<&Operation> = history.of_key(&key).collect();
        for (at, read) in operations.iter().enumerate() {
            if !matches!(read.op.action, Action::Read(_)) || !asked_here(read) {
                continue;
            }
            wrong.extend(stale(&operations[..at], read).map(|detail| {
                let detail = format!("{read:?} under {key:?}: {detail}");
                Violation::new("P7", detail).about(&key)
            }));
        }
    }
    wrong
}

/// The reader's own writes among these, the last one first.
fn own<'a>(before: &'a [&Operation], read: &'a Operation) -> impl Iterator<Item = &'a Operation> {
    let before = before.iter().rev().copied();
    before.filter(|write| write.client == read.client)
}

/// A value is shown that was acknowledged before the reader replaced it.
fn stale_register(before: &[&Operation], read: &Operation) -> Option<String> {
    let (Action::Read(Read::Get), Some(Reply::Bulk(shown))) = (&read.op.action, read.reply())
    else {
        return None;
    };
    let writer = before
        .iter()
        .find(|write| write.set_value() == Some(shown) && write.region == read.region)?;
    let mut own = own(before, read).filter(|write| has_replaced(write));
    let replaced = own.find(|write| writer.is_over_before(write))?;
    Some(format!("{writer:?} was over before {replaced:?}"))
}

/// An element is shown that was added before the reader removed it, and that nobody adds again.
fn stale_element(before: &[&Operation], read: &Operation) -> Option<String> {
    let is_shown = |member: &Bytes| match (&read.op.action, read.reply()) {
        (Action::Read(Read::Members), Some(Reply::Set(shown))) => {
            shown.contains(&Reply::Bulk(member.clone()))
        }
        _ => false,
    };
    let removed = |write: &Operation, member: &Bytes| match (&write.op.action, write.reply()) {
        (Action::Write(Write::Remove { members }), Some(Reply::Int(_))) => members.contains(member),
        (Action::Write(Write::Delete), Some(Reply::Int(_))) => true,
        (Action::Write(Write::Pop { .. }), Some(Reply::Array(popped))) => {
            popped.contains(&Reply::Bulk(member.clone()))
        }
        _ => false,
    };
    let mut adds = before.iter().filter(|add| add.region == read.region);
    adds.find_map(|add| {
        let member = add.added().iter().find(|member| is_shown(member))?;
        let mut own = own(before, read).filter(|write| add.is_over_before(write));
        let removal = own.find(|write| removed(write, member))?;
        Some(format!("{member:?} of {add:?} was removed by {removal:?}"))
    })
}
