//! How often each command ran, how it went, and how long it took: for Prometheus and for INFO.
//!
//! Metering must cost less than a command. So a connection counts in a small local [`Tally`] and settles it once per
//! round, with one look at the clock; the handles of the metrics are resolved once, when a command is first used: a series for
//! every command and outcome would be two thousand lines of zeros.

use std::{
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use metrics::{Counter, Histogram};

use super::table::{self, CommandIndex, TABLE};
use crate::{
    core::reply::Reply,
    metrics::{COMMAND_DURATION_SECONDS as DURATION, COMMANDS_TOTAL as COMMANDS},
};

/// How one command went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It was carried out.
    Ok,
    /// It was tried and refused.
    Failed,
    /// It never ran: unknown, wrong number of arguments, too large.
    Rejected,
}

impl Outcome {
    pub(super) fn of(reply: &Reply) -> Self {
        match reply {
            Reply::Error(_) => Self::Failed,
            _ => Self::Ok,
        }
    }
}

/// What one round counted.
#[derive(Debug, Default)]
pub(super) struct Tally {
    rows: Vec<Row>,
    commands: u64,
}

#[derive(Debug)]
struct Row {
    command: CommandIndex,
    ok: u64,
    failed: u64,
    rejected: u64,
}

impl Tally {
    pub(super) fn count(&mut self, command: CommandIndex, outcome: Outcome) {
        self.commands += 1;
        // A round has few different commands, and the last one is the likeliest.
        let row = match self.rows.iter_mut().rposition(|row| row.command == command) {
            Some(index) => &mut self.rows[index],
            None => {
                self.rows.push(Row {
                    command,
                    ok: 0,
                    failed: 0,
                    rejected: 0,
                });
                let last = self.rows.len() - 1;
                &mut self.rows[last]
            }
        };
        match outcome {
            Outcome::Ok => row.ok += 1,
            Outcome::Failed => row.failed += 1,
            Outcome::Rejected => row.rejected += 1,
        }
    }
}

/// The meters of all commands.
#[derive(Debug)]
pub(super) struct Meters {
    /// One per row of the table, and one for unknown commands behind them.
    meters: Vec<Meter>,
}

struct Meter {
    command: &'static str,
    ok: OnceLock<Counter>,
    failed: OnceLock<Counter>,
    rejected: OnceLock<Counter>,
    duration: OnceLock<Histogram>,
    calls: AtomicU64,
    busy_us: AtomicU64,
    failures: AtomicU64,
    rejections: AtomicU64,
}

impl std::fmt::Debug for Meter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Meter").finish_non_exhaustive()
    }
}

impl Meters {
    pub(super) fn new() -> Self {
        metrics::describe_counter!(COMMANDS, "Commands by name and how they went.");
        metrics::describe_histogram!(
            DURATION,
            metrics::Unit::Seconds,
            "How long the rounds took in which the command ran, from parsing to reply; one sample per round."
        );
        let names = TABLE.iter().map(|command| command.name);
        let meters = names.chain(["unknown"]).map(Meter::new).collect();
        Self { meters }
    }

    /// Adds what a round counted, which took so long, and empties the tally.
    pub(super) fn settle(&self, tally: &mut Tally, took: Duration) {
        let each = took.as_secs_f64() / tally.commands.max(1) as f64;
        for row in tally.rows.drain(..) {
            self.meter(row.command).add(&row, took, each);
        }
        tally.commands = 0;
    }

    /// How many commands ran.
    pub(super) fn processed(&self) -> u64 {
        let calls = self
            .meters
            .iter()
            .map(|meter| meter.calls.load(Ordering::Relaxed));
        calls.sum()
    }

    /// How many commands were answered with an error.
    pub(super) fn refused(&self) -> u64 {
        let refused = |meter: &Meter| {
            meter.failures.load(Ordering::Relaxed) + meter.rejections.load(Ordering::Relaxed)
        };
        self.meters.iter().map(refused).sum()
    }

    /// Forgets what INFO shows (CONFIG RESETSTAT). The metrics only ever rise.
    pub(super) fn reset(&self) {
        for meter in &self.meters {
            meter.calls.store(0, Ordering::Relaxed);
            meter.busy_us.store(0, Ordering::Relaxed);
            meter.failures.store(0, Ordering::Relaxed);
            meter.rejections.store(0, Ordering::Relaxed);
        }
    }

    /// The fields of INFO's Commandstats.
    pub(super) fn command_stats(&self) -> Vec<(String, String)> {
        let named = self.meters.iter().zip(TABLE);
        named
            .filter_map(|(meter, command)| {
                Some((format!("cmdstat_{}", command.name), meter.stats()?))
            })
            .collect()
    }

