//! Regions on one machine: real processes behind emulated links, and the rules of those links.
//!
//! [`link`] says what a fault does to a datagram. [`live`] runs a cluster of real `meridian`
//! processes whose peer traffic goes through UDP relays that obey it.

pub mod chaos;
pub mod check;
pub mod link;
pub mod live;
pub mod report;
pub mod sim;
pub mod workload;
