//! The last-writer-wins register of a string.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::stamp::Stamp;

/// The newest value written, or the tombstone of its deletion.
///
/// Join: the greater stamp wins. At equal stamps the tombstone wins: expiry deletes exactly the write that it saw by
/// turning it into a tombstone of that write's own stamp.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Register {
    /// When it was written, and by whom.
    pub stamp: Stamp,
    /// The bytes, or `None` for a tombstone.
    pub value: Option<Bytes>,
}

impl Register {
    /// Joins another replica's register into this one.
    pub fn join(&mut self, other: &Self) {
        if other.rank() > self.rank() {
            self.clone_from(other);
        }
    }

    /// The tombstone of this very write.
    pub fn tombstone(&self) -> Self {
        Self {
            stamp: self.stamp,
            value: None,
        }
    }

    /// The order that the join follows. No honest actor writes two values at one stamp; if a broken one does, the bytes
    /// decide, so that replicas still converge.
    fn rank(&self) -> (Stamp, bool, Option<&Bytes>) {
        (self.stamp, self.value.is_none(), self.value.as_ref())
    }
}
