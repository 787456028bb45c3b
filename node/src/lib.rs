//! A Meridian node: one replica of a multi-region, active-active key-value store.
//!
//! ```text
//!   resp   http            bytes in, bytes out            [server]
//!      \   /
//!      driver ── peer      threads, clock, disk, QUIC     [server]
//!        │
//!       core               handle(input, now) -> outputs  pure
//!        │
//!      storage             one trait, two engines         memory: pure, rocks: [server]
//!        │
//!       crdt               the algebra                    pure
//! ```
//!
//! Arrows run down only. Without the `server` feature the crate is the core, the storage trait and
//! the memory engine: no socket, task, clock or RocksDB is in its graph, and the simulator links that.

pub mod core;
pub mod level;
pub mod names;
pub mod placement;
pub mod status;
pub mod storage;
pub mod wording;

#[cfg(feature = "server")]
pub mod config;
#[cfg(feature = "server")]
pub mod driver;
#[cfg(feature = "server")]
pub mod http;
#[cfg(feature = "server")]
pub mod metrics;
#[cfg(feature = "server")]
pub mod peer;
#[cfg(feature = "server")]
pub mod resp;
#[cfg(feature = "server")]
pub mod tls;
