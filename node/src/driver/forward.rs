//! Requests on keys that other nodes hold: handed to one of them, with what is left of their time.
//!
//! ```text
//!   submit ─▶ held here? ─ yes ─▶ shards
//!                └─ no ─▶ the first trusted replica ─▶ Forward(id, time left, errand) ─▶ that node's own submit
//!                              ▲ lost, or silent for long, and the command may be done twice? ─┐    └─▶ Forwarded(id, answer)
//!                              └───────────────────────────────────────────────────────────────┘
//! ```
//! This is who waits for which answer, and how others are answered; who is asked when is in [`errand`](super::errand).
//!
//! A node that is forwarded to answers for itself and forwards no further: two nodes that see different members would hand a
//! request to and fro. What was sent and not answered may have taken effect; only reads are handed to another node then. A node
//! that is known to be down is not asked at all, although the session to it may still seem to live: nobody waits for it.

use std::{
    collections::{BTreeMap, HashMap}, // the map is looked up, never iterated in an order that matters
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{Semaphore, mpsc},
    time::Instant,
};

use super::neighbours::Neighbours;
use crate::{
    core::{
        message::{Answer, SessionId},
        op::{Action, Op},
        reply::{Refusal, Reply},
        usual::Usual,
    },
    level::Level,
    names::NodeName,
    placement::Partition,
};

/// What is under way to other nodes and from them.
#[derive(Debug)]
pub struct Forwards {
    waiting: Mutex<Waiting>,
    /// Errands of other nodes that this one runs.
    pub(super) serving: Arc<Semaphore>,
}

#[derive(Debug, Default)]
struct Waiting {
    next: u64,
    /// The sessions to other nodes.
    sessions: BTreeMap<NodeName, SessionId>,
    answers: HashMap<u64, Waiter>,
    /// How long each node takes over each kind of errand.
    usual: BTreeMap<(NodeName, Kind), Usual>,
}

/// Who waits for a node's answer.
#[derive(Debug)]
struct Waiter {
    of: NodeName,
    session: SessionId,
    since: Instant,
    kind: Kind,
    answer: mpsc::Sender<Heard>,
}

/// What came of a question to a node: its answer, or `None` if there will be none.
pub(super) type Heard = (NodeName, Option<Answer>);

/// Errands that take about as long as each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Something is written: it is not known to be safe to do it twice.
    Write,
    /// Reads that wait for no other region.
    Read,
    /// Reads that do.
    FarRead,
    /// Keys are counted.
    Count,
    /// Keys are looked through.
    Scan,
}

impl Kind {
    /// Of these operations.
    pub fn of(ops: &[Op]) -> Self {
        let is_read = |op: &Op| matches!(op.action, Action::Read(_));
        let is_near = |op: &Op| matches!(op.level, Level::Replicas(_) | Level::LocalQuorum);
        if !ops.iter().all(is_read) {
            Self::Write
        } else if ops.iter().all(is_near) {
            Self::Read
        } else {
            Self::FarRead
        }
    }

