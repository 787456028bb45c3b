//! The only clock of the process.

use std::{
    path::PathBuf,
    sync::atomic::{AtomicI64, Ordering},
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use crate::{core::Now, peer};

/// Monotonic time since the start, and the wall clock with the offset that tests give it.
#[derive(Debug)]
pub struct WallClock {
    started: Instant,
    offset_file: Option<PathBuf>,
    offset_ms: AtomicI64,
}

impl WallClock {
    /// Starts now. `offset_file` holds milliseconds to add to the wall clock; it is read by [`WallClock::read_offset`].
    pub fn start(offset_file: Option<PathBuf>) -> Self {
        let clock = Self {
            started: Instant::now(),
            offset_file,
            offset_ms: AtomicI64::new(0),
        };
        clock.read_offset();
        clock
    }

    /// What an input is stamped with.
    pub fn now(&self) -> Now {
        Now {
            mono: self.started.elapsed(),
            wall_ms: self.wall_us() / 1000,
        }
    }

    /// Unix microseconds. A clock before 1970 shows 0.
    pub fn wall_us(&self) -> u64 {
        let system_us = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_micros());
        let offset_us = i128::from(self.offset_ms.load(Ordering::Relaxed)) * 1000;
        u64::try_from(system_us as i128 + offset_us).unwrap_or(0)
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
        self.wall_us()
    }
}
