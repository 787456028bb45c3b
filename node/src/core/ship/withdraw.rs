//! The end of a closed actor's stream: what nobody took is withdrawn from it.

use crdt::{ActorId, Hlc};

use super::{Shipper, extent::measure, log::Log};
use crate::{
    core::message::SessionId,
    storage::{Storage, StorageError},
};

impl Shipper {
    /// Every actor whose rows it ships.
    pub fn actors(&self) -> impl Iterator<Item = ActorId> + '_ {
        self.logs.keys().copied()
    }

    /// The last message of an actor's stream that is under way on a session and follows `taken` directly: the one that the receiver
    /// speaks of when it declines there.
    pub fn declined_last(&self, session: SessionId, actor: ActorId, taken: Hlc) -> Option<Hlc> {
        let route = self
            .routes
            .values()
            .find(|route| route.session() == Some(session))?;
        let mut lasts = route.streams.get(&actor)?.in_flight.lasts();
        lasts.find(|last| *last > taken)
    }

    /// The last stamp of an actor that stays its own: of the rows that anybody took, or that are stamped no later than `horizon`
    /// and will be taken soon. Rows after it, of which nobody has any, may be withdrawn.
    pub fn kept(
        &self,
        storage: &dyn Storage,
        actor: ActorId,
        horizon: Hlc,
    ) -> Result<Hlc, StorageError> {
        let trimmed = self.logs.get(&actor).map_or(Hlc::ZERO, |log| log.trimmed);
        let streams = self
            .routes
            .values()
            .filter_map(|route| route.streams.get(&actor));
        let taken = streams.map(|stream| stream.cursor.taken).max();
        let upto = horizon.max(taken.unwrap_or(Hlc::ZERO));
        let rows = measure(storage, actor, trimmed, Some(upto))?;
        Ok(trimmed.max(rows.newest))
    }

    /// Ends an actor's stream at `kept`: `rows` rows of `bytes` bytes after it will not be there any more once the open batch is
    /// committed, and are not sent from now on.
    pub fn withdraw(&mut self, actor: ActorId, kept: Hlc, rows: u64, bytes: u64) {
        let Some(log) = self.logs.get_mut(&actor) else {
            return;
        };
        log.end_at(kept, bytes);
        for route in self.routes.values_mut() {
            let Some(stream) = route.streams.get_mut(&actor) else {
                continue;
            };
            stream.rewind();
            stream.pending_rows = stream.pending_rows.saturating_sub(rows);
        }
    }
}

impl Log {
    fn end_at(&mut self, kept: Hlc, bytes: u64) {
        debug_assert!(self.trimmed <= kept, "what was trimmed is not withdrawn");
        self.newest = kept;
        self.bytes = self.bytes.saturating_sub(bytes);
        while let Some((_, row)) = self.tail.pop_back_if(|(last, _)| *last > kept) {
            self.tail_bytes -= row.len();
        }
    }
}
