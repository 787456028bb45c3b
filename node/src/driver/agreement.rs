//! Whether the nodes agree on what must be equal on all of them.
//!
//! `[regions]` and `clock.max_skew` are settings of the gossip: whoever contradicts is refused as a member. `[members]` is changed
//! on one node after the other while the cluster serves, so it is no ground to part: each node publishes its lists, the others compare
//! them, and a difference is said once. The node that is not ready is the one that differs from the majority, as with clocks.

use std::collections::BTreeMap;

use gossip::Standing;
use xxhash_rust::xxh3::xxh3_64;

use super::{context::Node, health, membership::Membership};
use crate::{config::Config, names::NodeName};

/// What was found to differ.
#[derive(Debug)]
pub struct Agreement {
    /// The lists of this node, as it publishes them.
    own: String,
    /// Who has other lists.
    differing: BTreeMap<NodeName, String>,
}

impl Agreement {
    /// Nothing differs yet.
    pub fn of(config: &Config) -> Self {
        Self {
            own: lists(config),
            differing: BTreeMap::new(),
        }
    }

    /// Publishes the lists of this node and looks at those of the others.
    pub fn look(&mut self, node: &Node, membership: &Membership) {
        membership.publish(MEMBERS, self.own.clone());
        let theirs = published(membership);
        let agreeing = theirs.values().filter(|lists| **lists == self.own).count();
        let living = theirs.len();
        self.note(&node.inner().name, theirs);
        let reason = membership.contradiction().or_else(|| {
            let is_minority = !self.differing.is_empty() && 2 * (agreeing + 1) <= living + 1;
            is_minority.then(|| self.reason())
        });
        match reason {
            Some(detail) => node.inner().health.fail(health::SETTINGS, detail),
            None => node.inner().health.mend(health::SETTINGS),
        }
    }

    /// Logs what is new.
    fn note(&mut self, own_name: &NodeName, theirs: BTreeMap<NodeName, String>) {
        let differing: BTreeMap<_, _> = theirs
            .into_iter()
            .filter(|(_, lists)| *lists != self.own)
            .collect();
        for (name, lists) in &differing {
            if self.differing.get(name) != Some(lists) {
                tracing::error!(node = %own_name, other = %name, own = %shown(&self.own), theirs = %shown(lists), "two nodes have different [members]: make them equal on all nodes");
            }
        }
        for name in self
            .differing
            .keys()
            .filter(|name| !differing.contains_key(*name))
        {
            tracing::info!(node = %own_name, other = %name, "two nodes no longer have different [members]");
        }
        self.differing = differing;
    }

    fn reason(&self) -> String {
        let others: Vec<String> = self
            .differing
            .iter()
            .map(|(name, lists)| format!("{name} ({})", shown(lists)))
            .collect();
        format!(
            "[members] of this node ({}) differ from those of {}: make them equal on all nodes",
            shown(&self.own),
            others.join(", ")
        )
    }
}

/// The lists of the other nodes that live, as far as they say.
fn published(membership: &Membership) -> BTreeMap<NodeName, String> {
    let living = membership.standings().into_iter();
    let living =
        living.filter(|(_, _, standing)| matches!(standing, Standing::Up | Standing::Leaving));
    let lists = living.filter_map(|(name, ..)| {
        let value = membership.value(&name, MEMBERS)?;
        Some((name, String::from_utf8_lossy(&value).into_owned()))
    });
    lists.collect()
}

/// `[members]` in words, in one order; as a digest where that is more than nodes tell each other.
fn lists(config: &Config) -> String {
    let listed = config.members.listed();
    let regions: Vec<String> = listed
        .iter()
        .map(|(region, nodes)| {
            let nodes: Vec<&str> = nodes.iter().map(NodeName::as_str).collect();
            format!("{region} = {}", nodes.join(" "))
        })
        .collect();
    let words = regions.join(", ");
    if words.len() <= WORDS_BYTES_MAX {
        words
    } else {
        format!("of the digest {:016x}", xxh3_64(words.as_bytes()))
    }
}

fn shown(lists: &str) -> &str {
    if lists.is_empty() { "none" } else { lists }
}

/// What a node publishes of its lists.
const MEMBERS: &str = "members";
/// Below the bound of a published value, so that a datagram has room for it and something else.
const WORDS_BYTES_MAX: usize = 256;
