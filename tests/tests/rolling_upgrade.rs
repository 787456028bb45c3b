//! Goal: the nodes of a loaded cluster are upgraded one after the other, and no request at LOCAL_QUORUM fails.
//! Method: three regions of three nodes run the build that `MERIDIAN_BEFORE` names (the long tier builds the last one before the newest
//! format; without it, a copy of this build). A client of each node writes, counts and reads back, and turns to the next node of its region
//! when its connection is closed, as every pool of connections does. Every reply is what it has to be, and in the end everything is everywhere.

#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, its helpers too"
)]

use std::{
    fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use region_sim::live::find_program;
use tempfile::TempDir;
use tests::{
    client::{Client, Value},
    world::{REGIONS, World},
};

/// A program under another path than this build's.
fn before(place: &TempDir) -> PathBuf {
    if let Some(path) = std::env::var_os("MERIDIAN_BEFORE") {
        return path.into();
    }
    let copy = place.path().join("meridian");
    fs::copy(find_program(None).unwrap(), &copy).unwrap();
    copy
}

/// A client that has one key and one counter, and the nodes of its region to choose from.
struct Customer {
    name: String,
    addresses: Vec<String>,
    client: Client,
    /// Rounds that were answered in full.
    rounds: u64,
    /// Requests whose connection was closed before they were answered: the next node got them again.
    repeated: u64,
}

impl Customer {
    /// One of the node at the front of `addresses`.
    fn new(name: String, addresses: Vec<String>) -> Self {
        let client = Client::connect(&addresses[0]).unwrap();
        Self {
            name,
            addresses,
            client,
            rounds: 0,
            repeated: 0,
        }
    }

    /// Asks until there is a reply, at whichever node.
    fn ask(&mut self, command: &[&str]) -> Value {
        let command = [&["AT", "LOCAL_QUORUM"], command].concat();
        loop {
            match self.client.try_call(&command) {
                Ok(reply) => return reply,
                Err(_) => self.turn_to_another(),
            }
        }
    }

    fn turn_to_another(&mut self) {
        self.repeated += 1;
        assert!(self.repeated <= REPEATED_MAX, "{} finds no node", self.name);
        loop {
            self.addresses.rotate_left(1);
            if let Ok(client) = Client::connect(&self.addresses[0]) {
                self.client = client;
                return;
            }
        }
    }

    fn round(&mut self) {
        let (text, counter) = (self.text(), self.counter());
        let round = self.rounds.to_string();
        let ok = Value::Simple("OK".to_owned());
        assert_eq!(self.ask(&["SET", &text, &round]), ok, "SET {text}");
        let read = self.ask(&["GET", &text]);
        assert_eq!(read.text(), Some(round), "GET {text}");
        let Value::Int(total) = self.ask(&["INCR", &counter]) else {
            panic!("INCR {counter} was refused");
        };
        self.rounds += 1;
        let counted = u64::try_from(total).unwrap();
        // What was repeated may have been counted both times.
        let expected = self.rounds..=self.rounds + self.repeated;
        assert!(
            expected.contains(&counted),
            "{counter} is {counted}, not {expected:?}"
        );
    }

    fn text(&self) -> String {
        format!("{}:text", self.name)
    }

    fn counter(&self) -> String {
        format!("{}:counter", self.name)
    }

    /// Its key and its counter are everywhere as it left them.
    fn check(&self, world: &World) {
        for node in world.nodes() {
            let mut client = world.client(&node);
            let text = client.text(&["AT", "LOCAL_QUORUM", "GET", &self.text()]);
            let last = (self.rounds - 1).to_string();
            assert_eq!(text, Some(last), "{} at {node}", self.text());
            let counted = client.text(&["AT", "LOCAL_QUORUM", "GET", &self.counter()]);
            let counted: u64 = counted.unwrap().parse().unwrap();
            let expected = self.rounds..=self.rounds + self.repeated;
            assert!(
                expected.contains(&counted),
                "{} at {node}: {counted}",
                self.counter()
            );
        }
    }
}

/// A customer of every node.
fn customers(world: &World) -> Vec<Customer> {
    let mut customers = Vec::new();
    for region in REGIONS {
        let mut addresses: Vec<String> = world
            .nodes_of(region)
            .iter()
            .map(|node| world.resp(node))
            .collect();
        for node in world.nodes_of(region) {
            customers.push(Customer::new(
                format!("customer of {node}"),
                addresses.clone(),
            ));
            addresses.rotate_left(1);
        }
    }
    customers
}

fn upgrade_all(world: &World, program: &Path) {
    for node in world.nodes() {
        world.upgrade(&node, program);
        world.await_connected();
    }
}

#[test]
fn no_request_fails_while_one_node_after_the_other_is_upgraded() {
    let place = TempDir::new().unwrap();
    let before = before(&place);
    let after = find_program(None).unwrap();
    let world = World::with(|builder| builder.nodes(3).meridian(&before));
    let mut customers = customers(&world);
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        for customer in &mut customers {
            let is_over = &is_over;
            scope.spawn(move || {
                while !is_over.load(Ordering::Relaxed) {
                    customer.round();
                }
            });
        }
        upgrade_all(&world, &after);
        is_over.store(true, Ordering::Relaxed);
    });
    world.await_converged();
    for customer in &customers {
        assert!(customer.rounds > 0, "{} was never served", customer.name);
        customer.check(&world);
    }
    for node in world.cluster_status().nodes {
        assert_eq!(node.program, after, "{}", node.name);
    }
}

/// More than each of nine upgrades can cost a customer.
const REPEATED_MAX: u64 = 100;
