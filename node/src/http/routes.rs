//! What each path answers.

use std::{sync::Arc, time::Duration};

use axum::{
    Json, Router,
    extract::{Query, State, rejection::QueryRejection},
    http::{HeaderName, StatusCode, header},
    response::{Html, IntoResponse, Response},
    routing::{get, post},
};
use metrics_exporter_prometheus::PrometheusHandle;
use serde::{Deserialize, Serialize};
use tokio::time::timeout;

use super::{NodeView, Owed, VerbError};
use crate::{
    metrics::process,
    names::NodeName,
    status::{Reason, Status},
};

/// Every path of the door.
pub fn routes<V: NodeView>(view: Arc<V>, metrics: PrometheusHandle, answer: Duration) -> Router {
    let shared = Shared { view, answer };
    Router::new()
        .route("/", get(page))
        .route("/health/live", get(live))
        .route("/health/ready", get(readiness::<V>))
        .route("/v1/status", get(status::<V>))
        .route("/v1/conflicts", get(conflicts::<V>))
        .route("/v1/forget", post(forget::<V>))
        .route("/v1/leave", post(leave::<V>))
        .route("/v1/handoff", post(handoff::<V>))
        .route("/v1/drain-check", post(drain_check::<V>))
        .route("/metrics", get(async move || exposition(&metrics)))
        .fallback(unknown)
        .with_state(shared)
}

struct Shared<V> {
    view: Arc<V>,
    answer: Duration,
}

// Derived, it would ask that `V` be `Clone`.
impl<V> Clone for Shared<V> {
    fn clone(&self) -> Self {
        Self {
            view: Arc::clone(&self.view),
            answer: self.answer,
        }
    }
}

/// The body of `/health/live`.
#[derive(Serialize)]
struct Liveness {
    live: bool,
}

/// The body of `/health/ready`.
#[derive(Serialize)]
struct Readiness {
    ready: bool,
    reasons: Vec<Reason>,
}

/// The body of an answer that is none.
#[derive(Serialize)]
struct Failure {
    error: String,
}

/// The query of `/v1/status`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Detail {
    #[serde(default)]
    partitions: Switch,
}

/// The query of `/v1/conflicts`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Last {
    /// All that are kept unless given.
    count: Option<usize>,
}

/// The query of `/v1/forget`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Which {
    node: NodeName,
}

/// The query of `/v1/handoff`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Patience {
    /// Bounded by what an answer may take.
    #[serde(default)]
    within_ms: u64,
}

/// The query of `/v1/leave`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Leave {
    /// Whatever others lack.
    #[serde(default)]
    force: Switch,
    /// Bounded by what an answer may take.
    #[serde(default)]
    within_ms: u64,
}

/// The query of `/v1/drain-check`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct What {
    of: String,
}

/// The body of `/v1/handoff`.
#[derive(Serialize)]
struct Handoff {
    owed: u64,
    lacking: Vec<String>,
    lost: Vec<String>,
}

/// The body of `/v1/drain-check`.
#[derive(Serialize)]
struct Drain {
    safe: bool,
    reasons: Vec<String>,
}

/// The body of a verb's answer.
#[derive(Serialize)]
struct Done {
    done: &'static str,
}

#[derive(Deserialize, Default)]
enum Switch {
    #[default]
    #[serde(rename = "0")]
    Off,
    #[serde(rename = "1")]
    On,
}

async fn live() -> Response {
    uncached(StatusCode::OK, Liveness { live: true })
}

async fn readiness<V: NodeView>(State(shared): State<Shared<V>>) -> Response {
    let reasons = shared.view.ready();
    let ready = reasons.is_empty();
    let code = if ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    uncached(code, Readiness { ready, reasons })
}

async fn status<V: NodeView>(
    State(shared): State<Shared<V>>,
    detail: Result<Query<Detail>, QueryRejection>,
) -> Response {
    let partitions = match detail {
        Ok(Query(detail)) => matches!(detail.partitions, Switch::On),
        Err(rejection) => return failure(StatusCode::BAD_REQUEST, rejection.body_text()),
    };
    let asked: Result<Status, _> = timeout(shared.answer, shared.view.status(partitions)).await;
    match asked {
        Ok(status) => uncached(StatusCode::OK, status),
        Err(_) => failure(
            StatusCode::SERVICE_UNAVAILABLE,
            format!("the node did not answer within {:?}", shared.answer),
        ),
    }
}

async fn conflicts<V: NodeView>(
    State(shared): State<Shared<V>>,
    last: Result<Query<Last>, QueryRejection>,
) -> Response {
    match last {
        Ok(Query(Last { count })) => {
            let last = shared.view.conflicts(count.unwrap_or(usize::MAX));
            uncached(StatusCode::OK, last)
        }
        Err(rejection) => failure(StatusCode::BAD_REQUEST, rejection.body_text()),
    }
}

