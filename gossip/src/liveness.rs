//! What is believed of a node, and what it takes to change that.
//!
//! ```text
//!                    proof                phi ≥ threshold                       for `down_after`
//!   ┌─────────┐ ─────────────► ┌────┐ ─────────────────────────► ┌─────────┐ ─────────────► ┌──────┐
//!   │ Joining │                │ Up │ ◄───────────────────────── │ Suspect │                │ Down │
//!   └─────────┘ ◄──┐           └────┘           proof            └─────────┘                └──────┘
//!        └─────────┼── silent ────▲───────────────────── proof ─────────────────────────────────┘
//! ```
//!
//! *Proof of life* of a node that is not Up is an answer to a question that we asked just now, or three signs of progress through
//! others, each half an interval after the one before. A message, or one report, proves nothing: it may be old. So nothing that was
//! said before a node died can bring it back.
//!
//! A node that keeps falling and rising is believed later each time: its third return within a minute waits.

use std::collections::VecDeque;

use crate::clock::Moment;

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Trust {
    state: State,
    since: u64,
    /// The same moment on the clock that stamps questions: an answer to an earlier question proves nothing.
    since_stamp: u64,
    /// Signs of progress since it was last not believed.
    signs: u32,
    sign_at: u64,
    falls: u32,
    fell_at: u64,
    /// When it was asked directly since its last progress: the last few times.
    questions: VecDeque<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// Known by name, not yet heard of as living.
    Joining,
    Up,
    Suspect,
    Down,
}

impl Trust {
    pub(crate) fn new(state: State, moment: Moment) -> Self {
        Self {
            state,
            since: moment.awake,
            since_stamp: moment.stamp,
            signs: 0,
            sign_at: 0,
            falls: 0,
            fell_at: 0,
            questions: VecDeque::new(),
        }
    }

    /// Another life of the same node: it begins unproven, but its falls are remembered.
    pub(crate) fn begin_again(&mut self, moment: Moment) {
        let (falls, fell_at) = (self.falls, self.fell_at);
        *self = Self {
            falls,
            fell_at,
            ..Self::new(State::Joining, moment)
        };
    }

    pub(crate) fn state(&self) -> State {
        self.state
    }

    pub(crate) fn is_up(&self) -> bool {
        self.state == State::Up
    }

    /// How long it has been in this state.
    pub(crate) fn age(&self, now: u64) -> u64 {
        now.saturating_sub(self.since)
    }

    /// It made progress: whoever doubted it has to ask anew.
    pub(crate) fn forget_questions(&mut self) {
        self.questions.clear();
    }

    /// A sign of progress of one that is not up came, through whomever. Whether that makes enough of them for a proof.
    pub(crate) fn sign(&mut self, half_interval: u64, now: u64) -> bool {
        debug_assert!(!self.is_up());
        self.questions.clear();
        if self.signs == 0 || now >= self.sign_at + half_interval {
            self.signs += 1;
            self.sign_at = now;
        }
        self.signs >= SIGNS_FOR_PROOF
    }

    /// It lives. Whether that changes anything: one that fell often has to wait.
    pub(crate) fn prove(&mut self, interval: u64, moment: Moment) -> bool {
        self.questions.clear();
        let now = moment.awake;
        if self.is_up() || now < self.fell_at + self.wait(interval, now) {
            return false;
        }
        self.enter(State::Up, moment);
        true
    }

    /// Whether an answer to a question of then shows that it lives now.
    pub(crate) fn counts_answer_to(&self, question_stamp: u64) -> bool {
        question_stamp >= self.since_stamp
    }

    fn wait(&self, interval: u64, now: u64) -> u64 {
        let falls = self.recent_falls(now);
        if falls < FALLS_FREE {
            return 0;
        }
        let doublings = (falls - FALLS_FREE + 1).min(16);
        (interval << doublings).min(WAIT_MAX_MICROS)
    }

