//! Verbs of operators that a node carries out.

use std::io::Write;

use node::names::NodeName;

use super::{door, failure::Failure};

/// Has the node behind `http` leave.
pub fn leave(http: &str, mut out: impl Write) -> Result<(), Failure> {
    door::post(http, "/v1/leave")?;
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
