//! `region-sim`: a cluster of Meridian regions on this machine, with a world of its own between them.

#![deny(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "they panic where nobody reads: see region_sim::output"
)]

mod cli;
mod detach;
mod interrupt;
mod screen;
mod up;

use std::{
    io::{self, Write},
    process::ExitCode,
};

use clap::Parser;
use region_sim::{
    chaos::{self, ChaosArgs, judge::Ruling},
    live::{Error, control},
    output::{self, complain},
    sim::{self, SimArgs},
};

use crate::{
    cli::{Cli, Command},
    interrupt::Interrupts,
};

fn main() -> ExitCode {
    let cli = Cli::parse();
    match &cli.command {
        Command::Sim(args) => return simulate(args),
        Command::Chaos(args) => return make_chaos(args),
        Command::Up(_) | Command::Verb(_) => {}
    }
    if let Err(e) = run(cli) {
        complain(format_args!("region-sim: {e}"));
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

fn simulate(args: &SimArgs) -> ExitCode {
    let mut passed = false;
    let printed = output::print(|mut out| {
        passed = sim::run(args, &mut out)?;
        Ok(())
    });
    if let Err(error) = printed {
        complain(format_args!("region-sim: cannot print: {error}"));
    }
    // Where the reader had enough before the end, nobody knows whether the rest would have passed.
    if passed {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
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
        Command::Sim(_) | Command::Chaos(_) => Ok(()), // see `main`
        Command::Verb(verb) => executor()?.block_on(send(&cli.dir, verb)),
    }
}

fn make_chaos(args: &ChaosArgs) -> ExitCode {
    let outcome = executor().map_err(Into::into).and_then(|executor| {
        executor.block_on(async {
            let mut interrupts = Interrupts::new()?;
            tokio::select! {
                biased;
                () = interrupts.next() => Err(Error::Refused("interrupted: no verdict".to_owned()).into()),
                outcome = chaos::run(args) => outcome,
            }
        })
    });
    match outcome {
        Ok((run, page)) => {
            let told = output::print(|out| tell(&run, &page, out));
            if told.is_ok() && run.has_passed() {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            }
        }
        Err(error) => {
            complain(format_args!("region-sim: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// Prints the verdict; the last lines say where the report is, and how to strike the same faults again.
fn tell(run: &chaos::Run, page: &std::path::Path, out: &mut dyn Write) -> io::Result<()> {
    for verdict in &run.verdicts {
        let promise = verdict.promise;
        match &verdict.ruling {
            Ruling::Held => writeln!(out, "{promise:<5} held    {}", verdict.words)?,
            Ruling::NotJudged(reason) => {
                writeln!(out, "{promise:<5} -       not judged: {reason}")?
            }
            Ruling::Broken(details) => {
                writeln!(out, "{promise:<5} BROKEN  {}", verdict.words)?;
                for detail in details.iter().take(DETAILS_SHOWN) {
                    writeln!(out, "      {detail}")?;
                }
                let left = details.len().saturating_sub(DETAILS_SHOWN);
                if left > 0 {
                    writeln!(out, "      and {left} more, in the report")?;
                }
            }
        }
    }
    writeln!(out, "{}", run.summary())?;
    writeln!(out, "report {}", page.display())?;
    writeln!(out, "same faults again: {}", run.command)
}

async fn send(dir: &std::path::Path, verb: cli::Verb) -> Result<(), Error> {
    let json = matches!(verb, cli::Verb::Status { json: true });
    let Some(status) = control::send(dir, &verb.try_into()?).await? else {
        return Ok(());
    };
    let lines = if json {
        vec![serde_json::to_string(&status).map_err(|e| Error::Refused(e.to_string()))?]
    } else {
        region_sim::live::table(&status)
    };
    let printed = output::print(|out| lines.iter().try_for_each(|line| writeln!(out, "{line}")));
    printed.map(drop).map_err(|source| Error::Io {
        what: "print the status".to_owned(),
        source,
    })
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

/// Violations of one promise that are printed: the first ones say most.
const DETAILS_SHOWN: usize = 5;
