//! What goes into the machine and what comes out of it.

use std::time::Duration;

use bytes::Bytes;

use crate::{
    identity::{Directory, Generation, Identity},
    name::{Address, Key, NodeId},
    refusal::{Refusal, Refused},
    view::Verdict,
};

/// The time at which something happens, by the driver's clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// A clock that does not jump: the time since any fixed moment. Should it jump all the same, forward or back, nobody is suspected
    /// for it.
    pub monotonic: Duration,
    /// Unix milliseconds. Used to compare clocks, and to refuse generations years ahead; never to measure time.
    pub wall_ms: u64,
}

/// Something that happened outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// The time that `next_wakeup` named has come. Too early or too often does no harm.
    Wake,
    /// A datagram came.
    Received {
        /// From where: answers go there.
        from: Source,
        /// What it holds. Anything at all: it is checked.
        bytes: Bytes,
    },
    /// A way to somebody is open that was not before: it is asked what it knows, now instead of in some later round.
    Reached(Target),
}

/// Where a datagram came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// The address that an answer reaches.
    pub address: Address,
    /// The name that the transport has authenticated, if it does that. A message under another name is refused.
    pub node: Option<NodeId>,
}

/// Something to do, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Send one datagram. It may get lost.
    Send {
        /// To whom.
        to: Target,
        /// What: at most `datagram_bytes`.
        bytes: Bytes,
    },
    /// Something changed that others may want to know.
    Event(Event),
}

/// Whom a datagram is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The node, where it is known: a driver that reaches it another way (a relay, an open connection) goes by this.
    pub node: Option<NodeId>,
    /// Its address.
    pub address: Address,
}

/// A change in what this node believes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A node was heard of for the first time, or in a new life: its address or directory may be another. It is `Joining`.
    Met(Identity),
    /// What is believed of a node has changed.
    Believed(Verdict),
    /// A node published, changed or removed these keys.
    Published {
        /// The node.
        node: NodeId,
        /// Each key that changed.
        keys: Vec<Key>,
    },
    /// An operator had a node forgotten, here or elsewhere. Remember it, and tell it again at the next start, with
    /// [`recall_forgotten`](crate::Gossip::recall_forgotten): once all have restarted, nobody else knows.
    Forgot {
        /// The node.
        node: NodeId,
        /// Its data directory, which is refused from now on.
        directory: Directory,
    },
    /// A node is no longer known: long gone, forgotten, or it made room.
    Removed(NodeId),
    /// A node was refused here. Repeated once a minute at most.
    Refused(Refused),
    /// This node was refused, by whoever is at that address. It goes on trying.
    RefusedBy {
        /// Where the refusal came from.
        address: Address,
        /// Why.
        refusal: Refusal,
    },
    /// This node began a new life by itself: others believed things of it that it had not said. Remember the generation.
    Renewed(Generation),
    /// Another process uses this node's name, or did with a clock ahead: both keep taking it from each other. This one no longer
    /// fights back, but once in 30 s.
    NameContested(Generation),
    /// An operator had this node forgotten. It is silent from now on; it needs a new data directory.
    Forgotten,
    /// This process slept or its clock jumped, for so long. Nobody is suspected for it.
    Slept(Duration),
}
