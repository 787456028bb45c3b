//! The algebra.
#![deny(missing_docs)]

pub mod stamp;
pub use stamp::{ActorId, Hlc, Stamp};
