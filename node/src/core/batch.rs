//! The state of a shard as of the batch that it is building: what is committed, under the changes that are not yet.
//!
//! Everything that changes a key, a client's command or a peer's delta, goes through [`PendingBatch::join`]. Each touched row is
//! written once per batch, however often it was touched; heads stay decoded in a bounded cache between batches.

mod live;
mod lost;
mod rewrite;
mod rows;
mod touched;

use std::collections::BTreeMap;

use bytes::Bytes;
use crdt::{Delta, Dots, Hlc, Part, Tag};

use super::mutant::{self, Mutant, is_on};
use super::{expiring::Expiring, generations::Generations, op::Key};
use crate::{
    placement::{Partition, Position},
    storage::{
        Batch, Family, Storage, StorageError,
        record::{
            head::{self, Head, Shown},
            meta, row,
        },
    },
};

/// Uncommitted changes over committed state.
#[derive(Debug)]
pub struct PendingBatch {
    /// Nothing of it is dropped within a batch.
    heads: Generations<Entry>,
    /// Keys whose head differs from storage, in the order in which they first did.
    dirty: Vec<Key>,
    /// Rows read or changed in this batch, by stored key.
    rows: BTreeMap<Vec<u8>, RowEntry>,
    /// Runs of rows deleted as a whole in this batch; the rows above stand over them.
    cleared: Vec<(Vec<u8>, Vec<u8>)>,
    outbox: Vec<OutboxRow>,
    /// What came from another region, for the other replicas of this one.
    relay: Vec<OutboxRow>,
    conflicts: Vec<Clash>,
    bytes: usize,
}

/// Deltas of this node's own writes that will be one outbox row.
#[derive(Debug)]
pub struct OutboxRow {
    /// The deltas, each of another key or not joinable with an earlier one.
    pub deltas: Vec<Delta>,
    /// The last stamp in them.
    pub last: Hlc,
    bytes: usize,
}

pub use self::touched::Touched;
pub use crate::storage::record::head::{Clash, Conflict};

/// What a closed batch leaves to be done once it is committed.
#[derive(Debug)]
pub struct Closed {
    /// How the tallies move.
    pub moves: Vec<TallyMove>,
    /// The rows for the outbox.
    pub outbox: Vec<OutboxRow>,
    /// The rows for the relay log.
    pub relay: Vec<OutboxRow>,
}

/// A key's partition, whether it was shown and its digest before, and the same after.
pub type TallyMove = (Partition, (bool, u128), (bool, u128));

#[derive(Debug)]
struct Entry {
    head: Head,
    /// Whether storage counts it as shown, and its digest there.
    accounted: (bool, u128),
    bytes: usize,
    is_dirty: bool,
    /// Where in the outbox this key's newest delta stands.
    queued: Option<Queued>,
}

/// A delta in an open outbox row.
#[derive(Debug, Clone, Copy)]
struct Queued {
    row: usize,
    index: usize,
    question: Question,
}

/// What a delta asks of those that take it: what they know of the same key and it does not. A replica infers the question from the
/// parts, so only deltas that ask alike may become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Question {
    /// Nothing that counts: nobody waits for an answer.
    Nothing,
    /// SET: a newer register, increments, a set under the same name, a newer expiry.
    Register,
    /// INCR: whether the value is text.
    Increment,
    /// EXPIRE, PERSIST: a newer expiry.
    Expiry,
    /// SADD: other dots of the elements.
    Add,
}

#[derive(Debug)]
struct RowEntry {
    dots: Dots<()>,
    is_changed: bool,
}

impl PendingBatch {
    /// Nothing changed, nothing cached; the cache keeps about `cache_bytes` of heads.
    pub fn new(cache_bytes: usize) -> Self {
        Self {
            heads: Generations::new(cache_bytes),
            dirty: Vec::new(),
            rows: BTreeMap::new(),
            cleared: Vec::new(),
            outbox: Vec::new(),
            relay: Vec::new(),
            conflicts: Vec::new(),
            bytes: 0,
        }
    }

