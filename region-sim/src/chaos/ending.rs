//! How a cluster ends: waited for with nobody's help, and then read from every node by itself.

use std::{
    collections::{BTreeMap, BTreeSet},
    thread,
    time::{Duration, Instant},
};

use bytes::Bytes;
use node::{
    core::op::Key,
    status::{NodeState, RegionState, Status},
};
use redis::Value;

use super::{clients::connection, samples::status};
use crate::{
    live::{NodeEntry, Topology},
    workload::Family,
};

/// What all nodes came to.
#[derive(Debug, Clone, Default)]
pub struct Ending {
    /// From the end of the last fault until nothing waited any more; `None` if something still did when patience ended.
    pub settled_after: Option<Duration>,
    /// What still waited when it was looked at for the last time before nothing did, if anything.
    pub waited_last: Vec<String>,
    /// How nodes that exchanged everything differ.
    pub differences: Vec<String>,
    /// The nodes, in order of index.
    pub nodes: Vec<NodeEnding>,
}

/// What one node came to.
#[derive(Debug, Clone, Default)]
pub struct NodeEnding {
    /// Its name.
    pub name: String,
    /// What still waits at it, if anything.
    pub waiting: Vec<String>,
    /// Regions that it says are to be repaired.
    pub repairs: Vec<String>,
    /// Whether it says that it lacks writes that other replicas have.
    pub is_short: bool,
    /// The keys that were asked for, as its own replica shows them.
    pub values: BTreeMap<Key, Content>,
}

/// What a key holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// A string; `None` if nothing is there.
    Text(Option<Bytes>),
    /// The members of a set.
    Members(BTreeSet<Bytes>),
}

/// Waits until nothing waits anywhere and nodes that are to be equal are, or until patience ends.
pub fn await_settled(nodes: &[NodeEntry], topology: &Topology, patience: Duration) -> Ending {
    let begun = Instant::now();
    let mut ending = Ending::default();
    loop {
        let is_last = begun.elapsed() >= patience;
        ending.nodes = nodes.iter().map(look_at).collect();
        let is_settled = ending.nodes.iter().all(|node| node.waiting.is_empty());
        if !is_settled {
            ending.waited_last = waiting_anywhere(&ending.nodes);
        }
        if is_settled {
            ending.settled_after = ending.settled_after.or(Some(begun.elapsed()));
            ending.differences = differences(nodes, topology);
        }
        if is_last || (is_settled && ending.differences.is_empty()) {
            return ending;
        }
        thread::sleep(PAUSE);
    }
}

fn waiting_anywhere(nodes: &[NodeEnding]) -> Vec<String> {
    let said = nodes.iter().flat_map(|node| {
        node.waiting
            .iter()
            .map(|text| format!("{} {text}", node.name))
    });
    said.collect()
}

fn look_at(entry: &NodeEntry) -> NodeEnding {
    let mut ending = NodeEnding {
        name: entry.name.clone(),
        ..NodeEnding::default()
    };
    match status(&entry.http, "", PATIENCE) {
        Ok(status) => {
            ending.waiting = waiting(&status);
            let mut reasons = status.reasons.iter();
            ending.is_short = reasons.any(|reason| reason.kind == "recovering");
            let lacking = status.regions.iter().filter(|region| region.needs_repair);
            ending.repairs = lacking.map(|region| region.name.to_string()).collect();
        }
        Err(reason) => ending.waiting.push(format!("gives no status: {reason}")),
    }
    ending
}

/// What a node says of itself that is not as it is when all is well.
fn waiting(status: &Status) -> Vec<String> {
    let mut waiting = Vec::new();
    for reason in &status.reasons {
        waiting.push(format!("is not ready ({}): {}", reason.kind, reason.detail));
    }
    for region in &status.regions {
        let is_well = region.state == RegionState::Up
            && region.outbox_entries == 0
            && region.lag_seconds < LAG_NORMAL_SECONDS;
        if !is_well {
            waiting.push(format!(
                "sees {} {}, {} outbox rows and {:.1} s behind",
                region.name, region.state, region.outbox_entries, region.lag_seconds
            ));
        }
    }
    for node in &status.nodes {
        if node.state != NodeState::Up {
            waiting.push(format!("sees {} {}", node.name, node.state));
        }
        if node.hints > 0 {
            waiting.push(format!("keeps {} hints for {}", node.hints, node.name));
        }
    }
    waiting
}

/// How nodes differ that hold the same partitions.
fn differences(nodes: &[NodeEntry], topology: &Topology) -> Vec<String> {
    let mut digests = Vec::new();
    for entry in nodes {
        let asked = status(&entry.http, "?partitions=1", PATIENCE);
        match asked.map(|status| status.partition_digests) {
            Ok(Some(partitions)) => digests.push((entry.clone(), partitions)),
            Ok(None) => return vec![format!("{} gives no digests", entry.name)],
            Err(reason) => return vec![format!("{} gives no digests: {reason}", entry.name)],
        }
    }
    let partitions = digests
        .first()
        .map_or(0, |(_, partitions)| partitions.len());
    let differing = (0..partitions).filter_map(|partition| {
        let held: Vec<(&NodeEntry, &str)> = digests
            .iter()
            .map(|(entry, all)| (entry, all.get(partition).map_or("", String::as_str)))
            .collect();
        difference(partition, &held, usize::from(topology.most_replicas()))
    });
    differing.take(DIFFERENCES_MAX).collect()
}

