//! What can go wrong between a person, a cluster and its processes.

use std::{io, net::SocketAddr, path::PathBuf, time::Duration};

/// Why a cluster could not do what it was asked to.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An argument that means nothing. *State unchanged.*
    #[error("{0}")]
    Usage(String),
    /// A name that is neither a node nor a region here. *State unchanged.*
    #[error("'{name}' is no node or region here; there are {known}")]
    UnknownName {
        /// The name asked for.
        name: String,
        /// Those that exist.
        known: String,
    },
    /// The node's program was not found. *State unchanged.*
    #[error(
        "no meridian binary at {tried}: build it (cargo build -p node), or name it by --meridian or MERIDIAN_BIN"
    )]
    NoBinary {
        /// Where it was looked for.
        tried: String,
    },
    /// Another process has a port that a node needs. *State unchanged.*
    #[error(
        "port {address} for {node}'s {door} is busy; use another --base-port, or 0 for any free ports"
    )]
    PortBusy {
        /// The address.
        address: SocketAddr,
        /// The node that needs it.
        node: String,
        /// What it needs it for.
        door: &'static str,
    },
    /// The directory belongs to a cluster of another shape. *State unchanged.*
    #[error(
        "{dir} holds a cluster with {there}, not {asked}; use --fresh to delete it, or another --dir"
    )]
    OtherTopology {
        /// The directory.
        dir: PathBuf,
        /// What it holds.
        there: String,
        /// What was asked for.
        asked: String,
    },
    /// The directory has contents that are not from here. *State unchanged.*
    #[error("{0} was not made by region-sim; use another --dir")]
    NotOurs(PathBuf),
    /// A launcher is already at work there. *State unchanged.*
    #[error(
        "a launcher (process {pid}) is running in {dir}; stop it with `region-sim down --dir {dir}`"
    )]
    Running {
        /// The directory.
        dir: PathBuf,
        /// The launcher's process id as it noted it.
        pid: String,
    },
    /// No launcher is at work there. *State unchanged.*
    #[error("no launcher is running in {0}; start one with `region-sim up`")]
    NotRunning(PathBuf),
    /// Keys and certificates could not be made. *State changed, safe to retry.*
    #[error("`{command}` failed: {output}")]
    Tls {
        /// What was run.
        command: String,
        /// What it said.
        output: String,
    },
    /// A node did not become ready. It is dead. *State changed, safe to retry.*
    #[error("{node} did not become ready: {reason}{log_tail}")]
    NotReady {
        /// The node.
        node: String,
        /// What it did instead.
        reason: String,
        /// The end of its log, on lines of its own; empty if it wrote none.
        log_tail: String,
    },
    /// The node is dead, and the verb needs a live one. *State unchanged.*
    #[error("{0} is dead; start it with restart")]
    Dead(String),
    /// A process did not follow an order in time. *State changed, safe to retry.*
    #[error("{what} took more than {}", humantime::format_duration(*limit))]
    Timeout {
        /// What was waited for.
        what: String,
        /// For how long.
        limit: Duration,
    },
    /// The system refused. *State changed, safe to retry.*
    #[error("cannot {what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// The system's reason.
        source: io::Error,
    },
    /// The launcher refused a verb; its reason. *State changed, safe to retry* unless the reason says otherwise.
    #[error("{0}")]
    Refused(String),
    /// The cluster is going down. *Fatal.*
    #[error("the cluster is going down")]
    GoingDown,
}

/// Says what was tried when the system refuses.
pub(super) trait Doing<T> {
    /// Turns an error of the system into one of ours.
    fn doing(self, what: impl FnOnce() -> String) -> Result<T, Error>;
}

impl<T> Doing<T> for io::Result<T> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T, Error> {
        self.map_err(|source| Error::Io {
            what: what(),
            source,
        })
    }
}

impl<T> Doing<T> for nix::Result<T> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T, Error> {
        self.map_err(io::Error::from).doing(what)
    }
}
