//! How much of an actor's outbox lies between two stamps, as storage has it.

use std::ops::ControlFlow;

use crdt::{ActorId, Hlc};

use crate::storage::{Family, Storage, StorageError, record::outbox};

/// Rows of an actor's outbox.
#[derive(Debug, Default)]
pub(super) struct Extent {
    pub(super) rows: u64,
    pub(super) bytes: u64,
    pub(super) newest: Hlc,
}

/// Measures an actor's rows in `(after, upto]`.
pub(super) fn measure(
    storage: &dyn Storage,
    actor: ActorId,
    after: Hlc,
    upto: Option<Hlc>,
) -> Result<Extent, StorageError> {
    measure_first(storage, actor, after, upto, u64::MAX)
}

/// Measures the first of an actor's rows in `(after, upto]`: those that have `bytes_enough` together, or all.
pub(super) fn measure_first(
    storage: &dyn Storage,
    actor: ActorId,
    after: Hlc,
    upto: Option<Hlc>,
    bytes_enough: u64,
) -> Result<Extent, StorageError> {
    let mut extent = Extent::default();
    let (from, end) = outbox::after(actor, after);
    let to = upto
        .map(|upto| outbox::stored_key(actor, upto.next()))
        .or(end);
    storage.scan(
        Family::Outbox,
        &from,
        to.as_deref(),
        &mut |stored, value| {
            extent.rows += 1;
            extent.bytes += value.len() as u64;
            extent.newest = outbox::last_stamp(stored).unwrap_or(extent.newest);
            if extent.bytes < bytes_enough {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            }
        },
    )?;
    Ok(extent)
}

pub(super) fn first_row(
    storage: &dyn Storage,
    actor: ActorId,
    after: Hlc,
) -> Result<Option<Hlc>, StorageError> {
    let mut first = None;
    let (from, to) = outbox::after(actor, after);
    storage.scan(Family::Outbox, &from, to.as_deref(), &mut |stored, _| {
        first = outbox::last_stamp(stored);
        ControlFlow::Break(())
    })?;
    Ok(first)
}
