//! Stamps given anew: what a clock far ahead stamped, and nobody else has, is stamped as by another actor at a time that is near.
//!
//! ```text
//!   before   a ──●──●────┤ kept             x ─────── y ── z      x, y, z: far ahead, held here only
//!   after    a ──●──●────┤
//!            b               base, x' y' z'                       in their order, one tick apart
//! ```
//!
//! The map keeps the order of all stamps as long as `base` is at or after every stamp that is held and not given anew, so it
//! commutes with the joins: a state and the deltas that made it may be mapped apart and still belong together. That is the
//! invariant owned here. What it maps:
//!
//! - Dots, registers, expiries and changes from empty to non-empty change time and actor.
//! - An interval of a context is cut at the last stamp that was kept: what is below stays the old actor's, what is above becomes the
//!   new one's.
//! - A counter's entry keeps its actor. Its totals carry no time and are the actor's for ever: whoever has fewer of them joins the
//!   rest, whoever has them all counts nothing twice. Only a birth after what was kept is given anew.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    context::Context,
    count::Count,
    delta::Delta,
    dots::Dots,
    expiry::Expiry,
    part::Part,
    register::Register,
    rows::{Named, RowsDelta},
    stamp::{ActorId, Hlc, Stamp},
    string::StringState,
};

/// What is given new stamps: of some actors, everything after the last stamp that others may have.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Withdrawn {
    kept: BTreeMap<ActorId, Hlc>,
    times: BTreeSet<Hlc>,
}

/// Gives withdrawn stamps anew, in their order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restamp {
    kept: BTreeMap<ActorId, Hlc>,
    times: Vec<Hlc>,
    actor: ActorId,
    base: Hlc,
}

impl Withdrawn {
    /// Of each actor, everything after the time given with it.
    pub fn after(kept: BTreeMap<ActorId, Hlc>) -> Self {
        Self {
            kept,
            times: BTreeSet::new(),
        }
    }

    /// Notes a time that is to be given anew.
    pub fn note(&mut self, time: Hlc) {
        self.times.insert(time);
    }

    /// Notes every time in a delta that is to be given anew.
    pub fn note_delta(&mut self, delta: &Delta) {
        for part in &delta.parts {
            match part {
                Part::String(state) => self.note_string(state),
                Part::Set(rows) => self.note_rows(rows),
                Part::Expiry(expiry) => self.note_stamp(expiry.stamp),
                Part::Unknown(_) => {} // no actor of this release made it
            }
        }
    }

    /// Gives what was noted new stamps of `actor`, which has made none yet, from just after `base` on.
    pub fn restamp(self, actor: ActorId, base: Hlc) -> Restamp {
        debug_assert!(
            !self.kept.contains_key(&actor),
            "what is withdrawn becomes another actor's"
        );
        debug_assert!(
            self.kept.values().all(|kept| *kept <= base),
            "new stamps come after every one that was kept"
        );
        Restamp {
            kept: self.kept,
            times: self.times.into_iter().collect(),
            actor,
            base,
        }
    }

    fn note_string(&mut self, state: &StringState) {
        if let Some(register) = &state.register {
            self.note_stamp(register.stamp);
        }
        self.note_stamp(state.created);
        for (actor, count) in state.counts.iter().chain(&state.floors) {
            self.note_stamp(Stamp::new(count.birth, *actor));
        }
    }

    fn note_rows(&mut self, rows: &RowsDelta<()>) {
        self.note_stamp(rows.created);
        for (actor, _, hi) in rows.context.intervals() {
            self.note_stamp(Stamp::new(hi, actor));
        }
        if let Named::Rows(named) = &rows.named {
            let dots = named.values().flat_map(Dots::stamps);
            dots.for_each(|dot| self.note_stamp(dot));
        }
    }

    fn note_stamp(&mut self, stamp: Stamp) {
        if is_withdrawn(&self.kept, stamp) {
            self.times.insert(stamp.hlc);
        }
    }
}

