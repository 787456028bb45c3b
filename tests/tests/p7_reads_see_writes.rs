//! Goal: P7, inside a region a read sees every write acknowledged before it began, and no acknowledged write is undone by one acknowledged before
//! it began, whichever nodes are asked and whatever their clocks say.
//! Method: three nodes whose clocks are 600 ms apart, one of them being killed or coming back all the time; rounds of writes and reads through
//! different nodes, each round with keys of its own, because a write that failed may take effect later.

use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
};

use tests::{
    client::{Client, Value},
    world::World,
};

const NODES: [&str; 3] = ["us-1", "us-2", "us-3"];

#[test]
fn a_read_sees_what_was_acknowledged_and_the_later_write_wins() {
    let world = World::with(|builder| builder.regions(["us"]).nodes(3));
    for (node, offset_ms) in NODES.into_iter().zip([300, -300, 0]) {
        world
            .cluster()
            .skew(node, offset_ms)
            .expect("a clock is set");
    }
    let faults = AtomicU64::new(0);
    let is_over = AtomicBool::new(false);
    let checked = thread::scope(|scope| {
        scope.spawn(|| kill_one_at_a_time(&world, &faults, &is_over));
        let _over = Over(&is_over);
        let mut trial = Trial::new(&world);
        let mut rounds = 0;
        while rounds < ROUNDS || faults.load(Ordering::Relaxed) < FAULTS {
            trial.round(rounds);
            rounds += 1;
        }
        trial.checked
    });
    // Most rounds are whole, or the test says little.
    assert!(
        checked > ROUNDS,
        "{checked} reads were held against a write"
    );
    world.await_converged();
}

/// Ends the faults with the rounds, also with those that fail.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Every other time the node is back before anybody has missed it.
fn kill_one_at_a_time(world: &World, faults: &AtomicU64, is_over: &AtomicBool) {
    for (turn, dead) in NODES.into_iter().cycle().enumerate() {
        if is_over.load(Ordering::Relaxed) {
            return;
        }
        let others = NODES.iter().filter(|node| **node != dead);
        world.kill(dead);
        if turn % 2 == 0 {
            others
                .clone()
                .for_each(|node| world.await_missed(node, dead));
        }
        world.restart(dead);
        others.for_each(|node| world.await_up(node, &[dead]));
        world.await_up(dead, &NODES);
        faults.fetch_add(1, Ordering::Relaxed);
    }
}

/// The rounds, and how many reads had an answer that could be wrong.
struct Trial<'a> {
    world: &'a World,
    clients: [Option<Client>; 3],
    checked: u64,
}

impl<'a> Trial<'a> {
    fn new(world: &'a World) -> Self {
        Self {
            world,
            clients: [None, None, None],
            checked: 0,
        }
    }

    /// One of each kind through each two nodes in turn. Where a command fails, what follows it says nothing.
    fn round(&mut self, round: u64) {
        let pairs = [(0, 1), (1, 0), (0, 2), (2, 0), (1, 2), (2, 1)];
        let (first, second) = pairs[usize::try_from(round).unwrap_or_default() % pairs.len()];
        let key = |kind: &str| format!("{kind}:{round}");
        let _ = self.the_later_set_wins(&key("set"), first, second);
        let _ = self.a_delete_is_not_undone(&key("del"), first, second);
        let _ = self.a_remove_is_not_undone(&key("srem"), first, second);
        let _ = self.an_add_is_seen(&key("sadd"), first);
        let _ = self.every_increment_is_counted(&key("incr"), first);
    }

    fn the_later_set_wins(&mut self, key: &str, first: usize, second: usize) -> Option<()> {
        self.ask(first, &["SET", key, "first"])?;
        self.reads(&["GET", key], &bulk("first"));
        self.ask(second, &["SET", key, "second"])?;
        self.reads(&["GET", key], &bulk("second"));
        Some(())
    }

    fn a_delete_is_not_undone(&mut self, key: &str, first: usize, second: usize) -> Option<()> {
        self.ask(first, &["SET", key, "first"])?;
        self.ask(second, &["DEL", key])?;
        self.reads(&["GET", key], &Value::Nil);
        self.ask(first, &["SET", key, "again"])?;
        self.reads(&["GET", key], &bulk("again"));
        Some(())
    }

    fn a_remove_is_not_undone(&mut self, key: &str, first: usize, second: usize) -> Option<()> {
        self.ask(first, &["SADD", key, "x", "y"])?;
        let removed = self.ask(second, &["SREM", key, "x"])?;
        assert_eq!(removed, Value::Int(1), "{key} through {}", NODES[second]);
        self.reads(&["SISMEMBER", key, "x"], &Value::Int(0));
        self.reads(&["SMEMBERS", key], &Value::Array(vec![bulk("y")]));
        self.reads(&["SCARD", key], &Value::Int(1));
        Some(())
    }

    fn an_add_is_seen(&mut self, key: &str, first: usize) -> Option<()> {
        self.ask(first, &["SADD", key, "x"])?;
        self.reads(&["SISMEMBER", key, "x"], &Value::Int(1));
        self.reads(&["SMEMBERS", key], &Value::Array(vec![bulk("x")]));
        self.reads(&["SCARD", key], &Value::Int(1));
        Some(())
    }

    fn every_increment_is_counted(&mut self, key: &str, first: usize) -> Option<()> {
        for nth in 0..NODES.len() {
            self.ask((first + nth) % NODES.len(), &["INCRBY", key, "2"])?;
        }
        self.reads(&["GET", key], &bulk("6"));
        Some(())
    }

    /// Asks every node; those that answer must all say this.
    fn reads(&mut self, command: &[&str], expected: &Value) {
        for (node, name) in NODES.iter().enumerate() {
            if let Some(found) = self.ask(node, command) {
                assert_eq!(found, *expected, "{command:?} through {name}");
                self.checked += 1;
            }
        }
    }

    /// Nothing if nobody knows what came of it.
    fn ask(&mut self, node: usize, command: &[&str]) -> Option<Value> {
        if self.clients[node].is_none() {
            self.clients[node] = Client::connect(&self.world.resp(NODES[node])).ok();
        }
        let Ok(reply) = self.clients[node].as_mut()?.try_call(command) else {
            self.clients[node] = None;
            return None;
        };
        match reply {
            Value::Error(text) if UNKNOWN.iter().any(|word| text.starts_with(word)) => None,
            Value::Error(text) => panic!("{command:?} through {} gave {text}", NODES[node]),
            reply => Some(reply),
        }
    }
}

fn bulk(text: &str) -> Value {
    Value::Bulk(text.into())
}

const ROUNDS: u64 = 300;
/// Each node twice.
const FAULTS: u64 = 6;
/// What a command says that may have taken effect, or could not.
const UNKNOWN: [&str; 3] = ["NOQUORUM ", "TIMEOUT ", "UNAVAILABLE "];
