//! What an acknowledgement teaches: what this replica knows about a key that a write of another one did not.
//!
//! ```text
//!   the write says              unknown to it                         why it must know
//!   SET: stamp, floors          a newer register, increments above    an acknowledged one of before would undo it
//!   SADD: rows, dots            other dots of those rows              the reply would count what was there
//!   SET: context                what else was seen of the set         it would stay, and may hide the string
//!   EXPIRE: stamp               a newer expiry                        the same
//!   DEL: expiry                 a newer expiry                        it would come to what is begun next
//!   INCR: counts                that the value is text                nobody sees the increment
//!   INCR, SADD: when begun      a later value of the other type       nobody sees what was added
//!   INCR, SADD: expiry          a newer expiry                        it has passed, and would end what is added
//!   INCR, SADD                  an ended value of another type        it would come back, and hide what is added
//! ```
//! DEL and SREM ask before they are carried out, and learn of an expiry only. Earlier releases had them taught: DEL like SET; SREM dots of its rows,
//! and, to the last one, whether something is left that the expiry is about. They still are, as long as such nodes may be in the cluster.
//!
//! Taken before the join, because afterwards both are one.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use crdt::{
    Context, Count, Delta, Dots, Expiry, Hlc, Named, Part, Register, RowsDelta, Stamp, StringState,
    StringValue, parse_integer,
};

use super::{
    batch::PendingBatch,
    message::{About, Teaching},
    mutant::{Mutant, is_on},
};
use crate::{
    placement::Position,
    storage::{
        Storage, StorageError,
        record::head::{Head, Shown},
    },
};

/// What is known here and not in `delta`, as far as it bears on it; `None` in the common case that there is nothing.
pub fn teach(
    storage: &dyn Storage,
    pending: &mut PendingBatch,
    delta: &Delta,
    wall_ms: u64,
) -> Result<Option<Teaching>, StorageError> {
    let position = Position::of(&delta.key);
    let head = pending.head(storage, &position, &delta.key)?;
    let mut teaching = Teaching::about(delta, head);
    if head.is_expired(wall_ms) && !knows_better(delta, head, wall_ms) {
        teaching.of_ended(head);
    } else {
        teaching.of_addition(head, delta);
    }
    let (known_expiry, live, has_string) = (head.expiry, head.set.live, !head.string.is_empty());
    let is_left = leaves_something(delta, head);
    teaching.of_values(head, delta);
    let removed = teaching.of_rows(storage, pending, &position, delta)?;
    // A removal that left nothing speaks for the expiry of a key that is gone. Here elements may be left that it does not know.
    let stays = teaching.about == About::Removal && (has_string || live > removed);
    let written = delta.parts.iter().find_map(|part| match part {
        Part::Expiry(written) => Some(*written),
        Part::String(_) | Part::Set(_) | Part::Unknown(_) => None,
    });
    // Whoever emptied the set says so with the end of its expiry.
    teaching.stays = stays && written.is_some();
    let is_addition = teaching.about.is_addition();
    let written = written.or(is_addition.then(Expiry::default));
    if let Some(written) = written.filter(|_| !stays && !is_left) {
        teaching.of_expiry(&known_expiry, &written);
    }
    Ok(Some(teaching).filter(|teaching| !teaching.is_empty()))
}

impl Teaching {
    fn about(delta: &Delta, head: &Head) -> Self {
        Self {
            delta: Delta {
                key: delta.key.clone(),
                parts: Vec::new(),
            },
            newest: Stamp::ZERO,
            seen: None,
            was_shown: head.slot() != Shown::Absent || is_end_of_later(head, delta),
            is_text: false,
            is_other_type: false,
            is_hidden: false,
            string: None,
            ended: Count::default(),
            gone: Vec::new(),
            stays: false,
            over: Vec::new(),
            is_lost: false,
            about: About::of(delta),
        }
    }

    /// The newest stamp in it, of anything that could push a clock.
    pub fn newest_of_all(&self) -> Hlc {
        let seen = self.seen.as_ref().map_or(Hlc::ZERO, Context::newest_of_all);
        let over = self.over.iter().map(Part::newest).max();
        let string = self.string.as_ref().map(StringState::newest);
        let beside = over.max(string).unwrap_or(Hlc::ZERO);
        seen.max(self.newest.hlc)
            .max(self.delta.newest())
            .max(beside)
    }

    fn is_empty(&self) -> bool {
        self.delta.parts.is_empty()
            && self.newest == Stamp::ZERO
            && self.seen.is_none()
            && !self.is_text
            && !self.is_other_type
            && !self.stays
            && self.over.is_empty()
    }

    /// A value of another type, or text, has ended and may never have come to whoever adds: with the end of its end it would come back.
    fn of_ended(&mut self, head: &Head) {
        let (string, set) = (&head.string, &head.set);
        let is_string = match self.about {
            About::Elements => !string.is_empty(),
            About::Increment => is_text(string),
            About::Statement | About::Removal => false,
        };
        if is_string {
            self.over.push(Part::String(string.expired()));
        }
        if self.about == About::Increment && set.live > 0 {
            self.over.push(Part::Set(crdt::rows::clear(&set.context)));
        }
    }

