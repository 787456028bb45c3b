//! What is said of a world that has ended: the oracles, on what its hosts hold and on what its clients were told.

use node::level::Level;

use super::{
    host::Host,
    ledger::Ledger,
    world::{SETTLE_MAX, World},
};
use crate::{
    check::{
        self, Violation,
        holding::{self, Ending, Holder},
    },
    workload::{History, Operation},
};

impl World {
    /// What should not have come about.
    pub(super) fn judge(&mut self) -> Vec<Violation> {
        let hosts = match self.hold_all() {
            Ok(hosts) => hosts,
            Err(violations) => return violations,
        };
        let ending = Ending {
            ledger: &self.desk.ledger,
            hosts,
            settled_after: self.settled_after,
            are_replicas: self.desk.plan.nodes > 1,
            asks_others: self.desk.plan.has_waiting_requests(),
            may_lack: self.may_lack(),
        };
        let promised = self.history.promised(|operation| {
            self.desk.plan.overlaps(operation.op.level) && !self.is_beside_old_copy(operation)
        });
        let mut wrong = check::settled::check(&ending, SETTLE_MAX);
        wrong.extend(self.judge_answers(&ending));
        wrong.extend(self.judge_contents(&promised, &ending));
        if ending.are_replicas {
            // Elsewhere a disk that is replaced takes what was acknowledged with it.
            wrong.extend(self.judge_replies(&promised, &ending));
        }
        if !self.desk.plan.may_lose_data() && !self.desk.plan.is_sloppy {
            let kept = self.desk.plan.kept();
            wrong.extend(check::levels::check_meetings(
                &self.history,
                &self.desk.ledger,
                &kept,
            ));
        }
        wrong
    }

    /// What every host holds; or what is wrong with what one of them has.
    fn hold_all(&mut self) -> Result<Vec<Holder>, Vec<Violation>> {
        let mut wrong = Vec::new();
        let mut holders = Vec::new();
        for host in &mut self.hosts {
            let wall_ms = host.clock.wall_ms(self.desk.now);
            let reference = &mut self.desk.reference;
            let differs = reference.verify(host.index, &*host.storage, wall_ms, |_| true);
            let differs = differs.into_iter();
            wrong.extend(differs.map(|detail| Violation::new("P1", detail)));
            match hold(host, &self.desk.ledger) {
                Ok(holder) => holders.push(holder),
                Err(violation) => wrong.push(violation),
            }
        }
        if wrong.is_empty() {
            Ok(holders)
        } else {
            Err(wrong)
        }
    }

    /// Whether what was asked long after the last fault was answered.
    fn judge_answers(&self, ending: &Ending<'_>) -> Vec<Violation> {
        let Some(late) = self.late_at else {
            return Vec::new();
        };
        let replicas = self.desk.plan.replicas;
        let asked = check::answered::Asked {
            from: late,
            replicas,
            renewals: &self.desk.renewals,
            may_lack: ending.may_lack,
            row_bytes_max: self.desk.plan.outbox_bytes,
            are_short: ending.hosts.iter().any(|host| host.is_short),
            are_whole_enough: ending.are_whole_enough(replicas),
            are_whole_enough_together: ending.are_whole_enough_together(replicas),
        };
        check::answered::check(&self.history, ending, &asked)
    }

    /// What is there in the end.
    fn judge_contents(&self, promised: &History, ending: &Ending<'_>) -> Vec<Violation> {
        // Where bounds dropped what a replica has not taken, and that is said, it lacks it until it is reconciled.
        let says_so = |host: &Holder| !host.repairs.is_empty() || host.is_short;
        let lacks = ending.hosts.iter().any(says_so);
        if ending.are_replicas && ending.may_lack && lacks {
            return Vec::new();
        }
        let mut wrong = check::converged::check(ending);
        wrong.extend(check::durable::check(promised, ending));
        wrong.extend(check::counters::check(promised, ending));
        wrong.extend(check::sets::check(promised, ending));
        if ending.are_replicas {
            wrong.extend(check::order::check(&self.history, ending));
        }
        wrong
    }

    /// What clients were told.
    fn judge_replies(&self, promised: &History, ending: &Ending<'_>) -> Vec<Violation> {
        let is_timely = !self.desk.plan.has_wild_clocks();
        let mut wrong = check::fresh::check(promised);
        wrong.extend(check::linear::check(promised));
        wrong.extend(check::own::check(promised, ending));
        wrong.extend(check::turning::check(promised));
        wrong.extend(check::single::check(promised));
        wrong.extend(check::fading::check(promised, is_timely));
        wrong
    }

    /// Whether a host that was asked, or that answered, may have been an old copy that nobody had noticed: its region counts it as whole,
    /// though what it acknowledged is gone there.
    fn is_beside_old_copy(&self, operation: &Operation) -> bool {
        let is_local = matches!(operation.op.level, Level::Replicas(_) | Level::LocalQuorum);
        let (begun, ended) = (operation.invoked, operation.completed);
        self.desk.old_copies.iter().any(|copy| {
            let is_asked = !is_local || copy.host / self.desk.plan.nodes == operation.region;
            let is_beside = copy.until.is_none_or(|until| begun <= until)
                && ended.is_none_or(|ended| ended >= copy.from);
            is_asked && is_beside
        })
    }
}

fn hold(host: &Host, ledger: &Ledger) -> Result<Holder, Violation> {
    let Some(process) = &host.process else {
        return Err(Violation::new(
            "P6",
            format!("n{} does not run", host.index),
        ));
    };
    let mut actors: Vec<_> = ledger.rows().iter().map(|row| row.actor).collect();
    actors.dedup();
    let positions = process
        .inbox
        .held(&actors)
        .into_iter()
        .map(|held| (held.actor, held.taken))
        .collect();
    let mut tally = node::core::tally::Tally::default();
    for worker in &process.workers {
        let total = worker.shard.tallies().total();
        tally.keys += total.keys;
        tally.digest = tally.digest.wrapping_add(total.digest);
    }
    Ok(Holder {
        index: host.index,
        home: host.home(),
        keys: holding::keys(&*host.storage)?,
        positions,
        tally,
        recounted: holding::recount(&*host.storage, process.identity.shards.get())?,
        has_lost: ledger
            .rows()
            .iter()
            .any(|row| row.origin == host.index && (row.is_lost || row.is_doubtful)),
        waiting: host.waiting(),
        repairs: host.repairs(),
        is_short: host.is_short(),
        log_ends: host.log_ends(ledger),
    })
}
