//! What is legal in a config and probably not what its writer means.

use std::fmt;

/// Something that the writer of a config should know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// The key, dotted from the root.
    pub key: String,
    /// What it does not do, and what to do instead.
    pub detail: &'static str,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.key, self.detail)
    }
}
