//! Levels, as `docs/consistency.md` promises them.
//!
//! **Copies.** When a write is acknowledged it is stored on as many replicas as its level names, of each region that it names: looked
//! at on their disks, at that moment, whatever the node that answered believed.
//!
//! **Meetings.** A read sees what was acknowledged before it wherever the two levels must share a replica, also in another region. What
//! a register shows is then stamped no earlier, and an element is there unless somebody removed it.

use std::time::Duration;

use bytes::Bytes;
use crdt::{Delta, Part, Stamp};
use node::{
    core::{
        op::{Action, Key, Read},
        reply::Reply,
    },
    level::Level,
    placement::Partition,
    storage::StorageError,
};

use super::{Violation, fresh, holding};
use crate::{
    sim::{
        host::Host,
        ledger::{Ledger, Row},
    },
    workload::{Family, History, Operation},
};

/// Whether reads at a level see what was acknowledged at it, inside a region with so many replicas of each key.
pub fn overlaps(level: Level, replicas: usize, regions: usize) -> bool {
    replicas == 1
        || match level {
            Level::Replicas(count) => usize::from(count.get()) > replicas / 2,
            Level::LocalQuorum | Level::EachQuorum | Level::All => true,
            // A majority of all replicas is perhaps none of this region's.
            Level::Quorum => regions == 1,
        }
}

/// How many replicas of a key each region keeps.
#[derive(Debug, Clone)]
pub struct Kept(pub Vec<usize>);

/// The replicas that a level names.
#[derive(Debug, PartialEq, Eq)]
enum Share {
    /// So many of each region.
    Each(Vec<usize>),
    /// So many, wherever they are.
    Any(usize),
}

impl Kept {
    /// What a level names that is asked for in a region.
    fn share(&self, level: Level, region: usize) -> Share {
        let majority = |replicas: &usize| if *replicas == 0 { 0 } else { replicas / 2 + 1 };
        let here = |count: usize| {
            let mut each = vec![0; self.0.len()];
            each[region] = count;
            Share::Each(each)
        };
        match level {
            Level::Replicas(count) => here(count.get().into()),
            Level::LocalQuorum => here(majority(&self.0[region])),
            Level::EachQuorum => Share::Each(self.0.iter().map(majority).collect()),
            Level::Quorum => Share::Any(self.total() / 2 + 1),
            Level::All => Share::Each(self.0.clone()),
        }
    }

    /// Whether these two name a replica in common, whichever replicas they are.
    fn meet(&self, one: &Share, other: &Share) -> bool {
        match (one, other) {
            (Share::Each(one), Share::Each(other)) => {
                let both = one.iter().zip(other).map(|(one, other)| one + other);
                both.zip(&self.0).any(|(both, kept)| both > *kept)
            }
            (Share::Each(each), Share::Any(count)) | (Share::Any(count), Share::Each(each)) => {
                self.total() - each.iter().sum::<usize>() < *count
            }
            (Share::Any(one), Share::Any(other)) => one + other > self.total(),
        }
    }

    fn total(&self) -> usize {
        self.0.iter().sum()
    }

    /// Whether a read must share a replica with a write.
    fn must_meet(&self, write: &Operation, read: &Operation) -> bool {
        let written = self.share(write.op.level, write.region);
        let level = match read.op.level {
            Level::EachQuorum => Level::LocalQuorum, // it is for writes; a read has no more of it
            level => level,
        };
        self.meet(&written, &self.share(level, read.region))
    }
}

impl Share {
    fn is_met_by(&self, have: &[usize]) -> bool {
        match self {
            Self::Each(each) => have.iter().zip(each).all(|(have, need)| have >= need),
            Self::Any(count) => have.iter().sum::<usize>() >= *count,
        }
    }
}

/// Whether a write that was just acknowledged is on fewer replicas than its level names. Nothing is said where what it wrote is not
/// known: where it is in one row with another write of the same key, for one.
pub fn check_copies(
    operation: &Operation,
    ledger: &Ledger,
    hosts: &[Host],
    kept: &Kept,
) -> Option<Violation> {
    operation.acknowledged()?;
    let need = kept.share(operation.op.level, operation.region);
    let per_region = hosts.len() / kept.0.len();
    written(operation, ledger, per_region).find_map(|delta| {
        let have = copies(delta, operation, hosts, kept).ok()?;
        (!need.is_met_by(&have)).then(|| {
            let detail = format!("{operation:?} is on {have:?} replicas, by region, not {need:?}");
            Violation::new("level", detail).about(&operation.op.key)
        })
    })
}

