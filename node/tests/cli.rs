//! The command line, through the built binary: what it prints where, and its exit codes.

#![cfg(feature = "server")]
#![expect(
    clippy::unwrap_used,
    reason = "clippy takes the helpers of an integration test for no tests"
)]

use std::{
    io::{BufRead, BufReader, PipeWriter, Write, pipe},
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::Arc,
    thread,
    time::Duration,
};

use node::{
    config::Config,
    http::{self, NodeView, Owed, VerbError},
    metrics,
    names::NodeName,
    status::{NodeState, NodeStatus, Reason, RegionState, RegionStatus, Status},
};
use tokio::runtime::Runtime;

fn meridian(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_meridian"));
    command.args(arguments).env_remove("RUST_LOG");
    command.stdin(Stdio::null());
    command
}

fn run(arguments: &[&str]) -> Output {
    meridian(arguments).output().unwrap()
}

fn stdout(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).unwrap()
}

fn stderr(output: &Output) -> &str {
    std::str::from_utf8(&output.stderr).unwrap()
}

fn shipped(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../configs")
        .join(name)
}

#[test]
fn config_check_prints_what_is_in_force() {
    for name in ["us-1.toml", "eu-1.toml", "ap-1.toml"] {
        let file = shipped(name);
        let output = run(&["config", "check", file.to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        assert_eq!(stderr(&output), "");
        let effective = Config::parse(stdout(&output), Path::new("stdout")).unwrap();
        assert_eq!(effective, Config::load(&file).unwrap());
    }
}

#[test]
fn a_wrong_config_exits_2_with_file_line_and_reason_and_prints_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("wrong.toml");
    let text = std::fs::read_to_string(shipped("eu-1.toml")).unwrap();
    let line = text.lines().count() + 2;
    std::fs::write(&file, format!("{text}[storage]\nfsnyc = \"always\"\n")).unwrap();
    let file = file.to_str().unwrap();
    for arguments in [["config", "check", file], ["node", "--config", file]] {
        let output = run(&arguments);
        assert_eq!(output.status.code(), Some(2));
        assert_eq!(stdout(&output), "");
        let expected = format!("{file}:{line}:1: storage.fsnyc: unknown field `fsnyc`");
        assert!(
            stderr(&output).starts_with(&expected),
            "{}",
            stderr(&output)
        );
    }
}

#[test]
fn a_config_that_cannot_be_read_exits_2_by_name() {
    for arguments in [
        ["config", "check", "no-such.toml"],
        ["node", "--config", "no-such.toml"],
    ] {
        let output = run(&arguments);
        assert_eq!(output.status.code(), Some(2));
        assert!(stderr(&output).starts_with("no-such.toml: cannot be read: "));
    }
}

#[test]
fn what_a_config_probably_does_not_mean_is_warned_of_on_stderr() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("two.toml");
    let text = std::fs::read_to_string(shipped("eu-1.toml")).unwrap();
    std::fs::write(&file, text.replace("eu = 1", "eu = 2")).unwrap();
    let output = run(&["config", "check", file.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0));
    assert!(stderr(&output).contains("warning: regions.eu: "));
    assert!(stdout(&output).contains("eu = 2"));
}

#[test]
fn wrong_usage_exits_2() {
    for arguments in [
        &[][..],
        &["nodes"],
        &["node"],
        &["config", "check"],
        &["tls", "issue", "dir", "US 1"],
        &["tls", "issue", "dir", "us-1", "--days", "0"],
        &["status", "--http"],
        &["cli", "-p", "70000"],
        // Verbs of operators come with what they operate on.
        &["depart"],
        &["repair"],
    ] {
        let output = run(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert_eq!(stdout(&output), "");
        assert_ne!(stderr(&output), "");
    }
}

#[test]
fn help_and_version_are_asked_for_and_exit_0() {
    let version = run(&["--version"]);
    assert_eq!(version.status.code(), Some(0));
    assert_eq!(
        stdout(&version),
        format!("meridian {}\n", env!("CARGO_PKG_VERSION"))
    );
    assert_eq!(run(&["--help"]).status.code(), Some(0));
}

#[test]
fn a_log_filter_that_is_none_exits_2() {
    let file = shipped("us-1.toml");
    let output = meridian(&["node", "--config", file.to_str().unwrap()])
        .env("RUST_LOG", "node=loud")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("RUST_LOG 'node=loud'"));
}

