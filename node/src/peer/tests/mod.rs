//! Sessions between real endpoints on loopback. Every wait is for an event, with a deadline that only a failure reaches.

mod datagrams;
mod hostile;
mod life;
mod refusals;
mod targets;
mod world;
