//! Whether other nodes and regions can be reached, from what links and streams show.

use std::time::Duration;

use crate::{
    names::NodeName,
    peer::{LinkState, PeerLink, Unreached},
    status::{NodeState, RegionState},
};

/// What this node has had to do with another one since it started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Contact {
    /// There is a session, whoever dialled.
    Linked,
    /// There was one. What its address did when it was last tried.
    Lost(Option<Unreached>),
    /// There never was one.
    Never(Option<Unreached>),
}

/// What links show of a node.
pub fn contact(links: &[PeerLink], name: &NodeName) -> Contact {
    let own = links.iter().filter(|link| link.name.as_ref() == Some(name));
    if own.clone().any(|link| link.state == LinkState::Up) {
        return Contact::Linked;
    }
    let unreached = own.clone().find_map(|link| link.unreached);
    if own.clone().any(|link| link.last_heard.is_some()) {
        Contact::Lost(unreached)
    } else {
        Contact::Never(unreached)
    }
}

/// The streams to a region.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Paths {
    /// Shards that ship there.
    pub shards: usize,
    /// Those of them that have a session to ship on.
    pub linked: usize,
    /// How old the oldest row is that the region has not taken.
    pub lag: Duration,
}

/// A region is what its nodes are, and not more than what the streams to it can do.
pub fn region_state(nodes: impl Iterator<Item = NodeState> + Clone, paths: &Paths) -> RegionState {
    let is_unmet = |state: NodeState| matches!(state, NodeState::Connecting | NodeState::Joining);
    let is_up = |state: NodeState| state == NodeState::Up;
    let (any_up, all_up) = (nodes.clone().any(is_up), nodes.clone().all(is_up));
    let has_no_path = paths.shards > 0 && paths.linked == 0;
    if has_no_path || !any_up {
        return match nodes.clone().all(is_unmet) {
            true => RegionState::Connecting,
            false => RegionState::Down,
        };
    }
    let is_whole = all_up && paths.linked == paths.shards && paths.lag < LAG_DEGRADED;
    match is_whole {
        true => RegionState::Up,
        false => RegionState::Degraded,
    }
}

/// A region that is so far behind does not take what is written, or not as fast.
const LAG_DEGRADED: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    fn state(nodes: &[NodeState], shards: usize, linked: usize, lag_ms: u64) -> RegionState {
        let lag = Duration::from_millis(lag_ms);
        let paths = Paths {
            shards,
            linked,
            lag,
        };
        region_state(nodes.iter().copied(), &paths)
    }

    #[test]
    fn a_region_is_up_where_its_nodes_are_and_every_shard_has_a_way_to_them() {
        use NodeState::{Connecting, Down, Joining, Up};
        let table = [
            (&[Up, Up][..], 2, 2, 0, RegionState::Up),
            (&[Up, Down], 2, 2, 0, RegionState::Degraded),
            (&[Up, Connecting], 2, 2, 0, RegionState::Degraded),
            (&[Up, Up], 2, 1, 0, RegionState::Degraded),
            (&[Up, Up], 2, 2, 6_000, RegionState::Degraded),
            (&[Up, Up], 2, 0, 0, RegionState::Down),
            (&[Down, Down], 2, 2, 0, RegionState::Down),
            (&[Down, Connecting], 2, 0, 0, RegionState::Down),
            (&[Connecting, Joining], 2, 0, 0, RegionState::Connecting),
            (&[], 2, 0, 6_000, RegionState::Connecting),
            // Nothing is shipped to one that keeps nothing: its nodes speak for it.
            (&[Up], 0, 0, 0, RegionState::Up),
            (&[Down], 0, 0, 0, RegionState::Down),
        ];
        for (nodes, shards, linked, lag_ms, expected) in table {
            let found = state(nodes, shards, linked, lag_ms);
            assert_eq!(found, expected, "{nodes:?} {shards} {linked} {lag_ms}");
        }
    }
}
