//! Goal: P1, P2, P3 and P4 at once, when faults overlap in ways nobody thought of.
//! Method: rounds of load in every region; in each, one fault begins at random and some of the earlier ones end. Then all
//! heals, and every write of every round is asked for in every region. `MERIDIAN_SEED` repeats a run's faults.

#![allow(
    clippy::unwrap_used,
    reason = "clippy does not know that helpers of tests are tests"
)]

use std::{env, time::Duration};

use rand::{Rng, SeedableRng, rngs::StdRng};
use region_sim::{link::Loss, live::Change};
use tests::{
    load::{Load, Written},
    world::{NODES, REGIONS, World},
};

/// What is wrong with the world now, and how it is put right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    Killed(usize),
    Paused(usize),
    Isolated(usize),
    Cut(usize, usize),
    Lossy,
}

impl Fault {
    fn draw(dice: &mut StdRng) -> Self {
        let node = dice.random_range(0..3);
        match dice.random_range(0..5) {
            0 => Self::Killed(node),
            1 => Self::Paused(node),
            2 => Self::Isolated(node),
            3 => Self::Cut(node, (node + dice.random_range(1..3)) % 3),
            _ => Self::Lossy,
        }
    }

    fn begin(self, world: &World) {
        match self {
            Self::Killed(node) => world.kill(NODES[node]),
            Self::Paused(node) => world.pause(NODES[node]),
            Self::Isolated(node) => world.isolate(REGIONS[node]),
            Self::Cut(a, b) => world.cluster().partition(REGIONS[a], REGIONS[b]).unwrap(),
            Self::Lossy => world.links(Change {
                rtt: Some(Duration::from_millis(30)),
                jitter: Some(Duration::from_millis(30)),
                loss: Some(Loss::from_ppm(50_000).unwrap()),
                rate: None,
            }),
        }
    }

    fn end(self, world: &World) {
        match self {
            Self::Killed(node) => world.restart(NODES[node]),
            Self::Paused(node) => world.resume(NODES[node]),
            Self::Isolated(node) => world.cluster().heal_around(REGIONS[node]).unwrap(),
            Self::Cut(a, b) => world
                .cluster()
                .heal_between(REGIONS[a], REGIONS[b])
                .unwrap(),
            Self::Lossy => world.links(Change {
                rtt: Some(Duration::ZERO),
                jitter: Some(Duration::ZERO),
                loss: Some(Loss::NONE),
                rate: None,
            }),
        }
    }

    /// The node that takes no clients while it lasts.
    fn silences(self) -> Option<usize> {
        match self {
            Self::Killed(node) | Self::Paused(node) => Some(node),
            Self::Isolated(_) | Self::Cut(..) | Self::Lossy => None,
        }
    }
}

#[test]
fn whatever_goes_wrong_regions_converge_and_have_all_that_was_acknowledged() {
    let seed = env::var("MERIDIAN_SEED").map_or_else(|_| rand::random(), |s| s.parse().unwrap());
    eprintln!("MERIDIAN_SEED={seed}");
    let mut dice = StdRng::seed_from_u64(seed);
    let world = World::start();
    let mut faults: Vec<Fault> = Vec::new();
    let mut all_written = Vec::new();
    for round in 0..ROUNDS {
        let fault = Fault::draw(&mut dice);
        eprintln!("round {round}: {faults:?}, then {fault:?}");
        all_written.extend(round_of_load(&world, round, &mut faults, fault));
        faults.retain(|fault| {
            let stays = dice.random_bool(0.5);
            if !stays {
                fault.end(&world);
            }
            stays
        });
    }
    faults.drain(..).for_each(|fault| fault.end(&world));
    world.heal();
    world.await_connected();
    world.await_converged();
    for written in &all_written {
        for mut client in world.clients() {
            written.check(&mut client).unwrap();
        }
    }
}

/// Writes to every node that takes clients; the fault begins in the middle.
fn round_of_load(world: &World, round: u32, faults: &mut Vec<Fault>, fault: Fault) -> Vec<Written> {
    let is_silent = |node, faults: &[Fault]| faults.iter().any(|f| f.silences() == Some(node));
    let start = |node: usize| {
        let name = format!("{round}:{}", NODES[node]);
        (node, Load::start(&name, &world.resp(NODES[node])))
    };
    let loads: Vec<_> = (0..3)
        .filter(|&node| !is_silent(node, faults))
        .map(start)
        .collect();
    for (_, load) in &loads {
        load.await_acknowledged(COMMANDS);
    }
    let is_new =
        !faults.contains(&fault) && fault.silences().is_none_or(|node| !is_silent(node, faults));
    if is_new {
        fault.begin(world);
        faults.push(fault);
    }
    for (node, load) in &loads {
        if !is_silent(*node, faults) {
            load.await_acknowledged(2 * COMMANDS);
        }
    }
    // A writer to a paused node would wait for it: it is let go on, and stands again.
    let paused = faults.iter().filter(|f| matches!(f, Fault::Paused(_)));
    paused.for_each(|fault| fault.end(world));
    let written = loads.into_iter().map(|(_, load)| load.finish()).collect();
    let paused = faults.iter().filter(|f| matches!(f, Fault::Paused(_)));
    paused.for_each(|fault| fault.begin(world));
    written
}

const ROUNDS: u32 = 8;
/// Acknowledged per node before the fault of a round, and after it.
const COMMANDS: u64 = 1_500;
