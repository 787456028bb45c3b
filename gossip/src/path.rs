//! The direct path to a peer: whether it answers, how fast, and what its clock says.

use std::collections::VecDeque;

use crate::majority::ClockOffset;

#[derive(Debug, Clone, Default)]
pub(crate) struct Path {
    rtt: Option<u64>,
    samples: VecDeque<Sample>,
    answered_at: Option<u64>,
    /// Questions since the last answer.
    unanswered: u32,
    /// Questions to the peer while it was believed to live, of late, and how many of them were answered.
    asked: u32,
    answers: u32,
    /// When one of both asked the other last, in awake time.
    talked_at: u64,
    /// The latest stamp of the peer's clock that was heard from itself.
    stamp: Option<u64>,
}

/// One exchange: its round-trip time in microseconds, and by how many milliseconds the peer's wall clock was ahead of the
/// *monotonic* clock here. So when the wall clock here is set, all offsets show it at once.
#[derive(Debug, Clone, Copy)]
struct Sample {
    rtt: u64,
    ahead_ms: i64,
}

impl Path {
    pub(crate) fn asked(&mut self, is_trusted: bool, now: u64) {
        self.talked_at = now;
        self.unanswered = self.unanswered.saturating_add(1);
        if is_trusted {
            self.asked += 1;
        }
        if self.asked >= ASKED_MAX {
            self.asked /= 2;
            self.answers /= 2;
        }
    }

    /// The peer asked, or answered.
    pub(crate) fn talked(&mut self, now: u64) {
        self.talked_at = now;
    }

    pub(crate) fn talked_at(&self) -> u64 {
        self.talked_at
    }

    /// What an unanswered question adds to phi: minus the decimal logarithm of the chance that one goes unanswered while the peer
    /// lives, as this path goes. Begins as if three of four had been answered.
    pub(crate) fn weight_of_silence(&self) -> f64 {
        let (asked, answers) = (f64::from(self.asked), f64::from(self.answers));
        let chance = 1.0 - (answers + 3.0) / (asked + 4.0);
        -chance.clamp(CHANCE_MIN, 1.0).log10()
    }

    pub(crate) fn answered(&mut self, now: u64, rtt: u64, ahead_ms: i64) {
        self.unanswered = 0;
        self.answered_at = Some(now);
        self.answers = (self.answers + 1).min(self.asked);
        // Smoothed as TCP does it, by an eighth.
        self.rtt = Some(self.rtt.map_or(rtt, |before| (7 * before + rtt) / 8));
        if self.samples.len() == SAMPLES {
            self.samples.pop_front();
        }
        self.samples.push_back(Sample { rtt, ahead_ms });
    }

    /// Whether a message is newer than all that the peer sent before, as far as it came here.
    pub(crate) fn is_news(&mut self, stamp: u64) -> bool {
        let news = self.stamp.is_none_or(|latest| stamp > latest);
        if news {
            self.stamp = Some(stamp);
        }
        news
    }

    /// Another life of the peer: its clocks may have begun anew.
    pub(crate) fn begin_again(&mut self) {
        self.stamp = None;
        self.samples.clear();
        self.unanswered = 0;
        self.answered_at = None;
    }

    pub(crate) fn has_answered(&self) -> bool {
        self.answered_at.is_some()
    }

    /// How long an answer may take: what it usually takes and some more. Unknown paths have a whole interval.
    pub(crate) fn answer_time(&self, interval: u64) -> u64 {
        let usual = self.rtt.map(|rtt| rtt + rtt / 4 + interval / 8);
        usual
            .unwrap_or(interval)
            .min(ANSWER_INTERVALS_MAX * interval)
    }

    /// Round-trip time in microseconds.
    pub(crate) fn rtt(&self) -> Option<u64> {
        self.rtt
    }

    /// How the peer's wall clock differs from one that is `wall_ahead_ms` ahead of the monotonic clock here: from the exchange
    /// that was fastest of late, whose error is at most half its round-trip time.
    pub(crate) fn clock_offset(&self, wall_ahead_ms: i64) -> Option<ClockOffset> {
        let fastest = self.samples.iter().min_by_key(|sample| sample.rtt)?;
        Some(ClockOffset {
            ahead_ms: fastest.ahead_ms.saturating_sub(wall_ahead_ms),
            error_ms: fastest.rtt.div_ceil(2_000),
        })
    }

    /// Some questions in a row went unanswered.
    pub(crate) fn is_doubtful(&self) -> bool {
        self.unanswered >= UNANSWERED_DOUBTFUL
    }

    /// Many questions in a row went unanswered.
    pub(crate) fn is_down(&self) -> bool {
        self.unanswered >= UNANSWERED_DOWN
    }
}

/// However slow a path was: longer than this nobody waits for an answer.
const ANSWER_INTERVALS_MAX: u64 = 4;
const SAMPLES: usize = 8;
const ASKED_MAX: u32 = 64;
/// However good a path was: it may just have gone bad.
const CHANCE_MIN: f64 = 0.01;
/// At 30 % loss each way one question in two goes unanswered: 16 in a row are one in 60,000.
const UNANSWERED_DOWN: u32 = 16;
/// As many may be chance, and deserve another question.
const UNANSWERED_DOUBTFUL: u32 = 2;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fastest_exchange_tells_the_offset() {
        let mut path = Path::default();
        path.answered(0, 80_000, 30);
        path.answered(1, 10_000, 5);
        path.answered(2, 90_000, -40);
        let expected = ClockOffset {
            ahead_ms: 3,
            error_ms: 5,
        };
        assert_eq!(path.clock_offset(2), Some(expected));
    }

    #[test]
    fn an_overtaken_message_is_no_news() {
        let mut path = Path::default();
        assert!(path.is_news(5));
        assert!(!path.is_news(5) && !path.is_news(4));
        assert!(path.is_news(6));
    }

    #[test]
    fn silence_weighs_more_on_a_good_path() {
        let mut good = Path::default();
        let mut bad = Path::default();
        let unknown = good.weight_of_silence();
        for question in 0..200 {
            good.asked(true, 0);
            good.answered(question, 1_000, 0);
            bad.asked(true, 0);
            if question % 2 == 0 {
                bad.answered(question, 1_000, 0);
            }
        }
        assert!((unknown - 0.6).abs() < 0.01, "one in four: {unknown}");
        assert!((0.2..0.4).contains(&bad.weight_of_silence()), "one in two");
        assert!((1.5..=2.0).contains(&good.weight_of_silence()));
    }

    #[test]
    fn a_path_is_down_after_several_questions_and_up_after_one_answer() {
        let mut path = Path::default();
        for _ in 0..UNANSWERED_DOWN {
            assert!(!path.is_down());
            path.asked(true, 0);
        }
        assert!(path.is_down());
        path.answered(0, 1, 0);
        assert!(!path.is_down());
    }
}
