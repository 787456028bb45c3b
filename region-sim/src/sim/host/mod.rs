//! One node: what the real driver does around the core, under virtual time.
//!
//! ```text
//!   clients, peers ─▶ queue of a shard ─▶ handle, handle, … Close ─▶ Write ─▶ CurrentTopology ─▶ replies, messages
//!                                                                  (storage)
//! ```
//! A process can die between any two of these. What it leaves is its storage, its clock and its boot.

mod beliefs;
mod forward;
mod peers;
mod requests;
mod standing;
mod work;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    num::NonZeroU16,
    sync::Arc,
    time::Duration,
};

use crdt::ActorId;
use node::{
    core::{
        Input, Now, ReadBounds, RequestId, Shard, ShardConfig,
        identity::{BootId, DirectoryId, Identity},
        inbox::Inbox,
        message::SessionId,
        node::{Acquaintances, CurrentTopology},
        op::Op,
        ship::{Home, Met, OutboxBounds},
    },
    names::{ClusterName, NodeName, RegionName},
    placement::Placement,
    storage::{Batch, Durability, Family, Storage, StorageError, memory::MemoryStorage},
};

pub use self::peers::{Dialling, PROBE};
use self::{beliefs::Beliefs, forward::Forwards};
use super::{
    agenda::{Due, Event, HostIndex, Run},
    clock::WallClock,
    desk::Desk,
    plan::{HostPlan, Plan},
};
use crate::check::Violation;

/// One node, alive or not.
#[derive(Debug)]
pub struct Host {
    /// Its place in the world.
    pub index: HostIndex,
    /// Its region.
    pub region: RegionName,
    /// Its disk.
    pub storage: Arc<MemoryStorage>,
    /// Its clock.
    pub clock: WallClock,
    /// Counts its processes.
    pub run: Run,
    /// The process, while there is one.
    pub process: Option<Process>,
    /// It stands still until then.
    pub paused_until: Duration,
    /// Faults of its disk that last: how many of a kind are on.
    pub slow: u32,
    /// How many say that the disk is full.
    pub full: u32,
    /// How many let commits fail.
    pub failing: u32,
    /// An old copy of its disk.
    pub copy: Option<Copy>,
    /// Its data came from an old copy, and not every peer has said yet what it knows.
    pub unconfirmed: Option<Vec<HostIndex>>,
    /// It lost data that it had said was saved: others may have let go of it.
    pub has_forgotten: bool,
    name: NodeName,
    plan: HostPlan,
    placement: Arc<Placement>,
    is_sloppy: bool,
    boot: u64,
    directory: DirectoryId,
    /// Under which directory it knew each other host first, or that one's later number: its disk remembers.
    known: BTreeMap<HostIndex, DirectoryId>,
    /// Numbers that this process closed because of their stamps: what their actors still write is as good as before.
    closed: Vec<DirectoryId>,
}

/// An old copy of a disk.
#[derive(Debug)]
pub struct Copy {
    rows: Vec<(Family, Vec<u8>, Vec<u8>)>,
    /// The rows that it has of its own, by their place in the ledger.
    kept: BTreeSet<usize>,
}

/// A running process.
#[derive(Debug)]
pub struct Process {
    /// Who its directory is.
    pub identity: Identity,
    /// Its shards.
    pub workers: Vec<Worker>,
    /// What it takes from others.
    pub inbox: Inbox,
    /// How far it is with each other host.
    pub dialling: Vec<Dialling>,
    /// Requests that it handed to others, and they to it.
    forwards: Forwards,
    /// Whom it believes to live; `None` where hosts do not gossip.
    beliefs: Option<Beliefs>,
    /// The sessions that it ships on, as a shard that is opened again is told of them.
    sessions: BTreeMap<SessionId, Met>,
    acquaintances: Acquaintances,
    topology: CurrentTopology,
    started: Duration,
    saving: Option<Batch>,
    is_failed: bool,
}

/// One shard and what is queued for it.
#[derive(Debug)]
pub struct Worker {
    /// The shard.
    pub shard: Shard,
    queue: VecDeque<Queued>,
    phase: Phase,
    /// Requests that were handled and not answered.
    handled: VecDeque<Asked>,
}

#[derive(Debug)]
enum Queued {
    Asked(Asked),
    Input(Input),
}

/// A request as it was handled.
#[derive(Debug, Clone)]
struct Asked {
    id: RequestId,
    op: Op,
    wall_ms: u64,
    /// Whether its connection waits for the answer to what it asked before.
    is_behind: bool,
}

#[derive(Debug)]
enum Phase {
    Idle,
    Scheduled,
    Committing {
        batch: Batch,
        written: Option<Result<(), StorageError>>,
    },
    /// Its commit failed: it is opened anew with the storage.
    Over,
}

