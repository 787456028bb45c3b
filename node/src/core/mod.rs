//! The core.

pub mod identity;
pub mod message;
pub mod op;
pub mod reply;
