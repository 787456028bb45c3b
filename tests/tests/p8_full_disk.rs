//! A disk that fills up under a node and is emptied again.
//!
//! Goal: nothing acknowledged is lost, reads and replication's bookkeeping go on, and writes are taken again without anybody's help.
//! Method: the node's data is on a tmpfs of some MiB beside a ballast file that grows and shrinks; a second node is on a
//! disk with room. Needs the right to mount; where that is missing the tests say so and pass.

#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, its helpers too"
)]

use std::{
    fs::{self, OpenOptions},
    io::Write,
    path::{Path, PathBuf},
    process::Command,
};

use node::storage::disk::free_bytes;
use tests::hostile::{
    Client, Plan, Reply, Running, Site, converge, eventually, noise, pair, quoted, stderr,
};

const MIB: u64 = 1 << 20;

/// A mounted tmpfs, unmounted when dropped.
struct SmallDisk {
    path: PathBuf,
}

impl SmallDisk {
    /// None where mounting is not allowed.
    fn mount(site: &Site, bytes: u64) -> Option<Self> {
        let path = site.path().join("disk");
        fs::create_dir(&path).unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={bytes}"), "tmpfs"])
            .arg(&path)
            .output();
        match mounted {
            Ok(output) if output.status.success() => Some(Self { path }),
            Ok(output) => {
                eprintln!("skipped: no tmpfs can be mounted here: {}", stderr(&output));
                None
            }
            Err(error) => {
                eprintln!("skipped: mount cannot be run here: {error}");
                None
            }
        }
    }

    /// The plan with its data here.
    fn holds(&self, plan: Plan) -> Plan {
        plan.set("node.data_dir", quoted(self.path.join("data").display()))
    }

    fn free(&self) -> u64 {
        free_bytes(&self.path).unwrap()
    }

    /// Makes the ballast as large as leaves about `room` bytes free. The node may write meanwhile.
    fn leave(&self, room: u64) {
        let mut ballast = OpenOptions::new();
        let mut ballast = ballast
            .append(true)
            .create(true)
            .open(self.ballast())
            .unwrap();
        let piece = vec![1; MIB as usize];
        loop {
            let excess = self.free().saturating_sub(room);
            let piece = &piece[..excess.clamp(4096, MIB) as usize];
            if excess == 0 || ballast.write(piece).is_err() {
                return;
            }
        }
    }

    fn give_room(&self) {
        fs::remove_file(self.ballast()).unwrap();
    }

    fn ballast(&self) -> PathBuf {
        self.path.join("ballast")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        unmount(&self.path);
    }
}

fn unmount(path: &Path) {
    let unmounted = Command::new("umount").arg("-l").arg(path).status();
    assert!(unmounted.is_ok_and(|status| status.success()));
}

/// Numbered keys whose writes were acknowledged, and those of which nobody knows.
#[derive(Default)]
struct Ledger {
    /// Of every key, in bytes.
    sizes: Vec<usize>,
    acknowledged: Vec<u32>,
    unknown: Vec<u32>,
    refused: Vec<u32>,
}

impl Ledger {
    /// Writes the next key, 16 KiB that do not compress; gives the error if there is one.
    fn write(&mut self, client: &mut Client) -> Option<String> {
        self.write_bytes(client, 16 << 10)
    }

    fn write_bytes(&mut self, client: &mut Client, bytes: usize) -> Option<String> {
        let number = self.sizes.len() as u32;
        self.sizes.push(bytes);
        let reply = client.ask(&[&b"SET"[..], key(number).as_bytes(), &self.value(number)]);
        match &reply {
            Reply::Simple(_) => self.acknowledged.push(number),
            Reply::Error(error) if error.starts_with("TIMEOUT ") => self.unknown.push(number),
            Reply::Error(error) if error.starts_with("READONLY ") => self.refused.push(number),
            other => panic!("neither taken nor refused: {other:?}"),
        }
        match reply {
            Reply::Error(error) => Some(error),
            _ => None,
        }
    }

    fn value(&self, number: u32) -> Vec<u8> {
        noise(self.sizes[number as usize], number.into())
    }

