//! Rows: an add-wins observed-remove map from elements to dots, moved as deltas that name the rows they touch.
//!
//! ```text
//!   SADD k x   at d   context (p, d] ∪ {dots of x here}     rows  x → {d}
//!   SREM k x          context {dots of x here}              rows  x → {}
//!   DEL k             context of the whole key              all rows
//! ```
//!
//! A delta changes no row that it does not name, so an add to a set of a million costs what it costs in a set of one. Two rules
//! keep its context honest. A dot names ONE row of ONE key: an add of several elements is several stamps. And `p` is the
//! adding actor's newest dot in the key's context *as held here*, or `d - 1` where it holds none: an interval never
//! claims what this shard cannot see.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use thiserror::Error;

pub use crate::dots::{Dots, join_row};
use crate::{
    context::Context,
    stamp::{Hlc, Stamp},
};

/// The name of a row: a set's member, a hash's field.
pub type Element = Bytes;

/// Which rows a delta speaks of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(bound(deserialize = "P: Deserialize<'de>"))]
// Persisted: variants are encoded by position. Append only.
pub enum Named<P> {
    /// These, each with the dots that it has on the sender's side. No dots: the row was removed.
    Rows(BTreeMap<Element, Dots<P>>),
    /// Every row of the key, and none has a dot left of those in the context.
    All,
}

/// A change of some rows of one key. Every dot in it is in its context.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "RawRowsDelta<P>")]
#[serde(bound(deserialize = "P: Deserialize<'de>"))]
pub struct RowsDelta<P> {
    /// What the change has seen: the dots that it adds, replaces and removes.
    pub context: Context,
    /// The rows that it speaks of.
    pub named: Named<P>,
    /// The stamp of a change from empty to non-empty, else [`Stamp::ZERO`].
    pub created: Stamp,
}

/// The delta of adding one element at `stamp`.
///
/// `context` is the key's, `replaced` the element's dots, both as held here before the add; `was_empty` says whether the key
/// had no live row. For several elements: one stamp and one call each, with the context grown by the delta before.
pub fn add<P>(
    context: &Context,
    stamp: Stamp,
    element: Element,
    replaced: &Dots<P>,
    payload: P,
    was_empty: bool,
) -> RowsDelta<P> {
    let newest = context.newest(stamp.actor);
    debug_assert!(
        newest.is_none_or(|newest| newest < stamp.hlc),
        "an actor's stamps increase"
    );
    let before = stamp.hlc.previous();
    let held = newest.map_or(before, |newest| newest.min(before));
    let mut seen: Context = replaced.stamps().collect();
    seen.insert_interval(stamp.actor, held, stamp.hlc);
    RowsDelta {
        context: seen,
        named: Named::Rows(BTreeMap::from([(element, Dots::single(stamp, payload))])),
        created: if was_empty { stamp } else { Stamp::ZERO },
    }
}

/// The delta of removing elements, each given with its dots as held here. One that has none is named all the same, so that
/// a replica which knows more can say so.
pub fn remove<'a, P: 'a>(
    removed: impl IntoIterator<Item = (Element, &'a Dots<P>)>,
) -> RowsDelta<P> {
    let mut context = Context::new();
    let mut rows = BTreeMap::new();
    for (element, dots) in removed {
        dots.stamps().for_each(|dot| context.insert(dot));
        rows.insert(element, Dots::new());
    }
    RowsDelta {
        context,
        named: Named::Rows(rows),
        created: Stamp::ZERO,
    }
}

/// The delta of removing every row that is held here: small, however many there are.
pub fn clear<P>(context: &Context) -> RowsDelta<P> {
    RowsDelta {
        context: context.clone(),
        named: Named::All,
        created: Stamp::ZERO,
    }
}

impl<P: Clone> RowsDelta<P> {
    /// Coalesces `later`, a delta of the same key that the same coordinator made after this one: joining the result is
    /// joining both.
    ///
    /// Gives `later` back, and leaves this one as it was, where no single delta says both. That is an add after a clear (all rows
    /// are gone *but* one; the two must travel side by side), and a clear that did not see this delta (it was not made after it).
    pub fn merge(&mut self, later: Self) -> Result<(), Self> {
        if !self.can_merge(&later) {
            return Err(later);
        }
        match (&mut self.named, later.named) {
            (Named::Rows(mine), Named::Rows(theirs)) => {
                merge_rows(mine, &self.context, theirs, &later.context);
            }
            (named, Named::All) => *named = Named::All,
            (Named::All, Named::Rows(_)) => {}
        }
        self.context.union(&later.context);
        self.created = self.created.max(later.created);
        Ok(())
    }

    /// The newest time in it, of anything that could push a clock; [`Hlc::ZERO`] if there is nothing.
    pub fn newest(&self) -> Hlc {
        let dots = match &self.named {
            Named::Rows(rows) => newest_dot(rows),
            Named::All => Hlc::ZERO,
        };
        dots.max(self.context.newest_of_all()).max(self.created.hlc)
    }

    fn can_merge(&self, later: &Self) -> bool {
        match (&self.named, &later.named) {
            (Named::Rows(_), Named::Rows(_)) | (Named::All, Named::All) => true,
            // A clear made later has seen every dot of this delta, so none of its rows is left.
            (Named::Rows(_), Named::All) => later.context.covers(&self.context),
            // A removal adds nothing to a clear but dots to be gone.
            (Named::All, Named::Rows(rows)) => rows.values().all(Dots::is_empty),
        }
    }
}

/// A row that only one delta names stays as that one has it: the other's context holds no dot of it.
fn merge_rows<P: Clone>(
    mine: &mut BTreeMap<Element, Dots<P>>,
    my_context: &Context,
    theirs: BTreeMap<Element, Dots<P>>,
    their_context: &Context,
) {
    for (element, dots) in theirs {
        let row = mine.entry(element).or_default();
        *row = join_row(row, my_context, &dots, their_context);
    }
}

/// The rows of one key held whole in memory: what storage holds row by row, and the reference that it is tested against.
/// No row in it is without dots, and every dot is in the context.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rows<P> {
    /// Every dot seen, live or removed.
    pub context: Context,
    /// The live rows.
    pub rows: BTreeMap<Element, Dots<P>>,
    /// The last change from empty to non-empty; [`Stamp::ZERO`] where none is known. The newest wins.
    pub created: Stamp,
}

