//! Two replicas' copies of one key, compared row by row: what each lacks, as deltas.
//!
//! A copy is a view. It is never joined as it is, because its context would swallow rows that it does not carry; what comes out
//! of the comparison names the rows that differ and carries only their own dots, held or removed. So a repair
//! says nothing about what was not compared. Each page of rows is used under the context that was read with it. Only with the last page,
//! when all of the key has been compared, goes what both had seen at the first one ([`progress`](super::progress)).
//!
//! The work of one page is bounded on both sides, and so is what is sent for it: a page ends where either copy has a page's worth of rows.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::ControlFlow,
    sync::Arc,
};

use bytes::Bytes;
use crdt::{
    Context, Delta, Dots, Expiry, Hlc, Named, Part, RowsDelta, Stamp, StringState, Tag, join_row,
};
use xxhash_rust::xxh3::xxh3_64;

use super::{
    batch::PendingBatch,
    message::KeyCopy,
    mutant::{Mutant, is_on},
    op::Key,
    progress::{Known, Seen, Walk},
};
use crate::{
    placement::Position,
    storage::{
        Storage, StorageError, prefix_end,
        record::{
            head::{self, Head},
            row,
            unknown::UnknownSlots,
        },
    },
};

/// What two copies lack of each other, over one page of their rows.
#[derive(Debug, PartialEq)]
pub struct Difference {
    /// The newest stamp in the second one.
    pub newest: Hlc,
    /// What the first one lacks.
    pub mine: Vec<Part>,
    /// What the second one lacks.
    pub theirs: Vec<Part>,
    /// Where the next page begins, if there is one.
    pub next: Option<u64>,
    /// What both had seen at the first page.
    pub seen: Arc<Seen>,
}

impl Difference {
    /// Whether neither lacks anything.
    pub fn is_none(&self) -> bool {
        self.mine.is_empty() && self.theirs.is_empty()
    }
}

/// Is shown a row: its hash, its element and its dots.
type VisitRow<'a> = &'a mut dyn FnMut(u64, &[u8], &Dots<()>) -> ControlFlow<()>;

/// Elements and their dots.
type Rows = BTreeMap<Bytes, Dots<()>>;

/// The digest under which copies of a key are equal; the same for a key that never was, and one of which nothing is remembered.
pub fn digest(
    storage: &dyn Storage,
    pending: &mut PendingBatch,
    key: &Key,
) -> Result<u128, StorageError> {
    let head = pending.head(storage, &Position::of(key), key)?;
    if *head == Head::default() {
        return Ok(0);
    }
    if is_on(Mutant::DigestIgnoresRows) {
        let mut head = head.clone();
        head.set = head::RowsHead::default();
        return Ok(head::digest(key, &head.encode()));
    }
    Ok(head::digest(key, &head.encode()))
}

/// This replica's copy of a key: its head, and rows whose hash is at least `from`, of about `page_bytes`.
pub fn copy(
    storage: &dyn Storage,
    pending: &mut PendingBatch,
    key: &Key,
    from: u64,
    page_bytes: usize,
) -> Result<KeyCopy, StorageError> {
    let head = Bytes::from(pending.head(storage, &Position::of(key), key)?.encode());
    let page = page(storage, pending, key, from..=u64::MAX, page_bytes)?;
    Ok(KeyCopy {
        head,
        rows: page.rows.into_iter().collect(),
        next: page.next,
    })
}

/// A page of another replica's copy that can be compared with the one here.
#[derive(Debug)]
pub struct TheirPage {
    head: Head,
    rows: Vec<(Bytes, Dots<()>)>,
    next: Option<u64>,
}

impl TheirPage {
    /// Parses the answer to a question about the rows from a hash on. `None` where no sound replica would have given it:
    ///
    /// - The head does not decode.
    /// - A row is none of the page. The pages must end, so each one has rows and the next one begins behind it.
    /// - A dot is not in the context. A context that lacks dots of its rows would be taken over as it is, and nothing would have
    ///   looked at how far ahead these dots are.
    pub fn parse(key: &Key, from: u64, copy: KeyCopy) -> Option<Self> {
        let head = Head::decode(key, &copy.head).ok()?;
        let last = match copy.next {
            Some(next) => next.checked_sub(1).filter(|last| *last >= from)?,
            None => u64::MAX,
        };
        let is_of_page = |element: &Bytes| (from..=last).contains(&xxh3_64(element));
        let is_seen = |dots: &Dots<()>| dots.stamps().all(|dot| head.set.context.contains(dot));
        let mut rows = copy.rows.iter();
        let is_sound = rows.all(|(element, dots)| is_of_page(element) && is_seen(dots));
        let goes_on = copy.next.is_none() || !copy.rows.is_empty();
        (is_sound && goes_on).then_some(Self {
            head,
            rows: copy.rows,
            next: copy.next,
        })
    }
}

/// Compares this replica's copy with another's, from a place on: over the rows that the other one sent, and of the own ones no more than
/// `page_bytes`, about.
pub fn compare(
    storage: &dyn Storage,
    pending: &mut PendingBatch,
    key: &Key,
    walk: &Walk,
    theirs: TheirPage,
    page_bytes: usize,
) -> Result<Difference, StorageError> {
    let their_head = theirs.head;
    let my_head = pending.head(storage, &Position::of(key), key)?.clone();
    let last = theirs.next.map_or(u64::MAX, |next| next.saturating_sub(1));
    let mine = page(storage, pending, key, walk.from..=last, page_bytes)?;
    let next = mine.next.or(theirs.next);
    let is_of_page =
        |(element, _): &(Bytes, Dots<()>)| next.is_none_or(|next| xxh3_64(element) < next);
    let their_rows = theirs.rows.into_iter().filter(is_of_page).collect();
    let seen = walk.seen.clone().unwrap_or_else(|| {
        Arc::new(Seen {
            mine: known(&my_head),
            theirs: known(&their_head),
        })
    });
    let mut difference = Difference {
        newest: newest(&their_head),
        mine: Vec::new(),
        theirs: Vec::new(),
        next,
        seen,
    };
    difference.of_strings(&my_head.string, &their_head.string);
    difference.of_expiries(&my_head.expiry, &their_head.expiry);
    difference.of_rows((&my_head, mine.rows), (&their_head, their_rows));
    difference.of_unknown(&my_head.unknown, &their_head.unknown);
    Ok(difference)
}

