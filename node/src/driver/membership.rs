//! Who else there is, and how sure this node is of them: the driver of the gossip.
//!
//! ```text
//!   peers ── datagrams ──▶ ┌────────┐ ── Send ──▶ a datagram on the session with that node, if there is one
//!   timer ── wake ───────▶ │ Gossip │ ── Met ───▶ dial it        Removed ──▶ no longer
//!   verbs ── forget ─────▶ └────────┘ ── Forgot ▶ remember it    Believed ──▶ log
//! ```
//! Datagrams travel on the sessions that exist: a node that is met through others is dialled first. One that is lost is made up for
//! by the next round. The machine is behind one lock, held for one step of it and never while waiting.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use bytes::Bytes;
use gossip::{
    Address, ClockStanding, Directory, Event, Gossip, Identity, Input, Member, NodeId, Now, Output,
    RefusalKind, Source, Standing, Target, Verdict,
};
use tokio::{
    sync::{Notify, mpsc},
    task::spawn_blocking,
    time::sleep_until,
};
use xxhash_rust::xxh3::xxh3_64;

use super::{
    clock::WallClock,
    handoff::Published,
    health,
    joining::Joining,
    neighbours::{self, Told},
    node::Node,
    queue::Work,
};
use crate::{
    config::Config,
    core::{self, identity::DirectoryId},
    names::{NodeName, RegionName},
    peer::{Datagram, Peers, Recipient},
    storage::{
        Batch, Durability, Storage, StorageError,
        record::{forgotten, met::Met, shortage::Shortage},
        rocks::RocksStorage,
    },
};

/// The node's part in the gossip.
pub struct Membership {
    gossip: Mutex<Gossip>,
    /// Seeds under the address that gossip has for them.
    seeds: BTreeMap<Address, String>,
    clock: Arc<WallClock>,
    max_skew: Duration,
    /// Something that was asked of the machine moved its next wake-up.
    nudge: Notify,
}

