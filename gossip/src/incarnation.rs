//! One life of a node, as it is told from node to node: who, its heartbeat, its status and what it publishes.

use crate::{
    identity::{Heartbeat, Identity, Tag, Version},
    message::{Delta, DigestEntry, Introduction, Status},
    values::Values,
};

#[derive(Debug)]
pub(crate) struct Incarnation {
    pub(crate) identity: Identity,
    pub(crate) tag: Tag,
    pub(crate) status: Status,
    pub(crate) heartbeat: Heartbeat,
    pub(crate) values: Values,
}

impl Incarnation {
    pub(crate) fn new(identity: Identity, heartbeat: Heartbeat) -> Self {
        let tag = identity.tag();
        Self {
            identity,
            tag,
            status: Status::Up,
            heartbeat,
            values: Values::default(),
        }
    }

    pub(crate) fn version(&self) -> Version {
        self.values.version()
    }

    pub(crate) fn mention(&self, heartbeat: Heartbeat) -> DigestEntry {
        DigestEntry {
            tag: self.tag,
            heartbeat,
            version: self.version(),
        }
    }

    /// What someone at `version` has not heard, as far as it fits; nothing if there is nothing, or none of it fits. Whoever is at
    /// version 0 does not know this life at all, and is told who it is.
    pub(crate) fn newer_than(
        &self,
        version: Version,
        silence_ms: u64,
        bytes_left: usize,
    ) -> Option<Delta> {
        let from = self.values.start_for(version);
        let is_unknown = version == Version(0);
        let introduction = is_unknown.then(|| Introduction {
            identity: self.identity.clone(),
            heartbeat: self.heartbeat,
            silence_ms,
        });
        let mut delta = Delta {
            tag: self.tag,
            introduction,
            status: self.status,
            from,
            to: from,
            floor: self.values.floor(),
            entries: Vec::new(),
        };
        let bytes_left = bytes_left.checked_sub(delta.head_bytes())?;
        (delta.entries, delta.to) = self.values.newer_than(from, bytes_left);
        (is_unknown || delta.to > version).then_some(delta)
    }
}
