//! Notices when the way to a peer has become much longer than it was when the session began.
//!
//! BBR sizes what is in flight by the shortest round trip it has ever seen, and quinn's never forgets one: a connection that began on
//! a short path and was rerouted over a long one keeps the short path's window, a few packets per round trip, for as
//! long as it lives. A new connection measures anew, so the session is opened again; what was in flight is shipped again and taken once.

use std::{collections::VecDeque, time::Duration};

use super::heartbeat::Answer;

/// The round trips of one connection, sampled with every heartbeat that is answered.
///
/// Each sample is the smaller of two measurements, because each of them alone calls a stall a longer path:
/// - QUIC's estimate is smoothed, and on a quiet connection few packets come to smooth it. A single stall of 300 ms adds
///   37 ms to it, which take ten packets to fade: several heartbeats would count the one stall again and again.
/// - A heartbeat's own round trip forgets at once, but has in it whatever the two programs did before they answered, and
///   the time to send it again if it was lost.
///
/// On a path that has grown both are long.
#[derive(Debug, Default)]
pub(super) struct Path {
    shortest: Option<Duration>,
    recent: VecDeque<Duration>,
    /// The last ping whose answer was taken. One that is still awaited says nothing, and none counts twice.
    sequence: Option<u32>,
}

/// A path that is longer now than what the connection takes for its length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Grown {
    pub(super) from: Duration,
    pub(super) to: Duration,
}

impl Path {
    /// Takes the last answer to a heartbeat, if it is new, with QUIC's current estimate of the round trip. Only if all of
    /// the last samples are far above the shortest one has the path grown: a queue that fills for a moment is no longer path.
    pub(super) fn sample(&mut self, estimate: Duration, answer: Answer) -> Option<Grown> {
        if self.sequence.replace(answer.sequence) == Some(answer.sequence) {
            return None;
        }
        let rtt = estimate.min(answer.rtt);
        let from = self.shortest.map_or(rtt, |shortest| shortest.min(rtt));
        self.shortest = Some(from);
        self.recent.push_back(rtt);
        if self.recent.len() > SAMPLES {
            self.recent.pop_front();
        }
        let to = *self.recent.iter().min()?;
        let is_grown = self.recent.len() == SAMPLES && to > from * GROWTH + SLACK;
        is_grown.then_some(Grown { from, to })
    }
}

/// Eight seconds of heartbeats. Fewer, and a burst that fills a router's queue, or a machine whose cores are all taken for a moment,
/// looks like a longer path.
const SAMPLES: usize = 8;
/// BBR keeps two windows in flight, so up to twice the round trip it knows costs nothing; at four times it sends at half of what it could.
const GROWTH: u32 = 4;
/// What a machine whose cores are all taken adds to a round trip. Less, and healthy sessions inside a region are opened again just
/// when there is most to do. An ocean adds more.
const SLACK: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    /// Estimates and round trips of heartbeats.
    fn measured(millis: &[(u64, u64)]) -> Option<Grown> {
        let mut path = Path::default();
        let samples = (0..).zip(millis).map(|(sequence, (estimate, rtt))| {
            let rtt = ms(*rtt);
            path.sample(ms(*estimate), Answer { sequence, rtt })
        });
        samples.fold(None, Option::or)
    }

    fn sampled(millis: &[u64]) -> Option<Grown> {
        let both: Vec<_> = millis.iter().map(|millis| (*millis, *millis)).collect();
        measured(&both)
    }

    #[test]
    fn a_path_that_stays_longer_has_grown() {
        let (from, to) = (ms(1), ms(80));
        assert_eq!(sampled(&[1]), None);
        let grown = [1, 80, 80, 80, 80, 80, 80, 80, 80];
        assert_eq!(sampled(&grown), Some(Grown { from, to }));
    }

    #[test]
    fn a_queue_that_fills_and_drains_is_no_longer_path() {
        let drained = [1, 80, 80, 80, 80, 80, 80, 80, 2, 80, 80, 80, 80];
        assert_eq!(sampled(&drained), None);
    }

    #[test]
    fn a_stall_that_the_estimate_is_slow_to_forget_is_no_longer_path() {
        let smoothed = [(0, 0), (37, 300), (33, 0), (29, 0), (25, 0), (22, 0)];
        assert_eq!(measured(&smoothed), None);
    }

    #[test]
    fn programs_that_are_slow_to_answer_are_no_longer_path() {
        let mut slow = vec![(1, 1)];
        slow.extend([(1, 80); 20]);
        assert_eq!(measured(&slow), None);
    }

    #[test]
    fn an_answer_counts_once() {
        let mut path = Path::default();
        let mut sample = |sequence, millis| {
            let rtt = ms(millis);
            path.sample(rtt, Answer { sequence, rtt })
        };
        assert_eq!(sample(1, 1), None);
        for _ in 0..10 {
            assert_eq!(sample(2, 80), None);
        }
        assert!((3..9).all(|sequence| sample(sequence, 80).is_none()));
        assert!(sample(9, 80).is_some());
    }

    #[test]
    fn a_path_that_is_long_from_the_start_or_grows_within_reason_has_not_grown() {
        assert_eq!(sampled(&[200; 50]), None);
        assert_eq!(
            sampled(&[80, 150, 150, 150, 150, 150, 150, 150, 300, 300, 300]),
            None
        );
        assert_eq!(sampled(&[1, 9, 9, 9, 9, 9]), None);
    }
}
