//! What a node owes to others.
//!
//! A node's own writes reach each region and each other replica through its outbox alone: that others have a copy does not mean that
//! somebody will deliver it. So each destination counts by itself, whether it can be reached now or not.
//!
//! Each node publishes what it owes as a value of the gossip, so that any of them can be asked about any other, and those that stay
//! know what a node that left has not delivered.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use super::queue::Inspection;
use crate::{
    core::ship::{Destination, Lag},
    names::NodeName,
};

/// Batches of a node's writes that others lack, by who lacks them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Debts {
    owed: BTreeMap<Destination, u64>,
    /// Who lacks batches that are gone, so that nobody owes them any more.
    lost: BTreeSet<Destination>,
    /// A shard did not say what it owes.
    is_partial: bool,
}

impl Debts {
    /// All that the shards of a node say.
    pub fn of(inspections: &[Inspection]) -> Self {
        Self::filtered(inspections, |_, _, _| true)
    }

    /// What will not be taken within a moment: what there is no way for now, and what waits for longer than [`TAKEN_WITHIN`].
    pub fn standing(inspections: &[Inspection], wall_ms: u64) -> Self {
        let oldest_ms = wall_ms.saturating_sub(TAKEN_WITHIN.as_millis() as u64);
        Self::filtered(inspections, |shard, destination, lag| {
            !shard.linked.contains(destination)
                || lag.since.is_some_and(|since| since.millis() < oldest_ms)
        })
    }

    fn filtered(
        inspections: &[Inspection],
        counts: impl Fn(&Inspection, &Destination, &Lag) -> bool,
    ) -> Self {
        let mut debts = Self::default();
        for shard in inspections {
            debts.is_partial |= shard.failed.is_some();
            for (destination, lag) in &shard.lags {
                if lag.needs_repair {
                    debts.lost.insert(destination.clone());
                }
                if lag.rows > 0 && counts(shard, destination, lag) {
                    *debts.owed.entry(destination.clone()).or_default() += lag.rows;
                }
            }
        }
        debts
    }

    /// Whether others have everything, as far as is known.
    pub fn are_none(&self) -> bool {
        self.owed.is_empty() && !self.is_partial
    }

    /// Batches, over all destinations.
    pub fn total(&self) -> u64 {
        self.owed.values().sum::<u64>() + u64::from(self.is_partial)
    }

    /// Whether a destination lacks some.
    pub fn names(&self, destination: &Destination) -> bool {
        self.owed.contains_key(destination)
    }

    /// Who lacks what of this node, in sentences.
    pub fn sentences(&self, node: &NodeName) -> Vec<String> {
        let lacks = |(destination, rows): (&Destination, &u64)| {
            format!(
                "{destination} has not taken {rows} batches of writes of {node}, and nobody else delivers them if {node} goes"
            )
        };
        let unknown = format!("a shard of {node} does not say what it owes");
        let owed = self.owed.iter().map(lacks);
        owed.chain(self.is_partial.then_some(unknown)).collect()
    }

    /// Who lacks what can be delivered no more, in sentences.
    pub fn losses(&self, node: &NodeName) -> Vec<String> {
        let lacks = |destination: &Destination| {
            format!(
                "{destination} lacks writes of {node} that were dropped before it took them: it needs a full repair"
            )
        };
        self.lost.iter().map(lacks).collect()
    }

    /// Only what other regions lack.
    pub(super) fn abroad(mut self) -> Self {
        self.owed
            .retain(|destination, _| matches!(destination, Destination::Region(_)));
        self
    }

    /// As a node publishes it. The largest debts only: a value of the gossip has a bound.
    pub fn publication(&self, is_final: bool) -> String {
        let mut largest: Vec<(&Destination, &u64)> = self.owed.iter().collect();
        largest.sort_by_key(|(_, rows)| std::cmp::Reverse(**rows));
        let mut words = vec![FORMAT.to_owned()];
        words.extend(is_final.then(|| FINAL.to_owned()));
        words.extend(self.is_partial.then(|| PARTIAL.to_owned()));
        let named = largest.iter().take(PUBLISHED_MAX);
        words.extend(named.map(|(destination, rows)| match destination {
            Destination::Region(region) => format!("r:{region}={rows}"),
            Destination::Replica(node) => format!("n:{node}={rows}"),
        }));
        words.join(" ")
    }
}

/// What a node published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// What it owes.
    pub debts: Debts,
    /// It goes, and nobody will deliver this.
    pub is_final: bool,
}

impl Published {
    /// Nothing where another release wrote it.
    pub fn parse(text: &str) -> Option<Self> {
        let words = text.strip_prefix(FORMAT)?.split_whitespace();
        let mut published = Self {
            debts: Debts::default(),
            is_final: false,
        };
        for word in words {
            match word {
                FINAL => published.is_final = true,
                PARTIAL => published.debts.is_partial = true,
                _ => {
                    let (destination, rows) = owed(word)?;
                    published.debts.owed.insert(destination, rows);
                }
            }
        }
        Some(published)
    }
}

fn owed(word: &str) -> Option<(Destination, u64)> {
    let (destination, rows) = word.split_once('=')?;
    let destination = match destination.split_once(':')? {
        ("r", region) => Destination::Region(region.parse().ok()?),
        ("n", node) => Destination::Replica(node.parse().ok()?),
        _ => return None,
    };
    Some((destination, rows.parse().ok()?))
}

