//! Requests on keys that other nodes hold: handed to one of them, with what is left of their time.
//!
//! ```text
//!   submit ─▶ held here? ─ yes ─▶ shards
//!                └─ no ─▶ the first trusted replica ─▶ Forward(id, time left, errand) ─▶ that node's own submit
//!                              ▲ lost on the way, and the command may be done twice? ─┐    └─▶ Forwarded(id, answer)
//!                              └──────────────────────────────────────────────────────┘
//! ```
//! A node that is forwarded to answers for itself and forwards no further: two nodes that see different members would hand a
//! request to and fro. What was sent and not answered may have taken effect; only reads are handed to another node then.

use std::{
    collections::{BTreeMap, HashMap}, // the map is looked up, never iterated in an order that matters
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{Semaphore, oneshot},
    time::{Instant, timeout_at},
};

use super::{neighbours::Neighbours, node::Node};
use crate::{
    core::{
        message::{Answer, Errand, Message, SessionId},
        op::{Action, Op},
        reply::{Refusal, Reply},
    },
    names::NodeName,
    placement::Partition,
};

/// What is under way to other nodes and from them.
#[derive(Debug)]
pub struct Forwards {
    waiting: Mutex<Waiting>,
    /// Errands of other nodes that this one runs.
    serving: Arc<Semaphore>,
}

#[derive(Debug, Default)]
struct Waiting {
    next: u64,
    /// The sessions to other nodes.
    sessions: BTreeMap<NodeName, SessionId>,
    answers: HashMap<u64, (SessionId, oneshot::Sender<Answer>)>,
}

/// Where a request is carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// This node holds the key.
    Here,
    /// These nodes do, the one to ask first.
    There(Vec<NodeName>),
}

impl Default for Forwards {
    fn default() -> Self {
        Self {
            waiting: Mutex::default(),
            serving: Arc::new(Semaphore::new(SERVING_MAX)),
        }
    }
}

impl Forwards {
    /// A session to a node came up.
    pub fn met(&self, node: NodeName, session: SessionId) {
        self.lock().sessions.insert(node, session);
    }

    /// A session ended: who waits for an answer on it will get none.
    pub fn lost(&self, session: SessionId) {
        let mut waiting = self.lock();
        waiting.sessions.retain(|_, other| *other != session);
        waiting.answers.retain(|_, (other, _)| *other != session);
    }

    /// An answer came.
    pub fn answered(&self, id: u64, answer: Answer) {
        if let Some((_, waiting)) = self.lock().answers.remove(&id) {
            // Whoever asked may have stopped waiting.
            let _ = waiting.send(answer);
        }
    }

