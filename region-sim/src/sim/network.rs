//! Links, and the sessions over them: what is sent on a session arrives in order, late, or not at all because the session broke.
//!
//! A [`Link`] judges each message as it judges a datagram between real nodes. What it would lose, a session sends again, so
//! that it only comes later; while a link is cut nothing arrives, and a session that is cut for too long breaks.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use bytes::Bytes;
use crdt::ActorId;
use node::core::{
    identity::DirectoryId,
    message::{Message, Recollection, SessionId},
};

use super::{
    agenda::{Agenda, Event, HostIndex, Run},
    dice::Dice,
    plan::{Mishaps, Plan},
};
use crate::link::{Link, Loss, Settings, Verdict};

/// A dialling's number, never used twice in a world.
pub type DialId = u64;

/// All links and sessions.
#[derive(Debug)]
pub struct Network {
    dice: Dice,
    gossip_dice: Dice,
    mishap_dice: Dice,
    mishaps: Mishaps,
    links: Vec<Vec<Wire>>,
    sessions: BTreeMap<SessionId, Session>,
    dials: BTreeMap<DialId, Dial>,
    next_id: u64,
    idle_timeout: Duration,
    has_stragglers: bool,
}

/// One end of a session: a run of a host's process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct End {
    /// Which host.
    pub host: HostIndex,
    /// Which run of it.
    pub run: Run,
}

/// A dialling that is under way.
#[derive(Debug, Clone)]
pub struct Dial {
    /// Who dials.
    pub dialler: End,
    /// Whom.
    pub target: HostIndex,
    /// The actors that it ships for.
    pub actors: Vec<ActorId>,
    /// Its data directory and the numbers that this had before.
    pub directories: Vec<DirectoryId>,
    /// What the target answered.
    pub answer: Option<Answer>,
}

/// What a node says to one that dialled it.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Who answered.
    pub acceptor: End,
    /// Its data directory.
    pub directory: DirectoryId,
    /// That and the numbers that it had before.
    pub directories: Vec<DirectoryId>,
    /// What it knows of the dialler.
    pub recollection: Recollection,
}

/// What comes of looking at a lane.
#[derive(Debug)]
pub enum Arrival {
    /// Nothing is there.
    Nothing,
    /// It does not get through now.
    Later,
    /// A message for an end.
    Message(End, Message),
}

#[derive(Debug)]
struct Wire {
    link: Link,
    usual: Settings,
    cuts: u32,
    cut_since: Option<Duration>,
    /// By so many faults rows are held up.
    row_stops: u32,
}

#[derive(Debug)]
struct Session {
    /// Dialler, acceptor.
    ends: [End; 2],
    /// From the dialler, from the acceptor.
    lanes: [Lane; 2],
    is_over: bool,
}

#[derive(Debug, Default)]
struct Lane {
    queue: VecDeque<Message>,
    /// What arrives once more, behind one that is sent later.
    again: Vec<Message>,
    /// Rows that are held up.
    held: Vec<Message>,
    last_arrival: Duration,
}

impl Lane {
    /// Puts a message on its way, and what happens to it. Gives how many arrive for it.
    fn push(&mut self, message: Message, mishaps: Mishaps, dice: &mut Dice) -> usize {
        if mishaps == Mishaps::NONE {
            self.queue.push_back(message);
            return 1;
        }
        if dice.chance(mishaps.lost) {
            return 0;
        }
        // An errand is carried out as often as it arrives: that it arrives once is what a session is relied on for.
        let is_errand = matches!(message, Message::Forward { .. });
        let is_again = dice.chance(mishaps.doubled) && !is_errand;
        let copy = is_again.then(|| message.clone());
        let before = self.queue.len();
        if dice.chance(mishaps.overtaking) {
            let by = dice.between(1, 4) as usize;
            self.queue.insert(before.saturating_sub(by), message);
        } else {
            self.queue.push_back(message);
        }
        if !self.again.is_empty() && dice.chance(300) {
            self.queue.extend(self.again.drain(..));
        }
        self.again.extend(copy);
        self.queue.len() - before
    }
}

