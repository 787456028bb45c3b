//! The accrual detector of one node: a sliding window of the intervals between its heartbeats' progress.
//!
//! Progress counts whether it was heard from the node itself or through others: what matters is that it lives, not how the news came.
//!
//! ```text
//!   met    1st .. 4th progress       5th                       window + 1st
//!    ├──────────┴───────┴─────────────┴──┴──┴──┴──┴──┴──┴── … ──┴──
//!    │ a patient guess; connections      │ mean and deviation of the window: four made-up
//!    │ are being made, nothing counts    │ intervals and what was observed; in time that alone
//! ```
//!
//! A node that was heard of once and then not until a connection stood has shown no habit, so what comes before the fifth progress is no
//! sample. From then on the made-up intervals keep a few samples from meaning too much, and no interval counts as longer than some deviations above the
//! mean (it is winsorized; Huber, "Robust estimation of a location parameter", 1964): one that is really long would, in a window of
//! ten, slow the next suspicion by seconds.

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
    /// Signs of progress still to come before intervals count.
    greetings_left: u32,
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
            greetings_left: GREETINGS,
        };
        for halves in MADE_UP_HALVES {
            detector.push(tuning, tuning.interval * halves / 2);
        }
        detector
    }

    /// The same path and the same habits, but another life, whose connections are still to be made.
    pub(crate) fn begin_again(&mut self, tuning: &Tuning, latest: u64) {
        self.latest = latest;
        self.greetings_left = GREETINGS;
        self.estimate(tuning);
    }

    /// The heartbeat has moved on.
    pub(crate) fn progress(&mut self, tuning: &Tuning, now: u64) {
        if self.greetings_left > 0 {
            self.greetings_left -= 1;
            self.estimate(tuning);
        } else {
            let interval = self.silence(now).min(self.longest(tuning));
            self.push(tuning, interval);
        }
        self.latest = now;
    }

    /// The node is back: the time that it was away says nothing of its habits.
    pub(crate) fn resume(&mut self, now: u64) {
        self.latest = self.latest.max(now);
    }

    /// What a longer interval counts as.
    fn longest(&self, tuning: &Tuning) -> u64 {
        let unusual = self.mean + DEVIATIONS_MAX * self.deviation;
        (unusual as u64).min(INTERVALS_MAX * tuning.interval)
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
        if self.greetings_left > 0 {
            self.mean = (FIRST_MEAN * tuning.interval) as f64;
            self.deviation = tuning.interval.max(tuning.deviation_floor) as f64;
            return;
        }
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
        self.silence(now) as f64 >= self.limit(deviations, patience)
    }

    /// When that will be, if nothing is heard.
    pub(crate) fn exceeds_at(&self, deviations: f64, patience: f64) -> u64 {
        let limit = self.limit(deviations, patience).ceil().max(0.0) as u64;
        self.latest.saturating_add(limit)
    }

    /// The silence that is as unusual as that.
    fn limit(&self, deviations: f64, patience: f64) -> f64 {
        (self.mean + deviations * self.deviation) * patience
    }
}

/// In units of 2^8 square microseconds: a thousand squares of the longest interval (100 s) fit 64 bits.
fn square(interval: u32) -> u64 {
    (u64::from(interval) * u64::from(interval)) >> 8
}

const SQUARE_UNIT: f64 = 256.0;
/// The guess before anything is known, in gossip intervals: two, give or take one. Less: a node is suspected while its connections are made.
const FIRST_MEAN: u64 = 2;
/// More: a node that dies young is suspected late. Fewer: what comes by the first questions and answers passes for a habit.
const GREETINGS: u32 = 4;
/// The intervals that the window begins with, in halves of the gossip interval: one, give or take a half. Their mean is above that of
/// most members, whose heartbeat also moves when they are asked. More of them: nodes that die young are suspected late. Fewer: so are young ones that live.
const MADE_UP_HALVES: [u64; 4] = [1, 3, 1, 3];
/// A longer interval counts as this many deviations above the mean. Lower: heavy tails are not seen, and suspicion comes too soon. Higher: one long
/// interval slows the next suspicion.
const DEVIATIONS_MAX: f64 = 4.0;
/// However much intervals vary: one counts as no more than this many gossip intervals.
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
    fn it_is_known_when_phi_will_be_above() {
        let detector = regular();
        let ask = crate::phi::deviations(1.3);
        for patience in [1.0, 1.5, 3.0] {
            let at = detector.exceeds_at(ask, patience);
            assert!(detector.exceeds(ask, at, patience));
            assert!(!detector.exceeds(ask, at - 1, patience));
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
    fn what_comes_while_connections_are_made_is_no_sample() {
        let mut detector = Detector::new(&TUNING, 0);
        for now in [10 * MS, 20 * MS, 1_800 * MS] {
            detector.progress(&TUNING, now);
            assert!(detector.phi(now + 1_000 * MS, 1.0) < 4.0, "still patient");
        }
        detector.progress(&TUNING, 2_000 * MS);
        assert_eq!(detector.mean, 200.0 * MS as f64);
        assert_eq!(detector.deviation, 100.0 * MS as f64);
    }

    #[test]
    fn another_life_has_its_connections_to_make_and_keeps_its_habits() {
        let mut detector = regular();
        let known = (detector.mean, detector.deviation);
        detector.begin_again(&TUNING, 5_000 * MS);
        assert!(detector.phi(6_000 * MS, 1.0) < 4.0);
        for beat in 1..=u64::from(GREETINGS) {
            detector.progress(&TUNING, (6_000 + beat) * MS);
        }
        assert_eq!((detector.mean, detector.deviation), known);
    }

    #[test]
    fn one_long_interval_hardly_slows_the_suspicion_of_a_young_node() {
        let mut detector = Detector::new(&TUNING, 0);
        for beat in 1..=6 {
            detector.progress(&TUNING, beat * 200 * MS);
        }
        detector.progress(&TUNING, 1_200 * MS + 1_800 * MS);
        for beat in 1..=3 {
            detector.progress(&TUNING, 3_000 * MS + beat * 200 * MS);
        }
        let now = detector.latest() + 1_000 * MS;
        assert!(detector.phi(now, 1.0) > 8.0);
    }

    #[test]
    fn a_path_that_slowed_for_good_is_followed() {
        let mut detector = regular();
        for _ in 0..30 {
            detector.progress(&TUNING, detector.latest() + 1_000 * MS);
        }
        assert_eq!(detector.mean, 1_000.0 * MS as f64);
    }

    #[test]
    fn one_long_absence_does_not_blind_the_detector() {
        let mut detector = regular();
        detector.progress(&TUNING, detector.latest() + 3_600_000 * MS);
        let now = detector.latest() + 10_000 * MS;
        assert!(detector.phi(now, 1.0) > 8.0);
    }
}
