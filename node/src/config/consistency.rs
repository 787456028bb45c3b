//! `[consistency]`: when a command is answered.

use std::{ops::RangeInclusive, time::Duration};

use serde::{Deserialize, Serialize};

use super::{Level, Reason, Warning, duration, faults::Faults};

/// The levels of connections that chose none, and how long a command may take.
///
/// This version acknowledges at one replica of its own region, so it takes the two levels that mean just that with one
/// replica: `local_quorum` and `one`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Consistency {
    /// Replicas that a read asks. Default `local_quorum`.
    pub read: Level,
    /// Replicas on which a write is durable before it is acknowledged. Default `local_quorum`.
    pub write: Level,
    /// Lets a node that is no replica hold a write as a hint and count for the level while a replica is away. Default
    /// `false`: with it, a read may miss an acknowledged write. Without effect while a region has one replica.
    pub sloppy: bool,
    /// How long a command may wait before it is answered `-TIMEOUT`; 10 ms to 5 min, default `2s`. Rule of thumb: ten
    /// times the round trip that the level needs, and more than the disk's worst pause. Too small: writes that took
    /// effect are reported as unknown. Too large: clients of a stuck node pile up.
    #[serde(with = "duration")]
    pub timeout: Duration,
}

impl Default for Consistency {
    fn default() -> Self {
        Self {
            read: Level::LocalQuorum,
            write: Level::LocalQuorum,
            sloppy: false,
            timeout: Duration::from_secs(2),
        }
    }
}

impl Consistency {
    pub(super) fn check(&self, replicas: u8, faults: &mut Faults) {
        if self.read == Level::EachQuorum {
            faults.note("consistency.read", Reason::EachQuorumRead);
        } else {
            check_level("consistency.read", self.read, replicas, faults);
        }
        check_level("consistency.write", self.write, replicas, faults);
        faults.bound_duration("consistency.timeout", self.timeout, TIMEOUT);
    }

    pub(super) fn warnings(&self) -> Option<Warning> {
        self.sloppy.then(|| Warning {
            key: "consistency.sloppy".to_owned(),
            detail: "has no effect in this version, which keeps one replica per region",
        })
    }
}

fn check_level(key: &str, level: Level, replicas: u8, faults: &mut Faults) {
    match level {
        // A region without replicas has its own fault.
        Level::Replicas(count) if replicas > 0 && count.get() > replicas => {
            faults.note(key, Reason::AboveReplicas { replicas });
        }
        Level::Replicas(count) if count.get() == 1 => {}
        Level::LocalQuorum => {}
        Level::Replicas(_) | Level::EachQuorum | Level::Quorum | Level::All => {
            faults.note(key, Reason::LevelNotYet);
        }
    }
}

const TIMEOUT: RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_secs(300);
