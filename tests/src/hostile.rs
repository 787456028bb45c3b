//! What the tests of bad input share: one node as a process with a configuration of the test's own making, a client that
//! sends any bytes, and ways to look at the process from outside.

#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, its helpers too"
)]

use std::{
    collections::BTreeMap,
    env,
    fmt::Display,
    fs::{self, File},
    io::{self, BufRead, BufReader, Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    ops::Range,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    thread,
    time::{Duration, Instant, SystemTime},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use rcgen::{CertificateParams, Issuer, KeyPair};
use tempfile::TempDir;

/// How long anything may take on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// The built `meridian`: `MERIDIAN_BIN`, or what lies beside the tests.
pub fn meridian() -> PathBuf {
    if let Some(path) = env::var_os("MERIDIAN_BIN") {
        return path.into();
    }
    let tests = env::current_exe().unwrap();
    let found = tests.ancestors().map(|folder| folder.join("meridian"));
    found.into_iter().find(|path| path.is_file()).unwrap()
}

/// Waits for what has no event to wait for; fails after [`PATIENCE`].
pub fn eventually(what: impl Display, mut reached: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !reached() {
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        thread::park_timeout(Duration::from_millis(20));
    }
}

/// A folder with a cluster's authority, its nodes' certificates, configurations, logs and data.
pub struct Site {
    dir: TempDir,
    cluster: String,
}

impl Site {
    /// Of the cluster `demo`.
    pub fn new() -> Self {
        Self::of("demo")
    }

    /// Of another cluster, with an authority of its own.
    pub fn of(cluster: &str) -> Self {
        let site = Self {
            dir: tempfile::tempdir().unwrap(),
            cluster: cluster.to_owned(),
        };
        run(&["tls", "init", text(&site.tls()), "--cluster", cluster]);
        site
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    pub fn tls(&self) -> PathBuf {
        self.path().join("tls")
    }

    /// Issues a certificate for any names and years, in files named `label`.
    pub fn issue(&self, label: &str, names: &[&str], years: Range<i32>) {
        self.issue_odd(label, names, |params| {
            params.not_before = rcgen::date_time_ymd(years.start, 1, 1);
            params.not_after = rcgen::date_time_ymd(years.end, 1, 1);
        });
    }

    /// Issues a certificate for any names that ends after `validity`, in files named `label`.
    pub fn issue_for(&self, label: &str, names: &[&str], validity: Duration) {
        self.issue_odd(label, names, |params| {
            params.not_after = (SystemTime::now() + validity).into();
        });
    }

    fn issue_odd(&self, label: &str, names: &[&str], change: impl FnOnce(&mut CertificateParams)) {
        let tls = self.tls();
        let read = |file: &str| fs::read_to_string(tls.join(file)).unwrap();
        let key = KeyPair::from_pem(&read("ca.key")).unwrap();
        let issuer = Issuer::from_ca_cert_pem(&read("ca.pem"), key).unwrap();
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &issuer).unwrap();
        fs::write(tls.join(format!("{label}.pem")), certificate.pem()).unwrap();
        fs::write(tls.join(format!("{label}.key")), key.serialize_pem()).unwrap();
    }

    /// A node with a certificate, any free ports, and no peers.
    pub fn node(&self, name: &str) -> Plan {
        run(&["tls", "issue", text(&self.tls()), name]);
        let region = name.split('-').next().unwrap();
        let plan = Plan {
            home: self.path().to_owned(),
            label: name.to_owned(),
            settings: BTreeMap::new(),
            descriptors: None,
        };
        let door = quoted("127.0.0.1:0");
        plan.set("node.name", quoted(name))
            .set("node.region", quoted(region))
            .set("node.cluster", quoted(&self.cluster))
            .set(
                "node.data_dir",
                quoted(self.path().join("data").join(name).display()),
            )
            .set("listen.resp", &door)
            .set("listen.quic", &door)
            .set("listen.http", &door)
            .certificate(&self.tls(), name)
            .set("regions.us", "1")
            .set("regions.eu", "1")
            .set("storage.cache", quoted("8MiB"))
            .set("storage.shards", "2")
    }
}

impl Default for Site {
    fn default() -> Self {
        Self::new()
    }
}

/// A value of TOML that is a string.
pub fn quoted(value: impl Display) -> String {
    format!("\"{value}\"")
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Runs a verb of `meridian` that must succeed.
pub fn run(arguments: &[&str]) {
    let output = Command::new(meridian()).args(arguments).output().unwrap();
    assert!(
        output.status.success(),
        "{arguments:?}: {}",
        stderr(&output)
    );
}

pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// What a node is to be like.
#[derive(Clone)]
pub struct Plan {
    home: PathBuf,
    label: String,
    /// By dotted path, as TOML.
    settings: BTreeMap<(String, String), String>,
    /// The limit of file descriptors, if it is not that of the test.
    descriptors: Option<u32>,
}

impl Plan {
    /// Changes a setting: its dotted path, and its value as TOML.
    pub fn set(mut self, key: &str, value: impl Into<String>) -> Self {
        let (section, key) = key.rsplit_once('.').unwrap();
        let at = (section.to_owned(), key.to_owned());
        self.settings.insert(at, value.into());
        self
    }

    /// Gives its process so many file descriptors.
    pub fn descriptors(mut self, limit: u32) -> Self {
        self.descriptors = Some(limit);
        self
    }

    /// Names its files otherwise than its node, so that two plans of one node do not meet.
    pub fn label(mut self, label: &str) -> Self {
        self.label = label.to_owned();
        self
    }

    /// Shows the certificate of `name` in the folder `tls`, and trusts the authority there.
    pub fn certificate(self, tls: &Path, name: &str) -> Self {
        let file = |name: String| quoted(tls.join(name).display());
        self.set("tls.ca", file("ca.pem".to_owned()))
            .set("tls.cert", file(format!("{name}.pem")))
            .set("tls.key", file(format!("{name}.key")))
    }

    /// Dials this address.
    pub fn seed(self, quic: SocketAddr) -> Self {
        self.seeds(&[quic])
    }

    /// Dials these addresses, or names with a port.
    pub fn seeds<T: Display>(self, seeds: &[T]) -> Self {
        let seeds: Vec<_> = seeds.iter().map(quoted).collect();
        self.set("peers.seeds", format!("[{}]", seeds.join(", ")))
    }

    /// Keeps the door for peers that the node chose.
    pub fn at(self, node: &Running) -> Self {
        self.set("listen.quic", quoted(node.quic))
    }

    fn quic(&self) -> SocketAddr {
        let at = ("listen".to_owned(), "quic".to_owned());
        self.settings[&at].trim_matches('"').parse().unwrap()
    }

    pub fn data_dir(&self) -> PathBuf {
        let at = ("node".to_owned(), "data_dir".to_owned());
        self.settings[&at].trim_matches('"').into()
    }

    /// Writes the configuration.
    pub fn write(&self) -> PathBuf {
        let mut config = String::new();
        let mut current = None;
        for ((section, key), value) in &self.settings {
            if current != Some(section) {
                config += &format!("[{section}]\n");
                current = Some(section);
            }
            config += &format!("{key} = {value}\n");
        }
        let file = self.home.join(format!("{}.toml", self.label));
        fs::write(&file, config).unwrap();
        file
    }

    /// What starts the node, its output not redirected yet.
    pub fn command(&self) -> Command {
        // The kernel ends the node with the test, however that ends.
        let mut command = match self.descriptors {
            None => Command::new("setpriv"),
            Some(limit) => {
                let mut limited = Command::new("prlimit");
                limited.args([&format!("--nofile={limit}"), "--", "setpriv"]);
                limited
            }
        };
        command.args(["--pdeathsig", "KILL", "--"]).arg(meridian());
        command.args(["node", "--config"]).arg(self.write());
        command.env_remove("RUST_LOG").stdin(Stdio::null());
        command
    }

    /// Starts the node; returns when it is ready.
    pub fn start(&self) -> Running {
        let log = self.home.join(format!("{}.log", self.label));
        let mut child = self
            .command()
            .stdout(Stdio::piped())
            .stderr(File::create(&log).unwrap())
            .spawn()
            .unwrap();
        let mut ready = String::new();
        let stdout = child.stdout.take().unwrap();
        BufReader::new(stdout).read_line(&mut ready).unwrap();
        let door = |name: &str| {
            let word = ready
                .split_whitespace()
                .find_map(|word| word.strip_prefix(name));
            let address = word.and_then(|address| address.parse().ok());
            address.unwrap_or_else(|| {
                panic!(
                    "no {name}: '{ready}', {}",
                    fs::read_to_string(&log).unwrap()
                )
            })
        };
        Running {
            resp: door("resp="),
            quic: door("quic="),
            http: door("http="),
            log,
            child,
        }
    }

    /// Starts a node that must not come up; gives its exit code and what it said.
    pub fn refused(&self) -> (i32, String) {
        let child = self
            .command()
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        let output = child.unwrap().wait_with_output().unwrap();
        assert_eq!(output.stdout, b"", "a node that is not ready said so");
        (output.status.code().unwrap_or(-1), stderr(&output))
    }
}

/// A node that runs. It is killed when this is dropped.
pub struct Running {
    pub resp: SocketAddr,
    pub quic: SocketAddr,
    pub http: SocketAddr,
    log: PathBuf,
    child: Child,
}

impl Running {
    pub fn client(&self) -> Client {
        Client::connect(self.resp)
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has in memory, in bytes.
    pub fn resident(&self) -> u64 {
        resident(self.pid())
    }

    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    /// Waits for a line of its log with all of these words; gives it.
    pub fn logged(&self, words: &[&str]) -> String {
        let mut found = None;
        eventually(format!("{words:?} in the log"), || {
            let log = self.log();
            let mut lines = log.lines();
            found = lines
                .find(|line| words.iter().all(|word| line.contains(word)))
                .map(str::to_owned);
            found.is_some()
        });
        found.unwrap()
    }

    /// Asks it to stop; gives how it ended.
    pub fn stop(self) -> ExitStatus {
        kill(Pid::from_raw(self.pid() as i32), Signal::SIGTERM).unwrap();
        self.ends()
    }

    /// Waits until it ends by itself; gives how it did.
    pub fn ends(mut self) -> ExitStatus {
        let mut ended = None;
        eventually("the node stops", || {
            ended = self.child.try_wait().unwrap();
            ended.is_some()
        });
        ended.unwrap()
    }

    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// A page of its HTTP door: status and body.
    pub fn page(&self, path: &str) -> (u16, String) {
        page(self.http, path)
    }

    /// Has its HTTP door do something: status and body.
    pub fn post(&self, path: &str) -> (u16, String) {
        request(self.http, "POST", path)
    }

    /// Its `/v1/status`.
    pub fn status(&self) -> serde_json::Value {
        serde_json::from_str(&self.page("/v1/status").1).unwrap()
    }

    /// The digest of what it holds.
    pub fn digest(&self) -> String {
        self.status()["digest"].as_str().unwrap().to_owned()
    }

    /// Waits until a key has this value.
    pub fn comes_to_hold(&self, key: &str, value: &str) {
        let mut client = self.client();
        eventually(format!("{key} is {value}"), || {
            client.ask(&["GET", key]) == Reply::bulk(value)
        });
    }

    /// Fails unless it takes and gives data.
    pub fn serves(&self) {
        let mut client = self.client();
        let key = format!("served-{}", rand::random::<u64>());
        assert_eq!(client.ask(&["SET", &key, "yes"]), Reply::ok());
        assert_eq!(client.ask(&["GET", &key]), Reply::bulk("yes"));
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have been stopped already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Two nodes that ship to each other, which keep their doors to each other when they are started again.
pub fn pair(left: Plan, right: Plan) -> [(Plan, Running); 2] {
    let first = right.start();
    let right = right.at(&first);
    assert!(first.stop().success());
    let left = left.seed(right.quic());
    let node = left.start();
    let left = left.at(&node);
    let right = right.seed(node.quic);
    let other = right.start();
    [(left, node), (right, other)]
}

/// Waits until both nodes hold the same.
pub fn converge(left: &Running, right: &Running) {
    eventually("both nodes hold the same", || {
        left.digest() == right.digest()
    });
}

/// What a process has in memory, in bytes.
pub fn resident(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kibibytes = line.unwrap().trim().trim_end_matches(" kB");
    kibibytes.parse::<u64>().unwrap() << 10
}

/// A page of a node's HTTP door: status and body.
pub fn page(http: SocketAddr, path: &str) -> (u16, String) {
    request(http, "GET", path)
}

fn request(http: SocketAddr, method: &str, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(http).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: node\r\nConnection: close\r\n\r\n"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, body.to_owned())
}

/// A reply of RESP2.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    Simple(String),
    Error(String),
    Integer(i64),
    Bulk(Vec<u8>),
    Nil,
    Array(Vec<Reply>),
}

impl Reply {
    pub fn ok() -> Self {
        Self::Simple("OK".to_owned())
    }

    pub fn bulk(text: &str) -> Self {
        Self::Bulk(text.as_bytes().to_owned())
    }

    /// The text of an error; fails if it is none.
    pub fn error(&self) -> &str {
        match self {
            Self::Error(text) => text,
            other => panic!("should be an error: {other:?}"),
        }
    }
}

/// A client that sends what it likes.
pub struct Client {
    stream: TcpStream,
    replies: BufReader<TcpStream>,
}

impl Client {
    pub fn connect(resp: SocketAddr) -> Self {
        let stream = TcpStream::connect(resp).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let replies = BufReader::new(stream.try_clone().unwrap());
        Self { stream, replies }
    }

    /// Sends bytes as they are.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Says that it sends nothing more.
    pub fn finish(&self) {
        self.stream.shutdown(Shutdown::Write).unwrap();
    }

    /// The stream, to do anything with.
    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Sends a command and reads its reply.
    pub fn ask(&mut self, words: &[impl AsRef<[u8]>]) -> Reply {
        self.send(&command(words)).unwrap();
        self.reply().unwrap()
    }

    /// The next reply.
    pub fn reply(&mut self) -> io::Result<Reply> {
        let mut line = String::new();
        if self.replies.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let (kind, rest) = line.trim_end().split_at(1);
        let number = || {
            rest.parse::<i64>()
                .unwrap_or_else(|_| panic!("no reply: {line:?}"))
        };
        Ok(match kind {
            "+" => Reply::Simple(rest.to_owned()),
            "-" => Reply::Error(rest.to_owned()),
            ":" => Reply::Integer(number()),
            "$" if number() < 0 => Reply::Nil,
            "$" => {
                let mut bytes = vec![0; number() as usize + 2];
                self.replies.read_exact(&mut bytes)?;
                bytes.truncate(bytes.len() - 2);
                Reply::Bulk(bytes)
            }
            "*" => Reply::Array(
                (0..number())
                    .map(|_| self.reply())
                    .collect::<Result<_, _>>()?,
            ),
            _ => panic!("no reply of RESP2: {line:?}"),
        })
    }

    /// Whether the node has closed the connection; what it still said is dropped.
    pub fn is_closed(&mut self) -> bool {
        match io::copy(&mut self.replies, &mut io::sink()) {
            Ok(_) => true,
            Err(error) => error.kind() == io::ErrorKind::ConnectionReset,
        }
    }
}

/// A command as an array of bulk strings.
pub fn command(words: &[impl AsRef<[u8]>]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        let word = word.as_ref();
        bytes.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        bytes.extend_from_slice(word);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes
}

/// Bytes that do not compress, the same for the same seed.
pub fn noise(bytes: usize, seed: u64) -> Vec<u8> {
    use rand::{RngCore, SeedableRng};
    let mut noise = vec![0; bytes];
    rand::rngs::StdRng::seed_from_u64(seed).fill_bytes(&mut noise);
    noise
}
