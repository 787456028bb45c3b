//! A session's pulse: when the peer was last heard, how long a round trip takes, how far its clock is ahead.
//!
//! The clock offset is NTP's (RFC 5905 §8, §10): each ping is one sample, `peer's time - middle of the round trip`, wrong by at most
//! half the round trip; of the last samples the one with the shortest round trip is believed.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use super::limits::{HEARTBEAT, SILENCE_MAX};

/// What was measured, as of some moment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Reading {
    pub(super) heard: Instant,
    pub(super) rtt: Option<Duration>,
    /// The last answer that came, if one did.
    pub(super) answer: Option<Answer>,
    /// Peer's clock less ours.
    pub(super) clock_offset_us: Option<i64>,
}

/// An answer to a ping.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Answer {
    /// The ping's number: no two answers in a row have the same.
    pub(super) sequence: u32,
    /// The round trip of this one ping, not smoothed.
    pub(super) rtt: Duration,
}

/// What is to be done when nothing was heard until a deadline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Wait on, until then.
    Wait(Instant),
    /// The peer is taken for dead.
    Silent,
}

#[derive(Debug)]
pub(super) struct Pulse {
    heard: Instant,
    /// Until then silence is ours, not the peer's.
    excused: Instant,
    sequence: u32,
    awaited: VecDeque<(u32, Instant)>,
    samples: VecDeque<Sample>,
    rtt: Option<Duration>,
    answer: Option<Answer>,
}

#[derive(Debug, Clone, Copy)]
struct Sample {
    rtt: Duration,
    offset_us: i64,
}

impl Pulse {
    /// A session just agreed on: its peer was heard now.
    pub(super) fn new(now: Instant) -> Self {
        Self {
            heard: now,
            excused: now,
            sequence: 0,
            awaited: VecDeque::new(),
            samples: VecDeque::new(),
            rtt: None,
            answer: None,
        }
    }

    /// Something came from the peer, whatever it was.
    pub(super) fn hear(&mut self, now: Instant) {
        self.heard = self.heard.max(now);
    }

    /// The number of a ping that is sent now.
    pub(super) fn ping(&mut self, now: Instant) -> u32 {
        self.sequence = self.sequence.wrapping_add(1);
        self.awaited.push_back((self.sequence, now));
        if self.awaited.len() > AWAITED_MAX {
            self.awaited.pop_front();
        }
        self.sequence
    }

    /// The answer to a ping: ours left at `sent_us` by our wall clock, was there at `at_us` by the peer's, the
    /// answer is here at `wall_us` by ours. An answer to nothing that was asked is ignored.
    pub(super) fn pong(
        &mut self,
        sequence: u32,
        sent_us: u64,
        at_us: u64,
        now: Instant,
        wall_us: u64,
    ) {
        let Some(index) = self
            .awaited
            .iter()
            .position(|(awaited, _)| *awaited == sequence)
        else {
            return;
        };
        let Some((_, sent)) = self.awaited.remove(index) else {
            return;
        };
        let rtt = now.saturating_duration_since(sent);
        self.answer = Some(Answer { sequence, rtt });
        self.rtt = Some(self.rtt.map_or(rtt, |smooth| (smooth * 3 + rtt) / 4));
        let middle_us = sent_us / 2 + wall_us / 2;
        self.samples.push_back(Sample {
            rtt,
            offset_us: difference(at_us, middle_us),
        });
        if self.samples.len() > SAMPLES_MAX {
            self.samples.pop_front();
        }
    }

