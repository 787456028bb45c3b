//! Names: short texts, checked once and valid ever after.

use std::{fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::limits::{ADDRESS_BYTES_MAX, KEY_BYTES_MAX, NAME_BYTES_MAX, REGION_BYTES_MAX};

/// A text that is no name of its kind. *State unchanged.*
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("a {kind} has 1 to {max} bytes and no control characters; this has {found}")]
pub struct NameError {
    kind: &'static str,
    max: usize,
    found: usize,
}

macro_rules! name {
    ($(#[$doc:meta])* $type:ident, $kind:literal, $max:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $type(Arc<str>);

        impl $type {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// Bytes on the wire: every name is short enough for a length of one byte.
            pub(crate) fn wire_bytes(&self) -> usize {
                1 + self.0.len()
            }
        }

        impl FromStr for $type {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                let fits = (1..=$max).contains(&text.len());
                if fits && !text.chars().any(char::is_control) {
                    return Ok(Self(text.into()));
                }
                Err(NameError { kind: $kind, max: $max, found: text.len() })
            }
        }

        impl TryFrom<String> for $type {
            type Error = NameError;

            fn try_from(text: String) -> Result<Self, NameError> {
                text.parse()
            }
        }

        impl From<$type> for String {
            fn from(name: $type) -> String {
                name.0.as_ref().to_owned()
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&*self.0, f)
            }
        }
    };
}

name! {
    /// A node's name, unique in its cluster and kept for ever: 1 to 64 bytes.
    NodeId, "node name", NAME_BYTES_MAX
}
name! {
    /// A cluster's name: 1 to 64 bytes. Nodes of different clusters refuse each other.
    Cluster, "cluster name", NAME_BYTES_MAX
}
name! {
    /// A region's name: 1 to 32 bytes. Nodes of one region are near each other.
    Region, "region name", REGION_BYTES_MAX
}
name! {
    /// Where a node is reached, in whatever words the transport understands: 1 to 64 bytes.
    Address, "address", ADDRESS_BYTES_MAX
}
name! {
    /// What a node publishes a value under: 1 to 64 bytes.
    Key, "key", KEY_BYTES_MAX
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_keep_to_their_length_and_hold_no_control_characters() {
        assert!("us-1".parse::<NodeId>().is_ok());
        assert!("".parse::<NodeId>().is_err());
        assert!("a".repeat(NAME_BYTES_MAX).parse::<NodeId>().is_ok());
        assert!("a".repeat(NAME_BYTES_MAX + 1).parse::<NodeId>().is_err());
        assert!("a\nb".parse::<Region>().is_err());
        assert!("[::1]:7000".parse::<Address>().is_ok());
    }
}
