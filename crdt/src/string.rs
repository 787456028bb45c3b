//! Strings: a register and a counter under one key.
//!
//! ```text
//!   register   "7"                       GET = 7 + (3 - 1) + (2 - 0) - 0 = 11
//!   counts     a: +3   b: +2
//!   floors     a: +1                     what the last SET had seen of a
//! ```
//!
//! A SET or DEL writes the register and raises the floors to what it observed. So an increment that it did not see stays
//! above the floors and survives it, wherever and in whatever order the two arrive.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::{
    count::Count,
    register::Register,
    stamp::{ActorId, Hlc, Stamp},
};

/// The string slot of a key; also a delta of it, as each part joins alone. The default is "nothing known".
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct StringState {
    /// The last SET or DEL.
    pub register: Option<Register>,
    /// Each actor's increments and decrements.
    pub counts: BTreeMap<ActorId, Count>,
    /// What SETs and DELs have seen of them.
    pub floors: BTreeMap<ActorId, Count>,
    /// The last change from empty to non-empty; [`Stamp::ZERO`] where none is known. The newest wins.
    pub created: Stamp,
}

/// What a string reads as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StringValue {
    /// No such key.
    Absent,
    /// The register's bytes.
    Bytes(Bytes),
    /// The register's integer plus what stands above the floors. May lie outside i64: each increment was in range
    /// where it was made.
    Integer(i128),
}

impl StringState {
    /// Joins another state, or a delta, into this one.
    pub fn join(&mut self, other: &Self) {
        match (&mut self.register, &other.register) {
            (Some(mine), Some(theirs)) => mine.join(theirs),
            (mine @ None, Some(theirs)) => *mine = Some(theirs.clone()),
            (_, None) => {}
        }
        join_counts(&mut self.counts, &other.counts);
        join_counts(&mut self.floors, &other.floors);
        self.created = self.created.max(other.created);
    }

    /// What it reads as.
    pub fn value(&self) -> StringValue {
        let Some((inc, dec)) = self.above_floors() else {
            return self.text().map_or(StringValue::Absent, StringValue::Bytes);
        };
        match self.text() {
            None => StringValue::Integer(sum(0, inc, dec)),
            Some(text) => match parse_integer(&text) {
                Some(base) => StringValue::Integer(sum(base, inc, dec)),
                None => StringValue::Bytes(text),
            },
        }
    }

    /// Whether it reads as absent. (It may still remember a tombstone and floors.)
    pub fn is_empty(&self) -> bool {
        self.text().is_none() && self.above_floors().is_none()
    }

    /// Whether increments wait behind text that is no integer.
    pub fn has_conflict(&self) -> bool {
        let is_text = |text: Bytes| parse_integer(&text).is_none();
        self.text().is_some_and(is_text) && self.above_floors().is_some()
    }

    /// The delta of a SET (`Some`) or DEL (`None`) made here at `stamp`.
    ///
    /// It states every floor that it knows, raised to every count that it knows, also where nothing rises: a replica
    /// that missed an earlier SET must not show, on top of this one, increments that the earlier one had seen.
    pub fn set(&self, stamp: Stamp, value: Option<Bytes>) -> Self {
        debug_assert!(
            self.register.as_ref().is_none_or(|r| r.stamp < stamp),
            "a write is stamped after what it overwrites"
        );
        let creates = value.is_some() && self.is_empty();
        Self {
            register: Some(Register { stamp, value }),
            counts: BTreeMap::new(),
            floors: self.observed(),
            created: if creates { stamp } else { Stamp::ZERO },
        }
    }

    /// The delta of adding `by` (negative: taking away), made here by `stamp`'s actor. It carries that actor's count only,
    /// as totals, so it may be lost or doubled as long as a later one arrives.
    ///
    /// The actor must hold its own count as it last left it; one that may have forgotten it has renewed.
    pub fn increment(&self, stamp: Stamp, by: impl Into<i128>) -> Self {
        let count = self.own_count(stamp).stepped(by.into());
        Self {
            counts: BTreeMap::from([(stamp.actor, count)]),
            created: if self.is_empty() { stamp } else { Stamp::ZERO },
            ..Self::default()
        }
    }

