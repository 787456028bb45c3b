//! Sessions with other nodes: who dials, what the handshake says, and where messages go.

use std::time::Duration;

use crdt::{ActorId, Delta, Hlc};
use node::{
    core::{
        Input,
        identity::{DirectoryId, shard_of},
        inbox::{Applied, Done, Intent, RelayMark, Ticket},
        message::{Ack, Compare, KnownPosition, Message, Recollection, SessionId, Unanswered},
        node::Renewed,
        ship::Met,
    },
    placement::Partition,
    storage::record::shortage::Shortage,
};

use super::{Host, actors, directories};
use crate::{
    check::Violation,
    sim::{
        agenda::{Due, Event, HostIndex},
        desk::Desk,
        network::{Answer, Dial, DialId, End},
    },
};

/// How far a host is with dialling another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialling {
    /// It will try again.
    Waiting { attempts: u32 },
    /// It waits for an answer.
    Greeting { dial: DialId, attempts: u32 },
    /// It ships.
    Up(SessionId),
}

impl Host {
    /// Greets a peer.
    pub(super) fn dial(&mut self, peer: HostIndex, desk: &mut Desk) {
        let Some(process) = &mut self.process else {
            return;
        };
        let Dialling::Waiting { attempts } = process.dialling[peer] else {
            return;
        };
        let dial = Dial {
            dialler: End {
                host: self.index,
                run: self.run,
            },
            target: peer,
            actors: actors(process),
            directories: directories(process),
            answer: None,
        };
        let dial = desk.network.dial(dial, desk.now, &mut desk.agenda);
        process.dialling[peer] = Dialling::Greeting { dial, attempts };
        self.due_in(desk, DIAL_TIMEOUT, Due::DialTimeout(dial));
    }

    /// A peer did not answer in time.
    pub(super) fn dial_timeout(&mut self, dial: DialId, desk: &mut Desk) {
        let Some(process) = &mut self.process else {
            return;
        };
        let waiting = process.dialling.iter().position(
            |state| matches!(state, Dialling::Greeting { dial: current, .. } if *current == dial),
        );
        if let Some(peer) = waiting {
            self.redial(peer, desk);
        }
    }

    /// Answers a greeting.
    pub fn greeted(&mut self, dial: DialId, desk: &mut Desk) {
        let Some(greeting) = desk.network.greeted(dial) else {
            return;
        };
        let replaced = self.replaced(greeting.dialler.host, &greeting.directories);
        let Some(process) = &self.process else {
            return;
        };
        let answer = Answer {
            acceptor: End {
                host: self.index,
                run: self.run,
            },
            directory: process.identity.directory,
            directories: directories(process),
            recollection: Recollection {
                held: process.inbox.held(&greeting.actors),
                replaced,
                shortage: process.inbox.shortage(),
            },
        };
        desk.network
            .answer(dial, answer, desk.now, &mut desk.agenda);
    }

    /// A peer answered: the session is up, unless the peer knows more of this node's writes than the node itself.
    pub fn welcomed(&mut self, dial: DialId, peer: HostIndex, answer: Answer, desk: &mut Desk) {
        let was_replaced = self.replaced(peer, &answer.directories).is_some();
        let Some(process) = &mut self.process else {
            return;
        };
        let is_awaited = matches!(
            process.dialling[peer],
            Dialling::Greeting { dial: current, .. } if current == dial
        );
        if !is_awaited {
            return;
        }
        let recollection = answer.recollection;
        let mut shortage = recollection.shortage;
        shortage.has_forgotten |= was_replaced;
        let workers = &process.workers;
        let recalled = |actor: &ActorId| {
            let worker = workers.get(usize::from(actor.shard()))?;
            worker.shard.recalled().get(actor).copied()
        };
        let (name, own) = (super::name(peer), process.identity.directory);
        let acquaintances = &mut process.acquaintances;
        let verdict = acquaintances.judge(&name, &recollection, recalled, own);
        if verdict.replaced.is_some() || verdict.has_forgotten {
            let intents = process.inbox.fall_short(Shortage::FORGOTTEN);
            self.intend(intents, desk);
        }
        let held = recollection.held;
        if let Some(newest) = verdict.renews_above {
            desk.trace.line(desk.now, || {
                format!("n{} forgot what n{peer} holds: {held:?}", self.index)
            });
            self.renew(newest, false, desk);
            return;
        }
        let session = desk.network.open(
            End {
                host: self.index,
                run: self.run,
            },
            answer.acceptor,
        );
        desk.agenda.at(desk.now + PROBE, Event::Probe(session));
        desk.trace.line(desk.now, || {
            format!("n{} ships to n{peer} on {session:?}", self.index)
        });
        if let Some(process) = &mut self.process {
            process.dialling[peer] = Dialling::Up(session);
        }
        self.forwards_met(peer, session);
        let met = Met {
            region: desk.plan.region(peer),
            node: super::name(peer),
            session,
            directory: answer.directory,
            held,
            shortage,
        };
        let Some(process) = &mut self.process else {
            return;
        };
        process.sessions.insert(session, met.clone());
        self.confirmed_by(peer, desk);
        self.tell_all(|| Input::SessionUp(met.clone()), desk);
    }