impl Restamp {
    /// The last time that it gives.
    pub fn newest(&self) -> Hlc {
        Hlc::from_u64(self.base.as_u64() + self.times.len() as u64)
    }

    /// The time that takes the place of one that was noted. Of two times the later one stays the later one.
    pub fn time(&self, time: Hlc) -> Hlc {
        let rank = self.times.partition_point(|noted| *noted <= time) as u64;
        Hlc::from_u64(self.base.as_u64() + rank)
    }

    /// A stamp, or the one that takes its place.
    pub fn stamp(&self, stamp: Stamp) -> Stamp {
        if is_withdrawn(&self.kept, stamp) {
            Stamp::new(self.time(stamp.hlc), self.actor)
        } else {
            stamp
        }
    }

    /// A delta under the new stamps.
    pub fn delta(&self, delta: &Delta) -> Delta {
        let part = |part: &Part| match part {
            Part::String(state) => Part::String(self.string(state)),
            Part::Set(rows) => Part::Set(self.rows(rows)),
            Part::Expiry(expiry) => Part::Expiry(self.expiry(expiry)),
            Part::Unknown(_) => part.clone(),
        };
        Delta {
            key: delta.key.clone(),
            parts: delta.parts.iter().map(part).collect(),
        }
    }

    /// A string under the new stamps.
    pub fn string(&self, state: &StringState) -> StringState {
        let register = |register: &Register| Register {
            stamp: self.stamp(register.stamp),
            value: register.value.clone(),
        };
        StringState {
            register: state.register.as_ref().map(register),
            counts: self.counts(&state.counts),
            floors: self.counts(&state.floors),
            created: self.stamp(state.created),
        }
    }

    /// A change of rows under the new stamps.
    pub fn rows(&self, rows: &RowsDelta<()>) -> RowsDelta<()> {
        let named = match &rows.named {
            Named::All => Named::All,
            Named::Rows(named) => Named::Rows(
                named
                    .iter()
                    .map(|(element, dots)| (element.clone(), self.dots(dots)))
                    .collect(),
            ),
        };
        RowsDelta {
            context: self.context(&rows.context),
            named,
            created: self.stamp(rows.created),
        }
    }

    /// A row's dots under the new stamps.
    pub fn dots<P: Clone>(&self, dots: &Dots<P>) -> Dots<P> {
        let mut given: Vec<(Stamp, P)> = dots
            .iter()
            .map(|(dot, payload)| (self.stamp(dot), payload.clone()))
            .collect();
        given.sort_by_key(|(dot, _)| *dot);
        Dots::try_from(given).expect("different dots are given different stamps after time zero")
    }

    /// A context under the new stamps.
    pub fn context(&self, context: &Context) -> Context {
        let mut given = Context::new();
        for (actor, lo, hi) in context.intervals() {
            match self.kept.get(&actor).copied() {
                Some(kept) if hi > kept => {
                    given.insert_interval(actor, lo, kept);
                    given.insert_interval(self.actor, self.time(lo.max(kept)), self.time(hi));
                }
                Some(_) | None => given.insert_interval(actor, lo, hi),
            }
        }
        given
    }

    /// An expiry under the new stamps.
    pub fn expiry(&self, expiry: &Expiry) -> Expiry {
        Expiry {
            stamp: self.stamp(expiry.stamp),
            at_ms: expiry.at_ms,
        }
    }

    fn counts(&self, counts: &BTreeMap<ActorId, Count>) -> BTreeMap<ActorId, Count> {
        let count = |(actor, count): (&ActorId, &Count)| {
            let birth = if is_withdrawn(&self.kept, Stamp::new(count.birth, *actor)) {
                self.time(count.birth)
            } else {
                count.birth
            };
            (*actor, Count { birth, ..*count })
        };
        counts.iter().map(count).collect()
    }
}

fn is_withdrawn(kept: &BTreeMap<ActorId, Hlc>, stamp: Stamp) -> bool {
    kept.get(&stamp.actor).is_some_and(|kept| stamp.hlc > *kept)
}
