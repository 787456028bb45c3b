//! A database that can be closed and opened again under its users.
//!
//! ```text
//!   Open(db) ──take──▶ Reopening ──▶ Open(db')     its users wait meanwhile, for a bounded time
//!      ▲                   │
//!      └── a user did not  ├──▶ Open(db', read-only)
//!          let go in time  └──▶ Closed(why)
//! ```
//!
//! Users hold a lease (a counted reference), never a lock, so a scan's visitor may read and write. RocksDB lets a
//! directory be opened once: the old database is closed when its last lease is gone, and only then opened anew.

use std::{
    sync::{Arc, Condvar, Mutex, PoisonError, RwLock},
    thread,
    time::{Duration, Instant},
};

use rocksdb::DB;

/// The database, or what became of it.
pub(super) struct Handle {
    slot: RwLock<Slot>,
    settled: Mutex<()>,
    settled_signal: Condvar,
}

enum Slot {
    Open(Arc<DB>),
    Reopening,
    Closed(String),
}

impl Handle {
    pub(super) fn new(db: DB) -> Self {
        Self {
            slot: RwLock::new(Slot::Open(Arc::new(db))),
            settled: Mutex::new(()),
            settled_signal: Condvar::new(),
        }
    }

    /// The database, waiting while it is being opened again; else why there is none.
    pub(super) fn lease(&self) -> Result<Arc<DB>, String> {
        match self.peek() {
            Some(leased) => leased,
            None => self.lease_when_settled(),
        }
    }

    /// The database, or nothing where that would take waiting.
    pub(super) fn try_lease(&self) -> Option<Result<Arc<DB>, String>> {
        self.peek()
    }

    /// Closes the database once nobody uses it, and puts what `open` makes in its place. Whoever asks meanwhile waits.
    /// Where a user does not let go within [`DRAIN_TIMEOUT`], everything stays as it was and `Err` says so.
    ///
    /// One caller at a time.
    pub(super) fn replace(&self, open: impl FnOnce() -> Result<DB, String>) -> Result<(), String> {
        match self.exchange(Slot::Reopening) {
            Slot::Open(db) => match drain(db) {
                Ok(alone) => drop(alone),
                Err(shared) => {
                    self.settle(Slot::Open(shared));
                    return Err("a reader did not let go of it in time".to_owned());
                }
            },
            Slot::Reopening | Slot::Closed(_) => {}
        }
        self.settle(match open() {
            Ok(db) => Slot::Open(Arc::new(db)),
            Err(reason) => Slot::Closed(reason),
        });
        Ok(())
    }

    fn peek(&self) -> Option<Result<Arc<DB>, String>> {
        match &*self.slot.read().unwrap_or_else(PoisonError::into_inner) {
            Slot::Open(db) => Some(Ok(Arc::clone(db))),
            Slot::Closed(reason) => Some(Err(reason.clone())),
            Slot::Reopening => None,
        }
    }

    fn lease_when_settled(&self) -> Result<Arc<DB>, String> {
        let turn = self.settled.lock().unwrap_or_else(PoisonError::into_inner);
        // The wait holds the mutex that `settle` takes after the slot changed: no signal is missed.
        let waited = self
            .settled_signal
            .wait_timeout_while(turn, LEASE_TIMEOUT, |()| self.peek().is_none());
        drop(waited);
        self.peek()
            .unwrap_or_else(|| Err("the database is still being opened again".to_owned()))
    }

    fn exchange(&self, slot: Slot) -> Slot {
        let mut held = self.slot.write().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *held, slot)
    }

    fn settle(&self, slot: Slot) {
        self.exchange(slot);
        drop(self.settled.lock().unwrap_or_else(PoisonError::into_inner));
        self.settled_signal.notify_all();
    }
}

/// Waits until this is the only reference.
fn drain(mut db: Arc<DB>) -> Result<DB, Arc<DB>> {
    let deadline = Instant::now() + DRAIN_TIMEOUT;
    loop {
        match Arc::try_unwrap(db) {
            Ok(alone) => return Ok(alone),
            Err(shared) if Instant::now() >= deadline => return Err(shared),
            Err(shared) => db = shared,
        }
        thread::sleep(DRAIN_POLL);
    }
}

/// How long reopening waits for the users of the database.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);
const DRAIN_POLL: Duration = Duration::from_millis(1);
/// How long a user waits for a database that is being opened again. Longer than the drain: a scan whose visitor reads
/// holds a lease and waits for one, and the drain must give way first.
const LEASE_TIMEOUT: Duration = Duration::from_secs(10);

const _: () = assert!(DRAIN_TIMEOUT.as_secs() < LEASE_TIMEOUT.as_secs());
