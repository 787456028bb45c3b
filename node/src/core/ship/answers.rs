//! Which rows of a stream a replica has answered for: it said what it knew and they did not.
//!
//! ```text
//!   ──────────┤           ├──────┤
//!           upto   gap     beyond          an answer was lost, or overtaken by a later one
//! ```
//! An answer is for just its own rows, because what it teaches is about them. So `upto` moves over answered rows only. An answer
//! that is lost leaves a gap, and the rows in it are sent once more. To jump over a gap would lose what its answer taught, and a
//! write would be acknowledged that an older one undoes.

use std::time::Duration;

use crdt::Hlc;

/// The answered part of a stream within one session.
#[derive(Debug, Default)]
pub(super) struct Answers {
    upto: Hlc,
    /// Answered intervals `(after, last]` behind a gap: in order, disjoint, not adjacent.
    beyond: Vec<(Hlc, Hlc)>,
    /// Since when rows were taken and not answered for.
    lacking_since: Option<Duration>,
    hedge_delay: Duration,
}

impl Answers {
    /// A session begins: nothing up to `upto` is to be answered for any more.
    pub(super) fn begin(&mut self, upto: Hlc) {
        *self = Self {
            upto,
            hedge_delay: HEDGE_DELAY_MIN,
            ..Self::default()
        };
    }

    /// Every row up to here was answered for, or nobody waits for an answer.
    pub(super) fn upto(&self) -> Hlc {
        self.upto
    }

    /// The rows in `(after, last]` were answered for. Answers may come twice, and in any order.
    pub(super) fn hear(&mut self, after: Hlc, last: Hlc) {
        debug_assert!(after < last, "an answer is for some rows");
        if last <= self.upto {
            return;
        }
        if after <= self.upto {
            self.advance(last);
        } else if self.beyond.len() < BEYOND_MAX {
            let at = self.beyond.partition_point(|(start, _)| *start < after);
            self.beyond.insert(at, (after, last));
        } // else the answer is dropped, and its rows are sent again like those of one that was lost
        self.close_gaps();
    }

    /// Nobody waits for an answer to rows up to here.
    pub(super) fn pass(&mut self, upto: Hlc) {
        if upto > self.upto {
            self.advance(upto);
            self.close_gaps();
        }
    }

    /// Whether rows that were `taken` are to be sent again because their answer is missing for too long.
    pub(super) fn are_overdue(&mut self, taken: Hlc, now: Duration) -> bool {
        if self.upto >= taken {
            self.lacking_since = None;
            return false;
        }
        let since = *self.lacking_since.get_or_insert(now);
        if now < since + self.hedge_delay {
            return false;
        }
        self.lacking_since = Some(now);
        self.hedge_delay = (self.hedge_delay * 2).min(HEDGE_DELAY_MAX);
        true
    }

    fn close_gaps(&mut self) {
        let mut left = Vec::with_capacity(self.beyond.len());
        for (after, last) in std::mem::take(&mut self.beyond) {
            if after <= self.upto {
                self.advance(last);
            } else {
                extend(&mut left, (after, last));
            }
        }
        self.beyond = left;
        debug_assert!(
            self.beyond.iter().all(|(after, _)| *after > self.upto),
            "a gap lies before each"
        );
        debug_assert!(
            self.beyond.windows(2).all(|two| two[0].1 < two[1].0),
            "a gap lies between two"
        );
        debug_assert!(self.beyond.len() <= BEYOND_MAX, "they are bounded");
    }

    fn advance(&mut self, upto: Hlc) {
        if upto > self.upto {
            self.upto = upto;
            self.lacking_since = None;
            self.hedge_delay = HEDGE_DELAY_MIN;
        }
    }
}

/// Appends an interval that begins no earlier than those before it.
fn extend(intervals: &mut Vec<(Hlc, Hlc)>, (after, last): (Hlc, Hlc)) {
    match intervals.last_mut() {
        Some((_, end)) if after <= *end => *end = last.max(*end),
        _ => intervals.push((after, last)),
    }
}

/// Intervals remembered behind a gap. In steady state there is none; one overtaken answer makes one.
const BEYOND_MAX: usize = 64;
/// How long a missing answer is waited for. Answers of one session come in order, so one that is missing was lost: this
/// only spares rows that are sent again in vain. Well below the time that a client waits.
const HEDGE_DELAY_MIN: Duration = Duration::from_millis(100);
/// Where rows are sent again and their answers do not come, not more often than this.
const HEDGE_DELAY_MAX: Duration = Duration::from_secs(3);

#[cfg(test)]
mod tests {
    use super::*;

    fn at(time: u64) -> Hlc {
        Hlc::from_u64(time)
    }

    fn begun(upto: u64) -> Answers {
        let mut answers = Answers::default();
        answers.begin(at(upto));
        answers
    }

    #[test]
    fn an_answer_behind_a_gap_counts_once_the_gap_is_answered() {
        let mut answers = begun(10);
        answers.hear(at(20), at(30));
        answers.hear(at(30), at(40));
        assert_eq!(answers.upto(), at(10));
        answers.hear(at(10), at(20));
        assert_eq!(answers.upto(), at(40));
    }

    #[test]
    fn answers_in_any_order_and_twice_come_to_the_same() {
        for order in [[0, 1, 2, 3], [3, 2, 1, 0], [2, 0, 3, 1], [1, 3, 0, 2]] {
            let mut answers = begun(0);
            for step in order.into_iter().chain(order) {
                answers.hear(at(step * 10), at(step * 10 + 10));
            }
            assert_eq!(answers.upto(), at(40), "{order:?}");
            assert!(answers.beyond.is_empty(), "{order:?}");
        }
    }

    #[test]
    fn a_gap_that_nobody_waits_for_is_passed() {
        let mut answers = begun(10);
        answers.hear(at(20), at(30));
        answers.pass(at(15));
        assert_eq!(answers.upto(), at(15));
        answers.pass(at(20));
        assert_eq!(answers.upto(), at(30));
    }

    #[test]
    fn a_missing_answer_is_asked_for_again_and_again_ever_more_seldom() {
        let mut answers = begun(10);
        let mut asked = Vec::new();
        for tick in 0..100 {
            let now = Duration::from_millis(tick * 100);
            if answers.are_overdue(at(20), now) {
                asked.push(tick);
            }
        }
        assert_eq!(asked, [1, 3, 7, 15, 31, 61, 91]);
        answers.hear(at(10), at(20));
        assert!(!answers.are_overdue(at(20), Duration::from_secs(60)));
    }

    #[test]
    fn intervals_behind_a_gap_are_bounded() {
        let mut answers = begun(0);
        for step in 1..10_000 {
            answers.hear(at(step * 10), at(step * 10 + 5));
        }
        assert!(answers.beyond.len() <= BEYOND_MAX);
    }
}
