//! Keys that will expire, soonest first, so that storage is given back without anybody asking for them.
//!
//! ```text
//!   due ────────── remembered ─────────▶ horizon ── not remembered, found by a walk over all keys ──▶ time
//! ```
//! Bounded. Every key that ends before the horizon is remembered, so nothing is late while some are left; when few are left, a walk
//! over all keys finds what lies behind ([`Expiring::wants_sweep`]).

use std::collections::BTreeSet;

use super::op::Key;

/// The soonest expiries of a shard.
#[derive(Debug, Default)]
pub struct Expiring {
    ends: BTreeSet<(u64, Key)>,
    /// Keys that end then or later may be missing.
    horizon_ms: Option<u64>,
}

impl Expiring {
    /// Remembers that `key` is due at `at_ms`, unless too many are due before. Entries that no longer hold do no harm: the key is
    /// looked at and left.
    pub fn insert(&mut self, at_ms: u64, key: Key) {
        if self.horizon_ms.is_some_and(|horizon| horizon <= at_ms) {
            return;
        }
        self.ends.insert((at_ms, key));
        if self.ends.len() > EXPIRING_MAX {
            self.horizon_ms = self.ends.pop_last().map(|(at_ms, _)| at_ms);
        }
        debug_assert!(self.ends.len() <= EXPIRING_MAX, "they are bounded");
        debug_assert!(
            self.horizon_ms
                .zip(self.ends.last())
                .is_none_or(|(horizon, (last, _))| *last <= horizon),
            "what is remembered ends before the horizon"
        );
    }

    /// Takes a key that is due at `now_ms`.
    pub fn pop_due(&mut self, now_ms: u64) -> Option<Key> {
        if self.has_due(now_ms) {
            self.ends.pop_first().map(|(_, key)| key)
        } else {
            None
        }
    }

    /// Whether a key that is remembered is due at `now_ms`.
    pub fn has_due(&self, now_ms: u64) -> bool {
        self.ends.first().is_some_and(|(at_ms, _)| *at_ms <= now_ms)
    }

    /// Whether keys are missing and there is room for many of them. A walk that began with less would find what it has no room for,
    /// and would have to begin again at once.
    pub fn wants_sweep(&self) -> bool {
        self.horizon_ms.is_some() && self.ends.len() <= EXPIRING_MAX / 2
    }

    /// A walk over all keys begins: what it finds has room again.
    pub fn begin_sweep(&mut self) {
        self.horizon_ms = None;
    }
}

/// Keys remembered, at most.
const EXPIRING_MAX: usize = 65_536;

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn numbered(at_ms: u64) -> Key {
        Bytes::from(at_ms.to_string())
    }

    fn full() -> Expiring {
        let mut expiring = Expiring::default();
        for at_ms in (0..EXPIRING_MAX as u64 + 10).rev() {
            expiring.insert(at_ms, numbered(at_ms));
        }
        expiring
    }

    #[test]
    fn the_soonest_are_kept_and_given_out_when_due() {
        let mut expiring = full();
        assert_eq!(expiring.pop_due(1), Some(numbered(0)));
        assert_eq!(expiring.pop_due(1), Some(numbered(1)));
        assert_eq!(expiring.pop_due(1), None);
    }

    #[test]
    fn a_walk_is_wanted_when_some_are_missing_and_half_of_those_that_are_remembered_are_gone() {
        let mut expiring = full();
        let half = EXPIRING_MAX as u64 / 2;
        for left in (half..EXPIRING_MAX as u64).rev() {
            assert!(!expiring.wants_sweep(), "{} are left", left + 1);
            expiring.pop_due(u64::MAX);
        }
        assert!(expiring.wants_sweep());
        expiring.begin_sweep();
        assert!(!expiring.wants_sweep());
    }

    #[test]
    fn none_behind_the_horizon_takes_the_room_of_those_before_it() {
        let mut expiring = full();
        while expiring.pop_due(u64::MAX).is_some() {}
        expiring.insert(EXPIRING_MAX as u64 + 5, numbered(5));
        assert!(!expiring.has_due(u64::MAX), "others as soon are missing");
        expiring.insert(7, numbered(7));
        assert_eq!(expiring.pop_due(7), Some(numbered(7)));
    }
}
