//! The shards of a process: inputs in, outputs carried out, one commit at a time.

use std::time::Duration;

use crdt::Hlc;
use node::{
    core::{Event as CoreEvent, Input, Output, ship::ShipEvent},
    placement::Position,
    storage::{Batch, Durability, Storage},
};

use super::{
    FULL, Host, Phase, QUEUE_MAX, Queued, RETRY, SAVE_INTERVAL, TICK, Worker, requests::failed,
};
use crate::{
    check::Violation,
    sim::{agenda::Due, desk::Desk},
    workload::Family,
};

impl Host {
    /// Puts an input in the queue of a shard.
    pub(super) fn tell(&mut self, shard: usize, input: Input, desk: &mut Desk) {
        let Some(process) = &mut self.process else {
            return;
        };
        let worker = &mut process.workers[shard];
        if matches!(worker.phase, Phase::Over) {
            if let Input::Remote { ticket, .. } = input {
                self.refuse(shard, ticket, desk);
            }
            return;
        }
        worker.queue.push_back(Queued::Input(input));
        self.schedule(shard, desk);
    }

    /// Puts an input in every shard's queue.
    pub fn tell_all(&mut self, input: impl Fn() -> Input, desk: &mut Desk) {
        let shards = self
            .process
            .as_ref()
            .map_or(0, |process| process.workers.len());
        for shard in 0..shards {
            self.tell(shard, input(), desk);
        }
    }

    /// Something is due in the process.
    pub fn due(&mut self, due: Due, desk: &mut Desk) {
        match due {
            Due::Work(shard) => self.work(shard, desk),
            Due::Write(shard) => self.write(shard, desk),
            Due::Told(shard) => self.told(shard, desk),
            Due::Tick => {
                self.tell_all(|| Input::Tick, desk);
                self.due_in(desk, TICK, Due::Tick);
            }
            Due::Save => self.save(desk),
            Due::Saved => self.saved(desk),
            Due::Sync => self.sync(desk),
            Due::Dial(peer) => self.dial(peer, desk),
            Due::DialTimeout(dial) => self.dial_timeout(dial, desk),
            Due::Down(session) => self.session_down(session, desk),
            Due::Errand(errand) => self.wake_errand(errand, desk),
            Due::Reopen => self.reopen(desk),
            Due::Gossip => self.wake_gossip(desk),
        }
    }

    /// A shard that was idle gets to work in a moment.
    pub(super) fn schedule(&mut self, shard: usize, desk: &mut Desk) {
        let Some(process) = &mut self.process else {
            return;
        };
        let worker = &mut process.workers[shard];
        if matches!(worker.phase, Phase::Idle) && !worker.queue.is_empty() {
            worker.phase = Phase::Scheduled;
            let pause = Duration::from_micros(desk.dice.between(5, 500));
            self.due_in(desk, pause, Due::Work(shard));
        }
    }

    /// Handles what is queued, up to a batch's worth, and ends the batch.
    fn work(&mut self, shard: usize, desk: &mut Desk) {
        let now = self.time(desk.now);
        let mut out = Vec::new();
        let Some(process) = &mut self.process else {
            return;
        };
        let worker = &mut process.workers[shard];
        if matches!(worker.phase, Phase::Committing { .. } | Phase::Over) {
            return;
        }
        for handled in 0..self.plan.batch_inputs {
            // A batch is of one actor.
            let begins_anew = matches!(
                worker.queue.front(),
                Some(Queued::Input(Input::Renew { .. }))
            );
            if begins_anew && handled > 0 {
                break;
            }
            let Some(queued) = worker.queue.pop_front() else {
                break;
            };
            let input = worker.take_up(queued, now.wall_ms);
            worker.shard.handle(&*self.storage, input, now, &mut out);
        }
        worker
            .shard
            .handle(&*self.storage, Input::Close, now, &mut out);
        worker.phase = Phase::Idle;
        self.carry_out(shard, out, desk);
        self.schedule(shard, desk);
    }

    /// The storage takes the batch of a shard.
    fn write(&mut self, shard: usize, desk: &mut Desk) {
        let Some(mut process) = self.process.take() else {
            return;
        };
        if let Phase::Committing {
            batch,
            written: written @ None,
        } = &mut process.workers[shard].phase
        {
            *written = Some(self.commit(batch, self.durability(), desk));
        }
        self.process = Some(process);
    }

