//! Goal: the simulator fails where the core is wrong.
//!
//! Method: the core has deliberate bugs ([`Mutant`]), one line each. One at a time is switched on, and worlds run until one of them
//! breaks a promise; the same worlds keep all of them without it. What worlds show once in thousands is looked for in stories about one key.

#[path = "../../node/tests/core_support/mod.rs"]
mod core_support;
#[path = "../../node/tests/stories/mod.rs"]
mod stories;

use std::{
    collections::BTreeSet,
    panic::catch_unwind,
    sync::{Mutex, MutexGuard, PoisonError},
};

use node::core::mutant::{Mutant, switch_on};
use region_sim::sim::{self, trace::TraceMode};
use stories::{Flavour, Story as Tale, Trouble};

use self::Place::{Story, World};

/// Where a mutant is caught.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    /// In the simulator's world of this seed.
    World(u64),
    /// In the story of this number: its seed, and which of the kinds.
    Story(u64),
}

impl Place {
    fn number(self) -> u64 {
        match self {
            World(number) | Story(number) => number,
        }
    }

    /// The first ones like it.
    fn all_from_0(self) -> impl Iterator<Item = Self> {
        (0..SEEDS_MAX).map(move |number| match self {
            World(_) => World(number),
            Story(_) => Story(number),
        })
    }
}

/// Each mutant, and a seed that catches it: tried first, so that this is quick. When worlds change and it catches it no more, another
/// one is looked for, and the test only takes longer.
const KNOWN: [(Mutant, Place); Mutant::ALL.len()] = [
    (Mutant::OutboxRowNotStored, World(0)),
    (Mutant::HintNotStored, World(0)),
    (Mutant::AnsweredBeforeCommit, World(102)),
    (Mutant::FailedCommitAnswered, World(20)),
    (Mutant::TakenBeforeCommit, World(3)),
    (Mutant::SavedBeforeStored, World(2)),
    (Mutant::RefusedIsTaken, World(3)),
    (Mutant::GapAccepted, World(0)),
    (Mutant::SkewAccepted, World(8)),
    (Mutant::TrimmedBehindFirst, World(3)),
    (Mutant::RowSkipped, World(0)),
    (Mutant::PromiseOverOpenBatch, World(10)),
    (Mutant::PromiseOverUnsent, World(0)),
    (Mutant::FormerLogsForgotten, World(93)),
    (Mutant::ActorNotRenewed, World(176)),
    (Mutant::CeilingNotKept, World(20)),
    (Mutant::ClockNotRaised, World(352)),
    (Mutant::ContextIgnored, World(0)),
    (Mutant::OneDotForAll, World(0)),
    (Mutant::TombstoneForgotten, World(0)),
    (Mutant::CountsAdded, World(0)),
    (Mutant::FloorsNotRaised, World(16)),
    (Mutant::ReadQuorumShort, World(7)),
    (Mutant::WriteQuorumShort, World(0)),
    (Mutant::NoCorrection, World(38)),
    (Mutant::MendNotAwaited, World(1197)),
    (Mutant::DigestIgnoresRows, World(9)),
    (Mutant::WritesUnanswered, World(0)),
    (Mutant::ReadsUnanswered, World(0)),
    (Mutant::MajorityIsTaken, World(23)),
    (Mutant::EveryIsMajority, World(181)),
    (Mutant::WideLevelsAreLocal, World(6)),
    (Mutant::TakerIsReplica, World(188)),
    (Mutant::StandInKeepsNothing, World(52)),
    (Mutant::StandInsCountForAll, World(882)),
    (Mutant::StandInCountsTooEarly, World(198)),
    (Mutant::PassedOnByNobody, World(0)),
    (Mutant::CountsNotTaught, World(231)),
    (Mutant::ClearNotTaught, Story(521)),
    (Mutant::CorrectionNotAwaited, World(84)),
    (Mutant::CopyNotJoined, World(9)),
    (Mutant::GateIgnored, World(1)),
    (Mutant::SkewAcceptedFromReplicas, World(157)),
    (Mutant::ExpiryOutlivesDelete, World(73)),
    (Mutant::ExpiryOutlivesSet, World(141)),
    (Mutant::SkipNotSent, World(1)),
    (Mutant::BridgeNotSent, World(7)),
    (Mutant::DeclinedForGood, World(0)),
    (Mutant::RefusedUnasked, World(158)),
    (Mutant::ForwardedTwice, World(8)),
    (Mutant::WriteHedged, World(4)),
    (Mutant::StaleTopology, World(4)),
    (Mutant::RenewedUnstored, World(23)),
    (Mutant::AskedByName, World(4)),
    (Mutant::OtherTypeNotTaught, World(103)),
    (Mutant::CorrectionForgetsCounts, World(273)),
    (Mutant::ExpiredIsRead, World(102)),
    (Mutant::UnsureShown, Story(2444)),
    (Mutant::RegisterNotTaught, World(158)),
    (Mutant::CorrectedOverLater, Story(364)),
    (Mutant::RemovedUnasked, World(9)),
];

