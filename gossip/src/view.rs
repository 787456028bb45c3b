//! What a node believes of another, as it is shown.

use std::time::Duration;

use crate::{
    identity::{Generation, Identity},
    majority::ClockOffset,
    message::Status,
    name::NodeId,
};

/// A node's place in the cluster, as seen from here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Standing {
    /// Heard of, not yet heard from.
    Joining,
    /// It lives.
    Up,
    /// It is silent for longer than chance explains: do not wait for it.
    Suspect,
    /// It has been suspected for a while.
    Down,
    /// It lives and drains.
    Leaving,
    /// It said goodbye.
    Left,
}

/// Why a node is silent, or cannot be reached, as far as that can be told from here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Cause {
    /// It alone is silent, to everyone: it is dead, stopped or overloaded.
    PeerSlow,
    /// The way to it is cut: others hear it, or most of its region fell silent with it.
    PathDown,
    /// This process was late itself just before: it may be the one that is slow.
    SelfSlow,
}

/// What is believed of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// The node.
    pub node: NodeId,
    /// In which life.
    pub generation: Generation,
    /// Its standing.
    pub standing: Standing,
    /// Why, where it is not simply up. A node that is up with [`Cause::PathDown`] lives, as others report, but does not answer here.
    pub cause: Option<Cause>,
}

impl Verdict {
    /// Whether to send it work: it lives and answers.
    pub fn is_usable(&self) -> bool {
        self.standing == Standing::Up && self.cause.is_none()
    }
}

/// A node as it is known here.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Member<'a> {
    /// Who it is.
    pub identity: &'a Identity,
    /// What it does, by its own word.
    pub status: Status,
    /// What is believed of it.
    pub standing: Standing,
    /// Why, where it is not simply up.
    pub cause: Option<Cause>,
    /// Suspicion as a number, 0 to 1,000; see `phi.rs`. 0 for a node that left.
    pub phi: f64,
    /// Time since anything new was heard of it, while this process was awake.
    pub silence: Duration,
    /// Smoothed round-trip time of direct exchanges.
    pub rtt: Option<Duration>,
    /// How its wall clock differs from the one here, as it is now.
    pub clock_offset: Option<ClockOffset>,
}

/// What this node did so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Rounds begun.
    pub rounds: u64,
    /// Datagrams sent.
    pub datagrams_sent: u64,
    /// Bytes sent.
    pub bytes_sent: u64,
    /// Datagrams withheld because the round's bytes were used up.
    pub withheld: u64,
    /// Datagrams received.
    pub datagrams_received: u64,
    /// Datagrams received that were no message.
    pub malformed: u64,
    /// Times a node was suspected.
    pub suspicions: u64,
}
