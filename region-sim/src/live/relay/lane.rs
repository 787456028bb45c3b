//! One direction between two nodes: the link that judges its datagrams, shared by every relay socket
//! that carries them, and the tally of what became of them.

use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};
use serde::{Deserialize, Serialize};

use crate::link::{Cause, Link, Settings, Verdict};

/// A directed link in real time. Settings may change at any moment and hold from the next datagram on.
#[derive(Debug)]
pub struct Lane {
    gate: Mutex<Gate>,
    origin: Instant,
    waiting_bytes: AtomicUsize,
    counters: Counters,
}

#[derive(Debug)]
struct Gate {
    link: Link,
    rng: ChaCha8Rng,
}

impl Lane {
    /// A lane that is not cut. Equal seeds draw equal losses and jitter.
    pub fn new(settings: Settings, seed: u64) -> Self {
        let gate = Gate {
            link: Link::new(settings),
            rng: ChaCha8Rng::seed_from_u64(seed),
        };
        Self {
            gate: Mutex::new(gate),
            origin: Instant::now(),
            waiting_bytes: AtomicUsize::new(0),
            counters: Counters::default(),
        }
    }

    /// The settings in force.
    pub fn settings(&self) -> Settings {
        self.gate().link.settings()
    }

    /// Changes the settings. A cut stays a cut.
    pub fn set(&self, settings: Settings) {
        self.gate().link.set(settings);
    }

    /// Cuts the lane or mends it. What is on its way when it is cut is lost.
    pub fn set_cut(&self, cut: bool) {
        self.gate().link.set_cut(cut);
    }

    /// Whether the lane is cut.
    pub fn is_cut(&self) -> bool {
        self.gate().link.is_cut()
    }

    /// What became of the datagrams so far.
    pub fn tally(&self) -> Tally {
        self.counters.read()
    }

    /// Judges the datagrams of one batch, all but the last `stride` bytes long, and appends runs of
    /// neighbours that arrive together.
    pub(super) fn judge(
        &self,
        now: Instant,
        batch_bytes: usize,
        stride: usize,
        runs: &mut Vec<Run>,
    ) {
        let since = now.saturating_duration_since(self.origin);
        let mut gate = self.gate();
        let Gate { link, rng } = &mut *gate;
        for start in (0..batch_bytes).step_by(stride.max(1)) {
            let end = batch_bytes.min(start + stride);
            match link.judge(since, end - start, rng) {
                Verdict::Drop(cause) => self.counters.of(cause).add(1),
                Verdict::Pass => Run::extend(runs, start, end, Duration::ZERO),
                Verdict::Delay(delay) => Run::extend(runs, start, end, delay),
            }
        }
    }

    /// Takes room for `bytes` that have to wait; `false` if there is none.
    pub(super) fn reserve(&self, bytes: usize) -> bool {
        let taken = self.waiting_bytes.fetch_add(bytes, Ordering::Relaxed);
        if taken + bytes > WAITING_BYTES_MAX {
            self.release(bytes);
            return false;
        }
        true
    }

    /// Gives room back.
    pub(super) fn release(&self, bytes: usize) {
        self.waiting_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Bytes on their way.
    #[cfg(test)]
    pub(super) fn waiting(&self) -> usize {
        self.waiting_bytes.load(Ordering::Relaxed)
    }

    pub(super) fn counters(&self) -> &Counters {
        &self.counters
    }

    fn gate(&self) -> MutexGuard<'_, Gate> {
        // Nothing in here can leave the link half changed.
        self.gate.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Neighbouring datagrams of a batch that arrive together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Run {
    pub start: usize,
    pub end: usize,
    pub delay: Duration,
}

impl Run {
    fn extend(runs: &mut Vec<Self>, start: usize, end: usize, delay: Duration) {
        match runs.last_mut() {
            Some(run) if run.end == start && run.delay == delay => run.end = end,
            _ => runs.push(Self { start, end, delay }),
        }
    }
}

/// What became of datagrams, by number.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// Arrived.
    pub passed: u64,
    /// Lost by the loss setting.
    pub lost: u64,
    /// Lost by a partition.
    pub cut: u64,
    /// Dropped because more came than the rate lets through, or than the delay line holds.
    pub queue_full: u64,
    /// Not sent on: the target is down, or there were more flows than a relay keeps.
    pub unsent: u64,
}

impl std::ops::Add for Tally {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            passed: self.passed + other.passed,
            lost: self.lost + other.lost,
            cut: self.cut + other.cut,
            queue_full: self.queue_full + other.queue_full,
            unsent: self.unsent + other.unsent,
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Counters {
    pub passed: Counter,
    pub lost: Counter,
    pub cut: Counter,
    pub queue_full: Counter,
    pub unsent: Counter,
}

impl Counters {
    fn of(&self, cause: Cause) -> &Counter {
        match cause {
            Cause::Cut => &self.cut,
            Cause::Lost => &self.lost,
            Cause::QueueFull => &self.queue_full,
        }
    }

    fn read(&self) -> Tally {
        Tally {
            passed: self.passed.read(),
            lost: self.lost.read(),
            cut: self.cut.read(),
            queue_full: self.queue_full.read(),
            unsent: self.unsent.read(),
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Counter(AtomicU64);

impl Counter {
    /// Counts so many more.
    pub fn add(&self, n: usize) {
        self.0.fetch_add(n as u64, Ordering::Relaxed);
    }

    fn read(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Bytes of one direction that may be on their way. 64 MiB are 300 ms at 200 MB/s; more would only
/// let a link with a long delay eat the machine's memory.
const WAITING_BYTES_MAX: usize = 64 * 1024 * 1024;
