//! Goal: a replica that lacks writes for good says so to everybody, shows nothing old where another replica can be asked, and makes up no
//! quorum.
//! Method: a region of three replicas. One is wiped, or away until the rows for it are dropped, or restored from an old copy; then it is read
//! through, at the lowest level too, a whole one is killed, and operators ask.

use std::{path::Path, process::Command};

use tests::{
    client::{Client, Value},
    hostile::meridian,
    patience::{eventually, holds},
    world::{LIMIT, World, copy_dir},
};

fn three() -> World {
    World::with(|builder| builder.regions(["us"]).nodes(3))
}

fn write(client: &mut Client, keys: usize) {
    for number in 0..keys {
        let key = format!("key:{number}");
        assert_eq!(
            client.call(&["SET", &key, "v"]),
            Value::Simple("OK".to_owned())
        );
    }
}

/// What `meridian` says on a verb: whether it worked, and in which words.
fn verb(world: &World, node: &str, words: &[&str]) -> (bool, String) {
    let output = Command::new(meridian())
        .args(words)
        .args(["--http", &world.http_address(node)])
        .output()
        .expect("the binary runs");
    let said = [output.stdout, output.stderr].concat();
    (
        output.status.success(),
        String::from_utf8_lossy(&said).into_owned(),
    )
}

/// Everybody says of us-3 that it needs a repair, and it is not ready because of that.
fn is_said_everywhere(world: &World) {
    for asked in ["us-1", "us-2", "us-3"] {
        eventually(LIMIT, "us-3 is said to need a repair", || {
            let nodes = world.status(asked).nodes;
            let short: Vec<&str> = nodes
                .iter()
                .filter(|node| node.needs_repair)
                .map(|node| node.name.as_str())
                .collect();
            holds(short == ["us-3"], || format!("{asked} says {short:?}"))
        });
        let (_, table) = verb(world, asked, &["status"]);
        let row = table.lines().rfind(|line| line.starts_with("us-3"));
        assert!(row.is_some_and(|row| row.contains("needed")), "{table}");
    }
    eventually(LIMIT, "us-3 is recovering", || {
        let reasons = world.status("us-3").reasons;
        let is_so = reasons.iter().any(|reason| reason.kind == "recovering");
        holds(is_so, || format!("{reasons:?}"))
    });
    let refused = world.http("us-3", "/health/ready");
    assert!(
        refused.as_ref().is_err_and(|said| said.contains("503")),
        "{refused:?}"
    );
    // With us-1 away one whole replica would be left.
    let (is_safe, said) = verb(world, "us-2", &["drain-check", "us-1"]);
    assert!(!is_safe && said.contains("us-3 lacks writes"), "{said}");
}

/// Every key is shown through us-3, at every level; its own count is not given.
fn shows_everything(world: &World, keys: usize) {
    let mut short = world.client("us-3");
    for number in 0..keys {
        let key = format!("key:{number}");
        for level in ["ONE", "LOCAL_QUORUM"] {
            let said = short.text(&["AT", level, "GET", &key]);
            assert_eq!(said.as_deref(), Some("v"), "{key} at {level}");
        }
    }
    assert_eq!(short.int(&["DBSIZE"]), keys as i64);
    let Value::Array(scanned) = short.call(&["KEYS", "key:*"]) else {
        panic!("no keys");
    };
    assert_eq!(scanned.len(), keys);
}

/// With one of the whole ones dead there is no quorum, whoever is asked; a write at ONE is taken.
fn makes_up_no_quorum(world: &World) {
    world.kill("us-2");
    world.await_missed("us-1", "us-2");
    world.await_missed("us-3", "us-2");
    for node in ["us-1", "us-3"] {
        let mut client = world.client(node);
        for command in [&["SET", "key:0", "new"][..], &["GET", "key:0"]] {
            let Value::Error(said) = client.call(command) else {
                panic!("{node} made up a quorum with a short replica for {command:?}");
            };
            assert!(said.starts_with("NOQUORUM"), "{said}");
        }
        let reply = client.call(&["AT", "ONE", "SET", "one", node]);
        assert_eq!(reply, Value::Simple("OK".to_owned()));
    }
    let said = world.client("us-3").text(&["AT", "ONE", "GET", "key:1"]);
    assert_eq!(said.as_deref(), Some("v"), "us-1 can be asked");
}

