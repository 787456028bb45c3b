//! `[clock]`: how far clocks may differ.

use std::{
    ops::RangeInclusive,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::{Deserialize, Serialize};

use super::{duration, faults::Faults};

/// How far clocks may differ.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Clock {
    /// The largest difference between the clocks of any two nodes: 1 ms to 1 h, default `1s`, equal on all nodes. A write
    /// stamped further ahead is not taken: its sender keeps it. Rule of thumb: ten times what NTP holds. Too small: honest
    /// clocks stop replication. Too large: one bad clock wins over every later write for that long.
    #[serde(with = "duration")]
    pub max_skew: Duration,
    /// For tests only: a file that holds an offset in milliseconds, added to the clock and read again every 100 ms. Default
    /// `""`, none. Relative to the directory that the node is started in.
    #[serde(with = "no_path_is_empty")]
    pub offset_file: Option<PathBuf>,
}

impl Default for Clock {
    fn default() -> Self {
        Self {
            max_skew: Duration::from_secs(1),
            offset_file: None,
        }
    }
}

impl Clock {
    pub(super) fn check(&self, faults: &mut Faults) {
        faults.bound_duration("clock.max_skew", self.max_skew, MAX_SKEW);
    }
}

/// TOML has no null: no path is written as an empty one.
mod no_path_is_empty {
    use serde::{Deserializer, Serializer};

    use super::{Deserialize, Path, PathBuf, Serialize};

    /// Reads a path; an empty one is none.
    pub fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<PathBuf>, D::Error> {
        let path = PathBuf::deserialize(deserializer)?;
        Ok(Some(path).filter(|path| !path.as_os_str().is_empty()))
    }

    /// Writes a path; none as an empty one.
    pub fn serialize<S: Serializer>(
        path: &Option<PathBuf>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let path = path.as_deref().unwrap_or(Path::new(""));
        path.serialize(serializer)
    }
}

const MAX_SKEW: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(3600);
