//! What the hosts hold in the end, read from their storage without the help of the shards that wrote it.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::ControlFlow,
    time::Duration,
};

use bytes::Bytes;
use crdt::{ActorId, Delta, Hlc, KeyState, Rows, Tag};
use node::{
    core::{op::Key, recover, ship::Home, tally::Tally},
    placement::{Partition, Position},
    storage::{
        Family, Storage, StorageError, prefix_end,
        record::{
            head::{self, Head},
            outbox, row,
        },
    },
};

use super::{Violation, answered::LogEnd};
use crate::sim::ledger::{Ledger, Row};

/// How a world ended.
#[derive(Debug)]
pub struct Ending<'a> {
    /// What was committed on the way.
    pub ledger: &'a Ledger,
    /// The hosts, by index.
    pub hosts: Vec<Holder>,
    /// From the end of the last fault until nothing waited any more; `None` if something still does.
    pub settled_after: Option<Duration>,
    /// Whether hosts share regions: then nothing is lost on a disk, and all of them have everything in the end.
    pub are_replicas: bool,
    /// Whether reads ask other hosts: what a host lost may come back with their answers.
    pub asks_others: bool,
    /// Whether a region may lack rows for good: bounds dropped them, or its data was deleted by hand.
    pub may_lack: bool,
}

/// One host in the end.
#[derive(Debug)]
pub struct Holder {
    /// Which.
    pub index: usize,
    /// Where it stands among the others: which keys are to be here.
    pub home: Home,
    /// Its keys.
    pub keys: BTreeMap<Key, KeyState>,
    /// How far it has taken each actor.
    pub positions: BTreeMap<ActorId, Hlc>,
    /// Keys and digest as its shards counted them along the way.
    pub tally: Tally,
    /// The same, counted anew from storage.
    pub recounted: Tally,
    /// Whether it ever lost something that it had committed.
    pub has_lost: bool,
    /// What its shards think still waits, if anything.
    pub waiting: Vec<String>,
    /// Regions that its shards think lack rows.
    pub repairs: Vec<String>,
    /// Whether it says that it lacks writes that other replicas have.
    pub is_short: bool,
    /// How far others are with what its shards wrote.
    pub log_ends: Vec<LogEnd>,
}

impl Ending<'_> {
    /// Whether a host must have what a row says about the keys that it holds.
    pub fn must_have(&self, host: &Holder, row: &Row) -> bool {
        if row.is_withdrawn {
            return false;
        }
        if row.origin == host.index {
            return !row.is_lost;
        }
        if self.are_replicas && self.settled_after.is_some() {
            return true;
        }
        let position = host.positions.get(&row.actor);
        position.is_some_and(|position| row.last <= *position)
            && !self.ledger.is_in_hole(host.index, row)
    }

    /// Whether a host must have everything that was ever written under a key, and no region forgot any of it.
    pub fn has_all_of(&self, host: &Holder, key: &[u8]) -> bool {
        let mut rows = self
            .ledger
            .standing()
            .filter(|row| row.deltas.iter().any(|delta| delta.key == key));
        host.holds(key)
            && rows.all(|row| !row.is_doubtful && !row.is_lost && self.must_have(host, row))
    }
}

impl Ending<'_> {
    /// Whether so few hosts of each region lack writes for good that the others have one in common with every majority of replicas.
    pub fn are_whole_enough(&self, replicas: usize) -> bool {
        self.hosts.iter().all(|host| {
            let short = self.short();
            let beside = short.filter(|other| other.home.region == host.home.region);
            replicas <= 1 || beside.count() <= replicas / 2
        })
    }

    /// The same for majorities of the replicas of all regions, each of which keeps so many.
    pub fn are_whole_enough_together(&self, replicas: usize) -> bool {
        let regions: BTreeSet<_> = self.hosts.iter().map(|host| &host.home.region).collect();
        let replicas = replicas * regions.len();
        replicas <= 1 || self.short().count() <= replicas / 2
    }

    fn short(&self) -> impl Iterator<Item = &Holder> {
        self.hosts.iter().filter(|host| host.is_short)
    }
}

