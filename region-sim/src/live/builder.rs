//! What cluster to start.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, atomic::AtomicBool},
    time::Duration,
};

use rand::{Rng, SeedableRng, rngs::StdRng};

use super::{
    cluster::Cluster,
    config::Overrides,
    control::Door,
    error::{Doing, Error},
    event::{Event, Events},
    layout::{Claim, Layout},
    mesh::Mesh,
    notation::{Change, RoundTrip},
    ports::Ports,
    process::Nursery,
    program,
    seat::Seat,
    site::Site,
    threads::Threads,
    topology::{Pair, Replicas, Topology},
};
use crate::link::Loss;

/// The description of a cluster. The default is one node in each of `us`, `eu` and `ap`, on any free
/// ports, over links without faults, in `.region-sim`.
#[derive(Clone)]
pub struct Builder {
    cluster: String,
    regions: Vec<String>,
    nodes: u16,
    replicas: Option<Replicas>,
    round_trips: Vec<RoundTrip>,
    faults: Change,
    base_port: u16,
    dir: PathBuf,
    fresh: bool,
    settings: Vec<(String, String)>,
    program: Option<PathBuf>,
    programs: Vec<(String, PathBuf)>,
    seed: Option<u64>,
    control: bool,
    ready_limit: Duration,
    listener: Option<super::event::Listener>,
}

impl Default for Builder {
    fn default() -> Self {
        Self {
            cluster: "demo".to_owned(),
            regions: ["us", "eu", "ap"].map(str::to_owned).to_vec(),
            nodes: 1,
            replicas: None,
            round_trips: Vec::new(),
            faults: Change::default(),
            base_port: 0,
            dir: PathBuf::from(".region-sim"),
            fresh: false,
            settings: Vec::new(),
            program: None,
            programs: Vec::new(),
            seed: None,
            control: false,
            ready_limit: Duration::from_secs(60),
            listener: None,
        }
    }
}

impl Builder {
    /// The cluster's name.
    pub fn cluster(mut self, name: &str) -> Self {
        self.cluster = name.to_owned();
        self
    }

    /// The regions.
    pub fn regions<R: Into<String>>(mut self, regions: impl IntoIterator<Item = R>) -> Self {
        self.regions = regions.into_iter().map(Into::into).collect();
        self
    }

    /// Nodes in each region; at most 100 in all.
    pub fn nodes(mut self, nodes: u16) -> Self {
        self.nodes = nodes;
        self
    }

    /// Replicas of each key, in each region or by region; all nodes up to three unless given.
    pub fn replicas(mut self, replicas: impl Into<Replicas>) -> Self {
        self.replicas = Some(replicas.into());
        self
    }

    /// Round trip times to begin with. Later ones overrule earlier ones.
    pub fn round_trips(mut self, round_trips: impl IntoIterator<Item = RoundTrip>) -> Self {
        self.round_trips.extend(round_trips);
        self
    }

    /// The round trip time between all regions to begin with.
    pub fn rtt(self, rtt: Duration) -> Self {
        self.round_trips([RoundTrip { ends: None, rtt }])
    }

    /// Jitter of every link between regions to begin with.
    pub fn jitter(mut self, jitter: Duration) -> Self {
        self.faults.jitter = Some(jitter);
        self
    }

    /// Loss on every link between regions to begin with.
    pub fn loss(mut self, loss: Loss) -> Self {
        self.faults.loss = Some(loss);
        self
    }

    /// The first of the nodes' ports; 0 takes any free ones.
    pub fn base_port(mut self, port: u16) -> Self {
        self.base_port = port;
        self
    }

    /// The cluster's directory. What an earlier cluster of the same shape left there is used.
    pub fn dir(mut self, dir: impl AsRef<Path>) -> Self {
        self.dir = dir.as_ref().to_path_buf();
        self
    }

    /// Whether to delete first what an earlier cluster left in the directory.
    pub fn fresh(mut self, fresh: bool) -> Self {
        self.fresh = fresh;
        self
    }

    /// A setting for every node's configuration, by dotted path: `set("hints.window", "5s")`.
    pub fn set(mut self, key: &str, value: &str) -> Self {
        self.settings.push((key.to_owned(), value.to_owned()));
        self
    }

    /// The node's program, instead of the one that `MERIDIAN_BIN` names or that lies beside this executable.
    pub fn meridian(mut self, program: impl AsRef<Path>) -> Self {
        self.program = Some(program.as_ref().to_path_buf());
        self
    }

    /// The program of one node, instead of the one that all others run: nodes of different builds in one cluster.
    pub fn binary(mut self, node: &str, program: impl AsRef<Path>) -> Self {
        self.programs
            .push((node.to_owned(), program.as_ref().to_path_buf()));
        self
    }

    /// The seed of losses and jitter, instead of a random one.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Whether to open a control socket in the directory, for verbs from another shell. The cluster's
    /// owner serves it: see [`Cluster::door`].
    pub fn control(mut self, control: bool) -> Self {
        self.control = control;
        self
    }

    /// How long a node may take to become ready: 60 s unless given.
    pub fn ready_limit(mut self, limit: Duration) -> Self {
        self.ready_limit = limit;
        self
    }

