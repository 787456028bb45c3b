//! A cluster of real processes in a directory of its own, which ends with its test.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use node::{
    names::RegionName,
    placement::{Partition, Placement},
    status::{NodeState, RegionState, RegionStatus, Status},
};
use region_sim::live::{Builder, Change, Cluster, ClusterStatus, Exit};
use tempfile::TempDir;
use tokio::runtime::{Builder as RuntimeBuilder, Runtime};

use crate::{
    client::Client,
    patience::{eventually, holds},
};

/// Three regions of one node each: `us-1`, `eu-1`, `ap-1`; or what its description says.
///
/// Its verbs block until they are done and panic when they cannot be. If the test fails, the ends of the logs are shown.
#[derive(Debug)]
pub struct World {
    cluster: Cluster,
    runtime: Runtime,
    _dir: TempDir,
}

/// The nodes of a [`World`] that is not described further, in order.
pub const NODES: [&str; 3] = ["us-1", "eu-1", "ap-1"];
/// The regions of a [`World`], in the order of their nodes.
pub const REGIONS: [&str; 3] = ["us", "eu", "ap"];

/// How soon traffic flows after a fault has healed: promised.
pub const TRAFFIC_LIMIT: Duration = Duration::from_secs(5);
/// How soon lag is normal after a fault has healed, where the backlog is small: promised.
pub const LAG_LIMIT: Duration = Duration::from_secs(15);
/// Enough for anything that is not promised sooner.
pub const LIMIT: Duration = Duration::from_secs(60);

impl World {
    /// Starts one over links without faults.
    pub fn start() -> Self {
        Self::with(|builder| builder)
    }

    /// Starts one that is described further.
    pub fn with(describe: impl FnOnce(Builder) -> Builder) -> Self {
        let dir = TempDir::new().expect("there is a place for temporary directories");
        let runtime = RuntimeBuilder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime without threads can be made");
        let builder = describe(Cluster::builder().dir(dir.path().join("cluster")));
        let cluster = runtime
            .block_on(builder.start())
            .unwrap_or_else(|error| panic!("the cluster does not start: {error}"));
        let world = Self {
            cluster,
            runtime,
            _dir: dir,
        };
        world.await_connected();
        world
    }

    /// What it is made of, for verbs that do not wait.
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// The nodes of a region that hold a key, the one that others ask first at the front.
    pub fn replicas_of(&self, region: &str, key: &str) -> Vec<String> {
        let name: RegionName = region.parse().expect("a region has a valid name");
        let nodes = self.nodes_of(region).into_iter();
        let nodes = nodes.map(|node| node.parse().expect("a node has a valid name"));
        let replicas = u8::try_from(self.cluster.topology().replicas(&name))
            .expect("a region has fewer replicas than that");
        let members = BTreeMap::from([(name.clone(), nodes.collect())]);
        let placement = Placement::new(members, &BTreeMap::from([(name.clone(), replicas)]));
        let placed = placement.region(&name).expect("it was put in just now");
        let partition = Partition::of(key.as_bytes());
        let preferred = placed.preferred_nodes(partition);
        preferred.map(ToString::to_string).collect()
    }

    /// Its nodes, in order.
    pub fn nodes(&self) -> Vec<String> {
        let members = self.cluster.topology().members();
        members.map(|(node, _)| node.to_string()).collect()
    }

    /// The nodes of a region, in order.
    pub fn nodes_of(&self, region: &str) -> Vec<String> {
        let members = self.cluster.topology().members();
        members
            .filter(|(_, its_region)| its_region.as_str() == region)
            .map(|(node, _)| node.to_string())
            .collect()
    }

    /// A new connection to a node.
    pub fn client(&self, node: &str) -> Client {
        let address = self.resp(node);
        Client::connect(&address).unwrap_or_else(|error| panic!("{node} at {address}: {error}"))
    }

    /// A new connection to each of [`NODES`], in order.
    pub fn clients(&self) -> [Client; 3] {
        NODES.map(|node| self.client(node))
    }

    /// Where a node takes clients.
    pub fn resp(&self, node: &str) -> String {
        self.entry(node).resp
    }

    /// Where a node's data is.
    pub fn data_dir(&self, node: &str) -> PathBuf {
        self.entry(node).data_dir
    }

    /// All that a node has logged.
    pub fn log(&self, node: &str) -> String {
        std::fs::read_to_string(self.entry(node).log).expect("a node has a log")
    }

    /// Where a node's HTTP door is.
    pub fn http_address(&self, node: &str) -> String {
        self.entry(node).http
    }

