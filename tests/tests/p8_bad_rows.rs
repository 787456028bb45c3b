//! A stored row that cannot be read: its key gives an error that names it, and everything else goes on.
//!
//! Goal: damage stays where it is.
//! Method: while the node is stopped, the row of one key is given a format version of the future, through the engine itself.

#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, its helpers too"
)]

use std::path::Path;

use node::{
    placement::Position,
    storage::{
        Batch, Durability, Family, Storage,
        record::head,
        rocks::{RocksOptions, RocksStorage},
    },
};
use tests::hostile::{Client, Reply, Running, Site, converge, pair};

/// Gives the row of `key` the version 99.
fn damage(data_dir: &Path, key: &[u8]) {
    let rows = data_dir.join("rocksdb");
    let storage = RocksStorage::open(&rows, RocksOptions::default()).unwrap();
    let stored = head::stored_key(&Position::of(key), key);
    let mut value = storage.get(Family::Head, &stored).unwrap().unwrap();
    value[0] = 99;
    let mut batch = Batch::default();
    batch.put(Family::Head, stored, value);
    storage.commit(&batch, Durability::Power).unwrap();
}

/// Fails unless the damaged key, and only it, is refused by name.
fn only_the_damaged_key_is_refused(client: &mut Client) {
    for words in [
        vec!["GET", "damaged"],
        vec!["SET", "damaged", "new"],
        vec!["INCR", "damaged"],
        vec!["DEL", "damaged"],
        vec!["TYPE", "damaged"],
        vec!["SADD", "damaged", "x"],
    ] {
        let reply = client.ask(&words);
        let error = reply.error();
        assert!(
            error.contains("damaged") && error.contains("99"),
            "{words:?}: {error}"
        );
    }
    assert_eq!(client.ask(&["GET", "whole"]), Reply::bulk("here"));
    assert_eq!(client.ask(&["SADD", "set", "x"]), Reply::Integer(1));
    assert_eq!(client.ask(&["SREM", "set", "x"]), Reply::Integer(1));
}

/// Fails unless writes go both ways.
fn replication_goes_on(us: &Running, eu: &Running, round: &str) {
    // Over the damaged key first: what follows it in the stream must not wait for it.
    assert_eq!(eu.client().ask(&["SET", "damaged", round]), Reply::ok());
    let (there, here) = (format!("there-{round}"), format!("here-{round}"));
    assert_eq!(eu.client().ask(&["SET", &there, round]), Reply::ok());
    us.comes_to_hold(&there, round);
    assert_eq!(us.client().ask(&["SET", &here, round]), Reply::ok());
    eu.comes_to_hold(&here, round);
}

#[test]
fn a_row_of_the_future_is_refused_by_name_and_everything_else_goes_on() {
    let site = Site::new();
    let [(us_plan, us), (_, eu)] = pair(site.node("us-1"), site.node("eu-1"));
    let mut client = us.client();
    for (key, value) in [("damaged", "old"), ("whole", "here"), ("later", "here")] {
        assert_eq!(client.ask(&["SET", key, value]), Reply::ok());
    }
    for number in 0..200 {
        let key = format!("k{number}");
        assert_eq!(
            client.ask(&["SET", &key, "v", "PX", "3600000"]),
            Reply::ok()
        );
    }
    eu.comes_to_hold("later", "here");
    converge(&us, &eu);
    assert!(us.stop().success());

    damage(&us_plan.data_dir(), b"damaged");
    let us = us_plan.start();
    only_the_damaged_key_is_refused(&mut us.client());
    replication_goes_on(&us, &eu, "stopped");
    the_log_is_short(&us);
    us.kill();

    // Its keys are counted after that, and the damaged one is no reason not to start.
    let us = us_plan.start();
    only_the_damaged_key_is_refused(&mut us.client());
    replication_goes_on(&us, &eu, "killed");
    assert_eq!(
        us.client().ask(&["DBSIZE"]),
        eu.client().ask(&["DBSIZE"]).minus(1)
    );
    let Reply::Array(keys) = us.client().ask(&["KEYS", "k1*"]) else {
        panic!("no keys");
    };
    assert_eq!(keys.len(), 111);
    the_log_is_short(&us);
    assert!(us.stop().success());
}

trait Minus {
    fn minus(self, count: i64) -> Self;
}

impl Minus for Reply {
    fn minus(self, count: i64) -> Self {
        match self {
            Self::Integer(number) => Self::Integer(number - count),
            other => panic!("no number: {other:?}"),
        }
    }
}

/// One bad row is told, and not ten times a second.
fn the_log_is_short(node: &Running) {
    node.logged(&["damaged"]);
    let log = node.log();
    assert!(log.lines().count() < 60, "{log}");
}
