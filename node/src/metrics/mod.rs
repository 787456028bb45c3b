//! Every metric of a node: names, units, meanings. Whoever measures takes the name from here.
//!
//! ```text
//!   counter!(COMMANDS_TOTAL, "command" => …) ──▶ recorder ──▶ PrometheusHandle ──▶ GET /metrics
//! ```

pub mod process;

use std::sync::OnceLock;

use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

/// Commands answered, by `command` (a name of the command table, lower case, or `unknown`) and `outcome` (`ok`, or
/// the first word of the error, lower case).
pub const COMMANDS_TOTAL: &str = "meridian_commands_total";
/// Seconds from a command being read to its reply being ready.
pub const COMMAND_DURATION_SECONDS: &str = "meridian_command_duration_seconds";
/// Client connections that are open.
pub const CLIENTS: &str = "meridian_clients";
/// Seconds that a batch of a shard takes to commit.
pub const COMMIT_DURATION_SECONDS: &str = "meridian_commit_duration_seconds";
/// Seconds that this node's own writes trail in `region`; 0 when it has all of them.
pub const REPLICATION_LAG_SECONDS: &str = "meridian_replication_lag_seconds";
/// Outbox rows (one per commit batch) that `region` has not taken.
pub const OUTBOX_ENTRIES: &str = "meridian_outbox_entries";
/// Bytes of frames exchanged with `region`, compressed, without QUIC's own, by `direction` (`out`, `in`).
pub const WAN_BYTES_TOTAL: &str = "meridian_wan_bytes_total";
/// Rows that a node of this region has not taken.
pub const HINTS_PENDING: &str = "meridian_hints_pending";
/// Outbox rows dropped past `hints.window` or `hints.max_bytes` that some region never took.
pub const HINTS_DROPPED_TOTAL: &str = "meridian_hints_dropped_total";
/// Joins that kept something a reader does not see, by `kind` (`text_and_counter`, `two_types`).
pub const CONFLICTS_TOTAL: &str = "meridian_conflicts_total";
/// Batches that were not taken, by `side` (`origin`, `target`) and `reason` (`gap`, `clock`, `read_only`, `busy`, `malformed`);
/// `clock` is a wrong clock, here or there.
pub const BATCHES_DECLINED_TOTAL: &str = "meridian_batches_declined_total";
/// Requests refused because a shard's queue was full.
pub const BUSY_TOTAL: &str = "meridian_busy_total";
/// Rows or commits that failed.
pub const STORAGE_ERRORS_TOTAL: &str = "meridian_storage_errors_total";
/// Seconds that a sync of the log takes.
pub const SYNC_DURATION_SECONDS: &str = "meridian_sync_duration_seconds";
/// Keys that this node holds and shows.
pub const KEYS: &str = "meridian_keys";
/// Seconds that the clock of `node` is ahead of this one.
pub const CLOCK_OFFSET_SECONDS: &str = "meridian_clock_offset_seconds";
/// How sure this node is that `node` is gone: 0 for one just heard of, 1,000 at most.
pub const PHI: &str = "meridian_phi";
/// Sessions that this node has open to `node`, those it dialled and those it accepted: 2 when all is well.
pub const PEER_SESSIONS: &str = "meridian_peer_sessions";
/// Seconds of a round trip to `node`, smoothed.
pub const PEER_RTT_SECONDS: &str = "meridian_peer_rtt_seconds";
/// Datagrams of peers that were dropped, by `reason`: `full` (nobody took them in time), `large`.
pub const PEER_DATAGRAMS_DROPPED_TOTAL: &str = "meridian_peer_datagrams_dropped_total";
/// Bytes free on the disk of the data directory.
pub const DISK_FREE_BYTES: &str = "meridian_disk_free_bytes";

/// Seconds until the certificate of `kind` (`node`, `ca`) ends; negative once it has.
pub const CERTIFICATE_EXPIRES_SECONDS: &str = "meridian_certificate_expires_seconds";

