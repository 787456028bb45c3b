//! Requests on keys that other hosts hold, by the driver's rules: the first replica that is believed to live and can be reached is asked,
//! what it does not answer is asked of the next one if it only reads, and nobody hands on what was handed to him.

use std::collections::BTreeMap;

use node::{
    core::{
        RequestId,
        message::{Answer, Errand, Message, SessionId},
        op::Action,
        reply::{Refusal, Reply},
    },
    placement::Position,
};

use super::{Asked, Dialling, Host, TIMEOUT, requests::ERRANDS};
use crate::sim::{agenda::Due, desk::Desk};

/// What a process has handed to others, and what was handed to it.
#[derive(Debug, Default)]
pub struct Forwards {
    next: u64,
    waiting: BTreeMap<u64, Waiting>,
    /// Where the answer to each errand goes, and under which number.
    errands: BTreeMap<RequestId, (SessionId, u64)>,
}

/// A request that another host was asked to carry out.
#[derive(Debug)]
struct Waiting {
    asked: Asked,
    session: SessionId,
    /// Hosts that were not asked yet, the best last.
    others: Vec<usize>,
}

impl Forwards {
    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }
}

impl Host {
    /// Has a replica of a key carry out a request.
    pub(super) fn forward(&mut self, asked: Asked, desk: &mut Desk) {
        let partition = Position::of(&asked.op.key).partition;
        let region = self.placement.region(&self.region);
        let preferred = region
            .into_iter()
            .flat_map(|region| region.preferred_nodes(partition));
        let hosts = 0..desk.plan.regions.len();
        let mut others: Vec<usize> = preferred
            .filter_map(|node| hosts.clone().find(|host| super::name(*host) == *node))
            .collect();
        others.reverse();
        self.forward_to(asked, others, desk);
    }

    fn forward_to(&mut self, asked: Asked, mut others: Vec<usize>, desk: &mut Desk) {
        let trusted = self.trusted();
        let sent = std::iter::from_fn(|| others.pop()).find_map(|peer| {
            let is_trusted = trusted
                .as_ref()
                .is_none_or(|trusted| trusted.contains(&super::name(peer)));
            let Dialling::Up(session) = self.process.as_ref()?.dialling[peer] else {
                return None;
            };
            if !is_trusted {
                return None;
            }
            // Sometimes its session has no room.
            (!desk.dice.chance(desk.plan.unsent)).then_some(session)
        });
        let Some(process) = &mut self.process else {
            return;
        };
        let Some(session) = sent else {
            let nobody = Refusal::Unavailable("no replica of the key can be reached".to_owned());
            return self.give(asked.id, nobody.into(), desk);
        };
        let id = process.forwards.number();
        let message = Message::Forward {
            id,
            within_ms: TIMEOUT.as_millis() as u32,
            errand: Errand::Ops(vec![asked.op.clone()]),
        };
        let waiting = Waiting {
            asked,
            session,
            others,
        };
        process.forwards.waiting.insert(id, waiting);
        desk.network
            .send(session, 0, message, desk.now, &mut desk.agenda);
        self.due_in(desk, TIMEOUT, Due::ForwardTimeout(id));
    }

    /// Another host hands on a request.
    pub(super) fn run_errand(
        &mut self,
        session: SessionId,
        id: u64,
        errand: Errand,
        desk: &mut Desk,
    ) {
        let Errand::Ops(ops) = errand else { return };
        let wall_ms = self.clock.wall_ms(desk.now);
        for op in ops {
            let Some(process) = &mut self.process else {
                return;
            };
            let number = RequestId(ERRANDS + process.forwards.number());
            process.forwards.errands.insert(number, (session, id));
            let asked = Asked {
                id: number,
                op,
                wall_ms,
                is_behind: false,
            };
            self.take_in(asked, desk);
        }
    }

    /// What came of an errand goes back to who handed it on.
    pub(super) fn give_back(&mut self, id: RequestId, reply: Reply, desk: &mut Desk) {
        let process = self.process.as_mut();
        let origin = process.and_then(|process| process.forwards.errands.remove(&id));
        let Some((session, id)) = origin else { return };
        let answer = Answer::Replies(vec![reply]);
        let message = Message::Forwarded { id, answer };
        desk.network
            .send(session, 1, message, desk.now, &mut desk.agenda);
    }

    /// What came of a request that was handed on.
    pub(super) fn forwarded(&mut self, id: u64, answer: Answer, desk: &mut Desk) {
        let Some(waiting) = self.take_waiting(id) else {
            return;
        };
        let reply = match answer {
            Answer::Replies(mut replies) => replies.pop(),
            Answer::Refused(refusal) => Some(refusal.into()),
            Answer::Counts(_) | Answer::Page { .. } => None,
        };
        if let Some(reply) = reply {
            self.give(waiting.asked.id, reply, desk);
        }
    }

    /// Another host does not answer in time.
    pub(super) fn forward_timeout(&mut self, id: u64, desk: &mut Desk) {
        if let Some(waiting) = self.take_waiting(id) {
            self.give(waiting.asked.id, unanswered(), desk);
        }
    }

    /// A session is gone, and with it the answers that were to come on it.
    pub(super) fn forwards_lost(&mut self, session: SessionId, desk: &mut Desk) {
        let Some(process) = &mut self.process else {
            return;
        };
        let waiting = std::mem::take(&mut process.forwards.waiting);
        let (lost, kept) = waiting
            .into_iter()
            .partition(|(_, waiting)| waiting.session == session);
        process.forwards.waiting = kept;
        let lost: BTreeMap<u64, Waiting> = lost;
        for waiting in lost.into_values() {
            if matches!(waiting.asked.op.action, Action::Read(_)) {
                self.forward_to(waiting.asked, waiting.others, desk);
            } else {
                self.give(waiting.asked.id, unanswered(), desk);
            }
        }
    }

    fn take_waiting(&mut self, id: u64) -> Option<Waiting> {
        self.process.as_mut()?.forwards.waiting.remove(&id)
    }
}

fn unanswered() -> Reply {
    Refusal::Timeout("another node was asked; a write may take effect".to_owned()).into()
}
