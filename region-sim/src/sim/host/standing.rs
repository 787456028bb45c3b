//! How a host stands, seen from outside: what waits in it, how far others are with its logs, and the bounds that it keeps.

use node::{
    core::ship::Destination,
    storage::{Family, Storage},
};

use super::Host;
use crate::{
    check::{Violation, answered::LogEnd},
    sim::{desk::Desk, ledger::Ledger},
};

impl Host {
    /// What still waits to be shipped from here, as the shards see it; and what keeps it.
    pub fn waiting(&self) -> Vec<String> {
        let Some(process) = &self.process else {
            return vec!["no process".to_owned()];
        };
        let mut waiting = Vec::new();
        if !self.is_well() {
            waiting.push("the storage has failed".to_owned());
        }
        for worker in &process.workers {
            if !worker.has_answered() {
                waiting.push("a shard has not answered everybody".to_owned());
            }
            for (region, lag) in worker.shard.shipper().lags() {
                if lag.rows > 0 || lag.since.is_some() {
                    waiting.push(format!("{region} lags: {lag:?}"));
                }
            }
        }
        waiting
    }

    /// Regions that lack rows for good, as the shards see it.
    pub fn repairs(&self) -> Vec<String> {
        let workers = self.process.iter().flat_map(|process| &process.workers);
        workers
            .flat_map(|worker| worker.shard.shipper().lags())
            .filter(|(_, lag)| lag.needs_repair)
            .map(|(region, _)| region.to_string())
            .collect()
    }

    /// Whether it lacks writes that other replicas have, as it says itself.
    pub fn is_short(&self) -> bool {
        let process = self.process.as_ref();
        process.is_some_and(|process| process.inbox.shortage().is_of_replica())
    }

    /// How far others are with the logs that its shards write now.
    pub fn log_ends(&self, ledger: &Ledger) -> Vec<LogEnd> {
        let newest = ledger.newest(self.index);
        let mut ends = Vec::new();
        for worker in self.process.iter().flat_map(|process| &process.workers) {
            let actor = worker.shard.actor();
            let Some(&newest) = newest.get(&actor) else {
                continue;
            };
            let shipper = worker.shard.shipper();
            let home = self.home();
            ends.extend(home.destinations().map(|destination| {
                let progress = shipper.progress(&destination, actor);
                let heard = progress.map(|progress| match destination {
                    // An answer is asked for only while a client waits for it.
                    Destination::Replica(_) => progress.taken,
                    Destination::Region(_) => {
                        progress.taken.min(progress.majority).min(progress.every)
                    }
                });
                LogEnd {
                    actor,
                    newest,
                    heard,
                    destination,
                }
            }));
        }
        ends
    }

    /// Bounds that always hold.
    pub fn check(&self, desk: &Desk) -> Vec<Violation> {
        let mut bytes = 0;
        let scanned = self
            .storage
            .scan(Family::Outbox, b"", None, &mut |_, value| {
                bytes += value.len() as u64;
                std::ops::ControlFlow::Continue(())
            });
        assert!(scanned.is_ok(), "reads of the simulated disk do not fail");
        let actors = self
            .process
            .as_ref()
            .map_or(1, |process| process.identity.actors().count() as u64);
        let most = desk.plan.outbox_bytes.saturating_mul(actors) + OUTBOX_SLACK_BYTES;
        let is_bounded = bytes <= most || !self.is_well() || self.paused_until > desk.now;
        let too_much = (!is_bounded).then(|| {
            Violation::new(
                "outbox",
                format!("n{} keeps {bytes} bytes, and may keep {most}", self.index),
            )
        });
        too_much.into_iter().collect()
    }
}

/// What the outbox may take beyond its bound until it is trimmed next.
const OUTBOX_SLACK_BYTES: u64 = 100_000;
