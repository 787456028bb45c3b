//! Durations: `"100ms"`, `"3h"`, `"1h 30m"`.

use std::{fmt, time::Duration};

use serde::{Deserialize, Deserializer, Serializer, de::Error};

/// A duration as a config spells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Spelled(pub Duration);

impl fmt::Display for Spelled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        humantime::format_duration(self.0).fmt(f)
    }
}

/// Reads a duration from a string.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    humantime::parse_duration(&text).map_err(|error| {
        D::Error::custom(format!(
            "'{text}' is no duration ({error}): write a number and a unit, as in \"100ms\" or \"3h\""
        ))
    })
}

/// Writes a duration as a string that [`deserialize`] reads.
pub fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&Spelled(*duration))
}
