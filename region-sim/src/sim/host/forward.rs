//! Requests on keys that other hosts hold. Whom to ask and when to ask another one too is the node's own to say; here questions are put
//! on sessions, time passes, and whoever waits is told.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use node::{
    core::{
        RequestId,
        message::{Answer, Errand, Message, SessionId},
        node::{ErrandId, Errands, Kind, Output, Place, Plan, Topology},
        reply::{Refusal, Reply},
    },
    placement::Partition,
};

use super::{Asked, Host, TIMEOUT, requests::ERRANDS};
use crate::sim::{agenda::Due, desk::Desk};

/// What a process has handed to others, and what was handed to it.
#[derive(Debug, Default)]
pub struct Forwards {
    errands: Errands,
    /// Which request of a client each errand is about.
    waiting: BTreeMap<ErrandId, RequestId>,
    /// Where the answer to each errand of another host goes, and under which number.
    serving: BTreeMap<RequestId, (SessionId, u64)>,
    served: u64,
}

impl Host {
    /// A request on a key is carried out here, or by a replica of the key.
    pub(super) fn route(&mut self, asked: Asked, desk: &mut Desk) {
        let topology = self.current_topology(desk);
        match topology.place(Partition::of(&asked.op.key)) {
            Place::Here => self.take_in(asked, desk),
            Place::There(nodes) => {
                let plan = Plan {
                    nodes,
                    kind: Kind::of(std::slice::from_ref(&asked.op)),
                    errand: Errand::Ops(vec![asked.op]),
                    within: TIMEOUT,
                    walks_by: None,
                };
                self.change_errands(desk, |forwards, topology, now, out| {
                    let errand = forwards.errands.begin(plan, topology, now, out);
                    forwards.waiting.insert(errand, asked.id);
                });
            }
        }
    }

    /// What its process was told of that, and is told now.
    fn current_topology(&mut self, desk: &Desk) -> Arc<Topology> {
        let topology = self.topology(desk);
        match &mut self.process {
            Some(process) => {
                process.topology.tell(topology);
                process.topology.current()
            }
            None => Arc::new(topology),
        }
    }

    /// Who holds what around this host, and whom it believes to live: everybody, where hosts do not gossip.
    pub(super) fn topology(&self, desk: &Desk) -> Topology {
        let hosts = 0..desk.plan.regions.len();
        let others = hosts.filter(|host| *host != self.index).map(super::name);
        // Before the gossip has said anything nobody is.
        let everybody = || Arc::new(others.collect::<BTreeSet<_>>());
        let is_told = desk.plan.gossip_interval.is_some();
        let trusted = self.trusted().or_else(|| (!is_told).then(everybody));
        let process = self.process.as_ref();
        let met = process.map(|process| process.sessions.values());
        let short = met.into_iter().flatten();
        let short = short.filter(|met| met.shortage.is_of_replica());
        Topology {
            node: self.name.clone(),
            region: self.region.clone(),
            placement: self.placement.clone(),
            trusted: trusted.unwrap_or_default(),
            is_short: self.is_short(),
            short: Arc::new(short.map(|met| met.node.clone()).collect()),
            crowded: None,
        }
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
            process.forwards.served += 1;
            let number = RequestId(ERRANDS + process.forwards.served);
            process.forwards.serving.insert(number, (session, id));
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
        let origin = process.and_then(|process| process.forwards.serving.remove(&id));
        let Some((session, id)) = origin else { return };
        let answer = Answer::Replies(vec![reply]);
        let message = Message::Forwarded { id, answer };
        desk.network
            .send(session, 1, message, desk.now, &mut desk.agenda);
    }

    /// What came of a request that was handed on.
    pub(super) fn forwarded(&mut self, question: u64, answer: Answer, desk: &mut Desk) {
        self.change_errands(desk, |forwards, topology, now, out| {
            forwards
                .errands
                .answered(question, answer, topology, now, out);
        });
    }

    /// An errand wanted to be woken.
    pub(super) fn wake_errand(&mut self, errand: ErrandId, desk: &mut Desk) {
        self.change_errands(desk, |forwards, topology, now, out| {
            forwards.errands.wake(errand, topology, now, out);
        });
    }

    /// A session is gone, and with it the answers that were to come on it.
    pub(super) fn forwards_lost(&mut self, session: SessionId, desk: &mut Desk) {
        self.change_errands(desk, |forwards, topology, now, out| {
            forwards.errands.lost(session, topology, now, out);
        });
    }

    fn change_errands(
        &mut self,
        desk: &mut Desk,
        change: impl FnOnce(&mut Forwards, &Topology, Duration, &mut Vec<Output>),
    ) {
        let topology = self.current_topology(desk);
        let Some(process) = &mut self.process else {
            return;
        };
        let mut outputs = Vec::new();
        change(&mut process.forwards, &topology, desk.now, &mut outputs);
        for output in outputs {
            self.perform(output, desk);
        }
    }

    fn perform(&mut self, output: Output, desk: &mut Desk) {
        match output {
            // Sometimes its session has no room.
            Output::Send { question, .. } if desk.dice.chance(desk.plan.unsent) => {
                self.change_errands(desk, |forwards, topology, now, out| {
                    forwards.errands.unsent(question, topology, now, out);
                });
            }
            Output::Send {
                question,
                session,
                request,
            } => {
                let message = request.into_message();
                desk.network
                    .send(session, 0, message, desk.now, &mut desk.agenda);
                self.change_errands(desk, |forwards, topology, now, out| {
                    forwards.errands.sent(question, topology, now, out);
                });
            }
            Output::Due { errand, at } => {
                let pause = at.saturating_sub(desk.now);
                self.due_in(desk, pause, Due::Errand(errand));
            }
            Output::Done { errand, answer, .. } => self.end_errand(errand, answer, desk),
            Output::Counted { .. } => {}
        }
    }

    fn end_errand(&mut self, errand: ErrandId, answer: Answer, desk: &mut Desk) {
        let process = self.process.as_mut();
        let waiting = process.and_then(|process| process.forwards.waiting.remove(&errand));
        let Some(id) = waiting else { return };
        let reply = match answer {
            Answer::Replies(mut replies) => replies.pop(),
            Answer::Refused(refusal) => Some(refusal.into()),
            Answer::Counts(_) | Answer::Page { .. } => None,
        };
        let nothing = || Refusal::Unavailable("another node answered nothing".to_owned()).into();
        self.give(id, reply.unwrap_or_else(nothing), desk);
    }

    /// A session to another host came up.
    pub(super) fn forwards_met(&mut self, peer: usize, session: SessionId) {
        if let Some(process) = &mut self.process {
            process.forwards.errands.met(super::name(peer), session);
        }
    }
}
