//! The Redis protocol.

pub mod backend;