#[test]
fn certificates_are_issued_once_there_is_an_authority() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_str().unwrap();
    let early = run(&["tls", "issue", path, "us-1"]);
    assert_eq!(early.status.code(), Some(1));
    assert!(stderr(&early).contains("ca."), "{}", stderr(&early));

    assert!(
        run(&["tls", "init", path, "--cluster", "demo"])
            .status
            .success()
    );
    assert!(
        run(&["tls", "issue", path, "us-1", "--days", "7"])
            .status
            .success()
    );
    for file in ["ca.pem", "ca.key", "us-1.pem", "us-1.key"] {
        assert!(dir.path().join(file).is_file(), "{file}");
    }

    let again = run(&["tls", "init", path]);
    assert_eq!(again.status.code(), Some(1));
    assert!(stderr(&again).contains("exists"));
}

/// A node of three regions.
#[derive(Default)]
struct FakeNode {
    is_behind: bool,
    has_dropped: bool,
}

impl NodeView for FakeNode {
    async fn status(&self, _: bool) -> Status {
        Status {
            cluster: "demo".parse().unwrap(),
            node: "us-1".parse().unwrap(),
            region: "us".parse().unwrap(),
            epoch: 1,
            ready: false,
            reasons: self.ready(),
            digest: "ab".repeat(16),
            keys: 42,
            regions: vec![RegionStatus {
                name: "eu".parse().unwrap(),
                state: RegionState::Down,
                lag_seconds: 1.5,
                outbox_entries: 17,
                watermark: 1,
                needs_repair: true,
            }],
            nodes: vec![NodeStatus {
                name: "eu-1".parse().unwrap(),
                region: "eu".parse().unwrap(),
                state: NodeState::Suspect,
                phi: 9.25,
                cause: "path down".to_owned(),
                rtt_ms: Some(80.125),
                clock_offset_ms: None,
                hints: 17,
                ready: true,
                needs_repair: false,
            }],
            partitions: 1024,
            partition_digests: None,
        }
    }

    fn conflicts(&self, _: usize) -> Vec<node::status::ConflictStatus> {
        Vec::new()
    }

    fn ready(&self) -> Vec<Reason> {
        vec![Reason {
            kind: "disk".to_owned(),
            detail: "2 MiB are free".to_owned(),
        }]
    }

    async fn forget(&self, node: NodeName) -> Result<(), VerbError> {
        match node.as_str() {
            "gone" => Ok(()),
            _ => Err(VerbError::Unknown(format!(
                "no node '{node}' is known here"
            ))),
        }
    }

    async fn owed(&self, _: Duration) -> Owed {
        match self.is_behind {
            true => Owed {
                batches: 17,
                lacking: vec![BEHIND.to_owned()],
                lost: Vec::new(),
            },
            false => Owed {
                lost: self
                    .has_dropped
                    .then(|| BEHIND.to_owned())
                    .into_iter()
                    .collect(),
                ..Owed::default()
            },
        }
    }

    async fn drain_check(&self, what: String) -> Result<Vec<String>, VerbError> {
        match what.as_str() {
            "us-1" => Ok(Vec::new()),
            "us" => Ok(vec!["17 batches are in no region but us".to_owned()]),
            _ => Err(VerbError::Unknown(format!(
                "no node and no region '{what}'"
            ))),
        }
    }

    async fn leave(&self, is_forced: bool, _: Duration) -> Result<(), VerbError> {
        match self.is_behind && !is_forced {
            true => Err(VerbError::Refused(BEHIND.to_owned())),
            false => Ok(()),
        }
    }
}

/// What [`FakeNode`] says of who is behind.
const BEHIND: &str = "region eu has not taken 17";

/// Serves [`FakeNode`] for as long as the runtime lives.
fn door() -> (Runtime, SocketAddr) {
    door_of(FakeNode::default())
}

fn door_of(node: FakeNode) -> (Runtime, SocketAddr) {
    let runtime = Runtime::new().unwrap();
    let listener = runtime
        .block_on(tokio::net::TcpListener::bind("127.0.0.1:0"))
        .unwrap();
    let address = listener.local_addr().unwrap();
    let metrics = metrics::install();
    let served = http::serve(listener, Arc::new(node), metrics, std::future::pending());
    runtime.spawn(served);
    (runtime, address)
}

