//! Threads that watch over storage: free space, failures, and the sync of the log.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use crossbeam_channel::{Receiver, RecvTimeoutError, select};

use super::{
    context::Node,
    health::{self, Health},
    queue::Work,
};
use crate::{
    config::Size,
    core::Input,
    storage::{Batch, Durability, Storage, disk::free_bytes, rocks::RocksStorage},
};

/// Watches the disk under the data directory, reopens storage after a failure, reads the clock's offset file, and remembers
/// the intake.
pub struct Watch {
    pub(super) node: Node,
    pub(super) data_dir: PathBuf,
    pub(super) min_free_bytes: u64,
    /// Its end is the signal to stop.
    pub(super) running: Receiver<()>,
}

impl Watch {
    /// Watches until the other end of `running` is dropped.
    pub fn run(self) {
        let (mut is_full, mut is_told) = (false, true);
        let mut save_at = Instant::now() + SAVE_INTERVAL;
        let mut reopen_at = Instant::now();
        while self.running.recv_timeout(WATCH_INTERVAL) == Err(RecvTimeoutError::Timeout) {
            self.node.inner().clock.read_offset();
            is_full = self.watch_space(is_full);
            if let Some(failure) = self.node.inner().storage.failure() {
                if Instant::now() >= reopen_at {
                    reopen_at = Instant::now() + REOPEN_INTERVAL;
                    is_told = self.mend(&failure);
                }
                continue;
            }
            // A full queue hears of it later: a shard that is never told would refuse writes for ever.
            is_told = is_told || self.tell(|| Work::Reopened);
            if is_told && !is_full {
                self.node.inner().health.mend(health::DISK);
            }
            self.save_known();
            if Instant::now() >= save_at {
                save_at = Instant::now() + SAVE_INTERVAL;
                self.save_intake();
            }
        }
        self.save_intake();
        self.save_known();
    }

    /// Remembers who was met.
    fn save_known(&self) {
        let inner = self.node.inner();
        let commit = |batch: &Batch| inner.storage.commit(batch, Durability::Power);
        if let Err(error) = inner.known.save(commit) {
            tracing::warn!(%error, "which nodes this one knows was not stored; it is tried again");
        }
    }

    /// Refuses writes while less than `storage.min_free_disk` is free: before RocksDB meets the wall, where it would fail in
    /// the middle of things.
    fn watch_space(&self, was_full: bool) -> bool {
        let free = match free_bytes(&self.data_dir) {
            Ok(free) => free,
            Err(error) => {
                tracing::warn!(folder = %self.data_dir.display(), %error, "the free space of the disk could not be read");
                return was_full;
            }
        };
        metrics::gauge!(crate::metrics::DISK_FREE_BYTES).set(free as f64);
        // Somewhat more must be free before writes go on, so that the node does not go back and forth.
        let wanted = if was_full {
            self.min_free_bytes + self.min_free_bytes / 8
        } else {
            self.min_free_bytes
        };
        let is_full = free < wanted;
        if is_full != was_full && !self.tell_space(is_full, free) {
            return was_full; // to be told again
        }
        is_full
    }

    /// Whether every shard knows.
    fn tell_space(&self, is_full: bool, free: u64) -> bool {
        let reason = is_full.then(|| {
            format!(
                "{} are free on the disk of this node, storage.min_free_disk is {}",
                Size::new(free).rounded(),
                Size::new(self.min_free_bytes)
            )
        });
        match &reason {
            Some(reason) => {
                tracing::error!(
                    free = %Size::new(free).rounded(),
                    min_free_disk = %Size::new(self.min_free_bytes),
                    "the disk is nearly full: writes are refused until there is space"
                );
                self.node.inner().health.fail(health::DISK, reason.clone());
            }
            None => {
                tracing::info!(free = %Size::new(free).rounded(), "the disk has space again: writes are taken")
            }
        }
        self.tell(|| Work::Input(Input::ReadOnly(reason.clone())))
    }

    /// Opens storage again. Whether every shard knows, if it worked.
    fn mend(&self, failure: &str) -> bool {
        self.node
            .inner()
            .health
            .fail(health::DISK, format!("storage failed: {failure}"));
        let reopened = self.node.inner().storage.reopen();
        self.node.inner().hot.clear();
        match reopened {
            Ok(()) => {
                tracing::info!("storage was reopened after a failure");
                self.tell(|| Work::Reopened)
            }
            Err(error) => {
                tracing::error!(%error, "storage could not be reopened; it is tried again");
                false
            }
        }
    }

    /// Remembers how far the intake is. Origins let go of their rows when it survives even power loss, and the rows before it do:
    /// so it is synced, whatever `storage.fsync` says.
    fn save_intake(&self) {
        let batch = self.node.inner().outbound.unsaved();
        if batch.is_empty() {
            return;
        }
        match self.node.inner().storage.commit(&batch, Durability::Power) {
            Ok(()) => self.node.inner().outbound.saved(),
            // What is not remembered is shipped again: nothing is lost.
            Err(error) => {
                tracing::warn!(%error, "how far this node has taken other regions' writes was not stored")
            }
        }
    }

    /// Whether every shard was told. Being told twice changes nothing.
    fn tell(&self, work: impl Fn() -> Work) -> bool {
        let mut is_told = true;
        for queue in &self.node.inner().shards {
            if let Err(error) = queue.send(work()) {
                is_told = false;
                tracing::warn!(%error, "a shard was not told about the disk; it is tried again");
            }
        }
        is_told
    }
}

/// Syncs the log an interval after something was written, until the other end of `running` is dropped, then once more. What is written in
/// that interval is synced with it, and a disk that does nothing is not made to spin.
pub fn sync_log(
    storage: &RocksStorage,
    interval: Duration,
    health: &Health,
    running: &Receiver<()>,
) {
    let mut is_running = true;
    let mut is_owed = true;
    while is_running {
        if !is_owed {
            select! {
                recv(storage.unsynced()) -> _ => {}
                recv(running) -> _ => {}
            }
        }
        is_running = running.recv_timeout(interval) == Err(RecvTimeoutError::Timeout);
        is_owed = true;
        if storage.failure().is_some() {
            continue; // being reopened
        }
        // Taken before the sync: what is written beside it is synced the next time.
        let _ = storage.unsynced().try_recv();
        let begun = Instant::now();
        match storage.sync() {
            Ok(()) => is_owed = false,
            Err(error) => {
                tracing::error!(%error, "the log could not be synced; writes are refused until storage is reopened");
                health.fail(health::DISK, error.to_string());
            }
        }
        metrics::histogram!(crate::metrics::SYNC_DURATION_SECONDS)
            .record(begun.elapsed().as_secs_f64());
    }
}

/// The other end's drop ends the threads that hold its receivers.
pub type Running = crossbeam_channel::Sender<()>;

/// A signal that lasts as long as the sender.
pub fn running() -> (Running, Receiver<()>) {
    crossbeam_channel::bounded(0)
}

/// How often the disk is looked at, and the clock's offset file read, as the documentation says of that.
const WATCH_INTERVAL: Duration = Duration::from_millis(100);
/// How often a failed storage is tried.
const REOPEN_INTERVAL: Duration = Duration::from_secs(1);
/// How often the intake is remembered: what is shipped again after a crash is at most about this much.
const SAVE_INTERVAL: Duration = Duration::from_secs(1);
