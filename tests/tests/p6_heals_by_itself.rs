//! Goal: P6, after a fault heals, replication resumes within 5 s and lag is normal within 15 s, with nobody's help; while it
//! lasts, nobody else is slower for it; what a bound throws away is said loudly.
//! Method: the faults that the launcher knows, one at a time, and a write on either side of each of them.

use std::time::{Duration, Instant};

use rand::{Rng, SeedableRng, rngs::StdRng};
use tests::{
    load::Load,
    patience::{eventually, holds},
    world::{LAG_LIMIT, LIMIT, NODES, REGIONS, TRAFFIC_LIMIT, World},
};

/// A write in each region is read in all, soon; and then nothing is owed.
fn assert_flows(world: &World, healed: Instant, name: &str) {
    for node in NODES {
        world
            .client(node)
            .call(&["SET", &format!("{name}:{node}"), "flows"]);
    }
    for node in NODES {
        let left = TRAFFIC_LIMIT.saturating_sub(healed.elapsed());
        world.await_everywhere(left, &["GET", &format!("{name}:{node}")], "flows");
    }
    world.await_no_lag(LAG_LIMIT.saturating_sub(healed.elapsed()));
}

#[test]
fn traffic_flows_within_five_seconds_after_a_partition() {
    let world = World::start();
    world.partition_all();
    for (node, region) in [("us-1", "eu"), ("eu-1", "ap"), ("ap-1", "us")] {
        world.client(node).call(&["SET", node, "alone"]);
        world.await_down(node, region);
    }
    let us = world.region("us-1", "eu");
    assert!(us.outbox_entries > 0 && us.lag_seconds > 0.0, "{us:?}");
    eventually(
        LIMIT,
        "the metrics, which are read off once a second, say so",
        || {
            let entries = world.metric("us-1", "meridian_outbox_entries", "eu");
            let lag = world.metric("us-1", "meridian_replication_lag_seconds", "eu");
            holds(entries >= 1.0 && lag > 0.0, || {
                format!("{entries} entries, {lag} s")
            })
        },
    );
    world.heal();
    assert_flows(&world, Instant::now(), "healed");
    for node in NODES {
        world.await_everywhere(LIMIT, &["GET", node], "alone");
    }
    world.await_converged();
}

#[test]
fn a_node_paused_for_ten_seconds_holds_nobody_up_and_catches_up() {
    let world = World::start();
    let mut us = world.client("us-1");
    world.pause("ap-1");
    let paused = Instant::now();
    let mut slowest = Duration::ZERO;
    let mut rounds = 0;
    eventually(LIMIT, "ten seconds pass", || {
        rounds += 1;
        let begun = Instant::now();
        us.call(&["INCR", "rounds"]);
        slowest = slowest.max(begun.elapsed());
        holds(paused.elapsed() >= Duration::from_secs(10), String::new)
    });
    assert!(slowest < Duration::from_secs(2), "a write took {slowest:?}");
    let mut eu = world.client("eu-1");
    eventually(TRAFFIC_LIMIT, "the others replicate meanwhile", || {
        let seen = eu.text(&["GET", "rounds"]);
        holds(seen == Some(rounds.to_string()), || format!("{seen:?}"))
    });
    world.await_down("us-1", "ap");
    world.resume("ap-1");
    assert_flows(&world, Instant::now(), "resumed");
    world.await_everywhere(LIMIT, &["GET", "rounds"], &rounds.to_string());
    world.await_converged();
}

#[test]
fn a_region_that_was_dead_while_others_wrote_gets_it_all() {
    let world = World::start();
    world.kill("eu-1");
    let loads = ["us-1", "ap-1"].map(|node| Load::start(node, &world.resp(node)));
    for load in &loads {
        load.await_acknowledged(6_000);
    }
    let all_written = loads.map(Load::finish);
    for written in &all_written {
        let mut other = world.client("ap-1");
        eventually(LIMIT, "the living replicate", || written.check(&mut other));
    }
    world.restart("eu-1");
    assert_flows(&world, Instant::now(), "returned");
    for written in &all_written {
        written.check(&mut world.client("eu-1")).unwrap();
    }
    world.await_converged();
}

#[test]
fn watermarks_advance_and_lag_is_nothing_while_nobody_writes() {
    let world = World::start();
    world.client("us-1").call(&["SET", "k", "v"]);
    world.await_converged();
    for (node, region) in [("us-1", "eu"), ("eu-1", "us"), ("ap-1", "us")] {
        world.await_idle(node, region, 2_000);
    }
    world.await_no_lag(Duration::from_secs(1));
}

