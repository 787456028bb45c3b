//! P7: inside a region a read sees every write that was acknowledged before it began, through whichever node; and an
//! acknowledged write is not undone by one that was acknowledged before it began.
//!
//! A regular register, key by key: of the writes of the read's own region, the one that is shown must not have been overwritten
//! by another that began after it was acknowledged and was acknowledged before the read began. Other regions may have written
//! at any time, so what they wrote is never stale.

use std::collections::{BTreeMap, BTreeSet};

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
        let elements;
        let stale: &dyn Fn(&Operation) -> Option<String> = match family {
            Family::Register | Family::Owned => &|read| stale_register(&operations, read),
            Family::Unique | Family::Small => {
                elements = Elements::of(&operations);
                &|read| stale_set(&elements, read)
            }
            Family::Counter
            | Family::Balance
            | Family::Resettable
            | Family::Anything
            | Family::Local
            | Family::Single
            | Family::Fading
            | Family::Turning => continue,
        };
        let reads = operations
            .iter()
            .filter(|operation| matches!(operation.op.action, Action::Read(_)));
        wrong.extend(reads.filter_map(|read| {
            let detail = stale(read)?;
            let detail = format!("{read:?} under {key:?}: {detail}");
            Some(Violation::new("P7", detail).about(&key))
        }));
    }
    wrong
}

fn stale_register(operations: &[&Operation], read: &Operation) -> Option<String> {
    let Action::Read(asked) = &read.op.action else {
        return None;
    };
    match (asked, reply(read)?) {
        (Read::Get, Reply::Bulk(shown)) => stale_value(operations, read, shown),
        (Read::Get, Reply::Nil) | (Read::Exists | Read::Strlen, Reply::Int(0)) => {
            lost_register(operations, read)
        }
        (Read::Type, Reply::Simple("none")) | (Read::ExpiresAtMs, Reply::Int(-2)) => {
            lost_register(operations, read)
        }
        (Read::ExpiresAtMs, Reply::Int(at)) if *at != -1 => {
            Some(format!("it expires at {at}, and nobody said so"))
        }
        (Read::Type, Reply::Simple(kind)) if *kind != "string" => {
            Some(format!("it is a {kind}, and nobody made one"))
        }
        (Read::Strlen, Reply::Int(length)) => {
            let is_so_long = |value: &&Bytes| value.len() as i64 == *length;
            let mut values = operations.iter().filter_map(|other| written(other));
            let is_right = values
                .any(|value| is_so_long(&value) && stale_value(operations, read, value).is_none());
            (!is_right).then(|| format!("no value of {length} bytes can be there"))
        }
        _ => None,
    }
}

fn stale_value(operations: &[&Operation], read: &Operation, shown: &Bytes) -> Option<String> {
    let writer = operations
        .iter()
        .find(|operation| written(operation) == Some(shown))?;
    let end = acknowledged(writer).filter(|_| writer.region == read.region)?;
    let later = operations
        .iter()
        .filter(|later| later.region == read.region && end < later.invoked)
        .find(|later| {
            let is_known = (is_sure_write(later) || is_delete(later)) && is_over(later, read);
            is_known || was_shown(operations, later, read)
        })?;
    Some(format!("{writer:?} was overwritten by {later:?}"))
}

/// Nothing is shown although something was set, and nobody can have deleted it: a delete of another region may be stamped later than it
/// was made, one of this region is not when the SET began after it.
fn lost_register(operations: &[&Operation], read: &Operation) -> Option<String> {
    let may_end = |delete: &Operation, set: &Operation| {
        let is_before = delete.region == set.region && is_over(delete, set);
        is_delete(delete) && !is_before && is_begun(delete, read)
    };
    let set = operations
        .iter()
        .filter(|set| set.region == read.region && is_sure_write(set) && is_over(set, read))
        .find(|set| !operations.iter().any(|other| may_end(other, set)))?;
    Some(format!("nothing is there, after {set:?}"))
}

