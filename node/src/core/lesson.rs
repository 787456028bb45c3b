//! What the acknowledgements of a write taught, together, and which of its effects that bears on.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
};

use bytes::Bytes;
use crdt::{ActorId, Context, Count, Dots, Expiry, Hlc, Named, Part, Stamp, StringState, join_row};

use super::{
    coordinate::{Addition, Effect, Floors, Increment},
    message::Teaching,
    mutant::{Mutant, is_on},
};

/// What the first acknowledgements of a write taught, together.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Lesson {
    /// The newest stamp of a register.
    pub(super) newest: Stamp,
    pub(super) expiry: Expiry,
    pub(super) seen: Context,
    /// Dots that others had and the coordinator did not, by element.
    pub(super) present: BTreeMap<Bytes, Dots<()>>,
    /// Increments that others had and the coordinator did not.
    pub(super) counts: StringState,
    pub(super) was_shown: bool,
    pub(super) is_text: bool,
    /// When a value of the other type was begun that others have.
    pub(super) beside: Stamp,
    /// When one was that hides what was added.
    pub(super) hidden_by: Stamp,
    /// What the string is that others have beside elements.
    pub(super) string: StringState,
    /// So much of what this actor had added is over elsewhere.
    pub(super) ended: Count,
    /// Elements of which all that was there before is over elsewhere.
    pub(super) gone: BTreeSet<Bytes>,
    /// What has ended elsewhere of a value that was never here, to be ended here too.
    pub(super) over: Vec<Part>,
}

/// The write that is taught. What its own actor did is no news to it; what that did *later* a replica may know as well, where
/// the row was sent to it again, and it must stand.
#[derive(Debug, Clone, Copy)]
pub struct Learner {
    /// Its actor.
    pub actor: ActorId,
    /// Its place in the outbox: no stamp of it is later.
    pub place: Hlc,
}

impl Learner {
    /// Whether the actor made a stamp after that.
    pub fn made_later(self, stamp: Stamp) -> bool {
        stamp.actor == self.actor && stamp.hlc > self.place
    }

    fn later(self) -> Context {
        let mut later = Context::new();
        later.insert_interval(self.actor, self.place, Hlc::MAX);
        later
    }
}

impl Lesson {
    /// Adds what one acknowledgement taught.
    pub fn take(&mut self, teaching: &Teaching, learner: Learner) {
        let is_own = learner.made_later(teaching.newest);
        if teaching.is_other_type && !is_own {
            self.beside = self.beside.max(teaching.newest);
            teaching
                .string
                .iter()
                .for_each(|string| self.string.join(string));
            if teaching.is_hidden {
                self.hidden_by = self.hidden_by.max(teaching.newest);
            }
        } else if !is_own {
            self.newest = self.newest.max(teaching.newest);
            self.is_text |= teaching.is_text;
        }
        self.over.extend(teaching.over.iter().cloned());
        self.ended.join(&teaching.ended);
        self.gone.extend(teaching.gone.iter().cloned());
        if let Some(seen) = &teaching.seen {
            self.seen.union(&seen.difference(&learner.later()));
        }
        self.was_shown |= teaching.was_shown;
        for part in &teaching.delta.parts {
            match part {
                Part::String(taught) => {
                    let mut counts = taught.clone();
                    counts.counts.remove(&learner.actor);
                    self.counts.join(&counts);
                }
                Part::Set(rows) => {
                    if let Named::Rows(rows) = &rows.named {
                        rows.iter()
                            .for_each(|(element, dots)| self.note(element, dots, learner));
                    }
                }
                Part::Expiry(expiry) if !learner.made_later(expiry.stamp) => {
                    self.expiry.join(expiry);
                }
                Part::Expiry(_) | Part::Unknown(_) => {}
            }
        }
    }

    /// Notes dots of an element that the write did not know of.
    pub(super) fn note(&mut self, element: &Bytes, dots: &Dots<()>, learner: Learner) {
        let earlier = dots.stamps().filter(|dot| !learner.made_later(*dot));
        let dots: Dots<()> = dots.within(&earlier.collect());
        if dots.is_empty() {
            return;
        }
        let unseen = Context::new();
        let known = self.present.entry(element.clone()).or_default();
        *known = join_row(known, &unseen, &dots, &unseen);
        debug_assert!(!known.is_empty(), "what is noted is there");
    }

