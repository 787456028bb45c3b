//! How far comparisons of large keys have come.
//!
//! A key of many rows is compared with another replica page by page, in the order of the rows' hashes:
//!
//! ```text
//!   Compare(digest, from 0) ─▶ page [0, h1) ─▶ joined here, what is lacking there sent ─▶ durable there
//!   Compare(from h1) ────────▶ page [h1, h2) ─▶ …
//!   Compare(from hn) ────────▶ the last page ─▶ …, and with it the contexts of both, as they were at the first page
//! ```
//! One page is under way at a time, so everything before `from` is durable at both. That is worth keeping: a request whose time is up ends,
//! the next one about the key goes on where it stood.
//!
//! *The contexts.* A page carries the dots of its rows alone; what was removed has no row, and what an interval says of the dots between is in
//! none. Only who has seen all pages may take over the rest: every dot of the context that the other had at the first page is by then
//! held here or known to be removed, because each page was compared under a context that contains it. So the copies become equal, digest
//! and all, and what only one of them had seen removed stays removed at both. Nothing that came in after the first page is claimed.
//!
//! The contexts are those of one session: another process may have forgotten what it said.
//!
//! *What a comparison that was taken up says.* The pages before it were compared for another request, perhaps before a write that this one has
//! to see was acknowledged. So it repairs, and says nothing of what the other knows: at its end the other is asked once more, from the beginning.
//! Where nothing is written meanwhile the copies are equal by then, and that is one question.

use std::{collections::BTreeMap, sync::Arc};

use crdt::{Context, Stamp};

use super::{message::SessionId, op::Key};
use crate::names::NodeName;

/// A place in a comparison.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Walk {
    /// The hash of the row at which it goes on: everything below it has been compared, and is durable at both.
    pub from: u64,
    /// What both had seen when it began; `None` before the first page.
    pub seen: Option<Arc<Seen>>,
    /// It was begun for another request.
    pub is_resumed: bool,
}

/// What two replicas had seen of a key's rows at the same time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// The one that asks.
    pub mine: Known,
    /// The other one.
    pub theirs: Known,
}

/// What one replica knows of a key's rows without reading them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// Every dot it has seen.
    pub context: Context,
    /// When the rows last became some after there were none.
    pub created: Stamp,
}

/// The comparisons of one shard that nobody waits for now.
#[derive(Debug, Default)]
pub struct Progress {
    kept: BTreeMap<(Key, NodeName), Kept>,
    turn: u64,
}

#[derive(Debug)]
struct Kept {
    session: SessionId,
    walk: Walk,
    turn: u64,
}

impl Progress {
    /// Nobody waits for a comparison any more; it may be taken up again.
    pub fn keep(&mut self, key: Key, node: NodeName, session: SessionId, walk: Walk) {
        if walk.from == 0 {
            return;
        }
        self.turn += 1;
        let turn = self.turn;
        let kept = Kept {
            session,
            walk,
            turn,
        };
        self.kept.insert((key, node), kept);
        if self.kept.len() > KEPT_MAX {
            let oldest = self.kept.iter().min_by_key(|(_, kept)| kept.turn);
            let oldest = oldest.map(|(whose, _)| whose.clone());
            oldest.and_then(|whose| self.kept.remove(&whose));
        }
        debug_assert!(self.kept.len() <= KEPT_MAX, "they are bounded");
    }

    /// Where a comparison with a node is to go on: at the beginning, unless one was left on this session.
    pub fn resume(&mut self, key: &Key, node: &NodeName, session: SessionId) -> Walk {
        if self.kept.is_empty() {
            return Walk::default();
        }
        let kept = self.kept.remove(&(key.clone(), node.clone()));
        let kept = kept.filter(|kept| kept.session == session);
        kept.map_or_else(Walk::default, |kept| Walk {
            is_resumed: true,
            ..kept.walk
        })
    }

    /// A session is gone, and with it what was said on it.
    pub fn lose(&mut self, session: SessionId) {
        self.kept.retain(|_, kept| kept.session != session);
    }
}

/// Comparisons that are remembered, at most; each holds two contexts. What is forgotten is compared from its beginning.
const KEPT_MAX: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn node() -> NodeName {
        "us-2".parse().expect("a name of letters and a number")
    }

    fn at(from: u64) -> Walk {
        Walk {
            from,
            seen: None,
            is_resumed: from > 0,
        }
    }

    #[test]
    fn a_comparison_goes_on_where_it_was_left_once_and_on_its_session_alone() {
        let mut progress = Progress::default();
        let (key, session) = (Key::from_static(b"k"), SessionId(1));
        progress.keep(key.clone(), node(), session, at(7));
        assert_eq!(progress.resume(&key, &node(), session), at(7));
        assert_eq!(progress.resume(&key, &node(), session), at(0));
        progress.keep(key.clone(), node(), session, at(8));
        assert_eq!(progress.resume(&key, &node(), SessionId(2)), at(0));
        progress.keep(key.clone(), node(), session, at(9));
        progress.lose(session);
        assert_eq!(progress.resume(&key, &node(), session), at(0));
    }

    #[test]
    fn the_oldest_is_forgotten_first() {
        let mut progress = Progress::default();
        let key = |n: usize| Key::from(format!("k{n}"));
        for n in 0..=KEPT_MAX {
            progress.keep(key(n), node(), SessionId(1), at(5));
        }
        assert_eq!(progress.resume(&key(0), &node(), SessionId(1)), at(0));
        assert_eq!(progress.resume(&key(1), &node(), SessionId(1)), at(5));
    }
}