    /// What a node says over HTTP.
    pub fn http(&self, node: &str, path: &str) -> Result<String, String> {
        let url = format!("http://{}{path}", self.entry(node).http);
        let mut response = ureq::get(&url).call().map_err(|error| error.to_string())?;
        response
            .body_mut()
            .read_to_string()
            .map_err(|error| error.to_string())
    }

    /// The sum of a metric over those of its labels that contain `label`.
    pub fn metric(&self, node: &str, name: &str, label: &str) -> f64 {
        let text = self
            .http(node, "/metrics")
            .unwrap_or_else(|error| panic!("{node}: {error}"));
        let samples = text.lines().filter_map(|line| line.strip_prefix(name));
        samples
            .filter(|rest| rest.starts_with(['{', ' ']) && rest.contains(label))
            .filter_map(|rest| rest.rsplit(' ').next()?.parse::<f64>().ok())
            .sum()
    }

    /// A node's status, as `CLUSTER.STATUS` gives it.
    pub fn status(&self, node: &str) -> Status {
        let text = self.client(node).text(&["CLUSTER.STATUS"]);
        serde_json::from_str(&text.expect("a status is a string")).expect("a status is JSON")
    }

    fn status_over_http(&self, node: &str) -> Status {
        let text = self.http(node, "/v1/status");
        let text = text.unwrap_or_else(|error| panic!("{node}: {error}"));
        serde_json::from_str(&text).expect("a status is JSON")
    }

    /// What the launcher says of all nodes.
    pub fn cluster_status(&self) -> ClusterStatus {
        let status = self.runtime.block_on(self.cluster.status(LIMIT));
        self.done("status", status)
    }

    /// What a node says of another region.
    pub fn region(&self, node: &str, region: &str) -> RegionStatus {
        let regions = self.status(node).regions;
        regions
            .into_iter()
            .find(|status| status.name.as_str() == region)
            .unwrap_or_else(|| panic!("{node} does not know {region}"))
    }

    /// Kills a node with SIGKILL.
    pub fn kill(&self, node: &str) {
        self.done("kill", self.runtime.block_on(self.cluster.kill(node)));
    }

    /// Stops a node with SIGTERM and says how it ended.
    pub fn stop(&self, node: &str) -> Exit {
        let ended = self.done("stop", self.runtime.block_on(self.cluster.stop(node)));
        ended.unwrap_or_else(|| panic!("{node} was dead"))
    }

    /// Starts a node, after stopping it if it is alive.
    pub fn restart(&self, node: &str) {
        self.done("restart", self.runtime.block_on(self.cluster.restart(node)));
    }

    /// Stops a node and starts it with another program.
    pub fn upgrade(&self, node: &str, program: &Path) {
        let upgraded = self.runtime.block_on(self.cluster.upgrade(node, program));
        self.done("upgrade", upgraded);
    }

    /// Stops a node's process where it stands.
    pub fn pause(&self, node: &str) {
        self.done("pause", self.runtime.block_on(self.cluster.pause(node)));
    }

    /// Lets a paused node go on.
    pub fn resume(&self, node: &str) {
        self.done("resume", self.runtime.block_on(self.cluster.resume(node)));
    }

    /// Kills a node, deletes its data and starts it.
    pub fn wipe(&self, node: &str) {
        self.done("wipe", self.runtime.block_on(self.cluster.wipe(node)));
    }

    /// Cuts a region off from all others.
    pub fn isolate(&self, region: &str) {
        self.done("isolate", self.cluster.isolate(region));
    }

    /// Cuts every region off from every other.
    pub fn partition_all(&self) {
        for region in REGIONS {
            self.isolate(region);
        }
    }

    /// Ends every partition.
    pub fn heal(&self) {
        self.cluster.heal();
    }

    /// Changes every link.
    pub fn links(&self, change: Change) {
        for (a, b) in [("us", "eu"), ("us", "ap"), ("eu", "ap")] {
            self.done("link", self.cluster.link(a, b, change));
        }
    }

    /// Waits until every node sees every other up.
    pub fn await_connected(&self) {
        for node in self.nodes() {
            self.await_up(&node, &self.nodes());
        }
    }

    /// Waits until a node sees these up.
    pub fn await_up<S: AsRef<str>>(&self, node: &str, others: &[S]) {
        for other in others.iter().map(AsRef::as_ref) {
            eventually(LIMIT, "a node is seen up", || {
                let state = self.seen(node, other);
                holds(state == Some(NodeState::Up), || {
                    format!("{node} sees {other} {state:?}")
                })
            });
        }
    }

