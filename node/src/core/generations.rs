//! A cache in two generations: what is used moves to the young one, and when that has grown to half the capacity the old
//! one is dropped. As good as LRU for what is used often, at the price of a map.

use std::collections::HashMap; // looked up, never iterated

use bytes::Bytes;
use foldhash::fast::RandomState; // of maps that are never iterated

/// Seeded at random, so that nobody can choose keys that collide.
type Table<V> = HashMap<Bytes, Held<V>, RandomState>; // never iterated

/// Values by key, of about `capacity` bytes together.
#[derive(Debug)]
pub struct Generations<V> {
    young: Table<V>,
    old: Table<V>,
    young_bytes: usize,
    capacity: usize,
}

#[derive(Debug)]
struct Held<V> {
    value: V,
    bytes: usize,
}

impl<V> Generations<V> {
    /// Nothing yet; of about `capacity` bytes at most once it is rotated.
    pub fn new(capacity: usize) -> Self {
        Self {
            young: Table::default(),
            old: Table::default(),
            young_bytes: 0,
            capacity,
        }
    }

    /// A value, which counts as no use of it.
    pub fn peek(&self, key: &[u8]) -> Option<&V> {
        let held = self.young.get(key).or_else(|| self.old.get(key))?;
        Some(&held.value)
    }

    /// Makes a value young. Whether there is one.
    pub fn touch(&mut self, key: &[u8]) -> bool {
        if self.young.contains_key(key) {
            return true;
        }
        let Some((key, held)) = self.old.remove_entry(key) else {
            return false;
        };
        self.young_bytes += cost(&key, held.bytes);
        self.young.insert(key, held);
        true
    }

    /// A value that was touched or inserted since the last rotation.
    pub fn get_mut(&mut self, key: &[u8]) -> Option<&mut V> {
        Some(&mut self.young.get_mut(key)?.value)
    }

    /// Holds a value of about so many bytes.
    pub fn insert(&mut self, key: &[u8], value: V, bytes: usize) {
        self.young_bytes += cost(key, bytes);
        // A copy: the key of a request is a slice of a connection's whole read buffer, which must not live as long as the cache.
        let replaced = self
            .young
            .insert(Bytes::copy_from_slice(key), Held { value, bytes });
        if let Some(replaced) = replaced {
            self.young_bytes -= cost(key, replaced.bytes);
        }
    }

    /// A young value has so many bytes now.
    pub fn resize(&mut self, key: &[u8], bytes: usize) {
        if let Some(held) = self.young.get_mut(key) {
            self.young_bytes = self.young_bytes + bytes - held.bytes;
            held.bytes = bytes;
        }
    }

    /// Forgets a value.
    pub fn remove(&mut self, key: &[u8]) {
        if let Some(held) = self.young.remove(key) {
            self.young_bytes -= cost(key, held.bytes);
        }
        debug_assert!(
            !self.young.is_empty() || self.young_bytes == 0,
            "bytes are those of values"
        );
        self.old.remove(key);
    }

    /// Drops the old generation if the young one has grown enough to take its place. Nothing is dropped otherwise.
    pub fn rotate(&mut self) {
        if self.young_bytes > self.capacity / 2 {
            self.old = std::mem::take(&mut self.young);
            self.young_bytes = 0;
        }
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.young.clear();
        self.old.clear();
        self.young_bytes = 0;
    }
}

fn cost(key: &[u8], bytes: usize) -> usize {
    key.len() + bytes + OVERHEAD_BYTES
}

/// What a held value costs in memory besides its bytes: two tables' slots, and what it is decoded into.
const OVERHEAD_BYTES: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    /// Room for four values of no bytes and one-byte keys, two of them young.
    fn four() -> Generations<u8> {
        Generations::new(4 * (OVERHEAD_BYTES + 1))
    }

    #[test]
    fn what_is_used_survives_rotations_and_what_is_not_goes() {
        let mut cache = four();
        for round in 0..10 {
            assert!(round == 0 || cache.touch(b"a"));
            if round == 0 {
                cache.insert(b"a", 1, 0);
            }
            for other in [b"x", b"y"] {
                cache.insert(other, round, 0);
            }
            cache.insert(&[round], round, 0);
            cache.rotate();
        }
        assert_eq!(cache.peek(b"a"), Some(&1));
        assert_eq!(cache.peek(&[1]), None);
    }

    #[test]
    fn bytes_are_counted_through_replacing_resizing_and_removing() {
        let mut cache = four();
        cache.insert(b"a", 1, 100);
        cache.insert(b"a", 2, 10);
        cache.resize(b"a", 30);
        cache.insert(b"b", 3, 5);
        assert_eq!(cache.young_bytes, 2 * (OVERHEAD_BYTES + 1) + 35);
        cache.remove(b"a");
        cache.remove(b"b");
        assert_eq!((cache.young_bytes, cache.peek(b"a")), (0, None));
    }

    #[test]
    fn nothing_is_dropped_between_rotations() {
        let mut cache = four();
        for key in 0..100 {
            cache.insert(&[key], key, 0);
        }
        assert!((0..100).all(|key| cache.touch(&[key])));
        cache.clear();
        assert!(!cache.touch(&[0]));
    }
}
