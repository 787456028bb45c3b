//! `region-sim`: a cluster of Meridian regions on this machine, with a world of its own between them.

mod cli;
mod detach;
mod interrupt;
mod screen;
mod up;

use std::{io, process::ExitCode};

use clap::Parser;
use region_sim::{
    live::{Error, control},
    sim::{self, SimArgs},
};

use crate::cli::{Cli, Command};

fn main() -> ExitCode {
    let cli = Cli::parse();
    if let Command::Sim(args) = &cli.command {
        return simulate(args);
    }
    if let Err(e) = run(cli) {
        eprintln!("region-sim: {e}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

fn simulate(args: &SimArgs) -> ExitCode {
    match sim::run(args, &mut io::stdout().lock()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("region-sim: cannot print: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> Result<(), Error> {
    match cli.command {
        Command::Up(args) if args.detach => executor()?.block_on(detach::up(&cli.dir)),
        Command::Up(args) => {
            if args.detached {
                detach::leave_session()?;
            }
            executor()?.block_on(up::up(&cli.dir, args))
        }
        Command::Sim(_) => Ok(()), // needs no executor: see `simulate`
        Command::Verb(verb) => executor()?.block_on(send(&cli.dir, verb)),
    }
}

async fn send(dir: &std::path::Path, verb: cli::Verb) -> Result<(), Error> {
    let json = matches!(verb, cli::Verb::Status { json: true });
    let Some(status) = control::send(dir, &verb.try_into()?).await? else {
        return Ok(());
    };
    if json {
        println!(
            "{}",
            serde_json::to_string(&status).map_err(|e| Error::Refused(e.to_string()))?
        );
    } else {
        region_sim::live::table(&status)
            .iter()
            .for_each(|line| println!("{line}"));
    }
    Ok(())
}

fn executor() -> Result<tokio::runtime::Runtime, Error> {
    let executor = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    executor.map_err(|source| Error::Io {
        what: "start".to_owned(),
        source,
    })
}
