//! Goal: P4, an element that was added and acknowledged is there unless a remove saw it or ran beside it; one that was
//! removed does not come back unless it is added again.
//! Method: adds and removes of the same elements in all regions, on both sides of cuts and deaths.

use tests::{
    load::write_all,
    patience::{eventually, holds},
    world::{LIMIT, NODES, World, copy_dir},
};

fn await_members(world: &World, key: &str, expected: &[&str]) {
    for (mut client, node) in world.clients().into_iter().zip(NODES) {
        eventually(LIMIT, "members are the same everywhere", || {
            let members = client.texts(&["SMEMBERS", key]);
            holds(members == expected, || {
                format!("{node}: {members:?}, not {expected:?}")
            })
        });
        assert_eq!(client.int(&["SCARD", key]), expected.len() as i64);
    }
}

fn adds(key: &str, prefix: &str, range: std::ops::Range<u32>) -> Vec<Vec<String>> {
    range
        .map(|i| vec!["SADD".to_owned(), key.to_owned(), format!("{prefix}{i:04}")])
        .collect()
}

#[test]
fn elements_added_on_all_sides_of_a_cut_are_all_there() {
    let world = World::start();
    world.partition_all();
    for (node, prefix) in NODES.into_iter().zip(["u", "e", "a"]) {
        let mut client = world.client(node);
        write_all(&mut client, &adds("s", prefix, 0..500));
        write_all(&mut client, &adds("s", "every", 0..100));
    }
    world.heal();
    world.await_converged();
    let mut expected: Vec<String> = Vec::new();
    for prefix in ["a", "e", "u"] {
        expected.extend((0..500).map(|i| format!("{prefix}{i:04}")));
    }
    expected.extend((0..100).map(|i| format!("every{i:04}")));
    expected.sort();
    for mut client in world.clients() {
        assert_eq!(client.int(&["SCARD", "s"]), 1_600);
        assert_eq!(client.texts(&["SMEMBERS", "s"]), expected);
    }
}

#[test]
fn a_remove_takes_what_it_saw_and_leaves_what_was_added_beside_it() {
    let world = World::start();
    let mut us = world.client("us-1");
    us.call(&["SADD", "s", "seen", "again", "kept"]);
    us.call(&["SADD", "whole", "old"]);
    await_members(&world, "s", &["again", "kept", "seen"]);
    await_members(&world, "whole", &["old"]);
    world.partition_all();

    let mut eu = world.client("eu-1");
    eu.call(&["SREM", "s", "seen", "again"]);
    eu.call(&["SREM", "s", "never added here"]);
    eu.call(&["DEL", "whole"]);
    us.call(&["SADD", "s", "never added here"]);
    us.call(&["SREM", "s", "again"]);
    us.call(&["SADD", "s", "again"]);
    us.call(&["SADD", "whole", "new"]);
    world.heal();

    await_members(&world, "s", &["again", "kept", "never added here"]);
    await_members(&world, "whole", &["new"]);
    world.await_converged();
}

#[test]
fn a_removed_element_stays_away_through_deaths_and_comes_only_when_added_again() {
    let world = World::start();
    let mut us = world.client("us-1");
    us.call(&["SADD", "s", "ghost", "kept"]);
    await_members(&world, "s", &["ghost", "kept"]);
    world.isolate("ap");
    us.call(&["SREM", "s", "ghost"]);
    for node in NODES {
        world.kill(node);
        world.restart(node);
    }
    assert_eq!(
        world.client("ap-1").texts(&["SMEMBERS", "s"]),
        ["ghost", "kept"]
    );
    // It writes beside what the remove saw; the remove is not undone by it.
    world.client("ap-1").call(&["SADD", "s", "other"]);
    world.heal();
    await_members(&world, "s", &["kept", "other"]);
    world.restart("ap-1");
    world.await_connected();
    await_members(&world, "s", &["kept", "other"]);
    world.client("eu-1").call(&["SADD", "s", "ghost"]);
    await_members(&world, "s", &["ghost", "kept", "other"]);
    world.await_converged();
}

#[test]
fn an_element_added_to_a_restored_copy_before_it_hears_of_that_arrives_and_takes_no_other_away() {
    let world = World::start();
    world.client("us-1").call(&["SADD", "s", "a"]);
    world.await_converged();
    let data = world.data_dir("us-1");
    let copy = data.with_extension("copy");
    assert!(world.stop("us-1").is_clean());
    copy_dir(&data, &copy);
    world.restart("us-1");
    world.await_connected();
    world.client("us-1").call(&["SADD", "s", "forgotten"]);
    await_members(&world, "s", &["a", "forgotten"]);
    // A start stamps above the stored ceiling, which is ahead by less than a second: two starts of one copy within that second
    // would give the same stamps to both elements.
    world.await_idle("us-1", "eu", 2_000);
    assert!(world.stop("us-1").is_clean());
    copy_dir(&copy, &data);
    world.isolate("us");
    world.restart("us-1");
    world.client("us-1").call(&["SADD", "s", "later"]);
    world.heal();
    for mut client in [world.client("eu-1"), world.client("ap-1")] {
        eventually(LIMIT, "the element arrives", || {
            let members = client.texts(&["SMEMBERS", "s"]);
            holds(members == ["a", "forgotten", "later"], || {
                format!("{members:?}")
            })
        });
    }
}
