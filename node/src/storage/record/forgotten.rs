//! Nodes that an operator had forgotten: their data directories are refused for ever, also after all nodes have restarted.
//!
//! ```text
//! "forgotten/" · node name   version u8 · bincode(directory u64)
//! ```

use std::ops::ControlFlow;

use crate::{
    core::identity::DirectoryId,
    names::NodeName,
    storage::{Batch, Family, Storage, StorageError, prefix_end},
};

/// Adds a forgotten node to a batch. A name that is forgotten again, with another directory, takes the place of the former.
pub fn store(batch: &mut Batch, node: &NodeName, directory: DirectoryId) {
    let value = crdt::codec::encode(VERSION, &directory.0);
    batch.put(Family::Meta, stored_key(node), value);
}

/// Every forgotten node.
pub fn load(storage: &dyn Storage) -> Result<Vec<(NodeName, DirectoryId)>, StorageError> {
    let mut found = Ok(Vec::new());
    let end = prefix_end(PREFIX);
    storage.scan(
        Family::Meta,
        PREFIX,
        end.as_deref(),
        &mut |stored, value| match (read(stored, value), &mut found) {
            (Ok(forgotten), Ok(list)) => {
                list.push(forgotten);
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

fn read(stored: &[u8], value: &[u8]) -> Result<(NodeName, DirectoryId), StorageError> {
    let directory = super::decode(Family::Meta, stored, VERSION, value)?;
    let name = std::str::from_utf8(&stored[PREFIX.len()..]).unwrap_or_default();
    let node = name
        .parse()
        .map_err(|error: crate::names::NameError| StorageError::Corrupt {
            family: Family::Meta.name(),
            key: stored.escape_ascii().to_string(),
            detail: error.to_string(),
        })?;
    Ok((node, DirectoryId(directory)))
}

fn stored_key(node: &NodeName) -> Vec<u8> {
    [PREFIX, node.as_str().as_bytes()].concat()
}

const PREFIX: &[u8] = b"forgotten/";
/// Persisted: keep stable.
const VERSION: u8 = 1;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::{Durability, memory::MemoryStorage};

    #[test]
    fn what_was_forgotten_is_remembered() {
        let storage = MemoryStorage::default();
        let mut batch = Batch::default();
        for (name, directory) in [("us-1", 1), ("eu-1", 2), ("us-1", 3)] {
            store(&mut batch, &name.parse().unwrap(), DirectoryId(directory));
        }
        storage.commit(&batch, Durability::Power).unwrap();
        let expected = [("eu-1", 2), ("us-1", 3)]
            .map(|(name, directory)| (name.parse().unwrap(), DirectoryId(directory)));
        assert_eq!(load(&storage).unwrap(), expected);
    }

    #[test]
    fn a_damaged_row_is_an_error_that_names_it() {
        let storage = MemoryStorage::default();
        let mut batch = Batch::default();
        batch.put(Family::Meta, b"forgotten/us-1".to_vec(), vec![VERSION]);
        storage.commit(&batch, Durability::Power).unwrap();
        assert!(
            load(&storage)
                .unwrap_err()
                .to_string()
                .contains("forgotten/us-1")
        );
    }
}
