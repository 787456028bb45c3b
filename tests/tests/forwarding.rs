//! Goal: where a region has more nodes than replicas, every node takes every command, with one of them dead or silent too.
//! Method: five nodes, three replicas. Each node is told and asked everything, with keys of many partitions, so that it holds some and not others.

#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, its helpers too"
)]

use std::collections::BTreeSet;

use region_sim::live::Replicas;
use tests::{
    client::{Client, Value},
    hostile::Site,
    patience::{eventually, holds},
    world::{LIMIT, World},
};

#[test]
fn any_node_takes_any_command_with_one_of_them_dead_too() {
    let world = World::with(|builder| {
        let builder = builder.regions(["us"]).nodes(5).replicas(3);
        builder.set("consistency.timeout", "20s")
    });
    let nodes = world.nodes();
    assert_eq!(nodes.len(), 5);
    takes_everything(&world, &nodes, "all alive");

    let (dead, living) = nodes.split_last().unwrap();
    world.kill(dead);
    for node in living {
        world.await_missed(node, dead);
    }
    takes_everything(&world, living, "one dead");

    // What was flushed while it was away does not come back with it.
    world.restart(dead);
    world.await_connected();
    world.await_no_hints();
    for node in &nodes {
        says(&mut world.client(node), &["DBSIZE"], &Value::Int(0));
    }
    takes_everything(&world, &nodes, "it returned");
}

#[test]
fn each_region_keeps_its_own_number_of_replicas() {
    let replicas: Replicas = "us=2,eu=1,ap=0".parse().unwrap();
    let world = World::with(|builder| {
        let builder = builder.regions(["us", "eu", "ap"]).nodes(2);
        builder.replicas(replicas)
    });
    let kept = ["us", "eu", "ap"].map(|region| world.replicas_of(region, "k").len());
    assert_eq!(kept, [2, 1, 0]);
    let nodes = world.nodes();
    for node in &nodes {
        says(
            &mut world.client(node),
            &["AT", "ALL", "SET", "k", node],
            &ok(),
        );
        for other in &nodes {
            says(&mut world.client(other), &["GET", "k"], &bulk(node));
        }
    }
}

#[test]
fn reads_do_not_wait_for_a_node_that_hangs() {
    let world = World::with(|builder| {
        let builder = builder.regions(["us"]).nodes(5).replicas(3);
        // Sooner than a session to a silent node ends.
        builder.set("consistency.timeout", "2800ms")
    });
    let (asked, hangs) = ("us-1", "us-2");
    let mut client = world.client(asked);
    let keys: Vec<_> = (0..SCANNED).map(|n| format!("key {n}")).collect();
    for key in &keys {
        says(&mut client, &["AT", "ALL", "SET", key, "v"], &ok());
    }
    let would_ask_it = |key: &&String| {
        let replicas = world.replicas_of("us", key);
        replicas[0] == hangs && replicas.iter().all(|node| node != asked)
    };
    let mut awkward = keys.iter().filter(would_ask_it);
    let key = awkward.next().unwrap();
    world.pause(hangs);
    says(&mut client, &["AT", "ONE", "GET", key], &bulk("v"));
    says(&mut client, &["GET", awkward.next().unwrap()], &bulk("v"));
    says(&mut client, &["DBSIZE"], &Value::Int(SCANNED));
    assert_eq!(texts(&mut client, &["KEYS", "*"]).len(), keys.len());
    assert!(client.text(&["RANDOMKEY"]).is_some());
    world.resume(hangs);
}