    /// Falls, halved for every minute without one.
    fn recent_falls(&self, now: u64) -> u32 {
        let minutes = now.saturating_sub(self.fell_at) / FALLS_HALVE_MICROS;
        self.falls >> minutes.min(31)
    }

    pub(crate) fn suspect(&mut self, moment: Moment) {
        debug_assert!(self.is_up());
        self.falls = self.recent_falls(moment.awake).saturating_add(1);
        self.fell_at = moment.awake;
        self.enter(State::Suspect, moment);
    }

    pub(crate) fn give_up(&mut self, moment: Moment) {
        debug_assert!(!self.is_up());
        self.enter(State::Down, moment);
    }

    fn enter(&mut self, state: State, moment: Moment) {
        self.state = state;
        self.since = moment.awake;
        self.since_stamp = moment.stamp;
        self.signs = 0;
    }

    /// It was asked directly.
    pub(crate) fn asked(&mut self, now: u64) {
        if self.questions.len() == QUESTIONS_MAX {
            self.questions.pop_front();
        }
        self.questions.push_back(now);
    }

    /// How many questions since its last progress should have been answered by now.
    pub(crate) fn overdue(&self, answer_time: u64, now: u64) -> usize {
        let due = |asked: &&u64| **asked + answer_time <= now;
        self.questions.iter().filter(due).count()
    }

    /// Whether it was not asked for so long.
    pub(crate) fn may_ask(&self, pause: u64, now: u64) -> bool {
        self.questions
            .back()
            .is_none_or(|asked| asked + pause <= now)
    }
}

const QUESTIONS_MAX: usize = 4;
const SIGNS_FOR_PROOF: u32 = 3;
const FALLS_FREE: u32 = 3;
const FALLS_HALVE_MICROS: u64 = 60_000_000;
const WAIT_MAX_MICROS: u64 = 30_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: u64 = 200_000;

    fn at(now: u64) -> Moment {
        Moment {
            awake: now,
            stamp: now,
        }
    }

    fn fallen(times: u64) -> (Trust, u64) {
        let mut trust = Trust::new(State::Up, at(1));
        let mut now = 1;
        for fall in 0..times {
            if fall > 0 {
                now += WAIT_MAX_MICROS / 10;
                assert!(trust.prove(INTERVAL, at(now)), "fall {fall}");
            }
            trust.suspect(at(now));
        }
        (trust, now)
    }

    #[test]
    fn one_sign_proves_nothing_and_three_at_once_are_one() {
        let mut trust = Trust::new(State::Down, at(0));
        assert!(!trust.sign(INTERVAL / 2, 10));
        assert!(!trust.sign(INTERVAL / 2, 11));
        assert!(!trust.sign(INTERVAL / 2, 12));
        assert!(!trust.sign(INTERVAL / 2, 10 + INTERVAL));
        assert!(trust.sign(INTERVAL / 2, 10 + 2 * INTERVAL));
    }

    #[test]
    fn the_first_falls_are_forgiven_at_once() {
        let (mut trust, now) = fallen(2);
        assert!(trust.prove(INTERVAL, at(now + 1)));
        assert!(trust.is_up());
    }

    #[test]
    fn one_that_keeps_falling_waits_longer_each_time() {
        let (mut trust, now) = fallen(3);
        assert!(!trust.prove(INTERVAL, at(now + INTERVAL)));
        assert!(trust.prove(INTERVAL, at(now + 2 * INTERVAL)));
        let (mut trust, now) = fallen(5);
        assert!(!trust.prove(INTERVAL, at(now + 4 * INTERVAL)));
        assert!(trust.prove(INTERVAL, at(now + 8 * INTERVAL)));
    }

    #[test]
    fn falls_are_forgotten() {
        let (mut trust, now) = fallen(5);
        assert!(trust.prove(INTERVAL, at(now + 3 * FALLS_HALVE_MICROS)));
        trust.suspect(at(now + 3 * FALLS_HALVE_MICROS));
        assert!(trust.prove(INTERVAL, at(now + 3 * FALLS_HALVE_MICROS + 1)));
    }
}
