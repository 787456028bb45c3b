//! How a run differs from what its seed says: shorter, with fewer kinds of faults, at another level.

use std::{collections::BTreeSet, fmt};

use node::level::Level;

use super::fault::FaultKind;

/// What is different. Nothing is, by default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Variation {
    /// Operations that clients ask while faults strike, instead of as many as the seed says.
    pub steps: Option<usize>,
    /// Kinds of faults that do not strike.
    pub without: BTreeSet<FaultKind>,
    /// The level that every client asks for. What is promised of quorums is looked for all the same: at a lower one the checks
    /// must find something.
    pub level: Option<Level>,
}

impl Variation {
    /// A run of so many operations.
    pub fn of_steps(steps: Option<usize>) -> Self {
        Self {
            steps,
            ..Self::default()
        }
    }
}

/// As the command line has it.
impl fmt::Display for Variation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(steps) = self.steps {
            write!(f, " --steps {steps}")?;
        }
        let kinds: Vec<&str> = self.without.iter().map(|kind| kind.name()).collect();
        if !kinds.is_empty() {
            write!(f, " --without {}", kinds.join(","))?;
        }
        if let Some(level) = self.level {
            write!(f, " --level {level}")?;
        }
        Ok(())
    }
}
