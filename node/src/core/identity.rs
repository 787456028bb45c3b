//! Who a data directory is: the number that its actors carry, and when it must draw another.
//!
//! An actor that may have forgotten its own last stamps must not go on: it would give them to other writes, and a stamp
//! names one write for ever. So a directory *renews* (draws a new number; the old one is closed, and still shipped for)
//! when commits of the session before may be gone:
//!
//! | closed in good order | booted since | that session synced every commit | so |
//! | --- | --- | --- | --- |
//! | yes | – | – | goes on: the last sync came after the last stamp |
//! | no | no | – | goes on: the kernel kept what the process wrote |
//! | no | yes | yes | goes on: what was stamped was synced |
//! | no | yes | no | **renews**: the newest stamps may be gone |
//!
//! A restored copy is not seen here: a peer that knows newer stamps says so at its handshake, and the node renews then.
//!
//! Layout of the row `identity` in the family `meta`: version byte, then [`Identity`]'s fields in order.

use std::{fmt, num::NonZeroU16};

use crdt::{
    ActorId,
    codec::{self, CodecError},
};
use serde::{Deserialize, Serialize};

use super::mutant::{Mutant, is_on};
use crate::{
    names::{ClusterName, NodeName},
    storage::{Batch, Family, Storage, StorageError},
};

/// A data directory's number, 48 bits: drawn at random when the directory is created and again when its actors are
/// renewed. A node that was wiped has the same name and another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct DirectoryId(pub u64);

impl DirectoryId {
    /// The number that a random draw gives: its low 48 bits, and never zero, which no actor may carry.
    pub const fn drawn(draw: u64) -> Self {
        match draw & DIRECTORY_MASK {
            0 => Self(1),
            bits => Self(bits),
        }
    }

    /// The actor of one of its shards.
    pub const fn actor(self, shard: u16) -> ActorId {
        ActorId::new(self.0, shard)
    }
}

/// The log of what an actor's shard passes on within its region. It stamps nothing: its rows have places in time like the actor's
/// own, and carry deltas that were stamped in other regions.
pub const fn relay_of(actor: ActorId) -> ActorId {
    ActorId::new(actor.directory(), actor.shard() | RELAY)
}

/// Whether it is the log of what a shard passes on.
pub const fn is_relay(actor: ActorId) -> bool {
    actor.shard() & RELAY != 0
}

/// The shard that an actor or its relay log belongs to.
pub const fn shard_of(actor: ActorId) -> u16 {
    actor.shard() & !RELAY
}

/// The bit that tells a relay log from its shard's actor. Persisted: keep stable.
const RELAY: u16 = 1 << 15;
/// A directory has at most this many shards.
pub const SHARDS_MAX: u16 = RELAY;

impl fmt::Display for DirectoryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:012x}", self.0)
    }
}

/// One run of the machine, from power to power: the kernel's boot id.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct BootId(pub String);

impl fmt::Display for BootId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Who a data directory is, as stored in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The node that it belongs to.
    pub node: NodeName,
    /// That node's cluster.
    pub cluster: ClusterName,
    /// The number that its actors carry.
    pub directory: DirectoryId,
    /// The numbers it carried before, oldest first: closed, shipped for until every region has all of them, and kept as a record of
    /// what is this directory's own.
    pub former: Vec<DirectoryId>,
    /// How many shards its keys are spread over. Fixed for life: a key's shard follows from it.
    pub shards: NonZeroU16,
    /// The boot in which it was opened last.
    pub boot: BootId,
    /// Whether it was closed in good order since: everything synced, nothing stamped after.
    pub clean: bool,
    /// Whether the session that opened it last syncs every commit before it answers.
    pub synced_always: bool,
}

/// A directory's number was drawn anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Renewal {
    /// The number that is closed.
    pub closed: DirectoryId,
    /// The number that takes its place.
    pub opened: DirectoryId,
}

impl Identity {
    /// The identity of a new directory, opened.
    pub fn create(
        node: NodeName,
        cluster: ClusterName,
        shards: NonZeroU16,
        boot: BootId,
        fsync_always: bool,
        draw: u64,
    ) -> Self {
        Self {
            node,
            cluster,
            directory: DirectoryId::drawn(draw),
            former: Vec::new(),
            shards,
            boot,
            clean: false,
            synced_always: fsync_always,
        }
    }

