//! All that is known of one other node.

use std::time::Duration;

use crate::{
    clock::{Clock, Moment},
    detector::{Detector, Tuning},
    identity::Heartbeat,
    incarnation::Incarnation,
    liveness::{State, Trust},
    message::{DigestEntry, Introduction, Status},
    name::Region,
    path::Path,
    phi::PHI_MAX,
    view::{self, Cause, Standing, Verdict},
};

#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) life: Incarnation,
    pub(crate) detector: Detector,
    pub(crate) trust: Trust,
    pub(crate) path: Path,
    pub(crate) cause: Option<Cause>,
}

impl Member {
    pub(crate) fn new(introduction: &Introduction, tuning: &Tuning, moment: Moment) -> Self {
        let silence = introduction.silence_ms.saturating_mul(1_000);
        let silent_since = moment.awake.saturating_sub(silence);
        let identity = introduction.identity.clone();
        Self {
            life: Incarnation::new(identity, introduction.heartbeat),
            detector: Detector::new(tuning, silent_since),
            trust: Trust::new(State::Joining, moment),
            path: Path::default(),
            cause: None,
        }
    }

    /// Another life of the same node begins: what was learnt of its habits and its path stays.
    pub(crate) fn succeed(mut self, fresh: Self, tuning: &Tuning, moment: Moment) -> Self {
        self.trust.begin_again(moment);
        self.path.begin_again();
        let stays = self.life.identity.region == fresh.life.identity.region;
        if stays {
            self.detector.begin_again(tuning, fresh.detector.latest());
        } else {
            self.detector = fresh.detector;
        }
        Self {
            detector: self.detector,
            trust: self.trust,
            path: self.path,
            ..fresh
        }
    }

    /// A heartbeat was heard, from the node itself or through another.
    pub(crate) fn hear(&mut self, heartbeat: Heartbeat, ear: &Ear) -> Heard {
        if heartbeat <= self.life.heartbeat || self.has_left() {
            return Heard::Nothing;
        }
        self.life.heartbeat = heartbeat;
        if self.is_company() && ear.is_catching_up {
            self.detector.resume(ear.now);
        } else if self.is_company() {
            self.detector.progress(&ear.tuning, ear.now);
        }
        if self.trust.is_up() {
            self.trust.forget_questions();
            return Heard::Nothing;
        }
        if ear.is_news && self.trust.sign(ear.tuning.interval / 2, ear.now) {
            return Heard::Proof;
        }
        Heard::Sign
    }

    pub(crate) fn standing(&self) -> Standing {
        match (self.life.status, self.trust.state()) {
            (Status::Left, _) => Standing::Left,
            (_, State::Joining) => Standing::Joining,
            (_, State::Suspect) => Standing::Suspect,
            (_, State::Down) => Standing::Down,
            (Status::Leaving, State::Up) => Standing::Leaving,
            (Status::Up, State::Up) => Standing::Up,
        }
    }

    pub(crate) fn verdict(&self) -> Verdict {
        Verdict {
            node: self.life.identity.node.clone(),
            generation: self.life.identity.generation,
            standing: self.standing(),
            cause: self.cause,
        }
    }

    pub(crate) fn is_in(&self, region: &Region) -> bool {
        self.life.identity.region == *region
    }

    pub(crate) fn has_left(&self) -> bool {
        self.life.status == Status::Left
    }

    /// It takes part and is believed: its name is taken.
    pub(crate) fn lives(&self) -> bool {
        !self.has_left() && self.trust.is_up()
    }

    /// Worth gossiping with: it may live, and has not said goodbye.
    pub(crate) fn is_company(&self) -> bool {
        !self.has_left() && matches!(self.trust.state(), State::Up | State::Joining)
    }

    /// Worth asking now and then whether it is back.
    pub(crate) fn is_missed(&self) -> bool {
        !self.has_left() && matches!(self.trust.state(), State::Suspect | State::Down)
    }

    /// How it stands in a digest. The heartbeat is told only of company: that of a silent node is no sign of life.
    pub(crate) fn mention(&self) -> DigestEntry {
        let heartbeat = if self.is_company() {
            self.life.heartbeat
        } else {
            Heartbeat(0)
        };
        self.life.mention(heartbeat)
    }

    /// Suspicion: the silence, and the questions that went unanswered in it. Those can make up for half of the silence, not
    /// for more: a process that stalls answers nothing, and silence is the measure of that.
    pub(crate) fn phi(&self, now: u64, clock: &Clock, tuning: &Tuning) -> f64 {
        if self.has_left() {
            return 0.0;
        }
        let silence = self.detector.phi(now, clock.patience());
        let overdue = self
            .trust
            .overdue(self.path.answer_time(tuning.interval), now);
        let questions = overdue as f64 * self.path.weight_of_silence();
        (silence + questions.min(silence)).min(PHI_MAX)
    }

    pub(crate) fn view(
        &self,
        now: u64,
        wall_ahead_ms: i64,
        clock: &Clock,
        tuning: &Tuning,
    ) -> view::Member<'_> {
        view::Member {
            identity: &self.life.identity,
            status: self.life.status,
            standing: self.standing(),
            cause: self.cause,
            phi: self.phi(now, clock, tuning),
            silence: Duration::from_micros(self.detector.silence(now)),
            rtt: self.path.rtt().map(Duration::from_micros),
            clock_offset: self.path.clock_offset(wall_ahead_ms),
        }
    }
}

/// How something is heard.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ear {
    pub(crate) now: u64,
    pub(crate) tuning: Tuning,
    /// In the latest message of its sender, not in one that was overtaken.
    pub(crate) is_news: bool,
    /// It may have waited while this process slept.
    pub(crate) is_catching_up: bool,
}

/// What a heartbeat means for the belief in its node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Heard {
    Nothing,
    /// One that is not believed to live may do so.
    Sign,
    /// It does.
    Proof,
}
