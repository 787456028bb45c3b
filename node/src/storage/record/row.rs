//! `row`: one row per element of a set, and of every other slot that has rows.
//!
//! ```text
//! key    partition u16 BE · xxh3(key) u64 BE · slot 5 bits, length of key 27 bits, BE · key · xxh3(element) u64 BE · element
//! value  version u8 · bincode(Dots)
//! ```
//! The slot keeps an element of a set and a field of a hash apart that have one name under one key; it is the type's tag less one, so
//! that the set's is zero and rows of releases before further slots are read as they are. The key's length keeps one key's rows from mixing with those of a longer key; the element's hash gives an
//! order in which a cursor is a number. A row without dots is not stored.

use crdt::{Dots, Tag};
use xxhash_rust::xxh3::{xxh3_64, xxh3_128_with_seed};

use crate::{
    placement::{POSITION_BYTES, Position},
    storage::{Family, StorageError},
};

/// The first bytes of every row of a slot of a key.
pub fn prefix(position: &Position, slot: Tag, key: &[u8]) -> Vec<u8> {
    let mut prefix = Vec::with_capacity(POSITION_BYTES + LENGTH_BYTES + key.len() + HASH_BYTES);
    prefix.extend_from_slice(&position.to_bytes());
    prefix.extend_from_slice(&(slot_bits(slot) | length_bits(key)).to_be_bytes());
    prefix.extend_from_slice(key);
    prefix
}

/// The stored key of an element.
pub fn stored_key(position: &Position, slot: Tag, key: &[u8], element: &[u8]) -> Vec<u8> {
    let mut stored = from_hash(position, slot, key, xxh3_64(element));
    stored.extend_from_slice(element);
    stored
}

/// The first stored key of a slot's elements whose hash is at least `hash`.
pub fn from_hash(position: &Position, slot: Tag, key: &[u8], hash: u64) -> Vec<u8> {
    let mut stored = prefix(position, slot, key);
    stored.extend_from_slice(&hash.to_be_bytes());
    stored
}

/// The element's hash and the element in a stored key that begins with a prefix of `prefix_bytes`.
pub fn element(stored: &[u8], prefix_bytes: usize) -> Result<(u64, &[u8]), StorageError> {
    stored
        .get(prefix_bytes..)
        .and_then(|rest| rest.split_first_chunk::<HASH_BYTES>())
        .map(|(hash, element)| (u64::from_be_bytes(*hash), element))
        .ok_or_else(|| StorageError::Corrupt {
            family: Family::Row.name(),
            key: stored.escape_ascii().to_string(),
            detail: "the stored key is too short to hold an element".to_owned(),
        })
}

/// The row's value.
pub fn encode(dots: &Dots<()>) -> Vec<u8> {
    crdt::codec::encode(VERSION, dots)
}

/// Reads a row. Errors name its stored key.
pub fn decode(stored: &[u8], value: &[u8]) -> Result<Dots<()>, StorageError> {
    super::decode(Family::Row, stored, VERSION, value)
}

/// A row's share of its key's sum.
pub fn digest(element: &[u8], value: &[u8]) -> u128 {
    xxh3_128_with_seed(value, xxh3_64(element))
}

fn slot_bits(slot: Tag) -> u32 {
    let number = u32::from(slot.number());
    assert!(
        (1..=SLOTS).contains(&number),
        "type {number} has no rows: the string has none, and there is room for {SLOTS} slots"
    );
    (number - 1) << LENGTH_BITS
}

fn length_bits(key: &[u8]) -> u32 {
    assert!(
        key.len() < 1 << LENGTH_BITS,
        "a key of {} bytes: the protocol bounds an argument to 64 MiB",
        key.len()
    );
    key.len() as u32
}

/// Persisted: keep stable.
const VERSION: u8 = 1;
const LENGTH_BYTES: usize = 4;
/// Bits of a key's length: 128 MiB, twice the longest argument.
const LENGTH_BITS: u32 = 27;
/// Slots that may have rows.
const SLOTS: u32 = 1 << (32 - LENGTH_BITS);
const HASH_BYTES: usize = 8;
