//! What a node is told before it starts. Every knob: its unit, its bounds, and what breaks when it is too small or too large.

use std::{ops::RangeInclusive, time::Duration};

use thiserror::Error;

use crate::{
    identity::{Directory, Generation, Identity, Protocol},
    limits::{DATAGRAM_BYTES_DEFAULT, DATAGRAM_BYTES_MAX, DATAGRAM_BYTES_MIN, MEMBERS_MAX},
    name::{Address, Cluster, NodeId, Region},
    phi::PHI_MAX,
    settings::Settings,
};

/// Who the node is in this life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Myself {
    /// Its name, unique in the cluster.
    pub node: NodeId,
    /// The number of its data directory.
    pub directory: Directory,
    /// Which of its lives begins: above every earlier one.
    pub generation: Generation,
    /// Where it stands.
    pub region: Region,
    /// Where others reach it.
    pub address: Address,
    /// Which releases it understands.
    pub protocol: Protocol,
}

impl Myself {
    pub(crate) fn identity(self, settings: &Settings) -> Identity {
        Identity {
            node: self.node,
            directory: self.directory,
            generation: self.generation,
            region: self.region,
            address: self.address,
            settings: settings.digest(),
            protocol: self.protocol,
        }
    }
}

/// How a node gossips and whom it believes. The README says how to choose.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// The cluster's name: others are refused.
    pub cluster: Cluster,
    /// What must be equal on all nodes: contradictions are refused.
    pub settings: Settings,
    /// Time between two rounds: 20 ms to 10 s, default 200 ms. Detection takes 2 to 4 of them. Too small: traffic, and suspicion on
    /// busy machines. Too large: an absence is noticed late.
    pub interval: Duration,
    /// Peers asked in a round: 1 to 16, default 4. Too small: heartbeats arrive irregularly and detection is slow. Too large: traffic.
    pub fanout: usize,
    /// Size of the largest message: 1,000 to 1,400 bytes, default 1,162. Too large for the path: messages are lost whole.
    pub datagram_bytes: usize,
    /// Most bytes sent in one round, answers included: 4 to 1,024 datagrams, default 24 of them. Too small: answers are
    /// withheld, and knowledge spreads slowly in large clusters. It bounds the traffic whatever others ask for.
    pub round_bytes: usize,
    /// Phi at which a node of the own region is suspected: above 0, up to 1,000, default 9. See `phi.rs` for seconds. Too small: false
    /// suspicions. Too large: detection is slow.
    pub phi_local: f64,
    /// The same for nodes of other regions, whose paths vary more: default 10.
    pub phi_remote: f64,
    /// Phi at which a node is asked directly whether it lives: above 0 and below both others, default 1.3, which is one interval in
    /// twenty. Too small: many questions to healthy nodes. Too large: long intervals stay long, and detection has to wait for longer ones.
    pub phi_ask: f64,
    /// Floor on the deviation of heartbeat intervals: 1 ms to 10 s, default a quarter of `interval`. Too small: the first late heartbeat of
    /// a regular node is fatal. Too large: detection is slow.
    pub deviation_floor: Duration,
    /// Heartbeat intervals remembered per node: 8 to 1,000, default 200. Too small: the estimate jumps about. Too large: it follows
    /// a changed path slowly.
    pub window: usize,
    /// How long a node stays suspected before it counts as down: 0 to 1 h, default 2 s.
    pub down_after: Duration,
    /// How long a node that is down or left stays known: 1 s to 30 days, default 24 h. In the second half others are no longer told of it.
    /// Too small: after a long partition only seeds bring the sides together. Too large: lists of the dead.
    pub dead_grace: Duration,
    /// How long a removed key is remembered by its owner: 1 s to 30 days, default 1 h. Afterwards its owner publishes its other keys
    /// anew, and nodes that were away longer begin afresh with them.
    pub tombstone_grace: Duration,
    /// Most other nodes that are known at once: 1 to 4,096, default 1,024. Further ones are refused.
    pub members_max: usize,
}

impl Config {
    /// Defaults for a cluster of this name.
    pub fn new(cluster: Cluster) -> Self {
        let interval = Duration::from_millis(200);
        Self {
            cluster,
            settings: Settings::default(),
            interval,
            fanout: 4,
            datagram_bytes: DATAGRAM_BYTES_DEFAULT,
            round_bytes: 24 * DATAGRAM_BYTES_DEFAULT,
            phi_local: 9.0,
            phi_remote: 10.0,
            phi_ask: 1.3,
            deviation_floor: interval / 4,
            window: 200,
            down_after: Duration::from_secs(2),
            dead_grace: Duration::from_secs(24 * 3_600),
            tombstone_grace: Duration::from_secs(3_600),
            members_max: 1_024,
        }
    }

