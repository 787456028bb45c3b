//! What kind of world a seed makes: its size, its load, and which faults there are. Most seeds have only some of them, because
//! a fault that is always on hides what happens without it.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use node::{
    level::Level,
    names::{NodeName, RegionName},
    placement::Placement,
};

use super::{
    dice::{Dice, Stream},
    fault::FaultKind,
    host::name,
    variation::Variation,
};
use crate::{
    check::levels::{self, Kept},
    workload::{Family, Mix},
};

/// A world before it begins.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The hosts, region by region.
    pub regions: Vec<HostPlan>,
    /// Hosts in each region.
    pub nodes: usize,
    /// How many of them hold each key; the others forward.
    pub replicas: usize,
    /// Clients of each host.
    pub clients: usize,
    /// Whether only one kind of thing goes wrong.
    pub is_narrow: bool,
    /// Whether it is about hosts that stand in for replicas.
    pub stands_in: bool,
    /// Whether there is one client in all, that asks one host now and another one then.
    pub is_single: bool,
    /// Operations that all clients together ask while faults strike.
    pub operations: usize,
    /// Faults strike for so long.
    pub storm: Duration,
    /// A client waits up to this long before it asks again.
    pub think_max: Duration,
    /// What they ask.
    pub mix: Mix,
    /// Whether the levels that they ask for were chosen by hand: then what is promised of quorums is looked for at any level.
    pub is_level_forced: bool,
    /// Which faults strike, and how long it takes on average until the next of its kind does.
    pub faults: Vec<(FaultKind, Duration)>,
    /// One way between two hosts.
    pub delay: (Duration, Duration),
    /// Added to the delay, up to this much.
    pub jitter_max: Duration,
    /// A session that hears nothing for so long ends.
    pub idle_timeout: Duration,
    /// Of a thousand messages, how many find their session's queue full.
    pub unsent: u64,
    /// Of a thousand answers to another host, how many find their session's queue full and are not sent.
    pub unanswered: u64,
    /// Of a thousand parts of what another host sent, how many find their shard's queue full.
    pub refused: u64,
    /// What happens to single messages while their session goes on.
    pub mishaps: Mishaps,
    /// Whether what was under way in a broken session may still arrive.
    pub has_stragglers: bool,
    /// Of a thousand commits, how many take long.
    pub slow_commits: u64,
    /// Of a thousand reads, how many are answered from committed state, beside the shard.
    pub direct_reads: u64,
    /// Rows of the outbox older than this are dropped.
    pub outbox_window: Duration,
    /// And rows beyond so many bytes for a shard.
    pub outbox_bytes: u64,
    /// How often hosts gossip; `None`: they believe that all others live.
    pub gossip_interval: Option<Duration>,
    /// Whether hosts that do not hold a key take its writes in the place of those that do and are not believed to live.
    pub is_sloppy: bool,
}

/// Of a thousand messages of any kind, so many meet with this. No session of real nodes does that to them; full queues lose some, and
/// nothing else may rest on their order and number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Mishaps {
    /// They never arrive.
    pub lost: u64,
    /// They arrive again, perhaps late.
    pub doubled: u64,
    /// They overtake those before them.
    pub overtaking: u64,
}

impl Mishaps {
    /// None.
    pub const NONE: Self = Self {
        lost: 0,
        doubled: 0,
        overtaking: 0,
    };

    fn draw(dice: &mut Dice) -> Self {
        if !dice.chance(200) {
            return Self::NONE;
        }
        Self {
            lost: *dice.pick(&[0, 3, 30]),
            doubled: *dice.pick(&[0, 3, 30]),
            overtaking: *dice.pick(&[0, 3, 30]),
        }
    }
}

/// One host.
#[derive(Debug, Clone)]
pub struct HostPlan {
    /// Shards of its data directory.
    pub shards: u16,
    /// Whether every commit is synced before it is answered.
    pub fsync_always: bool,
    /// How often everything is synced where that is not so.
    pub sync_interval: Duration,
    /// How far its clock is off, in milliseconds.
    pub clock_offset_ms: i64,
    /// By how many millionths its clock is too fast.
    pub clock_drift_ppm: i64,
    /// Bytes of decoded heads that a shard keeps.
    pub cache_bytes: usize,
    /// A batch ends after at most this many inputs.
    pub batch_inputs: usize,
}

