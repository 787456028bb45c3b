//! The one correction of a write whose acknowledgements taught something.
//!
//! What was taught is joined here first; then the write's effect is done again over it, stamped later: the register is written
//! above the newer one, the floors rise to the increments, the dots go. It is shipped like any other write and must meet the level
//! before the client hears of it.
//!
//! There is exactly one. What its own acknowledgements teach is concurrent: two SETs that corrected each other would never end.
//! And only the coordinator of a client's command corrects, never a receiver of a batch, a hint or a repair.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use crdt::{Context, Dots, Expiry, Hlc, Named, Part, Register, Stamp, StringState, join_row};

use super::{
    coordinate::{Coordinator, Effect, Floors, Target},
    message::Teaching,
    mutant::{Mutant, is_on},
    op::SetExpiry,
    reply::{Refusal, Reply},
};
use crate::storage::StorageError;

/// What the first acknowledgements of a write taught, together.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Lesson {
    newest: Hlc,
    seen: Context,
    /// Dots that others had and the coordinator did not, by element.
    present: BTreeMap<Bytes, Dots<()>>,
    /// Increments that others had and the coordinator did not.
    counts: StringState,
    was_shown: bool,
    is_text: bool,
}

impl Lesson {
    /// Adds what one acknowledgement taught.
    pub fn take(&mut self, teaching: &Teaching) {
        self.newest = self.newest.max(teaching.newest);
        if let Some(seen) = &teaching.seen {
            self.seen.union(seen);
        }
        self.was_shown |= teaching.was_shown;
        self.is_text |= teaching.is_text;
        for part in &teaching.delta.parts {
            match part {
                Part::String(counts) => self.counts.join(counts),
                Part::Set(rows) => {
                    if let Named::Rows(rows) = &rows.named {
                        rows.iter()
                            .for_each(|(element, dots)| self.note(element, dots));
                    }
                }
                Part::Expiry(_) => {}
            }
        }
    }

    fn note(&mut self, element: &Bytes, dots: &Dots<()>) {
        let unseen = Context::new();
        let known = self.present.entry(element.clone()).or_default();
        *known = join_row(known, &unseen, dots, &unseen);
    }

    /// Whether nothing was taught.
    pub fn is_empty(&self) -> bool {
        *self == Self::default() || is_on(Mutant::NoCorrection)
    }

    /// The removal of what others had seen of the set.
    fn clear(&self) -> Option<Part> {
        (!self.seen.is_empty()).then(|| Part::Set(crdt::rows::clear(&self.seen)))
    }

    /// Whether an effect is to be done again.
    fn bears_on(&self, effect: &Effect) -> bool {
        let has_counts = !self.counts.counts.is_empty();
        match effect {
            Effect::Register { .. } => {
                self.newest > Hlc::ZERO || has_counts || !self.seen.is_empty()
            }
            Effect::Delete { .. } => {
                self.was_shown && (self.newest > Hlc::ZERO || has_counts || !self.seen.is_empty())
            }
            Effect::Remove { members, .. } => members
                .iter()
                .any(|member| self.present.contains_key(member)),
            Effect::Expiry { .. } => self.newest > Hlc::ZERO,
            Effect::Increment => self.is_text,
            Effect::Add { .. } => false,
        }
    }
}

