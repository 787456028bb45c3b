//! P6: when the faults are over, replication catches up by itself, within a bound.

use std::time::Duration;

use super::{Violation, holding::Ending};

/// What is wrong. `bound`: how long it may take.
pub fn check(ending: &Ending<'_>, bound: Duration) -> Vec<Violation> {
    let mut wrong = Vec::new();
    if ending.settled_after.is_none() {
        wrong.push(Violation::new(
            "P6",
            format!("still not settled {bound:?} after the last fault"),
        ));
    }
    for host in &ending.hosts {
        for waiting in &host.waiting {
            wrong.push(Violation::new("P6", format!("n{}: {waiting}", host.index)));
        }
    }
    wrong
}
