//! The verdict on a run: the same oracles as the simulator's, on what real clients were told and what real nodes hold.
//!
//! Every oracle speaks of one key at a time, so each key is judged on its own operations: that is exact, and a history of
//! hundreds of thousands of commands takes seconds.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bytes::Bytes;
use crdt::{KeyState, Register, Stamp};
use node::{
    core::{op::Key, ship::Home, tally::Tally},
    placement::Placement,
};

use super::ending::{Content, Ending, NodeEnding};
use crate::{
    check::{
        Violation, counters, durable, fresh,
        holding::{self, Holder},
        levels, linear, sets, settled,
    },
    sim::ledger::Ledger,
    workload::History,
};

/// Everything that the verdict rests on.
#[derive(Debug, Clone, Default)]
pub struct Evidence {
    /// What clients asked and were told.
    pub history: History,
    /// Replicas of each key in each region.
    pub replicas: usize,
    /// How many regions there are.
    pub regions: usize,
    /// What the nodes came to.
    pub ending: Ending,
    /// How long they were given to settle.
    pub settle_bound: Duration,
    /// Nodes that died by themselves, faults that could not be made or put right.
    pub surprises: Vec<String>,
    /// The furthest that a clock was set off, in milliseconds.
    pub skew_max_ms: u64,
}

/// What is to be said of one promise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// Which.
    pub promise: &'static str,
    /// What it says.
    pub words: &'static str,
    /// Whether it held.
    pub ruling: Ruling,
}

/// Whether a promise held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ruling {
    /// It did.
    Held,
    /// It did not, and how.
    Broken(Vec<String>),
    /// It was not promised here, and why.
    NotJudged(String),
}

impl Verdict {
    /// Whether it speaks against the cluster.
    pub fn is_broken(&self) -> bool {
        matches!(self.ruling, Ruling::Broken(_))
    }
}

/// Judges a run.
pub fn judge(evidence: &Evidence) -> Vec<Verdict> {
    let mut broken = Broken::default();
    let ledger = Ledger::new(0);
    let world = holding::Ending {
        ledger: &ledger,
        hosts: holders(&evidence.ending.nodes),
        settled_after: evidence.ending.settled_after,
        are_replicas: true,
        asks_others: true,
        may_lack: false,
    };
    let promised = evidence.history.promised(|operation| {
        levels::overlaps(operation.op.level, evidence.replicas, evidence.regions)
    });
    for history in by_key(&promised) {
        broken.add(durable::check(&history, &world));
        broken.add(counters::check(&history, &world));
        broken.add(sets::check(&history, &world));
        broken.add(fresh::check(&history));
        broken.add(linear::check(&history));
    }
    broken.add(converged(&evidence.ending));
    broken.add(settled::check(&world, evidence.settle_bound));
    broken.add(
        evidence
            .surprises
            .iter()
            .map(|text| Violation::new(ALIVE, text.clone()))
            .collect(),
    );
    let names: Vec<&str> = evidence
        .ending
        .nodes
        .iter()
        .map(|node| node.name.as_str())
        .collect();
    broken.verdicts(&names, evidence.skew_max_ms)
}

/// The operations of each key, in their order.
fn by_key(history: &History) -> impl Iterator<Item = History> {
    let mut keys: BTreeMap<Key, History> = BTreeMap::new();
    for operation in &history.operations {
        let of_key = keys.entry(operation.op.key.clone()).or_default();
        of_key.operations.push(operation.clone());
    }
    keys.into_values()
}

/// P2: nodes that exchanged everything hold the same, by their digests and by what they show.
fn converged(ending: &Ending) -> Vec<Violation> {
    let mut wrong: Vec<Violation> = ending
        .differences
        .iter()
        .map(|text| Violation::new("P2", text.clone()))
        .collect();
    let Some((first, others)) = ending.nodes.split_first() else {
        return wrong;
    };
    // What has not arrived yet is P6's.
    if ending.settled_after.is_none() {
        return wrong;
    }
    for other in others {
        for (key, content) in &first.values {
            if other
                .values
                .get(key)
                .is_some_and(|others| others != content)
            {
                let detail = format!(
                    "{key:?} is {content:?} at {} and {:?} at {}",
                    first.name, other.values[key], other.name
                );
                wrong.push(Violation::new("P2", detail));
            }
        }
    }
    wrong
}

