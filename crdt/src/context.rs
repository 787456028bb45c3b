//! Causal contexts: which dots of a key a replica, or a delta, has seen.
//!
//! Per actor a sorted list of disjoint half-open intervals `(lo, hi]` of time, adjacent ones merged:
//!
//! ```text
//!   a │   (───────]      (──]        two intervals: something between them is still on its way
//!   b │(────────────────────────]    the steady state: one interval per actor
//!     └──────────────────────────▶ hlc
//! ```
//!
//! Invariant, owned here: the list is in normal form, so equal sets are equal structs and equal bytes. Bytes that break it
//! do not decode.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize, Serializer};
use thiserror::Error;

use crate::stamp::{ActorId, Hlc, Stamp};

/// A set of dots. See the module.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(try_from = "Vec<(ActorId, Vec<Interval>)>")]
pub struct Context {
    actors: BTreeMap<ActorId, Vec<Interval>>,
}

impl Context {
    /// The empty set.
    pub const fn new() -> Self {
        Self {
            actors: BTreeMap::new(),
        }
    }

    /// Whether the dot is in the set. Nothing at [`Hlc::ZERO`] ever is: that is no dot.
    pub fn contains(&self, dot: Stamp) -> bool {
        let Some(intervals) = self.actors.get(&dot.actor) else {
            return false;
        };
        let at = intervals.partition_point(|i| i.hi < dot.hlc);
        intervals.get(at).is_some_and(|i| i.lo < dot.hlc)
    }

    /// The newest time of an actor in the set.
    pub fn newest(&self, actor: ActorId) -> Option<Hlc> {
        self.actors.get(&actor)?.last().map(|i| i.hi)
    }

    /// Adds one dot.
    pub fn insert(&mut self, dot: Stamp) {
        debug_assert!(dot.hlc > Hlc::ZERO, "time zero is no dot");
        self.insert_interval(dot.actor, dot.hlc.previous(), dot.hlc);
    }

    /// Adds `(lo, hi]` of an actor. Adds nothing where `lo >= hi`.
    pub fn insert_interval(&mut self, actor: ActorId, lo: Hlc, hi: Hlc) {
        if lo >= hi {
            return;
        }
        let intervals = self.actors.entry(actor).or_default();
        insert_merging(intervals, Interval { lo, hi });
        debug_assert!(is_normal(intervals));
    }

    /// Adds everything in `other`.
    pub fn union(&mut self, other: &Self) {
        for (actor, theirs) in &other.actors {
            match self.actors.get_mut(actor) {
                None => {
                    self.actors.insert(*actor, theirs.clone());
                }
                Some(mine) => unite(mine, theirs),
            }
        }
    }

    /// Whether everything in `other` is in this set.
    pub fn covers(&self, other: &Self) -> bool {
        other.actors.iter().all(|(actor, theirs)| {
            let mine = self.actors.get(actor).map_or(&[][..], Vec::as_slice);
            theirs.iter().all(|i| includes(mine, *i))
        })
    }

    /// What is in this set and not in `other`.
    pub fn difference(&self, other: &Self) -> Self {
        let mut rest = BTreeMap::new();
        for (actor, mine) in &self.actors {
            let theirs = other.actors.get(actor).map_or(&[][..], Vec::as_slice);
            let left = subtract(mine, theirs);
            if !left.is_empty() {
                rest.insert(*actor, left);
            }
        }
        Self { actors: rest }
    }

    /// Whether nothing is in the set.
    pub fn is_empty(&self) -> bool {
        self.actors.is_empty()
    }

    /// Every interval `(lo, hi]`, by actor, then by time.
    pub fn intervals(&self) -> impl Iterator<Item = (ActorId, Hlc, Hlc)> + '_ {
        self.actors
            .iter()
            .flat_map(|(actor, list)| list.iter().map(|i| (*actor, i.lo, i.hi)))
    }

    /// The newest time of any actor in the set; [`Hlc::ZERO`] if it is empty.
    pub fn newest_of_all(&self) -> Hlc {
        let ends = self.actors.values().filter_map(|list| list.last());
        ends.map(|i| i.hi).max().unwrap_or(Hlc::ZERO)
    }
}

impl FromIterator<Stamp> for Context {
    fn from_iter<I: IntoIterator<Item = Stamp>>(dots: I) -> Self {
        let mut context = Self::new();
        for dot in dots {
            context.insert(dot);
        }
        context
    }
}

impl Serialize for Context {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.actors.iter())
    }
}

impl TryFrom<Vec<(ActorId, Vec<Interval>)>> for Context {
    type Error = ContextError;

