//! Requests that other replicas are asked about before they are carried out.
//!
//! ```text
//!   read, or a write that depends on what is there
//!     ─▶ Compare(key, digest) to as many others as the level wants
//!          ─ equal ──────────────────────────────────────────────────────────▶ ┐
//!          ─ differs ─▶ what is lacking here is joined, what is lacking there  ├─▶ carried out here
//!                       is sent (Mend) and durable there (Mended) ───────────▶ ┘
//!                       page by page, where the key has many rows
//! ```
//! So the copy here is at least what enough replicas knew when they were asked. What reads are answered with is taken from it at that
//! moment, or fixed at it where it is much ([`fixed`](super::fixed)), and is on enough of them before it is given: another read that begins
//! later sees it as well. What came here meanwhile may be on no other replica, so it is not shown yet.
//!
//! What only asks whether a key is there, or how many rows it has, waits for the same comparison: which rows are there is what the rows
//! of both copies say together, and the heads alone do not. A request ends when its time is up; what it had brought together by then stays so,
//! and the next one goes on from there ([`progress`](super::progress)).
//!
//! A question also waits for this shard's own writes on the key that acknowledgements may still correct: what others know would stand
//! over them, although the same connection may have made them after it.
//!
//! A key with a question under way has a *quorum read*: what comes for it meanwhile waits its turn behind it, or the commands of one
//! connection would change places.

pub mod lost;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use super::{
    RequestId,
    budget::Budget,
    fixed::Answer,
    level_check::Asked,
    message::SessionId,
    mutant::{Mutant, is_on},
    op::{Action, Key, Op, Write},
    progress::Walk,
    replica_requests::{Question, ReplicaRequest, ReplicaRequests},
};
use crate::names::NodeName;

/// The quorum reads of one shard.
#[derive(Debug)]
pub struct QuorumReads {
    quorum_reads: BTreeMap<Key, QuorumRead>,
    /// Keys that nobody is asked about before this shard's own writes on them are sure.
    held: BTreeSet<Key>,
    asks: ReplicaRequests,
    waiting: Budget,
    /// No read's `hedge_at` is before it.
    hedge_at: Option<Duration>,
}

/// A request that waits.
#[derive(Debug, Clone, PartialEq)]
pub struct Waiting {
    /// Who asked.
    pub id: RequestId,
    /// What.
    pub op: Op,
    /// Since the process started.
    pub deadline: Duration,
}

/// A key with a question under way.
#[derive(Debug, Default)]
struct QuorumRead {
    /// Carried out when the question is answered.
    covered: Vec<Waiting>,
    /// What comes after them.
    queue: VecDeque<Waiting>,
    /// What these reads are answered with, once enough replicas hold it.
    answers: Vec<Answer>,
    /// The digest of what they are taken from.
    digest: u128,
    /// When others were asked first.
    asked_at: Duration,
    /// What a removal would have found then.
    found: Vec<bool>,
    /// Counts the questions and their answers: each replica that knows more makes another one.
    version: u32,
    /// Whether some copy differed.
    differed: bool,
    /// Replicas that knew more. What they say when they are asked again came since, and makes no other answer: where a key is
    /// written all the time there would be no end to it.
    heard: Vec<NodeName>,
    /// How often a copy of several pages was compared from its first one to its last.
    walks: u32,
    /// How often what is here was asked about once more, because it had changed.
    rounds: u32,
    /// Replicas that hold the answer.
    holding: Vec<NodeName>,
    /// Replicas that are still to be heard of, of those that were asked or can be.
    needed: usize,
    asked: Vec<NodeName>,
    /// Questions that are under way.
    asks: Vec<u64>,
    others: VecDeque<(NodeName, SessionId)>,
    /// When another one is asked in the place of one that is silent, or where there is none, the same again.
    hedge_at: Duration,
    /// Whether somebody was asked again who had not answered: its answers are as good as each other.
    is_again: bool,
}

/// What became of a quorum read.
#[derive(Debug, PartialEq)]
pub enum Turned {
    /// It still waits.
    Waits,
    /// The answer has changed since this replica was asked about it: it is to be asked again.
    Again,
    /// Enough replicas hold the same.
    Opens(Opened),
}

