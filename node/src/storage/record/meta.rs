//! Small rows of the meta family that a shard keeps about itself.
//!
//! ```text
//! "ceiling/" · actor u64 BE   version u8 · bincode(Hlc)     no idle promise of the actor went beyond it
//! "observed/" · actor u64 BE  version u8 · bincode(Hlc)     the actor saw no stamp of another one beyond it
//! "trimmed/" · actor u64 BE   version u8 · bincode(Hlc)     outbox rows up to it are gone
//! "tally/" · shard u16 BE     version u8 · bincode(tallies) written at an orderly stop, valid only after one
//! "unknown"                   version u8                   heads hold something of types that the binary which wrote them did not know
//! "probe/" · shard u16 BE     version u8 · Unix ms u64 BE   written by an idle shard to see whether it can; read by nobody
//! ```

use std::ops::ControlFlow;

use crdt::{ActorId, Hlc};

use crate::storage::{Batch, Family, Storage, StorageError};

/// Which mark of an actor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// The bound of its promises: a restarted actor stamps above it.
    Ceiling,
    /// The bound of what it saw of others: whatever it is given to join is not above it.
    Observed,
    /// How far its outbox was trimmed.
    Trimmed,
}

impl Mark {
    /// The mark's value, [`Hlc::ZERO`] where none was set.
    pub fn load(self, storage: &dyn Storage, actor: ActorId) -> Result<Hlc, StorageError> {
        let stored = self.stored_key(actor);
        match storage.get(Family::Meta, &stored)? {
            None => Ok(Hlc::ZERO),
            Some(value) => super::decode(Family::Meta, &stored, VERSION, &value),
        }
    }

    /// Adds the setting of the mark to a batch.
    pub fn store(self, batch: &mut Batch, actor: ActorId, mark: Hlc) {
        batch.put(
            Family::Meta,
            self.stored_key(actor),
            crdt::codec::encode(VERSION, &mark),
        );
    }

    fn stored_key(self, actor: ActorId) -> Vec<u8> {
        let prefix: &[u8] = match self {
            Self::Ceiling => b"ceiling/",
            Self::Observed => b"observed/",
            Self::Trimmed => b"trimmed/",
        };
        [prefix, &actor.as_u64().to_be_bytes()].concat()
    }
}

/// Per partition that a shard owns: number, keys shown, digest.
pub type StoredTallies = Vec<(u16, u64, u128)>;

/// Adds the tallies of a shard to a batch.
pub fn store_tallies(batch: &mut Batch, shard: u16, tallies: &StoredTallies) {
    batch.put(
        Family::Meta,
        tally_key(shard),
        crdt::codec::encode(VERSION, tallies),
    );
}

/// The tallies of a shard, if they were stored.
pub fn load_tallies(
    storage: &dyn Storage,
    shard: u16,
) -> Result<Option<StoredTallies>, StorageError> {
    let stored = tally_key(shard);
    let value = storage.get(Family::Meta, &stored)?;
    value
        .map(|value| super::decode(Family::Meta, &stored, VERSION, &value))
        .transpose()
}

/// Adds to a batch that heads hold something of unknown types.
pub fn note_unknown(batch: &mut Batch) {
    batch.put(Family::Meta, UNKNOWN.to_vec(), vec![VERSION]);
}

/// Adds to a batch that none does any more.
pub fn forget_unknown(batch: &mut Batch) {
    batch.delete(Family::Meta, UNKNOWN.to_vec());
}

/// Whether heads may hold something of unknown types.
pub fn has_unknown(storage: &dyn Storage) -> Result<bool, StorageError> {
    Ok(storage.get(Family::Meta, UNKNOWN)?.is_some())
}

/// Adds to a batch that no stored tally is right any more: keys are counted at the next start.
pub fn forget_tallies(storage: &dyn Storage, batch: &mut Batch) -> Result<(), StorageError> {
    let mut stored: Vec<Vec<u8>> = Vec::new();
    storage.scan(Family::Meta, TALLY, None, &mut |key, _| {
        if !key.starts_with(TALLY) {
            return ControlFlow::Break(());
        }
        stored.push(key.to_vec());
        ControlFlow::Continue(())
    })?;
    stored
        .into_iter()
        .for_each(|key| batch.delete(Family::Meta, key));
    Ok(())
}

/// Adds to a batch what an idle shard writes to see whether it can.
pub fn store_probe(batch: &mut Batch, shard: u16, wall_ms: u64) {
    let stored = [&b"probe/"[..], &shard.to_be_bytes()].concat();
    let value = [&[VERSION][..], &wall_ms.to_be_bytes()].concat();
    batch.put(Family::Meta, stored, value);
}

fn tally_key(shard: u16) -> Vec<u8> {
    [TALLY, &shard.to_be_bytes()].concat()
}

/// First bytes of the stored key of every tally. Persisted: keep stable.
const TALLY: &[u8] = b"tally/";
/// Persisted: keep stable.
const UNKNOWN: &[u8] = b"unknown";

/// Persisted: keep stable.
const VERSION: u8 = 1;
