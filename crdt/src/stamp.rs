//! Stamps: `(hybrid logical time, actor)`, never reused.
//!
//! One stamp does five jobs: it orders registers, names an element's add (its *dot*), identifies a log entry,
//! is a position in the outbox, and is the unit of the replication watermark. Hybrid logical clocks: Kulkarni, Demirbas
//! et al., "Logical Physical Clocks" (2014), §3.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Hybrid logical time: 48 bits of Unix milliseconds, then 16 bits of a logical counter. As one integer it
/// orders by time first, and adding one carries from the counter into the milliseconds.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub struct Hlc(u64);

impl Hlc {
    /// Before every stamp.
    pub const ZERO: Self = Self(0);
    /// After every stamp.
    pub const MAX: Self = Self(u64::MAX);

    /// The first instant of a millisecond. Milliseconds beyond 48 bits (the year 10889) are cut to the last one.
    pub const fn from_millis(millis: u64) -> Self {
        let capped = if millis > MILLIS_MAX {
            MILLIS_MAX
        } else {
            millis
        };
        Self(capped << LOGICAL_BITS)
    }

    /// From its integer form.
    pub const fn from_u64(bits: u64) -> Self {
        Self(bits)
    }

    /// Its integer form, which orders as it does.
    pub const fn as_u64(self) -> u64 {
        self.0
    }

    /// Unix milliseconds.
    pub const fn millis(self) -> u64 {
        self.0 >> LOGICAL_BITS
    }

    /// The next instant. Saturates at [`Hlc::MAX`].
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// The instant before. Saturates at [`Hlc::ZERO`].
    pub const fn previous(self) -> Self {
        Self(self.0.saturating_sub(1))
    }
}

impl fmt::Display for Hlc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.millis(), self.0 & LOGICAL_MASK)
    }
}

/// Who stamps: one shard of one data directory. 48 random bits drawn with the directory, 16 bits of shard index.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub struct ActorId(u64);

impl ActorId {
    /// The actor of a shard of a data directory; only the low 48 bits of `directory` count.
    pub const fn new(directory: u64, shard: u16) -> Self {
        Self((directory << SHARD_BITS) | shard as u64)
    }

    /// From its integer form.
    pub const fn from_u64(bits: u64) -> Self {
        Self(bits)
    }

    /// Its integer form.
    pub const fn as_u64(self) -> u64 {
        self.0
    }

    /// The data directory's 48 bits.
    pub const fn directory(self) -> u64 {
        self.0 >> SHARD_BITS
    }

    /// The shard's index.
    pub const fn shard(self) -> u16 {
        self.0 as u16
    }
}

impl fmt::Display for ActorId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:012x}/{}", self.directory(), self.shard())
    }
}

/// A moment of one actor. Orders by time, then by actor, so no two actors ever tie.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub struct Stamp {
    /// When.
    pub hlc: Hlc,
    /// Who.
    pub actor: ActorId,
}

impl Stamp {
    /// Before every stamp that an actor makes.
    pub const ZERO: Self = Self {
        hlc: Hlc::ZERO,
        actor: ActorId::from_u64(0),
    };

    /// A moment of an actor.
    pub const fn new(hlc: Hlc, actor: ActorId) -> Self {
        Self { hlc, actor }
    }
}

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.hlc, self.actor)
    }
}

const LOGICAL_BITS: u32 = 16;
const LOGICAL_MASK: u64 = (1 << LOGICAL_BITS) - 1;
const SHARD_BITS: u32 = 16;
const MILLIS_MAX: u64 = (1 << 48) - 1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_logical_counter_carries_into_the_milliseconds() {
        let full = Hlc::from_u64(Hlc::from_millis(5).as_u64() + LOGICAL_MASK);
        assert_eq!(full.next(), Hlc::from_millis(6));
    }

    #[test]
    fn an_actor_keeps_directory_and_shard_apart() {
        let actor = ActorId::new(0xffff_ffff_ffff, 3);
        assert_eq!((actor.directory(), actor.shard()), (0xffff_ffff_ffff, 3));
    }
}
