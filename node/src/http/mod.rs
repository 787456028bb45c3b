//! The operators' door: health, metrics, status and a page that shows it.
//!
//! ```text
//!   GET /health/live    200 while the process runs
//!   GET /health/ready   200, or 503 with reasons
//!   GET /metrics        Prometheus text
//!   GET /v1/status      the cluster as this node sees it; ?partitions=1 adds a digest per partition
//!   GET /v1/conflicts   what joins kept from readers, the newest first; ?count=N for the last ones
//!   POST /v1/forget     ?node=NAME: every node forgets it, and refuses its data directory from now on
//!   POST /v1/leave      ?within_ms=N&force=1: the node ships what it owes, says goodbye and ends; 409 while others lack what nobody
//!                       else would deliver, unless it is forced
//!   POST /v1/handoff    ?within_ms=N: how much of what it has others lack, after waiting for so long that it be nothing
//!   POST /v1/drain-check ?of=NAME: why it is not safe to stop a node or a region
//!   GET /               a page that shows the status
//! ```
//!
//! Every wait has an end: a connection that gets no answer out of this door for [`Bounds::silence`] is closed, whatever it
//! sends meanwhile, and an answer that the node does not give in time is a 503.

mod door;
mod routes;
#[cfg(test)]
mod tests;

use std::{future::Future, num::NonZeroUsize, sync::Arc, time::Duration};

use metrics_exporter_prometheus::PrometheusHandle;
use tokio::{net::TcpListener, sync::oneshot, time};

use self::door::Door;
use crate::{
    names::NodeName,
    status::{ConflictStatus, Reason, Status},
};

/// The node, as this door sees it.
pub trait NodeView: Send + Sync + 'static {
    /// The cluster as the node sees it, with one digest per partition if asked for.
    fn status(&self, partitions: bool) -> impl Future<Output = Status> + Send;

    /// Why the node cannot meet its default levels now; empty when it can. Answers at once.
    fn ready(&self) -> Vec<Reason>;

    /// The last conflicts that the node saw, the newest first. Answers at once.
    fn conflicts(&self, count: usize) -> Vec<ConflictStatus>;

    /// Has every node forget one that will never return. This one remembers it for good when it says so.
    fn forget(&self, node: NodeName) -> impl Future<Output = Result<(), VerbError>> + Send;

    /// What of this node others lack, once it is nothing or the time is up.
    fn owed(&self, within: Duration) -> impl Future<Output = Owed> + Send;

    /// Why it is not safe to stop a node or a region; nothing where it is.
    fn drain_check(
        &self,
        what: String,
    ) -> impl Future<Output = Result<Vec<String>, VerbError>> + Send;

    /// Begins to leave: ships what is owed, says goodbye, ends. Not while others lack what nobody else would deliver, even after it
    /// waited for so long, unless it is forced to.
    fn leave(
        &self,
        is_forced: bool,
        within: Duration,
    ) -> impl Future<Output = Result<(), VerbError>> + Send;
}

/// What others lack of a node.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Owed {
    /// Batches of writes, over all who lack some.
    pub batches: u64,
    /// Who lacks how many, in sentences.
    pub lacking: Vec<String>,
    /// Who lacks what nobody can deliver any more, in sentences.
    pub lost: Vec<String>,
}

/// Why an operator's verb was not carried out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VerbError {
    /// It is about something that is not known here. *State unchanged.*
    #[error("{0}")]
    Unknown(String),
    /// It cannot be done as things are. *State unchanged.*
    #[error("{0}")]
    Refused(String),
    /// It was done, and may not outlast a restart of all nodes. *Safe to retry.*
    #[error("{0}")]
    NotStored(String),
}

/// What a caller of this door may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Connections at a time; more wait to be accepted.
    pub connections: NonZeroUsize,
    /// How long a connection may go without a byte of an answer: a slow request, a reader that does not read, an idle
    /// keep-alive. Too small: idle scrapers connect anew. Too large: slow callers hold the places of others.
    pub silence: Duration,
    /// How long the node may take over an answer.
    pub answer: Duration,
    /// How long a shutdown waits for answers that are under way.
    pub grace: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            connections: NonZeroUsize::new(256).expect("256 is not 0"),
            silence: Duration::from_secs(60),
            answer: Duration::from_secs(10),
            grace: Duration::from_secs(2),
        }
    }
}

/// Serves on `listener` until `shutdown` resolves and what is under way is answered, and keeps the metrics tidy meanwhile.
pub async fn serve<V: NodeView>(
    listener: TcpListener,
    view: Arc<V>,
    metrics: PrometheusHandle,
    shutdown: impl Future<Output = ()> + Send + 'static,
) {
    serve_within(Bounds::default(), listener, view, metrics, shutdown).await;
}

/// [`serve`] with bounds of one's own.
pub async fn serve_within<V: NodeView>(
    bounds: Bounds,
    listener: TcpListener,
    view: Arc<V>,
    metrics: PrometheusHandle,
    shutdown: impl Future<Output = ()> + Send + 'static,
) {
    // Its drop is the signal.
    let (running, stopping) = oneshot::channel::<()>();
    let shutdown = async move {
        shutdown.await;
        drop(running);
    };
    let routes = routes::routes(view, metrics.clone(), bounds.answer);
    let door = Door::new(listener, bounds);
    let served = axum::serve(door, routes).with_graceful_shutdown(shutdown);
    tokio::select! {
        biased;
        result = served => {
            if let Err(error) = result {
                tracing::error!(%error, "the HTTP door closed");
            }
        }
        () = grace_over(stopping, bounds.grace) => {
            tracing::warn!("the HTTP door closed on connections that did not end");
        }
        () = upkeep(metrics) => {}
    }
}

async fn grace_over(stopping: oneshot::Receiver<()>, grace: Duration) {
    // Nothing is ever sent: it ends when the other half is dropped.
    let _dropped = stopping.await;
    time::sleep(grace).await;
}

/// Folds what histograms have collected, for ever: unread ones would grow without a bound.
async fn upkeep(metrics: PrometheusHandle) {
    let mut ticks = time::interval(UPKEEP);
    loop {
        ticks.tick().await;
        metrics.run_upkeep();
    }
}

const UPKEEP: Duration = Duration::from_secs(5);
