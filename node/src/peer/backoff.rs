//! Pauses between attempts to reach a peer: exponential, with full jitter, so that nodes that lost each other at one
//! moment do not all come back at one moment.

use std::time::Duration;

use rand::Rng;

use super::limits::{BACKOFF_MAX, BACKOFF_MIN};

#[derive(Debug)]
pub(super) struct Backoff {
    ceiling: Duration,
}

impl Backoff {
    pub(super) fn new() -> Self {
        Self {
            ceiling: BACKOFF_MIN,
        }
    }

    /// Starts over: the peer was reached.
    pub(super) fn reset(&mut self) {
        *self = Self::new();
    }

    /// The next pause: anything up to a ceiling that doubles each time. Never quite nothing, so that a peer which
    /// refuses at once is not asked in a loop.
    pub(super) fn pause(&mut self, random: &mut impl Rng) -> Duration {
        let ceiling = self.ceiling;
        self.ceiling = (ceiling * 2).min(BACKOFF_MAX);
        random.random_range(PAUSE_MIN..=ceiling)
    }
}

const PAUSE_MIN: Duration = Duration::from_millis(20);

const _: () = assert!(PAUSE_MIN.as_millis() < BACKOFF_MIN.as_millis());

#[cfg(test)]
mod tests {
    use rand::{SeedableRng, rngs::StdRng};

    use super::*;

    #[test]
    fn pauses_grow_to_their_ceiling_and_start_over() {
        let mut random = StdRng::seed_from_u64(1);
        let mut backoff = Backoff::new();
        let mut ceiling = BACKOFF_MIN;
        for _ in 0..100 {
            let pause = backoff.pause(&mut random);
            assert!(
                (PAUSE_MIN..=ceiling).contains(&pause),
                "{pause:?} above {ceiling:?}"
            );
            ceiling = (ceiling * 2).min(BACKOFF_MAX);
        }
        assert_eq!(backoff.ceiling, BACKOFF_MAX);
        backoff.reset();
        assert!(backoff.pause(&mut random) <= BACKOFF_MIN);
    }

    #[test]
    fn two_nodes_do_not_pause_alike() {
        let pauses = |seed| {
            let mut random = StdRng::seed_from_u64(seed);
            let mut backoff = Backoff::new();
            (0..8)
                .map(|_| backoff.pause(&mut random))
                .collect::<Vec<_>>()
        };
        assert_ne!(pauses(1), pauses(2));
    }
}
