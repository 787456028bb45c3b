//! Requests on keys that other nodes hold: handed to one of them, with what is left of their time.
//!
//! Whom to ask, when to ask another one too, and what comes of an answer is [`core::node`](crate::core::node)'s to say. This is who waits for
//! which errand; questions are put on sessions, and timers run, in [`errand`](super::errand).

use std::{
    collections::HashMap, // looked up, never iterated in an order that matters
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::{Semaphore, oneshot, watch};

use crate::{
    core::{
        message::Answer,
        node::{Counts, ErrandId, Errands, Output},
        reply::{Refusal, Reply},
    },
    names::NodeName,
};

/// What is under way to other nodes and from them.
#[derive(Debug)]
pub struct Forwards {
    waiting: Mutex<Waiting>,
    /// Errands of other nodes that this one runs.
    pub(super) serving: Arc<Semaphore>,
}

/// Errands that are under way, and who waits for each.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    pub(super) errands: Errands,
    pub(super) waiters: HashMap<ErrandId, Waiter>,
}

/// Who waits for an errand.
#[derive(Debug)]
pub(super) struct Waiter {
    pub(super) outcome: oneshot::Sender<Outcome>,
    /// When the errand wants to be woken, since the process started.
    pub(super) due: watch::Sender<Duration>,
}

/// What came of an errand.
#[derive(Debug)]
pub(super) enum Outcome {
    Answered(Option<NodeName>, Answer),
    Counted(Counts),
}

impl Default for Forwards {
    fn default() -> Self {
        Self {
            waiting: Mutex::default(),
            serving: Arc::new(Semaphore::new(SERVING_MAX)),
        }
    }
}

impl Forwards {
    pub(super) fn lock(&self) -> MutexGuard<'_, Waiting> {
        // A change that panics ends the process: nothing half-changed is seen.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    /// Tells those who wait. Gives what is to be sent.
    pub(super) fn tell(&mut self, outputs: Vec<Output>) -> Vec<Output> {
        let mut sends = Vec::new();
        for output in outputs {
            match output {
                Output::Send { .. } => sends.push(output),
                Output::Due { errand, at } => {
                    if let Some(waiter) = self.waiters.get(&errand) {
                        waiter.due.send_replace(at);
                    }
                }
                Output::Done { errand, by, answer } => {
                    self.end(errand, Outcome::Answered(by, answer));
                }
                Output::Counted { errand, counts } => self.end(errand, Outcome::Counted(counts)),
            }
        }
        sends
    }

    fn end(&mut self, errand: ErrandId, outcome: Outcome) {
        if let Some(waiter) = self.waiters.remove(&errand) {
            // Whoever waited may have stopped just now.
            let _ = waiter.outcome.send(outcome);
        }
    }
}

/// The replies that an answer to operations holds, as many as were asked for.
pub fn replies(answer: Answer, count: usize) -> Vec<Reply> {
    match answer {
        Answer::Replies(replies) if replies.len() == count => replies,
        Answer::Refused(refusal) => vec![refusal.into(); count],
        _ => vec![no_answer().into(); count],
    }
}

pub(super) fn no_answer() -> Refusal {
    Refusal::Unavailable("another node answered something else".to_owned())
}

/// Errands of other nodes that run at the same time, at most.
const SERVING_MAX: usize = 4_096;