/// Each region's replicas hold one and the same content of a partition, and no other node holds any.
fn difference(partition: usize, held: &[(&NodeEntry, &str)], replicas: usize) -> Option<String> {
    let is_empty = |digest: &str| digest.bytes().all(|digit| digit == b'0');
    let contents: BTreeSet<&str> = held
        .iter()
        .map(|(_, digest)| *digest)
        .filter(|digest| !is_empty(digest))
        .collect();
    let mut holders: BTreeMap<&str, usize> = BTreeMap::new();
    for (entry, digest) in held {
        *holders.entry(&entry.region).or_default() += usize::from(!is_empty(digest));
    }
    let is_whole = contents.is_empty() || holders.values().all(|count| *count == replicas);
    if contents.len() <= 1 && is_whole {
        return None;
    }
    let shown: Vec<String> = held
        .iter()
        .map(|(entry, digest)| format!("{} {digest}", entry.name))
        .collect();
    Some(format!("partition {partition}: {}", shown.join(", ")))
}

/// Reads keys from every node's own replica.
pub fn read_all(ending: &mut Ending, nodes: &[NodeEntry], keys: &BTreeMap<Key, Family>) {
    for (node, entry) in ending.nodes.iter_mut().zip(nodes) {
        match read(entry, keys) {
            Ok(values) => node.values = values,
            Err(error) => node.waiting.push(format!("cannot be read: {error}")),
        }
    }
}

fn read(
    entry: &NodeEntry,
    keys: &BTreeMap<Key, Family>,
) -> Result<BTreeMap<Key, Content>, redis::RedisError> {
    let mut connection = connection(&format!("redis://{}/", entry.resp), READ_LIMIT)?;
    // One replica: the node's own, by itself.
    redis::cmd("CONSISTENCY")
        .arg("READ")
        .arg("ONE")
        .exec(&mut connection)?;
    let mut values = BTreeMap::new();
    let wanted: Vec<(&Key, bool)> = keys
        .iter()
        .filter_map(|(key, family)| Some((key, is_set(*family)?)))
        .collect();
    for chunk in wanted.chunks(CHUNK) {
        let mut pipe = redis::pipe();
        for (key, is_set) in chunk {
            pipe.cmd(if *is_set { "SMEMBERS" } else { "GET" })
                .arg(&key[..]);
        }
        let replies: Vec<Value> = pipe.query(&mut connection)?;
        for ((key, is_set), reply) in chunk.iter().zip(replies) {
            values.insert(Key::clone(key), content(*is_set, reply));
        }
    }
    Ok(values)
}

/// Whether keys of a family are sets; `None` for those of which nothing exact can be said.
const fn is_set(family: Family) -> Option<bool> {
    match family {
        Family::Counter
        | Family::Balance
        | Family::Resettable
        | Family::Register
        | Family::Owned => Some(false),
        Family::Unique | Family::Small => Some(true),
        Family::Anything | Family::Local | Family::Single | Family::Fading | Family::Turning => {
            None
        }
    }
}

fn content(is_set: bool, reply: Value) -> Content {
    match reply {
        Value::Array(items) | Value::Set(items) if is_set => {
            let bytes = items.into_iter().filter_map(|item| match item {
                Value::BulkString(bytes) => Some(Bytes::from(bytes)),
                _ => None,
            });
            Content::Members(bytes.collect())
        }
        Value::BulkString(bytes) => Content::Text(Some(Bytes::from(bytes))),
        _ if is_set => Content::Members(BTreeSet::new()),
        _ => Content::Text(None),
    }
}

const PAUSE: Duration = Duration::from_millis(200);
const PATIENCE: Duration = Duration::from_secs(2);
const READ_LIMIT: Duration = Duration::from_secs(10);
/// Lag of an idle cluster stays below it.
const LAG_NORMAL_SECONDS: f64 = 1.0;
const DIFFERENCES_MAX: usize = 20;
/// Reads in one pipeline.
const CHUNK: usize = 200;

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: &str) -> NodeEntry {
        NodeEntry {
            name: name.to_owned(),
            region: name.split('-').next().unwrap_or_default().to_owned(),
            pid: None,
            resp: String::new(),
            quic: String::new(),
            http: String::new(),
            data_dir: Default::default(),
            log: Default::default(),
        }
    }

    #[test]
    fn replicas_of_a_partition_hold_one_content_and_nobody_else_holds_any() {
        let nodes = ["us-1", "us-2", "eu-1", "eu-2"].map(entry);
        let differ = |digests: [&str; 4], replicas| {
            let held: Vec<_> = nodes.iter().zip(digests).collect();
            difference(7, &held, replicas)
        };
        assert_eq!(differ(["0a", "0a", "0a", "0a"], 2), None);
        assert_eq!(differ(["00", "00", "00", "00"], 2), None);
        assert_eq!(differ(["0a", "00", "00", "0a"], 1), None);
        assert!(
            differ(["0a", "0a", "0a", "0b"], 2)
                .is_some_and(|said| said.contains("partition 7") && said.contains("eu-2 0b"))
        );
        assert!(differ(["0a", "0a", "0a", "00"], 2).is_some());
        assert!(differ(["0a", "0a", "0a", "00"], 1).is_some());
        assert!(differ(["0a", "00", "00", "00"], 1).is_some());
    }
}