impl Network {
    /// The links of a world.
    pub fn new(plan: &Plan, mut dice: Dice, gossip_dice: Dice, mishap_dice: Dice) -> Self {
        let hosts = plan.regions.len();
        let mut wire = || {
            let (low, high) = (plan.delay.0.as_micros(), plan.delay.1.as_micros());
            let usual = Settings {
                delay: Duration::from_micros(dice.between(low as u64, high as u64)),
                jitter: plan.jitter_max,
                ..Settings::default()
            };
            Wire {
                link: Link::new(usual),
                usual,
                cuts: 0,
                cut_since: None,
                row_stops: 0,
            }
        };
        let links = (0..hosts)
            .map(|_| (0..hosts).map(|_| wire()).collect())
            .collect();
        Self {
            dice,
            gossip_dice,
            mishap_dice,
            mishaps: plan.mishaps,
            links,
            sessions: BTreeMap::new(),
            dials: BTreeMap::new(),
            next_id: 1,
            idle_timeout: plan.idle_timeout,
            has_stragglers: plan.has_stragglers,
        }
    }

    /// Chance for a gossip that begins.
    pub fn gossip_entropy(&mut self) -> u64 {
        self.gossip_dice.bits()
    }

    /// Cuts one direction; cuts add up.
    pub fn cut(&mut self, from: HostIndex, to: HostIndex, now: Duration) {
        let wire = &mut self.links[from][to];
        wire.cuts += 1;
        wire.link.set_cut(true);
        wire.cut_since.get_or_insert(now);
    }

    /// Ends one cut of a direction.
    pub fn mend(&mut self, from: HostIndex, to: HostIndex) {
        let wire = &mut self.links[from][to];
        wire.cuts = wire.cuts.saturating_sub(1);
        if wire.cuts == 0 {
            wire.link.set_cut(false);
            wire.cut_since = None;
        }
    }

    /// Holds up rows from one host to another, and what is said of their stream; these stops add up.
    pub fn hold_rows_up(&mut self, from: HostIndex, to: HostIndex) {
        self.links[from][to].row_stops += 1;
    }

    /// Ends one stop. Behind the last one what was held up goes on, in its order, on the sessions that are left.
    pub fn let_rows_through(
        &mut self,
        from: HostIndex,
        to: HostIndex,
        now: Duration,
        agenda: &mut Agenda,
    ) {
        let wire = &mut self.links[from][to];
        wire.row_stops = wire.row_stops.saturating_sub(1);
        if wire.row_stops > 0 {
            return;
        }
        for (id, session) in &mut self.sessions {
            for lane in 0..2 {
                if session.ends[lane].host != from || session.ends[1 - lane].host != to {
                    continue;
                }
                let state = &mut session.lanes[lane];
                state.last_arrival = state.last_arrival.max(now);
                for message in std::mem::take(&mut state.held) {
                    state.queue.push_back(message);
                    let session = *id;
                    agenda.at(state.last_arrival, Event::Arrive { session, lane });
                }
            }
        }
    }

    /// Links are as fast as they can be, and sessions keep their messages, from now on: what takes long then is no fault of theirs.
    pub fn calm(&mut self) {
        self.mishaps = Mishaps::NONE;
        for wire in self.links.iter_mut().flatten() {
            wire.usual.jitter = wire.usual.jitter.min(JITTER_CALM);
            wire.link.set(wire.usual);
        }
    }

    /// Makes a direction lose messages and take its time, or as it was.
    pub fn set_lossy(&mut self, from: HostIndex, to: HostIndex, is_lossy: bool) {
        let wire = &mut self.links[from][to];
        let mut settings = wire.usual;
        if is_lossy {
            settings.jitter += Duration::from_millis(500);
            settings.loss = Loss::from_ppm(200_000).unwrap_or(Loss::ALL);
        }
        wire.link.set(settings);
    }

