//! Registers that somebody overwrote who had not seen them.

use crdt::{ActorId, Delta, Part, Stamp};

use super::{Clash, Conflict, PendingBatch};
use crate::{
    placement::Position,
    storage::{Storage, StorageError},
};

impl PendingBatch {
    /// Notes a register of another region that is to be joined and has lost already, to one that `own` wrote: had its writer seen the
    /// one that comes only now, it would be here.
    ///
    /// So of two writes that did not see each other the one that lost is noted once in the cluster: by the shard that wrote the other
    /// one, if that is still what it holds. (Twice where a row is taken again because a process died before it remembered that it had
    /// taken it.) Only values are lost: a delete that loses took nothing away.
    pub fn note_overwritten(
        &mut self,
        storage: &dyn Storage,
        delta: &Delta,
        own: ActorId,
    ) -> Result<(), StorageError> {
        let registers = delta.parts.iter().filter_map(|part| match part {
            Part::String(string) => string.register.as_ref(),
            Part::Set(_) | Part::Expiry(_) | Part::Unknown(_) => None,
        });
        let mut values = registers.filter(|register| register.value.is_some());
        let Some(comes) = values.next() else {
            return Ok(());
        };
        let head = self.head(storage, &Position::of(&delta.key), &delta.key)?;
        let held = head.string.register.as_ref().map(|register| register.stamp);
        let has_lost = |held: &Stamp| held.actor == own && *held > comes.stamp;
        if let Some(kept) = held.filter(has_lost) {
            self.conflicts.push(Clash {
                key: delta.key.clone(),
                kind: Conflict::Overwritten,
                kept,
                lost: comes.stamp,
            });
        }
        Ok(())
    }
}
