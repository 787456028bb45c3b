//! Errands that other nodes run for this one: whom to ask, in which order, when to ask another one too, and who waits for which answer.
//!
//! ```text
//!   begin ─▶ the first node that is trusted and has a session ─▶ Send(Forward) ─▶ answered ─▶ Done
//!                ▲ lost, unsent, or silent for long, and it may be run twice? ─┘
//! ```
//! A node that is forwarded to answers for itself and forwards no further: two nodes that see different members would hand a
//! request to and fro. What was sent and not answered may have taken effect; only reads are handed to another node then. A node
//! that is known to be down is not asked at all, although the session to it may still seem to live: nobody waits for it.
//! What only reads is asked of the next node as well where the one before is silent for twice as long as it usually takes.
//!
//! Every question ends: with its answer, with its session, with the errand's deadline, or because nobody waits for it any more.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use super::{Counts, Topology};
use crate::{
    core::{
        latency::LatencyEstimate,
        message::{Answer, Errand, Message, SessionId},
        mutant::{Mutant, is_on},
        op::{Action, Op},
        reply::Refusal,
    },
    level::Level,
    names::NodeName,
    placement::Position,
};

/// Errands that are under way.
#[derive(Debug, Default)]
pub struct Errands {
    next: u64,
    /// The sessions to other nodes.
    sessions: BTreeMap<NodeName, SessionId>,
    under_way: BTreeMap<ErrandId, UnderWay>,
    questions: BTreeMap<u64, Question>,
    /// How long each node takes over each kind of errand.
    usual: BTreeMap<(NodeName, Kind), LatencyEstimate>,
}

/// Names an errand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ErrandId(u64);

/// An errand, and who may run it.
#[derive(Debug)]
pub struct Plan {
    /// Any of these, the first one first.
    pub nodes: Vec<NodeName>,
    /// What kind it is of.
    pub kind: Kind,
    /// What is to be run.
    pub errand: Errand,
    /// How long whoever began it waits.
    pub within: Duration,
    /// Where keys are looked through: who holds what, as whoever goes on behind a run of partitions knows it.
    pub walks_by: Option<Arc<Topology>>,
}

/// What is to be done about errands.
#[derive(Debug)]
pub enum Output {
    /// This is sent on a session. [`Errands::sent`] is called with the question, or [`Errands::unsent`] where the session cannot take it.
    Send {
        question: u64,
        session: SessionId,
        request: Request,
    },
    /// An errand has ended: who answered, if anybody did, and what.
    Done {
        errand: ErrandId,
        by: Option<NodeName>,
        answer: Answer,
    },
    /// A count has ended.
    Counted { errand: ErrandId, counts: Counts },
    /// An errand wants [`Errands::wake`] then, since the process started, and not when it said before.
    Due { errand: ErrandId, at: Duration },
}

/// What a node is asked. It becomes a message where nobody waits for that: the errand may be large.
#[derive(Debug)]
pub struct Request {
    question: u64,
    within_ms: u32,
    errand: Arc<Errand>,
    /// Where keys are looked through, the end of the node's own run of partitions.
    upto: Option<u16>,
}

impl Request {
    /// The message that is sent.
    pub fn into_message(self) -> Message {
        let mut errand = Arc::unwrap_or_clone(self.errand);
        if let (Errand::Scan { upto, .. }, Some(end)) = (&mut errand, self.upto) {
            *upto = end;
        }
        Message::Forward {
            id: self.question,
            within_ms: self.within_ms,
            errand,
        }
    }
}

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
    const fn is_repeatable(self) -> bool {
        !matches!(self, Self::Write)
    }

    /// Whether another node may run it where one was lost that may have run it.
    fn survives_loss(self) -> bool {
        self.is_repeatable() || is_on(Mutant::ForwardedTwice)
    }

    /// Whether another node may run it besides one that is silent.
    fn is_hedged(self) -> bool {
        self.is_repeatable() || is_on(Mutant::WriteHedged)
    }
}

/// A question that is sent and neither answered nor lost.
#[derive(Debug)]
struct Question {
    errand: ErrandId,
    of: NodeName,
    session: SessionId,
    since: Duration,
    /// Whether its session has taken it. Until then it cannot have been lost with that.
    is_sent: bool,
    /// Whether its session has ended before that was said.
    is_lost: bool,
}