impl Plan {
    /// The world of a seed, but for what is to be different.
    pub fn draw(seed: u64, variation: &Variation) -> Self {
        let mut dice = Dice::new(seed, Stream::Plan);
        let mut plan = Self::draw_outline(seed, variation.steps, &mut dice);
        if plan.mix.is_focused {
            plan.thin_out();
            plan.narrow(&mut Dice::new(seed, Stream::Narrow));
        }
        plan.draw_far_start(&mut dice);
        plan.draw_gossip(&mut dice);
        // Only now: what else is drawn is the same with and without them.
        plan.faults
            .retain(|(kind, _)| !variation.without.contains(kind));
        if let Some(level) = variation.level {
            plan.mix.levels = vec![level];
            plan.is_level_forced = true;
        }
        if plan.has_waiting_requests() || plan.nodes > 1 {
            // Replies come when others have answered, so not in the order in which one model would give them.
            plan.mix.leave_out(Family::Local);
        }
        plan
    }

    /// What every world is drawn by: its hosts, its load, its faults and its links. With `steps`, of so many operations.
    fn draw_outline(seed: u64, steps: Option<usize>, dice: &mut Dice) -> Self {
        let mut rare = Dice::new(seed, Stream::Rare);
        let usual = *dice.pick(&SHAPES);
        let is_large = rare.chance(10);
        let (regions, nodes, replicas) = if is_large {
            *rare.pick(&LARGE_SHAPES)
        } else {
            usual
        };
        let hosts_count = regions * nodes;
        let synced = Synced::draw(dice);
        let hosts = (0..hosts_count)
            .map(|_| HostPlan::draw_synced(dice, synced))
            .collect();
        let delay_min = dice.between(0, 100);
        // A replica that lacks rows for good wants a reconciliation, which is not there yet: then it is enough that somebody says so.
        let has_bounds = dice.chance(80) && (nodes == 1 || rare.chance(500));
        // Only what other regions have as well comes back by itself.
        let is_refilled = nodes == 1 && regions > 1;
        let clients = dice.between(1, 4) as usize;
        let drawn = dice.between(100, 500) as usize;
        let operations = steps.unwrap_or(drawn);
        let storm = millis(dice.between(3000, 20_000));
        // Bursts end before the storm, a steady load fills it. Fewer operations than drawn are the first of those.
        let hurry = *dice.pick(&[1, 1, 1, 10]);
        let think_max =
            storm * 2 * (clients * hosts_count) as u32 / (operations.max(drawn) as u32 * hurry);
        Self {
            regions: hosts,
            nodes,
            replicas,
            clients,
            is_narrow: false,
            stands_in: false,
            is_single: false,
            operations,
            storm,
            think_max,
            mix: Mix::draw(dice, &mut Dice::new(seed, Stream::Focus)),
            is_level_forced: false,
            faults: FaultKind::draw(dice)
                .into_iter()
                .filter(|(kind, _)| {
                    let is_replicated = regions == 1 && replicas > 1 && kind.replaces_disk();
                    is_refilled || is_replicated || !kind.takes_data(synced == Synced::All)
                })
                .collect(),
            delay: (millis(delay_min), millis(delay_min + dice.between(0, 80))),
            jitter_max: millis(*dice.pick(&[0, 5, 50, 300])),
            idle_timeout: millis(dice.between(1000, 5000)),
            unsent: *dice.pick(&[0, 0, 5, 50]),
            unanswered: *dice.pick(&[0, 0, 5, 50]),
            refused: *dice.pick(&[0, 0, 5, 50]),
            mishaps: Mishaps::draw(&mut Dice::new(seed, Stream::Mishaps)),
            has_stragglers: dice.chance(500),
            slow_commits: *dice.pick(&[0, 10, 100]),
            direct_reads: *dice.pick(&[0, 300, 1000]),
            outbox_window: match has_bounds && dice.chance(500) {
                true => millis(dice.between(1500, 6000)),
                false => Duration::from_secs(3 * 3600),
            },
            outbox_bytes: match has_bounds {
                true => dice.between(500, 5000),
                false => 1 << 30,
            },
            gossip_interval: None,
            is_sloppy: false,
        }
    }

    /// What is asked on one key waits in one line: with many clients and long ways most of it would only run out of time.
    fn thin_out(&mut self) {
        self.clients = self.clients.min(2);
        self.delay = (self.delay.0 / 4, self.delay.1 / 4);
        self.jitter_max = self.jitter_max.min(millis(20));
    }

    /// In most of the worlds that ask about a key or two only one kind of thing goes wrong, and often: what many kinds together come to
    /// once in thousands of worlds shows there.
    fn narrow(&mut self, dice: &mut Dice) {
        match dice.below(10) {
            0..=4 => self.fall_behind(dice),
            5 => self.let_others_stand_in(dice),
            6 => self.let_outboxes_drop(dice),
            _ => {}
        }
    }

