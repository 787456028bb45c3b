//! Why a verb failed, and the exit code that says so.

use std::{io, process::ExitCode};

use node::{config::ConfigError, driver::RunError, tls::AuthorityError};

use super::{client::ClientError, complaint::complain, door::DoorError};
use crate::logging::LoggingError;

/// Why a verb failed.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The config is wrong. *State unchanged.*
    #[error("{0}")]
    Config(#[from] ConfigError),
    /// `RUST_LOG` is wrong. *State unchanged.*
    #[error("meridian: {0}")]
    Logging(#[from] LoggingError),
    /// The node could not run, or stopped. *As the node's error says.*
    #[error("meridian: {0}")]
    Run(#[from] RunError),
    /// Certificates could not be made. *As the error of the authority says.*
    #[error("meridian: {0}")]
    Authority(#[from] AuthorityError),
    /// A node's HTTP door did not do what was asked. *As the door's error says.*
    #[error("meridian: {0}")]
    Door(#[from] DoorError),
    /// A node could not be talked to. *Whether it carried out the last command is unknown.*
    #[error("meridian: {0}")]
    Client(#[from] ClientError),
    /// The node answered with an error, which has been shown. *As that error says.*
    #[error("the node answered with an error")]
    Refused,
    /// What was asked about is not so, or not in time. *State unchanged.*
    #[error("meridian: {0}")]
    Unmet(String),
    /// The result could not be written. *State unchanged.*
    #[error("meridian: cannot write: {0}")]
    Output(#[from] io::Error),
}

impl Failure {
    /// Says it on stderr, once, and gives the exit code.
    pub fn report(&self) -> ExitCode {
        match self {
            // The reader has enough, as in `… | head`.
            Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                return ExitCode::SUCCESS;
            }
            Self::Refused => {}
            _ => complain(self),
        }
        ExitCode::from(self.code())
    }

    /// 1 failed, 2 config or usage, 3 data directory refused.
    fn code(&self) -> u8 {
        match self {
            Self::Config(_) | Self::Logging(_) => 2,
            Self::Run(error) => error.exit_code(),
            Self::Authority(_)
            | Self::Door(_)
            | Self::Client(_)
            | Self::Refused
            | Self::Unmet(_)
            | Self::Output(_) => 1,
        }
    }
}
