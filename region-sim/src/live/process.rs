//! One node's process: started so that it cannot outlive the launcher, signalled without ever hitting
//! a stranger, and reaped.
//!
//! ```text
//!   fork thread ── setpriv --pdeathsig KILL ── sh: is the launcher still my parent? ── exec meridian
//! ```
//!
//! The kernel kills a process whose parent-death signal is set when the *thread* that forked it ends.
//! So all nodes are forked by one thread that lives as long as the cluster. `setpriv` sets the signal
//! and becomes the shell, the shell checks that the launcher did not die before that (then nobody
//! would ever be signalled) and becomes the node: one process id from the first to the last.

use std::{
    ffi::OsString,
    fmt,
    fs::OpenOptions,
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    sync::mpsc as blocking,
    time::Duration,
};

use nix::{
    sys::signal::{self, Signal},
    unistd::Pid,
};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, BufReader},
    process::{Child, ChildStdout, Command},
    runtime::Handle,
    sync::{mpsc, oneshot, watch},
    time::{Instant, sleep, timeout},
};

use super::{
    config::Doors,
    error::{Doing, Error},
};

/// Starts processes that die with the cluster.
#[derive(Debug)]
pub(super) struct Nursery {
    /// Its thread ends when this is dropped.
    forks: blocking::SyncSender<Fork>,
}

struct Fork {
    command: Command,
    child: oneshot::Sender<io::Result<Child>>,
}

impl Nursery {
    /// Starts the thread that forks.
    pub fn new(runtime: Handle) -> io::Result<Self> {
        let (forks, queue) = blocking::sync_channel::<Fork>(FORKS_MAX);
        std::thread::Builder::new()
            .name("nursery".to_owned())
            .spawn(move || {
                let _context = runtime.enter();
                for mut fork in queue {
                    // An asker that gave up drops the child, which kills it.
                    drop(fork.child.send(fork.command.spawn()));
                }
            })?;
        Ok(Self { forks })
    }

    /// Starts a node and waits until it is ready, or is ordered to end.
    pub async fn start(
        &self,
        start: &Start,
        mut ends: watch::Receiver<u64>,
    ) -> Result<(Process, Doors), Error> {
        let mut child = self.fork(start.command()?).await.doing(|| {
            format!(
                "start {} through setpriv (util-linux)",
                start.program.display()
            )
        })?;
        let output = child.stdout.take();
        let process = Process::mind(child)?;
        let ready = tokio::select! {
            ready = start.await_ready(&process, output) => ready,
            _ = ends.changed() => Err("it was ordered to end before it was ready".to_owned()),
        };
        match ready {
            Ok(doors) => Ok((process, doors)),
            Err(reason) => {
                process.kill().await?;
                Err(Error::NotReady {
                    node: start.node.clone(),
                    reason,
                    log_tail: start.log_since(),
                })
            }
        }
    }

    async fn fork(&self, command: Command) -> io::Result<Child> {
        let (child, forked) = oneshot::channel();
        let gone = || io::Error::other("the thread that starts processes is gone");
        self.forks
            .try_send(Fork { command, child })
            .map_err(|_| gone())?;
        forked.await.map_err(|_| gone())?
    }
}

/// What it takes to start a node.
#[derive(Debug)]
pub(super) struct Start {
    pub node: String,
    pub program: PathBuf,
    pub config: PathBuf,
    pub dir: PathBuf,
    pub log: PathBuf,
    /// Length of the log before the start: what follows is this life's.
    pub log_from: u64,
    pub limit: Duration,
}

impl Start {
    fn command(&self) -> Result<Command, Error> {
        let log = OpenOptions::new().create(true).append(true).open(&self.log);
        let log = log.doing(|| format!("open {}", self.log.display()))?;
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--", "/bin/sh", "-c", ORPHAN_CHECK]);
        command.arg(std::process::id().to_string());
        command
            .arg(&self.program)
            .arg("node")
            .arg("--config")
            .arg(&self.config);
        command
            .current_dir(&self.dir)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log);
        // Out of the terminal's foreground group: Ctrl-C is for the launcher, which stops nodes in order.
        command.process_group(0).kill_on_drop(true);
        Ok(command)
    }

    async fn await_ready(
        &self,
        process: &Process,
        output: Option<ChildStdout>,
    ) -> Result<Doors, String> {
        let output = output.ok_or("it has no output")?;
        let mut output = BufReader::new(output);
        let mut line = String::new();
        let read = async {
            let mut bounded = (&mut output).take(READY_LINE_BYTES_MAX);
            bounded.read_line(&mut line).await
        };
        let read = tokio::select! {
            read = timeout(self.limit, read) => read,
            // A child that it left behind may hold the output open.
            exit = process.exit() => return Err(format!("it ended with {exit}")),
        };
        let read = match read {
            Err(_) => {
                return Err(format!(
                    "it was not ready within {}",
                    humantime::format_duration(self.limit)
                ));
            }
            Ok(read) => read.map_err(|e| format!("its output cannot be read: {e}"))?,
        };
        if read == 0 {
            return Err(match timeout(EXIT_FOLLOWS, process.exit()).await {
                Ok(exit) => format!("it ended with {exit}"),
                Err(_) => "it closed its output".to_owned(),
            });
        }
        // Whatever else it prints must not fill the pipe and block it.
        tokio::spawn(async move { tokio::io::copy(&mut output, &mut tokio::io::sink()).await });
        parse_ready(&line, &self.node)
    }

    fn log_since(&self) -> String {
        let tail = super::log_tail::since(&self.log, self.log_from, LOG_LINES);
        tail.into_iter()
            .fold(String::new(), |text, line| format!("{text}\n    {line}"))
    }
}

