//! One actor's share of a counter, and the floor that a SET or DEL raises under it.

use serde::{Deserialize, Serialize};

use crate::stamp::Hlc;

/// Totals of one actor since a birth. The same type is a *floor*: the totals that some SET or DEL has seen, and which
/// therefore count no more.
///
/// Totals only grow, and are u128 because a value that stays small may pass through any number of increments and decrements.
/// Join: the later birth wins, else the greater of each total.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Count {
    /// When the actor began this entry. One that dropped its dead entry begins a new, later one.
    pub birth: Hlc,
    /// Everything added since.
    pub inc: u128,
    /// Everything taken away since.
    pub dec: u128,
}

impl Count {
    /// Nothing yet.
    pub const fn new(birth: Hlc) -> Self {
        Self {
            birth,
            inc: 0,
            dec: 0,
        }
    }

    /// Joins another replica's count of the same actor into this one.
    pub fn join(&mut self, other: &Self) {
        if other.birth > self.birth {
            *self = *other;
        } else if other.birth == self.birth {
            self.inc = self.inc.max(other.inc);
            self.dec = self.dec.max(other.dec);
        }
    }

    /// How far `(inc, dec)` stand above a floor. A floor of an older birth counts nothing; one of a later birth
    /// has seen everything that this entry ever was.
    pub fn above(&self, floor: Option<&Self>) -> (u128, u128) {
        match floor {
            Some(floor) if floor.birth > self.birth => (0, 0),
            Some(floor) if floor.birth == self.birth => (
                self.inc.saturating_sub(floor.inc),
                self.dec.saturating_sub(floor.dec),
            ),
            _ => (self.inc, self.dec),
        }
    }

    /// This count after one more step by its actor.
    ///
    /// A step by zero raises both totals by one: it adds nothing, yet the counter stands above its floor,
    /// as `INCRBY key 0` makes a key exist.
    pub fn stepped(mut self, by: i128) -> Self {
        let size = by.unsigned_abs();
        if by >= 0 {
            self.inc = self.inc.saturating_add(size.max(1));
        }
        if by <= 0 {
            self.dec = self.dec.saturating_add(size.max(1));
        }
        self
    }
}
