//! The end of a run, awaited by threads that do something now and then until it comes.

use std::{
    sync::{Arc, Condvar, Mutex, PoisonError},
    time::Duration,
};

/// Comes once.
#[derive(Debug, Default)]
pub struct Stop {
    has_come: Mutex<bool>,
    comes: Condvar,
}

impl Stop {
    fn come(&self) {
        *self.has_come.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.comes.notify_all();
    }

    /// Waits for it, but no longer than this; gives whether it has come.
    pub fn within(&self, patience: Duration) -> bool {
        let has_come = self.has_come.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self
            .comes
            .wait_timeout_while(has_come, patience, |has_come| !*has_come);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }
}

/// Lets it come when it is dropped, however that happens.
#[derive(Debug, Default)]
pub struct StopOnDrop(Arc<Stop>);

impl StopOnDrop {
    /// For whoever waits for it.
    pub fn stop(&self) -> Arc<Stop> {
        self.0.clone()
    }
}

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.come();
    }
}
