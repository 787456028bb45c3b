//! P7 for a register with one writer: its region's clients see one value after the other, as if each write and each read happened
//! at one moment between its beginning and its end.
//!
//! ```text
//!   SET a ├──────┤              ├─ SET b ─┤
//!      GET → a ├───┤    GET → a ├─┤   GET → b ├──┤
//!              ╰──── the group of a ───╯╰── of b ──╯     in some order of the groups nothing is seen before it ended
//! ```
//! Gibbons and Korach, "Testing Shared Memories" (1997), section 4: where no two writes write the same value, a write and the reads
//! that show it stand together, and the history is linearizable exactly if nothing is read before it is written and of any two
//! such groups one can stand before the other. So the check is quick however many operations there are; that it agrees with a
//! search through all orders is tested against another implementation.
//!
//! A write that nobody knows the outcome of never returned: it may take effect at any later time, or never.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use node::core::{
    op::{Action, Read, Write},
    reply::Reply,
};

use super::Violation;
use crate::workload::{Family, History, Operation, Outcome};

/// A write of a register, or a read of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Access {
    /// What was written or read; `None`: nothing was ever written.
    pub value: Option<Bytes>,
    /// Whether it wrote it.
    pub is_write: bool,
    /// When it began.
    pub begun: Duration,
    /// When it ended; never, where nobody knows what became of a write.
    pub ended: Option<Duration>,
}

impl Access {
    fn ended(&self) -> Duration {
        self.ended.unwrap_or(Duration::MAX)
    }
}

/// What is wrong.
pub fn check(history: &History) -> Vec<Violation> {
    let mut wrong = Vec::new();
    for (key, family) in history.keys() {
        if family == Family::Owned
            && let Err(detail) = judge(&accesses(history, &key))
        {
            let detail = format!("{key:?} is not linearizable: {detail}");
            wrong.push(Violation::new("P7", detail).about(&key));
        }
    }
    wrong
}

/// What the clients of the writer's region did with a key, as far as it is known.
pub fn accesses(history: &History, key: &[u8]) -> Vec<Access> {
    let writer = history
        .of_key(key)
        .find(|operation| matches!(operation.op.action, Action::Write(_)));
    let region = writer.map(|writer| writer.region);
    let of_region = history
        .of_key(key)
        .filter(|operation| region.is_none_or(|region| operation.region == region));
    of_region.filter_map(access).collect()
}

fn access(operation: &Operation) -> Option<Access> {
    let access = |value, is_write, ended| {
        Some(Access {
            value,
            is_write,
            begun: operation.invoked,
            ended,
        })
    };
    match (&operation.op.action, &operation.outcome) {
        (Action::Write(Write::Set { value, .. }), Outcome::Replied(Reply::Ok)) => {
            access(Some(value.clone()), true, operation.completed)
        }
        (Action::Write(Write::Set { value, .. }), Outcome::Unknown | Outcome::Pending) => {
            access(Some(value.clone()), true, None)
        }
        (Action::Read(Read::Get), Outcome::Replied(Reply::Bulk(value))) => {
            access(Some(value.clone()), false, operation.completed)
        }
        (Action::Read(Read::Get), Outcome::Replied(Reply::Nil)) => {
            access(None, false, operation.completed)
        }
        _ => None,
    }
}

/// Whether the accesses of a register are linearizable, and if not, what contradicts it.
///
/// # Errors
/// What cannot be, in words.
pub fn judge(accesses: &[Access]) -> Result<(), String> {
    let groups = groups(accesses)?;
    for (at, one) in groups.iter().enumerate() {
        for other in &groups[at + 1..] {
            if !one.may_precede(other) && !other.may_precede(one) {
                return Err(format!("neither {one} nor {other} can come first"));
            }
        }
    }
    Ok(())
}

/// A write and the reads that show it.
#[derive(Debug)]
struct Group<'a> {
    value: Option<&'a Bytes>,
    /// When its writing began.
    written: Duration,
    /// When the first of them ended.
    first_end: Duration,
    /// When the last of them began.
    last_begin: Duration,
}

impl Group<'_> {
    fn may_precede(&self, other: &Self) -> bool {
        self.last_begin <= other.first_end
    }
}

impl std::fmt::Display for Group<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            value,
            first_end,
            last_begin,
            ..
        } = self;
        match value {
            Some(value) => write!(f, "{value:?}")?,
            None => f.write_str("nothing")?,
        }
        write!(f, " (there at {first_end:?}, and at {last_begin:?})")
    }
}

fn groups(accesses: &[Access]) -> Result<Vec<Group<'_>>, String> {
    // Before everything, nothing was written.
    let nothing = Group {
        value: None,
        written: Duration::ZERO,
        first_end: Duration::ZERO,
        last_begin: Duration::ZERO,
    };
    let mut groups = BTreeMap::from([(None, nothing)]);
    for write in accesses.iter().filter(|access| access.is_write) {
        let group = Group {
            value: write.value.as_ref(),
            written: write.begun,
            first_end: write.ended(),
            last_begin: write.begun,
        };
        if groups.insert(group.value, group).is_some() {
            return Err(format!("{:?} was written twice", write.value));
        }
    }
    for read in accesses.iter().filter(|access| !access.is_write) {
        let Some(group) = groups.get_mut(&read.value.as_ref()) else {
            return Err(format!("{:?} was never written", read.value));
        };
        if read.ended() < group.written {
            return Err(format!("{group} was read before it was written"));
        }
        group.first_end = group.first_end.min(read.ended());
        group.last_begin = group.last_begin.max(read.begun);
    }
    Ok(groups.into_values().collect())
}
