//! What happened, line by line: kept to be compared, or shown, or neither.

use std::{fmt::Write, time::Duration};

/// The lines of a run.
#[derive(Debug, Default)]
pub struct Trace {
    mode: TraceMode,
    lines: Vec<String>,
}

/// What becomes of the lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TraceMode {
    /// They are not even made.
    #[default]
    Off,
    /// They are kept.
    Keep,
}

impl Trace {
    /// A trace without lines.
    pub fn new(mode: TraceMode) -> Self {
        Self {
            mode,
            lines: Vec::new(),
        }
    }

    /// Adds a line, which is made only if it is wanted.
    pub fn line(&mut self, now: Duration, text: impl FnOnce() -> String) {
        if self.mode == TraceMode::Keep {
            let mut line = format!("{:>12.6} ", now.as_secs_f64());
            // Writing to a string does not fail.
            let _ = write!(line, "{}", text());
            self.lines.push(line);
        }
    }

    /// The lines.
    pub fn lines(&self) -> &[String] {
        &self.lines
    }
}
