//! Errands that other nodes run for this one: whom to ask, in which order, and when to ask another one too.
//!
//! A node that is known to be down is not asked at all, although the session to it may still seem to live: nobody waits for it.
//! What only reads is asked of the next node as well where the one before is silent for twice as long as it usually takes.

use std::time::Duration;

use tokio::{
    sync::mpsc,
    time::{Instant, timeout_at},
};

use super::{
    context::Node,
    forward::{Heard, Kind},
};
use crate::{
    core::{
        message::{Answer, Errand, Message},
        reply::Refusal,
    },
    names::NodeName,
};

/// One errand that is run for this node, on one of these nodes or on all of them.
pub struct Asking<'a, E> {
    node: &'a Node,
    kind: Kind,
    /// The errand as each node is to run it.
    errand: E,
    deadline: Instant,
    /// Whom to ask, the next one last.
    left: Vec<NodeName>,
    /// The questions that were sent and neither answered nor lost, and to whom.
    under_way: Vec<(u64, NodeName)>,
    sender: mpsc::Sender<Heard>,
    answers: mpsc::Receiver<Heard>,
}

/// Nobody answered yet.
enum Silence {
    /// For longer than is usual.
    Long,
    /// For as long as the errand may take.
    TooLong,
}

impl<'a, E: Fn(&NodeName) -> Errand> Asking<'a, E> {
    /// Nobody is asked yet. The first of the nodes is the one to ask first.
    pub fn new(node: &'a Node, mut nodes: Vec<NodeName>, kind: Kind, errand: E) -> Self {
        // Each question is answered or lost once at most: there is room for all of that.
        let (sender, answers) = mpsc::channel(nodes.len().max(1));
        nodes.reverse();
        Self {
            node,
            kind,
            errand,
            deadline: Instant::now() + node.inner().timeout,
            left: nodes,
            under_way: Vec::new(),
            sender,
            answers,
        }
    }

    /// Has it run by the first node that takes it. If it may be run twice it is given to the next one too where that one is lost
    /// or does not answer as soon as usual. Gives who answered, if anybody did.
    pub async fn run(mut self) -> (Option<NodeName>, Answer) {
        let mut refusal = self.unreachable();
        loop {
            let patience = self.ask_next();
            if self.under_way.is_empty() {
                return (None, Answer::Refused(refusal));
            }
            let may_ask_another = self.kind.is_repeatable() && !self.left.is_empty();
            match self.hear(patience.filter(|_| may_ask_another)).await {
                // Another one may be able to look through its keys.
                Ok((_, Some(Answer::Refused(refused)))) if self.kind == Kind::Scan => {
                    refusal = refused;
                }
                Ok((by, Some(answer))) => return (Some(by), answer),
                Ok((lost, None)) if self.kind.is_repeatable() => {
                    refusal = Refusal::Unavailable(format!("{lost} was lost before it answered"));
                }
                Ok((lost, None)) => {
                    let refusal = Refusal::Timeout(format!(
                        "{lost} was lost before it answered; the write may take effect"
                    ));
                    return (None, Answer::Refused(refusal));
                }
                Err(Silence::Long) => {}
                Err(Silence::TooLong) => return (None, Answer::Refused(self.too_late())),
            }
        }
    }

    /// Has all of the nodes run it. Ends when each has answered or is lost, or when those that are silent for longer than they usually
    /// are need not be waited for.
    pub async fn survey(mut self, mut is_enough: impl FnMut(Option<Answer>) -> bool) {
        let mut patience = Duration::ZERO;
        while let Some(usual) = self.ask_next() {
            patience = patience.max(usual);
        }
        let mut has_enough = is_enough(None);
        while !self.under_way.is_empty() {
            match self.hear(has_enough.then_some(patience)).await {
                Ok((_, answer)) => has_enough = is_enough(answer),
                Err(Silence::Long | Silence::TooLong) => return,
            }
        }
    }

    /// Asks the next node that is believed to live and takes the question. Gives how long it deserves to be waited for.
    fn ask_next(&mut self) -> Option<Duration> {
        let inner = self.node.inner();
        let neighbours = inner.neighbours();
        while let Some(to) = self.left.pop() {
            if neighbours.trusts(&to) && self.ask(&to) {
                return Some(inner.forwards.patience(to, self.kind));
            }
        }
        None
    }

    /// Sends the errand. False: nothing was sent.
    fn ask(&mut self, to: &NodeName) -> bool {
        let inner = self.node.inner();
        let expected = inner.forwards.expect(to, self.kind, self.sender.clone());
        let Some((id, session)) = expected else {
            return false;
        };
        let within = self.deadline.saturating_duration_since(Instant::now());
        let message = Message::Forward {
            id,
            within_ms: u32::try_from(within.as_millis()).unwrap_or(u32::MAX),
            errand: (self.errand)(to),
        };
        if let Err(error) = inner.outbound.send(session, message) {
            tracing::debug!(%to, %error, "a request was not forwarded");
            inner.forwards.forget(id);
            return false;
        }
        self.under_way.push((id, to.clone()));
        true
    }

    /// Waits for an answer, or for the patience or the time to be over.
    async fn hear(&mut self, patience: Option<Duration>) -> Result<Heard, Silence> {
        let until = patience.map_or(self.deadline, |patience| {
            self.deadline.min(Instant::now() + patience)
        });
        loop {
            let heard = match timeout_at(until, self.answers.recv()).await {
                Ok(heard) => heard.expect("a sender is held here: the channel is open"),
                Err(_) if until < self.deadline => return Err(Silence::Long),
                Err(_) => return Err(Silence::TooLong),
            };
            let is_heard = |(_, node): &(u64, NodeName)| *node == heard.0;
            // A session may end while a question is put on it that then is not sent: that is no loss of one that was.
            if let Some(place) = self.under_way.iter().position(is_heard) {
                self.under_way.swap_remove(place);
                return Ok(heard);
            }
        }
    }

    fn unreachable(&self) -> Refusal {
        let nodes: Vec<&str> = self.left.iter().rev().map(NodeName::as_str).collect();
        Refusal::Unavailable(format!(
            "no replica of the key can be reached from here (of {})",
            nodes.join(", ")
        ))
    }

    fn too_late(&self) -> Refusal {
        let silent = self.under_way.iter();
        let silent: Vec<&str> = silent.map(|(_, node)| node.as_str()).collect();
        let what_of_it = match self.kind {
            Kind::Write => "; the write may take effect",
            Kind::Read | Kind::FarRead | Kind::Count | Kind::Scan => "",
        };
        Refusal::Timeout(format!(
            "no answer within {:?} from {}{what_of_it}",
            self.node.inner().timeout,
            silent.join(", ")
        ))
    }
}

impl<E> Drop for Asking<'_, E> {
    /// What nobody waits for takes no room: an answer that is late may never come.
    fn drop(&mut self) {
        let forwards = &self.node.inner().forwards;
        self.under_way
            .iter()
            .for_each(|(id, _)| forwards.forget(*id));
    }
}
