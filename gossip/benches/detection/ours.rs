//! This crate under measurement.

use gossip::{Config, Event, Standing, Verdict};

use crate::{Outcome, Plan, world::World};

pub struct Variant {
    pub name: &'static str,
    pub config: Config,
}

/// The default, and the default without one of its refinements.
pub fn variants() -> Vec<Variant> {
    let default = || Config::new("bench".parse().expect("a name"));
    vec![
        Variant {
            name: "gossip",
            config: default(),
        },
        Variant {
            name: "gossip, never asking",
            config: Config {
                phi_ask: default().phi_local,
                ..default()
            },
        },
    ]
}

pub fn measure(plan: &Plan, config: &Config) -> Outcome {
    let mut world = World::new(plan.hosts, plan.network(), config.clone(), plan.seed);
    world.start_all();
    world.run_for(plan.warm_up);
    let mut outcome = Outcome::default();
    measure_quiet(plan, &mut world, &mut outcome);
    for crash in 0..plan.crashes {
        measure_crash(plan, &mut world, crash, &mut outcome);
    }
    outcome
}

fn measure_quiet(plan: &Plan, world: &mut World, outcome: &mut Outcome) {
    world.reports.clear();
    let before = bytes(world);
    world.run_for(plan.quiet);
    outcome.bytes = bytes(world) - before;
    let reports = world.reports.iter();
    outcome.false_suspicions = reports
        .filter(|(.., event)| suspicion(event).is_some())
        .count();
}

fn bytes(world: &World) -> u64 {
    let running = world.running();
    let counters = running.iter().map(|host| world.gossip(*host).counters());
    counters.map(|counters| counters.bytes_sent).sum()
}

fn measure_crash(plan: &Plan, world: &mut World, crash: usize, outcome: &mut Outcome) {
    let victim = plan.victim(crash);
    let (notice, recovery) = plan.after_crash();
    world.run_for(plan.offset(crash));
    world.reports.clear();
    let begin = world.now();
    world.kill(victim);
    world.run_for(notice);
    let name = &world.hosts[victim].name;
    let noticed = world.reports.iter().filter_map(|(at, _, event)| {
        let verdict = suspicion(event)?;
        (verdict.node == *name).then_some(*at - begin)
    });
    let before = outcome.detections.len();
    outcome.detections.extend(noticed);
    outcome.missed += (plan.hosts - 1).saturating_sub(outcome.detections.len() - before);
    world.start(victim);
    world.run_for(recovery);
}

fn suspicion(event: &Event) -> Option<&Verdict> {
    match event {
        Event::Believed(verdict) if verdict.standing == Standing::Suspect => Some(verdict),
        _ => None,
    }
}
