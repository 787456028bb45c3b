//! Whether this node has met whom its settings name. Until then it is not ready: it may not know yet who holds what.
//!
//! ```text
//!   listed in [peers] ─▶ waited for ─┬─ a session, and the gossip answered ───────────▶ met
//!                                    └─ the first attempt failed, or it is needless ──▶ not waited for any more
//! ```
//! A node that reaches none of them becomes ready alone, after one attempt at each: what is away must not keep others from working.

use std::collections::BTreeSet;

use crate::{
    config::Config,
    names::NodeName,
    peer::{Direction, LinkState, PeerLink},
};

/// The addresses of `[peers]` that are waited for.
#[derive(Debug)]
pub struct Joining(BTreeSet<String>);

impl Joining {
    /// All that the configuration lists.
    pub fn of(config: &Config) -> Self {
        let dialled = config.peers.dial.values().map(ToString::to_string);
        let seeds = config.peers.seeds.iter().map(ToString::to_string);
        Self(dialled.chain(seeds).collect())
    }

    /// Why this node is not ready, if it still waits for somebody.
    pub fn reason(&self) -> Option<String> {
        let waited_for: Vec<&str> = self.0.iter().map(String::as_str).collect();
        (!waited_for.is_empty()).then(|| {
            format!(
                "this node has not heard from {} of [peers] yet",
                waited_for.join(", ")
            )
        })
    }

    /// Waits no more for those that have answered, or cannot be reached now.
    pub fn look(&mut self, links: &[PeerLink], mut has_answered: impl FnMut(&NodeName) -> bool) {
        for link in links
            .iter()
            .filter(|link| link.direction == Direction::Dialled)
        {
            let is_over = match link.state {
                LinkState::Up => link.name.as_ref().is_some_and(&mut has_answered),
                LinkState::Connecting => link.last_error.is_some(),
                LinkState::Waiting | LinkState::Spare | LinkState::Dropped => true,
            };
            if is_over {
                self.0.remove(&link.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn joining(addresses: &[&str]) -> Joining {
        Joining(addresses.iter().map(ToString::to_string).collect())
    }

    fn link(address: &str, state: LinkState) -> PeerLink {
        PeerLink {
            address: address.to_owned(),
            direction: Direction::Dialled,
            state,
            session: None,
            name: (state == LinkState::Up).then(|| "us-1".parse().unwrap()),
            region: None,
            rtt_ms: None,
            clock_offset_ms: None,
            last_heard: None,
            last_error: None,
            last_refusal: None,
        }
    }

    #[test]
    fn a_node_without_peers_waits_for_nobody() {
        assert_eq!(joining(&[]).reason(), None);
    }

    #[test]
    fn one_that_is_connected_is_waited_for_until_the_gossip_answered() {
        let mut waiting = joining(&["a:1"]);
        waiting.look(&[link("a:1", LinkState::Connecting)], |_| true);
        waiting.look(&[link("a:1", LinkState::Up)], |_| false);
        assert!(waiting.reason().unwrap().contains("a:1"));
        waiting.look(&[link("a:1", LinkState::Up)], |_| true);
        assert_eq!(waiting.reason(), None);
    }

    #[test]
    fn one_that_cannot_be_reached_or_is_needless_is_waited_for_no_longer() {
        for state in [LinkState::Waiting, LinkState::Spare, LinkState::Dropped] {
            let mut waiting = joining(&["a:1", "b:1"]);
            waiting.look(&[link("a:1", state)], |_| false);
            assert!(
                waiting
                    .reason()
                    .is_some_and(|reason| !reason.contains("a:1"))
            );
        }
        let mut waiting = joining(&["a:1"]);
        let again = PeerLink {
            last_error: Some("no answer within 2s".to_owned()),
            ..link("a:1", LinkState::Connecting)
        };
        waiting.look(&[again], |_| false);
        assert_eq!(waiting.reason(), None);
    }
}