    /// The value is text, or one of the other type is there: also one that is hidden by what was added, where that began the key. Of two
    /// that begin a key beside each other, whichever comes second to a replica that both of them need is told of the other, and so never both
    /// are acknowledged. By which stamp, so that whoever adds can say whether it knew of that.
    fn of_addition(&mut self, head: &Head, delta: &Delta) {
        if is_on(Mutant::OtherTypeNotTaught) {
            return;
        }
        match self.about {
            About::Elements => self.of_elements(head, delta),
            About::Increment => {
                if let Some(written) = delta.parts.iter().find_map(as_string) {
                    self.of_increment(head, written);
                }
            }
            About::Statement | About::Removal => {}
        }
        if !self.is_other_type && !self.is_text {
            self.newest = Stamp::ZERO;
        }
    }

    fn of_elements(&mut self, head: &Head, delta: &Delta) {
        let (string, set) = (&head.string, &head.set);
        let parts = delta.parts.iter();
        let begun = parts.fold(set.created, |begun, part| match part {
            Part::Set(rows) => begun.max(rows.created),
            Part::String(_) | Part::Expiry(_) | Part::Unknown(_) => begun,
        });
        self.is_other_type = !string.is_empty();
        self.is_hidden = self.is_other_type && string.created >= begun;
        self.string = self.is_other_type.then(|| without_text(string));
        self.newest = string.created;
    }

    fn of_increment(&mut self, head: &Head, written: &StringState) {
        let (string, set) = (&head.string, &head.set);
        let begun = string.created.max(written.created);
        self.is_other_type = set.live > 0;
        self.is_hidden = self.is_other_type && set.created > begun;
        // Whoever has seen it removed knows better.
        self.seen = self.is_other_type.then(|| set.context.clone());
        self.is_text = !self.is_other_type && is_text(string);
        let text = string.register.as_ref().map(|register| register.stamp);
        self.newest = match self.is_other_type {
            true => set.created,
            false => text.unwrap_or_default(),
        };
        let mut adders = written.counts.keys();
        let ended = adders.next().and_then(|adder| string.floors.get(adder));
        self.ended = ended.copied().unwrap_or_default();
    }

    fn of_values(&mut self, head: &Head, delta: &Delta) {
        for part in &delta.parts {
            match part {
                Part::String(state) if self.about != About::Increment => {
                    self.of_string(&head.string, state);
                }
                Part::Set(rows) => self.of_clear(head, rows),
                Part::String(_) | Part::Expiry(_) | Part::Unknown(_) => {}
            }
        }
    }

    /// Returns how many of the elements that are named are here.
    fn of_rows(
        &mut self,
        storage: &dyn Storage,
        pending: &mut PendingBatch,
        position: &Position,
        delta: &Delta,
    ) -> Result<u64, StorageError> {
        let mut here = 0;
        for part in &delta.parts {
            let Part::Set(rows) = part else { continue };
            let Named::Rows(named) = &rows.named else {
                continue;
            };
            let mut is_seen = self.is_other_type;
            if is_seen {
                let head = pending.head(storage, position, &delta.key)?;
                is_seen = has_seen_what_it_replaced(&head.set.context, rows);
            }
            for (element, added) in named {
                let added: BTreeSet<Stamp> = added.stamps().collect();
                let dots = pending.row(storage, position, &delta.key, element)?;
                // What this very addition made is here already where it is sent again.
                if is_seen && dots.stamps().all(|dot| added.contains(&dot)) {
                    self.gone.push(element.clone());
                }
                here += u64::from(!dots.is_empty());
                self.of_row(element, dots, rows);
            }
        }
        Ok(here)
    }

    fn of_string(&mut self, known: &StringState, written: &StringState) {
        let mine = known.register.as_ref().map(|register| register.stamp);
        let theirs = written.register.as_ref().map(|register| register.stamp);
        let mine = mine.filter(|mine| theirs.is_none_or(|theirs| *mine > theirs));
        if let Some(mine) = mine.filter(|_| !is_on(Mutant::RegisterNotTaught)) {
            self.newest = self.newest.max(mine);
        }
        self.of_counts(known, written);
    }

    fn of_counts(&mut self, known: &StringState, written: &StringState) {
        let unknown: BTreeMap<_, _> = known
            .counts
            .iter()
            .filter(|(actor, count)| count.above(written.floors.get(actor)) != (0, 0))
            .map(|(actor, count)| (*actor, *count))
            .collect();
        // Also what is over here: it may be counted elsewhere still, where nobody has heard of what ended it.
        let mut ends = known.floors.iter();
        let knows_of_ends =
            ends.any(|(actor, floor)| floor.above(written.floors.get(actor)) != (0, 0));
        if (!unknown.is_empty() || knows_of_ends) && !is_on(Mutant::CountsNotTaught) {
            let counts = StringState {
                counts: unknown,
                floors: known.floors.clone(),
                ..StringState::default()
            };
            self.delta.parts.push(Part::String(counts));
        }
    }

