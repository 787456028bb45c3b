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
        message::{KnownPosition, Message, SessionId},
    },
    peer::{Peers, SendError},
    storage::{Batch, record::shortage::Shortage},
};

/// Who is told what the shards want told.
#[derive(Debug)]
pub struct Outbound {
    inbox: Mutex<Inbox>,
    /// Held while acknowledgements are put on their sessions, and taken before the inbox is free for the next ones.
    sending: Mutex<()>,
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
            sending: Mutex::new(()),
            peers: OnceLock::new(),
            shards: OnceLock::new(),
            conflicts: Conflicts::default(),
            renewal: Notify::new(),
        }
    }

    /// The shards were started.
    pub fn connect_shards(&self, shards: Vec<ShardQueue>) {
        assert!(self.shards.set(shards).is_ok(), "shards are started once");
        // As an earlier life of this node left it.
        self.tell_short(self.shortage());
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

    /// Tells a peer that it gets no other answer to a question.
    pub fn refuse(&self, session: SessionId, unanswered: Message) {
        if let Err(error) = self.send(session, unanswered) {
            // It hears of the session's end, or asks another node when this one has been silent for long.
            tracing::debug!(?session, %error, "a replica was not told that it gets no answer");
        }
    }

    /// Takes what a peer shipped.
    pub fn shipped(&self, session: SessionId, message: Message, wall_ms: u64) {
        self.perform(|inbox| inbox.message(session, message, wall_ms));
    }

    /// A shard is done with a part.
    pub fn applied(&self, shard: u16, ticket: Ticket, done: Done) {
        self.perform(|inbox| inbox.applied(shard, ticket, done));
    }

    /// A shard says how far it is with passing on.
    pub fn relayed(&self, shard: u16, mark: RelayMark) {
        self.perform(|inbox| inbox.relayed(shard, mark));
    }

    /// Places in a shard's relay log have moved.
    pub fn relocated(&self, shard: u16, kept: Hlc, place: Hlc) {
        self.inbox().relocated(shard, kept, place);
    }

    /// How far this node is with these actors.
    pub fn held(&self, actors: &[ActorId]) -> Vec<KnownPosition> {
        self.inbox().held(actors)
    }

    /// What this node lacks that nobody will ship to it.
    pub fn shortage(&self) -> Shortage {
        self.inbox().shortage()
    }

    /// This node lacks something: every shard is told, before it hears of anything that comes later.
    pub fn fall_short(&self, of: Shortage) {
        self.perform(|inbox| inbox.fall_short(of));
    }

    /// What the inbox wants remembered.
    pub fn unsaved(&self) -> Batch {
        self.inbox().unsaved()
    }

    /// What [`Outbound::unsaved`] gave is durable.
    pub fn saved(&self) {
        self.inbox().saved();
    }

    /// Does what the inbox wants done. Acknowledgements leave in the order in which it made them, whichever shard's thread carries
    /// them: one that is overtaken looks lost to its receiver. What is to be applied may be refused, and then asks the inbox again, so
    /// that comes last, with no lock held.
    fn perform(&self, ask: impl FnOnce(&mut Inbox) -> Vec<Intent>) {
        let mut inbox = self.inbox();
        let intents = ask(&mut inbox);
        if intents.is_empty() {
            return;
        }
        // The same as for the inbox: until the process ends the lock is as good as it was.
        let order = self.sending.lock().unwrap_or_else(PoisonError::into_inner);
        drop(inbox);
        let mut to_apply = Vec::new();
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
                    to_apply.push((shard, ticket, input));
                }
                Intent::Send { session, message } => {
                    if let Err(error) = self.send(session, message) {
                        // The origin hears of it with the next answer, or when it dials again.
                        tracing::debug!(?session, %error, "an acknowledgement was not sent");
                    }
                }
                Intent::Report(event) => super::report::inbox(&event),
                Intent::FallShort(shortage) => self.tell_short(shortage),
            }
        }
        drop(order);
        for (shard, ticket, input) in to_apply {
            self.apply(shard, ticket, input);
        }
    }

    /// A shard whose queue is full is told again with the next word of the gossip: see [`telling`](super::telling).
    fn tell_short(&self, shortage: Shortage) {
        for queue in self.shards.get().into_iter().flatten() {
            let input = Input::Short(shortage);
            if let Err(error) = queue.send(Work::Input(input)) {
                tracing::warn!(%error, "a shard was not told that this node needs a repair; it is told again");
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
