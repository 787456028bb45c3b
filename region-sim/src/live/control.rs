//! Verbs from another shell: a Unix socket in the cluster's directory, one JSON line there, one back.

use std::{
    fs::File,
    io,
    os::fd::AsRawFd,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{UnixListener, UnixStream},
    sync::{Notify, Semaphore},
    time::timeout,
};

use super::{
    cluster::Cluster,
    error::{Doing, Error},
    layout::{CONTROL_SOCKET, Layout, remove_file},
    notation::Change,
    status::ClusterStatus,
};

/// A verb. Nodes and regions go by name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "verb", rename_all = "lowercase", deny_unknown_fields)]
pub enum Verb {
    /// What every node and link does now.
    Status,
    /// SIGKILL.
    Kill {
        /// Which node.
        node: String,
    },
    /// Stop if alive, start.
    Restart {
        /// Which node.
        node: String,
    },
    /// Stop if alive, start with another program.
    Upgrade {
        /// Which node.
        node: String,
        /// The program, by its absolute path: the launcher may be at work in another directory.
        program: PathBuf,
    },
    /// SIGSTOP.
    Pause {
        /// Which node.
        node: String,
    },
    /// SIGCONT.
    Resume {
        /// Which node.
        node: String,
    },
    /// Kill, delete data, start.
    Wipe {
        /// Which node.
        node: String,
    },
    /// Cut links.
    Partition {
        /// A node or region.
        a: String,
        /// Another, or all others.
        b: Option<String>,
    },
    /// End partitions.
    Heal {
        /// A node or region, or everything.
        a: Option<String>,
        /// Another, or all others.
        b: Option<String>,
    },
    /// Change links.
    Link {
        /// A node or region.
        a: String,
        /// Another.
        b: String,
        /// What changes.
        change: Change,
    },
    /// Set a clock off.
    Skew {
        /// Which node.
        node: String,
        /// How far ahead of the machine's clock.
        offset_ms: i64,
    },
    /// Stop everything.
    Down,
}

/// What becomes of a verb.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Answer {
    /// Done.
    Done,
    /// What `status` asked for.
    Status(ClusterStatus),
    /// Not done, and why.
    Failed(String),
}

/// Takes verbs for a cluster.
#[derive(Debug)]
pub struct Door {
    listener: UnixListener,
}

impl Door {
    /// Opens the control socket of a directory that this process has claimed, inside a tokio runtime.
    /// Calls wait until it is served.
    pub(super) fn open(dir: &Path) -> Result<Self, Error> {
        let path = dir.join(CONTROL_SOCKET);
        // Left behind by a launcher that was killed; the claim on the directory says that it is dead.
        remove_file(&path)?;
        let short = ShortPath::new(dir).doing(|| format!("open {}", dir.display()))?;
        let listener =
            UnixListener::bind(&short.path).doing(|| format!("listen at {}", path.display()))?;
        Ok(Self { listener })
    }

    /// Serves verbs until one was `down`.
    pub async fn serve(self, cluster: Arc<Cluster>) {
        let down = Arc::new(Notify::new());
        let room = Arc::new(Semaphore::new(CALLS_MAX));
        loop {
            let accepted = tokio::select! {
                biased;
                () = down.notified() => return,
                accepted = self.listener.accept() => accepted,
            };
            let (Ok((stream, _)), Ok(place)) = (accepted, room.clone().acquire_owned().await)
            else {
                // Out of descriptors, most likely: not for ever.
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            };
            let (cluster, down) = (cluster.clone(), down.clone());
            tokio::spawn(async move {
                match timeout(CALL_LIMIT, answer(stream, &cluster)).await {
                    Ok(Ok(Verb::Down)) => down.notify_one(),
                    Ok(Ok(_)) => {}
                    Ok(Err(e)) => tracing::warn!(error = %e, "a verb was not answered"),
                    Err(_) => tracing::warn!("a verb took too long"),
                }
                drop(place);
            });
        }
    }
}

async fn answer(stream: UnixStream, cluster: &Cluster) -> io::Result<Verb> {
    let (reader, mut writer) = stream.into_split();
    let mut line = String::new();
    BufReader::new(reader)
        .take(LINE_BYTES_MAX)
        .read_line(&mut line)
        .await?;
    let verb: Verb = serde_json::from_str(&line)?;
    let answer = perform(&verb, cluster)
        .await
        .unwrap_or_else(|e| Answer::Failed(e.to_string()));
    let mut line = serde_json::to_vec(&answer)?;
    line.push(b'\n');
    writer.write_all(&line).await?;
    writer.shutdown().await?;
    Ok(verb)
}

