//! Goal: three nodes that are started by hand as the operator's guide says, with seeds and without `[members]`, are one region: every one
//! takes writes at the default level, nobody keeps hints for ever, and that stays so over restarts and a death.
//! Method: the built binary, real sockets and processes; one region with three replicas, two seeds and then one.

#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, its helpers too"
)]

use std::net::SocketAddr;

use tests::hostile::{Plan, Reply, Running, Site, eventually, quoted};

const NAMES: [&str; 3] = ["us-1", "us-2", "us-3"];

fn plan(site: &Site, name: &str) -> Plan {
    site.node(name)
        .set("regions.us", "3")
        .set("regions.eu", "0")
        .set("consistency.timeout", quoted("5s"))
}

/// The nodes of one region, which keep their doors to each other when they are started again.
struct Region {
    plans: Vec<Plan>,
    nodes: Vec<Option<Running>>,
}

impl Region {
    /// Started one after the other. The first `seeds` of them are in every configuration.
    fn start(site: &Site, seeds: usize) -> Self {
        let doors = doors(site, seeds);
        let plans: Vec<_> = (0..NAMES.len())
            .map(|index| match doors.get(index) {
                Some(door) => plan(site, NAMES[index]).set("listen.quic", quoted(door)),
                None => plan(site, NAMES[index]),
            })
            .map(|plan| plan.seeds(&doors))
            .collect();
        let nodes = plans.iter().map(|plan| Some(plan.start())).collect();
        let region = Self { plans, nodes };
        region.takes_writes("from the start");
        region
    }

    fn living(&self) -> impl Iterator<Item = (usize, &Running)> {
        let nodes = self.nodes.iter().enumerate();
        nodes.filter_map(|(index, node)| Some((index, node.as_ref()?)))
    }

    /// Every node that runs takes writes at the default level, and comes to owe nothing to another that runs.
    fn takes_writes(&self, when: &str) {
        for (index, node) in self.living() {
            eventually(format!("{} is ready {when}", NAMES[index]), || {
                node.page("/health/ready").0 == 200
            });
        }
        for (index, node) in self.living() {
            let mut client = node.client();
            for number in 0..WRITES {
                let key = format!("{when} {index} {number}");
                eventually(format!("{} takes {key}", NAMES[index]), || {
                    client.ask(&["SET", &key, "v"]) == Reply::ok()
                });
            }
        }
        for (index, node) in self.living() {
            eventually(format!("{} keeps no hints {when}", NAMES[index]), || {
                self.living()
                    .all(|(other, _)| hints(node, NAMES[other]) == 0)
            });
        }
    }

    /// Stops a node in good order, and starts it again.
    fn restart(&mut self, index: usize) {
        let node = self.nodes[index].take().unwrap();
        assert!(node.stop().success());
        self.takes_writes(&format!("without {}", NAMES[index]));
        self.nodes[index] = Some(self.plans[index].start());
        self.takes_writes(&format!("after {} restarted", NAMES[index]));
    }
}

/// Free doors: taken by nodes that are gone again.
fn doors(site: &Site, count: usize) -> Vec<SocketAddr> {
    let nodes: Vec<_> = NAMES[..count]
        .iter()
        .map(|name| {
            plan(site, name)
                .set(
                    "node.data_dir",
                    quoted(site.path().join(format!("scratch-{name}")).display()),
                )
                .start()
        })
        .collect();
    let doors = nodes.iter().map(|node| node.quic).collect();
    for node in nodes {
        assert!(node.stop().success());
    }
    doors
}

fn hints(node: &Running, name: &str) -> u64 {
    let status = node.status();
    let nodes = status["nodes"].as_array().unwrap();
    let node = nodes.iter().find(|node| node["name"] == name);
    node.map_or(0, |node| node["hints"].as_u64().unwrap())
}

#[test]
fn three_nodes_with_two_seeds_take_writes_over_restarts() {
    let site = Site::new();
    let mut region = Region::start(&site, 2);
    for index in 0..NAMES.len() {
        region.restart(index);
    }
}

#[test]
fn three_nodes_with_one_seed_bear_the_death_of_each() {
    let site = Site::new();
    let mut region = Region::start(&site, 1);
    for (index, name) in NAMES.iter().enumerate() {
        region.nodes[index].take().unwrap().kill();
        region.takes_writes(&format!("without {name}"));
        region.nodes[index] = Some(region.plans[index].start());
        region.takes_writes(&format!("after {name} returned"));
    }
}

/// Placement follows from the list of nodes: with more of them than replicas, and no list that all agree on, nobody coordinates.
#[test]
fn more_nodes_than_replicas_are_refused_until_they_are_listed() {
    let site = Site::new();
    let plan = |name| site.node(name).set("regions.us", "1");
    let first = plan("us-1").start();
    let second = plan("us-2").seed(first.quic).start();
    for node in [&first, &second] {
        eventually("it is not ready", || {
            let (code, body) = node.page("/health/ready");
            code == 503 && body.contains("[members]") && body.contains("us-1, us-2")
        });
        for command in [
            &["SET", "k", "v"][..],
            &["GET", "k"],
            &["AT", "ONE", "GET", "k"],
        ] {
            let said = node.client().ask(command);
            assert!(said.error().starts_with("UNAVAILABLE"), "{said:?}");
        }
    }
    // One that said goodbye may be back: its keys stay its own until an operator has it forgotten.
    assert!(second.stop().success());
    eventually("its goodbye is heard", || {
        first.page("/v1/status").1.contains("\"left\"")
    });
    assert_eq!(first.page("/health/ready").0, 503);
    assert_eq!(first.post("/v1/forget?node=us-2").0, 200);
    eventually("it is ready", || first.page("/health/ready").0 == 200);
    first.serves();
}

const WRITES: usize = 20;
