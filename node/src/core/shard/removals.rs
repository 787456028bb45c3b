//! Removals from sets of which others have seen more.
//!
//! A SREM removes the adds that this replica knows of, and each replica that acknowledges it teaches the others that it has: those are removed
//! too. A replica that has removed one of them itself, by a write that nobody else has heard of, has nothing left to teach; and a read
//! that asks a third replica would show the element again. So whoever acknowledges a removal says how much it has seen of the set. Where that is
//! more than is known here, a majority is asked what is there, as for a read, before the removal is answered: what was removed is then
//! known here as well, and what is there is removed.
//!
//! Until then the key is unsure, as it is while a removal has yet to be taught: what depends on what is there waits behind it. Its own question
//! waits for none of that, only for the end of one that is under way.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use crdt::{Context, Dots};

use super::Shard;
use crate::{
    core::{
        Now, Output, RequestId,
        coordinate::{Current, Effect, Target},
        fixed::Answer,
        gate::Waiting,
        lesson::{Learner, Lesson},
        mutant::{Mutant, is_on},
        op::{Action, Key, Op, Read},
        quorum::Awaiting,
        reply::{Refusal, Reply},
        room::Room,
    },
    level::Level,
    placement::Position,
    storage::{Storage, StorageError},
};

/// Removals that wait for a majority to say what is there.
#[derive(Debug, Default)]
pub(super) struct Removals {
    asked: BTreeMap<RequestId, Unheard>,
    /// Those whose question waits for the end of another one on the key.
    waiting: Vec<Unheard>,
    /// Those for which it has, or will not.
    answered: Vec<(Unheard, Heard)>,
    /// How many there were: no two have the same number.
    count: u64,
    /// How many of each key are not answered yet.
    unfinished: BTreeMap<Key, u32>,
    /// What they take of the room for requests that wait for others.
    room: Room,
}

/// A removal that has its level, from a set of which others had seen more.
#[derive(Debug)]
pub(super) struct Unheard {
    pub(super) awaiting: Awaiting,
    pub(super) lesson: Lesson,
    /// The removal itself: what this shard wrote later stands.
    pub(super) learner: Learner,
}

/// What came of asking.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Heard {
    Known,
    Nothing,
}

impl Removals {
    /// What they take of the room for requests that wait for others.
    pub(super) fn room(&self) -> Room {
        self.room
    }

    /// Whether some of a key are not answered yet.
    pub(super) fn disturb(&self, key: &Key) -> bool {
        self.unfinished.contains_key(key)
    }

    fn enter(&mut self, unheard: Unheard) {
        let key = unheard.awaiting.key.clone();
        *self.unfinished.entry(key).or_default() += 1;
        self.room += unheard.awaiting.room;
        self.waiting.push(unheard);
    }

    fn leave(&mut self, awaiting: &Awaiting) {
        self.room -= awaiting.room;
        let left = self.unfinished.get_mut(&awaiting.key);
        let left = left.expect("what leaves has entered, and is counted until then");
        *left -= 1;
        if *left == 0 {
            self.unfinished.remove(&awaiting.key);
        }
    }

    /// The removals from a key that are not answered yet, with what they are.
    pub(super) fn of(&self, key: &Key) -> impl Iterator<Item = (Learner, &Awaiting)> {
        let unfinished = self.asked.values().chain(&self.waiting);
        let unfinished = unfinished.chain(self.answered.iter().map(|(unheard, _)| unheard));
        let of_key = unfinished.filter(move |unheard| unheard.awaiting.key == *key);
        of_key.map(|unheard| (unheard.learner, &unheard.awaiting))
    }

    /// Whether a question is one of these.
    pub(super) fn is_question(&self, id: RequestId) -> bool {
        self.asked.contains_key(&id)
    }

    /// The clients whose question has not begun, which comes to nothing.
    pub(super) fn drain_waiting(&mut self) -> Vec<RequestId> {
        let waiting = std::mem::take(&mut self.waiting);
        for unheard in &waiting {
            self.leave(&unheard.awaiting);
        }
        let ids = waiting.into_iter().map(|unheard| unheard.awaiting.id);
        ids.collect()
    }

    /// The client behind a question of this kind, which comes to nothing.
    pub(super) fn give_up(&mut self, question: RequestId) -> Option<RequestId> {
        let unheard = self.asked.remove(&question)?;
        self.leave(&unheard.awaiting);
        Some(unheard.awaiting.id)
    }

    /// A question is answered. Returns whether it was of this kind.
    pub(super) fn hear(&mut self, question: RequestId, answer: &Answer) -> bool {
        let Some(unheard) = self.asked.remove(&question) else {
            return false;
        };
        let heard = match answer {
            Answer::Reply(Reply::Error(_)) => Heard::Nothing,
            Answer::Reply(_) | Answer::Fixed(_) => Heard::Known,
        };
        self.answered.push((unheard, heard));
        true
    }
}