    /// Sends a greeting.
    pub fn dial(&mut self, dial: Dial, now: Duration, agenda: &mut Agenda) -> DialId {
        let id = self.number();
        let (from, to) = (dial.dialler.host, dial.target);
        self.dials.insert(id, dial);
        let delay = self.delay(from, to, now);
        agenda.at(now + delay, Event::Hello(id));
        id
    }

    /// A greeting arrives, if it gets through.
    pub fn greeted(&mut self, id: DialId) -> Option<&Dial> {
        let dial = self.dials.get(&id)?;
        let is_cut = self.links[dial.dialler.host][dial.target].link.is_cut();
        (!is_cut).then_some(dial)
    }

    /// Sends the answer to a greeting.
    pub fn answer(&mut self, id: DialId, answer: Answer, now: Duration, agenda: &mut Agenda) {
        let Some(dial) = self.dials.get_mut(&id) else {
            return;
        };
        let (from, to) = (dial.target, dial.dialler.host);
        dial.answer = Some(answer);
        let delay = self.delay(from, to, now);
        agenda.at(now + delay, Event::Welcome(id));
    }

    /// The answer to a greeting arrives, if it gets through.
    pub fn welcomed(&mut self, id: DialId) -> Option<(Dial, Answer)> {
        let dial = self.dials.get(&id)?;
        if self.links[dial.target][dial.dialler.host].link.is_cut() {
            return None;
        }
        let dial = self.dials.remove(&id)?;
        let answer = dial.answer.clone()?;
        Some((dial, answer))
    }

    /// Opens a session.
    pub fn open(&mut self, dialler: End, acceptor: End) -> SessionId {
        let id = SessionId(self.number());
        self.sessions.insert(
            id,
            Session {
                ends: [dialler, acceptor],
                lanes: [Lane::default(), Lane::default()],
                is_over: false,
            },
        );
        id
    }

    /// Sends a message; on a session that is over it is lost.
    pub fn send(
        &mut self,
        id: SessionId,
        lane: usize,
        message: Message,
        now: Duration,
        agenda: &mut Agenda,
    ) {
        let Some(session) = self.sessions.get(&id).filter(|session| !session.is_over) else {
            return;
        };
        let (from, to) = (session.ends[lane].host, session.ends[1 - lane].host);
        let delay = self.delay(from, to, now);
        let Some(session) = self.sessions.get_mut(&id) else {
            return;
        };
        let state = &mut session.lanes[lane];
        let is_of_stream = matches!(
            message,
            Message::Ship(_) | Message::ClosedTimestamp { .. } | Message::Gap { .. }
        );
        if is_of_stream && self.links[from][to].row_stops > 0 {
            return state.held.push(message);
        }
        state.last_arrival = state.last_arrival.max(now + delay);
        let arrivals = state.push(message, self.mishaps, &mut self.mishap_dice);
        for _ in 0..arrivals {
            agenda.at(state.last_arrival, Event::Arrive { session: id, lane });
        }
    }

    /// Sends a datagram over a session with a host, if there is one. It may get lost, and is not sent again.
    pub fn datagram(
        &mut self,
        from: End,
        to: HostIndex,
        bytes: Bytes,
        now: Duration,
        agenda: &mut Agenda,
    ) {
        let ends = |session: &Session| {
            let [dialler, acceptor] = session.ends;
            let other = [(dialler, acceptor), (acceptor, dialler)];
            let (_, other) = other.into_iter().find(|(one, _)| *one == from)?;
            (!session.is_over && other.host == to).then_some(other)
        };
        let Some(to) = self.sessions.values().find_map(ends) else {
            return;
        };
        let link = &mut self.links[from.host][to.host].link;
        let delay = match link.judge(now, bytes.len(), self.gossip_dice.rng()) {
            Verdict::Pass => Duration::ZERO,
            Verdict::Delay(delay) => delay,
            Verdict::Drop(_) => return,
        };
        let from = from.host;
        agenda.at(now + delay, Event::Datagram { from, to, bytes });
    }

