//! `region-sim sim`: whole worlds in one thread under virtual time. One seed is one run.

pub mod agenda;
pub mod clock;
pub mod coverage;
pub mod desk;
pub mod dice;
mod explain;
pub mod fault;
pub mod host;
pub mod ledger;
pub mod network;
pub mod plan;
pub mod shrink;
pub mod storm;
pub mod trace;
pub mod variation;
mod verdict;
pub mod world;

use std::{
    collections::BTreeMap,
    io::Write,
    ops::Range,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    thread,
    time::Instant,
};

use clap::Args;
use node::{core::op::Key, level::Level};

use self::{
    coverage::Coverage,
    fault::FaultKind,
    plan::Plan,
    trace::TraceMode,
    variation::Variation,
    world::{Outcomes, World},
};
use crate::{check::Violation, workload::History};

/// Simulates worlds.
#[derive(Debug, Clone, Args)]
pub struct SimArgs {
    /// Seeds to run, the last one excluded: `0..1000`.
    #[arg(long, value_parser = parse_seeds, default_value = "0..100")]
    pub seeds: Range<u64>,
    /// Runs this seed only.
    #[arg(long, conflicts_with = "seeds")]
    pub seed: Option<u64>,
    /// Operations that clients ask while faults strike, instead of as many as the seed says.
    #[arg(long)]
    pub steps: Option<usize>,
    /// Kinds of faults that do not strike: kill,pause,leap
    #[arg(long, value_name = "FAULT,…", value_delimiter = ',')]
    pub without: Vec<FaultKind>,
    /// The level that every client asks for; the promises of quorums are looked for all the same.
    #[arg(long)]
    pub level: Option<Level>,
    /// Prints what happens, line by line.
    #[arg(long)]
    pub trace: bool,
    /// Says what this seed's world is like, and what it came to.
    #[arg(long, value_name = "SEED", conflicts_with_all = ["seeds", "seed", "trace"])]
    pub explain: Option<u64>,
    /// Says in the end how often everything happened that can, and what never did.
    #[arg(long)]
    pub coverage: bool,
    /// Of what happens to keys, prints only what happens to this one.
    #[arg(long, requires = "trace")]
    pub key: Option<String>,
}

impl SimArgs {
    /// How the runs differ from what their seeds say.
    pub fn variation(&self) -> Variation {
        Variation {
            steps: self.steps,
            without: self.without.iter().copied().collect(),
            level: self.level,
        }
    }

    fn trace_mode(&self) -> TraceMode {
        match &self.key {
            Some(key) => TraceMode::Follow(Key::from(key.clone())),
            None if self.trace => TraceMode::Keep,
            None => TraceMode::Off,
        }
    }
}

/// Runs seeds and prints what came of them. Gives whether all passed.
///
/// # Errors
/// Where standard output cannot be written.
pub fn run(args: &SimArgs, out: &mut impl Write) -> std::io::Result<bool> {
    let seed = args.seed.or(args.explain);
    let seeds = seed.map_or(args.seeds.clone(), |seed| seed..seed + 1);
    let variation = args.variation();
    if let Some(seed) = args.explain {
        write!(out, "{}", Plan::draw(seed, &variation))?;
    }
    let mut coverage = Coverage::default();
    let begun = Instant::now();
    let (mut passed, mut failed, mut simulated, mut slowest) = (0u64, 0u64, 0.0, 0.0f64);
    for (seed, outcomes) in run_each(seeds, &variation, args.trace_mode()) {
        for line in outcomes.trace.lines() {
            writeln!(out, "{line}")?;
        }
        coverage.add(&outcomes.coverage);
        simulated += outcomes.simulated.as_secs_f64();
        let settled = outcomes.settled_after.unwrap_or_default();
        slowest = slowest.max(settled.as_secs_f64());
        if outcomes.violations.is_empty() {
            passed += 1;
            continue;
        }
        failed += 1;
        tell(seed, &variation, &outcomes, out)?;
        if !args.trace && failed <= SHRUNK_MAX {
            tell_smallest(seed, &variation, &outcomes, out)?;
        }
    }
    if args.coverage || args.explain.is_some() {
        write!(out, "{coverage}")?;
    }
    if !args.trace {
        // Not in a trace: that is the same however long it took.
        let real = begun.elapsed().as_secs_f64().max(f64::MIN_POSITIVE);
        let (speed, pace) = (simulated / real, (passed + failed) as f64 * 60.0 / real);
        writeln!(
            out,
            "simulated {simulated:.0} s in {real:.1} s ({speed:.0} times as fast), {pace:.0} seeds a minute; the slowest settled {slowest:.1} s after its faults"
        )?;
    }
    writeln!(
        out,
        "seeds {} passed {passed} failed {failed}",
        passed + failed
    )?;
    Ok(failed == 0)
}

/// What a failing seed breaks, and how to see it again.
fn tell(
    seed: u64,
    variation: &Variation,
    outcomes: &Outcomes,
    out: &mut impl Write,
) -> std::io::Result<()> {
    for violation in of_each_promise(&outcomes.violations) {
        writeln!(out, "seed {seed}: {violation}")?;
    }
    let first = outcomes.violations.first();
    writeln!(
        out,
        "seed {seed}: replay with: {}",
        replay_of(seed, variation, first)
    )
}

