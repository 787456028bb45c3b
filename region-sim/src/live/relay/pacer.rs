//! Alarms that ring on time. Tokio's own timers wake up to a millisecond late, which on a link of a
//! few milliseconds would be the larger part of the delay; and a kernel timer for each of the twenty
//! thousand sockets of a large cluster would cost more descriptors than a process may have. So one
//! thread sleeps until the earliest of all alarms, to some 50 µs.

use std::{
    cmp::{Ordering, Reverse},
    collections::BinaryHeap,
    io,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::Instant,
};

use tokio::sync::Notify;

/// The thread that rings alarms. It ends when this is dropped; alarms do not ring after that.
#[derive(Debug)]
pub struct Pacer {
    agenda: Arc<Agenda>,
}

impl Pacer {
    /// Starts the thread.
    ///
    /// # Errors
    /// If the system has no thread left.
    pub fn new() -> io::Result<Self> {
        let agenda = Arc::new(Agenda::default());
        let kept = agenda.clone();
        thread::Builder::new()
            .name("pacer".to_owned())
            .spawn(move || kept.keep())?;
        Ok(Self { agenda })
    }

    /// A new alarm, which is off.
    pub(super) fn alarm(&self) -> Alarm {
        Alarm {
            agenda: self.agenda.clone(),
            bell: Arc::default(),
            set_to: None,
        }
    }
}

impl Drop for Pacer {
    fn drop(&mut self) {
        self.agenda.entries().closed = true;
        self.agenda.changed.notify_one();
    }
}

/// An alarm that is set to one moment at a time.
#[derive(Debug)]
pub(super) struct Alarm {
    agenda: Arc<Agenda>,
    bell: Arc<Notify>,
    set_to: Option<Instant>,
}

impl Alarm {
    /// Sets the alarm to `at`, or off.
    pub fn set(&mut self, at: Option<Instant>) {
        if let Some(at) = at.filter(|_| at != self.set_to) {
            self.agenda.add(Entry {
                at,
                bell: self.bell.clone(),
            });
        }
        // The entry of an earlier setting stays and rings in vain.
        self.set_to = at;
    }

    /// An alarm of the same pacer.
    pub fn another(&self) -> Self {
        Self {
            agenda: self.agenda.clone(),
            bell: Arc::default(),
            set_to: None,
        }
    }

    /// Waits until the moment it is set to. Never ends while it is off.
    pub async fn rings(&mut self) {
        loop {
            self.bell.notified().await;
            if self.set_to.is_some_and(|at| at <= Instant::now()) {
                self.set_to = None;
                return;
            }
        }
    }
}

/// All alarms that are set, the earliest on top.
#[derive(Debug, Default)]
struct Agenda {
    entries: Mutex<Entries>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Entries {
    queue: BinaryHeap<Reverse<Entry>>,
    closed: bool,
}

impl Agenda {
    fn add(&self, entry: Entry) {
        let mut entries = self.entries();
        let earliest = entries
            .queue
            .peek()
            .is_none_or(|Reverse(first)| entry.at < first.at);
        entries.queue.push(Reverse(entry));
        if earliest {
            self.changed.notify_one();
        }
    }

    /// Rings what is due, sleeps until the next, for ever.
    fn keep(&self) {
        let mut entries = self.entries();
        while !entries.closed {
            let now = Instant::now();
            while let Some(Reverse(first)) = entries
                .queue
                .peek()
                .filter(|Reverse(first)| first.at <= now)
            {
                first.bell.notify_one();
                entries.queue.pop();
            }
            entries = match entries.queue.peek() {
                Some(Reverse(first)) => {
                    let left = first.at - now;
                    self.changed
                        .wait_timeout(entries, left)
                        .unwrap_or_else(PoisonError::into_inner)
                        .0
                }
                None => self
                    .changed
                    .wait(entries)
                    .unwrap_or_else(PoisonError::into_inner),
            };
        }
    }

    fn entries(&self) -> MutexGuard<'_, Entries> {
        // A push or a pop is done or not done.
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug)]
struct Entry {
    at: Instant,
    bell: Arc<Notify>,
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.at == other.at
    }
}

impl Eq for Entry {}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> Ordering {
        self.at.cmp(&other.at)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn alarms_ring_in_their_order_and_never_early() {
        let pacer = Pacer::new().unwrap();
        let (mut late, mut early, mut off) = (pacer.alarm(), pacer.alarm(), pacer.alarm());
        let start = Instant::now();
        let at = |ms| Some(start + Duration::from_millis(ms));
        late.set(at(40));
        early.set(at(20));
        off.set(at(10));
        off.set(None);
        tokio::select! {
            biased;
            () = off.rings() => panic!("it was off"),
            () = late.rings() => panic!("it was later"),
            () = early.rings() => assert!(start.elapsed() >= Duration::from_millis(20)),
        }
        early.set(at(60));
        early.set(at(30));
        early.rings().await;
        assert!(start.elapsed() >= Duration::from_millis(30));
        late.rings().await;
        assert!(start.elapsed() >= Duration::from_millis(40));
    }
}
