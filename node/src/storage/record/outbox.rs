//! `outbox`: the writes of one of this directory's actors, in the order of their stamps, until every region has them.
//!
//! ```text
//! key    actor u64 BE · last stamp u64 BE
//! value  version u8 · bincode(deltas of a commit batch, or of a part of one)
//! ```
//! A row is shipped as it is stored and decoded by the receiver.

use std::{collections::BTreeSet, ops::ControlFlow};

use crdt::{ActorId, Delta, Hlc, codec::CodecError};

use crate::storage::{Family, Storage, StorageError};

/// The stored key of the row whose last stamp is `last`.
pub fn stored_key(actor: ActorId, last: Hlc) -> Vec<u8> {
    let mut stored = Vec::with_capacity(KEY_BYTES);
    stored.extend_from_slice(&actor.as_u64().to_be_bytes());
    stored.extend_from_slice(&last.as_u64().to_be_bytes());
    stored
}

/// The bounds `from..to` of an actor's rows after `after`; no upper bound for the last actor there could be.
pub fn after(actor: ActorId, after: Hlc) -> (Vec<u8>, Option<Vec<u8>>) {
    let to = actor
        .as_u64()
        .checked_add(1)
        .map(|next| next.to_be_bytes().to_vec());
    (stored_key(actor, after.next()), to)
}

/// The last stamp in a stored key; `None` if it is not one.
pub fn last_stamp(stored: &[u8]) -> Option<Hlc> {
    let stamp: [u8; 8] = stored.get(8..KEY_BYTES)?.try_into().ok()?;
    Some(Hlc::from_u64(u64::from_be_bytes(stamp)))
}

/// The actors that have rows.
///
/// # Errors
/// Where storage cannot be read.
pub fn actors(storage: &dyn Storage) -> Result<BTreeSet<ActorId>, StorageError> {
    let mut actors = BTreeSet::new();
    let mut from = Some(Vec::new());
    while let Some(start) = from.take() {
        storage.scan(Family::Outbox, &start, None, &mut |stored, _| {
            if let Some(actor) = actor(stored) {
                actors.insert(actor);
                (_, from) = after(actor, Hlc::ZERO); // the next actor: rows of this one need not be read
            }
            ControlFlow::Break(())
        })?;
    }
    Ok(actors)
}

fn actor(stored: &[u8]) -> Option<ActorId> {
    let actor: [u8; 8] = stored.get(..8)?.try_into().ok()?;
    Some(ActorId::from_u64(u64::from_be_bytes(actor)))
}

/// The row's value.
pub fn encode(deltas: &[Delta]) -> Vec<u8> {
    crdt::codec::encode(VERSION, deltas)
}

/// Reads a row, from storage or from a peer.
pub fn decode(value: &[u8]) -> Result<Vec<Delta>, CodecError> {
    crdt::codec::decode(VERSION, value)
}

/// Reads a row of this node's own. Errors name its stored key.
pub fn read(stored: &[u8], value: &[u8]) -> Result<Vec<Delta>, StorageError> {
    super::decode(Family::Outbox, stored, VERSION, value)
}

/// Bytes of a stored key.
const KEY_BYTES: usize = 16;
/// Persisted and shipped: keep stable.
const VERSION: u8 = 1;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::{Batch, Durability, memory::MemoryStorage};

    #[test]
    fn every_actor_that_has_rows_is_found_however_many_they_are() {
        let storage = MemoryStorage::default();
        let few = [
            ActorId::new(0, 0),
            ActorId::new(7, 1),
            ActorId::from_u64(u64::MAX),
        ];
        let mut batch = Batch::default();
        for actor in few {
            for time in 1..5 {
                let stored = stored_key(actor, Hlc::from_millis(time));
                batch.put(Family::Outbox, stored, encode(&[]));
            }
        }
        storage.commit(&batch, Durability::Process).unwrap();
        assert_eq!(actors(&storage), Ok(few.into_iter().collect()));
    }
}
