//! `region-sim`: regions on one machine.

use std::{io, process::ExitCode};

use clap::{Parser, Subcommand};
use region_sim::sim::{self, SimArgs};

/// Meridian's regions on one machine.
#[derive(Debug, Parser)]
#[command(name = "region-sim", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Simulates worlds under virtual time, with faults, and checks the promises.
    Sim(SimArgs),
}

fn main() -> ExitCode {
    let Command::Sim(args) = Cli::parse().command;
    match sim::run(&args, &mut io::stdout().lock()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("cannot print: {error}");
            ExitCode::FAILURE
        }
    }
}
