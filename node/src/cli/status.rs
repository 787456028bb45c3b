//! `meridian status`: a node's `/v1/status`, as tables.

use std::{
    io::{self, IsTerminal, Write},
    thread,
    time::Duration,
};

use node::status::{NodeStatus, RegionStatus, Status};

use super::{
    StatusArgs,
    complaint::complain,
    door::{self, DoorError},
    failure::Failure,
};

/// Shows the status that the node behind `args.http` gives, once or every second.
pub fn show(args: &StatusArgs, mut out: impl Write) -> Result<(), Failure> {
    if !args.watch {
        let page = page(args)?;
        return Ok(out.write_all(page.as_bytes())?);
    }
    let clear = if io::stdout().is_terminal() && !args.json {
        CLEAR
    } else {
        ""
    };
    loop {
        // Who watches a node wants to see it come back.
        match page(args) {
            Ok(page) => write!(out, "{clear}{page}")?,
            Err(error) if args.json => complain(format_args!("meridian: {error}")),
            Err(error) => writeln!(out, "{clear}{error}")?,
        }
        out.flush()?;
        thread::sleep(EVERY);
    }
}

fn page(args: &StatusArgs) -> Result<String, DoorError> {
    let body = door::get(&args.http, "/v1/status")?;
    let parsed: Result<Status, _> = serde_json::from_str(&body);
    let status = parsed.map_err(|reason| DoorError::Malformed {
        address: args.http.clone(),
        reason,
    })?;
    if args.json {
        return Ok(format!("{}\n", body.trim_end()));
    }
    Ok(tables(&status))
}

fn tables(status: &Status) -> String {
    let readiness = if status.ready { "ready" } else { "not ready" };
    let mut page = format!(
        "{} in {} of {}: {readiness}, {} keys, epoch {}, digest {}\n",
        status.node, status.region, status.cluster, status.keys, status.epoch, status.digest
    );
    for reason in &status.reasons {
        page += &format!("  {}: {}\n", reason.kind, reason.detail);
    }
    let regions = status.regions.iter().map(region_row);
    page += "\n";
    page += &table(["REGION", "STATE", "LAG", "OUTBOX", "REPAIR"], regions);
    let nodes = status.nodes.iter().map(node_row);
    page += "\n";
    page + &table(
        [
            "NODE", "REGION", "STATE", "READY", "RTT", "CLOCK", "PHI", "HINTS", "REPAIR", "CAUSE",
        ],
        nodes,
    )
}

fn region_row(region: &RegionStatus) -> [String; 5] {
    [
        region.name.to_string(),
        region.state.to_string(),
        format!("{:.3}s", region.lag_seconds),
        region.outbox_entries.to_string(),
        repair(region.needs_repair),
    ]
}

fn repair(is_needed: bool) -> String {
    if is_needed { "needed" } else { "-" }.to_owned()
}

fn node_row(node: &NodeStatus) -> [String; 10] {
    let ms = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.1}ms"));
    [
        node.name.to_string(),
        node.region.to_string(),
        node.state.to_string(),
        if node.ready { "yes" } else { "no" }.to_owned(),
        ms(node.rtt_ms),
        ms(node.clock_offset_ms),
        format!("{:.1}", node.phi),
        node.hints.to_string(),
        repair(node.needs_repair),
        node.cause.clone(),
    ]
}

/// Columns as wide as their widest cell, two spaces apart.
fn table<const N: usize>(titles: [&str; N], rows: impl Iterator<Item = [String; N]>) -> String {
    let mut lines = vec![titles.map(str::to_owned)];
    lines.extend(rows);
    let mut widths = [0; N];
    for line in &lines {
        for (width, cell) in widths.iter_mut().zip(line) {
            *width = cell.chars().count().max(*width);
        }
    }
    let padded = |line: &[String; N]| {
        let cells = line.iter().zip(widths);
        let text: String = cells
            .map(|(cell, width)| format!("{cell:width$}  "))
            .collect();
        format!("{}\n", text.trim_end())
    };
    lines.iter().map(padded).collect()
}

const EVERY: Duration = Duration::from_secs(1);
/// To the top left, and everything below away.
const CLEAR: &str = "\x1b[H\x1b[J";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [["a", "long cell"], ["longer name", ""]];
        let rows = rows.map(|row| row.map(str::to_owned)).into_iter();
        let text = table(["NAME", "CAUSE"], rows);
        assert_eq!(
            text,
            "NAME         CAUSE\na            long cell\nlonger name\n"
        );
    }
}
