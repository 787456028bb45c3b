//! Clients that send anything, or read nothing: they are told, bounded or closed, and others are served as if nothing were.
//!
//! Goal: no client makes a node use memory without bound, end, or stop serving others.
//! Method: one real node; its memory is what the kernel says of its process.

#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, its helpers too"
)]

use std::{io::ErrorKind, time::Duration};

use tests::hostile::{Client, PATIENCE, Reply, Running, Site, command, eventually, noise, quoted};

const MIB: u64 = 1 << 20;

/// Fails if the node has grown by more than `bytes` since `before`.
fn bounded(node: &Running, before: u64, bytes: u64) {
    let now = node.resident();
    assert!(
        now < before + bytes,
        "memory grew from {before} to {now} bytes"
    );
}

#[test]
fn headers_that_announce_nonsense_are_refused_with_redis_s_words_before_anything_is_allocated() {
    let site = Site::new();
    let node = site.node("us-1").start();
    let mut neighbour = node.client();
    assert_eq!(neighbour.ask(&["PING"]), Reply::Simple("PONG".to_owned()));
    let before = node.resident();
    let (count, length) = (
        "ERR Protocol error: invalid multibulk length",
        "ERR Protocol error: invalid bulk length",
    );
    for (bytes, words) in [
        ("*1000000000\r\n", count),
        ("*99999999999999999999999\r\n", count),
        ("*2147483648\r\n", count),
        ("*three\r\n", count),
        ("*1\r\n$99999999999\r\n", length),
        ("*1\r\n$9223372036854775808\r\n", length),
        ("*2\r\n$3\r\nGET\r\n$536870913\r\n", length),
        ("*1\r\n$-1\r\n", length),
        ("*1\r\n$-9223372036854775808\r\n", length),
        ("*1\r\n$four\r\n", length),
        ("*1\r\n$\r\n", length),
        ("*1\r\n!4\r\n", "ERR Protocol error: expected '$', got '!'"),
    ] {
        // Many at a time: what each costs adds up while they are open.
        let mut clients: Vec<_> = (0..20).map(|_| node.client()).collect();
        for client in &mut clients {
            client.send(bytes.as_bytes()).unwrap();
        }
        for client in &mut clients {
            assert_eq!(client.reply().unwrap().error(), words, "{bytes:?}");
            assert!(client.is_closed(), "{bytes:?}");
        }
    }
    bounded(&node, before, 32 * MIB);
    assert_eq!(neighbour.ask(&["PING"]), Reply::Simple("PONG".to_owned()));
    node.serves();
}

#[test]
fn an_array_of_no_or_fewer_than_no_words_is_no_command_as_in_redis() {
    let site = Site::new();
    let node = site.node("us-1").start();
    let mut client = node.client();
    client.send(b"*0\r\n*-1\r\n*-10\r\n").unwrap();
    assert_eq!(client.ask(&["ECHO", "on"]), Reply::bulk("on"));
}

#[test]
fn a_header_that_is_allowed_costs_nothing_until_its_bytes_come() {
    let site = Site::new();
    let node = site.node("us-1").start();
    let before = node.resident();
    let mut clients: Vec<_> = (0..50).map(|_| node.client()).collect();
    for client in &mut clients {
        // A million words, or 16 MiB, announced and not sent.
        client.send(b"*1048576\r\n$16777216\r\n").unwrap();
        client.send(b"some").unwrap();
    }
    node.serves();
    bounded(&node, before, 32 * MIB);
}

#[test]
fn a_value_or_command_over_its_limit_is_refused_and_the_connection_lives() {
    let site = Site::new();
    let plan = site.node("us-1").set("limits.value_bytes", quoted("64KiB"));
    let node = plan.set("limits.command_bytes", quoted("128KiB")).start();
    let mut client = node.client();
    assert_eq!(client.ask(&["SET", "k", "before"]), Reply::ok());
    let before = node.resident();

    let value = noise(100 << 20, 1);
    for refused in [&value[..(64 << 10) + 1], &value] {
        let reply = client.ask(&[&b"SET"[..], b"k", refused]);
        assert!(reply.error().starts_with("TOOLARGE "), "{reply:?}");
        assert_eq!(client.ask(&["GET", "k"]), Reply::bulk("before"));
    }
    let half = &value[..60 << 10];
    let reply = client.ask(&[&b"MSET"[..], b"k", half, b"l", half, b"m", half]);
    assert!(reply.error().starts_with("TOOLARGE "), "{reply:?}");
    let element = client.ask(&[&b"SADD"[..], b"s", &value[..(64 << 10) + 1]]);
    assert!(element.error().starts_with("TOOLARGE "), "{element:?}");
    bounded(&node, before, 32 * MIB);

    // In a pipeline each reply is in its place.
    let mut pipeline = command(&["SET", "l", "one"]);
    pipeline.extend(command(&[&b"SET"[..], b"k", &value[..70 << 10]]));
    pipeline.extend(command(&["GET", "l"]));
    client.send(&pipeline).unwrap();
    assert_eq!(client.reply().unwrap(), Reply::ok());
    assert!(client.reply().unwrap().error().starts_with("TOOLARGE "));
    assert_eq!(client.reply().unwrap(), Reply::bulk("one"));

    let largest = &value[..64 << 10];
    assert_eq!(client.ask(&[&b"SET"[..], b"k", largest]), Reply::ok());
    assert_eq!(client.ask(&["GET", "k"]), Reply::Bulk(largest.to_owned()));
}