#[derive(Debug)]
struct UnderWay {
    kind: Kind,
    errand: Arc<Errand>,
    walks_by: Option<Arc<Topology>>,
    within: Duration,
    /// Since the process started.
    deadline: Duration,
    /// Whom to ask, the next one last.
    left: Vec<NodeName>,
    /// The questions that were sent and neither answered nor lost.
    asked: Vec<u64>,
    /// When somebody has been silent for longer than is usual, or the time is up.
    due: Duration,
    goal: Goal,
}

/// When an errand ends.
#[derive(Debug)]
enum Goal {
    /// With the first answer. Where nobody is left to ask, with this.
    First(Refusal),
    /// When each has answered or is lost; where all is counted, those that are silent for longer than this are not waited for.
    All(Counts, Duration),
}

impl Errands {
    /// A session to a node came up.
    pub fn met(&mut self, node: NodeName, session: SessionId) {
        self.sessions.insert(node, session);
    }

    /// A session ended: who waits for an answer on it will get none.
    pub fn lost(
        &mut self,
        session: SessionId,
        topology: &Topology,
        now: Duration,
        out: &mut Vec<Output>,
    ) {
        self.sessions.retain(|_, other| *other != session);
        let on_it = self.questions.iter_mut();
        let on_it = on_it.filter(|(_, question)| question.session == session);
        let lost = on_it.filter_map(|(number, question)| {
            question.is_lost = true;
            question.is_sent.then_some(*number)
        });
        for number in lost.collect::<Vec<_>>() {
            self.lose(number, topology, now, out);
        }
    }

    /// The session of a question has taken it.
    pub fn sent(&mut self, number: u64, topology: &Topology, now: Duration, out: &mut Vec<Output>) {
        let Some(question) = self.questions.get_mut(&number) else {
            return; // it is answered already
        };
        question.is_sent = true;
        if question.is_lost {
            self.lose(number, topology, now, out);
        }
    }

    /// There will be no answer to a question, and nobody knows whether it was heard.
    fn lose(&mut self, number: u64, topology: &Topology, now: Duration, out: &mut Vec<Output>) {
        let Some(question) = self.questions.remove(&number) else {
            return;
        };
        let Some(mut errand) = self.take_up(question.errand, number) else {
            return;
        };
        if let Goal::First(refusal) = &mut errand.goal {
            let lost = format!("{} was lost before it answered", question.of);
            if !errand.kind.survives_loss() {
                let refusal = Refusal::Timeout(format!("{lost}; the write may take effect"));
                let answer = Answer::Refused(refusal);
                return self.end(question.errand, errand, None, answer, out);
            }
            *refusal = Refusal::Unavailable(lost);
        }
        self.go_on(question.errand, errand, topology, now, out);
    }

    /// Has an errand run by the first node that takes it. If it may be run twice it is given to the next one too where that one is lost or
    /// does not answer as soon as usual. Ends with [`Output::Done`].
    pub fn begin(
        &mut self,
        plan: Plan,
        topology: &Topology,
        now: Duration,
        out: &mut Vec<Output>,
    ) -> ErrandId {
        let nodes: Vec<&str> = plan.nodes.iter().map(NodeName::as_str).collect();
        let unreachable = Refusal::Unavailable(format!(
            "no replica of the key can be reached from here (of {})",
            nodes.join(", ")
        ));
        let goal = Goal::First(unreachable);
        self.set_out(plan, goal, topology, now, out)
    }

    /// Has all of the nodes count their keys. Ends with [`Output::Counted`].
    pub fn count(
        &mut self,
        (nodes, within): (Vec<NodeName>, Duration),
        counts: Counts,
        topology: &Topology,
        now: Duration,
        out: &mut Vec<Output>,
    ) -> ErrandId {
        let plan = Plan {
            nodes,
            kind: Kind::Count,
            errand: Errand::Count,
            within,
            walks_by: None,
        };
        let goal = Goal::All(counts, Duration::ZERO);
        self.set_out(plan, goal, topology, now, out)
    }

    fn set_out(
        &mut self,
        plan: Plan,
        goal: Goal,
        topology: &Topology,
        now: Duration,
        out: &mut Vec<Output>,
    ) -> ErrandId {
        let id = ErrandId(self.number());
        let mut left = plan.nodes;
        left.reverse();
        let errand = UnderWay {
            kind: plan.kind,
            errand: Arc::new(plan.errand),
            walks_by: plan.walks_by,
            within: plan.within,
            deadline: now + plan.within,
            left,
            asked: Vec::new(),
            due: now,
            goal,
        };
        self.go_on(id, errand, topology, now, out);
        id
    }