    /// The directory that a peer had before, where that is none of these: it was wiped.
    fn replaced(&mut self, peer: HostIndex, now: &[DirectoryId]) -> Option<DirectoryId> {
        let known = self.known.entry(peer).or_insert(now[0]);
        if now.contains(known) {
            *known = now[0];
            return None;
        }
        Some(*known)
    }

    /// A session to a peer is gone.
    pub(super) fn session_down(&mut self, session: SessionId, desk: &mut Desk) {
        let Some(process) = &mut self.process else {
            return;
        };
        let peer = process
            .dialling
            .iter()
            .position(|state| *state == Dialling::Up(session));
        let Some(peer) = peer else { return };
        desk.trace
            .line(desk.now, || format!("n{} lost {session:?}", self.index));
        process.dialling[peer] = Dialling::Waiting { attempts: 0 };
        process.sessions.remove(&session);
        self.tell_all(|| Input::SessionDown { session }, desk);
        self.forwards_lost(session, desk);
        self.redial(peer, desk);
    }

    /// A message arrives on a session.
    pub fn message(&mut self, session: SessionId, message: Message, desk: &mut Desk) {
        desk.coverage.message(&message);
        desk.trace.message(&message, desk.now, || {
            format!("n{} gets on {session:?} {}", self.index, shown(&message))
        });
        match &message {
            Message::Ack(Ack { actor, .. }) | Message::Nack { actor, .. } => {
                if let Some(met) = self.met(session) {
                    note(met, &message);
                }
                let shard = usize::from(shard_of(*actor));
                self.tell(shard, Input::Acknowledged { session, message }, desk);
            }
            Message::Forward { .. } | Message::Forwarded { .. } => {
                self.handed(session, message, desk);
            }
            Message::Compared { ask, .. }
            | Message::Repaired { ask }
            | Message::Unanswered { ask, .. } => {
                let shard = usize::from(ask.shard);
                self.tell(shard, Input::Acknowledged { session, message }, desk);
            }
            Message::Compare(Compare { key, .. })
            | Message::Repair {
                delta: Delta { key, .. },
                ..
            } => {
                let shards = self
                    .process
                    .as_ref()
                    .map_or(1, |process| process.workers.len());
                let shard = Partition::of(key).shard(shards as u16);
                self.tell(shard.into(), Input::Asked { session, message }, desk);
            }
            Message::Ship(_) | Message::ClosedTimestamp { .. } | Message::Gap { .. } => {
                self.note_skip(&message, desk);
                let wall_ms = self.clock.wall_ms(desk.now);
                let Some(process) = &mut self.process else {
                    return;
                };
                let is_ahead = is_ahead(&message, wall_ms);
                let intents = process.inbox.message(session, message, wall_ms);
                let is_accepted = intents
                    .iter()
                    .any(|intent| matches!(intent, Intent::Apply { .. }));
                if is_ahead && is_accepted {
                    let detail =
                        format!("n{} takes what is too far ahead of its clock", self.index);
                    desk.violations.push(Violation::new("clock", detail));
                }
                self.intend(intents, desk);
            }
        }
    }

    /// A request on its way to who holds its key, or what came of one.
    fn handed(&mut self, session: SessionId, message: Message, desk: &mut Desk) {
        match message {
            Message::Forward { id, errand, .. } => self.run_errand(session, id, errand, desk),
            Message::Forwarded { id, answer } => self.forwarded(id, answer, desk),
            _ => {}
        }
    }

    fn met(&mut self, session: SessionId) -> Option<&mut Met> {
        self.process.as_mut()?.sessions.get_mut(&session)
    }

