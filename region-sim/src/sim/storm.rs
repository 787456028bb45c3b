//! Faults on their way: when each kind strikes next, and which ones last at the moment.

use std::time::Duration;

use super::{
    agenda::Event,
    desk::Desk,
    dice::Dice,
    fault::{Fault, FaultKind},
    host::{Death, FULL},
    plan::OFFSET_MAX_MS,
    world::World,
};
use node::{core::Input, storage::memory::CommitOutcome};

/// The faults of a world.
#[derive(Debug)]
pub struct Storm {
    dice: Dice,
    lasting: Vec<Fault>,
}

impl Storm {
    /// None yet.
    pub fn new(dice: Dice) -> Self {
        Self {
            dice,
            lasting: Vec::new(),
        }
    }

    /// Puts down when each kind strikes first.
    pub fn begin(&mut self, desk: &mut Desk) {
        for kind in 0..desk.plan.faults.len() {
            self.again(kind, desk);
        }
    }

    /// A fault is over; gives whether it lasted until now.
    pub fn ends(&mut self, fault: Fault) -> bool {
        let lasting = self.lasting.iter().position(|other| *other == fault);
        lasting.map(|at| self.lasting.remove(at)).is_some()
    }

    fn again(&mut self, kind: usize, desk: &mut Desk) {
        let mean_us = desk.plan.faults[kind].1.as_micros() as u64;
        let pause = Duration::from_micros(self.dice.between(mean_us / 2, mean_us * 3 / 2));
        desk.agenda.at(desk.now + pause, Event::Strike(kind));
    }

    /// A fault lasts for a while.
    fn last(&mut self, fault: Fault, most: Duration, desk: &mut Desk) {
        self.lasting.push(fault);
        let length = Duration::from_micros(self.dice.between(1000, most.as_micros() as u64));
        desk.agenda.at(desk.now + length, Event::Mend(fault));
    }
}

impl World {
    /// A fault of a kind strikes somewhere.
    pub(super) fn strike(&mut self, kind: usize) {
        self.storm.again(kind, &mut self.desk);
        let kind = self.desk.plan.faults[kind].0;
        let hosts = self.hosts.len() as u64;
        let host = self.storm.dice.below(hosts) as usize;
        // One that is alone is its own other.
        let apart = 1 + self.storm.dice.below((hosts - 1).max(1)) as usize;
        let other = (host + apart) % self.hosts.len();
        if kind.replaces_disk() && !self.may_forget(host) {
            return;
        }
        self.desk.coverage.fault(kind);
        self.desk.trace.line(self.desk.now, || {
            format!("{kind:?} strikes n{host}, n{other}")
        });
        match kind {
            FaultKind::Kill => self.kill(host, Death::Kill),
            FaultKind::PowerLoss => self.kill(host, Death::PowerLoss),
            FaultKind::Stop => {
                self.hosts[host].stop(&mut self.desk);
                self.restart(host);
            }
            FaultKind::Pause => {
                let length = Duration::from_millis(self.storm.dice.between(1, 6000));
                let until = self.desk.now + length;
                let paused = &mut self.hosts[host].paused_until;
                *paused = until.max(*paused);
            }
            FaultKind::Reset => self.reset(),
            FaultKind::Step => {
                let offset_ms = self
                    .storm
                    .dice
                    .between_signed(-OFFSET_MAX_MS, OFFSET_MAX_MS);
                self.hosts[host].step_clock(offset_ms, &mut self.desk);
            }
            FaultKind::Wipe => {
                self.kill(host, Death::Kill);
                self.hosts[host].wipe(&mut self.desk);
            }
            FaultKind::Restore => self.copy_or_restore(host),
            FaultKind::Cut => self.begin_fault(Fault::Cut {
                from: host,
                to: other,
            }),
            FaultKind::Isolate => self.begin_fault(Fault::Isolated(host)),
            FaultKind::Lossy => self.begin_fault(Fault::Lossy {
                from: host,
                to: other,
            }),
            FaultKind::Behind => self.begin_fault(Fault::Behind {
                from: host,
                to: other,
            }),
            FaultKind::SlowDisk => self.begin_fault(Fault::SlowDisk(host)),
            FaultKind::FullDisk => self.begin_fault(Fault::FullDisk(host)),
            FaultKind::FailingDisk => self.begin_fault(Fault::FailingDisk(host)),
            FaultKind::Leap => self.begin_fault(Fault::Leapt(host)),
            FaultKind::FarStart => self.begin_fault(Fault::FarAhead(FAR_HOST)),
        }
    }

    /// Whether enough of the replicas are left that lost nothing, so that every majority of them has one in common with every other.
    fn may_forget(&self, host: usize) -> bool {
        let others = self.hosts.iter().enumerate();
        let others = others.filter(|(other, state)| *other != host && state.has_forgotten);
        self.desk.plan.nodes == 1 || others.count() < self.desk.plan.replicas / 2
    }

    /// A fault that lasted is over.
    pub(super) fn undo(&mut self, fault: Fault) {
        self.desk
            .trace
            .line(self.desk.now, || format!("{fault:?} is over"));
        let hosts = self.hosts.len();
        let network = &mut self.desk.network;
        match fault {
            Fault::Cut { from, to } => network.mend(from, to),
            Fault::Isolated(host) => {
                for other in (0..hosts).filter(|other| *other != host) {
                    network.mend(host, other);
                    network.mend(other, host);
                }
            }
            Fault::Lossy { from, to } => network.set_lossy(from, to, false),
            Fault::Behind { from, to } => {
                network.let_rows_through(from, to, self.desk.now, &mut self.desk.agenda);
            }
            Fault::SlowDisk(host) => self.hosts[host].slow -= 1,
            Fault::FullDisk(host) => {
                self.hosts[host].full -= 1;
                if self.hosts[host].full == 0 && self.hosts[host].is_well() {
                    self.hosts[host].tell_all(|| Input::ReadOnly(None), &mut self.desk);
                }
            }
            Fault::FailingDisk(host) => self.mend_disk(host),
            Fault::Leapt(host) => {
                let offset_ms = self.storm.dice.between_signed(-200, 200);
                self.hosts[host].step_clock(offset_ms, &mut self.desk);
            }
            Fault::FarAhead(host) => {
                let offset_ms = self.storm.dice.between_signed(-200, 200);
                self.start_with_clock(host, offset_ms);
            }
        }
    }

