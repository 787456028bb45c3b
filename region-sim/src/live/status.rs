//! What every node and link of a cluster does now, and how that is shown to people.

use std::{
    collections::BTreeMap, fmt::Write, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration,
};

use node::status::Status;
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;

use super::{
    mesh::LinkState,
    process::Process,
    relay::Tally,
    seat::{Phase, Seat},
    site::Site,
    topology::{Pair, Topology},
};
use crate::link::Settings;

/// A cluster as its launcher and its nodes see it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ClusterStatus {
    /// Every node, in order of index.
    pub nodes: Vec<NodeRow>,
    /// Every link: one row for two regions whose links are all alike, else one for each pair of nodes.
    pub links: Vec<LinkRow>,
}

/// A node: what its launcher knows, and its own words if it answered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NodeRow {
    /// Its name.
    pub name: String,
    /// Its region.
    pub region: String,
    /// Its process, `None` while it is dead.
    pub pid: Option<u32>,
    /// Where it is in its life.
    pub state: Phase,
    /// The program that it runs, or will run when it is started.
    pub program: PathBuf,
    /// Where clients connect.
    pub resp: Option<SocketAddr>,
    /// Where its status is.
    pub http: Option<SocketAddr>,
    /// What it says of itself; `None` if it did not answer.
    pub words: Option<Words>,
}

/// What a node says of itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Words {
    /// Whether it can meet its default levels.
    pub ready: bool,
    /// Keys that it holds and shows.
    pub keys: u64,
    /// Digest of its content: equal content, equal digest.
    pub digest: String,
    /// How far its own writes trail in each other region, in seconds.
    pub lag_seconds: BTreeMap<String, f64>,
}

/// A link, or several that are alike.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LinkRow {
    /// One end, a region or a node.
    pub a: String,
    /// The other.
    pub b: String,
    /// What each direction does to datagrams.
    pub settings: Settings,
    /// Whether it is cut.
    pub cut: bool,
    /// What became of datagrams so far, both directions added up.
    pub datagrams: Tally,
}

impl LinkRow {
    /// Whether it does anything to datagrams.
    pub fn is_faulty(&self) -> bool {
        self.cut || self.settings != Settings::default()
    }
}

/// Looks at a cluster. Nodes are asked at the same time, each for `patience` at most.
pub(super) async fn observe(site: &Arc<Site>, patience: Duration) -> ClusterStatus {
    let mut asked = JoinSet::new();
    for seat in &site.seats {
        let seat = seat.clone();
        asked.spawn(async move { (seat.index, look_at(&seat, patience).await) });
    }
    let mut nodes: Vec<(usize, NodeRow)> = Vec::with_capacity(site.seats.len());
    while let Some(row) = asked.join_next().await {
        nodes.extend(row);
    }
    nodes.sort_by_key(|(index, _)| *index);
    ClusterStatus {
        nodes: nodes.into_iter().map(|(_, row)| row).collect(),
        links: links(site),
    }
}

async fn look_at(seat: &Seat, patience: Duration) -> NodeRow {
    let life = seat.life();
    let http = life.doors.map(|doors| doors.http);
    let words = match (life.phase, http) {
        (Phase::Ready, Some(http)) => ask(http, patience).await,
        _ => None,
    };
    NodeRow {
        name: seat.name.clone(),
        region: seat.region.to_string(),
        pid: life.process.as_ref().map(Process::pid),
        state: life.phase,
        program: life.program,
        resp: life.doors.map(|doors| doors.resp),
        http,
        words,
    }
}

/// A node's own words; `None` for one that does not answer, which is what a status is there to show.
async fn ask(http: SocketAddr, patience: Duration) -> Option<Words> {
    let get = move || -> Option<Status> {
        let agent: ureq::Agent = ureq::Agent::config_builder()
            .timeout_global(Some(patience))
            .build()
            .into();
        let text = agent
            .get(format!("http://{http}/v1/status"))
            .call()
            .ok()?
            .body_mut()
            .read_to_string()
            .ok()?;
        serde_json::from_str(&text).ok()
    };
    let status = tokio::task::spawn_blocking(get).await.ok()??;
    let lag = status
        .regions
        .into_iter()
        .map(|region| (region.name.to_string(), region.lag_seconds));
    Some(Words {
        ready: status.ready,
        keys: status.keys,
        digest: status.digest,
        lag_seconds: lag.collect(),
    })
}

fn links(site: &Site) -> Vec<LinkRow> {
    let regions = site.topology.regions();
    let mut rows = Vec::new();
    for (i, a) in regions.iter().enumerate() {
        for b in &regions[i..] {
            // A region of one node has no links inside.
            if let Ok(pairs) = site.topology.pairs_between(a.as_str(), b.as_str()) {
                rows.extend(rows_of(site, a.as_str(), b.as_str(), &pairs));
            }
        }
    }
    rows
}

fn rows_of(site: &Site, a: &str, b: &str, pairs: &[Pair]) -> Vec<LinkRow> {
    let states: Vec<(Pair, LinkState)> = pairs
        .iter()
        .filter_map(|&pair| Some((pair, site.mesh.state(pair)?)))
        .collect();
    let alike = states.windows(2).all(|two| two[0].1 == two[1].1);
    match states.first() {
        Some((_, state)) if alike => {
            let sum = pairs
                .iter()
                .map(|&pair| site.mesh.tally(pair))
                .fold(Tally::default(), |a, b| a + b);
            vec![row(a, b, *state, sum)]
        }
        _ => {
            let names = names(&site.topology);
            let each = |(pair, state): (Pair, LinkState)| {
                row(
                    &names[pair.low],
                    &names[pair.high],
                    state,
                    site.mesh.tally(pair),
                )
            };
            states.into_iter().map(each).collect()
        }
    }
}

