//! Verbs of operators that a node carries out.

use std::{
    io::Write,
    time::{Duration, Instant},
};

use node::names::NodeName;
use serde::Deserialize;

use super::{
    door::{self, DoorError},
    failure::Failure,
};

/// The answer of `/v1/handoff`.
#[derive(Deserialize)]
struct Handoff {
    owed: u64,
    #[serde(default)]
    lacking: Vec<String>,
    #[serde(default)]
    lost: Vec<String>,
}

/// The answer of `/v1/drain-check`.
#[derive(Deserialize)]
struct Drain {
    safe: bool,
    reasons: Vec<String>,
}

/// Has the node behind `http` leave, once everybody has what nobody else would deliver. Forced, it does not wait for that.
pub fn leave(
    http: &str,
    is_forced: bool,
    patience: Duration,
    mut out: impl Write,
) -> Result<(), Failure> {
    let until = Instant::now() + patience;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let path = match is_forced {
            true => "/v1/leave?force=1".to_owned(),
            false => format!("/v1/leave?within_ms={}", left.min(ASK_MAX).as_millis()),
        };
        match door::post(http, &path) {
            Err(DoorError::Refused { code: 409, .. }) if !left.is_zero() => {}
            asked => break asked.map(drop)?,
        }
    }
    Ok(writeln!(
        out,
        "the node leaves: it ships what it owes, says goodbye and ends"
    )?)
}

/// Has every node forget `node`.
pub fn forget(http: &str, node: &NodeName, mut out: impl Write) -> Result<(), Failure> {
    door::post(http, &format!("/v1/forget?node={node}"))?;
    Ok(writeln!(out, "{node} is forgotten")?)
}

/// Waits until the others have taken everything that the node behind `http` owes them.
pub fn handoff_wait(http: &str, patience: Duration, mut out: impl Write) -> Result<(), Failure> {
    let until = Instant::now() + patience;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let within_ms = left.min(ASK_MAX).as_millis();
        let answer: Handoff = ask(http, &format!("/v1/handoff?within_ms={within_ms}"))?;
        if answer.owed == 0 && !answer.lost.is_empty() {
            return Err(Failure::Unmet(format!(
                "the node owes nothing more, but not everything was taken: {}",
                answer.lost.join("; ")
            )));
        }
        if answer.owed == 0 {
            return Ok(writeln!(out, "everything that the node owed was taken")?);
        }
        if left.is_zero() {
            return Err(Failure::Unmet(format!(
                "{} batches of writes were not taken within {patience:?}: {}",
                answer.owed,
                answer.lacking.join("; ")
            )));
        }
    }
}

/// Says whether it is safe to stop a node or a region, as the node behind `http` sees it.
pub fn drain_check(http: &str, what: &NodeName, mut out: impl Write) -> Result<(), Failure> {
    let answer: Drain = ask(http, &format!("/v1/drain-check?of={what}"))?;
    if answer.safe {
        return Ok(writeln!(out, "{what} can be stopped")?);
    }
    let reasons = answer.reasons.join("; ");
    Err(Failure::Unmet(format!(
        "{what} is not to be stopped now: {reasons}"
    )))
}

fn ask<T: for<'de> Deserialize<'de>>(http: &str, path: &str) -> Result<T, Failure> {
    let body = door::post(http, path)?;
    let malformed = |reason| DoorError::Malformed {
        address: http.to_owned(),
        reason,
    };
    Ok(serde_json::from_str(&body).map_err(malformed)?)
}

/// How long the node is to wait before it answers.
const ASK_MAX: Duration = Duration::from_secs(4);
