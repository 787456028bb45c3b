//! When a key stops being.

use serde::{Deserialize, Serialize};

use crate::stamp::Stamp;

/// The time to live of a key, as data: the last writer wins, and "no expiry" is a value like any other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Expiry {
    /// When it was set or cleared, and by whom.
    pub stamp: Stamp,
    /// Unix milliseconds from which on the key reads as absent; `None`: it stays.
    pub at_ms: Option<u64>,
}

impl Expiry {
    /// Joins another replica's expiry into this one. (Equal stamps are equal writes; the later time is taken so that
    /// even a broken actor cannot make replicas diverge.)
    pub fn join(&mut self, other: &Self) {
        if (other.stamp, other.at_ms) > (self.stamp, self.at_ms) {
            *self = *other;
        }
    }

    /// Whether the key has expired by the reader's clock, in Unix milliseconds.
    pub fn is_past(&self, now_ms: u64) -> bool {
        self.at_ms.is_some_and(|at_ms| at_ms <= now_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stamp::{ActorId, Hlc};

    fn expiry(hlc: u64, at_ms: Option<u64>) -> Expiry {
        let stamp = Stamp::new(Hlc::from_u64(hlc), ActorId::from_u64(1));
        Expiry { stamp, at_ms }
    }

    #[test]
    fn the_last_writer_wins_even_when_it_clears() {
        let mut mine = expiry(1, Some(100));
        mine.join(&expiry(2, None));
        mine.join(&expiry(1, Some(100)));
        assert_eq!(mine, expiry(2, None));
    }

    #[test]
    fn a_key_is_gone_from_its_very_millisecond_on() {
        let expiry = expiry(1, Some(100));
        assert!(!expiry.is_past(99));
        assert!(expiry.is_past(100));
        assert!(!Expiry::default().is_past(u64::MAX));
    }
}
