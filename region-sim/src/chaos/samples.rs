//! What the nodes say of themselves, asked of each again and again while a run lasts.

use std::{
    io,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use node::status::Status;

use super::stop::StopOnDrop;
use crate::live::NodeEntry;

/// What one node said at one moment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sample {
    /// When, since the storm began.
    pub at: Duration,
    /// Which node, by its index.
    pub node: usize,
    /// The largest lag of its own writes in another region, in seconds.
    pub lag_seconds: f64,
    /// Outbox rows that other regions have not taken.
    pub outbox: u64,
    /// Hints that it keeps for nodes of its own region.
    pub hints: u64,
    /// Its largest suspicion of another node.
    pub phi: f64,
}

/// Asks every node on a thread of its own, so that one that does not answer delays no other.
#[derive(Debug)]
pub struct Samplers {
    stop: StopOnDrop,
    threads: Vec<JoinHandle<Vec<Sample>>>,
}

impl Samplers {
    /// Starts them; their times are counted from `begun`.
    ///
    /// # Errors
    /// If the system gives no thread.
    pub fn start(nodes: &[NodeEntry], begun: Instant) -> io::Result<Self> {
        let stop = StopOnDrop::default();
        let mut threads = Vec::new();
        for (node, entry) in nodes.iter().enumerate() {
            let (stop, http) = (stop.stop(), entry.http.clone());
            let ask = move || {
                let mut samples = Vec::new();
                while !stop.within(INTERVAL) && samples.len() < SAMPLES_MAX {
                    let at = begun.elapsed();
                    // One that is dead or paused says nothing: a gap in its line.
                    let status = status(&http, "", PATIENCE).ok();
                    samples.extend(status.map(|status| sample(at, node, &status)));
                }
                samples
            };
            threads.push(
                thread::Builder::new()
                    .name(format!("sampler-{node}"))
                    .spawn(ask)?,
            );
        }
        Ok(Self { stop, threads })
    }

    /// Ends them and gives what they heard, in the order of time.
    pub fn finish(self) -> Vec<Sample> {
        drop(self.stop);
        let joined = self.threads.into_iter().flat_map(|thread| {
            thread
                .join()
                .expect("a sampler does not panic: it only asks and keeps")
        });
        let mut samples: Vec<Sample> = joined.collect();
        samples.sort_by_key(|sample| sample.at);
        samples
    }
}

fn sample(at: Duration, node: usize, status: &Status) -> Sample {
    let lag = status.regions.iter().map(|region| region.lag_seconds);
    let phi = status.nodes.iter().map(|node| node.phi);
    Sample {
        at,
        node,
        lag_seconds: lag.fold(0.0, f64::max),
        outbox: status
            .regions
            .iter()
            .map(|region| region.outbox_entries)
            .sum(),
        hints: status.nodes.iter().map(|node| node.hints).sum(),
        phi: phi.fold(0.0, f64::max),
    }
}

/// A node's status over HTTP.
///
/// # Errors
/// Why there is none: for people.
pub fn status(http: &str, query: &str, patience: Duration) -> Result<Status, String> {
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .timeout_global(Some(patience))
        .build()
        .into();
    let text = agent
        .get(format!("http://{http}/v1/status{query}"))
        .call()
        .and_then(|mut answer| answer.body_mut().read_to_string())
        .map_err(|e| e.to_string())?;
    serde_json::from_str(&text).map_err(|e| e.to_string())
}

const INTERVAL: Duration = Duration::from_millis(400);
const PATIENCE: Duration = Duration::from_millis(400);
/// Of one node: more than a day.
const SAMPLES_MAX: usize = 250_000;
