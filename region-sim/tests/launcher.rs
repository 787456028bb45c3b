//! Goal: `region-sim` behaves as scripts rely on: its lines, files and exit codes, and no process that outlives it.
//! Method: the real binary over a stand-in for the node's program.

#![allow(
    clippy::unwrap_used,
    reason = "clippy does not know that helpers of tests are tests"
)]

mod support;

use std::{
    fs,
    io::{BufRead, BufReader, PipeWriter, pipe},
    net::TcpListener,
    process::{Child, Stdio},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use support::{Bench, eventually, state, stderr};

/// A launcher in front, which is killed with its test.
struct Launcher(Child);

impl Launcher {
    /// Starts one and waits for its `ready` line.
    fn up(bench: &Bench, flags: &str) -> Self {
        let mut command = bench.command(&format!("up --regions us,eu --base-port 0{flags}"));
        let mut launcher = Self(
            command
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap(),
        );
        let mut line = String::new();
        BufReader::new(launcher.0.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let file = fs::canonicalize(bench.cluster_dir())
            .unwrap()
            .join("cluster.json");
        assert_eq!(line, format!("ready {}\n", file.display()));
        launcher
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.0.id() as i32), signal).unwrap();
    }
}

impl Drop for Launcher {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn all_dead(pids: &[u64]) -> bool {
    pids.iter().all(|&pid| state(pid).is_none())
}

#[test]
fn no_node_outlives_a_launcher_that_is_killed() {
    let bench = Bench::new();
    let mut launcher = Launcher::up(&bench, "");
    let pids = bench.pids();
    assert_eq!(pids.len(), 2);
    bench.run("pause us-1");
    launcher.signal(Signal::SIGKILL);
    // Its nodes may be dead before the last of its threads is, which still holds the directory.
    assert!(!launcher.0.wait().unwrap().success());
    eventually("all nodes are dead", || all_dead(&pids));
    assert!(bench.refused("status").contains("no launcher is running"));
    bench.run("up --regions us,eu --base-port 0 --detach");
    bench.run("down");
}

#[test]
fn an_interrupted_launcher_asks_its_nodes_to_stop() {
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        let bench = Bench::new();
        let mut launcher = Launcher::up(&bench, "");
        let pids = bench.pids();
        launcher.signal(signal);
        assert!(launcher.0.wait().unwrap().success());
        assert!(all_dead(&pids));
        assert!(bench.log("us-1").contains("goodbye"));
        assert_eq!(bench.pids(), [0; 0]);
    }
}

#[test]
fn a_detached_cluster_takes_verbs_until_it_is_told_down() {
    let bench = Bench::new();
    let ready = bench.run("up --regions us,eu --base-port 0 --detach");
    assert!(
        ready.starts_with("ready /") && ready.ends_with("/cluster.json\n"),
        "{ready}"
    );
    let pids = bench.pids();
    bench.run("kill us-1");
    assert_eq!(state(pids[0]), None);
    bench.run("restart us-1");
    let newer = bench.another_program("newer");
    bench.run(&format!("upgrade us-1 {}", newer.display()));
    assert!(bench.run("status --json").contains("meridian-newer"));
    let refused = bench.refused("upgrade us-1 /nowhere/meridian");
    assert!(refused.contains("/nowhere/meridian"), "{refused}");
    bench.run("pause eu-1");
    assert_eq!(state(pids[1]), Some('T'));
    bench.run("resume eu-1");
    bench.run("wipe us-1");
    bench.run("skew us-1 -300ms");
    bench.run("link us-eu --rtt 80ms --loss 1%");
    bench.run("partition us eu");
    let status: serde_json::Value = serde_json::from_str(&bench.run("status --json")).unwrap();
    assert_eq!(status["links"][0]["cut"], true);
    assert!(
        bench
            .run("status")
            .contains("link us,eu  PARTITIONED, rtt 80ms, loss 1%")
    );
    bench.run("heal us eu");
    assert!(
        bench
            .run("status")
            .contains("link us,eu  rtt 80ms, loss 1%")
    );
    let last = bench.pids();
    bench.run("down");
    assert!(all_dead(&last));
    assert!(bench.refused("down").contains("no launcher is running"));
}

#[test]
fn verbs_that_cannot_be_done_say_why() {
    let bench = Bench::new();
    let _launcher = Launcher::up(&bench, "");
    assert!(
        bench
            .refused("kill us-7")
            .contains("'us-7' is no node or region here; there are us eu us-1 eu-1")
    );
    assert!(bench.refused("link us-eu").contains("link changes nothing"));
    assert!(
        bench
            .refused("partition us ap")
            .contains("'ap' is no node or region")
    );
    bench.run("kill us-1");
    assert!(bench.refused("pause us-1").contains("us-1 is dead"));
}

