//! New actors for a directory that has forgotten what its old ones wrote.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crdt::{ActorId, Hlc};
use tokio::{sync::watch, task::spawn_blocking};

use super::{node::Node, queue::Work};
use crate::{core::identity::Identity, peer, storage::directory::DataDirectory};

/// The directory's identity, and how it is renewed.
pub struct Renewal {
    directory: Arc<DataDirectory>,
    current: Mutex<Identity>,
    told: watch::Sender<peer::Identity>,
}

impl Renewal {
    /// Of a directory that was opened as `identity`; peers are told through the receiver.
    pub fn new(
        directory: Arc<DataDirectory>,
        identity: Identity,
    ) -> (Self, watch::Receiver<peer::Identity>) {
        let (told, peers) = watch::channel(identity_for_peers(&identity));
        (
            Self {
                directory,
                current: Mutex::new(identity),
                told,
            },
            peers,
        )
    }

    /// The actors that this node stamps as now, by shard.
    pub fn actors(&self) -> Vec<ActorId> {
        actors_of(&self.current())
    }

    /// Draws new actors, stores them, and has every shard go on as its new one, above `newest`.
    pub async fn renew(&self, node: &Node, newest: Hlc) {
        let (renewed, _) = self.current().renewed(rand::random());
        let (directory, stored) = (Arc::clone(&self.directory), renewed.clone());
        let outcome = spawn_blocking(move || directory.store(&stored)).await;
        if !matches!(outcome, Ok(Ok(()))) {
            tracing::error!(
                ?outcome,
                "a peer knows newer writes of this node than the node itself, and new actors could not be stored"
            );
            node.inner().health.fail(
                super::health::DISK,
                "new actors could not be stored".to_owned(),
            );
            return;
        }
        tracing::warn!(directory = %renewed.directory, "a peer knows newer writes of this node than the node itself: its data directory is an old copy; it goes on with new actors");
        for (queue, actor) in node.inner().shards.iter().zip(actors_of(&renewed)) {
            if let Err(error) = queue.send(Work::Renew { actor, newest }) {
                tracing::error!(%error, "a shard was not told its new actor");
            }
        }
        self.told.send_replace(identity_for_peers(&renewed));
        *self.current() = renewed;
    }

    fn current(&self) -> MutexGuard<'_, Identity> {
        // It is replaced as a whole: it is whole whatever panicked elsewhere.
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The actors of a directory's shards.
pub fn actors_of(identity: &Identity) -> Vec<ActorId> {
    (0..identity.shards.get())
        .map(|shard| identity.directory.actor(shard))
        .collect()
}

/// The actors that one shard renewed.
pub fn former_actors(identity: &Identity, shard: u16) -> Vec<ActorId> {
    identity
        .former
        .iter()
        .map(|directory| directory.actor(shard))
        .collect()
}

fn identity_for_peers(identity: &Identity) -> peer::Identity {
    peer::Identity {
        directory: identity.directory,
        actors: identity.actors().collect(),
    }
}
