//! What the test files share: short names for values, and the world of random histories.

// Each test file is a crate of its own and uses only a part of this.
#![allow(dead_code)]

pub mod model;
pub mod world;

use bytes::Bytes;
use crdt::{ActorId, Dots, Hlc, Rows, RowsDelta, Stamp};

pub const KEY: Bytes = Bytes::from_static(b"key");

pub const fn hlc(time: u64) -> Hlc {
    Hlc::from_u64(time)
}

pub const fn actor(name: u64) -> ActorId {
    ActorId::from_u64(name)
}

/// The stamp of actor `name` at `time`.
pub const fn at(time: u64, name: u64) -> Stamp {
    Stamp::new(hlc(time), actor(name))
}

pub fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

/// A replica of one set that makes and joins deltas, as a shard does.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Set {
    pub state: Rows<()>,
}

impl Set {
    pub fn add(&mut self, stamp: Stamp, element: &str) -> RowsDelta<()> {
        let none = Dots::new();
        let replaced = self.state.dots(element.as_bytes()).unwrap_or(&none);
        let was_empty = self.state.is_empty();
        let delta = crdt::add(
            &self.state.context,
            stamp,
            bytes(element),
            replaced,
            (),
            was_empty,
        );
        self.state.join(&delta);
        delta
    }

    pub fn remove(&mut self, elements: &[&str]) -> RowsDelta<()> {
        let none = Dots::new();
        let held = |element: &&str| {
            let dots = self.state.dots(element.as_bytes()).unwrap_or(&none);
            (bytes(element), dots)
        };
        let delta = crdt::remove(elements.iter().map(held));
        self.state.join(&delta);
        delta
    }

    pub fn clear(&mut self) -> RowsDelta<()> {
        let delta = crdt::clear(&self.state.context);
        self.state.join(&delta);
        delta
    }

    pub fn join(&mut self, deltas: &[&RowsDelta<()>]) {
        deltas.iter().for_each(|delta| self.state.join(delta));
    }

    pub fn live(&self) -> Vec<&[u8]> {
        self.state.live().map(|element| &element[..]).collect()
    }

    /// A full exchange in both directions, as anti-entropy ends.
    pub fn exchange(&mut self, other: &mut Self) {
        let mine = self.state.clone();
        self.state.join_state(&other.state);
        other.state.join_state(&mine);
        assert_eq!(self.state, other.state);
    }
}