/// What a question was asked for, once it is answered.
#[derive(Debug, Default, PartialEq)]
pub struct Opened {
    /// These may be carried out.
    pub covered: Vec<Waiting>,
    /// And be answered so, where all of them read.
    pub answers: Vec<Answer>,
    /// Copies differed, and were brought together.
    pub is_repaired: bool,
    /// What others were asked about, if anybody was.
    pub asked_about: Option<AskedAbout>,
}

/// A copy that others were asked about.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AskedAbout {
    /// Its digest.
    pub digest: u128,
    /// When, since the process started.
    pub at: Duration,
    /// What a removal would have found in it, one after the other; nothing where it is enough that one other replica was asked.
    pub found: Vec<bool>,
    /// Whether it was asked about as often as it may be because it had changed.
    pub is_last: bool,
}

impl QuorumReads {
    /// None. Questions are numbered from `first_ask` on: another number at each opening, or an answer to a question of the shard
    /// before would be taken for one to a question of this.
    pub fn new(first_ask: u64) -> Self {
        Self {
            quorum_reads: BTreeMap::new(),
            held: BTreeSet::new(),
            asks: ReplicaRequests::new(first_ask),
            waiting: Budget::default(),
            hedge_at: None,
        }
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.quorum_reads.is_empty()
    }

    /// How much waits.
    pub fn budget(&self) -> Budget {
        self.waiting
    }

    /// Whether a key has one.
    pub fn is_closed(&self, key: &Key) -> bool {
        self.quorum_reads.contains_key(key)
    }

    /// Waits behind a quorum read that is closed.
    pub fn queue(&mut self, waiting: Waiting) {
        if let Some(read) = self.quorum_reads.get_mut(&waiting.op.key) {
            self.waiting += Budget::of(&waiting.op);
            read.queue.push_back(waiting);
        }
    }

    /// Waits, before all others, until this shard's own writes on a key are sure.
    pub fn hold(&mut self, key: &Key, waiting: Vec<Waiting>) {
        self.waiting += budget(&waiting);
        let read = self.quorum_reads.entry(key.clone()).or_default();
        debug_assert!(
            read.covered.is_empty(),
            "nothing is held behind a question that is under way"
        );
        for waiting in waiting.into_iter().rev() {
            read.queue.push_front(waiting);
        }
        self.held.insert(key.clone());
    }

    /// The keys that are held back.
    pub fn held(&self) -> impl Iterator<Item = &Key> {
        self.held.iter()
    }

    /// Whether a key is.
    pub fn is_held(&self, key: &Key) -> bool {
        self.held.contains(key)
    }

    /// A key is held back no longer.
    pub fn release(&mut self, key: &Key) {
        self.held.remove(key);
    }

    /// Whom to ask, of those that can be.
    pub fn arrange(&self, others: &mut Vec<(NodeName, SessionId)>, now: Duration) {
        self.asks.arrange(others, now);
    }

    /// Closes a quorum read over what is to be carried out when as many of those that can be asked as are needed have answered. Gives whom to ask now.
    pub fn close(
        &mut self,
        key: Key,
        covered: Vec<Waiting>,
        Asked { needed, others }: Asked,
        digest: u128,
        found: Vec<bool>,
        now: Duration,
    ) -> Vec<(NodeName, SessionId)> {
        assert!(
            needed > 0 && needed <= others.len(),
            "there are enough to ask"
        );
        self.waiting += budget(&covered);
        let mut others: VecDeque<_> = others.into();
        let first: Vec<_> = others.drain(..needed).collect();
        let read = self.quorum_reads.entry(key).or_default();
        debug_assert!(read.covered.is_empty(), "a key has one question at a time");
        read.found = found;
        read.heard.clear();
        read.walks = 0;
        read.differed = false;
        read.digest = digest;
        read.asked_at = now;
        // An answer to the question before says nothing about this one.
        read.version = read.version.wrapping_add(1);
        read.covered = covered;
        read.needed = needed;
        read.asked = first.iter().map(|(node, _)| node.clone()).collect();
        read.others = others;
        read.is_again = false;
        read.hedge_at = now + read.hedge_delay(self.asks.hedge_delay(read.asked.iter()));
        let earliest = self.hedge_at.unwrap_or(read.hedge_at);
        self.hedge_at = Some(earliest.min(read.hedge_at));
        first
    }