    /// Three replicas, of which one now and then misses rows of another one, while all of them answer: what a write must learn from
    /// others, and what a read must ask them.
    fn fall_behind(&mut self, dice: &mut Dice) {
        self.is_single = dice.chance(500);
        let regions = match self.is_single {
            true => 1,
            false => *dice.pick(&[1, 1, 1, 2]),
        };
        if self.is_single {
            self.mix.ask_of_single_keys();
        }
        self.settle_in(regions, 3, dice);
        if self.is_single && dice.chance(600) {
            self.set_one_ahead(dice);
        }
        // Some keys are left alone for long.
        self.think_max *= *dice.pick(&[1, 1, 6]);
        // Also later than rows are held up.
        self.mix.end_within(*dice.pick(&[1000, 5000, 10_000]));
        self.faults = vec![(FaultKind::Behind, millis(dice.between(200, 1500)))];
    }

    /// One clock is ahead of all others, as far as clocks may be: what the others write is older, by its stamp, than what they have missed of
    /// that one.
    fn set_one_ahead(&mut self, dice: &mut Dice) {
        for host in &mut self.regions {
            host.clock_offset_ms = dice.between_signed(-50, 50);
        }
        let ahead = dice.below(self.regions.len() as u64) as usize;
        self.regions[ahead].clock_offset_ms += AHEAD_MS;
    }

    /// Five nodes that stand in for three replicas, some of which are away.
    fn let_others_stand_in(&mut self, dice: &mut Dice) {
        self.settle_in(1, 5, dice);
        self.faults = vec![
            (FaultKind::Isolate, millis(dice.between(1500, 4000))),
            (FaultKind::Kill, millis(dice.between(3000, 6000))),
        ];
        self.stands_in = true;
    }

    /// Three replicas, for which little is kept while they are away.
    fn let_outboxes_drop(&mut self, dice: &mut Dice) {
        self.settle_in(1, 3, dice);
        self.outbox_bytes = dice.between(300, 2000);
        self.faults = vec![
            (FaultKind::Isolate, millis(dice.between(1500, 4000))),
            (FaultKind::Cut, millis(dice.between(1500, 4000))),
        ];
    }

    /// Regions of so many nodes that keep three replicas, and nothing goes wrong by itself.
    fn settle_in(&mut self, regions: usize, nodes: usize, dice: &mut Dice) {
        self.is_narrow = true;
        (self.nodes, self.replicas, self.clients) = (nodes, 3, 3);
        self.regions = (0..regions * nodes)
            .map(|_| HostPlan::draw(dice, true))
            .collect();
        (self.unsent, self.unanswered, self.refused) = (0, 0, 0);
        self.mishaps = Mishaps::NONE;
        (self.outbox_window, self.outbox_bytes) = (Duration::from_secs(3 * 3600), 1 << 30);
    }

    /// Where the outbox may drop rows, it may drop some that are stamped far ahead: they are in no outbox then, and stay so stamped.
    fn draw_far_start(&mut self, dice: &mut Dice) {
        let mean = millis(dice.between(1500, 8000));
        if dice.chance(200) && !self.has_tight_outbox() && !self.is_narrow {
            self.faults.push((FaultKind::FarStart, mean));
        }
    }

    fn draw_gossip(&mut self, dice: &mut Dice) {
        let interval = millis(*dice.pick(&[200, 200, 500]));
        let (gossips, is_sloppy) = (dice.chance(500), dice.chance(500));
        let (gossips, is_sloppy) = (gossips || self.stands_in, is_sloppy || self.stands_in);
        self.gossip_interval = (gossips && self.regions.len() > 1).then_some(interval);
        self.is_sloppy = is_sloppy && self.gossip_interval.is_some() && self.nodes > self.replicas;
    }

    /// How many regions there are.
    pub fn region_count(&self) -> usize {
        self.regions.len() / self.nodes
    }

    /// The region of a host.
    pub fn region(&self, host: usize) -> RegionName {
        let region = host / self.nodes;
        format!("r{region}")
            .parse()
            .expect("names of the simulator are made of a letter and a number")
    }

    /// Who holds what.
    pub fn placement(&self) -> Placement {
        let mut members: BTreeMap<RegionName, BTreeSet<NodeName>> = BTreeMap::new();
        let mut replicas = BTreeMap::new();
        for host in 0..self.regions.len() {
            let region = self.region(host);
            replicas.insert(region.clone(), self.replicas as u8);
            members.entry(region).or_default().insert(name(host));
        }
        Placement::new(members, &replicas)
    }

