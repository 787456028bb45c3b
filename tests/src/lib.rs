//! End-to-end tests.

pub mod hostile;
