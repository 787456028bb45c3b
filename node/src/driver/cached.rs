//! Reads that never wait for the disk, for the asynchronous workers.

use std::borrow::Cow;

use crate::{
    core::view::{View, VisitElement},
    placement::Position,
    storage::{
        Family, StorageError,
        record::{
            head::{self, Head},
            row,
        },
        rocks::{Cached, RocksStorage},
    },
};

/// Committed state, as far as memory has it.
pub struct CachedView<'a> {
    storage: &'a RocksStorage,
}

/// There is no answer from memory: the disk would have to be read, or many rows, or storage failed. To be asked where waiting is
/// allowed, which also says why it failed.
#[derive(Debug)]
pub struct Miss;

impl From<StorageError> for Miss {
    fn from(_: StorageError) -> Self {
        Self
    }
}

impl<'a> CachedView<'a> {
    /// Of this storage.
    pub fn new(storage: &'a RocksStorage) -> Self {
        Self { storage }
    }

    fn get(&self, family: Family, stored: &[u8]) -> Result<Option<Vec<u8>>, Miss> {
        match self.storage.try_get(family, stored)? {
            Cached::Found(value) => Ok(Some(value)),
            Cached::Absent => Ok(None),
            Cached::NotCached => Err(Miss),
        }
    }
}

impl View for CachedView<'_> {
    type Error = Miss;

    fn head(&self, position: &Position, key: &[u8]) -> Result<Option<Cow<'_, Head>>, Miss> {
        let value = self.get(Family::Head, &head::stored_key(position, key))?;
        Ok(value
            .map(|value| Head::decode(key, &value).map(Cow::Owned))
            .transpose()?)
    }

    fn has_element(&self, position: &Position, key: &[u8], element: &[u8]) -> Result<bool, Miss> {
        Ok(self
            .get(Family::Row, &row::stored_key(position, key, element))?
            .is_some())
    }

    /// Not here: a key may have a million of them.
    fn elements(&self, _: &Position, _: &[u8], _: u64, _: VisitElement<'_>) -> Result<(), Miss> {
        Err(Miss)
    }
}
