//! From the shards to the peers and the inbox, and from the inbox to the shards.

use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use crdt::{ActorId, Hlc};
use tokio::sync::Notify;

use super::{
    conflicts::Conflicts,
    queue::{ShardQueue, Work},
};
use crate::{
    core::{
        Input,
        inbox::{Applied, Done, Inbox, Intent, RelayMark, Ticket},
        message::{Held, Message, SessionId},
    },
    peer::{HeldActors, Peers, SendError},
    storage::Batch,
};

/// Who is told what the shards want told.
#[derive(Debug)]
pub struct Outbound {
    inbox: Mutex<Inbox>,
    peers: OnceLock<Peers>,
    shards: OnceLock<Vec<ShardQueue>>,
    /// What joins kept from readers.
    pub(super) conflicts: Conflicts,
    /// A shard asks for new actors.
    pub(super) renewal: Notify,
}

impl Outbound {
    /// With the intake as storage left it; peers and shards are known once they are started.
    pub fn new(inbox: Inbox) -> Self {
        Self {
            inbox: Mutex::new(inbox),
            peers: OnceLock::new(),
            shards: OnceLock::new(),
            conflicts: Conflicts::default(),
            renewal: Notify::new(),
        }
    }

    /// The shards were started.
    pub fn connect_shards(&self, shards: Vec<ShardQueue>) {
        assert!(self.shards.set(shards).is_ok(), "shards are started once");
    }

    /// The peers were started.
    pub fn connect_peers(&self, peers: Peers) {
        assert!(self.peers.set(peers).is_ok(), "peers are started once");
    }

    /// The peers, once there are any.
    pub fn peers(&self) -> Option<&Peers> {
        self.peers.get()
    }

    /// Sends a message, unless the session cannot take it now. One that has ended takes none: its end is told apart.
    pub fn send(&self, session: SessionId, message: Message) -> Result<(), SendError> {
        match self.peers.get() {
            Some(peers) => peers.try_send(session, &message),
            None => Err(SendError::Closed),
        }
    }

    /// Takes what a peer shipped.
    pub fn shipped(&self, session: SessionId, message: Message, wall_ms: u64) {
        let intents = self.inbox().message(session, message, wall_ms);
        self.perform(intents);
    }

    /// A shard is done with a part.
    pub fn applied(&self, shard: u16, ticket: Ticket, done: Done) {
        let intents = self.inbox().applied(shard, ticket, done);
        self.perform(intents);
    }

    /// A shard says how far it is with passing on.
    pub fn relayed(&self, shard: u16, mark: RelayMark) {
        let intents = self.inbox().relayed(shard, mark);
        self.perform(intents);
    }

    /// Places in a shard's relay log have moved.
    pub fn relocated(&self, shard: u16, kept: Hlc, place: Hlc) {
        self.inbox().relocated(shard, kept, place);
    }

    /// What the inbox wants remembered.
    pub fn unsaved(&self) -> Batch {
        self.inbox().unsaved()
    }

    /// What [`Outbound::unsaved`] gave is durable.
    pub fn saved(&self) {
        self.inbox().saved();
    }

    /// The inbox asks for one thing at a time, so nothing is done while it is locked.
    fn perform(&self, intents: Vec<Intent>) {
        for intent in intents {
            match intent {
                Intent::Apply {
                    shard,
                    ticket,
                    deltas,
                    purpose,
                } => {
                    let input = Input::Remote {
                        ticket,
                        deltas,
                        purpose,
                    };
                    self.apply(shard, ticket, input);
                }
                Intent::Send { session, message } => {
                    if let Err(error) = self.send(session, message) {
                        // The origin hears of it with the next answer, or when it dials again.
                        tracing::debug!(?session, %error, "an acknowledgement was not sent");
                    }
                }
                Intent::Report(event) => super::report::inbox(&event),
            }
        }
    }

    fn apply(&self, shard: u16, ticket: Ticket, input: Input) {
        let queue = self
            .shards
            .get()
            .and_then(|shards| shards.get(usize::from(shard)));
        let queued = queue.map(|queue| queue.send(Work::Input(input)));
        if !matches!(queued, Some(Ok(()))) {
            let done = Done {
                applied: Applied::Refused,
                place: None,
                taught: Vec::new(),
            };
            self.applied(shard, ticket, done);
        }
    }

    fn inbox(&self) -> MutexGuard<'_, Inbox> {
        // A panic in the core ends the process; until then the inbox is as good as it was.
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl HeldActors for Outbound {
    fn held(&self, actors: &[ActorId]) -> Vec<Held> {
        self.inbox().held(actors)
    }
}
