//! Goal: P2, regions that exchanged everything hold equal content.
//! Method: writes in every region, over good links, bad ones and none at all; then values by value, and digests.

use std::time::Duration;

use region_sim::{link::Loss, live::Change};
use tests::{
    client::Client,
    load::Load,
    patience::{eventually, holds},
    world::{LIMIT, NODES, REGIONS, World},
};

#[test]
fn what_is_written_in_each_region_is_read_in_all() {
    let world = World::start();
    for (node, region) in NODES.into_iter().zip(REGIONS) {
        let mut client = world.client(node);
        client.call(&["SET", region, "written"]);
        client.call(&["SADD", "regions", region]);
        client.call(&["INCR", "count"]);
    }
    for region in REGIONS {
        world.await_everywhere(LIMIT, &["GET", region], "written");
    }
    world.await_everywhere(LIMIT, &["GET", "count"], "3");
    for mut client in world.clients() {
        eventually(LIMIT, "every region's element is everywhere", || {
            let members = client.texts(&["SMEMBERS", "regions"]);
            holds(members == ["ap", "eu", "us"], || format!("{members:?}"))
        });
    }
    world.await_converged();
}

#[test]
fn regions_written_during_a_full_partition_converge_to_one_digest() {
    let world = World::start();
    world.client("us-1").call(&["SET", "shared", "before"]);
    world
        .client("us-1")
        .call(&["SADD", "basket", "bread", "milk"]);
    world.await_converged();
    world.partition_all();

    let loads = NODES.map(|node| Load::start(node, &world.resp(node)));
    for (node, region) in NODES.into_iter().zip(REGIONS) {
        let mut client = world.client(node);
        client.call(&["SET", "shared", region]);
        client.call(&["SADD", "basket", region]);
        client.call(&["INCRBY", "hits", "100"]);
        client.call(&["DECRBY", "hits", "1"]);
        client.call(&["SREM", "basket", "milk"]);
    }
    for load in &loads {
        load.await_acknowledged(6_000);
    }
    let all_written = loads.map(Load::finish);
    // Concurrent with the increments of the others, which it must not take away.
    world.client("ap-1").call(&["SET", "hits", "1000"]);
    for (node, region) in NODES.into_iter().zip(REGIONS) {
        let shared = world.client(node).text(&["GET", "shared"]);
        assert_eq!(shared.as_deref(), Some(region), "nothing crosses a cut");
    }
    world.heal();

    world.await_converged();
    for written in &all_written {
        for mut client in world.clients() {
            written.check(&mut client).unwrap();
        }
    }
    let shared = world.client("us-1").text(&["GET", "shared"]).unwrap();
    assert!(REGIONS.contains(&shared.as_str()), "{shared}");
    world.await_everywhere(LIMIT, &["GET", "shared"], &shared);
    world.await_everywhere(LIMIT, &["GET", "hits"], "1198");
    for mut client in world.clients() {
        let basket = client.texts(&["SMEMBERS", "basket"]);
        assert_eq!(basket, ["ap", "bread", "eu", "us"]);
    }
}

#[test]
fn regions_converge_over_links_that_lose_and_reorder() {
    let world = World::start();
    world.links(Change {
        rtt: Some(Duration::from_millis(40)),
        jitter: Some(Duration::from_millis(20)),
        loss: Some(Loss::from_ppm(50_000).unwrap()),
        rate: None,
    });
    let loads = NODES.map(|node| Load::start(node, &world.resp(node)));
    for load in &loads {
        load.await_acknowledged(9_000);
    }
    let all_written = loads.map(Load::finish);
    world.await_converged();
    for written in &all_written {
        for mut client in world.clients() {
            written.check(&mut client).unwrap();
        }
    }
}