impl Holder {
    /// Whether a key is to be here.
    pub fn holds(&self, key: &[u8]) -> bool {
        self.home.holds(Partition::of(key))
    }
}

/// Reads every key of a storage. What its head counts is compared with its rows.
pub fn keys(storage: &dyn Storage) -> Result<BTreeMap<Key, KeyState>, Violation> {
    let mut heads = Vec::new();
    let visited = recover::visit_heads(storage, b"", None, &mut |_, key, _, head| {
        heads.push((Bytes::copy_from_slice(key), head.cloned()));
        ControlFlow::Continue(())
    });
    visited.map_err(unreadable)?;
    let mut keys = BTreeMap::new();
    for (key, head) in heads {
        let head = head.map_err(unreadable)?;
        let rows = elements(storage, &key).map_err(unreadable)?;
        compare_counts(&key, &head, &rows)?;
        let state = KeyState {
            string: head.string,
            set: Rows {
                context: head.set.context,
                rows,
                created: head.set.created,
            },
            expiry: head.expiry,
            unknown: BTreeSet::new(), // no world has a newer release
        };
        keys.insert(key, state);
    }
    Ok(keys)
}

/// What a storage holds under a key.
pub fn state(storage: &dyn Storage, key: &[u8]) -> Result<KeyState, StorageError> {
    let stored = head::stored_key(&Position::of(key), key);
    let head = storage.get(Family::Head, &stored)?;
    let head = head.map(|head| Head::decode(&stored, &head)).transpose()?;
    let head = head.unwrap_or_default();
    Ok(KeyState {
        string: head.string,
        set: Rows {
            context: head.set.context,
            rows: elements(storage, key)?,
            created: head.set.created,
        },
        expiry: head.expiry,
        unknown: BTreeSet::new(), // no world has a newer release
    })
}

/// Whether a storage holds a delta for others, to be passed on.
pub fn has_hint(storage: &dyn Storage, delta: &Delta) -> Result<bool, StorageError> {
    let mut is_there = false;
    storage.scan(Family::Outbox, b"", None, &mut |_, value| {
        let deltas = outbox::decode(value).unwrap_or_default();
        is_there |= deltas.contains(delta);
        ControlFlow::Continue(())
    })?;
    Ok(is_there)
}

/// Keys and digest of a whole node, counted from storage.
pub fn recount(storage: &dyn Storage, shards: u16) -> Result<Tally, Violation> {
    let mut sum = Tally::default();
    for shard in 0..shards {
        let counted = recover::tallies(storage, shard, shards, false).map_err(unreadable)?;
        let total = counted.total();
        sum.keys += total.keys;
        sum.digest = sum.digest.wrapping_add(total.digest);
    }
    Ok(sum)
}

type Elements = BTreeMap<Bytes, crdt::Dots<()>>;

fn elements(storage: &dyn Storage, key: &[u8]) -> Result<Elements, StorageError> {
    let prefix = row::prefix(&Position::of(key), Tag::SET, key);
    let mut stored = Vec::new();
    storage.scan(
        Family::Row,
        &prefix,
        prefix_end(&prefix).as_deref(),
        &mut |key, value| {
            stored.push((key.to_vec(), value.to_vec()));
            ControlFlow::Continue(())
        },
    )?;
    stored
        .iter()
        .map(|(key, value)| {
            let (_, element) = row::element(key, prefix.len())?;
            Ok((Bytes::copy_from_slice(element), row::decode(key, value)?))
        })
        .collect()
}

fn compare_counts(key: &[u8], head: &Head, rows: &Elements) -> Result<(), Violation> {
    let sum = rows.iter().fold(0u128, |sum, (element, dots)| {
        sum.wrapping_add(row::digest(element, &row::encode(dots)))
    });
    let digest = head::digest(key, &head.encode());
    if head.set.live == rows.len() as u64 && head.set.sum == sum {
        return Ok(());
    }
    Err(Violation::new(
        "P2",
        format!(
            "{} counts {} rows and has {}; digest {digest:x}",
            key.escape_ascii(),
            head.set.live,
            rows.len()
        ),
    ))
}

fn unreadable(error: StorageError) -> Violation {
    Violation::new("core", error.to_string())
}
