//! Clients in every region: each asks any node of its region, one command after another or a few in one packet, and remembers what it was
//! told.

use std::{
    io,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use node::{
    core::{op::Op, reply::Reply},
    level::Level,
};
use redis::{ConnectionLike, RedisError, Value};

use super::{
    command,
    stop::{Stop, StopOnDrop},
};
use crate::{
    live::NodeEntry,
    sim::dice::{Dice, Stream},
    workload::{ClientId, Family, History, Mix, Operation, Outcome, Workload},
};

/// What was asked, and of which node.
#[derive(Debug, Clone, PartialEq)]
pub struct Asked {
    /// The node, by its index in the cluster.
    pub node: usize,
    /// What was asked, and what came of it.
    pub operation: Operation,
}

/// How many commands were answered so far, and how many were not.
#[derive(Debug, Default)]
pub struct Counts {
    /// With a reply.
    pub answered: AtomicU64,
    /// Refused, or nobody knows.
    pub unanswered: AtomicU64,
}

/// How clients are to behave.
#[derive(Debug, Clone)]
pub struct Manners {
    /// What they ask is drawn from it.
    pub seed: u64,
    /// In each region.
    pub clients: u16,
    /// The longest wait between an answer and the next command.
    pub think: Duration,
    /// The levels that are asked for: those of the connection if none.
    pub levels: Vec<Level>,
    /// Whether what a client sends at once is about one key.
    pub is_on_one_key: bool,
}

/// Clients at work.
#[derive(Debug)]
pub struct Clients {
    stop: StopOnDrop,
    counts: Arc<Counts>,
    threads: Vec<JoinHandle<Vec<Asked>>>,
}

/// The doors of the nodes, which come region by region.
fn doors_by_region(nodes: &[NodeEntry]) -> Vec<Vec<Door>> {
    let mut regions: Vec<Vec<Door>> = Vec::new();
    for (index, node) in nodes.iter().enumerate() {
        match regions.last_mut() {
            Some(region) if nodes[region[0].index].region == node.region => {
                region.push(Door::new(index, &node.resp));
            }
            _ => regions.push(vec![Door::new(index, &node.resp)]),
        }
    }
    regions
}

impl Clients {
    /// Starts them; their times are counted from `begun`.
    ///
    /// # Errors
    /// If the system gives no thread.
    pub fn start(nodes: &[NodeEntry], manners: Manners, begun: Instant) -> io::Result<Self> {
        let stop = StopOnDrop::default();
        let counts = Arc::new(Counts::default());
        let source = Arc::new(Mutex::new(Source::new(&manners)));
        let regions = doors_by_region(nodes);
        let mut threads = Vec::new();
        for id in 0..regions.len() * usize::from(manners.clients) {
            let region = id % regions.len();
            let client = Client {
                id,
                region,
                doors: regions[region]
                    .clone()
                    .into_iter()
                    .map(Seen::from)
                    .collect(),
                dice: Dice::new(manners.seed ^ (id as u64 + 1) << 32, Stream::Workload),
                begun,
                think: manners.think,
                source: source.clone(),
                counts: counts.clone(),
                asked: Vec::new(),
            };
            let stop = stop.stop();
            let name = format!("client-{id}");
            threads.push(
                thread::Builder::new()
                    .name(name)
                    .spawn(move || client.run(&stop))?,
            );
        }
        Ok(Self {
            stop,
            counts,
            threads,
        })
    }

    /// How far they are.
    pub fn counts(&self) -> Arc<Counts> {
        self.counts.clone()
    }

    /// Ends them behind what each has asked last, and gives what they know, in the order of asking.
    pub fn finish(self) -> Vec<Asked> {
        drop(self.stop);
        let joined = self.threads.into_iter().flat_map(|thread| {
            thread
                .join()
                .expect("a client does not panic: it indexes what it has built itself")
        });
        let mut asked: Vec<Asked> = joined.collect();
        asked.sort_by_key(|asked| asked.operation.invoked);
        asked
    }
}

/// The history as the oracles read it.
pub fn history(asked: &[Asked]) -> History {
    History {
        operations: asked.iter().map(|asked| asked.operation.clone()).collect(),
    }
}

/// Makes up what clients ask. Half of it is about keys that live through many faults, half about keys that are contended for
/// briefly and then left alone until the end.
#[derive(Debug)]
struct Source {
    dice: Dice,
    long: Epochs,
    brief: Epochs,
}

impl Source {
    fn new(manners: &Manners) -> Self {
        let mut dice = Dice::new(manners.seed, Stream::Workload);
        Self {
            long: Epochs::new("long", dice.bits(), LONG_OPERATIONS, manners),
            brief: Epochs::new("brief", dice.bits(), BRIEF_OPERATIONS, manners),
            dice,
        }
    }

    /// What a client of a region asks next, all at once, and how long it waits afterwards.
    fn next(&mut self, client: ClientId, region: usize, think: Duration) -> (Vec<Op>, Duration) {
        let epochs = if self.dice.chance(500) {
            &mut self.long
        } else {
            &mut self.brief
        };
        let count = epochs.workload.pipeline();
        (
            epochs.pipeline(client, region, count),
            epochs.workload.think(think),
        )
    }
}

/// One mix of commands on a few keys after another.
#[derive(Debug)]
struct Epochs {
    name: &'static str,
    dice: Dice,
    operations: u32,
    levels: Vec<Level>,
    is_on_one_key: bool,
    epoch: u64,
    left: u32,
    workload: Workload,
}

impl Epochs {
    fn new(name: &'static str, seed: u64, operations: u32, manners: &Manners) -> Self {
        let mut dice = Dice::new(seed, Stream::Workload);
        let mut levels = manners.levels.clone();
        if levels.is_empty() {
            levels.push(Level::default());
        }
        let workload = workload(&mut dice, &levels, manners.is_on_one_key);
        Self {
            name,
            dice,
            operations,
            levels,
            is_on_one_key: manners.is_on_one_key,
            epoch: 0,
            left: operations,
            workload,
        }
    }

    /// What a client sends at once.
    fn pipeline(&mut self, client: ClientId, region: usize, count: usize) -> Vec<Op> {
        if self.left < count as u32 {
            self.epoch += 1;
            self.left = self.operations;
            self.workload = workload(&mut self.dice, &self.levels, self.is_on_one_key);
        }
        self.left -= count as u32;
        let wall = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let mut ops: Vec<Op> = Vec::with_capacity(count);
        for _ in 0..count {
            let before = ops.last().map(|op| op.key.clone());
            let wall_ms = wall.as_millis() as u64;
            ops.push(self.workload.next(client, region, wall_ms, before.as_ref()));
        }
        // A key of its own in each epoch: values are unique in one only.
        for op in &mut ops {
            let mut key = op.key.to_vec();
            key.extend_from_slice(format!("@{}{}", self.name, self.epoch).as_bytes());
            op.key = key.into();
        }
        ops
    }
}

fn workload(dice: &mut Dice, levels: &[Level], is_on_one_key: bool) -> Workload {
    let focus = &mut Dice::new(dice.bits(), Stream::Focus);
    let mut mix = Mix::draw(dice, focus);
    // More than one replica: what is exact only for one shard's own order is left out.
    mix.leave_out(Family::Local);
    mix.leave_out(Family::Fading);
    mix.leave_out(Family::Turning);
    mix.levels = levels.to_vec();
    mix.is_on_one_key = is_on_one_key;
    Workload::new(Dice::new(dice.bits(), Stream::Workload), mix)
}

/// Where a node takes clients.
#[derive(Debug, Clone)]
struct Door {
    index: usize,
    url: String,
}

impl Door {
    fn new(index: usize, address: &str) -> Self {
        Self {
            index,
            url: format!("redis://{address}/"),
        }
    }
}

/// A node as one client has met it.
struct Seen {
    door: Door,
    connection: Option<redis::Connection>,
    /// It did not answer: not asked again before this.
    shunned_until: Option<Instant>,
}

impl From<Door> for Seen {
    fn from(door: Door) -> Self {
        Self {
            door,
            connection: None,
            shunned_until: None,
        }
    }
}

impl Seen {
    fn is_shunned(&self) -> bool {
        self.shunned_until
            .is_some_and(|until| Instant::now() < until)
    }

    fn connect(&mut self) -> Option<&mut redis::Connection> {
        if self.connection.is_none() {
            self.connection = connection(&self.door.url, ANSWER_LIMIT).ok();
            if self.connection.is_none() {
                self.shun();
            }
        }
        self.connection.as_mut()
    }

    fn shun(&mut self) {
        self.connection = None;
        self.shunned_until = Some(Instant::now() + SHUNNED);
    }
}

/// A connection to a node, which waits for an answer no longer than this.
///
/// # Errors
/// If nobody listens there.
pub fn connection(url: &str, limit: Duration) -> Result<redis::Connection, RedisError> {
    let connection = redis::Client::open(url)?.get_connection_with_timeout(CONNECT_LIMIT)?;
    connection.set_read_timeout(Some(limit))?;
    connection.set_write_timeout(Some(limit))?;
    Ok(connection)
}

struct Client {
    id: ClientId,
    region: usize,
    doors: Vec<Seen>,
    dice: Dice,
    begun: Instant,
    think: Duration,
    source: Arc<Mutex<Source>>,
    counts: Arc<Counts>,
    asked: Vec<Asked>,
}

impl Client {
    fn run(mut self, stop: &Stop) -> Vec<Asked> {
        let mut pause = Duration::ZERO;
        while !stop.within(pause) && self.asked.len() < ASKED_MAX {
            pause = self.step();
        }
        self.asked
    }

    /// Asks one thing, or a few; gives how long to wait before the next.
    fn step(&mut self) -> Duration {
        let open: Vec<usize> = (0..self.doors.len())
            .filter(|&door| !self.doors[door].is_shunned())
            .collect();
        if open.is_empty() {
            return IDLE;
        }
        let door = *self.dice.pick(&open);
        if self.doors[door].connect().is_none() {
            return Duration::ZERO;
        }
        let (ops, pause) = self
            .source
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .next(self.id, self.region, self.think);
        self.ask(door, ops);
        pause
    }

    fn ask(&mut self, door: usize, ops: Vec<Op>) {
        let seen = &mut self.doors[door];
        let Some(connection) = seen.connection.as_mut() else {
            return;
        };
        let invoked = self.begun.elapsed();
        let replies = answers(connection, &ops);
        let completed = self.begun.elapsed();
        if replies.iter().any(Option::is_none) {
            seen.shun();
        }
        let node = seen.door.index;
        for (op, reply) in ops.into_iter().zip(replies) {
            let mut history = History::default();
            let id = history.invoke(self.id, self.region, op, invoked);
            match &reply {
                Some(reply) => history.complete(id, reply, completed),
                None => history.abandon(id, Outcome::Unknown, completed),
            };
            for operation in history.operations {
                self.count(&operation);
                self.asked.push(Asked { node, operation });
            }
        }
    }

    fn count(&self, operation: &Operation) {
        let count = match operation.outcome {
            Outcome::Replied(_) => &self.counts.answered,
            Outcome::Pending | Outcome::Refused | Outcome::Unknown => &self.counts.unanswered,
        };
        count.fetch_add(1, Ordering::Relaxed);
    }
}

/// The replies to commands that are sent together; `None` where the connection broke or no answer came in time: then it may take effect.
fn answers(connection: &mut redis::Connection, ops: &[Op]) -> Vec<Option<Reply>> {
    let mut pipeline = redis::Pipeline::with_capacity(ops.len());
    for op in ops {
        let mut command = redis::Cmd::new();
        for word in command::arguments(op) {
            command.arg(&word[..]);
        }
        pipeline.add_command(command);
    }
    let packed = pipeline.get_packed_pipeline();
    match connection.req_packed_commands(&packed, 0, ops.len()) {
        Ok(values) if values.len() == ops.len() => {
            let replies = ops.iter().zip(values);
            replies.map(|(op, value)| answer(op, value)).collect()
        }
        _ => vec![None; ops.len()],
    }
}

fn answer(op: &Op, value: Value) -> Option<Reply> {
    match value {
        Value::ServerError(error) => {
            let refusal = command::refusal(error.code(), error.details().unwrap_or_default());
            Some(Reply::Error(refusal))
        }
        value => command::reply(op, value),
    }
}

/// Operations on the keys of a long epoch, and of a brief one.
const LONG_OPERATIONS: u32 = 8_000;
const BRIEF_OPERATIONS: u32 = 500;
/// Operations that one client remembers: it stops asking there.
const ASKED_MAX: usize = 1_000_000;
const CONNECT_LIMIT: Duration = Duration::from_millis(500);
/// More than a node takes until it says `-TIMEOUT`.
const ANSWER_LIMIT: Duration = Duration::from_secs(3);
/// How long a node that did not answer is not asked again.
const SHUNNED: Duration = Duration::from_millis(700);
/// How long a client waits that has nobody to ask.
const IDLE: Duration = Duration::from_millis(100);