fn known(head: &Head) -> Known {
    Known {
        context: head.set.context.clone(),
        created: head.set.created,
    }
}

/// Parts as a delta of a key; `None` where there are none.
pub fn delta(key: &Key, parts: Vec<Part>) -> Option<Delta> {
    let key = key.clone();
    (!parts.is_empty()).then_some(Delta { key, parts })
}

/// The newest stamp in a copy: its context covers its rows, as [`TheirPage::parse`] made sure.
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

    fn of_unknown(&mut self, mine: &UnknownSlots, theirs: &UnknownSlots) {
        self.mine.extend(theirs.missing_in(mine));
        self.theirs.extend(mine.missing_in(theirs));
    }

    fn of_rows(&mut self, mine: (&Head, Rows), theirs: (&Head, Rows)) {
        let ((my_head, my_rows), (their_head, their_rows)) = (mine, theirs);
        let (mut to_me, mut to_them) = (Repair::default(), Repair::default());
        let none = Dots::new();
        let elements: BTreeSet<&Bytes> = my_rows.keys().chain(their_rows.keys()).collect();
        for element in elements {
            let mine = my_rows.get(element).unwrap_or(&none);
            let theirs = their_rows.get(element).unwrap_or(&none);
            let joined = join_row(mine, &my_head.set.context, theirs, &their_head.set.context);
            to_me.row(element, mine, &joined);
            to_them.row(element, theirs, &joined);
        }
        if self.next.is_none() {
            to_me.all_that_is_seen(&self.seen.theirs, my_head);
            to_them.all_that_is_seen(&self.seen.mine, their_head);
        }
        self.mine.extend(to_me.part(their_head.set.created));
        self.theirs.extend(to_them.part(my_head.set.created));
    }
}

/// Rows that one side is to have, with their own dots and those that are gone from them.
#[derive(Default)]
struct Repair {
    dots: Vec<Stamp>,
    context: Context,
    rows: Rows,
    /// It is something without rows too.
    is_more: bool,
}

impl Repair {
    fn row(&mut self, element: &Bytes, held: &Dots<()>, joined: &Dots<()>) {
        if held == joined {
            return;
        }
        self.dots.extend(held.stamps().chain(joined.stamps()));
        self.rows.insert(element.clone(), joined.clone());
    }

    /// Every row has been compared: what the other side had seen then is seen here too, if it is not already.
    fn all_that_is_seen(&mut self, known: &Known, held: &Head) {
        if !held.set.context.covers(&known.context) || held.set.created < known.created {
            self.context = known.context.clone();
            self.is_more = true;
        }
    }

    fn part(mut self, created: Stamp) -> Option<Part> {
        if self.rows.is_empty() && !self.is_more {
            return None;
        }
        // In order each is added at an end, not in the middle of a long list.
        self.dots.sort_unstable();
        self.context.union(&self.dots.into_iter().collect());
        Some(Part::Set(RowsDelta {
            context: self.context,
            named: Named::Rows(self.rows),
            created,
        }))
    }
}

/// Rows of a run of hashes.
struct Page {
    rows: Rows,
    /// The hash of the first row of the run that did not fit.
    next: Option<u64>,
}

/// Rows whose hashes lie in a run, of about `bytes`. Elements that share a hash share a page: the next one begins at a hash.
fn page(
    storage: &dyn Storage,
    pending: &PendingBatch,
    key: &Key,
    hashes: std::ops::RangeInclusive<u64>,
    bytes: usize,
) -> Result<Page, StorageError> {
    let (mut rows, mut taken, mut next, mut last) = (Rows::new(), 0, None, None);
    visit(
        storage,
        pending,
        key,
        *hashes.start(),
        &mut |hash, element, dots| {
            if hash > *hashes.end() {
                return ControlFlow::Break(());
            }
            if taken >= bytes && last != Some(hash) {
                next = Some(hash);
                return ControlFlow::Break(());
            }
            debug_assert!(
                last.is_none_or(|last| last <= hash),
                "rows of a key are stored in the order of their hashes"
            );
            taken += element.len() + ROW_BYTES * dots.len();
            last = Some(hash);
            rows.insert(Bytes::copy_from_slice(element), dots.clone());
            ControlFlow::Continue(())
        },
    )?;
    debug_assert!(
        next.is_none_or(|next| next > *hashes.start()),
        "pages come to an end"
    );
    Ok(Page { rows, next })
}

fn visit(
    storage: &dyn Storage,
    pending: &PendingBatch,
    key: &Key,
    from: u64,
    visit: VisitRow<'_>,
) -> Result<(), StorageError> {
    let position = Position::of(key);
    let prefix = row::prefix(&position, Tag::SET, key);
    let end = prefix_end(&prefix)
        .expect("a prefix begins with a partition below 1024, so a larger key exists");
    let start = row::from_hash(&position, Tag::SET, key, from);
    let mut failed = None;
    pending.visit_live_rows(
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

/// What a row takes besides its element, for each of its dots.
const ROW_BYTES: usize = 32;