    /// Told of every event as it happens, from any thread. It must not block.
    pub fn on_event(mut self, listener: impl Fn(&Event) + Send + Sync + 'static) -> Self {
        self.listener = Some(Arc::new(listener));
        self
    }

    /// Starts the cluster; returns when every node is ready. Dropping the future kills what was started.
    ///
    /// # Errors
    /// If the description or the directory does not fit, a port is busy, or a node does not become
    /// ready. Then no node is left.
    pub async fn start(self) -> Result<Cluster, Error> {
        let topology = Topology::new(
            &self.cluster,
            &self.regions,
            self.nodes,
            self.replicas.clone(),
        )?;
        let links = self.links(&topology)?;
        let program = program::find(self.program.as_deref())?;
        let parts = Parts {
            programs: self.programs(&topology, &program)?,
            program,
            overrides: Overrides::parse(&self.settings, &topology)?,
            ports: Ports::new(self.base_port)?,
            layout: Layout::open(&self.dir)?,
        };
        let claim = parts.layout.claim(&topology, self.fresh)?;
        let cluster = self.assemble(topology, parts, claim)?;
        cluster.prepare(&links).await?;
        cluster.start_all().await?;
        Ok(cluster)
    }

    /// What each node runs, in order of index.
    fn programs(&self, topology: &Topology, default: &Path) -> Result<Vec<PathBuf>, Error> {
        let mut programs = vec![default.to_path_buf(); topology.len()];
        for (at, (node, program)) in self.programs.iter().enumerate() {
            if self.programs[..at].iter().any(|(other, _)| other == node) {
                return Err(Error::Usage(format!("two programs are named for {node}")));
            }
            programs[topology.node(node)?] = program::find(Some(program))?;
        }
        Ok(programs)
    }

    /// What each link is to be like to begin with, in order of application.
    fn links(&self, topology: &Topology) -> Result<Vec<(Vec<Pair>, Change)>, Error> {
        let wide: Vec<Pair> = topology
            .pairs()
            .filter(|&pair| topology.is_wide(pair))
            .collect();
        let mut links = vec![(wide.clone(), self.faults)];
        for trip in &self.round_trips {
            let pairs = match &trip.ends {
                None => wide.clone(),
                Some(ends) => topology.pairs_between(&ends.a, &ends.b)?,
            };
            links.push((pairs, Change::rtt(trip.rtt)));
        }
        Ok(links)
    }

    fn assemble(self, topology: Topology, parts: Parts, claim: Claim) -> Result<Cluster, Error> {
        descriptors::allow(topology.len());
        let threads = Threads::start().doing(|| "start the relays' threads".to_owned())?;
        let context = threads.handle().enter();
        let seed = self.seed.unwrap_or_else(|| StdRng::from_os_rng().random());
        let mesh = Mesh::bind(&topology, seed).doing(|| "open the relays".to_owned())?;
        // Before any node is there, so that whoever finds the cluster's file finds the socket too.
        let door = if self.control {
            Some(Door::open(parts.layout.dir())?)
        } else {
            None
        };
        drop(context);
        let seat = |(index, (name, region)): (
            usize,
            (node::names::NodeName, &node::names::RegionName),
        )| {
            let layout = parts.layout.node(name.as_str());
            Arc::new(Seat::new(
                index,
                name.to_string(),
                region.clone(),
                layout,
                parts.programs[index].clone(),
            ))
        };
        let seats = topology.members().enumerate().map(seat).collect();
        let nursery =
            Nursery::new(threads.handle().clone()).doing(|| "start a thread".to_owned())?;
        let site = Site {
            layout: parts.layout,
            topology,
            program: parts.program,
            overrides: parts.overrides,
            ports: parts.ports,
            mesh,
            seats,
            nursery,
            events: Events::new(self.listener),
            ready_limit: self.ready_limit,
            claim: Mutex::new(Some(claim)),
            published: Mutex::new(false),
            going_down: AtomicBool::new(false),
        };
        Ok(Cluster::new(Arc::new(site), threads, door))
    }
}

/// What a description refers to, found.
struct Parts {
    program: PathBuf,
    /// Each node's, in order of index.
    programs: Vec<PathBuf>,
    overrides: Overrides,
    ports: Ports,
    layout: Layout,
}

mod descriptors {
    //! File descriptors: each relay and each flow of it has one.

    use nix::sys::resource::{Resource, getrlimit, setrlimit};

    /// Raises this process's limit as far as `nodes` nodes need, where the system lets it.
    pub fn allow(nodes: usize) {
        let wanted = (nodes * nodes * PER_DIRECTION + OTHERS) as u64;
        let raise = || {
            let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
            if soft >= wanted {
                return Ok(());
            }
            setrlimit(Resource::RLIMIT_NOFILE, wanted.min(hard), hard)
        };
        if let Err(errno) = raise() {
            tracing::warn!(%errno, wanted, "cannot raise the limit of open files");
        }
    }

    /// A listener and a flow or two.
    const PER_DIRECTION: usize = 3;
    const OTHERS: usize = 1024;
}
