//! The only clock of the process.
//!
//! Two clocks tell the time: the system's wall clock, which may be set, and the monotonic one, which may not. Stamps follow the wall
//! clock while it runs beside the monotonic one. When it steps away by more than `clock.max_skew`, somebody has set it, rightly or
//! wrongly: the node goes on by the monotonic clock until its peers confirm the step ([`WallClock::follow`]), so that one wrong
//! setting stamps nothing.

use std::{
    path::PathBuf,
    sync::atomic::{AtomicI64, Ordering},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use crate::{core::Now, peer};

/// Monotonic time since the start, and the wall clock with the offset that tests give it.
#[derive(Debug)]
pub struct WallClock {
    started: Instant,
    offset_file: Option<PathBuf>,
    offset_ms: AtomicI64,
    step_us_max: i64,
    /// By how many microseconds the wall clock was ahead of the monotonic one when it was last followed.
    anchor_us: AtomicI64,
}

impl WallClock {
    /// Starts now, and believes the wall clock. `offset_file` holds milliseconds to add to it and is read by
    /// [`WallClock::read_offset`]; a step of more than `step_max` is not followed unconfirmed.
    pub fn start(offset_file: Option<PathBuf>, step_max: Duration) -> Self {
        let clock = Self {
            started: Instant::now(),
            offset_file,
            offset_ms: AtomicI64::new(0),
            step_us_max: i64::try_from(step_max.as_micros()).unwrap_or(i64::MAX),
            anchor_us: AtomicI64::new(0),
        };
        clock.read_offset();
        clock.follow();
        clock
    }

    /// What an input is stamped with.
    pub fn now(&self) -> Now {
        let mono = self.started.elapsed();
        let wall_us = self.followed_us(self.system_us(), mono);
        Now {
            mono,
            wall_ms: wall_us / 1000,
        }
    }

    /// Unix microseconds, as the node believes them. A clock before 1970 shows 0.
    pub fn wall_us(&self) -> u64 {
        self.followed_us(self.system_us(), self.started.elapsed())
    }

    /// Unix microseconds by the wall clock, believed or not: what others compare theirs with.
    pub fn system_us(&self) -> u64 {
        let system_us = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_micros());
        let offset_us = i128::from(self.offset_ms.load(Ordering::Relaxed)) * 1000;
        u64::try_from(system_us as i128 + offset_us).unwrap_or(0)
    }

    /// Believes the wall clock as it is now: it was confirmed, or there is nobody to ask. The milliseconds by which it had stepped, if
    /// it was not believed before.
    pub fn follow(&self) -> Option<i64> {
        let (anchor_us, stepped_us) = self.stepped_us(self.system_us(), self.started.elapsed());
        self.move_anchor(anchor_us, stepped_us);
        (stepped_us.abs() > self.step_us_max).then_some(stepped_us / 1000)
    }

    /// A moment of the monotonic clock.
    pub fn instant(&self, mono: Duration) -> Instant {
        self.started + mono
    }

    fn followed_us(&self, system_us: u64, mono: Duration) -> u64 {
        let (anchor_us, stepped_us) = self.stepped_us(system_us, mono);
        if stepped_us.abs() > self.step_us_max {
            return system_us.saturating_add_signed(stepped_us.saturating_neg());
        }
        // A clock that is slewed, or drifts, moves on step by step. Not stored every time: all threads read it.
        if stepped_us.abs() > DRIFT_US {
            self.move_anchor(anchor_us, stepped_us);
        }
        system_us
    }

    /// Moves the anchor from where a step was measured. Where another thread moved it meanwhile, it measured the same step, and it is
    /// followed once.
    fn move_anchor(&self, anchor_us: i64, stepped_us: i64) {
        let moved_us = anchor_us.saturating_add(stepped_us);
        let _moved_by_another = self.anchor_us.compare_exchange(
            anchor_us,
            moved_us,
            Ordering::Relaxed,
            Ordering::Relaxed,
        );
    }

    /// The anchor, and by how much the wall clock has moved against the monotonic one since it was set there.
    fn stepped_us(&self, system_us: u64, mono: Duration) -> (i64, i64) {
        let anchor_us = self.anchor_us.load(Ordering::Relaxed);
        let ahead_us = i128::from(system_us) - mono.as_micros() as i128;
        let stepped_us = ahead_us - i128::from(anchor_us);
        let stepped_us = stepped_us.clamp(i128::from(i64::MIN), i128::from(i64::MAX));
        (anchor_us, stepped_us as i64)
    }

    /// Reads the offset anew. A file that is not there means none; one that is no number is reported and ignored.
    pub fn read_offset(&self) {
        let Some(file) = &self.offset_file else {
            return;
        };
        let offset = match std::fs::read_to_string(file) {
            Ok(text) => text.trim().parse::<i64>(),
            Err(_) => Ok(0),
        };
        match offset {
            Ok(offset) => self.offset_ms.store(offset, Ordering::Relaxed),
            Err(error) => {
                tracing::warn!(file = %file.display(), %error, "the clock's offset file does not hold a number of milliseconds")
            }
        }
    }
}

impl peer::WallClock for WallClock {
    fn now_us(&self) -> u64 {
        self.system_us()
    }
}

/// So much is followed without a note of it.
const DRIFT_US: i64 = 1000;

#[cfg(test)]
mod tests {
    use super::*;

    fn clock() -> WallClock {
        WallClock::start(None, Duration::from_secs(1))
    }

    fn set(clock: &WallClock, offset_ms: i64) {
        clock.offset_ms.store(offset_ms, Ordering::Relaxed);
    }

    /// By how many milliseconds what is believed differs from the clock of this machine, to the nearest hundred.
    fn believed_ms(clock: &WallClock) -> i64 {
        let true_us = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let ahead_us = clock.wall_us() as i64 - true_us.as_micros() as i64;
        (ahead_us + ahead_us.signum() * 50_000) / 100_000 * 100
    }

    #[test]
    fn a_small_step_is_followed_at_once_and_a_large_one_when_it_is_confirmed() {
        let clock = clock();
        set(&clock, 800);
        assert_eq!((believed_ms(&clock), clock.follow()), (800, None));
        set(&clock, 5800);
        assert_eq!(believed_ms(&clock), 800);
        let stepped = clock.follow().unwrap();
        assert!((4_900..5_100).contains(&stepped), "{stepped}");
        assert_eq!(believed_ms(&clock), 5800);
    }

    #[test]
    fn a_large_step_that_is_taken_back_never_happened() {
        let clock = clock();
        set(&clock, -60_000);
        assert_eq!(believed_ms(&clock), 0);
        set(&clock, 0);
        assert_eq!((believed_ms(&clock), clock.follow()), (0, None));
    }

    #[test]
    fn a_step_that_several_threads_measure_is_followed_once() {
        let clock = clock();
        set(&clock, 600);
        let measured: Vec<_> = (0..3)
            .map(|_| clock.stepped_us(clock.system_us(), clock.started.elapsed()))
            .collect();
        for (anchor_us, stepped_us) in measured {
            clock.move_anchor(anchor_us, stepped_us);
        }
        assert_eq!((believed_ms(&clock), clock.follow()), (600, None));
    }

    #[test]
    fn a_clock_that_is_slewed_far_is_followed_all_the_way() {
        let clock = clock();
        for offset_ms in (0..10_000).step_by(500) {
            set(&clock, offset_ms);
            assert_eq!(believed_ms(&clock), offset_ms);
        }
    }
}
