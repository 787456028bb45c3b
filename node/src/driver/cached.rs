//! Reads that never wait for the disk, for the asynchronous workers.

use std::sync::Arc;

use crdt::Tag;

use super::hot_heads::{HotHeads, Look};
use crate::{
    core::view::{HeadRef, View, VisitElement},
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
    hot: &'a HotHeads,
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
    /// Of this storage, and the heads that were read from it lately.
    pub fn new(storage: &'a RocksStorage, hot: &'a HotHeads) -> Self {
        Self { storage, hot }
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

    fn head(&self, position: &Position, key: &[u8]) -> Result<Option<HeadRef<'_>>, Miss> {
        let epoch = match self.hot.look(position, key) {
            Look::Hit(head) => return Ok(Some(HeadRef::Committed(head))),
            Look::Miss(epoch) => epoch,
        };
        let Some(value) = self.get(Family::Head, &head::stored_key(position, key))? else {
            return Ok(None);
        };
        let head = Arc::new(Head::decode(key, &value)?);
        self.hot.offer(position, key, &head, value.len(), epoch);
        Ok(Some(HeadRef::Committed(head)))
    }

    fn has_element(&self, position: &Position, key: &[u8], element: &[u8]) -> Result<bool, Miss> {
        Ok(self
            .get(
                Family::Row,
                &row::stored_key(position, Tag::SET, key, element),
            )?
            .is_some())
    }

    /// Not here: a key may have a million of them.
    fn elements(&self, _: &Position, _: &[u8], _: u64, _: VisitElement<'_>) -> Result<(), Miss> {
        Err(Miss)
    }
}
