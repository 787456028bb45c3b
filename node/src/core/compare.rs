//! Two replicas' copies of one key, compared row by row: what each lacks, as deltas.
//!
//! A copy is a view. It is never joined as it is, because its context would swallow rows that it does not carry; what comes out
//! of the comparison names the rows that differ and carries only their own dots, held or removed. So a repair
//! says nothing about what was not compared. Each page of rows is used under the context that was read with it.

use std::{collections::BTreeMap, ops::ControlFlow};

use bytes::Bytes;
use crdt::{
    Context, Delta, Dots, Expiry, Hlc, Named, Part, RowsDelta, Stamp, StringState, join_row,
};
use xxhash_rust::xxh3::xxh3_64;

use super::{message::KeyCopy, op::Key, working::Working};
use crate::{
    placement::Position,
    storage::{
        Storage, StorageError, prefix_end,
        record::{
            head::{self, Head},
            row,
        },
    },
};

/// What two copies lack of each other.
#[derive(Debug, Default, PartialEq)]
pub struct Difference {
    /// The newest stamp in the second one.
    pub newest: Hlc,
    /// What the first one lacks.
    pub mine: Vec<Part>,
    /// What the second one lacks.
    pub theirs: Vec<Part>,
}

/// Is shown a row: its hash, its element and its dots.
type VisitRow<'a> = &'a mut dyn FnMut(u64, &[u8], &Dots<()>) -> ControlFlow<()>;

/// Elements and their dots.
type Rows = BTreeMap<Bytes, Dots<()>>;

/// The digest under which copies of a key are equal; the same for a key that never was, and one of which nothing is remembered.
pub fn digest(
    storage: &dyn Storage,
    working: &mut Working,
    key: &Key,
) -> Result<u128, StorageError> {
    let head = working.head(storage, &Position::of(key), key)?;
    if *head == Head::default() {
        return Ok(0);
    }
    Ok(head::digest(key, &head.encode()))
}

/// This replica's copy of a key: its head, and rows whose hash is at least `from`, as many as fit.
pub fn copy(
    storage: &dyn Storage,
    working: &mut Working,
    key: &Key,
    from: u64,
) -> Result<KeyCopy, StorageError> {
    let head = Bytes::from(working.head(storage, &Position::of(key), key)?.encode());
    let (rows, next) = page(storage, working, key, from)?;
    let rows = rows.into_iter().collect();
    Ok(KeyCopy { head, rows, next })
}

/// Compares this replica's copy with another's, over the rows that the other one sent.
pub fn compare(
    storage: &dyn Storage,
    working: &mut Working,
    key: &Key,
    from: u64,
    theirs: &KeyCopy,
) -> Result<Difference, StorageError> {
    let their_head = Head::decode(key, &theirs.head)?;
    let my_head = working.head(storage, &Position::of(key), key)?.clone();
    let mut difference = Difference {
        newest: newest(&their_head),
        ..Difference::default()
    };
    difference.of_strings(&my_head.string, &their_head.string);
    difference.of_expiries(&my_head.expiry, &their_head.expiry);
    let mine = rows_between(storage, working, key, from, theirs.next)?;
    let rows = theirs.rows.iter().cloned().collect();
    difference.of_rows((&my_head, mine), (&their_head, rows));
    Ok(difference)
}

/// Parts as a delta of a key; `None` where there are none.
pub fn delta(key: &Key, parts: Vec<Part>) -> Option<Delta> {
    let key = key.clone();
    (!parts.is_empty()).then_some(Delta { key, parts })
}

/// The newest stamp in a copy; its context covers its rows.
fn newest(head: &Head) -> Hlc {
    let set = head.set.context.newest_of_all().max(head.set.created.hlc);
    set.max(head.string.newest()).max(head.expiry.stamp.hlc)
}

impl Difference {
    fn of_strings(&mut self, mine: &StringState, theirs: &StringState) {
        let mut joined = mine.clone();
        joined.join(theirs);
        if joined != *mine {
            self.mine.push(Part::String(theirs.clone()));
        }
        if joined != *theirs {
            self.theirs.push(Part::String(mine.clone()));
        }
    }

