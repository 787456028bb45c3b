//! What all connections of a door share.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU16, AtomicU64, Ordering},
    },
    time::Instant,
};

use super::{clients::Clients, levels::Levels, limits::Limits, meter::Meters, settings::Settings};

/// The state behind the door that is not the node's.
#[derive(Debug)]
pub(super) struct ServerState {
    pub(super) limits: Limits,
    /// The levels of connections that chose none.
    pub(super) levels: Levels,
    pub(super) settings: Settings,
    pub(super) clients: Arc<Clients>,
    pub(super) meters: Meters,
    pub(super) since: Instant,
    pub(super) traffic: Traffic,
    /// TCP port that is listened on; 0 until then.
    pub(super) port: AtomicU16,
}

/// Bytes that passed.
#[derive(Debug, Default)]
pub(super) struct Traffic {
    received: AtomicU64,
    sent: AtomicU64,
}

impl ServerState {
    pub(super) fn new(limits: Limits, levels: Levels) -> Self {
        Self {
            limits,
            levels,
            settings: Settings::new(&limits),
            clients: Arc::default(),
            meters: Meters::new(),
            since: Instant::now(),
            traffic: Traffic::default(),
            port: AtomicU16::new(0),
        }
    }
}

impl Traffic {
    pub(super) fn add_received(&self, bytes: usize) {
        self.received.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(super) fn add_sent(&self, bytes: usize) {
        self.sent.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(super) fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    pub(super) fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }
}
