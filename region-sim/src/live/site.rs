//! A cluster at work: its seats, its links, and the verbs that change them.

use std::{
    collections::BTreeMap,
    fs,
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use serde::Serialize;
use tokio::{task::JoinSet, time::Instant};

use super::{
    config::{NodeConfig, Overrides},
    error::{Doing, Error},
    event::{DIED, Events},
    layout::{Claim, Layout, remove_dir, remove_file, replace_file},
    log_tail,
    mesh::Mesh,
    ports::Ports,
    process::{Exit, Nursery, Process, Start},
    quorum,
    seat::{Phase, Seat},
    topology::Topology,
};

/// Everything that a running cluster consists of.
#[derive(Debug)]
pub(super) struct Site {
    pub layout: Layout,
    pub topology: Topology,
    /// The program that makes keys, and that every node runs for which no other was named.
    pub program: PathBuf,
    pub overrides: Overrides,
    pub ports: Ports,
    pub mesh: Mesh,
    pub seats: Vec<Arc<Seat>>,
    pub nursery: Nursery,
    pub events: Events,
    pub ready_limit: Duration,
    pub claim: Mutex<Option<Claim>>,
    /// Whether all nodes were ready once, which `cluster.json` waits for.
    pub published: Mutex<bool>,
    pub going_down: AtomicBool,
}

impl Site {
    /// Starts every node and waits until all are ready.
    pub async fn start_all(self: &Arc<Self>) -> Result<(), Error> {
        for seat in &self.seats {
            // All of them before the first is started: a busy port must not leave half a cluster.
            self.ports.doors(seat.index, &seat.name, None)?;
        }
        let mut starting = JoinSet::new();
        for seat in &self.seats {
            let (site, seat) = (self.clone(), seat.clone());
            starting.spawn(async move { site.start(&seat).await });
        }
        while let Some(started) = starting.join_next().await {
            started.unwrap_or(Err(Error::GoingDown))?;
        }
        self.await_levels(&self.seats, LEVELS_ALL_MAX).await;
        self.await_peers(LEVELS_ALL_MAX).await;
        *self.published() = true;
        self.publish()
    }

    /// Starts a node whose seat is empty. The caller has its turn. Somebody may take its ports between the look at them and its start: where
    /// the system gave them, it gives others then.
    async fn start(self: &Arc<Self>, seat: &Arc<Seat>) -> Result<(), Error> {
        let last = seat.life().doors;
        match self.start_once(seat).await {
            Err(Error::NotReady { .. }) if self.ports.are_lost(&seat.name, last) => {
                self.start_once(seat).await
            }
            started => started,
        }
    }

    async fn start_once(self: &Arc<Self>, seat: &Arc<Seat>) -> Result<(), Error> {
        self.refuse_if_going_down()?;
        let ends = seat.ends();
        let start = self.prepare(seat)?;
        seat.prepare();
        let (process, doors) = match self.nursery.start(&start, ends).await {
            Ok(started) => started,
            Err(e) => {
                seat.rest();
                return Err(e);
            }
        };
        self.mesh.set_target(seat.index, doors.quic);
        seat.fill(process.clone(), doors);
        tokio::spawn(self.clone().attend(seat.clone(), process));
        self.publish()
    }

    fn all(&self) -> quorum::Seats<'_> {
        quorum::Seats {
            all: &self.seats,
            topology: &self.topology,
        }
    }

    /// Waits until these nodes meet their default levels, and says so of those that do not.
    async fn await_levels(&self, seats: &[Arc<Seat>], patience: Duration) {
        for seat in seats {
            if quorum::lacks_levels(self.all(), seat, patience).await {
                let name = &seat.name;
                self.events
                    .add(format!("{name} serves, but does not meet its levels yet"));
            }
        }
    }

    /// Waits until all nodes have met each other, and says so of those that have not.
    async fn await_peers(&self, patience: Duration) {
        let until = Instant::now() + patience;
        for seat in &self.seats {
            if quorum::lacks_peers(self.all(), seat, until).await {
                let name = &seat.name;
                self.events.add(format!(
                    "{name} serves, but has not met every other node yet"
                ));
            }
        }
    }

    fn prepare(&self, seat: &Seat) -> Result<Start, Error> {
        let dir = seat.layout.dir();
        fs::create_dir_all(dir).doing(|| format!("make {}", dir.display()))?;
        let others = self.seats.iter().filter(|other| other.index != seat.index);
        let dial: BTreeMap<_, _> = others
            .filter_map(|other| {
                Some((other.name.clone(), self.mesh.dial(seat.index, other.index)?))
            })
            .collect();
        NodeConfig {
            topology: &self.topology,
            layout: &self.layout,
            name: &seat.name,
            region: seat.region.as_str(),
            doors: self
                .ports
                .doors(seat.index, &seat.name, seat.life().doors)?,
            dial,
            overrides: &self.overrides,
        }
        .write()?;
        Ok(Start {
            node: seat.name.clone(),
            program: seat.life().program,
            config: seat.layout.config(),
            dir: dir.to_path_buf(),
            log: seat.layout.log(),
            log_from: log_tail::len(&seat.layout.log()),
            limit: self.ready_limit,
        })
    }

    /// Stays with a process until it ends, and says so.
    async fn attend(self: Arc<Self>, seat: Arc<Seat>, process: Process) {
        let exit = process.exit().await;
        let phase = seat.empty();
        // The file first: who hears of the death finds it there.
        if let Err(e) = self.publish() {
            self.events.add(e.to_string());
        }
        if matches!(phase, Phase::Ready | Phase::Paused) {
            let log = seat.layout.log();
            self.events.add(format!(
                "{} {DIED}: {exit}; its log is {}",
                seat.name,
                log.display()
            ));
        }
        seat.rest();
    }

    /// Kills a node; nothing is left to do if it is dead.
    pub async fn kill(&self, seat: &Seat) -> Result<(), Error> {
        seat.order_end();
        let _turn = seat.turn.lock().await;
        if let Some(process) = seat.dismiss() {
            process.kill().await?;
            self.events.add(format!("{} was killed", seat.name));
        }
        seat.await_rest().await
    }

    /// Asks a node to stop; kills it if it does not. `None` if it was dead.
    pub async fn stop(&self, seat: &Seat) -> Result<Option<Exit>, Error> {
        seat.order_end();
        let _turn = seat.turn.lock().await;
        self.stop_in_turn(seat).await
    }

    async fn stop_in_turn(&self, seat: &Seat) -> Result<Option<Exit>, Error> {
        let mut exit = None;
        if let Some(process) = seat.dismiss() {
            let ended = process.stop(STOP_LIMIT).await?;
            self.events.add(format!("{} stopped: {ended}", seat.name));
            exit = Some(ended);
        }
        seat.await_rest().await?;
        Ok(exit)
    }

    /// Stops a node if it is alive and starts it.
    pub async fn restart(self: &Arc<Self>, seat: &Arc<Seat>) -> Result<(), Error> {
        let _turn = seat.turn.lock().await;
        self.refuse_if_going_down()?;
        self.stop_in_turn(seat).await?;
        self.start(seat).await?;
        self.await_levels(std::slice::from_ref(seat), LEVELS_ONE_MAX)
            .await;
        self.events.add(format!("{} was started", seat.name));
        Ok(())
    }

    /// Stops a node if it is alive, and starts it with another program. If that does not become ready, the node is dead and has the program
    /// that it had: a restart goes back to it.
    pub async fn upgrade(
        self: &Arc<Self>,
        seat: &Arc<Seat>,
        program: PathBuf,
    ) -> Result<(), Error> {
        let _turn = seat.turn.lock().await;
        self.refuse_if_going_down()?;
        self.stop_in_turn(seat).await?;
        let text = format!("{} was started with {}", seat.name, program.display());
        let before = seat.replace_program(program);
        if let Err(error) = self.start(seat).await {
            seat.replace_program(before);
            return Err(error);
        }
        self.await_levels(std::slice::from_ref(seat), LEVELS_ONE_MAX)
            .await;
        self.events.add(text);
        Ok(())
    }

    /// Kills a node, deletes its data and starts it.
    pub async fn wipe(self: &Arc<Self>, seat: &Arc<Seat>) -> Result<(), Error> {
        let _turn = seat.turn.lock().await;
        self.refuse_if_going_down()?;
        if let Some(process) = seat.dismiss() {
            process.kill().await?;
        }
        seat.await_rest().await?;
        remove_dir(&seat.layout.data())?;
        self.start(seat).await?;
        self.await_levels(std::slice::from_ref(seat), LEVELS_ONE_MAX)
            .await;
        self.events
            .add(format!("{} was wiped and started", seat.name));
        Ok(())
    }

    /// Pauses a node or lets it go on.
    pub async fn set_paused(&self, seat: &Seat, paused: bool) -> Result<(), Error> {
        let _turn = seat.turn.lock().await;
        seat.set_paused(paused).await?;
        self.events.add(format!(
            "{} was {}",
            seat.name,
            if paused { "paused" } else { "resumed" }
        ));
        Ok(())
    }

    /// Sets a node's clock ahead of the machine's by so much, or behind.
    pub fn skew(&self, seat: &Seat, offset_ms: i64) -> Result<(), Error> {
        replace_file(
            &seat.layout.clock_offset(),
            format!("{offset_ms}\n").as_bytes(),
        )?;
        self.events
            .add(format!("{}'s clock is off by {offset_ms:+} ms", seat.name));
        Ok(())
    }

    /// Stops every node in order, all at a time, and lets another launcher have the directory.
    pub async fn down(self: &Arc<Self>) -> Result<(), Error> {
        self.going_down.store(true, Ordering::SeqCst);
        let mut stopping = JoinSet::new();
        for seat in &self.seats {
            let (site, seat) = (self.clone(), seat.clone());
            stopping.spawn(async move { site.stop(&seat).await });
        }
        let mut result = Ok(());
        while let Some(stopped) = stopping.join_next().await {
            result = result.and(stopped.unwrap_or(Err(Error::GoingDown)).map(drop));
        }
        result.and(self.leave())
    }

    /// Lets another launcher have the directory.
    pub fn leave(&self) -> Result<(), Error> {
        let mut claim = self.claim.lock().unwrap_or_else(PoisonError::into_inner);
        match claim.take() {
            // While the claim is held: afterwards the socket may be the next launcher's.
            Some(_held) => remove_file(&self.layout.control_socket()),
            None => Ok(()),
        }
    }

    fn refuse_if_going_down(&self) -> Result<(), Error> {
        if self.going_down.load(Ordering::SeqCst) {
            Err(Error::GoingDown)
        } else {
            Ok(())
        }
    }

    /// Writes `cluster.json`, once all nodes were ready.
    fn publish(&self) -> Result<(), Error> {
        // Held while writing, or an older state could overwrite a newer one.
        let published = self.published();
        if !*published {
            return Ok(());
        }
        let nodes = self.seats.iter().map(|seat| NodeEntry::of(seat)).collect();
        let file = ClusterFile {
            nodes,
            ca: self.layout.tls().join("ca.pem"),
        };
        let text = serde_json::to_vec(&file).map_err(std::io::Error::from);
        replace_file(
            &self.layout.cluster_file(),
            &text.doing(|| "encode cluster.json".to_owned())?,
        )
    }

    fn published(&self) -> std::sync::MutexGuard<'_, bool> {
        self.published
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Serialize)]
struct ClusterFile {
    nodes: Vec<NodeEntry>,
    ca: PathBuf,
}

