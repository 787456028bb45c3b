//! The machine: one node's part in the gossip.

use std::time::Duration;

use bytes::Bytes;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use thiserror::Error;
use xxhash_rust::xxh3::xxh3_64;

use crate::{
    choice::Company,
    clock::{Clock, Moment, micros, milliseconds},
    config::{Config, ConfigError, Myself},
    detector::Tuning,
    event::{Event, Input, Now, Output, Target},
    identity::{Directory, Generation, Heartbeat, Identity, Tag},
    incarnation::Incarnation,
    majority::{ClockStanding, judge},
    member,
    message::{Body, ClusterDigest, Gone, MENTION_BYTES_MIN, Status},
    name::{Address, Key, NodeId},
    outbox::Outbox,
    phi::deviations,
    plan::Plan,
    refusal::{RefusalKind, Refused, RefusedList},
    renewals::Renewals,
    roster::Roster,
    tombstones::Grave,
    values::ValueError,
    view::{Counters, Member, Verdict},
};

/// One node's part in the gossip. It does nothing by itself: its driver
/// 1. wakes it when [`next_wakeup`](Self::next_wakeup) says so, which changes with every call, and hands it what was received;
/// 2. carries out the outputs of every call, in order: sending may fail, silently;
/// 3. gives a clock that does not go back, and a new generation for every start.
#[derive(Debug)]
pub struct Gossip {
    pub(crate) config: Config,
    pub(crate) tuning: Tuning,
    pub(crate) thresholds: Thresholds,
    pub(crate) cluster: ClusterDigest,
    pub(crate) me: Incarnation,
    pub(crate) seeds: Vec<Address>,
    pub(crate) roster: Roster,
    pub(crate) refused: RefusedList,
    pub(crate) refused_by: RefusedList,
    pub(crate) renewals: Renewals,
    pub(crate) plan: Plan,
    /// Bytes of the longest digest entry: were digests planned with less, their end would be cut off, and with it always the same members.
    pub(crate) mention_bytes: usize,
    pub(crate) company: Company,
    pub(crate) clock: Clock,
    pub(crate) now: Moment,
    pub(crate) wall_ms: u64,
    pub(crate) next_round: u64,
    pub(crate) next_look: u64,
    pub(crate) is_forgotten: bool,
    pub(crate) rng: ChaCha8Rng,
    pub(crate) outbox: Outbox,
}

/// Thresholds of phi.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Thresholds {
    /// As deviations above the mean: it is compared often.
    pub(crate) ask: f64,
    pub(crate) local: f64,
    pub(crate) remote: f64,
}

/// Why a node cannot be forgotten.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ForgetError {
    /// No node of that name is known here. *State unchanged.*
    #[error("no node '{0}' is known here")]
    Unknown(NodeId),
    /// It lives: it can leave by itself. *State unchanged.*
    #[error("node '{0}' lives: have it leave, or stop it first")]
    Lives(NodeId),
}

fn tuning(config: &Config) -> Tuning {
    Tuning {
        interval: micros(config.interval),
        deviation_floor: micros(config.deviation_floor),
        window: config.window,
    }
}

fn thresholds(config: &Config) -> Thresholds {
    Thresholds {
        ask: deviations(config.phi_ask),
        local: config.phi_local,
        remote: config.phi_remote,
    }
}

impl Gossip {
    /// A node that begins a life. `seeds` are addresses of others, some of which may live; without any it is the first of its cluster.
    /// `entropy` is the only source of randomness: equal inputs, equal outputs.
    pub fn new(
        config: Config,
        myself: Myself,
        seeds: Vec<Address>,
        entropy: u64,
        now: Now,
    ) -> Result<Self, ConfigError> {
        config.check()?;
        let identity = myself.identity(&config.settings);
        let mut me = Incarnation::new(identity, Heartbeat(1));
        me.values.next_version();
        let mut clock = Clock::new(now.monotonic, config.interval);
        let (awake, _) = clock.advance(now.monotonic);
        let stamp = clock.stamp();
        Ok(Self {
            tuning: tuning(&config),
            thresholds: thresholds(&config),
            cluster: ClusterDigest(xxh3_64(config.cluster.as_str().as_bytes()).to_le_bytes()),
            config,
            me,
            seeds,
            roster: Roster::default(),
            refused: RefusedList::default(),
            refused_by: RefusedList::default(),
            renewals: Renewals::default(),
            plan: Plan::default(),
            mention_bytes: MENTION_BYTES_MIN,
            company: Company::default(),
            clock,
            now: Moment { awake, stamp },
            wall_ms: now.wall_ms,
            next_round: awake,
            next_look: awake,
            is_forgotten: false,
            rng: ChaCha8Rng::seed_from_u64(entropy),
            outbox: Outbox::default(),
        })
    }