fn names(topology: &Topology) -> Vec<String> {
    topology
        .members()
        .map(|(name, _)| name.to_string())
        .collect()
}

fn row(a: &str, b: &str, state: LinkState, datagrams: Tally) -> LinkRow {
    LinkRow {
        a: a.to_owned(),
        b: b.to_owned(),
        settings: state.settings,
        cut: state.cut,
        datagrams,
    }
}

/// Settings in words: `rtt 80ms, loss 1%`, or `no faults`.
pub fn describe(settings: &Settings) -> String {
    let mut parts = Vec::new();
    if !settings.delay.is_zero() {
        parts.push(format!(
            "rtt {}",
            humantime::format_duration(settings.rtt())
        ));
    }
    if !settings.jitter.is_zero() {
        parts.push(format!(
            "jitter {}",
            humantime::format_duration(settings.jitter)
        ));
    }
    if settings.loss != crate::link::Loss::NONE {
        parts.push(format!("loss {}", settings.loss));
    }
    parts.extend(settings.rate.map(|rate| format!("rate {rate}")));
    if parts.is_empty() {
        "no faults".to_owned()
    } else {
        parts.join(", ")
    }
}

/// A status as a table, one line each.
pub fn table(status: &ClusterStatus) -> Vec<String> {
    let header = ["NODE", "REGION", "PID", "STATE", "KEYS", "RESP", "LAG"].map(str::to_owned);
    let cells: Vec<[String; 7]> = std::iter::once(header)
        .chain(status.nodes.iter().map(cells))
        .collect();
    let widths: Vec<usize> = (0..header_len())
        .map(|column| {
            cells
                .iter()
                .map(|row| row[column].chars().count())
                .max()
                .unwrap_or(0)
        })
        .collect();
    let mut lines: Vec<String> = cells.iter().map(|row| aligned(row, &widths)).collect();
    lines.extend(
        status
            .links
            .iter()
            .filter(|link| link.is_faulty())
            .map(link_line),
    );
    lines
}

const fn header_len() -> usize {
    7
}

fn aligned(row: &[String; 7], widths: &[usize]) -> String {
    let mut line = String::new();
    for (cell, &width) in row.iter().zip(widths) {
        // Writing to a string cannot fail.
        let _ = write!(line, "{cell:width$}  ");
    }
    line.trim_end().to_owned()
}

fn cells(node: &NodeRow) -> [String; 7] {
    let dash = || "-".to_owned();
    let words = node.words.as_ref();
    [
        node.name.clone(),
        node.region.clone(),
        node.pid.map_or_else(dash, |pid| pid.to_string()),
        state(node),
        words.map_or_else(dash, |words| words.keys.to_string()),
        node.resp.map_or_else(dash, |resp| resp.to_string()),
        words.map_or_else(dash, lag),
    ]
}

fn state(node: &NodeRow) -> String {
    match (node.state, &node.words) {
        (Phase::Ready, None) => "no answer".to_owned(),
        (Phase::Ready, Some(words)) if !words.ready => "not ready".to_owned(),
        (state, _) => state.to_string(),
    }
}

fn lag(words: &Words) -> String {
    let parts: Vec<String> = words
        .lag_seconds
        .iter()
        .map(|(region, seconds)| format!("{region} {}", seconds_short(*seconds)))
        .collect();
    parts.join(", ")
}

fn seconds_short(seconds: f64) -> String {
    match seconds {
        s if s < 1.0 => format!("{:.0}ms", s * 1000.0),
        s if s < 120.0 => format!("{s:.1}s"),
        s => format!("{:.0}min", s / 60.0),
    }
}

fn link_line(link: &LinkRow) -> String {
    let cut = if link.cut { "PARTITIONED, " } else { "" };
    format!(
        "link {},{}  {cut}{}",
        link.a,
        link.b,
        describe(&link.settings)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::Loss;

    fn node(name: &str, state: Phase, words: Option<Words>) -> NodeRow {
        let address = Some("127.0.0.1:7000".parse().unwrap());
        let pid = (state != Phase::Dead).then_some(4242);
        NodeRow {
            name: name.to_owned(),
            region: "us".to_owned(),
            pid,
            state,
            program: "/usr/bin/meridian".into(),
            resp: address,
            http: address,
            words,
        }
    }

    #[test]
    fn a_table_shows_nodes_and_links_with_faults() {
        let words = Words {
            ready: true,
            keys: 12,
            digest: String::new(),
            lag_seconds: BTreeMap::from([("ap".to_owned(), 150.0), ("eu".to_owned(), 0.042)]),
        };
        let link = |b: &str, settings, cut| LinkRow {
            a: "us".to_owned(),
            b: b.to_owned(),
            settings,
            cut,
            datagrams: Tally::default(),
        };
        let slow = Settings {
            loss: "1%".parse::<Loss>().unwrap(),
            ..Settings::with_rtt(Duration::from_millis(80))
        };
        let status = ClusterStatus {
            nodes: vec![
                node("us-1", Phase::Ready, Some(words)),
                node("us-2", Phase::Dead, None),
            ],
            links: vec![
                link("eu", slow, false),
                link("ap", Settings::default(), true),
                link("sa", Settings::default(), false),
            ],
        };
        assert_eq!(
            table(&status),
            [
                "NODE  REGION  PID   STATE  KEYS  RESP            LAG",
                "us-1  us      4242  ready  12    127.0.0.1:7000  ap 2min, eu 42ms",
                "us-2  us      -     dead   -     127.0.0.1:7000  -",
                "link us,eu  rtt 80ms, loss 1%",
                "link us,ap  PARTITIONED, no faults",
            ]
        );
    }
}