/// Reads `ready node=N region=R resp=A quic=A http=A`.
fn parse_ready(line: &str, node: &str) -> Result<Doors, String> {
    let wrong = || {
        format!(
            "it said {:?} where `ready node={node} …` was due",
            line.trim_end()
        )
    };
    let fields = line.trim_end().strip_prefix("ready ").ok_or_else(wrong)?;
    let field = |name: &str| {
        fields
            .split(' ')
            .filter_map(|field| field.split_once('='))
            .find(|(key, _)| *key == name)
            .map(|(_, value)| value)
    };
    if field("node") != Some(node) {
        return Err(wrong());
    }
    let address = |name| -> Option<SocketAddr> { field(name)?.parse().ok() };
    match (address("resp"), address("quic"), address("http")) {
        (Some(resp), Some(quic), Some(http)) => Ok(Doors { resp, quic, http }),
        _ => Err(wrong()),
    }
}

/// A live process, or one that was. Dropping every clone kills it.
#[derive(Debug, Clone)]
pub(super) struct Process {
    pid: u32,
    orders: mpsc::Sender<Order>,
    exit: watch::Receiver<Option<Exit>>,
}

/// A signal to be sent.
#[derive(Debug, Clone, Copy)]
struct Order {
    signal: Signal,
    reach: Reach,
}

/// Whom a signal reaches.
#[derive(Debug, Clone, Copy)]
enum Reach {
    /// The process that was started.
    Process,
    /// The process and all that it started: the program may be a script that has the node for a child.
    Group,
}

