//! What is said in return: an answer to a question, and the rest of an exchange, each as much as fits one datagram.

use crate::{
    compare::Comparison,
    event::{Source, Target},
    gossip::Gossip,
    identity::{Tag, Version},
    limits::{ANSWER_BYTES_MAX, ENVELOPE_BYTES_MAX, RUMOURS_MAX, WANTS_MAX},
    member::Ear,
    message::{Body, Delta, DigestEntry, Envelope, Gone, TELL_HEAD_BYTES, Want},
    round::Room,
};

impl Gossip {
    pub(crate) fn receive_ask(
        &mut self,
        from: &Source,
        envelope: &Envelope,
        digest: &[DigestEntry],
        complete: bool,
        is_introduction: bool,
        ear: &Ear,
    ) {
        self.renew_plan();
        let mut comparison = self.compare(digest, ear);
        self.compare_sender(envelope, &mut comparison);
        let mentioned = sorted_tags(digest);
        if complete {
            self.owe_the_unmentioned(&mentioned, envelope.from, &mut comparison);
        }
        self.beat();
        let gone = self.gone_for(&mut comparison);
        let is_join = is_introduction && complete;
        // An empty digest that does not claim to be complete only asks: do you live? Who joins is told of all, mentions are needless.
        let wants_mentions = !is_join && (complete || !digest.is_empty());
        let mentioned = wants_mentions.then_some(mentioned);
        let mut unheard = comparison.owed.clone();
        unheard.retain(|want| is_join && want.version == Version(0));
        let body = self.answer(envelope, comparison, mentioned, bytes_of(&gone));
        if let Body::Answer { deltas, .. } = &body {
            unheard.retain(|want| deltas.iter().all(|delta| delta.tag != want.tag));
        }
        let to = self.reply_to(from, envelope.from);
        self.send(to.clone(), gone, body);
        self.tell_of_all(&to, unheard);
    }

    /// Tells one who joins of everybody whom the answer had no room for, so that it can do without this node from now on. As much as
    /// half the round's bytes allow: the others are to be heard of too.
    fn tell_of_all(&mut self, to: &Target, mut unheard: Vec<Want>) {
        let spare = self.config.round_bytes / 2;
        while !unheard.is_empty() && self.outbox.bytes_left() > spare {
            let used = ENVELOPE_BYTES_MAX + TELL_HEAD_BYTES;
            let mut room = Room(self.config.datagram_bytes.saturating_sub(used));
            let deltas = self.describe(&unheard, &mut room);
            if deltas.is_empty() {
                return;
            }
            unheard.retain(|want| deltas.iter().all(|delta| delta.tag != want.tag));
            let wants = Vec::new();
            self.send(to.clone(), Vec::new(), Body::Tell { wants, deltas });
        }
    }

    /// Fills a datagram: what is wanted, what is fresher here, what is newer here, and then news that was not asked for.
    fn answer(
        &self,
        envelope: &Envelope,
        comparison: Comparison,
        mentioned: Option<Vec<Tag>>,
        bytes_used: usize,
    ) -> Body {
        let used = ENVELOPE_BYTES_MAX + ANSWER_BYTES_MAX + bytes_used;
        let mut room = Room(self.config.datagram_bytes.saturating_sub(used));
        let wants = take_wants(comparison.wants, &mut room);
        let reserved = if comparison.owed.is_empty() {
            Room(0)
        } else {
            room.split_half()
        };
        let mut mentions = take_mentions(comparison.mentions.into_iter(), &mut room);
        room.0 += reserved.0;
        let deltas = self.describe(&comparison.owed, &mut room);
        if let Some(mentioned) = mentioned {
            let fresh = self.unmentioned(&mentioned, envelope.from);
            mentions.extend(take_mentions(fresh, &mut room));
        }
        Body::Answer {
            to: envelope.from,
            echo: envelope.stamp,
            wall_ms: self.wall_ms,
            digest: mentions,
            wants,
            deltas,
        }
    }

