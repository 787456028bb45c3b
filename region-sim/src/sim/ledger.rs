//! What was committed where: every row that ever was in an outbox, and what became of it at its origin. From it follows what
//! each host must hold in the end, row by row, however it got there.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    ops::ControlFlow,
    time::Duration,
};

use crdt::{ActorId, Delta, Hlc};
use node::{
    core::identity::DirectoryId,
    storage::{
        Batch, Change, Family, Storage,
        record::{meta::Mark, outbox},
    },
};

use super::agenda::HostIndex;

/// Every outbox row of a world.
#[derive(Debug, Default)]
pub struct Ledger {
    rows: Vec<Row>,
    known: BTreeSet<(ActorId, Hlc)>,
    /// Per host, each commit that power loss would take: its rows.
    unsynced: Vec<VecDeque<Vec<usize>>>,
    /// Rows that power loss took, not looked at yet.
    just_lost: Vec<usize>,
    /// Actors that lost rows which others hold.
    forgetful: BTreeSet<ActorId>,
    /// Rows that an origin dropped before a host took them.
    holes: BTreeMap<(HostIndex, ActorId), Vec<(Hlc, Hlc)>>,
}

/// One outbox row.
#[derive(Debug)]
pub struct Row {
    /// Whose.
    pub actor: ActorId,
    /// Its last stamp.
    pub last: Hlc,
    /// Where it was committed.
    pub origin: HostIndex,
    /// When.
    pub committed: Duration,
    /// What is in it.
    pub deltas: Vec<Delta>,
    /// Its origin has lost it.
    pub is_lost: bool,
    /// It was written by a copy that did not know that it was one: another row may have its stamp.
    pub is_doubtful: bool,
    /// Its origin took it back before anybody took it, and wrote it anew.
    pub is_withdrawn: bool,
}

impl Ledger {
    /// An empty ledger for so many hosts.
    pub fn new(hosts: usize) -> Self {
        Self {
            unsynced: vec![VecDeque::new(); hosts],
            ..Self::default()
        }
    }

    /// All rows.
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// All rows that were not taken back.
    pub fn standing(&self) -> impl Iterator<Item = &Row> {
        self.rows.iter().filter(|row| !row.is_withdrawn)
    }

    /// The newest row that a host has of each of its logs.
    pub fn newest(&self, host: HostIndex) -> BTreeMap<ActorId, Hlc> {
        let mut newest = BTreeMap::new();
        let own = self.standing().filter(|row| row.origin == host);
        for row in own.filter(|row| !row.is_lost && !row.is_doubtful) {
            let last: &mut Hlc = newest.entry(row.actor).or_default();
            *last = row.last.max(*last);
        }
        newest
    }

    /// A commit happened. Gives the places of its outbox rows. Rows of any other directory than the `trusted` ones are doubtful.
    pub fn committed(
        &mut self,
        host: HostIndex,
        batch: &Batch,
        is_synced: bool,
        trusted: &[DirectoryId],
        now: Duration,
    ) -> Vec<usize> {
        let mut rows = Vec::new();
        for change in &batch.changes {
            if let Change::Put {
                family: Family::Outbox,
                key,
                value,
            } = change
            {
                let directory = DirectoryId(address(key).0.directory());
                let is_doubtful = !trusted.contains(&directory);
                rows.extend(self.enter(host, key, value, is_doubtful, now));
            }
        }
        self.note_withdrawn(host, batch);
        let entered = rows.clone();
        self.unsynced[host].push_back(rows);
        if is_synced {
            self.synced(host);
        }
        entered
    }

    /// The storage of a host was opened: rows may be in it although their commit was said to have failed, and rows that were taken back
    /// are there again, or are not. What an old copy wrote that nobody has confirmed yet is doubtful.
    pub fn found(&mut self, host: HostIndex, storage: &dyn Storage, is_copy: bool, now: Duration) {
        let mut found = Vec::new();
        let scanned = storage.scan(Family::Outbox, b"", None, &mut |key, value| {
            found.push((key.to_vec(), value.to_vec()));
            ControlFlow::Continue(())
        });
        assert!(scanned.is_ok(), "a storage that was opened can be read");
        for (key, value) in &found {
            if !self.known.contains(&address(key)) {
                self.enter(host, key, value, is_copy, now);
            }
        }
        let stored: BTreeSet<(ActorId, Hlc)> = found.iter().map(|(key, _)| address(key)).collect();
        for row in self.rows.iter_mut().filter(|row| row.origin == host) {
            let trimmed = Mark::Trimmed.load(storage, row.actor).unwrap_or(Hlc::ZERO);
            let is_stored = stored.contains(&(row.actor, row.last));
            row.is_withdrawn = !is_stored && !row.is_lost && row.last > trimmed;
        }
    }

