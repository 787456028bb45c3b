//! The hybrid logical clock of one actor: wall time that never steps back and never repeats.
//!
//! Kulkarni, Demirbas et al., "Logical Physical Clocks" (2014), §3. It reads no wall clock itself: milliseconds come in.

use crate::stamp::Hlc;

/// One actor's clock. Its ticks strictly increase, and each is after every remote time that it observed before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clock {
    last: Hlc,
}

impl Clock {
    /// A clock whose first tick is after `floor`: everything that this actor may have stamped before.
    pub const fn new(floor: Hlc) -> Self {
        Self { last: floor }
    }

    /// The next time, for wall time `wall_ms` (Unix milliseconds): the wall clock where it leads, else just after
    /// the last one.
    pub fn tick(&mut self, wall_ms: u64) -> Hlc {
        debug_assert!(
            self.last < Hlc::MAX,
            "a clock at the end of time cannot go on; skewed remote times must be refused before they are observed"
        );
        let next = Hlc::from_millis(wall_ms).max(self.last.next());
        self.last = next;
        next
    }

    /// Learns of a remote time, so that what is stamped from now on is after it. The caller has refused times that
    /// are too far ahead: one poisoned clock would otherwise poison all.
    pub fn observe(&mut self, remote: Hlc) {
        self.last = self.last.max(remote);
    }

    /// The newest time made or observed.
    pub const fn last(&self) -> Hlc {
        self.last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_follow_the_wall_clock_while_it_leads() {
        let mut clock = Clock::new(Hlc::ZERO);
        assert_eq!(clock.tick(5), Hlc::from_millis(5));
        assert_eq!(clock.tick(7), Hlc::from_millis(7));
    }

    #[test]
    fn ticks_strictly_increase_when_the_wall_clock_stands_or_steps_back() {
        let mut clock = Clock::new(Hlc::ZERO);
        let ticks = [9, 9, 3, 0, 9].map(|wall_ms| clock.tick(wall_ms));
        assert!(ticks.windows(2).all(|pair| pair[0] < pair[1]));
        assert_eq!(clock.last(), ticks[4]);
    }

    #[test]
    fn the_first_tick_is_after_the_floor() {
        let floor = Hlc::from_millis(1_000);
        assert_eq!(Clock::new(floor).tick(1), floor.next());
    }

    #[test]
    fn a_tick_is_after_every_observed_time_and_an_old_one_changes_nothing() {
        let mut clock = Clock::new(Hlc::ZERO);
        clock.observe(Hlc::from_millis(50));
        clock.observe(Hlc::from_millis(20));
        assert_eq!(clock.last(), Hlc::from_millis(50));
        assert_eq!(clock.tick(10), Hlc::from_millis(50).next());
    }
}
