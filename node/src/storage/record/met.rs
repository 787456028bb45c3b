//! Nodes that were met and not forgotten since, so that a restart needs no seed.
//!
//! ```text
//! "met/" · node name   version u8 · bincode(region, directory u64, address, replaced Option<u64>)
//! ```
//! Version 1 had no `replaced`, and is read as if there were none.

use std::ops::ControlFlow;

use crate::{
    core::identity::DirectoryId,
    names::{NodeName, RegionName},
    storage::{Batch, Family, Storage, StorageError, prefix_end},
};

/// A node as it was met last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Met {
    /// Its region.
    pub region: RegionName,
    /// Its data directory.
    pub directory: DirectoryId,
    /// Where it says that it is reached.
    pub address: String,
    /// The data directory that its name had before this one: it may be gone with all that it held, or renewed under another number.
    pub replaced: Option<DirectoryId>,
}

/// Adds a node to a batch. One that is met again takes the place of what was stored of it.
pub fn store(batch: &mut Batch, node: &NodeName, met: &Met) {
    let stored = (
        met.region.as_str(),
        met.directory.0,
        met.address.as_str(),
        met.replaced.map(|directory| directory.0),
    );
    let value = crdt::codec::encode(VERSION, &stored);
    batch.put(Family::Meta, stored_key(node), value);
}

/// Adds the removal of a node to a batch.
pub fn delete(batch: &mut Batch, node: &NodeName) {
    batch.delete(Family::Meta, stored_key(node));
}

/// Every node that was met, by name.
pub fn load(storage: &dyn Storage) -> Result<Vec<(NodeName, Met)>, StorageError> {
    let mut found = Ok(Vec::new());
    let end = prefix_end(PREFIX);
    storage.scan(
        Family::Meta,
        PREFIX,
        end.as_deref(),
        &mut |stored, value| match (read(stored, value), &mut found) {
            (Ok(met), Ok(list)) => {
                list.push(met);
                ControlFlow::Continue(())
            }
            (Err(error), _) => {
                found = Err(error);
                ControlFlow::Break(())
            }
            (Ok(_), Err(_)) => ControlFlow::Break(()),
        },
    )?;
    found
}

fn read(stored: &[u8], value: &[u8]) -> Result<(NodeName, Met), StorageError> {
    let (region, directory, address, replaced): (String, u64, String, Option<u64>) =
        if value.first() == Some(&WITHOUT_REPLACED) {
            let (region, directory, address) =
                super::decode(Family::Meta, stored, WITHOUT_REPLACED, value)?;
            (region, directory, address, None)
        } else {
            super::decode(Family::Meta, stored, VERSION, value)?
        };
    let corrupt = |error: crate::names::NameError| StorageError::Corrupt {
        family: Family::Meta.name(),
        key: stored.escape_ascii().to_string(),
        detail: error.to_string(),
    };
    let name = std::str::from_utf8(&stored[PREFIX.len()..]).unwrap_or_default();
    let met = Met {
        region: region.parse().map_err(corrupt)?,
        directory: DirectoryId(directory),
        address,
        replaced: replaced.map(DirectoryId),
    };
    Ok((name.parse().map_err(corrupt)?, met))
}

fn stored_key(node: &NodeName) -> Vec<u8> {
    [PREFIX, node.as_str().as_bytes()].concat()
}

const PREFIX: &[u8] = b"met/";
/// Persisted: keep stable.
const VERSION: u8 = 2;
/// Read, and written no more.
const WITHOUT_REPLACED: u8 = 1;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::{Durability, memory::MemoryStorage};

    fn met(region: &str, directory: u64, address: &str) -> Met {
        Met {
            region: region.parse().unwrap(),
            directory: DirectoryId(directory),
            address: address.to_owned(),
            replaced: (directory > 2).then_some(DirectoryId(1)),
        }
    }

    #[test]
    fn who_was_met_is_remembered_as_it_was_last_until_it_is_deleted() {
        let storage = MemoryStorage::default();
        let name = |name: &str| -> NodeName { name.parse().unwrap() };
        let mut batch = Batch::default();
        store(&mut batch, &name("us-1"), &met("us", 1, "10.0.0.1:7100"));
        store(&mut batch, &name("eu-1"), &met("eu", 2, "[::1]:7100"));
        storage.commit(&batch, Durability::Power).unwrap();
        let mut batch = Batch::default();
        store(&mut batch, &name("us-1"), &met("us", 3, "10.0.0.2:7100"));
        storage.commit(&batch, Durability::Power).unwrap();
        let expected = [
            (name("eu-1"), met("eu", 2, "[::1]:7100")),
            (name("us-1"), met("us", 3, "10.0.0.2:7100")),
        ];
        assert_eq!(load(&storage).unwrap(), expected);
        let mut batch = Batch::default();
        delete(&mut batch, &name("us-1"));
        storage.commit(&batch, Durability::Power).unwrap();
        assert_eq!(load(&storage).unwrap(), expected[..1]);
    }

    #[test]
    fn the_stored_form_stays_as_it_is() {
        let mut batch = Batch::default();
        store(&mut batch, &"us-1".parse().unwrap(), &met("us", 7, "a:1"));
        let storage = MemoryStorage::default();
        storage.commit(&batch, Durability::Power).unwrap();
        let stored = storage.get(Family::Meta, b"met/us-1").unwrap().unwrap();
        assert_eq!(stored, [2, 2, b'u', b's', 7, 3, b'a', b':', b'1', 1, 1]);
    }

    #[test]
    fn rows_of_the_version_before_are_read() {
        let storage = MemoryStorage::default();
        let mut batch = Batch::default();
        let stored = vec![1, 2, b'u', b's', 2, 3, b'a', b':', b'1'];
        batch.put(Family::Meta, b"met/us-1".to_vec(), stored);
        storage.commit(&batch, Durability::Power).unwrap();
        let expected = [("us-1".parse().unwrap(), met("us", 2, "a:1"))];
        assert_eq!(load(&storage).unwrap(), expected);
    }

    #[test]
    fn a_damaged_row_is_an_error_that_names_it() {
        let storage = MemoryStorage::default();
        let mut batch = Batch::default();
        batch.put(Family::Meta, b"met/us-1".to_vec(), vec![VERSION]);
        storage.commit(&batch, Durability::Power).unwrap();
        let error = load(&storage).unwrap_err().to_string();
        assert!(error.contains("met/us-1"), "{error}");
    }
}
