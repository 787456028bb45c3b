//! `meridian`: a node, and the tools around it.

#![deny(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "they panic where nobody reads: a command writes to what it is given and complains by cli::complaint"
)]

mod cli;
mod logging;

use std::process::ExitCode;

use clap::Parser;
use mimalloc::MiMalloc;

/// Requests are allocated by one thread and freed by another, which the C library's allocator is slow at: it took a tenth of the CPU
/// time of small writes.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    cli::run(cli::Cli::parse())
}
