//! Writes that are committed here and wait for other replicas.
//!
//! ```text
//!   committed here ─▶ shipped ─▶ answered by enough ─▶ nothing taught ──────────────────────▶ reply
//!                                                  └─▶ taught ─▶ one correction ─▶ answered by enough ─▶ reply
//! ```
//! A write counts as answered by a replica when the stream there has passed its place in the outbox. It waits until its level is met,
//! can no longer be met, or its time is up; in the last two cases it may still take effect.

use std::{
    collections::{BTreeMap, HashMap}, // the map is looked up, never iterated
    time::Duration,
};

use crdt::Hlc;

use super::{
    RequestId, coordinate::Effect, correct::Lesson, message::Teaching, op::Key, reply::Reply,
    room::Room,
};
use crate::{level::Level, placement::Partition};

/// A write that waits.
#[derive(Debug, Clone, PartialEq)]
pub struct Awaiting {
    /// Who asked.
    pub id: RequestId,
    /// The key.
    pub key: Key,
    /// Its partition.
    pub partition: Partition,
    /// How many replicas must have it.
    pub level: Level,
    /// What it takes of the room for those that wait.
    pub room: Room,
    /// What it came to.
    pub effects: Vec<Effect>,
    /// The answer, once it may be given.
    pub reply: Reply,
    /// Since the process started: when the client is told that nobody knows.
    pub deadline: Duration,
    /// What was taught, until it is corrected; a corrected write learns no more.
    pub lesson: Option<Lesson>,
}

/// A waiting write's name: its place in the outbox, then its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Turn {
    /// The place.
    pub place: Hlc,
    number: u64,
}

/// The waiting writes of one shard, in the order of their places.
#[derive(Debug, Default)]
pub struct Quorum {
    waiting: BTreeMap<Turn, Awaiting>,
    /// The last one on each key of those that replace each other: what was overwritten by a later write of this shard is not corrected, or the two would change
    /// places.
    last: HashMap<Key, u64>, // looked up, never iterated
    next_number: u64,
    room: Room,
}

impl Quorum {
    /// How much waits.
    pub fn room(&self) -> Room {
        self.room
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// The place before the first one: what lies behind it is to be answered for.
    pub fn awaited_after(&self) -> Option<Hlc> {
        let (first, _) = self.waiting.first_key_value()?;
        Some(first.place.previous())
    }

    /// A write waits from now on.
    pub fn wait(&mut self, place: Hlc, awaiting: Awaiting) {
        let number = self.next_number;
        self.next_number += 1;
        if awaiting.effects.iter().any(Effect::is_replaced_by_later) {
            self.last.insert(awaiting.key.clone(), number);
        }
        self.room += awaiting.room;
        self.waiting.insert(Turn { place, number }, awaiting);
    }

    /// Waits again, for its correction, at a later place. It stays as old as it is to those that came after it.
    pub fn wait_again(&mut self, turn: Turn, place: Hlc, awaiting: Awaiting) {
        let turn = Turn {
            place,
            number: turn.number,
        };
        if awaiting.effects.iter().any(Effect::is_replaced_by_later) {
            let last = self.last.entry(awaiting.key.clone()).or_insert(turn.number);
            *last = turn.number.max(*last);
        }
        self.room += awaiting.room;
        self.waiting.insert(turn, awaiting);
    }

    /// A replica taught something about the rows in `(after, upto]`.
    pub fn learn(&mut self, after: Hlc, upto: Hlc, taught: &[Teaching]) {
        if taught.is_empty() {
            return;
        }
        for (_, awaiting) in self.waiting.range_mut(turns(after, upto)) {
            let about = taught
                .iter()
                .filter(|teaching| teaching.delta.key == awaiting.key);
            for teaching in about {
                if let Some(lesson) = &mut awaiting.lesson {
                    lesson.take(teaching);
                }
            }
        }
    }

    /// Those at or before a place, in order.
    pub fn upto(&self, place: Hlc) -> impl Iterator<Item = (Turn, &Awaiting)> {
        self.waiting
            .range(turns(Hlc::ZERO, place))
            .map(|(turn, awaiting)| (*turn, awaiting))
    }

    /// All of them, in order.
    pub fn iter(&self) -> impl Iterator<Item = (Turn, &Awaiting)> {
        self.waiting
            .iter()
            .map(|(turn, awaiting)| (*turn, awaiting))
    }

    /// Ends one's waiting. Gives it, and whether no later write of this shard has replaced it.
    pub fn take(&mut self, turn: Turn) -> Option<(Awaiting, bool)> {
        let awaiting = self.waiting.remove(&turn)?;
        self.room -= awaiting.room;
        let last = self.last.get(&awaiting.key).copied();
        if last == Some(turn.number) {
            self.last.remove(&awaiting.key);
        }
        Some((awaiting, last.is_none_or(|last| last <= turn.number)))
    }

    /// Ends everybody's waiting.
    pub fn drain(&mut self) -> impl Iterator<Item = Awaiting> {
        self.last.clear();
        self.room = Room::default();
        std::mem::take(&mut self.waiting).into_values()
    }
}

fn turns(after: Hlc, upto: Hlc) -> std::ops::Range<Turn> {
    let turn = |place: Hlc| Turn {
        place: place.next(),
        number: 0,
    };
    turn(after)..turn(upto)
}
