//! Goal: the promises hold in whole simulated worlds, and a world is a function of its seed.
//!
//! Method: seeds in a row, each of which draws its own topology, load and faults; and the same seed twice, here and in two
//! processes, line by line.

use std::process::Command;

use clap::Parser;
use node::level::Level;
use region_sim::{
    check::Violation,
    sim::{
        self, SimArgs,
        plan::Plan,
        shrink::{Shrunk, shrink},
        trace::TraceMode,
        variation::Variation,
        world::Outcomes,
    },
};

#[test]
fn two_hundred_worlds_keep_every_promise() {
    let mut failed = Vec::new();
    for (seed, outcomes) in sim::run_all(0..200, None, TraceMode::Off) {
        if let Some(violation) = outcomes.violations.first() {
            failed.push(format!("{violation}\n  {}", sim::replay(seed, None)));
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

/// Each of these once failed, none of them among the first ones.
#[test]
fn worlds_that_failed_once_keep_every_promise() {
    for seed in [673, 916, 1166, 1205] {
        let outcomes = sim::run_seed(seed, None, TraceMode::Off);
        assert_eq!(outcomes.violations, [], "{}", sim::replay(seed, None));
    }
}

#[test]
fn what_failed_once_fails_no_more() {
    for line in include_str!("seeds.txt").lines() {
        let run = line.split('#').next().unwrap_or_default();
        if run.trim().is_empty() {
            continue;
        }
        let run = format!("sim --seed {run}");
        let args = Arguments::try_parse_from(run.split_whitespace()).expect("a line is a run");
        let seed = args.sim.seed.expect("a line begins with a seed");
        let outcomes = sim::outcomes_of(seed, &args.sim.variation(), TraceMode::Off);
        assert_eq!(outcomes.violations, [], "{line}");
    }
}

#[test]
fn a_level_below_a_quorum_is_caught_where_a_region_has_replicas() {
    let caught = caught_at_level_one();
    assert!(caught.count() > 5, "the checks of P7 find too little");
}

#[test]
fn a_failing_run_is_shrunk_to_one_that_fails_alike() {
    // What fails only when nearly all was asked cannot be shrunk: one of the first few can.
    let shrunk = caught_at_level_one().take(5).find_map(|(seed, outcomes)| {
        let violation = outcomes
            .violations
            .into_iter()
            .find(breaks_p7)
            .expect("it was caught");
        let operations = Plan::draw(seed, &at_level_one()).operations;
        let Shrunk { variation, .. } = shrink(seed, &at_level_one(), operations, &violation);
        let is_small = variation.steps.is_some_and(|steps| steps * 2 < operations);
        is_small.then_some((seed, violation, variation))
    });
    let (seed, violation, variation) = shrunk.expect("what fails is shrunk");
    assert_eq!(variation.level, at_level_one().level);

    let command = sim::replay_of(seed, &variation, Some(&violation));
    let key = violation.key.as_ref().expect("P7 is about a key");
    let output = Command::new(env!("CARGO_BIN_EXE_region-sim"))
        .args(command.split(' ').skip(1))
        .output()
        .expect("the program under test runs");
    let shown = String::from_utf8(output.stdout).expect("a trace is text");
    assert_eq!(output.status.code(), Some(1), "{command}");
    assert!(shown.contains(&format!("seed {seed}: P7: ")), "{shown}");
    let is_of_another_key =
        |line: &&str| line.contains(" is asked #") && !line.contains(&format!("{key:?}"));
    assert_eq!(shown.lines().find(is_of_another_key), None);
}

#[test]
fn a_run_without_a_kind_of_fault_has_none_of_it() {
    let seed = (0..100).find(|&seed| strikes(seed, &Variation::default()) > 0);
    let seed = seed.expect("some worlds have hosts that stand still");
    let variation = Variation {
        without: ["pause".parse().expect("there is such a fault")].into(),
        ..Variation::default()
    };
    assert_eq!(strikes(seed, &variation), 0);
}

fn strikes(seed: u64, variation: &Variation) -> usize {
    let outcomes = sim::outcomes_of(seed, variation, TraceMode::Keep);
    let lines = outcomes.trace.lines().iter();
    lines.filter(|line| line.contains("Pause strikes")).count()
}

fn at_level_one() -> Variation {
    Variation {
        level: Some(Level::Replicas(std::num::NonZeroU8::MIN)),
        ..Variation::default()
    }
}

/// Worlds of one region with several replicas that break P7 when clients ask one replica alone.
fn caught_at_level_one() -> impl Iterator<Item = (u64, Outcomes)> {
    let is_one_region = |seed: &u64| {
        let plan = Plan::draw(*seed, &Variation::default());
        plan.region_count() == 1 && plan.replicas > 1
    };
    let worlds = (0..200).filter(is_one_region);
    let runs = worlds.map(|seed| {
        (
            seed,
            sim::outcomes_of(seed, &at_level_one(), TraceMode::Off),
        )
    });
    runs.filter(|(_, outcomes)| outcomes.violations.iter().any(breaks_p7))
}

fn breaks_p7(violation: &Violation) -> bool {
    violation.promise == "P7"
}

/// A line of the file of seeds.
#[derive(Debug, Parser)]
struct Arguments {
    #[command(flatten)]
    sim: SimArgs,
}

#[test]
fn a_world_does_what_it_is_there_for() {
    let (mut operations, mut events) = (0, 0);
    for (_, outcomes) in sim::run_all(0..10, None, TraceMode::Off) {
        operations += outcomes.history.operations.len();
        events += outcomes.events;
        assert!(outcomes.simulated.as_secs() >= 3);
    }
    assert!(operations > 1000, "{operations} operations");
    assert!(events > 20_000, "{events} events");
}

#[test]
fn some_worlds_put_a_clock_right_that_was_far_ahead() {
    let replays = |line: &String| line.contains("Replayed { rows: ") && !line.contains("rows: 0");
    let has_replayed = |outcomes: &sim::world::Outcomes| outcomes.trace.lines().iter().any(replays);
    let worlds = sim::run_all(0..60, None, TraceMode::Keep);
    let count = worlds
        .filter(|(_, outcomes)| has_replayed(outcomes))
        .count();
    assert!(count >= 3, "{count} worlds");
}

#[test]
fn a_seed_is_the_same_run_twice_in_one_process() {
    for seed in 0..10 {
        let run = || sim::run_seed(seed, Some(60), TraceMode::Keep);
        let (first, second) = (run(), run());
        assert!(first.trace.lines().len() > 100);
        let differs = first
            .trace
            .lines()
            .iter()
            .zip(second.trace.lines())
            .find(|(one, other)| one != other);
        assert_eq!(differs, None, "seed {seed}");
        assert_eq!(first.trace.lines().len(), second.trace.lines().len());
    }
}

#[test]
fn a_seed_is_the_same_run_in_two_processes() {
    for seed in ["3", "77"] {
        let run = || {
            let output = Command::new(env!("CARGO_BIN_EXE_region-sim"))
                .args(["sim", "--seed", seed, "--steps", "80", "--trace"])
                .output()
                .expect("the program under test runs");
            assert!(output.status.success(), "seed {seed}");
            String::from_utf8(output.stdout).expect("a trace is text")
        };
        let (first, second) = (run(), run());
        assert!(first.lines().count() > 100);
        for (one, other) in first.lines().zip(second.lines()) {
            assert_eq!(one, other, "seed {seed}");
        }
        assert_eq!(first, second, "seed {seed}");
        assert!(first.ends_with("seeds 1 passed 1 failed 0\n"));
    }
}

#[test]
fn other_seeds_are_other_worlds() {
    let run = |seed| sim::run_seed(seed, Some(20), TraceMode::Keep);
    assert_ne!(run(1).trace.lines(), run(2).trace.lines());
}

#[test]
fn a_range_without_seeds_is_a_usage_error() {
    for wrong in ["5", "5..5", "9..3", "a..b", "1..=4"] {
        let output = Command::new(env!("CARGO_BIN_EXE_region-sim"))
            .args(["sim", "--seeds", wrong])
            .output()
            .expect("the program under test runs");
        assert_eq!(output.status.code(), Some(2), "{wrong}");
    }
}