    /// Takes in what happened; gives back what is to be done.
    pub fn handle(&mut self, input: Input, now: Now) -> Vec<Output> {
        self.observe(now);
        if self.is_forgotten {
            self.clock.expect(self.now.awake + FORGOTTEN_PAUSE_MICROS);
            return Vec::new();
        }
        match input {
            Input::Wake => self.wake(),
            Input::Received { from, bytes } => self.receive(&from, &bytes),
            Input::Reached(target) => self.ask_reached(target),
        }
        self.clock.expect(self.next_round.min(self.next_look));
        self.outbox.take()
    }

    fn observe(&mut self, now: Now) {
        let (awake, slept) = self.clock.advance(now.monotonic);
        debug_assert!(awake >= self.now.awake);
        let stamp = self.clock.stamp();
        self.now = Moment { awake, stamp };
        self.wall_ms = now.wall_ms;
        if slept > 0 {
            let slept = Duration::from_micros(slept);
            self.outbox.event(Event::Slept(slept));
        }
    }

    /// When to call [`handle`](Self::handle) with [`Input::Wake`] at the latest, on the monotonic clock.
    pub fn next_wakeup(&self) -> Duration {
        self.clock.due()
    }

    /// Publishes a value: at most 512 bytes, and 64 keys. Others learn of it with the next rounds.
    pub fn set(&mut self, key: Key, value: Bytes) -> Result<(), ValueError> {
        self.me.values.set(key, value, self.now.awake)?;
        Ok(())
    }

    /// Removes a key that this node published.
    pub fn unset(&mut self, key: &Key) {
        self.me.values.unset(key, self.now.awake);
    }

    /// Says that this node drains: no new work, please.
    pub fn leave(&mut self) {
        self.become_status(Status::Leaving);
    }

    /// Says goodbye: the outputs tell as many as the round's bytes allow, and they tell the others. Nobody waits for phi. What
    /// this node published is withdrawn.
    pub fn depart(&mut self, now: Now) -> Vec<Output> {
        self.observe(now);
        if self.is_forgotten {
            return Vec::new();
        }
        let before = self.me.version();
        self.become_status(Status::Left);
        self.outbox.begin_round(self.config.round_bytes);
        self.make_plan();
        let peers: Vec<Tag> = self.plan.freshest().collect();
        for tag in peers {
            let goodbye = self
                .me
                .newer_than(before, 0, self.config.datagram_bytes / 2);
            let (wants, deltas) = (Vec::new(), goodbye.into_iter().collect());
            if let Some(to) = self.target(tag) {
                self.send(to, Vec::new(), Body::Tell { wants, deltas });
            }
        }
        self.outbox.take()
    }

    fn become_status(&mut self, status: Status) {
        if status <= self.me.status {
            return;
        }
        self.me.status = status;
        if status == Status::Left {
            // A goodbye has to be understood by those, too, who have not heard the latest values.
            self.me.values.abandon();
        } else {
            self.me.values.next_version();
        }
    }

    /// Goes on at another address, as a new life of this node.
    pub fn moved(&mut self, address: Address, now: Now) -> Vec<Output> {
        self.observe(now);
        let mut identity = self.me.identity.clone();
        identity.address = address;
        identity.generation = Generation(identity.generation.0 + 1);
        self.begin_life(identity);
        self.outbox.take()
    }

    /// Forgets a node that will never return, here and everywhere: its data directory is refused from now on.
    pub fn forget(&mut self, node: &NodeId, now: Now) -> Result<Vec<Output>, ForgetError> {
        self.observe(now);
        let member = self
            .roster
            .named(node)
            .ok_or_else(|| ForgetError::Unknown(node.clone()))?;
        if member.lives() {
            return Err(ForgetError::Lives(node.clone()));
        }
        let gone = Gone {
            tag: member.life.tag,
            node: node.clone(),
            directory: member.life.identity.directory,
        };
        self.hear_gone(&gone);
        Ok(self.outbox.take())
    }

    /// Forgets a node of which nothing was heard in this life, here and everywhere: only the driver remembers that there was one, with
    /// this directory. One that is known is not forgotten this way: see [`forget`](Self::forget).
    pub fn forget_remembered(
        &mut self,
        node: &NodeId,
        directory: Directory,
        now: Now,
    ) -> Result<Vec<Output>, ForgetError> {
        if self.roster.named(node).is_some() {
            return self.forget(node, now);
        }
        self.observe(now);
        let gone = Gone {
            tag: Tag::unheard(node, directory),
            node: node.clone(),
            directory,
        };
        self.hear_gone(&gone);
        Ok(self.outbox.take())
    }

    /// Tells of a node that was forgotten in an earlier life of this one: see [`Event::Forgot`].
    pub fn recall_forgotten(&mut self, node: NodeId, directory: Directory) {
        self.roster.tombstones.recall(node, directory);
    }

