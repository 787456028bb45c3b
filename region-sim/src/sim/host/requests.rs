//! Requests of clients and of other hosts, and what they are told.

use node::{
    core::{
        RequestId,
        op::{Action, Op},
        read,
        reply::{Refusal, Reply},
        view::Committed,
    },
    placement::Position,
    storage::Storage,
};

use super::{Asked, Host, Phase, QUEUE_MAX, Queued};
use crate::{
    check::Violation,
    sim::desk::Desk,
    workload::{Family, OperationId},
};

impl Host {
    /// A client's operation arrives. Gives whether there is a process to take it.
    pub fn ask(&mut self, id: OperationId, op: Op, is_behind: bool, desk: &mut Desk) -> bool {
        if self.process.is_none() {
            return false;
        }
        let asked = Asked {
            id: RequestId(id as u64),
            op,
            wall_ms: self.clock.wall_ms(desk.now),
            is_behind,
        };
        self.route(asked, desk);
        true
    }

    /// A request on a key that is here.
    pub(super) fn take_in(&mut self, asked: Asked, desk: &mut Desk) {
        let Some(process) = &mut self.process else {
            return;
        };
        let shard = usize::from(
            Position::of(&asked.op.key)
                .partition
                .shard(process.identity.shards.get()),
        );
        let worker = &mut process.workers[shard];
        let is_over = matches!(worker.phase, Phase::Over);
        let is_half_written = matches!(
            worker.phase,
            Phase::Committing {
                written: Some(_),
                ..
            }
        );
        let is_read = matches!(asked.op.action, Action::Read(_));
        let is_beside = desk.dice.chance(desk.plan.direct_reads) || is_over;
        // Where other replicas are asked, only a shard can.
        let asks_nobody = !desk.plan.asks_others(asked.op.level);
        // Reads behind a write of their connection go where that goes.
        let may_overtake = !asked.is_behind || is_over;
        if is_read && !is_half_written && is_beside && asks_nobody && may_overtake {
            let reply = read_committed(&*self.storage, &asked);
            return self.answer(&asked, reply, desk);
        }
        if is_over {
            return self.give(asked.id, failed(), desk);
        }
        if worker.queue.len() >= QUEUE_MAX {
            let busy = Refusal::Busy("queue full".to_owned());
            return self.give(asked.id, busy.into(), desk);
        }
        worker.queue.push_back(Queued::Asked(asked));
        self.schedule(shard, desk);
    }

    /// A shard replies.
    pub(super) fn reply(&mut self, shard: usize, id: RequestId, reply: Reply, desk: &mut Desk) {
        // What asks others, also whether a key has ended, and what waits behind that.
        let may_overtake = desk.plan.has_waiting_requests() || desk.plan.nodes > 1;
        let asked = self.process.as_mut().and_then(|process| {
            let handled = &mut process.workers[shard].handled;
            let at = handled.iter().position(|asked| asked.id == id)?;
            // What waits for other replicas is overtaken by what does not.
            (at == 0 || may_overtake).then(|| handled.remove(at))?
        });
        match asked {
            Some(asked) => self.answer(&asked, reply, desk),
            _ => desk.violations.push(Violation::new(
                "core",
                format!("n{} replies out of order to {id:?}", self.index),
            )),
        }
    }

    fn answer(&mut self, asked: &Asked, reply: Reply, desk: &mut Desk) {
        desk.trace.about(&asked.op.key, desk.now, || {
            format!(
                "n{} answers #{} {:?} {:?} -> {reply:?}",
                self.index, asked.id.0, asked.op.key, asked.op.action
            )
        });
        if Family::of(&asked.op.key) == Family::Local {
            let wrong = desk
                .reference
                .replied(self.index, &asked.op, asked.wall_ms, &reply);
            desk.violations.extend(wrong.map(|detail| {
                Violation::new("P1", format!("n{} #{}: {detail}", self.index, asked.id.0))
            }));
        }
        self.give(asked.id, reply, desk);
    }

    /// A reply goes to the client, or to the host that handed on its request.
    pub(super) fn give(&mut self, id: RequestId, reply: Reply, desk: &mut Desk) {
        if is_errand(id) {
            self.give_back(id, reply, desk);
        } else {
            desk.replies.push((id, reply));
        }
    }
}

/// Whether a request came from another host.
fn is_errand(id: RequestId) -> bool {
    id.0 >= ERRANDS
}

fn read_committed(storage: &dyn Storage, asked: &Asked) -> Reply {
    let Action::Read(action) = &asked.op.action else {
        unreachable!("only reads are answered beside the shard");
    };
    read::read(&Committed(storage), &asked.op.key, action, asked.wall_ms)
        .unwrap_or_else(|error| Refusal::Unavailable(error.to_string()).into())
}

/// What is said where a storage failed.
pub(super) fn failed() -> Reply {
    Refusal::ReadOnly("the storage failed".to_owned()).into()
}

/// Requests from here on are of other hosts, those below of clients.
pub(super) const ERRANDS: u64 = 1 << 32;
