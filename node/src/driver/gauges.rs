//! Figures that are read off the node once a second.

use std::time::Duration;

use super::node::Node;
use crate::{
    http::NodeView,
    metrics::{CLOCK_OFFSET_SECONDS, OUTBOX_ENTRIES, PEER_SESSIONS, REPLICATION_LAG_SECONDS},
    status::{NodeState, Status},
};

/// Publishes until it is dropped.
pub async fn publish(node: Node) {
    let mut ticks = tokio::time::interval(INTERVAL);
    loop {
        ticks.tick().await;
        set(&node.status(false).await);
    }
}

fn set(status: &Status) {
    for region in &status.regions {
        let name = region.name.to_string();
        metrics::gauge!(REPLICATION_LAG_SECONDS, "region" => name.clone()).set(region.lag_seconds);
        metrics::gauge!(OUTBOX_ENTRIES, "region" => name).set(region.outbox_entries as f64);
    }
    for node in &status.nodes {
        if let Some(offset_ms) = node.clock_offset_ms {
            metrics::gauge!(CLOCK_OFFSET_SECONDS, "node" => node.name.to_string())
                .set(offset_ms / 1000.0);
        }
    }
    let up = status
        .nodes
        .iter()
        .filter(|node| node.name != status.node && node.state == NodeState::Up)
        .count();
    metrics::gauge!(PEER_SESSIONS).set(up as f64);
    metrics::gauge!("meridian_keys").set(status.keys as f64);
}

const INTERVAL: Duration = Duration::from_secs(1);
