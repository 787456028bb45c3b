//! How often a node may begin a new life by itself. Two processes of one name would outbid each other for ever.

#[derive(Debug, Default)]
pub(crate) struct Renewals {
    count: u32,
    latest: u64,
}

impl Renewals {
    /// Notes a renewal, if it is not one too many.
    pub(crate) fn take(&mut self, now: u64) -> bool {
        let pause = now.saturating_sub(self.latest);
        if pause >= FORGIVEN_MICROS {
            self.count = 0;
        }
        if self.count >= AT_ONCE && pause < CONTESTED_PAUSE_MICROS {
            return false;
        }
        self.count += 1;
        self.latest = now;
        true
    }
}

const AT_ONCE: u32 = 3;
const FORGIVEN_MICROS: u64 = 60_000_000;
const CONTESTED_PAUSE_MICROS: u64 = 30_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_renewals_are_free_and_then_they_are_rare() {
        let mut renewals = Renewals::default();
        let now = 10 * FORGIVEN_MICROS;
        assert!((0..3).all(|more| renewals.take(now + more)));
        assert!(!renewals.take(now + 3));
        assert!(renewals.take(now + 3 + CONTESTED_PAUSE_MICROS));
        assert!(!renewals.take(now + 4 + CONTESTED_PAUSE_MICROS));
        assert!(renewals.take(now + 4 + 2 * FORGIVEN_MICROS));
    }
}