    fn meter(&self, command: CommandIndex) -> &Meter {
        let last = self.meters.len() - 1;
        &self.meters[usize::from(command.0).min(last)]
    }
}

impl Meter {
    fn new(command: &'static str) -> Self {
        Self {
            command,
            ok: OnceLock::new(),
            failed: OnceLock::new(),
            rejected: OnceLock::new(),
            duration: OnceLock::new(),
            calls: AtomicU64::new(0),
            busy_us: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            rejections: AtomicU64::new(0),
        }
    }

    fn add(&self, row: &Row, took: Duration, each: f64) {
        let calls = row.ok + row.failed;
        self.count(&self.ok, "ok", row.ok);
        self.count(&self.failed, "error", row.failed);
        self.count(&self.rejected, "rejected", row.rejected);
        if calls > 0 {
            let duration = || metrics::histogram!(DURATION, "command" => self.command);
            let duration = self.duration.get_or_init(duration);
            duration.record(took.as_secs_f64());
            self.calls.fetch_add(calls, Ordering::Relaxed);
            let busy_us = each * calls as f64 * 1e6;
            self.busy_us.fetch_add(busy_us as u64, Ordering::Relaxed);
        }
        if row.failed > 0 {
            self.failures.fetch_add(row.failed, Ordering::Relaxed);
        }
        if row.rejected > 0 {
            self.rejections.fetch_add(row.rejected, Ordering::Relaxed);
        }
    }

    /// Adds to a counter, which is there from its first count on.
    fn count(&self, counter: &OnceLock<Counter>, outcome: &'static str, times: u64) {
        if times == 0 {
            return;
        }
        let new = || metrics::counter!(COMMANDS, "command" => self.command, "outcome" => outcome);
        counter.get_or_init(new).increment(times);
    }

    fn stats(&self) -> Option<String> {
        let calls = self.calls.load(Ordering::Relaxed);
        let rejected = self.rejections.load(Ordering::Relaxed);
        let failed = self.failures.load(Ordering::Relaxed);
        if calls + rejected + failed == 0 {
            return None;
        }
        let busy_us = self.busy_us.load(Ordering::Relaxed);
        let each = busy_us as f64 / calls.max(1) as f64;
        Some(format!(
            "calls={calls},usec={busy_us},usec_per_call={each:.2},rejected_calls={rejected},failed_calls={failed}"
        ))
    }
}

const _: () = assert!(table::TABLE.len() < u16::MAX as usize);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_series_is_there_once_it_counts_something() {
        let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
        let handle = recorder.handle();
        metrics::with_local_recorder(&recorder, || {
            let meters = Meters::new();
            let series = || -> Vec<String> {
                let text = handle.render();
                let lines = text
                    .lines()
                    .filter(|line| line.starts_with("meridian_command"));
                lines.map(str::to_owned).collect()
            };
            assert!(series().is_empty(), "{:?}", series());
            let get = table::find(b"GET", None).expect("in the table").index;
            let mut tally = Tally::default();
            tally.count(get, Outcome::Ok);
            meters.settle(&mut tally, Duration::from_micros(80));
            let counted = "meridian_commands_total{command=\"get\",outcome=\"ok\"} 1";
            assert!(
                series().iter().any(|line| line == counted),
                "{:?}",
                series()
            );
            assert!(series().iter().all(|line| line.contains("command=\"get\"")));
            assert!(!series().iter().any(|line| line.contains("rejected")));
        });
    }

    #[test]
    fn a_tally_is_added_once_and_forgotten() {
        let meters = Meters::new();
        let get = table::find(b"GET", None).expect("in the table").index;
        let mut tally = Tally::default();
        tally.count(get, Outcome::Ok);
        tally.count(get, Outcome::Failed);
        tally.count(get, Outcome::Rejected);
        tally.count(CommandIndex::UNKNOWN, Outcome::Rejected);
        meters.settle(&mut tally, Duration::from_micros(80));
        meters.settle(&mut tally, Duration::from_micros(80));
        assert_eq!(
            meters.command_stats(),
            [(
                "cmdstat_get".to_owned(),
                "calls=2,usec=40,usec_per_call=20.00,rejected_calls=1,failed_calls=1".to_owned()
            )]
        );
        assert_eq!((meters.processed(), meters.refused()), (2, 3));
        meters.reset();
        assert!(meters.command_stats().is_empty());
    }
}