    /// About how many bytes the batch would have, if it were closed now.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The conflicts that joins brought about since this was last asked.
    pub fn take_conflicts(&mut self) -> Vec<Clash> {
        std::mem::take(&mut self.conflicts)
    }

    /// Whether there is nothing to commit.
    pub fn is_clean(&self) -> bool {
        self.dirty.is_empty() && self.outbox.is_empty() && self.relay.is_empty()
    }

    /// A key's head.
    pub fn head(
        &mut self,
        storage: &dyn Storage,
        position: &Position,
        key: &Key,
    ) -> Result<&Head, StorageError> {
        self.entry(storage, position, key).map(|entry| &entry.head)
    }

    /// A key's head if it is cached.
    pub(super) fn peek(&self, key: &[u8]) -> Option<&Head> {
        self.heads.peek(key).map(|entry| &entry.head)
    }

    /// An element's dots.
    pub fn row(
        &mut self,
        storage: &dyn Storage,
        position: &Position,
        key: &[u8],
        element: &[u8],
    ) -> Result<&Dots<()>, StorageError> {
        self.row_entry(storage, row::stored_key(position, Tag::SET, key, element))
            .map(|entry| &entry.dots)
    }

    /// An element's dots if this batch touched them; `Some` of none for a row that the batch deleted.
    pub(super) fn peek_row(&self, stored: &[u8]) -> Option<&Dots<()>> {
        self.rows.get(stored).map(|entry| &entry.dots)
    }

