//! The naive model: a replica is the set of effects that reached it, and every question is answered from that set alone,
//! with no join, no context and no floor.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use crdt::{ActorId, Expiry, Stamp, StringValue, Visible, parse_integer};

/// What one piece of a command did, with exactly what its maker had seen.
#[derive(Debug, Clone)]
pub enum Effect {
    /// An element got a dot, instead of those that it had.
    Added {
        element: Bytes,
        dot: Stamp,
        replaced: BTreeSet<Stamp>,
        created: bool,
    },
    /// Dots went, of some elements or of all.
    Removed { dots: BTreeSet<Stamp> },
    /// The string was set or deleted, over each actor's first so many increments.
    Written {
        stamp: Stamp,
        value: Option<Bytes>,
        seen: BTreeMap<ActorId, usize>,
        created: bool,
    },
    /// The string expired: the write at `stamp`, and each actor's first so many increments.
    Lapsed {
        stamp: Option<Stamp>,
        seen: BTreeMap<ActorId, usize>,
    },
    /// An actor's increment, its `index`th (from 1).
    Stepped {
        stamp: Stamp,
        index: usize,
        by: i64,
        created: bool,
    },
    /// The time to live was set or cleared.
    Expires(Expiry),
}

/// The effects known to one replica.
#[derive(Debug, Clone, Copy)]
pub struct Seen<'a> {
    pub effects: &'a [Effect],
    pub known: &'a BTreeSet<usize>,
}

impl<'a> Seen<'a> {
    fn iter(self) -> impl Iterator<Item = &'a Effect> {
        self.known.iter().map(move |id| &self.effects[*id])
    }

    /// Every dot that was ever heard of: added, or removed.
    pub fn dots(self) -> BTreeSet<Stamp> {
        let added = self.iter().filter_map(|effect| match effect {
            Effect::Added { dot, .. } => Some(*dot),
            _ => None,
        });
        added.chain(self.removed()).collect()
    }

    /// The live elements and their dots: added, and removed by nothing known here.
    pub fn live(self) -> BTreeMap<Bytes, BTreeSet<Stamp>> {
        let removed: BTreeSet<Stamp> = self.removed().collect();
        let mut live: BTreeMap<Bytes, BTreeSet<Stamp>> = BTreeMap::new();
        for effect in self.iter() {
            if let Effect::Added { element, dot, .. } = effect
                && !removed.contains(dot)
            {
                live.entry(element.clone()).or_default().insert(*dot);
            }
        }
        live
    }

    fn removed(self) -> impl Iterator<Item = Stamp> {
        self.iter().flat_map(|effect| match effect {
            Effect::Added { replaced, .. } => replaced.iter().copied().collect::<Vec<_>>(),
            Effect::Removed { dots } => dots.iter().copied().collect(),
            _ => Vec::new(),
        })
    }

    /// The newest write known, and its value; expired ones have none.
    pub fn register(self) -> Option<(Stamp, Option<Bytes>)> {
        let lapsed: BTreeSet<Stamp> = self.iter().filter_map(lapsed_stamp).collect();
        let written = self.iter().filter_map(|effect| match effect {
            Effect::Written { stamp, value, .. } => Some((*stamp, value.clone())),
            _ => None,
        });
        let gone = lapsed.iter().map(|stamp| (*stamp, None));
        let (stamp, value) = written.chain(gone).max_by_key(|(stamp, _)| *stamp)?;
        let value = value.filter(|_| !lapsed.contains(&stamp));
        Some((stamp, value))
    }

    /// How many of each actor's increments are known, or known to have been seen by a SET, DEL or expiry.
    pub fn increments(self) -> BTreeMap<ActorId, usize> {
        let mut counts = self.floors();
        for effect in self.iter() {
            if let Effect::Stepped { stamp, index, .. } = effect {
                raise(&mut counts, stamp.actor, *index);
            }
        }
        counts
    }

    fn floors(self) -> BTreeMap<ActorId, usize> {
        let mut floors = BTreeMap::new();
        for effect in self.iter() {
            if let Effect::Written { seen, .. } | Effect::Lapsed { seen, .. } = effect {
                seen.iter()
                    .for_each(|(actor, index)| raise(&mut floors, *actor, *index));
            }
        }
        floors
    }

    /// The increments that count: made known, and seen by no SET, DEL or expiry known. An actor's increment makes known all its
    /// earlier ones, whether they arrived or not.
    fn unseen_increments(self) -> Vec<i64> {
        let (floors, counts) = (self.floors(), self.increments());
        let counted = |actor: &ActorId, index: usize| {
            let floor = floors.get(actor).copied().unwrap_or(0);
            let known = counts.get(actor).copied().unwrap_or(0);
            (floor + 1..=known).contains(&index)
        };
        let all = self.effects.iter().filter_map(|effect| match effect {
            Effect::Stepped {
                stamp, index, by, ..
            } if counted(&stamp.actor, *index) => Some(*by),
            _ => None,
        });
        all.collect()
    }

    pub fn string(self) -> StringValue {
        let text = self.register().and_then(|(_, value)| value);
        let steps = self.unseen_increments();
        let base = match &text {
            None => Some(0),
            Some(text) => parse_integer(text),
        };
        match (base, text) {
            (Some(base), _) if !steps.is_empty() => {
                let sum: i128 = steps.iter().map(|by| i128::from(*by)).sum();
                StringValue::Integer(i128::from(base) + sum)
            }
            (_, Some(text)) => StringValue::Bytes(text),
            (_, None) => StringValue::Absent,
        }
    }

    pub fn expiry(self) -> Expiry {
        let all = self.iter().filter_map(|effect| match effect {
            Effect::Expires(expiry) => Some(*expiry),
            _ => None,
        });
        all.max_by_key(|expiry| expiry.stamp).unwrap_or_default()
    }

    /// When the string slot was last created.
    pub fn string_created(self) -> Stamp {
        let stamps = self.iter().filter_map(|effect| match effect {
            Effect::Written { stamp, created, .. } | Effect::Stepped { stamp, created, .. } => {
                created.then_some(*stamp)
            }
            _ => None,
        });
        stamps.max().unwrap_or(Stamp::ZERO)
    }

    /// When the set slot was last created.
    pub fn set_created(self) -> Stamp {
        let stamps = self.iter().filter_map(|effect| match effect {
            Effect::Added { dot, created, .. } => created.then_some(*dot),
            _ => None,
        });
        stamps.max().unwrap_or(Stamp::ZERO)
    }

    pub fn visible(self, now_ms: u64) -> Visible {
        let expired = self.expiry().at_ms.is_some_and(|at_ms| at_ms <= now_ms);
        let string = self.string() != StringValue::Absent;
        let set = !self.live().is_empty();
        match (string, set) {
            _ if expired => Visible::Absent,
            (false, false) => Visible::Absent,
            (true, false) => Visible::String,
            (false, true) => Visible::Set,
            (true, true) if self.string_created() >= self.set_created() => Visible::String,
            (true, true) => Visible::Set,
        }
    }
}

fn lapsed_stamp(effect: &Effect) -> Option<Stamp> {
    match effect {
        Effect::Lapsed { stamp, .. } => *stamp,
        _ => None,
    }
}

fn raise(counts: &mut BTreeMap<ActorId, usize>, actor: ActorId, index: usize) {
    let count = counts.entry(actor).or_default();
    *count = index.max(*count);
}