    /// The shard learns what became of its batch.
    fn told(&mut self, shard: usize, desk: &mut Desk) {
        // A host that stands still for longer than it was to may have the two change places.
        self.write(shard, desk);
        let now = self.time(desk.now);
        let mut out = Vec::new();
        let Some(process) = &mut self.process else {
            return;
        };
        let worker = &mut process.workers[shard];
        let Phase::Committing { written, .. } = std::mem::replace(&mut worker.phase, Phase::Idle)
        else {
            return;
        };
        let failure = match written {
            Some(Ok(())) => None,
            Some(Err(error)) => Some(error.to_string()),
            None => unreachable!("the storage is asked before the shard is told"),
        };
        let has_failed = failure.is_some();
        let input = failure.map_or(Input::Committed, Input::CommitFailed);
        worker.shard.handle(&*self.storage, input, now, &mut out);
        if has_failed {
            worker.phase = Phase::Over;
        }
        self.carry_out(shard, out, desk);
        if has_failed {
            self.refuse_queued(shard, desk);
            self.fail(desk);
        }
        self.schedule(shard, desk);
    }

    /// The storage failed: nothing is written until it is opened again.
    fn fail(&mut self, desk: &mut Desk) {
        let Some(process) = &mut self.process else {
            return;
        };
        if std::mem::replace(&mut process.is_failed, true) {
            return;
        }
        desk.trace
            .line(desk.now, || format!("n{} storage failed", self.index));
        for worker in &mut process.workers {
            let reason = "the storage failed".to_owned();
            worker
                .queue
                .push_front(Queued::Input(Input::ReadOnly(Some(reason))));
        }
        for shard in 0..process.workers.len() {
            self.schedule(shard, desk);
        }
        self.due_in(desk, RETRY, Due::Reopen);
    }

    /// A shard is over: what waits for it is refused.
    fn refuse_queued(&mut self, shard: usize, desk: &mut Desk) {
        let queue = self
            .process
            .as_mut()
            .map(|process| std::mem::take(&mut process.workers[shard].queue));
        for queued in queue.into_iter().flatten() {
            match queued {
                Queued::Asked(asked) => self.give(asked.id, failed(), desk),
                Queued::Input(Input::Remote { ticket, .. }) => {
                    self.refuse(shard, ticket, desk);
                }
                Queued::Input(_) => {}
            }
        }
    }

    /// Opens a failed storage again, and on it every shard whose commit failed: whether that is there is only known now.
    fn reopen(&mut self, desk: &mut Desk) {
        if self.storage.reopen().is_err() {
            self.due_in(desk, RETRY, Due::Reopen);
            return;
        }
        // RocksDB tries itself with a synced write: what turned up is durable before anybody acts on it.
        if self
            .commit(&Batch::default(), Durability::Power, desk)
            .is_err()
        {
            self.due_in(desk, RETRY, Due::Reopen);
            return;
        }
        let is_copy = self.unconfirmed.is_some();
        desk.ledger
            .found(self.index, &*self.storage, is_copy, desk.now);
        desk.trace
            .line(desk.now, || format!("n{} storage is back", self.index));
        let shards = self
            .process
            .as_ref()
            .map_or(0, |process| process.workers.len());
        for shard in 0..shards {
            self.reopen_shard(shard, desk);
        }
        if let Some(process) = &mut self.process {
            process.is_failed = false;
        }
        let reason = (self.full > 0).then(|| FULL.to_owned());
        self.tell_all(|| Input::ReadOnly(reason.clone()), desk);
    }

    /// What is stored of a shard is what was committed.
    fn verify_shard(&self, shard: usize, shards: u16, desk: &mut Desk) {
        let wall_ms = self.clock.wall_ms(desk.now);
        let is_of_shard = |key: &node::core::op::Key| {
            usize::from(Position::of(key).partition.shard(shards)) == shard
        };
        let reference = &mut desk.reference;
        let wrong = reference.verify(self.index, &*self.storage, wall_ms, is_of_shard);
        let wrong = wrong.into_iter();
        desk.violations
            .extend(wrong.map(|detail| Violation::new("P1", detail)));
    }