/// Its clients are served by a region that keeps keys; when that one dies, by another one.
#[test]
fn a_region_that_keeps_nothing_forwards_everything() {
    let site = Site::new();
    let plan = |name| site.node(name).set("regions.ap", "0");
    let us = plan("us-1").start();
    let eu = plan("eu-1").seed(us.quic).start();
    let ap = plan("ap-1").seed(us.quic).start();
    let comes_to_be_ready = |what: &str| {
        eventually(LIMIT, what, || {
            let (code, text) = ap.page("/health/ready");
            holds(code == 200, || text)
        });
    };
    comes_to_be_ready("it is ready for clients");

    let mut client = Client::connect(&ap.resp.to_string()).unwrap();
    says(&mut client, &["SET", "text", "v"], &ok());
    says(&mut client, &["GET", "text"], &bulk("v"));
    changes(&mut client, &["SADD", "set", "x", "y"], 2);
    assert_eq!(texts(&mut client, &["SMEMBERS", "set"]), ["x", "y"]);
    changes(&mut client, &["INCR", "count"], 1);
    says(&mut client, &["DBSIZE"], &Value::Int(3));
    assert_eq!(texts(&mut client, &["KEYS", "*"]).len(), 3);
    let everywhere = ["AT", "EACH_QUORUM", "SET", "text", "w"];
    says(&mut client, &everywhere, &ok());
    assert!(client.call(&["AT", "TWO", "SET", "text", "x"]).is_error());

    let us_again = plan("us-1").at(&us);
    us.kill();
    comes_to_be_served(&mut client, "without the first region");
    let _us = us_again.start();
    eventually(LIMIT, "both regions take writes", || {
        let reply = client.call(&everywhere);
        holds(reply == ok(), || format!("{reply:?}"))
    });
    eu.kill();
    comes_to_be_served(&mut client, "without the second region");
    comes_to_be_ready("it is still ready");
}

fn comes_to_be_served(client: &mut Client, what: &str) {
    eventually(LIMIT, what, || {
        let reply = client.call(&["SET", "text", what]);
        holds(reply == ok(), || format!("{reply:?}"))
    });
    says(client, &["GET", "text"], &bulk(what));
}

fn takes_everything(world: &World, nodes: &[String], when: &str) {
    let mut clients: Vec<_> = nodes.iter().map(|node| world.client(node)).collect();
    for (writer, node) in nodes.iter().enumerate() {
        let name = format!("{when}, by {node}");
        one_key(&mut clients, writer, &name);
        several_keys(&mut clients, writer, &name);
        sets(&mut clients, writer, &name);
    }
    for flusher in [0, clients.len() - 1] {
        says(&mut clients[flusher], &["FLUSHALL"], &ok());
        await_everywhere_taken(world, nodes);
        nothing_is_left(&mut clients, when);
        if flusher == 0 {
            fill(&mut clients, when);
            await_everywhere_taken(world, nodes);
            the_whole_keyspace(&mut clients, when);
        }
    }
}

/// Commands about all keys ask one replica of each, the last of which hears of a write a moment after it was acknowledged.
fn await_everywhere_taken(world: &World, living: &[String]) {
    for node in living {
        eventually(LIMIT, "the living have taken all", || {
            let nodes = world.status(node).nodes;
            let mut owed = nodes.iter().filter(|other| other.hints > 0);
            let is_owed = owed.any(|other| living.iter().any(|name| *name == other.name.as_str()));
            holds(!is_owed, || format!("{node} keeps {nodes:?}"))
        });
    }
}

/// What one node writes, every node reads.
fn one_key(clients: &mut [Client], writer: usize, name: &str) {
    for number in 0..KEYS_EACH {
        let (text, count) = (format!("{name} text {number}"), format!("{name} {number}"));
        let value = number.to_string();
        says(&mut clients[writer], &["SET", &text, &value], &ok());
        for (sum, client) in (1..).zip(&mut *clients) {
            says(client, &["GET", &text], &bulk(&value));
            client.call(&["INCR", &count]);
            says(client, &["GET", &count], &bulk(&sum.to_string()));
        }
        changes(&mut clients[writer], &["DEL", &text], 1);
        for client in &mut *clients {
            says(client, &["GET", &text], &Value::Nil);
        }
    }
}

fn several_keys(clients: &mut [Client], writer: usize, name: &str) {
    let keys: Vec<_> = (0..MANY).map(|n| format!("{name} many {n}")).collect();
    let mut mset = vec!["MSET"];
    let mut mget = vec!["MGET"];
    for key in &keys {
        mset.extend([key.as_str(), key.as_str()]);
        mget.push(key);
    }
    says(&mut clients[writer], &mset, &ok());
    let all = Value::Array(keys.iter().map(|key| bulk(key)).collect());
    for client in &mut *clients {
        says(client, &mget, &all);
    }
    let mut del = mget.clone();
    del[0] = "DEL";
    let next = (writer + 1) % clients.len();
    changes(&mut clients[next], &del, MANY);
    let none = Value::Array(vec![Value::Nil; keys.len()]);
    for client in &mut *clients {
        says(client, &mget, &none);
    }
}

