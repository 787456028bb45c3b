//! The `shortage` row of the meta family: what this directory lacks that nobody will ship to it any more.
//!
//! ```text
//! key    "shortage"
//! value  version u8 · bincode(Shortage)
//! ```
//! It is committed together with the positions that pass over what is missing: a crash leaves both behind or neither.

use serde::{Deserialize, Serialize};

use crate::storage::{Batch, Family, Storage, StorageError};

/// What a directory lacks that nobody will ship to it any more. It is there until a reconciliation has brought it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Shortage {
    /// Writes that it had acknowledged: the directory is a new one or an old copy. A majority of which it was one may be none any more.
    pub has_forgotten: bool,
    /// Writes of its region that it never acknowledged: it was away for so long that rows for it were dropped. Other replicas have them.
    pub has_missed: bool,
    /// Writes of another region, dropped before it took them for all replicas here: none of them has what it lacks.
    pub of_region: bool,
}

impl Shortage {
    /// Nothing is lacking.
    pub const NONE: Self = Self {
        has_forgotten: false,
        has_missed: false,
        of_region: false,
    };
    /// What it had acknowledged is.
    pub const FORGOTTEN: Self = Self {
        has_forgotten: true,
        ..Self::NONE
    };
    /// What it never got from its region is.
    pub const MISSED: Self = Self {
        has_missed: true,
        ..Self::NONE
    };
    /// What its region never got is.
    pub const OF_REGION: Self = Self {
        of_region: true,
        ..Self::NONE
    };

    /// Whether anything is lacking.
    pub fn is_any(self) -> bool {
        self != Self::NONE
    }

    /// Whether something is that other replicas of its region have.
    pub fn is_of_replica(self) -> bool {
        self.has_forgotten || self.has_missed
    }

    /// What both lack.
    #[must_use]
    pub fn with(self, other: Self) -> Self {
        Self {
            has_forgotten: self.has_forgotten || other.has_forgotten,
            has_missed: self.has_missed || other.has_missed,
            of_region: self.of_region || other.of_region,
        }
    }

    /// Adds its row to a batch.
    pub fn put(self, batch: &mut Batch) {
        let value = crdt::codec::encode(VERSION, &self);
        batch.put(Family::Meta, KEY.to_vec(), value);
    }

    /// The shortage that a storage remembers.
    ///
    /// # Errors
    /// Where the row cannot be read or is damaged.
    pub fn load(storage: &dyn Storage) -> Result<Self, StorageError> {
        let stored = storage.get(Family::Meta, KEY)?;
        let decoded = stored.map(|value| super::decode(Family::Meta, KEY, VERSION, &value));
        Ok(decoded.transpose()?.unwrap_or_default())
    }
}

/// Persisted: keep stable.
const KEY: &[u8] = b"shortage";
/// Persisted: keep stable.
const VERSION: u8 = 1;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::{Durability, memory::MemoryStorage};

    fn store(shortage: Shortage) -> MemoryStorage {
        let storage = MemoryStorage::default();
        let mut batch = Batch::default();
        shortage.put(&mut batch);
        storage.commit(&batch, Durability::Power).unwrap();
        storage
    }

    #[test]
    fn what_is_lacking_is_remembered() {
        assert_eq!(
            Shortage::load(&MemoryStorage::default()),
            Ok(Shortage::NONE)
        );
        for shortage in [
            Shortage::FORGOTTEN,
            Shortage::MISSED,
            Shortage::MISSED.with(Shortage::OF_REGION),
        ] {
            assert_eq!(Shortage::load(&store(shortage)), Ok(shortage));
        }
    }

    #[test]
    fn the_stored_form_stays_as_it_is() {
        let storage = store(Shortage::FORGOTTEN);
        let stored = storage.get(Family::Meta, b"shortage").unwrap().unwrap();
        assert_eq!(stored, [1, 1, 0, 0]);
    }
}