/// Whether a read of the same region that was answered before this one began has shown what a write wrote.
fn was_shown(operations: &[&Operation], write: &Operation, read: &Operation) -> bool {
    let has_shown = |other: &&&Operation| {
        let shown = reply(other).filter(|_| is_read(other));
        matches!(shown, Some(Reply::Bulk(shown)) if written(write) == Some(shown))
    };
    let mut reads = operations.iter().filter(has_shown);
    reads.any(|other| other.region == read.region && is_over(other, read))
}

/// Elements that were ever added to a set, and for each the operations that add it or may remove it: a look at all operations for each
/// element and each read takes minutes where clients were quick.
struct Elements<'a>(BTreeMap<&'a Bytes, Vec<&'a Operation>>);

impl<'a> Elements<'a> {
    fn of(operations: &[&'a Operation]) -> Self {
        let members: BTreeSet<&Bytes> = operations.iter().flat_map(|add| added(add)).collect();
        let concerned = |member: &'a Bytes| {
            let operations = operations.iter().copied();
            let concerned = operations
                .filter(|other| added(other).contains(member) || may_remove(other, member));
            (member, concerned.collect())
        };
        Self(members.into_iter().map(concerned).collect())
    }

    /// Those of which an add is such a one, each with all that concerns it.
    fn added_by<'b>(
        &'b self,
        is_so: impl Fn(&Operation) -> bool + 'b,
    ) -> impl Iterator<Item = (&'a Bytes, &'b [&'a Operation])> + 'b {
        let elements = self.0.iter().filter(move |(member, concerned)| {
            let mut adds = concerned.iter().filter(|add| added(add).contains(member));
            adds.any(|add| is_so(add))
        });
        elements.map(|(member, concerned)| (*member, concerned.as_slice()))
    }
}

/// An element is shown that a remove of this region has ended, or one is not that an add of it has begun.
fn stale_set(elements: &Elements<'_>, read: &Operation) -> Option<String> {
    let shown = Shown::of(read)?;
    lost_element(elements, read, &shown)
        .or_else(|| removed_element(elements, read, &shown))
        .or_else(|| wrong_count(elements, read, &shown))
}

/// What a read says of a set.
pub(super) enum Shown<'a> {
    /// These are its elements.
    Elements(&'a [Reply]),
    /// Of these it has those that have a 1.
    Some(&'a [Bytes], &'a [Reply]),
    /// It has so many.
    Count(i64),
    /// Whether it has any.
    Any(bool),
}

impl<'a> Shown<'a> {
    pub(super) fn of(read: &'a Operation) -> Option<Self> {
        let Action::Read(asked) = &read.op.action else {
            return None;
        };
        match (asked, reply(read)?) {
            (Read::Members, Reply::Set(shown)) => Some(Self::Elements(shown)),
            (Read::AreMembers { members }, Reply::Array(shown)) => Some(Self::Some(members, shown)),
            (Read::Cardinality, Reply::Int(count)) => Some(Self::Count(*count)),
            (Read::Exists, Reply::Int(count)) => Some(Self::Any(*count > 0)),
            (Read::Type, Reply::Simple(kind)) => Some(Self::Any(*kind != "none")),
            _ => None,
        }
    }

    /// Whether it says that an element is there; `None` where it says nothing about it.
    pub(super) fn has(&self, member: &Bytes) -> Option<bool> {
        match self {
            Self::Elements(shown) => Some(shown.contains(&Reply::Bulk(member.clone()))),
            Self::Some(asked, shown) => {
                let at = asked.iter().position(|asked| asked == member)?;
                Some(shown.get(at) == Some(&Reply::Int(1)))
            }
            Self::Count(0) | Self::Any(false) => Some(false),
            Self::Count(_) | Self::Any(true) => None,
        }
    }
}

/// Fewer are there than must be, or more than can be.
fn wrong_count(elements: &Elements<'_>, read: &Operation, shown: &Shown<'_>) -> Option<String> {
    let (low, high) = match shown {
        Shown::Count(count) => (*count, *count),
        Shown::Any(true) => (1, i64::MAX),
        Shown::Any(false) | Shown::Elements(_) | Shown::Some(..) => return None,
    };
    let begun = || elements.added_by(|add| is_begun(add, read));
    let must =
        begun().filter(|(member, concerned)| must_be_there(concerned, read, member).is_some());
    let can = begun().filter(|(member, concerned)| must_be_gone(concerned, read, member).is_none());
    let (least, most) = (must.count(), can.count());
    let is_right = least as i64 <= high && low <= most as i64;
    (!is_right).then(|| format!("{low} are there, and it must be {least} to {most}"))
}

/// Who added an element that must be there, if it must.
fn must_be_there<'a>(
    operations: &[&'a Operation],
    read: &Operation,
    member: &Bytes,
) -> Option<&'a Operation> {
    let mut adds = operations.iter().copied().filter(|add| {
        added(add).contains(member) && add.region == read.region && is_over(add, read)
    });
    adds.find(|add| {
        !operations.iter().any(|operation| {
            may_remove(operation, member) && is_begun(operation, read) && !is_over(operation, add)
        })
    })
}