    /// The newest stamp of a register that was taught, where there is one and a write's effects bear on it.
    pub fn register_over(&self, effects: &[Effect]) -> Option<Hlc> {
        let bears = effects.iter().any(Effect::is_value);
        (bears && self.newest > Stamp::ZERO).then_some(self.newest.hlc)
    }

    /// The newest stamp of an expiry, likewise.
    pub fn expiry_over(&self, effects: &[Effect]) -> Option<Hlc> {
        let mut effects = effects.iter();
        let bears =
            effects.any(|effect| matches!(effect, Effect::Register { .. } | Effect::Expiry { .. }));
        (bears && self.has_expiry()).then_some(self.expiry.stamp.hlc)
    }

    /// Whether nothing was taught.
    pub fn is_empty(&self) -> bool {
        *self == Self::default() || is_on(Mutant::NoCorrection)
    }

    /// What of it bears on an effect. Whoever was told what it took the place of has not been told of more increments: they stay.
    pub(super) fn about(&self, effect: &Effect) -> Cow<'_, Self> {
        if !effect.is_told() {
            return Cow::Borrowed(self);
        }
        let floors = self.counts.floors.clone();
        Cow::Owned(Self {
            counts: StringState {
                floors,
                ..StringState::default()
            },
            ..self.clone()
        })
    }

    /// The removal of what others had seen of the set.
    pub(super) fn clear(&self) -> Option<Part> {
        (!self.seen.is_empty()).then(|| Part::Set(crdt::rows::clear(&self.seen)))
    }

    /// Whether others knew something of the value that a SET did not.
    pub(super) fn has_value(&self) -> bool {
        self.newest > Stamp::ZERO || !self.counts.counts.is_empty() || !self.seen.is_empty()
    }

    fn has_expiry(&self) -> bool {
        self.expiry.stamp != Stamp::ZERO
    }

    /// Whether an increment may be refused for it.
    pub fn may_refuse_increment(&self, effects: &[Effect]) -> bool {
        let is_increment = |effect: &Effect| matches!(effect, Effect::Increment(_));
        (self.is_text || self.beside > Stamp::ZERO) && effects.iter().any(is_increment)
    }

    /// When the value of the other type was begun for which an addition is refused: any where it began the key, else one that hides it.
    pub(super) fn other_type(&self, is_beginning: bool) -> Option<Stamp> {
        let begun = match is_beginning {
            true => self.beside,
            false => self.hidden_by,
        };
        (begun > Stamp::ZERO).then_some(begun)
    }

    /// Whether others knew that the key ends.
    pub(super) fn has_end(&self) -> bool {
        self.expiry.at_ms.is_some()
    }

    /// Whether others knew that increments are over.
    fn has_floors(&self) -> bool {
        !self.counts.floors.is_empty()
    }

    /// The increments that others knew, as floors: they count no more, also where a later write has the register.
    pub(super) fn floors(&self) -> Option<Part> {
        let floors = self.counts_as_floors();
        (!floors.is_empty()).then(|| {
            Part::String(StringState {
                floors,
                ..StringState::default()
            })
        })
    }

    pub(super) fn counts_as_floors(&self) -> Floors {
        match is_on(Mutant::CorrectionForgetsCounts) {
            true => Floors::new(),
            false => {
                let mut ended = StringState {
                    floors: self.counts.counts.clone(),
                    ..StringState::default()
                };
                ended.join(&StringState {
                    floors: self.counts.floors.clone(),
                    ..StringState::default()
                });
                ended.floors
            }
        }
    }

    /// Whether an effect is to be done again.
    pub(super) fn bears_on(&self, effect: &Effect) -> bool {
        match effect {
            Effect::Register { .. } => self.has_value() || self.has_floors() || self.has_expiry(),
            Effect::Remove => self.has_end(),
            Effect::Expiry { .. } => self.has_expiry(),
            Effect::Increment(Increment { is_beginning, .. }) => {
                self.is_text
                    || self.other_type(*is_beginning).is_some()
                    || self.has_end()
                    || !self.over.is_empty()
            }
            Effect::Add(Addition { is_beginning, .. }) => {
                self.other_type(*is_beginning).is_some() || self.has_end() || !self.over.is_empty()
            }
        }
    }
}
