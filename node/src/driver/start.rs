//! A node's life: from its configuration to its doors being open, and to its end.

use std::{
    collections::BTreeMap,
    future::Future,
    io::{self, Write},
    num::{NonZeroU16, NonZeroUsize},
    sync::{Arc, OnceLock, RwLock, atomic::AtomicBool},
    thread,
};

use crdt::ActorId;
use tokio::{
    net::TcpListener,
    sync::{Notify, Semaphore, mpsc, oneshot, watch as watched},
    task::JoinSet,
};

use super::{
    RunError,
    advertised::advertised,
    agreement::Agreement,
    answering::Answering,
    certificates,
    clock::WallClock,
    descriptors::Shares,
    forward::Forwards,
    gauges,
    handoff::Legacies,
    health::{self, Health},
    hot_heads::HotHeads,
    joining::Joining,
    known::{Acquaintance, Known},
    membership::{self, Membership},
    neighbours::Settled,
    node::{Inner, Node},
    outbound::Outbound,
    queue::{ShardQueue, shard_queue},
    renewal::{Renewal, actors_of, former_actors},
    router::Router,
    shard_loop::{Parts, ShardLoop},
    shutdown::{Ending, shut_down},
    threads::Threads,
    told::{Signals, Told, until_told},
};
use crate::{
    config::{Config, Fsync},
    core::{
        ReadBounds, Recalled, ShardConfig,
        adopt::adopt,
        identity::Identity,
        inbox::Inbox,
        ship::{Home, OutboxBounds},
    },
    http,
    names::RegionName,
    peer::{self, Datagram, PeerTarget, Peers, PeersConfig},
    placement::Placement,
    resp,
    storage::{
        Durability, StorageError,
        directory::DataDirectory,
        record::forgotten,
        rocks::{RocksOptions, RocksStorage},
    },
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
    let (identity, was_clean) = (directory.identity.clone(), directory.was_clean);
    let directory = Arc::new(directory);
    let resp_door = resp::Server::bind(config.listen.resp).map_err(|source| RunError::Listen {
        key: "listen.resp",
        address: config.listen.resp,
        source,
    })?;
    let http_door = TcpListener::bind(config.listen.http)
        .await
        .map_err(|source| RunError::Listen {
            key: "listen.http",
            address: config.listen.http,
            source,
        })?;

    let clock = Arc::new(WallClock::start(
        config.clock.offset_file.clone(),
        config.clock.max_skew,
    ));
    let (renewal, identity_for_peers) = Renewal::new(Arc::clone(&directory), identity.clone())?;
    let renewal = Arc::new(renewal);
    let max_skew_ms = config.clock.max_skew.as_millis() as u64;
    let inbox = Inbox::open(
        directory.storage.as_ref(),
        identity.shards.get(),
        identity.actors(),
        max_skew_ms,
    )?;
    let outbound = Arc::new(Outbound::new(inbox));
    let hot = Arc::new(HotHeads::new(
        config.storage.cache.to_usize() / HOT_HEADS_SHARE,
    ));
    let known = Arc::new(Known::load(directory.storage.as_ref())?);
    let met: Vec<_> = known.regions().into_iter().collect();
    let settled = Settled::of(&config);
    let placement = Arc::new(settled.placement(&met));
    let mut shards = Shards::start(
        &config,
        &directory.storage,
        &hot,
        &identity,
        was_clean,
        &clock,
        &outbound,
        &placement,
    )
    .await?;
    outbound.connect_shards(shards.queues.clone());

    let node = Node::new(Inner {
        cluster: config.node.cluster.clone(),
        name: config.node.name.clone(),
        region: config.node.region.clone(),
        regions: other_regions(&config),
        settled: settled.clone(),
        shards: shards.queues.clone(),
        storage: Arc::clone(&directory.storage),
        hot,
        clock: Arc::clone(&clock),
        outbound: Arc::clone(&outbound),
        neighbours: RwLock::new(Arc::new(settled.neighbours(placement))),
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
    if let Some(detail) = settled.alone() {
        node.inner().health.fail(health::QUORUM, detail);
    }
    if let Some(detail) = Joining::of(&config).reason() {
        node.inner().health.fail(health::JOINING, detail);
    }
    let threads = Threads::start(&config, &node)?;
    let mut tasks = JoinSet::new();
    let watch = certificates::watch(credentials.endings(), Arc::clone(&clock));
    watched_over(&mut tasks, &node, "certificates", watch);
    let replays = Arc::clone(&renewal).replay(node.clone());
    watched_over(&mut tasks, &node, "renewal", replays);
    let datagrams = start_peers(
        &config,
        credentials,
        &node,
        identity_for_peers,
        renewal,
        shards.recalled,
        &mut tasks,
    )?;
    start_gossip(&config, &directory, &node, datagrams, &mut tasks).await?;
    let gauges = gauges::publish(node.clone(), Agreement::of(&config));
    watched_over(&mut tasks, &node, "gauges", gauges);

    let (stop_doors, _) = watched::channel(false);
    let (resp_address, http_address) = (resp_door.local_addr()?, http_door.local_addr()?);
    let resp_served = tokio::spawn(resp_door.serve(
        resp::Door::new(
            node.clone(),
            resp::Limits {
                clients: shares.clients as usize,
                ..resp::Limits::from(&config.limits)
            },
            resp::Levels::from(&config.consistency),
        ),
        stop_doors.subscribe(),
    ));
    let http_bounds = http::Bounds {
        connections: NonZeroUsize::new(shares.operators.into()).unwrap_or(NonZeroUsize::MIN),
        ..http::Bounds::default()
    };
    let http_served = tokio::spawn(http::serve_within(
        http_bounds,
        http_door,
        Arc::new(node.clone()),
        metrics,
        stopped(&stop_doors),
    ));
    // From the ready line on a signal is a request; until then it is a death, which is safe as well.
    let signals = Signals::listen()?;
    let told = match say_ready(&config, resp_address, http_address, outbound.peers()) {
        // Whoever started it does not listen any more: the node ends as if it had been told to.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Told::Stop,
        said => {
            said?;
            until_told(signals, &mut shards.ended, &node.inner().leave).await
        }
    };
    let (outcome, leaves) = match told {
        Told::Stop => (Ok(()), false),
        Told::Leave => (Ok(()), true),
        Told::ShardEnded(shard) => (Err(RunError::ShardEnded(shard)), false),
    };
    shut_down(Ending {
        leaves,
        node,
        directory,
        threads,
        tasks,
        resp_served,
        http_served,
        stop_doors,
        was_failure: outcome.is_err(),
    })
    .await;
    outcome
}

/// The shards' queues, and word of those that end.
struct Shards {
    queues: Vec<ShardQueue>,
    /// What each of their actors recalled.
    recalled: BTreeMap<ActorId, Recalled>,
    ended: mpsc::UnboundedReceiver<u16>,
}

impl Shards {
    /// Opens every shard on a thread of its own, all at once: after an unclean stop each counts its keys.
    #[allow(clippy::too_many_arguments)] // everything that a shard is made of
    async fn start(
        config: &Config,
        storage: &Arc<RocksStorage>,
        hot: &Arc<HotHeads>,
        identity: &Identity,
        was_clean: bool,
        clock: &Arc<WallClock>,
        outbound: &Arc<Outbound>,
        placement: &Arc<Placement>,
    ) -> Result<Self, RunError> {
        let (end, ended) = mpsc::unbounded_channel();
        let mut shards = Self {
            queues: Vec::new(),
            recalled: BTreeMap::new(),
            ended,
        };
        let mut opening = Vec::new();
        for (index, actor) in (0u16..).zip(actors_of(identity)) {
            let (queue, receiver, queued_bytes) = shard_queue(index);
            shards.queues.push(queue);
            let parts = Parts {
                config: shard_config(config, identity, index, actor, was_clean, placement),
                storage: Arc::clone(storage),
                hot: Arc::clone(hot),
                durability: if config.storage.fsync == Fsync::Always {
                    Durability::Power
                } else {
                    Durability::Process
                },
                clock: Arc::clone(clock),
                outbound: Arc::clone(outbound),
                queue: receiver,
                queued_bytes,
            };
            opening.push(spawn_shard(index, parts, end.clone())?);
        }
        for opened in opening {
            // A thread that ends before it answers has panicked, which it logged.
            let recalled = opened.await.unwrap_or_else(|_| {
                Err(StorageError::Failed {
                    detail: "a shard ended while it was opened".to_owned(),
                })
            })?;
            shards.recalled.extend(recalled);
        }
        Ok(shards)
    }
}

/// Starts a shard's thread; the receiver hears whether it opened, and what each of its actors recalled.
fn spawn_shard(
    index: u16,
    parts: Parts,
    end: mpsc::UnboundedSender<u16>,
) -> io::Result<oneshot::Receiver<Result<BTreeMap<ActorId, Recalled>, StorageError>>> {
    let (answer, opened) = oneshot::channel();
    thread::Builder::new()
        .name(format!("shard-{index}"))
        .spawn(move || {
            let _end = Ends { index, end };
            let (outcome, shard) = match ShardLoop::open(parts) {
                Ok(shard) => (Ok(shard.recalled()), Some(shard)),
                Err(error) => (Err(error), None),
            };
            let is_wanted = answer.send(outcome).is_ok();
            if let Some(shard) = shard.filter(|_| is_wanted) {
                shard.run();
            }
        })?;
    Ok(opened)
}

/// Says when a shard's thread ends, by a panic too.
struct Ends {
    index: u16,
    end: mpsc::UnboundedSender<u16>,
}

impl Drop for Ends {
    fn drop(&mut self) {
        // Nobody listens once the node is stopping.
        let _ = self.end.send(self.index);
    }
}

fn shard_config(
    config: &Config,
    identity: &Identity,
    index: u16,
    actor: ActorId,
    was_clean: bool,
    placement: &Arc<Placement>,
) -> ShardConfig {
    let shards = identity.shards;
    ShardConfig {
        index,
        shards: shards.get(),
        actor,
        former: former_actors(identity, index),
        home: Home {
            region: config.node.region.clone(),
            node: config.node.name.clone(),
            placement: Arc::clone(placement),
            is_sloppy: config.consistency.sloppy,
        },
        timeout: config.consistency.timeout,
        outbox: OutboxBounds {
            window: config.hints.window,
            bytes_max: config.hints.max_bytes.bytes() / u64::from(shards.get()),
        },
        cache_bytes: config.storage.cache.to_usize() / HEAD_CACHE_SHARE / usize::from(shards.get()),
        value_bytes_max: config.limits.value_bytes.to_usize(),
        reads: ReadBounds::default(),
        max_skew_ms: config.clock.max_skew.as_millis() as u64,
        was_clean,
        entropy: rand::random(),
    }
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
    identity: watched::Receiver<peer::Identity>,
    renewal: Arc<Renewal>,
    recalled: BTreeMap<ActorId, Recalled>,
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
        identity,
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
    let router = Router::new(node.clone(), renewal, recalled);
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

/// Resolves when the doors are told to close.
fn stopped(stop: &watched::Sender<bool>) -> impl Future<Output = ()> + Send + 'static {
    let mut stop = stop.subscribe();
    async move {
        // A sender that is gone means the same.
        let _ = stop.wait_for(|is_stopping| *is_stopping).await;
    }
}

/// The one line on stdout.
fn say_ready(
    config: &Config,
    resp: std::net::SocketAddr,
    http: std::net::SocketAddr,
    peers: Option<&Peers>,
) -> io::Result<()> {
    let quic = peers.map_or(Ok(config.listen.quic), Peers::local_addr)?;
    let mut stdout = io::stdout().lock();
    writeln!(
        stdout,
        "ready node={} region={} resp={resp} quic={quic} http={http}",
        config.node.name, config.node.region
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
/// One part in this many of `storage.cache` goes to decoded heads, over and above RocksDB's blocks.
const HEAD_CACHE_SHARE: usize = 2;