    /// A node was forgotten by an operator, here or elsewhere.
    pub(crate) fn hear_gone(&mut self, gone: &Gone) {
        if gone.node == self.me.identity.node && gone.directory == self.me.identity.directory {
            self.is_forgotten = true;
            self.outbox.event(Event::Forgotten);
            return;
        }
        let sends = RUMOUR_SENDS_PER_DOUBLING * (self.roster.len() as u32 + 2).ilog2();
        if self.roster.tombstones.forget(gone, sends) {
            let (node, directory) = (gone.node.clone(), gone.directory);
            self.outbox.event(Event::Forgot { node, directory });
        }
        let tag = self.roster.tag_of(&gone.node);
        let is_it = |tag: &Tag| {
            let member = self.roster.member(*tag);
            member.is_some_and(|member| member.life.identity.directory == gone.directory)
        };
        if let Some(tag) = tag.filter(is_it) {
            self.roster.remove(tag, Grave::Forgotten(gone.clone()));
            self.outbox.event(Event::Removed(gone.node.clone()));
        }
    }

    pub(crate) fn begin_life(&mut self, identity: Identity) {
        debug_assert!(identity.generation > self.me.identity.generation);
        self.me.identity = identity;
        self.me.tag = self.me.identity.tag();
        self.me.heartbeat = Heartbeat(1);
        let generation = self.me.identity.generation;
        self.outbox.event(Event::Renewed(generation));
    }

    pub(crate) fn target(&self, tag: Tag) -> Option<Target> {
        let identity = &self.roster.member(tag)?.life.identity;
        Some(Target {
            node: Some(identity.node.clone()),
            address: identity.address.clone(),
        })
    }

    /// Who this node is, in this life.
    pub fn identity(&self) -> &Identity {
        &self.me.identity
    }

    /// What this node does, by its own word.
    pub fn status(&self) -> Status {
        self.me.status
    }

    /// Every other node that is known, by name.
    pub fn members(&self) -> impl Iterator<Item = Member<'_>> {
        self.roster.by_name().map(|member| self.view(member))
    }

    /// One other node.
    pub fn member(&self, node: &NodeId) -> Option<Member<'_>> {
        self.roster.named(node).map(|member| self.view(member))
    }

    fn view<'a>(&self, member: &'a member::Member) -> Member<'a> {
        member.view(
            self.now.awake,
            self.wall_ahead_ms(),
            &self.clock,
            &self.tuning,
        )
    }

    /// By how much the wall clock here is ahead of the clock that stamps.
    fn wall_ahead_ms(&self) -> i64 {
        milliseconds(self.wall_ms).saturating_sub(milliseconds(self.now.stamp / 1_000))
    }

    /// Whether the wall clock here is right, as far as the living can tell: two clocks agree that differ by at most `skew_max`. A
    /// step of the clock here shows at the next call of [`handle`](Self::handle), with no need of another exchange.
    pub fn clock_standing(&self, skew_max: Duration) -> ClockStanding {
        let living = self.roster.iter().filter(|(_, member)| member.lives());
        let offsets =
            living.filter_map(|(_, member)| member.path.clock_offset(self.wall_ahead_ms()));
        judge(offsets.collect(), micros(skew_max) / 1_000)
    }

    /// What is believed of another node, without its numbers.
    pub fn verdict(&self, node: &NodeId) -> Option<Verdict> {
        Some(self.roster.named(node)?.verdict())
    }

    /// What a node publishes under a key; of this node too.
    pub fn value(&self, node: &NodeId, key: &Key) -> Option<&Bytes> {
        self.life(node)?.values.value(key)
    }

    /// All that a node publishes.
    pub fn values(&self, node: &NodeId) -> impl Iterator<Item = (&Key, &Bytes)> {
        let life = self.life(node).into_iter();
        life.flat_map(|life| life.values.iter())
    }

    fn life(&self, node: &NodeId) -> Option<&Incarnation> {
        if self.me.identity.node == *node {
            return Some(&self.me);
        }
        Some(&self.roster.named(node)?.life)
    }

    /// Those refused of late.
    pub fn refused(&self) -> impl Iterator<Item = &Refused> {
        self.refused.iter()
    }

    /// Those that were refused here, or refused this node, in the last ten seconds because a cluster-wide setting differs.
    pub fn contradictions(&self) -> impl Iterator<Item = &Refused> {
        let (kind, now) = (RefusalKind::Settings, self.now.awake);
        let by_others = self.refused_by.current(kind, now);
        self.refused.current(kind, now).chain(by_others)
    }

    /// Whether this process was late of late: its own verdicts are then given with more patience.
    pub fn is_slow(&self) -> bool {
        self.clock.is_slow()
    }

    /// What this node did so far.
    pub fn counters(&self) -> Counters {
        self.outbox.counters
    }
}

/// A rumour of a forgotten node travels in this many messages for every doubling of the cluster: some two rounds' worth.
const RUMOUR_SENDS_PER_DOUBLING: u32 = 12;
/// A forgotten node has nothing to do: its driver need not ask often.
const FORGOTTEN_PAUSE_MICROS: u64 = 3_600_000_000;