    /// A shard sends. Sometimes its session has no room.
    pub(super) fn send(
        &mut self,
        shard: usize,
        session: SessionId,
        message: Message,
        desk: &mut Desk,
    ) {
        if desk.dice.chance(desk.plan.unsent) {
            let (actor, ask) = (message.actor(), message.ask());
            desk.trace.message(&message, desk.now, || {
                format!("n{} has no room for {}", self.index, shown(&message))
            });
            if let Some(actor) = actor {
                self.tell(shard, Input::Unsent { session, actor }, desk);
            }
            if let Some(ask) = ask {
                let why = Unanswered::NotSent;
                let unanswered = Message::Unanswered { ask, why };
                self.tell_unanswered(shard, session, message.is_question(), unanswered, desk);
            }
            return;
        }
        let lane = usize::from(is_answer(&message));
        desk.network
            .send(session, lane, message, desk.now, &mut desk.agenda);
    }

    /// Whoever waits for an answer learns that there will be none: a shard here, or the one that asked, if there is room for that.
    fn tell_unanswered(
        &mut self,
        shard: usize,
        session: SessionId,
        is_question: bool,
        message: Message,
        desk: &mut Desk,
    ) {
        if is_question {
            self.tell(shard, Input::Acknowledged { session, message }, desk);
        } else if !desk.dice.chance(desk.plan.unanswered) {
            desk.network
                .send(session, 1, message, desk.now, &mut desk.agenda);
        }
    }

    /// A shard is done with what a peer sent.
    pub(super) fn applied(&mut self, shard: usize, ticket: Ticket, done: Done, desk: &mut Desk) {
        let Some(process) = &mut self.process else {
            return;
        };
        let intents = process.inbox.applied(shard as u16, ticket, done);
        self.intend(intents, desk);
    }

    /// A shard says how far it is with passing on.
    pub(super) fn relayed(&mut self, shard: usize, mark: RelayMark, desk: &mut Desk) {
        let Some(process) = &mut self.process else {
            return;
        };
        let intents = process.inbox.relayed(shard as u16, mark);
        self.intend(intents, desk);
    }

    /// A part is not taken.
    pub(super) fn refuse(&mut self, shard: usize, ticket: Ticket, desk: &mut Desk) {
        let done = Done {
            applied: Applied::Refused,
            place: None,
            taught: Vec::new(),
        };
        self.applied(shard, ticket, done, desk);
    }

    /// The sessions of a process that is gone break, sooner or later.
    pub(super) fn break_sessions(&self, desk: &mut Desk) {
        for session in desk.network.sessions_of(self.index) {
            let pause = Duration::from_millis(desk.dice.between(1, 2000));
            desk.agenda.at(desk.now + pause, Event::Break(session));
        }
    }

    fn intend(&mut self, intents: Vec<Intent>, desk: &mut Desk) {
        for intent in intents {
            match intent {
                Intent::Apply {
                    shard,
                    ticket,
                    deltas,
                    purpose,
                } => {
                    if desk.dice.chance(desk.plan.refused) {
                        self.refuse(usize::from(shard), ticket, desk);
                    } else {
                        let input = Input::Remote {
                            ticket,
                            deltas,
                            purpose,
                        };
                        self.tell(usize::from(shard), input, desk);
                    }
                }
                Intent::Send { session, message } => {
                    if desk.dice.chance(desk.plan.unanswered) {
                        desk.trace.message(&message, desk.now, || {
                            format!("n{} does not answer {}", self.index, shown(&message))
                        });
                        continue;
                    }
                    desk.network
                        .send(session, 1, message, desk.now, &mut desk.agenda);
                }
                Intent::FallShort(shortage) => {
                    desk.trace.line(desk.now, || {
                        format!("n{} is short: {shortage:?}", self.index)
                    });
                    self.tell_all(|| Input::Short(shortage), desk);
                }
                Intent::Report(event) => desk
                    .trace
                    .line(desk.now, || format!("n{} reports {event:?}", self.index)),
            }
        }
    }

    /// The ledger remembers which rows a host will not get.
    fn note_skip(&self, message: &Message, desk: &mut Desk) {
        let (Message::Gap { actor, upto, .. }, Some(process)) = (message, &self.process) else {
            return;
        };
        let held = process.inbox.held(&[*actor]);
        let from = held.first().map_or(crdt::Hlc::ZERO, |held| held.taken);
        desk.ledger.skipped(self.index, *actor, from, *upto);
        if from < *upto && !self.has_forgotten && !desk.plan.has_tight_outbox() {
            desk.violations.push(Violation::new(
                "P1",
                format!(
                    "n{} has saved {actor} up to {from}, and its origin has let go of all up to {upto}",
                    self.index
                ),
            ));
        }
    }

