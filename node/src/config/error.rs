//! Why a config is refused.

use std::{fmt, io, net::SocketAddr, path::PathBuf};

use super::Size;
use crate::{
    names::{NodeName, RegionName},
    placement::table::MEMBERS_MAX,
    wording::counted,
};

/// Why a config is refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read, or is not UTF-8. *State unchanged, safe to retry.*
    #[error("{}: cannot be read: {reason}", .file.display())]
    Unreadable { file: PathBuf, reason: io::Error },
    /// The file is longer than any config. *State unchanged.*
    #[error("{}: longer than {limit}: is this a config?", .file.display())]
    TooLong { file: PathBuf, limit: Size },
    /// The text is wrong: at least one fault, one a line. *State unchanged.*
    #[error("{}", lines(.file, .faults))]
    Wrong { file: PathBuf, faults: Vec<Fault> },
}

/// One mistake in a config.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Where it is; `None` for a key that is missing together with its section.
    pub position: Option<Position>,
    /// The key, dotted from the root; empty where the text is no TOML and belongs to no key.
    pub key: String,
    /// What is wrong with it.
    pub reason: Reason,
}

/// A place in a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

/// What is wrong with one key. None of them changes any state.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// Not TOML, an unknown or missing key, or a value that is not of its type. *State unchanged.*
    #[error("{0}")]
    Malformed(String),
    /// A key or section that is there twice. *State unchanged.*
    #[error("is there twice")]
    Duplicate,
    /// Two entries of `[peers.dial]` for one node. *State unchanged.*
    #[error("two nodes of one name: '{name}' is in [peers.dial] twice")]
    DuplicateNode { name: String },
    /// A number, size or duration outside its bounds. *State unchanged.*
    #[error("{found} is out of bounds: from {lowest} to {highest}")]
    OutOfBounds {
        found: String,
        lowest: String,
        highest: String,
    },
    /// A path or name that must say something. *State unchanged.*
    #[error("must not be empty")]
    Empty,
    /// A door without authentication, opened to the network. *State unchanged.*
    #[error(
        "{address} is not a loopback address and clients are not authenticated: listen on 127.0.0.1, or set listen.allow_public = true"
    )]
    Public { address: SocketAddr },
    /// Two doors at one address. *State unchanged.*
    #[error("{address} is taken by {other}")]
    SameAddress {
        address: SocketAddr,
        other: &'static str,
    },
    /// An address that nobody can be reached at. *State unchanged.*
    #[error("{address} cannot be dialled: give an IP address and a port above 0")]
    NotDiallable { address: SocketAddr },
    /// The node is told to dial itself. *State unchanged.*
    #[error("'{name}' is this node's own name (node.name): it cannot be its own peer")]
    OwnName { name: NodeName },
    /// The node is told to dial its own door. *State unchanged.*
    #[error("{address} is this node's own address (listen.quic)")]
    OwnAddress { address: SocketAddr },
    /// Two nodes at one address. *State unchanged.*
    #[error("{address} is the address of '{other}' too")]
    SharedAddress {
        address: SocketAddr,
        other: NodeName,
    },
    /// The node's region is not one of `[regions]`. *State unchanged.*
    #[error("lacks '{region}', the region of this node (node.region)")]
    RegionMissing { region: RegionName },
    /// No region keeps a replica, so nothing could be kept. *State unchanged.*
    #[error("at least one region must keep a replica")]
    NoReplicas,
    /// Members of a region that is not one of `[regions]`. *State unchanged.*
    #[error("is no region of [regions]")]
    NoRegion,
    /// A region's members are fewer than the replicas to be placed on them. *State unchanged.*
    #[error("lists {} for {} (regions.{region})", counted(*members as u64, "node"), counted(*replicas, "replica"))]
    TooFewMembers {
        members: usize,
        replicas: u8,
        region: RegionName,
    },
    /// More members than placement can number. *State unchanged.*
    #[error("lists {members} nodes: at most {MEMBERS_MAX}")]
    TooManyMembers { members: usize },
    /// One node in two regions. *State unchanged.*
    #[error("'{name}' is listed in region '{other}' too")]
    TwoHomes { name: NodeName, other: RegionName },
    /// The node's region lists members, and not this one. *State unchanged.*
    #[error("lacks '{name}', this node (node.name)")]
    OwnNodeMissing { name: NodeName },
    /// The node is listed in a region that is not its own. *State unchanged.*
    #[error("lists '{name}', this node, whose region is '{region}' (node.region)")]
    OwnNodeElsewhere { name: NodeName, region: RegionName },
    /// A level for writes, on reads. *State unchanged.*
    #[error("each_quorum is for writes")]
    EachQuorumRead,
    /// A level that no number of answers can meet. *State unchanged.*
    #[error("asks for more replicas than this region keeps ({replicas})")]
    AboveReplicas { replicas: u8 },
    /// A limit below another one that it must contain. *State unchanged.*
    #[error("{found} is below {other} ({least}), which it must hold")]
    Below {
        found: Size,
        other: &'static str,
        least: Size,
    },
}

fn lines(file: &std::path::Path, faults: &[Fault]) -> String {
    let lines: Vec<_> = faults.iter().map(|fault| line(file, fault)).collect();
    lines.join("\n")
}

fn line(file: &std::path::Path, fault: &Fault) -> String {
    let mut line = file.display().to_string();
    if let Some(position) = fault.position {
        line += &format!(":{position}");
    }
    if !fault.key.is_empty() {
        line += &format!(": {}", fault.key);
    }
    line + &format!(": {}", fault.reason)
}
