//! Who else there is, and how sure this node is of them. The machine is behind one lock, held for one step of it and never while
//! waiting. `gossiping.rs` drives it.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use gossip::{Address, ClockStanding, Directory, Gossip, Member, NodeId, Now, Standing};
use tokio::sync::Notify;
use xxhash_rust::xxh3::xxh3_64;

use super::clock::WallClock;
use crate::{
    config::Config,
    core::identity::DirectoryId,
    names::{NodeName, RegionName},
    storage::record::shortage::Shortage,
};

/// The node's part in the gossip.
pub struct Membership {
    gossip: Mutex<Gossip>,
    /// Seeds under the address that gossip has for them.
    pub(super) seeds: BTreeMap<Address, String>,
    pub(super) clock: Arc<WallClock>,
    pub(super) max_skew: Duration,
    /// Something that was asked of the machine moved its next wake-up.
    pub(super) nudge: Notify,
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
    pub(super) fn has_answered(&self, node: &NodeName) -> bool {
        let Ok(node) = node.as_str().parse::<NodeId>() else {
            return false;
        };
        let gossip = self.lock();
        gossip
            .member(&node)
            .is_some_and(|member| member.rtt.is_some())
    }

    /// With peers of which none lives there is nobody to ask, and nothing is decided.
    pub(super) fn clock_standing(&self) -> ClockStanding {
        let gossip = self.lock();
        let mut members = gossip.members().peekable();
        let is_alone = members.peek().is_some()
            && !members.any(|member| matches!(member.standing, Standing::Up | Standing::Leaving));
        if is_alone {
            return ClockStanding::Undecided;
        }
        gossip.clock_standing(self.max_skew)
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Gossip> {
        // A panic in the machine ends the task that drives it, which the node reports; what is read of it until then is whole.
        self.gossip.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The moment, as gossip takes it.
pub(super) fn now(clock: &WallClock) -> Now {
    Now {
        monotonic: clock.now().mono,
        wall_ms: clock.system_us() / 1000,
    }
}

/// Certificates give no other names; a name that is none is not dialled.
pub(super) fn name_of(node: &NodeId) -> Option<NodeName> {
    node.as_str().parse().ok()
}

fn seed_texts(config: &Config) -> impl Iterator<Item = String> {
    let seeds = config.peers.seeds.iter().map(ToString::to_string);
    seeds.chain(config.peers.dial.values().map(ToString::to_string))
}

/// The address that gossip has for what is dialled: the same text, or its digest where that is longer than nodes tell each other.
pub(super) fn address_of(dialled: &str) -> Result<Address, gossip::NameError> {
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
/// What a node publishes of what it owes: see `handoff::Debts`.
pub const HANDOFF: &str = "handoff";
/// The releases whose gossip this one understands.
const PROTOCOL: gossip::Protocol = gossip::Protocol {
    speaks: 1,
    accepts: 1,
};
