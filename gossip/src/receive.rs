//! What happens when a datagram comes in.
//!
//! What is said of this node itself is not believed: a heartbeat or version that it has not reached, in its present life, it answers
//! with a new life above it (see `admission.rs` for generations).

use std::cmp::Ordering;

use rand::seq::SliceRandom;

use crate::{
    codec::{self, CodecError, Datagram},
    event::{Event, Source, Target},
    gossip::Gossip,
    graves::Grave,
    identity::{Tag, Version},
    limits::{ANSWER_BYTES_MAX, ENVELOPE_BYTES_MAX, RUMOURS_MAX, WANTS_MAX},
    member::{Heard, Member},
    message::{Body, Delta, Envelope, Gone, Hello, Mention, Message, TELL_HEAD_BYTES, Want},
    name::NodeId,
    refusal::{Refusal, RefusalKind, Refused},
    round::Room,
};

/// What a comparison with another's digest calls for.
#[derive(Debug, Default)]
struct Comparison {
    /// Fresher here.
    mentions: Vec<Mention>,
    /// Newer there.
    wants: Vec<Want>,
    /// Newer here.
    owed: Vec<Want>,
    /// Over, though the other does not know it.
    gone: Vec<Gone>,
}

/// An answer's proof that it belongs to a question of ours.
#[derive(Debug, Clone, Copy)]
struct Echo {
    to: Tag,
    stamp: u64,
    wall_ms: u64,
}

impl Gossip {
    pub(crate) fn receive(&mut self, from: &Source, bytes: &[u8]) {
        self.outbox.counters.datagrams_received += 1;
        match codec::decode(bytes) {
            Ok(Datagram::Message(message)) => self.receive_message(from, message),
            Ok(Datagram::Refusal(refusal)) => self.receive_refusal(from, refusal),
            Err(CodecError::Wire { found }) => {
                let detail = format!("wire format {found} is not {}", codec::WIRE);
                self.refuse(from, None, Refusal::new(RefusalKind::Protocol, detail));
            }
            Err(
                CodecError::Empty
                | CodecError::TooLong { .. }
                | CodecError::Malformed { .. }
                | CodecError::TrailingBytes { .. },
            ) => self.outbox.counters.malformed += 1,
        }
    }

    fn receive_refusal(&mut self, from: &Source, refusal: Refusal) {
        let refused = Refused {
            node: from.node.clone(),
            address: from.address.clone(),
            refusal: refusal.clone(),
        };
        if self.refused_by.note(None, refused, self.now.awake) {
            let address = from.address.clone();
            self.outbox.event(Event::RefusedBy { address, refusal });
        }
    }

    /// Says no, to whoever spoke and to whoever listens here.
    fn refuse(&mut self, from: &Source, tag: Option<Tag>, refusal: Refusal) {
        let to = Target {
            node: from.node.clone(),
            address: from.address.clone(),
        };
        self.outbox.send(to, codec::encode_refusal(&refusal));
        self.note_refused(tag, from.node.clone(), from.address.clone(), refusal);
    }

    fn receive_message(&mut self, from: &Source, message: Message) {
        let Message {
            envelope,
            gone,
            body,
        } = message;
        if envelope.from == self.me.tag {
            return;
        }
        if let Err(refusal) = self.check_sender(from, &envelope, &body) {
            self.refuse(from, Some(envelope.from), refusal);
            return;
        }
        for gone in gone.iter().take(RUMOURS_MAX) {
            self.hear_gone(gone);
        }
        if self.is_forgotten {
            return;
        }
        let is_news = self.hear_sender(&envelope);
        match body {
            Body::Ask {
                complete, digest, ..
            } => {
                self.receive_ask(from, &envelope, &digest, complete);
            }
            Body::Answer {
                to,
                echo,
                wall_ms,
                digest,
                wants,
                deltas,
            } => {
                let echo = Echo {
                    to,
                    stamp: echo,
                    wall_ms,
                };
                self.receive_answer(&envelope, echo);
                self.apply(deltas);
                self.receive_rest(from, &envelope, &digest, wants, is_news);
            }
            Body::Tell { wants, deltas } => {
                self.apply(deltas);
                self.tell(from, Vec::new(), &wants);
            }
        }
    }

    /// Whether to listen to a sender at all; one who introduces itself is taken in.
    fn check_sender(
        &mut self,
        from: &Source,
        envelope: &Envelope,
        body: &Body,
    ) -> Result<(), Refusal> {
        if envelope.cluster != self.cluster {
            let detail = match body {
                Body::Ask {
                    hello: Some(hello), ..
                } => format!(
                    "cluster '{}' is not cluster '{}'",
                    hello.cluster, self.config.cluster
                ),
                _ => format!("this is a node of cluster '{}'", self.config.cluster),
            };
            return Err(Refusal::new(RefusalKind::Cluster, detail));
        }
        if let Some(refusal) = self.refused.standing(envelope.from, self.now.awake) {
            return Err(refusal.clone());
        }
        if let Body::Ask {
            hello: Some(hello), ..
        } = body
        {
            self.check_hello(from, envelope, hello)?;
        }
        self.check_name(from, envelope.from)
    }