    /// Goes on under another number, above `newest`.
    pub(super) fn renew(&mut self, newest: Hlc, replays: bool, desk: &mut Desk) {
        let draw = desk.dice.bits();
        let Some(process) = &mut self.process else {
            return;
        };
        desk.coverage.renewal();
        desk.renewals.push(desk.now);
        let mut renewed = Renewed::of(&process.identity, draw);
        // Under the new number nobody will see again that the directory is an old copy.
        process.inbox.shortage().put(&mut renewed.batch);
        let renewal = renewed.renewal;
        process.identity = renewed.identity.clone();
        self.directory = process.identity.directory;
        if replays && self.unconfirmed.is_none() {
            self.closed.push(renewal.closed);
        }
        desk.trace.line(desk.now, || {
            format!(
                "n{} renews {} as {}",
                self.index, renewal.closed, renewal.opened
            )
        });
        if self
            .commit(&renewed.batch, node::storage::Durability::Power, desk)
            .is_err()
        {
            self.die(super::Death::Kill, desk);
            self.start_in(desk, super::RETRY);
            return;
        }
        let shards = self
            .process
            .as_ref()
            .map_or(0, |process| process.workers.len());
        for shard in 0..shards {
            let input = renewed.input(shard as u16, newest, replays);
            self.tell(shard, input, desk);
        }
        self.unconfirmed = None;
        desk.end_old_copy(self.index);
        self.greet_anew(desk);
    }

    /// The directory has another number: every peer is told by a new handshake.
    fn greet_anew(&mut self, desk: &mut Desk) {
        for session in desk.network.sessions_of(self.index) {
            desk.agenda.at(desk.now, Event::Break(session));
        }
        for peer in 0..desk.plan.regions.len() {
            let is_greeting = self
                .process
                .as_ref()
                .is_some_and(|process| matches!(process.dialling[peer], Dialling::Greeting { .. }));
            if is_greeting {
                self.redial(peer, desk);
            }
        }
    }

    fn redial(&mut self, peer: HostIndex, desk: &mut Desk) {
        let Some(process) = &mut self.process else {
            return;
        };
        let attempts = match process.dialling[peer] {
            Dialling::Waiting { attempts } | Dialling::Greeting { attempts, .. } => attempts,
            Dialling::Up(_) => 0,
        };
        process.dialling[peer] = Dialling::Waiting {
            attempts: attempts + 1,
        };
        let pause_ms = (100u64 << attempts.min(5)).min(2000);
        let pause = Duration::from_millis(desk.dice.between(pause_ms / 2, pause_ms));
        self.due_in(desk, pause, Due::Dial(peer));
    }

    /// A peer knows nothing of this node that the node does not know itself.
    fn confirmed_by(&mut self, peer: HostIndex, desk: &mut Desk) {
        let Some(peers) = &mut self.unconfirmed else {
            return;
        };
        if !peers.contains(&peer) {
            peers.push(peer);
        }
        if peers.len() + 1 == desk.plan.regions.len() {
            self.unconfirmed = None;
            desk.end_old_copy(self.index);
        }
    }

    /// What of this host's writes a peer must not have been promised: checked when a row is committed.
    pub fn taken(&self, actor: crdt::ActorId) -> Option<crdt::Hlc> {
        let process = self.process.as_ref()?;
        process.inbox.held(&[actor]).first().map(|held| held.passed)
    }
}

/// Whether a message carries stamps further ahead than two clocks may be apart.
fn is_ahead(message: &Message, wall_ms: u64) -> bool {
    matches!(message, Message::Ship(ship) if ship.last.millis() > wall_ms + super::MAX_SKEW_MS)
}

/// What a shard that is opened again is told must not be older than what was acknowledged since.
fn note(met: &mut Met, message: &Message) {
    let Message::Ack(Ack {
        actor,
        taken,
        shortage,
        ..
    }) = message
    else {
        return;
    };
    met.shortage = met.shortage.with(*shortage);
    match met.held.iter_mut().find(|held| held.actor == *actor) {
        Some(held) => held.taken = held.taken.max(*taken),
        None => met.held.push(KnownPosition {
            actor: *actor,
            taken: *taken,
            passed: *taken,
            newest: *taken,
        }),
    }
}

/// Whether a message goes back to the side that dialled.
fn is_answer(message: &Message) -> bool {
    matches!(
        message,
        Message::Compared { .. } | Message::Repaired { .. } | Message::Unanswered { .. }
    )
}

fn shown(message: &Message) -> String {
    match message {
        Message::Ship(ship) => format!(
            "Ship {} ({}, {}] {} rows",
            ship.actor,
            ship.after,
            ship.last,
            ship.rows.len()
        ),
        other => format!("{other:?}"),
    }
}

const DIAL_TIMEOUT: Duration = Duration::from_secs(2);
/// How often a session is looked at.
pub const PROBE: Duration = Duration::from_millis(500);
