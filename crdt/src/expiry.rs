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
    /// Joins another replica's expiry into this one. At equal stamps the one that ended wins, then the later time, so that even
    /// a broken actor cannot make replicas diverge.
    pub fn join(&mut self, other: &Self) {
        let rank = |expiry: &Self| (expiry.stamp, expiry.at_ms.is_none(), expiry.at_ms);
        if rank(other) > rank(self) {
            *self = *other;
        }
    }

    /// This expiry, over: it ends what was seen and nothing else. An expiry that was set elsewhere meanwhile, with a stamp of its
    /// own, still holds.
    pub fn ended(&self) -> Self {
        Self {
            stamp: self.stamp,
            at_ms: None,
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
    fn an_ended_expiry_wins_over_itself_and_over_no_other() {
        let mut mine = expiry(1, Some(100));
        mine.join(&mine.ended());
        assert_eq!(mine.at_ms, None);
        mine.join(&expiry(2, Some(200)));
        mine.join(&expiry(1, None));
        assert_eq!(mine, expiry(2, Some(200)));
    }

    #[test]
    fn a_key_is_gone_from_its_very_millisecond_on() {
        let expiry = expiry(1, Some(100));
        assert!(!expiry.is_past(99));
        assert!(expiry.is_past(100));
        assert!(!Expiry::default().is_past(u64::MAX));
    }
}
