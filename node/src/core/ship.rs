//! The outbox on its way to the other regions.
//!
//! ```text
//!            committed rows                        ┌─ stream (region, actor) ─┐
//!   outbox ═══════════════════▶ time               │ cursor ≤ sent ≤ newest   │
//!          trimmed   cursor      sent     newest   └──────────────────────────┘
//!   ───────┼─────────┼───────────┼────────┼──▶
//!    gone  │ taken    in flight    waiting
//! ```
//! One ordered stream for each destination region and each actor of this shard. A row is in flight after it is committed,
//! leaves when every region has acknowledged it as durable, and is sent again from the cursor whenever a session dies or the
//! receiver declines. What is in memory is a copy: the tail that streams which keep up read from, and never more than its bound.

mod answers;
pub mod destination;
mod event;
mod extent;
mod flight;
mod home;
mod log;
mod marks;
mod peers;
mod reached;
mod route;
mod short;
mod sieve;
mod span;
mod stream;
mod trim;
mod withdraw;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use crdt::{ActorId, Hlc};

pub use self::{
    destination::Destination,
    event::{Awaited, Lag, ShipEvent},
    home::Home,
    peers::Met,
    reached::Progress,
};
use self::{
    flight::Carries,
    home::Trusted,
    log::Log,
    peers::Peers,
    route::{Choice, Route},
    sieve::Sieve,
    stream::{Reader, Stream},
};
use super::{
    identity::{is_relay, relay_of},
    message::{Ack, Message, NackReason, SessionId},
    mutant::{Mutant, is_on},
    sample::Sampler,
};
use crate::{
    names::NodeName,
    placement::Placement,
    storage::{Storage, StorageError, record::shortage::Shortage},
};

/// Ships the outbox of one shard.
#[derive(Debug)]
pub struct Shipper {
    home: Home,
    shard: u16,
    bounds: OutboxBounds,
    logs: BTreeMap<ActorId, Log>,
    routes: BTreeMap<Destination, Route>,
    /// Kept by node, whether or not the placement knows it yet: who is placed later is shipped to on the session that it has.
    peers: Peers,
    trusted: Trusted,
    shortages: Shortages,
    jitter: Sampler,
}

/// What is lacking, and where.
#[derive(Debug, Default)]
struct Shortages {
    /// This node.
    own: Shortage,
    /// Somebody lacks something. Hardly ever so: nobody is looked at otherwise.
    are_any: bool,
}

/// How much of the outbox is kept for destinations that do not take it.
#[derive(Debug, Clone, Copy)]
pub struct OutboxBounds {
    /// Older rows are dropped.
    pub window: Duration,
    /// Of this shard; the oldest rows beyond it are dropped.
    pub bytes_max: u64,
}

impl Shipper {
    /// Takes up the outbox where storage left it. `actors`: the shard's own one and those that it renewed.
    pub fn open(
        storage: &dyn Storage,
        home: Home,
        shard: u16,
        actors: &[ActorId],
        bounds: OutboxBounds,
        entropy: u64,
    ) -> Result<Self, StorageError> {
        let mut shipper = Self {
            home,
            shard,
            bounds,
            logs: BTreeMap::new(),
            routes: BTreeMap::new(),
            peers: Peers::default(),
            trusted: None,
            shortages: Shortages::default(),
            jitter: Sampler::new(entropy),
        };
        for &actor in actors {
            for log in [actor, relay_of(actor)] {
                shipper.logs.insert(log, Log::open(storage, log)?);
            }
        }
        shipper.open_routes(storage)?;
        Ok(shipper)
    }

    /// Others hold what from now on. Who is new is shipped to from where its cursor is, at once where there is a session; who is
    /// gone, no longer.
    pub fn place(
        &mut self,
        storage: &dyn Storage,
        placement: Arc<Placement>,
        awaited: Awaited,
        events: &mut Vec<ShipEvent>,
    ) -> Result<(), StorageError> {
        self.home.placement = placement;
        self.reassign();
        let wanted: BTreeSet<Destination> = self.home.destinations().collect();
        self.routes
            .retain(|destination, _| wanted.contains(destination));
        self.open_routes(storage)?;
        self.choose(storage, awaited, events)
    }

