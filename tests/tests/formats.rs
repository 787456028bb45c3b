//! Goal: a node goes on with the data directory that an earlier release wrote, and with a peer that it owes rows to.
//!
//! Method: `data/format-1` holds the directories of two regions of one node each, as the first release left them when both were killed: eu-1
//! before the last writes through us-1, which has them in its outbox. Today's nodes are started over copies.

#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, its helpers too"
)]

use std::{fs, path::Path};

use tests::hostile::{Plan, Reply, Running, Site, converge, pair};

/// A node over a copy of a directory of format 1.
fn over_kept_data(site: &Site, name: &str) -> Plan {
    let plan = site.node(name);
    let kept = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("data/format-1")
        .join(name);
    copy(&kept, &plan.data_dir());
    plan
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

fn holds_all(node: &Running) {
    let mut client = node.client();
    for (key, value) in [
        ("shared", "by all of us"),
        ("text", "v2"),
        ("count", "7"),
        ("ending", "soon"),
        ("was a set", "text"),
    ] {
        assert_eq!(client.ask(&["GET", key]), Reply::bulk(value), "{key}");
    }
    for key in ["deleted", "emptied"] {
        assert_eq!(client.ask(&["EXISTS", key]), Reply::Integer(0), "{key}");
    }
    assert_eq!(
        client.ask(&["PEXPIRETIME", "ending"]),
        Reply::Integer(4_102_444_800_000)
    );
    let shown = client.ask(&["SMISMEMBER", "elements", "a", "b", "c", "d", "e"]);
    assert_eq!(
        shown,
        Reply::Array([0, 1, 1, 1, 1].map(Reply::Integer).to_vec())
    );
    assert_eq!(client.ask(&["SCARD", "elements"]), Reply::Integer(4));
    assert_eq!(client.ask(&["DBSIZE"]), Reply::Integer(6));
}

#[test]
fn the_data_of_the_first_release_is_read_and_shipped_on() {
    let site = Site::new();
    let [(_, us), (_, eu)] = pair(over_kept_data(&site, "us-1"), over_kept_data(&site, "eu-1"));
    converge(&us, &eu);
    for node in [&us, &eu] {
        holds_all(node);
    }
    let mut client = eu.client();
    assert_eq!(client.ask(&["INCRBY", "count", "3"]), Reply::Integer(10));
    assert_eq!(client.ask(&["SREM", "elements", "b"]), Reply::Integer(1));
    converge(&us, &eu);
    let mut client = us.client();
    assert_eq!(client.ask(&["GET", "count"]), Reply::bulk("10"));
    assert_eq!(
        client.ask(&["SISMEMBER", "elements", "b"]),
        Reply::Integer(0)
    );
}
