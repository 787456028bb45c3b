//! The end of keys whose expiry has passed, where other replicas hold them.
//!
//! To end a key is to delete what is seen of it, and that is not taken back. Another replica may know of a PERSIST or of a later EXPIRE that
//! a majority acknowledged and this one missed. So a majority is asked first, like for a read; what it knows is joined here, and what has
//! ended then is ended. Until then readers see the key gone all the same.
//!
//! PERSIST through a node whose clock is behind may begin when the key has ended here, and is answered within a client's time. So the question
//! is put off for as long as two clocks may differ and a client waits: what is acknowledged of it by then a majority has.

use std::collections::BTreeMap;

use super::Shard;
use crate::{
    core::{
        Now, Output, RequestId, compare,
        coordinate::Target,
        op::{Action, Key, Op, Read},
        quorum_read::{AskedAbout, Waiting},
    },
    level::Level,
    placement::Position,
    storage::{Storage, StorageError},
};

/// Questions about keys that seem to have ended.
#[derive(Debug, Default)]
pub(super) struct Endings {
    asked: BTreeMap<RequestId, Asked>,
    /// How many there were: no two have the same number.
    count: u64,
}

#[derive(Debug)]
struct Asked {
    key: Key,
    /// When it is asked again, if this comes to nothing.
    again_ms: u64,
}

impl Shard {
    /// How long after its end a key is left alone.
    pub(super) fn doubt_of_ends_ms(&self) -> u64 {
        let timeout_ms = u64::try_from(self.config.timeout.as_millis()).unwrap_or(u64::MAX);
        self.config.max_skew_ms.saturating_add(timeout_ms)
    }

    /// Asks a majority what it knows of a key that has ended here.
    pub(super) fn ask_whether_it_ends(
        &mut self,
        storage: &dyn Storage,
        key: &Key,
        now: Now,
        out: &mut Vec<Output>,
    ) {
        let again_ms = now.wall_ms.saturating_add(ASK_AGAIN_MS);
        let is_busy = self.endings.asked.len() >= ASKED_MAX || self.is_crowded().is_some();
        if is_busy || self.quorum_reads.is_closed(key) {
            self.expiring.insert(again_ms, key.clone());
            return;
        }
        self.endings.count += 1;
        let id = RequestId(u64::MAX - self.endings.count);
        let key = key.clone();
        let asked = Asked {
            key: key.clone(),
            again_ms,
        };
        self.endings.asked.insert(id, asked);
        let waiting = Waiting {
            id,
            op: Op {
                key,
                action: Action::Read(Read::Exists),
                level: Level::LocalQuorum,
            },
            deadline: now.mono + self.config.timeout,
        };
        self.question_in_order(storage, vec![waiting], now, out);
    }

    /// A majority has said what it knows of what was here when it was asked. What came since may be acknowledged, by somebody who has not
    /// heard of the end: then it is asked again later. Gives whether the question was of this kind.
    pub(super) fn end_if_ended(
        &mut self,
        storage: &dyn Storage,
        id: RequestId,
        asked_about: Option<&AskedAbout>,
        now: Now,
    ) -> Result<bool, StorageError> {
        let Some(asked) = self.endings.asked.remove(&id) else {
            return Ok(false);
        };
        let has_changed = match asked_about {
            Some(about) => compare::digest(storage, &mut self.pending, &asked.key)? != about.digest,
            None => false,
        };
        // What was added after the end may have it taken away.
        let may_stay = self.after_end.has(&asked.key, now.mono);
        if has_changed || may_stay || self.refuses_writes().is_some() {
            self.expiring.insert(asked.again_ms, asked.key);
            return Ok(true);
        }
        let target = Target {
            key: &asked.key,
            position: Position::of(&asked.key),
        };
        self.coordinator(storage, now, false)
            .finish_expired(&target)?;
        Ok(true)
    }

    /// A question came to nothing: it is asked again later. Gives whether it was of this kind.
    pub(super) fn ask_again_whether_it_ends(&mut self, id: RequestId) -> bool {
        let Some(asked) = self.endings.asked.remove(&id) else {
            return false;
        };
        self.expiring.insert(asked.again_ms, asked.key);
        true
    }
}

/// Before a majority is asked about a key again.
const ASK_AGAIN_MS: u64 = 10_000;
/// Questions of this kind under way, at most: requests of clients come first.
const ASKED_MAX: usize = 1024;