    /// Fails unless everything acknowledged is here, nothing that was refused is, and what is unknown is whole or absent.
    fn is_kept_by(&self, client: &mut Client) {
        for &number in &self.acknowledged {
            let held = client.ask(&["GET", &key(number)]);
            assert!(
                held == Reply::Bulk(self.value(number)),
                "{} is lost",
                key(number)
            );
        }
        for &number in &self.refused {
            assert_eq!(
                client.ask(&["GET", &key(number)]),
                Reply::Nil,
                "{}",
                key(number)
            );
        }
        for &number in &self.unknown {
            let held = client.ask(&["GET", &key(number)]);
            assert!(
                held == Reply::Nil || held == Reply::Bulk(self.value(number)),
                "{}",
                key(number)
            );
        }
    }
}

fn key(number: u32) -> String {
    format!("k{number}")
}

/// Waits until the node says that it is not ready because of its disk.
fn not_ready(node: &Running) {
    eventually("the node is not ready because of its disk", || {
        let (status, body) = node.page("/health/ready");
        status == 503 && body.contains("disk")
    });
    assert_eq!(node.page("/health/live").0, 200);
}

/// Waits until the node is ready and takes writes, by itself.
fn ready_again(node: &Running, ledger: &mut Ledger) {
    eventually("the node is ready again", || {
        node.page("/health/ready").0 == 200
    });
    let mut client = node.client();
    eventually("writes are taken again", || {
        ledger.write(&mut client).is_none()
    });
    for _ in 0..20 {
        assert_eq!(ledger.write(&mut client), None);
    }
}

#[test]
fn below_min_free_disk_writes_are_refused_and_everything_else_goes_on() {
    let site = Site::new();
    let Some(disk) = SmallDisk::mount(&site, 64 * MIB) else {
        return;
    };
    let us = disk
        .holds(site.node("us-1"))
        .set("storage.min_free_disk", quoted("24MiB"));
    let [(us_plan, us), (_, eu)] = pair(us, site.node("eu-1"));
    let (mut client, mut far) = (us.client(), eu.client());
    let mut ledger = Ledger::default();
    for _ in 0..50 {
        assert_eq!(ledger.write(&mut client), None);
    }
    assert_eq!(client.ask(&["SADD", "set", "a", "b"]), Reply::Integer(2));
    converge(&us, &eu);

    disk.leave(20 * MIB);
    not_ready(&us);
    let error = ledger.write(&mut client).unwrap();
    assert!(
        error.starts_with("READONLY ") && error.contains("storage.min_free_disk"),
        "{error}"
    );
    for words in [
        vec!["INCR", "n"],
        vec!["SADD", "set", "c"],
        vec!["DEL", "k1"],
        vec!["EXPIRE", "k1", "9"],
    ] {
        assert!(
            client.ask(&words).error().starts_with("READONLY "),
            "{words:?}"
        );
    }
    // Reads go on, and what reads in the same pipeline.
    ledger.is_kept_by(&mut client);
    assert_eq!(client.ask(&["SCARD", "set"]), Reply::Integer(2));
    us.logged(&["ERROR", "the disk is nearly full", "writes are refused"]);
    // The other region goes on. What it ships is declined for now, not dropped.
    assert_eq!(far.ask(&["SET", "from-eu", "meanwhile"]), Reply::ok());
    assert_eq!(far.ask(&["SADD", "set", "d"]), Reply::Integer(1));

    disk.give_room();
    ready_again(&us, &mut ledger);
    us.comes_to_hold("from-eu", "meanwhile");
    converge(&us, &eu);
    ledger.is_kept_by(&mut us.client());
    ledger.is_kept_by(&mut far);
    assert!(us.stop().success());
    ledger.is_kept_by(&mut us_plan.start().client());
}

