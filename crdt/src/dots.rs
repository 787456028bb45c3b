//! The dots of one row, each with its payload, and the join of one row.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{
    context::Context,
    stamp::{Hlc, Stamp},
};

/// The adds of one element that no remove has seen, sorted by stamp. A payload hangs on its dot, not on the row. A row
/// without dots is no row: it is absent, or named by a delta that removes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<(Stamp, P)>")]
#[serde(bound(deserialize = "P: Deserialize<'de>"))]
pub struct Dots<P> {
    dots: Vec<(Stamp, P)>,
}

impl<P> Dots<P> {
    /// No dots.
    pub const fn new() -> Self {
        Self { dots: Vec::new() }
    }

    /// One dot.
    pub fn single(dot: Stamp, payload: P) -> Self {
        debug_assert!(dot.hlc > Hlc::ZERO, "time zero is no dot");
        Self {
            dots: vec![(dot, payload)],
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.dots.is_empty()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.dots.len()
    }

    /// Each dot and its payload, oldest first.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (Stamp, &P)> + '_ {
        self.dots.iter().map(|(dot, payload)| (*dot, payload))
    }

    /// Each dot, oldest first.
    pub fn stamps(&self) -> impl DoubleEndedIterator<Item = Stamp> + '_ {
        self.dots.iter().map(|(dot, _)| *dot)
    }

    /// Whether a dot is among them.
    pub fn contains(&self, dot: Stamp) -> bool {
        self.dots.binary_search_by_key(&dot, |(d, _)| *d).is_ok()
    }

    /// The newest dot and its payload: what a last-writer-wins field shows.
    pub fn newest(&self) -> Option<(Stamp, &P)> {
        self.iter().next_back()
    }
}

impl<P: Clone> Dots<P> {
    /// Those that a context contains.
    #[must_use]
    pub fn within(&self, context: &Context) -> Self {
        let inside = self.dots.iter().filter(|(dot, _)| context.contains(*dot));
        Self {
            dots: inside.cloned().collect(),
        }
    }
}

impl<P> Default for Dots<P> {
    fn default() -> Self {
        Self::new()
    }
}

impl<P> TryFrom<Vec<(Stamp, P)>> for Dots<P> {
    type Error = DotsError;

    fn try_from(dots: Vec<(Stamp, P)>) -> Result<Self, DotsError> {
        if !dots.windows(2).all(|pair| pair[0].0 < pair[1].0) {
            return Err(DotsError::OutOfOrder);
        }
        if dots.iter().any(|(dot, _)| dot.hlc == Hlc::ZERO) {
            return Err(DotsError::AtZero);
        }
        Ok(Self { dots })
    }
}

/// Why a list is no row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum DotsError {
    /// Dots are not strictly ascending. *State unchanged.*
    #[error("the dots of a row are not in strictly ascending order")]
    OutOfOrder,
    /// A dot at time zero, which no context could ever contain: it could never be removed. *State unchanged.*
    #[error("a dot is stamped at time zero")]
    AtZero,
}

/// The join of one row: the dots that both have, plus mine that the others have not seen, plus theirs that I have not
/// seen. What one side has seen and lacks, it saw removed.
pub fn join_row<P: Clone>(
    mine: &Dots<P>,
    my_context: &Context,
    theirs: &Dots<P>,
    their_context: &Context,
) -> Dots<P> {
    let mut joined = Vec::with_capacity(mine.len().max(theirs.len()));
    let mut theirs = theirs.dots.iter().peekable();
    for (dot, payload) in &mine.dots {
        while let Some(older) = theirs.next_if(|(other, _)| other < dot) {
            push_unseen(&mut joined, older, my_context);
        }
        if theirs.next_if(|(other, _)| other == dot).is_some() || !their_context.contains(*dot) {
            joined.push((*dot, payload.clone()));
        }
    }
    for newer in theirs {
        push_unseen(&mut joined, newer, my_context);
    }
    debug_assert!(joined.windows(2).all(|pair| pair[0].0 < pair[1].0));
    Dots { dots: joined }
}

fn push_unseen<P: Clone>(joined: &mut Vec<(Stamp, P)>, dot: &(Stamp, P), seen: &Context) {
    if !seen.contains(dot.0) {
        joined.push(dot.clone());
    }
}
