//! A node's life: from its configuration to its doors being open, and to its end.

use std::{
    collections::BTreeMap,
    future::Future,
    io::{self, Write},
    mem,
    num::NonZeroU16,
    sync::{Arc, OnceLock, RwLock, atomic::AtomicBool},
    thread,
};

use crdt::ActorId;
use tokio::{
    sync::{Notify, Semaphore, mpsc, watch as watched},
    task::JoinSet,
};

use super::{
    RunError,
    advertised::advertised,
    agreement::Agreement,
    answering::Answering,
    certificates,
    clock::WallClock,
    configured::Configured,
    context::{Inner, Node},
    descriptors::Shares,
    doors::{Doors, Served},
    forward::Forwards,
    gauges,
    handoff::Legacies,
    health::{self, Health},
    hot_heads::HotHeads,
    incarnation::Incarnation,
    joining::Joining,
    known::{Acquaintance, Known},
    membership::{self, Membership},
    outbound::Outbound,
    router::Router,
    shards::Shards,
    shutdown::{Ending, shut_down},
    stop_reason::{Signals, StopReason, until_stopped},
    threads::Threads,
};
use crate::{
    config::{Config, Fsync},
    core::{Recalled, adopt::adopt, inbox::Inbox, node::CurrentTopology},
    names::RegionName,
    peer::{self, Datagram, PeerTarget, Peers, PeersConfig},
    storage::{directory::DataDirectory, record::forgotten, rocks::RocksOptions},
    tls::Credentials,
};

