//! Goal: P3, a counter is at least the sum of its acknowledged increments, and at most that and the unacknowledged ones.
//! Method: increments of one key in all regions at a time, through cuts, deaths and a restored copy of a directory.

use std::thread;

use tests::{
    client::Value,
    load::write_all,
    patience::{eventually, holds},
    world::{LIMIT, NODES, World, copy_dir},
};

#[test]
fn every_increment_acknowledged_in_a_partition_is_counted_once() {
    let world = World::start();
    world.partition_all();
    let writers = NODES.map(|node| {
        let mut client = world.client(node);
        thread::spawn(move || {
            let up = vec!["INCRBY".to_owned(), "votes".to_owned(), "3".to_owned()];
            let down = vec!["DECR".to_owned(), "votes".to_owned()];
            for _ in 0..10 {
                write_all(
                    &mut client,
                    &[vec![up.clone(); 20], vec![down.clone(); 20]].concat(),
                );
            }
        })
    });
    for writer in writers {
        writer.join().unwrap();
    }
    world.await_everywhere(LIMIT, &["GET", "votes"], "400");
    world.heal();
    world.await_everywhere(LIMIT, &["GET", "votes"], "1200");
    world.await_converged();
}

#[test]
fn a_counter_is_between_what_was_acknowledged_and_what_was_sent_when_nodes_die() {
    let world = World::start();
    let (mut acknowledged, mut sent) = (0, 0);
    for node in ["us-1", "eu-1", "us-1"] {
        let mut client = world.client(node);
        let writer = thread::spawn(move || increments_until_cut_off(&mut client));
        eventually(LIMIT, "increments are under way", || {
            let count = world
                .client(node)
                .text(&["GET", "total"])
                .unwrap_or_default();
            holds(count.parse().unwrap_or(0) > sent + 5_000, || count.clone())
        });
        world.kill(node);
        let (its_acknowledged, its_sent) = writer.join().unwrap();
        acknowledged += its_acknowledged;
        sent += its_sent;
        world.restart(node);
        world.await_converged();
        let total: u64 = world
            .client(node)
            .text(&["GET", "total"])
            .unwrap()
            .parse()
            .unwrap();
        assert!(
            (acknowledged..=sent).contains(&total),
            "{acknowledged} ≤ {total} ≤ {sent}"
        );
    }
}

fn increments_until_cut_off(client: &mut tests::client::Client) -> (u64, u64) {
    let (mut acknowledged, mut sent) = (0, 0);
    loop {
        if client.send(&vec![vec!["INCR", "total"]; 100]).is_err() {
            return (acknowledged, sent + 100);
        }
        sent += 100;
        for _ in 0..100 {
            match client.receive() {
                Ok(Value::Int(_)) => acknowledged += 1,
                Ok(other) => panic!("INCR gave {other:?}"),
                Err(_) => return (acknowledged, sent),
            }
        }
    }
}

#[test]
fn a_directory_restored_from_a_copy_takes_new_actors_and_hides_no_increment() {
    let world = World::start();
    world.client("us-1").call(&["INCRBY", "total", "10"]);
    world.await_converged();

    let data = world.data_dir("us-1");
    let copy = data.with_extension("copy");
    assert!(world.stop("us-1").is_clean());
    copy_dir(&data, &copy);
    world.restart("us-1");
    world.await_connected();
    world.client("us-1").call(&["INCRBY", "total", "20"]);
    world.await_everywhere(LIMIT, &["GET", "total"], "30");
    world.await_converged();

    assert!(world.stop("us-1").is_clean());
    copy_dir(&copy, &data);
    world.restart("us-1");
    eventually(LIMIT, "the copy is noticed", || {
        let log = world.log("us-1");
        holds(log.contains("its data directory is an old copy"), || log)
    });
    world.await_connected();
    // As an actor that has forgotten the 20 it would be at 15, which is no news to those who know of 30.
    world.client("us-1").call(&["INCRBY", "total", "5"]);
    world.client("eu-1").call(&["INCRBY", "total", "7"]);
    for node in ["eu-1", "ap-1"] {
        let mut client = world.client(node);
        eventually(LIMIT, "what the copy adds is counted", || {
            let total = client.text(&["GET", "total"]);
            holds(total.as_deref() == Some("42"), || {
                format!("{node}: {total:?}")
            })
        });
    }
    // What it forgot comes back with the repair between regions; all others are here.
    let mut restored = world.client("us-1");
    eventually(LIMIT, "the others' increments arrive", || {
        let total = restored.text(&["GET", "total"]);
        holds(total.as_deref() == Some("22"), || format!("{total:?}"))
    });
}
