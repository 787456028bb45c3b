//! A world: hosts, clients and what is between them, one event after the other.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use node::core::{message::SessionId, op::Op};

use super::{
    agenda::{Agenda, Event, HostIndex},
    coverage::Coverage,
    desk::Desk,
    dice::{Dice, Stream},
    fault::Fault,
    host::{Host, PROBE},
    ledger::Ledger,
    network::{Arrival, DialId, End, Network},
    plan::Plan,
    storm::Storm,
    trace::{Trace, TraceMode},
    variation::Variation,
};
use crate::{
    check::{self, Violation, reference::Reference},
    workload::{ClientId, History, OperationId, Outcome, Workload},
};

/// A world under way.
#[derive(Debug)]
pub struct World {
    pub(super) desk: Desk,
    pub(super) hosts: Vec<Host>,
    pub(super) storm: Storm,
    pub(super) history: History,
    workload: Workload,
    clients: Vec<Client>,
    /// Operations that may still be asked.
    budget: usize,
    healed_at: Option<Duration>,
    /// When clients began to ask what must be answered.
    pub(super) late_at: Option<Duration>,
    pub(super) settled_after: Option<Duration>,
    is_over: bool,
    rows_seen: usize,
    events: u64,
}

#[derive(Debug)]
struct Client {
    host: usize,
    waiting_for: usize,
    /// When it will ask, where it thinks until then.
    asks_at: Option<Duration>,
}

/// What came of a world.
#[derive(Debug)]
pub struct Outcomes {
    /// What should not have happened.
    pub violations: Vec<Violation>,
    /// What happened, if it was to be kept.
    pub trace: Trace,
    /// How long it took, by its own clock.
    pub simulated: Duration,
    /// Things that happened.
    pub events: u64,
    /// What clients asked, and were told.
    pub history: History,
    /// How often what happened.
    pub coverage: Coverage,
    /// From the end of the last fault until nothing waited any more.
    pub settled_after: Option<Duration>,
}

impl World {
    /// The world of a seed.
    pub fn new(seed: u64, variation: &Variation, trace: TraceMode) -> Self {
        let plan = Plan::draw(seed, variation);
        let placement = Arc::new(plan.placement());
        let hosts: Vec<Host> = (0..plan.regions.len())
            .map(|index| Host::new(index, &plan, Arc::clone(&placement)))
            .collect();
        let clients_count = match plan.is_single {
            true => 1,
            false => plan.clients * hosts.len(),
        };
        let clients = (0..clients_count)
            .map(|client| Client {
                host: client % hosts.len(),
                waiting_for: 0,
                asks_at: None,
            })
            .collect();
        let desk = Desk {
            now: Duration::ZERO,
            agenda: Agenda::default(),
            trace: Trace::new(trace),
            dice: Dice::new(seed, Stream::Hosts),
            network: Network::new(
                &plan,
                Dice::new(seed, Stream::Network),
                Dice::new(seed, Stream::Gossip),
                Dice::new(seed, Stream::Mishaps),
            ),
            ledger: Ledger::new(hosts.len()),
            reference: Reference::default(),
            replies: Vec::new(),
            renewals: Vec::new(),
            old_copies: Vec::new(),
            coverage: Coverage::default(),
            violations: Vec::new(),
            plan,
        };
        Self {
            workload: Workload::new(Dice::new(seed, Stream::Workload), desk.plan.mix.clone()),
            storm: Storm::new(Dice::new(seed, Stream::Faults)),
            budget: desk.plan.operations,
            desk,
            hosts,
            history: History::default(),
            clients,
            healed_at: None,
            late_at: None,
            settled_after: None,
            is_over: false,
            rows_seen: 0,
            events: 0,
        }
    }

    /// Runs to the end, and looks at what became of the promises.
    pub fn run(mut self) -> Outcomes {
        let plan = format!("{:?}", self.desk.plan);
        self.desk.trace.line(Duration::ZERO, || plan);
        self.begin();
        while let Some((time, event)) = self.desk.agenda.pop() {
            self.desk.now = time;
            self.events += 1;
            self.happen(event);
            self.deliver_replies();
            self.check_promises();
            if !self.desk.violations.is_empty() || self.is_over {
                break;
            }
        }
        if self.desk.violations.is_empty() {
            let violations = self.judge();
            self.desk.violations.extend(violations);
        }
        Outcomes {
            violations: self.desk.violations,
            trace: self.desk.trace,
            simulated: self.desk.now,
            events: self.events,
            history: self.history,
            coverage: self.desk.coverage,
            settled_after: self.settled_after,
        }
    }