/// How a process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Death {
    /// It is killed.
    Kill,
    /// Its machine loses power.
    PowerLoss,
}

impl Host {
    /// A node of a plan and its placement, with an empty disk.
    pub fn new(index: HostIndex, plan: &Plan, placement: Arc<Placement>) -> Self {
        let host = plan.regions[index].clone();
        Self {
            index,
            region: plan.region(index),
            storage: Arc::new(MemoryStorage::new()),
            clock: WallClock {
                offset_ms: host.clock_offset_ms,
                drift_ppm: host.clock_drift_ppm,
            },
            run: 0,
            process: None,
            paused_until: Duration::ZERO,
            slow: 0,
            full: 0,
            failing: 0,
            copy: None,
            unconfirmed: None,
            has_forgotten: false,
            name: name(index),
            plan: host,
            placement,
            is_sloppy: plan.is_sloppy,
            boot: 0,
            directory: DirectoryId(0),
            known: BTreeMap::new(),
            closed: Vec::new(),
        }
    }

    /// The time that its process is told.
    pub fn time(&self, now: Duration) -> Now {
        let started = self.process.as_ref().map_or(now, |process| process.started);
        Now {
            mono: now.saturating_sub(started),
            wall_ms: self.clock.wall_ms(now),
        }
    }

    /// Begins a process, if none runs. A storage that cannot be opened is tried again later.
    pub fn start(&mut self, desk: &mut Desk) {
        if self.process.is_some() {
            return;
        }
        if self.storage.reopen().is_err() {
            self.start_in(desk, RETRY);
            return;
        }
        let wall_ms = self.clock.wall_ms(desk.now);
        let wrong = desk
            .reference
            .verify(self.index, &*self.storage, wall_ms, |_| true);
        desk.violations
            .extend(wrong.into_iter().map(|detail| Violation::new("P1", detail)));
        match self.open(desk) {
            Ok(process) => self.begin(process, desk),
            Err(error) => {
                desk.trace.line(desk.now, || {
                    format!("n{} cannot start: {error}", self.index)
                });
                self.start_in(desk, RETRY);
            }
        }
    }

    /// The process is gone, with everything that it had in memory.
    pub fn die(&mut self, death: Death, desk: &mut Desk) {
        desk.trace
            .line(desk.now, || format!("n{} dies: {death:?}", self.index));
        self.run += 1;
        if let Some(process) = self.process.take() {
            for worker in process.workers {
                self.bury(worker, desk);
            }
        }
        if death == Death::PowerLoss {
            self.boot += 1;
            let unsynced = self.storage.usage().unsynced as u64;
            let torn = desk.dice.below(unsynced + 1) as usize;
            // What failed and was written anyway counts as the newest, and is lost as such.
            self.storage.crash(torn);
            if desk.ledger.power_lost(self.index, torn) {
                desk.reference.adopt(self.index, &*self.storage);
            }
        }
        self.break_sessions(desk);
    }

    /// The process ends in good order: what is queued is done, the last batch says that nothing was lost.
    pub fn stop(&mut self, desk: &mut Desk) {
        let is_ready = self
            .process
            .as_ref()
            .is_some_and(|process| !process.is_failed);
        if !is_ready || self.failing > 0 {
            self.die(Death::Kill, desk);
            return;
        }
        desk.trace
            .line(desk.now, || format!("n{} stops", self.index));
        self.say_goodbye(desk);
        let is_clean = self.finish(desk);
        desk.trace.line(desk.now, || {
            format!("n{} stopped, in good order: {is_clean}", self.index)
        });
        self.die(Death::Kill, desk);
    }

    /// Puts down that the process starts soon.
    pub fn start_in(&self, desk: &mut Desk, pause: Duration) {
        let event = Event::Start {
            host: self.index,
            run: self.run,
        };
        desk.agenda.at(desk.now + pause, event);
    }

    /// Deletes everything on the disk. Only while no process runs.
    pub fn wipe(&mut self, desk: &mut Desk) {
        assert!(self.process.is_none(), "a wiped host does not run");
        desk.trace
            .line(desk.now, || format!("n{} is wiped", self.index));
        self.storage = Arc::new(MemoryStorage::new());
        self.known.clear();
        self.copy = None;
        self.unconfirmed = None;
        desk.end_old_copy(self.index);
        self.has_forgotten = true;
        desk.ledger.replaced(self.index, &BTreeSet::new());
        desk.reference.adopt(self.index, &*self.storage);
        self.spoil_again();
    }

