//! `chitchat` under measurement: its own server, on a transport that asks the same network what becomes of a message, in tokio's paused
//! time. Its defaults, but for the interval, a phi of 8, and the first estimate, which is set to the interval (its default of
//! 5 s would slow it down for minutes).

use std::{
    collections::{BTreeSet, HashMap},
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use chitchat::{
    ChitchatConfig, ChitchatEnvelope, ChitchatHandle, ChitchatId, FailureDetectorConfig,
    ProtocolVersion, spawn_chitchat,
    transport::{ChannelTransport, RecvOutcome, SendOutcome, Socket, Transport},
};
use tokio::{
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    time::{Instant, sleep, sleep_until},
};

use crate::{Outcome, Plan, network::Network};

pub fn measure(plan: &Plan) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build();
    runtime
        .expect("a runtime needs no more than memory")
        .block_on(measure_in_paused_time(plan))
}

async fn measure_in_paused_time(plan: &Plan) -> Outcome {
    let mut cluster = Cluster::start(plan).await;
    sleep(plan.warm_up).await;
    let mut outcome = Outcome::default();
    let bytes = cluster.air.bytes.load(Ordering::Relaxed);
    cluster.losses();
    sleep(plan.quiet).await;
    outcome.bytes = cluster.air.bytes.load(Ordering::Relaxed) - bytes;
    outcome.false_suspicions = cluster.losses().len();
    for crash in 0..plan.crashes {
        measure_crash(plan, &mut cluster, crash, &mut outcome).await;
    }
    outcome
}

async fn measure_crash(plan: &Plan, cluster: &mut Cluster, crash: usize, outcome: &mut Outcome) {
    let victim = plan.victim(crash);
    let (notice, recovery) = plan.after_crash();
    sleep(plan.offset(crash)).await;
    cluster.losses();
    let begin = Instant::now();
    cluster.kill(victim);
    sleep(notice).await;
    let noticed: HashMap<usize, Instant> = cluster
        .losses()
        .into_iter()
        .filter(|loss| loss.observed == victim && loss.observer != victim)
        .map(|loss| (loss.observer, loss.at))
        .collect();
    outcome.missed += plan.hosts - 1 - noticed.len();
    outcome
        .detections
        .extend(noticed.values().map(|at| *at - begin));
    cluster.spawn(victim).await;
    sleep(recovery).await;
}

/// A node left an observer's set of living nodes.
struct Loss {
    at: Instant,
    observer: usize,
    observed: usize,
}

struct Cluster {
    plan: Plan,
    air: Arc<Air>,
    nodes: Vec<Option<ChitchatHandle>>,
    generation: u64,
    losses: Arc<Mutex<Vec<Loss>>>,
}

impl Cluster {
    async fn start(plan: &Plan) -> Self {
        let mut cluster = Self {
            plan: *plan,
            air: Arc::new(Air::new(plan.network())),
            nodes: (0..plan.hosts).map(|_| None).collect(),
            generation: 0,
            losses: Arc::default(),
        };
        for host in 0..plan.hosts {
            sleep(plan.interval / plan.hosts as u32).await;
            cluster.spawn(host).await;
        }
        cluster
    }

    async fn spawn(&mut self, host: usize) {
        self.generation += 1;
        let config = config(&self.plan, host, self.generation);
        let transport = Antenna {
            host,
            air: Arc::clone(&self.air),
        };
        let handle = spawn_chitchat(config, Vec::new(), &transport)
            .await
            .expect("the simulated transport always opens");
        let watcher = handle
            .with_chitchat(|chitchat| chitchat.live_nodes_watcher())
            .await;
        tokio::spawn(watch(host, watcher, Arc::clone(&self.losses)));
        self.nodes[host] = Some(handle);
    }

    fn kill(&mut self, host: usize) {
        self.air.close(host);
        if let Some(handle) = self.nodes[host].take() {
            handle.abort();
        }
    }

    /// What was lost since the last call.
    fn losses(&self) -> Vec<Loss> {
        std::mem::take(&mut *self.losses.lock().expect("nobody panics"))
    }
}

fn config(plan: &Plan, host: usize, generation: u64) -> ChitchatConfig {
    let address = address(host);
    ChitchatConfig {
        chitchat_id: ChitchatId::new(format!("node-{host}"), generation, address),
        cluster_id: "bench".to_owned(),
        gossip_interval: plan.interval,
        listen_addr: address,
        seed_nodes: (0..2).map(|seed| self::address(seed).to_string()).collect(),
        failure_detector_config: FailureDetectorConfig {
            phi_threshold: 8.0,
            initial_interval: plan.interval,
            ..FailureDetectorConfig::default()
        },
        marked_for_deletion_grace_period: Duration::from_secs(3_600),
        catchup_callback: None,
        extra_liveness_predicate: None,
        protocol_version: ProtocolVersion::V0,
    }
}

