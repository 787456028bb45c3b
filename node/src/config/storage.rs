//! `[storage]`: how state is kept on disk.

use std::{ops::RangeInclusive, time::Duration};

use serde::{Deserialize, Serialize};

use super::{Size, duration, faults::Faults};

/// How state is kept on disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Storage {
    /// When a write is durable. Default `interval`.
    pub fsync: Fsync,
    /// How often the log is synced to the disk with `fsync = "interval"`: 1 ms to 1 min, default `100ms`. It is what a
    /// power loss may take. Too small: the disk is busy with syncing. Too large: more is lost with the power.
    #[serde(with = "duration")]
    pub fsync_interval: Duration,
    /// Memory for blocks read from disk, shared by all shards; at least 8 MiB, default `256MiB`. Decoded keys take up to three quarters
    /// as much again. Rule of thumb: a quarter of the machine's memory, or the size of the data in use if that is less. Too small: reads go to the disk. Too
    /// large: the operating system's own cache starves, or the node is killed for its memory.
    pub cache: Size,
    /// Single-writer loops, one thread each: up to 256, default `0`, the number of cores. Fixed when the data directory
    /// is created; later changes are refused there. Too few: one core does all the work. Too many: batches, and with them
    /// throughput, shrink.
    pub shards: u16,
    /// Free space on the disk below which the node refuses writes (`-READONLY`) and goes on reading and replicating what it
    /// has; at least 1 MiB, default `64MiB`. It takes writes again by itself when there is space. Rule of thumb: what
    /// the node writes in ten seconds, plus two memory tables. Too small: the engine meets the full disk first, and the node has
    /// to reopen it. Too large: space that cannot be used.
    pub min_free_disk: Size,
}

/// When a write is durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Fsync {
    /// Before it is acknowledged: survives power loss. Batches share one sync.
    Always,
    /// Before it is acknowledged it survives the death of the process; power loss may take what was written since
    /// the last sync.
    Interval,
}

impl Default for Storage {
    fn default() -> Self {
        Self {
            fsync: Fsync::Interval,
            fsync_interval: Duration::from_millis(100),
            cache: Size::mib(256),
            shards: 0,
            min_free_disk: Size::mib(64),
        }
    }
}

impl Storage {
    pub(super) fn check(&self, faults: &mut Faults) {
        faults.bound_duration("storage.fsync_interval", self.fsync_interval, INTERVAL);
        faults.bound("storage.cache", self.cache, CACHE);
        faults.bound("storage.shards", self.shards, 0..=SHARDS_MAX);
        faults.bound("storage.min_free_disk", self.min_free_disk, FREE_DISK);
    }
}

const INTERVAL: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(60);
const CACHE: RangeInclusive<Size> = Size::mib(8)..=Size::gib(4096);
const FREE_DISK: RangeInclusive<Size> = Size::mib(1)..=Size::gib(1024);
const SHARDS_MAX: u16 = 256;