    fn reply_to(&self, from: &Source, tag: Tag) -> Target {
        let known = self
            .roster
            .member(tag)
            .map(|member| member.life.identity.node.clone());
        Target {
            node: from.node.clone().or(known),
            address: from.address.clone(),
        }
    }

    pub(crate) fn receive_rest(
        &mut self,
        from: &Source,
        envelope: &Envelope,
        digest: &[DigestEntry],
        wants: Vec<Want>,
        ear: &Ear,
    ) {
        let mut comparison = self.compare(digest, ear);
        self.compare_sender(envelope, &mut comparison);
        comparison.owed.extend(wants);
        self.tell(from, comparison.wants, &comparison.owed);
    }

    /// Rumours for a message: those that concern the other side first.
    fn gone_for(&mut self, comparison: &mut Comparison) -> Vec<Gone> {
        let mut gone = std::mem::take(&mut comparison.gone);
        gone.extend(self.roster.tombstones.rumours());
        gone.truncate(RUMOURS_MAX);
        gone
    }

    /// The rest of an exchange, if there is any.
    pub(crate) fn tell(&mut self, from: &Source, wants: Vec<Want>, owed: &[Want]) {
        if wants.is_empty() && owed.is_empty() {
            return;
        }
        let used = ENVELOPE_BYTES_MAX + TELL_HEAD_BYTES;
        let mut room = Room(self.config.datagram_bytes.saturating_sub(used));
        let wants = take_wants(wants, &mut room);
        let deltas = self.describe(owed, &mut room);
        if wants.is_empty() && deltas.is_empty() {
            return;
        }
        let to = Target {
            node: from.node.clone(),
            address: from.address.clone(),
        };
        self.send(to, Vec::new(), Body::Tell { wants, deltas });
    }

    /// What others do not know, as far as it fits: first whom they have never heard of.
    fn describe(&self, owed: &[Want], room: &mut Room) -> Vec<Delta> {
        let (unheard, stale): (Vec<&Want>, Vec<&Want>) =
            owed.iter().partition(|want| want.version == Version(0));
        let mut deltas = Vec::new();
        for want in unheard.into_iter().chain(stale) {
            if room.0 < DELTA_BYTES_USEFUL {
                break;
            }
            let delta = self.newer_than(want, room.0);
            deltas.extend(delta.filter(|delta| room.take(delta.wire_bytes())));
        }
        deltas
    }

    fn newer_than(&self, want: &Want, bytes_left: usize) -> Option<Delta> {
        if want.tag == self.me.tag {
            return self.me.newer_than(want.version, 0, bytes_left);
        }
        let member = self.roster.member(want.tag)?;
        let silence = member.detector.silence(self.now.awake);
        if !member.is_company() && !self.is_told(silence) {
            return None;
        }
        member
            .life
            .newer_than(want.version, silence / 1_000, bytes_left)
    }
}

fn sorted_tags(digest: &[DigestEntry]) -> Vec<Tag> {
    let mut tags: Vec<Tag> = digest.iter().map(|mention| mention.tag).collect();
    tags.sort_unstable();
    tags
}

fn bytes_of(gone: &[Gone]) -> usize {
    gone.iter().map(Gone::wire_bytes).sum()
}

fn take_wants(wants: Vec<Want>, room: &mut Room) -> Vec<Want> {
    let wants = wants.into_iter().take(WANTS_MAX);
    wants
        .take_while(|want| room.take(want.wire_bytes()))
        .collect()
}

fn take_mentions(mentions: impl Iterator<Item = DigestEntry>, room: &mut Room) -> Vec<DigestEntry> {
    mentions
        .take_while(|mention| room.take(mention.wire_bytes()))
        .collect()
}

/// In less room no delta fits.
const DELTA_BYTES_USEFUL: usize = 24;
