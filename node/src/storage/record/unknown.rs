//! What a head holds of types that this release does not know: it was written by nodes of a newer release.
//!
//! It is kept, digested and passed on, and joined by whoever knows the type. In a rolling upgrade a node so loses nothing of what
//! those before it wrote, and takes it up when it is upgraded itself.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use crdt::{Part, Tag, UnknownPart};
use serde::{Deserialize, Serialize};

/// Slots of unknown types, by tag. Canonical: equal slots are equal bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnknownSlots(BTreeMap<Tag, UnknownSlot>);

/// One of them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct UnknownSlot {
    /// The slot as a release wrote it that knew the type, before this one was installed over it. Never changed here.
    state: Bytes,
    /// Bodies of the parts that came since. Which of them replaces which is not known, so all stay: their join is their union.
    parts: BTreeSet<Bytes>,
}

impl UnknownSlots {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds a part.
    pub fn keep(&mut self, part: &UnknownPart) {
        let slot = self.0.entry(part.tag()).or_default();
        slot.parts.insert(part.body().clone());
    }

    /// The bytes of all bodies.
    pub fn bytes(&self) -> usize {
        let slots = self.0.values();
        let bytes = |slot: &UnknownSlot| {
            slot.state.len() + slot.parts.iter().map(Bytes::len).sum::<usize>()
        };
        slots.map(bytes).sum()
    }

    /// The parts that are here and not there. What a newer release made a state of cannot be told from what it was made of, and stays
    /// between those that know the type.
    pub fn missing_in(&self, other: &Self) -> Vec<Part> {
        let parts = |(tag, slot): (&Tag, &UnknownSlot)| {
            let held = other.0.get(tag);
            let missing = slot.parts.iter().filter(|body| {
                let is_held = held.is_some_and(|held| held.parts.contains(*body));
                !is_held
            });
            missing
                .filter_map(|body| Part::from_body(*tag, body.clone()).ok())
                .collect::<Vec<Part>>()
        };
        self.0.iter().flat_map(parts).collect()
    }

    /// Takes out the parts of types that this release knows: an older one kept them.
    ///
    /// # Errors
    /// Where the body is none of its type. Nothing is taken out then.
    pub fn take_known(&mut self) -> Result<Vec<Part>, crdt::CodecError> {
        let known = self.0.iter().filter(|(tag, _)| tag.is_known());
        let bodies =
            known.flat_map(|(tag, slot)| slot.parts.iter().map(|body| (*tag, body.clone())));
        let parts = bodies
            .map(|(tag, body)| Part::from_body(tag, body))
            .collect::<Result<Vec<Part>, _>>()?;
        self.0.retain(|tag, _| !tag.is_known());
        Ok(parts)
    }

    /// Whether it holds parts of a type that this release knows.
    pub fn has_known(&self) -> bool {
        self.0.keys().any(|tag| tag.is_known())
    }
}