    /// When others are to be asked in the place of those that are silent, or earlier.
    pub fn hedge_at(&self) -> Option<Duration> {
        self.hedge_at
    }

    /// Where the comparison of a key with a node is to begin.
    pub fn resume(&mut self, key: &Key, node: &NodeName, session: SessionId) -> Walk {
        self.asks.resume(key, node, session)
    }

    /// A question is under way. Gives its number.
    pub fn ask(&mut self, ask: ReplicaRequest, now: Duration) -> u64 {
        let (key, hedge_delay) = (
            ask.key.clone(),
            self.asks.hedge_delay([&ask.node].into_iter()),
        );
        let number = self.asks.insert(ask, now);
        if let Some(read) = self.quorum_reads.get_mut(&key) {
            read.asks.push(number);
            // Whoever gives page after page is not silent.
            read.hedge_at = read.hedge_at.max(now + hedge_delay);
        }
        number
    }

    /// A question will not be answered; how far it had come is worth remembering.
    pub fn keep(&mut self, ask: ReplicaRequest) {
        self.asks.keep(ask);
    }

    /// The removal that waits for a key and is asked about by what it finds, if one is.
    pub fn seeker(&self, key: &Key) -> Option<&Op> {
        let read = self
            .quorum_reads
            .get(key)
            .filter(|read| !read.found.is_empty())?;
        read.covered.first().map(|waiting| &waiting.op)
    }

    /// What a removal would find now that a copy was joined: that is asked about like what it would have found before.
    pub fn finds(&mut self, key: &Key, found: &[bool]) {
        if let Some(read) = self.quorum_reads.get_mut(key) {
            let both = read.found.iter_mut().zip(found);
            both.for_each(|(before, now)| *before |= now);
        }
    }

    /// A copy of a key differs from the one here.
    pub fn differs(&mut self, key: &Key) {
        if let Some(read) = self.quorum_reads.get_mut(key) {
            read.differed = true;
        }
    }

    /// A question was answered, on this session. `None` for one that nobody waits for any more.
    pub fn answered(
        &mut self,
        number: u64,
        session: SessionId,
        now: Duration,
    ) -> Option<ReplicaRequest> {
        let ask = self.asks.answered(number, session, now)?;
        if let Some(read) = self.quorum_reads.get_mut(&ask.key) {
            read.asks.retain(|other| *other != number);
            if read.is_again {
                read.forget(&ask.node, &mut self.asks);
            }
        }
        Some(ask)
    }

    /// What waits for the question about a key.
    pub fn covered(&self, key: &Key) -> &[Waiting] {
        self.quorum_reads.get(key).map_or(&[], |read| &read.covered)
    }

    /// The number of the answer that is to be given for a key.
    pub fn version(&self, key: &Key) -> u32 {
        self.quorum_reads.get(key).map_or(0, |read| read.version)
    }

    /// The digest of what reads of a key are to be answered with.
    pub fn digest(&self, key: &Key) -> u128 {
        self.quorum_reads.get(key).map_or(0, |read| read.digest)
    }

    /// Whether a replica is heard for the first time.
    pub fn is_news(&self, key: &Key, node: &NodeName) -> bool {
        let read = self.quorum_reads.get(key);
        read.is_some_and(|read| !read.heard.contains(node))
    }

    /// A copy of several pages was compared to its end. Gives whether what was joined of it may be of two moments: an earlier page may have
    /// changed there meanwhile. Where a key is written all the time there would be no end to it.
    pub fn may_be_torn(&mut self, key: &Key) -> bool {
        let Some(read) = self.quorum_reads.get_mut(key) else {
            return false;
        };
        read.walks += 1;
        read.walks < WALKS_MAX
    }

    /// The question about a key is asked once more.
    pub fn ask_once_more(&mut self, key: &Key) {
        if let Some(read) = self.quorum_reads.get_mut(key) {
            read.rounds += 1;
        }
    }

    /// What is asked about a key now is asked for the first time.
    pub fn begin_anew(&mut self, key: &Key) {
        if let Some(read) = self.quorum_reads.get_mut(key) {
            read.rounds = 0;
        }
    }

