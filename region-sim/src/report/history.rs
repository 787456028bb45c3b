//! The history as JSON lines: what was asked of which node, and what came of it.

use std::{
    fs::File,
    io::{self, BufWriter, Write},
    path::Path,
};

use node::core::reply::Reply;
use serde::Serialize;

use crate::{
    chaos::{Run, clients::Asked, command},
    workload::Outcome,
};

/// One command.
#[derive(Debug, Serialize)]
struct Line<'a> {
    client: usize,
    node: &'a str,
    /// As a person would write it.
    command: String,
    /// Since the storm began.
    invoked_us: u128,
    completed_us: Option<u128>,
    /// `replied`, `refused` (nothing was written) or `unknown` (it may have taken effect).
    outcome: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reply: Option<String>,
}

/// Writes it.
pub fn write(path: &Path, run: &Run) -> io::Result<()> {
    let mut file = BufWriter::new(File::create(path)?);
    for asked in &run.asked {
        serde_json::to_writer(&mut file, &line(asked, run))?;
        file.write_all(b"\n")?;
    }
    file.flush()
}

fn line<'a>(asked: &Asked, run: &'a Run) -> Line<'a> {
    let operation = &asked.operation;
    let (outcome, reply) = match &operation.outcome {
        Outcome::Replied(reply) => ("replied", Some(shown(reply))),
        Outcome::Refused => ("refused", None),
        Outcome::Unknown | Outcome::Pending => ("unknown", None),
    };
    Line {
        client: operation.client,
        node: run.nodes.get(asked.node).map_or("", String::as_str),
        command: command::shown(&operation.op),
        invoked_us: operation.invoked.as_micros(),
        completed_us: operation.completed.map(|completed| completed.as_micros()),
        outcome,
        reply,
    }
}

fn shown(reply: &Reply) -> String {
    match reply {
        Reply::Ok => "OK".to_owned(),
        Reply::Simple(word) => (*word).to_owned(),
        Reply::Nil | Reply::NilArray => "nil".to_owned(),
        Reply::Int(number) => number.to_string(),
        Reply::Bulk(bytes) | Reply::Verbatim(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        Reply::Array(items) | Reply::Set(items) => {
            let items: Vec<String> = items.iter().map(shown).collect();
            format!("[{}]", items.join(" "))
        }
        Reply::Map(pairs) => {
            let pairs = pairs
                .iter()
                .map(|(key, value)| format!("{} {}", shown(key), shown(value)));
            format!("{{{}}}", pairs.collect::<Vec<_>>().join(" "))
        }
        Reply::Error(refusal) => format!("-{refusal}"),
    }
}
