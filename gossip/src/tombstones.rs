//! What is remembered of lives that are over, so that nobody brings them back: bounded, the oldest make room.
//!
//! Should one be forgotten too early, nothing breaks: its description is asked for, and turns out to be that of a life which another one
//! has succeeded, or which has been silent for too long.

use std::collections::{BTreeMap, VecDeque};

use crate::{
    identity::{Directory, Heartbeat, Tag},
    limits::{FORGOTTEN_MAX, GRAVES_MAX, RUMOURS_MAX},
    message::Gone,
    name::NodeId,
};

#[derive(Debug, Default)]
pub(crate) struct Tombstones {
    tombstones: BTreeMap<Tag, Grave>,
    order: VecDeque<Tag>,
    forgotten: VecDeque<(NodeId, Directory)>,
    rumours: VecDeque<Rumour>,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Grave {
    /// Another life of that node came after it.
    Succeeded(NodeId),
    /// It was removed after a long silence, or after its goodbye. Only a higher heartbeat shows that it lives after all.
    Removed(Heartbeat),
    /// An operator had it forgotten.
    Forgotten(Gone),
}

#[derive(Debug)]
struct Rumour {
    gone: Gone,
    /// In how many more messages it travels.
    left: u32,
}

impl Tombstones {
    pub(crate) fn find(&self, tag: Tag) -> Option<&Grave> {
        self.tombstones.get(&tag)
    }

    pub(crate) fn bury(&mut self, tag: Tag, grave: Grave) {
        if self.tombstones.insert(tag, grave).is_none() {
            self.order.push_back(tag);
        }
        while self.tombstones.len() > GRAVES_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.tombstones.remove(&oldest);
        }
        debug_assert!(self.tombstones.len() <= GRAVES_MAX);
    }

    /// A life believed over shows itself.
    pub(crate) fn exhume(&mut self, tag: Tag) {
        if self.tombstones.remove(&tag).is_some() {
            self.order.retain(|buried| *buried != tag);
        }
    }

    /// Notes that an operator had a node forgotten; whether that is news, which then travels on in `sends` messages.
    pub(crate) fn forget(&mut self, gone: &Gone, sends: u32) -> bool {
        self.bury(gone.tag, Grave::Forgotten(gone.clone()));
        if self.is_forgotten(&gone.node, gone.directory) {
            return false;
        }
        if self.rumours.len() == FORGOTTEN_MAX {
            self.rumours.pop_front();
        }
        self.recall(gone.node.clone(), gone.directory);
        let gone = gone.clone();
        self.rumours.push_back(Rumour { gone, left: sends });
        true
    }

    /// Notes what was forgotten long ago: it is no news, and does not travel.
    pub(crate) fn recall(&mut self, node: NodeId, directory: Directory) {
        if self.forgotten.len() == FORGOTTEN_MAX {
            self.forgotten.pop_front();
        }
        self.forgotten.push_back((node, directory));
    }

    pub(crate) fn is_forgotten(&self, node: &NodeId, directory: Directory) -> bool {
        let mut forgotten = self.forgotten.iter();
        forgotten.any(|known| known.0 == *node && known.1 == directory)
    }

    /// Rumours for one message, each in turn.
    pub(crate) fn rumours(&mut self) -> Vec<Gone> {
        let mut told = Vec::new();
        for _ in 0..self.rumours.len().min(RUMOURS_MAX) {
            let Some(mut rumour) = self.rumours.pop_front() else {
                break;
            };
            told.push(rumour.gone.clone());
            rumour.left -= 1;
            if rumour.left > 0 {
                self.rumours.push_back(rumour);
            }
        }
        told
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gone(number: u64) -> Gone {
        Gone {
            tag: Tag::of(number),
            node: format!("n{number}").parse().expect("a name"),
            directory: Directory(number),
        }
    }

    #[test]
    fn what_is_remembered_is_bounded_and_the_oldest_makes_room() {
        let mut tombstones = Tombstones::default();
        for number in 0..2 * GRAVES_MAX as u64 {
            tombstones.bury(Tag::of(number), Grave::Removed(Heartbeat(1)));
            tombstones.forget(&gone(1_000_000 + number), 1);
        }
        assert_eq!(tombstones.tombstones.len(), GRAVES_MAX);
        assert_eq!(tombstones.order.len(), GRAVES_MAX);
        assert_eq!(tombstones.forgotten.len(), FORGOTTEN_MAX);
        assert!(tombstones.rumours.len() <= FORGOTTEN_MAX);
        assert!(tombstones.find(Tag::of(0)).is_none());
    }

    #[test]
    fn a_rumour_travels_so_many_times_and_then_no_more() {
        let mut tombstones = Tombstones::default();
        assert!(tombstones.forget(&gone(1), 3));
        assert!(!tombstones.forget(&gone(1), 3), "it is no news");
        let told: usize = (0..10).map(|_| tombstones.rumours().len()).sum();
        assert_eq!(told, 3);
        assert!(tombstones.is_forgotten(&gone(1).node, Directory(1)));
        assert!(!tombstones.is_forgotten(&gone(1).node, Directory(2)));
    }

    #[test]
    fn many_rumours_take_turns() {
        let mut tombstones = Tombstones::default();
        for number in 0..3 * RUMOURS_MAX as u64 {
            tombstones.forget(&gone(number), 5);
        }
        let mut told: Vec<Tag> = (0..3)
            .flat_map(|_| tombstones.rumours())
            .map(|gone| gone.tag)
            .collect();
        told.sort_unstable();
        told.dedup();
        assert_eq!(told.len(), 3 * RUMOURS_MAX);
    }

    #[test]
    fn one_that_shows_itself_is_exhumed() {
        let mut tombstones = Tombstones::default();
        tombstones.bury(Tag::of(1), Grave::Removed(Heartbeat(1)));
        tombstones.exhume(Tag::of(1));
        assert!(tombstones.find(Tag::of(1)).is_none() && tombstones.order.is_empty());
    }
}
