//! `[consistency]`: when a command is answered.

use std::{ops::RangeInclusive, time::Duration};

use serde::{Deserialize, Serialize};

use super::{Level, Reason, duration, faults::Faults};

/// The levels of connections that chose none, and how long a command may take.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Consistency {
    /// Replicas that a read asks. Default `local_quorum`.
    pub read: Level,
    /// Replicas on which a write is durable before it is acknowledged. Default `local_quorum`.
    pub write: Level,
    /// Lets nodes that are no replicas hold writes as hints and count for their level while replicas are away; not for `all`.
    /// Default `false`. Reads ask replicas only, so what stand-ins hold is not seen until it is handed back.
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
}

/// A region without replicas forwards, and the level is that of the region that is asked: nothing to compare with here.
fn check_level(key: &str, level: Level, replicas: u8, faults: &mut Faults) {
    match level {
        Level::Replicas(count) if replicas > 0 && count.get() > replicas => {
            faults.note(key, Reason::AboveReplicas { replicas });
        }
        Level::Replicas(_)
        | Level::LocalQuorum
        | Level::EachQuorum
        | Level::Quorum
        | Level::All => {}
    }
}

const TIMEOUT: RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_secs(300);
