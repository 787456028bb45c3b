//! Goal: P7 for reads of many rows. What SMEMBERS, SSCAN or SRANDMEMBER shows, a later read through another replica shows too; and a set
//! that a replica lacks most of is read through either.
//! Method: a region whose first node is 20 ms away from the others, one way. While it is asked for all elements of a set, elements are added
//! through it all the time: what it has and the others do not have yet must not be shown. And a set of 200,000 elements whose rows for the second
//! node were dropped, because they were more than is kept for a node that is away.

use std::{
    collections::BTreeSet,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use region_sim::live::Change;
use tests::{
    client::{Client, Value},
    patience::{eventually, holds},
    world::{LIMIT, World},
};

#[test]
fn what_a_read_of_many_rows_shows_a_later_read_elsewhere_shows_too() {
    let world = World::with(|builder| builder.regions(["us"]).nodes(3));
    for other in ["us-2", "us-3"] {
        let far = Change::rtt(Duration::from_millis(40));
        world
            .cluster()
            .link("us-1", other, far)
            .expect("a link is changed");
    }
    let [mut writer, mut reader] = ["us-1"; 2].map(|node| world.client(node));
    let mut judges = ["us-2", "us-3"].map(|node| world.client(node));
    let mut shown = 0;
    for round in 0..ROUNDS {
        let key = format!("set:{round}");
        // Few rows are read by the shard itself, many beside it.
        let size = if round % 2 == 0 { 3 } else { 500 };
        let old: Vec<String> = (0..size).map(|n| format!("old:{n}")).collect();
        let add: Vec<&str> = ["SADD", &key]
            .into_iter()
            .chain(old.iter().map(String::as_str))
            .collect();
        assert_eq!(writer.call(&add), Value::Int(size));
        let read = match round % 3 {
            0 => vec!["SMEMBERS", &key],
            1 => vec!["SSCAN", &key, "0", "COUNT", "100000"],
            _ => vec!["SRANDMEMBER", &key, "100000"],
        };
        let found = while_adding(&mut writer, &key, || elements(&reader.call(&read)));
        assert!(found.len() >= old.len(), "{read:?} shows {}", found.len());
        shown += found.len() - old.len();
        let ask: Vec<&str> = ["SMISMEMBER", &key]
            .into_iter()
            .chain(found.iter().map(String::as_str))
            .collect();
        let later = judges[usize::from(round % 4 < 2)].call(&ask);
        let there = Value::Array(vec![Value::Int(1); found.len()]);
        assert_eq!(later, there, "{read:?} showed what is on one replica alone");
    }
    println!("{shown} elements were shown that were being added");
}

/// Adds elements for as long as something is read, without waiting for the replies; reads these at last.
fn while_adding<T: Send>(writer: &mut Client, key: &str, read: impl FnOnce() -> T + Send) -> T {
    let is_read = AtomicBool::new(false);
    thread::scope(|scope| {
        let adding = scope.spawn(|| {
            let mut added = 0;
            while !is_read.load(Ordering::Relaxed) && added < ADDED_MAX {
                let element = format!("new:{added}");
                writer
                    .send(&[vec!["SADD", key, &element]])
                    .expect("the connection takes commands");
                added += 1;
            }
            (0..added).for_each(|_| {
                let reply = writer.receive().expect("each command is answered");
                assert_eq!(reply, Value::Int(1));
            });
        });
        let found = read();
        is_read.store(true, Ordering::Relaxed);
        adding.join().expect("elements are added");
        found
    })
}

#[test]
fn a_large_set_that_one_of_two_replicas_lacks_is_read_through_either() {
    let world = World::with(|builder| {
        let builder = builder.regions(["us"]).nodes(2).replicas(2);
        builder.set("hints.max_bytes", "1MiB")
    });
    world.kill("us-2");
    world.await_missed("us-1", "us-2");
    let mut first = world.client("us-1");
    for chunk in 0..LARGE / CHUNK {
        let elements: Vec<String> = (0..CHUNK).map(|n| format!("element:{chunk}:{n}")).collect();
        let add: Vec<&str> = ["AT", "ONE", "SADD", "s"]
            .into_iter()
            .chain(elements.iter().map(String::as_str))
            .collect();
        assert_eq!(first.call(&add), Value::Int(CHUNK));
    }
    eventually(LIMIT, "rows for the dead node are dropped", || {
        let dropped = world.metric("us-1", "meridian_hints_dropped_total", "");
        holds(dropped > 0.0, || format!("{dropped} rows"))
    });
    world.restart("us-2");
    world.await_connected();
    // Each try goes on where the one before was when its time was up.
    for (node, read) in [
        ("us-2", vec!["SCARD", "s"]),
        ("us-1", vec!["EXISTS", "s"]),
        ("us-1", vec!["SMEMBERS", "s"]),
        ("us-2", vec!["SMEMBERS", "s"]),
    ] {
        let mut client = world.client(node);
        let reply = eventually(LIMIT, "the set is read", || match client.call(&read) {
            Value::Error(text) => Err(text),
            reply => Ok(reply),
        });
        match reply {
            Value::Int(1) => assert_eq!(read[0], "EXISTS"),
            Value::Int(count) => assert_eq!(count, LARGE, "{read:?} through {node}"),
            reply => assert_eq!(
                elements(&reply).len() as i64,
                LARGE,
                "{read:?} through {node}"
            ),
        }
    }
    let repairs: f64 = ["us-1", "us-2"]
        .map(|node| world.metric(node, "meridian_read_repairs_total", ""))
        .iter()
        .sum();
    assert!(repairs >= 1.0, "{repairs} reads were repaired");
}

fn elements(reply: &Value) -> BTreeSet<String> {
    let items = match reply {
        Value::Array(items) => match items.as_slice() {
            [_, Value::Array(page)] => page,
            items => items,
        },
        other => panic!("no elements: {other:?}"),
    };
    items.iter().filter_map(Value::text).collect()
}

const ROUNDS: u64 = 48;
/// What the writer has under way, at most.
const ADDED_MAX: u64 = 2_000;
const LARGE: i64 = 200_000;
const CHUNK: i64 = 1_000;
