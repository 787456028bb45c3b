//! How fast and how surely crashes are noticed: this crate beside `chitchat`, in the same simulated network, at the same heartbeat interval.
//!
//! ```sh
//! cargo bench -p gossip --bench detection              # everything, about 15 minutes
//! cargo bench -p gossip --bench detection -- --quick   # a fifth of it
//! cargo bench -p gossip --bench detection -- --ours    # this crate alone, at its defaults
//! cargo bench -p gossip --bench detection -- --seeds=12 --loss=0.2   # twelve networks, one loss
//! ```
//!
//! 50 nodes in three regions; 1 to 2 ms inside, 40 to 50 ms across (one way); a round every 200 ms, phi 8 for chitchat, 9 and across 10 for us.
//! A warm-up, then a quiet time in which every suspicion is a false one, then crashes one by one; a crashed node returns in a
//! new life. Time to detect: from the crash to the moment when a survivor no longer counts the node among the living, over all survivors.

#[path = "../../tests/common/network.rs"]
#[allow(dead_code)]
mod network;
mod ours;
mod theirs;
#[path = "../../tests/common/world.rs"]
#[allow(dead_code)]
mod world;

use std::time::Duration;

use network::{Link, Network};

/// What is measured, the same for both.
#[derive(Debug, Clone, Copy)]
struct Plan {
    hosts: usize,
    interval: Duration,
    loss: f64,
    warm_up: Duration,
    quiet: Duration,
    crashes: usize,
    seed: u64,
}

/// What came out.
#[derive(Debug, Default)]
struct Outcome {
    /// From crash to notice, per survivor and crash.
    detections: Vec<Duration>,
    /// Notices that never came.
    missed: usize,
    /// Living nodes taken for dead in the quiet time, by each observer.
    false_suspicions: usize,
    /// Bytes sent in the quiet time, by all.
    bytes: u64,
}

impl Plan {
    fn network(&self) -> Network {
        let near = Link::new(1, 1, self.loss);
        let far = Link::new(40, 10, self.loss);
        Network::new(near, far, 3, self.seed)
    }

    fn node_hours(&self) -> f64 {
        self.hosts as f64 * self.quiet.as_secs_f64() / 3_600.0
    }

    /// Time given to notice a crash, and then to recover from it.
    fn after_crash(&self) -> (Duration, Duration) {
        (Duration::from_secs(8), Duration::from_secs(20))
    }

    /// Who crashes: everyone in turn but the seeds.
    fn victim(&self, crash: usize) -> usize {
        2 + (crash * 7) % (self.hosts - 2)
    }

    /// Crashes come at all phases of the round.
    fn offset(&self, crash: usize) -> Duration {
        self.interval * u32::try_from(crash * 37 % 100).unwrap_or(0) / 100
    }
}

impl Outcome {
    /// Of several runs together.
    fn of(plans: &[Plan], measure: impl Fn(&Plan) -> Self) -> Self {
        let mut all = Self::default();
        for plan in plans {
            let one = measure(plan);
            all.detections.extend(one.detections);
            all.missed += one.missed;
            all.false_suspicions += one.false_suspicions;
            all.bytes += one.bytes;
        }
        all
    }

    fn print(&mut self, name: &str, plans: &[Plan]) {
        self.detections.sort_unstable();
        let at = |part: f64| {
            let last = self.detections.len().saturating_sub(1);
            let position = (last as f64 * part).round() as usize;
            self.detections
                .get(position)
                .map_or(f64::NAN, Duration::as_secs_f64)
        };
        let plan = &plans[0];
        let hours: f64 = plans.iter().map(Plan::node_hours).sum();
        let rounds = hours * 3_600.0 / plan.interval.as_secs_f64();
        println!(
            "{:<34} {:>5.0} % {:>8.2} s {:>8.2} s {:>8.2} s {:>7} {:>10} {:>12.3} {:>12.0}",
            name,
            plan.loss * 100.0,
            at(0.5),
            at(0.99),
            at(1.0),
            self.missed,
            self.false_suspicions,
            self.false_suspicions as f64 / hours,
            self.bytes as f64 / rounds,
        );
    }
}

fn main() {
    let is_said = |flag: &str| std::env::args().any(|argument| argument == flag);
    let (quick, only_ours) = (is_said("--quick"), is_said("--ours"));
    let said = |flag: &str| {
        let value = std::env::args().find_map(|argument| argument.strip_prefix(flag)?.parse().ok());
        value as Option<f64>
    };
    let (quiet, crashes) = if quick { (120, 5) } else { (600, 25) };
    let quiet = said("--quiet=").map_or(quiet, |seconds| seconds as u64);
    let seeds = said("--seeds=").unwrap_or(1.0) as u64;
    let losses = said("--loss=").map_or(vec![0.0, 0.05, 0.2], |loss| vec![loss]);
    println!(
        "{:<34} {:>7} {:>10} {:>10} {:>10} {:>7} {:>10} {:>12} {:>12}",
        "detector", "loss", "p50", "p99", "max", "missed", "false", "/node-hour", "B/round"
    );
    for loss in losses {
        let plan = |seed| Plan {
            hosts: 50,
            interval: Duration::from_millis(200),
            loss,
            warm_up: Duration::from_secs(60),
            quiet: Duration::from_secs(quiet),
            crashes,
            seed,
        };
        let plans: Vec<Plan> = (7..7 + seeds).map(plan).collect();
        if !only_ours {
            Outcome::of(&plans, theirs::measure).print("chitchat 0.13", &plans);
        }
        let count = if only_ours { 1 } else { usize::MAX };
        for variant in ours::variants().into_iter().take(count) {
            let measure = |plan: &Plan| ours::measure(plan, &variant.config);
            Outcome::of(&plans, measure).print(variant.name, &plans);
        }
    }
}