#[test]
fn a_value_that_grows_over_the_limit_piece_by_piece_is_refused() {
    let site = Site::new();
    let node = site
        .node("us-1")
        .set("limits.value_bytes", quoted("1KiB"))
        .start();
    let mut client = node.client();
    let piece = noise(600, 1);
    assert_eq!(
        client.ask(&[&b"APPEND"[..], b"k", &piece]),
        Reply::Integer(600)
    );
    for words in [
        vec![&b"APPEND"[..], b"k", &piece],
        vec![&b"SETRANGE"[..], b"k", b"1000", &piece],
        vec![&b"SETRANGE"[..], b"new", b"536870000", b"x"],
    ] {
        let reply = client.ask(&words);
        let error = reply.error();
        assert!(
            error.starts_with("TOOLARGE ") || error.contains("exceeds maximum"),
            "{error}"
        );
    }
    assert_eq!(client.ask(&["STRLEN", "k"]), Reply::Integer(600));
}

#[test]
fn random_bytes_do_not_disturb_others() {
    let site = Site::new();
    let node = site.node("us-1").start();
    let mut neighbour = node.client();
    let before = node.resident();
    for seed in 0..200 {
        let mut bytes = noise(1 + (seed as usize * 37) % 4000, seed);
        if seed % 3 == 0 {
            // As if it were a command.
            bytes.splice(0..0, *b"*3\r\n$3\r\nSET\r\n$");
        }
        let mut client = node.client();
        // The node may have had enough before it is all sent.
        let _ = client.send(&bytes);
        client.finish();
        assert!(client.is_closed());
        if seed % 20 == 0 {
            assert_eq!(neighbour.ask(&["PING"]), Reply::Simple("PONG".to_owned()));
        }
    }
    let mut endless = node.client();
    let line = vec![b'a'; 1 << 20];
    let _ = endless.send(&line);
    assert_eq!(
        endless.reply().unwrap().error(),
        "ERR Protocol error: too big inline request"
    );
    bounded(&node, before, 32 * MIB);
    node.serves();
}

#[test]
fn a_client_that_never_reads_does_not_make_the_node_grow() {
    let site = Site::new();
    let node = site
        .node("us-1")
        .set("limits.output_bytes", quoted("2MiB"))
        .start();
    let value = noise(1 << 20, 1);
    let mut neighbour = node.client();
    assert_eq!(neighbour.ask(&[&b"SET"[..], b"big", &value]), Reply::ok());
    assert_eq!(neighbour.ask(&["GET", "big"]), Reply::Bulk(value));
    let before = node.resident();

    // 4 clients ask for 2 GiB each.
    let pipeline = command(&["GET", "big"]).repeat(2048);
    let mut greedy: Vec<_> = (0..4).map(|_| node.client()).collect();
    for client in &mut greedy {
        client
            .stream()
            .set_write_timeout(Some(Duration::from_millis(300)))
            .unwrap();
        match client.send(&pipeline) {
            Ok(()) => {}
            Err(error) => assert!(matches!(
                error.kind(),
                ErrorKind::WouldBlock | ErrorKind::TimedOut
            )),
        }
    }
    for _ in 0..50 {
        assert_eq!(neighbour.ask(&["STRLEN", "big"]), Reply::Integer(1 << 20));
        // A round's values may wait in memory for each of them, beside its output.
        bounded(&node, before, 4 * (64 + 2) * MIB + 64 * MIB);
    }
    // One that reads after all gets everything in order.
    let first = &mut greedy[0];
    for _ in 0..8 {
        assert!(matches!(first.reply().unwrap(), Reply::Bulk(value) if value.len() == 1 << 20));
    }
    drop(greedy);
    node.serves();
}

#[test]
fn a_client_that_closes_half_is_answered_and_then_closed() {
    let site = Site::new();
    let node = site.node("us-1").start();
    let mut client = node.client();
    client.send(&command(&["SET", "k", "v"])).unwrap();
    client.send(b"*2\r\n$3\r\nGET\r\n$1").unwrap();
    client.finish();
    assert_eq!(client.reply().unwrap(), Reply::ok());
    assert!(client.is_closed());
    assert_eq!(node.client().ask(&["GET", "k"]), Reply::bulk("v"));
}

#[test]
fn clients_up_to_the_limit_are_served_and_the_next_is_told() {
    let site = Site::new();
    let node = site.node("us-1").set("limits.clients", "300").start();
    let before = node.resident();
    let mut idle: Vec<_> = (0..300).map(|_| node.client()).collect();
    for client in &mut idle {
        assert_eq!(client.ask(&["PING"]), Reply::Simple("PONG".to_owned()));
    }
    let mut late = node.client();
    assert_eq!(
        late.reply().unwrap().error(),
        "ERR max number of clients reached"
    );
    assert!(late.is_closed());
    bounded(&node, before, 64 * MIB);
    idle.truncate(299);
    eventually("a place is free again", || {
        let mut client = Client::connect(node.resp);
        client.stream().set_read_timeout(Some(PATIENCE)).unwrap();
        // It may be turned away while it writes.
        client.send(&command(&["PING"])).is_ok()
            && matches!(client.reply(), Ok(Reply::Simple(pong)) if pong == "PONG")
    });
}
