//! The Redis protocol door: bytes in, commands to the node, replies out, over any byte stream.
//!
//! ```text
//!   bytes ── parser ── table ── commands/* ── plan ── conversation ── backend (the node)
//!                                                         │
//!   bytes ── output ── writer ──────── replies ───────────┘
//!
//!   connection   moves bytes between a stream and a conversation, and decides when to read
//!   server       accepts TCP connections, bounds their number, ends them
//! ```
//!
//! A connection works in *rounds*: everything in the read buffer (within bounds) is parsed and planned; reads are
//! answered inline while nothing of the round waits, the rest goes to the node in one submission; replies are written in
//! order, with one flush. So a connection reads its own writes, and a pipeline of a thousand commands is a few commits.

pub mod backend;
pub mod limits;
pub mod server;

mod aggregate;
mod args;
mod client_session;
mod clients;
mod commands;
mod connection;
mod error;
mod info;
mod inline;
mod levels;
mod meter;
mod multi_key;
mod number;
mod output;
mod parser;
mod plan;
mod server_state;
mod session;
mod settings;
mod table;
mod transaction;
mod writer;

#[cfg(test)]
mod tests;

pub use levels::Levels;
pub use limits::Limits;
pub use server::{Door, Server};
