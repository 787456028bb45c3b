//! The command line.

use std::{path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand};
use region_sim::{
    chaos::ChaosArgs,
    link::Loss,
    live::{
        Builder, Change, Cluster, Ends, Error, Limit, Replicas, RoundTrip, assignment, control,
        duration, offset_ms, round_trips,
    },
    sim::SimArgs,
};

/// Meridian's regions on this machine: real processes, and the world between them.
#[derive(Debug, Parser)]
#[command(name = "region-sim", version)]
pub struct Cli {
    /// The cluster's directory.
    #[arg(long, global = true, value_name = "DIR", default_value = ".region-sim")]
    pub dir: PathBuf,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Start a cluster and stay in front until Ctrl-C
    Up(Box<UpArgs>),
    /// Simulate worlds under virtual time, with faults, and check the promises
    Sim(SimArgs),
    /// Start a cluster, strike it with faults while clients use it, and check the promises
    Chaos(ChaosArgs),
    /// Something to a running cluster.
    #[command(flatten)]
    Verb(Verb),
}

/// What cluster to start.
#[derive(Debug, Args)]
pub struct UpArgs {
    /// Regions
    #[arg(long, value_delimiter = ',', default_value = "us,eu,ap")]
    regions: Vec<String>,
    /// Nodes in each region
    #[arg(long, default_value_t = 1)]
    nodes: u16,
    /// Replicas of each key in each region, or by region: us=3,eu=2,ap=0 [default: all nodes, up to 3]
    #[arg(long, value_name = "N")]
    replicas: Option<Replicas>,
    /// Round trip times: us-eu=80ms,us-ap=150ms for regions, us-1,eu-2=80ms for nodes, 80ms for all regions
    #[arg(long, value_name = "A-B=D,…", value_parser = trips)]
    rtt: Vec<Trips>,
    /// Up to this much more delay in each direction between regions; reorders
    #[arg(long, value_name = "D", value_parser = duration)]
    jitter: Option<Duration>,
    /// Loss in each direction between regions
    #[arg(long, value_name = "P%")]
    loss: Option<Loss>,
    /// First port: node i has RESP at +i, QUIC at +100+i, HTTP at +200+i; 0 takes any free ports
    #[arg(long, value_name = "PORT", default_value_t = 7000)]
    base_port: u16,
    /// Delete first what an earlier cluster left in the directory
    #[arg(long)]
    fresh: bool,
    /// A setting for every node's configuration, like hints.window=5s
    #[arg(long, value_name = "KEY=VALUE", value_parser = assignment)]
    set: Vec<(String, String)>,
    /// The node's program [default: MERIDIAN_BIN, or meridian beside this one]
    #[arg(long, value_name = "PATH")]
    meridian: Option<PathBuf>,
    /// One node's own program, to have nodes of different builds in one cluster
    #[arg(long, value_name = "NODE=PATH", value_parser = assignment)]
    binary: Vec<(String, String)>,
    /// Return when every node is ready, and leave the cluster running
    #[arg(long)]
    pub detach: bool,
    /// This is the launcher that another one left running.
    #[arg(long, hide = true)]
    pub detached: bool,
}

/// One `--rtt`, which may name several links.
#[derive(Debug, Clone)]
struct Trips(Vec<RoundTrip>);

fn trips(text: &str) -> Result<Trips, Error> {
    round_trips(text).map(Trips)
}

impl UpArgs {
    /// The cluster that the arguments describe.
    pub fn builder(self) -> Builder {
        let mut builder = Cluster::builder()
            .regions(self.regions)
            .nodes(self.nodes)
            .round_trips(self.rtt.into_iter().flat_map(|trips| trips.0))
            .base_port(self.base_port)
            .fresh(self.fresh);
        for (key, value) in &self.set {
            builder = builder.set(key, value);
        }
        for (node, program) in &self.binary {
            builder = builder.binary(node, program);
        }
        if let Some(replicas) = self.replicas {
            builder = builder.replicas(replicas);
        }
        if let Some(jitter) = self.jitter {
            builder = builder.jitter(jitter);
        }
        if let Some(loss) = self.loss {
            builder = builder.loss(loss);
        }
        if let Some(program) = self.meridian {
            builder = builder.meridian(program);
        }
        builder
    }
}

