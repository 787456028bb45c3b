//! The clients that are connected, as CLIENT LIST shows them.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU8, AtomicU16, AtomicU64, Ordering},
    },
    time::Instant,
};

use super::{
    table::{self, CommandIndex},
    writer::Protocol,
};

/// Both ends of a connection, as text (`127.0.0.1:1234`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ends {
    /// The client's end.
    pub remote: String,
    /// This node's end.
    pub local: String,
}

/// One connected client. Written by its connection alone; read by anyone.
#[derive(Debug)]
pub(super) struct Client {
    id: u64,
    ends: Ends,
    since: Instant,
    /// Milliseconds after `since` when it last sent something.
    active_ms: AtomicU64,
    protocol: AtomicU8,
    last_command: AtomicU16,
    names: Mutex<Names>,
}

#[derive(Debug, Default, Clone)]
struct Names {
    client: String,
    library: String,
    library_version: String,
}

impl Client {
    pub(super) fn id(&self) -> u64 {
        self.id
    }

    pub(super) fn name(&self) -> String {
        self.names().client.clone()
    }

    pub(super) fn set_name(&self, name: String) {
        self.names().client = name;
    }

    pub(super) fn set_library(&self, name: String) {
        self.names().library = name;
    }

    pub(super) fn set_library_version(&self, version: String) {
        self.names().library_version = version;
    }

    pub(super) fn set_protocol(&self, protocol: Protocol) {
        let version = if protocol == Protocol::Resp3 { 3 } else { 2 };
        self.protocol.store(version, Ordering::Relaxed);
    }

    /// Notes that the client was heard of `now`.
    pub(super) fn touch(&self, now: Instant) {
        let ms = now.saturating_duration_since(self.since).as_millis();
        let ms = u64::try_from(ms).unwrap_or(u64::MAX);
        self.active_ms.store(ms, Ordering::Relaxed);
    }

    /// Notes the command that the client asks for, which may be the one that shows it.
    pub(super) fn begin(&self, command: CommandIndex) {
        self.last_command.store(command.0, Ordering::Relaxed);
    }

    /// The line of CLIENT LIST, without its end.
    pub(super) fn describe(&self, now: Instant) -> String {
        let age = now.saturating_duration_since(self.since);
        let active = std::time::Duration::from_millis(self.active_ms.load(Ordering::Relaxed));
        let names = self.names().clone();
        let command = CommandIndex(self.last_command.load(Ordering::Relaxed));
        format!(
            "id={} addr={} laddr={} fd=-1 name={} age={} idle={} flags=N db=0 sub=0 psub=0 ssub=0 multi=-1 qbuf=0 \
             qbuf-free=0 argv-mem=0 multi-mem=0 rbs=0 rbp=0 obl=0 oll=0 omem=0 tot-mem=0 events=r cmd={} \
             user=default redir=-1 resp={} lib-name={} lib-ver={}",
            self.id,
            self.ends.remote,
            self.ends.local,
            names.client,
            age.as_secs(),
            age.saturating_sub(active).as_secs(),
            table::by_index(command).map_or("NULL", |command| command.name),
            self.protocol.load(Ordering::Relaxed),
            names.library,
            names.library_version,
        )
    }

    fn names(&self) -> MutexGuard<'_, Names> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Everyone who is connected.
#[derive(Debug, Default)]
pub(super) struct Clients {
    next_id: AtomicU64,
    connected: Mutex<BTreeMap<u64, Arc<Client>>>,
    rejected: AtomicU64,
}

impl Clients {
    /// Takes a client in, unless there are `max` already.
    pub(super) fn admit(self: &Arc<Self>, ends: Ends, max: usize) -> Option<Admission> {
        let mut connected = self.connected();
        if connected.len() >= max {
            self.rejected.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        let id = self.next_id.fetch_add(1, Ordering::Relaxed) + 1;
        let client = Arc::new(Client {
            id,
            ends,
            since: Instant::now(),
            active_ms: AtomicU64::new(0),
            protocol: AtomicU8::new(2),
            last_command: AtomicU16::new(CommandIndex::UNKNOWN.0),
            names: Mutex::default(),
        });
        connected.insert(id, Arc::clone(&client));
        metrics::gauge!(crate::metrics::CLIENTS).set(connected.len() as f64);
        Some(Admission {
            client,
            clients: Arc::clone(self),
        })
    }

    pub(super) fn count(&self) -> usize {
        self.connected().len()
    }

    /// How many connections there have been.
    pub(super) fn received(&self) -> u64 {
        self.next_id.load(Ordering::Relaxed) + self.rejected()
    }

    pub(super) fn rejected(&self) -> u64 {
        self.rejected.load(Ordering::Relaxed)
    }

    /// The lines of CLIENT LIST: of everyone, or of those with these ids.
    pub(super) fn describe(&self, ids: Option<&[u64]>) -> String {
        let now = Instant::now();
        let connected: Vec<_> = self.connected().values().cloned().collect();
        let wanted = |client: &&Arc<Client>| ids.is_none_or(|ids| ids.contains(&client.id));
        connected
            .iter()
            .filter(wanted)
            .fold(String::new(), |mut text, client| {
                // Writing to a string does not fail.
                let _ = writeln!(text, "{}", client.describe(now));
                text
            })
    }

    fn connected(&self) -> MutexGuard<'_, BTreeMap<u64, Arc<Client>>> {
        self.connected
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// A client's place among the connected, given back when dropped.
#[derive(Debug)]
pub(super) struct Admission {
    client: Arc<Client>,
    clients: Arc<Clients>,
}

impl Admission {
    pub(super) fn client(&self) -> Arc<Client> {
        Arc::clone(&self.client)
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        let mut connected = self.clients.connected();
        connected.remove(&self.client.id);
        metrics::gauge!(crate::metrics::CLIENTS).set(connected.len() as f64);
    }
}