#[test]
fn a_directory_goes_on_with_its_data_and_its_shape() {
    let bench = Bench::new();
    bench.run("up --regions us,eu --base-port 0 --detach");
    let running = bench.refused("up --regions us,eu --base-port 0");
    assert!(running.contains("a launcher (process "), "{running}");
    bench.run("down");
    let other = bench.refused("up --regions us,eu,ap --base-port 0 --detach");
    assert!(
        other.contains("holds a cluster with cluster demo, regions us,eu, nodes 1"),
        "{other}"
    );
    bench.run("up --regions us,eu --base-port 0 --detach");
    assert_eq!(bench.lives("us-1"), 2);
    bench.run("down");
    bench.run("up --regions us,eu,ap --base-port 0 --fresh --detach");
    assert_eq!(bench.lives("us-1"), 1);
    bench.run("down");
}

#[test]
fn a_detached_launcher_that_fails_says_why_in_front() {
    let bench = Bench::new();
    fs::create_dir_all(bench.cluster_dir()).unwrap();
    bench.run("up --regions us,eu --base-port 0 --detach");
    bench.run("down");
    fs::write(bench.cluster_dir().join("nodes/us-1/fail"), "").unwrap();
    let reason = bench.refused("up --regions us,eu --base-port 0 --detach");
    assert!(reason.contains("us-1 did not become ready"), "{reason}");
    assert!(reason.contains("no luck today"), "{reason}");
}

#[test]
fn a_busy_port_is_named_before_anything_starts() {
    let bench = Bench::new();
    // A port in the middle of the range that the launcher would use. The one before it may be somebody else's: then another is taken.
    let named = (0..TRIES).find_map(|_| {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap();
        let base = address
            .port()
            .checked_sub(1)
            .filter(|base| *base < 65_000)?;
        let reason = bench.refused(&format!("up --regions us,eu --base-port {base}"));
        assert!(reason.contains(" is busy; use another"), "{reason}");
        reason
            .contains(&format!("{address} for eu-1's RESP is busy"))
            .then_some(reason)
    });
    assert!(named.is_some(), "the port that was taken is named");
    assert!(!bench.cluster_dir().join("nodes/us-1/log").exists());
}

#[test]
fn a_program_that_is_missing_is_named() {
    let bench = Bench::new();
    let output = bench
        .command("up --base-port 0")
        .env("MERIDIAN_BIN", "/nowhere/meridian")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr(&output).contains("no meridian binary at /nowhere/meridian"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn a_directory_may_have_a_path_longer_than_a_socket_address() {
    let bench = Bench::new();
    let deep = bench
        .cluster_dir()
        .join("d".repeat(100))
        .join("e".repeat(100));
    let launcher = |line: &str| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_region-sim"));
        command
            .args(line.split(' '))
            .arg("--dir")
            .arg(&deep)
            .env("MERIDIAN_BIN", bench.program());
        let output = command.output().unwrap();
        assert!(output.status.success(), "{line}: {}", stderr(&output));
    };
    launcher("up --regions us --base-port 0 --detach");
    launcher("kill us-1");
    launcher("down");
}

#[test]
fn a_node_that_dies_by_itself_is_reported_at_once() {
    let bench = Bench::new();
    let mut launcher = Launcher::up(&bench, "");
    kill(Pid::from_raw(bench.pids()[0] as i32), Signal::SIGKILL).unwrap();
    let mut lines = BufReader::new(launcher.0.stderr.take().unwrap()).lines();
    let line = lines.next().unwrap().unwrap();
    assert!(
        line.contains("us-1 died by itself: signal: 9 (SIGKILL)"),
        "{line}"
    );
    assert_eq!(bench.pids().len(), 1);
}

/// Pairs of ports that are tried.
const TRIES: usize = 20;

/// Stdout that nobody reads.
fn closed_pipe() -> PipeWriter {
    let (reader, writer) = pipe().unwrap();
    drop(reader);
    writer
}

#[test]
fn a_command_whose_reader_has_enough_ends_without_a_word() {
    let bench = Bench::new();
    let _launcher = Launcher::up(&bench, "");
    for line in ["status", "status --json", "--help"] {
        let output = bench.command(line).stdout(closed_pipe()).output().unwrap();
        assert_eq!(stderr(&output), "", "{line}");
        assert_eq!(output.status.code(), Some(0), "{line}");
    }
    // Nobody knows whether all of it would have passed.
    let simulation = "sim --seeds 0..2 --steps 10 --trace";
    let output = bench.command(simulation).stdout(closed_pipe()).output();
    let output = output.unwrap();
    assert_eq!(stderr(&output), "");
    assert_eq!(output.status.code(), Some(1));
    // Neither stdout nor stderr: the failure is in the exit code alone.
    let mut refused = bench.command("kill nobody");
    let refused = refused.stdout(closed_pipe()).stderr(closed_pipe());
    assert_eq!(refused.status().unwrap().code(), Some(1));
}

#[test]
fn a_cluster_whose_start_nobody_waits_for_ends_again_and_one_in_the_background_stays() {
    let bench = Bench::new();
    let up = "up --regions us,eu --base-port 0";
    let output = bench.command(up).stdout(closed_pipe()).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(bench.refused("status").contains("no launcher is running"));
    let mut detached = bench.command(&format!("{up} --detach"));
    let output = detached.stdout(closed_pipe()).output().unwrap();
    assert_eq!(
        (output.status.code(), stderr(&output)),
        (Some(0), String::new())
    );
    bench.run("status");
    bench.run("down");
}
