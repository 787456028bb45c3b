//! Which replicas take what they are sent, and answer: a link that is up says nothing of that.
//!
//! ```text
//!   once a second, for each shard and each other replica:
//!   nothing is pending, or its mark has moved ──▶ it answers
//!   something is pending and nothing moves for [`STALLED`] ──▶ it does not: this node does not count on it when it says that it is ready
//! ```

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use crdt::Hlc;

use super::queue::Inspection;
use crate::{
    core::ship::{Destination, Lag},
    names::NodeName,
};

/// See the module.
#[derive(Debug, Default)]
pub struct Answering(Mutex<BTreeMap<(usize, NodeName), Progress>>);

/// How far a replica is with what one shard sends it.
#[derive(Debug, Clone, Copy)]
struct Progress {
    mark: Hlc,
    /// When it moved last, or when nothing was pending.
    at: Duration,
    /// For how long nothing has moved though something was pending.
    still: Duration,
}

impl Answering {
    /// Looks at what the shards say, at a monotonic time.
    pub fn look(&self, inspections: &[Inspection], now: Duration) {
        let mut known = self.lock();
        let before = std::mem::take(&mut *known);
        for (shard, inspection) in inspections.iter().enumerate() {
            for (destination, lag) in &inspection.lags {
                if let Destination::Replica(node) = destination {
                    let at = (shard, node.clone());
                    let progress = Progress::of(before.get(&at), lag, now);
                    known.insert(at, progress);
                }
            }
        }
    }

    /// The replicas that have not answered a shard for too long.
    pub fn stalled(&self) -> BTreeSet<NodeName> {
        let known = self.lock();
        let stalled = known
            .iter()
            .filter(|(_, progress)| progress.still >= STALLED);
        stalled.map(|((_, node), _)| node.clone()).collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<(usize, NodeName), Progress>> {
        // It is replaced as a whole, by what is true now.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Progress {
    fn of(before: Option<&Self>, lag: &Lag, now: Duration) -> Self {
        let mark = lag.watermark;
        match before {
            Some(before) if lag.rows > 0 && before.mark == mark => Self {
                still: now.saturating_sub(before.at),
                ..*before
            },
            Some(_) | None => Self {
                mark,
                at: now,
                still: Duration::ZERO,
            },
        }
    }
}

/// How long nothing may move: longer than a session takes to be noticed as dead and to come back.
const STALLED: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    fn shard(node: &str, rows: u64, watermark_ms: u64) -> Inspection {
        let lag = Lag {
            rows,
            watermark: Hlc::from_millis(watermark_ms),
            since: None,
            needs_repair: false,
        };
        Inspection {
            lags: vec![(Destination::Replica(node.parse().unwrap()), lag)],
            ..Inspection::default()
        }
    }

    fn stalled_after(looks: &[[(u64, u64); 2]]) -> BTreeSet<NodeName> {
        let answering = Answering::default();
        for (second, shards) in (0..).zip(looks) {
            let [one, other] = shards.map(|(rows, mark)| shard("us-2", rows, mark));
            answering.look(&[one, other], Duration::from_secs(second));
        }
        answering.stalled()
    }

    #[test]
    fn one_that_takes_something_or_owes_nothing_answers() {
        let idle = [(0, 7), (0, 9)];
        assert!(stalled_after(&[idle; 20]).is_empty());
        let busy: Vec<_> = (0..20).map(|second| [(3, second), (5, second)]).collect();
        assert!(stalled_after(&busy).is_empty());
    }

    #[test]
    fn one_that_leaves_a_single_shard_without_an_answer_does_not() {
        let looks = |seconds: u64| -> Vec<_> {
            (0..=seconds).map(|second| [(1, second), (1, 9)]).collect()
        };
        assert!(stalled_after(&looks(4)).is_empty());
        assert_eq!(
            stalled_after(&looks(5)),
            BTreeSet::from(["us-2".parse().unwrap()])
        );
        let mut healed = looks(8);
        healed.push([(0, 9), (1, 10)]);
        assert!(stalled_after(&healed).is_empty());
    }

    #[test]
    fn one_that_is_no_replica_any_more_is_forgotten() {
        let answering = Answering::default();
        for second in 0..9 {
            answering.look(&[shard("us-2", 1, 1)], Duration::from_secs(second));
        }
        assert!(!answering.stalled().is_empty());
        answering.look(&[Inspection::default()], Duration::from_secs(9));
        assert!(answering.stalled().is_empty());
    }
}
