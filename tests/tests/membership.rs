//! Nodes find each other, know how sure they are of each other, and part.
//!
//! Goal: a configuration that names one seed is enough; a node that dies is suspected within moments and trusted again when it is back,
//! at another address too; one that leaves is not waited for; one that is forgotten stays away; the node whose clock is wrong is the
//! one that stops writing.
//! Method: the built binary, three regions, real sockets and processes; everything is read off `/v1/status`.

#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, its helpers too"
)]

use std::{
    process::Command,
    thread,
    time::{Duration, Instant},
};

use node::status::NodeState;

use region_sim::live::Change;
use tests::{
    hostile::{Plan, Reply, Running, Site, eventually, meridian, quoted},
    patience::holds,
    world::World,
};

/// Three nodes of which two know the first, and nobody knows all.
struct Three {
    plans: [Plan; 3],
    nodes: [Option<Running>; 3],
}

const NAMES: [&str; 3] = ["us-1", "eu-1", "ap-1"];

impl Three {
    fn start(site: &Site) -> Self {
        let plan = |name: &str| site.node(name).set("regions.ap", "1");
        let us = plan("us-1").start();
        let plans = NAMES.map(|name| match name {
            "us-1" => plan(name).at(&us),
            _ => plan(name).seed(us.quic),
        });
        let (eu, ap) = (plans[1].start(), plans[2].start());
        let three = Self {
            plans,
            nodes: [Some(us), Some(eu), Some(ap)],
        };
        three.all_come_to_say(["up"; 3]);
        three
    }

    fn node(&self, index: usize) -> &Running {
        self.nodes[index].as_ref().unwrap()
    }

    /// Waits until every node that runs says this of each of the three.
    fn all_come_to_say(&self, states: [&str; 3]) {
        for node in self.nodes.iter().flatten() {
            for (name, state) in NAMES.iter().zip(states) {
                comes_to_say(node, name, state);
            }
        }
    }

    /// Waits until what is written at one node is read at another.
    fn carries(&self, from: usize, to: usize, key: &str) {
        let written = self.node(from).client().ask(&["SET", key, "carried"]);
        assert_eq!(written, Reply::ok());
        self.node(to).comes_to_hold(key, "carried");
    }
}

/// What a node says of another one.
fn seen(node: &Running, name: &str) -> Option<serde_json::Value> {
    let status = node.status();
    let nodes = status["nodes"].as_array()?;
    nodes.iter().find(|node| node["name"] == name).cloned()
}

fn state(node: &Running, name: &str) -> Option<String> {
    Some(seen(node, name)?["state"].as_str()?.to_owned())
}

/// `any` of several states may be given, with bars between them; `-` is a node that is not known.
fn comes_to_say(node: &Running, name: &str, any: &str) {
    eventually(format!("{name} is {any}"), || {
        let state = state(node, name);
        any.split('|')
            .any(|any| state.as_deref().unwrap_or("-") == any)
    });
}

/// Runs a verb of `meridian` against a node: whether it worked, and what it said.
fn verb(node: &Running, words: &[&str]) -> (bool, String) {
    let http = node.http.to_string();
    let output = Command::new(meridian())
        .args(words)
        .args(["--http", &http])
        .output()
        .unwrap();
    let said = [output.stdout, output.stderr].concat();
    (
        output.status.success(),
        String::from_utf8_lossy(&said).into_owned(),
    )
}

#[test]
fn one_seed_is_enough_for_all_to_find_each_other() {
    let site = Site::new();
    let three = Three::start(&site);
    // Neither names the other in its configuration.
    three.carries(1, 2, "from eu");
    three.carries(2, 1, "from ap");
    eventually("a node that is heard is not suspected", || {
        let ap = seen(three.node(1), "ap-1").unwrap();
        ap["phi"].as_f64().unwrap() < 8.0 && ap["cause"] == ""
    });
}

#[test]
fn a_node_that_dies_is_suspected_and_trusted_again_at_another_address() {
    let site = Site::new();
    let mut three = Three::start(&site);
    three.nodes[2].take().unwrap().kill();
    for index in [0, 1] {
        comes_to_say(three.node(index), "ap-1", "suspect|down");
        let ap = seen(three.node(index), "ap-1").unwrap();
        assert_ne!(ap["cause"], "", "{ap}");
        assert!(ap["phi"].as_f64().unwrap() > 8.0, "{ap}");
    }
    comes_to_say(three.node(0), "ap-1", "down");
    three.carries(0, 1, "meanwhile");
    let back = three.plans[2].start();
    three.nodes[2] = Some(back);
    three.all_come_to_say(["up"; 3]);
    three.node(2).comes_to_hold("meanwhile", "carried");
    three.carries(2, 1, "from ap again");
    three.carries(1, 2, "to ap again");
}

