//! Replicas that will not answer, and requests whose time is up.

use std::time::Duration;

use super::{Opened, QuorumReads, Waiting};
use crate::{
    core::{budget::Budget, message::SessionId, op::Key},
    names::NodeName,
};

/// What the end of a session means for those who wait.
#[derive(Debug, Default)]
pub struct Lost {
    /// To be asked in its place, by key.
    pub instead: Vec<(Key, NodeName, SessionId)>,
    /// Nobody is left to be asked.
    pub failed: Vec<(Key, Vec<Waiting>)>,
}

/// Requests whose time is up.
#[derive(Debug, Default)]
pub struct Overdue {
    /// A question was under way for them, which ends.
    pub covered: Vec<(Key, Vec<Waiting>)>,
    /// They waited behind others.
    pub queued: Vec<Waiting>,
}

impl QuorumReads {
    /// A session ended: who was asked on it will not answer. Others are asked at once; gives them, and the keys for which there
    /// are not enough left, with what waited there.
    pub fn lose(&mut self, session: SessionId) -> Lost {
        let mut lost = Lost::default();
        let gone = self.asks.lose(session);
        for read in self.quorum_reads.values_mut() {
            read.others.retain(|(_, other)| *other != session);
        }
        for (number, ask) in gone {
            if let Some(read) = self.quorum_reads.get_mut(&ask.key) {
                read.asks.retain(|other| *other != number);
            }
            self.replace(&ask.key, &ask.node, &mut lost);
        }
        lost
    }

    /// One that was asked is of no use: another one is asked in its place.
    pub fn give_up(&mut self, key: &Key, node: &NodeName) -> Lost {
        let mut lost = Lost::default();
        if let Some(read) = self.quorum_reads.get_mut(key) {
            read.forget(node, &mut self.asks);
        }
        self.replace(key, node, &mut lost);
        lost
    }

    fn replace(&mut self, key: &Key, node: &NodeName, lost: &mut Lost) {
        let Some(read) = self.quorum_reads.get_mut(key) else {
            return;
        };
        let Some(at) = read.asked.iter().position(|asked| asked == node) else {
            return;
        };
        read.asked.swap_remove(at);
        if let Some((node, session)) = read.others.pop_front() {
            read.asked.push(node.clone());
            lost.instead.push((key.clone(), node, session));
        } else if read.asked.len() < read.needed {
            let Opened { covered, .. } = read.end(&mut self.asks, &mut self.waiting);
            lost.failed.push((key.clone(), covered));
        }
    }

    /// A question cannot be answered. Gives what waited for it.
    pub fn fail(&mut self, key: &Key) -> Vec<Waiting> {
        let Some(read) = self.quorum_reads.get_mut(key) else {
            return Vec::new();
        };
        let Opened { covered, .. } = read.end(&mut self.asks, &mut self.waiting);
        covered
    }

    /// Requests whose time is up, taken from where they wait. Those that came later are never before those that came earlier.
    pub fn overdue(&mut self, now: Duration) -> Overdue {
        let mut overdue = Overdue::default();
        for (key, read) in &mut self.quorum_reads {
            while let Some(waiting) = read.queue.pop_front_if(|waiting| waiting.deadline <= now) {
                self.waiting -= Budget::of(&waiting.op);
                overdue.queued.push(waiting);
            }
            if read.covered.iter().any(|waiting| waiting.deadline <= now) {
                read.asked
                    .iter()
                    .for_each(|silent| self.asks.missed(silent, now));
                let Opened { covered, .. } = read.end(&mut self.asks, &mut self.waiting);
                overdue.covered.push((key.clone(), covered));
            }
        }
        overdue
    }
}
