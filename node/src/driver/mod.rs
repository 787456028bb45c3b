//! Threads and clock.

use crate::config::Config;

/// Why a node does not run, or no longer.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// There is no driver in this build. *State unchanged.*
    #[error("this build has no driver: it cannot run node {0}")]
    NoDriver(crate::names::NodeName),
}

impl RunError {
    /// What the process exits with: 1 failed, 2 config, 3 data directory refused.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::NoDriver(_) => 1,
        }
    }
}

/// Runs a node until it is told to stop.
pub fn run(config: Config) -> Result<(), RunError> {
    Err(RunError::NoDriver(config.node.name))
}
