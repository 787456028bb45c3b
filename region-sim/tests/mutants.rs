//! Goal: the simulator fails where the core is wrong.
//!
//! Method: the core has deliberate bugs ([`Mutant`]), one line each. One at a time is switched on, and worlds run until one of them
//! breaks a promise; the same worlds keep all of them without it.

use std::{
    collections::BTreeSet,
    sync::{Mutex, MutexGuard, PoisonError},
};

use node::core::mutant::{Mutant, switch_on};
use region_sim::sim::{self, trace::TraceMode};

/// Each mutant, and a seed that catches it: tried first, so that this is quick. When worlds change and it catches it no more, another
/// one is looked for, and the test only takes longer.
const KNOWN: [(Mutant, u64); Mutant::ALL.len()] = [
    (Mutant::OutboxRowNotStored, 0),
    (Mutant::HintNotStored, 0),
    (Mutant::AnsweredBeforeCommit, 102),
    (Mutant::FailedCommitAnswered, 102),
    (Mutant::TakenBeforeCommit, 3),
    (Mutant::SavedBeforeStored, 2),
    (Mutant::RefusedIsTaken, 3),
    (Mutant::GapAccepted, 0),
    (Mutant::SkewAccepted, 8),
    (Mutant::TrimmedBehindFirst, 4),
    (Mutant::RowSkipped, 0),
    (Mutant::PromiseOverOpenBatch, 7),
    (Mutant::PromiseOverUnsent, 0),
    (Mutant::FormerLogsForgotten, 102),
    (Mutant::ActorNotRenewed, 176),
    (Mutant::CeilingNotKept, 15),
    (Mutant::ClockNotRaised, 110),
    (Mutant::ContextIgnored, 7),
    (Mutant::OneDotForAll, 0),
    (Mutant::TombstoneForgotten, 0),
    (Mutant::CountsAdded, 0),
    (Mutant::FloorsNotRaised, 16),
    (Mutant::ReadQuorumShort, 7),
    (Mutant::WriteQuorumShort, 0),
    (Mutant::NoCorrection, 8),
    (Mutant::MendNotAwaited, 614),
    (Mutant::DigestIgnoresRows, 9),
    (Mutant::WritesUnanswered, 0),
    (Mutant::ReadsUnanswered, 0),
    (Mutant::MajorityIsTaken, 80),
    (Mutant::EveryIsMajority, 181),
    (Mutant::WideLevelsAreLocal, 6),
    (Mutant::TakerIsReplica, 188),
    (Mutant::StandInKeepsNothing, 52),
    (Mutant::StandInsCountForAll, 502),
    (Mutant::StandInCountsTooEarly, 284),
    (Mutant::PassedOnByNobody, 0),
    (Mutant::CountsNotTaught, 158),
    (Mutant::ClearNotTaught, 738),
    (Mutant::CorrectionNotAwaited, 372),
    (Mutant::CopyNotJoined, 9),
    (Mutant::GateIgnored, 1),
    (Mutant::SkewAcceptedFromReplicas, 167),
    (Mutant::ExpiryOutlivesDelete, 100),
    (Mutant::ExpiryOutlivesSet, 141),
    (Mutant::SkipNotSent, 14),
    (Mutant::BridgeNotSent, 7),
    (Mutant::DeclinedForGood, 0),
    (Mutant::RefusedUnasked, 66),
    (Mutant::OtherTypeNotTaught, 117),
    (Mutant::CorrectionForgetsCounts, 66),
    (Mutant::ExpiredIsRead, 102),
    (Mutant::UnsureShown, 4799),
    (Mutant::RegisterNotTaught, 158),
    (Mutant::CorrectedOverLater, 1147),
    (Mutant::MissedUnasked, 371),
    (Mutant::RemovedUnasked, 9),
];

#[test]
fn every_mutant_is_caught() {
    let _alone = alone();
    let mut survivors = Vec::new();
    for (mutant, known) in KNOWN {
        let caught = hunt(mutant, std::iter::once(known).chain(0..SEEDS_MAX));
        survivors.extend(caught.is_none().then_some(mutant));
    }
    assert!(survivors.is_empty(), "nobody notices {survivors:?}");
    assert!(Mutant::ALL.into_iter().eq(KNOWN.map(|(mutant, _)| mutant)));
}

#[test]
fn the_same_worlds_keep_every_promise_without_a_mutant() {
    let _alone = alone();
    let seeds: BTreeSet<u64> = KNOWN.map(|(_, seed)| seed).into();
    for seed in seeds {
        assert_eq!(broken(seed), None, "{}", sim::replay(seed, None));
    }
}

/// Prints the table in `docs/testing.md`, or the rows of the mutants that `MERIDIAN_MUTANTS` names, with commas between them.
#[test]
#[ignore = "takes a minute: looks for each mutant from seed 0 on"]
fn every_mutant_is_caught_from_seed_0_on() {
    let _alone = alone();
    let mut survivors = Vec::new();
    let mut most = 0;
    let named = std::env::var("MERIDIAN_MUTANTS").unwrap_or_default();
    let is_wanted = |mutant: &Mutant| {
        let mut names = named.split(',');
        named.is_empty() || names.any(|name| name == format!("{mutant:?}"))
    };
    for mutant in Mutant::ALL.into_iter().filter(is_wanted) {
        match hunt(mutant, 0..SEEDS_MAX) {
            Some(seed) => most = most.max(seed),
            None => survivors.push(mutant),
        }
    }
    assert!(survivors.is_empty(), "nobody notices {survivors:?}");
    for seed in 0..=most {
        assert_eq!(broken(seed), None, "{}", sim::replay(seed, None));
    }
}

/// The first of these seeds whose world breaks a promise under a mutant.
fn hunt(mutant: Mutant, seeds: impl IntoIterator<Item = u64>) -> Option<u64> {
    let _on = switch_on(mutant);
    let mut worlds = 0u64;
    let caught = seeds.into_iter().find_map(|seed| {
        worlds += 1;
        broken(seed).map(|violation| (seed, violation))
    });
    match &caught {
        Some((seed, violation)) => {
            println!("| {mutant:?} | {} | {seed} | {worlds} |", violation.promise);
        }
        None => println!("| {mutant:?} | nobody | | {worlds} |"),
    }
    caught.map(|(seed, _)| seed)
}

/// The first promise that a world breaks.
fn broken(seed: u64) -> Option<region_sim::check::Violation> {
    let outcomes = sim::run_seed(seed, None, TraceMode::Off);
    outcomes.violations.into_iter().next()
}

/// A mutant is on for the whole process: tests take turns.
fn alone() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Worlds that a mutant may survive.
const SEEDS_MAX: u64 = 20_000;
