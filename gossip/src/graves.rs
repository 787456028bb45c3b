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
pub(crate) struct Graves {
    graves: BTreeMap<Tag, Grave>,
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

impl Graves {
    pub(crate) fn find(&self, tag: Tag) -> Option<&Grave> {
        self.graves.get(&tag)
    }

    pub(crate) fn bury(&mut self, tag: Tag, grave: Grave) {
        if self.graves.insert(tag, grave).is_none() {
            self.order.push_back(tag);
        }
        while self.graves.len() > GRAVES_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.graves.remove(&oldest);
        }
        debug_assert!(self.graves.len() <= GRAVES_MAX);
    }

    /// A life believed over shows itself.
    pub(crate) fn exhume(&mut self, tag: Tag) {
        if self.graves.remove(&tag).is_some() {
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
