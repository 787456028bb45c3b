//! How much waits, in requests and in bytes: both are bounded, because a few large values take the memory of many small ones.

use super::op::Op;

/// What waits for other replicas in one shard, or in a part of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Budget {
    /// Requests.
    pub requests: usize,
    /// What they keep in memory, about.
    pub bytes: usize,
}

impl Budget {
    /// What one request takes.
    pub fn of(op: &Op) -> Self {
        Self {
            requests: 1,
            bytes: op.bytes(),
        }
    }

    /// Whether no more may wait.
    pub fn is_full(self) -> bool {
        self.requests >= REQUESTS_MAX || self.bytes >= BYTES_MAX
    }
}

impl std::ops::Add for Budget {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            requests: self.requests + other.requests,
            bytes: self.bytes + other.bytes,
        }
    }
}

impl std::ops::AddAssign for Budget {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl std::ops::SubAssign for Budget {
    fn sub_assign(&mut self, other: Self) {
        debug_assert!(
            self.requests >= other.requests && self.bytes >= other.bytes,
            "{other:?} leaves {self:?}"
        );
        self.requests -= other.requests;
        self.bytes -= other.bytes;
    }
}

impl<'a> FromIterator<&'a Op> for Budget {
    fn from_iter<I: IntoIterator<Item = &'a Op>>(ops: I) -> Self {
        ops.into_iter()
            .map(Self::of)
            .fold(Self::default(), std::ops::Add::add)
    }
}

/// Requests of one shard that wait for other replicas, at most.
const REQUESTS_MAX: usize = 65_536;
/// And their keys and values.
const BYTES_MAX: usize = 128 << 20;