/// What nodes that left have not delivered, as they said before they went. As many entries as nodes that gossip knew.
#[derive(Debug, Default)]
pub struct Legacies(Mutex<BTreeMap<NodeName, Debts>>);

impl Legacies {
    /// A node says what it owes. One that is back delivers it itself.
    pub fn note(&self, node: NodeName, published: Published) {
        let mut legacies = self.lock();
        if !published.is_final || published.debts.are_none() {
            legacies.remove(&node);
            return;
        }
        let lost = published.debts.sentences(&node).join("; ");
        if legacies.insert(node.clone(), published.debts).is_none() {
            tracing::error!(%node, "a node leaves, and what it owes is lost to delivery: {lost}");
        }
    }

    /// Whether this lacks what a node that left had.
    pub fn concern(&self, destination: &Destination) -> bool {
        let legacies = self.lock();
        legacies.values().any(|debts| debts.names(destination))
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<NodeName, Debts>> {
        // Every change is one call on the map: it is whole whatever panicked elsewhere.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a destination that is linked takes within this is on its way.
const TAKEN_WITHIN: Duration = Duration::from_secs(1);
/// How a publication begins.
const FORMAT: &str = "2";
/// The word of a node that goes.
const FINAL: &str = "final";
/// The word for a shard that does not say what it owes.
const PARTIAL: &str = "partial";
/// Debts that are published: with names as long as they may be they stay below the bound on a value, 512 bytes.
const PUBLISHED_MAX: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;
    use crdt::Hlc;

    const NOW_MS: u64 = 1_700_000_000_000;

    fn region(name: &str) -> Destination {
        Destination::Region(name.parse().expect("a region's name"))
    }

    fn node(name: &str) -> NodeName {
        name.parse().expect("a node's name")
    }

    fn shard(lags: &[(Destination, u64, u64)], linked: &[Destination]) -> Inspection {
        let lag = |rows: u64, age_ms: u64| Lag {
            rows,
            watermark: Hlc::ZERO,
            since: (rows > 0).then(|| Hlc::from_millis(NOW_MS - age_ms)),
            needs_repair: false,
        };
        Inspection {
            lags: lags
                .iter()
                .map(|(to, rows, age_ms)| (to.clone(), lag(*rows, *age_ms)))
                .collect(),
            linked: linked.iter().cloned().collect(),
            ..Inspection::default()
        }
    }

    #[test]
    fn what_one_destination_lacks_is_owed_whatever_another_one_has() {
        let (eu, ap) = (region("eu"), region("ap"));
        let shards = [
            shard(
                &[(eu.clone(), 60, 0), (ap.clone(), 0, 0)],
                std::slice::from_ref(&ap),
            ),
            shard(
                &[(eu.clone(), 40, 0), (ap.clone(), 0, 0)],
                std::slice::from_ref(&ap),
            ),
        ];
        let debts = Debts::standing(&shards, NOW_MS);
        let said = debts.sentences(&node("us-1"));
        assert_eq!(said.len(), 1, "{said:?}");
        assert!(
            said[0].contains("region eu has not taken 100 batches"),
            "{said:?}"
        );
        assert!(said[0].contains("nobody else delivers them"), "{said:?}");
    }

    #[test]
    fn what_is_on_its_way_does_not_stand_and_what_is_not_taken_in_time_does() {
        let eu = region("eu");
        let standing = |age_ms| {
            let shard = shard(&[(eu.clone(), 5, age_ms)], std::slice::from_ref(&eu));
            Debts::standing(&[shard], NOW_MS).total()
        };
        assert_eq!(standing(100), 0);
        assert_eq!(standing(2_000), 5);
    }

    #[test]
    fn a_shard_that_does_not_answer_may_owe_anything() {
        let failed = Inspection {
            failed: Some("its storage failed".to_owned()),
            ..Inspection::default()
        };
        let debts = Debts::of(&[failed]);
        assert!(!debts.are_none() && debts.total() > 0);
        assert_eq!(debts.sentences(&node("us-1")).len(), 1);
    }

    #[test]
    fn what_is_published_is_read_again_and_fits() {
        let lags: Vec<_> = (0..40)
            .map(|number| {
                let name = format!("{}-{number:02}", "n".repeat(29));
                (Destination::Replica(node(&name)), u64::MAX / 64, 0)
            })
            .collect();
        let debts = Debts::of(&[shard(&lags, &[])]);
        let text = debts.publication(true);
        assert!(text.len() <= 512, "{} bytes", text.len());
        let read = Published::parse(&text).expect("it was published here");
        assert!(read.is_final && !read.debts.are_none());
        let few = Debts::of(&[shard(&[(region("eu"), 3, 0)], &[])]);
        let read = Published::parse(&few.publication(false));
        assert_eq!(
            read,
            Some(Published {
                debts: few,
                is_final: false
            })
        );
        assert_eq!(Published::parse("3 2 1"), None, "another release's");
    }

    #[test]
    fn what_a_node_left_behind_stands_until_it_is_back() {
        let legacies = Legacies::default();
        let debts = Debts::of(&[shard(&[(region("eu"), 3, 0)], &[])]);
        let say = |is_final| Published {
            debts: debts.clone(),
            is_final,
        };
        legacies.note(node("us-1"), say(false));
        assert!(!legacies.concern(&region("eu")));
        legacies.note(node("us-1"), say(true));
        assert!(legacies.concern(&region("eu")) && !legacies.concern(&region("ap")));
        legacies.note(node("us-1"), say(false));
        assert!(!legacies.concern(&region("eu")));
    }
}
