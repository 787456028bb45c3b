//! Additions of other nodes to keys that have ended here.
//!
//! ```text
//!   INCR k ── through us-1, which has not heard that k had ended before that; us-3 has, and its word has that end taken away
//!   INCR k ── through us-3 would end all that is here, and the first INCR with it
//! ```
//! So whoever adds through us-3 waits for what us-1 makes of the word, for as long as a client of us-1 waits at most: us-1 may have died.

use std::{collections::BTreeMap, time::Duration};

use crate::core::op::Key;

/// Keys to which another node added after their end, and until when, since the process started, it may take that end away.
#[derive(Debug, Default)]
pub(super) struct AfterEnd {
    until: BTreeMap<Key, Duration>,
}

impl AfterEnd {
    /// Another node has added to a key that has ended here. Beyond the bound it is not noted, and what it added may go with what has ended.
    pub(super) fn note(&mut self, key: &Key, now: Duration, until: Duration) {
        if self.has(key, now) {
            return; // or whoever adds again and again would have others wait for ever
        }
        if self.until.len() >= KEYS_MAX {
            self.until.retain(|_, until| *until > now);
        }
        if self.until.len() < KEYS_MAX {
            self.until.insert(key.clone(), until);
        }
    }

    /// Whether its end may still be taken away.
    pub(super) fn has(&self, key: &Key, now: Duration) -> bool {
        let until = self.until.get(key);
        until.is_some_and(|until| *until > now)
    }
}

/// Keys noted, at most.
const KEYS_MAX: usize = 1024;