    fn reopen_shard(&mut self, shard: usize, desk: &mut Desk) {
        let Some(process) = &mut self.process else {
            return;
        };
        if !matches!(process.workers[shard].phase, Phase::Over) {
            return;
        }
        let (identity, sessions) = (process.identity.clone(), process.sessions.clone());
        self.verify_shard(shard, identity.shards.get(), desk);
        let opened = self.open_shard(&identity, shard as u16, false, desk);
        let Ok(worker) = opened else {
            desk.violations.push(Violation::new(
                "core",
                format!(
                    "n{} cannot open a shard on a storage that works",
                    self.index
                ),
            ));
            return;
        };
        if let Some(process) = &mut self.process {
            process.workers[shard] = worker;
        }
        if let Some(trusted) = self.trusted() {
            self.tell(shard, Input::Trusted(trusted), desk);
        }
        if let Some(shortage) = self
            .process
            .as_ref()
            .map(|process| process.inbox.shortage())
        {
            self.tell(shard, Input::Short(shortage), desk);
        }
        for met in sessions.into_values() {
            self.tell(shard, Input::SessionUp(met), desk);
        }
    }

    fn carry_out(&mut self, shard: usize, out: Vec<Output>, desk: &mut Desk) {
        let mut renews = false;
        for output in out {
            match output {
                Output::Reply { id, reply } => self.reply(shard, id, reply, desk),
                Output::Read { id, read } => {
                    self.reply(shard, id, read.answer(&|| true), desk);
                }
                Output::Applied { ticket, done } => self.applied(shard, ticket, done, desk),
                Output::Relayed(mark) => self.relayed(shard, mark, desk),
                Output::Relocated { kept, place } => {
                    if let Some(process) = &mut self.process {
                        process.inbox.relocated(shard as u16, kept, place);
                    }
                }
                Output::Commit(batch) => self.begin_commit(shard, batch, desk),
                Output::Send { session, message } => self.send(shard, session, message, desk),
                Output::Renew => renews = true,
                Output::Report(event) => self.report(event, desk),
            }
        }
        if renews {
            self.renew(Hlc::ZERO, true, desk);
        }
    }

    fn begin_commit(&mut self, shard: usize, batch: Batch, desk: &mut Desk) {
        let mut duration = Duration::from_micros(desk.dice.between(20, 2000));
        if desk.dice.chance(desk.plan.slow_commits) || self.slow > 0 {
            duration *= 50;
        }
        let until_written = duration * desk.dice.below(1000) as u32 / 1000;
        if let Some(process) = &mut self.process {
            process.workers[shard].phase = Phase::Committing {
                batch,
                written: None,
            };
        }
        self.due_in(desk, until_written, Due::Write(shard));
        self.due_in(desk, duration, Due::Told(shard));
    }

    fn report(&mut self, event: CoreEvent, desk: &mut Desk) {
        desk.coverage.event(&event);
        desk.trace
            .line(desk.now, || format!("n{} reports {event:?}", self.index));
        match event {
            CoreEvent::Ship(ShipEvent::Dropped {
                destination, rows, ..
            }) => {
                // Only bounds drop rows; what a region lost is another matter.
                if rows > 0 && !desk.plan.has_tight_outbox() {
                    desk.violations.push(Violation::new(
                        "P1",
                        format!("n{} dropped {rows} rows for {destination}", self.index),
                    ));
                }
            }
            CoreEvent::Ship(ShipEvent::Replaced { .. } | ShipEvent::Declined { .. })
            | CoreEvent::Conflict { .. }
            | CoreEvent::Repaired { .. }
            | CoreEvent::Replayed { .. } => {}
            CoreEvent::Damaged(error) => desk.violations.push(Violation::new(
                "core",
                format!("n{} found damage: {error}", self.index),
            )),
        }
    }

    fn sync(&mut self, desk: &mut Desk) {
        match self.storage.sync() {
            Ok(()) => desk.ledger.synced(self.index),
            Err(_) => self.fail(desk),
        }
        self.due_in(desk, self.plan.sync_interval, Due::Sync);
    }