    fn of_expiries(&mut self, mine: &Expiry, theirs: &Expiry) {
        let mut joined = *mine;
        joined.join(theirs);
        if joined != *mine {
            self.mine.push(Part::Expiry(*theirs));
        }
        if joined != *theirs {
            self.theirs.push(Part::Expiry(*mine));
        }
    }

    fn of_rows(&mut self, mine: (&Head, Rows), theirs: (&Head, Rows)) {
        let ((my_head, my_rows), (their_head, their_rows)) = (mine, theirs);
        let (mut to_me, mut to_them) = (Repair::default(), Repair::default());
        let none = Dots::new();
        let elements: std::collections::BTreeSet<&Bytes> =
            my_rows.keys().chain(their_rows.keys()).collect();
        for element in elements {
            let mine = my_rows.get(element).unwrap_or(&none);
            let theirs = their_rows.get(element).unwrap_or(&none);
            let joined = join_row(mine, &my_head.set.context, theirs, &their_head.set.context);
            to_me.row(element, mine, &joined);
            to_them.row(element, theirs, &joined);
        }
        self.mine.extend(to_me.part(their_head.set.created));
        self.theirs.extend(to_them.part(my_head.set.created));
    }
}

/// Rows that one side is to have, with their own dots and those that are gone from them.
#[derive(Default)]
struct Repair {
    context: Context,
    rows: Rows,
}

impl Repair {
    fn row(&mut self, element: &Bytes, held: &Dots<()>, joined: &Dots<()>) {
        if held == joined {
            return;
        }
        for dot in held.stamps().chain(joined.stamps()) {
            self.context.insert(dot);
        }
        self.rows.insert(element.clone(), joined.clone());
    }

    fn part(self, created: Stamp) -> Option<Part> {
        let named = (!self.rows.is_empty()).then_some(Named::Rows(self.rows));
        named.map(|named| {
            Part::Set(RowsDelta {
                context: self.context,
                named,
                created,
            })
        })
    }
}

/// Rows from a hash on, as many as fit, and the hash of the first one that did not.
fn page(
    storage: &dyn Storage,
    working: &Working,
    key: &Key,
    from: u64,
) -> Result<(Rows, Option<u64>), StorageError> {
    let (mut rows, mut bytes, mut next, mut last) = (Rows::new(), 0, None, None);
    visit(storage, working, key, from, &mut |hash, element, dots| {
        // Elements that share a hash share a page: the next one begins at a hash.
        if bytes >= PAGE_BYTES && last != Some(hash) {
            next = Some(hash);
            return ControlFlow::Break(());
        }
        bytes += element.len() + ROW_BYTES;
        last = Some(hash);
        rows.insert(Bytes::copy_from_slice(element), dots.clone());
        ControlFlow::Continue(())
    })?;
    Ok((rows, next))
}

/// Rows whose hash lies in `from..to`.
fn rows_between(
    storage: &dyn Storage,
    working: &Working,
    key: &Key,
    from: u64,
    to: Option<u64>,
) -> Result<Rows, StorageError> {
    let mut rows = Rows::new();
    visit(storage, working, key, from, &mut |hash, element, dots| {
        if to.is_some_and(|to| hash >= to) {
            return ControlFlow::Break(());
        }
        rows.insert(Bytes::copy_from_slice(element), dots.clone());
        ControlFlow::Continue(())
    })?;
    Ok(rows)
}

fn visit(
    storage: &dyn Storage,
    working: &Working,
    key: &Key,
    from: u64,
    visit: VisitRow<'_>,
) -> Result<(), StorageError> {
    let position = Position::of(key);
    let prefix = row::prefix(&position, key);
    let end = prefix_end(&prefix)
        .expect("a prefix begins with a partition below 1024, so a larger key exists");
    let start = row::from_hash(&position, key, from);
    let mut failed = None;
    working.visit_live_rows(
        storage,
        &start,
        &end,
        &mut |stored, dots| match row::element(stored, prefix.len()) {
            Ok((hash, element)) => {
                debug_assert_eq!(hash, xxh3_64(element));
                visit(hash, element, dots)
            }
            Err(error) => {
                failed = Some(error);
                ControlFlow::Break(())
            }
        },
    )?;
    failed.map_or(Ok(()), Err)
}

/// Rows of one page, in bytes: well below the largest frame.
const PAGE_BYTES: usize = 1 << 20;
/// What a row takes besides its element.
const ROW_BYTES: usize = 32;
