//! From the peers to the inbox and the shards.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use crdt::{ActorId, Delta};
use tokio::{sync::mpsc, task::spawn_blocking};

use super::{context::Node, incarnation::Incarnation, queue::Work, serving};
use crate::{
    core::{
        Input, Recalled,
        identity::shard_of,
        message::{Ack, Compare, Message, Recollection, SessionId, Unanswered},
        node::Acquaintances,
        ship::Met,
    },
    names::NodeName,
    peer::{Direction, Event, Peer},
    placement::Partition,
    storage::{Batch, Durability, Storage, StorageError, record::shortage::Shortage},
};

/// Takes the peers' events until there are no more.
pub struct Router {
    pub(super) node: Node,
    pub(super) renewal: Arc<Incarnation>,
    /// What each actor of this node recalled when this process began.
    pub(super) recalled: BTreeMap<ActorId, Recalled>,
    acquaintances: Acquaintances,
    /// Sessions that this node ships on.
    shipping: BTreeSet<SessionId>,
}

impl Router {
    /// For this node.
    pub fn new(
        node: Node,
        renewal: Arc<Incarnation>,
        recalled: BTreeMap<ActorId, Recalled>,
    ) -> Self {
        Self {
            node,
            renewal,
            recalled,
            acquaintances: Acquaintances::default(),
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
                    recollection,
                } => self.up(session, direction, peer, recollection).await,
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

    async fn up(
        &mut self,
        session: SessionId,
        direction: Direction,
        peer: Peer,
        recollection: Recollection,
    ) {
        tracing::info!(peer = %peer.name, region = %peer.region, ?direction, "a peer is connected");
        let conflicts = &self.node.inner().outbound.conflicts;
        conflicts.place(peer.actors.iter().copied(), &peer.region);
        conflicts.place(self.renewal.actors(), &self.node.inner().region);
        if direction == Direction::Accepted {
            return;
        }
        self.ask_what_it_knows(session, &peer.name);
        let mut shortage = recollection.shortage;
        shortage.has_forgotten |= self.was_replaced(&peer);
        // Before the shards know of the session, so that they ask nothing on it as a whole replica.
        if !self.goes_on(session, &peer.name, &recollection).await {
            return;
        }
        self.shipping.insert(session);
        self.node.errands_met(peer.name.clone(), session);
        let met = Met {
            region: peer.region,
            node: peer.name,
            session,
            directory: peer.directory,
            held: recollection.held,
            shortage,
        };
        for queue in &self.node.inner().shards {
            let input = Input::SessionUp(met.clone());
            self.give(session, queue.send(Work::Input(input)));
        }
    }

    /// Whether a peer is not what it was when this node knew it before: what its former directory held is gone.
    fn was_replaced(&self, peer: &Peer) -> bool {
        let Some(directory) = self.node.inner().known.replaced(peer) else {
            return false;
        };
        tracing::warn!(peer = %peer.name, former = %directory, now = %peer.directory, "a node has another data directory than before: it counts for no level until it is repaired");
        true
    }

    /// This node lacks what other replicas have.
    fn lost(&self, why: &str) {
        let outbound = &self.node.inner().outbound;
        if !outbound.shortage().has_forgotten {
            tracing::error!("this node lacks writes and needs a repair: {why}");
        }
        outbound.fall_short(Shortage::FORGOTTEN);
    }

    /// For good, before the number is renewed by which others saw it.
    async fn store_shortage(&self) -> Result<(), StorageError> {
        let (storage, shortage) = (
            Arc::clone(&self.node.inner().storage),
            self.node.inner().outbound.shortage(),
        );
        let store = move || {
            let mut batch = Batch::default();
            shortage.put(&mut batch);
            storage.commit(&batch, Durability::Power)
        };
        spawn_blocking(store).await.unwrap_or_else(|error| {
            Err(StorageError::Failed {
                detail: error.to_string(),
            })
        })
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

    /// Whether this node goes on under its number, whatever a peer knows of it. What it turns out to lack it says from now on.
    async fn goes_on(
        &mut self,
        session: SessionId,
        peer: &NodeName,
        recollection: &Recollection,
    ) -> bool {
        let recalled = |actor: &ActorId| self.recalled.get(actor).copied();
        let own = self.renewal.directory();
        let verdict = self.acquaintances.judge(peer, recollection, recalled, own);
        if let Some(directory) = verdict.replaced {
            self.lost(&format!("{peer} knew this node with another data directory, {directory}: what that held is not here"));
        }
        if verdict.has_forgotten {
            self.lost(&format!(
                "{peer} knows newer writes of this node than the node itself"
            ));
            if let Err(error) = self.store_shortage().await {
                // Under a new number nobody would see again what this directory has forgotten.
                tracing::error!(%error, "that this node needs a repair could not be stored: the peer is greeted again");
                self.acquaintances.forget(peer);
                self.close(session, "its storage takes nothing");
                return false;
            }
        }
        let Some(newest) = verdict.renews_above else {
            return true;
        };
        // Every session ends with the renewal, and comes back under the new identity.
        self.renewal.renew(&self.node, newest).await;
        false
    }

    fn message(&self, session: SessionId, message: Message) {
        match message {
            Message::Ship(_) | Message::ClosedTimestamp { .. } | Message::Gap { .. } => {
                let wall_ms = self.node.inner().clock.now().wall_ms;
                self.node
                    .inner()
                    .outbound
                    .shipped(session, message, wall_ms);
            }
            Message::Ack(Ack { actor, .. }) | Message::Nack { actor, .. } => {
                self.acknowledged(session, shard_of(actor), message)
            }
            Message::Compared { ask, .. }
            | Message::Repaired { ask }
            | Message::Unanswered { ask, .. } => self.acknowledged(session, ask.shard, message),
            Message::Compare(Compare { ref key, .. })
            | Message::Repair {
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
            } => serving::serve(&self.node, session, id, within_ms, errand),
            Message::Forwarded { id, answer } => self.node.errand_answered(id, answer),
        }
    }

    /// What is not queued is not answered: who asked is told, and asks another node instead.
    fn asked(&self, session: SessionId, shard: u16, message: Message) {
        let (queue, ask) = (&self.node.inner().shards[usize::from(shard)], message.ask());
        let Err(error) = queue.send(Work::Input(Input::Asked { session, message })) else {
            return;
        };
        tracing::debug!(%error, "a question of another node was not queued");
        if let Some(ask) = ask {
            let why = Unanswered::NotSent;
            let message = Message::Unanswered { ask, why };
            self.node.inner().outbound.refuse(session, message);
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
        self.node.errands_lost(session);
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
        self.close(session, "a shard's queue is full");
    }

    fn close(&self, session: SessionId, why: &str) {
        if let Some(peers) = self.node.inner().outbound.peers() {
            peers.close(session, why);
        }
    }
}

/// The tasks that talk to peers failed.
const PEERS: &str = "peers";
