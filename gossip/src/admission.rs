//! Who is taken in, who succeeds whom, and who is refused.
//!
//! Of each name there is one life. A later generation of the same data directory succeeds an earlier one at once: the node was restarted.
//! One of *another* directory (it was wiped, or it is an intruder) does so only when the earlier one is no longer believed to live.
//!
//! Of itself a node hears only rumours. A life of its own name that is later than its present one makes it begin a still later one, at most
//! three times a minute; one that introduces itself in person, with another directory, is refused.

use crate::{
    event::Event,
    gossip::Gossip,
    identity::{GENERATION_AHEAD_MS, Generation, Heartbeat, Identity, Tag},
    liveness::State,
    member::Member,
    message::{Gone, Introduction},
    name::{Address, NodeId},
    refusal::{Refusal, RefusalKind, Refused},
    tombstones::Grave,
};

/// What an acceptable identity means here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// It is known already.
    Known,
    /// A later life of that node is known.
    Over,
    /// It follows that life.
    Succeeds(Tag),
    /// The name is new.
    New,
}

impl Gossip {
    /// Takes in a node that introduces itself.
    pub(crate) fn admit_in_person(
        &mut self,
        identity: &Identity,
        heartbeat: Heartbeat,
    ) -> Result<(), Refusal> {
        if identity.node == self.me.identity.node {
            return Err(duplicate(&self.me.identity));
        }
        let place = self.place(identity)?;
        if place == Place::Over {
            return self.check_not_usurped(identity);
        }
        let introduction = Introduction {
            identity: identity.clone(),
            heartbeat,
            silence_ms: 0,
        };
        self.take_in(&introduction, place)
    }

    /// Takes in a node that someone else told of.
    pub(crate) fn admit_by_hearsay(&mut self, tag: Tag, introduction: &Introduction) {
        let identity = &introduction.identity;
        let silence = introduction.silence_ms.saturating_mul(1_000);
        let is_over = match self.roster.tombstones.find(tag) {
            Some(Grave::Removed(last)) => introduction.heartbeat <= *last,
            Some(Grave::Forgotten(_)) => true,
            Some(Grave::Succeeded(_)) | None => false,
        };
        if identity.tag() != tag || !self.is_told(silence) || is_over {
            return;
        }
        if identity.node == self.me.identity.node {
            self.hear_of_my_name(identity);
            return;
        }
        let place = self.place(identity);
        if let Err(refusal) = place.and_then(|place| self.take_in(introduction, place)) {
            let (node, address) = (identity.node.clone(), identity.address.clone());
            if refusal.kind == RefusalKind::Forgotten {
                // Whoever mentions it again is told.
                let (node, directory) = (node.clone(), identity.directory);
                let gone = Gone {
                    tag,
                    node,
                    directory,
                };
                self.roster.tombstones.bury(tag, Grave::Forgotten(gone));
            }
            self.note_refused(Some(tag), Some(node), address, refusal);
        }
    }

    fn place(&self, identity: &Identity) -> Result<Place, Refusal> {
        if self.roster.member(identity.tag()).is_some() {
            return Ok(Place::Known);
        }
        self.check_agreement(identity)?;
        let tombstones = &self.roster.tombstones;
        if tombstones.is_forgotten(&identity.node, identity.directory) {
            let detail = format!(
                "node '{}' was forgotten: it needs a new data directory",
                identity.node
            );
            return Err(Refusal::new(RefusalKind::Forgotten, detail));
        }
        let Some(known) = self.roster.named(&identity.node) else {
            return Ok(Place::New);
        };
        let life = &known.life.identity;
        if !identity.succeeds(life) {
            return Ok(Place::Over);
        }
        if life.directory != identity.directory && known.lives() {
            return Err(duplicate(life));
        }
        Ok(Place::Succeeds(known.life.tag))
    }

    fn check_agreement(&self, identity: &Identity) -> Result<(), Refusal> {
        let mine = &self.me.identity;
        if !mine.protocol.understands(identity.protocol) {
            let detail = format!(
                "'{}' speaks version {} and accepts {} on, '{}' speaks {} and accepts {} on",
                identity.node,
                identity.protocol.speaks,
                identity.protocol.accepts,
                mine.node,
                mine.protocol.speaks,
                mine.protocol.accepts
            );
            return Err(Refusal::new(RefusalKind::Protocol, detail));
        }
        if mine.settings != identity.settings {
            let detail = format!(
                "cluster-wide settings of '{}' and '{}' differ",
                identity.node, mine.node
            );
            return Err(Refusal::new(RefusalKind::Settings, detail));
        }
        self.check_generation(identity)
    }

