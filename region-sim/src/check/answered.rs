//! P6, for those who ask: when the faults are over, requests are answered again, and what counts acknowledgements gets to the end of
//! every log. A time-out is always allowed beside a fault, so nothing else asks that anything is ever answered.

use std::time::Duration;

use crdt::{ActorId, Hlc};
use node::{
    core::{
        op::{Action, Write},
        ship::Destination,
    },
    level::Level,
};

use super::{Violation, holding::Ending};
use crate::workload::{History, Operation, Outcome};

/// How far a destination is with the log that a shard writes now.
#[derive(Debug)]
pub struct LogEnd {
    /// Whose log.
    pub actor: ActorId,
    /// Its newest row.
    pub newest: Hlc,
    /// Where it goes.
    pub destination: Destination,
    /// Up to here the destination has it, as the shard knows: a region with every replica that it has. `None`: it has never begun.
    pub heard: Option<Hlc>,
}

impl LogEnd {
    /// Whether the shard knows that all of its log is where it goes.
    pub fn is_heard(&self) -> bool {
        self.heard >= Some(self.newest)
    }
}

/// Which requests must be answered.
#[derive(Debug)]
pub struct Asked<'a> {
    /// Those asked from then on.
    pub from: Duration,
    /// Replicas of each key in each region: what asks for more is refused.
    pub replicas: usize,
    /// Whether a region may lack rows for good.
    pub may_lack: bool,
    /// What a shard keeps for others, in bytes: a write that is larger is for nobody else.
    pub row_bytes_max: u64,
    /// Whether a replica lacks writes that others have: what asks several may be refused then.
    pub are_short: bool,
    /// Whether so few do in every region that the others have one in common with every majority.
    pub are_whole_enough: bool,
    /// The same for majorities of the replicas of all regions together.
    pub are_whole_enough_together: bool,
    /// When nodes went on under another number: a shard that was far ahead, and idle since, does so when it is first asked.
    pub renewals: &'a [Duration],
}

impl Asked<'_> {
    fn covers(&self, asked: &Operation) -> bool {
        let can_be_met = match asked.op.level {
            Level::Replicas(count) if count.get() == 1 => true,
            Level::Replicas(count) => usize::from(count.get()) <= self.replicas && !self.are_short,
            Level::LocalQuorum => self.are_whole_enough,
            // Marks of whole regions rest where rows were dropped.
            Level::Quorum => !self.may_lack && self.are_whole_enough_together,
            Level::EachQuorum => !self.may_lack && self.are_whole_enough,
            Level::All => !self.may_lack,
        };
        let is_beside_renewal = self.renewals.iter().any(|at| {
            let from = asked.invoked.saturating_sub(GREETING);
            from <= *at && asked.completed.is_none_or(|end| *at <= end + DECLINING)
        });
        asked.invoked >= self.from
            && can_be_met
            && !is_beside_renewal
            && self.row_bytes_max > MEMBER_BYTES * members(&asked.op.action)
    }
}

/// How many elements a write names.
fn members(action: &Action) -> u64 {
    match action {
        Action::Write(Write::Add { members } | Write::Remove { members }) => members.len() as u64,
        Action::Read(_) | Action::Write(_) => 1,
    }
}

/// What is wrong.
pub fn check(history: &History, ending: &Ending<'_>, asked: &Asked<'_>) -> Vec<Violation> {
    let operations = history.operations.iter();
    let late = operations.filter(|operation| asked.covers(operation));
    let late = late.filter(|operation| !stood_in_line(history, operation));
    let mut wrong: Vec<Violation> = late.filter_map(unanswered).collect();
    // Where bounds dropped rows, or a disk was lost, marks rest below what is missing until that is repaired.
    if !ending.may_lack {
        wrong.extend(ending.hosts.iter().flat_map(|host| {
            let ends = host.log_ends.iter();
            ends.filter_map(|end| short_of_its_end(host.index, end))
        }));
    }
    wrong
}

/// Whether others were answered about the same key meanwhile: on a long path those before it may take all the time that a request has.
/// Where nobody is, the line itself stands still.
fn stood_in_line(history: &History, asked: &Operation) -> bool {
    let end = asked.completed.unwrap_or(Duration::MAX);
    let before = history.operations.iter().filter(|other| {
        other.op.key == asked.op.key
            && other.invoked <= asked.invoked
            && (other.client, other.invoked) != (asked.client, asked.invoked)
    });
    let answered = before.filter(|other| {
        matches!(other.outcome, Outcome::Replied(_))
            && other
                .completed
                .is_some_and(|at| asked.invoked < at && at < end)
    });
    answered.count() >= LINE
}

fn unanswered(asked: &Operation) -> Option<Violation> {
    match asked.outcome {
        Outcome::Replied(_) => None,
        Outcome::Pending | Outcome::Refused | Outcome::Unknown => {
            let detail = format!("long after the last fault nobody answers {asked:?}");
            Some(Violation::new("P6", detail).about(&asked.op.key))
        }
    }
}

fn short_of_its_end(host: usize, end: &LogEnd) -> Option<Violation> {
    (!end.is_heard()).then(|| {
        let detail = format!("n{host} waits for words that do not come: {end:?}");
        Violation::new("P6", detail)
    })
}

/// After a renewal every session is made anew, which may take so long.
const GREETING: Duration = Duration::from_secs(3);
/// Before a renewal the others have declined what the node stamped, one after the other, and it refuses what needs them.
const DECLINING: Duration = Duration::from_secs(1);
/// What one takes in a row at most, with its dots.
const MEMBER_BYTES: u64 = 64;
/// So many before it on its key may take all the time that a request has, each a few round trips.
const LINE: usize = 2;