/// Where a node is now: its entry in `cluster.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NodeEntry {
    /// Its name.
    pub name: String,
    /// Its region.
    pub region: String,
    /// Its process, `None` while it is dead.
    pub pid: Option<u32>,
    /// Where clients connect, `host:port`. The last known place while it is dead.
    pub resp: String,
    /// Where other nodes connect, `host:port`.
    pub quic: String,
    /// Where health, metrics and status are, `host:port`.
    pub http: String,
    /// Its data.
    pub data_dir: PathBuf,
    /// What it says on stderr.
    pub log: PathBuf,
}

impl NodeEntry {
    pub(super) fn of(seat: &Seat) -> Self {
        let life = seat.life();
        let door = |pick: fn(&super::config::Doors) -> std::net::SocketAddr| {
            life.doors
                .as_ref()
                .map_or_else(String::new, |doors| pick(doors).to_string())
        };
        Self {
            name: seat.name.clone(),
            region: seat.region.to_string(),
            pid: life.process.as_ref().map(Process::pid),
            resp: door(|doors| doors.resp),
            quic: door(|doors| doors.quic),
            http: door(|doors| doors.http),
            data_dir: seat.layout.data(),
            log: seat.layout.log(),
        }
    }
}

/// How long a node may take to stop before it is killed.
const STOP_LIMIT: Duration = Duration::from_secs(15);

/// How long nodes that start together may take to meet each other.
const LEVELS_ALL_MAX: Duration = Duration::from_secs(20);
/// How long one that returns may take to be met.
const LEVELS_ONE_MAX: Duration = Duration::from_secs(5);
