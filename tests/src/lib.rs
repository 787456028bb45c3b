//! What the end-to-end tests stand on: a world of real processes, a client that can be cut off in the middle of a
//! pipeline, load that remembers what was acknowledged, and one way to wait.

pub mod client;
pub mod hostile;
pub mod load;
pub mod patience;
pub mod world;