    /// The identity once the directory is opened in `boot`, renewed where the session before may have forgotten stamps.
    /// What counts for that is how *that* session synced; `fsync_always` says how this one does, for the next opening.
    #[must_use]
    pub fn reopened(
        &self,
        boot: &BootId,
        fsync_always: bool,
        draw: u64,
    ) -> (Self, Option<Renewal>) {
        let opened = Self {
            boot: boot.clone(),
            clean: false,
            synced_always: fsync_always,
            ..self.clone()
        };
        if !self.may_have_forgotten(boot) || is_on(Mutant::ActorNotRenewed) {
            return (opened, None);
        }
        let (renewed, renewal) = opened.renewed(draw);
        (renewed, Some(renewal))
    }

    /// The identity under a new number; the present one is closed.
    #[must_use]
    pub fn renewed(&self, draw: u64) -> (Self, Renewal) {
        let mut opened = DirectoryId::drawn(draw);
        while opened == self.directory || self.former.contains(&opened) {
            opened = DirectoryId::drawn(opened.0 + 1);
        }
        let closed = self.directory;
        let mut renewed = self.clone();
        renewed.former.push(closed);
        renewed.directory = opened;
        (renewed, Renewal { closed, opened })
    }

    /// The identity of a directory whose every commit is synced and which is stamped in no more.
    #[must_use]
    pub fn closed_cleanly(&self) -> Self {
        Self {
            clean: true,
            ..self.clone()
        }
    }

    /// Its own actors, by shard, then those of its former numbers, the newest number first, each with its relay log: all that it
    /// ships for.
    pub fn actors(&self) -> impl Iterator<Item = ActorId> + '_ {
        let former = self.former.iter().rev().copied();
        let numbers = std::iter::once(self.directory).chain(former);
        let actors =
            numbers.flat_map(|number| (0..self.shards.get()).map(move |shard| number.actor(shard)));
        actors.flat_map(|actor| [actor, relay_of(actor)])
    }

    /// Its stored form.
    pub fn encode(&self) -> Vec<u8> {
        codec::encode(VERSION, self)
    }

    /// From its stored form.
    ///
    /// # Errors
    /// Where the bytes are damaged or of a newer version.
    pub fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        codec::decode(VERSION, bytes)
    }

    /// Adds its row to a batch.
    pub fn put(&self, batch: &mut Batch) {
        batch.put(Family::Meta, KEY.to_vec(), self.encode());
    }

    /// The identity that a storage holds, if it was ever given one.
    ///
    /// # Errors
    /// Where it cannot be read, is damaged, or was written by a newer version.
    pub fn load(storage: &dyn Storage) -> Result<Option<Self>, StorageError> {
        let stored = storage.get(Family::Meta, KEY)?;
        let decoded = stored.map(|bytes| Self::decode(&bytes)).transpose();
        decoded.map_err(|error| unreadable(&error))
    }

    fn may_have_forgotten(&self, boot: &BootId) -> bool {
        !self.clean && self.boot != *boot && !self.synced_always
    }
}

fn unreadable(error: &CodecError) -> StorageError {
    let family = Family::Meta.name();
    let key = String::from_utf8_lossy(KEY).into_owned();
    match error {
        CodecError::Newer { found, known } => StorageError::Newer {
            family,
            key,
            found: *found,
            known: *known,
        },
        CodecError::Empty
        | CodecError::Older { .. }
        | CodecError::Malformed { .. }
        | CodecError::TrailingBytes { .. } => StorageError::Corrupt {
            family,
            key,
            detail: error.to_string(),
        },
    }
}

/// The row's key in the family `meta`. Persisted: keep stable.
const KEY: &[u8] = b"identity";
/// The row's format version. Persisted: keep stable.
const VERSION: u8 = 1;
const DIRECTORY_MASK: u64 = (1 << 48) - 1;

#[cfg(test)]
#[path = "identity_tests.rs"]
mod tests;
