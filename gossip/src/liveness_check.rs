//! A look at the members: who is doubted is asked, who does not answer is suspected, who stays silent is given up.

use rand::seq::SliceRandom;

use crate::{
    clock::micros,
    event::Event,
    gossip::{Gossip, Thresholds},
    identity::Tag,
    liveness::State,
    member::Member,
    name::Region,
    round::LOOKS_PER_ROUND,
    view::Cause,
};

/// What a look at one member leads to.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Step {
    Nothing,
    /// Ask it whether it lives. How near it is to being suspected, from 0 to 1: it is 0 for one that is suspected already.
    Ask {
        urgency: f64,
    },
    Suspect,
    GiveUp,
    /// The path went down, or came back, while the node lives.
    Path,
}

impl Gossip {
    pub(crate) fn look(&mut self) {
        self.outbox.begin_look();
        let steps = self
            .roster
            .iter()
            .map(|(tag, member)| (tag, self.step(member)));
        let mut steps: Vec<(Tag, Step)> =
            steps.filter(|(_, step)| *step != Step::Nothing).collect();
        // Questions are few. They go to those that are next to be suspected, each of whom may live and have been unlucky; in a fixed order among
        // equals the same few members would get them all.
        steps.shuffle(&mut self.rng);
        steps.sort_by(|(_, one), (_, other)| other.urgency().total_cmp(&one.urgency()));
        for (tag, step) in steps {
            match step {
                Step::Nothing => {}
                Step::Ask { .. } => self.probe(tag),
                Step::Suspect => self.suspect(tag),
                Step::GiveUp => self.give_up(tag),
                Step::Path => self.note_path(tag),
            }
        }
    }

    fn step(&self, member: &Member) -> Step {
        if member.has_left() {
            return Step::Nothing;
        }
        match member.trust.state() {
            State::Up | State::Joining => self.step_of_company(member),
            State::Suspect
                if member.trust.age(self.now.awake) >= micros(self.config.down_after) =>
            {
                Step::GiveUp
            }
            State::Suspect => Step::Ask { urgency: 0.0 },
            State::Down => Step::Nothing,
        }
    }

    fn step_of_company(&self, member: &Member) -> Step {
        if !self.is_doubted(member) {
            let known = member.cause == Some(Cause::PathDown);
            let changed = member.trust.is_up() && member.path.is_down() != known;
            return if changed { Step::Path } else { Step::Nothing };
        }
        let threshold = self.thresholds.of(member, &self.me.identity.region);
        let phi = member.phi(self.now.awake, &self.clock, &self.tuning);
        match (phi >= threshold, member.trust.is_up()) {
            (true, true) => Step::Suspect,
            (true, false) => Step::GiveUp,
            (false, _) => Step::Ask {
                urgency: phi / threshold,
            },
        }
    }

    /// When there is something to look into, if nothing is heard until then: soon while a member is doubted or suspected, else when the first
    /// of them will be. What is heard puts that off, and every round looks anew, so a quiet node wakes for its rounds alone.
    pub(crate) fn next_doubt(&self) -> u64 {
        let soon = self.now.awake + self.tuning.interval / LOOKS_PER_ROUND;
        let patience = self.clock.patience();
        let doubts = self.roster.iter().filter_map(|(_, member)| {
            let doubt = || member.detector.exceeds_at(self.thresholds.ask, patience);
            match member.trust.state() {
                _ if member.has_left() => None,
                State::Up | State::Joining => Some(soon.max(doubt())),
                State::Suspect => Some(soon),
                State::Down => None,
            }
        });
        doubts.min().unwrap_or(u64::MAX)
    }

    fn is_doubted(&self, member: &Member) -> bool {
        let patience = self.clock.patience();
        member
            .detector
            .exceeds(self.thresholds.ask, self.now.awake, patience)
    }

    /// Asks a member whether it lives, unless it was asked just now or too many are asked at once.
    pub(crate) fn probe(&mut self, tag: Tag) {
        let Some(member) = self.roster.member(tag) else {
            return;
        };
        let pause = self.tuning.interval / LOOKS_PER_ROUND;
        if member.trust.may_ask(pause, self.now.awake) && self.outbox.take_probe() {
            let digest = false;
            self.ask(tag, digest);
        }
    }

    fn suspect(&mut self, tag: Tag) {
        let cause = self.cause_of_silence(tag);
        let now = self.now;
        if let Some(member) = self.roster.member_mut(tag) {
            member.trust.suspect(now);
            member.cause = Some(cause);
            self.outbox.counters.suspicions += 1;
            self.outbox.event(Event::Believed(member.verdict()));
        }
    }

    fn give_up(&mut self, tag: Tag) {
        let cause = self.cause_of_silence(tag);
        let now = self.now;
        if let Some(member) = self.roster.member_mut(tag) {
            member.trust.give_up(now);
            // What it was suspected for is known better than what it is given up for.
            member.cause.get_or_insert(cause);
            self.outbox.event(Event::Believed(member.verdict()));
        }
    }

    fn note_path(&mut self, tag: Tag) {
        if let Some(member) = self.roster.member_mut(tag) {
            member.cause = member.path.is_down().then_some(Cause::PathDown);
            self.outbox.event(Event::Believed(member.verdict()));
        }
    }

    fn cause_of_silence(&self, tag: Tag) -> Cause {
        if self.clock.is_slow() {
            return Cause::SelfSlow;
        }
        let region = self
            .roster
            .member(tag)
            .map(|member| &member.life.identity.region);
        match region {
            Some(region) if self.is_mostly_silent(region) => Cause::PathDown,
            Some(_) | None => Cause::PeerSlow,
        }
    }

    /// Whether most of a region, and more than one of it, is doubted: nodes die one by one, paths take all.
    fn is_mostly_silent(&self, region: &Region) -> bool {
        let neighbours = self.roster.iter().map(|(_, member)| member);
        let neighbours = neighbours.filter(|member| member.is_in(region) && !member.has_left());
        let (mut all, mut silent) = (0, 0);
        for member in neighbours {
            all += 1;
            silent += usize::from(!member.is_company() || self.is_doubted(member));
        }
        silent > 1 && 2 * silent > all
    }

    /// It lives, beyond doubt.
    pub(crate) fn prove(&mut self, tag: Tag) {
        let (now, interval) = (self.now, self.tuning.interval);
        let Some(member) = self.roster.member_mut(tag) else {
            return;
        };
        if !member.has_left() && member.trust.prove(interval, now) {
            member.detector.resume(now.awake);
            member.cause = None;
            self.outbox.event(Event::Believed(member.verdict()));
        }
    }
}

impl Step {
    fn urgency(self) -> f64 {
        match self {
            Self::Ask { urgency } => urgency,
            Self::Nothing | Self::Suspect | Self::GiveUp | Self::Path => 0.0,
        }
    }
}

impl Thresholds {
    fn of(&self, member: &Member, home: &Region) -> f64 {
        if member.is_in(home) {
            self.local
        } else {
            self.remote
        }
    }
}
