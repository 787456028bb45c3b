//! What a node publishes: versioned keys and values, and how they are reconciled.
//!
//! ```text
//!   floor ─────┬──────────────────────────┬── version
//!              │ entries, one per key     │
//!   below: no  │ removed ones are kept    │
//!   removals   │ as tombstones            │
//! ```
//!
//! Invariant: whoever holds version v of a node holds, of every key changed at or below v, the value as of v or a later one. The owner
//! drops old tombstones by giving every live key a new version above the old ones and raising the floor to those: whoever
//! is below the floor forgets what it has and begins there, so a removed key cannot return.

use std::collections::BTreeMap;

use bytes::Bytes;
use thiserror::Error;

use crate::{
    identity::Version,
    limits::{KEYS_MAX, VALUE_BYTES_MAX},
    message::Entry,
    name::Key,
};

/// Why a value cannot be published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum ValueError {
    /// Longer than a message can carry. *State unchanged.*
    #[error("a value has at most {VALUE_BYTES_MAX} bytes; this has {bytes}")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// As many keys as a node may publish. *State unchanged.*
    #[error("a node publishes at most {KEYS_MAX} keys")]
    TooMany,
}

#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Values {
    version: Version,
    floor: Version,
    entries: BTreeMap<Key, Slot>,
}

#[derive(Debug, Clone, PartialEq)]
struct Slot {
    version: Version,
    value: Option<Bytes>,
    /// When it changed here.
    at: u64,
}

impl Values {
    pub(crate) fn version(&self) -> Version {
        self.version
    }

    pub(crate) fn floor(&self) -> Version {
        self.floor
    }

    pub(crate) fn value(&self, key: &Key) -> Option<&Bytes> {
        self.entries.get(key)?.value.as_ref()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Key, &Bytes)> {
        let entries = self.entries.iter();
        entries.filter_map(|(key, slot)| Some((key, slot.value.as_ref()?)))
    }

    /// Owner: publishes a value; whether that changed anything.
    pub(crate) fn set(&mut self, key: Key, value: Bytes, now: u64) -> Result<bool, ValueError> {
        if value.len() > VALUE_BYTES_MAX {
            return Err(ValueError::TooLong { bytes: value.len() });
        }
        if self.value(&key) == Some(&value) {
            return Ok(false);
        }
        if !self.entries.contains_key(&key) {
            self.make_room(now)?;
        }
        let version = self.next_version();
        let value = Some(value);
        self.entries.insert(
            key,
            Slot {
                version,
                value,
                at: now,
            },
        );
        debug_assert!(self.entries.len() <= KEYS_MAX);
        Ok(true)
    }

    /// Owner: removes a key; whether it was there.
    pub(crate) fn unset(&mut self, key: &Key, now: u64) -> bool {
        let version = Version(self.version.0 + 1);
        match self.entries.get_mut(key) {
            Some(slot) if slot.value.is_some() => {
                *slot = Slot {
                    version,
                    value: None,
                    at: now,
                };
                self.version = version;
                true
            }
            Some(_) | None => false,
        }
    }

    /// Owner: marks a change that is not in the entries.
    pub(crate) fn next_version(&mut self) -> Version {
        self.version.0 += 1;
        self.version
    }

    /// Owner: publishes nothing any more. The floor rises above every version that anybody holds, so all begin afresh from there,
    /// with nothing, whatever they had heard so far.
    pub(crate) fn abandon(&mut self) {
        self.entries.clear();
        self.floor = self.next_version();
        self.next_version();
    }

    /// Owner: drops tombstones made before `before`, if there are any.
    pub(crate) fn drop_tombstones(&mut self, before: u64, now: u64) {
        let old = |slot: &Slot| slot.value.is_none() && slot.at < before;
        if self.entries.values().any(old) {
            self.renumber(now);
        }
    }

    fn make_room(&mut self, now: u64) -> Result<(), ValueError> {
        if self.entries.len() < KEYS_MAX {
            return Ok(());
        }
        if self.iter().count() >= KEYS_MAX {
            return Err(ValueError::TooMany);
        }
        self.renumber(now);
        Ok(())
    }

    fn renumber(&mut self, now: u64) {
        self.floor = self.version;
        self.entries.retain(|_, slot| slot.value.is_some());
        for slot in self.entries.values_mut() {
            self.version.0 += 1;
            slot.version = self.version;
            slot.at = now;
        }
        debug_assert!(self.entries.values().all(|slot| slot.version > self.floor));
    }

