//! Refusals and failures as people see them: one clear log line each, and not one for every retry.

use std::{
    collections::{BTreeMap, VecDeque},
    net::SocketAddr,
    sync::Mutex,
    time::Instant,
};

use tracing::{debug, info, warn};

use super::{
    Direction,
    limits::{LOG_EVERY, LOG_KEYS_MAX, REFUSALS_MAX},
    lock,
    refusal::{Refusal, RefusalKind, Refuser},
};
use crate::names::NodeName;

/// A refusal that happened lately.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Who refused.
    pub by: Refuser,
    /// Who had dialled.
    pub direction: Direction,
    /// Where the peer is.
    pub address: SocketAddr,
    /// What it is called, where its certificate was seen.
    pub name: Option<NodeName>,
    /// Why.
    pub refusal: Refusal,
    /// How often in a row.
    pub times: u64,
}

#[derive(Debug, Default)]
pub(super) struct Journal {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    logged: BTreeMap<String, Logged>,
    refusals: VecDeque<Refused>,
}

#[derive(Debug)]
struct Logged {
    at: Instant,
    /// Not logged since.
    held_back: u64,
}

impl Journal {
    /// Records, counts and logs a refusal.
    pub(super) fn refused(&self, refused: Refused, now: Instant) {
        count(&refused);
        let line = self.line(&refused, now);
        self.remember(refused.clone());
        if let Some(repeated) = line {
            log(&refused, repeated);
        }
    }

    /// Logs that an address cannot be reached.
    pub(super) fn unreachable(&self, target: &str, text: &str, now: Instant) {
        if let Some(repeated) = self.admit(format!("unreachable {target} {text}"), now) {
            warn!(target = %target, repeated, "a peer cannot be reached, and is tried again: {text}");
        }
    }

    /// Recent refusals, the newest last.
    pub(super) fn refusals(&self) -> Vec<Refused> {
        lock(&self.state).refusals.iter().cloned().collect()
    }

    /// Whether a refusal is to be logged, and how often it was held back before.
    fn line(&self, refused: &Refused, now: Instant) -> Option<u64> {
        // Ports of dialling peers change with every attempt of some, their host does not.
        let key = format!(
            "refused {:?} {:?} {} {:?} {:?}",
            refused.by,
            refused.direction,
            refused.address.ip(),
            refused.name,
            refused.refusal.kind
        );
        self.admit(key, now)
    }

    fn admit(&self, key: String, now: Instant) -> Option<u64> {
        let mut state = lock(&self.state);
        if let Some(logged) = state.logged.get_mut(&key) {
            if now.saturating_duration_since(logged.at) < LOG_EVERY {
                logged.held_back += 1;
                return None;
            }
            logged.at = now;
            return Some(std::mem::take(&mut logged.held_back));
        }
        if state.logged.len() >= LOG_KEYS_MAX {
            state
                .logged
                .retain(|_, logged| now.saturating_duration_since(logged.at) < LOG_EVERY);
        }
        // Still full: that many different peers within a minute are an attack, and the log is not its tool.
        if state.logged.len() >= LOG_KEYS_MAX {
            return None;
        }
        state.logged.insert(
            key,
            Logged {
                at: now,
                held_back: 0,
            },
        );
        Some(0)
    }

    fn remember(&self, mut refused: Refused) {
        let mut state = lock(&self.state);
        if let Some(index) = state
            .refusals
            .iter()
            .position(|earlier| is_same(earlier, &refused))
        {
            let earlier = state.refusals.remove(index);
            refused.times += earlier.map_or(0, |earlier| earlier.times);
        }
        if state.refusals.len() >= REFUSALS_MAX {
            state.refusals.pop_front();
        }
        state.refusals.push_back(refused);
    }
}

fn is_same(earlier: &Refused, later: &Refused) -> bool {
    (
        earlier.by,
        earlier.direction,
        earlier.address.ip(),
        &earlier.name,
        earlier.refusal.kind,
    ) == (
        later.by,
        later.direction,
        later.address.ip(),
        &later.name,
        later.refusal.kind,
    )
}

fn count(refused: &Refused) {
    let by = match refused.by {
        Refuser::Local => "local",
        Refuser::Remote => "remote",
    };
    let reason = refused.refusal.kind.as_str();
    metrics::counter!("meridian_peer_refusals_total", "reason" => reason, "by" => by).increment(1);
}

fn log(refused: &Refused, repeated: u64) {
    let Refused {
        by,
        address,
        name,
        refusal,
        ..
    } = refused;
    let name = name.as_ref().map_or("(unknown)", NodeName::as_str);
    let reason = refusal.kind.as_str();
    match (refusal.kind, by) {
        (RefusalKind::Itself | RefusalKind::Redundant, _) => {
            debug!(%address, name, reason, "not a session: {refusal}");
        }
        (RefusalKind::NotNow, _) => {
            info!(%address, name, reason, repeated, "no session now: {refusal}")
        }
        (_, Refuser::Local) => warn!(%address, name, reason, repeated, "refused a peer: {refusal}"),
        (_, Refuser::Remote) => {
            warn!(%address, name, reason, repeated, "a peer refused this node: {refusal}")
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn refused(port: u16, kind: RefusalKind) -> Refused {
        Refused {
            by: Refuser::Local,
            direction: Direction::Accepted,
            address: SocketAddr::from(([10, 0, 0, 1], port)),
            name: None,
            refusal: Refusal::new(kind, "no"),
            times: 1,
        }
    }

    #[test]
    fn a_retrying_peer_is_logged_once_a_minute_and_counted_in_between() {
        let journal = Journal::default();
        let start = Instant::now();
        assert_eq!(journal.admit("a".to_owned(), start), Some(0));
        assert_eq!(journal.admit("a".to_owned(), start), None);
        assert_eq!(
            journal.admit("a".to_owned(), start + Duration::from_secs(1)),
            None
        );
        assert_eq!(journal.admit("b".to_owned(), start), Some(0));
        assert_eq!(journal.admit("a".to_owned(), start + LOG_EVERY), Some(2));
    }

    #[test]
    fn the_journal_is_bounded_whoever_knocks() {
        let journal = Journal::default();
        let now = Instant::now();
        for key in 0..2 * LOG_KEYS_MAX {
            journal.admit(key.to_string(), now);
        }
        assert_eq!(lock(&journal.state).logged.len(), LOG_KEYS_MAX);
        assert_eq!(journal.admit("later".to_owned(), now + LOG_EVERY), Some(0));
        assert_eq!(lock(&journal.state).logged.len(), 1);
    }

    #[test]
    fn repetitions_are_one_entry_with_a_count() {
        let journal = Journal::default();
        let now = Instant::now();
        for port in 0..5 {
            journal.refused(refused(port, RefusalKind::Cluster), now);
        }
        journal.refused(refused(9, RefusalKind::Full), now);
        let times: Vec<u64> = journal
            .refusals()
            .iter()
            .map(|refused| refused.times)
            .collect();
        assert_eq!(times, [5, 1]);
    }
}
