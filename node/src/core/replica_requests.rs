//! Questions to other nodes that are under way: how many wait for each node, and how long each usually takes.

use std::{collections::BTreeMap, time::Duration};

use super::{
    latency::LatencyEstimate,
    message::SessionId,
    op::Key,
    progress::{Progress, Walk},
};
use crate::names::NodeName;

/// A question that is under way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplicaRequest {
    /// About which key.
    pub key: Key,
    /// Whom.
    pub node: NodeName,
    /// On which session.
    pub session: SessionId,
    /// What.
    pub question: Question,
    /// Which answer it will hold once it has answered.
    pub version: u32,
}

/// What another replica is asked about a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Question {
    /// How its copy differs, from this place on.
    Copy(Walk),
    /// Whether it has made durable what it lacked of the page from this place on. More rows follow from `next` on, or none.
    Repair { walk: Walk, next: Option<u64> },
}

impl Question {
    /// Where the comparison stands while it is not answered.
    fn into_walk(self) -> Walk {
        match self {
            Self::Copy(walk) | Self::Repair { walk, .. } => walk,
        }
    }
}

/// The questions of one shard, by number.
#[derive(Debug, Default)]
pub struct ReplicaRequests {
    under_way: BTreeMap<u64, (ReplicaRequest, Duration)>,
    next: u64,
    peers: BTreeMap<NodeName, Peer>,
    progress: Progress,
}

/// A node that was asked something.
#[derive(Debug, Default)]
struct Peer {
    /// How many questions it has not answered.
    in_flight: usize,
    /// How long an answer takes.
    usual: LatencyEstimate,
    /// Questions in a row for which others had to be asked in its place.
    missed: u32,
    /// Until then others are asked first.
    avoided_until: Duration,
}

impl ReplicaRequests {
    /// None, to be numbered from `next` on.
    pub fn new(next: u64) -> Self {
        Self {
            next,
            ..Self::default()
        }
    }

    /// A question leaves. Gives its number.
    pub fn insert(&mut self, ask: ReplicaRequest, now: Duration) -> u64 {
        let number = self.next;
        self.next = self.next.wrapping_add(1);
        self.peer(&ask.node).in_flight += 1;
        let before = self.under_way.insert(number, (ask, now));
        debug_assert!(before.is_none(), "no two questions have one number");
        number
    }

    /// A question, while it is under way.
    pub fn get(&self, number: u64) -> Option<&ReplicaRequest> {
        Some(&self.under_way.get(&number)?.0)
    }

    /// A question was answered, on this session; `None` if it is not under way there.
    pub fn answered(
        &mut self,
        number: u64,
        session: SessionId,
        now: Duration,
    ) -> Option<ReplicaRequest> {
        self.get(number).filter(|ask| ask.session == session)?;
        let (ask, since) = self.under_way.remove(&number)?;
        let peer = self.peer(&ask.node);
        debug_assert!(peer.in_flight > 0, "who answers was asked");
        peer.in_flight -= 1;
        peer.note(now.saturating_sub(since));
        Some(ask)
    }

    /// Nobody waits for an answer any more. How far the comparison has come is remembered.
    pub fn forget(&mut self, number: u64) {
        if let Some((ask, _)) = self.under_way.remove(&number) {
            self.peer(&ask.node).in_flight -= 1;
            self.keep(ask);
        }
    }

    /// What an ask, which is over, had found out by then is worth remembering.
    pub fn keep(&mut self, ask: ReplicaRequest) {
        let walk = ask.question.into_walk();
        self.progress.keep(ask.key, ask.node, ask.session, walk);
    }

    /// Where a comparison of a key with a node is to begin.
    pub fn resume(&mut self, key: &Key, node: &NodeName, session: SessionId) -> Walk {
        self.progress.resume(key, node, session)
    }

    /// Ends those on a session, and gives them.
    pub fn lose(&mut self, session: SessionId) -> Vec<(u64, ReplicaRequest)> {
        let of_session = |(number, (ask, _)): (&u64, &(ReplicaRequest, Duration))| {
            (ask.session == session).then(|| (*number, ask.clone()))
        };
        let lost: Vec<_> = self.under_way.iter().filter_map(of_session).collect();
        lost.iter().for_each(|(number, _)| self.forget(*number));
        self.progress.lose(session);
        lost
    }

    /// Who is asked, and on which sessions.
    pub fn sessions(&self) -> Vec<(NodeName, SessionId)> {
        let asks = self.under_way.values();
        let mut sessions: Vec<_> = asks
            .map(|(ask, _)| (ask.node.clone(), ask.session))
            .collect();
        sessions.sort_unstable();
        sessions.dedup();
        sessions
    }

    /// Another one had to be asked in a node's place. Nygard, "Release It!" (2007), "Circuit Breaker": where that happens again and
    /// again it is asked last, and tried again after a while.
    pub fn missed(&mut self, node: &NodeName, now: Duration) {
        let peer = self.peer(node);
        peer.missed = peer.missed.saturating_add(1);
        if peer.missed >= MISSED_MAX {
            peer.avoided_until = now + AVOIDED_FOR;
        }
    }