    /// Rows that this batch touched, in `from..to`.
    pub(super) fn touched_rows<'a>(
        &'a self,
        from: &[u8],
        to: &[u8],
    ) -> impl Iterator<Item = (&'a [u8], &'a Dots<()>)> + use<'a> {
        self.rows
            .range(from.to_vec()..to.to_vec())
            .map(|(stored, entry)| (stored.as_slice(), &entry.dots))
    }

    /// Whether this batch deleted the run of rows that `stored` lies in.
    pub(super) fn is_cleared(&self, stored: &[u8]) -> bool {
        self.cleared
            .iter()
            .any(|(from, to)| from.as_slice() <= stored && stored < to.as_slice())
    }

    /// Joins a delta of any origin. An error leaves everything as it was: all that is to be read is read before anything changes.
    pub fn join(&mut self, storage: &dyn Storage, delta: &Delta) -> Result<(), StorageError> {
        let position = Position::of(&delta.key);
        let head = &self.entry(storage, &position, &delta.key)?.head;
        refuse_more_unknown(head, delta)?;
        let was_clear = head.conflict().is_none();
        self.load_rows(storage, &position, delta)?;
        for part in &delta.parts {
            if let Part::Set(rows) = part
                && !part.says_nothing()
            {
                self.join_rows(storage, &position, &delta.key, rows)?;
            }
        }
        let entry = self.entry(storage, &position, &delta.key)?;
        for part in &delta.parts {
            match part {
                Part::String(string) if is_on(Mutant::CountsAdded) => {
                    mutant::add_counts(&mut entry.head.string, string);
                }
                Part::String(string) => entry.head.string.join(string),
                Part::Expiry(expiry) => entry.head.expiry.join(expiry),
                Part::Unknown(unknown) => entry.head.unknown.keep(unknown),
                Part::Set(_) => {}
            }
        }
        let conflict = was_clear.then(|| entry.head.clash(&delta.key)).flatten();
        self.conflicts.extend(conflict);
        if !delta.parts.iter().all(Part::says_nothing) {
            self.touch(&delta.key);
        }
        Ok(())
    }

    /// Joins a delta of this node's own making and queues it for the other regions. `last` is the newest stamp in it.
    pub fn coordinate(
        &mut self,
        storage: &dyn Storage,
        delta: Delta,
        last: Hlc,
        question: Question,
    ) -> Result<(), StorageError> {
        self.join(storage, &delta)?;
        self.enqueue(delta, last, question);
        Ok(())
    }

    /// Takes the parts out of a head that were kept without their type being known, where it is known now. They are to be joined in the
    /// same batch.
    pub fn take_known(
        &mut self,
        storage: &dyn Storage,
        position: &Position,
        key: &Key,
    ) -> Result<Vec<Part>, StorageError> {
        let entry = self.entry(storage, position, key)?;
        let parts = entry.head.unknown.take_known();
        let parts = parts.map_err(|error| StorageError::Corrupt {
            family: Family::Head.name(),
            key: key.escape_ascii().to_string(),
            detail: format!("what was kept of a type that is known now: {error}"),
        })?;
        self.touch(key);
        Ok(parts)
    }

    /// Queues a delta of another region for the other replicas of this one, at a place of its own.
    pub fn relay(&mut self, delta: Delta, place: Hlc) {
        let bytes = delta.approximate_bytes();
        self.bytes += bytes;
        let row = open_row(&mut self.relay, place);
        row.bytes += bytes;
        row.deltas.push(delta);
    }

    /// Moves everything uncommitted into `batch`; what will expire is remembered in `expiring`.
    pub fn close(&mut self, batch: &mut Batch, expiring: &mut Expiring) -> Closed {
        for (from, to) in self.cleared.drain(..) {
            batch.delete_range(Family::Row, from, to);
        }
        for (stored, entry) in std::mem::take(&mut self.rows) {
            match (entry.is_changed, entry.dots.is_empty()) {
                (false, _) => {}
                (true, true) => batch.delete(Family::Row, stored),
                (true, false) => batch.put(Family::Row, stored, row::encode(&entry.dots)),
            }
        }
        let moves = std::mem::take(&mut self.dirty)
            .into_iter()
            .filter_map(|key| self.close_head(&key, batch, expiring))
            .collect();
        self.heads.rotate();
        self.bytes = 0;
        Closed {
            moves,
            outbox: std::mem::take(&mut self.outbox),
            relay: std::mem::take(&mut self.relay),
        }
    }

    fn close_head(
        &mut self,
        key: &Key,
        batch: &mut Batch,
        expiring: &mut Expiring,
    ) -> Option<TallyMove> {
        let entry = self.heads.get_mut(key)?;
        if is_on(Mutant::TombstoneForgotten) && entry.head.slot() == Shown::Absent {
            entry.head = Head::default();
        }
        let position = Position::of(key);
        let value = entry.head.encode();
        let before = entry.accounted;
        entry.accounted = (
            entry.head.slot() != Shown::Absent,
            head::digest(key, &value),
        );
        entry.is_dirty = false;
        entry.queued = None;
        let after = entry.accounted;
        if let Some(at_ms) = entry.head.expiry.at_ms {
            expiring.insert(at_ms, Bytes::copy_from_slice(key));
        }
        entry.bytes = value.len();
        if !entry.head.unknown.is_empty() {
            meta::note_unknown(batch);
        }
        self.heads.resize(key, value.len());
        batch.put(Family::Head, head::stored_key(&position, key), value);
        Some((position.partition, before, after))
    }

    fn entry(
        &mut self,
        storage: &dyn Storage,
        position: &Position,
        key: &Key,
    ) -> Result<&mut Entry, StorageError> {
        if !self.heads.touch(key) {
            let stored = storage.get(Family::Head, &head::stored_key(position, key))?;
            let entry = Entry::load(key, stored.as_deref())?;
            let bytes = entry.bytes;
            self.heads.insert(key, entry, bytes);
        }
        Ok(self
            .heads
            .get_mut(key)
            .expect("the entry was inserted above"))
    }

    fn row_entry(
        &mut self,
        storage: &dyn Storage,
        stored: Vec<u8>,
    ) -> Result<&mut RowEntry, StorageError> {
        if !self.rows.contains_key(&stored) {
            let value = if self.is_cleared(&stored) {
                None
            } else {
                storage.get(Family::Row, &stored)?
            };
            let dots = value
                .map(|value| row::decode(&stored, &value))
                .transpose()?
                .unwrap_or_default();
            self.rows.insert(
                stored.clone(),
                RowEntry {
                    dots,
                    is_changed: false,
                },
            );
        }
        Ok(self
            .rows
            .get_mut(&stored)
            .expect("the entry was inserted above"))
    }

    fn touch(&mut self, key: &Key) {
        let Some(entry) = self.heads.get_mut(key) else {
            return;
        };
        if !entry.is_dirty {
            entry.is_dirty = true;
            self.bytes += entry.bytes + key.len();
            self.dirty.push(key.clone());
        }
    }

    /// Queues a delta, merged into the one that the same key had last and that asks alike, if it is in the open outbox row: a hot key costs one delta per
    /// batch.
    fn enqueue(&mut self, delta: Delta, last: Hlc, question: Question) {
        let key = delta.key.clone();
        let bytes = delta.approximate_bytes();
        self.bytes += bytes;
        let row = open_row(&mut self.outbox, last);
        row.bytes += bytes;
        let index = row.deltas.len();
        let open = self.outbox.len() - 1;
        let Some(entry) = self.heads.get_mut(&key) else {
            return;
        };
        let row = &mut self.outbox[open];
        match entry.queued {
            Some(queued) if queued.row == open && queued.question == question => {
                row.deltas[queued.index].merge(delta);
            }
            _ => {
                // What changed nothing here is not closed with the batch, which would forget where it stands.
                let queued = Queued {
                    row: open,
                    index,
                    question,
                };
                entry.queued = entry.is_dirty.then_some(queued);
                row.deltas.push(delta);
            }
        }
    }
}

