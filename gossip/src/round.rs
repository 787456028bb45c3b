//! What happens by the clock: rounds, and looks at the members in between.

use rand::Rng;

use crate::{
    choice::{Candidate, Company, pick},
    clock::micros,
    codec,
    event::{Event, Target},
    gossip::Gossip,
    identity::Tag,
    limits::ENVELOPE_BYTES_MAX,
    message::{
        ASK_HEAD_BYTES, Body, DigestEntry, Envelope, Gone, Hello, MENTION_BYTES_MIN, Message,
    },
    name::Address,
    tombstones::Grave,
};

impl Gossip {
    pub(crate) fn wake(&mut self) {
        let begins_round = self.now.awake >= self.next_round;
        if begins_round {
            self.round();
            self.next_round = (self.next_round + self.tuning.interval).max(self.now.awake + 1);
        }
        if begins_round || self.now.awake >= self.next_look {
            self.look();
            self.next_look = self.next_doubt();
        }
    }

    fn round(&mut self) {
        self.clock.round();
        self.outbox.begin_round(self.config.round_bytes);
        self.outbox.begin_look();
        self.beat();
        self.clean_up();
        self.make_plan();
        for tag in self.peers() {
            let digest = true;
            self.ask(tag, digest);
        }
        self.ask_seeds();
    }

    /// One more sign of life.
    pub(crate) fn beat(&mut self) {
        self.me.heartbeat.0 = match self.me.heartbeat.0.checked_add(1) {
            Some(next) => next,
            // Years of heartbeats: others would take the next one for an old one.
            None => {
                self.renew_above(self.me.identity.generation);
                self.me.heartbeat.0
            }
        };
    }

    /// Drops what nobody needs any more.
    fn clean_up(&mut self) {
        let tombstones = self
            .now
            .awake
            .saturating_sub(micros(self.config.tombstone_grace));
        self.me.values.drop_tombstones(tombstones, self.now.awake);
        let grace = micros(self.config.dead_grace);
        let over = self.roster.iter().filter(|(_, member)| {
            !member.is_company() && member.detector.silence(self.now.awake) >= grace
        });
        let over: Vec<Tag> = over.map(|(tag, _)| tag).collect();
        for tag in over {
            self.remove(tag);
        }
    }

    pub(crate) fn remove(&mut self, tag: Tag) {
        let Some(member) = self.roster.member(tag) else {
            return;
        };
        let grave = Grave::Removed(member.life.heartbeat);
        if let Some(member) = self.roster.remove(tag, grave) {
            let node = member.life.identity.node.clone();
            self.outbox.event(Event::Removed(node));
        }
    }

    /// Whether others are still told of a member: the long silent are not, so that all drop it for good.
    pub(crate) fn is_told(&self, silence: u64) -> bool {
        silence < micros(self.config.dead_grace) / 2
    }

    /// Makes another plan, if there are other members than those that the present one was made of.
    pub(crate) fn renew_plan(&mut self) {
        if self.plan.of() != self.roster.changes() {
            self.make_plan();
        }
    }

    pub(crate) fn make_plan(&mut self) {
        let mentions = self.roster.iter().map(|(_, member)| member.mention());
        let longest = mentions.map(|mention| mention.wire_bytes()).max();
        self.mention_bytes = longest.unwrap_or(MENTION_BYTES_MIN);
        let mut fresh = Vec::with_capacity(self.roster.len());
        let mut silent = Vec::new();
        self.company = Company::default();
        for (tag, member) in self.roster.iter() {
            if !member.is_company() {
                if self.is_told(member.detector.silence(self.now.awake)) {
                    silent.push(tag);
                }
                continue;
            }
            fresh.push((member.detector.latest(), tag));
            let candidate = Candidate {
                tag,
                talked_at: member.path.talked_at(),
            };
            if member.life.identity.region == self.me.identity.region {
                self.company.near.push(candidate);
            } else {
                self.company.far.push(candidate);
            }
        }
        self.plan.renew(fresh, silent, self.roster.changes());
    }

    /// Whom to ask in this round: company, and one that is missed or does not answer. Whoever has no company looks for some.
    fn peers(&mut self) -> Vec<Tag> {
        let mut peers = self.company.choose(self.config.fanout, &mut self.rng);
        let missed = self.roster.iter().filter(|(tag, member)| {
            let doubtful = member.is_company() && member.path.is_doubtful();
            (member.is_missed() || doubtful) && !peers.contains(tag)
        });
        let missed: Vec<Tag> = missed.map(|(tag, _)| tag).collect();
        let count = if peers.is_empty() {
            self.config.fanout
        } else {
            1
        };
        peers.extend(pick(&missed, count, &mut self.rng));
        peers
    }

