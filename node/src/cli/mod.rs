//! The command line: what can be asked for, and the exit code of what came of it.

mod client;
mod complaint;
mod door;
mod failure;
mod status;
mod verbs;

use std::{ffi::OsString, io, num::NonZeroU32, path::PathBuf, process::ExitCode, time::Duration};

use clap::{Args, Parser, Subcommand};
use node::{
    config::Config,
    driver,
    names::{ClusterName, NodeName},
    tls,
};

use self::{complaint::complain, failure::Failure};
use crate::logging;

/// A multi-region, active-active key-value store that speaks the Redis protocol.
#[derive(Debug, Parser)]
#[command(name = "meridian", version, arg_required_else_help = true)]
pub struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Run a node until SIGINT or SIGTERM.
    Node {
        /// The node's config; see configs/us-1.toml.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Look at a config.
    #[command(subcommand)]
    Config(ConfigVerb),
    /// Make the certificates that nodes know each other by.
    #[command(subcommand)]
    Tls(TlsVerb),
    /// Show the cluster as a node sees it.
    Status(StatusArgs),
    /// Have a node leave for good: it ships what it owes, says goodbye, and ends.
    Leave(DoorArgs),
    /// Have every node forget one that will never return; its data directory is refused from then on.
    Forget {
        /// The node that is gone.
        node: NodeName,
        #[command(flatten)]
        door: DoorArgs,
    },
    /// Wait for what a node owes to others.
    #[command(subcommand)]
    Handoff(HandoffVerb),
    /// Say whether it is safe to stop a node or a region (exit 1 if it is not): whether acknowledged writes are nowhere else, and
    /// whether levels would no longer be met.
    DrainCheck {
        /// The node or the region.
        what: NodeName,
        #[command(flatten)]
        door: DoorArgs,
    },
    /// Send commands to a node, or to any Redis: one, or one a line.
    Cli(ClientArgs),
}

#[derive(Debug, Subcommand)]
enum HandoffVerb {
    /// Return when everything that the node owes was taken; exit 1 if it was not in time.
    Wait {
        /// How long at most: 60s unless given.
        #[arg(long, value_name = "T", value_parser = humantime::parse_duration, default_value = "60s")]
        timeout: Duration,
        #[command(flatten)]
        door: DoorArgs,
    },
}

#[derive(Debug, Subcommand)]
enum ConfigVerb {
    /// Say what is wrong with a config (exit 2), or print what is in force, defaults included.
    Check {
        /// The config.
        file: PathBuf,
    },
}

#[derive(Debug, Subcommand)]
enum TlsVerb {
    /// Make a cluster's authority: DIR/ca.pem, which every node needs, and DIR/ca.key, which none does.
    Init {
        /// Where to; created if it is not there.
        dir: PathBuf,
        /// The cluster's name, as in the configs: demo unless given.
        #[arg(long, value_name = "NAME")]
        cluster: Option<ClusterName>,
    },
    /// Issue a node's certificate, or renew it: DIR/NAME.pem and DIR/NAME.key.
    Issue {
        /// Where the authority is.
        dir: PathBuf,
        /// The node's name, as in its config.
        name: NodeName,
        /// How long it is valid.
        #[arg(long, value_name = "N", default_value_t = tls::DAYS_DEFAULT)]
        days: NonZeroU32,
    },
}

/// What to show of a cluster.
#[derive(Debug, Args)]
struct StatusArgs {
    /// The node's HTTP door (`listen.http`).
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:7200")]
    http: String,
    /// The JSON of /v1/status, on one line, instead of tables.
    #[arg(long)]
    json: bool,
    /// Again every second, until interrupted.
    #[arg(long)]
    watch: bool,
}

/// Which node to ask.
#[derive(Debug, Args)]
struct DoorArgs {
    /// The HTTP door of the node that is asked (`listen.http`).
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:7200")]
    http: String,
}

/// What to send where.
#[derive(Debug, Args)]
struct ClientArgs {
    /// The node's address.
    #[arg(short = 'H', long, value_name = "HOST", default_value = "127.0.0.1")]
    host: String,
    /// The node's RESP port (`listen.resp`).
    #[arg(short, long, value_name = "PORT", default_value_t = 7000)]
    port: u16,
    /// Print replies as they are, without quotes and types: the default where stdout is no terminal.
    #[arg(long, conflicts_with = "no_raw")]
    raw: bool,
    /// Print replies with quotes and types: the default in a terminal.
    #[arg(long)]
    no_raw: bool,
    /// The command and its arguments; without any, commands are read from stdin, one a line.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<OsString>,
}

/// Does what is asked for.
pub fn run(cli: Cli) -> ExitCode {
    let done = match cli.verb {
        Verb::Node { config } => run_node(config),
        Verb::Config(ConfigVerb::Check { file }) => check_config(file, io::stdout().lock()),
        Verb::Tls(TlsVerb::Init { dir, cluster }) => {
            tls::init(&dir, cluster).map_err(Failure::from)
        }
        Verb::Tls(TlsVerb::Issue { dir, name, days }) => {
            tls::issue(&dir, &name, days).map_err(Failure::from)
        }
        Verb::Status(args) => status::show(&args, io::stdout().lock()),
        Verb::Leave(door) => verbs::leave(&door.http, io::stdout().lock()),
        Verb::Forget { node, door } => verbs::forget(&door.http, &node, io::stdout().lock()),
        Verb::Handoff(HandoffVerb::Wait { timeout, door }) => {
            verbs::handoff_wait(&door.http, timeout, io::stdout().lock())
        }
        Verb::DrainCheck { what, door } => {
            verbs::drain_check(&door.http, &what, io::stdout().lock())
        }
        Verb::Cli(args) => client::run(&args, io::stdout().lock()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

fn run_node(file: PathBuf) -> Result<(), Failure> {
    let config = Config::load(&file)?;
    logging::start(&config.log)?;
    for warning in config.warnings() {
        tracing::warn!("{}: {warning}", file.display());
    }
    Ok(driver::run(config)?)
}

fn check_config(file: PathBuf, mut stdout: impl io::Write) -> Result<(), Failure> {
    let config = Config::load(&file)?;
    for warning in config.warnings() {
        complain(format_args!("{}: warning: {warning}", file.display()));
    }
    stdout.write_all(config.effective().as_bytes())?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_contradicts_itself_nowhere() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_arguments_of_a_command_may_look_like_options() {
        let cli = Cli::try_parse_from(["meridian", "cli", "-p", "1", "SET", "-p", "-1"]).unwrap();
        let Verb::Cli(args) = cli.verb else {
            panic!("another verb");
        };
        assert_eq!(args.port, 1);
        assert_eq!(args.command, ["SET", "-p", "-1"]);
    }
}
