//! Errands that other nodes run for this one: questions are put on sessions, timers run, and whoever waits is told.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{oneshot, watch},
    time::{Instant, sleep_until},
};

use super::{
    context::Node,
    forward::{Outcome, Waiter, no_answer},
};
use crate::{
    core::{
        message::{Answer, Errand, SessionId},
        node::{Counts, ErrandId, Errands, Kind, Output, Plan, Topology},
    },
    names::NodeName,
};

/// An errand that is waited for. What nobody waits for takes no room.
struct Awaited<'a> {
    node: &'a Node,
    errand: ErrandId,
    outcome: oneshot::Receiver<Outcome>,
    due: watch::Receiver<Duration>,
}

impl Node {
    /// A session to a node came up.
    pub(super) fn errands_met(&self, node: NodeName, session: SessionId) {
        self.inner().forwards.lock().errands.met(node, session);
    }

    /// A session ended.
    pub(super) fn errands_lost(&self, session: SessionId) {
        self.change_errands(|errands, topology, now, out| {
            errands.lost(session, topology, now, out);
        });
    }

    /// A node answered a question.
    pub(super) fn errand_answered(&self, question: u64, answer: Answer) {
        self.change_errands(|errands, topology, now, out| {
            errands.answered(question, answer, topology, now, out);
        });
    }

    /// Has one of these nodes run an errand, the first one first. Gives who answered, if anybody did. A walk says by which topology it
    /// goes on.
    pub(super) async fn run_elsewhere(
        &self,
        nodes: Vec<NodeName>,
        kind: Kind,
        errand: Errand,
        walks_by: Option<Arc<Topology>>,
    ) -> (Option<NodeName>, Answer) {
        let within = self.inner().timeout;
        let plan = Plan {
            nodes,
            kind,
            errand,
            within,
            walks_by,
        };
        let begin = |errands: &mut Errands, topology: &Topology, now, out: &mut Vec<Output>| {
            errands.begin(plan, topology, now, out)
        };
        match self.begin_errand(begin).outcome().await {
            Some(Outcome::Answered(by, answer)) => (by, answer),
            Some(Outcome::Counted(_)) | None => (None, Answer::Refused(no_answer())),
        }
    }

    /// Has these nodes count their keys, all of them.
    pub(super) async fn count_elsewhere(&self, nodes: Vec<NodeName>, counts: Counts) -> Counts {
        let within = self.inner().timeout;
        let begin = |errands: &mut Errands, topology: &Topology, now, out: &mut Vec<Output>| {
            errands.count((nodes, within), counts, topology, now, out)
        };
        match self.begin_errand(begin).outcome().await {
            Some(Outcome::Counted(counts)) => counts,
            Some(Outcome::Answered(..)) | None => Counts::default(),
        }
    }

    fn begin_errand(
        &self,
        begin: impl FnOnce(&mut Errands, &Topology, Duration, &mut Vec<Output>) -> ErrandId,
    ) -> Awaited<'_> {
        let (tell_outcome, outcome) = oneshot::channel();
        let (tell_due, due) = watch::channel(Duration::ZERO);
        let topology = self.inner().topology();
        let now = self.inner().clock.now().mono;
        let mut outputs = Vec::new();
        let (errand, sends) = {
            let mut waiting = self.inner().forwards.lock();
            let errand = begin(&mut waiting.errands, &topology, now, &mut outputs);
            let waiter = Waiter {
                outcome: tell_outcome,
                due: tell_due,
            };
            waiting.waiters.insert(errand, waiter);
            (errand, waiting.tell(outputs))
        };
        self.send_questions(sends);
        Awaited {
            node: self,
            errand,
            outcome,
            due,
        }
    }

    fn change_errands(
        &self,
        change: impl FnOnce(&mut Errands, &Topology, Duration, &mut Vec<Output>),
    ) {
        let topology = self.inner().topology();
        let now = self.inner().clock.now().mono;
        let mut outputs = Vec::new();
        let sends = {
            let mut waiting = self.inner().forwards.lock();
            change(&mut waiting.errands, &topology, now, &mut outputs);
            waiting.tell(outputs)
        };
        self.send_questions(sends);
    }

    /// Puts questions on their sessions. One that is not taken there goes to another node, as long as there is one.
    fn send_questions(&self, sends: Vec<Output>) {
        for send in sends {
            let Output::Send {
                question,
                session,
                request,
            } = send
            else {
                continue;
            };
            let sent = self.inner().outbound.send(session, request.into_message());
            if let Err(error) = &sent {
                tracing::debug!(?session, %error, "a request was not forwarded");
            }
            self.change_errands(|errands, topology, now, out| match sent {
                Ok(()) => errands.sent(question, topology, now, out),
                Err(_) => errands.unsent(question, topology, now, out),
            });
        }
    }
}

impl Awaited<'_> {
    /// Waits for it, and wakes it when it wants that.
    async fn outcome(mut self) -> Option<Outcome> {
        loop {
            let due = *self.due.borrow_and_update();
            let pause = due.saturating_sub(self.node.inner().clock.now().mono);
            tokio::select! {
                biased;
                outcome = &mut self.outcome => return outcome.ok(),
                changed = self.due.changed() => {
                    if changed.is_err() {
                        // It has ended: its outcome is there.
                        return (&mut self.outcome).await.ok();
                    }
                }
                () = sleep_until(Instant::now() + pause) => {
                    let errand = self.errand;
                    self.node.change_errands(|errands, topology, now, out| {
                        errands.wake(errand, topology, now, out);
                    });
                }
            }
        }
    }
}

impl Drop for Awaited<'_> {
    fn drop(&mut self) {
        let mut waiting = self.node.inner().forwards.lock();
        if waiting.waiters.remove(&self.errand).is_some() {
            waiting.errands.forget(self.errand);
        }
    }
}
