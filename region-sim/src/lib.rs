//! Regions on one machine: real processes behind emulated links, and the rules of those links.
//!
//! [`link`] says what a fault does to a datagram. [`live`] runs a cluster of real `meridian`
//! processes whose peer traffic goes through UDP relays that obey it.

#![deny(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "they panic where nobody reads: see output"
)]

pub mod chaos;
pub mod check;
pub mod link;
pub mod live;
pub mod output;
pub mod report;
pub mod sim;
pub mod workload;
