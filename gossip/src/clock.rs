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

/// Now, on the clock that counts only waking time and on the one that stamps questions. Microseconds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moment {
    pub(crate) awake: u64,
    pub(crate) stamp: u64,
}

#[derive(Debug)]
pub(crate) struct Clock {
    /// The latest reading of the monotonic clock. Should that go back, time stands still for a moment and goes on from there.
    reading: u64,
    /// All time that passed, asleep or not.
    elapsed: u64,
    awake: u64,
    /// When the driver was asked to wake us, in awake time.
    due: u64,
    interval: u64,
    /// When it woke from its last sleep.
    woke_at: Option<u64>,
    /// 0: healthy. Grows with every late wakeup, shrinks with punctual rounds.
    late_score: u64,
    punctual_rounds: u32,
}

impl Clock {
    pub(crate) fn new(monotonic: Duration, interval: Duration) -> Self {
        let reading = micros(monotonic);
        Self {
            reading,
            elapsed: reading,
            awake: BASE_MICROS,
            due: BASE_MICROS,
            interval: micros(interval),
            woke_at: None,
            late_score: 0,
            punctual_rounds: 0,
        }
    }

    /// Awake time in microseconds, never going back. The second is how long was slept through just now.
    pub(crate) fn advance(&mut self, monotonic: Duration) -> (u64, u64) {
        let reading = micros(monotonic);
        let passed = reading.saturating_sub(self.reading);
        let tolerated = self.due.saturating_sub(self.awake) + self.interval / 2;
        let slept = passed.saturating_sub(tolerated);
        self.reading = reading;
        self.elapsed = self.elapsed.saturating_add(passed);
        self.awake += passed - slept;
        if slept > 0 {
            self.note_sleep(slept);
        }
        (self.awake, slept)
    }

    fn note_sleep(&mut self, slept: u64) {
        self.late_score = (self.late_score + 1 + slept / self.interval).min(LATE_SCORE_MAX);
        self.punctual_rounds = 0;
        self.woke_at = Some(self.awake);
    }

    /// Says when the next wakeup is due, in awake time.
    pub(crate) fn expect(&mut self, awake: u64) {
        self.due = awake;
    }

    /// The wakeup that is due, on the monotonic clock.
    pub(crate) fn due(&self) -> Duration {
        let left = self.due.saturating_sub(self.awake);
        Duration::from_micros(self.reading + left)
    }

    /// Time for stamps: it grows even while this process sleeps.
    pub(crate) fn stamp(&self) -> u64 {
        self.elapsed
    }

    /// Whether what comes in may have waited while this process slept: then the intervals between heartbeats say nothing.
    pub(crate) fn is_catching_up(&self) -> bool {
        let over = |woke_at: u64| self.awake >= woke_at + self.interval;
        self.woke_at.is_some_and(|woke_at| !over(woke_at))
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
        1.0 + PATIENCE_PER_LATE * self.late_score as f64
    }
}

pub(crate) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros())
        .unwrap_or(u64::MAX / 4)
        .min(u64::MAX / 4)
}

/// Far-away times are all alike.
pub(crate) fn milliseconds(time: u64) -> i64 {
    i64::try_from(time).unwrap_or(i64::MAX)
}

/// Awake time begins here and not at 0, so that silences of long before the start can be told.
const BASE_MICROS: u64 = 1 << 52;
const LATE_SCORE_MAX: u64 = 4;
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
    fn a_clock_that_goes_back_is_followed_from_there() {
        let (mut clock, start) = clock();
        assert_eq!(clock.advance(Duration::from_secs(1)), (start, 0));
        assert_eq!(clock.due(), Duration::from_millis(1_050));
        let (now, slept) = clock.advance(Duration::from_millis(1_020));
        assert_eq!((now - start, slept), (20 * MS, 0));
        assert_eq!(clock.stamp(), 5_020 * MS);
    }

    #[test]
    fn the_longer_the_sleep_the_more_patience() {
        let (mut short, _) = clock();
        short.advance(Duration::from_millis(5_260));
        let (mut long, _) = clock();
        long.advance(Duration::from_secs(25));
        assert!(1.0 < short.patience() && short.patience() < long.patience());
    }

    #[test]
    fn what_waited_during_a_sleep_comes_in_within_an_interval() {
        let (mut clock, _) = clock();
        assert!(!clock.is_catching_up());
        let (now, _) = clock.advance(Duration::from_secs(25));
        assert!(clock.is_catching_up());
        clock.expect(now + 200 * MS);
        clock.advance(Duration::from_millis(25_200));
        assert!(!clock.is_catching_up());
    }

    #[test]
    fn punctual_rounds_restore_health() {
        let (mut clock, _) = clock();
        clock.advance(Duration::from_secs(65));
        for _ in 0..LATE_SCORE_MAX {
            assert!(clock.is_slow());
            (0..PUNCTUAL_ROUNDS).for_each(|_| clock.round());
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