    /// Waits until a node no longer sees another up.
    pub fn await_missed(&self, node: &str, other: &str) {
        eventually(LIMIT, "a death is seen", || {
            let state = self.seen(node, other);
            holds(state != Some(NodeState::Up), || {
                format!("{node} sees {other} {state:?}")
            })
        });
    }

    /// What a node says of another; nothing if it does not know it.
    fn seen(&self, node: &str, other: &str) -> Option<NodeState> {
        let nodes = self.status(node).nodes;
        let seen = nodes.iter().find(|seen| seen.name.as_str() == other)?;
        Some(seen.state)
    }

    /// Waits until a node sees a region down.
    pub fn await_down(&self, node: &str, region: &str) {
        eventually(LIMIT, "a region is seen down", || {
            let state = self.region(node, region).state;
            holds(state == RegionState::Down, || {
                format!("{node} sees {region} {state}")
            })
        });
    }

    /// Waits until the watermark of a region moves on by this much at a node, which takes at least as long.
    pub fn await_idle(&self, node: &str, region: &str, advance_ms: u64) {
        let before = self.region(node, region).watermark;
        eventually(LIMIT, "an idle watermark advances", || {
            let now = self.region(node, region).watermark;
            holds(now >= before + advance_ms, || {
                format!("{node} → {region}: {before} to {now} ms")
            })
        });
    }

    /// Waits until no node owes another anything.
    pub fn await_no_lag(&self, within: Duration) {
        for node in self.nodes() {
            eventually(within, "lag returns to nothing", || {
                let regions = self.status(&node).regions;
                let is_drained = regions.iter().all(has_everything);
                holds(is_drained, || format!("{node} owes {regions:?}"))
            });
        }
    }

    /// Waits until no node keeps hints for another.
    pub fn await_no_hints(&self) {
        for node in self.nodes() {
            eventually(LIMIT, "hints are taken", || {
                let nodes = self.status(&node).nodes;
                let is_drained = nodes.iter().all(|other| other.hints == 0);
                holds(is_drained, || format!("{node} keeps {nodes:?}"))
            });
        }
    }

    /// Waits until nothing is owed and all nodes hold the same: one digest, by either door. Where a region has more nodes than replicas, that never comes.
    pub fn await_converged(&self) {
        self.await_no_lag(LIMIT);
        self.await_no_hints();
        let nodes = self.nodes();
        eventually(LIMIT, "digests are equal", || {
            let digests: Vec<_> = nodes.iter().map(|node| self.status(node).digest).collect();
            let over_http: Vec<_> = nodes
                .iter()
                .map(|node| self.status_over_http(node).digest)
                .collect();
            let is_one = digests.iter().chain(&over_http).all(|d| *d == digests[0]);
            holds(is_one, || format!("{digests:?}, over HTTP {over_http:?}"))
        });
    }

    /// Waits until a command gives the same string everywhere.
    pub fn await_everywhere(&self, within: Duration, command: &[&str], expected: &str) {
        for node in self.nodes() {
            let mut client = self.client(&node);
            eventually(within, "every region reads it", || {
                let text = client.text(command);
                holds(text.as_deref() == Some(expected), || {
                    format!("{command:?} gives {text:?}, not {expected:?}")
                })
            });
        }
    }

    fn entry(&self, node: &str) -> region_sim::live::NodeEntry {
        self.done("find", self.cluster.node(node))
    }

    fn done<T>(&self, verb: &str, outcome: Result<T, region_sim::live::Error>) -> T {
        outcome.unwrap_or_else(|error| panic!("{verb}: {error}"))
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if !thread::panicking() {
            return;
        }
        for node in self.nodes() {
            let tail = self.cluster.log_tail(&node, LOG_LINES).unwrap_or_default();
            eprintln!("--- {node}\n{tail}");
        }
    }
}

/// Copies a directory and all in it, replacing what is there.
///
/// # Panics
/// If it cannot be read or written.
pub fn copy_dir(from: &Path, to: &Path) {
    if to.exists() {
        std::fs::remove_dir_all(to).expect("a test's directory can be deleted");
    }
    std::fs::create_dir_all(to).expect("a test's directory can be made");
    for entry in std::fs::read_dir(from).expect("the directory is there") {
        let entry = entry.expect("its entries can be read");
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_dir(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).expect("a file can be copied");
        }
    }
}

fn has_everything(region: &RegionStatus) -> bool {
    region.state == RegionState::Up && region.outbox_entries == 0 && region.lag_seconds < 1.0
}

const LOG_LINES: usize = 30;
