//! A run of rows in a log.

use crdt::Hlc;

/// A part of a stream: the half-open interval `(after, upto]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) after: Hlc,
    pub(super) upto: Hlc,
}

impl Span {
    pub(super) fn contains(self, place: Hlc) -> bool {
        self.after < place && place <= self.upto
    }

    /// The smallest one that has `(after, upto]` and another one in it.
    pub(super) fn behind(after: Hlc, upto: Hlc, other: Option<Self>) -> Option<Self> {
        if after < upto {
            Some(Self { after, upto }.widened(other))
        } else {
            other
        }
    }

    /// The smallest one that has this and another one in it.
    pub(super) fn widened(self, other: Option<Self>) -> Self {
        let widened = other.map_or(self, |other| Self {
            after: self.after.min(other.after),
            upto: self.upto.max(other.upto),
        });
        debug_assert!(
            widened.after <= self.after && self.upto <= widened.upto,
            "nothing of it is left out"
        );
        widened
    }
}
