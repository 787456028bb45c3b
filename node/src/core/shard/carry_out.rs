//! Requests that are carried out on this replica.

use super::Shard;
use crate::{
    core::{
        Now,
        budget::Budget,
        coordinate::{Effect, Overwrites, Stop},
        lesson::Lesson,
        mutant::{Mutant, is_on},
        op::{Action, Op, Write},
        pending_writes::PendingWrite,
        quorum_read::Waiting,
        reply::{Refusal, Reply},
        view::Uncommitted,
    },
    placement::Partition,
    storage::Storage,
};

impl Shard {
    /// Does what is asked, on the copy that is here.
    pub(super) fn carry_out(&mut self, storage: &dyn Storage, waiting: Waiting, now: Now) {
        let Waiting { id, op, deadline } = waiting;
        let budget = Budget::of(&op);
        let write = match &op.action {
            Action::Read(action) => {
                // Of a key that seems to have ended: nobody is left to be asked.
                if matches!(self.end_if_ended(storage, id, None, now), Ok(true)) {
                    return;
                }
                let view = Uncommitted {
                    storage,
                    pending: &self.pending,
                };
                let reads = std::iter::once(action);
                let answers = self.views.answers(&view, &op.key, reads, now.wall_ms);
                return answers
                    .into_iter()
                    .for_each(|answer| self.answer(id, answer));
            }
            Action::Write(write) => write,
        };
        let after = self.clock.last();
        match self.write(storage, &op, write, now) {
            Ok((reply, None)) => self.reply(id, reply),
            Ok((
                reply,
                Some(Awaited {
                    effects,
                    overwrites,
                }),
            )) => {
                let awaiting = PendingWrite {
                    number: self.pending_writes.enter(&op.key, &effects, overwrites),
                    id,
                    partition: Partition::of(&op.key),
                    key: op.key,
                    after,
                    level: op.level,
                    budget,
                    effects,
                    reply,
                    deadline,
                    lesson: Some(Lesson::default()),
                    without: Vec::new(),
                };
                self.await_others(awaiting);
            }
            Err(Stop::Refused(refusal)) => self.reply(id, refusal.into()),
            Err(Stop::Storage(error)) => {
                self.reply(id, Refusal::Unavailable(error.to_string()).into())
            }
        }
    }

    /// Carries out a write. Gives what it came to where others are to have it before it is answered.
    fn write(
        &mut self,
        storage: &dyn Storage,
        op: &Op,
        write: &Write,
        now: Now,
    ) -> Result<(Reply, Option<Awaited>), Stop> {
        if let Some(refusal) = self.refuses_writes() {
            return Err(refusal.into());
        }
        let level_check = self.level_check(now);
        let is_asking = level_check.asks_others(op.level);
        if is_asking {
            level_check.admits_write(op.level, Partition::of(&op.key))?;
        }
        let is_beginning = is_asking && self.pending_writes.is_begun(&op.key);
        let is_behind_statement = is_asking && self.pending_writes.is_stated(&op.key);
        let mut coordinator = self.coordinator(storage, now, is_asking);
        coordinator.is_beginning = is_beginning;
        coordinator.is_behind_statement = is_behind_statement;
        let reply = coordinator.write(&op.key, write)?;
        let effects = std::mem::take(&mut coordinator.effects);
        let overwrites = coordinator.overwrites;
        // What made no delta waits for nobody: there is no row that others could answer for.
        let is_shipped = coordinator.is_queued && !effects.is_empty();
        if is_asking && is_shipped && !is_on(Mutant::WriteQuorumShort) {
            let awaited = Awaited {
                effects,
                overwrites,
            };
            return Ok((reply, Some(awaited)));
        }
        self.pending_writes.pass_by(&op.key, overwrites);
        Ok((reply, None))
    }
}

/// A write that others are to have before it is answered.
struct Awaited {
    effects: Vec<Effect>,
    overwrites: Overwrites,
}
