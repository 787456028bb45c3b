//! Log lines on stderr.

use std::{env, io, io::IsTerminal};

use node::config::{Format, Log};
use tracing_subscriber::{EnvFilter, filter::ParseError, fmt};

/// Why logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum LoggingError {
    /// `RUST_LOG` is no filter. *State unchanged.*
    #[error("RUST_LOG '{text}': {reason}")]
    Filter { text: String, reason: ParseError },
}

/// Writes log lines to stderr from now on. `RUST_LOG`, if set, wins over the config's level.
pub fn start(log: &Log) -> Result<(), LoggingError> {
    let filter = filter(log, env::var("RUST_LOG").ok())?;
    let lines = fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        // Where stderr is a pipe that nobody reads, a line about that has nowhere to go either, and would end the process.
        .log_internal_errors(false)
        .with_ansi(io::stderr().is_terminal());
    match log.format {
        Format::Text => lines.init(),
        Format::Json => lines.json().flatten_event(true).init(),
    }
    Ok(())
}

fn filter(log: &Log, rust_log: Option<String>) -> Result<EnvFilter, LoggingError> {
    let text = rust_log.filter(|text| !text.trim().is_empty());
    let text = text.unwrap_or_else(|| log.level.directive().to_owned());
    EnvFilter::try_new(&text).map_err(|reason| LoggingError::Filter { text, reason })
}

#[cfg(test)]
mod tests {
    use node::config::Verbosity;

    use super::*;

    #[test]
    fn the_environment_wins_over_the_config() {
        let log = Log {
            level: Verbosity::Warn,
            format: Format::Text,
        };
        let shown = |rust_log: Option<&str>| {
            filter(&log, rust_log.map(str::to_owned)).map(|filter| filter.to_string())
        };
        assert_eq!(shown(None).unwrap(), "warn");
        assert_eq!(shown(Some(" ")).unwrap(), "warn");
        assert_eq!(shown(Some("node::peer=debug")).unwrap(), "node::peer=debug");
        assert!(shown(Some("node=loud")).is_err());
    }
}
