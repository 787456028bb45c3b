//! When which fault strikes where: drawn from the seed and the scenario, and from nothing else.
//!
//! Strikes are drawn in the order of time. One that would take hold of what another fault holds, or would leave a
//! region without a majority, is drawn again, and left out where no place is free.

use std::{collections::BTreeSet, time::Duration};

use super::{
    fault::{Fault, Hold},
    scenario::{Kind, Rule, Scenario, ScenarioError},
};
use crate::{
    live::Topology,
    sim::dice::{Dice, Stream},
};

/// A fault and its time, counted from the beginning of the storm.
#[derive(Debug, Clone, PartialEq)]
pub struct Strike {
    /// When it begins.
    pub begins: Duration,
    /// When it is put right.
    pub ends: Duration,
    /// What it is.
    pub fault: Fault,
}

/// The strikes of a storm, in the order in which they begin.
#[derive(Debug, Clone, PartialEq)]
pub struct Schedule {
    /// The strikes.
    pub strikes: Vec<Strike>,
}

impl Schedule {
    /// The strikes of a scenario for a seed.
    ///
    /// # Errors
    /// If the description of the cluster does not fit, or a fault at a fixed time has no room.
    pub fn draw(scenario: &Scenario, seed: u64) -> Result<Self, ScenarioError> {
        let topology = scenario.topology()?;
        let mut dice = Dice::new(seed, Stream::Faults);
        let times = times(scenario, &mut dice);
        let mut painter = Painter {
            scenario,
            tolerated: usize::from((topology.most_replicas() - 1) / 2).max(1),
            topology,
            dice,
            turns: vec![0; scenario.faults.len()],
            strikes: Vec::new(),
        };
        for (begins, index) in times {
            painter.place(begins, index)?;
        }
        Ok(Self {
            strikes: painter.strikes,
        })
    }
}

/// When each rule strikes: its time and its index, in order.
fn times(scenario: &Scenario, dice: &mut Dice) -> Vec<(Duration, usize)> {
    let mut times = Vec::new();
    for (index, rule) in scenario.faults.iter().enumerate() {
        let mut pause = |every: Duration| between(dice, every / 2, every * 3 / 2);
        let mut next = rule.at.or_else(|| rule.every.map(&mut pause));
        while let Some(time) = next.filter(|time| *time < scenario.duration) {
            times.push((time, index));
            next = rule.every.map(|every| time + pause(every));
        }
    }
    times.sort();
    times
}

/// Places strikes, one after another.
struct Painter<'a> {
    scenario: &'a Scenario,
    topology: Topology,
    /// Nodes of a region that may be missing at a time.
    tolerated: usize,
    dice: Dice,
    /// How often each rule that goes in turn has struck.
    turns: Vec<usize>,
    strikes: Vec<Strike>,
}

