//! The report on a run: one page that needs nothing else, and the history as JSON lines.
//!
//! ```text
//!   DIR/index.html      verdicts, charts, faults
//!       history.jsonl   every command, one object a line
//!       logs/us-1.log   the nodes' logs, if something failed
//! ```

mod charts;
mod history;
mod page;
mod series;

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use crate::{chaos::Run, live::NodeEntry};

/// Writes the report, with the logs of these nodes, and gives its page.
///
/// # Errors
/// If the directory or a file in it cannot be written.
pub fn write(dir: &Path, run: &Run, logs: &[NodeEntry]) -> io::Result<PathBuf> {
    fs::create_dir_all(dir)?;
    history::write(&dir.join("history.jsonl"), run)?;
    keep_logs(&dir.join("logs"), logs)?;
    let page = dir.join("index.html");
    fs::write(&page, page::html(run)?)?;
    Ok(page)
}

/// Replaces the logs of an earlier run.
fn keep_logs(dir: &Path, nodes: &[NodeEntry]) -> io::Result<()> {
    match fs::remove_dir_all(dir) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    if nodes.is_empty() {
        return Ok(());
    }
    fs::create_dir_all(dir)?;
    for node in nodes {
        fs::copy(&node.log, dir.join(format!("{}.log", node.name)))?;
    }
    Ok(())
}