/// Sets of different partitions, whose replicas differ.
fn sets(clients: &mut [Client], writer: usize, name: &str) {
    let keys: Vec<_> = (0..4).map(|n| format!("{name} set {n}")).collect();
    for (n, key) in keys.iter().enumerate() {
        let own = format!("only {n}");
        let add = ["SADD", key, "shared", "both", &own];
        changes(&mut clients[writer], &add, 3);
    }
    let mut sinter = vec!["SINTER"];
    sinter.extend(keys.iter().map(String::as_str));
    for client in &mut *clients {
        assert_eq!(texts(client, &sinter), ["both", "shared"], "{name}");
        let members = texts(client, &["SMEMBERS", &keys[1]]);
        assert_eq!(members, ["both", "only 1", "shared"], "{name}");
    }
    let next = (writer + 1) % clients.len();
    changes(&mut clients[next], &["SREM", &keys[3], "both"], 1);
    for client in &mut *clients {
        assert_eq!(texts(client, &sinter), ["shared"], "{name}");
    }
}

fn all_keys(when: &str) -> BTreeSet<String> {
    (0..SCANNED).map(|n| format!("{when} key {n}")).collect()
}

fn fill(clients: &mut [Client], when: &str) {
    for (n, key) in all_keys(when).iter().enumerate() {
        let writer = n % clients.len();
        says(&mut clients[writer], &["SET", key, "v"], &ok());
    }
}

fn the_whole_keyspace(clients: &mut [Client], when: &str) {
    let keys = all_keys(when);
    for client in &mut *clients {
        says(client, &["DBSIZE"], &Value::Int(SCANNED));
        assert!(texts(client, &["KEYS", "*"]).iter().eq(&keys), "{when}");
        let any = client.text(&["RANDOMKEY"]).unwrap();
        assert!(keys.contains(&any), "{when}: {any}");
    }
    for first in 0..clients.len() {
        let mut found = scan_over(clients, first);
        found.sort();
        assert!(found.iter().eq(&keys), "{when}: {found:?}");
    }
}

/// A walk over all keys that asks another node for every page.
fn scan_over(clients: &mut [Client], first: usize) -> Vec<String> {
    let (mut found, mut cursor) = (Vec::new(), "0".to_owned());
    for turn in first.. {
        let client = turn % clients.len();
        let reply = clients[client].call(&["SCAN", &cursor, "COUNT", "7"]);
        let Value::Array(parts) = &reply else {
            panic!("SCAN {cursor} gave {reply:?}");
        };
        let [next, Value::Array(keys)] = &parts[..] else {
            panic!("SCAN {cursor} gave {reply:?}");
        };
        found.extend(keys.iter().filter_map(Value::text));
        cursor = next.text().unwrap();
        if cursor == "0" {
            break;
        }
    }
    found
}

fn says(client: &mut Client, command: &[&str], expected: &Value) {
    assert_eq!(client.call(command), *expected, "{command:?}");
}

/// A command that says how much it changed.
fn changes(client: &mut Client, command: &[&str], count: i64) {
    says(client, command, &Value::Int(count));
}

fn texts(client: &mut Client, command: &[&str]) -> Vec<String> {
    let reply = client.call(command);
    let Value::Array(items) = reply else {
        panic!("{command:?} gave {reply:?}");
    };
    let mut texts: Vec<_> = items.iter().filter_map(Value::text).collect();
    texts.sort();
    texts
}

fn bulk(text: &str) -> Value {
    Value::Bulk(text.into())
}

fn nothing_is_left(clients: &mut [Client], when: &str) {
    for client in clients {
        says(client, &["DBSIZE"], &Value::Int(0));
        says(client, &["RANDOMKEY"], &Value::Nil);
        assert!(texts(client, &["KEYS", "*"]).is_empty(), "{when}");
    }
}

fn ok() -> Value {
    Value::Simple("OK".into())
}

const KEYS_EACH: usize = 5;
const MANY: i64 = 30;
const SCANNED: i64 = 200;