    /// Copies the disk.
    pub fn copy_disk(&mut self, desk: &Desk) {
        let mut rows = Vec::new();
        for family in Family::ALL {
            let scanned = self.storage.scan(family, b"", None, &mut |key, value| {
                rows.push((family, key.to_vec(), value.to_vec()));
                std::ops::ControlFlow::Continue(())
            });
            assert!(scanned.is_ok(), "reads of the simulated disk do not fail");
        }
        self.copy = Some(Copy {
            rows,
            kept: desk.ledger.kept(self.index),
        });
    }

    /// Puts the copy in the place of the disk. Only while no process runs.
    pub fn restore(&mut self, desk: &mut Desk) {
        assert!(self.process.is_none(), "a restored host does not run");
        let Some(copy) = self.copy.take() else {
            return;
        };
        desk.trace
            .line(desk.now, || format!("n{} is an old copy", self.index));
        let mut batch = Batch::default();
        for (family, key, value) in copy.rows {
            batch.put(family, key, value);
        }
        let storage = MemoryStorage::new();
        let restored = storage.commit(&batch, Durability::Power);
        assert!(restored.is_ok(), "a new disk takes a copy");
        self.storage = Arc::new(storage);
        self.unconfirmed = Some(Vec::new());
        desk.begin_old_copy(self.index);
        self.has_forgotten = true;
        desk.ledger.replaced(self.index, &copy.kept);
        desk.reference.adopt(self.index, &*self.storage);
        self.spoil_again();
    }

    /// The clock is off by another amount from now on.
    pub fn step_clock(&mut self, offset_ms: i64, desk: &mut Desk) {
        let before_ms = self.clock.wall_ms(desk.now);
        self.clock.offset_ms = offset_ms;
        let after_ms = self.clock.wall_ms(desk.now);
        desk.trace.line(desk.now, || {
            format!("n{} clock {before_ms} -> {after_ms}", self.index)
        });
        if after_ms < before_ms {
            desk.reference.clock_went_back(self.index, before_ms);
        }
    }

    /// Where it stands among the others.
    pub fn home(&self) -> Home {
        Home {
            region: self.region.clone(),
            node: self.name.clone(),
            placement: Arc::clone(&self.placement),
            is_sloppy: self.is_sloppy,
        }
    }

    /// Whether the process runs and its storage works.
    pub fn is_well(&self) -> bool {
        self.process
            .as_ref()
            .is_some_and(|process| !process.is_failed)
    }

    fn open(&mut self, desk: &mut Desk) -> Result<Process, StorageError> {
        let (identity, was_clean) = self.identify(desk)?;
        self.directory = identity.directory;
        self.closed.clear();
        let mut batch = Batch::default();
        identity.put(&mut batch);
        self.commit(&batch, Durability::Power, desk)?;
        let is_copy = self.unconfirmed.is_some();
        desk.ledger
            .found(self.index, &*self.storage, is_copy, desk.now);
        let shards = identity.shards.get();
        let workers = (0..shards)
            .map(|shard| self.open_shard(&identity, shard, was_clean, desk))
            .collect::<Result<_, _>>()?;
        Ok(Process {
            inbox: Inbox::open(&*self.storage, shards, identity.actors(), MAX_SKEW_MS)?,
            identity,
            workers,
            dialling: vec![Dialling::Waiting { attempts: 0 }; desk.plan.regions.len()],
            forwards: Forwards::default(),
            beliefs: None,
            sessions: BTreeMap::new(),
            acquaintances: Acquaintances::default(),
            topology: CurrentTopology::new(self.topology(desk)),
            started: desk.now,
            saving: None,
            is_failed: false,
        })
    }

    fn identify(&self, desk: &mut Desk) -> Result<(Identity, bool), StorageError> {
        let boot = BootId(format!("boot-{}", self.boot));
        let draw = desk.dice.bits();
        let Some(stored) = Identity::load(&*self.storage)? else {
            let shards = NonZeroU16::new(self.plan.shards).unwrap_or(NonZeroU16::MIN);
            let cluster = parsed::<ClusterName>("sim");
            let fsync_always = self.plan.fsync_always;
            let identity =
                Identity::create(self.name.clone(), cluster, shards, boot, fsync_always, draw);
            return Ok((identity, false));
        };
        let was_clean = stored.clean;
        let (identity, renewal) = stored.reopened(&boot, self.plan.fsync_always, draw);
        if let Some(renewal) = renewal {
            desk.trace.line(desk.now, || {
                format!(
                    "n{} renews {} as {}",
                    self.index, renewal.closed, renewal.opened
                )
            });
        }
        Ok((identity, was_clean))
    }