impl Shard {
    /// Whether others had seen more of a set than is known here, when they acknowledged a removal from it.
    pub(super) fn is_unheard(
        &mut self,
        storage: &dyn Storage,
        awaiting: &Awaiting,
        lesson: &Lesson,
    ) -> Result<bool, StorageError> {
        let mut effects = awaiting.effects.iter();
        let is_removal = effects.any(|effect| matches!(effect, Effect::Remove { .. }));
        if !is_removal || lesson.seen.is_empty() || is_on(Mutant::RemovedUnheard) {
            return Ok(false);
        }
        let position = Position::of(&awaiting.key);
        let head = self.working.head(storage, &position, &awaiting.key)?;
        if head.set.context.covers(&lesson.seen) {
            return Ok(false);
        }
        // What it is taught to remove is no riddle.
        let mut known: Context = lesson.present.values().flat_map(Dots::stamps).collect();
        known.union(&head.set.context);
        Ok(!known.covers(&lesson.seen))
    }

    /// Asks a majority what is there of what was removed.
    pub(super) fn ask_what_is_left(
        &mut self,
        storage: &dyn Storage,
        unheard: Unheard,
        now: Now,
        out: &mut Vec<Output>,
    ) {
        let key = unheard.awaiting.key.clone();
        self.removals.enter(unheard);
        if !self.gates.is_asking(&key) {
            self.begin_asking_what_is_left(storage, &key, now, out);
        }
    }

    /// Whether the question that is under way about a key is one of these: what stands over the removal is what it is after.
    pub(super) fn asks_what_is_left(&self, key: &Key) -> bool {
        let first = self.gates.covered(key).first();
        first.is_some_and(|waiting| self.removals.is_question(waiting.id))
    }

    /// Begins a question that waited for the end of another one on its key. Returns whether there was any.
    pub(super) fn begin_asking_what_is_left(
        &mut self,
        storage: &dyn Storage,
        key: &Key,
        now: Now,
        out: &mut Vec<Output>,
    ) -> bool {
        debug_assert!(!self.gates.is_asking(key), "one question a key");
        let mut waiting = self.removals.waiting.iter();
        let Some(at) = waiting.position(|unheard| unheard.awaiting.key == *key) else {
            return false;
        };
        let unheard = self.removals.waiting.remove(at);
        self.removals.count += 1;
        let id = RequestId(NUMBERS - self.removals.count);
        let members = removed(&unheard.awaiting).into_iter().collect();
        let waiting = Waiting {
            id,
            op: Op {
                key: key.clone(),
                action: Action::Read(Read::AreMembers { members }),
                level: Level::LocalQuorum,
            },
            deadline: unheard.awaiting.deadline,
        };
        self.removals.asked.insert(id, unheard);
        self.question(storage, vec![waiting], now, out);
        true
    }

    /// Gives up those whose time is up before their question has begun.
    pub(super) fn give_up_late_removals(&mut self, now: Now) {
        let is_late = |unheard: &mut Unheard| unheard.awaiting.deadline <= now.mono;
        let late: Vec<Unheard> = self.removals.waiting.extract_if(.., is_late).collect();
        let late = late.into_iter().map(|unheard| (unheard, Heard::Nothing));
        self.removals.answered.extend(late);
    }

    /// Answers the removals for which a majority has said what is there, or removes that first.
    pub(super) fn finish_removals(&mut self, storage: &dyn Storage, now: Now) {
        for (unheard, heard) in std::mem::take(&mut self.removals.answered) {
            let id = unheard.awaiting.id;
            self.removals.leave(&unheard.awaiting);
            let finished = match heard {
                Heard::Known => self.remove_what_is_left(storage, unheard, now),
                Heard::Nothing => {
                    let why = "too few replicas answered what is there of it";
                    self.reply(id, unfinished(why));
                    Ok(())
                }
            };
            if let Err(error) = finished {
                self.reply(id, unfinished(&error.to_string()));
            }
        }
    }

    fn remove_what_is_left(
        &mut self,
        storage: &dyn Storage,
        unheard: Unheard,
        now: Now,
    ) -> Result<(), StorageError> {
        let Unheard {
            mut awaiting,
            mut lesson,
            learner,
        } = unheard;
        let position = Position::of(&awaiting.key);
        for member in removed(&awaiting) {
            let dots = self
                .working
                .row(storage, &position, &awaiting.key, &member)?;
            lesson.note(&member, dots, learner);
        }
        let target = Target {
            key: &awaiting.key,
            position,
        };
        let mut coordinator = self.coordinator(storage, now, true);
        let reply = awaiting.reply.clone();
        let current = Current::default();
        let (is_corrected, reply) =
            coordinator.correct(&target, &awaiting.effects, current, &lesson, reply)?;
        if is_corrected {
            awaiting.reply = reply;
            self.await_others(awaiting);
        } else {
            // With what was heard: a process that forgot that would show the element again.
            self.reply(awaiting.id, reply);
        }
        Ok(())
    }
}

/// The elements of a removal.
fn removed(awaiting: &Awaiting) -> BTreeSet<Bytes> {
    let members = awaiting.effects.iter().flat_map(|effect| match effect {
        Effect::Remove {
            members, missed, ..
        } => members.iter().chain(missed),
        _ => [].iter().chain(&[]),
    });
    members.cloned().collect()
}

fn unfinished(why: &str) -> Reply {
    Refusal::Timeout(format!(
        "another replica has removed what this node had not heard of, and {why}: the removal may take effect, or be incomplete"
    ))
    .into()
}

/// Questions are numbered down from here: no request of a client has such a number, nor has a question about the end of a key.
const NUMBERS: u64 = u64::MAX / 2;