    /// How long the answers of these nodes are waited for before others are asked too: as the slowest of them deserves.
    pub fn hedge_delay<'a>(&self, nodes: impl Iterator<Item = &'a NodeName>) -> Duration {
        let usual = |node| {
            self.peers
                .get(node)
                .map(|peer| peer.usual)
                .unwrap_or_default()
        };
        let slowest = nodes.map(|node| usual(node).hedge_delay()).max();
        slowest.unwrap_or_else(|| LatencyEstimate::default().hedge_delay())
    }

    /// Whom to ask first: those that answer come before those that did not of late, otherwise the order stays. Those that
    /// already have as many questions as they may are left out.
    pub fn arrange(&self, others: &mut Vec<(NodeName, SessionId)>, now: Duration) {
        others.retain(|(node, _)| self.in_flight(node) < IN_FLIGHT_MAX);
        others.sort_by_key(|(node, _)| self.is_avoided(node, now));
    }

    fn in_flight(&self, node: &NodeName) -> usize {
        self.peers.get(node).map_or(0, |peer| peer.in_flight)
    }

    fn is_avoided(&self, node: &NodeName, now: Duration) -> bool {
        let peer = self.peers.get(node);
        peer.is_some_and(|peer| peer.avoided_until > now)
    }

    fn peer(&mut self, node: &NodeName) -> &mut Peer {
        // The name is copied for the first question alone: each read asks one.
        if self.peers.contains_key(node) {
            return self.peers.get_mut(node).expect("it was looked up just now");
        }
        self.peers.entry(node.clone()).or_default()
    }
}

impl Peer {
    fn note(&mut self, took: Duration) {
        self.missed = 0;
        self.avoided_until = Duration::ZERO;
        self.usual.note(took);
    }
}

/// Answers that a node owes one shard, at most.
const IN_FLIGHT_MAX: usize = 8_192;
/// So many unanswered questions in a row, and others are asked first.
const MISSED_MAX: u32 = 3;
/// For so long.
const AVOIDED_FOR: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str) -> NodeName {
        name.parse().expect("a name of letters and a number")
    }

    fn ask(name: &str) -> ReplicaRequest {
        ReplicaRequest {
            key: Key::from_static(b"k"),
            node: node(name),
            session: SessionId(1),
            question: Question::Copy(Walk::default()),
            version: 0,
        }
    }

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn patience_is_twice_what_the_slowest_usually_takes() {
        let mut asks = ReplicaRequests::new(7);
        for (name, takes) in [("us-2", 8), ("us-3", 40)] {
            for turn in 0..50u64 {
                let begun = ms(turn * 100);
                let number = asks.insert(ask(name), begun);
                assert!(
                    asks.answered(number, SessionId(1), begun + ms(takes))
                        .is_some()
                );
            }
        }
        let (quick, slow) = (node("us-2"), node("us-3"));
        assert_eq!(asks.hedge_delay([&quick].into_iter()), ms(16));
        assert_eq!(asks.hedge_delay([&quick, &slow].into_iter()), ms(80));
    }

    #[test]
    fn who_misses_answers_is_asked_last_for_a_while() {
        let mut asks = ReplicaRequests::new(0);
        let order = |asks: &ReplicaRequests, now| {
            let mut others = vec![(node("us-2"), SessionId(2)), (node("us-3"), SessionId(3))];
            asks.arrange(&mut others, now);
            others
                .into_iter()
                .map(|(_, session)| session.0)
                .collect::<Vec<_>>()
        };
        for _ in 0..MISSED_MAX {
            assert_eq!(order(&asks, ms(5)), [2, 3]);
            asks.missed(&node("us-2"), ms(5));
        }
        assert_eq!(order(&asks, ms(6)), [3, 2]);
        assert_eq!(order(&asks, ms(5) + AVOIDED_FOR), [2, 3]);
        let number = asks.insert(ask("us-2"), ms(7));
        assert!(asks.answered(number, SessionId(1), ms(8)).is_some());
        assert_eq!(order(&asks, ms(9)), [2, 3], "it answers again");
    }

    #[test]
    fn a_node_is_asked_only_so_much_at_a_time() {
        let mut asks = ReplicaRequests::new(0);
        let numbers: Vec<u64> = (0..IN_FLIGHT_MAX)
            .map(|_| asks.insert(ask("us-2"), ms(0)))
            .collect();
        let mut others = vec![(node("us-2"), SessionId(1))];
        asks.arrange(&mut others, ms(0));
        assert_eq!(others, []);
        asks.forget(numbers[0]);
        others = vec![(node("us-2"), SessionId(1))];
        asks.arrange(&mut others, ms(0));
        assert_eq!(others.len(), 1);
    }

    #[test]
    fn an_answer_on_another_session_is_none() {
        let mut asks = ReplicaRequests::new(3);
        let number = asks.insert(ask("us-2"), ms(0));
        assert_eq!(asks.answered(number, SessionId(2), ms(1)), None);
        assert_eq!(asks.lose(SessionId(1)), [(number, ask("us-2"))]);
        assert_eq!(asks.answered(number, SessionId(1), ms(2)), None);
    }
}