    fn of_expiry(&mut self, known: &Expiry, written: &Expiry) {
        // With what is over always: by which end, so that whoever knows of a later one can tell.
        if known.stamp > written.stamp || !self.over.is_empty() {
            self.delta.parts.push(Part::Expiry(*known));
        }
    }

    fn of_clear(&mut self, head: &Head, cleared: &RowsDelta<()>) {
        let is_clear = cleared.named == Named::All && !is_on(Mutant::ClearNotTaught);
        if is_clear && !cleared.context.covers(&head.set.context) {
            self.seen = Some(head.set.context.clone());
        }
    }

    fn of_row(&mut self, element: &Bytes, known: &Dots<()>, written: &RowsDelta<()>) {
        let unknown: Context = known
            .stamps()
            .filter(|dot| !written.context.contains(*dot))
            .collect();
        if unknown.is_empty() {
            return;
        }
        let dots: Dots<()> = known.within(&unknown);
        let rows = BTreeMap::from([(element.clone(), dots)]);
        self.delta.parts.push(Part::Set(RowsDelta {
            context: unknown,
            named: Named::Rows(rows),
            created: Stamp::ZERO,
        }));
    }
}

/// Whether an addition replaced only dots that a context has seen. Those of its own actor come before it on one stream.
fn has_seen_what_it_replaced(seen: &Context, added: &RowsDelta<()>) -> bool {
    let Named::Rows(rows) = &added.named else {
        return false;
    };
    let mut seen = seen.clone();
    for new in rows.values().flat_map(Dots::stamps) {
        let before = seen.newest(new.actor).unwrap_or(Hlc::ZERO);
        if before < new.hlc {
            seen.insert_interval(new.actor, before, new.hlc);
        }
    }
    seen.covers(&added.context)
}

/// Whether a deletion leaves something here that it had not seen: an end that is known here is said of that.
fn leaves_something(delta: &Delta, head: &Head) -> bool {
    let is_tombstone = |state: &StringState| {
        let register = state.register.as_ref();
        state.counts.is_empty() && register.is_none_or(|register| register.value.is_none())
    };
    let is_deletion = |part: &Part| match part {
        Part::String(state) => is_tombstone(state),
        Part::Set(rows) => rows.named == Named::All,
        Part::Expiry(_) | Part::Unknown(_) => true,
    };
    let states_end_alone = |part: &Part| matches!(part, Part::Expiry(_) | Part::Unknown(_));
    if delta.parts.iter().all(states_end_alone) || !delta.parts.iter().all(is_deletion) {
        return false;
    }
    let (mut string, mut is_cleared) = (head.string.clone(), head.set.live == 0);
    for part in &delta.parts {
        match part {
            Part::String(state) => string.join(state),
            Part::Set(rows) => is_cleared |= rows.context.covers(&head.set.context),
            Part::Expiry(_) | Part::Unknown(_) => {}
        }
    }
    !string.is_empty() || !is_cleared
}

/// Whether the end of the key was stated after an addition that begins it: by somebody who had seen it there, and whose word came first.
fn is_end_of_later(head: &Head, delta: &Delta) -> bool {
    let created = delta.parts.iter().map(|part| match part {
        Part::String(string) => string.created,
        Part::Set(rows) => rows.created,
        Part::Expiry(_) | Part::Unknown(_) => Stamp::ZERO,
    });
    let begun = created.max().unwrap_or(Stamp::ZERO);
    begun != Stamp::ZERO && head.expiry.stamp > begun
}

/// Whether whoever added to a key that has ended here knew that it has not: of a PERSIST or a later EXPIRE. One that began the key knew of
/// nothing, and states only that the end of what was there before is none of its own.
fn knows_better(delta: &Delta, head: &Head, wall_ms: u64) -> bool {
    let is_beginning = |part: &Part| match part {
        Part::String(string) => string.created != Stamp::ZERO,
        Part::Set(rows) => rows.created != Stamp::ZERO,
        Part::Expiry(_) | Part::Unknown(_) => false,
    };
    let is_later = |part: &Part| match part {
        Part::Expiry(expiry) => expiry.stamp > head.expiry.stamp && !expiry.is_past(wall_ms),
        Part::String(_) | Part::Set(_) | Part::Unknown(_) => false,
    };
    delta.parts.iter().any(is_later) && !delta.parts.iter().any(is_beginning)
}

fn without_text(string: &StringState) -> StringState {
    let register = string.register.as_ref().map(|register| Register {
        stamp: register.stamp,
        value: register.value.as_ref().map(|_| Bytes::new()),
    });
    StringState {
        register,
        ..string.clone()
    }
}

fn as_string(part: &Part) -> Option<&StringState> {
    match part {
        Part::String(state) => Some(state),
        Part::Set(_) | Part::Expiry(_) | Part::Unknown(_) => None,
    }
}

/// Whether a value is text that is no integer.
pub fn is_text(known: &StringState) -> bool {
    matches!(known.value(), StringValue::Bytes(text) if parse_integer(&text).is_none())
}