/// What the nodes show, as the oracles read it.
fn holders(nodes: &[NodeEnding]) -> Vec<Holder> {
    let holder = |(index, node): (usize, &NodeEnding)| Holder {
        index,
        home: everywhere(),
        keys: node
            .values
            .iter()
            .map(|(key, content)| (key.clone(), state(content)))
            .collect(),
        positions: BTreeMap::new(),
        tally: Tally::default(),
        recounted: Tally::default(),
        has_lost: false,
        waiting: node.waiting.clone(),
        repairs: node.repairs.clone(),
        is_short: node.is_short,
        log_ends: Vec::new(),
    };
    nodes.iter().enumerate().map(holder).collect()
}

/// Every node answers for every key, whether it holds it or forwards.
fn everywhere() -> Home {
    const PROOF: &str = "three letters are a name";
    Home {
        region: "any".parse().expect(PROOF),
        node: "any".parse().expect(PROOF),
        placement: Arc::new(Placement::new(BTreeMap::new(), &BTreeMap::new())),
        is_sloppy: false,
    }
}

/// A state that shows this, whoever wrote it.
fn state(content: &Content) -> KeyState {
    let mut state = KeyState::default();
    match content {
        Content::Text(None) => {}
        Content::Text(Some(bytes)) => {
            state.string.register = Some(Register {
                stamp: Stamp::ZERO,
                value: Some(Bytes::clone(bytes)),
            });
        }
        Content::Members(members) => {
            let rows = members
                .iter()
                .map(|member| (member.clone(), crdt::Dots::default()));
            state.set.rows = rows.collect();
        }
    }
    state
}

/// Violations by promise.
#[derive(Debug, Default)]
struct Broken(BTreeMap<&'static str, Vec<String>>);

impl Broken {
    fn add(&mut self, violations: Vec<Violation>) {
        for violation in violations {
            self.0
                .entry(violation.promise)
                .or_default()
                .push(violation.detail);
        }
    }

    fn verdicts(&self, names: &[&str], skew_max_ms: u64) -> Vec<Verdict> {
        let verdict = |promise: &'static str, words: &'static str| {
            let details = self.0.get(promise).map_or(&[][..], Vec::as_slice);
            let ruling = if promise == "P7" && skew_max_ms > SKEW_MAX_MS {
                Ruling::NotJudged(format!(
                    "clocks were up to {skew_max_ms} ms off, so that two may have been further apart than clock.max_skew"
                ))
            } else if details.is_empty() {
                Ruling::Held
            } else {
                Ruling::Broken(
                    details
                        .iter()
                        .map(|detail| with_names(detail, names))
                        .collect(),
                )
            };
            Verdict {
                promise,
                words,
                ruling,
            }
        };
        let mut verdicts: Vec<Verdict> = PROMISES
            .iter()
            .map(|&(promise, words)| verdict(promise, words))
            .collect();
        // Whatever an oracle may say that is not in the list.
        let is_known = |promise: &&&str| PROMISES.iter().any(|(known, _)| known == *promise);
        let others = self.0.keys().filter(|promise| !is_known(promise));
        verdicts.extend(others.map(|promise| verdict(promise, "what an oracle takes for granted")));
        verdicts
    }
}

/// Oracles know hosts by number, people by name.
fn with_names(detail: &str, names: &[&str]) -> String {
    let host = |(index, name): (usize, &&str)| {
        let rest = detail.strip_prefix(&format!("n{index}"))?;
        let is_whole = !rest.starts_with(|c: char| c.is_ascii_digit());
        is_whole.then(|| format!("{name}{rest}"))
    };
    names
        .iter()
        .enumerate()
        .find_map(host)
        .unwrap_or_else(|| detail.to_owned())
}

const ALIVE: &str = "alive";
/// Further off, and two clocks may be further apart than `clock.max_skew`: P7 is promised within it.
const SKEW_MAX_MS: u64 = 300;
const PROMISES: [(&str, &str); 7] = [
    ("P1", "what was acknowledged is there"),
    ("P2", "nodes that exchanged everything hold the same"),
    (
        "P3",
        "counters count what was acknowledged, and no more than was asked",
    ),
    (
        "P4",
        "elements stay until a remove saw them, and do not come back",
    ),
    (
        "P6",
        "after the last fault nothing waits any more, with nobody's help",
    ),
    (
        "P7",
        "inside a region a read sees what was acknowledged before it began",
    ),
    (ALIVE, "no node died by itself, and every node came back"),
];

#[cfg(test)]
mod tests;