/// Something to a running cluster. A and B are nodes or regions.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Show what every node and link does now
    Status {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Kill a node with SIGKILL
    Kill {
        /// Which
        node: String,
    },
    /// Stop a node if it is alive, and start it
    Restart {
        /// Which
        node: String,
    },
    /// Stop a node if it is alive, and start it with another program: another build of the node
    Upgrade {
        /// Which
        node: String,
        /// The program
        program: PathBuf,
    },
    /// Stop a node's process where it stands
    Pause {
        /// Which
        node: String,
    },
    /// Let a paused node go on
    Resume {
        /// Which
        node: String,
    },
    /// Kill a node, delete its data and start it
    Wipe {
        /// Which
        node: String,
    },
    /// Cut the links between A and B, or between A and all others
    Partition {
        /// A node or region
        a: String,
        /// Another
        b: Option<String>,
    },
    /// End partitions: between A and B, of A, or all
    Heal {
        /// A node or region
        a: Option<String>,
        /// Another
        b: Option<String>,
    },
    /// Change a link, both directions: us-eu for regions, us-1,eu-2 for nodes
    Link {
        /// Which
        #[arg(value_name = "A-B")]
        ends: Ends,
        /// Round trip time
        #[arg(long, value_name = "D", value_parser = duration)]
        rtt: Option<Duration>,
        /// Up to this much more in each direction; reorders
        #[arg(long, value_name = "D", value_parser = duration)]
        jitter: Option<Duration>,
        /// Loss in each direction
        #[arg(long, value_name = "P%")]
        loss: Option<Loss>,
        /// Bits per second in each direction, like 500k or 10M; 0 is no limit
        #[arg(long, value_name = "BITS")]
        rate: Option<Limit>,
    },
    /// Set a node's clock off the machine's: +300ms, -300ms, or 0 for right
    Skew {
        /// Which
        node: String,
        /// How far
        #[arg(value_parser = offset_ms, allow_hyphen_values = true)]
        offset: i64,
    },
    /// Stop every node, then the launcher
    Down,
}

/// A change that changes something.
fn some_change(change: Change) -> Result<Change, Error> {
    match change.is_empty() {
        true => Err(Error::Usage(
            "link changes nothing: give --rtt, --jitter, --loss or --rate".to_owned(),
        )),
        false => Ok(change),
    }
}

impl TryFrom<Verb> for control::Verb {
    type Error = Error;

    fn try_from(verb: Verb) -> Result<Self, Error> {
        Ok(match verb {
            Verb::Status { .. } => Self::Status,
            Verb::Kill { node } => Self::Kill { node },
            Verb::Restart { node } => Self::Restart { node },
            Verb::Upgrade { node, program } => Self::Upgrade {
                node,
                program: std::path::absolute(program).map_err(|e| Error::Usage(e.to_string()))?,
            },
            Verb::Pause { node } => Self::Pause { node },
            Verb::Resume { node } => Self::Resume { node },
            Verb::Wipe { node } => Self::Wipe { node },
            Verb::Partition { a, b } => Self::Partition { a, b },
            Verb::Heal { a, b } => Self::Heal { a, b },
            Verb::Link {
                ends,
                rtt,
                jitter,
                loss,
                rate,
            } => {
                let change = Change {
                    rtt,
                    jitter,
                    loss,
                    rate,
                };
                let (a, b, change) = (ends.a, ends.b, some_change(change)?);
                Self::Link { a, b, change }
            }
            Verb::Skew { node, offset } => Self::Skew {
                node,
                offset_ms: offset,
            },
            Verb::Down => Self::Down,
        })
    }
}

#[cfg(test)]
mod tests {
    use region_sim::chaos::scenario::Kind;

