//! Reads of many rows: fixed at one moment by the shard, carried out beside it.
//!
//! What a read shows must be what enough replicas have confirmed, and nothing that came later: that may be on no other one. A read of few
//! rows is answered at that moment, by the shard. One of many would stop the shard for as long as it takes, so the shard only
//! *fixes* what it sees:
//!
//! ```text
//!   question, or news of a replica ─▶ digest of the key as it is now, asked about at the others
//!                                  └▶ FixedView = snapshot of storage + what the open batch changed of this key
//!        others ─ "we hold that" ──▶ Read(FixedRead) once the batch is durable ──▶ walked on a thread that may wait
//!        others ─ news ────────────▶ joined here; another digest, another view; this one is dropped
//!        nobody answers in time ───▶ refused; the view is dropped
//! ```
//! - *The open batch.* A snapshot knows only what is committed, and the batch goes on to change behind the moment. So the few rows of the
//!   key that the batch has touched, and its head, are kept beside the snapshot, as they are at the moment: both together are exactly what
//!   the digest was taken of. The read is released with the replies of a batch that is not older.
//! - *A commit that fails* ends the shard: what waits is refused, its views are dropped with it, storage can be reopened.
//! - *Bounds.* A view keeps storage from reclaiming what it sees. A shard keeps few of them, refuses what is beyond, and drops each with the
//!   time of its request: a walk stops where nobody waits for it any more.

use std::{
    collections::BTreeMap,
    ops::ControlFlow,
    sync::{Arc, Weak},
};

use crdt::Tag;

use super::{
    op::{Key, Read},
    read::read,
    reply::{Refusal, Reply},
    view::{Elements, HeadRef, Uncommitted, View, VisitElement},
};
use crate::{
    placement::Position,
    storage::{
        Family, Snapshot, StorageError,
        record::{
            head::{self, Head},
            row,
        },
    },
};

/// What a read is answered with.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// This.
    Reply(Reply),
    /// What it finds in a view that is fixed.
    Fixed(FixedRead),
}

/// A read, and the view in which it is to be carried out.
#[derive(Debug, Clone)]
pub struct FixedRead {
    view: Arc<FixedView>,
    read: Read,
}

/// A key as it was at one moment.
#[derive(Debug)]
pub struct FixedView {
    key: Key,
    /// What the clock showed.
    wall_ms: u64,
    snapshot: Arc<dyn Snapshot>,
    /// Its head where the shard had it in memory, perhaps changed.
    head: Option<Head>,
    /// Rows that the open batch had touched, and whether they were there.
    touched: BTreeMap<Vec<u8>, bool>,
    /// Whether the batch had deleted all rows before it touched those.
    is_cleared: bool,
}

/// The views of one shard that somebody still holds.
#[derive(Debug)]
pub struct Views {
    open: Vec<Weak<FixedView>>,
    rows_at_once: u64,
}

impl From<Reply> for Answer {
    fn from(reply: Reply) -> Self {
        Self::Reply(reply)
    }
}

impl Answer {
    /// What it keeps in memory, about, in bytes.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Reply(reply) => reply.bytes(),
            Self::Fixed(fixed) => fixed.view.bytes(),
        }
    }
}

impl PartialEq for FixedRead {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.view, &other.view) && self.read == other.read
    }
}

impl FixedRead {
    /// Carries it out: reads as many rows as the key has, so not where others wait. Ends without them once `goes_on` says that nobody
    /// wants them any more.
    pub fn answer(&self, goes_on: &dyn Fn() -> bool) -> Reply {
        let bounded = Bounded {
            view: &self.view,
            goes_on,
        };
        match read(&bounded, &self.view.key, &self.read, self.view.wall_ms) {
            Ok(reply) => reply,
            Err(Ended::Failed(error)) => Refusal::Unavailable(error.to_string()).into(),
            Err(Ended::Unwanted) => Refusal::Timeout(
                "the key has more rows than were read in time; nothing was written".to_owned(),
            )
            .into(),
        }
    }
}

impl Views {
    /// None; reads of up to `rows_at_once` rows need none.
    pub fn new(rows_at_once: u64) -> Self {
        Self {
            open: Vec::new(),
            rows_at_once,
        }
    }

