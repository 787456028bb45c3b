//! Names of clusters, nodes and regions, parsed once and valid ever after.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// A name that does not fit its pattern. *State unchanged.*
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{kind} name '{name}' must match [{alphabet}]{{1,{max}}}")]
pub struct NameError {
    kind: &'static str,
    name: String,
    alphabet: &'static str,
    max: usize,
}

macro_rules! name {
    ($(#[$doc:meta])* $type:ident, $kind:literal, $max:literal, $alphabet:literal, $allowed:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $type(String);

        impl $type {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $type {
            type Err = NameError;

            fn from_str(name: &str) -> Result<Self, NameError> {
                let allowed: fn(char) -> bool = $allowed;
                if (1..=$max).contains(&name.len()) && name.chars().all(allowed) {
                    return Ok(Self(name.to_owned()));
                }
                Err(NameError { kind: $kind, name: name.to_owned(), alphabet: $alphabet, max: $max })
            }
        }

        impl TryFrom<String> for $type {
            type Error = NameError;

            fn try_from(name: String) -> Result<Self, NameError> {
                name.parse()
            }
        }

        impl From<$type> for String {
            fn from(name: $type) -> String {
                name.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name! {
    /// A node's name, unique in its cluster: `[a-z0-9-]{1,32}`.
    NodeName, "node", 32, "a-z0-9-", |c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-'
}
name! {
    /// A region's name: `[a-z0-9]{1,16}`.
    RegionName, "region", 16, "a-z0-9", |c| c.is_ascii_lowercase() || c.is_ascii_digit()
}
name! {
    /// A cluster's name: `[a-z0-9-]{1,32}`. Nodes of different clusters refuse each other.
    ClusterName, "cluster", 32, "a-z0-9-", |c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-'
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_keep_to_their_alphabet_and_length() {
        assert!("us-1".parse::<NodeName>().is_ok());
        assert!("us-1".parse::<RegionName>().is_err());
        assert!("".parse::<NodeName>().is_err());
        assert!("US".parse::<RegionName>().is_err());
        assert!("a".repeat(33).parse::<NodeName>().is_err());
        assert!("a".repeat(16).parse::<RegionName>().is_ok());
    }
}
