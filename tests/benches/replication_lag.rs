//! Replication lag over an 80 ms round trip under 2,000 writes a second.
//!
//! Goal: how long after it was acknowledged in one region a write can be read in the other.
//! Method: two real nodes behind an emulated link. Writers in `us` set numbered keys at a steady rate; a reader in `eu` watches the keys in
//! order on one connection. Both run in this process, so one clock times both ends. The first second is not counted.

use std::{
    io::{BufRead, BufReader, Write},
    net::TcpStream,
    path::PathBuf,
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;
use region_sim::live::{Change, Cluster};

const RATE: u64 = 2_000;
const SECONDS: u64 = 20;
const RTT: Duration = Duration::from_millis(80);
/// Of every so many writes one is watched: watching each would load the reader's node with as many reads again.
const WATCHED: u64 = 10;

fn main() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let cluster = runtime
        .block_on(
            Cluster::builder()
                .regions(["us", "eu"])
                .base_port(0)
                .dir(dir.path().join("cluster"))
                .meridian(meridian())
                .start(),
        )
        .expect("a cluster");
    cluster
        .link("us", "eu", Change::rtt(RTT))
        .expect("the link exists");
    let us = cluster.node("us-1").expect("us-1").resp;
    let eu = cluster.node("eu-1").expect("eu-1").resp;
    let (acknowledged, watched) = mpsc::channel();
    let writer = thread::spawn(move || write(&us, &acknowledged));
    let lag = watch(&eu, &watched);
    let late = writer.join().expect("the writer ends");
    println!(
        "replication lag, {RATE} writes/s for {SECONDS} s over {RTT:?} round trip, in milliseconds from acknowledgement to readable:"
    );
    for quantile in [0.5, 0.9, 0.99, 0.999, 1.0] {
        println!(
            "  p{:<5} {:>8.2}",
            quantile * 100.0,
            lag.value_at_quantile(quantile) as f64 / 1000.0
        );
    }
    println!(
        "  {} writes watched; {late} of the writer's ticks were late by more than 5 ms",
        lag.len()
    );
    drop(cluster);
}

/// Writes at a steady rate in small pipelines, one each millisecond; says when each watched one was acknowledged. Gives how many ticks were late.
fn write(address: &str, acknowledged: &mpsc::Sender<(u64, Instant)>) -> u64 {
    let mut stream = TcpStream::connect(address).expect("us answers");
    stream.set_nodelay(true).expect("a socket option");
    let mut replies = BufReader::new(stream.try_clone().expect("a second handle"));
    let per_tick = RATE / 1000;
    let (started, mut late) = (Instant::now(), 0);
    for tick in 0..SECONDS * 1000 {
        let due = started + Duration::from_millis(tick);
        match due.checked_duration_since(Instant::now()) {
            Some(wait) => thread::sleep(wait),
            None => late += u64::from(due.elapsed() > Duration::from_millis(5)),
        }
        let numbers = tick * per_tick..(tick + 1) * per_tick;
        let commands: String = numbers
            .clone()
            .map(|n| format!("SET lag:{n} {n}\r\n"))
            .collect();
        stream
            .write_all(commands.as_bytes())
            .expect("us takes writes");
        for n in numbers {
            let mut line = String::new();
            replies.read_line(&mut line).expect("us answers");
            assert_eq!(line, "+OK\r\n");
            if n % WATCHED == 0 {
                acknowledged
                    .send((n, Instant::now()))
                    .expect("the reader lives");
            }
        }
    }
    late
}

/// Reads each watched key until it is there.
fn watch(address: &str, watched: &mpsc::Receiver<(u64, Instant)>) -> Histogram<u64> {
    let mut stream = TcpStream::connect(address).expect("eu answers");
    stream.set_nodelay(true).expect("a socket option");
    let mut replies = BufReader::new(stream.try_clone().expect("a second handle"));
    let mut lag = Histogram::new(3).expect("3 digits");
    while let Ok((n, at)) = watched.recv() {
        while !exists(&mut stream, &mut replies, n) {
            assert!(
                at.elapsed() < Duration::from_secs(30),
                "lag:{n} never arrived"
            );
            thread::sleep(Duration::from_micros(500));
        }
        if n >= RATE {
            lag.record(at.elapsed().as_micros() as u64)
                .expect("within range");
        }
    }
    lag
}

fn exists(stream: &mut TcpStream, replies: &mut impl BufRead, n: u64) -> bool {
    write!(stream, "EXISTS lag:{n}\r\n").expect("eu takes reads");
    let mut reply = [0; 4];
    replies.read_exact(&mut reply).expect("eu answers");
    &reply == b":1\r\n"
}

/// The node's program: in the folder of the profile that this bench was built in.
fn meridian() -> PathBuf {
    let executable = std::env::current_exe().expect("this program has a path");
    let profile = executable
        .ancestors()
        .nth(2)
        .expect("a bench is in PROFILE/deps");
    profile.join("meridian")
}
