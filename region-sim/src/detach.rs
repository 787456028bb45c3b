//! `up --detach`: a launcher in the background, and one in front that waits until it is ready.
//!
//! The one in front runs this program again, with its output in a pipe, and passes on the `ready`
//! line. If it dies before that, the other notices that nobody can be told, and ends.

use std::{
    env, fs,
    io::{self, Read, Seek, SeekFrom},
    path::Path,
    process::Stdio,
    time::Duration,
};

use region_sim::{
    live::{Error, Layout},
    output,
};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
    time::timeout,
};

/// Starts a launcher in the background; returns when its cluster is ready.
pub async fn up(dir: &Path) -> Result<(), Error> {
    let log_path = Layout::open(dir)?.launcher_log();
    let log = fs::OpenOptions::new()
        .create(true)
        .append(true)
        .read(true)
        .open(&log_path);
    let mut log = doing("open the launcher's log", log)?;
    let said_before = doing("read the launcher's log", log.seek(SeekFrom::End(0)))?;
    let mut launcher = spawn(doing("open the launcher's log", log.try_clone())?)?;
    match ready_line(&mut launcher).await? {
        Some(ready) => {
            let said = output::print(|out| out.write_all(ready.as_bytes()));
            doing("say that the cluster is ready", said).map(drop)
        }
        None => {
            doing("wait for the launcher", launcher.wait().await)?;
            Err(Error::Refused(words_since(&mut log, said_before)))
        }
    }
}

fn spawn(log: fs::File) -> Result<Child, Error> {
    let program = doing("find this executable", env::current_exe())?;
    let args = env::args_os().skip(1).map(|arg| {
        if arg == "--detach" {
            "--detached".into()
        } else {
            arg
        }
    });
    let mut command = Command::new(program);
    command
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log);
    doing("start a launcher in the background", command.spawn())
}

/// What the launcher says when it is ready; `None` if it ends instead.
async fn ready_line(launcher: &mut Child) -> Result<Option<String>, Error> {
    let Some(output) = launcher.stdout.take() else {
        return Ok(None);
    };
    let mut line = String::new();
    let mut output = BufReader::new(output);
    match timeout(START_LIMIT, output.read_line(&mut line)).await {
        Err(_) => Err(Error::Timeout {
            what: "the start of the cluster".to_owned(),
            limit: START_LIMIT,
        }),
        Ok(read) => Ok((doing("listen to the launcher", read)? > 0).then_some(line)),
    }
}

/// What a launcher that ended said.
fn words_since(log: &mut fs::File, from: u64) -> String {
    let mut words = Vec::new();
    let read = log
        .seek(SeekFrom::Start(from))
        .and_then(|_| log.take(WORDS_BYTES_MAX).read_to_end(&mut words));
    let words = String::from_utf8_lossy(&words);
    match (read, words.trim_end()) {
        (Err(e), _) => format!("the launcher ended, and its log cannot be read: {e}"),
        (Ok(_), "") => "the launcher ended without a word".to_owned(),
        (Ok(_), words) => words
            .strip_prefix("region-sim: ")
            .unwrap_or(words)
            .to_owned(),
    }
}

/// Leaves the terminal's session, so that neither its end nor Ctrl-C reaches this process.
pub fn leave_session() -> Result<(), Error> {
    doing(
        "leave the session",
        nix::unistd::setsid().map_err(io::Error::from),
    )
    .map(drop)
}

fn doing<T>(what: &str, result: io::Result<T>) -> Result<T, Error> {
    result.map_err(|source| Error::Io {
        what: what.to_owned(),
        source,
    })
}

/// Nodes and keys have limits of their own within it.
const START_LIMIT: Duration = Duration::from_secs(600);
const WORDS_BYTES_MAX: u64 = 64 * 1024;