    /// Reads are answered so from now on. Gives who held the answer before, and is to be asked again.
    pub fn answer(&mut self, key: &Key, digest: u128, answers: Vec<Answer>) -> Vec<NodeName> {
        let Some(read) = self.quorum_reads.get_mut(key) else {
            return Vec::new();
        };
        self.waiting.bytes -= bytes(&read.answers);
        self.waiting.bytes += bytes(&answers);
        read.answers = answers;
        read.digest = digest;
        read.version = read.version.wrapping_add(1);
        read.needed += read.holding.len();
        read.asked.extend(read.holding.iter().cloned());
        std::mem::take(&mut read.holding)
    }

    /// A replica has said all that it knows.
    pub fn heard(&mut self, key: &Key, node: &NodeName) {
        if let Some(read) = self.quorum_reads.get_mut(key)
            && !read.heard.contains(node)
        {
            read.heard.push(node.clone());
        }
    }

    /// A replica holds the answer that it was asked about, unless more questions to it are under way.
    pub fn agrees(&mut self, ask: &ReplicaRequest) -> Turned {
        let ReplicaRequest {
            key, node, version, ..
        } = ask;
        let Some(read) = self.quorum_reads.get_mut(key) else {
            return Turned::Waits;
        };
        let is_repair = |ask: &ReplicaRequest| matches!(ask.question, Question::Repair { .. });
        let is_awaited = |ask: &&ReplicaRequest| !is_repair(ask) || !is_on(Mutant::MendNotAwaited);
        let asks = read.asks.iter().filter_map(|ask| self.asks.get(*ask));
        if asks.filter(is_awaited).any(|ask| ask.node == *node) {
            return Turned::Waits;
        }
        if *version != read.version {
            return Turned::Again;
        }
        let Some(at) = read.asked.iter().position(|asked| asked == node) else {
            return Turned::Waits;
        };
        debug_assert!(read.needed > 0, "nobody is asked once enough hold it");
        read.holding.push(read.asked.swap_remove(at));
        read.needed -= 1;
        debug_assert!(
            read.needed <= read.asked.len() + read.others.len(),
            "{} more are needed, {} are asked and {} could be",
            read.needed,
            read.asked.len(),
            read.others.len()
        );
        if read.needed > 0 {
            return Turned::Waits;
        }
        Turned::Opens(read.end(&mut self.asks, &mut self.waiting))
    }

    /// What is to be carried out next for a key whose quorum read opened; the quorum read goes when nothing waits behind it. Reads that
    /// follow each other share a question, and so do additions of one type, of which none decides by another. Any other write has one of
    /// its own: a removal that finds nothing, because the one before it has removed it here alone, would be answered with that.
    pub fn next(&mut self, key: &Key) -> Vec<Waiting> {
        let Some(read) = self.quorum_reads.get_mut(key) else {
            return Vec::new();
        };
        let mut next: Vec<Waiting> = read.queue.pop_front().into_iter().collect();
        while let Some(last) = next.last()
            && let Some(more) = read
                .queue
                .pop_front_if(|waiting| share_a_question(&last.op, &waiting.op))
        {
            next.push(more);
        }
        self.waiting -= budget(&next);
        if next.is_empty() {
            self.quorum_reads.remove(key);
        }
        next
    }

    /// Others to ask in the place of those that are silent, by key.
    pub fn hedge(&mut self, now: Duration) -> Vec<(Key, NodeName, SessionId)> {
        let mut more = Vec::new();
        if self.hedge_at.is_none_or(|at| at > now) {
            return more;
        }
        for (key, read) in &mut self.quorum_reads {
            if read.hedge_at > now || read.needed == 0 {
                continue;
            }
            if let Some((node, session)) = read.others.pop_front() {
                read.asked
                    .iter()
                    .for_each(|silent| self.asks.missed(silent, now));
                read.asked.push(node.clone());
                read.hedge_at = now + read.hedge_delay(self.asks.hedge_delay([&node].into_iter()));
                more.push((key.clone(), node, session));
            } else {
                // Nobody else is left. One message to or from those who are silent may have been lost.
                let silent = read.silent(&self.asks);
                read.is_again |= !silent.is_empty();
                read.hedge_at = now + read.hedge_delay(self.asks.hedge_delay(read.asked.iter()));
                more.extend(
                    silent
                        .into_iter()
                        .map(|(node, session)| (key.clone(), node, session)),
                );
            }
        }
        let waiting = self.quorum_reads.values().filter(|read| read.can_hedge());
        self.hedge_at = waiting.map(|read| read.hedge_at).min();
        more
    }