async fn perform(verb: &Verb, cluster: &Cluster) -> Result<Answer, Error> {
    match verb {
        Verb::Status => return cluster.status(STATUS_PATIENCE).await.map(Answer::Status),
        Verb::Kill { node } => cluster.kill(node).await,
        Verb::Restart { node } => cluster.restart(node).await,
        Verb::Upgrade { node, program } => cluster.upgrade(node, program).await,
        Verb::Pause { node } => cluster.pause(node).await,
        Verb::Resume { node } => cluster.resume(node).await,
        Verb::Wipe { node } => cluster.wipe(node).await,
        Verb::Partition { a, b: None } => cluster.isolate(a),
        Verb::Partition { a, b: Some(b) } => cluster.partition(a, b),
        Verb::Heal {
            a: Some(a),
            b: Some(b),
        } => cluster.heal_between(a, b),
        Verb::Heal {
            a: Some(a),
            b: None,
        } => cluster.heal_around(a),
        Verb::Heal { a: None, .. } => {
            cluster.heal();
            Ok(())
        }
        Verb::Link { a, b, change } => cluster.link(a, b, *change),
        Verb::Skew { node, offset_ms } => cluster.skew(node, *offset_ms),
        Verb::Down => cluster.down().await,
    }
    .map(|()| Answer::Done)
}

/// Sends a verb to the launcher of the cluster in `dir`; returns its status if that was the verb.
///
/// # Errors
/// If no launcher is there, or it could not do it.
pub async fn send(dir: &Path, verb: &Verb) -> Result<Option<ClusterStatus>, Error> {
    let not_running = || Error::NotRunning(dir.to_path_buf());
    let layout = Layout::existing(dir).map_err(|_| not_running())?;
    let called = async {
        let short = ShortPath::new(layout.dir())?;
        call(&short.path, verb).await
    };
    let answer = match timeout(CALL_LIMIT, called).await {
        Err(_) => {
            return Err(Error::Timeout {
                what: "the launcher's answer".to_owned(),
                limit: CALL_LIMIT,
            });
        }
        Ok(Err(e))
            if matches!(
                e.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
            ) =>
        {
            return Err(not_running());
        }
        Ok(answer) => answer.doing(|| format!("talk to the launcher in {}", dir.display()))?,
    };
    match answer {
        Answer::Done => Ok(None),
        Answer::Status(status) => Ok(Some(status)),
        Answer::Failed(reason) => Err(Error::Refused(reason)),
    }
}

async fn call(path: &Path, verb: &Verb) -> io::Result<Answer> {
    let mut stream = UnixStream::connect(path).await?;
    let mut line = serde_json::to_vec(verb)?;
    line.push(b'\n');
    stream.write_all(&line).await?;
    let mut answer = String::new();
    stream
        .take(ANSWER_BYTES_MAX)
        .read_to_string(&mut answer)
        .await?;
    if answer.is_empty() {
        return Err(io::Error::new(
            io::ErrorKind::UnexpectedEof,
            "it ended without an answer",
        ));
    }
    Ok(serde_json::from_str(&answer)?)
}

/// The control socket's path through an open descriptor of its directory: a socket's address holds 107
/// bytes, a directory's path may be longer.
struct ShortPath {
    path: PathBuf,
    _dir: File,
}

impl ShortPath {
    fn new(dir: &Path) -> io::Result<Self> {
        let dir = File::open(dir)?;
        let path = Path::new("/proc/self/fd")
            .join(dir.as_raw_fd().to_string())
            .join(CONTROL_SOCKET);
        Ok(Self { path, _dir: dir })
    }
}

const CALLS_MAX: usize = 32;
const LINE_BYTES_MAX: u64 = 64 * 1024;
const ANSWER_BYTES_MAX: u64 = 64 * 1024 * 1024;
const STATUS_PATIENCE: Duration = Duration::from_secs(1);
/// A wipe or restart may stop, kill and start a node, each with its own limit.
const CALL_LIMIT: Duration = Duration::from_secs(150);
