//! Goal: P1, an acknowledged write survives the end of its node, orderly or not.
//! Method: pipelined load that knows what was acknowledged when the process went away; then every single write is asked for.

#![allow(
    clippy::unwrap_used,
    reason = "clippy does not know that helpers of tests are tests"
)]

use tests::{
    load::Load,
    patience::eventually,
    world::{LIMIT, NODES, World},
};

#[test]
fn sigterm_under_load_loses_nothing_and_ends_with_status_zero() {
    let world = World::start();
    let loads = ["a", "b"].map(|name| Load::start(name, &world.resp("us-1")));
    for load in &loads {
        load.await_acknowledged(10_000);
    }
    let ended = world.stop("us-1");
    assert!(ended.is_clean(), "{ended}");
    let all_written = loads.map(Load::finish);
    world.restart("us-1");
    for written in &all_written {
        written.check(&mut world.client("us-1")).unwrap();
        for node in NODES {
            let mut client = world.client(node);
            eventually(LIMIT, node, || written.check(&mut client));
        }
    }
    world.await_converged();
}

#[test]
fn a_region_killed_in_the_middle_of_pipelined_load_has_all_it_acknowledged() {
    killed_under_load(World::start());
}

#[test]
fn a_region_that_syncs_always_is_killed_under_load_and_has_all_it_acknowledged() {
    killed_under_load(World::with(|builder| {
        builder.set("storage.fsync", "always")
    }));
}

/// Twice, because what a node finds after its second death was written by one that had recovered.
fn killed_under_load(world: World) {
    for names in [["a", "b"], ["c", "d"]] {
        let loads = names.map(|name| Load::start(name, &world.resp("us-1")));
        for load in &loads {
            load.await_acknowledged(10_000);
        }
        world.kill("us-1");
        let all_written = loads.map(Load::finish);
        world.restart("us-1");
        for written in &all_written {
            written.check(&mut world.client("us-1")).unwrap();
            for node in NODES {
                let mut client = world.client(node);
                eventually(LIMIT, node, || written.check(&mut client));
            }
        }
    }
    world.await_converged();
}

#[test]
fn a_write_acknowledged_while_cut_off_arrives_after_its_origin_was_killed() {
    let world = World::start();
    world.client("us-1").call(&["SADD", "s", "early"]);
    world.await_converged();
    world.isolate("us");
    let mut origin = world.client("us-1");
    origin.call(&["SET", "k", "written alone"]);
    origin.call(&["SADD", "s", "late"]);
    assert_eq!(origin.int(&["INCRBY", "c", "7"]), 7);
    world.kill("us-1");
    for node in ["eu-1", "ap-1"] {
        assert_eq!(world.client(node).text(&["GET", "k"]), None, "{node}");
    }
    world.restart("us-1");
    assert_eq!(
        world.client("us-1").text(&["GET", "k"]).as_deref(),
        Some("written alone")
    );
    world.heal();
    world.await_everywhere(LIMIT, &["GET", "k"], "written alone");
    world.await_everywhere(LIMIT, &["GET", "c"], "7");
    for mut client in world.clients() {
        eventually(LIMIT, "the element arrives", || {
            let members = client.texts(&["SMEMBERS", "s"]);
            if members == ["early", "late"] {
                Ok(())
            } else {
                Err(format!("{members:?}"))
            }
        });
    }
    world.await_converged();
}

#[test]
fn all_regions_killed_at_once_have_what_each_acknowledged() {
    let world = World::start();
    let loads = NODES.map(|node| Load::start(node, &world.resp(node)));
    for load in &loads {
        load.await_acknowledged(5_000);
    }
    for node in NODES {
        world.kill(node);
    }
    let all_written = loads.map(Load::finish);
    for node in NODES {
        world.restart(node);
    }
    for (written, origin) in all_written.iter().zip(NODES) {
        written.check(&mut world.client(origin)).unwrap();
        for node in NODES {
            let mut client = world.client(node);
            eventually(LIMIT, node, || written.check(&mut client));
        }
    }
    world.await_converged();
}
