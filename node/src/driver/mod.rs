//! Threads and clock.
