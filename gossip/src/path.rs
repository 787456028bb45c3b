//! The direct path to a peer: whether it answers, how fast, and what its clock says.

use std::collections::VecDeque;

#[derive(Debug, Clone, Default)]
pub(crate) struct Path {
    rtt: Option<u64>,
    samples: VecDeque<Sample>,
    answered_at: Option<u64>,
    /// Questions since the last answer.
    unanswered: u32,
    /// The latest stamp of the peer's clock that was heard from itself.
    stamp: Option<u64>,
}

/// One exchange: its round-trip time in microseconds, and by how much the peer's wall clock was ahead, in milliseconds.
#[derive(Debug, Clone, Copy)]
struct Sample {
    rtt: u64,
    offset_ms: i64,
}

impl Path {
    pub(crate) fn asked(&mut self) {
        self.unanswered = self.unanswered.saturating_add(1);
    }

    pub(crate) fn answered(&mut self, now: u64, rtt: u64, offset_ms: i64) {
        self.unanswered = 0;
        self.answered_at = Some(now);
        // Smoothed as TCP does it, by an eighth.
        self.rtt = Some(self.rtt.map_or(rtt, |before| (7 * before + rtt) / 8));
        if self.samples.len() == SAMPLES {
            self.samples.pop_front();
        }
        self.samples.push_back(Sample { rtt, offset_ms });
    }

    /// Whether a message is newer than all that the peer sent before, as far as it came here.
    pub(crate) fn is_news(&mut self, stamp: u64) -> bool {
        let news = self.stamp.is_none_or(|latest| stamp > latest);
        if news {
            self.stamp = Some(stamp);
        }
        news
    }

    /// Another life of the peer: its clock may have begun anew.
    pub(crate) fn begin_again(&mut self) {
        self.stamp = None;
        self.unanswered = 0;
        self.answered_at = None;
    }

    pub(crate) fn has_answered(&self) -> bool {
        self.answered_at.is_some()
    }

    /// Round-trip time in microseconds.
    pub(crate) fn rtt(&self) -> Option<u64> {
        self.rtt
    }

    /// By how many milliseconds the peer's wall clock is ahead: from the exchange that was fastest of late, whose error is at
    /// most half its round-trip time.
    pub(crate) fn offset_ms(&self) -> Option<i64> {
        let fastest = self.samples.iter().min_by_key(|sample| sample.rtt)?;
        Some(fastest.offset_ms)
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

const SAMPLES: usize = 8;
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
        assert_eq!(path.offset_ms(), Some(5));
    }

    #[test]
    fn an_overtaken_message_is_no_news() {
        let mut path = Path::default();
        assert!(path.is_news(5));
        assert!(!path.is_news(5) && !path.is_news(4));
        assert!(path.is_news(6));
    }

    #[test]
    fn a_path_is_down_after_several_questions_and_up_after_one_answer() {
        let mut path = Path::default();
        for _ in 0..UNANSWERED_DOWN {
            assert!(!path.is_down());
            path.asked();
        }
        assert!(path.is_down());
        path.answered(0, 1, 0);
        assert!(!path.is_down());
    }
}
