//! Replicas that will not answer, and requests whose time is up.

use std::time::Duration;

use super::{Gates, Opened, Overdue, Waiting};
use crate::{
    core::{message::SessionId, op::Key, room::Room},
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

impl Gates {
    /// A session ended: who was asked on it will not answer. Others are asked at once; gives them, and the keys for which there
    /// are not enough left, with what waited there.
    pub fn lose(&mut self, session: SessionId) -> Lost {
        let mut lost = Lost::default();
        let gone = self.asks.lose(session);
        for gate in self.gates.values_mut() {
            gate.others.retain(|(_, other)| *other != session);
        }
        for (number, ask) in gone {
            if let Some(gate) = self.gates.get_mut(&ask.key) {
                gate.asks.retain(|other| *other != number);
            }
            self.replace(&ask.key, &ask.node, &mut lost);
        }
        lost
    }

    /// One that was asked is of no use: another one is asked in its place.
    pub fn give_up(&mut self, key: &Key, node: &NodeName) -> Lost {
        let mut lost = Lost::default();
        if let Some(gate) = self.gates.get_mut(key) {
            gate.forget(node, &mut self.asks);
        }
        self.replace(key, node, &mut lost);
        lost
    }

    fn replace(&mut self, key: &Key, node: &NodeName, lost: &mut Lost) {
        let Some(gate) = self.gates.get_mut(key) else {
            return;
        };
        let Some(at) = gate.asked.iter().position(|asked| asked == node) else {
            return;
        };
        gate.asked.swap_remove(at);
        if let Some((node, session)) = gate.others.pop_front() {
            gate.asked.push(node.clone());
            lost.instead.push((key.clone(), node, session));
        } else if gate.asked.len() < gate.needed {
            let Opened { covered, .. } = gate.end(&mut self.asks, &mut self.waiting);
            lost.failed.push((key.clone(), covered));
        }
    }

    /// A question cannot be answered. Gives what waited for it.
    pub fn fail(&mut self, key: &Key) -> Vec<Waiting> {
        let Some(gate) = self.gates.get_mut(key) else {
            return Vec::new();
        };
        let Opened { covered, .. } = gate.end(&mut self.asks, &mut self.waiting);
        covered
    }

    /// Requests whose time is up, taken from where they wait. Those that came later are never before those that came earlier.
    pub fn overdue(&mut self, now: Duration) -> Overdue {
        let mut overdue = Overdue::default();
        for (key, gate) in &mut self.gates {
            while let Some(waiting) = gate.queue.pop_front_if(|waiting| waiting.deadline <= now) {
                self.waiting -= Room::of(&waiting.op);
                overdue.queued.push(waiting);
            }
            if gate.covered.iter().any(|waiting| waiting.deadline <= now) {
                gate.asked
                    .iter()
                    .for_each(|silent| self.asks.missed(silent, now));
                let Opened { covered, .. } = gate.end(&mut self.asks, &mut self.waiting);
                overdue.covered.push((key.clone(), covered));
            }
        }
        overdue
    }
}
