//! What clients asked of one key and were told, and whether that can be explained.
//!
//! Each write leaves a mark: an element, a value, or an increment. Others remove marks. A read shows some. A mark that is shown must have been
//! left by somebody and not removed since; one that is missing must have been removed by somebody who may have come later.

use std::collections::BTreeSet;

use crate::core_support::{add, bytes, incr, missed::expire, remove, set};
use node::{
    core::{
        RequestId,
        op::{Action, Read, Write},
        reply::{Refusal, Reply},
    },
    level::Level,
};

/// The elements that are added and removed.
const ELEMENTS: [&str; 2] = ["m", "n"];
/// An increment is one bit below these, and a value is above them: so a number says which of them are in it.
pub const COUNTS_MAX: usize = 32;

/// What a write leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mark {
    /// Which of the elements.
    Element(usize),
    /// Which value; no two are alike.
    Value(usize),
    /// Which increment; no two are alike.
    Count(usize),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Add(usize),
    Remove(usize),
    /// Removes what it is answered with.
    Pop {
        entropy: u64,
    },
    SetNumber(usize),
    SetText(usize),
    Increment(usize),
    Delete,
    /// Ends the key by its time.
    End,
    /// Removes what it is answered with.
    Take,
    ReadElements,
    ReadString,
}

/// An operation, and what came of it. Steps of the story are its time.
#[derive(Debug, Clone)]
pub struct Told {
    pub kind: Kind,
    pub level: Level,
    /// Whether the level is less than a majority: nothing is promised of it.
    pub is_weak: bool,
    pub node: usize,
    /// How often the node had begun anew.
    pub life: usize,
    pub id: RequestId,
    pub begun: usize,
    pub ended: Option<usize>,
    pub reply: Option<Reply>,
}

/// What is told of the key.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Shown {
    marks: BTreeSet<Mark>,
    /// Whether these are all the elements, values and increments that there are.
    are_all: [bool; 3],
    /// Something of this kind must be there besides.
    with: Option<With>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum With {
    Element,
    String,
    Text,
}

const ALL: [bool; 3] = [true; 3];
const STRING: [bool; 3] = [false, true, true];
const VALUE: [bool; 3] = [false, true, false];
const NOTHING: [bool; 3] = [false; 3];

impl Mark {
    fn of_element(element: &[u8]) -> Self {
        let mut all = ELEMENTS.iter();
        let place = all.position(|name| name.as_bytes() == element);
        Self::Element(place.expect("no other element is added"))
    }

    fn is_of(self, are_all: [bool; 3]) -> bool {
        match self {
            Self::Element(_) => are_all[0],
            Self::Value(_) => are_all[1],
            Self::Count(_) => are_all[2],
        }
    }
}

impl Shown {
    fn these(marks: impl IntoIterator<Item = Mark>, are_all: [bool; 3]) -> Self {
        Self {
            marks: marks.into_iter().collect(),
            are_all,
            with: None,
        }
    }

    fn only(with: With, are_all: [bool; 3]) -> Self {
        Self {
            marks: BTreeSet::new(),
            are_all,
            with: Some(with),
        }
    }

    /// Behind a text increments wait.
    fn string(text: &[u8]) -> Self {
        let text = std::str::from_utf8(text).expect("what was written is text");
        if let Some(value) = text.strip_prefix('t') {
            let value = value.parse().expect("what was written ends in a number");
            return Self::these([Mark::Value(value)], VALUE);
        }
        let number: u64 = text.parse().expect("what was written is a number");
        let value = (number >> COUNTS_MAX) as usize;
        let counts = (0..COUNTS_MAX).filter(|bit| number >> bit & 1 == 1);
        let value = (value > 0).then_some(Mark::Value(value));
        Self::these(counts.map(Mark::Count).chain(value), STRING)
    }
}