    fn open_routes(&mut self, storage: &dyn Storage) -> Result<(), StorageError> {
        let wanted: Vec<Destination> = self.home.destinations().collect();
        for destination in wanted {
            let is_shared = self.home.is_shared(&destination);
            match self.routes.get_mut(&destination) {
                Some(route) => route.is_shared = is_shared,
                None => {
                    let route = Route::open(storage, &destination, is_shared, &self.logs)?;
                    self.routes.insert(destination, route);
                }
            }
        }
        self.note_shortages();
        Ok(())
    }

    /// Where this shard stands.
    pub fn home(&self) -> &Home {
        &self.home
    }

    /// Whether anybody wants rows. Without one the outbox is not written.
    pub fn has_destinations(&self) -> bool {
        !self.routes.is_empty() || self.home.lacks_members()
    }

    /// Begins an actor's logs: this shard stamps as `actor` from now on.
    pub fn begin(&mut self, actor: ActorId) {
        for log in [actor, relay_of(actor)] {
            self.logs.entry(log).or_default();
            for (destination, route) in &mut self.routes {
                if destination.takes(log) {
                    route.streams.entry(log).or_default();
                }
            }
        }
    }

    /// Rows of a log were committed.
    pub fn committed(&mut self, log: ActorId, rows: Vec<(Hlc, Bytes)>) {
        let Some(kept) = self.logs.get_mut(&log) else {
            return;
        };
        for route in self.routes.values_mut() {
            let Some(stream) = route.streams.get_mut(&log) else {
                continue;
            };
            if let (0, Some((first, _))) = (stream.pending_rows, rows.first()) {
                stream.pending_since = *first;
            }
            stream.pending_rows += rows.len() as u64;
        }
        for (last, row) in rows {
            kept.push(last, row);
        }
    }

    /// A session to a node came up; it takes the place of an older one.
    pub fn session_up(
        &mut self,
        storage: &dyn Storage,
        met: Met,
        awaited: Awaited,
        events: &mut Vec<ShipEvent>,
    ) -> Result<(), StorageError> {
        if let Some(replaced) = self.peers.meet(met) {
            self.part(replaced);
        }
        self.choose(storage, awaited, events)
    }

    /// A session ended: what was in flight is in doubt and will be sent again, to another node where there is one.
    pub fn session_down(
        &mut self,
        storage: &dyn Storage,
        session: SessionId,
        awaited: Awaited,
        events: &mut Vec<ShipEvent>,
    ) -> Result<(), StorageError> {
        self.peers.lose(session);
        self.part(session);
        self.choose(storage, awaited, events)
    }

    fn part(&mut self, session: SessionId) {
        let routes = self.routes.values_mut();
        routes
            .filter(|route| route.session() == Some(session))
            .for_each(Route::part);
    }

    /// These nodes are believed to live; nothing is sent to others.
    pub fn trust(
        &mut self,
        storage: &dyn Storage,
        trusted: Arc<BTreeSet<NodeName>>,
        awaited: Awaited,
        events: &mut Vec<ShipEvent>,
    ) -> Result<(), StorageError> {
        let has_changed = self.trusted.as_ref() != Some(&trusted);
        self.trusted = Some(trusted);
        if has_changed {
            self.reassign();
        }
        self.choose(storage, awaited, events)
    }

    /// Others stand in from now on.
    fn reassign(&mut self) {
        let streams = self
            .routes
            .values_mut()
            .flat_map(|route| route.streams.values_mut());
        streams.for_each(Stream::reassign);
    }

    fn choose(
        &mut self,
        storage: &dyn Storage,
        awaited: Awaited,
        events: &mut Vec<ShipEvent>,
    ) -> Result<(), StorageError> {
        let mut failed = Ok(());
        for (destination, route) in &mut self.routes {
            let awaited = awaited.filter(|_| matches!(destination, Destination::Replica(_)));
            let choice = Choice {
                destination,
                home: &self.home.region,
                shard: self.shard,
                peers: &self.peers,
                trusted: &self.trusted,
                awaited,
            };
            let chosen = route.choose(storage, &choice, &self.logs, events);
            failed = failed.and(chosen); // each destination by itself: one that fails holds up no other
        }
        self.note_shortages();
        failed
    }

