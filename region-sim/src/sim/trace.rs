//! What happened, line by line: kept to be compared, or shown, or neither.

use std::{collections::BTreeSet, fmt::Write, time::Duration};

use crdt::Delta;
use node::{
    core::{
        message::{Ack, AskId, Compare, Errand, Message, Ship},
        op::Key,
    },
    storage::record::outbox,
};

/// The lines of a run.
#[derive(Debug, Default)]
pub struct Trace {
    mode: TraceMode,
    lines: Vec<String>,
    /// Questions about the key that is followed, and requests on it that were forwarded: their answers do not name it.
    asks: BTreeSet<AskId>,
    forwards: BTreeSet<u64>,
}

/// What becomes of the lines.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum TraceMode {
    /// They are not even made.
    #[default]
    Off,
    /// They are kept.
    Keep,
    /// Those are kept that are about this key, or about no key at all.
    Follow(Key),
}

impl Trace {
    /// A trace without lines.
    pub fn new(mode: TraceMode) -> Self {
        Self {
            mode,
            lines: Vec::new(),
            asks: BTreeSet::new(),
            forwards: BTreeSet::new(),
        }
    }

    /// Adds a line about no key in particular, which is made only if it is wanted.
    pub fn line(&mut self, now: Duration, text: impl FnOnce() -> String) {
        if self.mode != TraceMode::Off {
            self.push(now, &text());
        }
    }

    /// Adds a line about a key.
    pub fn about(&mut self, key: &Key, now: Duration, text: impl FnOnce() -> String) {
        let is_wanted = match &self.mode {
            TraceMode::Off => false,
            TraceMode::Keep => true,
            TraceMode::Follow(followed) => followed == key,
        };
        if is_wanted {
            self.push(now, &text());
        }
    }

    /// Adds a line about what was written together.
    pub fn row(&mut self, deltas: &[Delta], now: Duration, text: impl FnOnce() -> String) {
        let is_wanted = match &self.mode {
            TraceMode::Off => false,
            TraceMode::Keep => true,
            TraceMode::Follow(followed) => touch(deltas, followed),
        };
        if is_wanted {
            self.push(now, &text());
        }
    }

    /// Adds a line about a message.
    pub fn message(&mut self, message: &Message, now: Duration, text: impl FnOnce() -> String) {
        let is_wanted = match self.mode.clone() {
            TraceMode::Off => false,
            TraceMode::Keep => true,
            TraceMode::Follow(key) => self.concerns(message, &key),
        };
        if is_wanted {
            self.push(now, &text());
        }
    }

    /// The lines.
    pub fn lines(&self) -> &[String] {
        &self.lines
    }

    /// Whether a message is about a key.
    fn concerns(&mut self, message: &Message, key: &Key) -> bool {
        match message {
            Message::Ship(Ship { rows, .. }) => rows
                .iter()
                .any(|row| outbox::decode(row).is_ok_and(|deltas| touch(&deltas, key))),
            Message::Ack(Ack { taught, .. }) => {
                taught.iter().any(|teaching| teaching.delta.key == key)
            }
            Message::Compare(Compare {
                ask, key: asked, ..
            }) => asked == key && self.notes(*ask),
            Message::Repair { ask, delta } => delta.key == key && self.notes(*ask),
            Message::Compared { ask, .. }
            | Message::Repaired { ask }
            | Message::Unanswered { ask, .. } => self.asks.contains(ask),
            Message::Forward { id, errand, .. } => {
                let is_about =
                    matches!(errand, Errand::Ops(ops) if ops.iter().any(|op| op.key == key));
                if is_about {
                    self.forwards.insert(*id);
                }
                is_about
            }
            Message::Forwarded { id, .. } => self.forwards.contains(id),
            Message::Nack { .. } => true,
            Message::ClosedTimestamp { .. } | Message::Gap { .. } => false,
        }
    }

    fn notes(&mut self, ask: AskId) -> bool {
        self.asks.insert(ask);
        true
    }

    fn push(&mut self, now: Duration, text: &str) {
        let mut line = format!("{:>12.6} ", now.as_secs_f64());
        // Writing to a string does not fail.
        let _ = write!(line, "{text}");
        self.lines.push(line);
    }
}

fn touch(deltas: &[Delta], key: &Key) -> bool {
    deltas.iter().any(|delta| delta.key == key)
}
