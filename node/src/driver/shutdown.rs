//! The end of a node: what is in flight is finished, what is owed is shipped or left durable, and the directory says that it
//! was closed in good order.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tokio::{
    sync::oneshot,
    task::{JoinSet, spawn_blocking},
    time::{Instant, sleep, timeout},
};

use super::{
    context::Node,
    doors::Served,
    gauges,
    handoff::Debts,
    health,
    queue::{Inspection, Work},
    threads::Threads,
};
use crate::{
    core::ship::Destination,
    peer::{LinkState, PeerLink},
    storage::{Storage, directory::DataDirectory},
};

/// What there is to end.
pub struct Ending {
    pub(super) node: Node,
    pub(super) directory: Arc<DataDirectory>,
    pub(super) threads: Threads,
    pub(super) tasks: JoinSet<()>,
    pub(super) served: Served,
    /// It leaves for good: nobody delivers later what it has not delivered.
    pub(super) leaves: bool,
    /// A shard ended by itself: the directory was not closed in good order.
    pub(super) was_failure: bool,
}

/// Ends everything, outside in. Each step has a deadline: a node that is told to stop does.
pub async fn shut_down(mut ending: Ending) {
    tracing::info!("stopping");
    ending
        .node
        .inner()
        .health
        .fail(health::STOPPING, "the node is stopping".to_owned());
    ending.served.stop.send_replace(true);
    within(
        "clients",
        timeout(DOORS_MAX, &mut ending.served.resp).await.is_ok(),
    );
    if !ending.was_failure {
        drain(&ending.node, ending.leaves).await;
    }
    if let Some(membership) = ending.node.inner().membership() {
        membership.depart(&ending.node);
    }
    if let Some(peers) = ending.node.inner().outbound.peers() {
        peers.shutdown().await;
    }
    let is_whole = stop_shards(&ending.node).await && !ending.was_failure;
    within(
        "HTTP",
        timeout(DOORS_MAX, &mut ending.served.http).await.is_ok(),
    );
    ending.tasks.shutdown().await;
    let (threads, directory) = (ending.threads, ending.directory);
    let closed = spawn_blocking(move || close(threads, &directory, is_whole)).await;
    within("storage", closed.is_ok());
    tracing::info!(is_whole, "stopped");
}

/// Gives the others time to take what they have not, and says what is left. A node that stops asks those that answer, and are not
/// suspected, and keeps the rest in the outbox. One that leaves asks all of them, unless an operator has it leave with what it owes.
async fn drain(node: &Node, leaves: bool) {
    let is_final = || node.inner().is_final.load(Ordering::Relaxed);
    let waits_for_all = leaves && !is_final();
    let until = Instant::now() + if waits_for_all { LEAVE_MAX } else { DRAIN_MAX };
    let debts = loop {
        let inspections = node.inspect(false).await;
        let up = destinations_up(node);
        let debts = Debts::of(&inspections);
        let is_awaited = if waits_for_all {
            !debts.are_none()
        } else {
            inspections.iter().any(|shard| owes(shard, &up))
        };
        if !is_awaited || Instant::now() >= until {
            break debts;
        }
        sleep(DRAIN_LOOK).await;
    };
    if debts.are_none() {
        return;
    }
    let said = debts.sentences(&node.inner().name).join("; ");
    if !leaves {
        tracing::warn!("what others lack stays in the outbox until this node is back: {said}");
        return;
    }
    tracing::error!("this node leaves, and what it owes is lost to delivery: {said}");
    node.inner().is_final.store(true, Ordering::Relaxed);
    gauges::publish_debts(node, &debts);
    // Nobody answers gossip, and a goodbye ends what a node publishes: some rounds, so that those that stay know what they lack.
    sleep(ANNOUNCE).await;
}

fn destinations_up(node: &Node) -> Vec<Destination> {
    let links = node
        .inner()
        .outbound
        .peers()
        .map(|peers| peers.status())
        .unwrap_or_default();
    let own = &node.inner().region;
    links
        .into_iter()
        .filter(|link| link.state == LinkState::Up)
        .filter(|link| !is_silent(node, link))
        .filter_map(|link| match link.region? {
            region if region == *own => Some(Destination::Replica(link.name?)),
            region => Some(Destination::Region(region)),
        })
        .collect()
}

fn is_silent(node: &Node, link: &PeerLink) -> bool {
    let membership = node.inner().membership();
    membership
        .zip(link.name.as_ref())
        .is_some_and(|(membership, name)| membership.is_silent(name))
}

fn owes(inspection: &Inspection, up: &[Destination]) -> bool {
    inspection
        .lags
        .iter()
        .any(|(destination, lag)| lag.rows > 0 && up.contains(destination))
}

/// Every shard commits what it has and remembers where it is. Whether all did.
async fn stop_shards(node: &Node) -> bool {
    let mut stopping = Vec::new();
    for queue in &node.inner().shards {
        let (done, stopped) = oneshot::channel();
        stopping.push(queue.send(Work::Stop { done }).is_ok().then_some(stopped));
    }
    let mut is_whole = true;
    for stopped in stopping {
        let is_stopped = match stopped {
            Some(stopped) => matches!(timeout(SHARD_MAX, stopped).await, Ok(Ok(()))),
            None => false,
        };
        is_whole &= is_stopped;
    }
    is_whole
}

/// The last words on disk.
fn close(threads: Threads, directory: &DataDirectory, is_whole: bool) {
    drop(threads.running);
    for handle in threads.handles {
        within("a storage thread", handle.join().is_ok());
    }
    if !is_whole {
        return;
    }
    let closed = directory
        .storage
        .sync()
        .map_err(|error| error.to_string())
        .and_then(|()| directory.mark_clean().map_err(|error| error.to_string()));
    if let Err(error) = closed {
        tracing::error!(
            error,
            "the data directory was not closed in good order; the next start reads it as after a crash"
        );
    }
}

fn within(what: &str, is_done: bool) {
    if !is_done {
        tracing::warn!("{what} did not end in time");
    }
}

/// How long a node that stops waits for others to take what they have not.
const DRAIN_MAX: Duration = Duration::from_secs(2);
/// How long one that leaves does.
const LEAVE_MAX: Duration = Duration::from_secs(60);
/// What is left behind is told for so long before the goodbye.
const ANNOUNCE: Duration = Duration::from_secs(2);
/// For the doors to finish what is in flight.
const DOORS_MAX: Duration = Duration::from_secs(5);
/// Between two looks at what they have.
const DRAIN_LOOK: Duration = Duration::from_millis(20);
/// For a shard's last batch.
const SHARD_MAX: Duration = Duration::from_secs(10);
