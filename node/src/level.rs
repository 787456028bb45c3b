//! Consistency levels: of how many replicas an answer speaks.

use std::{fmt, num::NonZeroU8, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// How many replicas must have a write, or are asked by a read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Level {
    /// That many replicas of this region: `one`, `two`, `three`, or a number.
    Replicas(NonZeroU8),
    /// A majority of this region's replicas.
    #[default]
    LocalQuorum,
    /// A majority in every region (writes only).
    EachQuorum,
    /// A majority of all replicas everywhere.
    Quorum,
    /// Every replica everywhere.
    All,
}

/// A text that is no level. *State unchanged.*
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "unknown consistency level '{0}': one, two, three, a number, local_quorum, each_quorum, quorum or all"
)]
pub struct LevelError(String);

impl Level {
    /// Whether a request at this level waits for other regions too.
    pub const fn spans_regions(self) -> bool {
        matches!(self, Self::EachQuorum | Self::Quorum | Self::All)
    }
}

impl FromStr for Level {
    type Err = LevelError;

    fn from_str(text: &str) -> Result<Self, LevelError> {
        let unknown = || LevelError(text.to_owned());
        match text.to_ascii_lowercase().as_str() {
            "local_quorum" => Ok(Self::LocalQuorum),
            "each_quorum" => Ok(Self::EachQuorum),
            "quorum" => Ok(Self::Quorum),
            "all" => Ok(Self::All),
            word => replicas(word).map(Self::Replicas).ok_or_else(unknown),
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Replicas(count) => match COUNTS.get(usize::from(count.get()) - 1) {
                Some(word) => f.write_str(word),
                None => count.fmt(f),
            },
            Self::LocalQuorum => f.write_str("local_quorum"),
            Self::EachQuorum => f.write_str("each_quorum"),
            Self::Quorum => f.write_str("quorum"),
            Self::All => f.write_str("all"),
        }
    }
}

impl Serialize for Level {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Level {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            deserializer.deserialize_any(LevelVisitor)
        } else {
            deserializer.deserialize_str(LevelVisitor)
        }
    }
}

/// Takes `"two"`, `"2"` and `2`.
struct LevelVisitor;

impl de::Visitor<'_> for LevelVisitor {
    type Value = Level;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a consistency level, as \"local_quorum\" or 2")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Level, E> {
        text.parse().map_err(E::custom)
    }

    fn visit_i64<E: de::Error>(self, count: i64) -> Result<Level, E> {
        self.visit_str(&count.to_string())
    }
}

fn replicas(word: &str) -> Option<NonZeroU8> {
    let named = COUNTS.iter().zip(1..).find(|(name, _)| **name == word);
    let count = named.map_or_else(|| word.parse().ok(), |(_, count)| Some(count));
    count.and_then(NonZeroU8::new)
}

/// The numbers that have a name, from 1.
const COUNTS: [&str; 3] = ["one", "two", "three"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_is_shown_as_it_is_written() {
        for text in [
            "one",
            "two",
            "three",
            "4",
            "local_quorum",
            "each_quorum",
            "quorum",
            "all",
        ] {
            assert_eq!(text.parse::<Level>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn a_number_is_the_level_of_that_many_replicas() {
        assert_eq!("2".parse::<Level>(), "TWO".parse());
    }

    #[test]
    fn an_unknown_level_is_refused_by_its_own_words() {
        for text in ["", "0", "-1", "256", "most", "local-quorum"] {
            assert_eq!(text.parse::<Level>(), Err(LevelError(text.to_owned())));
        }
    }
}
