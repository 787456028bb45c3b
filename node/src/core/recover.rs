//! What a shard finds out from storage when it starts, and in slow walks afterwards.

use std::ops::ControlFlow;

use bytes::Bytes;

use super::{op::Key, tally::Tallies};
use crate::{
    placement::{PARTITIONS, Position},
    storage::{
        Family, Storage, StorageError,
        record::{
            head::{self, Head, Shown},
            meta::load_tallies,
        },
    },
};

/// The tallies of a shard: as the last orderly stop stored them, else counted.
pub fn tallies(
    storage: &dyn Storage,
    shard: u16,
    shards: u16,
    was_clean: bool,
) -> Result<Tallies, StorageError> {
    if let (true, Some(stored)) = (was_clean, load_tallies(storage, shard)?) {
        return Ok(Tallies::restore(shard, shards, &stored));
    }
    let mut tallies = Tallies::new(shard, shards);
    for partition in (shard..PARTITIONS).step_by(usize::from(shards)) {
        let (from, to) = bounds(partition, 0);
        visit_heads(
            storage,
            &from,
            to.as_deref(),
            &mut |position, key, value, head| {
                // One that is damaged is no reason not to start. The walk for expiries, which follows every start, tells of it.
                if let Ok(head) = head {
                    let after = (head.slot() != Shown::Absent, head::digest(key, value));
                    tallies.replace(position.partition, (false, 0), after);
                }
                ControlFlow::Continue(())
            },
        )?;
    }
    Ok(tallies)
}

/// Keys with an expiry, found on one page of a walk.
#[derive(Debug)]
pub struct VolatileKeys {
    /// When, and which.
    pub found: Vec<(u64, Key)>,
    /// Keys that may expire or not: their rows cannot be read.
    pub damaged: Vec<StorageError>,
    /// Where the next page begins; `None` after the last.
    pub next: Option<Position>,
}

/// One page of a walk over a shard's keys, for those that expire.
pub fn volatile_keys(
    storage: &dyn Storage,
    from: Position,
    shard: u16,
    shards: u16,
) -> Result<VolatileKeys, StorageError> {
    let (mut found, mut damaged) = (Vec::new(), Vec::new());
    let (mut looked_at, mut bytes) = (0, 0);
    let first = u32::from(from.partition.index());
    let owned = (first..u32::from(PARTITIONS))
        .filter(|partition| partition % u32::from(shards) == u32::from(shard));
    for (walked, partition) in owned.enumerate() {
        let hash = if partition == first { from.hash } else { 0 };
        let (start, to) = bounds(partition as u16, hash);
        let mut next = (walked >= PARTITIONS_PER_PAGE)
            .then(|| Position::from_bytes(&start))
            .flatten();
        if next.is_none() {
            visit_heads(
                storage,
                &start,
                to.as_deref(),
                &mut |position, key, value, head| {
                    if looked_at >= KEYS_PER_PAGE || bytes >= BYTES_PER_PAGE {
                        next = Some(position);
                        return ControlFlow::Break(());
                    }
                    looked_at += 1;
                    bytes += value.len();
                    match head.map(|head| head.expiry.at_ms) {
                        Ok(None) => {}
                        Ok(Some(at_ms)) => found.push((at_ms, Bytes::copy_from_slice(key))),
                        Err(error) => damaged.push(error),
                    }
                    ControlFlow::Continue(())
                },
            )?;
        }
        if next.is_some() {
            return Ok(VolatileKeys {
                found,
                damaged,
                next,
            });
        }
    }
    Ok(VolatileKeys {
        found,
        damaged,
        next: None,
    })
}

/// Visits heads in `from..to`: position, key, stored value, and the head or, where it is damaged, an error that names the key.
pub fn visit_heads(
    storage: &dyn Storage,
    from: &[u8],
    to: Option<&[u8]>,
    visit: VisitHead<'_>,
) -> Result<(), StorageError> {
    let mut failed = None;
    storage.scan(
        Family::Head,
        from,
        to,
        &mut |stored, value| match head::user_key(stored) {
            Ok((position, key)) => {
                let head = Head::decode(key, value);
                visit(position, key, value, head.as_ref().map_err(Clone::clone))
            }
            Err(error) => {
                failed = Some(error);
                ControlFlow::Break(())
            }
        },
    )?;
    failed.map_or(Ok(()), Err)
}

/// What is shown a head.
pub type VisitHead<'a> =
    &'a mut dyn FnMut(Position, &[u8], &[u8], Result<&Head, StorageError>) -> ControlFlow<()>;

/// The stored keys of a partition's heads from a hash on.
fn bounds(partition: u16, hash: u64) -> (Vec<u8>, Option<Vec<u8>>) {
    let mut from = partition.to_be_bytes().to_vec();
    from.extend_from_slice(&hash.to_be_bytes());
    (from, Some((partition + 1).to_be_bytes().to_vec()))
}

/// Keys looked at per page: below a millisecond's work.
const KEYS_PER_PAGE: usize = 512;
/// A page of large values ends after about so many bytes.
const BYTES_PER_PAGE: usize = 1 << 20;
/// Partitions walked per page, where they are nearly empty.
const PARTITIONS_PER_PAGE: usize = 16;