impl<P> Default for Rows<P> {
    fn default() -> Self {
        Self {
            context: Context::new(),
            rows: BTreeMap::new(),
            created: Stamp::ZERO,
        }
    }
}

impl<P> Rows<P> {
    /// The live elements, in byte order.
    pub fn live(&self) -> impl Iterator<Item = &Element> + '_ {
        self.rows.keys()
    }

    /// The dots of an element, if it is live.
    pub fn dots(&self, element: &[u8]) -> Option<&Dots<P>> {
        self.rows.get(element)
    }

    /// Whether no row is live. (Dots seen and removed may still be remembered.)
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }
}

impl<P: Clone> Rows<P> {
    /// Joins a delta.
    pub fn join(&mut self, delta: &RowsDelta<P>) {
        match &delta.named {
            Named::Rows(rows) => {
                for (element, dots) in rows {
                    self.join_named(element, dots, &delta.context);
                }
            }
            Named::All => self.join_all(&BTreeMap::new(), &delta.context),
        }
        self.context.union(&delta.context);
        self.created = self.created.max(delta.created);
        self.check();
    }

    /// Joins another replica's whole state.
    pub fn join_state(&mut self, other: &Self) {
        self.join_all(&other.rows, &other.context);
        self.context.union(&other.context);
        self.created = self.created.max(other.created);
        self.check();
    }

    /// This state as deltas, to be joined together in any order: first that everything seen and not live is gone from every
    /// row, then the live rows. None for a state that knows nothing.
    ///
    /// One delta of all live rows with the whole context would be wrong: it would not name the rows that were removed, and
    /// its context would stop their removal from ever being joined.
    pub fn deltas(&self) -> Vec<RowsDelta<P>> {
        let mut live: Vec<Stamp> = self.rows.values().flat_map(Dots::stamps).collect();
        live.sort_unstable();
        let live: Context = live.into_iter().collect();
        let gone = clear(&self.context.difference(&live));
        let held = RowsDelta {
            context: live,
            named: Named::Rows(self.rows.clone()),
            created: self.created,
        };
        let says_something =
            |delta: &RowsDelta<P>| !delta.context.is_empty() || delta.created != Stamp::ZERO;
        [gone, held].into_iter().filter(says_something).collect()
    }

    fn join_named(&mut self, element: &Element, theirs: &Dots<P>, their_context: &Context) {
        let none = Dots::new();
        let mine = self.rows.get(element).unwrap_or(&none);
        let joined = join_row(mine, &self.context, theirs, their_context);
        if joined.is_empty() {
            self.rows.remove(element);
        } else {
            self.rows.insert(element.clone(), joined);
        }
    }

    /// Joins every row of the key, `theirs` being all that the other side has left.
    fn join_all(&mut self, theirs: &BTreeMap<Element, Dots<P>>, their_context: &Context) {
        let none = Dots::new();
        self.rows.retain(|element, mine| {
            let other = theirs.get(element).unwrap_or(&none);
            *mine = join_row(mine, &self.context, other, their_context);
            !mine.is_empty()
        });
        for (element, dots) in theirs {
            self.join_named(element, dots, their_context);
        }
    }

    fn check(&self) {
        debug_assert!(self.rows.values().all(|dots| !dots.is_empty()));
    }
}

/// Why a decoded delta is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum RowsError {
    /// A dot is not in the delta's context; once joined, a copy of it would come back after its removal. *State unchanged.*
    #[error("the dot {dot} is outside the context of the delta that carries it")]
    Uncovered {
        /// Which dot.
        dot: Stamp,
    },
}

/// What a delta is encoded as, before it is known to be sound.
#[derive(Deserialize)]
#[serde(bound(deserialize = "P: Deserialize<'de>"))]
struct RawRowsDelta<P> {
    context: Context,
    named: Named<P>,
    created: Stamp,
}

impl<P> TryFrom<RawRowsDelta<P>> for RowsDelta<P> {
    type Error = RowsError;

    fn try_from(raw: RawRowsDelta<P>) -> Result<Self, RowsError> {
        if let Named::Rows(rows) = &raw.named {
            let mut dots = rows.values().flat_map(Dots::stamps);
            if let Some(dot) = dots.find(|dot| !raw.context.contains(*dot)) {
                return Err(RowsError::Uncovered { dot });
            }
        }
        Ok(Self {
            context: raw.context,
            named: raw.named,
            created: raw.created,
        })
    }
}

fn newest_dot<P>(rows: &BTreeMap<Element, Dots<P>>) -> Hlc {
    let newest = rows.values().filter_map(|dots| dots.stamps().next_back());
    newest.map(|dot| dot.hlc).max().unwrap_or(Hlc::ZERO)
}