#[test]
fn a_node_that_stops_says_goodbye_and_one_that_leaves_ships_first() {
    let site = Site::new();
    let mut three = Three::start(&site);
    assert!(three.nodes[2].take().unwrap().stop().success());
    three.all_come_to_say(["up", "up", "left"]);
    let back = three.plans[2].start();
    three.nodes[2] = Some(back);
    three.all_come_to_say(["up"; 3]);
    let mut client = three.node(2).client();
    for number in 0..100 {
        let key = format!("last {number}");
        assert_eq!(client.ask(&["SET", &key, "shipped"]), Reply::ok());
    }
    assert!(verb(three.node(2), &["leave"]).0);
    three.nodes[2].take().unwrap().ends();
    for index in [0, 1] {
        comes_to_say(three.node(index), "ap-1", "left");
        three.node(index).comes_to_hold("last 99", "shipped");
    }
}

#[test]
fn a_node_that_never_returns_is_forgotten_by_all_and_refused_if_it_does() {
    let site = Site::new();
    let mut three = Three::start(&site);
    let (done, said) = verb(three.node(0), &["forget", "ap-1"]);
    assert!(!done && said.contains("lives"), "{said}");
    let (done, said) = verb(three.node(0), &["forget", "ap-9"]);
    assert!(!done && said.contains("no node 'ap-9'"), "{said}");
    three.nodes[2].take().unwrap().kill();
    comes_to_say(three.node(0), "ap-1", "down");
    let (done, said) = verb(three.node(0), &["forget", "ap-1"]);
    assert!(done, "{said}");
    for index in [0, 1] {
        comes_to_say(three.node(index), "ap-1", "-");
    }
    // It is remembered over a restart.
    assert!(three.nodes[0].take().unwrap().stop().success());
    three.nodes[0] = Some(three.plans[0].start());
    let back = three.plans[2].start();
    back.logged(&["forgotten", "new data directory"]);
    eventually("it is not ready", || {
        let (code, body) = back.page("/health/ready");
        code == 503 && body.contains("forgotten")
    });
}

#[test]
fn nodes_that_contradict_each_other_are_refused_with_the_reason_on_both_sides() {
    let site = Site::new();
    let us = site.node("us-1").start();
    let eu = site
        .node("eu-1")
        .seed(us.quic)
        .set("regions.ap", "1")
        .start();
    us.logged(&["refused", "regions is", "ap = 1"]);
    eu.logged(&["refused", "regions is", "ap = 1"]);
    assert_ne!(state(&us, "eu-1").as_deref(), Some("joining"));
    us.logged(&["'eu-1' and 'us-1'"]);
    for node in [&us, &eu] {
        eventually("of two that differ neither is ready", || {
            let (code, body) = node.page("/health/ready");
            code == 503 && body.contains("settings") && body.contains("ap = 1")
        });
    }
    drop(eu);
    let eu = site
        .node("eu-1")
        .seed(us.quic)
        .set("clock.max_skew", quoted("2s"))
        .start();
    us.logged(&["refused", "clock.max_skew"]);
    eu.logged(&["refused", "clock.max_skew"]);
}