impl Painter<'_> {
    fn place(&mut self, begins: Duration, index: usize) -> Result<(), ScenarioError> {
        let rule = &self.scenario.faults[index];
        let length = between(&mut self.dice, rule.lasts.least, rule.lasts.most);
        let ends = (begins + length).min(self.scenario.duration);
        for _ in 0..TRIES {
            let fault = self.fault(rule, index);
            let strike = Strike {
                begins,
                ends,
                fault,
            };
            if self.has_room(&strike) {
                self.strikes.push(strike);
                return Ok(());
            }
        }
        if rule.every.is_none() {
            return Err(ScenarioError::Rule {
                number: index + 1,
                kind: rule.kind,
                reason: format!(
                    "at {begins:?} another fault holds its place, or its region would be without a majority"
                ),
            });
        }
        Ok(())
    }

    fn fault(&mut self, rule: &Rule, index: usize) -> Fault {
        match rule.kind {
            Kind::Kill => Fault::Kill(self.node(rule, index)),
            Kind::Pause => Fault::Pause(self.node(rule, index)),
            Kind::Isolate => Fault::Isolate(self.node(rule, index)),
            Kind::RegionLoss => Fault::RegionLoss(self.region(rule, index)),
            Kind::Partition => self.partition(rule, index),
            Kind::OneWay => {
                let (from, to) = self.two_regions(rule);
                Fault::OneWay(from, to)
            }
            Kind::Link => {
                let (a, b) = self.two_regions(rule);
                Fault::Link(a, b, rule.change())
            }
            Kind::Skew => {
                let node = self.node(rule, index);
                Fault::Skew(node, self.offset_ms(rule))
            }
            Kind::Disk => Fault::Disk,
        }
    }

    fn node(&mut self, rule: &Rule, index: usize) -> String {
        let names: Vec<String> = self
            .topology
            .members()
            .map(|(name, _)| name.to_string())
            .collect();
        let all = (0..names.len()).collect();
        let among = rule
            .on
            .as_ref()
            .map_or(all, |on| self.topology.select(on).unwrap_or_default());
        let at = self.choose(rule, index, among.len());
        names[among[at]].clone()
    }

    fn region(&mut self, rule: &Rule, index: usize) -> String {
        match &rule.on {
            Some(region) => region.clone(),
            None => {
                let at = self.choose(rule, index, self.topology.regions().len());
                self.topology.regions()[at].to_string()
            }
        }
    }

    /// By chance, or the next one.
    fn choose(&mut self, rule: &Rule, index: usize, count: usize) -> usize {
        if !rule.in_turn {
            return self.dice.below(count as u64) as usize;
        }
        self.turns[index] += 1;
        (self.turns[index] - 1) % count
    }

    /// Between two regions; by chance also of one from all others, where there are more than two.
    fn partition(&mut self, rule: &Rule, index: usize) -> Fault {
        let is_one = match &rule.on {
            Some(on) => !on.contains('-'),
            None => rule.in_turn || (self.topology.regions().len() > 2 && self.dice.chance(500)),
        };
        if is_one {
            return Fault::Partition(self.region(rule, index), None);
        }
        let (a, b) = self.two_regions(rule);
        Fault::Partition(a, Some(b))
    }

    fn two_regions(&mut self, rule: &Rule) -> (String, String) {
        if let Some((a, b)) = rule.on.as_ref().and_then(|on| on.split_once('-')) {
            return (a.to_owned(), b.to_owned());
        }
        let regions = self.topology.regions();
        let count = regions.len() as u64;
        let a = self.dice.below(count);
        let b = (a + 1 + self.dice.below(count - 1)) % count;
        (
            regions[a as usize].to_string(),
            regions[b as usize].to_string(),
        )
    }

    fn offset_ms(&mut self, rule: &Rule) -> i64 {
        let Some(offset) = rule.offset else { return 0 };
        if !offset.either {
            return offset.ms;
        }
        let size = self.dice.between_signed(offset.ms / 2, offset.ms);
        if self.dice.chance(500) { size } else { -size }
    }

    /// Whether nothing that lasts then holds what the strike takes, and enough nodes are left.
    fn has_room(&self, strike: &Strike) -> bool {
        let meeting = self.strikes.iter().filter(|other| {
            other.begins < strike.ends + RECOVERY && strike.begins < other.ends + RECOVERY
        });
        let held: BTreeSet<Hold> = meeting
            .flat_map(|other| other.fault.holds(&self.topology))
            .collect();
        let wanted = strike.fault.holds(&self.topology);
        if wanted.iter().any(|hold| held.contains(hold)) {
            return false;
        }
        if strike.fault.takes_whole_region() {
            return true;
        }
        let missing = held.iter().chain(&wanted).filter_map(|hold| match hold {
            Hold::Node(node) => Some(*node),
            Hold::Path(..) | Hold::Settings(..) | Hold::Clock(_) | Hold::Disk => None,
        });
        let missing: Vec<usize> = missing.collect();
        self.regions_of(&wanted).into_iter().all(|region| {
            let here = missing
                .iter()
                .filter(|&&node| self.region_of(node) == region);
            here.count() <= self.tolerated
        })
    }

    fn regions_of(&self, holds: &[Hold]) -> BTreeSet<usize> {
        let nodes = holds.iter().filter_map(|hold| match hold {
            Hold::Node(node) => Some(self.region_of(*node)),
            Hold::Path(..) | Hold::Settings(..) | Hold::Clock(_) | Hold::Disk => None,
        });
        nodes.collect()
    }

    fn region_of(&self, node: usize) -> usize {
        node / usize::from(self.scenario.nodes)
    }
}

fn between(dice: &mut Dice, least: Duration, most: Duration) -> Duration {
    let ms = dice.between(least.as_millis() as u64, most.as_millis() as u64);
    Duration::from_millis(ms)
}

/// Other places that are tried for a strike that has no room.
const TRIES: usize = 12;
/// What a fault held is left alone for this long: a node that was started has to be met.
const RECOVERY: Duration = Duration::from_millis(1500);

#[cfg(test)]
mod tests {
    use super::*;

    fn scenario(faults: &str) -> Scenario {
        Scenario::parse("test.toml", faults).unwrap_or_else(|e| panic!("{e}"))
    }

    fn drawn(faults: &str, seed: u64) -> Vec<Strike> {
        Schedule::draw(&scenario(faults), seed).unwrap().strikes
    }

    #[test]
    fn a_seed_is_one_schedule() {
        let everything = Scenario::everything();
        for seed in 0..20 {
            let first = Schedule::draw(&everything, seed).unwrap();
            assert_eq!(first, Schedule::draw(&everything, seed).unwrap());
            assert_ne!(first, Schedule::draw(&everything, seed + 1).unwrap());
        }
    }

