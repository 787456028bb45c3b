//! The persisted record types, one file each: how a row's key is built, what its value holds, and what is said
//! when bytes do not decode. The first byte of every value is its format version.

pub mod cursor;
pub mod forgotten;
pub mod head;
pub mod inbox;
pub mod met;
pub mod meta;
pub mod outbox;
pub mod row;
pub mod shortage;
pub mod unknown;

use crdt::codec::{self, CodecError};
use serde::de::DeserializeOwned;

use super::{Family, StorageError};

/// Decodes a value, or says which row of which family could not be.
fn decode<T: DeserializeOwned>(
    family: Family,
    key: &[u8],
    version: u8,
    value: &[u8],
) -> Result<T, StorageError> {
    codec::decode(version, value).map_err(|error| undecodable(family, key, error))
}

fn undecodable(family: Family, key: &[u8], error: CodecError) -> StorageError {
    let key = key.escape_ascii().to_string();
    match error {
        CodecError::Newer { found, known } => StorageError::Newer {
            family: family.name(),
            key,
            found,
            known,
        },
        other => StorageError::Corrupt {
            family: family.name(),
            key,
            detail: other.to_string(),
        },
    }
}