#[test]
fn past_the_bound_on_hints_the_oldest_are_dropped_for_the_region_that_is_away_and_for_no_other() {
    let world = World::with(|builder| builder.set("hints.max_bytes", "1MiB"));
    world.isolate("ap");
    world.await_down("us-1", "ap");
    let mut us = world.client("us-1");
    let filler = "x".repeat(1_000);
    let mut written = 0;
    eventually(LIMIT, "rows are dropped", || {
        let round: Vec<_> = (written..written + 200)
            .map(|i| {
                vec![
                    "SET".to_owned(),
                    format!("fill:{i}"),
                    filler.clone() + &i.to_string(),
                ]
            })
            .collect();
        written += 200;
        tests::load::write_all(&mut us, &round);
        let dropped = world.metric("us-1", "meridian_hints_dropped_total", "");
        holds(dropped > 0.0, || format!("{written} keys and none dropped"))
    });
    let ap = world.region("us-1", "ap");
    assert!(ap.needs_repair, "{ap:?}");
    assert!(world.log("us-1").contains("it needs a full repair"));
    let eu = world.region("us-1", "eu");
    assert!(!eu.needs_repair, "{eu:?}");
    let mut other = world.client("eu-1");
    eventually(LIMIT, "the other region has all", || {
        let keys = other.int(&["DBSIZE"]);
        holds(keys == written, || format!("{keys} of {written}"))
    });
    world.await_idle("us-1", "eu", 3_000); // until then it is kept for the one that is here, and would be sent to both
    world.heal();
    assert_flows(&world, Instant::now(), "healed");
    let ap = world.region("us-1", "ap");
    assert!(ap.needs_repair, "the mark stays until a repair: {ap:?}");
    let lost = written + 3 - world.client("ap-1").int(&["DBSIZE"]);
    assert!(lost > 0, "what was dropped is not there");
}

#[test]
fn rows_older_than_the_window_are_dropped_and_what_came_later_is_not() {
    let world = World::with(|builder| builder.set("hints.window", "2s"));
    world.isolate("ap");
    let mut us = world.client("us-1");
    us.call(&["SET", "{k}:old", "v"]);
    eventually(LIMIT, "the row is too old", || {
        let ap = world.region("us-1", "ap");
        holds(ap.needs_repair && ap.outbox_entries == 0, || {
            format!("{ap:?}")
        })
    });
    assert!(world.metric("us-1", "meridian_hints_dropped_total", "") >= 1.0);
    world.await_idle("us-1", "eu", 3_000);
    us.call(&["SET", "{k}:young", "v"]);
    world.heal();
    assert_flows(&world, Instant::now(), "healed");
    let mut ap = world.client("ap-1");
    assert_eq!(ap.int(&["EXISTS", "{k}:old"]), 0);
    assert!(
        world
            .log("ap-1")
            .contains("this region needs a full repair")
    );
    let mut eu = world.client("eu-1");
    assert_eq!(eu.int(&["EXISTS", "{k}:old", "{k}:young"]), 2);
    assert!(!world.region("us-1", "eu").needs_repair);
}

#[test]
fn a_region_killed_while_it_receives_gets_the_rest_when_it_returns() {
    let world = World::start();
    let loads = ["us-1", "ap-1"].map(|node| Load::start(node, &world.resp(node)));
    for acknowledged in [3_000, 9_000] {
        loads[0].await_acknowledged(acknowledged);
        world.kill("eu-1");
        loads[0].await_acknowledged(acknowledged + 3_000);
        world.restart("eu-1");
        world.await_connected();
    }
    let all_written = loads.map(Load::finish);
    let healed = Instant::now();
    assert_flows(&world, healed, "returned");
    for written in &all_written {
        for mut client in world.clients() {
            written.check(&mut client).unwrap();
        }
    }
    world.await_converged();
}

#[test]
fn a_backlog_beyond_every_window_drains_over_a_slow_link() {
    let world = World::start();
    world.isolate("eu");
    write_backlog(&world);
    world.links(region_sim::live::Change::rtt(Duration::from_millis(80)));
    world.heal();
    await_backlog(&world);
    assert_flows(&world, Instant::now(), "drained");
    world.await_converged();
}

/// A connection remembers the shortest round trip it has seen: with what fits into that it would take minutes here.
#[test]
fn a_session_that_is_rerouted_over_a_longer_path_keeps_its_throughput() {
    let world = World::start();
    world.await_connected();
    world.links(region_sim::live::Change::rtt(Duration::from_millis(80)));
    write_backlog(&world);
    await_backlog(&world);
    world.await_converged();
}

/// 32 MB that do not compress.
fn write_backlog(world: &World) {
    let mut us = world.client("us-1");
    let mut noise = StdRng::seed_from_u64(1);
    for round in 0..BACKLOG_ROUNDS {
        let sets: Vec<_> = (0..20)
            .map(|i| {
                let value: String = (0..2_000)
                    .map(|_| format!("{:08x}", noise.random::<u32>()))
                    .collect();
                vec!["SET".to_owned(), format!("big:{round}:{i}"), value]
            })
            .collect();
        tests::load::write_all(&mut us, &sets);
    }
}

fn await_backlog(world: &World) {
    let keys = BACKLOG_ROUNDS * 20;
    let mut eu = world.client("eu-1");
    eventually(LIMIT, "the backlog drains", || {
        let present = eu.int(&["DBSIZE"]);
        holds(present == keys, || format!("{present} of {keys} keys"))
    });
}