    /// Rows that a batch ends without counting them as trimmed are taken back.
    fn note_withdrawn(&mut self, host: HostIndex, batch: &Batch) {
        let trims = |actor: ActorId| {
            let mut trimmed = Batch::default();
            Mark::Trimmed.store(&mut trimmed, actor, Hlc::ZERO);
            let mark = change_key(&trimmed.changes[0]);
            batch
                .changes
                .iter()
                .any(|change| change_key(change) == mark)
        };
        for change in &batch.changes {
            let Change::DeleteRange {
                family: Family::Outbox,
                from,
                to,
            } = change
            else {
                continue;
            };
            let (actor, first) = address(from);
            let (_, end) = address(to);
            if trims(actor) {
                continue;
            }
            let ended = |row: &&mut Row| {
                row.origin == host
                    && !row.is_lost
                    && row.actor == actor
                    && (first..end).contains(&row.last)
            };
            self.rows
                .iter_mut()
                .filter(ended)
                .for_each(|row| row.is_withdrawn = true);
        }
    }

    /// Everything that a host committed survives power loss from now on.
    pub fn synced(&mut self, host: HostIndex) {
        self.unsynced[host].clear();
    }

    /// A host lost what it had not synced, but for its `kept` oldest commits. Gives whether anything was lost.
    pub fn power_lost(&mut self, host: HostIndex, kept: usize) -> bool {
        let lost: Vec<Vec<usize>> = self.unsynced[host].drain(..).skip(kept).collect();
        for &row in lost.iter().flatten() {
            self.rows[row].is_lost = true;
            self.just_lost.push(row);
        }
        !lost.is_empty()
    }

    /// Looks at what power loss has just taken: an actor whose lost rows `is_held` by another host must never stamp again.
    pub fn note_forgetful(&mut self, is_held: impl Fn(&Row) -> bool) {
        for row in std::mem::take(&mut self.just_lost) {
            if is_held(&self.rows[row]) {
                self.forgetful.insert(self.rows[row].actor);
            }
        }
    }

    /// Whether an actor has forgotten stamps that others hold.
    pub fn is_forgetful(&self, actor: ActorId) -> bool {
        self.forgetful.contains(&actor)
    }

    /// The rows that a host has of its own.
    pub fn kept(&self, host: HostIndex) -> BTreeSet<usize> {
        let rows = self.rows.iter().enumerate();
        rows.filter(|(_, row)| row.origin == host && !row.is_lost)
            .map(|(place, _)| place)
            .collect()
    }

    /// Of its own rows a host has these again, or still, and no others.
    pub fn replaced(&mut self, host: HostIndex, kept: &BTreeSet<usize>) {
        self.unsynced[host].clear();
        for (place, row) in self.rows.iter_mut().enumerate() {
            if row.origin == host {
                row.is_lost = !kept.contains(&place);
            }
        }
    }

    /// A host was told that rows in `(after, upto]` will not come.
    pub fn skipped(&mut self, host: HostIndex, actor: ActorId, after: Hlc, upto: Hlc) {
        if after < upto {
            self.holes
                .entry((host, actor))
                .or_default()
                .push((after, upto));
        }
    }

    /// What a host was told will not come.
    pub fn holes(&self, host: HostIndex) -> impl Iterator<Item = (ActorId, Hlc, Hlc)> + '_ {
        self.holes
            .iter()
            .filter(move |((holder, _), _)| *holder == host)
            .flat_map(|((_, actor), holes)| {
                holes
                    .iter()
                    .map(move |(after, upto)| (*actor, *after, *upto))
            })
    }

    /// Whether a host was told that this row will not come.
    pub fn is_in_hole(&self, host: HostIndex, row: &Row) -> bool {
        self.holes.get(&(host, row.actor)).is_some_and(|holes| {
            holes
                .iter()
                .any(|(after, upto)| *after < row.last && row.last <= *upto)
        })
    }

    fn enter(
        &mut self,
        host: HostIndex,
        key: &[u8],
        value: &[u8],
        is_doubtful: bool,
        now: Duration,
    ) -> Option<usize> {
        let (actor, last) = address(key);
        let deltas = outbox::decode(value).ok()?;
        self.known.insert((actor, last));
        self.rows.push(Row {
            actor,
            last,
            origin: host,
            committed: now,
            deltas,
            is_lost: false,
            is_doubtful,
            is_withdrawn: false,
        });
        Some(self.rows.len() - 1)
    }
}

fn change_key(change: &Change) -> Option<&[u8]> {
    match change {
        Change::Put { key, .. } => Some(key),
        Change::Delete { .. } | Change::DeleteRange { .. } => None,
    }
}

fn address(key: &[u8]) -> (ActorId, Hlc) {
    let actor = key
        .first_chunk()
        .map_or(0, |bits: &[u8; 8]| u64::from_be_bytes(*bits));
    let last = outbox::last_stamp(key).unwrap_or(Hlc::ZERO);
    (ActorId::from_u64(actor), last)
}