/// The first few of each promise, because one that is broken in many places does not make another one whole.
fn of_each_promise(violations: &[Violation]) -> impl Iterator<Item = &Violation> {
    let mut shown: BTreeMap<&str, usize> = BTreeMap::new();
    violations.iter().filter(move |violation| {
        let count = shown.entry(violation.promise).or_default();
        *count += 1;
        *count <= VIOLATIONS_SHOWN
    })
}

/// The smallest run that breaks the same promise, and how to see it.
fn tell_smallest(
    seed: u64,
    variation: &Variation,
    outcomes: &Outcomes,
    out: &mut impl Write,
) -> std::io::Result<()> {
    let Some(violation) = outcomes.violations.first() else {
        return Ok(());
    };
    let operations = Plan::draw(seed, variation).operations;
    let shrunk = shrink::shrink(seed, variation, operations, violation);
    writeln!(
        out,
        "seed {seed}: shrunk in {} runs: {}",
        shrunk.runs, shrunk.violation
    )?;
    let command = replay_of(seed, &shrunk.variation, Some(&shrunk.violation));
    writeln!(out, "seed {seed}: replay what is left with: {command}")
}

/// Runs one seed.
pub fn run_seed(seed: u64, steps: Option<usize>, mode: TraceMode) -> Outcomes {
    outcomes_of(seed, &Variation::of_steps(steps), mode)
}

/// Runs one seed, but for what is to be different.
pub fn outcomes_of(seed: u64, variation: &Variation, mode: TraceMode) -> Outcomes {
    let run = AssertUnwindSafe(|| World::new(seed, variation, mode).run());
    catch_unwind(run).unwrap_or_else(|panic| {
        let text = panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| panic.downcast_ref::<&str>().copied())
            .unwrap_or("a panic without words");
        Outcomes {
            violations: vec![Violation::new("panic", text)],
            trace: trace::Trace::default(),
            simulated: std::time::Duration::ZERO,
            events: 0,
            history: History::default(),
            coverage: Coverage::default(),
            settled_after: None,
        }
    })
}

/// Runs seeds on every core; what comes of them comes in their order.
pub fn run_all(
    seeds: Range<u64>,
    steps: Option<usize>,
    mode: TraceMode,
) -> impl Iterator<Item = (u64, Outcomes)> {
    run_each(seeds, &Variation::of_steps(steps), mode)
}

/// Runs seeds on every core, but for what is to be different; what comes of them comes in their order.
pub fn run_each(
    seeds: Range<u64>,
    variation: &Variation,
    mode: TraceMode,
) -> impl Iterator<Item = (u64, Outcomes)> + use<> {
    let cores = thread::available_parallelism().map_or(1, usize::from) as u64;
    let next = std::sync::Arc::new(AtomicU64::new(seeds.start));
    let (sender, receiver) = mpsc::sync_channel(RESULTS_WAITING);
    for _ in 0..cores.min(seeds.end.saturating_sub(seeds.start)) {
        let (next, sender, end) = (next.clone(), sender.clone(), seeds.end);
        let (variation, mode) = (variation.clone(), mode.clone());
        thread::spawn(move || {
            loop {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                if seed >= end {
                    return;
                }
                let outcomes = outcomes_of(seed, &variation, mode.clone());
                if sender.send((seed, outcomes)).is_err() {
                    return;
                }
            }
        });
    }
    drop(sender);
    let mut early = std::collections::BTreeMap::new();
    seeds.map_while(move |seed| {
        while !early.contains_key(&seed) {
            let (other, outcomes) = receiver.recv().ok()?;
            early.insert(other, outcomes);
        }
        early.remove(&seed).map(|outcomes| (seed, outcomes))
    })
}

/// The command that runs a seed again.
pub fn replay(seed: u64, steps: Option<usize>) -> String {
    replay_of(seed, &Variation::of_steps(steps), None)
}

/// The command that runs a seed again, but for what was different, and shows what happened to the key that was wrong.
pub fn replay_of(seed: u64, variation: &Variation, violation: Option<&Violation>) -> String {
    let key = violation.and_then(|violation| violation.key.as_ref());
    let key = key.map_or(String::new(), |key| {
        format!(" --key {}", key.escape_ascii())
    });
    format!("region-sim sim --seed {seed}{variation} --trace{key}")
}

fn parse_seeds(text: &str) -> Result<Range<u64>, String> {
    let wrong = || format!("'{text}' is no range of seeds: write it like 0..1000");
    let (from, to) = text.split_once("..").ok_or_else(wrong)?;
    let number = |text: &str| text.trim().parse::<u64>().map_err(|_| wrong());
    let (from, to) = (number(from)?, number(to)?);
    if from >= to {
        return Err(format!(
            "'{text}' holds no seed: the second number is excluded"
        ));
    }
    Ok(from..to)
}

/// Violations of one promise in one world that are printed: the first ones say most.
const VIOLATIONS_SHOWN: usize = 3;
/// Failing seeds that are made smaller: it takes a hundred runs each.
const SHRUNK_MAX: u64 = 3;
/// Results that wait to be printed, at most.
const RESULTS_WAITING: usize = 64;