    fn try_from(lists: Vec<(ActorId, Vec<Interval>)>) -> Result<Self, ContextError> {
        if !lists.windows(2).all(|pair| pair[0].0 < pair[1].0) {
            return Err(ContextError::ActorsOutOfOrder);
        }
        if let Some((actor, _)) = lists.iter().find(|(_, list)| !is_normal(list)) {
            return Err(ContextError::NotNormal { actor: *actor });
        }
        let actors = lists.into_iter().collect();
        Ok(Self { actors })
    }
}

/// `(lo, hi]`, never empty. Encoded as its beginning and its length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "(Hlc, u64)", try_from = "(Hlc, u64)")]
pub struct Interval {
    lo: Hlc,
    hi: Hlc,
}

impl From<Interval> for (Hlc, u64) {
    fn from(interval: Interval) -> Self {
        debug_assert!(interval.lo < interval.hi, "no interval is empty");
        let length = interval.hi.as_u64() - interval.lo.as_u64();
        (interval.lo, length)
    }
}

impl TryFrom<(Hlc, u64)> for Interval {
    type Error = ContextError;

    fn try_from((lo, length): (Hlc, u64)) -> Result<Self, ContextError> {
        match lo.as_u64().checked_add(length) {
            Some(hi) if length > 0 => Ok(Self {
                lo,
                hi: Hlc::from_u64(hi),
            }),
            _ => Err(ContextError::BadInterval { lo, length }),
        }
    }
}

/// Why a list of intervals is no context.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum ContextError {
    /// Actors are not strictly ascending. *State unchanged.*
    #[error("a context's actors are not in strictly ascending order")]
    ActorsOutOfOrder,
    /// An actor's list is empty, unsorted, or has intervals that touch. *State unchanged.*
    #[error("the intervals of actor {actor} are not in normal form")]
    NotNormal {
        /// Whose list.
        actor: ActorId,
    },
    /// An interval is empty or ends beyond the end of time. *State unchanged.*
    #[error("an interval from {lo} of length {length} is empty or has no end")]
    BadInterval {
        /// Where it begins (exclusive).
        lo: Hlc,
        /// How long it claims to be.
        length: u64,
    },
}

fn is_normal(list: &[Interval]) -> bool {
    let apart = list.windows(2).all(|pair| pair[0].hi < pair[1].lo);
    apart && !list.is_empty() && list.iter().all(|i| i.lo < i.hi)
}

/// Puts one interval into a normal list, swallowing every interval that it touches.
fn insert_merging(list: &mut Vec<Interval>, new: Interval) {
    let from = list.partition_point(|i| i.hi < new.lo);
    let to = list.partition_point(|i| i.lo <= new.hi);
    if from == to {
        list.insert(from, new);
        return;
    }
    debug_assert!(from < to);
    list[from] = Interval {
        lo: new.lo.min(list[from].lo),
        hi: new.hi.max(list[to - 1].hi),
    };
    list.drain(from + 1..to);
}

fn unite(mine: &mut Vec<Interval>, theirs: &[Interval]) {
    // Nearly always one interval meets one; two long lists are merged in one pass, not by repeated insertion.
    if let [only] = theirs {
        insert_merging(mine, *only);
    } else {
        *mine = merge_lists(mine, theirs);
    }
    debug_assert!(is_normal(mine));
}

fn merge_lists(mine: &[Interval], theirs: &[Interval]) -> Vec<Interval> {
    let mut all: Vec<Interval> = mine.iter().chain(theirs).copied().collect();
    all.sort_unstable_by_key(|i| i.lo);
    let mut merged: Vec<Interval> = Vec::with_capacity(all.len());
    for next in all {
        match merged.last_mut() {
            Some(last) if next.lo <= last.hi => last.hi = last.hi.max(next.hi),
            _ => merged.push(next),
        }
    }
    merged
}

/// Whether one interval of a normal list holds all of `part`. (Touching ones are merged, so no two together could.)
fn includes(list: &[Interval], part: Interval) -> bool {
    let at = list.partition_point(|i| i.hi < part.hi);
    list.get(at).is_some_and(|i| i.lo <= part.lo)
}

fn subtract(mine: &[Interval], theirs: &[Interval]) -> Vec<Interval> {
    let mut left = Vec::with_capacity(mine.len());
    let mut at = 0;
    for whole in mine {
        let mut lo = whole.lo;
        at += theirs[at..].partition_point(|i| i.hi <= whole.lo);
        for cut in theirs[at..].iter().take_while(|i| i.lo < whole.hi) {
            if lo < cut.lo {
                left.push(Interval { lo, hi: cut.lo });
            }
            lo = cut.hi;
        }
        if lo < whole.hi {
            left.push(Interval { lo, hi: whole.hi });
        }
    }
    debug_assert!(left.is_empty() || is_normal(&left));
    left
}
