//! Writes that are committed here and wait for other replicas.
//!
//! ```text
//!   committed here ─▶ shipped ─▶ answered by enough ─▶ nothing taught ──────────────────────▶ reply
//!                                                  └─▶ taught ─▶ one correction ─▶ answered by enough ─▶ reply
//! ```
//! A write counts as answered by a replica when the stream there has passed its place in the outbox. It waits until its level is met,
//! can no longer be met, or its time is up; in the last two cases it may still take effect.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap}, // the map is looked up, never iterated
    time::Duration,
};

use bytes::Bytes;
use crdt::{ActorId, Count, Hlc};

use super::{
    RequestId,
    budget::Budget,
    coordinate::{Current, Effect, Overwrites},
    lesson::{Learner, Lesson},
    message::Teaching,
    mutant::{Mutant, is_on},
    op::Key,
    reply::Reply,
};
use crate::{level::Level, names::NodeName, placement::Partition};

/// A write that waits.
#[derive(Debug, Clone, PartialEq)]
pub struct PendingWrite {
    /// Its number among this shard's writes, from [`PendingWrites::enter`].
    pub number: u64,
    /// Who asked.
    pub id: RequestId,
    /// The key.
    pub key: Key,
    /// Its partition.
    pub partition: Partition,
    /// Its rows lie behind this place; one that is large has several.
    pub after: Hlc,
    /// How many replicas must have it.
    pub level: Level,
    /// What it takes of the room for those that wait.
    pub budget: Budget,
    /// What it came to.
    pub effects: Vec<Effect>,
    /// The answer, once it may be given.
    pub reply: Reply,
    /// Since the process started: when the client is told that nobody knows.
    pub deadline: Duration,
    /// What was taught, until it is corrected; a corrected write learns no more.
    pub lesson: Option<Lesson>,
    /// Replicas whose word about it does not count.
    pub without: Vec<NodeName>,
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
pub struct PendingWrites {
    waiting: BTreeMap<Turn, PendingWrite>,
    /// Of keys with a write that may still be corrected: what was overwritten by a later write of this shard, whether that waits or
    /// not, is not corrected, or the two would change places.
    latest: HashMap<Key, Latest>, // looked up, never iterated
    /// Those of them whose level spans regions.
    afar: BTreeSet<Turn>,
    next_number: u64,
    budget: Budget,
}

/// The writes that replaced what a write wrote, and what by.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Replaced {
    /// The register.
    pub register: Option<(Written, Option<Bytes>)>,
    /// When the key ends, in Unix milliseconds.
    pub expiry: Option<(Written, Option<u64>)>,
}

/// The last write of a kind on a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Written {
    /// Its number.
    pub number: u64,
    /// What is known of it.
    pub outcome: Outcome,
}

/// What is known of a write that replaced others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Outcome {
    /// It waits, or was answered.
    #[default]
    Waits,
    /// It waits for nobody: it will not be done again by itself.
    PassedBy,
    /// Its client was told that nobody knows what comes of it.
    Failed,
}

/// The last write of each kind on a key.
#[derive(Debug, Default)]
struct Latest {
    register: Written,
    value: Option<Bytes>,
    expiry: Written,
    ends_at_ms: Option<u64>,
    /// Writes on the key that may still be corrected.
    open: usize,
    /// Those of them that are unsure ([`Effect::is_unsure`]).
    unsure: usize,
    /// Those of them that wrote a value.
    values: usize,
    /// Those of them that added to what was there.
    additions: usize,
    /// Whether one of them was an addition that began the key.
    is_begun: bool,
    /// Whether something of others came to the key meanwhile.
    is_disturbed: bool,
    /// Increments up to this total were refused, and go with those before them.
    refused: Count,
}

impl Latest {
    fn note(&mut self, overwrites: Overwrites, number: u64, waits: bool) {
        let outcome = match waits {
            true => Outcome::Waits,
            false => Outcome::PassedBy,
        };
        let written = Written { number, outcome };
        if let Some(value) = overwrites.register {
            self.register = written;
            self.value = value;
        }
        if let Some(ends_at_ms) = overwrites.expiry {
            self.expiry = written;
            self.ends_at_ms = ends_at_ms;
        }
    }
}

impl PendingWrites {
    /// A write was carried out and will wait. Gives its number: later writes have greater ones.
    pub fn enter(&mut self, key: &Key, effects: &[Effect], overwrites: Overwrites) -> u64 {
        self.next_number += 1;
        let number = self.next_number;
        let latest = self.latest.entry(key.clone()).or_default();
        latest.open += 1;
        latest.unsure += usize::from(effects.iter().any(Effect::is_unsure));
        latest.values += usize::from(effects.iter().any(Effect::is_value));
        latest.additions += usize::from(effects.iter().any(Effect::is_addition));
        latest.is_begun |= effects.iter().any(Effect::is_creating);
        debug_assert!(latest.unsure <= latest.open, "what is unsure is open");
        latest.note(overwrites, number, true);
        number
    }

