//! What must be equal on all nodes of a cluster, such as the number of replicas per region.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use thiserror::Error;
use xxhash_rust::xxh3::xxh3_64;

use crate::{
    identity::SettingsDigest,
    limits::{SETTINGS_BYTES_MAX, SETTINGS_MAX},
};

/// Cluster-wide settings by name, in words: at most 8, and 256 bytes together.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(
    try_from = "BTreeMap<String, String>",
    into = "BTreeMap<String, String>"
)]
pub struct Settings(BTreeMap<String, String>);

/// More settings than nodes tell each other. *State unchanged.*
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error(
    "{count} settings of {bytes} bytes together: at most {SETTINGS_MAX} and {SETTINGS_BYTES_MAX} bytes"
)]
pub struct TooManySettings {
    count: usize,
    bytes: usize,
}

impl Settings {
    /// Their digest, the same in every release.
    pub(crate) fn digest(&self) -> SettingsDigest {
        let mut bytes = Vec::new();
        for text in self.0.iter().flat_map(|(name, value)| [name, value]) {
            bytes.extend_from_slice(text.as_bytes());
            bytes.push(0);
        }
        SettingsDigest(xxh3_64(&bytes))
    }

    /// The first difference, in words.
    pub(crate) fn contradiction(&self, theirs: &Self) -> Option<String> {
        let names = self.0.keys().chain(theirs.0.keys());
        let differing = names.filter(|name| self.0.get(*name) != theirs.0.get(*name));
        let name = differing.min()?;
        let show = |settings: &Self| match settings.0.get(name) {
            Some(value) => format!("'{value}'"),
            None => "not set".to_owned(),
        };
        Some(format!(
            "{name} is {} at one and {} at the other",
            show(self),
            show(theirs)
        ))
    }

    pub(crate) fn wire_bytes(&self) -> usize {
        1 + self.text_bytes() + 2 * LENGTH_BYTES * self.0.len()
    }

    fn text_bytes(&self) -> usize {
        let texts = self.0.iter().map(|(name, value)| name.len() + value.len());
        texts.sum()
    }
}

impl TryFrom<BTreeMap<String, String>> for Settings {
    type Error = TooManySettings;

    fn try_from(settings: BTreeMap<String, String>) -> Result<Self, TooManySettings> {
        let settings = Self(settings);
        let (count, bytes) = (settings.0.len(), settings.text_bytes());
        if count > SETTINGS_MAX || bytes > SETTINGS_BYTES_MAX {
            return Err(TooManySettings { count, bytes });
        }
        Ok(settings)
    }
}

impl From<Settings> for BTreeMap<String, String> {
    fn from(settings: Settings) -> Self {
        settings.0
    }
}

/// A text's length takes at most this.
const LENGTH_BYTES: usize = 3;

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(pairs: &[(&str, &str)]) -> Settings {
        let pairs = pairs
            .iter()
            .map(|(name, value)| (name.to_string(), value.to_string()));
        Settings::try_from(pairs.collect::<BTreeMap<_, _>>()).expect("few and short")
    }

    #[test]
    fn a_contradiction_is_named_with_both_values() {
        let ours = settings(&[("regions.eu", "3"), ("regions.us", "3")]);
        let theirs = settings(&[("regions.eu", "5"), ("regions.us", "3")]);
        assert_eq!(ours.contradiction(&ours), None);
        assert_ne!(ours.digest(), theirs.digest());
        let words = ours.contradiction(&theirs).expect("they differ");
        assert_eq!(words, "regions.eu is '3' at one and '5' at the other");
        let words = ours.contradiction(&settings(&[("regions.eu", "3")]));
        assert!(
            words
                .expect("one is missing")
                .contains("regions.us is '3' at one and not set")
        );
    }

    #[test]
    fn too_many_are_refused() {
        let long = BTreeMap::from([("a".to_owned(), "b".repeat(SETTINGS_BYTES_MAX))]);
        assert!(Settings::try_from(long).is_err());
    }
}