    /// A destination says how far it is.
    pub fn taken(
        &mut self,
        storage: &dyn Storage,
        session: SessionId,
        said: &Ack,
    ) -> Result<(), StorageError> {
        self.learn(session, said.shortage);
        let Some(log) = self.logs.get(&said.actor) else {
            return Ok(());
        };
        self.peers
            .note(session, said.actor, said.taken.min(log.told));
        let mut routes = self.routes.values_mut();
        let route = routes.find(|route| route.session() == Some(session));
        match route.and_then(|route| route.streams.get_mut(&said.actor)) {
            Some(stream) => stream.hear(storage, log, said),
            None => Ok(()),
        }
    }

    /// A destination did not take what was sent: it is sent again from `taken`, after a pause.
    #[allow(clippy::too_many_arguments)] // the message's parts, and what is needed to act on it
    pub fn declined(
        &mut self,
        storage: &dyn Storage,
        session: SessionId,
        actor: ActorId,
        taken: Hlc,
        reason: NackReason,
        now: Duration,
        events: &mut Vec<ShipEvent>,
    ) -> Result<(), StorageError> {
        let draw = self.jitter.draw();
        self.peers.note_back(session, actor, taken);
        let mut routes = self.routes.iter_mut();
        let route = routes.find(|(_, route)| route.session() == Some(session));
        let Some((destination, route)) = route else {
            return Ok(());
        };
        let (destination, is_shared) = (destination.clone(), route.is_shared);
        let stream = route.streams.get_mut(&actor);
        let Some((stream, log)) = stream.zip(self.logs.get(&actor)) else {
            return Ok(());
        };
        stream.fall_back(storage, &destination, actor, is_shared, log, taken, events)?;
        if stream.is_answered() {
            self.note_shortages();
            return Ok(()); // an answer to what was sent before the last rewind
        }
        stream.rewind();
        let is_lasting = !matches!(reason, NackReason::Gap | NackReason::Busy);
        stream.pause(now, draw, is_lasting);
        if reason == NackReason::Malformed
            && let Some(damaged) = log.damaged(storage, actor, stream.cursor.taken)?
        {
            stream.pass_over(&destination, actor, damaged, events);
        }
        events.push(ShipEvent::Declined {
            destination,
            actor,
            reason,
        });
        self.note_shortages();
        Ok(())
    }

    /// A message could not be queued: the session is slower than the stream.
    pub fn unsent(&mut self, session: SessionId, actor: ActorId, now: Duration) {
        let draw = self.jitter.draw();
        let stream = self
            .route(session)
            .and_then(|(_, route)| route.streams.get_mut(&actor));
        if let Some(stream) = stream {
            stream.rewind();
            stream.pause(now, draw, false);
        }
    }

    /// Sends what the windows have room for. Each stream by itself: one whose rows cannot be read holds up no other.
    pub fn pump(
        &mut self,
        storage: &dyn Storage,
        awaited: Awaited,
        afar: Awaited,
        now: Duration,
        send: &mut dyn FnMut(SessionId, Message),
    ) -> Result<(), StorageError> {
        let mut failed = Ok(());
        for (destination, route) in &mut self.routes {
            let Some(session) = route.session() else {
                continue;
            };
            let is_whole = self.home.is_whole(destination);
            for (&actor, stream) in &mut route.streams {
                let Some(log) = self.logs.get(&actor) else {
                    continue;
                };
                let sieve = Sieve {
                    home: &self.home,
                    destination,
                    trusted: &self.trusted,
                    is_whole,
                    has_stand_ins: !is_relay(actor),
                };
                let reader = reader(destination, actor, awaited, afar);
                let pumped = stream.pump(storage, actor, log, reader, now, &mut |message| {
                    send(session, sieve.sift(message))
                });
                failed = failed.and(pumped);
            }
        }
        failed
    }

