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
        if !ending.may_lack {
            let repairs = host.repairs.iter();
            wrong.extend(repairs.map(|region| {
                let detail = format!("n{} would have {region} repaired for nothing", host.index);
                Violation::new("P6", detail)
            }));
            if host.is_short && !host.has_lost {
                let detail = format!("n{} would be repaired for nothing", host.index);
                wrong.push(Violation::new("P6", detail));
            }
        }
        for waiting in &host.waiting {
            wrong.push(Violation::new("P6", format!("n{}: {waiting}", host.index)));
        }
    }
    wrong
}
