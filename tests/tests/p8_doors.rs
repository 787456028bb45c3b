//! What a node does where nobody reads what it says, and what it says of itself before anybody asked.
//!
//! Goal: output that nobody reads ends or disturbs nothing; a node at rest shows little; a large pipeline is answered whole.
//! Method: one real node.

#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, its helpers too"
)]

use std::{
    fs::File,
    io::{BufRead, BufReader, PipeWriter, pipe},
    process::Stdio,
    thread,
    time::Duration,
};

use tests::hostile::{Client, Reply, Site, command, noise, quoted};

fn closed_pipe() -> PipeWriter {
    let (reader, writer) = pipe().unwrap();
    drop(reader);
    writer
}

#[test]
fn a_node_whose_start_nobody_waits_for_ends_in_good_order() {
    let site = Site::new();
    let plan = site.node("us-1");
    let log = site.path().join("unheard.log");
    let status = plan
        .command()
        .stdout(closed_pipe())
        .stderr(File::create(&log).unwrap())
        .status()
        .unwrap();
    let said = std::fs::read_to_string(log).unwrap();
    assert_eq!(status.code(), Some(0), "{said}");
    assert!(
        !said.contains("panicked") && !said.contains("Broken pipe"),
        "{said}"
    );
    plan.start().serves();
}

#[test]
fn a_node_whose_log_nobody_reads_goes_on() {
    let site = Site::new();
    let plan = site.node("us-1").set("log.level", quoted("trace"));
    let mut child = plan
        .command()
        .stdout(Stdio::piped())
        .stderr(closed_pipe())
        .spawn()
        .unwrap();
    let mut ready = String::new();
    let stdout = child.stdout.take().unwrap();
    BufReader::new(stdout).read_line(&mut ready).unwrap();
    let resp = ready
        .split_whitespace()
        .find_map(|word| word.strip_prefix("resp="));
    let mut client = Client::connect(resp.unwrap().parse().unwrap());
    assert_eq!(client.ask(&["SET", "k", "v"]), Reply::ok());
    assert_eq!(client.ask(&["GET", "k"]), Reply::bulk("v"));
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_node_that_has_done_nothing_shows_few_series_and_those_of_a_command_once_it_ran() {
    let site = Site::new();
    let node = site.node("us-1").start();
    let series = || -> Vec<String> {
        let (status, text) = node.page("/metrics");
        assert_eq!(status, 200);
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        lines.map(str::to_owned).collect()
    };
    let at_rest = series();
    assert!(at_rest.len() < 150, "{} series", at_rest.len());
    let ends = at_rest
        .iter()
        .filter(|line| line.starts_with("meridian_certificate_expires_seconds{kind="));
    assert_eq!(ends.count(), 2, "{at_rest:?}");
    node.serves();
    assert!(
        node.client()
            .ask(&["NOPE"])
            .error()
            .contains("unknown command")
    );
    for counted in [
        "meridian_commands_total{command=\"set\",outcome=\"ok\"} 1",
        "meridian_commands_total{command=\"unknown\",outcome=\"rejected\"} 1",
    ] {
        assert!(series().iter().any(|line| line == counted), "{counted}");
    }
}

#[test]
fn a_certificate_that_ends_is_told_of_before_and_when_it_has() {
    let site = Site::new();
    let plan = site.node("us-1");
    site.issue_for("short", &["us-1.demo.meridian"], Duration::from_secs(8));
    let node = plan.certificate(&site.tls(), "short").start();
    node.logged(&[
        "WARN",
        "a certificate ends soon",
        "kind=\"node\"",
        "short.pem",
    ]);
    node.logged(&[
        "WARN",
        "a certificate has ended",
        "kind=\"node\"",
        "short.pem",
    ]);
    // Clients need none.
    node.serves();
}

#[test]
fn a_pipeline_of_larger_replies_than_may_be_unread_is_answered_whole() {
    let site = Site::new();
    let node = site.node("us-1").start();
    let value = noise(16 << 20, 1);
    let mut client = node.client();
    assert_eq!(client.ask(&[&b"SET"[..], b"k", &value]), Reply::ok());
    // 128 MiB of replies, read slowly.
    client.send(&command(&["GET", "k"]).repeat(8)).unwrap();
    for _ in 0..8 {
        thread::sleep(Duration::from_millis(100));
        let reply = client.reply().unwrap();
        assert!(matches!(reply, Reply::Bulk(bytes) if bytes == value));
    }
    // 16 MB of requests, all sent before the first of 120 MB of replies is read.
    let value = noise(200, 2);
    assert_eq!(client.ask(&[&b"SET"[..], b"k", &value]), Reply::ok());
    let count = 600_000;
    client.send(&command(&["GET", "k"]).repeat(count)).unwrap();
    for _ in 0..count {
        let reply = client.reply().unwrap();
        assert!(matches!(reply, Reply::Bulk(bytes) if bytes == value));
    }
    assert_eq!(client.ask(&["PING"]), Reply::Simple("PONG".to_owned()));
}
