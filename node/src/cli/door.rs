//! Questions to a node's HTTP door.

use std::time::Duration;

/// Why a node's door gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum DoorError {
    /// Nobody answers there, or not in time. *State unchanged by a question; a verb may have been carried out.*
    #[error("no answer from http://{address}: {reason}")]
    Unreachable {
        address: String,
        reason: Box<ureq::Error>,
    },
    /// Somebody answers, and does not do what was asked. *State unchanged.*
    #[error("http://{address}{path} answered {code}: {body}")]
    Refused {
        address: String,
        path: String,
        code: u16,
        body: String,
    },
    /// The answer is not one of this version. *State unchanged.*
    #[error("http://{address}/v1/status is no status that this version knows: {reason}")]
    Malformed {
        address: String,
        reason: serde_json::Error,
    },
}

/// What is to be read at a path.
pub fn get(address: &str, path: &str) -> Result<String, DoorError> {
    let answer = agent().get(format!("http://{address}{path}")).call();
    read(address, path, answer)
}

/// Has the node carry out the verb behind a path.
pub fn post(address: &str, path: &str) -> Result<String, DoorError> {
    let answer = agent().post(format!("http://{address}{path}")).send_empty();
    read(address, path, answer)
}

fn agent() -> ureq::Agent {
    ureq::Agent::config_builder()
        .timeout_global(Some(PATIENCE))
        .http_status_as_error(false)
        // A proxy for the web does not lead to a node's loopback door.
        .proxy(None)
        .build()
        .into()
}

fn read(
    address: &str,
    path: &str,
    answer: Result<ureq::http::Response<ureq::Body>, ureq::Error>,
) -> Result<String, DoorError> {
    let unreachable = |reason| DoorError::Unreachable {
        address: address.to_owned(),
        reason: Box::new(reason),
    };
    let mut answer = answer.map_err(unreachable)?;
    let body = answer.body_mut().with_config().limit(BODY_BYTES_MAX);
    let body = body.read_to_string().map_err(unreachable)?;
    if !answer.status().is_success() {
        return Err(DoorError::Refused {
            address: address.to_owned(),
            path: path.to_owned(),
            code: answer.status().as_u16(),
            body: body.trim_end().to_owned(),
        });
    }
    Ok(body)
}

const PATIENCE: Duration = Duration::from_secs(15);
/// A status with 100 nodes is some 30 KiB.
const BODY_BYTES_MAX: u64 = 16 << 20;
