//! File descriptors run out for clients first, and never for storage.
//!
//! Goal: however many clients come, those that are served stay served, what they write is stored, and the others are told.
//! Method: one real node with a low limit; five hundred clients at once.

#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, its helpers too"
)]

use std::{
    io::{ErrorKind, Read, Write},
    net::TcpStream,
    thread,
};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tests::hostile::{Client, PATIENCE, Reply, Running, Site, command, eventually, noise};

const DESCRIPTORS: u32 = 300;
const CLIENTS: usize = 500;
const TOLD: &[u8] = b"-ERR max number of clients reached\r\n";

/// This process holds the other ends.
fn take_descriptors() {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).unwrap();
    assert!(
        hard > 2 * CLIENTS as u64,
        "this test needs more descriptors"
    );
}

fn setting(client: &mut Client, name: &str) -> usize {
    let Reply::Array(pair) = client.ask(&["CONFIG", "GET", name]) else {
        panic!("CONFIG GET answers an array");
    };
    let Reply::Bulk(value) = &pair[1] else {
        panic!("of texts");
    };
    String::from_utf8_lossy(value).parse().unwrap()
}

/// What a new client hears when it says PING.
fn greet(stream: &mut TcpStream) -> Vec<u8> {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    // It may have been turned away already.
    let _ = stream.write_all(&command(&["PING"]));
    let mut heard = vec![0; TOLD.len()];
    let mut length = 0;
    while length < heard.len() {
        match stream.read(&mut heard[length..]) {
            Ok(0) => break,
            Ok(bytes) => length += bytes,
            Err(error) if error.kind() == ErrorKind::ConnectionReset => break,
            Err(error) => panic!("neither served nor told: {error}"),
        }
        if &heard[..length] == b"+PONG\r\n" {
            break;
        }
    }
    heard.truncate(length);
    heard
}

/// Writes so much that files are begun and tables written.
fn write_much(client: &mut Client) {
    for number in 0..48 {
        let key = format!("big-{number}");
        let value = noise(1 << 20, number);
        let reply = client.ask(&[&b"SET"[..], key.as_bytes(), &value]);
        assert_eq!(reply, Reply::ok(), "{key}");
    }
}

fn open_descriptors(node: &Running) -> usize {
    let folder = format!("/proc/{}/fd", node.pid());
    std::fs::read_dir(folder).unwrap().count()
}

#[test]
fn clients_beyond_the_descriptors_are_told_and_the_others_are_served_and_stored() {
    take_descriptors();
    let site = Site::new();
    let node = site.node("us-1").descriptors(DESCRIPTORS).start();
    node.logged(&["WARN", "limits.clients is cut", "configured=10000"]);
    let mut first = node.client();
    let most = setting(&mut first, "maxclients");
    assert!((100..DESCRIPTORS as usize).contains(&most), "{most}");
    let info = first.ask(&["INFO", "clients"]);
    let Reply::Bulk(info) = info else {
        panic!("INFO answers a text");
    };
    let shown = format!("maxclients:{most}\r\n");
    assert!(String::from_utf8_lossy(&info).contains(&shown));

    let connect = |_| TcpStream::connect(node.resp).unwrap();
    let mut others: Vec<TcpStream> = (1..CLIENTS).map(connect).collect();
    let heard: Vec<Vec<u8>> = others.iter_mut().map(greet).collect();
    let served = heard.iter().filter(|heard| *heard == b"+PONG\r\n").count();
    let told = heard.iter().filter(|heard| *heard == TOLD).count();
    assert_eq!((served, told), (most - 1, CLIENTS - most));

    write_much(&mut first);
    // While new ones keep coming.
    thread::scope(|scope| {
        scope.spawn(|| (0..200).for_each(|_| drop(greet(&mut connect(0)))));
        write_much(&mut first);
    });
    assert!(open_descriptors(&node) <= DESCRIPTORS as usize);
    for (stream, heard) in others.iter_mut().zip(&heard) {
        if heard == b"+PONG\r\n" {
            assert_eq!(greet(stream), b"+PONG\r\n");
        }
    }
    let log = node.log();
    assert!(!log.contains("Too many open files"), "{log}");
    assert!(log.lines().count() < 30, "{log}");
    drop(others);
    eventually("places are free again", || {
        greet(&mut connect(0)) == b"+PONG\r\n"
    });
    node.serves();
}

#[test]
fn a_node_with_hopelessly_few_descriptors_says_so_and_does_not_start() {
    let site = Site::new();
    let (code, said) = site.node("us-1").descriptors(100).refused();
    assert_eq!(code, 1);
    assert!(said.contains("100 file descriptors are too few"), "{said}");
}

#[test]
fn a_node_takes_all_the_descriptors_that_it_may_have() {
    let site = Site::new();
    let node = site.node("us-1").start();
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", node.pid())).unwrap();
    let line = limits
        .lines()
        .find(|line| line.starts_with("Max open files"));
    let words: Vec<&str> = line.unwrap().split_whitespace().collect();
    assert_eq!(words[3], words[4], "soft and hard");
}
