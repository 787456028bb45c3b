//! Who a data directory is: the number that its actors carry.

use serde::{Deserialize, Serialize};

/// A data directory's number, 48 bits: drawn at random when the directory is created and again when its actors are
/// renewed. A node that was wiped has the same name and another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct DirectoryId(pub u64);
