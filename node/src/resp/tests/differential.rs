//! Goal: replies are Redis's, byte for byte.
//! Method: the same commands go to a `redis-server` 7.0 and to the model behind this door; the raw replies are
//! compared, those of unordered replies as multisets of lines.

use std::{path::PathBuf, process::Stdio};

use tokio::{
    io::AsyncWriteExt,
    net::UnixStream,
    process::{Child, Command},
};

use super::wire::{Client, PATIENCE, client};

struct Redis {
    socket: PathBuf,
    /// Killed when dropped.
    _process: Child,
    _directory: tempfile::TempDir,
}

impl Redis {
    fn start() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let socket = directory.path().join("redis.sock");
        let process = Command::new("redis-server")
            .args(["--port", "0", "--save", "", "--unixsocket"])
            .arg(&socket)
            .current_dir(directory.path())
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("redis-server is installed");
        Self {
            socket,
            _process: process,
            _directory: directory,
        }
    }

    async fn connect(&self) -> Client<UnixStream> {
        let began = std::time::Instant::now();
        loop {
            match UnixStream::connect(&self.socket).await {
                Ok(stream) => return Client::new(stream),
                Err(error) => assert!(began.elapsed() < PATIENCE, "{error}"),
            }
            tokio::task::yield_now().await;
        }
    }
}

/// A reply without an order: its lines, sorted.
fn sorted(reply: &str) -> Vec<&str> {
    let mut lines: Vec<&str> = reply.split("\r\n").collect();
    lines.sort_unstable();
    lines
}

#[tokio::test]
#[ignore = "needs redis-server 7.0"]
async fn replies_are_those_of_redis() {
    let redis = Redis::start();
    for protocol in ["2", "3"] {
        let mut theirs = redis.connect().await;
        let (mut ours, house) = client();
        for hello in [
            &mut theirs.call("FLUSHALL").await,
            &mut ours.call("FLUSHALL").await,
        ] {
            assert_eq!(hello, "+OK\r\n");
        }
        theirs.call(&format!("HELLO {protocol}")).await;
        ours.call(&format!("HELLO {protocol}")).await;
        let mut differing = Vec::new();
        for (number, line) in SCRIPT.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() {
                continue;
            }
            // Half of the reads go the long way round.
            if number == SCRIPT.lines().count() / 2 && protocol == "3" {
                house.model.turn_cold();
            }
            let words = words(line);
            let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
            let bytes = super::wire::encode(&words);
            theirs.send(&bytes).await;
            ours.send(&bytes).await;
            let (expected, seen) = (theirs.reply().await, ours.reply().await);
            let same =
                expected == seen || (is_unordered(line) && sorted(&expected) == sorted(&seen));
            if !same {
                differing.push(format!("{line}\n  redis {expected:?}\n  here  {seen:?}"));
            }
        }
        assert!(
            differing.is_empty(),
            "RESP{protocol}:\n{}",
            differing.join("\n")
        );
    }
}

#[tokio::test]
#[ignore = "needs redis-server 7.0"]
async fn broken_requests_are_answered_as_by_redis() {
    let redis = Redis::start();
    for bytes in BROKEN {
        let mut theirs = redis.connect().await;
        let (mut ours, _house) = client();
        for part in [*bytes, b"PING\r\n"] {
            // Either may have hung up already.
            let _ = theirs.stream.write_all(part).await;
            let _ = ours.stream.write_all(part).await;
        }
        let (expected, seen) = (theirs.reply().await, ours.reply().await);
        assert_eq!(seen, expected, "{}", String::from_utf8_lossy(bytes));
    }
}

/// Words of a line of the script, with the quotes of an inline command.
fn words(line: &str) -> Vec<Vec<u8>> {
    let (mut bytes, mut spans) = (Vec::new(), Vec::new());
    crate::resp::inline::split(line.as_bytes(), &mut bytes, &mut spans).expect("balanced");
    let word = |span: &crate::resp::args::Span| bytes[span.start..span.end].to_vec();
    spans.iter().map(word).collect()
}

fn is_unordered(line: &str) -> bool {
    let command = line.split_whitespace().next().unwrap_or_default();
    let unordered = [
        "smembers",
        "sinter",
        "sunion",
        "sdiff",
        "keys",
        "scan",
        "sscan",
        "srandmember",
        "spop",
        "config",
    ];
    unordered
        .iter()
        .any(|known| command.eq_ignore_ascii_case(known))
}

const BROKEN: &[&[u8]] = &[
    b"\r\n",
    b"*0\r\n",
    b"*-10\r\n",
    b"*3000000000\r\n",
    b"*abc\r\n",
    b"*3\r\n$3\r\nSET\r\n$1\r\nx\r\nfooz\r\n",
    b"*3\r\n$3\r\nSET\r\n$1\r\nx\r\n$-10\r\n",
    b"*3\r\n$3\r\nSET\r\n$1\r\nx\r\n$2000000000\r\n",
    b"*3\r\n$3\r\nSET\r\n$1\r\nx\r\n$blabla\r\n",
    b"*1\r\nfoo\r\n",
    b"*1\r\n\nfoo\r\n",
    b"*1\r\n$0\r\n\r\n",
    b"set \"\"\"test-key\"\"\" test-value\r\n",
    b"set 'k\\'x' \"\\x41\\n\"\r\n",
    b"echo \"\\x41\\n\\\"b\"\r\n",
    b"echo a\"b c\"\r\n",
    b"  PING  \t hello \n",
    b"nope\n",
];

const SCRIPT: &str = include_str!("differential.txt");