    /// A write was carried out that waits for nobody.
    pub fn pass_by(&mut self, key: &Key, overwrites: Overwrites) {
        if self.latest.is_empty() {
            return;
        }
        if let Some(latest) = self.latest.get_mut(key) {
            self.next_number += 1;
            latest.note(overwrites, self.next_number, false);
        }
    }

    /// What of a write no later write of this shard has replaced.
    pub fn current(&self, awaiting: &PendingWrite) -> Current {
        let latest = self.latest.get(&awaiting.key);
        let is_latest = |written: Written| {
            written.number <= awaiting.number || is_on(Mutant::CorrectedOverLater)
        };
        latest.map_or_else(Current::default, |latest| Current {
            register: is_latest(latest.register),
            expiry: is_latest(latest.expiry),
            refused: latest.refused,
        })
    }

    /// The later writes of this shard that replaced what a write wrote: the last one of each kind.
    pub fn replaced_by(&self, awaiting: &PendingWrite) -> Replaced {
        let Some(latest) = self.latest.get(&awaiting.key) else {
            return Replaced::default();
        };
        let later = |written: Written| (written.number > awaiting.number).then_some(written);
        Replaced {
            register: later(latest.register).map(|written| (written, latest.value.clone())),
            expiry: later(latest.expiry).map(|written| (written, latest.ends_at_ms)),
        }
    }

    /// The value, and the expiry in Unix milliseconds, that this shard left on a key, where writes on it may still be corrected.
    pub fn left(&self, key: &Key) -> (Option<&Bytes>, Option<u64>) {
        let latest = self.latest.get(key);
        latest.map_or((None, None), |latest| {
            (latest.value.as_ref(), latest.ends_at_ms)
        })
    }

    /// Whether a SET of this shard before a write on its key was taught something, and is not done again above that yet.
    pub fn is_behind_taught(&self, awaiting: &PendingWrite) -> bool {
        self.waiting.values().any(|before| {
            before.key == awaiting.key
                && before.number < awaiting.number
                && before
                    .lesson
                    .as_ref()
                    .is_some_and(|lesson| !lesson.is_empty())
                && before.effects.iter().any(Effect::is_value)
        })
    }

    /// One that waits.
    pub fn get(&self, turn: Turn) -> Option<&PendingWrite> {
        self.waiting.get(&turn)
    }

    /// A write is not to be corrected any more. Gives what of it no later write of this shard has replaced.
    fn leave(&mut self, awaiting: &PendingWrite) -> Current {
        let current = self.current(awaiting);
        let Some(latest) = self.latest.get_mut(&awaiting.key) else {
            return current;
        };
        assert!(latest.open > 0, "a write leaves once");
        debug_assert!(latest.unsure <= latest.open, "what is unsure is open");
        latest.open -= 1;
        latest.unsure -= usize::from(awaiting.effects.iter().any(Effect::is_unsure));
        latest.values -= usize::from(awaiting.effects.iter().any(Effect::is_value));
        latest.additions -= usize::from(awaiting.effects.iter().any(Effect::is_addition));
        if latest.open == 0 {
            self.latest.remove(&awaiting.key);
        }
        current
    }

    /// What another actor made is joined on a key.
    pub fn disturb(&mut self, key: &Key) {
        if !self.latest.is_empty()
            && let Some(latest) = self.latest.get_mut(key)
        {
            latest.is_disturbed = true;
        }
    }

    /// Whether something of others came to a key while a write on it may still be done again above that.
    pub fn is_disturbed(&self, key: &Key) -> bool {
        !self.latest.is_empty()
            && self
                .latest
                .get(key)
                .is_some_and(|latest| latest.unsure > 0 && latest.is_disturbed)
    }

    /// Whether a SET of this shard on a key may still be done again.
    pub fn has_open_value(&self, key: &Key) -> bool {
        !self.latest.is_empty() && self.latest.get(key).is_some_and(|latest| latest.values > 0)
    }

    /// Whether this shard waits with additions to a key.
    pub fn has_open_addition(&self, key: &Key) -> bool {
        let latest = self.latest.get(key);
        latest.is_some_and(|latest| latest.additions > 0)
    }

    /// Whether a key was begun by an addition since when some write on it was always waiting.
    pub fn is_begun(&self, key: &Key) -> bool {
        !self.latest.is_empty() && self.latest.get(key).is_some_and(|latest| latest.is_begun)
    }

    /// Whether a key was written or deleted by this shard since when some write on it was always waiting.
    pub fn is_stated(&self, key: &Key) -> bool {
        !self.latest.is_empty()
            && self
                .latest
                .get(key)
                .is_some_and(|latest| latest.register != Written::default())
    }

