//! Why a data directory was refused, in words that say which and what to do.

use std::{
    io,
    path::{Path, PathBuf},
};

use crate::{
    names::{ClusterName, NodeName},
    storage::StorageError,
};

/// Why a data directory was not opened.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    /// Another process has it open. *State unchanged, safe to retry.*
    #[error(
        "data directory {path} is in use by {by}: stop that process, or give this node a directory of its own"
    )]
    Locked {
        /// Which.
        path: PathBuf,
        /// Node name and process id of the holder, as it wrote them.
        by: String,
    },
    /// It belongs to another node. *State unchanged. Fatal.*
    #[error(
        "data directory {path} belongs to node '{found}', this is node '{expected}': start it as '{found}', or give this node a directory of its own"
    )]
    OtherNode {
        /// Which.
        path: PathBuf,
        /// Whose it is.
        found: NodeName,
        /// Who wanted it.
        expected: NodeName,
    },
    /// It belongs to another cluster. *State unchanged. Fatal.*
    #[error(
        "data directory {path} belongs to cluster '{found}', this node is in cluster '{expected}': correct the cluster name, or give this node a directory of its own"
    )]
    OtherCluster {
        /// Which.
        path: PathBuf,
        /// Whose it is.
        found: ClusterName,
        /// Who wanted it.
        expected: ClusterName,
    },
    /// It was written by a newer version. *State unchanged. Fatal.*
    #[error(
        "data directory {path} has format {found}, this binary knows up to {known}: run a newer binary"
    )]
    NewerFormat {
        /// Which.
        path: PathBuf,
        /// Its format.
        found: u32,
        /// The newest that this binary reads.
        known: u32,
    },
    /// The path names something other than a folder. *State unchanged. Fatal.*
    #[error(
        "data directory {path} is not a folder: move that file away, or give this node another path"
    )]
    NotADirectory {
        /// Which.
        path: PathBuf,
    },
    /// The folder holds something other than a node's data. *State unchanged. Fatal.*
    #[error(
        "data directory {path} is not Meridian's: it holds '{entry}' and no valid FORMAT file; give this node an empty or a new folder"
    )]
    Foreign {
        /// Which.
        path: PathBuf,
        /// Something in it that a node did not put there.
        entry: String,
    },
    /// It holds rows but not whose they are. *State unchanged. Fatal.*
    #[error(
        "data directory {path} holds data without an identity: restore it from a copy, or remove it and let the other regions fill a new one"
    )]
    NoIdentity {
        /// Which.
        path: PathBuf,
    },
    /// A file or folder could not be read or written. *State unchanged, safe to retry.*
    #[error(
        "data directory: {path} is not accessible: {source}; check its owner, permissions and free space"
    )]
    Inaccessible {
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// Its storage could not be opened, read or written. *State unknown, safe to retry.*
    #[error(
        "data directory {path}: {source}; check its permissions and free space, and keep a copy before any repair"
    )]
    Storage {
        /// Which.
        path: PathBuf,
        /// The engine's reason.
        source: StorageError,
    },
}

impl DirectoryError {
    /// What the system's refusal to touch `path` means.
    pub(super) fn inaccessible(path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::NotADirectory | io::ErrorKind::AlreadyExists => {
                Self::NotADirectory { path }
            }
            _ => Self::Inaccessible { path, source },
        }
    }
}
