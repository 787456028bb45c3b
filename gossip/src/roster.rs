//! The other nodes, by life and by name: of each name one life, the latest that was taken in.

use std::collections::BTreeMap;

use crate::{
    identity::Tag,
    member::Member,
    name::NodeId,
    tombstones::{Grave, Tombstones},
};

#[derive(Debug, Default)]
pub(crate) struct Roster {
    members: BTreeMap<Tag, Member>,
    names: BTreeMap<NodeId, Tag>,
    /// How often a member came or went.
    changes: u64,
    pub(crate) tombstones: Tombstones,
}

impl Roster {
    pub(crate) fn len(&self) -> usize {
        debug_assert_eq!(self.members.len(), self.names.len());
        self.members.len()
    }

    /// Grows whenever a member comes or goes.
    pub(crate) fn changes(&self) -> u64 {
        self.changes
    }

    pub(crate) fn member(&self, tag: Tag) -> Option<&Member> {
        self.members.get(&tag)
    }

    pub(crate) fn member_mut(&mut self, tag: Tag) -> Option<&mut Member> {
        self.members.get_mut(&tag)
    }

    pub(crate) fn tag_of(&self, node: &NodeId) -> Option<Tag> {
        self.names.get(node).copied()
    }

    pub(crate) fn named(&self, node: &NodeId) -> Option<&Member> {
        self.member(self.tag_of(node)?)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (Tag, &Member)> {
        self.members.iter().map(|(tag, member)| (*tag, member))
    }

    /// By name, in order.
    pub(crate) fn by_name(&self) -> impl Iterator<Item = &Member> {
        self.names.values().filter_map(|tag| self.member(*tag))
    }

    /// Takes in a member of a name that is free.
    pub(crate) fn insert(&mut self, member: Member) {
        let tag = member.life.tag;
        self.tombstones.exhume(tag);
        let name = member.life.identity.node.clone();
        let before = self.names.insert(name, tag);
        debug_assert!(before.is_none());
        self.changes += 1;
        self.members.insert(tag, member);
    }

    /// Takes out a member, and remembers why.
    pub(crate) fn remove(&mut self, tag: Tag, grave: Grave) -> Option<Member> {
        let member = self.members.remove(&tag)?;
        self.names.remove(&member.life.identity.node);
        self.changes += 1;
        self.tombstones.bury(tag, grave);
        Some(member)
    }

    /// The one that is missed least: gone, and for longest.
    pub(crate) fn longest_gone(&self) -> Option<Tag> {
        let gone = self.iter().filter(|(_, member)| !member.is_company());
        let longest = gone.min_by_key(|(_, member)| member.detector.latest())?;
        Some(longest.0)
    }
}