    fn save(&mut self, desk: &mut Desk) {
        let Some(process) = &mut self.process else {
            return;
        };
        process.saving = Some(process.inbox.unsaved());
        let pause = Duration::from_micros(desk.dice.between(20, 5000));
        self.due_in(desk, pause, Due::Saved);
        self.due_in(desk, SAVE_INTERVAL, Due::Save);
    }

    /// What the inbox knows is committed, and with it everything before: it may speak of nothing that power loss would take.
    fn saved(&mut self, desk: &mut Desk) {
        let Some(batch) = self
            .process
            .as_mut()
            .and_then(|process| process.saving.take())
        else {
            return;
        };
        match self.commit(&batch, Durability::Power, desk) {
            Ok(()) => {
                if let Some(process) = &mut self.process {
                    process.inbox.saved();
                }
            }
            Err(_) => self.fail(desk),
        }
    }

    /// What a shard that died had begun. If its batch was written, those who asked will never know, but it is there.
    pub(super) fn bury(&self, worker: Worker, desk: &mut Desk) {
        let is_written = match &worker.phase {
            Phase::Committing { written, .. } => matches!(written, Some(Ok(()))),
            Phase::Idle | Phase::Scheduled | Phase::Over => false,
        };
        let is_in_doubt = match &worker.phase {
            Phase::Committing { written, .. } => matches!(written, Some(Err(_))),
            Phase::Idle | Phase::Scheduled | Phase::Over => false,
        };
        if !is_written && !is_in_doubt {
            return;
        }
        for asked in &worker.handled {
            if Family::of(&asked.op.key) == Family::Local {
                desk.reference
                    .in_doubt(self.index, &asked.op, asked.wall_ms);
            }
        }
    }

    /// Does everything that is queued, at once, and a last batch. Gives whether all of it is durable.
    pub(super) fn finish(&mut self, desk: &mut Desk) -> bool {
        let shards = self
            .process
            .as_ref()
            .map_or(0, |process| process.workers.len());
        for shard in 0..shards {
            for _ in 0..QUEUE_MAX {
                self.settle(shard, desk);
                let is_idle = self
                    .process
                    .as_ref()
                    .is_some_and(|process| process.workers[shard].queue.is_empty());
                if is_idle {
                    break;
                }
                self.work(shard, desk);
            }
            self.settle(shard, desk);
            self.stop_shard(shard, desk);
            self.settle(shard, desk);
        }
        let Some(process) = &mut self.process else {
            return false;
        };
        if process.is_failed
            || process
                .workers
                .iter()
                .any(|worker| !matches!(worker.phase, Phase::Idle))
        {
            return false;
        }
        let mut batch = process.inbox.unsaved();
        process.identity.closed_cleanly().put(&mut batch);
        self.commit(&batch, Durability::Power, desk).is_ok()
    }

    fn stop_shard(&mut self, shard: usize, desk: &mut Desk) {
        let now = self.time(desk.now);
        let mut out = Vec::new();
        if let Some(process) = &mut self.process
            && matches!(process.workers[shard].phase, Phase::Idle)
        {
            process.workers[shard]
                .shard
                .handle(&*self.storage, Input::Stop, now, &mut out);
        }
        self.carry_out(shard, out, desk);
    }

    /// Waits for the commit that a shard has begun.
    fn settle(&mut self, shard: usize, desk: &mut Desk) {
        let phase = self
            .process
            .as_ref()
            .map(|process| &process.workers[shard].phase);
        let is_written = match phase {
            Some(Phase::Committing { written, .. }) => written.is_some(),
            Some(Phase::Idle | Phase::Scheduled | Phase::Over) | None => return,
        };
        if !is_written {
            self.write(shard, desk);
        }
        self.told(shard, desk);
    }
}

impl Worker {
    /// Whether every request was answered.
    pub fn has_answered(&self) -> bool {
        self.handled.is_empty()
            && !self
                .queue
                .iter()
                .any(|queued| matches!(queued, Queued::Asked(_)))
    }

    fn take_up(&mut self, queued: Queued, wall_ms: u64) -> Input {
        match queued {
            Queued::Input(input) => input,
            Queued::Asked(asked) => {
                let input = Input::Request {
                    id: asked.id,
                    op: asked.op.clone(),
                };
                self.handled.push_back(super::Asked { wall_ms, ..asked });
                input
            }
        }
    }
}
