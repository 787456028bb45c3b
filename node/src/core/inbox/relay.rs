//! How far what was taken has been passed on within the region.
//!
//! ```text
//!   taken from another region       (…, upto]  ─▶ a place in the relay log of each shard concerned
//!   relay log of a shard            places     ─▶ a majority of the replicas has it, every one has it
//! ```
//! What concerns nobody else has no place, and is passed on at once.

use std::collections::VecDeque;

use crdt::{ActorId, Hlc};

use crate::{
    core::identity::{is_relay, shard_of},
    storage::{
        Family, Storage, StorageError,
        record::{meta::Mark, outbox},
    },
};

/// How far a shard is with passing on. `majority` and `every` stop at the first row that was dropped before a replica took it, until
/// that replica is reconciled; `passed` goes on, so that the origin does not keep for ever what nobody will be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RelayMark {
    /// Up to this place of its relay log a majority of the replicas has everything.
    pub majority: Hlc,
    /// Up to this place every replica does.
    pub every: Hlc,
    /// Up to this place a majority of the replicas has everything, or it was dropped.
    pub passed: Hlc,
}

/// The intervals of one origin's stream that are not everywhere yet.
#[derive(Debug, Default)]
pub(super) struct Passing {
    marks: RelayMark,
    /// Not known to be on a majority; not known to be everywhere; not passed on as far as it will be.
    to_majority: VecDeque<Interval>,
    to_every: VecDeque<Interval>,
    to_passed: VecDeque<Interval>,
}

/// A part of the stream up to a stamp, and its places in the relay logs.
#[derive(Debug, Clone)]
struct Interval {
    upto: Hlc,
    places: Vec<(u16, Hlc)>,
}

impl Passing {
    /// After a start: where what was taken before stands in the relay logs is forgotten, and it is surely not behind their ends.
    pub(super) fn resumed(position: Hlc, relayed: &[(u16, Hlc)]) -> Self {
        let mut passing = Self::default();
        passing.push(position, relayed);
        passing
    }

    /// How far the origin's stream is: on a majority of the region's replicas, on every one, passed on as far as it will be.
    pub(super) fn marks(&self) -> RelayMark {
        self.marks
    }

    /// The stream was taken up to `upto`.
    pub(super) fn push(&mut self, upto: Hlc, places: &[(u16, Hlc)]) {
        for queue in self.queues() {
            let interval = Interval {
                upto,
                places: places.to_vec(),
            };
            queue.push_back(interval);
            if queue.len() > INTERVALS_MAX {
                coalesce(queue);
            }
        }
    }

    /// What stood behind `kept` in a shard's relay log stands at `place` now, or before it.
    pub(super) fn relocate(&mut self, shard: u16, kept: Hlc, place: Hlc) {
        let intervals = self.queues().into_iter().flatten();
        relocate(
            intervals.flat_map(|interval| &mut interval.places),
            shard,
            kept,
            place,
        );
    }

    /// Whether the shards' marks move it.
    pub(super) fn advance(&mut self, relays: &[RelayMark]) -> bool {
        let before = self.marks;
        let mark = |shard: &u16| relays.get(usize::from(*shard)).copied().unwrap_or_default();
        let majority = pop_passed(&mut self.to_majority, |shard| mark(shard).majority);
        let every = pop_passed(&mut self.to_every, |shard| mark(shard).every);
        let passed = pop_passed(&mut self.to_passed, |shard| mark(shard).passed);
        self.marks = RelayMark {
            majority: before.majority.max(majority),
            every: before.every.max(every),
            passed: before.passed.max(passed),
        };
        before != self.marks
    }

    fn queues(&mut self) -> [&mut VecDeque<Interval>; 3] {
        [
            &mut self.to_majority,
            &mut self.to_every,
            &mut self.to_passed,
        ]
    }
}

/// Moves places of a shard that lie behind `kept`.
pub(super) fn relocate<'a>(
    places: impl Iterator<Item = &'a mut (u16, Hlc)>,
    shard: u16,
    kept: Hlc,
    to: Hlc,
) {
    for (_, place) in places.filter(|(of, place)| *of == shard && *place > kept) {
        *place = to;
    }
}

/// The end of each relay log, by shard, as storage has it.
pub(super) fn relayed(
    storage: &dyn Storage,
    logs: impl Iterator<Item = ActorId>,
) -> Result<Vec<(u16, Hlc)>, StorageError> {
    let mut ends = Vec::new();
    for log in logs.filter(|log| is_relay(*log)) {
        let mut newest = Mark::Trimmed.load(storage, log)?;
        let (from, to) = outbox::after(log, newest);
        storage.scan(Family::Outbox, &from, to.as_deref(), &mut |stored, _| {
            newest = outbox::last_stamp(stored).unwrap_or(newest);
            std::ops::ControlFlow::Continue(())
        })?;
        if newest > Hlc::ZERO {
            ends.push((shard_of(log), newest));
        }
    }
    Ok(ends)
}

fn pop_passed(queue: &mut VecDeque<Interval>, mark: impl Fn(&u16) -> Hlc) -> Hlc {
    let mut passed = Hlc::ZERO;
    while let Some(done) = queue.pop_front_if(|interval| {
        let mut places = interval.places.iter();
        places.all(|(shard, place)| *place <= mark(shard))
    }) {
        passed = passed.max(done.upto);
    }
    passed
}

/// Joins neighbours: the later end, and of each shard the later place. What is known of them gets coarser, never wrong.
fn coalesce(queue: &mut VecDeque<Interval>) {
    let mut coarser: VecDeque<Interval> = VecDeque::with_capacity(queue.len() / 2 + 1);
    for (index, interval) in std::mem::take(queue).into_iter().enumerate() {
        match coarser.back_mut().filter(|_| index % 2 == 1) {
            Some(before) => before.absorb(interval),
            None => coarser.push_back(interval),
        }
    }
    *queue = coarser;
}

impl Interval {
    fn absorb(&mut self, later: Self) {
        self.upto = self.upto.max(later.upto);
        for (shard, place) in later.places {
            match self.places.iter_mut().find(|(known, _)| *known == shard) {
                Some((_, known)) => *known = place.max(*known),
                None => self.places.push((shard, place)),
            }
        }
    }
}

/// Intervals remembered of one origin.
const INTERVALS_MAX: usize = 1024;
