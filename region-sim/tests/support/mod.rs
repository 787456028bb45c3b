//! A stand-in for the node's program, for tests of what the launcher does with processes, and ways
//! to look at processes from outside.

#![allow(dead_code, reason = "each test program uses its own part of this")]
#![allow(
    clippy::unwrap_used,
    reason = "clippy does not know that this is a test"
)]

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Output},
    time::{Duration, Instant},
};

use serde_json::Value;

/// Makes keys out of nothing, says that it is ready, counts its lives in its data directory, and
/// ends when it is asked to. A file `fail` beside its config makes it fail instead.
const STAND_IN: &str = r#"#!/bin/sh
case "$1 $2" in
"tls init") mkdir -p "$3"; echo ca > "$3/ca.pem"; echo ca > "$3/ca.key"; exit ;;
"tls issue") echo cert > "$3/$4.pem"; echo key > "$3/$4.key"; exit ;;
esac
config=$3
field() { sed -n "s/^$1 = \"\(.*\)\"$/\1/p" "$config"; }
echo "starting $(field name)" >&2
if [ -e "$(dirname "$config")/fail" ]; then echo "no luck today" >&2; exit 1; fi
mkdir -p "$(field data_dir)"
echo life >> "$(field data_dir)/lives"
trap 'echo "goodbye" >&2; exit 0' TERM
echo "ready node=$(field name) region=$(field region) resp=$(field resp) quic=$(field quic) http=$(field http)"
while :; do sleep 0.02; done
"#;

/// A directory with the stand-in in it, and room for clusters.
pub struct Bench {
    dir: tempfile::TempDir,
}

impl Bench {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("meridian");
        fs::write(&program, STAND_IN).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        Self { dir }
    }

    pub fn program(&self) -> PathBuf {
        self.dir.path().join("meridian")
    }

    /// The stand-in under another path, with `name` in it.
    pub fn another_program(&self, name: &str) -> PathBuf {
        let program = self.dir.path().join(format!("meridian-{name}"));
        fs::copy(self.program(), &program).unwrap();
        program
    }

    pub fn cluster_dir(&self) -> PathBuf {
        self.dir.path().join("cluster")
    }

    /// `region-sim` with `line`, for the cluster in this bench.
    pub fn command(&self, line: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_region-sim"));
        command
            .args(line.split(' '))
            .arg("--dir")
            .arg(self.cluster_dir())
            .env("MERIDIAN_BIN", self.program());
        command
    }

    /// Runs `region-sim` with `line`; returns its output if it exits 0.
    pub fn run(&self, line: &str) -> String {
        let output = self.command(line).output().unwrap();
        assert!(output.status.success(), "{line}: {}", stderr(&output));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs `region-sim` with `line`; returns its reason if it exits 1.
    pub fn refused(&self, line: &str) -> String {
        let output = self.command(line).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{line}: {}", stderr(&output));
        stderr(&output)
    }

    pub fn cluster_file(&self) -> Value {
        cluster_file(&self.cluster_dir())
    }

    pub fn pids(&self) -> Vec<u64> {
        pids(&self.cluster_file())
    }

    /// How often the stand-in began with the data that a node has.
    pub fn lives(&self, node: &str) -> usize {
        let path = self
            .cluster_dir()
            .join("nodes")
            .join(node)
            .join("data/lives");
        fs::read_to_string(path).unwrap_or_default().lines().count()
    }

    pub fn log(&self, node: &str) -> String {
        fs::read_to_string(self.cluster_dir().join("nodes").join(node).join("log")).unwrap()
    }
}

pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

pub fn cluster_file(dir: &Path) -> Value {
    serde_json::from_slice(&fs::read(dir.join("cluster.json")).unwrap()).unwrap()
}

pub fn pids(cluster_file: &Value) -> Vec<u64> {
    cluster_file["nodes"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|node| node["pid"].as_u64())
        .collect()
}

/// The state letter of a process; `None` if it is gone. One that only waits to be reaped is gone.
pub fn state(pid: u64) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?
        .1
        .trim_start()
        .chars()
        .next()
        .filter(|state| *state != 'Z')
}

/// Waits for what has no event to wait for.
pub fn eventually(what: &str, reached: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !reached() {
        assert!(Instant::now() < deadline, "not within 20 s: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
