//! Goal: plain load ends in no time-out, whatever the shape of the cluster: with more nodes than replicas, with fewer than a quorum to
//! spare, with unequal numbers of shards.
//! Method: sixteen connections, each writing one key after the other at the default level, no fault anywhere. Acknowledgements of
//! several shards then overtake each other all the time.

#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, its helpers too"
)]

use std::thread;

use tests::{
    client::{Client, Value},
    hostile::{Running, Site, eventually},
    world::World,
};

/// Writes through all these nodes at once; every write is acknowledged.
fn every_write_is_acknowledged(addresses: &[String]) {
    thread::scope(|scope| {
        for connection in 0..CONNECTIONS {
            let address = &addresses[connection % addresses.len()];
            scope.spawn(move || {
                let mut client = Client::connect(address).unwrap();
                for number in 0..WRITES {
                    let key = format!("{connection}:{number}");
                    let reply = client.call(&["SET", &key, "v"]);
                    assert_eq!(reply, Value::Simple("OK".to_owned()), "{key} at {address}");
                }
            });
        }
    });
}

fn load(regions: &[&str], nodes: u16, replicas: u16) {
    let world = World::with(|builder| {
        let builder = builder.regions(regions.iter().copied()).nodes(nodes);
        builder.replicas(replicas).set("storage.shards", "2")
    });
    let addresses: Vec<_> = world.nodes().iter().map(|node| world.resp(node)).collect();
    every_write_is_acknowledged(&addresses);
    world.await_no_hints();
}

#[test]
fn with_five_nodes_and_three_replicas() {
    load(&["us"], 5, 3);
}

#[test]
fn with_four_nodes_and_three_replicas() {
    load(&["us"], 4, 3);
}

#[test]
fn with_three_nodes_and_two_replicas() {
    load(&["us"], 3, 2);
}

#[test]
fn with_two_nodes_and_one_replica_in_two_regions() {
    load(&["us", "eu"], 2, 1);
}

#[test]
fn with_unequal_numbers_of_shards() {
    let site = Site::new();
    let plan = |name: &str, shards: &str| {
        let plan = site.node(name).set("storage.shards", shards);
        plan.set("regions.us", "3").set("regions.eu", "0")
    };
    let first = plan("us-1", "1").start();
    let others = ["us-2", "us-3"].map(|name| plan(name, "2").seed(first.quic).start());
    let nodes: Vec<&Running> = [&first].into_iter().chain(&others).collect();
    for node in &nodes {
        eventually("every node meets its level", || {
            node.client().ask(&["AT", "ALL", "SET", "k", "v"]) == tests::hostile::Reply::ok()
        });
    }
    let addresses: Vec<_> = nodes.iter().map(|node| node.resp.to_string()).collect();
    every_write_is_acknowledged(&addresses);
}

const CONNECTIONS: usize = 16;
const WRITES: usize = 400;
