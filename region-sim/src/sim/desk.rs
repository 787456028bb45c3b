//! What every part of a world needs at hand.

use std::time::Duration;

use node::core::{RequestId, reply::Reply};

use super::{
    agenda::Agenda, coverage::Coverage, dice::Dice, ledger::Ledger, network::Network, plan::Plan,
    trace::Trace,
};
use crate::check::{Violation, reference::Reference};

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
    /// How often what happened.
    pub coverage: Coverage,
    /// What should not have happened.
    pub violations: Vec<Violation>,
}
