//! `[hints]`: what a node keeps for those who are away.

use std::{ops::RangeInclusive, time::Duration};

use serde::{Deserialize, Serialize};

use super::{Size, duration, faults::Faults};

/// What a node keeps for those who are away. Past either bound the oldest is dropped and counted, and whoever missed it is
/// marked for a full repair: disk stays bounded, and no write fails for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Hints {
    /// How long writes are kept for a region that does not take them: 1 s to 30 days, default `3h`. Rule of thumb: the
    /// longest outage that should heal by itself. Too small: a short cut ends in a repair. Too large: disk.
    #[serde(with = "duration")]
    pub window: Duration,
    /// How many bytes of writes are kept for those who are away: at least 1 MiB, default `1GiB`. Rule of thumb: `window`
    /// times the write rate in bytes; must fit on the disk beside the data.
    pub max_bytes: Size,
}

impl Default for Hints {
    fn default() -> Self {
        Self {
            window: Duration::from_secs(3 * 3600),
            max_bytes: Size::gib(1),
        }
    }
}

impl Hints {
    pub(super) fn check(&self, faults: &mut Faults) {
        faults.bound_duration("hints.window", self.window, WINDOW);
        faults.bound("hints.max_bytes", self.max_bytes, MAX_BYTES);
    }
}

const WINDOW: RangeInclusive<Duration> =
    Duration::from_secs(1)..=Duration::from_secs(30 * 24 * 3600);
const MAX_BYTES: RangeInclusive<Size> = Size::mib(1)..=Size::gib(64 * 1024);