async fn watch(
    observer: usize,
    mut watcher: tokio::sync::watch::Receiver<
        std::collections::BTreeMap<ChitchatId, chitchat::NodeState>,
    >,
    losses: Arc<Mutex<Vec<Loss>>>,
) {
    let mut known = BTreeSet::new();
    while watcher.changed().await.is_ok() {
        let living = watcher.borrow_and_update();
        let living: BTreeSet<usize> = living
            .keys()
            .map(|id| host_at(id.gossip_advertise_addr))
            .collect();
        let at = Instant::now();
        let lost = known.difference(&living).map(|observed| Loss {
            at,
            observer,
            observed: *observed,
        });
        losses.lock().expect("nobody panics").extend(lost);
        known = living;
    }
}

/// The network and who listens to it.
struct Air {
    network: Mutex<Network>,
    doors: Mutex<HashMap<usize, UnboundedSender<RecvOutcome>>>,
    bytes: AtomicU64,
}

impl Air {
    fn new(network: Network) -> Self {
        Self {
            network: Mutex::new(network),
            doors: Mutex::default(),
            bytes: AtomicU64::new(0),
        }
    }

    fn close(&self, host: usize) {
        self.doors.lock().expect("nobody panics").remove(&host);
    }

    fn deliver(&self, to: usize, outcome: RecvOutcome) {
        if let Some(door) = self.doors.lock().expect("nobody panics").get(&to) {
            // A host that has just died receives nothing.
            let _ = door.send(outcome);
        }
    }
}

struct Antenna {
    host: usize,
    air: Arc<Air>,
}

#[async_trait]
impl Transport for Antenna {
    async fn open(&self, _: SocketAddr) -> anyhow::Result<Box<dyn Socket>> {
        let (door, incoming) = unbounded_channel();
        self.air
            .doors
            .lock()
            .expect("nobody panics")
            .insert(self.host, door);
        Ok(Box::new(Wave {
            host: self.host,
            air: Arc::clone(&self.air),
            incoming,
            scale: ChannelTransport::default().open(address(self.host)).await?,
        }))
    }
}

struct Wave {
    host: usize,
    air: Arc<Air>,
    incoming: UnboundedReceiver<RecvOutcome>,
    scale: Box<dyn Socket>,
}

#[async_trait]
impl Socket for Wave {
    fn local_addr(&self) -> anyhow::Result<SocketAddr> {
        Ok(address(self.host))
    }

    async fn send(
        &mut self,
        to: SocketAddr,
        envelope: ChitchatEnvelope,
    ) -> anyhow::Result<SendOutcome> {
        let to = host_at(to);
        let (envelope, num_bytes_sent) = self.weigh(envelope).await?;
        self.air
            .bytes
            .fetch_add(num_bytes_sent as u64, Ordering::Relaxed);
        let fate = self
            .air
            .network
            .lock()
            .expect("nobody panics")
            .fate(self.host, to);
        let Some(delay) = fate.first().copied() else {
            return Ok(SendOutcome { num_bytes_sent });
        };
        let (air, from_addr) = (Arc::clone(&self.air), address(self.host));
        let arrival = Instant::now() + delay;
        tokio::spawn(async move {
            sleep_until(arrival).await;
            let num_bytes_received = num_bytes_sent;
            air.deliver(
                to,
                RecvOutcome {
                    from_addr,
                    envelope,
                    num_bytes_received,
                },
            );
        });
        Ok(SendOutcome { num_bytes_sent })
    }

    async fn recv(&mut self) -> anyhow::Result<RecvOutcome> {
        let received = self.incoming.recv().await;
        received.ok_or_else(|| anyhow::anyhow!("the host is dead"))
    }
}

impl Wave {
    /// Its encoder is private: the only way to learn a message's size is to send it through its own test transport, here to ourselves.
    async fn weigh(
        &mut self,
        envelope: ChitchatEnvelope,
    ) -> anyhow::Result<(ChitchatEnvelope, usize)> {
        self.scale.send(address(self.host), envelope).await?;
        let weighed = self.scale.recv().await?;
        Ok((weighed.envelope, weighed.num_bytes_received))
    }
}

fn address(host: usize) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 0], 1_000 + host as u16))
}

fn host_at(address: SocketAddr) -> usize {
    usize::from(address.port() - 1_000)
}
