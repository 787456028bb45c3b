//! How long something usually takes, and so how long it is waited for before somebody else is asked as well.

use std::time::Duration;

/// What a node's answers take, smoothed.
#[derive(Debug, Clone, Copy, Default)]
pub struct LatencyEstimate(Option<Duration>);

impl LatencyEstimate {
    /// One took so long. Jacobson, "Congestion Avoidance and Control" (1988): a gain of an eighth.
    pub fn note(&mut self, took: Duration) {
        self.0 = Some(match self.0 {
            None => took,
            Some(usual) => (usual * 7 + took) / 8,
        });
    }

    /// How long to wait before others are asked too: twice the usual time. Dean and Barroso, "The Tail at Scale" (2013),
    /// "Hedged requests".
    pub fn hedge_delay(self) -> Duration {
        (self.0.unwrap_or(AT_FIRST) * 2).clamp(HEDGE_DELAY_MIN, HEDGE_DELAY_MAX)
    }
}

/// Where nothing is known: a round trip inside a region and a commit, with room.
const AT_FIRST: Duration = Duration::from_millis(25);
/// Below it the answers of a healthy node differ for reasons of their own.
const HEDGE_DELAY_MIN: Duration = Duration::from_millis(10);
/// However slow one is, asking another costs less than to wait longer.
const HEDGE_DELAY_MAX: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patience_follows_what_is_usual_within_bounds() {
        let mut usual = LatencyEstimate::default();
        assert_eq!(usual.hedge_delay(), AT_FIRST * 2);
        usual.note(Duration::from_millis(40));
        assert_eq!(usual.hedge_delay(), Duration::from_millis(80));
        usual.note(Duration::from_millis(120));
        assert_eq!(usual.hedge_delay(), Duration::from_millis(100));
        (0..100).for_each(|_| usual.note(Duration::ZERO));
        assert_eq!(usual.hedge_delay(), HEDGE_DELAY_MIN);
        usual.note(Duration::from_secs(60));
        assert_eq!(usual.hedge_delay(), HEDGE_DELAY_MAX);
    }
}