impl Told {
    pub fn action(&self) -> Action {
        let element = |which: usize| ELEMENTS[which];
        let number = |value: usize| ((value as u64) << COUNTS_MAX).to_string();
        match self.kind {
            Kind::Add(which) => Action::Write(add(&[element(which)])),
            Kind::Remove(which) => Action::Write(remove(&[element(which)])),
            Kind::Pop { entropy } => Action::Write(Write::Pop { count: 1, entropy }),
            Kind::SetNumber(value) => Action::Write(set(&number(value))),
            Kind::SetText(value) => Action::Write(set(&format!("t{value}"))),
            Kind::Increment(bit) => Action::Write(incr(1 << bit)),
            Kind::Delete => Action::Write(Write::Delete),
            Kind::End => Action::Write(expire(1)),
            Kind::Take => Action::Write(Write::GetDel),
            Kind::ReadElements => Action::Read(Read::AreMembers {
                members: ELEMENTS.map(bytes).into(),
            }),
            Kind::ReadString => Action::Read(Read::Get),
        }
    }

    fn is_acknowledged(&self) -> bool {
        let reply = self.reply.as_ref();
        !self.is_weak && reply.is_some_and(|reply| !matches!(reply, Reply::Error(_)))
    }

    /// Refused for what is there: nothing was changed.
    fn is_refused(&self) -> bool {
        let refused = |refusal: &Refusal| {
            matches!(
                refusal,
                Refusal::WrongType
                    | Refusal::NotAnInteger
                    | Refusal::NoQuorum { applied: None, .. }
                    | Refusal::Unavailable(_)
            )
        };
        matches!(&self.reply, Some(Reply::Error(refusal)) if refused(refusal))
    }

    /// Whether it was acknowledged before the other began, or stands before it in one connection.
    fn precedes(&self, other: &Self) -> bool {
        let is_before = self.ended.is_some_and(|ended| ended < other.begun);
        let is_same = self.node == other.node && self.life == other.life;
        self.is_acknowledged() && (is_before || (is_same && self.begun < other.begun))
    }

    fn leaves(&self) -> Option<Mark> {
        match self.kind {
            Kind::Add(which) => Some(Mark::Element(which)),
            Kind::SetNumber(value) | Kind::SetText(value) => Some(Mark::Value(value)),
            Kind::Increment(bit) => Some(Mark::Count(bit)),
            _ => None,
        }
    }

    /// Whether it removes this where it is carried out, or may have done so.
    fn removes(&self, mark: Mark) -> bool {
        match self.kind {
            Kind::SetNumber(value) | Kind::SetText(value) => mark != Mark::Value(value),
            Kind::Take if self.reply == Some(Reply::Nil) => false,
            Kind::Delete | Kind::End | Kind::Take => true,
            Kind::Remove(which) => mark == Mark::Element(which),
            Kind::Pop { .. } => match &self.reply {
                Some(Reply::Array(popped)) => popped
                    .iter()
                    .any(|popped| matches!(popped, Reply::Bulk(popped) if Mark::of_element(popped) == mark)),
                _ => matches!(mark, Mark::Element(_)),
            },
            Kind::Add(_) | Kind::Increment(_) | Kind::ReadElements | Kind::ReadString => false,
        }
    }

    /// Whether it may hide what another one wrote: on one replica that missed that, or beside it while nobody has said that it is accepted; or
    /// where that came to what had been begun on one replica. A SET and an addition beside it may both be accepted.
    fn may_hide(&self, write: &Self, mark: Mark, story: &[Self]) -> bool {
        let is_other_type = match self.kind {
            Kind::Add(_) => !matches!(mark, Mark::Element(_)),
            Kind::Increment(_) => matches!(mark, Mark::Element(_)),
            _ => false,
        };
        let is_beside = |other: &Self| write.ended.is_none_or(|ended| other.begun <= ended);
        let begins = |other: &Self| {
            other.is_weak
                && is_beside(other)
                && std::mem::discriminant(&other.kind) == std::mem::discriminant(&write.kind)
        };
        let is_value = matches!(mark, Mark::Value(_));
        let is_allowed = || is_value || !self.is_acknowledged() || story.iter().any(begins);
        is_other_type
            && (self.is_weak || (is_beside(self) && !self.precedes(write) && is_allowed()))
    }

    /// Whether it was taken back before another one begins. An increment above others of its node may stay, hidden by what it is
    /// refused for: a floor under it would end those as well.
    fn is_undone_before(&self, other: &Self, story: &[Self]) -> bool {
        let counts = |told: &Self| matches!(told.kind, Kind::Increment(_));
        let is_above =
            |before: &Self| counts(before) && before.node == self.node && before.begun < self.begun;
        let stays = counts(self) && story.iter().any(is_above);
        let is_refused = self.is_refused() && !stays;
        is_refused && self.ended.is_some_and(|ended| ended < other.begun)
    }

