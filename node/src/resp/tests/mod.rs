//! Connections over in-memory streams, before a backend that is a simple model of the node.

mod connection;
mod differential;
mod levels;
mod model;
mod tcp;
mod transaction;
mod wire;