/// Installs the recorder that all metrics of this process go to; a second call gives the first one's handle.
///
/// Somebody must call `run_upkeep` on the handle every few seconds, or unread histograms grow: [`crate::http::serve`] does.
pub fn install() -> PrometheusHandle {
    static HANDLE: OnceLock<PrometheusHandle> = OnceLock::new();
    HANDLE.get_or_init(install_first).clone()
}

fn install_first() -> PrometheusHandle {
    let durations = Matcher::Suffix("_duration_seconds".to_owned());
    let recorder = PrometheusBuilder::new()
        .set_buckets_for_metric(durations, &DURATION_BUCKETS_SECONDS)
        .expect("the list of buckets is not empty, which is all that is asked of it")
        .build_recorder();
    let handle = recorder.handle();
    if metrics::set_global_recorder(recorder).is_err() {
        tracing::warn!("this process records its metrics elsewhere: /metrics stays empty");
    }
    METRICS.iter().for_each(Metric::describe);
    process::start_clock();
    // Without a label it has one value only, and a zero says more than its absence.
    metrics::counter!(HINTS_DROPPED_TOTAL).absolute(0);
    handle
}

struct Metric {
    name: &'static str,
    kind: Kind,
    unit: Unit,
    meaning: &'static str,
}

#[derive(Clone, Copy)]
enum Kind {
    Counter,
    Gauge,
    Histogram,
}

impl Metric {
    const fn new(name: &'static str, kind: Kind, unit: Unit, meaning: &'static str) -> Self {
        Self {
            name,
            kind,
            unit,
            meaning,
        }
    }

    fn describe(&self) {
        match self.kind {
            Kind::Counter => describe_counter!(self.name, self.unit, self.meaning),
            Kind::Gauge => describe_gauge!(self.name, self.unit, self.meaning),
            Kind::Histogram => describe_histogram!(self.name, self.unit, self.meaning),
        }
    }
}

/// From a command that is answered from memory to one that waited for its time-out.
const DURATION_BUCKETS_SECONDS: [f64; 16] = [
    0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5,
    1.0, 2.5, 10.0,
];