    fn open_shard(
        &self,
        identity: &Identity,
        shard: u16,
        was_clean: bool,
        desk: &mut Desk,
    ) -> Result<Worker, StorageError> {
        let config = ShardConfig {
            index: shard,
            shards: identity.shards.get(),
            actor: identity.directory.actor(shard),
            former: identity
                .former
                .iter()
                .map(|former| former.actor(shard))
                .collect(),
            home: self.home(),
            timeout: TIMEOUT,
            outbox: OutboxBounds {
                window: desk.plan.outbox_window,
                bytes_max: desk.plan.outbox_bytes,
            },
            cache_bytes: self.plan.cache_bytes,
            value_bytes_max: 1 << 20,
            reads: READS,
            max_skew_ms: MAX_SKEW_MS,
            was_clean,
            entropy: desk.dice.bits(),
        };
        Ok(Worker {
            shard: Shard::open(&*self.storage, config)?,
            queue: VecDeque::new(),
            phase: Phase::Idle,
            handled: VecDeque::new(),
        })
    }

    fn begin(&mut self, process: Process, desk: &mut Desk) {
        desk.trace.line(desk.now, || {
            format!("n{} runs as {}", self.index, process.identity.directory)
        });
        self.process = Some(process);
        self.due_in(desk, TICK, Due::Tick);
        self.due_in(desk, SAVE_INTERVAL, Due::Save);
        if !self.plan.fsync_always {
            self.due_in(desk, self.plan.sync_interval, Due::Sync);
        }
        for peer in (0..desk.plan.regions.len()).filter(|peer| *peer != self.index) {
            self.due_in(desk, Duration::from_millis(1), Due::Dial(peer));
        }
        let shortage = self
            .process
            .as_ref()
            .map(|process| process.inbox.shortage());
        if let Some(shortage) = shortage.filter(|shortage| shortage.is_any()) {
            self.tell_all(|| Input::Short(shortage), desk);
        }
        if self.full > 0 {
            self.tell_all(|| Input::ReadOnly(Some(FULL.to_owned())), desk);
        }
        self.begin_gossip(desk);
    }

    /// A new disk has the faults of the old one.
    fn spoil_again(&mut self) {
        if self.failing > 0 {
            self.storage.fail_syncs(true);
        }
    }

    fn due_in(&self, desk: &mut Desk, pause: Duration, due: Due) {
        let event = Event::Host {
            host: self.index,
            run: self.run,
            due,
        };
        desk.agenda.at(desk.now + pause, event);
    }

    /// Every commit of this host goes through here, so that the ledger knows what is durable.
    fn commit(
        &self,
        batch: &Batch,
        durability: Durability,
        desk: &mut Desk,
    ) -> Result<(), StorageError> {
        self.storage.commit(batch, durability)?;
        let is_synced = durability == Durability::Power;
        let mut trusted = Vec::new();
        if self.unconfirmed.is_none() {
            trusted.extend([self.directory]);
            trusted.extend(&self.closed);
        }
        let rows = desk
            .ledger
            .committed(self.index, batch, is_synced, &trusted, desk.now);
        for row in rows
            .into_iter()
            .filter_map(|row| desk.ledger.rows().get(row))
        {
            desk.trace.row(&row.deltas, desk.now, || {
                format!("n{} row {} {}", self.index, row.actor, row.last)
            });
        }
        Ok(())
    }

    fn durability(&self) -> Durability {
        if self.plan.fsync_always {
            Durability::Power
        } else {
            Durability::Process
        }
    }
}

/// The name of a node by its number.
pub fn name(index: HostIndex) -> NodeName {
    parsed(&format!("n{index}"))
}

/// The actors of a process, own and former.
pub fn actors(process: &Process) -> Vec<ActorId> {
    process.identity.actors().collect()
}

/// The numbers of a process's data directory, the one of today first.
pub fn directories(process: &Process) -> Vec<DirectoryId> {
    let former = process.identity.former.iter().copied();
    std::iter::once(process.identity.directory)
        .chain(former)
        .collect()
}

fn parsed<T: std::str::FromStr>(name: &str) -> T
where
    T::Err: std::fmt::Debug,
{
    name.parse()
        .expect("names of the simulator are made of a letter and a number")
}

/// Small as the sets of the workload are: most reads of one are fixed, and some sets have several pages.
const READS: ReadBounds = ReadBounds {
    rows_at_once: 2,
    page_bytes: 2048,
};
/// What clients are told on a full disk.
pub const FULL: &str = "the disk is nearly full";
/// `clock.max_skew`.
pub const MAX_SKEW_MS: u64 = 1000;
/// Inputs that wait for a shard, at most, before clients are told that it is busy.
const QUEUE_MAX: usize = 256;
/// How long a request waits for other replicas.
const TIMEOUT: Duration = Duration::from_secs(2);
const TICK: Duration = Duration::from_millis(100);
const SAVE_INTERVAL: Duration = Duration::from_secs(1);
const RETRY: Duration = Duration::from_millis(500);