/// What a write came to: the newest of each, which is its correction where there was one.
fn written<'a>(
    operation: &'a Operation,
    ledger: &'a Ledger,
    per_region: usize,
) -> impl Iterator<Item = &'a Delta> {
    // Of these families nobody else writes the same.
    let family = Family::of(&operation.op.key);
    let is_register = matches!(family, Family::Register | Family::Owned);
    let is_set = is_register && operation.reply() == Some(&Reply::Ok);
    let sets = operation.set_value().into_iter().filter(move |_| is_set);
    let is_unique = family == Family::Unique;
    let adds = operation.added().iter().filter(move |_| is_unique);
    let since = move || {
        let rows = ledger.rows().iter().rev();
        let rows = rows.take_while(|row| row.committed >= operation.invoked);
        let rows = rows.filter(move |row| {
            row.origin / per_region == operation.region && !row.is_withdrawn && !row.is_doubtful
        });
        rows.flat_map(|row| row.deltas.iter().rev())
            .filter(|delta| delta.key == operation.op.key)
    };
    let set = sets.filter_map(move |value| since().find(|delta| sets_to(delta, value)));
    let added = adds.filter_map(move |member| since().find(|delta| adds_to(delta, member)));
    set.chain(added)
}

/// How many replicas of each region have everything that a delta says. Other nodes of the writer's region count as well that hold it for
/// a replica, where that is allowed.
fn copies(
    delta: &Delta,
    operation: &Operation,
    hosts: &[Host],
    kept: &Kept,
) -> Result<Vec<usize>, StorageError> {
    let partition = Partition::of(&delta.key);
    let per_region = hosts.len() / kept.0.len();
    let mut have = vec![0; kept.0.len()];
    for host in hosts {
        let (region, home) = (host.index / per_region, host.home());
        let may_stand_in = home.is_sloppy && operation.op.level != Level::All;
        let has_it = if home.holds(partition) {
            has(host, delta)?
        } else {
            may_stand_in && region == operation.region && holding::has_hint(&*host.storage, delta)?
        };
        have[region] += usize::from(has_it);
    }
    Ok(have)
}

/// Whether joining a delta would change nothing at a host.
fn has(host: &Host, delta: &Delta) -> Result<bool, StorageError> {
    let known = holding::state(&*host.storage, &delta.key)?;
    let mut joined = known.clone();
    joined.join(delta);
    Ok(joined == known)
}

fn sets_to(delta: &Delta, value: &Bytes) -> bool {
    let mut registers = registers(delta);
    registers.any(|(_, written)| written == Some(value))
}

fn adds_to(delta: &Delta, member: &Bytes) -> bool {
    delta.parts.iter().any(|part| match part {
        Part::Set(rows) => match &rows.named {
            crdt::Named::Rows(rows) => rows.get(member).is_some_and(|dots| !dots.is_empty()),
            crdt::Named::All => false,
        },
        Part::String(_) | Part::Expiry(_) | Part::Unknown(_) => false,
    })
}

fn registers(delta: &Delta) -> impl Iterator<Item = (Stamp, Option<&Bytes>)> {
    delta.parts.iter().filter_map(|part| match part {
        Part::String(state) => {
            let register = state.register.as_ref()?;
            Some((register.stamp, register.value.as_ref()))
        }
        Part::Set(_) | Part::Expiry(_) | Part::Unknown(_) => None,
    })
}

/// What a read has not seen.
type Look<'a> = Box<dyn Fn(&Operation) -> Option<String> + 'a>;

/// What reads have not seen that they must have.
pub fn check_meetings(history: &History, ledger: &Ledger, kept: &Kept) -> Vec<Violation> {
    let mut wrong = Vec::new();
    for (key, family) in history.keys() {
        let operations: Vec<&Operation> = history.of_key(&key).collect();
        let reads = operations
            .iter()
            .filter(|operation| matches!(operation.op.action, Action::Read(_)));
        let missed: Look<'_> = match family {
            Family::Register | Family::Owned => {
                let writes = Writes::of(&key, ledger);
                let operations = &operations;
                Box::new(move |read| writes.missed(operations, read, kept))
            }
            Family::Unique => Box::new(|read| missed_element(&operations, read, kept)),
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
        wrong.extend(reads.filter_map(|read| {
            let detail = format!("{read:?} has not seen {}", missed(read)?);
            Some(Violation::new("level", detail).about(&key))
        }));
    }
    wrong
}

/// Everything that was ever written into a register.
struct Writes<'a>(Vec<Written<'a>>);

struct Written<'a> {
    committed: Duration,
    is_withdrawn: bool,
    stamp: Stamp,
    value: Option<&'a Bytes>,
}

