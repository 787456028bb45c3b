//! How far a destination is with one log.

use crdt::Hlc;

use super::span::Span;
use crate::names::NodeName;

/// How far a destination is with one log, for those who wait for it.
///
/// The marks say what was passed on. What was dropped before the destination took it, or what its taker was bridged over, is behind
/// them and did not arrive by that: ask [`Progress::has`] and its like, which know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress<'a> {
    /// It answered for everything up to here.
    pub answered: Hlc,
    /// It has everything up to here.
    pub taken: Hlc,
    /// A majority of its replicas has.
    pub majority: Hlc,
    /// All of its replicas have.
    pub every: Hlc,
    /// What came after this was sent to it under the stand-ins of today.
    pub assigned_after: Hlc,
    /// The node that takes for it now.
    pub taker: Option<&'a NodeName>,
    pub(super) lost: Option<Span>,
    pub(super) bridged: Option<Span>,
    pub(super) unpassed: Option<Span>,
}

impl Progress<'_> {
    /// Whether the destination has the row at a place, and has answered for it.
    pub fn has(&self, place: Hlc) -> bool {
        self.answered >= place && self.is_taken(place)
    }

    /// Whether the node that takes for the destination has the row at a place.
    pub fn is_taken(&self, place: Hlc) -> bool {
        self.taken >= place && !self.is_lost(place)
    }

    /// Whether a majority of the destination's replicas has the row at a place.
    pub fn is_on_majority(&self, place: Hlc) -> bool {
        let is_unpassed = self.unpassed.is_some_and(|span| span.contains(place));
        self.majority >= place && !self.is_lost(place) && !is_unpassed
    }

    /// Whether every replica of the destination has the row at a place.
    pub fn is_everywhere(&self, place: Hlc) -> bool {
        let is_bridged = self.bridged.is_some_and(|span| span.contains(place));
        self.every >= place && !self.is_lost(place) && !is_bridged
    }

    fn is_lost(&self, place: Hlc) -> bool {
        self.lost.is_some_and(|span| span.contains(place))
    }
}