/// The lists are changed on one node after the other: nobody parts for that, and who is behind is seen.
#[test]
fn the_node_whose_members_differ_from_those_of_most_is_not_ready_and_all_say_so() {
    let site = Site::new();
    let plan = |name: &str, members: &str| {
        let plan = site.node(name).set("regions.us", "2");
        plan.set("regions.eu", "1").set("members.us", members)
    };
    let (right, wrong) = (r#"["us-1", "us-2"]"#, r#"["us-1", "us-2", "us-3"]"#);
    let us = plan("us-1", right).start();
    let us_2 = plan("us-2", right).seed(us.quic).start();
    let eu = plan("eu-1", wrong).seed(us.quic).start();
    eventually("the one that differs is not ready", || {
        let (code, body) = eu.page("/health/ready");
        code == 503 && body.contains("settings") && body.contains("us = us-1 us-2 us-3")
    });
    for node in [&us, &us_2] {
        node.logged(&["[members]", "eu-1", "us = us-1 us-2 us-3"]);
        eventually("the others are ready", || {
            node.page("/health/ready").0 == 200
        });
        comes_to_say(node, "eu-1", "up");
    }
    assert!(eu.stop().success());
    let eu = plan("eu-1", right).seed(us.quic).start();
    eventually("it is ready", || eu.page("/health/ready").0 == 200);
}

#[test]
fn the_node_whose_clock_is_wrong_refuses_writes_and_no_other_does() {
    let world = World::start();
    world.await_connected();
    world.client("us-1").call(&["SET", "k", "before"]);
    world.await_everywhere(PATIENCE, &["GET", "k"], "before");
    world.cluster().skew("us-1", 5_000).unwrap();
    tests::patience::eventually(PATIENCE, "us-1 refuses writes", || {
        match world.client("us-1").try_call(&["SET", "probe", "skewed"]) {
            Ok(reply) if format!("{reply:?}").contains("CLOCKSKEW") => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
    tests::patience::eventually(PATIENCE, "us-1 is not ready", || {
        let status = world.status("us-1");
        let is_so = status.reasons.iter().any(|reason| reason.kind == "clock");
        holds(is_so && !status.ready, || format!("{status:?}"))
    });
    assert_eq!(
        world.client("us-1").text(&["GET", "k"]).as_deref(),
        Some("before")
    );
    world
        .client("eu-1")
        .call(&["SET", "k", "from a good clock"]);
    world.await_everywhere(PATIENCE, &["GET", "k"], "from a good clock");
    assert!(world.http("eu-1", "/health/ready").is_ok());
    world.cluster().skew("us-1", 0).unwrap();
    tests::patience::eventually(PATIENCE, "us-1 writes again", || {
        match world.client("us-1").try_call(&["SET", "k", "after"]) {
            Ok(reply) if !reply.is_error() => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
    // Nothing was stamped by the wrong clock: what is written now wins at once.
    world.await_everywhere(PATIENCE, &["GET", "k"], "after");
    world.await_converged();
}

#[test]
fn loss_and_jitter_bring_no_false_alarm() {
    watch_lossy_links(Duration::from_secs(10));
}

#[test]
#[ignore = "takes two minutes: for make soak"]
fn two_minutes_of_loss_and_jitter_bring_no_false_alarm() {
    watch_lossy_links(Duration::from_secs(120));
}

/// 15 % loss and 50 ms jitter on every link: nobody is ever said to be down.
fn watch_lossy_links(time: Duration) {
    let world = World::start();
    world.await_connected();
    world.links(Change {
        jitter: Some(Duration::from_millis(50)),
        loss: Some("15%".parse().unwrap()),
        ..Change::rtt(Duration::from_millis(40))
    });
    let watched = Instant::now();
    while watched.elapsed() < time {
        for name in NAMES {
            for node in world.status(name).nodes {
                assert_ne!(node.state, NodeState::Down, "{name} says so of {node:?}");
            }
        }
        thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn a_paused_node_is_suspected_and_back_and_nothing_else_is_disturbed() {
    pause(Duration::from_secs(6));
}

#[test]
#[ignore = "takes half a minute: for make soak"]
fn a_node_paused_for_twenty_seconds_is_back_at_once() {
    pause(Duration::from_secs(20));
}

fn pause(time: Duration) {
    let world = World::start();
    world.await_connected();
    let all_up = || {
        tests::patience::eventually(PATIENCE, "all are up", || {
            for name in NAMES {
                for node in world.status(name).nodes {
                    holds(node.state == NodeState::Up, || format!("{name}: {node:?}"))?;
                }
            }
            Ok(())
        });
    };
    all_up();
    tests::patience::eventually(PATIENCE, "gossip knows all", || {
        for name in NAMES {
            let others = world.status(name).nodes.into_iter();
            // A node that is known by its session alone has no suspicion.
            let known = others.filter(|node| node.phi > 0.0).count();
            holds(known == 2, || format!("{name} has heard of {known}"))?;
        }
        Ok(())
    });
    world.pause("ap-1");
    let paused = Instant::now();
    let mut was_suspected = false;
    while paused.elapsed() < time {
        for (name, other) in [("us-1", "eu-1"), ("eu-1", "us-1")] {
            for node in world.status(name).nodes {
                match node.name.as_str() {
                    "ap-1" => was_suspected |= node.state != NodeState::Up,
                    node_name if node_name == other => {
                        assert_ne!(node.state, NodeState::Down, "{name} says so of {node:?}")
                    }
                    _ => {}
                }
            }
        }
        thread::sleep(Duration::from_millis(100));
    }
    assert!(was_suspected, "nobody noticed");
    world.client("us-1").call(&["SET", "meanwhile", "written"]);
    world.resume("ap-1");
    all_up();
    world.await_everywhere(PATIENCE, &["GET", "meanwhile"], "written");
}

const PATIENCE: Duration = Duration::from_secs(30);
