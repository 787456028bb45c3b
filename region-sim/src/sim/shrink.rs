//! A failing run made smaller: fewer operations, then fewer kinds of faults, as far as it still breaks the same promise.
//!
//! Greedy: each change that keeps the failure is kept. A run is a function of its seed and its variation, so what is found here
//! fails again wherever it is run.

use super::{outcomes_of, trace::TraceMode, variation::Variation};
use crate::check::Violation;

/// A smaller run that fails.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shrunk {
    /// How it differs from what the seed says.
    pub variation: Variation,
    /// What it breaks first.
    pub violation: Violation,
    /// Runs that it took to find it.
    pub runs: usize,
}

/// Shrinks a seed's run, which asked `operations` and broke the promise of `violation`.
pub fn shrink(
    seed: u64,
    variation: &Variation,
    operations: usize,
    violation: &Violation,
) -> Shrunk {
    let mut search = Search {
        seed,
        best: Shrunk {
            variation: variation.clone(),
            violation: violation.clone(),
            runs: 0,
        },
    };
    search.shorten(variation.steps.unwrap_or(operations));
    search.calm();
    let steps = search.best.variation.steps.unwrap_or(operations);
    search.shorten(steps);
    search.best
}

struct Search {
    seed: u64,
    best: Shrunk,
}

impl Search {
    /// Fewer operations: large cuts while they do, then smaller ones.
    fn shorten(&mut self, mut steps: usize) {
        let mut cut = steps / 2;
        while cut > 0 {
            let fewer = Variation {
                steps: Some(steps - cut),
                ..self.best.variation.clone()
            };
            if self.fails(fewer) {
                steps -= cut;
                cut = cut.min(steps / 2);
            } else {
                cut /= 2;
            }
        }
    }

    /// Fewer kinds of faults, one after the other.
    fn calm(&mut self) {
        let plan = super::plan::Plan::draw(self.seed, &self.best.variation);
        for (kind, _) in plan.faults {
            let mut calmer = self.best.variation.clone();
            calmer.without.insert(kind);
            self.fails(calmer);
        }
    }

    /// Whether a variation breaks the same promise; then it is the best one so far.
    fn fails(&mut self, variation: Variation) -> bool {
        if self.best.runs >= RUNS_MAX {
            return false;
        }
        self.best.runs += 1;
        let outcomes = outcomes_of(self.seed, &variation, TraceMode::Off);
        let same = outcomes
            .violations
            .into_iter()
            .find(|violation| violation.promise == self.best.violation.promise);
        let Some(violation) = same else { return false };
        self.best.variation = variation;
        self.best.violation = violation;
        true
    }
}

/// Runs that one failure may cost.
const RUNS_MAX: usize = 120;
