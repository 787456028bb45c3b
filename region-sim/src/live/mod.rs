//! Real `meridian` processes behind emulated links.
//!
//! ```text
//!   Builder ── start ──► Cluster ◄── verbs ── control (a Unix socket, for another shell)
//!                           │
//!                         site ────── seats: one node each ── process: started, signalled, reaped
//!                           └──────── mesh: one link each ── relays, lanes ── crate::link judges
//! ```
//!
//! No node outlives its launcher, however that dies; see `process`.

pub mod control;
pub mod relay;

mod builder;
mod cluster;
mod config;
mod error;
mod event;
mod layout;
mod log_tail;
mod mesh;
mod notation;
mod ports;
mod process;
mod program;
mod quorum;
mod seat;
mod site;
mod status;
mod threads;
mod topology;

pub use self::{
    builder::Builder,
    cluster::Cluster,
    error::Error,
    event::Event,
    layout::{Layout, NodeLayout},
    notation::{Change, Limit, RoundTrip, assignment, duration, offset_ms, round_trips},
    process::Exit,
    program::find as find_program,
    seat::Phase,
    site::NodeEntry,
    status::{ClusterStatus, LinkRow, NodeRow, Words, describe, table},
    topology::{Ends, NODES_MAX, Pair, Replicas, Topology},
};