impl<'a> Writes<'a> {
    fn of(key: &Key, ledger: &'a Ledger) -> Self {
        let of_row = |row: &'a Row| {
            let deltas = row.deltas.iter().filter(|delta| delta.key == key);
            deltas.flat_map(registers).map(|(stamp, value)| Written {
                committed: row.committed,
                is_withdrawn: row.is_withdrawn,
                stamp,
                value,
            })
        };
        Self(ledger.rows().iter().flat_map(of_row).collect())
    }

    fn missed(&self, operations: &[&Operation], read: &Operation, kept: &Kept) -> Option<String> {
        let shown = self.shown(operations, read)?;
        let mut known = operations.iter().filter(|write| {
            let is_set = write.set_value().is_some() && write.reply() == Some(&Reply::Ok);
            is_set && write.is_over_before(read) && kept.must_meet(write, read)
        });
        let missed = known.find(|write| self.stamp(write).is_some_and(|stamp| stamp > shown))?;
        Some(format!("{missed:?}"))
    }

    /// The newest stamp that what a read shows can have; `None` where that is not known: of writes of one batch the last one's is.
    fn shown(&self, operations: &[&Operation], read: &Operation) -> Option<Stamp> {
        let Action::Read(asked) = &read.op.action else {
            return None;
        };
        let newest = |fits: &dyn Fn(Option<&Bytes>) -> bool| {
            let fitting = self.0.iter().filter(|written| fits(written.value));
            fitting.map(|written| written.stamp).max()
        };
        let nothing = || {
            let may_delete =
                |other: &&Operation| fresh::is_delete(other) && other.is_begun_before_end_of(read);
            let is_deleted = operations.iter().copied().any(|other| may_delete(&other));
            (!is_deleted).then_some(Stamp::ZERO)
        };
        match (asked, read.reply()?) {
            (Read::Get, Reply::Bulk(shown)) => newest(&|value| value == Some(shown)),
            (Read::Get, Reply::Nil)
            | (Read::Exists | Read::Strlen, Reply::Int(0))
            | (Read::Type, Reply::Simple("none"))
            | (Read::ExpiresAtMs, Reply::Int(-2)) => nothing(),
            (Read::Strlen, Reply::Int(length)) => {
                newest(&|value| value.is_some_and(|value| value.len() as i64 == *length))
            }
            _ => None,
        }
    }

    /// Under which stamp a write was acknowledged; `None` where that is not known.
    fn stamp(&self, write: &Operation) -> Option<Stamp> {
        let own = || self.0.iter().filter(|own| own.value == write.set_value());
        if own().any(|own| own.is_withdrawn) {
            return None;
        }
        let then = own().filter(|own| Some(own.committed) <= write.completed);
        then.map(|own| own.stamp).max()
    }
}

/// An element that was added in another region is not there, and nobody has removed it.
fn missed_element(operations: &[&Operation], read: &Operation, kept: &Kept) -> Option<String> {
    let shown = fresh::Shown::of(read)?;
    let mut known = operations.iter().filter(|add| {
        add.region != read.region && add.is_over_before(read) && kept.must_meet(add, read)
    });
    known.find_map(|add| {
        let is_missing = |member: &&Bytes| shown.has(member) == Some(false);
        let member = add.added().iter().find(is_missing)?;
        let is_removed = operations
            .iter()
            .any(|other| fresh::may_remove(other, member) && other.is_begun_before_end_of(read));
        (!is_removed).then(|| format!("{member:?} of {add:?}"))
    })
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU8;

    use super::*;

    fn meets(write: (Level, usize), read: (Level, usize)) -> bool {
        let kept = Kept(vec![3, 3, 3]);
        kept.meet(&kept.share(write.0, write.1), &kept.share(read.0, read.1))
    }

    #[test]
    fn levels_meet_where_the_documentation_says_so() {
        let one = Level::Replicas(NonZeroU8::MIN);
        assert!(meets((Level::LocalQuorum, 0), (Level::LocalQuorum, 0)));
        assert!(!meets((Level::LocalQuorum, 0), (Level::LocalQuorum, 1)));
        assert!(!meets((one, 0), (one, 0)));
        assert!(meets((Level::Quorum, 0), (Level::Quorum, 1)));
        assert!(!meets((Level::Quorum, 0), (Level::LocalQuorum, 0)));
        assert!(meets((Level::All, 0), (one, 2)));
        assert!(meets((one, 0), (Level::All, 2)));
        assert!(meets((Level::EachQuorum, 0), (Level::LocalQuorum, 2)));
        assert!(meets((Level::EachQuorum, 0), (Level::Quorum, 2)));
        assert!(!meets((Level::EachQuorum, 0), (one, 2)));
    }
}