    /// Whether running it twice is no more than running it once.
    pub const fn is_repeatable(self) -> bool {
        !matches!(self, Self::Write)
    }
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
        let lost = |_: &u64, waiter: &mut Waiter| waiter.session == session;
        for (_, waiter) in waiting.answers.extract_if(lost) {
            waiter.hears(None);
        }
    }

    /// An answer came.
    pub fn answered(&self, id: u64, answer: Answer) {
        let mut waiting = self.lock();
        // Whoever asked may have stopped waiting.
        let Some(waiter) = waiting.answers.remove(&id) else {
            return;
        };
        let usual = waiting.usual.entry((waiter.of.clone(), waiter.kind));
        usual.or_default().note(waiter.since.elapsed());
        waiter.hears(Some(answer));
    }

    /// A question is about to leave: its number and its session, if there is one to this node and room to wait.
    pub(super) fn expect(
        &self,
        of: &NodeName,
        kind: Kind,
        answer: mpsc::Sender<Heard>,
    ) -> Option<(u64, SessionId)> {
        let mut waiting = self.lock();
        let session = *waiting.sessions.get(of)?;
        if waiting.answers.len() >= WAITING_MAX {
            return None;
        }
        let id = waiting.next;
        waiting.next += 1;
        let waiter = Waiter {
            of: of.clone(),
            session,
            since: Instant::now(),
            kind,
            answer,
        };
        waiting.answers.insert(id, waiter);
        Some((id, session))
    }

    /// Nobody waits for this one any more.
    pub(super) fn forget(&self, id: u64) {
        self.lock().answers.remove(&id);
    }

    /// How long a node is waited for before another one is asked too.
    pub(super) fn patience(&self, with: NodeName, over: Kind) -> Duration {
        let usual = self.lock().usual.get(&(with, over)).copied();
        usual.unwrap_or_default().patience()
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

/// Where keys are looked through. Not at a replica that lacks writes, while there is another one.
pub fn walked_at(neighbours: &Neighbours, partition: Partition) -> Place {
    if neighbours.is_short() {
        let replicas = neighbours.replicas(partition).into_iter();
        let whole = replicas
            .filter(|node| neighbours.is_other(node))
            .filter(|node| neighbours.trusts(node) && !neighbours.lacks_writes(node));
        let whole: Vec<NodeName> = whole.collect();
        if !whole.is_empty() {
            return Place::There(whole);
        }
    }
    place(neighbours, partition)
}

impl Waiter {
    fn hears(self, answer: Option<Answer>) {
        // Whoever asked may have stopped waiting; there is room for every answer.
        let _ = self.answer.try_send((self.of, answer));
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

/// Requests that wait for other nodes, at most.
const WAITING_MAX: usize = 16_384;
/// Errands of other nodes that run at the same time, at most.
const SERVING_MAX: usize = 4_096;

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::core::op::{Read, Write};

    fn op(action: Action) -> Op {
        let (key, level) = (Bytes::from_static(b"k"), Level::default());
        Op { key, action, level }
    }

    #[test]
    fn only_what_writes_nothing_is_run_a_second_time() {
        let read = || op(Action::Read(Read::Get));
        let write = || op(Action::Write(Write::IncrBy { by: 1 }));
        assert_eq!(Kind::of(&[read(), read()]), Kind::Read);
        assert_eq!(Kind::of(&[write()]), Kind::Write);
        assert_eq!(Kind::of(&[read(), write()]), Kind::Write);
        let far = Op {
            level: Level::Quorum,
            ..read()
        };
        assert_eq!(Kind::of(&[read(), far]), Kind::FarRead);
        assert!(Kind::Count.is_repeatable() && Kind::Scan.is_repeatable());
        assert!(!Kind::Write.is_repeatable());
    }

    fn name(text: &str) -> NodeName {
        text.parse().expect("a name of letters and a number")
    }

    #[tokio::test]
    async fn who_waits_hears_of_an_answer_or_of_the_end_of_its_session() {
        let forwards = Forwards::default();
        let (sender, mut heard) = mpsc::channel(2);
        let expect = |of| forwards.expect(&name(of), Kind::Read, sender.clone());
        assert!(expect("us-2").is_none(), "there is no session");
        forwards.met(name("us-2"), SessionId(2));
        forwards.met(name("us-3"), SessionId(3));
        let (first, _) = expect("us-2").expect("there is a session");
        expect("us-3").expect("there is a session");
        forwards.lost(SessionId(3));
        assert_eq!(heard.recv().await, Some((name("us-3"), None)));
        let counts = || Answer::Counts(Vec::new());
        forwards.answered(first, counts());
        assert_eq!(heard.recv().await, Some((name("us-2"), Some(counts()))));
        assert!(expect("us-3").is_none(), "its session is gone");
    }

    #[test]
    fn what_nobody_waits_for_takes_no_room() {
        let forwards = Forwards::default();
        forwards.met(name("us-2"), SessionId(2));
        let (sender, _heard) = mpsc::channel(1);
        let expect = || forwards.expect(&name("us-2"), Kind::Write, sender.clone());
        let ids: Vec<u64> = (0..WAITING_MAX)
            .map(|_| expect().expect("there is room").0)
            .collect();
        assert!(expect().is_none());
        ids.into_iter().for_each(|id| forwards.forget(id));
        assert!(expect().is_some());
    }
}