    /// Sends an errand. Fails with nothing sent.
    fn send(
        &self,
        node: &Node,
        to: &NodeName,
        errand: Errand,
        within: Duration,
    ) -> Option<oneshot::Receiver<Answer>> {
        let (answer, answered) = oneshot::channel();
        let (id, session) = {
            let mut waiting = self.lock();
            let session = *waiting.sessions.get(to)?;
            if waiting.answers.len() >= WAITING_MAX {
                return None;
            }
            let id = waiting.next;
            waiting.next += 1;
            waiting.answers.insert(id, (session, answer));
            (id, session)
        };
        let message = Message::Forward {
            id,
            within_ms: u32::try_from(within.as_millis()).unwrap_or(u32::MAX),
            errand,
        };
        if let Err(error) = node.inner().outbound.send(session, message) {
            tracing::debug!(%to, %error, "a request was not forwarded");
            self.lock().answers.remove(&id);
            return None;
        }
        Some(answered)
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // Every change is one call on a map: it is whole whatever panicked elsewhere.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where a key's requests are carried out.
pub fn place(neighbours: &Neighbours, partition: Partition) -> Place {
    if neighbours.holds(partition) {
        Place::Here
    } else {
        Place::There(neighbours.replicas(partition))
    }
}

/// Has another node run an errand: the first of them that takes it, and for an errand that may be run twice the next one where it
/// does not answer.
pub async fn run(node: &Node, mut nodes: Vec<NodeName>, errand: Errand) -> Answer {
    let deadline = Instant::now() + node.inner().timeout;
    let mut refusal = unreachable(&nodes);
    nodes.reverse();
    while let Some(to) = nodes.pop() {
        let within = deadline.saturating_duration_since(Instant::now());
        let sent = node
            .inner()
            .forwards
            .send(node, &to, errand.clone(), within);
        let Some(answered) = sent else { continue };
        match timeout_at(deadline, answered).await {
            Ok(Ok(answer)) => return answer,
            Ok(Err(_)) if is_repeatable(&errand) => {
                refusal = Refusal::Unavailable(format!("{to} was lost before it answered"));
            }
            Ok(Err(_)) => {
                return Answer::Refused(Refusal::Timeout(format!(
                    "{to} was lost before it answered; the write may take effect"
                )));
            }
            Err(_) => {
                return Answer::Refused(Refusal::Timeout(format!(
                    "{to} did not answer within {:?}; a write may take effect",
                    node.inner().timeout
                )));
            }
        }
    }
    Answer::Refused(refusal)
}

/// Runs another node's errand, and answers.
pub fn serve(node: &Node, session: SessionId, id: u64, within_ms: u32, errand: Errand) {
    let permit = Arc::clone(&node.inner().forwards.serving).try_acquire_owned();
    let Ok(permit) = permit else {
        let busy = Refusal::Busy(format!(
            "{} runs too many errands of other nodes",
            node.inner().name
        ));
        answer(node, session, id, Answer::Refused(busy));
        return;
    };
    let node = node.clone();
    tokio::spawn(async move {
        let _permit = permit;
        let deadline = Instant::now() + Duration::from_millis(within_ms.into());
        // An answer that comes too late is of no use to anybody.
        if let Ok(given) = timeout_at(deadline, node.run_here(errand)).await {
            answer(&node, session, id, given);
        }
    });
}

fn answer(node: &Node, session: SessionId, id: u64, answer: Answer) {
    let message = Message::Forwarded { id, answer };
    if let Err(error) = node.inner().outbound.send(session, message) {
        tracing::debug!(?session, %error, "an answer to a forwarded request was not sent");
        let refusal =
            Refusal::TooLarge("the answer is larger than one message between nodes".to_owned());
        let answer = Answer::Refused(refusal);
        // Where the session is gone this fails as well, and who asked hears of that.
        let _ = node
            .inner()
            .outbound
            .send(session, Message::Forwarded { id, answer });
    }
}

/// The replies that an answer to operations holds, as many as were asked for.
pub fn replies(answer: Answer, count: usize) -> Vec<Reply> {
    match answer {
        Answer::Replies(replies) if replies.len() == count => replies,
        Answer::Refused(refusal) => vec![refusal.into(); count],
        _ => vec![
            Refusal::Unavailable("another node answered something else".to_owned()).into();
            count
        ],
    }
}

fn unreachable(nodes: &[NodeName]) -> Refusal {
    let nodes: Vec<&str> = nodes.iter().map(NodeName::as_str).collect();
    Refusal::Unavailable(format!(
        "no replica of the key can be reached from here (of {})",
        nodes.join(", ")
    ))
}

/// Whether running it twice is no more than running it once.
fn is_repeatable(errand: &Errand) -> bool {
    match errand {
        Errand::Ops(ops) => ops.iter().all(|op| matches!(op.action, Action::Read(_))),
        Errand::Count | Errand::Scan { .. } => true,
    }
}

/// Whether an operation's reply may be large: it is forwarded alone.
pub fn is_large(op: &Op) -> bool {
    use crate::core::op::{Read, Write};
    match &op.action {
        Action::Read(read) => matches!(
            read,
            Read::Get
                | Read::GetOrNil
                | Read::GetRange { .. }
                | Read::Members
                | Read::ScanMembers { .. }
                | Read::RandomMembers { .. }
        ),
        Action::Write(write) => matches!(
            write,
            Write::Set { .. }
                | Write::Append { .. }
                | Write::SetRange { .. }
                | Write::GetDel
                | Write::GetEx { .. }
                | Write::Pop { .. }
        ),
    }
}

/// Requests that wait for other nodes, at most.
const WAITING_MAX: usize = 16_384;
/// Errands of other nodes that run at the same time, at most.
const SERVING_MAX: usize = 4_096;

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::{
        core::op::{Read, Write},
        level::Level,
    };

    fn op(action: Action) -> Op {
        let (key, level) = (Bytes::from_static(b"k"), Level::default());
        Op { key, action, level }
    }

    #[test]
    fn only_what_writes_nothing_is_run_a_second_time() {
        let read = || op(Action::Read(Read::Get));
        let write = || op(Action::Write(Write::IncrBy { by: 1 }));
        assert!(is_repeatable(&Errand::Ops(vec![read(), read()])));
        assert!(is_repeatable(&Errand::Count));
        assert!(!is_repeatable(&Errand::Ops(vec![write()])));
        assert!(!is_repeatable(&Errand::Ops(vec![read(), write()])));
    }
}
