//! Goal: P1, P3 and P4 where a region has several nodes: what a majority of them acknowledged is there after any of them died, one at a time.
//! Method: clients of all regions write through any node of theirs, up to eight commands in a packet, and note what was acknowledged, removed, or may have happened, while nodes
//! are killed and come back; then all come back, what is owed is taken with nobody's help, and every node is held against the notes.

#![allow(
    clippy::unwrap_used,
    reason = "clippy does not know that helpers of tests are tests"
)]

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        atomic::{AtomicBool, Ordering},
        mpsc::{self, Receiver, RecvTimeoutError},
    },
    thread,
    time::{Duration, Instant},
};

use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use tests::{
    client::{Client, Value},
    world::World,
};

#[test]
fn nothing_acknowledged_is_lost_while_nodes_of_every_region_are_killed() {
    under_kills(
        &REGIONS[..2],
        Duration::from_secs(15),
        Duration::from_secs(1),
    );
}

#[test]
#[ignore = "takes a minute and a half: part of the soak"]
fn nothing_acknowledged_is_lost_in_a_minute_of_kills() {
    under_kills(&REGIONS, Duration::from_secs(60), Duration::from_secs(2));
}

fn under_kills(regions: &[&'static str], lasting: Duration, between: Duration) {
    let world = World::with(|builder| builder.regions(regions.iter().copied()).nodes(3));
    let is_over = AtomicBool::new(false);
    let notes: Vec<Notes> = thread::scope(|scope| {
        let writers: Vec<_> = (0..regions.len() * WRITERS)
            .map(|seed| {
                let region = regions[seed % regions.len()];
                let mut writer = Writer::new(&world, region, seed as u64);
                let is_over = &is_over;
                scope.spawn(move || {
                    while !is_over.load(Ordering::Relaxed) {
                        writer.write();
                    }
                    writer.notes
                })
            })
            .collect();
        let _over = Over(&is_over);
        kill_and_restart(&world, regions, lasting, between);
        is_over.store(true, Ordering::Relaxed);
        writers.into_iter().map(|w| w.join().unwrap()).collect()
    });
    world.await_connected();
    world.await_converged();
    check(&world, &notes);
}

/// Ends the writers, also when the faults could not be made.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Each time, in one region: the node that is dead comes back, or else one of them dies. All are back at the end.
fn kill_and_restart(world: &World, regions: &[&'static str], lasting: Duration, between: Duration) {
    let mut rng = StdRng::seed_from_u64(7);
    let mut dead: BTreeMap<&str, String> = BTreeMap::new();
    let (_never, pace) = mpsc::channel();
    let begun = Instant::now();
    while begun.elapsed() < lasting {
        pause(&pace, between);
        let region = regions[rng.random_range(0..regions.len())];
        if let Some(node) = dead.remove(region) {
            world.restart(&node);
        } else {
            let node = world.nodes_of(region).choose(&mut rng).unwrap().clone();
            world.kill(&node);
            dead.insert(region, node);
        }
    }
    for node in dead.values() {
        world.restart(node);
    }
}

/// The time between two faults is what the test is about; nothing is awaited.
fn pause(pace: &Receiver<()>, between: Duration) {
    assert_eq!(
        pace.recv_timeout(between),
        Err(RecvTimeoutError::Timeout),
        "nobody interrupts"
    );
}

/// What one writer knows of all that it wrote.
#[derive(Debug, Default)]
struct Notes {
    name: u64,
    /// Registers that are written once: those that were acknowledged.
    registers: BTreeSet<u64>,
    /// The number last acknowledged of the register that is written again and again, and those that nobody knows of.
    latest: Option<u64>,
    latest_unknown: BTreeSet<u64>,
    /// Members of the set, by what is known of them.
    members: BTreeSet<u64>,
    removed: BTreeSet<u64>,
    unknown: BTreeSet<u64>,
    /// Per shared counter: how often acknowledged, how often sent.
    counts: [(i64, i64); COUNTERS],
}

/// A client that goes to any node of its region.
struct Writer<'a> {
    world: &'a World,
    nodes: Vec<String>,
    clients: Vec<Option<Client>>,
    rng: StdRng,
    next: u64,
    notes: Notes,
}

impl<'a> Writer<'a> {
    fn new(world: &'a World, region: &str, seed: u64) -> Self {
        let nodes = world.nodes_of(region);
        Self {
            world,
            clients: nodes.iter().map(|_| None).collect(),
            nodes,
            rng: StdRng::seed_from_u64(seed),
            next: 0,
            notes: Notes {
                name: seed,
                ..Notes::default()
            },
        }
    }

    /// Writes a few things in one packet, through any node.
    fn write(&mut self) {
        let count = self.rng.random_range(1..=PIPELINE_MAX);
        let writes: Vec<Write> = (0..count).filter_map(|_| self.think_of_one()).collect();
        let commands: Vec<_> = writes
            .iter()
            .map(|write| self.notes.command(*write))
            .collect();
        let node = self.rng.random_range(0..self.nodes.len());
        let outcomes = self.ask(node, &commands);
        for (write, outcome) in writes.into_iter().zip(outcomes) {
            self.notes.note(write, outcome);
        }
    }

    fn think_of_one(&mut self) -> Option<Write> {
        self.next += 1;
        Some(match self.rng.random_range(0..5) {
            0 => Write::SetOnce(self.next),
            1 => Write::SetLatest(self.next),
            2 => Write::Increment(self.rng.random_range(0..COUNTERS)),
            3 => Write::Add(self.next),
            // The last member that is known to be there, often through another node than the one that added it.
            _ => Write::Remove(self.notes.members.pop_last()?),
        })
    }

    /// What came of each command.
    fn ask(&mut self, node: usize, commands: &[Vec<String>]) -> Vec<Outcome> {
        if self.clients[node].is_none() {
            self.clients[node] = Client::connect(&self.world.resp(&self.nodes[node])).ok();
        }
        let Some(client) = &mut self.clients[node] else {
            return vec![Outcome::Not; commands.len()];
        };
        let mut is_broken = client.send(commands).is_err();
        let mut outcomes = Vec::new();
        for command in commands {
            let reply = if is_broken {
                None
            } else {
                client.receive().ok()
            };
            is_broken |= reply.is_none();
            let through = &self.nodes[node];
            outcomes.push(reply.map_or(Outcome::Unknown, |reply| {
                Outcome::of(&reply, command, through)
            }));
        }
        if is_broken {
            self.clients[node] = None;
        }
        outcomes
    }
}

/// Something that is written.
#[derive(Debug, Clone, Copy)]
enum Write {
    SetOnce(u64),
    SetLatest(u64),
    Increment(usize),
    Add(u64),
    Remove(u64),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Done,
    /// It may take effect, or it has.
    Unknown,
    /// Nothing was written.
    Not,
}

impl Outcome {
    fn of(reply: &Value, command: &[String], node: &str) -> Self {
        let Value::Error(text) = reply else {
            return Self::Done;
        };
        let is_known = text.starts_with("NOQUORUM ") && !text.contains("applied=");
        if is_known || text.starts_with("UNAVAILABLE ") {
            return Self::Not;
        }
        let is_unknown = text.starts_with("TIMEOUT ") || text.starts_with("NOQUORUM ");
        assert!(is_unknown, "{command:?} through {node} gave {text}");
        Self::Unknown
    }
}

fn check(world: &World, notes: &[Notes]) {
    let acknowledged: usize = notes.iter().map(|notes| notes.registers.len()).sum();
    assert!(acknowledged > 100, "only {acknowledged} registers");
    for node in world.nodes() {
        let mut client = world.client(&node);
        // Each replica is held against the notes by itself.
        client.call(&["CONSISTENCY", "READ", "ONE"]);
        for notes in notes {
            notes.check_registers(&mut client, &node);
            notes.check_members(&mut client, &node);
        }
        for nth in 0..COUNTERS {
            let sum = |of: fn(&(i64, i64)) -> i64| notes.iter().map(|n| of(&n.counts[nth])).sum();
            let (low, high): (i64, i64) = (sum(|count| count.0), sum(|count| count.1));
            let found = client.text(&["GET", &counter(nth)]).unwrap_or_default();
            let count: i64 = found.parse().unwrap_or_default();
            assert!(
                (low..=high).contains(&count),
                "{node}: {low} ≤ {count} ≤ {high}"
            );
        }
    }
}

impl Notes {
    fn command(&self, write: Write) -> Vec<String> {
        let words =
            |name: &str, key, argument: u64| vec![name.to_owned(), key, argument.to_string()];
        match write {
            Write::SetOnce(number) => words("SET", self.register(number), number),
            Write::SetLatest(number) => words("SET", self.latest_key(), number),
            Write::Increment(nth) => words("INCRBY", counter(nth), 1),
            Write::Add(member) => words("SADD", self.set_key(), member),
            Write::Remove(member) => words("SREM", self.set_key(), member),
        }
    }

    fn note(&mut self, write: Write, outcome: Outcome) {
        match (write, outcome) {
            (Write::Increment(nth), outcome) => {
                let (acknowledged, sent) = &mut self.counts[nth];
                *acknowledged += i64::from(outcome == Outcome::Done);
                *sent += i64::from(outcome != Outcome::Not);
            }
            (Write::SetOnce(number), Outcome::Done) => drop(self.registers.insert(number)),
            (Write::SetLatest(number), Outcome::Done) => self.latest = Some(number),
            (Write::SetLatest(number), Outcome::Unknown) => {
                self.latest_unknown.insert(number);
            }
            (Write::Add(member), Outcome::Done) | (Write::Remove(member), Outcome::Not) => {
                self.members.insert(member);
            }
            (Write::Remove(member), Outcome::Done) => drop(self.removed.insert(member)),
            (Write::Add(member) | Write::Remove(member), Outcome::Unknown) => {
                self.unknown.insert(member);
            }
            (Write::SetOnce(_), _) | (Write::SetLatest(_) | Write::Add(_), Outcome::Not) => {}
        }
    }

    fn register(&self, number: u64) -> String {
        format!("register:{}:{number}", self.name)
    }

    fn latest_key(&self) -> String {
        format!("latest:{}", self.name)
    }

    fn set_key(&self) -> String {
        format!("set:{}", self.name)
    }

    fn check_registers(&self, client: &mut Client, node: &str) {
        for number in &self.registers {
            let key = self.register(*number);
            let found = client.text(&["GET", &key]);
            assert_eq!(found, Some(number.to_string()), "{node}: {key}");
        }
        let found = client.text(&["GET", &self.latest_key()]);
        let number = found.as_deref().map(|text| text.parse().unwrap());
        let is_possible = number == self.latest
            || number.is_some_and(|number| self.latest_unknown.contains(&number));
        assert!(
            is_possible,
            "{node}: {} is {found:?}, of {:?} and {:?}",
            self.latest_key(),
            self.latest,
            self.latest_unknown
        );
    }

    fn check_members(&self, client: &mut Client, node: &str) {
        let key = self.set_key();
        let found = client.texts(&["SMEMBERS", &key]);
        let present: BTreeSet<u64> = found.iter().map(|text| text.parse().unwrap()).collect();
        let lost = self.members.difference(&present).next();
        assert_eq!(lost, None, "{node}: {key} lacks an acknowledged member");
        let back = self.removed.intersection(&present).next();
        assert_eq!(back, None, "{node}: {key} has a removed member again");
        let mut strange = present.difference(&self.members);
        let unheard = strange.find(|member| !self.unknown.contains(member));
        assert_eq!(unheard, None, "{node}: {key} has what was never added");
    }
}

fn counter(nth: usize) -> String {
    format!("count:{nth}")
}

const REGIONS: [&str; 3] = ["us", "eu", "ap"];
/// In each region.
const WRITERS: usize = 2;
const COUNTERS: usize = 4;
/// Commands in one packet, at most.
const PIPELINE_MAX: usize = 8;