#[test]
fn every_mutant_is_caught() {
    let _alone = alone();
    let mut survivors = Vec::new();
    for (mutant, known) in KNOWN {
        let caught = hunt(mutant, std::iter::once(known).chain(known.all_from_0()));
        survivors.extend(caught.is_none().then_some(mutant));
    }
    assert!(survivors.is_empty(), "nobody notices {survivors:?}");
    assert!(Mutant::ALL.into_iter().eq(KNOWN.map(|(mutant, _)| mutant)));
}

#[test]
fn the_same_worlds_keep_every_promise_without_a_mutant() {
    let _alone = alone();
    let places: BTreeSet<Place> = KNOWN.map(|(_, place)| place).into();
    for place in places {
        assert_eq!(broken(place), None, "{place:?}");
    }
}

/// Prints the table in `docs/testing.md`, or the rows of the mutants that `MERIDIAN_MUTANTS` names, with commas between them.
#[test]
#[ignore = "takes a minute: looks for each mutant from seed 0 on"]
fn every_mutant_is_caught_from_seed_0_on() {
    let _alone = alone();
    let mut survivors = Vec::new();
    let mut caught = BTreeSet::new();
    let named = std::env::var("MERIDIAN_MUTANTS").unwrap_or_default();
    let is_wanted = |mutant: &Mutant| {
        let mut names = named.split(',');
        named.is_empty() || names.any(|name| name == format!("{mutant:?}"))
    };
    let wanted = KNOWN.into_iter().filter(|(mutant, _)| is_wanted(mutant));
    for (mutant, known) in wanted {
        match hunt(mutant, known.all_from_0()) {
            Some(place) => caught.extend([place]),
            None => survivors.push(mutant),
        }
    }
    assert!(survivors.is_empty(), "nobody notices {survivors:?}");
    for place in caught {
        assert_eq!(broken(place), None, "{place:?}");
    }
}

/// The first of these places where a promise is broken under a mutant.
fn hunt(mutant: Mutant, places: impl IntoIterator<Item = Place>) -> Option<Place> {
    let _on = switch_on(mutant);
    let mut tried = 0u64;
    let caught = places.into_iter().find_map(|place| {
        tried += 1;
        broken(place).map(|promise| (place, promise))
    });
    match &caught {
        Some((place, promise)) => {
            println!("| {mutant:?} | {promise} | {} | {tried} |", place.number());
        }
        None => println!("| {mutant:?} | nobody | | {tried} |"),
    }
    caught.map(|(place, _)| place)
}

/// The first promise that is broken there.
fn broken(place: Place) -> Option<String> {
    match place {
        World(seed) => {
            let outcomes = sim::run_seed(seed, None, TraceMode::Off);
            let first = outcomes.violations.into_iter().next();
            first.map(|violation| violation.promise.to_string())
        }
        Story(number) => {
            let kinds = (Trouble::ALL.len() * Flavour::ALL.len()) as u64;
            let kind = (number % kinds) as usize;
            let trouble = Trouble::ALL[kind % Trouble::ALL.len()];
            let flavour = Flavour::ALL[kind / Trouble::ALL.len()];
            let told = catch_unwind(|| Tale::new(number / kinds, trouble, flavour).tell());
            told.map_or(Some("panic"), |told| told.err().map(|_| "story"))
                .map(str::to_owned)
        }
    }
}

/// A mutant is on for the whole process: tests take turns.
fn alone() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Worlds, or stories, that a mutant may survive.
const SEEDS_MAX: u64 = 20_000;
