//! Figures that are read off the node once a second.

use std::{collections::BTreeMap, sync::atomic::Ordering, time::Duration};

use super::{
    agreement::Agreement,
    context::Node,
    gossiping,
    handoff::Debts,
    health,
    membership::{HANDOFF, READY, WATERMARKS},
    queue::Inspection,
};
use crate::{
    metrics::{
        CLOCK_OFFSET_SECONDS, HINTS_PENDING, KEYS, OUTBOX_ENTRIES, PEER_RTT_SECONDS, PEER_SESSIONS,
        PHI, REPLICATION_LAG_SECONDS,
    },
    peer::{LinkState, PeerLink, Peers, RefusalKind, Refuser},
    status::Status,
};

/// Publishes until it is dropped.
pub async fn publish(node: Node, mut agreement: Agreement) {
    let mut ticks = tokio::time::interval(INTERVAL);
    let mut was_forgotten = false;
    loop {
        ticks.tick().await;
        let inspections = node.inspect(false).await;
        let now = node.inner().clock.now().mono;
        node.inner().answering.look(&inspections, now);
        match silent(&inspections) {
            Some(detail) => node.inner().health.fail(health::SHARDS, detail),
            None => node.inner().health.mend(health::SHARDS),
        }
        let status = node.status_of(&inspections, false);
        set_status(&status);
        let debts = Debts::standing(&inspections, node.inner().clock.now().wall_ms);
        publish_values(&node, &status, &debts);
        let links = node.inner().outbound.peers().map(|peers| peers.status());
        set_sessions(&links.unwrap_or_default());
        if let Some(membership) = node.inner().membership() {
            agreement.look(&node, membership);
        }
        was_forgotten = was_forgotten || note_forgotten(&node);
    }
}

/// Which shards have not carried out what they were asked, in words.
fn silent(inspections: &[Inspection]) -> Option<String> {
    let shards = (0..).zip(inspections);
    let silent: Vec<String> = shards
        .filter(|(_, inspection)| inspection.is_silent)
        .map(|(shard, _): (u16, _)| shard.to_string())
        .collect();
    (!silent.is_empty()).then(|| {
        format!(
            "no answer in time from shard {} of {}: the disk does not take writes, or the machine is overloaded",
            silent.join(", "),
            inspections.len()
        )
    })
}

/// Peers that were told to forget this node take no session with it, and say why.
fn note_forgotten(node: &Node) -> bool {
    let peers = node.inner().outbound.peers();
    let refusals = peers.map(Peers::refusals).unwrap_or_default();
    let was_forgotten = refusals.iter().any(|refused| {
        refused.by == Refuser::Remote && refused.refusal.kind == RefusalKind::Forgotten
    });
    if was_forgotten {
        gossiping::forgotten_here(node);
    }
    was_forgotten
}

/// What the other nodes learn of this one by gossip.
fn publish_values(node: &Node, status: &Status, debts: &Debts) {
    let Some(membership) = node.inner().membership() else {
        return;
    };
    let reasons: Vec<&str> = status
        .reasons
        .iter()
        .map(|reason| reason.kind.as_str())
        .collect();
    membership.publish(READY, reasons.join(" "));
    membership.publish_shortage(node.inner().outbound.shortage());
    publish_debts(node, debts);
    let watermarks: Vec<String> = status
        .regions
        .iter()
        .map(|region| format!("{}={}", region.name, region.watermark))
        .collect();
    membership.publish(WATERMARKS, watermarks.join(" "));
}

/// What it owes: for good, where it is about to go with it.
pub(super) fn publish_debts(node: &Node, debts: &Debts) {
    let is_final = node.inner().is_final.load(Ordering::Relaxed);
    if let Some(membership) = node.inner().membership() {
        membership.publish(HANDOFF, debts.publication(is_final));
    }
}

fn set_status(status: &Status) {
    for region in &status.regions {
        let name = region.name.to_string();
        metrics::gauge!(REPLICATION_LAG_SECONDS, "region" => name.clone()).set(region.lag_seconds);
        metrics::gauge!(OUTBOX_ENTRIES, "region" => name).set(region.outbox_entries as f64);
    }
    for node in &status.nodes {
        metrics::gauge!(PHI, "node" => node.name.to_string()).set(node.phi);
        metrics::gauge!(HINTS_PENDING, "node" => node.name.to_string()).set(node.hints as f64);
        if let Some(rtt_ms) = node.rtt_ms {
            metrics::gauge!(PEER_RTT_SECONDS, "node" => node.name.to_string()).set(rtt_ms / 1000.0);
        }
        if let Some(offset_ms) = node.clock_offset_ms {
            metrics::gauge!(CLOCK_OFFSET_SECONDS, "node" => node.name.to_string())
                .set(offset_ms / 1000.0);
        }
    }
    metrics::gauge!(KEYS).set(status.keys as f64);
}

fn set_sessions(links: &[PeerLink]) {
    let mut sessions: BTreeMap<String, f64> = BTreeMap::new();
    for link in links {
        let Some(name) = &link.name else { continue };
        *sessions.entry(name.to_string()).or_default() +=
            f64::from(u8::from(link.state == LinkState::Up));
    }
    for (name, count) in sessions {
        metrics::gauge!(PEER_SESSIONS, "node" => name).set(count);
    }
}

const INTERVAL: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shard_that_does_not_answer_is_named() {
        let answers = || Inspection::default();
        let does_not = || Inspection {
            is_silent: true,
            ..Inspection::default()
        };
        assert_eq!(silent(&[answers(), answers()]), None);
        let detail = silent(&[answers(), does_not(), does_not()]).unwrap();
        assert!(detail.contains("shard 1, 2 of 3"), "{detail}");
    }
}