    /// The delta of this key's expiry. It deletes only what is seen here: the register becomes a tombstone of its own stamp,
    /// the floors rise to the counts. A SET beside it, of whatever stamp, survives unless it is the one deleted.
    pub fn expired(&self) -> Self {
        Self {
            register: self.register.as_ref().map(Register::tombstone),
            floors: self.observed(),
            ..Self::default()
        }
    }

    /// The newest time in it, of anything that could push a clock; [`Hlc::ZERO`] if there is nothing.
    pub fn newest(&self) -> Hlc {
        let births = self.counts.values().chain(self.floors.values());
        let newest_birth = births.map(|count| count.birth).max().unwrap_or(Hlc::ZERO);
        let written = self.register.as_ref().map_or(Hlc::ZERO, |r| r.stamp.hlc);
        newest_birth.max(written).max(self.created.hlc)
    }

    fn text(&self) -> Option<Bytes> {
        self.register.as_ref()?.value.clone()
    }

    /// What stands above the floors, each part summed over the actors; `None` if nothing does.
    fn above_floors(&self) -> Option<(u128, u128)> {
        let mut total = (0u128, 0u128);
        for (actor, count) in &self.counts {
            let (inc, dec) = count.above(self.floors.get(actor));
            total = (total.0.saturating_add(inc), total.1.saturating_add(dec));
        }
        (total != (0, 0)).then_some(total)
    }

    /// When, and by whom, the newest of the entries was begun that have increments above the floors; [`Stamp::ZERO`] if none has.
    pub fn newest_above_floors(&self) -> Stamp {
        let above = self
            .counts
            .iter()
            .filter(|(actor, count)| count.above(self.floors.get(*actor)) != (0, 0));
        let begun = above.map(|(actor, count)| Stamp::new(count.birth, *actor));
        begun.max().unwrap_or(Stamp::ZERO)
    }

    /// Everything known of the counters, as floors.
    fn observed(&self) -> BTreeMap<ActorId, Count> {
        let mut floors = self.floors.clone();
        join_counts(&mut floors, &self.counts);
        floors
    }

    /// The entry that the stamping actor goes on from. Never behind a floor: a step from there would count nothing.
    fn own_count(&self, stamp: Stamp) -> Count {
        let Some(count) = self.counts.get(&stamp.actor) else {
            return self.new_count(stamp);
        };
        let mut count = *count;
        match self.floors.get(&stamp.actor) {
            Some(floor) if floor.birth > count.birth => return self.new_count(stamp),
            Some(floor) => count.join(floor),
            None => {}
        }
        count
    }

    fn new_count(&self, stamp: Stamp) -> Count {
        debug_assert!(
            self.floors
                .get(&stamp.actor)
                .is_none_or(|floor| floor.birth < stamp.hlc),
            "a new birth is after every one before it"
        );
        Count::new(stamp.hlc)
    }
}

/// The integer that bytes spell, in Redis's strict form: an i64 in its one canonical spelling. No plus sign, no spaces, no
/// leading zeros, no `-0`.
pub fn parse_integer(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    match digits {
        [b'0'] if !negative => return Some(0),
        [] | [b'0', ..] => return None,
        _ if digits.len() > I64_DIGITS_MAX => return None,
        _ => {}
    }
    // Downwards, because i64 has one more negative number than positive ones.
    let mut value = 0i64;
    for digit in digits {
        if !digit.is_ascii_digit() {
            return None;
        }
        value = value
            .checked_mul(10)?
            .checked_sub(i64::from(digit - b'0'))?;
    }
    if negative {
        Some(value)
    } else {
        value.checked_neg()
    }
}

const I64_DIGITS_MAX: usize = 19;

fn join_counts(mine: &mut BTreeMap<ActorId, Count>, theirs: &BTreeMap<ActorId, Count>) {
    for (actor, count) in theirs {
        mine.entry(*actor)
            .and_modify(|known| known.join(count))
            .or_insert(*count);
    }
}

/// `base + inc - dec`, exact wherever the result fits, else at the nearest end.
fn sum(base: i64, inc: u128, dec: u128) -> i128 {
    let up = i128::try_from(inc.saturating_sub(dec)).unwrap_or(i128::MAX);
    let down = i128::try_from(dec.saturating_sub(inc)).unwrap_or(i128::MAX);
    debug_assert!(up == 0 || down == 0);
    i128::from(base).saturating_add(up).saturating_sub(down)
}