/// Why there is no gossip. *State unchanged.*
#[derive(Debug, thiserror::Error)]
pub enum MembershipError {
    /// A name or an address is of no use to gossip.
    #[error("gossip: {0}")]
    Name(#[from] gossip::NameError),
    /// The regions are too many to tell each other.
    #[error("gossip: [regions]: {0}")]
    Settings(#[from] gossip::TooManySettings),
    /// A setting out of its bounds.
    #[error("gossip: {0}")]
    Config(#[from] gossip::ConfigError),
}

impl Membership {
    /// Begins a life of this node. `advertised` is where others reach it, `forgotten` what it remembers of earlier lives.
    pub fn start(
        config: &Config,
        directory: DirectoryId,
        advertised: SocketAddr,
        forgotten: &[(NodeName, DirectoryId)],
        clock: Arc<WallClock>,
    ) -> Result<Self, MembershipError> {
        let myself = gossip::Myself {
            node: config.node.name.as_str().parse()?,
            directory: Directory(directory.0),
            generation: gossip::Generation(clock.system_us() / 1000),
            region: config.node.region.as_str().parse()?,
            address: advertised.to_string().parse()?,
            protocol: PROTOCOL,
        };
        let now = now(&clock);
        let mut seeds = BTreeMap::new();
        for seed in seed_texts(config) {
            seeds.insert(address_of(&seed)?, seed);
        }
        let addresses = seeds.keys().cloned().collect();
        let mut gossip = Gossip::new(knobs(config)?, myself, addresses, rand::random(), now)?;
        for (node, directory) in forgotten {
            gossip.recall_forgotten(node.as_str().parse()?, Directory(directory.0));
        }
        Ok(Self {
            gossip: Mutex::new(gossip),
            seeds,
            clock,
            max_skew: config.clock.max_skew,
            nudge: Notify::new(),
        })
    }

    /// What is believed of every other node.
    pub fn members<T>(&self, show: impl FnMut(Member<'_>) -> T) -> Vec<T> {
        self.lock().members().map(show).collect()
    }

    /// Every other node, its region and its standing; without those whose names no certificate can have.
    pub fn standings(&self) -> Vec<(NodeName, RegionName, Standing)> {
        let known = self.members(|member| {
            let node = member.identity.node.as_str().parse().ok()?;
            let region = member.identity.region.as_str().parse().ok()?;
            Some((node, region, member.standing))
        });
        known.into_iter().flatten().collect()
    }

    /// Whether a node is not worth waiting for: it is silent, or gone.
    pub fn is_silent(&self, node: &NodeName) -> bool {
        let Ok(node) = node.as_str().parse::<NodeId>() else {
            return false;
        };
        let standing = self.lock().verdict(&node).map(|verdict| verdict.standing);
        matches!(
            standing,
            Some(Standing::Suspect | Standing::Down | Standing::Left)
        )
    }

    /// A value that a node publishes.
    pub fn value(&self, node: &NodeName, key: &str) -> Option<Bytes> {
        let (node, key) = (node.as_str().parse().ok()?, key.parse().ok()?);
        self.lock().value(&node, &key).cloned()
    }

    /// What a node says that it lacks.
    pub fn shortage_of(&self, node: &NodeName) -> Shortage {
        let said = self.value(node, SHORTAGE).unwrap_or_default();
        let said = std::str::from_utf8(&said).unwrap_or_default();
        let has = |word: &str| said.split(' ').any(|other| other == word);
        Shortage {
            has_forgotten: has(FORGOT),
            has_missed: has(MISSED),
            of_region: has(REGION),
        }
    }

    /// Publishes what this node lacks.
    pub fn publish_shortage(&self, shortage: Shortage) {
        let words = [
            (shortage.has_forgotten, FORGOT),
            (shortage.has_missed, MISSED),
            (shortage.of_region, REGION),
        ];
        let words: Vec<&str> = words
            .into_iter()
            .filter_map(|(is_so, word)| is_so.then_some(word))
            .collect();
        self.publish(SHORTAGE, words.join(" "));
    }

    /// Publishes a value of this node, if it is another than before.
    pub fn publish(&self, key: &str, value: String) {
        let value = Bytes::from(value);
        let published = key
            .parse()
            .map_err(|error: gossip::NameError| error.to_string())
            .and_then(|key| {
                let mut gossip = self.lock();
                let node = gossip.identity().node.clone();
                if gossip.value(&node, &key) == Some(&value) {
                    return Ok(());
                }
                gossip.set(key, value).map_err(|error| error.to_string())
            });
        if let Err(error) = published {
            tracing::error!(key, error, "a value could not be published");
        }
    }

    /// Says that this node drains.
    pub fn leave(&self) {
        self.lock().leave();
        self.nudge.notify_one();
    }

    /// Says goodbye to everybody, so that nobody waits for suspicion.
    pub fn depart(&self, node: &Node) {
        let outputs = self.lock().depart(now(&self.clock));
        perform(node, outputs);
    }

    /// Forgets a node that will never return, here and everywhere. Gives its data directory, to be stored.
    pub fn forget(&self, node: &Node, name: &NodeId) -> Result<DirectoryId, gossip::ForgetError> {
        let (directory, outputs) = {
            let mut gossip = self.lock();
            let member = gossip.member(name).map(|member| member.identity.directory);
            let met = name_of(name).and_then(|name| node.inner().known.of(&name));
            let directory = member.or(met.map(|met| Directory(met.directory.0)));
            let directory = directory.ok_or_else(|| gossip::ForgetError::Unknown(name.clone()))?;
            let outputs = gossip.forget_remembered(name, directory, now(&self.clock))?;
            (directory, outputs)
        };
        perform(node, outputs);
        self.nudge.notify_one();
        Ok(DirectoryId(directory.0))
    }

    /// A session with a node opened: it is asked at once what it knows.
    pub fn reached(&self, node: &Node, name: &NodeName, address: &str) {
        let target = name
            .as_str()
            .parse()
            .and_then(|name| Ok((name, address_of(address)?)));
        let Ok((name, address)) = target else {
            return; // no name that gossip could use: it is met through nobody else either
        };
        let target = Target {
            node: Some(name),
            address,
        };
        let outputs = self.lock().handle(Input::Reached(target), now(&self.clock));
        perform(node, outputs);
        self.nudge.notify_one();
    }

    /// Why this node is of another mind than most about what must be equal on all nodes, if it is: it contradicts more nodes than it
    /// has for company.
    pub fn contradiction(&self) -> Option<String> {
        let gossip = self.lock();
        let company = gossip
            .members()
            .filter(|member| matches!(member.standing, Standing::Up | Standing::Leaving));
        let company = company.count();
        let contradicted: BTreeMap<_, _> = gossip
            .contradictions()
            .map(|refused| (&refused.address, &refused.refusal.detail))
            .collect();
        let (address, detail) = contradicted.first_key_value()?;
        (contradicted.len() > company).then(|| {
            format!("the node at {address} and this one refuse each other as members: {detail}; make the configs equal")
        })
    }

    /// Whether a node has ever answered a question of this life of ours.
    fn has_answered(&self, node: &NodeName) -> bool {
        let Ok(node) = node.as_str().parse::<NodeId>() else {
            return false;
        };
        let gossip = self.lock();
        gossip
            .member(&node)
            .is_some_and(|member| member.rtt.is_some())
    }

    /// Is not ready until those whom the settings name have answered, or cannot be reached.
    fn join(&self, node: &Node, joining: &mut Joining) {
        if joining.reason().is_none() {
            return;
        }
        let peers = node.inner().outbound.peers();
        let links = peers.map(Peers::status).unwrap_or_default();
        joining.look(&links, |name| self.has_answered(name));
        match joining.reason() {
            Some(detail) => node.inner().health.fail(health::JOINING, detail),
            None => node.inner().health.mend(health::JOINING),
        }
    }

    /// Gossips until the other end of `datagrams` is dropped.
    pub async fn run(
        self: Arc<Self>,
        node: Node,
        mut datagrams: mpsc::Receiver<Datagram>,
        mut joining: Joining,
    ) {
        let mut is_skewed = false;
        let mut told = Told::default();
        let mut told_at = Instant::now();
        loop {
            let due = self.clock.instant(self.lock().next_wakeup());
            let mut is_news = false;
            let input = tokio::select! {
                biased;
                () = sleep_until(due.into()) => Input::Wake,
                () = self.nudge.notified() => {
                    is_news = true;
                    Input::Wake
                }
                datagram = datagrams.recv() => match datagram.map(received) {
                    Some(Some(input)) => input,
                    Some(None) => continue,
                    None => return,
                },
            };
            let outputs = self.lock().handle(input, now(&self.clock));
            is_news |= outputs
                .iter()
                .any(|output| matches!(output, Output::Event(_)));
            perform(&node, outputs);
            // Most datagrams say nothing new. What is no news of gossip's own, like a session that ended, is looked at from time to time.
            if !is_news && told_at.elapsed() < TELL_EVERY {
                continue;
            }
            told_at = Instant::now();
            neighbours::tell(&node, &self, &mut told);
            self.join(&node, &mut joining);
            is_skewed = self.judge_clock(&node, is_skewed);
        }
    }

    /// Follows a step of the wall clock once the others confirm it, and stops coordinating while they contradict it.
    fn judge_clock(&self, node: &Node, was_skewed: bool) -> bool {
        let standing = self.clock_standing();
        let detail = match standing {
            ClockStanding::Undecided => return was_skewed,
            ClockStanding::Agrees => {
                if let Some(ms) = self.clock.follow() {
                    tracing::warn!(
                        ms,
                        "the wall clock was set, and the other nodes' clocks confirm it: it is followed"
                    );
                }
                None
            }
            ClockStanding::Deviates { ahead_ms } => Some(format!(
                "the clock of this node is {} ms {} those of most nodes, clock.max_skew is {:?}: set it right (NTP)",
                ahead_ms.unsigned_abs(),
                if ahead_ms < 0 { "behind" } else { "ahead of" },
                self.max_skew
            )),
        };
        let is_skewed = detail.is_some();
        if is_skewed == was_skewed || !tell_shards(node, detail.as_ref()) {
            return was_skewed;
        }
        match detail {
            Some(detail) => {
                tracing::error!("{detail}; writes are refused until it is");
                node.inner().health.fail(health::CLOCK, detail);
            }
            None => {
                tracing::info!("the clock of this node agrees with the others: writes are taken");
                node.inner().health.mend(health::CLOCK);
            }
        }
        is_skewed
    }

    /// With peers of which none lives there is nobody to ask, and nothing is decided.
    fn clock_standing(&self) -> ClockStanding {
        let gossip = self.lock();
        let mut members = gossip.members().peekable();
        let is_alone = members.peek().is_some()
            && !members.any(|member| matches!(member.standing, Standing::Up | Standing::Leaving));
        if is_alone {
            return ClockStanding::Undecided;
        }
        gossip.clock_standing(self.max_skew)
    }

    fn lock(&self) -> MutexGuard<'_, Gossip> {
        // A panic in the machine ends the task that drives it, which the node reports; what is read of it until then is whole.
        self.gossip.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether every shard knows why writes are refused, or that they are not.
fn tell_shards(node: &Node, detail: Option<&String>) -> bool {
    node.inner().shards.iter().all(|shard| {
        let told = shard.send(Work::Input(core::Input::ClockSkew(detail.cloned())));
        if let Err(error) = &told {
            tracing::warn!(%error, "a shard was not told about the clock; it is tried again");
        }
        told.is_ok()
    })
}

fn now(clock: &WallClock) -> Now {
    Now {
        monotonic: clock.now().mono,
        wall_ms: clock.system_us() / 1000,
    }
}

fn received(datagram: Datagram) -> Option<Input> {
    let address = address_of(&datagram.address).ok()?;
    let node = Some(datagram.from.as_str().parse().ok()?);
    let from = Source { address, node };
    Some(Input::Received {
        from,
        bytes: datagram.bytes,
    })
}

fn perform(node: &Node, outputs: Vec<Output>) {
    for output in outputs {
        match output {
            Output::Send { to, bytes } => send(node, &to, bytes),
            Output::Event(event) => happened(node, event),
        }
    }
}

/// A node without a session is being dialled; what is not sent now is made up for by a later round.
fn send(node: &Node, to: &Target, bytes: Bytes) {
    let Some(peers) = node.inner().outbound.peers() else {
        return;
    };
    let name = to.node.as_ref().and_then(name_of);
    let membership = node.inner().membership();
    let dialled = membership.and_then(|membership| membership.seeds.get(&to.address));
    let recipient = match &name {
        Some(name) => Recipient::Node(name),
        None => Recipient::Address(dialled.map_or(to.address.as_str(), String::as_str)),
    };
    if let Err(error) = peers.send_datagram(recipient, bytes) {
        tracing::trace!(to = %to.address, %error, "a gossip datagram was not sent");
    }
}

fn happened(node: &Node, event: Event) {
    match event {
        Event::Met(identity) => met(node, &identity),
        Event::Believed(verdict) => believed(node, &verdict),
        Event::Published { node: name, keys } => {
            tracing::debug!(node = %name, ?keys, "a node published values");
            note_debts(node, &name);
        }
        Event::Forgot {
            node: name,
            directory,
        } => remember(node, &name, directory),
        Event::Removed(name) => {
            tracing::info!(node = %name, "a node is no longer known");
            if let (Some(peers), Some(name)) = (node.inner().outbound.peers(), name_of(&name)) {
                peers.undial(&name, "it is no longer a member");
            }
        }
        Event::Refused(refused) => {
            tracing::warn!(node = ?refused.node, address = %refused.address, reason = %refused.refusal, "a node was refused as a member")
        }
        Event::RefusedBy { address, refusal } => {
            tracing::warn!(%address, reason = %refusal, "this node was refused as a member");
            if refusal.kind == RefusalKind::Forgotten {
                forgotten_here(node);
            }
        }
        Event::Renewed(generation) => {
            tracing::warn!(
                generation = generation.0,
                "others believed what this node had not said: it begins a new life"
            )
        }
        Event::NameContested(_) => {
            tracing::error!(node = %node.inner().name, "another process uses the name of this node, or did with a clock ahead: give one of them another name and certificate")
        }
        Event::Forgotten => forgotten_here(node),
        Event::Slept(pause) => {
            tracing::warn!(
                ?pause,
                "this process was stopped, or its clock jumped: nobody is suspected for it"
            )
        }
    }
}

/// Remembers what a node that goes has not delivered.
fn note_debts(node: &Node, name: &NodeId) {
    let Some(name) = name_of(name) else { return };
    if let Some(published) = Published::by(node.inner(), &name) {
        node.inner().legacies.note(name, published);
    }
}

/// An operator had this node forgotten: nobody takes what it writes.
pub fn forgotten_here(node: &Node) {
    let detail = "an operator had this node forgotten: it needs a new data directory".to_owned();
    tracing::error!("{detail}");
    node.inner().health.fail(health::FORGOTTEN, detail);
}

fn met(node: &Node, identity: &Identity) {
    tracing::info!(node = %identity.node, region = %identity.region, address = %identity.address, "a node is known");
    let (Some(peers), Some(name)) = (node.inner().outbound.peers(), name_of(&identity.node)) else {
        return;
    };
    if let Ok(region) = identity.region.as_str().parse() {
        let met = Met {
            region,
            directory: DirectoryId(identity.directory.0),
            address: identity.address.to_string(),
            replaced: None, // as is known already
        };
        if !node.inner().known.meet(&name, met) {
            tracing::warn!(node = %name, "too many nodes are remembered: forget those that never return");
        }
    }
    if let Err(error) = peers.dial(&name, identity.address.as_str()) {
        tracing::warn!(node = %name, %error, "a node cannot be dialled");
    }
}

fn believed(node: &Node, verdict: &Verdict) {
    let Verdict {
        node: name,
        standing,
        cause,
        ..
    } = verdict;
    let phi = node
        .inner()
        .membership()
        .and_then(|membership| membership.lock().member(name).map(|member| member.phi));
    match standing {
        Standing::Suspect | Standing::Down => {
            tracing::warn!(node = %name, ?standing, ?cause, phi, "a node is silent")
        }
        Standing::Joining | Standing::Up | Standing::Leaving | Standing::Left => {
            tracing::info!(node = %name, ?standing, ?cause, "a node's standing changed");
            if let (Some(peers), Some(name)) = (node.inner().outbound.peers(), name_of(name)) {
                peers.give_sign(&name);
            }
        }
    }
}

/// Its data directory is refused from now on. Stored off the asynchronous workers. Should that fail, the others remember it.
fn remember(node: &Node, name: &NodeId, directory: Directory) {
    let Some(name) = name_of(name) else { return };
    if let Some(peers) = node.inner().outbound.peers() {
        peers.forget(DirectoryId(directory.0), FORGOTTEN);
    }
    let known = &node.inner().known;
    let is_it = |met: Met| met.directory == DirectoryId(directory.0);
    if known.of(&name).is_some_and(is_it) {
        known.forget(&name, DirectoryId(directory.0));
        if let Some(peers) = node.inner().outbound.peers() {
            // One that only an earlier life of this node met is no member here, and goes all the same.
            peers.undial(&name, FORGOTTEN);
        }
    }
    let storage = Arc::clone(&node.inner().storage);
    spawn_blocking(
        move || match store(&storage, &name, DirectoryId(directory.0)) {
            Ok(()) => tracing::info!(node = %name, "a node is forgotten"),
            Err(error) => {
                tracing::error!(node = %name, %error, "a node is forgotten, but that could not be stored: forget it again once storage works")
            }
        },
    );
}

/// Remembers a forgotten node for good. Blocks.
pub fn store(
    storage: &RocksStorage,
    node: &NodeName,
    directory: DirectoryId,
) -> Result<(), StorageError> {
    let mut batch = Batch::default();
    forgotten::store(&mut batch, node, directory);
    storage.commit(&batch, Durability::Power)
}

/// Certificates give no other names; a name that is none is not dialled.
fn name_of(node: &NodeId) -> Option<NodeName> {
    node.as_str().parse().ok()
}

fn seed_texts(config: &Config) -> impl Iterator<Item = String> {
    let seeds = config.peers.seeds.iter().map(ToString::to_string);
    seeds.chain(config.peers.dial.values().map(ToString::to_string))
}

/// The address that gossip has for what is dialled: the same text, or its digest where that is longer than nodes tell each other.
fn address_of(dialled: &str) -> Result<Address, gossip::NameError> {
    let digest = || format!("of the digest {:016x}", xxh3_64(dialled.as_bytes()));
    dialled.parse().or_else(|_| digest().parse())
}

fn knobs(config: &Config) -> Result<gossip::Config, MembershipError> {
    let mut knobs = gossip::Config::new(config.node.cluster.as_str().parse()?)
        .with_interval(config.gossip.interval);
    knobs.phi_local = config.gossip.phi_local;
    knobs.phi_remote = config.gossip.phi_remote;
    // To be asked whether it lives comes before being suspected.
    knobs.phi_ask = knobs
        .phi_ask
        .min(knobs.phi_local.min(knobs.phi_remote) / 2.0);
    knobs.settings = [
        ("regions".to_owned(), regions(config)),
        (
            "clock.max_skew".to_owned(),
            format!("{:?}", config.clock.max_skew),
        ),
    ]
    .into_iter()
    .collect::<std::collections::BTreeMap<_, _>>()
    .try_into()?;
    Ok(knobs)
}

/// What must be equal on all nodes of `[regions]`, in words; as a digest where that is more than nodes tell each other.
fn regions(config: &Config) -> String {
    let regions = config.regions.0.iter();
    let words: Vec<String> = regions
        .map(|(region, replicas)| format!("{region} = {replicas}"))
        .collect();
    let words = words.join(", ");
    match words.len() <= SETTING_BYTES_MAX {
        true => words,
        false => format!("of the digest {:016x}", xxh3_64(words.as_bytes())),
    }
}

/// Why sessions with a forgotten node end.
pub const FORGOTTEN: &str = "an operator had it forgotten";
const SETTING_BYTES_MAX: usize = 160;
/// What a node publishes of its readiness: the reasons why it cannot meet its default levels, none if it can.
pub const READY: &str = "ready";
/// What a node publishes of its own writes: for each region the Unix milliseconds up to which that region has them.
pub const WATERMARKS: &str = "watermarks";
/// What a node publishes of what it lacks for good: those of three words that are so.
const SHORTAGE: &str = "shortage";
const FORGOT: &str = "forgot";
const MISSED: &str = "missed";
const REGION: &str = "region";
/// How often the shards are told what has changed, where gossip itself has no news. Each time costs a look at every node and session.
const TELL_EVERY: Duration = Duration::from_millis(200);
/// What a node publishes of what it owes: see `handoff::Debts`.
pub const HANDOFF: &str = "handoff";
/// The releases whose gossip this one understands.
const PROTOCOL: gossip::Protocol = gossip::Protocol {
    speaks: 1,
    accepts: 1,
};