#[test]
fn what_was_acknowledged_before_the_disk_filled_up_still_reaches_the_other_region() {
    let site = Site::new();
    let Some(disk) = SmallDisk::mount(&site, 64 * MIB) else {
        return;
    };
    let us = disk
        .holds(site.node("us-1"))
        .set("storage.min_free_disk", quoted("24MiB"));
    let [(_, us), (eu_plan, eu)] = pair(us, site.node("eu-1"));
    eu.kill();
    let mut client = us.client();
    let mut ledger = Ledger::default();
    for _ in 0..100 {
        assert_eq!(ledger.write(&mut client), None);
    }
    disk.leave(20 * MIB);
    not_ready(&us);
    assert!(ledger.write(&mut client).is_some());

    // The region comes back while the disk is full: it gets everything, and the outbox is trimmed behind it.
    let eu = eu_plan.start();
    converge(&us, &eu);
    ledger.is_kept_by(&mut eu.client());
    eventually("the outbox is trimmed", || {
        us.status()["regions"][0]["outbox_entries"] == 0
    });
    assert_eq!(us.page("/health/ready").0, 503, "the disk is still full");
    disk.give_room();
    ready_again(&us, &mut ledger);
    converge(&us, &eu);
    ledger.is_kept_by(&mut eu.client());
}

/// A value that takes most of what RocksDB reserves for its log at a time, once in its row and once in the outbox.
const LARGE: usize = 15 << 20;

/// Fills the disk until RocksDB itself cannot write, again and again; each time space returns everything goes on.
fn meets_the_wall(fsync: &str) {
    let site = Site::new();
    let Some(disk) = SmallDisk::mount(&site, 96 * MIB) else {
        return;
    };
    let us = disk
        .holds(site.node("us-1"))
        .set("storage.min_free_disk", quoted("1MiB"));
    let us = us
        .set("storage.fsync", quoted(fsync))
        .set("consistency.timeout", quoted("20s"));
    let [(us_plan, us), (_, eu)] = pair(us, site.node("eu-1"));
    let pid = us.pid();
    let (mut client, mut far) = (us.client(), eu.client());
    let mut ledger = Ledger::default();
    for round in 0..2 {
        for _ in 0..20 {
            assert_eq!(ledger.write(&mut client), None);
        }
        // More than min_free_disk, so writes are taken, and less than these need, in the log's reserve or beside it.
        disk.leave(MIB + MIB / 2);
        let mut large = (0..4).map(|_| ledger.write_bytes(&mut client, LARGE));
        let error = large.find_map(|error| error).unwrap();
        assert!(
            error.starts_with("TIMEOUT ") && error.contains("may take effect"),
            "{error}"
        );
        disk.leave(0);
        let mut errors = Vec::new();
        while errors.len() < 20 {
            assert!(ledger.sizes.len() < 4000, "the disk never filled up");
            errors.extend(ledger.write(&mut client));
        }
        not_ready(&us);
        assert!(errors[19].starts_with("READONLY "), "{errors:?}");
        ledger.is_kept_by(&mut client);
        let there = format!("meanwhile-{round}");
        assert_eq!(far.ask(&["SET", "from-eu", &there]), Reply::ok());

        disk.give_room();
        ready_again(&us, &mut ledger);
        us.comes_to_hold("from-eu", &there);
        converge(&us, &eu);
        ledger.is_kept_by(&mut client);
        ledger.is_kept_by(&mut far);
    }
    assert_eq!(us.pid(), pid);
    us.kill();
    let us = us_plan.start();
    ledger.is_kept_by(&mut us.client());
    converge(&us, &eu);
}

#[test]
fn a_commit_that_meets_the_wall_is_unknown_and_everything_goes_on_when_space_returns() {
    meets_the_wall("interval");
}

#[test]
fn a_synced_commit_that_meets_the_wall_is_unknown_and_everything_goes_on_when_space_returns() {
    meets_the_wall("always");
}

#[test]
fn shards_that_nobody_writes_to_see_for_themselves_whether_the_disk_takes_writes() {
    let site = Site::new();
    let node = site.node("us-1").set("regions.eu", "0").start();
    let commits = || {
        let (_, metrics) = node.page("/metrics");
        let counts = metrics
            .lines()
            .filter_map(|line| line.strip_prefix("meridian_commit_duration_seconds_count"));
        let count = |rest: &str| rest.rsplit(' ').next()?.parse::<u64>().ok();
        counts.filter_map(count).sum::<u64>()
    };
    let before = commits();
    // Alone it ships nothing and promises nothing: it has no other reason to write.
    eventually("every shard has written twice", || commits() >= before + 4);
}