impl Coordinator<'_> {
    /// Does again what was taught wrong. What a later write of this shard on the same key has replaced (`is_last` is false) is
    /// left, or the two would change places. Nothing is undone that the write did not know and was not taught: what came here
    /// since may be of the same connection. Gives whether anything was done, and the reply as it is now known to be.
    pub(super) fn correct(
        &mut self,
        target: &Target<'_>,
        effects: &[Effect],
        is_last: bool,
        lesson: &Lesson,
        reply: Reply,
    ) -> Result<(bool, Reply), StorageError> {
        self.clock.observe(lesson.newest);
        let mut reply = counted(effects, lesson, reply);
        let mut is_corrected = false;
        for effect in effects.iter().filter(|effect| lesson.bears_on(effect)) {
            let is_current = is_last || !effect.is_replaced_by_later();
            let mut parts = Vec::new();
            match effect {
                Effect::Register {
                    value,
                    expiry,
                    floors,
                } => {
                    parts.extend(lesson.clear());
                    if is_current {
                        parts.push(self.register_again(target, Some(value), floors, lesson)?);
                        parts.extend(self.expiry_again(*expiry));
                    }
                }
                Effect::Delete { floors } => {
                    parts.extend(lesson.clear());
                    if is_current {
                        parts.push(self.register_again(target, None, floors, lesson)?);
                    }
                }
                Effect::Remove { members, .. } => {
                    let taught = members
                        .iter()
                        .filter_map(|member| Some((member.clone(), lesson.present.get(member)?)));
                    parts.push(Part::Set(crdt::rows::remove(taught)));
                }
                Effect::Expiry { at_ms } if is_current => {
                    let stamp = self.stamp();
                    let at_ms = *at_ms;
                    parts.push(Part::Expiry(Expiry { stamp, at_ms }));
                }
                Effect::Increment => {
                    parts.extend(self.take_back_increments(target)?);
                    reply = Refusal::NotAnInteger.into();
                }
                Effect::Add { .. } | Effect::Expiry { .. } => {}
            }
            if !parts.is_empty() {
                self.place();
                self.coordinate(target, parts)?;
                is_corrected = true;
            }
        }
        Ok((is_corrected, reply))
    }

    /// The register above what was taught, and the floors over the increments that were.
    fn register_again(
        &mut self,
        target: &Target<'_>,
        value: Option<&Bytes>,
        floors: &Floors,
        lesson: &Lesson,
    ) -> Result<Part, StorageError> {
        let stamp = self.stamp();
        let was_empty = self.head(target)?.string.is_empty();
        let mut taught = StringState {
            floors: lesson.counts.counts.clone(),
            ..StringState::default()
        };
        if is_on(Mutant::TaughtCountsStand) {
            taught.floors.clear();
        }
        for known in [floors, &lesson.counts.floors] {
            taught.join(&StringState {
                floors: known.clone(),
                ..StringState::default()
            });
        }
        Ok(Part::String(StringState {
            register: Some(Register {
                stamp,
                value: value.cloned(),
            }),
            counts: BTreeMap::new(),
            floors: taught.floors,
            created: if was_empty && value.is_some() {
                stamp
            } else {
                Stamp::ZERO
            },
        }))
    }

    fn expiry_again(&mut self, expiry: SetExpiry) -> Option<Part> {
        let at_ms = match expiry {
            SetExpiry::Keep => return None,
            SetExpiry::Clear => None,
            SetExpiry::At(at_ms) => Some(at_ms),
        };
        let stamp = self.stamp();
        Some(Part::Expiry(Expiry { stamp, at_ms }))
    }

    /// Raises the floor over this actor's own increments, which would wait behind text. The text may have come here since, in a SET
    /// that saw them: then nothing rises.
    fn take_back_increments(&mut self, target: &Target<'_>) -> Result<Option<Part>, StorageError> {
        let actor = self.actor;
        let string = &self.head(target)?.string;
        let own = string.counts.get(&actor).copied();
        Ok(own.map(|count| {
            Part::String(StringState {
                floors: [(actor, count)].into(),
                ..StringState::default()
            })
        }))
    }
}

/// The reply with what others had counted in.
fn counted(effects: &[Effect], lesson: &Lesson, reply: Reply) -> Reply {
    let Reply::Int(count) = reply else {
        return reply;
    };
    let known = |members: &[Bytes]| {
        let distinct: BTreeSet<&Bytes> = members.iter().collect();
        let known = distinct
            .into_iter()
            .filter(|member| lesson.present.contains_key(*member));
        known.count() as i64
    };
    let count = effects.iter().fold(count, |count, effect| match effect {
        Effect::Add { members } => (count - known(members)).max(0),
        Effect::Remove { missed, .. } => count + known(missed),
        Effect::Delete { .. } if lesson.bears_on(effect) => count.max(1),
        _ => count,
    });
    Reply::Int(count)
}