    /// Asks seeds that are not in company: all the time while there is none, else now and then, so that islands find each other
    /// even when they have forgotten each other.
    fn ask_seeds(&mut self) {
        let lonely = self.company.is_empty();
        if !lonely && self.rng.random_range(0..SEED_ONE_ROUND_IN) > 0 {
            return;
        }
        let count = if lonely { self.config.fanout } else { 1 };
        let strangers: Vec<Address> = self.strange_seeds().cloned().collect();
        for address in pick(&strangers, count, &mut self.rng) {
            let to = Target {
                node: None,
                address,
            };
            self.ask_stranger(to);
        }
    }

    /// Asks whoever was reached just now, known or not: one that is known may have restarted meanwhile.
    pub(crate) fn ask_reached(&mut self, to: Target) {
        self.renew_plan();
        let known = to.node.as_ref().and_then(|node| self.roster.tag_of(node));
        match known {
            Some(tag) => {
                let digest = true;
                self.ask(tag, digest);
            }
            None => self.ask_stranger(to),
        }
    }

    fn strange_seeds(&self) -> impl Iterator<Item = &Address> {
        let seeds = self.seeds.iter();
        seeds.filter(|seed| {
            let mut company = self.roster.iter().filter(|(_, member)| member.is_company());
            **seed != self.me.identity.address
                && !company.any(|(_, member)| member.life.identity.address == **seed)
        })
    }

    fn ask_stranger(&mut self, to: Target) {
        let gone = self.roster.tombstones.rumours();
        let hello = Some(Box::new(self.hello()));
        let (digest, complete) = self.digest(&gone, hello.as_deref());
        let body = Body::Ask {
            hello,
            complete,
            digest,
        };
        self.send(to, gone, body);
    }

    /// Asks a member: with a digest, or only whether it lives.
    pub(crate) fn ask(&mut self, tag: Tag, with_digest: bool) {
        let Some(to) = self.target(tag) else {
            return;
        };
        let now = self.now.awake;
        let Some(member) = self.roster.member_mut(tag) else {
            return;
        };
        member.path.asked(member.trust.is_up(), now);
        member.trust.asked(now);
        let is_stranger = with_digest && !member.path.has_answered();
        let hello = is_stranger.then(|| Box::new(self.hello()));
        let gone = self.roster.tombstones.rumours();
        let (digest, complete) = if with_digest {
            self.digest(&gone, hello.as_deref())
        } else {
            (Vec::new(), false)
        };
        let body = Body::Ask {
            hello,
            complete,
            digest,
        };
        self.send(to, gone, body);
    }

    fn hello(&self) -> Hello {
        Hello {
            cluster: self.config.cluster.clone(),
            identity: self.me.identity.clone(),
            settings: self.config.settings.clone(),
        }
    }

    fn digest(&mut self, gone: &[Gone], hello: Option<&Hello>) -> (Vec<DigestEntry>, bool) {
        let used = gone.iter().map(Gone::wire_bytes).sum::<usize>()
            + hello.map_or(0, Hello::wire_bytes)
            + ENVELOPE_BYTES_MAX
            + ASK_HEAD_BYTES;
        let mut room = Room(self.config.datagram_bytes.saturating_sub(used));
        let (tags, all) = self.plan.pick(room.0 / self.mention_bytes);
        let count = tags.len();
        let members = tags.into_iter().filter_map(|tag| self.roster.member(tag));
        let mentions = members.map(|member| member.mention());
        let digest: Vec<DigestEntry> = mentions
            .take_while(|mention| room.take(mention.wire_bytes()))
            .collect();
        let complete = all && digest.len() == count && count == self.plan.all().len();
        (digest, complete)
    }

    pub(crate) fn send(&mut self, to: Target, gone: Vec<Gone>, body: Body) {
        let envelope = Envelope {
            cluster: self.cluster,
            from: self.me.tag,
            heartbeat: self.me.heartbeat,
            version: self.me.version(),
            stamp: self.now.stamp,
        };
        let message = Message {
            envelope,
            gone,
            body,
        };
        let bytes = codec::encode(&message);
        debug_assert!(bytes.len() <= message.wire_bytes());
        debug_assert!(bytes.len() <= self.config.datagram_bytes);
        self.outbox.send(to, bytes);
    }
}

/// Bytes left in a datagram.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Room(pub(crate) usize);

impl Room {
    /// Sets half of it aside.
    pub(crate) fn split_half(&mut self) -> Self {
        let half = self.0 / 2;
        self.0 -= half;
        Self(half)
    }

    /// Takes bytes if there are as many.
    pub(crate) fn take(&mut self, bytes: usize) -> bool {
        match self.0.checked_sub(bytes) {
            Some(left) => {
                self.0 = left;
                true
            }
            None => false,
        }
    }
}

/// How often in the time of a round suspicion is looked into, while there is somebody to doubt.
pub(crate) const LOOKS_PER_ROUND: u64 = 4;
const SEED_ONE_ROUND_IN: u32 = 8;