    /// An answer came. Whoever asked may have stopped waiting.
    pub fn answered(
        &mut self,
        number: u64,
        answer: Answer,
        topology: &Topology,
        now: Duration,
        out: &mut Vec<Output>,
    ) {
        let Some(question) = self.questions.remove(&number) else {
            return;
        };
        let id = question.errand;
        let Some(mut errand) = self.take_up(id, number) else {
            return;
        };
        let usual = self.usual.entry((question.of.clone(), errand.kind));
        usual.or_default().note(now.saturating_sub(question.since));
        match &mut errand.goal {
            Goal::All(counts, _) => counts.add(answer),
            // Another one may be able to look through its keys.
            Goal::First(refusal) => match answer {
                Answer::Refused(refused) if errand.kind == Kind::Scan => *refusal = refused,
                answer => return self.end(id, errand, Some(question.of), answer, out),
            },
        }
        self.go_on(id, errand, topology, now, out);
    }

    /// A question was not sent: the next node is asked in the place of that one.
    pub fn unsent(
        &mut self,
        number: u64,
        topology: &Topology,
        now: Duration,
        out: &mut Vec<Output>,
    ) {
        let Some(question) = self.questions.remove(&number) else {
            return;
        };
        if let Some(errand) = self.take_up(question.errand, number) {
            self.go_on(question.errand, errand, topology, now, out);
        }
    }

    /// The time of an errand has come, if it has not ended.
    pub fn wake(
        &mut self,
        id: ErrandId,
        topology: &Topology,
        now: Duration,
        out: &mut Vec<Output>,
    ) {
        let Some(errand) = self.under_way.remove(&id) else {
            return;
        };
        if errand.due > now {
            return self.put_down(id, errand, out);
        }
        let is_over = errand.deadline <= now;
        match &errand.goal {
            Goal::First(_) if is_over => {
                let refusal = self.too_late(&errand);
                self.end(id, errand, None, Answer::Refused(refusal), out);
            }
            Goal::First(_) => self.go_on(id, errand, topology, now, out),
            Goal::All(..) => self.end_count(id, errand, out),
        }
    }

    /// Nobody waits for it any more: an answer that is late may never come.
    pub fn forget(&mut self, id: ErrandId) {
        if let Some(errand) = self.under_way.remove(&id) {
            self.drop_questions(&errand);
        }
    }

    /// How many questions are sent and neither answered nor lost.
    pub fn open_questions(&self) -> usize {
        self.questions.len()
    }

    /// Takes up an errand one of whose questions has come to its end.
    fn take_up(&mut self, id: ErrandId, number: u64) -> Option<UnderWay> {
        let mut errand = self.under_way.remove(&id)?;
        errand.asked.retain(|asked| *asked != number);
        Some(errand)
    }

    /// Asks whom it still takes, and puts the errand down until something is heard of it; ends it where nobody is left.
    fn go_on(
        &mut self,
        id: ErrandId,
        mut errand: UnderWay,
        topology: &Topology,
        now: Duration,
        out: &mut Vec<Output>,
    ) {
        let hedge_delay = match errand.goal {
            Goal::First(_) => self.ask_next(id, &mut errand, topology, now, out),
            Goal::All(..) => self.ask_all(id, &mut errand, topology, now, out),
        };
        let is_anybody_asked = !errand.asked.is_empty();
        match errand.goal {
            Goal::First(refusal) if !is_anybody_asked => {
                let (by, answer) = (None, Answer::Refused(refusal));
                out.push(Output::Done {
                    errand: id,
                    by,
                    answer,
                });
            }
            Goal::All(..) if !is_anybody_asked => self.end_count(id, errand, out),
            Goal::First(_) | Goal::All(..) => {
                debug_assert!(
                    errand
                        .asked
                        .iter()
                        .all(|asked| self.questions.contains_key(asked)),
                    "what an errand waits for is under way"
                );
                let due = hedge_delay.map_or(errand.deadline, |hedge_delay| now + hedge_delay);
                errand.due = due.min(errand.deadline);
                self.put_down(id, errand, out);
            }
        }
    }

    fn put_down(&mut self, errand: ErrandId, under_way: UnderWay, out: &mut Vec<Output>) {
        let at = under_way.due;
        out.push(Output::Due { errand, at });
        self.under_way.insert(errand, under_way);
    }