    /// From which version on someone at `version` has to be told.
    pub(crate) fn start_for(&self, version: Version) -> Version {
        version.max(self.floor)
    }

    /// The entries above `from` that fit, oldest first, and the version that they reach.
    pub(crate) fn newer_than(&self, from: Version, mut bytes_left: usize) -> (Vec<Entry>, Version) {
        debug_assert!(from >= self.floor);
        let newer = self.entries.iter().filter(|(_, slot)| slot.version > from);
        let mut newer: Vec<_> = newer.collect();
        newer.sort_unstable_by_key(|(_, slot)| slot.version);
        let mut entries = Vec::new();
        let mut reached = from;
        for (key, slot) in newer {
            let (version, value) = (slot.version, slot.value.clone());
            let key = key.clone();
            let entry = Entry {
                version,
                key,
                value,
            };
            if entry.wire_bytes() > bytes_left {
                return (entries, reached);
            }
            bytes_left -= entry.wire_bytes();
            reached = version;
            entries.push(entry);
        }
        (entries, self.version)
    }

    /// Takes in what another knows above `from`. The keys that changed; `None` if it does not join on to what is here.
    pub(crate) fn apply(
        &mut self,
        from: Version,
        to: Version,
        floor: Version,
        entries: Vec<Entry>,
        now: u64,
    ) -> Option<Vec<Key>> {
        let afresh = from > self.version;
        let joins_on = !afresh || from == floor;
        if to <= self.version || from > to || floor > to || !joins_on {
            return None;
        }
        let mut changed = if afresh { self.clear() } else { Vec::new() };
        self.raise_floor(floor);
        let newer = entries.into_iter().filter(|entry| {
            entry.version > self.version && entry.version <= to && entry_is_bounded(entry)
        });
        for entry in newer.collect::<Vec<_>>() {
            if self.entries.len() >= KEYS_MAX && !self.entries.contains_key(&entry.key) {
                continue;
            }
            changed.push(entry.key.clone());
            let (version, value) = (entry.version, entry.value);
            self.entries.insert(
                entry.key,
                Slot {
                    version,
                    value,
                    at: now,
                },
            );
        }
        self.version = to;
        debug_assert!(self.floor <= self.version && self.entries.len() <= KEYS_MAX);
        Some(changed)
    }

    fn clear(&mut self) -> Vec<Key> {
        let entries = std::mem::take(&mut self.entries);
        entries.into_keys().collect()
    }

    /// Tombstones at or below the floor have done their duty: whoever has not heard of them begins afresh.
    fn raise_floor(&mut self, floor: Version) {
        self.floor = self.floor.max(floor);
        let floor = self.floor;
        let needed = |slot: &Slot| slot.value.is_some() || slot.version > floor;
        self.entries.retain(|_, slot| needed(slot));
    }
}

