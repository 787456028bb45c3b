//! `[log]`: what a node says on stderr.

use serde::{Deserialize, Serialize};

/// What a node says on stderr.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    /// The least important line that is written: `error`, `warn`, `info`, `debug` or `trace`; default `info`. The
    /// environment variable `RUST_LOG` (as `info,node::peer=debug`) wins over it. `debug` is one line per session and
    /// batch, `trace` one per message: for minutes, not for days.
    pub level: Verbosity,
    /// `text` for people, `json` (one object a line) for collectors; default `text`.
    pub format: Format,
}

/// The least important line that is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verbosity {
    /// What an operator must act on.
    Error,
    /// What may become an error.
    Warn,
    /// What a node does: starts, peers, repairs.
    Info,
    /// How it does it.
    Debug,
    /// Every step.
    Trace,
}

/// How a line is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

impl Default for Log {
    fn default() -> Self {
        Self {
            level: Verbosity::Info,
            format: Format::Text,
        }
    }
}

impl Verbosity {
    /// The level as a filter directive.
    pub const fn directive(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}