/// Runs a node until SIGINT or SIGTERM, or until it cannot go on.
pub fn run(config: Config) -> Result<(), RunError> {
    let metrics = crate::metrics::install();
    let credentials = Credentials::load(
        &config.tls.ca,
        &config.tls.cert,
        &config.tls.key,
        &config.node.cluster,
        &config.node.name,
    )?;
    let shares = Shares::take(config.limits.clients)?;
    let directory = open_directory(&config, shares)?;
    let adopted = adopt(&*directory.storage)?;
    if adopted.keys > 0 {
        tracing::info!(
            keys = adopted.keys,
            "types that the release before did not know were taken up"
        );
    }
    if let Some(error) = &adopted.first {
        tracing::error!(keys = adopted.damaged, %error, "what an earlier release kept of keys cannot be joined, and is left as it is");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(io_threads())
        .enable_all()
        .thread_name("io")
        .max_blocking_threads(BLOCKING_THREADS_MAX)
        .build()?;
    let outcome = runtime.block_on(live(config, shares, credentials, directory, metrics));
    runtime.shutdown_timeout(RUNTIME_END_MAX);
    outcome
}

/// All cores but one, which is left to the shards: on two cores a second thread here costs unpipelined commands a fifth of their rate,
/// because the threads wake each other and the shards wait.
fn io_threads() -> usize {
    thread::available_parallelism().map_or(1, |cores| cores.get().saturating_sub(1).max(1))
}

fn open_directory(config: &Config, shares: Shares) -> Result<DataDirectory, RunError> {
    let cores = thread::available_parallelism()
        .map_or(1, |cores| u16::try_from(cores.get()).unwrap_or(u16::MAX));
    let shards = NonZeroU16::new(config.storage.shards)
        .or(NonZeroU16::new(cores))
        .unwrap_or(NonZeroU16::MIN);
    let options = RocksOptions {
        cache: config.storage.cache.to_usize(),
        background_jobs: i32::from(cores).clamp(2, 8),
        open_files: shares.storage,
        ..RocksOptions::default()
    };
    let is_always = config.storage.fsync == Fsync::Always;
    let directory = DataDirectory::open(
        &config.node.data_dir,
        &config.node.name,
        &config.node.cluster,
        shards,
        is_always,
        options,
    )?;
    if let Some(renewal) = &directory.renewal {
        tracing::warn!(
            ?renewal,
            "the machine went down without a last sync: writes of the last moments may be gone, so this node goes on with new actors"
        );
    }
    Ok(directory)
}

/// Everything between opening the directory and closing it.
async fn live(
    config: Config,
    shares: Shares,
    credentials: Credentials,
    directory: DataDirectory,
    metrics: metrics_exporter_prometheus::PrometheusHandle,
) -> Result<(), RunError> {
    let directory = Arc::new(directory);
    let doors = Doors::bind(&config.listen).await?;
    let Assembled {
        node,
        mut shards,
        introduction,
    } = assemble(&config, &directory).await?;
    report_loneliness(&config, &node);
    let threads = Threads::start(&config, &node)?;
    let mut tasks = JoinSet::new();
    introduce(
        &config,
        credentials,
        &directory,
        &node,
        introduction,
        &mut tasks,
    )
    .await?;
    let served = doors.serve(&config, &shares, &node, metrics)?;
    // From the ready line on a signal is a request; until then it is a death, which is safe as well.
    let signals = Signals::listen()?;
    let told = match say_ready(&config, &served, node.inner().outbound.peers()) {
        // Whoever started it does not listen any more: the node ends as if it had been told to.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => StopReason::Stop,
        said => {
            said?;
            until_stopped(signals, &mut shards.ended, &node.inner().leave).await
        }
    };
    let (outcome, leaves) = match told {
        StopReason::Stop => (Ok(()), false),
        StopReason::Leave => (Ok(()), true),
        StopReason::ShardEnded(shard) => (Err(RunError::ShardEnded(shard)), false),
    };
    shut_down(Ending {
        leaves,
        node,
        directory,
        threads,
        tasks,
        served,
        was_failure: outcome.is_err(),
    })
    .await;
    outcome
}

/// A node that has met nobody yet.
struct Assembled {
    node: Node,
    shards: Shards,
    introduction: Introduction,
}

/// What others are told of a node, and what it remembers of them.
struct Introduction {
    identity: watched::Receiver<peer::Identity>,
    renewal: Arc<Incarnation>,
    recalled: BTreeMap<ActorId, Recalled>,
}

/// Opens what is stored, and starts the shards.
async fn assemble(config: &Config, directory: &Arc<DataDirectory>) -> Result<Assembled, RunError> {
    let identity = &directory.identity;
    let clock = Arc::new(WallClock::start(
        config.clock.offset_file.clone(),
        config.clock.max_skew,
    ));
    let (renewal, identity_for_peers) = Incarnation::new(Arc::clone(directory), identity.clone())?;
    let inbox = Inbox::open(
        directory.storage.as_ref(),
        identity.shards.get(),
        identity.actors(),
        config.clock.max_skew.as_millis() as u64,
    )?;
    let outbound = Arc::new(Outbound::new(inbox));
    let hot = Arc::new(HotHeads::new(
        config.storage.cache.to_usize() / HOT_HEADS_SHARE,
    ));
    let known = Arc::new(Known::load(directory.storage.as_ref())?);
    let met: Vec<_> = known.regions().into_iter().collect();
    let configured = Configured::of(config);
    let placement = Arc::new(configured.placement(&met));
    let mut shards = Shards::start(
        config,
        &directory.storage,
        &hot,
        identity,
        directory.was_clean,
        &clock,
        &outbound,
        &placement,
    )
    .await?;
    outbound.connect_shards(shards.queues.clone());
    let introduction = Introduction {
        identity: identity_for_peers,
        renewal: Arc::new(renewal),
        recalled: mem::take(&mut shards.recalled),
    };
    let node = Node::new(Inner {
        cluster: config.node.cluster.clone(),
        name: config.node.name.clone(),
        region: config.node.region.clone(),
        regions: other_regions(config),
        configured: configured.clone(),
        shards: shards.queues.clone(),
        storage: Arc::clone(&directory.storage),
        hot,
        clock,
        outbound,
        topology: RwLock::new(CurrentTopology::new(configured.topology(placement))),
        forwards: Forwards::default(),
        answering: Answering::default(),
        known,
        membership: OnceLock::new(),
        leave: Notify::new(),
        is_final: AtomicBool::new(false),
        legacies: Legacies::default(),
        health: Arc::new(Health::default()),
        timeout: config.consistency.timeout,
        disk_reads: Arc::new(Semaphore::new(DISK_READS_MAX)),
    });
    Ok(Assembled {
        node,
        shards,
        introduction,
    })
}

/// Until it has met others a node is not ready, where it needs them.
fn report_loneliness(config: &Config, node: &Node) {
    let health = &node.inner().health;
    if let Some(detail) = node.inner().configured.alone() {
        health.fail(health::QUORUM, detail);
    }
    if let Some(detail) = Joining::of(config).reason() {
        health.fail(health::JOINING, detail);
    }
}

/// Starts what meets others, and what goes on beside clients.
async fn introduce(
    config: &Config,
    credentials: Credentials,
    directory: &DataDirectory,
    node: &Node,
    introduction: Introduction,
    tasks: &mut JoinSet<()>,
) -> Result<(), RunError> {
    let watch = certificates::watch(credentials.endings(), Arc::clone(&node.inner().clock));
    watched_over(tasks, node, "certificates", watch);
    let replays = Arc::clone(&introduction.renewal).replay(node.clone());
    watched_over(tasks, node, "renewal", replays);
    let datagrams = start_peers(config, credentials, node, introduction, tasks)?;
    start_gossip(config, directory, node, datagrams, tasks).await?;
    let gauges = gauges::publish(node.clone(), Agreement::of(config));
    watched_over(tasks, node, "gauges", gauges);
    Ok(())
}

/// The regions that keep replicas, but this one.
fn other_regions(config: &Config) -> Vec<RegionName> {
    config
        .regions
        .0
        .iter()
        .filter(|(region, replicas)| **region != config.node.region && **replicas > 0)
        .map(|(region, _)| region.clone())
        .collect()
}

fn start_peers(
    config: &Config,
    credentials: Credentials,
    node: &Node,
    introduction: Introduction,
    tasks: &mut JoinSet<()>,
) -> Result<mpsc::Receiver<Datagram>, RunError> {
    let dialled = config.peers.dial.iter().map(|(name, address)| PeerTarget {
        address: address.to_string(),
        expect: Some(name.clone()),
    });
    let seeds = config.peers.seeds.iter().map(|address| PeerTarget {
        address: address.to_string(),
        expect: None,
    });
    let outbound = &node.inner().outbound;
    let (events, received) = mpsc::channel(PEER_EVENTS_MAX);
    let (datagrams, datagrams_received) = mpsc::channel(DATAGRAMS_MAX);
    let peers_config = PeersConfig {
        credentials,
        region: config.node.region.clone(),
        identity: introduction.identity,
        targets: dialled.chain(seeds).collect(),
        listen: config.listen.quic,
        clock: Arc::clone(&node.inner().clock) as Arc<dyn peer::WallClock>,
        datagrams,
    };
    let memory = Arc::new(Acquaintance {
        outbound: Arc::clone(outbound),
        known: Arc::clone(&node.inner().known),
    });
    outbound.connect_peers(Peers::start(peers_config, events, memory)?);
    let router = Router::new(node.clone(), introduction.renewal, introduction.recalled);
    watched_over(tasks, node, "peers", router.run(received));
    Ok(datagrams_received)
}

async fn start_gossip(
    config: &Config,
    directory: &DataDirectory,
    node: &Node,
    datagrams: mpsc::Receiver<Datagram>,
    tasks: &mut JoinSet<()>,
) -> Result<(), RunError> {
    let forgotten = forgotten::load(directory.storage.as_ref())?;
    let mut quic = config.listen.quic;
    if let Some(peers) = node.inner().outbound.peers() {
        quic = peers.local_addr()?;
        for (_, directory) in &forgotten {
            peers.forget(*directory, membership::FORGOTTEN);
        }
        for (name, met) in node.inner().known.all() {
            if let Err(error) = peers.dial(&name, &met.address) {
                tracing::warn!(node = %name, %error, "a node that was met in an earlier life cannot be dialled");
            }
        }
    }
    let membership = Arc::new(Membership::start(
        config,
        directory.identity.directory,
        advertised(config, quic).await,
        &forgotten,
        Arc::clone(&node.inner().clock),
    )?);
    assert!(
        node.inner().membership.set(Arc::clone(&membership)).is_ok(),
        "gossip is started once"
    );
    watched_over(
        tasks,
        node,
        "gossip",
        membership.run(node.clone(), datagrams, Joining::of(config)),
    );
    Ok(())
}

/// A task whose panic makes the node not ready, instead of passing unseen.
fn watched_over(
    tasks: &mut JoinSet<()>,
    node: &Node,
    kind: &'static str,
    task: impl Future<Output = ()> + Send + 'static,
) {
    let node = node.clone();
    tasks.spawn(async move {
        // Dropped with this task, and the other one with it.
        let mut inner = JoinSet::new();
        inner.spawn(task);
        if let Some(Err(error)) = inner.join_next().await {
            tracing::error!(kind, %error, "a task of this node failed: restart it");
            let detail = format!("a fault of this program: {error}; restart the node");
            node.inner().health.fail(kind, detail);
        }
    });
}

/// The one line on stdout.
fn say_ready(config: &Config, served: &Served, peers: Option<&Peers>) -> io::Result<()> {
    let quic = peers.map_or(Ok(config.listen.quic), Peers::local_addr)?;
    let mut stdout = io::stdout().lock();
    writeln!(
        stdout,
        "ready node={} region={} resp={} quic={quic} http={}",
        config.node.name, config.node.region, served.resp_address, served.http_address
    )?;
    stdout.flush()
}

/// Threads for what must wait for the disk.
const BLOCKING_THREADS_MAX: usize = 64;
/// Of these, so many may run reads of clients. The others are for handshakes of peers and for what operators ask: however many
/// clients read from a slow disk, the node stays in its cluster.
const DISK_READS_MAX: usize = BLOCKING_THREADS_MAX - 8;
/// How long the runtime waits for tasks that do not end.
const RUNTIME_END_MAX: std::time::Duration = std::time::Duration::from_secs(2);
/// Gossip that waits to be taken; beyond, it is dropped and comes again.
const DATAGRAMS_MAX: usize = 256;
/// Events of peers that wait to be taken; while they are this many, peers are not read.
const PEER_EVENTS_MAX: usize = 1024;
/// One part in this many of `storage.cache` goes to heads that connections have read, over and above RocksDB's blocks.
const HOT_HEADS_SHARE: usize = 4;
