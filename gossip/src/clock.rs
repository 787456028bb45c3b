//! The time that this process was awake for, and how healthy that makes it.
//!
//! ```text
//!   monotonic  ──┬────┬────┬───────────────────────┬────┬──
//!                tick tick │      paused           │tick
//!   awake      ──┬────┬────┬─┬────┬──                        the pause counts as at most the tolerance
//! ```
//!
//! Silence is measured in awake time: a process that was stopped, or whose clock jumped, was not listening, and has no reason to suspect
//! anybody. One that was late of late has reason to doubt itself first (Dadgar, Phillips, Currey: "Lifeguard", 2018): its
//! health multiplies the silence that it asks for.

use std::time::Duration;

#[derive(Debug)]
pub(crate) struct Clock {
    /// Latest monotonic time seen: the clock never goes back.
    latest: u64,
    /// Monotonic time that was slept through.
    skipped: u64,
    /// When the driver was asked to wake us, on the monotonic clock.
    due: u64,
    /// Lateness that is normal.
    tolerance: u64,
    /// 0: healthy. Grows with every late wakeup, shrinks with punctual rounds.
    late_score: u32,
    punctual_rounds: u32,
}

impl Clock {
    pub(crate) fn new(monotonic: Duration, interval: Duration) -> Self {
        let latest = micros(monotonic);
        Self {
            latest,
            skipped: 0,
            due: latest,
            tolerance: micros(interval) / 2,
            late_score: 0,
            punctual_rounds: 0,
        }
    }

    /// Awake time in microseconds, never going back. The second is how long was slept through just now.
    pub(crate) fn advance(&mut self, monotonic: Duration) -> (u64, u64) {
        let now = micros(monotonic).max(self.latest);
        let slept_through = now.saturating_sub(self.due.max(self.latest) + self.tolerance);
        if slept_through > 0 {
            self.skipped += slept_through;
            self.late_score = (self.late_score + 1).min(LATE_SCORE_MAX);
            self.punctual_rounds = 0;
        }
        self.latest = now;
        (self.awake(), slept_through)
    }

    fn awake(&self) -> u64 {
        BASE_MICROS + self.latest - self.skipped
    }

    /// Says when the next wakeup is due, in awake time.
    pub(crate) fn expect(&mut self, awake: u64) {
        self.due = self.monotonic(awake);
    }

    /// The wakeup that is due, on the monotonic clock.
    pub(crate) fn due(&self) -> Duration {
        Duration::from_micros(self.due)
    }

    fn monotonic(&self, awake: u64) -> u64 {
        awake + self.skipped - BASE_MICROS
    }

    /// The monotonic clock in microseconds, for stamps.
    pub(crate) fn stamp(&self) -> u64 {
        self.latest
    }

    /// A round began: a few punctual ones restore health.
    pub(crate) fn round(&mut self) {
        self.punctual_rounds += 1;
        if self.punctual_rounds >= PUNCTUAL_ROUNDS {
            self.punctual_rounds = 0;
            self.late_score = self.late_score.saturating_sub(1);
        }
    }

    /// Whether this process was late of late.
    pub(crate) fn is_slow(&self) -> bool {
        self.late_score > 0
    }

    /// By what the silence that others need to be suspected is multiplied: 1 in health.
    pub(crate) fn patience(&self) -> f64 {
        1.0 + PATIENCE_PER_LATE * f64::from(self.late_score)
    }
}

pub(crate) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros())
        .unwrap_or(u64::MAX / 4)
        .min(u64::MAX / 4)
}

/// Awake time begins here and not at 0, so that silences of long before the start can be told.
const BASE_MICROS: u64 = 1 << 52;
const LATE_SCORE_MAX: u32 = 4;
const PUNCTUAL_ROUNDS: u32 = 5;
const PATIENCE_PER_LATE: f64 = 0.5;

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000;

    fn clock() -> (Clock, u64) {
        let mut clock = Clock::new(Duration::from_secs(5), Duration::from_millis(200));
        let (start, slept) = clock.advance(Duration::from_secs(5));
        assert_eq!(slept, 0);
        clock.expect(start + 50 * MS);
        (clock, start)
    }

    #[test]
    fn a_pause_counts_as_the_tolerance() {
        let (mut clock, start) = clock();
        let (now, slept) = clock.advance(Duration::from_secs(65));
        assert_eq!(now - start, 150 * MS);
        assert_eq!(slept, 60_000 * MS - 150 * MS);
        assert!(clock.is_slow() && clock.patience() > 1.0);
    }

    #[test]
    fn a_clock_that_goes_back_stands_still() {
        let (mut clock, start) = clock();
        assert_eq!(clock.advance(Duration::from_secs(1)), (start, 0));
        let (now, _) = clock.advance(Duration::from_millis(5_020));
        assert_eq!(now - start, 20 * MS);
    }

    #[test]
    fn punctual_rounds_restore_health() {
        let (mut clock, _) = clock();
        clock.advance(Duration::from_secs(65));
        for _ in 0..PUNCTUAL_ROUNDS {
            clock.round();
        }
        assert!(!clock.is_slow());
        assert_eq!(clock.patience(), 1.0);
    }

    #[test]
    fn wakeups_are_given_on_the_monotonic_clock() {
        let (mut clock, _) = clock();
        let (now, _) = clock.advance(Duration::from_secs(65));
        clock.expect(now + 50 * MS);
        assert_eq!(clock.due(), Duration::from_millis(65_050));
    }
}