    fn check_generation(&self, identity: &Identity) -> Result<(), Refusal> {
        if identity.generation.0 <= self.wall_ms.saturating_add(GENERATION_AHEAD_MS) {
            return Ok(());
        }
        let detail = format!(
            "generation {} of '{}' is years ahead of the clock of '{}': one of their clocks is wrong",
            identity.generation.0, identity.node, self.me.identity.node
        );
        Err(Refusal::new(RefusalKind::FutureGeneration, detail))
    }

    /// An earlier life that speaks while a later one of another directory lives: both run.
    fn check_not_usurped(&self, identity: &Identity) -> Result<(), Refusal> {
        let known = self.roster.named(&identity.node);
        let usurper = known
            .filter(|known| known.lives() && known.life.identity.directory != identity.directory);
        usurper.map_or(Ok(()), |known| Err(duplicate(&known.life.identity)))
    }

    fn take_in(&mut self, introduction: &Introduction, place: Place) -> Result<(), Refusal> {
        let identity = &introduction.identity;
        let member = match place {
            Place::Known => return Ok(()),
            Place::Over => {
                let grave = Grave::Succeeded(identity.node.clone());
                self.roster.tombstones.bury(identity.tag(), grave);
                return Ok(());
            }
            Place::Succeeds(tag) => self.succeed(tag, introduction),
            Place::New => {
                self.make_room(&identity.node)?;
                Member::new(introduction, &self.tuning, self.now)
            }
        };
        let tag = member.life.tag;
        self.roster.insert(member);
        self.outbox.event(Event::Met(identity.clone()));
        self.meet(tag);
        Ok(())
    }

    fn succeed(&mut self, before: Tag, introduction: &Introduction) -> Member {
        let fresh = Member::new(introduction, &self.tuning, self.now);
        let grave = Grave::Succeeded(introduction.identity.node.clone());
        match self.roster.remove(before, grave) {
            Some(known) => known.succeed(fresh, &self.tuning, self.now),
            None => fresh,
        }
    }

    /// A node was met: it is asked whether it lives, unless others say that it has been silent for long.
    fn meet(&mut self, tag: Tag) {
        let Some(member) = self.roster.member_mut(tag) else {
            return;
        };
        debug_assert_eq!(member.trust.state(), State::Joining);
        if member.detector.phi(self.now.awake, HEALTHY) >= self.thresholds.remote {
            member.trust.give_up(self.now);
            self.outbox.event(Event::Believed(member.verdict()));
            return;
        }
        self.probe(tag);
    }

    fn make_room(&mut self, node: &NodeId) -> Result<(), Refusal> {
        if self.roster.len() < self.config.members_max {
            return Ok(());
        }
        if let Some(tag) = self.roster.longest_gone() {
            self.remove(tag);
            return Ok(());
        }
        let detail = format!(
            "no room for '{node}': {} other nodes are known, as many as are allowed",
            self.roster.len()
        );
        Err(Refusal::new(RefusalKind::Full, detail))
    }

    pub(crate) fn note_refused(
        &mut self,
        tag: Option<Tag>,
        node: Option<NodeId>,
        address: Address,
        refusal: Refusal,
    ) {
        let refused = Refused {
            node,
            address,
            refusal,
        };
        if self.refused.note(tag, refused.clone(), self.now.awake) {
            self.outbox.event(Event::Refused(refused));
        }
    }

    /// Others know a life of this node's name that is not the present one.
    fn hear_of_my_name(&mut self, identity: &Identity) {
        if identity.succeeds(&self.me.identity) {
            self.renew_above(identity.generation);
            return;
        }
        let grave = Grave::Succeeded(identity.node.clone());
        self.roster.tombstones.bury(identity.tag(), grave);
    }

    /// Begins a life above a generation, unless someone keeps outbidding this node.
    pub(crate) fn renew_above(&mut self, generation: Generation) {
        let highest = self.wall_ms.saturating_add(GENERATION_AHEAD_MS);
        let above = generation
            .max(self.me.identity.generation)
            .0
            .saturating_add(1);
        if above > highest || !self.renewals.take(self.now.awake) {
            self.outbox.event(Event::NameContested(generation));
            return;
        }
        let mut identity = self.me.identity.clone();
        identity.generation = Generation(above);
        self.begin_life(identity);
    }
}

/// What others tell of a silence has nothing to do with the health of this process.
const HEALTHY: f64 = 1.0;

fn duplicate(incumbent: &Identity) -> Refusal {
    let detail = format!(
        "a node '{}' lives at {} with data directory {:x}: a name belongs to one node",
        incumbent.node, incumbent.address, incumbent.directory.0
    );
    Refusal::new(RefusalKind::DuplicateName, detail)
}
