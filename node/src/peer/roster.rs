//! Who is in a session with this node, and who may be.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use tokio::sync::watch;

use super::{
    Direction, PeerLink, Recipient, Refusal, RefusalKind, SessionId,
    limits::{NAMES_MAX, SESSIONS_MAX},
    link::{self, Line},
    lock,
    session::Session,
};
use crate::{
    core::identity::DirectoryId,
    names::{NodeName, RegionName},
};

/// Sessions, names, regions and the lines of targets. One lock, never held while waiting.
#[derive(Debug, Default)]
pub(super) struct Roster {
    state: Mutex<State>,
    changes: watch::Sender<u64>,
    numbers: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    stopping: bool,
    sessions: BTreeMap<SessionId, Arc<Session>>,
    /// Names that a dialler of this node holds, from before its greeting until after its session.
    dialled: BTreeSet<NodeName>,
    regions: BTreeMap<NodeName, RegionName>,
    /// Data directories that an operator had forgotten.
    forgotten: BTreeSet<DirectoryId>,
    lines: BTreeMap<u64, Line>,
    /// Numbers are not given again: a line that is gone is not mistaken for another.
    lines_ever: u64,
}

/// The right to dial a node; given back when dropped.
#[derive(Debug)]
pub(super) struct Claim {
    roster: Arc<Roster>,
    name: NodeName,
}

impl Roster {
    /// A number for a session that is about to be.
    pub(super) fn next_id(&self) -> SessionId {
        SessionId(self.numbers.fetch_add(1, Ordering::Relaxed) + 1)
    }

    /// A session that is not over.
    pub(super) fn session(&self, id: SessionId) -> Option<Arc<Session>> {
        lock(&self.state).sessions.get(&id).cloned()
    }

    /// Takes a session in, or says why not. A session that the same node opened before is ended: its newer one
    /// says that it has given the older one up.
    pub(super) fn admit(&self, session: &Arc<Session>, now: Instant) -> Result<(), Refusal> {
        let mut state = lock(&self.state);
        state.check(session, now)?;
        let replaced = state.replaced_by(session);
        if replaced.is_none()
            && session.direction == Direction::Accepted
            && state.accepted() >= SESSIONS_MAX
        {
            return Err(Refusal::new(
                RefusalKind::Full,
                format!("{SESSIONS_MAX} sessions are open already"),
            ));
        }
        if let Some(older) = replaced {
            state.sessions.remove(&older.id);
            older.replace();
        }
        state.remember_region(session);
        state.sessions.insert(session.id, session.clone());
        drop(state);
        self.change();
        Ok(())
    }

    /// Takes no session with this data directory any more, and ends those that there are.
    pub(super) fn forget(&self, directory: DirectoryId, reason: &str) {
        let mut state = lock(&self.state);
        state.forgotten.insert(directory);
        let sessions = state.sessions.values();
        for session in sessions.filter(|session| session.peer.directory == directory) {
            session.close(reason);
        }
    }

    /// Forgets a session that is over.
    pub(super) fn remove(&self, id: SessionId) {
        lock(&self.state).sessions.remove(&id);
        self.change();
    }

    /// Reserves a node's name for one dialler; none if another dialler has it.
    pub(super) fn claim(self: &Arc<Self>, name: &NodeName) -> Option<Claim> {
        let fresh = lock(&self.state).dialled.insert(name.clone());
        fresh.then(|| Claim {
            roster: self.clone(),
            name: name.clone(),
        })
    }

    pub(super) fn is_claimed(&self, name: &NodeName) -> bool {
        lock(&self.state).dialled.contains(name)
    }

    /// Waits until no dialler has the name.
    pub(super) async fn unclaimed(&self, name: &NodeName) {
        let mut changes = self.changes();
        while self.is_claimed(name) {
            // The sender lives in self, which outlives this call.
            changes
                .changed()
                .await
                .expect("the sender is borrowed here");
        }
    }

    /// Closes every session politely; with `stopping`, takes no more.
    pub(super) fn close_all(&self, reason: &str, stopping: bool) {
        let mut state = lock(&self.state);
        state.stopping |= stopping;
        for session in state.sessions.values() {
            session.close(reason);
        }
    }

    /// The session in which the recipient was heard last, of those that take datagrams.
    pub(super) fn nearest(&self, recipient: Recipient<'_>) -> Option<Arc<Session>> {
        let state = lock(&self.state);
        let sessions = state.sessions.values().filter(|session| {
            let is_meant = match recipient {
                Recipient::Node(name) => session.peer.name == *name,
                Recipient::Address(address) => session.target.as_deref() == Some(address),
            };
            is_meant && session.takes_datagrams()
        });
        sessions
            .max_by_key(|session| session.reading().heard)
            .cloned()
    }

    /// Closes the sessions that a node opened, politely.
    pub(super) fn close_accepted(&self, name: &NodeName, reason: &str) {
        let state = lock(&self.state);
        for session in state.sessions.values() {
            if session.peer.name == *name && session.direction == Direction::Accepted {
                session.close(reason);
            }
        }
    }

    /// Adds a target's line; returns its number.
    pub(super) fn add_line(&self, line: Line) -> u64 {
        let mut state = lock(&self.state);
        let number = state.lines_ever;
        state.lines_ever += 1;
        state.lines.insert(number, line);
        number
    }

    /// Forgets the line of a target that is none any more.
    pub(super) fn remove_line(&self, number: u64) {
        lock(&self.state).lines.remove(&number);
        self.change();
    }