    /// Whether the peer was heard lately enough to be believed alive.
    pub(super) fn is_alive(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.heard) < SILENCE_MAX
    }

    /// When to look again.
    pub(super) fn deadline(&self) -> Instant {
        (self.heard + SILENCE_MAX).max(self.excused)
    }

    /// Judges a silence at `deadline`, which is past. If we look much later than we meant to, then it was us who
    /// were stopped (SIGSTOP, a starved machine): what the peer said meanwhile is still to be read, so it gets two beats more.
    pub(super) fn judge(&mut self, deadline: Instant, now: Instant) -> Verdict {
        let current = self.deadline();
        if current > now {
            return Verdict::Wait(current);
        }
        if now.saturating_duration_since(deadline) < HEARTBEAT {
            return Verdict::Silent;
        }
        self.excused = now + 2 * HEARTBEAT;
        Verdict::Wait(self.excused)
    }

    pub(super) fn read(&self) -> Reading {
        let best = self.samples.iter().min_by_key(|sample| sample.rtt);
        Reading {
            heard: self.heard,
            rtt: self.rtt,
            answer: self.answer,
            clock_offset_us: best.map(|sample| sample.offset_us),
        }
    }
}

/// `a - b`, within what an i64 holds: a peer may claim any time.
fn difference(a: u64, b: u64) -> i64 {
    let difference = i128::from(a) - i128::from(b);
    difference.clamp(i128::from(i64::MIN), i128::from(i64::MAX)) as i64
}

const AWAITED_MAX: usize = 16;
const SAMPLES_MAX: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn the_sample_with_the_shortest_round_trip_tells_the_clock_offset() {
        let start = Instant::now();
        let mut pulse = Pulse::new(start);
        // The peer is 300 ms ahead; 10 ms there, 90 ms back: the sample is wrong by 40 ms.
        let sequence = pulse.ping(start);
        pulse.pong(sequence, 1_000_000, 1_310_000, start + ms(100), 1_100_000);
        assert_eq!(pulse.read().clock_offset_us, Some(260_000));
        // 10 ms each way: right.
        let sequence = pulse.ping(start + ms(500));
        pulse.pong(sequence, 1_500_000, 1_810_000, start + ms(520), 1_520_000);
        assert_eq!(pulse.read().clock_offset_us, Some(300_000));
        assert_eq!(pulse.read().rtt, Some(ms(80)));
        let rtt = ms(20);
        assert_eq!(pulse.read().answer, Some(Answer { sequence, rtt }));
    }

    #[test]
    fn answers_to_nothing_and_absurd_times_are_harmless() {
        let start = Instant::now();
        let mut pulse = Pulse::new(start);
        pulse.pong(9, 0, 0, start, 0);
        assert_eq!(pulse.read().rtt, None);
        let sequence = pulse.ping(start);
        pulse.pong(sequence, 0, u64::MAX, start, 0);
        pulse.pong(sequence, 0, 0, start, 0);
        assert_eq!(pulse.read().clock_offset_us, Some(i64::MAX));
        for _ in 0..100 {
            pulse.ping(start);
        }
        assert_eq!(pulse.awaited.len(), AWAITED_MAX);
    }

    #[test]
    fn a_silent_peer_is_dead_after_the_limit_and_not_before() {
        let start = Instant::now();
        let mut pulse = Pulse::new(start);
        let deadline = pulse.deadline();
        assert_eq!(deadline, start + SILENCE_MAX);
        assert!(
            pulse.is_alive(start + SILENCE_MAX - ms(1)) && !pulse.is_alive(start + SILENCE_MAX)
        );
        pulse.hear(start + ms(10));
        assert_eq!(
            pulse.judge(deadline, deadline),
            Verdict::Wait(start + ms(10) + SILENCE_MAX)
        );
        let deadline = pulse.deadline();
        assert_eq!(pulse.judge(deadline, deadline), Verdict::Silent);
    }

    #[test]
    fn a_node_that_was_stopped_itself_gives_its_peer_another_moment() {
        let start = Instant::now();
        let mut pulse = Pulse::new(start);
        let deadline = pulse.deadline();
        let woken = deadline + ms(10_000);
        assert_eq!(
            pulse.judge(deadline, woken),
            Verdict::Wait(woken + 2 * HEARTBEAT)
        );
        let deadline = pulse.deadline();
        assert_eq!(pulse.judge(deadline, deadline), Verdict::Silent);
    }
}
