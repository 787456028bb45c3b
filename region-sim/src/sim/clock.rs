//! A host's wall clock: what it shows, which is not what time it is.

use std::time::Duration;

/// A wall clock that is off, drifts, and steps.
#[derive(Debug, Clone, Copy)]
pub struct WallClock {
    /// How far off it is, in milliseconds.
    pub offset_ms: i64,
    /// By how many millionths it is too fast.
    pub drift_ppm: i64,
}

impl WallClock {
    /// What it shows, in Unix milliseconds, after `elapsed` of the world's time.
    pub fn wall_ms(&self, elapsed: Duration) -> u64 {
        let micros = elapsed.as_micros() as i64;
        let drift_ms = micros * self.drift_ppm / 1_000_000 / 1000;
        let shown = EPOCH_MS + micros / 1000 + drift_ms + self.offset_ms;
        u64::try_from(shown).unwrap_or(0)
    }
}

/// What a right clock shows when a world begins.
pub const EPOCH_MS: i64 = 1_700_000_000_000;
