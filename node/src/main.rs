//! `meridian`: a node, and the tools around it.

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