#[test]
fn an_expiry_set_in_one_region_ends_the_key_in_all() {
    let world = World::start();
    let mut origin = world.client("us-1");
    origin.call(&["SET", "short", "v", "PX", "3000"]);
    origin.call(&["SADD", "set", "m"]);
    origin.call(&["PEXPIRE", "set", "3000"]);
    origin.call(&["SET", "kept", "v", "EX", "3"]);
    for mut client in world.clients() {
        eventually(
            LIMIT,
            "the expiry arrives with the key, or the key is gone",
            || {
                let left = client.int(&["PTTL", "set"]);
                holds((0..=3000).contains(&left) || origin_is_past(&world), || {
                    format!("{left} ms")
                })
            },
        );
    }
    world.client("eu-1").call(&["PERSIST", "kept"]);
    for mut client in world.clients() {
        eventually(LIMIT, "the keys end", || {
            let left = client.int(&["EXISTS", "short", "set"]);
            holds(left == 0, || format!("{left} of 2 keys are there"))
        });
    }
    world.await_converged();
    world.await_everywhere(LIMIT, &["GET", "kept"], "v");
}

fn origin_is_past(world: &World) -> bool {
    world.client("us-1").int(&["EXISTS", "set"]) == 0
}

#[test]
fn a_link_that_is_cut_between_two_regions_does_not_keep_either_from_the_third() {
    let world = World::start();
    world.cluster().partition("us", "eu").unwrap();
    for (node, region) in NODES.into_iter().zip(REGIONS) {
        world.client(node).call(&["SADD", "regions", region]);
    }
    let mut ap = world.client("ap-1");
    eventually(LIMIT, "the third has all", || {
        let members = ap.texts(&["SMEMBERS", "regions"]);
        holds(members == ["ap", "eu", "us"], || format!("{members:?}"))
    });
    let mut us = world.client("us-1");
    eventually(LIMIT, "the third is heard", || {
        let members = us.texts(&["SMEMBERS", "regions"]);
        holds(members == ["ap", "us"], || format!("{members:?}"))
    });
    world.heal();
    world.await_converged();
    assert_eq!(us.texts(&["SMEMBERS", "regions"]), ["ap", "eu", "us"]);
}

fn wall_ms(client: &mut Client) -> u64 {
    let time: Vec<u64> = client
        .texts(&["TIME"])
        .iter()
        .map(|part| part.parse().expect("TIME answers with two numbers"))
        .collect();
    time[0] * 1000 + time[1] / 1000
}

#[test]
fn what_clashes_is_the_same_everywhere() {
    let world = World::start();
    let [mut us, mut eu, mut ap] = world.clients();
    us.call(&["SET", "kept by nobody", "v"]);
    world.await_everywhere(LIMIT, &["GET", "kept by nobody"], "v");
    world.partition_all();
    us.call(&["SET", "two types", "text"]);
    eu.call(&["SADD", "two types", "member"]);
    us.call(&["SET", "text and number", "text"]);
    ap.call(&["INCRBY", "text and number", "5"]);
    eu.call(&["SET", "deleted", "beside"]);
    ap.call(&["FLUSHALL"]);
    us.call(&["EXPIRE", "kept by nobody", "1000"]);
    us.call(&["SET", "lasting", "v", "PX", "60000"]);
    // Writes of one millisecond in two regions have no order but that of their stamps.
    let written = wall_ms(&mut us);
    eventually(LIMIT, "eu's clock is past the write", || {
        let now = wall_ms(&mut eu);
        holds(now > written, || format!("{now} is not after {written}"))
    });
    eu.call(&["SET", "lasting", "v"]);
    world.heal();
    world.await_converged();
    for key in [
        "two types",
        "text and number",
        "deleted",
        "kept by nobody",
        "lasting",
    ] {
        let kind = us.text(&["TYPE", key]).unwrap();
        world.await_everywhere(LIMIT, &["TYPE", key], &kind);
    }
    for client in [&mut us, &mut eu, &mut ap] {
        assert_eq!(client.text(&["GET", "deleted"]).as_deref(), Some("beside"));
        assert_eq!(client.int(&["EXISTS", "kept by nobody"]), 0);
        assert_eq!(client.int(&["TTL", "lasting"]), -1);
    }
}
