//! From the peers to the inbox and the shards.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use crdt::{Delta, Hlc};
use tokio::sync::mpsc;

use super::{forward, node::Node, queue::Work, renewal::Renewal};
use crate::{
    core::{
        Input,
        identity::{is_relay, shard_of},
        message::{Compare, Held, Message, SessionId, Taken},
        ship::Met,
    },
    names::NodeName,
    peer::{Direction, Event, Peer},
    placement::Partition,
};

/// Takes the peers' events until there are no more.
pub struct Router {
    pub(super) node: Node,
    pub(super) renewal: Arc<Renewal>,
    /// Per shard, the newest stamp that its actor can have made before this process, as far as storage remembers.
    pub(super) recalled: Vec<Arc<AtomicU64>>,
    /// Peers that were met since the start: what they hold may be of this process.
    met: BTreeSet<NodeName>,
    /// Sessions that this node ships on.
    shipping: BTreeSet<SessionId>,
}

impl Router {
    /// For this node.
    pub fn new(node: Node, renewal: Arc<Renewal>, recalled: Vec<Arc<AtomicU64>>) -> Self {
        Self {
            node,
            renewal,
            recalled,
            met: BTreeSet::new(),
            shipping: BTreeSet::new(),
        }
    }

    /// Works until the peers end.
    pub async fn run(mut self, mut events: mpsc::Receiver<Event>) {
        while let Some(event) = events.recv().await {
            match event {
                Event::Up {
                    session,
                    direction,
                    peer,
                    held,
                } => self.up(session, direction, peer, held).await,
                Event::Message { session, message } => self.message(session, message),
                Event::Down {
                    session,
                    peer,
                    reason,
                } => self.down(session, &peer, &reason),
                Event::Failed { reason } => {
                    tracing::error!(reason, "the peers ended");
                    self.node.inner().health.fail(PEERS, reason);
                }
            }
        }
    }

    async fn up(&mut self, session: SessionId, direction: Direction, peer: Peer, held: Vec<Held>) {
        tracing::info!(peer = %peer.name, region = %peer.region, ?direction, "a peer is connected");
        let conflicts = &self.node.inner().outbound.conflicts;
        conflicts.place(peer.actors.iter().copied(), &peer.region);
        conflicts.place(self.renewal.actors(), &self.node.inner().region);
        if direction == Direction::Accepted {
            return;
        }
        self.ask_what_it_knows(session, &peer.name);
        let is_first = self.met.insert(peer.name.clone());
        if let Some(newest) = self.forgotten(&held).filter(|_| is_first) {
            // Every session ends with the renewal, and comes back under the new identity.
            self.renewal.renew(&self.node, newest).await;
            return;
        }
        self.shipping.insert(session);
        self.node.inner().forwards.met(peer.name.clone(), session);
        let met = Met {
            region: peer.region,
            node: peer.name,
            session,
            directory: peer.directory,
            held,
        };
        for queue in &self.node.inner().shards {
            let input = Input::SessionUp(met.clone());
            self.give(session, queue.send(Work::Input(input)));
        }
    }

    /// By gossip, and now: what it knows may be known to nobody else a moment later.
    fn ask_what_it_knows(&self, session: SessionId, name: &NodeName) {
        let inner = self.node.inner();
        let (Some(membership), Some(peers)) = (inner.membership(), inner.outbound.peers()) else {
            return; // the gossip begins in a moment, with asking its seeds
        };
        let links = peers.status();
        let link = links.iter().find(|link| link.session == Some(session));
        if let Some(link) = link {
            membership.reached(&self.node, name, &link.address);
        }
    }

    /// The newest stamp that a peer knows of one of this directory's own actors and that is newer than the actor's own: the
    /// directory is an old copy, and its actors have forgotten what they wrote.
    fn forgotten(&self, held: &[Held]) -> Option<Hlc> {
        let own = self.renewal.actors();
        let newer = |held: &&Held| {
            let shard = usize::from(held.actor.shard());
            !is_relay(held.actor)
                && own.contains(&held.actor)
                && self
                    .recalled
                    .get(shard)
                    .is_some_and(|recalled| held.newest.as_u64() > recalled.load(Ordering::Relaxed))
        };
        held.iter().filter(newer).map(|held| held.newest).max()
    }

    fn message(&self, session: SessionId, message: Message) {
        match message {
            Message::Ship(_) | Message::Promise { .. } | Message::Skip { .. } => {
                let wall_ms = self.node.inner().clock.now().wall_ms;
                self.node
                    .inner()
                    .outbound
                    .shipped(session, message, wall_ms);
            }
            Message::Taken(Taken { actor, .. }) | Message::Declined { actor, .. } => {
                self.acknowledged(session, shard_of(actor), message)
            }
            Message::Compared { ask, .. } | Message::Mended { ask } => {
                self.acknowledged(session, ask.shard, message)
            }
            Message::Compare(Compare { ref key, .. })
            | Message::Mend {
                delta: Delta { ref key, .. },
                ..
            } => {
                // At most 32,768 shards: a directory has no more.
                let shard = Partition::of(key).shard(self.node.inner().shards.len() as u16);
                self.asked(session, shard, message);
            }
            Message::Forward {
                id,
                within_ms,
                errand,
            } => forward::serve(&self.node, session, id, within_ms, errand),
            Message::Forwarded { id, answer } => self.node.inner().forwards.answered(id, answer),
        }
    }

    /// What is not queued is not answered: who asked asks another node instead.
    fn asked(&self, session: SessionId, shard: u16, message: Message) {
        let queue = &self.node.inner().shards[usize::from(shard)];
        if let Err(error) = queue.send(Work::Input(Input::Asked { session, message })) {
            tracing::debug!(%error, "a question of another node was not queued");
        }
    }

    fn acknowledged(&self, session: SessionId, shard: u16, message: Message) {
        match self.node.inner().shards.get(usize::from(shard)) {
            Some(queue) => self.give(
                session,
                queue.send(Work::Input(Input::Acknowledged { session, message })),
            ),
            None => tracing::warn!(shard, "a peer answered a shard that this node never had"),
        }
    }

    fn down(&mut self, session: SessionId, peer: &NodeName, reason: &str) {
        tracing::info!(%peer, reason, "a peer is disconnected");
        if !self.shipping.remove(&session) {
            return;
        }
        self.node.inner().forwards.lost(session);
        for queue in &self.node.inner().shards {
            if let Err(error) = queue.send(Work::Input(Input::SessionDown { session })) {
                tracing::error!(%error, "a shard was not told that a session ended");
            }
        }
    }

    /// A shard that does not learn of something would wait for it for ever: the session is begun anew instead.
    fn give(&self, session: SessionId, queued: Result<(), super::queue::QueueError>) {
        let Err(error) = queued else { return };
        tracing::warn!(%error, "a session is begun anew");
        if let Some(peers) = self.node.inner().outbound.peers() {
            peers.close(session, "a shard's queue is full");
        }
    }
}

/// The tasks that talk to peers failed.
const PEERS: &str = "peers";