    fn check_hello(
        &mut self,
        from: &Source,
        envelope: &Envelope,
        hello: &Hello,
    ) -> Result<(), Refusal> {
        if let Some(difference) = self.config.settings.contradiction(&hello.settings) {
            let detail = format!("cluster-wide settings differ: {difference}");
            return Err(Refusal::new(RefusalKind::Settings, detail));
        }
        let authenticated = from.node.as_ref().unwrap_or(&hello.identity.node);
        if hello.identity.tag() != envelope.from || *authenticated != hello.identity.node {
            return Err(impostor(authenticated, &hello.identity.node));
        }
        self.admit_in_person(&hello.identity, envelope.heartbeat)
    }

    fn check_name(&self, from: &Source, tag: Tag) -> Result<(), Refusal> {
        let member = self.roster.member(tag);
        let (Some(authenticated), Some(member)) = (&from.node, member) else {
            return Ok(());
        };
        let claimed = &member.life.identity.node;
        if authenticated == claimed {
            return Ok(());
        }
        Err(impostor(authenticated, claimed))
    }

    /// The sender lives, or did when it sent this. Whether it is the latest that it sent, as far as that came here.
    fn hear_sender(&mut self, envelope: &Envelope) -> bool {
        let Some(member) = self.roster.member_mut(envelope.from) else {
            return false;
        };
        let is_news = member.path.is_news(envelope.stamp);
        let heard = member.hear(envelope.heartbeat, is_news, &self.tuning, self.now.awake);
        let is_trusted = member.trust.is_up();
        self.heed(envelope.from, heard);
        if !is_trusted {
            self.probe(envelope.from);
        }
        is_news
    }

    fn heed(&mut self, tag: Tag, heard: Heard) {
        match heard {
            Heard::Nothing => {}
            Heard::Sign => self.probe(tag),
            Heard::Proof => self.prove(tag),
        }
    }

