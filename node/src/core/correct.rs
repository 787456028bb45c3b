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
use crdt::{Context, Count, Dots, Hlc, Part, Register, RowsDelta, Stamp, StringState, StringValue};

use super::{
    batch::Question,
    coordinate::{Addition, Coordinator, CountsOn, Current, Effect, Floors, Increment, Target},
    lesson::Lesson,
    mutant::{Mutant, is_on},
    op::SetExpiry,
    reply::{Refusal, Reply},
};
use crate::storage::{StorageError, record::head::Shown};

/// What it takes to do an effect again.
#[derive(Default)]
struct Again {
    parts: Vec<Part>,
    /// What the client gets instead of its reply: the write came to nothing.
    refusal: Option<Refusal>,
}

impl Again {
    fn of(parts: impl IntoIterator<Item = Part>) -> Self {
        let parts = parts.into_iter().collect();
        Self {
            parts,
            refusal: None,
        }
    }
}

impl Coordinator<'_> {
    /// Does again what was taught wrong. What a later write of this shard on the same key has replaced, so that it is not `current`, is
    /// left, or the two would change places. Nothing is undone that the write did not know and was not taught: what came here
    /// since may be of the same connection. Returns whether anything was done, and the reply as it is now known to be.
    pub(super) fn correct(
        &mut self,
        target: &Target<'_>,
        effects: &[Effect],
        current: Current,
        lesson: &Lesson,
        reply: Reply,
    ) -> Result<(bool, Reply), StorageError> {
        self.clock.observe(lesson.newest.hlc);
        self.clock.observe(lesson.expiry.stamp.hlc);
        let mut reply = counted(effects, lesson, reply);
        let mut is_corrected = false;
        for effect in effects {
            let lesson = &*lesson.about(effect);
            if !lesson.bears_on(effect) {
                continue;
            }
            let mut parts = self.what_is_over(target, effect, lesson)?;
            let is_anything_over = !parts.is_empty();
            let again = self.again(target, effect, current, lesson)?;
            parts.extend(again.parts);
            reply = again.refusal.map_or(reply, Reply::from);
            if !parts.is_empty() {
                self.place();
                debug_assert!(
                    self.clock.last() > lesson.newest.hlc.max(lesson.expiry.stamp.hlc),
                    "a correction comes after what it corrects"
                );
                self.coordinate(target, parts, Question::Nothing)?;
                is_corrected = true;
            }
            if is_anything_over && let Effect::Increment(_) = effect {
                reply = self.total_without_what_is_over(target, reply)?;
            }
        }
        Ok((is_corrected, reply))
    }

    /// What it takes to do one effect again.
    fn again(
        &mut self,
        target: &Target<'_>,
        effect: &Effect,
        current: Current,
        lesson: &Lesson,
    ) -> Result<Again, StorageError> {
        match effect {
            Effect::Register {
                value,
                expiry,
                floors,
                told: _,
            } => self.write_again(target, (value, *expiry, floors), current, lesson),
            Effect::Remove => Ok(Again::of(self.end_of_nothing(target, current, lesson)?)),
            Effect::Expiry { at_ms, of } => {
                let is_same = self.is_still_there(target, *of)?;
                let part = (current.expiry && is_same).then(|| self.expiry_at(*at_ms));
                Ok(Again::of(part))
            }
            Effect::Increment(increment) => {
                self.increment_again(target, increment, current, lesson)
            }
            Effect::Add(addition) => self.add_again(target, addition, lesson),
        }
    }

    fn write_again(
        &mut self,
        target: &Target<'_>,
        (value, expiry, floors): (&Bytes, SetExpiry, &Floors),
        current: Current,
        lesson: &Lesson,
    ) -> Result<Again, StorageError> {
        let mut again = Again::of(lesson.clear());
        if current.register && lesson.has_value() {
            let register = self.register_again(target, Some(value), floors, lesson)?;
            again.parts.push(register);
        } else {
            again.parts.extend(lesson.floors());
        }
        if current.expiry {
            again.parts.extend(self.expiry_again(expiry));
        }
        Ok(again)
    }

    fn increment_again(
        &mut self,
        target: &Target<'_>,
        increment: &Increment,
        current: Current,
        lesson: &Lesson,
    ) -> Result<Again, StorageError> {
        let Increment {
            before,
            total,
            is_creating,
            is_beginning,
            ref on,
        } = *increment;
        let refusal = self.refusal_of_increment(target, is_beginning, on, lesson)?;
        let mut upto = total;
        upto.join(&current.refused);
        let taken_back = self.take_back(target, before, upto, lesson)?;
        // The value was counted up before the other one hid it, and beside that: the increment stays with it.
        let stays_beside =
            refusal == Some(Refusal::WrongType) && taken_back.is_none() && !is_beginning;
        let Some(refusal) = refusal.filter(|_| !stays_beside) else {
            return Ok(Again::of(self.end_of_end(target, is_creating, lesson)?));
        };
        let mut again = Again::of(taken_back);
        if refusal == Refusal::WrongType && is_beginning {
            again.parts.push(set_begun_at(self.stamp()));
        }
        again.refusal = Some(refusal);
        Ok(again)
    }

    fn add_again(
        &mut self,
        target: &Target<'_>,
        addition: &Addition,
        lesson: &Lesson,
    ) -> Result<Again, StorageError> {
        let is_beginning = addition.is_beginning;
        let is_refused = match lesson.other_type(is_beginning) {
            Some(begun) => !self.is_string_gone(target, begun, &lesson.string)?,
            None => false,
        };
        if !is_refused {
            return Ok(Again::of(self.end_of_end(
                target,
                addition.is_creating,
                lesson,
            )?));
        }
        // What was added again had been there before the other value hid it, unless that is over, or all of it was begun by what
        // is refused too: then it stays with the set.
        let readded = addition.again.iter();
        let readded = readded.filter(|(member, _)| is_beginning || lesson.gone.contains(member));
        let mut again = Again::of(remove_dots(addition.added.iter().chain(readded)));
        if is_beginning {
            again.parts.push(string_begun_at(self.stamp()));
        }
        again.refusal = Some(Refusal::WrongType);
        Ok(again)
    }

    /// The reply to an increment, which had counted on what is over.
    fn total_without_what_is_over(
        &mut self,
        target: &Target<'_>,
        reply: Reply,
    ) -> Result<Reply, StorageError> {
        if let Reply::Int(_) = reply
            && let StringValue::Integer(value) = self.head(target)?.string.value()
        {
            return Ok(i64::try_from(value).map_or(reply, Reply::Int));
        }
        Ok(reply)
    }

    /// What has ended elsewhere of a value that never was here. Not where the end is none, for all that is known here: somebody has said
    /// PERSIST or EXPIRE since, and who taught this had not heard of it.
    fn what_is_over(
        &mut self,
        target: &Target<'_>,
        effect: &Effect,
        lesson: &Lesson,
    ) -> Result<Vec<Part>, StorageError> {
        let is_newest = self.head(target)?.expiry.stamp <= lesson.expiry.stamp;
        Ok(match is_newest || effect.is_creating() {
            true => lesson.over.clone(),
            false => Vec::new(),
        })
    }

    /// The register as a later write of this shard left it, above what was taught: an earlier write was taught that, and the later one
    /// that replaced it waits for nobody.
    pub(super) fn stand_again(
        &mut self,
        target: &Target<'_>,
        value: Option<&Bytes>,
        lesson: &Lesson,
    ) -> Result<(), StorageError> {
        let floors = self.head(target)?.string.floors.clone();
        let part = self.register_again(target, value, &floors, lesson)?;
        self.place();
        self.coordinate(target, vec![part], Question::Nothing)
    }

    /// The expiry as a later write of this shard left it, likewise.
    pub(super) fn end_again(
        &mut self,
        target: &Target<'_>,
        at_ms: Option<u64>,
    ) -> Result<(), StorageError> {
        let part = self.expiry_at(at_ms);
        self.coordinate(target, vec![part], Question::Nothing)
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
        // Others had a set that hid it, or it would have been taught nothing of one.
        let is_beginning = self.head(target)?.slot() != Shown::String || !lesson.seen.is_empty();
        let mut taught = StringState {
            floors: lesson.counts_as_floors(),
            ..StringState::default()
        };
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
            created: if is_beginning && value.is_some() {
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
        Some(self.expiry_at(at_ms))
    }

    /// Whether the text that was taught is older than the register that an increment counted on, or than the one here now: a SET of the same
    /// connection may have come before the increment, and have been corrected above that text. One that came behind it says nothing.
    fn is_overwritten(
        &mut self,
        target: &Target<'_>,
        text: Stamp,
        on: &CountsOn,
    ) -> Result<bool, StorageError> {
        let actor = self.actor;
        let register = self.head(target)?.string.register.as_ref();
        let is_newer_now = register.is_some_and(|register| {
            let is_newer =
                register.stamp > text && (register.stamp.actor != actor || on.is_behind_statement);
            is_newer || (register.stamp == text && register.value.is_none())
        });
        Ok(on.register > text || is_newer_now)
    }

    /// Why an increment comes to nothing that anybody sees, if it does.
    fn refusal_of_increment(
        &mut self,
        target: &Target<'_>,
        is_beginning: bool,
        on: &CountsOn,
        lesson: &Lesson,
    ) -> Result<Option<Refusal>, StorageError> {
        if let Some(begun) = lesson.other_type(is_beginning)
            && !self.is_set_gone(target, begun, &lesson.seen)?
        {
            return Ok(Some(Refusal::WrongType));
        }
        let is_behind_text = lesson.is_text && !self.is_overwritten(target, lesson.newest, on)?;
        Ok(is_behind_text.then_some(Refusal::NotAnInteger))
    }

    /// Whether the string that is shown elsewhere, begun then, is known here to be gone. Another one may have been begun since: by this
    /// shard, which knew that nothing was there any more. One that another node began is there beside what was taught, for all that is known.
    fn is_string_gone(
        &mut self,
        target: &Target<'_>,
        begun: Stamp,
        taught: &StringState,
    ) -> Result<bool, StorageError> {
        let actor = self.actor;
        let string = &self.head(target)?.string;
        let counts = string.counts.get(&actor);
        let adds = counts.is_some_and(|count| count.above(string.floors.get(&actor)) != (0, 0));
        let mut register = string.register.iter();
        let writes =
            register.any(|register| register.value.is_some() && register.stamp.actor == actor);
        let is_own = string.created > begun && string.created.actor == actor && (adds || writes);
        let mut both = string.clone();
        both.join(taught);
        Ok(is_own || both.is_empty())
    }

    /// The same of a set, of which others have `seen` so much.
    fn is_set_gone(
        &mut self,
        target: &Target<'_>,
        begun: Stamp,
        seen: &Context,
    ) -> Result<bool, StorageError> {
        let actor = self.actor;
        let set = &self.head(target)?.set;
        let added = set.context.newest(actor).unwrap_or(Hlc::ZERO);
        let is_own = set.created > begun && set.created.actor == actor && added >= set.created.hlc;
        Ok(is_own || (set.live == 0 && set.context.covers(seen)))
    }

    /// Whether what was begun then is there: an end is said of that, and not of what another client has begun behind a DEL of it.
    fn is_still_there(&mut self, target: &Target<'_>, begun: Stamp) -> Result<bool, StorageError> {
        let is_same = self.begun(target)? == begun;
        Ok(is_same && self.head(target)?.slot() != Shown::Absent)
    }

    /// An end that came to a key beside its removal, of which that had not heard. Where the removal left nothing of what was there, it was said
    /// of what is gone: whatever is begun next under that name is not to end with it.
    fn end_of_nothing(
        &mut self,
        target: &Target<'_>,
        current: Current,
        lesson: &Lesson,
    ) -> Result<Option<Part>, StorageError> {
        let head = self.head(target)?;
        let is_left_over = head.slot() == Shown::Absent && head.expiry == lesson.expiry;
        let is_of_removed = lesson.was_shown && !lesson.has_value();
        let ends = current.expiry && is_left_over && lesson.has_end() && is_of_removed;
        let ended = head.expiry.ended();
        Ok(ends.then_some(Part::Expiry(ended)))
    }

    /// What is added after the end of a key, or to one of which nothing is left but its end, does not end with that. What ended may show
    /// again where nobody has removed it yet: an increment made elsewhere since must not go with it.
    fn end_of_end(
        &mut self,
        target: &Target<'_>,
        is_creating: bool,
        lesson: &Lesson,
    ) -> Result<Option<Part>, StorageError> {
        let wall_ms = self.wall_ms;
        let head = self.head(target)?;
        let is_current = head.expiry.stamp == lesson.expiry.stamp;
        let is_left_over = is_creating && !lesson.was_shown && !is_on(Mutant::ExpiryOutlivesDelete);
        let ends = lesson.has_end() && is_current && (head.is_expired(wall_ms) || is_left_over);
        Ok(ends.then(|| self.expiry_at(None)))
    }

    /// The floor over this actor's own increments that a refusal takes back: up to the total that the write came to, and not over what was
    /// added since, unless that was refused before. Only where all that the actor added before is over already, because a floor would end that as
    /// well. What was added before may be refused too, and takes this back with it then.
    fn take_back(
        &mut self,
        target: &Target<'_>,
        before: Count,
        total: Count,
        lesson: &Lesson,
    ) -> Result<Option<Part>, StorageError> {
        let actor = self.actor;
        let mut ended = lesson.ended;
        let known = self.head(target)?.string.floors.get(&actor).copied();
        ended.join(&known.unwrap_or_default());
        let is_alone = before.above(Some(&ended)) == (0, 0);
        Ok(is_alone.then(|| {
            Part::String(StringState {
                floors: [(actor, total)].into(),
                ..StringState::default()
            })
        }))
    }
}

