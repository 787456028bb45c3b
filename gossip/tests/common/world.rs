//! A world of hosts in virtual time: one seed, one run.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
    time::Duration,
};

use bytes::Bytes;
use gossip::{
    Address, Config, Directory, Event, ForgetError, Generation, Gossip, Input, Myself, NodeId, Now,
    Output, Protocol, Source, Standing, Target,
};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::network::Network;

pub struct World {
    pub hosts: Vec<Host>,
    pub network: Network,
    pub config: Config,
    pub seeds: Vec<usize>,
    /// What hosts reported: when, who, what.
    pub reports: Vec<(Duration, usize, Event)>,
    /// Every datagram ever sent, if wanted.
    pub tape: Option<Vec<(Source, usize, Bytes)>>,
    now: Duration,
    queue: BinaryHeap<Reverse<Item>>,
    sequence: u64,
    rng: ChaCha8Rng,
}

pub struct Host {
    pub name: NodeId,
    pub address: Address,
    pub gossip: Option<Gossip>,
    pub directory: u64,
    /// Added to the host's wall clock.
    pub wall_ahead_ms: i64,
    /// Added to its monotonic clock, which should not jump, and does.
    pub monotonic_ahead: Duration,
    paused_until: Duration,
    wake_at: Duration,
    life: u64,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Item {
    at: Duration,
    sequence: u64,
    host: usize,
    what: What,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum What {
    Wake { life: u64 },
    Datagram { from: usize, bytes: Bytes },
}

impl World {
    /// So many hosts, none of them running.
    pub fn new(hosts: usize, network: Network, config: Config, seed: u64) -> Self {
        let hosts = (0..hosts).map(Host::new).collect();
        Self {
            hosts,
            network,
            config,
            seeds: vec![0, 1],
            reports: Vec::new(),
            tape: None,
            now: Duration::from_secs(1_000),
            queue: BinaryHeap::new(),
            sequence: 0,
            rng: ChaCha8Rng::seed_from_u64(seed),
        }
    }

    pub fn now(&self) -> Duration {
        self.now
    }

    pub fn clock(&self, host: usize) -> Now {
        let host = &self.hosts[host];
        let wall = WALL_MS as i64 + self.now.as_millis() as i64 + host.wall_ahead_ms;
        Now {
            monotonic: self.now + host.monotonic_ahead,
            wall_ms: wall as u64,
        }
    }

    /// Who a host is in the life that it would begin now.
    pub fn myself(&self, host: usize) -> Myself {
        let region = format!("r{}", self.network.region(host));
        Myself {
            node: self.hosts[host].name.clone(),
            directory: Directory(self.hosts[host].directory),
            generation: Generation(self.clock(host).wall_ms),
            region: region.parse().expect("a region"),
            address: self.hosts[host].address.clone(),
            protocol: Protocol {
                speaks: 1,
                accepts: 1,
            },
        }
    }

    /// Starts a host, in a new life.
    pub fn start(&mut self, host: usize) {
        self.start_as(host, self.config.clone(), self.myself(host));
    }

    /// Starts a host with its own configuration, or as someone else.
    pub fn start_as(&mut self, host: usize, config: Config, myself: Myself) {
        let seeds = self.seeds.iter().map(|seed| address(*seed)).collect();
        let (entropy, now) = (self.rng.random(), self.clock(host));
        let gossip = Gossip::new(config, myself, seeds, entropy, now);
        self.run_host(host, gossip.expect("a sound configuration"));
    }

    /// Puts a machine on a host; its first wakeup is now.
    pub fn run_host(&mut self, host: usize, gossip: Gossip) {
        self.hosts[host].life += 1;
        self.hosts[host].gossip = Some(gossip);
        self.hosts[host].paused_until = Duration::ZERO;
        self.wake_at(host, self.now);
    }

    /// Starts them all, spread over one interval.
    pub fn start_all(&mut self) {
        let interval = self.config.interval.as_micros() as u64;
        let mut offsets: Vec<(u64, usize)> = Vec::new();
        for host in 0..self.hosts.len() {
            offsets.push((self.rng.random_range(0..interval), host));
        }
        offsets.sort_unstable();
        let begin = self.now;
        for (offset, host) in offsets {
            self.run_until(begin + Duration::from_micros(offset));
            self.start(host);
        }
    }

    pub fn kill(&mut self, host: usize) {
        self.hosts[host].gossip = None;
    }

    /// Stops a host's process for a while: what comes in meanwhile waits.
    pub fn pause(&mut self, host: usize, time: Duration) {
        self.hosts[host].paused_until = self.now + time;
    }

    pub fn run_for(&mut self, time: Duration) {
        self.run_until(self.now + time);
    }

    pub fn run_until(&mut self, end: Duration) {
        while self
            .queue
            .peek()
            .is_some_and(|Reverse(item)| item.at <= end)
        {
            let Some(Reverse(item)) = self.queue.pop() else {
                break;
            };
            self.now = item.at;
            self.happen(item);
        }
        self.now = end;
    }

    /// Runs round by round until the condition holds; how many rounds it took.
    pub fn rounds_until(&mut self, max: u32, done: impl Fn(&Self) -> bool) -> Option<u32> {
        for round in 1..=max {
            self.run_for(self.config.interval);
            if done(self) {
                return Some(round);
            }
        }
        None
    }

    fn happen(&mut self, item: Item) {
        let host = &self.hosts[item.host];
        if item.at < host.paused_until {
            let at = host.paused_until;
            self.push(at, item.host, item.what);
            return;
        }
        match item.what {
            What::Wake { life } => {
                if life == host.life && host.wake_at <= item.at {
                    self.handle(item.host, Input::Wake);
                }
            }
            What::Datagram { from, bytes } => self.deliver(from, item.host, bytes),
        }
    }

    fn deliver(&mut self, from: usize, to: usize, bytes: Bytes) {
        let source = Source {
            address: self.hosts[from].address.clone(),
            node: Some(self.hosts[from].name.clone()),
        };
        self.inject(source, to, bytes);
    }

    /// Hands a host a datagram, from wherever.
    pub fn inject(&mut self, from: Source, to: usize, bytes: Bytes) {
        self.handle(to, Input::Received { from, bytes });
    }

    /// Hands a host an input.
    pub fn handle(&mut self, host: usize, input: Input) {
        let now = self.clock(host);
        let Some(gossip) = self.hosts[host].gossip.as_mut() else {
            return;
        };
        let outputs = gossip.handle(input, now);
        let due = gossip.next_wakeup().saturating_sub(now.monotonic);
        let wakeup = self.now + due;
        if wakeup != self.hosts[host].wake_at {
            self.wake_at(host, wakeup);
        }
        self.perform(host, outputs);
    }

    /// Carries out a host's outputs.
    pub fn perform(&mut self, host: usize, outputs: Vec<Output>) {
        for output in outputs {
            match output {
                Output::Send { to, bytes } => self.send(host, &to, bytes),
                Output::Event(event) => self.reports.push((self.now, host, event)),
            }
        }
    }

    fn send(&mut self, from: usize, to: &Target, bytes: Bytes) {
        assert!(bytes.len() <= self.config.datagram_bytes);
        let Some(to) = host_at(&to.address) else {
            return;
        };
        if let Some(tape) = &mut self.tape {
            let (address, node) = (self.hosts[from].address.clone(), None);
            tape.push((Source { address, node }, to, bytes.clone()));
        }
        for delay in self.network.fate(from, to) {
            let bytes = bytes.clone();
            self.push(self.now + delay, to, What::Datagram { from, bytes });
        }
    }

    fn wake_at(&mut self, host: usize, at: Duration) {
        self.hosts[host].wake_at = at;
        let life = self.hosts[host].life;
        self.push(at, host, What::Wake { life });
    }

    fn push(&mut self, at: Duration, host: usize, what: What) {
        self.sequence += 1;
        let sequence = self.sequence;
        self.queue.push(Reverse(Item {
            at,
            sequence,
            host,
            what,
        }));
    }

    pub fn gossip(&self, host: usize) -> &Gossip {
        self.hosts[host].gossip.as_ref().expect("the host runs")
    }

    pub fn gossip_mut(&mut self, host: usize) -> &mut Gossip {
        self.hosts[host].gossip.as_mut().expect("the host runs")
    }

    pub fn running(&self) -> Vec<usize> {
        let hosts = 0..self.hosts.len();
        hosts
            .filter(|host| self.hosts[*host].gossip.is_some())
            .collect()
    }

    pub fn standing(&self, observer: usize, observed: usize) -> Option<Standing> {
        let name = &self.hosts[observed].name;
        let member = self.gossip(observer).member(name)?;
        Some(member.standing)
    }

    /// Whether every running host sees every running host up in its present life, and nobody else.
    pub fn is_converged(&self) -> bool {
        let running = self.running();
        let lives: BTreeMap<&NodeId, Generation> = running
            .iter()
            .map(|host| {
                (
                    &self.hosts[*host].name,
                    self.gossip(*host).identity().generation,
                )
            })
            .collect();
        running.iter().all(|host| {
            let mut seen = 0;
            for member in self.gossip(*host).members() {
                let up = member.standing == Standing::Up;
                let present = lives.get(&member.identity.node) == Some(&member.identity.generation);
                if up != present {
                    return false;
                }
                seen += usize::from(up);
            }
            seen == running.len() - 1
        })
    }

    /// Says goodbye, and stops.
    pub fn depart(&mut self, host: usize) {
        let now = self.clock(host);
        let outputs = self.gossip_mut(host).depart(now);
        self.perform(host, outputs);
        self.kill(host);
    }

    /// An operator has a node forgotten, at this host.
    pub fn forget(&mut self, host: usize, node: &NodeId) -> Result<(), ForgetError> {
        let now = self.clock(host);
        let outputs = self.gossip_mut(host).forget(node, now)?;
        self.perform(host, outputs);
        Ok(())
    }

    /// Goes on at another address.
    pub fn move_to(&mut self, host: usize, address: Address) {
        let now = self.clock(host);
        self.hosts[host].address = address.clone();
        let outputs = self.gossip_mut(host).moved(address, now);
        self.perform(host, outputs);
    }

    /// Whether every other running host sees this one so.
    pub fn all_see(&self, observed: usize, standing: Standing) -> bool {
        let mut others = self.running().into_iter().filter(|host| *host != observed);
        others.all(|host| self.standing(host, observed) == Some(standing))
    }

    /// Whether nobody who runs knows this one's name.
    pub fn nobody_knows(&self, observed: usize) -> bool {
        let mut others = self.running().into_iter().filter(|host| *host != observed);
        others.all(|host| self.standing(host, observed).is_none())
    }

    /// What a host reported since a moment.
    pub fn reports_of(&self, host: usize, since: Duration) -> impl Iterator<Item = &Event> {
        let reports = self.reports.iter();
        let reports = reports.filter(move |(at, who, _)| *who == host && *at >= since);
        reports.map(|(_, _, event)| event)
    }

    /// Bytes sent so far by all who run.
    pub fn bytes_sent(&self) -> u64 {
        let running = self.running().into_iter();
        running
            .map(|host| self.gossip(host).counters().bytes_sent)
            .sum()
    }

    /// Reports since a moment that say that a node of these is not believed to live.
    pub fn suspicions(&self, since: Duration, of: &[usize]) -> usize {
        let names: Vec<&NodeId> = of.iter().map(|host| &self.hosts[*host].name).collect();
        let reports = self.reports.iter().filter(|(at, ..)| *at >= since);
        reports
            .filter(|(_, _, event)| match event {
                Event::Believed(verdict) => {
                    matches!(verdict.standing, Standing::Suspect | Standing::Down)
                        && names.contains(&&verdict.node)
                }
                _ => false,
            })
            .count()
    }
}

impl Host {
    /// One that does not run.
    pub fn new(number: usize) -> Self {
        Self {
            name: format!("node-{number}").parse().expect("a name"),
            address: address(number),
            gossip: None,
            directory: 1_000 + number as u64,
            wall_ahead_ms: 0,
            monotonic_ahead: Duration::ZERO,
            paused_until: Duration::ZERO,
            wake_at: Duration::ZERO,
            life: 0,
        }
    }
}

pub fn address(host: usize) -> Address {
    format!("h{host}").parse().expect("an address")
}

fn host_at(address: &Address) -> Option<usize> {
    let number: usize = address.as_str().strip_prefix('h')?.parse().ok()?;
    Some(number % ADDRESSES)
}

/// A host is also reached at its number plus this, once it has moved.
pub const ADDRESSES: usize = 1_000;
/// Unix milliseconds at the beginning of time.
pub const WALL_MS: u64 = 1_700_000_000_000;