    /// What reads of a key are answered with, as it is now. Those of many rows share a view.
    pub fn answers<'a>(
        &mut self,
        now: &Uncommitted<'_>,
        key: &Key,
        reads: impl Iterator<Item = &'a Read>,
        wall_ms: u64,
    ) -> Vec<Answer> {
        let mut shared = None;
        let answer = |read| {
            self.answer(now, key, read, wall_ms, &mut shared)
                .unwrap_or_else(|refusal| Reply::from(refusal).into())
        };
        reads.map(answer).collect()
    }

    fn answer(
        &mut self,
        now: &Uncommitted<'_>,
        key: &Key,
        asked: &Read,
        wall_ms: u64,
        shared: &mut Option<Arc<FixedView>>,
    ) -> Result<Answer, Refusal> {
        let failed = |error: StorageError| Refusal::Unavailable(error.to_string());
        let head = now.head(&Position::of(key), key).map_err(failed)?;
        let live = head.as_deref().map_or(0, |head| head.set.live);
        if asked.profile().visits.walked(live) <= self.rows_at_once {
            let reply = read(now, key, asked, wall_ms).map_err(failed)?;
            return Ok(reply.into());
        }
        let view = match shared {
            Some(view) => Arc::clone(view),
            None => Arc::clone(shared.insert(self.fix(now, key, wall_ms)?)),
        };
        let read = asked.clone();
        Ok(Answer::Fixed(FixedRead { view, read }))
    }

    fn fix(
        &mut self,
        now: &Uncommitted<'_>,
        key: &Key,
        wall_ms: u64,
    ) -> Result<Arc<FixedView>, Refusal> {
        self.open.retain(|view| view.strong_count() > 0);
        if self.open.len() >= VIEWS_MAX {
            return Err(Refusal::Busy(format!(
                "{VIEWS_MAX} reads of large keys are under way in a shard of this node"
            )));
        }
        let view = FixedView::of(now, key, wall_ms);
        let view = view.map_err(|error| Refusal::Unavailable(error.to_string()))?;
        let view = Arc::new(view);
        self.open.push(Arc::downgrade(&view));
        Ok(view)
    }
}

impl FixedView {
    fn of(now: &Uncommitted<'_>, key: &Key, wall_ms: u64) -> Result<Self, StorageError> {
        let elements = Elements::of(&Position::of(key), key, 0);
        let touched = now.pending.touched_rows(&elements.from, &elements.to);
        Ok(Self {
            key: key.clone(),
            wall_ms,
            snapshot: now.storage.snapshot()?,
            head: now.pending.peek(key).cloned(),
            touched: touched
                .map(|(stored, dots)| (stored.to_vec(), !dots.is_empty()))
                .collect(),
            is_cleared: now.pending.is_cleared(&elements.from),
        })
    }

    fn bytes(&self) -> usize {
        let touched = self.touched.keys().map(|stored| stored.len() + ROW_BYTES);
        size_of::<Self>() + self.key.len() + touched.sum::<usize>()
    }
}

/// A view that is looked into for as long as somebody wants to know.
struct Bounded<'a> {
    view: &'a FixedView,
    goes_on: &'a dyn Fn() -> bool,
}

/// Why a walk ended before its last row.
enum Ended {
    Failed(StorageError),
    Unwanted,
}

impl From<StorageError> for Ended {
    fn from(error: StorageError) -> Self {
        Self::Failed(error)
    }
}

impl View for Bounded<'_> {
    type Error = Ended;

    fn head(&self, position: &Position, key: &[u8]) -> Result<Option<HeadRef<'_>>, Ended> {
        if let Some(head) = &self.view.head {
            return Ok(Some(HeadRef::PendingBatch(head)));
        }
        let stored = head::stored_key(position, key);
        let value = self.view.snapshot.get(Family::Head, &stored)?;
        let head = value.map(|value| Head::decode(key, &value)).transpose()?;
        Ok(head.map(Arc::new).map(HeadRef::Committed))
    }

    fn has_element(&self, position: &Position, key: &[u8], element: &[u8]) -> Result<bool, Ended> {
        let stored = row::stored_key(position, Tag::SET, key, element);
        match self.view.touched.get(&stored) {
            Some(is_there) => Ok(*is_there),
            None if self.view.is_cleared => Ok(false),
            None => Ok(self.view.snapshot.get(Family::Row, &stored)?.is_some()),
        }
    }

    fn elements(
        &self,
        position: &Position,
        key: &[u8],
        from: u64,
        visit: VisitElement<'_>,
    ) -> Result<(), Ended> {
        let elements = Elements::of(position, key, from);
        let run = elements.from.clone()..elements.to.clone();
        let touched = self.view.touched.range(run);
        let touched = touched.map(|(stored, is_there)| (stored.as_slice(), *is_there));
        let (mut visited, mut is_wanted) = (0_usize, true);
        let mut bounded = |hash, element: &[u8]| {
            if visited.is_multiple_of(ROWS_PER_LOOK) && !(self.goes_on)() {
                is_wanted = false;
                return ControlFlow::Break(());
            }
            visited += 1;
            visit(hash, element)
        };
        let scan = |from: &[u8], to: &[u8], visit: crate::storage::Visit<'_>| {
            self.view.snapshot.scan(Family::Row, from, Some(to), visit)
        };
        elements.visit(
            (!self.view.is_cleared).then_some(scan),
            touched,
            &mut bounded,
        )?;
        if is_wanted {
            Ok(())
        } else {
            Err(Ended::Unwanted)
        }
    }
}

/// Views of one shard at a time. Each keeps storage from reclaiming what was deleted and replaced since; too few, and large sets that many
/// clients read at once give `-BUSY`.
const VIEWS_MAX: usize = 64;
/// How many rows are read between two looks at whether anybody still waits.
const ROWS_PER_LOOK: usize = 1024;
/// What a touched row takes besides its stored key.
const ROW_BYTES: usize = 48;
