//! The tasks of this layer, and what happens when one of them panics.

use std::sync::Arc;

use quinn::Endpoint;
use tokio::task::{JoinHandle, JoinSet};

use super::{acceptor, dialler, greeting::RENEWED, shared::Shared};

/// Starts all tasks. The handle is done when all of them are, after a stop.
pub(super) fn start(
    shared: Arc<Shared>,
    endpoint: Endpoint,
    targets: Vec<dialler::Target>,
) -> JoinHandle<()> {
    let mut tasks = JoinSet::new();
    tasks.spawn(acceptor::run(shared.clone(), endpoint.clone()));
    tasks.spawn(renew(shared.clone()));
    for target in targets {
        tasks.spawn(dialler::run(shared.clone(), endpoint.clone(), target));
    }
    tokio::spawn(watch_over(shared, tasks))
}

async fn watch_over(shared: Arc<Shared>, mut tasks: JoinSet<()>) {
    while let Some(done) = tasks.join_next().await {
        if let Err(error) = done
            && error.is_panic()
        {
            shared.failed(&format!("a task panicked: {error}")).await;
        }
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
