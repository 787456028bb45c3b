//! Goal: a node depends on those that its settings name for one exchange, and on nobody after that: nodes that met once find each other
//! again whatever became of their seeds, over restarts too.
//! Method: the built binary, real sockets and processes, nodes started by hand; seeds are killed as soon as they have done their part.

#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, its helpers too"
)]

use region_sim::live::Cluster;
use tempfile::TempDir;
use tests::{
    client::{Client, Value},
    hostile::{Plan, Reply, Running, Site, eventually},
};

/// Regions `us`, `eu` and `ap`, with one replica each.
fn plan(site: &Site, name: &str) -> Plan {
    site.node(name).set("regions.ap", "1")
}

fn comes_to_be_ready(node: &Running) {
    eventually("it is ready", || node.page("/health/ready").0 == 200);
}

fn state(node: &Running, name: &str) -> Option<String> {
    let status = node.status();
    let nodes = status["nodes"].as_array()?;
    let node = nodes.iter().find(|node| node["name"] == name)?;
    Some(node["state"].as_str()?.to_owned())
}

fn comes_to_see(node: &Running, name: &str, wanted: &str) {
    eventually(format!("{name} is {wanted}"), || {
        state(node, name).as_deref() == Some(wanted)
    });
}

fn carries(from: &Running, to: &Running, key: &str) {
    let written = from.client().ask(&["SET", key, "carried"]);
    assert_eq!(written, Reply::ok());
    to.comes_to_hold(key, "carried");
}

#[test]
fn two_that_know_each_other_only_through_a_seed_that_dies_find_each_other() {
    let site = Site::new();
    let us = plan(&site, "us-1").start();
    let eu = plan(&site, "eu-1").seed(us.quic).start();
    let ap = plan(&site, "ap-1").seed(us.quic).start();
    comes_to_be_ready(&eu);
    comes_to_be_ready(&ap);
    us.kill();
    comes_to_see(&eu, "ap-1", "up");
    comes_to_see(&ap, "eu-1", "up");
    carries(&eu, &ap, "to ap");
    carries(&ap, &eu, "to eu");
}

/// Scripts write at once when the launcher says that its cluster is ready.
#[test]
fn a_cluster_that_is_ready_meets_every_level_at_once() {
    let dir = TempDir::new().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let cluster = Cluster::builder().regions(["us", "eu"]).nodes(2);
    let cluster = cluster.dir(dir.path().join("cluster")).start();
    let cluster = runtime.block_on(cluster).unwrap();
    let nodes: Vec<_> = cluster
        .topology()
        .members()
        .map(|(node, _)| node.to_string())
        .collect();
    assert_eq!(nodes.len(), 4);
    for name in nodes {
        let mut client = Client::connect(&cluster.node(&name).unwrap().resp).unwrap();
        for number in 0..16 {
            let key = format!("{name} {number}");
            let said = client.call(&["AT", "ALL", "SET", &key, "v"]);
            assert_eq!(said, Value::Simple("OK".into()), "{name}");
        }
    }
}

#[test]
fn a_seed_may_be_a_name() {
    let site = Site::new();
    let us = plan(&site, "us-1").start();
    let named = format!("localhost:{}", us.quic.port());
    let unknown = "no-such-host.invalid:7100".to_owned();
    let eu = plan(&site, "eu-1").seeds(&[named, unknown]).start();
    comes_to_see(&us, "eu-1", "up");
    comes_to_see(&eu, "us-1", "up");
    comes_to_be_ready(&eu);
    carries(&us, &eu, "to eu");
    carries(&eu, &us, "to us");
}

#[test]
fn a_restart_needs_no_seed() {
    let site = Site::new();
    let us = plan(&site, "us-1").start();
    let eu_plan = plan(&site, "eu-1").seed(us.quic);
    let ap_plan = plan(&site, "ap-1").seed(us.quic);
    let (eu, ap) = (eu_plan.start(), ap_plan.start());
    comes_to_see(&eu, "ap-1", "up");
    comes_to_see(&ap, "eu-1", "up");
    carries(&eu, &ap, "before");
    us.kill();
    // One of them stays where it is, the other comes back elsewhere.
    let eu_plan = eu_plan.at(&eu);
    assert!(eu.stop().success());
    ap.kill();
    let (eu, ap) = (eu_plan.start(), ap_plan.start());
    comes_to_see(&eu, "ap-1", "up");
    comes_to_see(&ap, "eu-1", "up");
    carries(&eu, &ap, "to ap");
    carries(&ap, &eu, "to eu");
    // All but they are away, and both are ready all the same: nobody waits for a seed that cannot be reached.
    comes_to_be_ready(&eu);
    comes_to_be_ready(&ap);
    assert_eq!(state(&eu, "us-1").as_deref(), Some("joining"));
    // What only an earlier life met can be forgotten, and is for good.
    let (status, body) = eu.post("/v1/forget?node=us-1");
    assert_eq!(status, 200, "{body}");
    for node in [&eu, &ap] {
        eventually("us-1 is forgotten", || state(node, "us-1").is_none());
    }
    assert!(eu.stop().success());
    assert_eq!(state(&eu_plan.start(), "us-1"), None);
}
