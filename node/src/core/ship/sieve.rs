//! What of a message concerns its receiver.

use std::ops::ControlFlow;

use bytes::Bytes;
use crdt::{ActorId, Hlc};

use super::{
    destination::Destination,
    extent::measure,
    home::{Home, Trusted},
};
use crate::{
    core::message::Message,
    placement::Partition,
    storage::{Family, Storage, StorageError, record::outbox},
};

/// Leaves in a message what concerns its receiver, where that is not everything.
pub(super) struct Sieve<'a> {
    pub(super) home: &'a Home,
    pub(super) destination: &'a Destination,
    pub(super) trusted: &'a Trusted,
    pub(super) is_whole: bool,
    /// Whether stand-ins take these rows in the place of replicas. Not what was passed on: that is a hint where it comes from.
    pub(super) has_stand_ins: bool,
}

impl Sieve<'_> {
    pub(super) fn sift(&self, message: Message) -> Message {
        match message {
            Message::Ship(mut ship) if !self.is_whole => {
                ship.rows = ship
                    .rows
                    .into_iter()
                    .filter_map(|row| self.row(row))
                    .collect();
                Message::Ship(ship)
            }
            message => message,
        }
    }

    /// Counts the rows in `(after, upto]` of a log that concern the receiver.
    pub(super) fn count(
        &self,
        storage: &dyn Storage,
        log: ActorId,
        after: Hlc,
        upto: Hlc,
    ) -> Result<u64, StorageError> {
        if self.is_whole {
            return Ok(measure(storage, log, after, Some(upto))?.rows);
        }
        let (from, _) = outbox::after(log, after);
        let to = outbox::stored_key(log, upto.next());
        let mut count = 0;
        storage.scan(Family::Outbox, &from, Some(&to), &mut |_, row| {
            count += u64::from(self.row(Bytes::copy_from_slice(row)).is_some());
            ControlFlow::Continue(())
        })?;
        Ok(count)
    }

    /// A row that does not decode goes as it is: the receiver says so, where a row left out would be lost in silence.
    fn row(&self, row: Bytes) -> Option<Bytes> {
        let Ok(mut deltas) = outbox::decode(&row) else {
            return Some(row);
        };
        let count = deltas.len();
        deltas.retain(|delta| {
            let partition = Partition::of(&delta.key);
            self.home.concerns(
                self.destination,
                partition,
                self.trusted,
                self.has_stand_ins,
            )
        });
        match deltas.len() {
            0 => None,
            left if left == count => Some(row),
            _ => Some(Bytes::from(outbox::encode(&deltas))),
        }
    }
}
