//! What an operator hears of: events of the core as log lines that a person can act on, and as metrics.

use crate::{
    core::{Event, inbox::InboxEvent, message::NackReason, ship::ShipEvent},
    metrics::{
        BATCHES_DECLINED_TOTAL, CONFLICTS_TOTAL, HINTS_DROPPED_TOTAL, READ_REPAIRS_TOTAL,
        STORAGE_ERRORS_TOTAL,
    },
};

/// An event of a shard.
pub fn core(event: &Event) {
    match event {
        Event::Ship(event) => ship(event),
        Event::Conflict(clash) => {
            metrics::counter!(CONFLICTS_TOTAL, "kind" => clash.kind.word()).increment(1)
        }
        Event::Replayed { rows, ahead_ms } => {
            tracing::warn!(
                rows,
                ahead_ms,
                "a shard stamped anew what a clock far ahead had stamped and no other node took"
            );
        }
        Event::Repaired { requests } => {
            metrics::counter!(READ_REPAIRS_TOTAL).increment(*requests);
        }
        Event::Damaged(error) => {
            metrics::counter!(STORAGE_ERRORS_TOTAL).increment(1);
            tracing::error!(%error, "storage could not be read");
        }
    }
}

/// An event of the inbox.
pub fn inbox(event: &InboxEvent) {
    match event {
        InboxEvent::Declined { actor, reason } => {
            metrics::counter!(BATCHES_DECLINED_TOTAL, "side" => "target", "reason" => reason_word(*reason)).increment(1);
            declined(
                &format!("the writes of actor {actor}"),
                "were not taken",
                *reason,
            );
        }
        InboxEvent::Missed { actor, after, upto } => {
            tracing::error!(%actor, %after, %upto, "an origin dropped rows before this node took them: this region needs a full repair");
        }
    }
}

fn ship(event: &ShipEvent) {
    match event {
        ShipEvent::Dropped {
            destination,
            actor,
            after,
            upto,
            rows,
        } => {
            metrics::counter!(HINTS_DROPPED_TOTAL).increment(*rows);
            tracing::error!(%destination, %actor, %after, %upto, rows, "these outbox rows were not taken in time and they are gone: it needs a full repair; see hints.window and hints.max_bytes");
        }
        ShipEvent::Replaced {
            destination,
            actor,
            had,
            has,
        } => {
            tracing::warn!(%destination, %actor, %had, %has, "another data directory answers there: what is still in the outbox is sent again");
        }
        ShipEvent::Declined {
            destination,
            actor: _,
            reason,
        } => {
            metrics::counter!(BATCHES_DECLINED_TOTAL, "side" => "origin", "reason" => reason_word(*reason)).increment(1);
            declined(
                &destination.to_string(),
                "did not take a batch; it is offered again",
                *reason,
            );
        }
    }
}

/// A gap is how a stream finds its place again after a session died; everything else wants a person.
fn declined(who: &str, what: &str, reason: NackReason) {
    match reason {
        NackReason::Gap => tracing::debug!("{who} {what}: an earlier one has not arrived"),
        NackReason::ClockAhead { excess_ms } => {
            tracing::warn!(
                excess_ms,
                "{who} {what}: its stamps are further ahead than clock.max_skew; check both clocks"
            );
        }
        NackReason::ReadOnly => tracing::warn!("{who} {what}: the storage there cannot be written"),
        NackReason::Busy => tracing::warn!("{who} {what}: the queues there are full"),
        NackReason::Malformed => {
            tracing::error!("{who} {what}: it could not be decoded; are the versions compatible?")
        }
    }
}

fn reason_word(reason: NackReason) -> &'static str {
    match reason {
        NackReason::Gap => "gap",
        NackReason::ClockAhead { .. } => "clock",
        NackReason::ReadOnly => "read_only",
        NackReason::Busy => "busy",
        NackReason::Malformed => "malformed",
    }
}
