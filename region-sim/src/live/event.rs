//! What happened in a cluster, for people: kept, and told at once to whoever listens.

use std::{
    collections::VecDeque,
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// When, since the cluster was started.
    pub after: Duration,
    /// What, as a sentence.
    pub text: String,
}

impl Event {
    /// Whether a node died that nobody had told to.
    pub fn is_surprise(&self) -> bool {
        self.text.contains(DIED)
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>8.1}s  {}", self.after.as_secs_f64(), self.text)
    }
}

/// Told of every event as it happens, from any thread. It must not block.
pub type Listener = Arc<dyn Fn(&Event) + Send + Sync>;

/// The latest events.
pub(super) struct Events {
    start: Instant,
    latest: Mutex<VecDeque<Event>>,
    listener: Option<Listener>,
}

impl Events {
    /// None yet; `listener` is told of each instead of the log.
    pub fn new(listener: Option<Listener>) -> Self {
        Self {
            start: Instant::now(),
            latest: Mutex::default(),
            listener,
        }
    }

    /// Something happened just now.
    pub fn add(&self, text: String) {
        let event = Event {
            after: self.start.elapsed(),
            text,
        };
        match &self.listener {
            Some(listener) => listener(&event),
            None => tracing::info!("{}", event.text),
        }
        let mut latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        if latest.len() == KEPT {
            latest.pop_front();
        }
        latest.push_back(event);
    }

    /// What happened lately, oldest first.
    pub fn latest(&self) -> Vec<Event> {
        self.latest
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .iter()
            .cloned()
            .collect()
    }
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events")
            .field("latest", &self.latest)
            .finish_non_exhaustive()
    }
}

/// What is said of a node that died and was not told to.
pub(super) const DIED: &str = "died by itself";
const KEPT: usize = 64;