    /// What it tells of the key.
    pub fn shows(&self) -> Option<Shown> {
        let reply = self.reply.as_ref().filter(|_| !self.is_weak)?;
        match (self.kind, reply) {
            (Kind::ReadElements, Reply::Array(are)) => {
                let there = are.iter().enumerate();
                let there = there.filter(|(_, is)| **is == Reply::Int(1));
                let marks = there.map(|(which, _)| Mark::Element(which));
                Some(Shown::these(marks, ALL))
            }
            (Kind::Pop { .. }, Reply::Array(popped)) => match popped.first() {
                Some(Reply::Bulk(popped)) => Some(Shown::these([Mark::of_element(popped)], STRING)),
                _ => Some(Shown::these([], ALL)),
            },
            (Kind::ReadString | Kind::Take, Reply::Bulk(text)) => Some(Shown::string(text)),
            (Kind::ReadString | Kind::Take, Reply::Nil)
            | (Kind::Delete | Kind::End, Reply::Int(0)) => Some(Shown::these([], ALL)),
            (Kind::Increment(_), Reply::Error(Refusal::NotAnInteger)) => {
                Some(Shown::only(With::Text, NOTHING))
            }
            (
                Kind::ReadString | Kind::Take | Kind::Increment(_),
                Reply::Error(Refusal::WrongType),
            ) => Some(Shown::only(With::Element, STRING)),
            (_, Reply::Error(Refusal::WrongType)) => Some(Shown::only(With::String, NOTHING)),
            _ => None,
        }
    }

    /// Whether what it left may be there when another one reads. What was refused is taken back before that is said.
    fn may_be_seen_by(&self, read: &Self, mark: Mark, story: &[Self]) -> bool {
        let is_removed = |other: &Self| {
            other.is_acknowledged()
                && other.removes(mark)
                && self.precedes(other)
                && other.precedes(read)
        };
        !std::ptr::eq(self, read)
            && !read.precedes(self)
            && !self.is_undone_before(read, story)
            && !story.iter().any(is_removed)
    }

    fn is_with(&self, with: With) -> bool {
        match with {
            With::Element => matches!(self.kind, Kind::Add(_)),
            With::Text => matches!(self.kind, Kind::SetText(_)),
            With::String => matches!(
                self.kind,
                Kind::SetNumber(_) | Kind::SetText(_) | Kind::Increment(_)
            ),
        }
    }
}

/// The first of what was told that nothing explains.
pub fn unexplained(story: &[Told]) -> Option<String> {
    let reads = story.iter().filter_map(|read| Some((read, read.shows()?)));
    for (read, shown) in reads {
        for mark in &shown.marks {
            let left = story.iter().filter(|write| write.leaves() == Some(*mark));
            if !left
                .into_iter()
                .any(|write| write.may_be_seen_by(read, *mark, story))
            {
                return Some(format!("{read:?}\n  shows {mark:?}"));
            }
        }
        let mut causes = story
            .iter()
            .filter_map(|write| Some((write, write.leaves()?)));
        let is_explained = shown.with.is_none_or(|with| {
            causes
                .any(|(write, mark)| write.is_with(with) && write.may_be_seen_by(read, mark, story))
        });
        if !is_explained {
            return Some(format!("{read:?}\n  although there is no {:?}", shown.with));
        }
        if let Some(write) = missing(story, read, &shown) {
            return Some(format!("{read:?}\n  although {write:?}"));
        }
    }
    None
}

/// A write that is acknowledged before a read, and that this ought to show.
fn missing<'a>(story: &'a [Told], read: &Told, shown: &Shown) -> Option<&'a Told> {
    story.iter().find(|write| {
        let Some(mark) = write.leaves() else {
            return false;
        };
        let may_explain = |other: &Told| {
            let removes = other.removes(mark) && !other.is_refused() && !other.precedes(write);
            let hides = other.may_hide(write, mark, story) && !other.is_undone_before(read, story);
            (removes || hides) && !read.precedes(other) && !std::ptr::eq(other, read)
        };
        write.precedes(read)
            && mark.is_of(shown.are_all)
            && !shown.marks.contains(&mark)
            && !story.iter().any(may_explain)
    })
}