fn entry_is_bounded(entry: &Entry) -> bool {
    let length = entry.value.as_ref().map_or(0, Bytes::len);
    length <= VALUE_BYTES_MAX
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    fn key(number: usize) -> Key {
        format!("key-{number}").parse().expect("a key")
    }

    fn text(text: &'static str) -> Bytes {
        Bytes::from_static(text.as_bytes())
    }

    /// What one node tells another, in so many bytes; whether it changed anything.
    fn tell(from: &Values, to: &mut Values, bytes: usize) -> bool {
        let start = from.start_for(to.version());
        let (entries, reached) = from.newer_than(start, bytes);
        to.apply(start, reached, from.floor(), entries, 0).is_some()
    }

    #[test]
    fn a_value_that_is_set_again_is_no_change() {
        let mut values = Values::default();
        assert_eq!(values.set(key(1), text("a"), 0), Ok(true));
        assert_eq!(values.set(key(1), text("a"), 0), Ok(false));
        assert_eq!(values.version(), Version(1));
        assert!(values.unset(&key(1), 0));
        assert!(!values.unset(&key(1), 0));
        assert_eq!(values.value(&key(1)), None);
    }

    #[test]
    fn a_refused_value_changes_nothing() {
        let mut values = Values::default();
        let long = Bytes::from(vec![0; VALUE_BYTES_MAX + 1]);
        let bytes = long.len();
        assert_eq!(
            values.set(key(0), long, 0),
            Err(ValueError::TooLong { bytes })
        );
        for number in 0..KEYS_MAX {
            assert_eq!(values.set(key(number), text("a"), 0), Ok(true));
        }
        let before = values.clone();
        assert_eq!(
            values.set(key(KEYS_MAX), text("a"), 0),
            Err(ValueError::TooMany)
        );
        assert_eq!(values, before);
        assert!(values.unset(&key(3), 0));
        assert_eq!(
            values.set(key(KEYS_MAX), text("a"), 0),
            Ok(true),
            "a tombstone makes room"
        );
    }

    #[test]
    fn tombstones_are_dropped_when_they_are_old() {
        let mut values = Values::default();
        assert_eq!(values.set(key(1), text("a"), 0), Ok(true));
        assert_eq!(values.set(key(2), text("b"), 0), Ok(true));
        assert!(values.unset(&key(1), 10));
        values.drop_tombstones(10, 20);
        assert_eq!(values.entries.len(), 2, "not yet");
        values.drop_tombstones(11, 20);
        assert_eq!(values.entries.len(), 1);
        assert_eq!(values.floor(), Version(3));
    }

    #[test]
    fn all_understand_that_nothing_is_published_any_more() {
        let mut owner = Values::default();
        assert_eq!(owner.set(key(1), text("a"), 0), Ok(true));
        let stranger = Values::default();
        let mut early = Values::default();
        assert!(tell(&owner, &mut early, 100));
        assert_eq!(owner.set(key(2), text("b"), 0), Ok(true));
        let mut late = Values::default();
        assert!(tell(&owner, &mut late, 100));
        let before = owner.version();
        owner.abandon();
        let start = owner.start_for(before);
        let (entries, reached) = owner.newer_than(start, 100);
        for mut node in [stranger, early, late] {
            let applied = node.apply(start, reached, owner.floor(), entries.clone(), 0);
            assert!(applied.is_some());
            assert_eq!(node, owner);
        }
    }

    #[test]
    fn a_gap_is_not_filled_by_guessing() {
        let mut values = Values::default();
        assert_eq!(
            values.apply(Version(5), Version(9), Version(0), Vec::new(), 0),
            None
        );
        assert_eq!(
            values.apply(Version(0), Version(9), Version(10), Vec::new(), 0),
            None
        );
        assert_eq!(values, Values::default());
    }

    #[derive(Debug, Clone)]
    enum Step {
        Set(usize, u8),
        Unset(usize),
        DropTombstones,
        /// From whom, to whom, in how many bytes.
        Tell(usize, usize, usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            3 => (0..8_usize, any::<u8>()).prop_map(|(key, value)| Step::Set(key, value)),
            2 => (0..8_usize).prop_map(Step::Unset),
            1 => Just(Step::DropTombstones),
            6 => (0..4_usize, 1..4_usize, 0..60_usize)
                .prop_map(|(from, to, bytes)| Step::Tell(from, to, bytes)),
        ]
    }

    fn take(step: Step, nodes: &mut [Values; 4]) {
        match step {
            Step::Set(number, value) => {
                let set = nodes[0].set(key(number), Bytes::from(vec![value]), 0);
                assert!(set.is_ok());
            }
            Step::Unset(number) => {
                nodes[0].unset(&key(number), 0);
            }
            Step::DropTombstones => nodes[0].drop_tombstones(1, 0),
            Step::Tell(from, to, _) if from == to => {}
            Step::Tell(from, to, bytes) => {
                let from = nodes[from].clone();
                tell(&from, &mut nodes[to], bytes);
            }
        }
    }

    proptest! {
        #[test]
        fn whoever_was_told_everything_holds_what_the_owner_holds(steps in vec(step(), 0..80)) {
            let mut nodes: [Values; 4] = Default::default();
            steps.into_iter().for_each(|step| take(step, &mut nodes));
            let owner = nodes[0].clone();
            // Through a chain, an entry at a time.
            for to in 1..4 {
                let from = nodes[to - 1].clone();
                while tell(&from, &mut nodes[to], 16) {}
                prop_assert_eq!(nodes[to].version(), owner.version());
                prop_assert!(nodes[to].iter().eq(owner.iter()));
            }
        }
    }
}
