//! A peer as status pages show it.

use std::time::{Duration, Instant};

use super::{Direction, Refusal, SessionId, heartbeat::Reading, session::Session};
use crate::names::{NodeName, RegionName};

/// A target that this node dials, or a session that a peer opened.
#[derive(Debug, Clone, PartialEq)]
pub struct PeerLink {
    /// The address that is dialled, or from which the peer dialled.
    pub address: String,
    /// Who dials.
    pub direction: Direction,
    /// Whether there is a session.
    pub state: LinkState,
    /// Its number, if there is.
    pub session: Option<SessionId>,
    /// Who it is, or was the last time, or should be.
    pub name: Option<NodeName>,
    /// Its region, if it ever said.
    pub region: Option<RegionName>,
    /// Round trip in milliseconds between the two programs, smoothed.
    pub rtt_ms: Option<f64>,
    /// How far its clock is ahead of ours, in milliseconds.
    pub clock_offset_ms: Option<f64>,
    /// How long ago it was last heard.
    pub last_heard: Option<Duration>,
    /// What its address did when it was last tried, where there is no session; nothing where somebody refused.
    pub unreached: Option<Unreached>,
    /// Why there is no session, or why the last one ended; for people.
    pub last_error: Option<String>,
    /// The last refusal by either side, forgotten when a session comes about.
    pub last_refusal: Option<Refusal>,
}

/// How a link is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkState {
    /// An attempt is under way.
    Connecting,
    /// There is a session.
    Up,
    /// The last attempt failed or the session ended; the next attempt comes after a pause.
    Waiting,
    /// The peer is reached by another address; this one is tried when that is lost.
    Spare,
    /// Not dialled any more: it is this node itself, or a node for which the configuration has another address.
    Dropped,
}

/// What an address does behind which nobody greets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unreached {
    /// Its machine says that nobody listens there.
    Refused,
    /// Nothing comes back.
    Silent,
}

/// A target's side of the matter, kept between sessions.
#[derive(Debug)]
pub(super) struct Line {
    address: String,
    state: LinkState,
    name: Option<NodeName>,
    region: Option<RegionName>,
    session: Option<SessionId>,
    heard: Option<Instant>,
    unreached: Option<Unreached>,
    error: Option<String>,
    refusal: Option<Refusal>,
}

impl Line {
    pub(super) fn new(address: String, name: Option<NodeName>) -> Self {
        Self {
            address,
            state: LinkState::Connecting,
            name,
            region: None,
            session: None,
            heard: None,
            unreached: None,
            error: None,
            refusal: None,
        }
    }

    pub(super) fn session(&self) -> Option<SessionId> {
        self.session
    }

    /// The target is at another address from now on: what was wrong at the old one says nothing of it.
    pub(super) fn moved(&mut self, address: String) {
        self.address = address;
        self.state = LinkState::Connecting;
        self.unreached = None;
        self.error = None;
        self.refusal = None;
    }

    /// Nobody greeted there. One that refuses is reached.
    pub(super) fn tried(&mut self, unreached: Unreached) {
        self.unreached = self.refusal.is_none().then_some(unreached);
    }

    pub(super) fn connecting(&mut self) {
        self.state = LinkState::Connecting;
    }

    pub(super) fn up(&mut self, session: &Session) {
        self.state = LinkState::Up;
        self.session = Some(session.id);
        self.name = Some(session.peer.name.clone());
        self.region = Some(session.peer.region.clone());
        self.unreached = None;
        self.error = None;
        self.refusal = None;
    }

    pub(super) fn down(&mut self, session: &Session, reason: String) {
        self.session = None;
        self.heard = Some(session.reading().heard);
        self.without(LinkState::Waiting, reason, None);
    }

    pub(super) fn without(&mut self, state: LinkState, error: String, refusal: Option<Refusal>) {
        self.state = state;
        self.error = Some(error);
        if refusal.is_some() {
            self.unreached = None;
            self.refusal = refusal;
        }
    }

    pub(super) fn link(&self, reading: Option<Reading>, now: Instant) -> PeerLink {
        let heard = reading.map(|reading| reading.heard).or(self.heard);
        PeerLink {
            address: self.address.clone(),
            direction: Direction::Dialled,
            state: self.state,
            session: self.session,
            name: self.name.clone(),
            region: self.region.clone(),
            rtt_ms: reading.and_then(rtt_ms),
            clock_offset_ms: reading.and_then(clock_offset_ms),
            last_heard: heard.map(|heard| now.saturating_duration_since(heard)),
            unreached: self.unreached,
            last_error: self.error.clone(),
            last_refusal: self.refusal.clone(),
        }
    }
}

/// A session that a peer opened.
pub(super) fn accepted(session: &Session, now: Instant) -> PeerLink {
    let reading = session.reading();
    PeerLink {
        address: session.address.to_string(),
        direction: Direction::Accepted,
        state: LinkState::Up,
        session: Some(session.id),
        name: Some(session.peer.name.clone()),
        region: Some(session.peer.region.clone()),
        rtt_ms: rtt_ms(reading),
        clock_offset_ms: clock_offset_ms(reading),
        last_heard: Some(now.saturating_duration_since(reading.heard)),
        unreached: None,
        last_error: None,
        last_refusal: None,
    }
}

fn rtt_ms(reading: Reading) -> Option<f64> {
    reading.rtt.map(|rtt| rtt.as_secs_f64() * 1e3)
}

fn clock_offset_ms(reading: Reading) -> Option<f64> {
    reading
        .clock_offset_us
        .map(|offset_us| offset_us as f64 / 1e3)
}