    use super::*;

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(std::iter::once("region-sim").chain(line.split(' ')))
    }

    fn verb(line: &str) -> control::Verb {
        match parse(line).unwrap().command {
            Command::Verb(verb) => verb.try_into().unwrap(),
            Command::Up(_) | Command::Sim(_) | Command::Chaos(_) => panic!("{line} is no verb"),
        }
    }

    #[test]
    fn the_directory_may_stand_anywhere() {
        for line in [
            "--dir x status",
            "status --dir x",
            "kill --dir x us-1",
            "kill us-1 --dir x",
            "up --dir x",
        ] {
            assert_eq!(parse(line).unwrap().dir, PathBuf::from("x"), "{line}");
        }
        assert_eq!(parse("down").unwrap().dir, PathBuf::from(".region-sim"));
    }

    #[test]
    fn clocks_are_set_ahead_and_behind() {
        let skew = |offset_ms| control::Verb::Skew {
            node: "us-1".to_owned(),
            offset_ms,
        };
        assert_eq!(verb("skew us-1 +300ms"), skew(300));
        assert_eq!(verb("skew us-1 -300ms"), skew(-300));
        assert_eq!(verb("skew us-1 0"), skew(0));
        assert_eq!(verb("skew us-1 -300ms --dir x"), skew(-300));
        assert_eq!(verb("skew us-1 --dir x -300ms"), skew(-300));
        assert!(parse("skew us-1 300").is_err());
    }

    #[test]
    fn a_program_is_told_by_its_absolute_path() {
        let here = std::env::current_dir().unwrap();
        let upgrade = control::Verb::Upgrade {
            node: "us-1".to_owned(),
            program: here.join("target/meridian"),
        };
        assert_eq!(verb("upgrade us-1 target/meridian"), upgrade);
        assert!(parse("upgrade us-1").is_err());
    }

    #[test]
    fn links_are_changed_by_what_is_given() {
        let change = Change {
            loss: Some("1%".parse().unwrap()),
            rate: Some(Limit::Off),
            ..Change::default()
        };
        let link = control::Verb::Link {
            a: "us-1".to_owned(),
            b: "eu-2".to_owned(),
            change,
        };
        assert_eq!(verb("link us-1,eu-2 --loss 1% --rate 0"), link);
        let Command::Verb(nothing) = parse("link us-eu").unwrap().command else {
            panic!("it is a verb")
        };
        assert!(control::Verb::try_from(nothing).is_err());
        assert!(parse("link us --rtt 80ms").is_err());
        assert!(parse("link us-eu --loss 200%").is_err());
    }

    #[test]
    fn partitions_take_one_name_or_two_and_heal_none_as_well() {
        let name = |name: &str| Some(name.to_owned());
        assert_eq!(
            verb("partition us"),
            control::Verb::Partition {
                a: "us".to_owned(),
                b: None
            }
        );
        assert_eq!(
            verb("partition us eu"),
            control::Verb::Partition {
                a: "us".to_owned(),
                b: name("eu")
            }
        );
        assert_eq!(verb("heal"), control::Verb::Heal { a: None, b: None });
        assert_eq!(
            verb("heal us eu"),
            control::Verb::Heal {
                a: name("us"),
                b: name("eu")
            }
        );
        assert!(parse("partition").is_err());
    }

    #[test]
    fn a_cluster_is_described_by_flags() {
        let line = "up --regions us,eu --nodes 2 --rtt us-eu=80ms,us-1,us-2=1ms --jitter 5ms --loss 0.5% \
                    --set hints.window=5s --set storage.shards=2 --binary us-1=/old/meridian --base-port 0 --fresh --detach";
        let Command::Up(args) = parse(&line.replace("  ", "")).unwrap().command else {
            panic!("it is up")
        };
        assert_eq!(args.regions, ["us", "eu"]);
        assert_eq!(args.rtt[0].0.len(), 2);
        assert_eq!(args.set.len(), 2);
        assert_eq!(
            args.binary[0],
            ("us-1".to_owned(), "/old/meridian".to_owned())
        );
        assert!(args.detach && args.fresh);
        assert!(parse("up --rtt us-eu").is_err());
        assert!(parse("up --set nonsense").is_err());
    }

    #[test]
    fn chaos_takes_kinds_of_faults_by_the_words_of_a_scenario() {
        let line = "chaos --seed 7 --duration 5s --faults kill,loss --regions us,eu --set storage.fsync=always";
        let Command::Chaos(args) = parse(line).unwrap().command else {
            panic!("it is chaos")
        };
        assert_eq!(args.seed, Some(7));
        assert_eq!(args.faults, [Kind::Kill, Kind::Link]);
        let said = parse("chaos --faults wipe").unwrap_err().to_string();
        assert!(said.contains("wipe is no fault here"), "{said}");
    }
}