/// What is not known cannot be made smaller, so it is bounded: each of its parts is written again with every write of the key.
fn refuse_more_unknown(head: &Head, delta: &Delta) -> Result<(), StorageError> {
    let is_unknown = |part: &Part| matches!(part, Part::Unknown(_));
    if !delta.parts.iter().any(is_unknown) || head.unknown.bytes() < UNKNOWN_BYTES_MAX {
        return Ok(());
    }
    Err(StorageError::UnknownTypes {
        key: delta.key.escape_ascii().to_string(),
        bytes: head.unknown.bytes(),
    })
}

/// The row that takes what comes at `last`: the newest one, until it is full.
fn open_row(rows: &mut Vec<OutboxRow>, last: Hlc) -> &mut OutboxRow {
    if rows.last().is_none_or(|row| row.bytes >= OUTBOX_ROW_BYTES) {
        rows.push(OutboxRow {
            deltas: Vec::new(),
            last,
            bytes: 0,
        });
    }
    debug_assert!(
        rows.windows(2).all(|two| two[0].last < two[1].last),
        "rows of one actor are in order"
    );
    let open = rows.len() - 1;
    let row = &mut rows[open];
    debug_assert!(row.last <= last, "stamps of one actor only rise");
    row.last = last;
    row
}

impl Entry {
    fn load(key: &[u8], stored: Option<&[u8]>) -> Result<Self, StorageError> {
        let Some(value) = stored else {
            return Ok(Self {
                head: Head::default(),
                accounted: (false, 0),
                bytes: 0,
                is_dirty: false,
                queued: None,
            });
        };
        let head = Head::decode(key, value)?;
        let accounted = (head.slot() != Shown::Absent, head::digest(key, value));
        Ok(Self {
            head,
            accounted,
            bytes: value.len(),
            is_dirty: false,
            queued: None,
        })
    }
}

/// Above this many rows a key's rows are deleted as one range.
const RANGE_DELETE_ROWS_MIN: u64 = 512;
/// An outbox row is closed when it has about this many bytes: a batch of large values becomes several rows, so that
/// a shipped frame is at most one row of one largest value.
const OUTBOX_ROW_BYTES: usize = 1 << 20;
/// A key that holds so much of unknown types takes no more of them.
const UNKNOWN_BYTES_MAX: usize = 1 << 20;
/// What an element's row costs in a batch besides its bytes.
const ROW_OVERHEAD_BYTES: usize = 64;