/// The beginning of the set that stands. What was refused had begun later, and that stays said: without this it would have an older string,
/// of another region, hide the set.
fn set_begun_at(stamp: Stamp) -> Part {
    let nothing: [(Bytes, &Dots<()>); 0] = [];
    Part::Set(RowsDelta {
        created: stamp,
        ..crdt::rows::remove(nothing)
    })
}

/// The same of a string.
fn string_begun_at(stamp: Stamp) -> Part {
    Part::String(StringState {
        created: stamp,
        ..StringState::default()
    })
}

/// The removal of these dots, and of no others of the same elements.
fn remove_dots<'a>(added: impl Iterator<Item = &'a (Bytes, Stamp)>) -> Option<Part> {
    let dots: Vec<(Bytes, Dots<()>)> = added
        .map(|(member, stamp)| (member.clone(), Dots::single(*stamp, ())))
        .collect();
    let removed = dots.iter().map(|(member, dots)| (member.clone(), dots));
    (!dots.is_empty()).then(|| Part::Set(crdt::rows::remove(removed)))
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
        Effect::Add(addition) => {
            let members: Vec<Bytes> = addition
                .added
                .iter()
                .map(|(member, _)| member.clone())
                .collect();
            (count - known(&members)).max(0)
        }
        _ => count,
    });
    Reply::Int(count)
}
