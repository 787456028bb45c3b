//! What a node decides besides its shards: where a request is carried out, whom else to ask, and what comes of that.
//!
//! ```text
//!   requests ─▶ split by topology ─┬─ here ─▶ shards
//!                                  └─ there ─▶ errands ─▶ Send(question) ─▶ the other node's own requests
//!                                                 ▲ answered, lost, unsent, time ─┘      └─▶ Done(answer)
//! ```
//! Values in, values out, like a shard: the driver does it with sessions and timers, the simulator with its network and its clock.

mod counts;
mod errands;
mod incarnation;
mod split;
mod topology;

pub use self::{
    counts::Counts,
    errands::{ErrandId, Errands, Kind, Output, Plan, Request},
    incarnation::{Acquaintances, Renewed, Verdict},
    split::{Elsewhere, Split},
    topology::{CurrentTopology, Place, Topology},
};