#[test]
fn status_shows_regions_and_nodes_as_tables() {
    let (_runtime, address) = door();
    let output = run(&["status", "--http", &address.to_string()]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let expected = format!(
        "us-1 in us of demo: not ready, 42 keys, epoch 1, digest {}\n\
         \x20 disk: 2 MiB are free\n\
         \n\
         REGION  STATE  LAG     OUTBOX  REPAIR\n\
         eu      down   1.500s  17      needed\n\
         \n\
         NODE  REGION  STATE    READY  RTT     CLOCK  PHI  HINTS  REPAIR  CAUSE\n\
         eu-1  eu      suspect  yes    80.1ms  -      9.2  17     -       path down\n",
        "ab".repeat(16)
    );
    assert_eq!(stdout(&output), expected);
}

#[test]
fn status_as_json_is_the_node_s_own() {
    let (runtime, address) = door();
    let output = run(&["status", "--http", &address.to_string(), "--json"]);
    let shown: Status = serde_json::from_str(stdout(&output)).unwrap();
    assert_eq!(shown, runtime.block_on(FakeNode::default().status(false)));
    assert_eq!(stdout(&output).lines().count(), 1);
}

#[test]
fn verbs_are_passed_on_and_refusals_exit_1_with_the_reason() {
    let (_runtime, address) = door();
    let address = address.to_string();
    let said = run(&["forget", "gone", "--http", &address]);
    assert_eq!(said.status.code(), Some(0), "{}", stderr(&said));
    assert_eq!(stdout(&said), "gone is forgotten\n");
    let said = run(&["forget", "us-9", "--http", &address]);
    assert_eq!(said.status.code(), Some(1));
    assert!(
        stderr(&said).contains("no node 'us-9'"),
        "{}",
        stderr(&said)
    );
    let said = run(&["leave", "--http", &address]);
    assert_eq!(said.status.code(), Some(0), "{}", stderr(&said));
}

#[test]
fn handoff_wait_returns_when_nothing_is_owed_and_exits_1_when_time_is_up() {
    let (_runtime, address) = door();
    let said = run(&["handoff", "wait", "--http", &address.to_string()]);
    assert_eq!(said.status.code(), Some(0), "{}", stderr(&said));
    let (_runtime, address) = door_of(FakeNode {
        is_behind: true,
        ..FakeNode::default()
    });
    let address = address.to_string();
    let said = run(&["handoff", "wait", "--timeout", "10ms", "--http", &address]);
    assert_eq!(said.status.code(), Some(1));
    assert!(stderr(&said).contains("17 batches"), "{}", stderr(&said));
    assert!(stderr(&said).contains(BEHIND), "{}", stderr(&said));
}

#[test]
fn handoff_wait_does_not_say_that_all_is_well_where_somebody_lacks_what_was_dropped() {
    let (_runtime, address) = door_of(FakeNode {
        has_dropped: true,
        ..FakeNode::default()
    });
    let said = run(&["handoff", "wait", "--http", &address.to_string()]);
    assert_eq!(said.status.code(), Some(1));
    assert!(stderr(&said).contains(BEHIND), "{}", stderr(&said));
}

#[test]
fn leave_exits_1_with_what_would_be_lost_unless_it_is_forced() {
    let (_runtime, address) = door_of(FakeNode {
        is_behind: true,
        ..FakeNode::default()
    });
    let address = address.to_string();
    let said = run(&["leave", "--timeout", "10ms", "--http", &address]);
    assert_eq!(said.status.code(), Some(1));
    assert!(stderr(&said).contains(BEHIND), "{}", stderr(&said));
    let said = run(&["leave", "--force", "--http", &address]);
    assert_eq!(said.status.code(), Some(0), "{}", stderr(&said));
}

#[test]
fn drain_check_exits_1_with_the_reasons_where_stopping_is_not_safe() {
    let (_runtime, address) = door();
    let address = address.to_string();
    let check = |what| run(&["drain-check", what, "--http", &address]);
    assert_eq!(stdout(&check("us-1")), "us-1 can be stopped\n");
    for (what, words) in [
        ("us", "in no region but us"),
        ("mars", "no node and no region 'mars'"),
    ] {
        let said = check(what);
        assert_eq!(said.status.code(), Some(1));
        assert!(stderr(&said).contains(words), "{}", stderr(&said));
    }
}

#[test]
fn a_watched_status_comes_again_and_ends_with_its_reader() {
    let (_runtime, address) = door();
    let mut watch = meridian(&[
        "status",
        "--http",
        &address.to_string(),
        "--json",
        "--watch",
    ])
    .stdout(Stdio::piped())
    .spawn()
    .unwrap();
    let mut lines = BufReader::new(watch.stdout.take().unwrap()).lines();
    assert_eq!(
        lines.next().unwrap().unwrap(),
        lines.next().unwrap().unwrap()
    );
    drop(lines);
    assert_eq!(watch.wait().unwrap().code(), Some(0));
}

/// Stdout or stderr that nobody reads.
fn closed_pipe() -> PipeWriter {
    let (reader, writer) = pipe().unwrap();
    drop(reader);
    writer
}

#[test]
fn a_command_whose_reader_has_enough_ends_without_a_word() {
    let (_runtime, address) = door();
    let address = address.to_string();
    let config = shipped("us-1.toml");
    let (port, _) = replies(HELLO_RESP3, &["$1\r\nv\r\n"]);
    for arguments in [
        &["--help"][..],
        &["config", "check", config.to_str().unwrap()],
        &["status", "--http", &address],
        &["status", "--json", "--http", &address],
        &["status", "--watch", "--http", &address],
        &["forget", "gone", "--http", &address],
        &["leave", "--http", &address],
        &["handoff", "wait", "--http", &address],
        &["drain-check", "us-1", "--http", &address],
        &["cli", "-p", &port, "GET", "k"],
    ] {
        let output = meridian(arguments).stdout(closed_pipe()).output().unwrap();
        assert_eq!(stderr(&output), "", "{arguments:?}");
        assert_eq!(output.status.code(), Some(0), "{arguments:?}");
    }
}

#[test]
fn a_failure_that_nobody_reads_of_is_in_the_exit_code() {
    let unheard = |arguments: &[&str]| {
        let mut command = meridian(arguments);
        let command = command.stdout(closed_pipe()).stderr(closed_pipe());
        command.status().unwrap().code()
    };
    let nobody = nobody().to_string();
    assert_eq!(unheard(&["status", "--http", &nobody]), Some(1));
    assert_eq!(unheard(&["config", "check", "no-such.toml"]), Some(2));
}

/// An address where nobody listens.
fn nobody() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap()
}

