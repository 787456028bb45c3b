//! Two digests side by side: who knows what better.

use std::cmp::Ordering;

use rand::seq::SliceRandom;

use crate::{
    gossip::Gossip,
    identity::{Tag, Version},
    member::{Ear, Member},
    message::{DigestEntry, Envelope, Gone, Want},
    tombstones::Grave,
};

/// What a comparison with another's digest calls for.
#[derive(Debug, Default)]
pub(crate) struct Comparison {
    /// Fresher here.
    pub(crate) mentions: Vec<DigestEntry>,
    /// Newer there.
    pub(crate) wants: Vec<Want>,
    /// Newer here.
    pub(crate) owed: Vec<Want>,
    /// Over, though the other does not know it.
    pub(crate) gone: Vec<Gone>,
}

impl Gossip {
    pub(crate) fn compare(&mut self, digest: &[DigestEntry], ear: &Ear) -> Comparison {
        let mut comparison = Comparison::default();
        for mention in digest {
            if mention.tag == self.me.tag {
                self.compare_me(mention, &mut comparison);
            } else if let Some(member) = self.roster.member_mut(mention.tag) {
                let heard = member.hear(mention.heartbeat, ear);
                compare_member(member, mention, &mut comparison);
                self.heed(mention.tag, heard);
            } else {
                self.compare_unknown(mention, &mut comparison);
            }
        }
        comparison
    }

    fn compare_me(&mut self, mention: &DigestEntry, comparison: &mut Comparison) {
        if mention.heartbeat > self.me.heartbeat || mention.version > self.me.version() {
            self.renew_above(self.me.identity.generation);
        } else if mention.version < self.me.version() {
            comparison.owed.push(Want::of(mention));
        }
    }

    fn compare_unknown(&self, mention: &DigestEntry, comparison: &mut Comparison) {
        let unknown = Want {
            tag: mention.tag,
            version: Version(0),
        };
        match self.roster.tombstones.find(mention.tag) {
            Some(Grave::Succeeded(node)) if *node == self.me.identity.node => {
                comparison.owed.push(Want {
                    tag: self.me.tag,
                    ..unknown
                });
            }
            Some(Grave::Succeeded(node)) => {
                let successor = self.roster.named(node).map(|member| member.mention());
                comparison.mentions.splice(0..0, successor);
            }
            Some(Grave::Removed(heartbeat)) if mention.heartbeat <= *heartbeat => {}
            Some(Grave::Forgotten(gone)) => comparison.gone.push(gone.clone()),
            Some(Grave::Removed(_)) | None => {
                if self.refused.standing(mention.tag, self.now.awake).is_none() {
                    comparison.wants.push(unknown);
                }
            }
        }
    }

    /// The sender speaks for itself in the envelope.
    pub(crate) fn compare_sender(&self, envelope: &Envelope, comparison: &mut Comparison) {
        let version = self
            .roster
            .member(envelope.from)
            .map(|member| member.life.version());
        let version = version.unwrap_or(Version(0));
        if version < envelope.version {
            let tag = envelope.from;
            comparison.wants.insert(0, Want { tag, version });
        }
    }

    /// A digest that is complete shows what its sender does not know at all. In random order, so that several who answer tell
    /// different parts.
    pub(crate) fn owe_the_unmentioned(
        &mut self,
        mentioned: &[Tag],
        sender: Tag,
        comparison: &mut Comparison,
    ) {
        let tags = self.plan.all().iter().copied();
        let mut unmentioned: Vec<Tag> = tags
            .filter(|tag| *tag != sender && mentioned.binary_search(tag).is_err())
            .collect();
        unmentioned.shuffle(&mut self.rng);
        if mentioned.binary_search(&self.me.tag).is_err() {
            unmentioned.insert(0, self.me.tag);
        }
        let version = Version(0);
        let owed = unmentioned.into_iter().map(|tag| Want { tag, version });
        comparison.owed.extend(owed);
    }

    pub(crate) fn unmentioned<'a>(
        &'a self,
        mentioned: &'a [Tag],
        sender: Tag,
    ) -> impl Iterator<Item = DigestEntry> + 'a {
        let others = self.plan.freshest();
        let others =
            others.filter(move |tag| *tag != sender && mentioned.binary_search(tag).is_err());
        others.filter_map(|tag| Some(self.roster.member(tag)?.mention()))
    }
}

fn compare_member(member: &Member, mention: &DigestEntry, comparison: &mut Comparison) {
    let mine = member.mention();
    if mine.heartbeat > mention.heartbeat {
        comparison.mentions.push(mine);
    }
    match mine.version.cmp(&mention.version) {
        Ordering::Less => comparison.wants.push(Want::of(&mine)),
        Ordering::Greater => comparison.owed.push(Want::of(mention)),
        Ordering::Equal => {}
    }
}

impl Want {
    fn of(mention: &DigestEntry) -> Self {
        Self {
            tag: mention.tag,
            version: mention.version,
        }
    }
}