    /// Looks at what arrives next in one direction of a session.
    pub fn arrive(&mut self, id: SessionId, lane: usize) -> Arrival {
        let Some(session) = self.sessions.get_mut(&id) else {
            return Arrival::Nothing;
        };
        let (from, to) = (session.ends[lane], session.ends[1 - lane]);
        if self.links[from.host][to.host].link.is_cut() {
            if session.is_over {
                session.lanes[lane].queue.clear();
                return Arrival::Nothing;
            }
            return Arrival::Later;
        }
        match session.lanes[lane].queue.pop_front() {
            Some(message) => Arrival::Message(to, message),
            None => Arrival::Nothing,
        }
    }

    /// Whether a session has heard nothing for too long.
    pub fn is_idle(&self, id: SessionId, now: Duration) -> bool {
        self.sessions.get(&id).is_some_and(|session| {
            let (dialler, acceptor) = (session.ends[0].host, session.ends[1].host);
            [(dialler, acceptor), (acceptor, dialler)]
                .into_iter()
                .filter_map(|(from, to)| self.links[from][to].cut_since)
                .any(|since| now.saturating_sub(since) >= self.idle_timeout)
        })
    }

    /// Whether a session goes on.
    pub fn is_open(&self, id: SessionId) -> bool {
        self.sessions
            .get(&id)
            .is_some_and(|session| !session.is_over)
    }

    /// Ends a session. What is under way is lost, or still arrives. Gives the dialler, if the session was not over.
    pub fn end(&mut self, id: SessionId) -> Option<End> {
        let session = self.sessions.get_mut(&id)?;
        if std::mem::replace(&mut session.is_over, true) {
            return None;
        }
        for lane in &mut session.lanes {
            lane.held.clear();
            if !self.has_stragglers || self.dice.chance(500) {
                lane.queue.clear();
            }
        }
        Some(session.ends[0])
    }

    /// The sessions of a host that go on.
    pub fn sessions_of(&self, host: HostIndex) -> Vec<SessionId> {
        self.sessions
            .iter()
            .filter(|(_, session)| {
                !session.is_over && session.ends.iter().any(|end| end.host == host)
            })
            .map(|(id, _)| *id)
            .collect()
    }

    /// All sessions that go on.
    pub fn open_sessions(&self) -> Vec<SessionId> {
        self.sessions
            .iter()
            .filter(|(_, session)| !session.is_over)
            .map(|(id, _)| *id)
            .collect()
    }

    /// Dialler and acceptor of a session.
    pub fn ends(&self, id: SessionId) -> Option<[End; 2]> {
        self.sessions.get(&id).map(|session| session.ends)
    }

    /// Who gets what is sent in one direction of a session.
    pub fn receiver(&self, id: SessionId, lane: usize) -> Option<HostIndex> {
        self.ends(id).map(|ends| ends[1 - lane].host)
    }

    fn delay(&mut self, from: HostIndex, to: HostIndex, now: Duration) -> Duration {
        let link = &mut self.links[from][to].link;
        match link.judge(now, MESSAGE_BYTES, self.dice.rng()) {
            Verdict::Pass => Duration::ZERO,
            Verdict::Delay(delay) => delay,
            // Sent again when no acknowledgement came.
            Verdict::Drop(_) => link.settings().rtt() * 2 + RETRANSMIT_MIN,
        }
    }

    fn number(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }
}

/// How soon, at the least, something lost is sent again.
const RETRANSMIT_MIN: Duration = Duration::from_millis(50);
/// The jitter of links that are as fast as they can be, at most.
const JITTER_CALM: Duration = Duration::from_millis(5);
/// What a message counts for where a link has a rate.
const MESSAGE_BYTES: usize = 1000;
