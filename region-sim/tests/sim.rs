//! Goal: the promises hold in whole simulated worlds, and a world is a function of its seed.
//!
//! Method: seeds in a row, each of which draws its own topology, load and faults; and the same seed twice, here and in two
//! processes, line by line.

use std::process::Command;

use region_sim::sim::{self, trace::TraceMode};

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
fn a_world_does_what_it_is_there_for() {
    let (mut operations, mut events) = (0, 0);
    for (_, outcomes) in sim::run_all(0..10, None, TraceMode::Off) {
        operations += outcomes.operations;
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
