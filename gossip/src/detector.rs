//! The accrual detector of one node: a sliding window of the intervals between its heartbeats' progress.
//!
//! Progress counts whether it was heard from the node itself or through others: what matters is that it lives, not how the news came. The window
//! begins with two made-up intervals, so that there is an estimate before there are samples; they leave it in time.

use std::collections::VecDeque;

use crate::phi::phi;

#[derive(Debug, Clone)]
pub(crate) struct Detector {
    intervals: VecDeque<u32>,
    sum: u64,
    sum_of_squares: u64,
    mean: f64,
    deviation: f64,
    latest: u64,
}

/// What detectors are told, in microseconds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tuning {
    pub(crate) interval: u64,
    pub(crate) deviation_floor: u64,
    pub(crate) window: usize,
}

impl Detector {
    /// A detector of a node whose last progress was at `latest`.
    pub(crate) fn new(tuning: &Tuning, latest: u64) -> Self {
        let mut detector = Self {
            intervals: VecDeque::new(),
            sum: 0,
            sum_of_squares: 0,
            mean: 0.0,
            deviation: 0.0,
            latest,
        };
        // Mean and deviation of these two: FIRST_MEAN and FIRST_DEVIATION intervals.
        for quarters in [FIRST_MEAN - FIRST_DEVIATION, FIRST_MEAN + FIRST_DEVIATION] {
            detector.push(tuning, tuning.interval * quarters / 4);
        }
        detector
    }

    /// The same path and the same habits, but another life.
    pub(crate) fn begin_again(&mut self, latest: u64) {
        self.latest = latest;
    }

    /// The heartbeat has moved on.
    pub(crate) fn progress(&mut self, tuning: &Tuning, now: u64) {
        let interval = now.saturating_sub(self.latest);
        self.push(tuning, interval.min(INTERVALS_MAX * tuning.interval));
        self.latest = now;
    }

    /// The node is back: the time that it was away says nothing of its habits.
    pub(crate) fn resume(&mut self, now: u64) {
        self.latest = self.latest.max(now);
    }

    fn push(&mut self, tuning: &Tuning, interval: u64) {
        let interval = u32::try_from(interval).unwrap_or(u32::MAX);
        if self.intervals.len() >= tuning.window
            && let Some(oldest) = self.intervals.pop_front()
        {
            self.sum -= u64::from(oldest);
            self.sum_of_squares -= square(oldest);
        }
        self.intervals.push_back(interval);
        self.sum += u64::from(interval);
        self.sum_of_squares += square(interval);
        self.estimate(tuning);
    }

    fn estimate(&mut self, tuning: &Tuning) {
        let count = self.intervals.len() as f64;
        self.mean = self.sum as f64 / count;
        let variance =
            (self.sum_of_squares as f64 * SQUARE_UNIT / count - self.mean * self.mean).max(0.0);
        self.deviation = variance.sqrt().max(tuning.deviation_floor as f64);
        debug_assert!(self.mean.is_finite() && self.deviation > 0.0);
    }

    pub(crate) fn latest(&self) -> u64 {
        self.latest
    }

    pub(crate) fn silence(&self, now: u64) -> u64 {
        now.saturating_sub(self.latest)
    }

    /// Suspicion now, by one whose own health asks for that much patience.
    pub(crate) fn phi(&self, now: u64, patience: f64) -> f64 {
        let silence = self.silence(now) as f64 / patience;
        phi((silence - self.mean) / self.deviation)
    }

    /// Whether phi has reached what lies `deviations` above the mean. The same as comparing phi, without computing it.
    pub(crate) fn exceeds(&self, deviations: f64, now: u64, patience: f64) -> bool {
        let limit = (self.mean + deviations * self.deviation) * patience;
        self.silence(now) as f64 >= limit
    }
}

/// In units of 2^8 square microseconds: a thousand squares of the longest interval (100 s) fit 64 bits.
fn square(interval: u32) -> u64 {
    (u64::from(interval) * u64::from(interval)) >> 8
}

const SQUARE_UNIT: f64 = 256.0;
/// First estimate, in quarters of the gossip interval: two intervals, give or take one.
const FIRST_MEAN: u64 = 8;
const FIRST_DEVIATION: u64 = 4;
/// A longer interval counts as this many: one long absence must not blind the detector.
const INTERVALS_MAX: u64 = 10;

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000;
    const TUNING: Tuning = Tuning {
        interval: 200 * MS,
        deviation_floor: 50 * MS,
        window: 10,
    };

    fn regular() -> Detector {
        let mut detector = Detector::new(&TUNING, 0);
        for beat in 1..=20 {
            detector.progress(&TUNING, beat * 200 * MS);
        }
        detector
    }

    #[test]
    fn there_is_an_estimate_before_there_are_samples() {
        let detector = Detector::new(&TUNING, 0);
        assert_eq!(detector.mean, 400.0 * MS as f64);
        assert_eq!(detector.deviation, 200.0 * MS as f64);
        assert!(detector.phi(400 * MS, 1.0) < 0.31);
        assert!(detector.phi(1_600 * MS, 1.0) > 8.0);
    }

    #[test]
    fn samples_replace_the_first_estimate() {
        let detector = regular();
        assert_eq!(detector.mean, 200.0 * MS as f64);
        assert_eq!(detector.deviation, 50.0 * MS as f64, "the floor");
        let now = detector.latest() + 481 * MS;
        assert!((detector.phi(now, 1.0) - 8.0).abs() < 0.03);
    }

    #[test]
    fn exceeding_is_the_same_as_a_phi_above() {
        let detector = regular();
        let eight = crate::phi::deviations(8.0);
        for silence in (0..1_000).step_by(7) {
            let now = detector.latest() + silence * MS;
            let above = detector.phi(now, 1.0) >= 8.0;
            assert_eq!(
                detector.exceeds(eight, now, 1.0),
                above,
                "after {silence} ms"
            );
        }
    }

    #[test]
    fn the_slow_ask_for_more_silence() {
        let detector = regular();
        let now = detector.latest() + 600 * MS;
        assert!(detector.phi(now, 1.0) > 8.0);
        assert!(detector.phi(now, 2.0) < 8.0);
    }

    #[test]
    fn one_long_absence_does_not_blind_the_detector() {
        let mut detector = regular();
        detector.progress(&TUNING, detector.latest() + 3_600_000 * MS);
        let now = detector.latest() + 10_000 * MS;
        assert!(detector.phi(now, 1.0) > 8.0);
    }
}