    /// Changes a target's line.
    pub(super) fn line(&self, number: u64, change: impl FnOnce(&mut Line)) {
        if let Some(line) = lock(&self.state).lines.get_mut(&number) {
            change(line);
        }
        self.change();
    }

    pub(super) fn links(&self, now: Instant) -> Vec<PeerLink> {
        let state = lock(&self.state);
        let reading = |id| state.sessions.get(&id).map(|session| session.reading());
        let dialled = state
            .lines
            .values()
            .map(|line| line.link(line.session().and_then(reading), now));
        let accepted = state
            .sessions
            .values()
            .filter(|session| session.direction == Direction::Accepted)
            .map(|session| link::accepted(session, now));
        dialled.chain(accepted).collect()
    }

    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    pub(super) fn change(&self) {
        self.changes
            .send_modify(|count| *count = count.wrapping_add(1));
    }
}

impl State {
    fn check(&self, session: &Session, now: Instant) -> Result<(), Refusal> {
        let peer = &session.peer;
        if self.stopping {
            return Err(Refusal::new(RefusalKind::NotNow, "the node stops"));
        }
        if self.forgotten.contains(&peer.directory) {
            let text = format!(
                "node '{}' was forgotten by an operator: it needs a new data directory",
                peer.name
            );
            return Err(Refusal::new(RefusalKind::Forgotten, text));
        }
        if let Some(region) = self
            .regions
            .get(&peer.name)
            .filter(|region| **region != peer.region)
        {
            let text = format!(
                "node '{}' was in region '{region}' and now says '{}': give it its region back, or another name if it is another node",
                peer.name, peer.region
            );
            return Err(Refusal::new(RefusalKind::Region, text));
        }
        if let Some(other) = self.namesake(session, now) {
            let text = format!(
                "two nodes are called '{}', at {} and at {}, with different data directories: give one of them another name and certificate",
                peer.name, other.address, session.address
            );
            return Err(Refusal::new(RefusalKind::DuplicateName, text));
        }
        Ok(())
    }

    /// A live session with another data directory under the same name.
    fn namesake(&self, session: &Session, now: Instant) -> Option<&Arc<Session>> {
        self.sessions.values().find(|other| {
            other.peer.name == session.peer.name
                && other.peer.directory != session.peer.directory
                && other.ending.is_open()
                && other.is_alive(now)
        })
    }

    fn replaced_by(&self, session: &Session) -> Option<Arc<Session>> {
        let same = |other: &&Arc<Session>| {
            other.peer.name == session.peer.name && other.direction == session.direction
        };
        self.sessions.values().find(same).cloned()
    }

    fn accepted(&self) -> usize {
        self.sessions
            .values()
            .filter(|session| session.direction == Direction::Accepted)
            .count()
    }

    fn remember_region(&mut self, session: &Session) {
        if self.regions.len() < NAMES_MAX {
            self.regions
                .insert(session.peer.name.clone(), session.peer.region.clone());
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        lock(&self.roster.state).dialled.remove(&self.name);
        self.roster.change();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peer::Peer;

    fn session(roster: &Roster, name: &str, directory: u64) -> Arc<Session> {
        let peer = Peer {
            name: name.parse().unwrap(),
            region: "us".parse().unwrap(),
            directory: DirectoryId(directory),
            former: Vec::new(),
            actors: Vec::new(),
        };
        let address = "127.0.0.1:1".parse().unwrap();
        Arc::new(Session::new(
            roster.next_id(),
            Direction::Accepted,
            peer,
            address,
            1,
        ))
    }

    #[test]
    fn sessions_are_bounded_but_a_node_may_always_replace_its_own() {
        let roster = Roster::default();
        let now = Instant::now();
        for number in 0..SESSIONS_MAX {
            roster
                .admit(&session(&roster, &format!("us-{number}"), 1), now)
                .unwrap();
        }
        let refused = roster.admit(&session(&roster, "us-x", 1), now).unwrap_err();
        assert_eq!(refused.kind, RefusalKind::Full);
        roster.admit(&session(&roster, "us-0", 1), now).unwrap();
    }

    #[test]
    fn a_namesake_is_let_in_once_the_other_is_silent() {
        let roster = Roster::default();
        let now = Instant::now();
        roster.admit(&session(&roster, "us-1", 1), now).unwrap();
        let refused = roster.admit(&session(&roster, "us-1", 2), now).unwrap_err();
        assert_eq!(refused.kind, RefusalKind::DuplicateName);
        let later = now + crate::peer::limits::SILENCE_MAX + std::time::Duration::from_millis(100);
        roster.admit(&session(&roster, "us-1", 2), later).unwrap();
    }

    #[test]
    fn a_forgotten_directory_stays_out_and_a_new_one_of_the_same_name_does_not() {
        let roster = Roster::default();
        let now = Instant::now();
        let before = session(&roster, "us-1", 1);
        roster.admit(&before, now).unwrap();
        roster.forget(DirectoryId(1), "forgotten");
        assert!(!before.ending.is_open());
        let refused = roster.admit(&session(&roster, "us-1", 1), now).unwrap_err();
        assert_eq!(refused.kind, RefusalKind::Forgotten);
        roster.admit(&session(&roster, "us-1", 2), now).unwrap();
    }

    #[test]
    fn a_name_is_dialled_by_one_at_a_time() {
        let roster = Arc::new(Roster::default());
        let name: NodeName = "us-1".parse().unwrap();
        let claim = roster.claim(&name);
        assert!(claim.is_some() && roster.claim(&name).is_none());
        drop(claim);
        assert!(roster.claim(&name).is_some());
    }
}