async fn forget<V: NodeView>(
    State(shared): State<Shared<V>>,
    which: Result<Query<Which>, QueryRejection>,
) -> Response {
    let Which { node } = match which {
        Ok(Query(which)) => which,
        Err(rejection) => return failure(StatusCode::BAD_REQUEST, rejection.body_text()),
    };
    let asked = timeout(shared.answer, shared.view.forget(node)).await;
    let late = || {
        VerbError::NotStored(format!(
            "the node did not answer within {:?}",
            shared.answer
        ))
    };
    match asked.unwrap_or_else(|_| Err(late())) {
        Ok(()) => uncached(StatusCode::OK, Done { done: "forgotten" }),
        Err(VerbError::Unknown(text)) => failure(StatusCode::NOT_FOUND, text),
        Err(VerbError::Refused(text)) => failure(StatusCode::CONFLICT, text),
        Err(VerbError::NotStored(text)) => failure(StatusCode::SERVICE_UNAVAILABLE, text),
    }
}

async fn handoff<V: NodeView>(
    State(shared): State<Shared<V>>,
    patience: Result<Query<Patience>, QueryRejection>,
) -> Response {
    let within = match patience {
        Ok(Query(patience)) => Duration::from_millis(patience.within_ms),
        Err(rejection) => return failure(StatusCode::BAD_REQUEST, rejection.body_text()),
    };
    // Half of it, so that the last look comes in time.
    let owed = shared.view.owed(within.min(shared.answer / 2));
    match timeout(shared.answer, owed).await {
        Ok(Owed {
            batches,
            lacking,
            lost,
        }) => {
            let owed = batches;
            let handoff = Handoff {
                owed,
                lacking,
                lost,
            };
            uncached(StatusCode::OK, handoff)
        }
        Err(_) => failure(
            StatusCode::SERVICE_UNAVAILABLE,
            format!("the node did not answer within {:?}", shared.answer),
        ),
    }
}

async fn drain_check<V: NodeView>(
    State(shared): State<Shared<V>>,
    what: Result<Query<What>, QueryRejection>,
) -> Response {
    let What { of } = match what {
        Ok(Query(what)) => what,
        Err(rejection) => return failure(StatusCode::BAD_REQUEST, rejection.body_text()),
    };
    match timeout(shared.answer, shared.view.drain_check(of)).await {
        Ok(Ok(reasons)) => {
            let safe = reasons.is_empty();
            uncached(StatusCode::OK, Drain { safe, reasons })
        }
        Ok(Err(error)) => failure(StatusCode::NOT_FOUND, error.to_string()),
        Err(_) => failure(
            StatusCode::SERVICE_UNAVAILABLE,
            format!("the node did not answer within {:?}", shared.answer),
        ),
    }
}

async fn leave<V: NodeView>(
    State(shared): State<Shared<V>>,
    how: Result<Query<Leave>, QueryRejection>,
) -> Response {
    let Leave { force, within_ms } = match how {
        Ok(Query(how)) => how,
        Err(rejection) => return failure(StatusCode::BAD_REQUEST, rejection.body_text()),
    };
    // Half of it, so that the last look comes in time.
    let within = Duration::from_millis(within_ms).min(shared.answer / 2);
    let asked = shared.view.leave(matches!(force, Switch::On), within);
    match timeout(shared.answer, asked).await {
        Ok(Ok(())) => uncached(StatusCode::ACCEPTED, Done { done: "leaving" }),
        Ok(Err(error)) => failure(StatusCode::CONFLICT, error.to_string()),
        Err(_) => failure(
            StatusCode::SERVICE_UNAVAILABLE,
            format!("the node did not answer within {:?}", shared.answer),
        ),
    }
}

fn exposition(metrics: &PrometheusHandle) -> Response {
    process::record();
    let kind = [(
        header::CONTENT_TYPE,
        "text/plain; version=0.0.4; charset=utf-8",
    )];
    (kind, metrics.render()).into_response()
}

async fn page() -> Response {
    (PAGE_HEADERS, Html(include_str!("page.html"))).into_response()
}

async fn unknown() -> Response {
    failure(
        StatusCode::NOT_FOUND,
        "there is /health/live, /health/ready, /metrics, /v1/status and /".to_owned(),
    )
}

fn failure(code: StatusCode, error: String) -> Response {
    uncached(code, Failure { error })
}

fn uncached(code: StatusCode, body: impl Serialize) -> Response {
    (code, [(header::CACHE_CONTROL, "no-store")], Json(body)).into_response()
}

/// The page loads nothing from elsewhere and cannot be framed.
const PAGE_HEADERS: [(HeaderName, &str); 2] = [
    (header::CACHE_CONTROL, "no-store"),
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; connect-src 'self'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; frame-ancestors 'none'",
    ),
];