#[test]
fn writes_of_a_clock_that_runs_ahead_are_not_joined_until_it_is_time() {
    let world = World::start();
    // A node that begins with a wrong clock has none to compare it with, until it meets the others.
    world.isolate("us");
    world.cluster().skew("us-1", 4_000).unwrap();
    world.restart("us-1");
    let mut us = world.client("us-1");
    us.call(&["INCR", "early"]);
    let mut eu = world.client("eu-1");
    world.heal();
    eventually(LIMIT, "the stamps are refused", || {
        let refused = world.metric("eu-1", "meridian_batches_declined_total", "clock");
        holds(refused >= 1.0, || "no stamp was refused".to_owned())
    });
    let early = us.text(&["GET", "early"]).unwrap();
    eu.call(&["SET", "k", "from a good clock"]);
    world.await_everywhere(LIMIT, &["GET", "k"], "from a good clock");
    world.cluster().skew("us-1", 0).unwrap();
    world.await_everywhere(LAG_LIMIT, &["GET", "early"], &early);
    world.await_converged();
}

#[test]
fn writes_of_a_clock_an_hour_ahead_are_taken_once_it_is_right() {
    let world = World::start();
    world.client("us-1").call(&["INCRBY", "count", "1"]);
    world.await_everywhere(LIMIT, &["GET", "count"], "1");
    world.isolate("us");
    world.cluster().skew("us-1", 3_600_000).unwrap();
    world.restart("us-1");
    let mut us = world.client("us-1");
    us.call(&["SET", "early", "stamped an hour ahead"]);
    us.call(&["INCRBY", "count", "10"]);
    us.call(&["SADD", "set", "a", "b"]);
    us.call(&["SREM", "set", "a"]);
    world.heal();
    eventually(LIMIT, "the stamps are refused", || {
        let refused = world.metric("eu-1", "meridian_batches_declined_total", "clock");
        holds(refused >= 1.0, || "no stamp was refused".to_owned())
    });
    world.cluster().skew("us-1", 0).unwrap();
    world.await_everywhere(LAG_LIMIT, &["GET", "early"], "stamped an hour ahead");
    world.await_everywhere(LAG_LIMIT, &["GET", "count"], "11");
    world
        .client("eu-1")
        .call(&["SET", "early", "written since"]);
    world.await_everywhere(LAG_LIMIT, &["GET", "early"], "written since");
    world.await_converged();
    assert_eq!(world.client("ap-1").texts(&["SMEMBERS", "set"]), ["b"]);
}

#[test]
fn a_wiped_node_is_a_new_one_and_gets_what_is_still_in_outboxes() {
    let world = World::start();
    world.client("us-1").call(&["SET", "old", "everywhere"]);
    world.client("ap-1").call(&["INCRBY", "own", "5"]);
    world.await_converged();
    world.await_idle("us-1", "ap", 4_000); // by then what everybody has saved has left the outboxes
    world.isolate("ap");
    world.client("us-1").call(&["SET", "owed", "in the outbox"]);
    world
        .client("eu-1")
        .call(&["SADD", "owed set", "in the outbox"]);
    world.wipe("ap-1");
    assert_eq!(world.client("ap-1").int(&["DBSIZE"]), 0);
    world.heal();
    assert_flows(&world, Instant::now(), "wiped");
    let mut ap = world.client("ap-1");
    assert_eq!(ap.text(&["GET", "owed"]).as_deref(), Some("in the outbox"));
    assert_eq!(ap.texts(&["SMEMBERS", "owed set"]), ["in the outbox"]);
    // Its new actors count beside its old ones, which the others still know.
    ap.call(&["INCRBY", "own", "2"]);
    for node in ["us-1", "eu-1"] {
        let mut client = world.client(node);
        eventually(LIMIT, "increments of both lives are counted", || {
            let own = client.text(&["GET", "own"]);
            holds(own.as_deref() == Some("7"), || format!("{node}: {own:?}"))
        });
    }
    assert_eq!(ap.text(&["GET", "old"]), None);
    let ap = world.region("us-1", "ap");
    assert!(ap.needs_repair, "older keys are missing there: {ap:?}");
}

#[test]
fn lag_over_a_slow_link_is_seen_and_returns_to_nothing() {
    let world = World::start();
    let load = Load::start("load", &world.resp("us-1"));
    world.isolate("eu");
    load.await_acknowledged(15_000);
    let written = load.finish();
    let owed = world.region("us-1", "eu");
    assert!(owed.outbox_entries > 0, "{owed:?}");
    let slow = region_sim::live::Change::rtt(Duration::from_millis(150));
    world.links(slow);
    world.heal();
    assert_flows(&world, Instant::now(), "healed");
    for mut client in world.clients() {
        written.check(&mut client).unwrap();
    }
    for region in &REGIONS[1..] {
        eventually(LIMIT, "the lag is shown to be small again", || {
            let lag = world.metric("us-1", "meridian_replication_lag_seconds", region);
            holds(lag < 1.0, || format!("{region}: {lag} s"))
        });
    }
    world.await_converged();
}

/// Of 20 values of 16 kB that do not compress: 32 MB, eight times what is in flight to a region.
const BACKLOG_ROUNDS: i64 = 100;