    /// Tells every region that has all of `actor` that no later stamp of it will be at or below `upto`.
    pub fn promise(
        &mut self,
        actor: ActorId,
        upto: Hlc,
        now: Duration,
        send: &mut dyn FnMut(SessionId, Message),
    ) {
        for (destination, route) in &mut self.routes {
            let (Destination::Region(_), Some(session), Some(log), Some(stream)) = (
                destination,
                route.session(),
                self.logs.get_mut(&actor),
                route.streams.get_mut(&actor),
            ) else {
                continue;
            };
            // What the receiver has said, never what was counted here: a promise over a row that it lacks would lose the row.
            let has_all = stream.has_all(log.newest, now);
            if !stream.wants_promise(now) {
                continue;
            }
            if (has_all || is_on(Mutant::PromiseOverUnsent)) && upto > stream.sent {
                let after = stream.sent;
                debug_assert!(
                    upto >= log.newest || is_on(Mutant::PromiseOverUnsent),
                    "no row lies behind what is promised"
                );
                log.told = log.told.max(upto);
                stream.depart(upto, Carries::Nothing, 0);
                stream.promised(now);
                send(session, Message::ClosedTimestamp { actor, after, upto });
            } else if has_all && stream.every < log.newest {
                // A clock that was ahead has promised more than there is to promise now. The marks of what came before are asked for all
                // the same: since this process began nobody may have said them.
                let (after, upto) = (stream.sent, stream.sent);
                stream.promised(now);
                send(session, Message::ClosedTimestamp { actor, after, upto });
            }
        }
    }

    /// Promises `upto`, far ahead of the clock, to everybody who has all of `actor`: who refuses it says that the clock was wrong.
    pub fn sound(
        &mut self,
        actor: ActorId,
        upto: Hlc,
        now: Duration,
        send: &mut dyn FnMut(SessionId, Message),
    ) {
        let Some(log) = self.logs.get_mut(&actor) else {
            return;
        };
        for route in self.routes.values_mut() {
            let (Some(session), Some(stream)) = (route.session(), route.streams.get_mut(&actor))
            else {
                continue;
            };
            let has_all = stream.has_all(log.newest, now);
            if has_all && upto > stream.sent {
                let after = stream.sent;
                log.told = log.told.max(upto);
                stream.depart(upto, Carries::Nothing, 0);
                send(session, Message::ClosedTimestamp { actor, after, upto });
            }
        }
    }

    /// Whether there is nothing to ship to anybody who is there, and nothing to hear from them.
    pub fn is_at_rest(&self, actor: ActorId) -> bool {
        let linked = self
            .routes
            .iter()
            .filter(|(_, route)| route.session().is_some());
        linked
            .flat_map(|(to, route)| {
                route
                    .streams
                    .iter()
                    .map(move |(of, stream)| (to, of, stream))
            })
            .all(|(to, of, stream)| {
                let is_promised = matches!(to, Destination::Region(_)) && *of == actor;
                stream.is_at_rest(is_promised)
            })
    }

    /// Whether every destination has taken everything.
    pub fn is_drained(&self) -> bool {
        self.routes
            .values()
            .flat_map(|route| route.streams.values())
            .all(|stream| stream.pending_rows == 0)
    }

    /// How far each destination is behind this shard.
    pub fn lags(&self) -> impl Iterator<Item = (&Destination, Lag)> + '_ {
        self.routes
            .iter()
            .map(|(destination, route)| (destination, route.lag()))
    }

    /// Whether rows can be sent there now: there is a session, to a node that is believed to live.
    pub fn is_linked(&self, destination: &Destination) -> bool {
        let route = self.routes.get(destination);
        route.is_some_and(|route| route.session().is_some())
    }

    fn route(&mut self, session: SessionId) -> Option<(Destination, &mut Route)> {
        let (destination, route) = self
            .routes
            .iter_mut()
            .find(|(_, route)| route.session() == Some(session))?;
        Some((destination.clone(), route))
    }
}

/// Who reads a log; `awaited`: where clients wait for the word of replicas, and `afar` for that of regions.
fn reader(destination: &Destination, log: ActorId, awaited: Awaited, afar: Awaited) -> Reader {
    let after = |awaited: Awaited| {
        let awaited = awaited.filter(|(awaited, _)| *awaited == log);
        awaited.map_or(Hlc::MAX, |(_, after)| after)
    };
    match destination {
        Destination::Region(_) => Reader::Region {
            awaited: after(afar),
        },
        Destination::Replica(_) if is_relay(log) => Reader::Passive,
        Destination::Replica(_) => Reader::Replica {
            awaited: after(awaited),
        },
    }
}