/// Who removed an element that must be gone, if it must.
fn must_be_gone<'a>(
    operations: &[&'a Operation],
    read: &Operation,
    member: &Bytes,
) -> Option<&'a Operation> {
    operations
        .iter()
        .copied()
        .find(|removal| has_ended(operations, removal, member, read))
}

/// An element that was added by an acknowledged operation of this region, and that nobody removed since, is there.
fn lost_element(elements: &Elements<'_>, read: &Operation, shown: &Shown<'_>) -> Option<String> {
    let mut missing = elements
        .added_by(|add| is_over(add, read))
        .filter(|(member, _)| shown.has(member) == Some(false));
    missing.find_map(|(member, concerned)| {
        let add = must_be_there(concerned, read, member)?;
        Some(format!("{member:?} is not there, after {add:?}"))
    })
}

/// An element that was removed by an acknowledged operation of this region, every add of which this region had acknowledged before, is
/// not there.
fn removed_element(elements: &Elements<'_>, read: &Operation, shown: &Shown<'_>) -> Option<String> {
    let mut there = elements
        .added_by(|add| is_begun(add, read))
        .filter(|(member, _)| shown.has(member) == Some(true));
    there.find_map(|(member, concerned)| {
        let removal = must_be_gone(concerned, read, member)?;
        Some(format!("{member:?} is there, after {removal:?}"))
    })
}

/// Whether a removal has surely ended an element before a read began.
fn has_ended(
    operations: &[&Operation],
    removal: &Operation,
    member: &Bytes,
    read: &Operation,
) -> bool {
    let is_removal = match &removal.op.action {
        Action::Write(Write::Remove { members }) => members.contains(member),
        Action::Write(Write::Delete) => true,
        _ => false,
    };
    let mut adds = operations
        .iter()
        .filter(|add| added(add).contains(member) && is_begun(add, read));
    is_removal
        && removal.region == read.region
        && is_over(removal, read)
        && adds.all(|add| add.region == removal.region && is_over(add, removal))
}

fn added(operation: &Operation) -> &[Bytes] {
    match &operation.op.action {
        Action::Write(Write::Add { members }) => members,
        _ => &[],
    }
}

/// Whether an operation removes an element where it finds it, or has.
pub(super) fn may_remove(operation: &Operation, member: &Bytes) -> bool {
    match (&operation.op.action, &operation.outcome) {
        (Action::Write(Write::Remove { members }), _) => members.contains(member),
        (Action::Write(Write::Pop { .. }), Outcome::Replied(Reply::Array(items))) => {
            items.contains(&Reply::Bulk(member.clone()))
        }
        (Action::Write(Write::Add { .. }) | Action::Read(_), _) => false,
        (Action::Write(_), _) => true,
    }
}

/// Whether an operation was answered before another one began.
fn is_over(operation: &Operation, other: &Operation) -> bool {
    acknowledged(operation).is_some_and(|end| end < other.invoked)
}

/// Whether an operation was asked before a read was answered, and was not refused.
fn is_begun(operation: &Operation, read: &Operation) -> bool {
    operation.outcome != Outcome::Refused
        && read.completed.is_none_or(|end| operation.invoked < end)
}

pub(super) fn is_delete(operation: &Operation) -> bool {
    matches!(
        operation.op.action,
        Action::Write(Write::Delete | Write::GetDel)
    )
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
