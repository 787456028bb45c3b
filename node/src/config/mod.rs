//! Configuration: one TOML file, parsed once into types and then checked as a whole.
//!
//! ```text
//!   text ──toml──▶ typed sections ──check──▶ Config        or every fault, each with file, line, key and reason
//! ```
//!
//! Unknown keys are errors. Durations and sizes are strings (`"3h"`, `"16MiB"`). Relative paths are relative to the
//! directory that the node is started in, never to the file: a path means the same in the config and on a command line.

pub mod address;
pub mod clock;
pub mod consistency;
pub mod duration;
pub mod error;
pub mod gossip;
pub mod hints;
pub mod identity;
pub mod limits;
pub mod listen;
pub mod log;
pub mod members;
pub mod peers;
pub mod regions;
pub mod seed;
pub mod size;
pub mod storage;
pub mod tls;
pub mod warning;

mod faults;
mod source;
#[cfg(test)]
mod tests;

use std::{fs::File, io::Read, path::Path};

use serde::{Deserialize, Serialize};

pub use self::{
    clock::Clock,
    consistency::Consistency,
    error::{ConfigError, Fault, Position, Reason},
    gossip::Gossip,
    hints::Hints,
    identity::Identity,
    limits::Limits,
    listen::Listen,
    log::{Format, Log, Verbosity},
    members::Members,
    peers::Peers,
    regions::Regions,
    size::Size,
    storage::{Fsync, Storage},
    tls::Tls,
    warning::Warning,
};
use self::{faults::Faults, source::Source};
pub use crate::level::Level;

/// A node's whole configuration. Every value in it has been checked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Who this node is.
    pub node: Identity,
    /// Where it listens.
    #[serde(default)]
    pub listen: Listen,
    /// How it proves who it is.
    pub tls: Tls,
    /// Whom it connects to.
    #[serde(default)]
    pub peers: Peers,
    /// How many replicas each region keeps.
    pub regions: Regions,
    /// The nodes that each region's keys are placed on.
    #[serde(default)]
    pub members: Members,
    /// When a command is answered.
    #[serde(default)]
    pub consistency: Consistency,
    /// How state is kept on disk.
    #[serde(default)]
    pub storage: Storage,
    /// What is kept for those who are away.
    #[serde(default)]
    pub hints: Hints,
    /// How nodes notice each other's absence.
    #[serde(default)]
    pub gossip: Gossip,
    /// How far clocks may differ.
    #[serde(default)]
    pub clock: Clock,
    /// What a client may ask for.
    #[serde(default)]
    pub limits: Limits,
    /// What is logged.
    #[serde(default)]
    pub log: Log,
}

impl Config {
    /// Reads and checks the config in `file`.
    pub fn load(file: &Path) -> Result<Self, ConfigError> {
        let unreadable = |reason| ConfigError::Unreadable {
            file: file.to_owned(),
            reason,
        };
        let mut text = String::new();
        let read = File::open(file)
            .and_then(|opened| opened.take(FILE_BYTES_MAX + 1).read_to_string(&mut text))
            .map_err(unreadable)?;
        if read as u64 > FILE_BYTES_MAX {
            return Err(ConfigError::TooLong {
                file: file.to_owned(),
                limit: Size::new(FILE_BYTES_MAX),
            });
        }
        Self::parse(&text, file)
    }

    /// Parses and checks a config; `file` is the name that errors give it.
    pub fn parse(text: &str, file: &Path) -> Result<Self, ConfigError> {
        let source = Source::new(text);
        let config: Self = toml::from_str(text).map_err(|error| ConfigError::Wrong {
            file: file.to_owned(),
            faults: vec![source.fault_of(&error)],
        })?;
        let faults = source.place(config.faults());
        if faults.is_empty() {
            return Ok(config);
        }
        Err(ConfigError::Wrong {
            file: file.to_owned(),
            faults,
        })
    }

    /// The whole config as TOML, every default included. Parsing it gives an equal config.
    pub fn effective(&self) -> String {
        toml::to_string(self)
            .expect("every section is a table of strings, numbers, booleans, arrays and tables of those, which TOML has")
    }

    /// What is legal and probably not meant.
    pub fn warnings(&self) -> Vec<Warning> {
        self.regions.warnings()
    }

    fn faults(&self) -> Faults {
        let mut faults = Faults::default();
        self.node.check(&mut faults);
        self.listen.check(&mut faults);
        self.tls.check(&mut faults);
        self.peers
            .check(&self.node.name, self.listen.quic, &mut faults);
        self.regions.check(&self.node.region, &mut faults);
        self.members.check(&self.node, &self.regions, &mut faults);
        let replicas = self.regions.replicas(&self.node.region);
        self.consistency.check(replicas, &mut faults);
        self.storage.check(&mut faults);
        self.hints.check(&mut faults);
        self.gossip.check(&mut faults);
        self.clock.check(&mut faults);
        self.limits.check(&mut faults);
        faults
    }
}

/// A config is a page of text; a file beyond this is something else, given by mistake.
const FILE_BYTES_MAX: u64 = 1 << 20;
