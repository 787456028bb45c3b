//! What will happen, by time; what is due at one moment happens in the order in which it was put down.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;

use super::{
    fault::Fault,
    network::{DialId, End},
};
use crate::workload::{ClientId, OperationId};
use node::core::{message::SessionId, node::ErrandId};

/// A host's place in the world.
pub type HostIndex = usize;
/// Which run of a host's process: what was meant for an earlier one is dropped.
pub type Run = u32;

/// Something that happens.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// A client asks something.
    Invoke(ClientId),
    /// What it asks reaches its host.
    Request { host: HostIndex, id: OperationId },
    /// A client waits no longer.
    GiveUp(OperationId),
    /// Something of a host's process is due.
    Host { host: HostIndex, run: Run, due: Due },
    /// A host's process starts.
    Start { host: HostIndex, run: Run },
    /// A dialler's greeting arrives.
    Hello(DialId),
    /// Its answer arrives.
    Welcome(DialId),
    /// The next message of one direction of a session arrives.
    Arrive { session: SessionId, lane: usize },
    /// A datagram arrives.
    Datagram {
        from: HostIndex,
        to: End,
        bytes: Bytes,
    },
    /// A session is looked at: does anything get through?
    Probe(SessionId),
    /// A session breaks.
    Break(SessionId),
    /// A fault strikes.
    Strike(usize),
    /// It is over.
    Mend(Fault),
    /// The invariants are looked at.
    Inspect,
}

/// What is due in a host's process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// A shard handles what is queued.
    Work(usize),
    /// The storage takes a shard's batch.
    Write(usize),
    /// The shard is told.
    Told(usize),
    /// Time passes for the shards.
    Tick,
    /// The inbox saves where it is.
    Save,
    /// It is saved.
    Saved,
    /// The storage is synced.
    Sync,
    /// A peer is dialled.
    Dial(HostIndex),
    /// Its answer is waited for no longer.
    DialTimeout(DialId),
    /// The dialler of a session learns that it broke.
    Down(SessionId),
    /// An errand that other hosts run wants to be woken.
    Errand(ErrandId),
    /// A failed storage is opened again.
    Reopen,
    /// The gossip wants to be woken.
    Gossip,
}

/// The agenda.
#[derive(Debug, Default)]
pub struct Agenda {
    events: BTreeMap<(Duration, u64), Event>,
    next: u64,
}

impl Agenda {
    /// Puts down that something happens at a time.
    pub fn at(&mut self, time: Duration, event: Event) {
        self.events.insert((time, self.next), event);
        self.next += 1;
    }

    /// Takes what happens next.
    pub fn pop(&mut self) -> Option<(Duration, Event)> {
        self.events
            .pop_first()
            .map(|((time, _), event)| (time, event))
    }
}
