//! The tasks of this layer, and what happens when one of them panics.

use std::sync::Arc;

use quinn::Endpoint;
use tokio::{
    sync::mpsc,
    task::{JoinError, JoinHandle, JoinSet},
};

use super::{acceptor, dialler, handshake::RENEWED, shared::Shared, target::Target};

/// Starts all tasks, and a dialler for every target that is added later. The handle is done when all of them are, after a stop.
pub(super) fn start(
    shared: Arc<Shared>,
    endpoint: Endpoint,
    targets: Vec<Target>,
    added: mpsc::Receiver<Target>,
) -> JoinHandle<()> {
    let mut tasks = JoinSet::new();
    tasks.spawn(acceptor::run(shared.clone(), endpoint.clone()));
    tasks.spawn(renew(shared.clone()));
    for target in targets {
        tasks.spawn(dialler::run(shared.clone(), endpoint.clone(), target));
    }
    tokio::spawn(watch_over(shared, endpoint, tasks, added))
}

/// Until no task is left, which is after a stop.
async fn watch_over(
    shared: Arc<Shared>,
    endpoint: Endpoint,
    mut tasks: JoinSet<()>,
    mut added: mpsc::Receiver<Target>,
) {
    loop {
        let next = tokio::select! { biased;
            done = tasks.join_next() => Next::Done(done),
            Some(target) = added.recv() => Next::Added(Box::new(target)),
        };
        match next {
            Next::Added(target) => {
                tasks.spawn(dialler::run(shared.clone(), endpoint.clone(), *target));
            }
            Next::Done(Some(done)) => check(&shared, done).await,
            Next::Done(None) => return,
        }
    }
}

enum Next {
    Added(Box<Target>),
    Done(Option<Result<(), JoinError>>),
}

async fn check(shared: &Shared, done: Result<(), JoinError>) {
    if let Err(error) = done
        && error.is_panic()
    {
        shared.failed(&format!("a task panicked: {error}")).await;
    }
}

/// Ends all sessions when the identity changes: what was said in their greetings is no longer true.
async fn renew(shared: Arc<Shared>) {
    let mut identity = shared.identity.clone();
    // Seen before the first greeting, so that no change is missed.
    identity.borrow_and_update();
    loop {
        let changed = tokio::select! { biased;
            () = shared.stopped() => false,
            changed = identity.changed() => changed.is_ok(),
        };
        if !changed {
            return;
        }
        shared.roster.close_all(RENEWED, false);
    }
}
