//! Notices when the way to a peer has become much longer than it was when the session began.
//!
//! BBR sizes what is in flight by the shortest round trip it has ever seen, and quinn's never forgets one: a connection that began on
//! a short path and was rerouted over a long one keeps the short path's window, a few packets per round trip, for as
//! long as it lives. A new connection measures anew, so the session is opened again; what was in flight is shipped again and taken once.

use std::{collections::VecDeque, time::Duration};

/// The round trips of one connection, sampled with every heartbeat.
#[derive(Debug, Default)]
pub(super) struct Path {
    shortest: Option<Duration>,
    recent: VecDeque<Duration>,
}

/// A path that is longer now than what the connection takes for its length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Grown {
    pub(super) from: Duration,
    pub(super) to: Duration,
}

impl Path {
    /// Takes QUIC's current estimate of the round trip. Only if all of the last samples are far above the shortest one has the path
    /// grown: a queue that fills for a moment is no longer path.
    pub(super) fn sample(&mut self, rtt: Duration) -> Option<Grown> {
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

/// Two seconds of heartbeats. Fewer, and a burst that fills a router's queue looks like a longer path.
const SAMPLES: usize = 4;
/// BBR keeps two windows in flight, so up to twice the round trip it knows costs nothing; at four times it sends at half of what it could.
const GROWTH: u32 = 4;
/// On paths as short as this the window's lower bound is wide enough.
const SLACK: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn sampled(millis: &[u64]) -> Option<Grown> {
        let mut path = Path::default();
        let mut found = None;
        for millis in millis {
            found = found.or(path.sample(ms(*millis)));
        }
        found
    }

    #[test]
    fn a_path_that_stays_longer_has_grown() {
        let (from, to) = (ms(1), ms(80));
        assert_eq!(sampled(&[1, 80, 80, 80, 80]), Some(Grown { from, to }));
    }

    #[test]
    fn a_queue_that_fills_and_drains_is_no_longer_path() {
        assert_eq!(sampled(&[1, 80, 80, 80, 2, 80, 80, 80]), None);
    }

    #[test]
    fn a_path_that_is_long_from_the_start_or_grows_within_reason_has_not_grown() {
        assert_eq!(sampled(&[200; 50]), None);
        assert_eq!(sampled(&[80, 150, 150, 150, 150, 150, 300, 300, 300]), None);
        assert_eq!(sampled(&[1, 9, 9, 9, 9, 9]), None);
    }
}
