//! What every part of a world needs at hand.

use std::time::Duration;

use node::core::{RequestId, reply::Reply};

use super::{
    agenda::Agenda, coverage::Coverage, dice::Dice, ledger::Ledger, network::Network, plan::Plan,
    trace::Trace,
};
use crate::check::{Violation, reference::Reference};

/// A time in which a host held an old copy of its data and nobody had noticed: no peer that took more of it was met.
#[derive(Debug)]
pub struct OldCopy {
    /// Which host.
    pub host: usize,
    /// Since when.
    pub from: Duration,
    /// Until it was noticed, or all peers had said that nothing is missing.
    pub until: Option<Duration>,
}

/// The world but for its hosts and clients.
#[derive(Debug)]
pub struct Desk {
    /// What time it is.
    pub now: Duration,
    /// What kind of world this is.
    pub plan: Plan,
    /// What will happen.
    pub agenda: Agenda,
    /// What happened.
    pub trace: Trace,
    /// Chance, for hosts.
    pub dice: Dice,
    /// What is between the hosts.
    pub network: Network,
    /// What was committed.
    pub ledger: Ledger,
    /// What each region's own keys must read as.
    pub reference: Reference,
    /// Replies on their way to clients.
    pub replies: Vec<(RequestId, Reply)>,
    /// When hosts went on under another number.
    pub renewals: Vec<Duration>,
    /// When hosts were old copies that nobody had noticed.
    pub old_copies: Vec<OldCopy>,
    /// How often what happened.
    pub coverage: Coverage,
    /// What should not have happened.
    pub violations: Vec<Violation>,
}

impl Desk {
    /// A host holds an old copy from now on.
    pub fn begin_old_copy(&mut self, host: usize) {
        let (from, until) = (self.now, None);
        self.old_copies.push(OldCopy { host, from, until });
    }

    /// It is known what became of the old copy of a host.
    pub fn end_old_copy(&mut self, host: usize) {
        let copies = self.old_copies.iter_mut();
        let open = copies.filter(|copy| copy.host == host && copy.until.is_none());
        open.for_each(|copy| copy.until = Some(self.now));
    }
}
