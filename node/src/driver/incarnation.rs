//! New actors for a directory: where it has forgotten what its old ones wrote, and where their stamps are far ahead.

use std::{
    collections::BTreeSet,
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use crdt::{ActorId, Hlc};
use tokio::{
    sync::{Mutex as Turns, watch},
    task::spawn_blocking,
    time::{sleep, timeout},
};

use super::{
    context::Node,
    queue::{ShardQueue, Work},
};
use crate::{
    core::{
        identity::{DirectoryId, Identity},
        node::Renewed,
    },
    peer,
    storage::{Durability, Storage, StorageError, directory::DataDirectory, record::outbox},
};

/// The directory's identity, and how it is renewed.
pub struct Incarnation {
    directory: Arc<DataDirectory>,
    current: Mutex<Identity>,
    /// One after the other: each closes the number that the one before it drew.
    turns: Turns<()>,
    told: watch::Sender<peer::Identity>,
    /// The actors that there were rows of when the directory was opened.
    with_rows: BTreeSet<ActorId>,
}

impl Incarnation {
    /// Of a directory that was opened as `identity`; peers are told through the receiver.
    ///
    /// # Errors
    /// Where storage cannot be read.
    pub fn new(
        directory: Arc<DataDirectory>,
        identity: Identity,
    ) -> Result<(Self, watch::Receiver<peer::Identity>), StorageError> {
        let with_rows = outbox::actors(directory.storage.as_ref())?;
        let (told, peers) = watch::channel(identity_for_peers(&identity, &with_rows));
        let renewal = Self {
            directory,
            current: Mutex::new(identity),
            turns: Turns::new(()),
            told,
            with_rows,
        };
        Ok((renewal, peers))
    }

    /// The actors that this node stamps as now, by shard.
    pub fn actors(&self) -> Vec<ActorId> {
        actors_of(&self.current())
    }

    /// The number that this node stamps under now.
    pub fn directory(&self) -> DirectoryId {
        self.current().directory
    }

    /// Goes on with new actors, above `newest`, which a peer knows of an old one and the old one does not.
    pub async fn renew(&self, node: &Node, newest: Hlc) {
        let why = "a peer knows newer writes of this node than the node itself: its data directory is an old copy";
        self.draw(node, newest, false, why).await;
    }

    /// Goes on with new actors whenever a shard asks for it.
    pub async fn replay(self: Arc<Self>, node: Node) {
        let why = "this node's clock was far ahead when it made writes that no other took: they are stamped anew";
        let asked = &node.inner().outbound.renewal;
        loop {
            asked.notified().await;
            self.draw(&node, Hlc::ZERO, true, why).await;
            // Every shard is given its new actor, those that asked beside the first one too. One that is not served asks again.
            sleep(TOGETHER).await;
            let _ = timeout(Duration::ZERO, asked.notified()).await;
        }
    }

    /// Draws new actors, stores them, and has every shard go on as its new one.
    async fn draw(&self, node: &Node, newest: Hlc, replays: bool, why: &str) {
        let _turn = self.turns.lock().await;
        let mut renewed = Renewed::of(&self.current(), rand::random());
        let batch = mem::take(&mut renewed.batch);
        let storage = Arc::clone(&self.directory.storage);
        // Durable itself, and so is every commit before it.
        let outcome = spawn_blocking(move || storage.commit(&batch, Durability::Power)).await;
        if !matches!(outcome, Ok(Ok(()))) {
            tracing::error!(
                ?outcome,
                "new actors are needed and could not be stored: {why}"
            );
            node.inner().health.fail(
                super::health::DISK,
                "new actors could not be stored".to_owned(),
            );
            return;
        }
        let Renewed { identity, .. } = renewed;
        tracing::warn!(directory = %identity.directory, "{why}; it goes on with new actors");
        for (queue, actor) in node.inner().shards.iter().zip(actors_of(&identity)) {
            let work = || Work::Renew {
                actor,
                newest,
                replays,
            };
            tell(queue, work).await;
        }
        self.told
            .send_replace(identity_for_peers(&identity, &self.with_rows));
        *self.current() = identity;
    }

    fn current(&self) -> MutexGuard<'_, Identity> {
        // It is replaced as a whole: it is whole whatever panicked elsewhere.
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tells a shard its new actor, however much it has to do: one that went on as the old one would give stamps twice. Ends only with the
/// shard.
async fn tell(queue: &ShardQueue, work: impl Fn() -> Work) {
    while let Err(error) = queue.send(work()) {
        if error.is_closed() {
            tracing::error!(%error, "a shard ended before it was told its new actor");
            return;
        }
        tracing::warn!(%error, "a shard is told its new actor when its queue has room");
        sleep(ROOM_INTERVAL).await;
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

/// What peers are told, within the bounds of a greeting: of the former actors those first that there are rows of, since a peer has to
/// say how far it is with these.
fn identity_for_peers(identity: &Identity, with_rows: &BTreeSet<ActorId>) -> peer::Identity {
    let is_former = |actor: &ActorId| actor.directory() != identity.directory.0;
    let is_done = |actor: &ActorId| is_former(actor) && !with_rows.contains(actor);
    let mut actors: Vec<ActorId> = identity.actors().collect();
    actors.sort_by_key(is_done); // stable: the newest number comes first among its like
    actors.truncate(peer::limits::ACTORS_MAX);
    let former = identity.former.iter().rev().copied();
    peer::Identity {
        directory: identity.directory,
        former: former.take(peer::limits::FORMER_MAX).collect(),
        actors,
    }
}

/// Shards that ask within so long of each other mean the same.
const TOGETHER: Duration = Duration::from_secs(1);
/// How long a shard whose queue is full is left to make room.
const ROOM_INTERVAL: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests {
    use std::num::NonZeroU16;

    use super::*;
    use crate::{
        core::identity::{BootId, DirectoryId, relay_of},
        peer::limits::{ACTORS_MAX, FORMER_MAX},
    };

    #[test]
    fn a_directory_that_was_renewed_without_end_still_fits_a_greeting_with_all_that_it_ships_for() {
        let mut identity = Identity::create(
            "us-1".parse().unwrap(),
            "shop".parse().unwrap(),
            NonZeroU16::new(256).unwrap(),
            BootId("one".to_owned()),
            false,
            1,
        );
        for draw in 2..2_000 {
            (identity, _) = identity.renewed(draw);
        }
        let oldest = DirectoryId(1);
        let with_rows: BTreeSet<_> = (0..256)
            .map(|shard| relay_of(oldest.actor(shard)))
            .collect();
        let told = identity_for_peers(&identity, &with_rows);
        assert_eq!(told.actors.len(), ACTORS_MAX);
        assert_eq!(
            told.actors[0],
            identity.directory.actor(0),
            "its own come first"
        );
        assert!(with_rows.iter().all(|actor| told.actors.contains(actor)));
        assert_eq!(told.former.len(), FORMER_MAX);
        assert_eq!(told.former[0], DirectoryId(1_998), "the newest");
        assert!(!told.former.contains(&oldest));
    }
}