    /// The defaults at another interval: what hangs on it follows.
    pub fn with_interval(mut self, interval: Duration) -> Self {
        self.interval = interval;
        self.deviation_floor = (interval / 4).max(*DEVIATION_FLOOR.start());
        self
    }

    /// Whether every value is within its bounds.
    pub fn check(&self) -> Result<(), ConfigError> {
        check_duration("interval", self.interval, &INTERVAL)?;
        check_duration("deviation_floor", self.deviation_floor, &DEVIATION_FLOOR)?;
        check_duration("down_after", self.down_after, &DOWN_AFTER)?;
        check_duration("dead_grace", self.dead_grace, &GRACE)?;
        check_duration("tombstone_grace", self.tombstone_grace, &GRACE)?;
        check_count("fanout", self.fanout, &(1..=16))?;
        check_count("window", self.window, &(8..=1_000))?;
        check_count("members_max", self.members_max, &(1..=MEMBERS_MAX))?;
        check_count("datagram_bytes", self.datagram_bytes, &DATAGRAM)?;
        let datagrams = 4 * self.datagram_bytes..=1_024 * self.datagram_bytes;
        check_count("round_bytes", self.round_bytes, &datagrams)?;
        check_phi("phi_ask", self.phi_ask, PHI_MAX)?;
        check_phi("phi_local", self.phi_local, PHI_MAX)?;
        check_phi("phi_remote", self.phi_remote, PHI_MAX)?;
        check_phi("phi_ask", self.phi_ask, self.phi_local.min(self.phi_remote))
    }
}

/// A value out of its bounds. *State unchanged.*
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{knob} must be {bounds}, and is {found}")]
pub struct ConfigError {
    knob: &'static str,
    bounds: String,
    found: String,
}

fn check_duration(
    knob: &'static str,
    found: Duration,
    bounds: &RangeInclusive<Duration>,
) -> Result<(), ConfigError> {
    if bounds.contains(&found) {
        return Ok(());
    }
    let bounds = format!("{:?} to {:?}", bounds.start(), bounds.end());
    let found = format!("{found:?}");
    Err(ConfigError {
        knob,
        bounds,
        found,
    })
}

fn check_count(
    knob: &'static str,
    found: usize,
    bounds: &RangeInclusive<usize>,
) -> Result<(), ConfigError> {
    if bounds.contains(&found) {
        return Ok(());
    }
    let bounds = format!("{} to {}", bounds.start(), bounds.end());
    let found = found.to_string();
    Err(ConfigError {
        knob,
        bounds,
        found,
    })
}

/// Written so that NaN fails it.
fn check_phi(knob: &'static str, found: f64, highest: f64) -> Result<(), ConfigError> {
    if found > 0.0 && found <= highest {
        return Ok(());
    }
    let bounds = format!("above 0 and up to {highest}");
    let found = found.to_string();
    Err(ConfigError {
        knob,
        bounds,
        found,
    })
}

const INTERVAL: RangeInclusive<Duration> = Duration::from_millis(20)..=Duration::from_secs(10);
const DEVIATION_FLOOR: RangeInclusive<Duration> =
    Duration::from_millis(1)..=Duration::from_secs(10);
const DOWN_AFTER: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(3_600);
const GRACE: RangeInclusive<Duration> =
    Duration::from_secs(1)..=Duration::from_secs(30 * 24 * 3_600);
const DATAGRAM: RangeInclusive<usize> = DATAGRAM_BYTES_MIN..=DATAGRAM_BYTES_MAX;

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> Config {
        Config::new("demo".parse().expect("a name"))
    }

    #[test]
    fn the_defaults_are_within_their_bounds() {
        assert_eq!(config().check(), Ok(()));
        let slow = config().with_interval(Duration::from_secs(1));
        assert_eq!(slow.check(), Ok(()));
    }

    #[test]
    fn a_value_out_of_bounds_is_named() {
        let nan = Config {
            phi_local: f64::NAN,
            ..config()
        };
        let eager = Config {
            phi_ask: 9.5,
            ..config()
        };
        let small = Config {
            datagram_bytes: 500,
            ..config()
        };
        for (wrong, knob) in [
            (nan, "phi_local"),
            (eager, "phi_ask"),
            (small, "datagram_bytes"),
        ] {
            let error = wrong.check().expect_err("out of bounds");
            assert!(error.to_string().starts_with(knob), "{error}");
        }
    }
}