#[test]
fn a_wiped_replica_shows_what_others_have_and_counts_for_no_quorum() {
    let world = three();
    // All through the one that is wiped: nothing of it is in the others' logs.
    write(&mut world.client("us-3"), 50);
    world.await_converged();
    world.wipe("us-3");
    shows_everything(&world, 50);
    is_said_everywhere(&world);
    world.restart("us-3");
    is_said_everywhere(&world);
    makes_up_no_quorum(&world);
}

#[test]
fn a_replica_that_was_away_for_too_long_shows_what_others_have() {
    let world = World::with(|builder| {
        let builder = builder.regions(["us"]).nodes(3);
        builder.set("hints.max_bytes", "1MiB")
    });
    world.kill("us-3");
    world.await_missed("us-1", "us-3");
    let mut first = world.client("us-1");
    write(&mut first, 50);
    let filler = "x".repeat(32 << 10);
    for number in 0..200 {
        first.call(&["SET", "filler", &format!("{number}{filler}")]);
    }
    // The bounds are looked at once a second, and what was dropped goes once us-2 has saved it, which takes as long and is said with an
    // acknowledgement: after some more drops, and beside more writes, the first keys are gone.
    let mut dropped = 50.0;
    for _ in 0..4 {
        for number in 0..60 {
            first.call(&["SET", "filler", &format!("{number}{filler}")]);
        }
        dropped = eventually(LIMIT, "rows for us-3 are dropped", || {
            first.call(&["SET", "filler", &filler]);
            let now = world.metric("us-1", "meridian_hints_dropped_total", "");
            holds(now > dropped, || format!("{now} rows")).map(|()| now)
        });
    }
    first.call(&["DEL", "filler"]);
    eventually(LIMIT, "the wait for us-3 does not end well", || {
        let (is_done, said) = verb(&world, "us-1", &["handoff", "wait", "--timeout", "100ms"]);
        holds(!is_done && said.contains("us-3"), || said)
    });
    world.restart("us-3");
    world.await_connected();
    is_said_everywhere(&world);
    shows_everything(&world, 50);
    // It took all that there still was, and that is not everything.
    eventually(LIMIT, "us-3 needs a repair", || {
        let (is_done, said) = verb(&world, "us-1", &["handoff", "wait", "--timeout", "1s"]);
        holds(!is_done && said.contains("needs a full repair"), || said)
    });
    makes_up_no_quorum(&world);
}

fn restore(world: &World, copy: &Path) {
    let data = world.data_dir("us-3");
    world.kill("us-3");
    std::fs::remove_dir_all(&data).expect("the directory goes");
    copy_dir(copy, &data);
    world.restart("us-3");
}

#[test]
fn a_replica_restored_from_an_old_copy_shows_what_others_have_and_counts_for_no_quorum() {
    let world = three();
    let mut third = world.client("us-3");
    assert_eq!(
        third.call(&["SET", "early", "v"]),
        Value::Simple("OK".to_owned())
    );
    world.await_converged();
    let folder = tempfile::tempdir().expect("a folder");
    let copy = folder.path().join("copy");
    world.stop("us-3");
    copy_dir(&world.data_dir("us-3"), &copy);
    world.restart("us-3");
    world.await_connected();
    write(&mut world.client("us-3"), 50);
    world.await_converged();
    restore(&world, &copy);
    let mut third = world.client("us-3");
    assert_eq!(
        third.text(&["AT", "ONE", "GET", "early"]).as_deref(),
        Some("v")
    );
    is_said_everywhere(&world);
    let mut third = world.client("us-3");
    for number in 0..50 {
        let key = format!("key:{number}");
        assert_eq!(
            third.text(&["AT", "ONE", "GET", &key]).as_deref(),
            Some("v")
        );
    }
    makes_up_no_quorum(&world);
}

#[test]
fn of_two_replicas_one_may_be_wiped() {
    let world = World::with(|builder| builder.regions(["us"]).nodes(2).replicas(2));
    write(&mut world.client("us-1"), 20);
    world.await_converged();
    world.wipe("us-2");
    world.await_connected();
    for node in ["us-1", "us-2"] {
        let mut client = world.client(node);
        eventually(LIMIT, "writes are taken", || {
            match client.call(&["SET", "k", node]) {
                Value::Error(text) => Err(text),
                reply => Ok(reply),
            }
        });
        for other in ["us-1", "us-2"] {
            let mut client = world.client(other);
            assert_eq!(client.text(&["GET", "k"]).as_deref(), Some(node));
            assert_eq!(client.text(&["GET", "key:7"]).as_deref(), Some("v"));
        }
    }
}
