//! `region-sim chaos`: the simulator's load and the simulator's oracles on real processes, disks and sockets.
//!
//! ```text
//!   scenario + seed ──► schedule ──► storm ──► Cluster (live): kill, pause, cut, skew …
//!                                                 ▲      │ status, every 400 ms
//!                       workload ──► clients ─────┘      ▼
//!                                       │ history     samples
//!            heal ─► ending: settled?   ▼                │
//!                    every replica ─► judge (check) ─► report
//! ```
//!
//! The faults follow from the seed; what clients meet does not, because processes, disks and clocks are real.

pub mod clients;
pub mod command;
pub mod disk;
pub mod ending;
pub mod fault;
pub mod judge;
pub mod progress;
pub mod samples;
pub mod scenario;
pub mod schedule;
pub mod stop;
pub mod storm;

use std::{
    io,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use clap::Args;
use rand::{Rng, SeedableRng, rngs::StdRng};

use self::{
    clients::{Asked, Clients, Manners},
    ending::Ending,
    fault::Fault,
    judge::{Evidence, Verdict},
    progress::Progress,
    samples::{Sample, Samplers},
    scenario::{Kind, Scenario, ScenarioError},
    schedule::Schedule,
    storm::{Target, Wound, Wounds},
};
use crate::{
    live::{Cluster, Error, NodeEntry, Topology, assignment, duration},
    report,
    workload::Outcome,
};

/// Chaos on real processes.
#[derive(Debug, Clone, Args)]
pub struct ChaosArgs {
    /// Strikes the same faults again; drawn and said unless given
    #[arg(long)]
    pub seed: Option<u64>,
    /// How long faults strike [default: what the scenario says, or 60s]
    #[arg(long, value_name = "D", value_parser = duration)]
    pub duration: Option<Duration>,
    /// A scenario, like those in configs/chaos [default: every kind of fault]
    #[arg(long, value_name = "FILE")]
    pub scenario: Option<PathBuf>,
    /// Only these kinds of the scenario's faults: kill,pause,isolate,partition,one-way,region-loss,link,skew,disk
    #[arg(long, value_delimiter = ',', value_name = "KIND,…")]
    pub faults: Vec<Kind>,
    /// Regions, instead of the scenario's
    #[arg(long, value_delimiter = ',', value_name = "NAME,…")]
    pub regions: Vec<String>,
    /// Nodes in each region, instead of the scenario's
    #[arg(long)]
    pub nodes: Option<u16>,
    /// A setting for every node's configuration besides the scenario's, like storage.fsync=always
    #[arg(long, value_name = "KEY=VALUE", value_parser = assignment)]
    pub set: Vec<(String, String)>,
    /// Where the report goes; an older one there is replaced
    #[arg(long, value_name = "DIR", default_value = "chaos-report")]
    pub report: PathBuf,
    /// The node's program [default: MERIDIAN_BIN, or meridian beside this one]
    #[arg(long, value_name = "PATH")]
    pub meridian: Option<PathBuf>,
}

/// Why there is no verdict.
#[derive(Debug, thiserror::Error)]
pub enum ChaosError {
    /// The scenario means nothing. *State unchanged.*
    #[error(transparent)]
    Scenario(#[from] ScenarioError),
    /// The cluster could not be started. *State unchanged.*
    #[error(transparent)]
    Cluster(#[from] Error),
    /// The system refused. *State changed, safe to retry.*
    #[error("cannot {what}: {source}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// The system's reason.
        source: io::Error,
    },
}

/// All that is known of a run.
#[derive(Debug)]
pub struct Run {
    /// The command that strikes the same faults again.
    pub command: String,
    /// What it was drawn from.
    pub seed: u64,
    /// What was asked for.
    pub scenario: Scenario,
    /// The nodes' names, in order of index.
    pub nodes: Vec<String>,
    /// What clients asked, in order.
    pub asked: Vec<Asked>,
    /// What nodes said of themselves, in order of time.
    pub samples: Vec<Sample>,
    /// The faults as they were.
    pub wounds: Vec<Wound>,
    /// How long a busy disk's own syncs took.
    pub syncs: Vec<Duration>,
    /// How the cluster ended.
    pub ending: Ending,
    /// What is to be said of each promise.
    pub verdicts: Vec<Verdict>,
}

impl Run {
    /// Whether every promise that was judged held.
    pub fn has_passed(&self) -> bool {
        !self.verdicts.iter().any(Verdict::is_broken)
    }

    /// The run in a line.
    pub fn summary(&self) -> String {
        let count = |is: fn(&Outcome) -> bool| {
            self.asked
                .iter()
                .filter(|asked| is(&asked.operation.outcome))
                .count()
        };
        let settled = match self.ending.settled_after {
            Some(after) => format!("settled {:.1} s after the storm", after.as_secs_f64()),
            None => format!("not settled {:?} after the storm", self.scenario.settle),
        };
        format!(
            "seed {}: {} commands answered, {} refused, {} unknown, under {} faults; {settled}",
            self.seed,
            count(|outcome| matches!(outcome, Outcome::Replied(_))),
            count(|outcome| matches!(outcome, Outcome::Refused)),
            count(|outcome| matches!(outcome, Outcome::Pending | Outcome::Unknown)),
            self.wounds.len()
        )
    }
}

/// Runs a scenario, judges it and writes the report. Gives the run, and the report's page.
///
/// # Errors
/// If the scenario means nothing, the cluster does not start, or the report cannot be written.
pub async fn run(args: &ChaosArgs) -> Result<(Run, PathBuf), ChaosError> {
    let scenario = scenario(args)?;
    let seed = args
        .seed
        .unwrap_or_else(|| u64::from(StdRng::from_os_rng().random::<u32>()));
    let schedule = Schedule::draw(&scenario, seed)?;
    let progress = Progress::new(scenario.duration);
    progress.say(&format!(
        "seed {seed}: starting {} nodes",
        scenario.topology()?.len()
    ));
    // Declared before the cluster, so that it is deleted after the last node is gone.
    let dir = tempfile::tempdir().map_err(doing("make a directory"))?;
    let trial = Trial::start(scenario, seed, dir.path(), args).await?;
    let run = trial.run(&schedule, &progress, again(args, seed)).await?;
    progress.finish();
    let logs = (!run.has_passed()).then(|| trial.cluster.nodes());
    let page = report::write(&args.report, &run, &logs.unwrap_or_default())
        .map_err(doing("write the report"))?;
    trial.cluster.down().await?;
    Ok((run, page))
}

fn scenario(args: &ChaosArgs) -> Result<Scenario, ScenarioError> {
    let mut scenario = match &args.scenario {
        Some(path) => Scenario::load(path)?,
        None => Scenario::everything(),
    };
    if let Some(duration) = args.duration {
        scenario.duration = duration;
    }
    if !args.regions.is_empty() {
        scenario.regions = args.regions.clone();
    }
    if let Some(nodes) = args.nodes {
        scenario.nodes = nodes;
    }
    if !args.faults.is_empty() {
        scenario.keep(|kind| args.faults.contains(&kind));
    }
    if args.scenario.is_none() && scenario.regions.len() == 1 {
        scenario.keep(|kind| !kind.is_between_regions());
    }
    scenario.check()?;
    Ok(scenario)
}

/// The command that strikes the same faults again.
fn again(args: &ChaosArgs, seed: u64) -> String {
    let mut words = vec![format!("region-sim chaos --seed {seed}")];
    if let Some(duration) = args.duration {
        words.push(format!(
            "--duration {}",
            humantime::format_duration(duration)
                .to_string()
                .replace(' ', "")
        ));
    }
    if let Some(scenario) = &args.scenario {
        words.push(format!("--scenario {}", scenario.display()));
    }
    if !args.faults.is_empty() {
        let kinds: Vec<&str> = args.faults.iter().map(|kind| kind.word()).collect();
        words.push(format!("--faults {}", kinds.join(",")));
    }
    if !args.regions.is_empty() {
        words.push(format!("--regions {}", args.regions.join(",")));
    }
    if let Some(nodes) = args.nodes {
        words.push(format!("--nodes {nodes}"));
    }
    let settings = args.set.iter();
    words.extend(settings.map(|(key, value)| format!("--set {key}={value}")));
    words.join(" ")
}

/// A cluster, and what is to happen to it.
struct Trial {
    scenario: Scenario,
    seed: u64,
    topology: Topology,
    cluster: Arc<Cluster>,
    /// Nodes that died by themselves.
    deaths: Arc<Mutex<Vec<String>>>,
}

impl Trial {
    async fn start(
        scenario: Scenario,
        seed: u64,
        dir: &std::path::Path,
        args: &ChaosArgs,
    ) -> Result<Self, ChaosError> {
        let deaths: Arc<Mutex<Vec<String>>> = Arc::default();
        let heard = deaths.clone();
        let mut builder = Cluster::builder()
            .cluster("chaos")
            .regions(scenario.regions.clone())
            .nodes(scenario.nodes)
            .rtt(scenario.rtt)
            .seed(seed)
            .dir(dir)
            .on_event(move |event| {
                if event.is_surprise() {
                    let text = format!(
                        "{:.1} s after the start {}",
                        event.after.as_secs_f64(),
                        event.text
                    );
                    heard
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .push(text);
                }
            });
        if let Some(replicas) = scenario.replicas {
            builder = builder.replicas(replicas);
        }
        for (key, value) in &scenario.node {
            builder = builder.set(key, &value.to_string());
        }
        for (key, value) in &args.set {
            builder = builder.set(key, value);
        }
        if let Some(program) = &args.meridian {
            builder = builder.meridian(program);
        }
        let topology = scenario.topology()?;
        let cluster = Arc::new(builder.start().await?);
        Ok(Self {
            scenario,
            seed,
            topology,
            cluster,
            deaths,
        })
    }

    async fn run(
        &self,
        schedule: &Schedule,
        progress: &Progress,
        command: String,
    ) -> Result<Run, ChaosError> {
        let nodes = self.cluster.nodes();
        let begun = Instant::now();
        let samplers = Samplers::start(&nodes, begun).map_err(doing("ask nodes"))?;
        let manners = Manners {
            seed: self.seed,
            clients: self.scenario.clients,
            think: self.scenario.think,
            levels: self.scenario.levels.clone(),
            is_on_one_key: self.scenario.is_on_one_key,
        };
        let clients = Clients::start(&nodes, manners, begun).map_err(doing("start clients"))?;
        let wounds = Arc::new(Wounds::default());
        let syncs = self
            .storm(schedule, begun, &clients, &wounds, progress)
            .await;
        let asked = blocking(move || clients.finish()).await?;
        progress.say("the faults are over: waiting until nothing waits any more");
        // Where they listen now: one whose port was taken while it was down came back at another.
        let ending = self.ending(self.cluster.nodes(), &asked).await?;
        let samples = blocking(move || samplers.finish()).await?;
        let wounds = wounds.all();
        let evidence = self.evidence(&asked, &ending, &wounds);
        let verdicts = blocking(move || judge::judge(&evidence)).await?;
        Ok(Run {
            command,
            seed: self.seed,
            scenario: self.scenario.clone(),
            nodes: nodes.into_iter().map(|node| node.name).collect(),
            asked,
            samples,
            wounds,
            syncs,
            ending,
            verdicts,
        })
    }

    /// Makes every strike, and waits until clients have had their time. Gives how long a busy disk's syncs took.
    async fn storm(
        &self,
        schedule: &Schedule,
        begun: Instant,
        clients: &Clients,
        wounds: &Arc<Wounds>,
        progress: &Progress,
    ) -> Vec<Duration> {
        let target = Target {
            cluster: self.cluster.clone(),
            rtt: self.scenario.rtt,
            syncs: Arc::default(),
        };
        let counts = clients.counts();
        let show = async {
            let mut ticks = tokio::time::interval(FRAME);
            loop {
                ticks.tick().await;
                progress.show(begun.elapsed(), &counts, &wounds.all());
            }
        };
        let storm = async {
            storm::rage(schedule, &target, begun, wounds).await;
            tokio::time::sleep_until((begun + self.scenario.duration).into()).await;
        };
        tokio::select! {
            () = storm => {}
            () = show => {}
        }
        let mut syncs = target.syncs.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut syncs)
    }

    async fn ending(&self, nodes: Vec<NodeEntry>, asked: &[Asked]) -> Result<Ending, ChaosError> {
        let keys = clients::history(asked).keys();
        let (topology, patience) = (self.topology.clone(), self.scenario.settle);
        blocking(move || {
            let mut ending = ending::await_settled(&nodes, &topology, patience);
            ending::read_all(&mut ending, &nodes, &keys);
            ending
        })
        .await
    }

    fn evidence(&self, asked: &[Asked], ending: &Ending, wounds: &[Wound]) -> Evidence {
        let mut surprises = self
            .deaths
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let failed = wounds.iter().filter_map(|wound| {
            let error = wound.error.as_ref()?;
            Some(format!("{}: {error}", wound.fault))
        });
        surprises.extend(failed);
        let skews = wounds.iter().map(|wound| match wound.fault {
            Fault::Skew(_, offset_ms) => offset_ms.unsigned_abs(),
            _ => 0,
        });
        Evidence {
            history: clients::history(asked),
            replicas: self.topology.most_replicas().into(),
            regions: self.topology.regions().len(),
            ending: ending.clone(),
            settle_bound: self.scenario.settle,
            surprises,
            skew_max_ms: skews.max().unwrap_or(0),
        }
    }
}

/// What takes its time, on a thread of its own.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, ChaosError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|e| doing("finish the run")(io::Error::other(e)))
}

fn doing(what: &'static str) -> impl FnOnce(io::Error) -> ChaosError {
    move |source| ChaosError::Io { what, source }
}

/// From one look at the progress to the next.
const FRAME: Duration = Duration::from_millis(250);