    /// Whether a request at this level waits for other hosts.
    pub fn asks_others(&self, level: Level) -> bool {
        match level {
            Level::Replicas(count) => count.get() > 1,
            Level::LocalQuorum => self.replicas > 1,
            Level::EachQuorum | Level::Quorum | Level::All => self.regions.len() > 1,
        }
    }

    /// Whether any request waits for other hosts.
    pub fn has_waiting_requests(&self) -> bool {
        self.mix.levels.iter().any(|level| self.asks_others(*level))
    }

    /// Whether reads at this level see what was acknowledged at this level, inside a region.
    pub fn overlaps(&self, level: Level) -> bool {
        if self.is_level_forced {
            return true;
        }
        // Replicas that come back do not have yet what others took in their place.
        if self.is_sloppy {
            return false;
        }
        levels::overlaps(level, self.replicas, self.region_count())
    }

    /// Whether the outbox may drop rows that a region has not taken.
    pub fn has_tight_outbox(&self) -> bool {
        self.outbox_bytes < 1 << 30 || self.outbox_window < Duration::from_secs(3600)
    }

    /// Whether a disk may lose what was acknowledged from it.
    pub fn may_lose_data(&self) -> bool {
        let is_synced = self.regions.iter().all(|host| host.fsync_always);
        let mut faults = self.faults.iter();
        faults.any(|(kind, _)| kind.takes_data(is_synced))
    }

    /// Whether clocks differ by more than they may, at times.
    pub fn has_wild_clocks(&self) -> bool {
        self.has_fault(FaultKind::Leap) || self.has_fault(FaultKind::FarStart)
    }

    /// How many replicas of a key each region keeps.
    pub fn kept(&self) -> Kept {
        Kept(vec![self.replicas; self.region_count()])
    }

    /// So long after the faults everything that is asked is answered. What a clock stamped that was ahead is waited for, or written
    /// anew, before that.
    pub fn calm_after(&self) -> Duration {
        if self.has_fault(FaultKind::FarStart) {
            CALM_AFTER * 2
        } else {
            CALM_AFTER
        }
    }

    /// Whether this fault may strike.
    pub fn has_fault(&self, kind: FaultKind) -> bool {
        self.faults.iter().any(|(other, _)| *other == kind)
    }
}

/// Which hosts of a world sync every commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Synced {
    All,
    None,
    Some,
}

impl Synced {
    fn draw(dice: &mut Dice) -> Self {
        let (is_equal, is_always) = (dice.chance(500), dice.chance(500));
        match (is_equal, is_always) {
            (true, true) => Self::All,
            (true, false) => Self::None,
            (false, _) => Self::Some,
        }
    }
}

impl HostPlan {
    fn draw_synced(dice: &mut Dice, synced: Synced) -> Self {
        let is_always = match synced {
            Synced::All => true,
            Synced::None => false,
            Synced::Some => dice.chance(500),
        };
        Self::draw(dice, is_always)
    }

    fn draw(dice: &mut Dice, fsync_always: bool) -> Self {
        Self {
            shards: dice.between(1, 3) as u16,
            fsync_always,
            sync_interval: millis(*dice.pick(&[100, 100, 1000, 5000])),
            clock_offset_ms: dice.between_signed(-OFFSET_MAX_MS, OFFSET_MAX_MS),
            clock_drift_ppm: dice.between_signed(-200, 200),
            cache_bytes: *dice.pick(&[0, 2000, 1 << 20]),
            batch_inputs: *dice.pick(&[1, 4, 64]),
        }
    }
}

/// Regions, hosts in each of them, and how many of those hold each key.
const SHAPES: [(usize, usize, usize); 20] = [
    (1, 1, 1),
    (2, 1, 1),
    (2, 1, 1),
    (2, 5, 3),
    (3, 1, 1),
    (3, 1, 1),
    (4, 2, 2),
    (4, 1, 1),
    (4, 1, 1),
    (1, 2, 2),
    (1, 3, 3),
    (1, 3, 3),
    (1, 4, 3),
    (1, 5, 3),
    (1, 5, 5),
    (2, 2, 2),
    (2, 2, 1),
    (2, 3, 3),
    (2, 4, 3),
    (3, 3, 3),
];
/// The same, for few worlds: these take long.
const LARGE_SHAPES: [(usize, usize, usize); 3] = [(3, 4, 3), (3, 5, 3), (4, 5, 3)];
/// Two clocks that are off by this much either way stay within `clock.max_skew` of each other.
pub const OFFSET_MAX_MS: i64 = 400;
/// How far one clock may be ahead of the others that are not: less than `clock.max_skew`, with what they drift.
const AHEAD_MS: i64 = 700;

/// See [`Plan::calm_after`].
const CALM_AFTER: Duration = Duration::from_secs(10);

const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}