    /// Asks the next node that is believed to live and has a session. Gives how long it deserves to be waited for before another one is asked.
    fn ask_next(
        &mut self,
        id: ErrandId,
        errand: &mut UnderWay,
        topology: &Topology,
        now: Duration,
        out: &mut Vec<Output>,
    ) -> Option<Duration> {
        while let Some(to) = errand.left.pop() {
            if topology.trusts(&to) && self.ask(id, errand, &to, topology, now, out) {
                let may_ask_another = errand.kind.is_hedged() && !errand.left.is_empty();
                return may_ask_another.then(|| self.hedge_delay(to, errand.kind));
            }
        }
        None
    }

    /// Asks all that are left. Gives how long the slowest of those that were ever asked deserves to be waited for, where all is counted.
    fn ask_all(
        &mut self,
        id: ErrandId,
        errand: &mut UnderWay,
        topology: &Topology,
        now: Duration,
        out: &mut Vec<Output>,
    ) -> Option<Duration> {
        let mut longest = Duration::ZERO;
        while let Some(to) = errand.left.pop() {
            if topology.trusts(&to) && self.ask(id, errand, &to, topology, now, out) {
                longest = longest.max(self.hedge_delay(to, errand.kind));
            }
        }
        let Goal::All(counts, hedge_delay) = &mut errand.goal else {
            return None;
        };
        *hedge_delay = longest.max(*hedge_delay);
        counts.is_whole().then_some(*hedge_delay)
    }

    /// Puts the errand to a node. False: there is no session to it, or too many questions are open.
    fn ask(
        &mut self,
        id: ErrandId,
        errand: &mut UnderWay,
        to: &NodeName,
        topology: &Topology,
        now: Duration,
        out: &mut Vec<Output>,
    ) -> bool {
        let Some(&session) = self.sessions.get(to) else {
            return false;
        };
        if self.questions.len() >= QUESTIONS_MAX {
            return false;
        }
        debug_assert!(topology.node != *to, "nobody forwards to itself");
        let number = self.number();
        let question = Question {
            errand: id,
            of: to.clone(),
            session,
            since: now,
            is_sent: false,
            is_lost: false,
        };
        self.questions.insert(number, question);
        errand.asked.push(number);
        let within = errand.deadline.saturating_sub(now).as_millis();
        let request = Request {
            question: number,
            within_ms: u32::try_from(within).unwrap_or(u32::MAX),
            errand: Arc::clone(&errand.errand),
            upto: end_of_run(&errand.errand, to, errand.walks_by.as_deref()),
        };
        out.push(Output::Send {
            question: number,
            session,
            request,
        });
        true
    }

    fn end(
        &mut self,
        id: ErrandId,
        errand: UnderWay,
        by: Option<NodeName>,
        answer: Answer,
        out: &mut Vec<Output>,
    ) {
        self.drop_questions(&errand);
        out.push(Output::Done {
            errand: id,
            by,
            answer,
        });
    }

    fn end_count(&mut self, id: ErrandId, errand: UnderWay, out: &mut Vec<Output>) {
        self.drop_questions(&errand);
        if let Goal::All(counts, _) = errand.goal {
            out.push(Output::Counted { errand: id, counts });
        }
    }

    fn drop_questions(&mut self, errand: &UnderWay) {
        for number in &errand.asked {
            self.questions.remove(number);
        }
    }

    fn hedge_delay(&self, with: NodeName, over: Kind) -> Duration {
        let usual = self.usual.get(&(with, over)).copied();
        usual.unwrap_or_default().hedge_delay()
    }

    fn too_late(&self, errand: &UnderWay) -> Refusal {
        let silent = errand.asked.iter();
        let silent = silent.filter_map(|number| self.questions.get(number));
        let silent: Vec<&str> = silent.map(|question| question.of.as_str()).collect();
        let what_of_it = match errand.kind {
            Kind::Write => "; the write may take effect",
            Kind::Read | Kind::FarRead | Kind::Count | Kind::Scan => "",
        };
        Refusal::Timeout(format!(
            "no answer within {:?} from {}{what_of_it}",
            errand.within,
            silent.join(", ")
        ))
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }
}

/// Where keys are looked through: the end of a node's own run of partitions.
fn end_of_run(errand: &Errand, node: &NodeName, walks_by: Option<&Topology>) -> Option<u16> {
    let Errand::Scan { cursor, .. } = errand else {
        return None;
    };
    let from = Position::from_cursor(*cursor)?;
    Some(walks_by?.run_end(from.partition, Some(node)))
}

/// Questions that wait for other nodes, at most.
const QUESTIONS_MAX: usize = 16_384;

#[cfg(test)]
#[path = "errands_tests.rs"]
mod tests;