    /// An increment was refused and is still counted, because those of this actor before it may stand. It goes with them, if they do not.
    pub fn refuse_upto(&mut self, key: &Key, total: Count) {
        if let Some(latest) = self.latest.get_mut(key) {
            latest.refused.join(&total);
        }
    }

    /// How much waits.
    pub fn budget(&self) -> Budget {
        self.budget
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

    /// The same of those that wait for other regions.
    pub fn awaited_afar_after(&self) -> Option<Hlc> {
        Some(self.afar.first()?.place.previous())
    }

    /// A write waits from now on; or again, for its correction, at a later place.
    pub fn wait(&mut self, place: Hlc, awaiting: PendingWrite) {
        self.budget += awaiting.budget;
        let number = awaiting.number;
        let turn = Turn { place, number };
        debug_assert!(
            awaiting.after < place,
            "what a write made comes after what was there before it"
        );
        debug_assert!(
            !self.waiting.contains_key(&turn),
            "a write waits once at a place"
        );
        if awaiting.level.spans_regions() {
            self.afar.insert(turn);
        }
        self.waiting.insert(turn, awaiting);
    }

    /// A replica taught something about the rows in `(after, upto]` of `actor`.
    pub fn learn(&mut self, actor: ActorId, after: Hlc, upto: Hlc, taught: &[Teaching]) {
        self.each_taught(after, upto, taught, |turn, awaiting, teaching| {
            let place = turn.place;
            let mut effects = awaiting.effects.iter();
            let is_about_it = effects.any(|effect| effect.is_of(teaching.about));
            if let Some(lesson) = awaiting.lesson.as_mut().filter(|_| is_about_it) {
                lesson.take(teaching, Learner { actor, place });
            }
        });
    }

    /// What a replica taught about the rows in `(after, upto]` cannot be taken into account: the writes that it is about do not count
    /// that replica. All others do.
    pub fn discount(&mut self, node: &NodeName, after: Hlc, upto: Hlc, taught: &[Teaching]) {
        self.each_taught(after, upto, taught, |_, awaiting, _| {
            if awaiting.lesson.is_some() && !awaiting.without.contains(node) {
                awaiting.without.push(node.clone());
            }
        });
    }

    fn each_taught(
        &mut self,
        after: Hlc,
        upto: Hlc,
        taught: &[Teaching],
        mut visit: impl FnMut(&Turn, &mut PendingWrite, &Teaching),
    ) {
        if taught.is_empty() {
            return;
        }
        let behind = self.waiting.range_mut(turns(after, Hlc::MAX));
        // The last row of a write may come later than the one that was answered.
        for (turn, awaiting) in behind.take_while(|(_, awaiting)| awaiting.after < upto) {
            for teaching in taught {
                if teaching.delta.key == awaiting.key {
                    visit(turn, awaiting, teaching);
                }
            }
        }
    }

    /// Those at or before a place, in order.
    pub fn upto(&self, place: Hlc) -> impl Iterator<Item = (Turn, &PendingWrite)> {
        self.waiting
            .range(turns(Hlc::ZERO, place))
            .map(|(turn, awaiting)| (*turn, awaiting))
    }

    /// All of them, in order.
    pub fn iter(&self) -> impl Iterator<Item = (Turn, &PendingWrite)> {
        self.waiting
            .iter()
            .map(|(turn, awaiting)| (*turn, awaiting))
    }

    /// Ends one's waiting. Gives it, and what of it is to be done again if it is corrected.
    pub fn take(&mut self, turn: Turn) -> Option<(PendingWrite, Current)> {
        let awaiting = self.waiting.remove(&turn)?;
        self.budget -= awaiting.budget;
        self.afar.remove(&turn);
        debug_assert!(
            self.afar.len() <= self.waiting.len(),
            "who waits for other regions waits"
        );
        debug_assert!(
            !self.waiting.is_empty() || self.budget == Budget::default(),
            "nobody waits, and {:?} is taken",
            self.budget
        );
        let is_open = awaiting.lesson.is_some();
        let current = if is_open {
            self.leave(&awaiting)
        } else {
            Current::default()
        };
        Some((awaiting, current))
    }

    /// Ends one's waiting, because nobody knows what comes of it.
    pub fn fail(&mut self, turn: Turn) -> Option<PendingWrite> {
        let (awaiting, _) = self.take(turn)?;
        if let Some(latest) = self.latest.get_mut(&awaiting.key) {
            let written = [&mut latest.register, &mut latest.expiry].into_iter();
            let own = written.filter(|written| written.number == awaiting.number);
            own.for_each(|written| written.outcome = Outcome::Failed);
        }
        Some(awaiting)
    }

    /// Ends everybody's waiting.
    pub fn drain(&mut self) -> impl Iterator<Item = PendingWrite> {
        self.latest.clear();
        self.afar.clear();
        self.budget = Budget::default();
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
