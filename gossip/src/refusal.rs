//! Why a node is not taken in, told to both sides.

use std::collections::VecDeque;

use thiserror::Error;

use crate::{
    identity::Tag,
    limits::{DETAIL_BYTES_MAX, REFUSED_MAX},
    name::{Address, NodeId},
};

/// The kind of a refusal (wire format: keep the numbers).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum RefusalKind {
    /// A node of another cluster.
    Cluster = 1,
    /// The releases do not understand each other.
    Protocol = 2,
    /// A cluster-wide setting differs.
    Settings = 3,
    /// Another node of that name lives, with another data directory. Passes by itself when that one is gone: a node whose
    /// directory was wiped gets in as soon as its former life is suspected.
    DuplicateName = 4,
    /// The transport knows it by another name than it gives.
    Impostor = 5,
    /// An operator had this node forgotten: it needs a new data directory.
    Forgotten = 6,
    /// A generation too far ahead of the clock: one of the clocks is wrong by years.
    FutureGeneration = 7,
    /// There are as many nodes as are allowed.
    Full = 8,
    /// A kind of a later release.
    Unknown = 255,
}

impl RefusalKind {
    pub(crate) fn code(self) -> u8 {
        self as u8
    }

    pub(crate) fn from_code(code: u8) -> Self {
        let known = [
            Self::Cluster,
            Self::Protocol,
            Self::Settings,
            Self::DuplicateName,
            Self::Impostor,
            Self::Forgotten,
            Self::FutureGeneration,
            Self::Full,
        ];
        known
            .into_iter()
            .find(|kind| kind.code() == code)
            .unwrap_or(Self::Unknown)
    }
}

/// Why a node is not taken in. The same words go to both sides. *State unchanged.*
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{detail}")]
pub struct Refusal {
    /// What kind of reason it is.
    pub kind: RefusalKind,
    /// The reason as a sentence that is true on both sides.
    pub detail: String,
}

impl Refusal {
    pub(crate) fn new(kind: RefusalKind, mut detail: String) -> Self {
        let mut end = detail.len().min(DETAIL_BYTES_MAX);
        while !detail.is_char_boundary(end) {
            end -= 1;
        }
        detail.truncate(end);
        Self { kind, detail }
    }
}

/// A node that was refused, as shown to operators.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Its name, as far as it told.
    pub node: Option<NodeId>,
    /// Where it says it is, or where it spoke from.
    pub address: Address,
    /// Why.
    pub refusal: Refusal,
}

/// Those refused of late: at most 64, the oldest makes room.
#[derive(Debug, Default)]
pub(crate) struct RefusedList {
    entries: VecDeque<Entry>,
}

#[derive(Debug)]
struct Entry {
    tag: Option<Tag>,
    refused: Refused,
    at: u64,
    told: u64,
}

impl RefusedList {
    /// Notes a refusal; whether it is news that someone should read.
    pub(crate) fn note(&mut self, tag: Option<Tag>, refused: Refused, now: u64) -> bool {
        let same = |entry: &Entry| {
            entry.refused.node == refused.node
                && entry.refused.address == refused.address
                && entry.refused.refusal.kind == refused.refusal.kind
        };
        let position = self.entries.iter().position(same);
        let before = position.and_then(|position| self.entries.remove(position));
        let (stands, told) = before.map_or((None, None), |entry| {
            // One that is repeated while it stands is not renewed: else whoever asks often would never be looked into again.
            let stands = (now < entry.at + STANDING_MICROS).then_some(entry.at);
            (stands, Some(entry.told))
        });
        let told = told.filter(|told| now < told + TELL_AGAIN_MICROS);
        let news = told.is_none();
        if self.entries.len() == REFUSED_MAX {
            self.entries.pop_front();
        }
        self.entries.push_back(Entry {
            tag,
            refused,
            at: stands.unwrap_or(now),
            told: told.unwrap_or(now),
        });
        debug_assert!(self.entries.len() <= REFUSED_MAX);
        news
    }

    /// The standing refusal of a life. It is looked into again after a while: what was wrong may have passed.
    pub(crate) fn standing(&self, tag: Tag, now: u64) -> Option<&Refusal> {
        let mut entries = self.entries.iter().rev();
        let entry = entries.find(|entry| entry.tag == Some(tag))?;
        (now < entry.at + STANDING_MICROS).then_some(&entry.refused.refusal)
    }

    /// Those of this kind that were noted, or renewed, just now.
    pub(crate) fn current(&self, kind: RefusalKind, now: u64) -> impl Iterator<Item = &Refused> {
        let current = self.entries.iter().filter(move |entry| {
            entry.refused.refusal.kind == kind && now < entry.at + CURRENT_MICROS
        });
        current.map(|entry| &entry.refused)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Refused> {
        self.entries.iter().map(|entry| &entry.refused)
    }
}

const STANDING_MICROS: u64 = 1_000_000;
/// Whoever goes on trying is refused again well within this time.
const CURRENT_MICROS: u64 = 10_000_000;
const TELL_AGAIN_MICROS: u64 = 60_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(name: &str) -> Refused {
        Refused {
            node: Some(name.parse().expect("a name")),
            address: "a:1".parse().expect("an address"),
            refusal: Refusal::new(RefusalKind::Full, "no room".to_owned()),
        }
    }

    #[test]
    fn a_refusal_stands_for_a_second_however_often_it_is_repeated() {
        let mut list = RefusedList::default();
        let tag = Tag::of(1);
        for now in (0..STANDING_MICROS).step_by(200_000) {
            list.note(Some(tag), refused("a"), now);
            assert!(list.standing(tag, now).is_some());
        }
        assert!(list.standing(tag, STANDING_MICROS).is_none());
    }

    #[test]
    fn a_refusal_is_told_once_a_minute() {
        let mut list = RefusedList::default();
        let told = (0..180).filter(|second| list.note(None, refused("a"), second * 1_000_000));
        assert_eq!(told.collect::<Vec<_>>(), [0, 60, 120]);
    }

    #[test]
    fn the_list_is_bounded() {
        let mut list = RefusedList::default();
        for number in 0..1_000 {
            list.note(None, refused(&format!("n{number}")), number);
        }
        assert_eq!(list.iter().count(), REFUSED_MAX);
    }

    #[test]
    fn a_sentence_is_cut_between_letters() {
        let refusal = Refusal::new(RefusalKind::Full, "é".repeat(DETAIL_BYTES_MAX));
        assert_eq!(refusal.detail.len(), DETAIL_BYTES_MAX);
        let odd = Refusal::new(RefusalKind::Full, "aé".repeat(DETAIL_BYTES_MAX));
        assert!(odd.detail.len() <= DETAIL_BYTES_MAX);
    }
}