    #[test]
    fn every_kind_of_fault_comes_within_a_few_seeds() {
        let everything = Scenario::everything();
        let all = (0..10).flat_map(|seed| Schedule::draw(&everything, seed).unwrap().strikes);
        let words: BTreeSet<String> = all
            .map(|strike| {
                strike
                    .fault
                    .to_string()
                    .split(' ')
                    .next()
                    .unwrap_or_default()
                    .to_owned()
            })
            .collect();
        let expected = [
            "busy",
            "clock",
            "isolate",
            "kill",
            "link",
            "loss",
            "one-way",
            "partition",
            "pause",
        ];
        assert_eq!(words, expected.map(str::to_owned).into());
    }

    #[test]
    fn strikes_lie_within_the_storm_and_never_take_what_another_holds() {
        let everything = Scenario::everything();
        let topology = everything.topology().unwrap();
        for seed in 0..40 {
            let strikes = Schedule::draw(&everything, seed).unwrap().strikes;
            for (index, strike) in strikes.iter().enumerate() {
                assert!(strike.begins < strike.ends && strike.ends <= everything.duration);
                let holds = strike.fault.holds(&topology);
                assert!(!holds.is_empty(), "{}", strike.fault);
                for other in &strikes[..index] {
                    let meet = other.ends > strike.begins;
                    let shared = other
                        .fault
                        .holds(&topology)
                        .iter()
                        .any(|hold| holds.contains(hold));
                    assert!(
                        !(meet && shared),
                        "seed {seed}: {strike:?} beside {other:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn a_region_keeps_its_majority_unless_all_of_it_is_lost() {
        let everything = Scenario::everything();
        let topology = everything.topology().unwrap();
        for seed in 0..40 {
            let strikes = Schedule::draw(&everything, seed).unwrap().strikes;
            let single = |strike: &&Strike| !strike.fault.takes_whole_region();
            for moment in strikes.iter().map(|strike| strike.begins) {
                let lasting = strikes
                    .iter()
                    .filter(single)
                    .filter(|s| s.begins <= moment && moment < s.ends);
                let mut missing = [0; 3];
                for hold in lasting.flat_map(|strike| strike.fault.holds(&topology)) {
                    if let Hold::Node(node) = hold {
                        missing[node / 3] += 1;
                    }
                }
                assert!(
                    missing.iter().all(|count| *count <= 1),
                    "seed {seed} at {moment:?}: {missing:?}"
                );
            }
        }
    }

    #[test]
    fn a_fault_at_a_fixed_time_strikes_then_and_in_its_place() {
        let text = "[[fault]]\nkind = \"region-loss\"\non = \"eu\"\nat = \"10s\"\nlasts = \"5s\"";
        let expected = Strike {
            begins: Duration::from_secs(10),
            ends: Duration::from_secs(15),
            fault: Fault::RegionLoss("eu".to_owned()),
        };
        for seed in 0..5 {
            assert_eq!(drawn(text, seed), std::slice::from_ref(&expected));
        }
    }

    #[test]
    fn faults_in_turn_go_round() {
        let text = "duration = \"60s\"\n[[fault]]\nkind = \"kill\"\nin_turn = true\nevery = \"6s\"\nlasts = \"1s\"";
        let faults: Vec<String> = drawn(text, 3).iter().map(|s| s.fault.to_string()).collect();
        assert_eq!(
            faults[..4],
            ["kill us-1", "kill us-2", "kill us-3", "kill eu-1"]
        );
    }

    #[test]
    fn fixed_faults_that_meet_are_refused_with_the_number() {
        let text = "[[fault]]\nkind = \"kill\"\non = \"us-1\"\nat = \"1s\"\nlasts = \"5s\"\n\
                    [[fault]]\nkind = \"pause\"\non = \"us-2\"\nat = \"3s\"\nlasts = \"1s\"";
        let said = Schedule::draw(&scenario(text), 1).unwrap_err().to_string();
        assert!(said.starts_with("fault 2 (pause): at 3s"), "{said}");
    }

    #[test]
    fn clocks_are_off_both_ways_and_never_further_than_said() {
        let text = "[[fault]]\nkind = \"skew\"\nevery = \"2s\"\nlasts = \"1s\"\noffset = \"300ms\"";
        let offsets: Vec<i64> = drawn(text, 1)
            .iter()
            .filter_map(|strike| match strike.fault {
                Fault::Skew(_, offset_ms) => Some(offset_ms),
                _ => None,
            })
            .collect();
        assert!(
            offsets.iter().all(|ms| (150..=300).contains(&ms.abs())),
            "{offsets:?}"
        );
        assert!(
            offsets.iter().any(|ms| *ms > 0) && offsets.iter().any(|ms| *ms < 0),
            "{offsets:?}"
        );
    }
}