    fn receive_ask(
        &mut self,
        from: &Source,
        envelope: &Envelope,
        digest: &[Mention],
        complete: bool,
    ) {
        let is_news = true;
        let mut comparison = self.compare(digest, is_news);
        self.compare_sender(envelope, &mut comparison);
        let mentioned = sorted_tags(digest);
        if complete {
            self.owe_the_unmentioned(&mentioned, envelope.from, &mut comparison);
        }
        // An empty digest that does not claim to be complete only asks: do you live?
        let wants_more = complete || !digest.is_empty();
        self.beat();
        let gone = self.gone_for(&mut comparison);
        let used = ENVELOPE_BYTES_MAX + ANSWER_BYTES_MAX + bytes_of(&gone);
        let mut room = Room(self.config.datagram_bytes.saturating_sub(used));
        let wants = take_wants(comparison.wants, &mut room);
        let mut mention_room = room;
        if !comparison.owed.is_empty() {
            mention_room.0 /= 2;
        }
        let before = mention_room.0;
        let mut mentions = take_mentions(comparison.mentions.into_iter(), &mut mention_room);
        room.0 -= before - mention_room.0;
        let deltas = self.describe(&comparison.owed, &mut room);
        if wants_more {
            let fresh = self.unmentioned(&mentioned, envelope.from);
            let more = take_mentions(fresh, &mut room);
            mentions.extend(more);
        }
        let body = Body::Answer {
            to: envelope.from,
            echo: envelope.stamp,
            wall_ms: self.wall_ms,
            digest: mentions,
            wants,
            deltas,
        };
        self.send(self.reply_to(from, envelope.from), gone, body);
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

    /// An answer to a question that was asked just now proves that the peer lives.
    fn receive_answer(&mut self, envelope: &Envelope, echo: Echo) {
        let rtt = self.now.stamp.checked_sub(echo.stamp);
        let (Some(rtt), true) = (
            rtt.filter(|rtt| *rtt < ANSWER_MICROS_MAX),
            echo.to == self.me.tag,
        ) else {
            return;
        };
        let Some(member) = self.roster.member_mut(envelope.from) else {
            return;
        };
        let half_ms = i64::try_from(rtt / 2_000).unwrap_or(0);
        let offset_ms = (echo.wall_ms as i64)
            .wrapping_add(half_ms)
            .wrapping_sub(self.wall_ms as i64);
        member.path.answered(self.now.awake, rtt, offset_ms);
        if member.trust.counts_answer_to(echo.stamp) {
            self.prove(envelope.from);
        }
    }

    fn receive_rest(
        &mut self,
        from: &Source,
        envelope: &Envelope,
        digest: &[Mention],
        wants: Vec<Want>,
        is_news: bool,
    ) {
        let mut comparison = self.compare(digest, is_news);
        self.compare_sender(envelope, &mut comparison);
        comparison.owed.extend(wants);
        self.tell(from, comparison.wants, &comparison.owed);
    }

    fn compare(&mut self, digest: &[Mention], is_news: bool) -> Comparison {
        let mut comparison = Comparison::default();
        for mention in digest {
            if mention.tag == self.me.tag {
                self.compare_me(mention, &mut comparison);
            } else if let Some(member) = self.roster.member_mut(mention.tag) {
                let heard = member.hear(mention.heartbeat, is_news, &self.tuning, self.now.awake);
                compare_member(member, mention, &mut comparison);
                self.heed(mention.tag, heard);
            } else {
                self.compare_unknown(mention, &mut comparison);
            }
        }
        comparison
    }

    fn compare_me(&mut self, mention: &Mention, comparison: &mut Comparison) {
        if mention.heartbeat > self.me.heartbeat || mention.version > self.me.version() {
            self.renew_above(self.me.identity.generation);
        } else if mention.version < self.me.version() {
            comparison.owed.push(Want::of(mention));
        }
    }

    fn compare_unknown(&self, mention: &Mention, comparison: &mut Comparison) {
        let unknown = Want {
            tag: mention.tag,
            version: Version(0),
        };
        match self.roster.graves.find(mention.tag) {
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
    fn compare_sender(&self, envelope: &Envelope, comparison: &mut Comparison) {
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
    fn owe_the_unmentioned(&mut self, mentioned: &[Tag], sender: Tag, comparison: &mut Comparison) {
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

    fn unmentioned<'a>(
        &'a self,
        mentioned: &'a [Tag],
        sender: Tag,
    ) -> impl Iterator<Item = Mention> + 'a {
        let others = self.plan.freshest();
        let others =
            others.filter(move |tag| *tag != sender && mentioned.binary_search(tag).is_err());
        others.filter_map(|tag| Some(self.roster.member(tag)?.mention()))
    }

    /// Rumours for a message: those that concern the other side first.
    fn gone_for(&mut self, comparison: &mut Comparison) -> Vec<Gone> {
        let mut gone = std::mem::take(&mut comparison.gone);
        gone.extend(self.roster.graves.rumours());
        gone.truncate(RUMOURS_MAX);
        gone
    }

    /// The rest of an exchange, if there is any.
    fn tell(&mut self, from: &Source, wants: Vec<Want>, owed: &[Want]) {
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

    fn apply(&mut self, deltas: Vec<Delta>) {
        for delta in deltas {
            if delta.tag != self.me.tag {
                self.apply_one(delta);
            }
        }
    }

    fn apply_one(&mut self, delta: Delta) {
        if self.roster.member(delta.tag).is_none() {
            match &delta.introduction {
                Some(introduction) => self.admit_by_hearsay(delta.tag, introduction),
                None => return,
            }
        }
        let now = self.now.awake;
        let Some(member) = self.roster.member_mut(delta.tag) else {
            return;
        };
        let Delta {
            status,
            from,
            to,
            floor,
            entries,
            ..
        } = delta;
        let Some(keys) = member.life.values.apply(from, to, floor, entries, now) else {
            return;
        };
        if status > member.life.status {
            member.life.status = status;
            self.outbox.event(Event::Believed(member.verdict()));
        }
        if !keys.is_empty() {
            let node = member.life.identity.node.clone();
            self.outbox.event(Event::Published { node, keys });
        }
    }
}

fn compare_member(member: &Member, mention: &Mention, comparison: &mut Comparison) {
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
    fn of(mention: &Mention) -> Self {
        Self {
            tag: mention.tag,
            version: mention.version,
        }
    }
}

fn impostor(authenticated: &NodeId, claimed: &NodeId) -> Refusal {
    let detail = format!("node '{authenticated}' speaks as '{claimed}'");
    Refusal::new(RefusalKind::Impostor, detail)
}

fn sorted_tags(digest: &[Mention]) -> Vec<Tag> {
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

fn take_mentions(mentions: impl Iterator<Item = Mention>, room: &mut Room) -> Vec<Mention> {
    mentions
        .take_while(|mention| room.take(mention.wire_bytes()))
        .collect()
}

/// An answer that took longer is none: nobody knows what has happened since.
const ANSWER_MICROS_MAX: u64 = 5_000_000;
/// In less room no delta fits.
const DELTA_BYTES_USEFUL: usize = 24;
