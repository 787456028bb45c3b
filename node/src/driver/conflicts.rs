//! The last conflicts that this node saw: what joins kept from readers, for people to look into.
//!
//! Bounded by number for each kind and by the bytes of the keys for all: the oldest make room. In memory only: metrics count them for good.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
};

use crdt::{ActorId, Stamp};

use crate::{
    core::batch::{Clash, Conflict},
    names::RegionName,
    status::{ConflictSide, ConflictStatus},
};

/// See the module.
#[derive(Debug, Default)]
pub struct Conflicts(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    kinds: BTreeMap<Conflict, VecDeque<Seen>>,
    bytes: usize,
    /// How many were ever noted.
    noted: u64,
    /// The regions of data directories, by the 48 bits that their actors have in common.
    regions: BTreeMap<u64, RegionName>,
}

#[derive(Debug)]
struct Seen {
    number: u64,
    at_ms: u64,
    clash: Clash,
}

impl Conflicts {
    /// One was seen.
    pub fn note(&self, clash: Clash, at_ms: u64) {
        let mut state = self.lock();
        let number = state.noted;
        state.noted += 1;
        state.bytes += bytes_of(&clash);
        let seen = Seen {
            number,
            at_ms,
            clash,
        };
        let kind = seen.clash.kind;
        state.kinds.entry(kind).or_default().push_back(seen);
        if state.kinds[&kind].len() > KIND_MAX {
            state.drop_oldest(kind);
        }
        while state.bytes > BYTES_MAX
            && let Some(kind) = state.kind_of_oldest()
        {
            state.drop_oldest(kind);
        }
    }

    /// These actors stamp in a region.
    pub fn place(&self, actors: impl IntoIterator<Item = ActorId>, region: &RegionName) {
        let mut state = self.lock();
        for actor in actors {
            if state.regions.len() < REGIONS_MAX || state.regions.contains_key(&actor.directory()) {
                state.regions.insert(actor.directory(), region.clone());
            }
        }
    }

    /// The last ones, the newest first.
    pub fn last(&self, count: usize) -> Vec<ConflictStatus> {
        let state = self.lock();
        let mut seen: Vec<&Seen> = state.kinds.values().flatten().collect();
        seen.sort_unstable_by_key(|seen| std::cmp::Reverse(seen.number));
        let last = seen.into_iter().take(count);
        last.map(|seen| state.status(seen)).collect()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics between two steps of a change.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn kind_of_oldest(&self) -> Option<Conflict> {
        let oldest = self.kinds.iter().filter_map(|(kind, seen)| {
            let oldest = seen.front()?;
            Some((oldest.number, *kind))
        });
        oldest.min().map(|(_, kind)| kind)
    }

    fn drop_oldest(&mut self, kind: Conflict) {
        let dropped = self.kinds.get_mut(&kind).and_then(VecDeque::pop_front);
        let bytes = dropped.map_or(0, |seen| bytes_of(&seen.clash));
        self.bytes = self.bytes.saturating_sub(bytes);
    }

    fn status(&self, seen: &Seen) -> ConflictStatus {
        let side = |stamp: Stamp| ConflictSide {
            stamp: stamp.to_string(),
            region: self.regions.get(&stamp.actor.directory()).cloned(),
        };
        let Clash {
            key,
            kind,
            kept,
            lost,
        } = &seen.clash;
        ConflictStatus {
            key: key.clone(),
            kind: kind.word().to_owned(),
            kept: side(*kept),
            lost: side(*lost),
            at_ms: seen.at_ms,
        }
    }
}

fn bytes_of(clash: &Clash) -> usize {
    clash.key.len() + SEEN_BYTES
}

/// How many of each kind are kept.
const KIND_MAX: usize = 1_000;
/// What all of them take in memory, about: keys may be long.
const BYTES_MAX: usize = 4 << 20;
/// What one takes without its key.
const SEEN_BYTES: usize = size_of::<Seen>();
/// Data directories whose regions are remembered.
const REGIONS_MAX: usize = 4_096;

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use crdt::Hlc;

    use super::*;

    fn clash(kind: Conflict, key: impl Into<Bytes>) -> Clash {
        let stamp =
            |millis, directory| Stamp::new(Hlc::from_millis(millis), ActorId::new(directory, 3));
        Clash {
            key: key.into(),
            kind,
            kept: stamp(7, 0xA),
            lost: stamp(5, 0xB),
        }
    }

    #[test]
    fn the_last_come_first_with_the_regions_of_both_sides() {
        let conflicts = Conflicts::default();
        conflicts.place([ActorId::new(0xA, 0)], &"us".parse().unwrap());
        conflicts.note(clash(Conflict::TwoTypes, "first"), 10);
        conflicts.note(clash(Conflict::Overwritten, "second"), 11);
        let all = conflicts.last(usize::MAX);
        let keys: Vec<_> = all.iter().map(|conflict| &conflict.key[..]).collect();
        assert_eq!(keys, [b"second" as &[u8], b"first"]);
        assert_eq!((all[0].kind.as_str(), all[0].at_ms), ("overwritten", 11));
        assert_eq!(all[0].kept.region, Some("us".parse().unwrap()));
        assert_eq!(all[0].lost.region, None, "nobody said where that is");
        assert_eq!(all[0].lost.stamp, "5.0@00000000000b/3");
        assert_eq!(conflicts.last(1), all[..1]);
    }

    #[test]
    fn so_many_of_each_kind_are_kept_and_no_kind_displaces_another() {
        let conflicts = Conflicts::default();
        conflicts.note(clash(Conflict::TextAndCounter, "rare"), 0);
        for number in 0..3 * KIND_MAX {
            conflicts.note(clash(Conflict::Overwritten, number.to_string()), 1);
        }
        let all = conflicts.last(usize::MAX);
        assert_eq!(all.len(), KIND_MAX + 1);
        assert_eq!(all[KIND_MAX].key, "rare");
        assert_eq!(all[0].key, (3 * KIND_MAX - 1).to_string());
    }

    #[test]
    fn long_keys_make_fewer_of_them() {
        let conflicts = Conflicts::default();
        conflicts.note(clash(Conflict::TwoTypes, "old"), 0);
        for _ in 0..100 {
            conflicts.note(clash(Conflict::Overwritten, vec![b'k'; BYTES_MAX / 10]), 1);
        }
        let all = conflicts.last(usize::MAX);
        assert!((8..=10).contains(&all.len()), "{}", all.len());
        assert!(all.iter().all(|conflict| conflict.kind == "overwritten"));
    }
}
