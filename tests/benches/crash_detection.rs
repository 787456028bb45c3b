//! How long after a kill -9 the other nodes say that the node is silent, and how long after its return that it is up.
//!
//! Goal: 3 gossip intervals at p50 over 50 kills.
//! Method: three real nodes, one a region, no emulated delay. One of them is killed, each in turn; both others are
//! asked for their status every few milliseconds. The clock starts before the signal is sent.

use std::{
    io::{BufRead, BufReader, Write},
    net::TcpStream,
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;
use node::status::{NodeState, Status};
use region_sim::live::Cluster;

const KILLS: usize = 50;
const NAMES: [&str; 3] = ["us-1", "eu-1", "ap-1"];
/// The default of `gossip.interval`.
const INTERVAL: Duration = Duration::from_millis(200);
/// How long all nodes live before the next one is killed: a detector that has hardly heard a node is careful with it.
const LIFE: Duration = Duration::from_secs(5);
const PATIENCE: Duration = Duration::from_secs(30);

fn main() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let cluster = runtime
        .block_on(
            Cluster::builder()
                .regions(["us", "eu", "ap"])
                .base_port(0)
                .dir(dir.path().join("cluster"))
                .meridian(meridian())
                .start(),
        )
        .expect("a cluster");
    let (mut silent, mut back) = (times(), times());
    for round in 0..KILLS {
        for name in NAMES {
            for other in NAMES.iter().filter(|other| **other != name) {
                time_to(&cluster, other, name, Instant::now(), |state| {
                    state == NodeState::Up
                });
            }
        }
        thread::sleep(LIFE);
        let victim = NAMES[round % NAMES.len()];
        let watchers = || NAMES.into_iter().filter(|name| *name != victim);
        let killed = Instant::now();
        runtime
            .block_on(cluster.kill(victim))
            .expect("a node that runs");
        record(&mut silent, &cluster, watchers(), victim, killed, |state| {
            matches!(state, NodeState::Suspect | NodeState::Down)
        });
        runtime
            .block_on(cluster.restart(victim))
            .expect("a node that starts");
        let ready = Instant::now();
        record(&mut back, &cluster, watchers(), victim, ready, |state| {
            state == NodeState::Up
        });
    }
    show("silent, after kill -9", &silent);
    show("up, after it is ready again", &back);
    drop(cluster);
}

fn times() -> Histogram<u64> {
    Histogram::new(3).expect("three digits")
}

fn show(what: &str, times: &Histogram<u64>) {
    let ms = |quantile| times.value_at_quantile(quantile) as f64 / 1000.0;
    println!(
        "said to be {what} ({} times): p50 {:.0} ms ({:.1} intervals of {INTERVAL:?}), p99 {:.0} ms, longest {:.0} ms",
        times.len(),
        ms(0.5),
        ms(0.5) / INTERVAL.as_millis() as f64,
        ms(0.99),
        ms(1.0)
    );
}

/// Asks all watchers side by side.
fn record(
    times: &mut Histogram<u64>,
    cluster: &Cluster,
    watchers: impl Iterator<Item = &'static str>,
    victim: &str,
    since: Instant,
    is_so: impl Fn(NodeState) -> bool + Sync,
) {
    thread::scope(|scope| {
        let asked: Vec<_> = watchers
            .map(|watcher| scope.spawn(|| time_to(cluster, watcher, victim, since, &is_so)))
            .collect();
        for asked in asked {
            let took = asked.join().expect("a watcher ends");
            let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
            times.record(micros).expect("a histogram that grows");
        }
    });
}

/// When a node first says something of another one.
fn time_to(
    cluster: &Cluster,
    watcher: &str,
    victim: &str,
    since: Instant,
    is_so: impl Fn(NodeState) -> bool,
) -> Duration {
    let resp = cluster.node(watcher).expect("a node of the cluster").resp;
    let mut stream = TcpStream::connect(&resp).expect("the watcher answers");
    let mut replies = BufReader::new(stream.try_clone().expect("a second handle"));
    loop {
        let status = status(&mut stream, &mut replies);
        let node = status
            .nodes
            .iter()
            .find(|node| node.name.as_str() == victim);
        if node.is_some_and(|node| is_so(node.state)) {
            return since.elapsed();
        }
        assert!(
            since.elapsed() < PATIENCE,
            "{watcher} does not come to say so of {victim}: {node:?}"
        );
        thread::sleep(Duration::from_millis(5));
    }
}

fn status(stream: &mut TcpStream, replies: &mut impl BufRead) -> Status {
    stream
        .write_all(b"CLUSTER.STATUS\r\n")
        .expect("the watcher reads");
    let mut header = String::new();
    replies.read_line(&mut header).expect("the watcher answers");
    let bytes: usize = header
        .trim_start_matches('$')
        .trim()
        .parse()
        .expect("a bulk");
    let mut body = vec![0; bytes + 2];
    replies.read_exact(&mut body).expect("the watcher answers");
    serde_json::from_slice(&body[..bytes]).expect("a status")
}

/// `MERIDIAN_BIN`, or what `make release` built.
fn meridian() -> PathBuf {
    std::env::var_os("MERIDIAN_BIN").map_or_else(
        || {
            let bench = std::env::current_exe().expect("a path");
            let release = bench.ancestors().nth(2).expect("target/release/deps/…");
            release.join("meridian")
        },
        PathBuf::from,
    )
}