    /// Who is asked, and on which sessions.
    pub fn sessions(&self) -> Vec<(NodeName, SessionId)> {
        self.asks.sessions()
    }

    /// Everything that waits, in order; nothing does afterwards.
    pub fn drain(&mut self) -> Vec<Waiting> {
        self.waiting = Budget::default();
        self.held.clear();
        let mut quorum_reads = std::mem::take(&mut self.quorum_reads);
        for read in quorum_reads.values_mut() {
            read.asks.drain(..).for_each(|ask| self.asks.forget(ask));
        }
        let quorum_reads = quorum_reads.into_values();
        quorum_reads
            .flat_map(|read| read.covered.into_iter().chain(read.queue))
            .collect()
    }
}

fn bytes(answers: &[Answer]) -> usize {
    answers.iter().map(Answer::bytes).sum()
}

fn budget(waiting: &[Waiting]) -> Budget {
    waiting.iter().map(|waiting| &waiting.op).collect()
}

impl QuorumRead {
    /// Nothing is asked any more. Gives what waited for it.
    fn end(&mut self, asks: &mut ReplicaRequests, waiting: &mut Budget) -> Opened {
        debug_assert!(
            self.answers.is_empty() || self.answers.len() == self.covered.len(),
            "each read has an answer, or none has"
        );
        self.asks.drain(..).for_each(|ask| asks.forget(ask));
        self.needed = 0;
        self.asked.clear();
        self.holding.clear();
        let ended = Opened {
            covered: std::mem::take(&mut self.covered),
            answers: std::mem::take(&mut self.answers),
            is_repaired: self.differed,
            asked_about: Some(AskedAbout {
                digest: self.digest,
                at: self.asked_at,
                found: std::mem::take(&mut self.found),
                is_last: self.rounds >= ROUNDS_MAX,
            }),
        };
        *waiting -= budget(&ended.covered);
        waiting.bytes -= bytes(&ended.answers);
        ended
    }

    /// Nothing is asked of a node any more.
    fn forget(&mut self, node: &NodeName, asks: &mut ReplicaRequests) {
        self.asks.retain(|&number| {
            let is_other = asks.get(number).is_some_and(|ask| ask.node != *node);
            if !is_other {
                asks.forget(number);
            }
            is_other
        });
    }

    fn can_hedge(&self) -> bool {
        self.needed > 0
    }

    /// How long those who were asked may be silent, who usually take `usual` at most.
    fn hedge_delay(&self, usual: Duration) -> Duration {
        if self.others.is_empty() {
            usual.max(ASK_AGAIN)
        } else {
            usual
        }
    }

    /// Who was asked and has not answered, and on which session.
    fn silent(&self, asks: &ReplicaRequests) -> Vec<(NodeName, SessionId)> {
        let asks = self.asks.iter().filter_map(|ask| asks.get(*ask));
        let silent: BTreeMap<&NodeName, SessionId> = asks
            .filter(|ask| self.asked.contains(&ask.node))
            .map(|ask| (&ask.node, ask.session))
            .collect();
        let silent = silent.into_iter();
        silent
            .map(|(node, session)| (node.clone(), session))
            .collect()
    }
}

fn share_a_question(one: &Op, next: &Op) -> bool {
    let are_alike = match (&one.action, &next.action) {
        (Action::Read(_), Action::Read(_)) => true,
        (Action::Write(one), Action::Write(next)) => matches!(
            (one, next),
            (Write::Add { .. }, Write::Add { .. }) | (Write::IncrBy { .. }, Write::IncrBy { .. })
        ),
        (Action::Read(_), Action::Write(_)) | (Action::Write(_), Action::Read(_)) => false,
    };
    are_alike && one.level == next.level
}

/// So often a copy of several pages is compared for one question, at most.
const WALKS_MAX: u32 = 4;
/// So often a write that decides by what is here has others asked once more, because that has changed since they were.
const ROUNDS_MAX: u32 = 2;

/// Who is silent is asked again after so long where there is nobody else: above a round trip and a slow disk together.
const ASK_AGAIN: Duration = Duration::from_millis(600);