    fn begin(&mut self) {
        for host in &mut self.hosts {
            host.start(&mut self.desk);
        }
        for client in 0..self.clients.len() {
            self.invoke_after_thinking(client);
        }
        self.storm.begin(&mut self.desk);
        self.desk.agenda.at(INSPECT, Event::Inspect);
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Invoke(client) => self.invoke(client),
            Event::Request { host, id } => self.request(host, id),
            Event::GiveUp(id) => self.abandon(id, Outcome::Unknown),
            Event::Host { host, run, due } => {
                if self.wait_if_paused(host, Event::Host { host, run, due }) {
                    return;
                }
                if self.hosts[host].run == run {
                    self.hosts[host].due(due, &mut self.desk);
                }
            }
            Event::Start { host, run } => {
                if self.hosts[host].run == run {
                    self.hosts[host].start(&mut self.desk);
                }
            }
            Event::Hello(dial) => self.hello(dial),
            Event::Welcome(dial) => self.welcome(dial),
            Event::Arrive { session, lane } => self.arrive(session, lane),
            Event::Datagram { from, to, bytes } => self.datagram(from, to, bytes),
            Event::Probe(session) => self.probe(session),
            Event::Break(session) => self.break_session(session),
            Event::Strike(fault) => {
                if self.healed_at.is_none() {
                    self.strike(fault);
                }
            }
            Event::Mend(fault) => self.mend(fault),
            Event::Inspect => self.inspect(),
        }
    }

    fn invoke(&mut self, client: ClientId) {
        if self.clients[client].asks_at != Some(self.desk.now) {
            return; // it thought better of it
        }
        self.clients[client].asks_at = None;
        if self.desk.plan.is_single {
            self.clients[client].host = self.workload.wander(self.hosts.len());
        }
        let host = self.clients[client].host;
        let region = host / self.desk.plan.nodes;
        let wall_ms = self.hosts[host].clock.wall_ms(self.desk.now);
        // One after the other where each must be answered in time: they do not wait for each other.
        let count = match self.late_at {
            None => self.workload.pipeline(),
            Some(_) => 1,
        };
        let mut before = None;
        for _ in 0..count {
            if self.budget == 0 {
                break;
            }
            self.budget -= 1;
            let op = self.workload.next(client, region, wall_ms, before.as_ref());
            before = Some(op.key.clone());
            let id = self.history.invoke(client, region, op, self.desk.now);
            self.clients[client].waiting_for += 1;
            self.desk
                .agenda
                .at(self.desk.now + TO_HOST, Event::Request { host, id });
            self.desk
                .agenda
                .at(self.desk.now + PATIENCE, Event::GiveUp(id));
        }
    }

    fn invoke_after_thinking(&mut self, client: ClientId) {
        let pause = self.workload.think(self.longest_thought());
        let asks_at = self.desk.now + pause;
        self.clients[client].asks_at = Some(asks_at);
        self.desk.agenda.at(asks_at, Event::Invoke(client));
    }

    fn longest_thought(&self) -> Duration {
        match (self.healed_at, self.late_at) {
            (_, Some(_)) => THINK_LATE,
            (Some(_), None) => self.desk.plan.think_max.min(THINK_AFTER),
            (None, None) => self.desk.plan.think_max,
        }
    }

    fn request(&mut self, host: usize, id: OperationId) {
        if self.wait_if_paused(host, Event::Request { host, id }) {
            return;
        }
        let op = self.history.operations[id].op.clone();
        self.desk.trace.about(&op.key, self.desk.now, || {
            let Op { key, action, level } = &op;
            format!("n{host} is asked #{id} {key:?} {action:?} at {level}")
        });
        let is_behind = self.history.is_behind(id);
        if !self.hosts[host].ask(id, op, is_behind, &mut self.desk) {
            self.abandon(id, Outcome::Refused);
        }
    }

    fn abandon(&mut self, id: OperationId, outcome: Outcome) {
        if self.history.abandon(id, outcome, self.desk.now) {
            self.completed(id);
        }
    }

    fn deliver_replies(&mut self) {
        for (id, reply) in std::mem::take(&mut self.desk.replies) {
            let id = id.0 as OperationId;
            self.desk.coverage.reply(&reply);
            if self.history.complete(id, &reply, self.desk.now) {
                self.check_level(id);
                self.completed(id);
            }
        }
    }

    /// Whether what was just acknowledged is where its level says. Disks that lose what they acknowledged are another matter.
    fn check_level(&mut self, id: OperationId) {
        if self.desk.plan.may_lose_data() || self.hosts.len() == 1 {
            return;
        }
        let operation = &self.history.operations[id];
        let kept = self.desk.plan.kept();
        let wrong = check::levels::check_copies(operation, &self.desk.ledger, &self.hosts, &kept);
        self.desk.violations.extend(wrong);
    }

    fn completed(&mut self, id: OperationId) {
        let client = self.history.operations[id].client;
        self.clients[client].waiting_for -= 1;
        if self.clients[client].waiting_for == 0 {
            self.invoke_after_thinking(client);
        }
    }

    /// What a host that stands still should do waits; gives whether it does.
    fn wait_if_paused(&mut self, host: usize, event: Event) -> bool {
        let until = self.hosts[host].paused_until;
        if until <= self.desk.now {
            return false;
        }
        self.desk.agenda.at(until, event);
        true
    }

    fn hello(&mut self, dial: DialId) {
        let Some(target) = self.desk.network.greeted(dial).map(|dial| dial.target) else {
            return;
        };
        if !self.wait_if_paused(target, Event::Hello(dial)) {
            self.hosts[target].greeted(dial, &mut self.desk);
        }
    }

    fn welcome(&mut self, id: DialId) {
        let Some((dial, answer)) = self.desk.network.welcomed(id) else {
            return;
        };
        let host = &mut self.hosts[dial.dialler.host];
        // A host that stands still misses the answer and dials again.
        if host.run == dial.dialler.run && host.paused_until <= self.desk.now {
            host.welcomed(id, dial.target, answer, &mut self.desk);
        }
    }

    fn arrive(&mut self, session: SessionId, lane: usize) {
        let event = Event::Arrive { session, lane };
        if let Some(to) = self.desk.network.receiver(session, lane)
            && self.wait_if_paused(to, event.clone())
        {
            return;
        }
        match self.desk.network.arrive(session, lane) {
            Arrival::Nothing => {}
            Arrival::Later => self.desk.agenda.at(self.desk.now + RETRANSMIT, event),
            Arrival::Message(end, message) => {
                if self.hosts[end.host].run == end.run {
                    self.hosts[end.host].message(session, message, &mut self.desk);
                }
            }
        }
    }

    /// What comes while a host stands still waits in its socket.
    fn datagram(&mut self, from: HostIndex, to: End, bytes: Bytes) {
        let event = || Event::Datagram {
            from,
            to,
            bytes: bytes.clone(),
        };
        if !self.wait_if_paused(to.host, event()) && self.hosts[to.host].run == to.run {
            self.hosts[to.host].hear_gossip(from, bytes, &mut self.desk);
        }
    }

    fn probe(&mut self, session: SessionId) {
        if !self.desk.network.is_open(session) {
            return;
        }
        let is_dead = self
            .desk
            .network
            .ends(session)
            .is_some_and(|ends| ends.iter().any(|end| self.hosts[end.host].run != end.run));
        if is_dead || self.desk.network.is_idle(session, self.desk.now) {
            self.break_session(session);
        } else {
            self.desk
                .agenda
                .at(self.desk.now + PROBE, Event::Probe(session));
        }
    }

    pub(super) fn break_session(&mut self, session: SessionId) {
        let Some(dialler) = self.desk.network.end(session) else {
            return;
        };
        let pause = Duration::from_millis(self.desk.dice.between(0, 300));
        let event = Event::Host {
            host: dialler.host,
            run: dialler.run,
            due: super::agenda::Due::Down(session),
        };
        self.desk.agenda.at(self.desk.now + pause, event);
    }

    /// Rows that were committed below a promise: nobody would ever take them.
    fn check_promises(&mut self) {
        let hosts = &self.hosts;
        self.desk.ledger.note_forgetful(|row| {
            hosts
                .iter()
                .any(|host| host.index != row.origin && host.taken(row.actor) >= Some(row.last))
        });
        for row in &self.desk.ledger.rows()[self.rows_seen..] {
            if self.desk.ledger.is_forgetful(row.actor) {
                self.desk.violations.push(Violation::new(
                    "P1",
                    format!(
                        "{} goes on, and others hold what it has forgotten",
                        row.actor
                    ),
                ));
            }
            let passed = self
                .hosts
                .iter()
                .filter(|host| host.index != row.origin && !row.is_doubtful)
                .find(|host| host.taken(row.actor).is_some_and(|taken| taken >= row.last));
            if let Some(host) = passed {
                self.desk.violations.push(Violation::new(
                    "P1",
                    format!(
                        "row {} of {} is committed, and n{} has already passed it",
                        row.last, row.actor, host.index
                    ),
                ));
            }
        }
        self.rows_seen = self.desk.ledger.rows().len();
    }

    /// A look at everything, from time to time: bounds hold, and when faults are to end or all is settled.
    fn inspect(&mut self) {
        self.desk.agenda.at(self.desk.now + INSPECT, Event::Inspect);
        for host in &self.hosts {
            let wrong = host.check(&self.desk);
            self.desk.violations.extend(wrong);
        }
        let is_asking = self.is_asking();
        match self.healed_at {
            None => {
                let is_spent = !is_asking && self.desk.now >= self.desk.plan.storm;
                if is_spent || self.desk.now >= self.desk.plan.storm * STORM_OVERTIME {
                    self.heal();
                }
            }
            Some(healed_at) => {
                if !is_asking && self.settled_after.is_none() && self.is_settled() {
                    self.settled_after = Some(self.desk.now - healed_at);
                }
                if self.late_at.is_none()
                    && self.desk.now >= healed_at + self.desk.plan.calm_after()
                {
                    self.late_at = Some(self.desk.now);
                    self.go_on(OPERATIONS_LATE);
                }
                let bound = self.desk.plan.calm_after() + SETTLE_MAX;
                let is_overdue = self.desk.now > healed_at + bound;
                self.is_over = is_overdue || self.has_come_to_rest();
            }
        }
    }

    /// Faults are over. Clients go on for a while.
    fn heal(&mut self) {
        let now = self.desk.now;
        self.desk.trace.line(now, || "all faults end".to_owned());
        self.healed_at = Some(now);
        self.end_faults();
        let plan = &mut self.desk.plan;
        (plan.unsent, plan.unanswered, plan.refused) = (0, 0, 0);
        plan.slow_commits = 0;
        self.desk.network.calm();
        self.budget = 0;
        self.go_on(OPERATIONS_AFTER);
    }

    /// Clients ask more. Those that wait for answers will when they have them, and those that think when they have thought, but nobody
    /// thinks on for longer than is usual now.
    fn go_on(&mut self, operations: usize) {
        self.budget += self.clients.len() * operations;
        let latest = self.desk.now + self.longest_thought();
        for client in 0..self.clients.len() {
            let Client {
                asks_at,
                waiting_for,
                ..
            } = self.clients[client];
            if waiting_for == 0 && asks_at.is_none_or(|asks_at| asks_at > latest) {
                self.invoke_after_thinking(client);
            }
        }
    }

    /// Whether all was asked, everybody has everything and has heard so.
    fn has_come_to_rest(&self) -> bool {
        let is_heard = |host: &Host| {
            let ends = host.log_ends(&self.desk.ledger);
            ends.iter().all(check::answered::LogEnd::is_heard)
        };
        self.late_at.is_some_and(|late_at| self.desk.now > late_at)
            && !self.is_asking()
            && self.is_settled()
            && (self.may_lack() || self.hosts.iter().all(is_heard))
    }

    /// Whether a region may lack rows for good.
    pub(super) fn may_lack(&self) -> bool {
        self.desk.plan.has_tight_outbox() || self.hosts.iter().any(|host| host.has_forgotten)
    }

    /// Whether clients ask something, or wait for an answer.
    fn is_asking(&self) -> bool {
        self.budget > 0 || self.clients.iter().any(|client| client.waiting_for > 0)
    }

    /// Whether every host has everything that is to be had, and knows that the others do.
    fn is_settled(&self) -> bool {
        self.hosts.iter().all(|host| {
            host.waiting().is_empty()
                && (self.desk.plan.nodes > 1
                    || self
                        .desk
                        .ledger
                        .standing()
                        .filter(|row| row.origin != host.index && !row.is_lost && !row.is_doubtful)
                        .all(|row| host.taken(row.actor).is_some_and(|taken| taken >= row.last)))
        })
    }

    fn mend(&mut self, fault: Fault) {
        if self.storm.ends(fault) {
            self.undo(fault);
        }
    }
}

/// From a client to its host.
const TO_HOST: Duration = Duration::from_micros(100);
/// A client gives up after this.
const PATIENCE: Duration = Duration::from_secs(5);
/// What is on a cut link is tried again.
const RETRANSMIT: Duration = Duration::from_millis(200);
/// How often everything is looked at.
const INSPECT: Duration = Duration::from_millis(250);
/// Where clients are not done, faults strike for so many times as long at most.
const STORM_OVERTIME: u32 = 2;
/// Operations that each client asks after the faults.
const OPERATIONS_AFTER: usize = 5;
/// It waits up to this long before each of them.
const THINK_AFTER: Duration = Duration::from_millis(500);
/// Operations that each client asks then.
const OPERATIONS_LATE: usize = 2;
/// It waits up to this long before each of those.
const THINK_LATE: Duration = Duration::from_secs(3);
/// How long everything may take to settle: 5 s until traffic flows, 15 s for the lag, and what a clock was ahead.
pub(super) const SETTLE_MAX: Duration = Duration::from_secs(30);