impl Process {
    /// Puts a child into the care of a task of its own. Only that task signals and reaps it, so a
    /// signal can never reach a stranger that was given the same process id.
    fn mind(child: Child) -> Result<Self, Error> {
        let pid = child
            .id()
            .ok_or_else(|| Error::Usage("a process that was just started has no id".to_owned()))?;
        let (orders, queue) = mpsc::channel(ORDERS_MAX);
        let (exited, exit) = watch::channel(None);
        tokio::spawn(mind(child, pid, queue, exited));
        Ok(Self { pid, orders, exit })
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Sends a signal to all of its group, unless it is dead.
    async fn signal(&self, signal: Signal) {
        self.order(signal, Reach::Group).await;
    }

    async fn order(&self, signal: Signal, reach: Reach) {
        // Nobody takes orders for a dead process; that it is dead shows in `exit`.
        let _ = self.orders.send(Order { signal, reach }).await;
    }

    /// Sends a signal to all of its group, without waiting.
    pub fn signal_now(&self, signal: Signal) {
        let reach = Reach::Group;
        let _ = self.orders.try_send(Order { signal, reach });
    }

    /// Waits until it is dead and reaped.
    pub async fn exit(&self) -> Exit {
        let mut exit = self.exit.clone();
        match exit.wait_for(Option::is_some).await {
            Ok(exit) => exit.unwrap_or(Exit(None)),
            Err(_) => Exit(None),
        }
    }

    /// Kills it and waits until it is reaped.
    pub async fn kill(&self) -> Result<Exit, Error> {
        self.signal(Signal::SIGKILL).await;
        let dead = timeout(KILL_LIMIT, self.exit()).await;
        dead.map_err(|_| Error::Timeout {
            what: format!("the death of process {}", self.pid),
            limit: KILL_LIMIT,
        })
    }

    /// Asks it to stop, and kills it where it does not within `limit`.
    pub async fn stop(&self, limit: Duration) -> Result<Exit, Error> {
        // A stopped process would not see that it is asked to end.
        self.signal(Signal::SIGTERM).await;
        self.signal(Signal::SIGCONT).await;
        match timeout(limit, self.exit()).await {
            Ok(exit) => Ok(exit),
            Err(_) => self.kill().await,
        }
    }

    /// Stops it and waits until it stands still.
    ///
    /// The process is stopped before what it started. While a child of `vfork` has not become its program, its parent waits for it inside
    /// the kernel, where no stop reaches it; were the child stopped as well, they would wait for each other.
    pub async fn pause(&self) -> Result<(), Error> {
        self.order(Signal::SIGSTOP, Reach::Process).await;
        self.await_stat('T').await?;
        self.signal(Signal::SIGSTOP).await;
        Ok(())
    }

    /// Lets it go on.
    pub async fn resume(&self) -> Result<(), Error> {
        self.signal(Signal::SIGCONT).await;
        self.await_running().await
    }

    async fn await_stat(&self, state: char) -> Result<(), Error> {
        self.await_proc(|now| now == Some(state)).await
    }

    async fn await_running(&self) -> Result<(), Error> {
        self.await_proc(|now| now != Some('T')).await
    }

    async fn await_proc(&self, reached: impl Fn(Option<char>) -> bool) -> Result<(), Error> {
        let deadline = Instant::now() + KILL_LIMIT;
        while !reached(state_of(self.pid)) {
            if self.exit.borrow().is_some() {
                return Err(Error::Dead(format!("process {}", self.pid)));
            }
            if Instant::now() > deadline {
                return Err(Error::Timeout {
                    what: format!("a signal to process {}", self.pid),
                    limit: KILL_LIMIT,
                });
            }
            // The kernel has no event for this to anyone but a tracer.
            sleep(Duration::from_millis(1)).await;
        }
        Ok(())
    }
}

/// The state letter of a process, `T` for one that is stopped.
fn state_of(pid: u32) -> Option<char> {
    let stat =
        std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat")).ok()?;
    // The name before it is in parentheses and may hold anything.
    stat.rsplit_once(')')?.1.trim_start().chars().next()
}

async fn mind(
    mut child: Child,
    pid: u32,
    mut orders: mpsc::Receiver<Order>,
    exited: watch::Sender<Option<Exit>>,
) {
    let mut cared_for = true;
    let status = loop {
        let order = tokio::select! {
            biased;
            status = child.wait() => break status.ok(),
            order = orders.recv(), if cared_for => order,
        };
        cared_for = order.is_some();
        let Order { signal, reach } = order.unwrap_or(Order {
            signal: Signal::SIGKILL,
            reach: Reach::Group,
        });
        // It was not reaped yet, so the id is its own, and only death could make this fail.
        let id = Pid::from_raw(pid as i32);
        let sent = match reach {
            Reach::Process => signal::kill(id, signal),
            Reach::Group => signal::killpg(id, signal),
        };
        if let Err(errno) = sent {
            tracing::warn!(pid, %signal, %errno, "cannot signal a node");
        }
    };
    // What it left behind would keep its ports and its data. The number is not given to another group while one of this is alive.
    let _none_left = signal::killpg(Pid::from_raw(pid as i32), Signal::SIGKILL);
    exited.send_replace(Some(Exit(status)));
}

/// How a process ended; `None` if the system did not say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exit(pub Option<ExitStatus>);

impl Exit {
    /// Whether it ended by itself with status 0.
    pub fn is_clean(&self) -> bool {
        self.0.is_some_and(|status| status.success())
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(status) => status.fmt(f),
            None => f.write_str("an unknown status"),
        }
    }
}

/// Runs a program that does one thing and ends; returns what it printed on stderr when it fails.
pub(super) async fn run(program: &Path, args: &[OsString], limit: Duration) -> Result<(), String> {
    let mut command = Command::new(program);
    command
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    match timeout(limit, command.output()).await {
        Err(_) => Err(format!(
            "it took more than {}",
            humantime::format_duration(limit)
        )),
        Ok(Err(e)) => Err(e.to_string()),
        Ok(Ok(output)) if output.status.success() => Ok(()),
        Ok(Ok(output)) => Err(format!(
            "{}: {}",
            output.status,
            String::from_utf8_lossy(&output.stderr).trim_end()
        )),
    }
}

/// Ends where the launcher died before the parent-death signal was set.
const ORPHAN_CHECK: &str = r#"[ "$PPID" = "$0" ] && exec "$@""#;
const FORKS_MAX: usize = 256;
const ORDERS_MAX: usize = 16;
const READY_LINE_BYTES_MAX: u64 = 4096;
/// A process that closed its output is about to end.
const EXIT_FOLLOWS: Duration = Duration::from_secs(2);
const KILL_LIMIT: Duration = Duration::from_secs(10);
const LOG_LINES: usize = 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ready_line_names_the_node_and_its_doors() {
        let line = "ready node=us-1 region=us resp=127.0.0.1:1 quic=127.0.0.1:2 http=127.0.0.1:3\n";
        let doors = parse_ready(line, "us-1").unwrap();
        assert_eq!(doors.quic, "127.0.0.1:2".parse().unwrap());
        assert!(parse_ready(line, "us-2").is_err());
        assert!(parse_ready("ready node=us-1 resp=127.0.0.1:1", "us-1").is_err());
        assert!(
            parse_ready("hello", "us-1")
                .unwrap_err()
                .contains("\"hello\"")
        );
    }
}
