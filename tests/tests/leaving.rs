//! Goal: a node goes only when nobody lacks what it alone would deliver; and a region that it cannot reach is not said to be up.
//!
//! Method: three regions of one node each; the way between two of them is cut, and the third one reaches both.

use std::{process::Command, time::Duration};

use node::status::{NodeState, RegionState};
use tests::{
    hostile::meridian,
    patience::{eventually, holds},
    world::{LIMIT, World},
};

/// Runs a verb of `meridian` against a node: whether it worked, and what it said.
fn verb(world: &World, node: &str, words: &[&str]) -> (bool, String) {
    let http = world.http_address(node);
    let output = Command::new(meridian())
        .args(words)
        .args(["--http", &http])
        .output()
        .expect("the binary runs");
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    (output.status.success(), said)
}

/// A cut between us and eu, and 100 keys of us that ap has and eu has not.
fn cut_with_debts() -> World {
    let world = World::start();
    let cut = world.cluster().partition("us", "eu");
    cut.unwrap_or_else(|error| panic!("partition: {error}"));
    world.await_down("us-1", "eu");
    let mut us = world.client("us-1");
    for number in 0..100 {
        us.call(&["SET", &format!("debt:{number}"), "owed"]);
    }
    let mut ap = world.client("ap-1");
    eventually(LIMIT, "ap has them", || {
        let keys = ap.int(&["DBSIZE"]);
        holds(keys == 100, || format!("{keys} keys"))
    });
    world
}

#[test]
fn a_node_does_not_leave_while_a_region_lacks_what_nobody_else_delivers() {
    let world = cut_with_debts();
    assert_eq!(world.region("ap-1", "eu").state, RegionState::Up);
    for asked in ["us-1", "ap-1"] {
        eventually(LIMIT, "it is not safe to stop", || {
            let (is_safe, said) = verb(&world, asked, &["drain-check", "us-1"]);
            let is_said = said.contains("region eu has not taken") && !said.contains("region ap");
            holds(!is_safe && is_said, || said)
        });
    }
    let (is_whole, said) = verb(&world, "us-1", &["handoff", "wait", "--timeout", "100ms"]);
    assert!(
        !is_whole && said.contains("region eu has not taken"),
        "{said}"
    );
    let (leaves, said) = verb(&world, "us-1", &["leave", "--timeout", "500ms"]);
    assert!(
        !leaves && said.contains("nobody else delivers them"),
        "{said}"
    );
    assert_eq!(world.client("us-1").int(&["DBSIZE"]), 100, "it goes on");
    world.heal();
    let (leaves, said) = verb(&world, "us-1", &["leave"]);
    assert!(leaves, "{said}");
    eventually(LIMIT, "it left", || {
        let nodes = world.status("ap-1").nodes;
        let left = nodes
            .iter()
            .any(|node| node.name.as_str() == "us-1" && node.state == NodeState::Left);
        holds(left, || format!("{nodes:?}"))
    });
    assert_eq!(world.client("eu-1").int(&["DBSIZE"]), 100);
    assert!(!world.region("ap-1", "eu").needs_repair);
}

#[test]
fn a_node_that_is_made_to_leave_with_its_debts_leaves_a_mark() {
    let world = cut_with_debts();
    let (leaves, said) = verb(&world, "us-1", &["leave", "--force"]);
    assert!(leaves, "{said}");
    eventually(LIMIT, "the region is marked where it is seen", || {
        let eu = world.region("ap-1", "eu");
        holds(eu.needs_repair, || format!("{eu:?}"))
    });
    eventually(LIMIT, "its node is marked where it is", || {
        let nodes = world.status("eu-1").nodes;
        let is_marked = |name: &str| {
            let mut own = nodes.iter().filter(|node| node.name.as_str() == name);
            own.any(|node| node.needs_repair)
        };
        holds(is_marked("eu-1") && !is_marked("ap-1"), || {
            format!("{nodes:?}")
        })
    });
    for node in ["us-1", "ap-1"] {
        let log = world.log(node);
        assert!(log.contains("lost to delivery"), "{node}: {log}");
    }
}

#[test]
fn a_region_is_down_while_no_way_leads_to_it_and_connecting_until_it_is_met() {
    let world = World::start();
    let cut = world.cluster().partition("us", "eu");
    cut.unwrap_or_else(|error| panic!("partition: {error}"));
    world.await_down("us-1", "eu");
    eventually(LIMIT, "nothing comes back from its address", || {
        let nodes = world.status("us-1").nodes;
        let mut eu = nodes.iter().filter(|node| node.name.as_str() == "eu-1");
        let is_said = eu.all(|node| node.state == NodeState::Up || node.cause == "path down");
        holds(is_said, || format!("{nodes:?}"))
    });
    assert!(
        world.http("us-1", "/health/ready").is_ok(),
        "its own levels are met"
    );
    world.heal();
    eventually(Duration::from_secs(20), "it is up again", || {
        let eu = world.region("us-1", "eu");
        holds(eu.state == RegionState::Up, || format!("{eu:?}"))
    });
    world.kill("eu-1");
    world.kill("us-1");
    world.restart("us-1");
    let eu = world.region("us-1", "eu");
    assert_eq!(eu.state, RegionState::Connecting, "{eu:?}");
}