#[test]
fn a_node_that_is_not_there_exits_1_with_its_address() {
    let address = nobody();
    let output = run(&["status", "--http", &address.to_string()]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains(&format!("no answer from http://{address}")));

    let output = run(&["cli", "-p", &address.port().to_string(), "PING"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains(&format!("cannot connect to {address}")));
}

/// Answers each command of one connection with the next reply, after the one to HELLO; gives what was sent.
fn replies(hello: &'static str, replies: &'static [&'static str]) -> (String, Sent) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let sent = thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        let mut commands = BufReader::new(stream.try_clone().unwrap());
        let all = std::iter::once(&hello).chain(replies);
        all.map(|reply| {
            let command = read_command(&mut commands);
            (&stream).write_all(reply.as_bytes()).unwrap();
            command
        })
        .collect()
    });
    (port, sent)
}

type Sent = thread::JoinHandle<Vec<Vec<String>>>;

fn read_command(commands: &mut impl BufRead) -> Vec<String> {
    let words = read_number(commands, '*');
    let mut word = || {
        let length = read_number(commands, '$');
        let mut bytes = vec![0; length + 2];
        commands.read_exact(&mut bytes).unwrap();
        bytes.truncate(length);
        String::from_utf8(bytes).unwrap()
    };
    (0..words).map(|_| word()).collect()
}

fn read_number(commands: &mut impl BufRead, kind: char) -> usize {
    let mut line = String::new();
    commands.read_line(&mut line).unwrap();
    line.trim_end().strip_prefix(kind).unwrap().parse().unwrap()
}

const HELLO_RESP3: &str = "%1\r\n+server\r\n+meridian\r\n";

#[test]
fn one_command_is_sent_as_it_is_and_its_reply_printed() {
    let (port, sent) = replies(HELLO_RESP3, &["$3\r\na\"b\r\n"]);
    let output = run(&["cli", "-p", &port, "--no-raw", "SET", "k e y", "-1"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(stdout(&output), "\"a\\\"b\"\n");
    assert_eq!(
        sent.join().unwrap(),
        [vec!["HELLO", "3"], vec!["SET", "k e y", "-1"]]
    );
}

#[test]
fn a_reply_that_is_an_error_is_printed_and_exits_1() {
    let (port, sent) = replies("-ERR unknown command\r\n", &["-WRONGTYPE no\r\n"]);
    let output = run(&["cli", "-p", &port, "SADD", "k", "v"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(stdout(&output), "WRONGTYPE no\n");
    assert_eq!(stderr(&output), "");
    sent.join().unwrap();
}

#[test]
fn lines_of_stdin_are_commands_of_one_connection() {
    let (port, sent) = replies(HELLO_RESP3, &["+OK\r\n", "*2\r\n:1\r\n_\r\n"]);
    let mut child = meridian(&["cli", "-p", &port, "--no-raw"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin
        .write_all(b"SET k \"a b\"\n\nMGET k l\nquit\nnot sent\n")
        .unwrap();
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(stdout(&output), "OK\n1) (integer) 1\n2) (nil)\n");
    assert_eq!(
        sent.join().unwrap()[1..],
        [vec!["SET", "k", "a b"], vec!["MGET", "k", "l"]]
    );
}

#[test]
fn what_is_no_redis_is_said_to_be_none() {
    let (_runtime, address) = door();
    let output = run(&["cli", "-p", &address.port().to_string(), "PING"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("this is not the Redis protocol: 'HTTP/1.1 400"));
}
