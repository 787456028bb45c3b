//! Goal: a Redis client works unmodified.
//! Method: redis-rs, which introduces itself, pipelines and speaks both versions of the protocol.

#![allow(
    clippy::unwrap_used,
    reason = "clippy does not know that helpers of tests are tests"
)]

use std::collections::{HashMap, HashSet};

use redis::{Commands, Connection, RedisResult};
use tests::{
    patience::{eventually, holds},
    world::{LIMIT, World},
};

fn connect(world: &World, node: &str, parameters: &str) -> Connection {
    let url = format!("redis://{}/{parameters}", world.resp(node));
    redis::Client::open(url).unwrap().get_connection().unwrap()
}

#[test]
fn redis_rs_reads_in_one_region_what_it_wrote_in_another() {
    let world = World::start();
    let mut us = connect(&world, "us-1", "");
    let _: () = us.set("greeting", "hello").unwrap();
    let _: () = us.sadd("set", &["a", "b"]).unwrap();
    let count: i64 = us.incr("count", 41).unwrap();
    assert_eq!(count, 41);
    let mut eu = connect(&world, "eu-1", "");
    eventually(LIMIT, "writes arrive", || {
        let greeting: Option<String> = eu.get("greeting").unwrap();
        let set: HashSet<String> = eu.smembers("set").unwrap();
        let count: Option<i64> = eu.get("count").unwrap();
        let has_all = greeting.as_deref() == Some("hello") && set.len() == 2 && count == Some(41);
        holds(has_all, || format!("{greeting:?} {set:?} {count:?}"))
    });
    let next: i64 = eu.incr("count", 1).unwrap();
    assert_eq!(next, 42);
}

#[test]
fn redis_rs_works_over_both_versions_of_the_protocol() {
    for parameters in ["", "?protocol=resp3"] {
        let world = World::start();
        use_it(&mut connect(&world, "us-1", parameters));
    }
}

fn use_it(redis: &mut Connection) {
    let (one, two): (Option<String>, i64) = redis::pipe()
        .set("one", "1")
        .ignore()
        .get("one")
        .incr("two", 2)
        .query(redis)
        .unwrap();
    assert_eq!((one.as_deref(), two), (Some("1"), 2));
    let bytes: Vec<u8> = (0..=255).collect();
    let _: () = redis.set(&bytes, &bytes).unwrap();
    let read: Vec<u8> = redis.get(&bytes).unwrap();
    assert_eq!(read, bytes);
    let values: Vec<Option<String>> = redis.mget(&["one", "absent"]).unwrap();
    assert_eq!(values, [Some("1".to_owned()), None]);
    let _: () = redis.set_ex("short", "v", 100).unwrap();
    let left: i64 = redis.ttl("short").unwrap();
    assert!((1..=100).contains(&left), "{left}");
    let _: i64 = redis.sadd("members", &["a", "b", "c"]).unwrap();
    let members: HashSet<String> = redis.smembers("members").unwrap();
    assert_eq!(members.len(), 3);
    let keys = redis.scan::<Vec<u8>>().unwrap();
    let found: HashSet<Vec<u8>> = keys.map(|key| key.unwrap()).collect();
    assert_eq!(found.len(), 5, "{found:?}");
    assert!(found.contains(&bytes));
    let refused: RedisResult<i64> = redis.incr("members", 1);
    assert_eq!(refused.unwrap_err().code(), Some("WRONGTYPE"));
    let info: redis::InfoDict = redis::cmd("INFO").query(redis).unwrap();
    let version: Option<String> = info.get("redis_version");
    assert_eq!(version.as_deref(), Some("7.0.15"));
    let settings: HashMap<String, String> = redis::cmd("CONFIG")
        .arg("GET")
        .arg("maxmemory")
        .query(redis)
        .unwrap();
    assert!(settings.len() <= 1, "{settings:?}");
    let removed: i64 = redis.del(&["one", "two", "short", "members"]).unwrap();
    assert_eq!(removed, 4);
}
