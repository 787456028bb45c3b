//! How much time has passed for sure, whatever the wall clock says.
//!
//! Rows that nobody took are kept for so long and then dropped, and that cannot be undone. A wall clock that is set wrong by hours would
//! drop all of them at once. So they age by what two clocks agree on: the wall clock, and the time that this process has run since the
//! newest row that it found. While it did not run rows age only as far as the stamps of others show.

use std::time::Duration;

use super::Now;

/// See the module.
#[derive(Debug, Default)]
pub struct Passage {
    /// The newest row that was found; zero where there was none.
    found_ms: u64,
    began: Option<Beginning>,
}

#[derive(Debug, Clone, Copy)]
struct Beginning {
    at_ms: u64,
    mono: Duration,
}

impl Passage {
    /// Since a newest row of then, in Unix milliseconds; zero where there is none.
    pub const fn since(found_ms: u64) -> Self {
        Self {
            found_ms,
            began: None,
        }
    }

    /// The latest time that is sure, in Unix milliseconds. `shown_ms`: others have stamped that late.
    pub fn reached(&mut self, now: Now, shown_ms: u64) -> u64 {
        let found_ms = self.found_ms;
        let began = *self.began.get_or_insert(Beginning {
            at_ms: if found_ms == 0 { now.wall_ms } else { found_ms },
            mono: now.mono,
        });
        // What is written while the clock shows less is no older than that.
        if now.wall_ms < began.at_ms {
            self.began = Some(Beginning {
                at_ms: now.wall_ms,
                mono: now.mono,
            });
            return now.wall_ms;
        }
        debug_assert!(now.mono >= began.mono, "a monotonic clock does not go back");
        let ran = now.mono.saturating_sub(began.mono).as_millis();
        let ran = u64::try_from(ran).unwrap_or(u64::MAX);
        began
            .at_ms
            .saturating_add(ran)
            .max(shown_ms)
            .min(now.wall_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(wall_ms: u64, mono_ms: u64) -> Now {
        Now {
            wall_ms,
            mono: Duration::from_millis(mono_ms),
        }
    }

    #[test]
    fn a_wall_clock_that_leaps_makes_nothing_older() {
        let mut passage = Passage::since(0);
        assert_eq!(passage.reached(at(1_000, 5), 0), 1_000);
        assert_eq!(passage.reached(at(90_000, 105), 0), 1_100);
        assert_eq!(passage.reached(at(500, 205), 0), 500, "it went back");
        assert_eq!(passage.reached(at(1_300, 305), 0), 600);
    }

    #[test]
    fn the_time_between_two_runs_counts_as_far_as_others_show_it() {
        let mut passage = Passage::since(1_000);
        assert_eq!(passage.reached(at(90_000, 5), 0), 1_000);
        assert_eq!(passage.reached(at(90_100, 105), 40_000), 40_000);
        assert_eq!(passage.reached(at(30_000, 205), 40_000), 30_000);
    }
}
