//! Goal: P1, P3 and P4 where a region has several nodes: what a majority of them acknowledged is there after any of them died, one at a time.
//! Method: clients of all regions write through any node of theirs and note what was acknowledged, removed, or may have happened, while nodes
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
    under_kills(Duration::from_secs(15), Duration::from_secs(1));
}

#[test]
#[ignore = "takes a minute and a half: part of the soak"]
fn nothing_acknowledged_is_lost_in_a_minute_of_kills() {
    under_kills(Duration::from_secs(60), Duration::from_secs(2));
}

fn under_kills(lasting: Duration, between: Duration) {
    let world = World::with(|builder| builder.regions(REGIONS).nodes(3));
    let is_over = AtomicBool::new(false);
    let notes: Vec<Notes> = thread::scope(|scope| {
        let writers: Vec<_> = (0..WRITERS)
            .map(|seed| {
                let region = REGIONS[seed % REGIONS.len()];
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
        kill_and_restart(&world, lasting, between);
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
fn kill_and_restart(world: &World, lasting: Duration, between: Duration) {
    let mut rng = StdRng::seed_from_u64(7);
    let mut dead: BTreeMap<&str, String> = BTreeMap::new();
    let (_never, pace) = mpsc::channel();
    let begun = Instant::now();
    while begun.elapsed() < lasting {
        pause(&pace, between);
        let region = REGIONS[rng.random_range(0..REGIONS.len())];
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

    fn write(&mut self) {
        self.next += 1;
        match self.rng.random_range(0..5) {
            0 => self.set_once(),
            1 => self.set_latest(),
            2 => self.increment(),
            3 => self.add(),
            _ => self.remove(),
        }
    }

    fn set_once(&mut self) {
        let (number, key) = (self.next, self.notes.register(self.next));
        if self.ask(&["SET", &key, &number.to_string()]) == Outcome::Done {
            self.notes.registers.insert(number);
        }
    }

    fn set_latest(&mut self) {
        let (number, key) = (self.next, self.notes.latest_key());
        match self.ask(&["SET", &key, &number.to_string()]) {
            Outcome::Done => self.notes.latest = Some(number),
            Outcome::Unknown => drop(self.notes.latest_unknown.insert(number)),
            Outcome::Not => {}
        }
    }

    fn increment(&mut self) {
        let nth = self.rng.random_range(0..COUNTERS);
        let outcome = self.ask(&["INCR", &counter(nth)]);
        let (acknowledged, sent) = &mut self.notes.counts[nth];
        *acknowledged += i64::from(outcome == Outcome::Done);
        *sent += i64::from(outcome != Outcome::Not);
    }

    fn add(&mut self) {
        let (member, key) = (self.next, self.notes.set_key());
        match self.ask(&["SADD", &key, &member.to_string()]) {
            Outcome::Done => drop(self.notes.members.insert(member)),
            Outcome::Unknown => drop(self.notes.unknown.insert(member)),
            Outcome::Not => {}
        }
    }

    /// Removes the last member that is known to be there, often through another node than the one that added it.
    fn remove(&mut self) {
        let Some(&member) = self.notes.members.last() else {
            return;
        };
        let key = self.notes.set_key();
        let outcome = self.ask(&["SREM", &key, &member.to_string()]);
        if outcome == Outcome::Not {
            return;
        }
        self.notes.members.remove(&member);
        let to = match outcome {
            Outcome::Done => &mut self.notes.removed,
            Outcome::Unknown | Outcome::Not => &mut self.notes.unknown,
        };
        to.insert(member);
    }

    fn ask(&mut self, command: &[&str]) -> Outcome {
        let node = self.rng.random_range(0..self.nodes.len());
        if self.clients[node].is_none() {
            self.clients[node] = Client::connect(&self.world.resp(&self.nodes[node])).ok();
        }
        let Some(client) = &mut self.clients[node] else {
            return Outcome::Not;
        };
        let Ok(reply) = client.try_call(command) else {
            self.clients[node] = None;
            return Outcome::Unknown;
        };
        let Value::Error(text) = reply else {
            return Outcome::Done;
        };
        let is_known = text.starts_with("NOQUORUM ") && !text.contains("applied=");
        if is_known || text.starts_with("UNAVAILABLE ") {
            return Outcome::Not;
        }
        let is_unknown = text.starts_with("TIMEOUT ") || text.starts_with("NOQUORUM ");
        assert!(
            is_unknown,
            "{command:?} through {} gave {text}",
            self.nodes[node]
        );
        Outcome::Unknown
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Done,
    /// It may take effect, or it has.
    Unknown,
    /// Nothing was written.
    Not,
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

const REGIONS: [&str; 2] = ["us", "eu"];
/// Two in each region.
const WRITERS: usize = 4;
const COUNTERS: usize = 4;