    /// A process ends, and the next one begins with its clock so far off.
    fn start_with_clock(&mut self, host: usize, offset_ms: i64) {
        self.kill(host, Death::Kill);
        self.hosts[host].step_clock(offset_ms, &mut self.desk);
    }

    /// Everything that is broken is mended, and everything that is down starts.
    pub(super) fn end_faults(&mut self) {
        for fault in std::mem::take(&mut self.storm.lasting) {
            self.undo(fault);
        }
        for host in &mut self.hosts {
            host.paused_until = self.desk.now;
            let offset_ms = host.clock.offset_ms.clamp(-200, 200);
            host.clock.drift_ppm = host.clock.drift_ppm.clamp(-10, 10);
            host.step_clock(offset_ms, &mut self.desk);
            host.start(&mut self.desk);
        }
    }

    fn mend_disk(&mut self, host: usize) {
        let host = &mut self.hosts[host];
        host.failing -= 1;
        if host.failing == 0 {
            host.storage.fail_syncs(false);
            host.storage.limit_bytes(None);
            host.storage.plan_commits([]);
        }
    }

    fn leap(&mut self, host: usize) {
        let ahead = self.storm.dice.chance(600);
        let size_ms = self.storm.dice.between_signed(1500, 5000);
        let offset_ms = if ahead { size_ms } else { -size_ms };
        self.hosts[host].step_clock(offset_ms, &mut self.desk);
    }

    fn begin_fault(&mut self, fault: Fault) {
        let mut most = Duration::from_secs(8);
        let now = self.desk.now;
        let hosts = self.hosts.len();
        let network = &mut self.desk.network;
        match fault {
            Fault::Cut { from, to } => network.cut(from, to, now),
            Fault::Isolated(host) => {
                for other in (0..hosts).filter(|other| *other != host) {
                    network.cut(host, other, now);
                    network.cut(other, host, now);
                }
            }
            Fault::Lossy { from, to } => network.set_lossy(from, to, true),
            Fault::Behind { from, to } => {
                most = Duration::from_millis(*self.storm.dice.pick(&[300, 1500, 6000]));
                network.hold_rows_up(from, to);
            }
            Fault::SlowDisk(host) => self.hosts[host].slow += 1,
            Fault::FullDisk(host) => {
                self.hosts[host].full += 1;
                let full = || Input::ReadOnly(Some(FULL.to_owned()));
                self.hosts[host].tell_all(full, &mut self.desk);
            }
            Fault::FailingDisk(host) => {
                most = Duration::from_secs(2);
                self.spoil_disk(host);
            }
            Fault::Leapt(host) => {
                most = Duration::from_secs(3);
                self.leap(host);
            }
            Fault::FarAhead(_) => {}
        }
        if let Fault::FarAhead(host) = fault {
            let ahead_ms = *self.storm.dice.pick(&FAR_AHEAD_MS);
            self.start_with_clock(host, ahead_ms);
        }
        self.storm.last(fault, most, &mut self.desk);
    }

    fn spoil_disk(&mut self, host: usize) {
        let dice = &mut self.storm.dice;
        let host = &mut self.hosts[host];
        host.failing += 1;
        match dice.below(3) {
            0 => host.storage.fail_syncs(true),
            1 => host.storage.limit_bytes(Some(host.storage.usage().bytes)),
            _ => {
                let outcomes = [
                    CommitOutcome::FailsUnwritten,
                    CommitOutcome::FailsWritten,
                    CommitOutcome::Succeeds,
                ];
                let plan: Vec<CommitOutcome> = (0..dice.between(1, 4))
                    .map(|_| *dice.pick(&outcomes))
                    .collect();
                host.storage.plan_commits(plan);
            }
        }
    }

    fn kill(&mut self, host: usize, death: Death) {
        self.hosts[host].die(death, &mut self.desk);
        self.restart(host);
    }

    fn restart(&mut self, host: usize) {
        let most_ms = *self.storm.dice.pick(&[50, 500, 5000]);
        let pause = Duration::from_millis(self.storm.dice.between(1, most_ms));
        self.hosts[host].start_in(&mut self.desk, pause);
    }

    fn reset(&mut self) {
        let sessions = self.desk.network.open_sessions();
        if !sessions.is_empty() {
            let session = *self.storm.dice.pick(&sessions);
            self.break_session(session);
        }
    }

    fn copy_or_restore(&mut self, host: usize) {
        if self.hosts[host].copy.is_none() {
            // What a failed commit wrote is in no ledger before the storage is opened again.
            if self.hosts[host].is_well() {
                self.hosts[host].copy_disk(&self.desk);
            }
            return;
        }
        self.kill(host, Death::Kill);
        self.hosts[host].restore(&mut self.desk);
    }
}

/// Always the same host: two clocks that are far ahead together take what each other stamps, and then nobody can take it back.
const FAR_HOST: usize = 0;
/// How far ahead a clock may start: what is soon waited for, what is not, and what never is.
const FAR_AHEAD_MS: [i64; 4] = [10_000, 60_000, 600_000, 3_600_000];