const METRICS: [Metric; 26] = [
    Metric::new(
        COMMANDS_TOTAL,
        Kind::Counter,
        Unit::Count,
        "Commands answered.",
    ),
    Metric::new(
        COMMAND_DURATION_SECONDS,
        Kind::Histogram,
        Unit::Seconds,
        "From a command being read to its reply being ready.",
    ),
    Metric::new(
        CLIENTS,
        Kind::Gauge,
        Unit::Count,
        "Client connections that are open.",
    ),
    Metric::new(
        COMMIT_DURATION_SECONDS,
        Kind::Histogram,
        Unit::Seconds,
        "Commit of one batch of a shard.",
    ),
    Metric::new(
        REPLICATION_LAG_SECONDS,
        Kind::Gauge,
        Unit::Seconds,
        "How far this node's own writes trail in a region.",
    ),
    Metric::new(
        OUTBOX_ENTRIES,
        Kind::Gauge,
        Unit::Count,
        "Outbox rows that a region has not taken.",
    ),
    Metric::new(
        WAN_BYTES_TOTAL,
        Kind::Counter,
        Unit::Bytes,
        "Frames exchanged with a region, compressed.",
    ),
    Metric::new(
        HINTS_DROPPED_TOTAL,
        Kind::Counter,
        Unit::Count,
        "Outbox rows dropped that some region never took.",
    ),
    Metric::new(
        CONFLICTS_TOTAL,
        Kind::Counter,
        Unit::Count,
        "Joins that kept something a reader does not see.",
    ),
    Metric::new(
        BATCHES_DECLINED_TOTAL,
        Kind::Counter,
        Unit::Count,
        "Batches between regions that were not taken.",
    ),
    Metric::new(
        BUSY_TOTAL,
        Kind::Counter,
        Unit::Count,
        "Requests refused because a shard's queue was full.",
    ),
    Metric::new(
        STORAGE_ERRORS_TOTAL,
        Kind::Counter,
        Unit::Count,
        "Rows or commits that failed.",
    ),
    Metric::new(
        SYNC_DURATION_SECONDS,
        Kind::Histogram,
        Unit::Seconds,
        "Sync of the log.",
    ),
    Metric::new(
        KEYS,
        Kind::Gauge,
        Unit::Count,
        "Keys that this node holds and shows.",
    ),
    Metric::new(
        CLOCK_OFFSET_SECONDS,
        Kind::Gauge,
        Unit::Seconds,
        "How far a node's clock is ahead of this one.",
    ),
    Metric::new(
        HINTS_PENDING,
        Kind::Gauge,
        Unit::Count,
        "Rows that a node of this region has not taken.",
    ),
    Metric::new(
        PHI,
        Kind::Gauge,
        Unit::Count,
        "How sure this node is that a node is gone.",
    ),
    Metric::new(
        PEER_SESSIONS,
        Kind::Gauge,
        Unit::Count,
        "Sessions open to a node.",
    ),
    Metric::new(
        PEER_RTT_SECONDS,
        Kind::Gauge,
        Unit::Seconds,
        "Round trip to a node.",
    ),
    Metric::new(
        PEER_DATAGRAMS_DROPPED_TOTAL,
        Kind::Counter,
        Unit::Count,
        "Datagrams of peers that were dropped.",
    ),
    Metric::new(
        DISK_FREE_BYTES,
        Kind::Gauge,
        Unit::Bytes,
        "Free on the disk of the data directory.",
    ),
    Metric::new(
        CERTIFICATE_EXPIRES_SECONDS,
        Kind::Gauge,
        Unit::Seconds,
        "Until a certificate of this node ends.",
    ),
    Metric::new(
        process::RESIDENT_MEMORY_BYTES,
        Kind::Gauge,
        Unit::Bytes,
        "Memory of the process that is in RAM.",
    ),
    Metric::new(
        process::OPEN_FDS,
        Kind::Gauge,
        Unit::Count,
        "File descriptors that the process has open.",
    ),
    Metric::new(
        process::UPTIME_SECONDS,
        Kind::Gauge,
        Unit::Seconds,
        "Since the process began to record.",
    ),
    Metric::new(
        process::BUILD_INFO,
        Kind::Gauge,
        Unit::Count,
        "Always 1; the version is its label.",
    ),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_metric_is_named_once_in_our_space_with_its_unit_in_its_name() {
        let names: BTreeSet<_> = METRICS.iter().map(|metric| metric.name).collect();
        assert_eq!(names.len(), METRICS.len());
        for Metric {
            name, kind, unit, ..
        } in &METRICS
        {
            assert!(name.starts_with("meridian_"), "{name}");
            let stem = name.trim_end_matches("_total");
            assert_eq!(stem.ends_with("_seconds"), *unit == Unit::Seconds, "{name}");
            assert_eq!(stem.ends_with("_bytes"), *unit == Unit::Bytes, "{name}");
            assert_eq!(stem != *name, matches!(kind, Kind::Counter), "{name}");
        }
    }

    #[test]
    fn a_duration_is_shown_in_buckets_with_its_meaning() {
        let handle = install();
        metrics::histogram!(COMMAND_DURATION_SECONDS).record(0.003);
        let text = handle.render();
        assert!(text.contains("# TYPE meridian_command_duration_seconds histogram"));
        assert!(text.contains("# HELP meridian_command_duration_seconds From a command"));
        assert!(text.contains("meridian_command_duration_seconds_bucket{le=\"0.005\"}"));
    }

    #[test]
    fn what_is_zero_from_the_start_is_shown() {
        assert!(
            install()
                .render()
                .contains("meridian_hints_dropped_total 0")
        );
    }
}
