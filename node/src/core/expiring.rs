//! Keys that will expire, soonest first, so that storage is given back without anybody asking for them.
//!
//! Bounded: what does not fit is found again by a slow walk over all keys ([`Expiring::overflowed`] starts it).

use std::collections::BTreeSet;

use super::op::Key;

/// The soonest expiries of a shard.
#[derive(Debug, Default)]
pub struct Expiring {
    ends: BTreeSet<(u64, Key)>,
    has_overflowed: bool,
}

impl Expiring {
    /// Remembers that `key` is due at `at_ms`. Entries that no longer hold do no harm: the key is looked at and left.
    pub fn insert(&mut self, at_ms: u64, key: Key) {
        self.ends.insert((at_ms, key));
        if self.ends.len() > EXPIRING_MAX {
            self.ends.pop_last();
            self.has_overflowed = true;
        }
    }

    /// Takes a key that is due at `now_ms`.
    pub fn pop_due(&mut self, now_ms: u64) -> Option<Key> {
        let is_due = self.ends.first().is_some_and(|(at_ms, _)| *at_ms <= now_ms);
        if is_due {
            self.ends.pop_first().map(|(_, key)| key)
        } else {
            None
        }
    }

    /// Whether keys were left out since this was last asked.
    pub fn overflowed(&mut self) -> bool {
        std::mem::take(&mut self.has_overflowed)
    }
}

/// Keys remembered, at most.
const EXPIRING_MAX: usize = 65_536;

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn the_soonest_are_kept_and_given_out_when_due() {
        let mut expiring = Expiring::default();
        for at in (0..EXPIRING_MAX as u64 + 10).rev() {
            expiring.insert(at, Bytes::from(at.to_string()));
        }
        assert!(expiring.overflowed());
        assert!(!expiring.overflowed());
        assert_eq!(expiring.pop_due(1), Some(Bytes::from("0")));
        assert_eq!(expiring.pop_due(1), Some(Bytes::from("1")));
        assert_eq!(expiring.pop_due(1), None);
    }
}
