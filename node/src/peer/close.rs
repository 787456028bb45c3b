//! How a session ends: at once, or politely, and with the reason that came first.

use quinn::VarInt;
use tokio::sync::watch;

/// Why a session ends, for the peer (a code and a text in QUIC's close) and for this node's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct End {
    pub(super) code: VarInt,
    pub(super) reason: String,
}

impl End {
    pub(super) fn new(code: VarInt, reason: impl Into<String>) -> Self {
        Self {
            code,
            reason: reason.into(),
        }
    }
}

/// Set from anywhere, awaited by the session's tasks.
#[derive(Debug)]
pub(super) struct Ending(watch::Sender<Phase>);

#[derive(Debug, Clone)]
enum Phase {
    Open,
    /// Says what is queued and goodbye, then ends.
    Closing(End),
    Ended(End),
}

impl Ending {
    pub(super) fn new() -> Self {
        Self(watch::Sender::new(Phase::Open))
    }

    /// Asks for a polite end. Nothing happens if the session is ending already.
    pub(super) fn close(&self, end: End) {
        self.0.send_if_modified(|phase| {
            let open = matches!(phase, Phase::Open);
            if open {
                *phase = Phase::Closing(end);
            }
            open
        });
    }

    /// Ends at once. Returns why: a reason that was given before stays.
    pub(super) fn end(&self, end: End) -> End {
        let mut first = end;
        self.0.send_modify(|phase| {
            if let Phase::Closing(earlier) | Phase::Ended(earlier) = phase {
                first = earlier.clone();
            }
            *phase = Phase::Ended(first.clone());
        });
        first
    }

    pub(super) fn is_open(&self) -> bool {
        matches!(*self.0.borrow(), Phase::Open)
    }

    /// Waits until the session is asked to end, in either way.
    pub(super) async fn closing(&self) -> End {
        self.wait(|phase| match phase {
            Phase::Open => None,
            Phase::Closing(end) | Phase::Ended(end) => Some(end.clone()),
        })
        .await
    }

    /// Waits until the session has ended.
    pub(super) async fn ended(&self) -> End {
        self.wait(|phase| match phase {
            Phase::Open | Phase::Closing(_) => None,
            Phase::Ended(end) => Some(end.clone()),
        })
        .await
    }

    async fn wait(&self, reached: impl Fn(&Phase) -> Option<End>) -> End {
        let mut phases = self.0.subscribe();
        loop {
            let found = reached(&phases.borrow_and_update());
            match found {
                Some(end) => return end,
                // The sender lives in self, which outlives this call.
                None => phases.changed().await.expect("the sender is borrowed here"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peer::refusal::{CLOSE_BYE, CLOSE_SILENT};

    #[test]
    fn an_end_out_of_the_blue_is_its_own_reason() {
        let ending = Ending::new();
        let end = End::new(CLOSE_SILENT, "nothing was heard");
        assert_eq!(ending.end(end.clone()), end);
        assert!(!ending.is_open());
    }

    #[tokio::test]
    async fn the_first_reason_stays() {
        let ending = Ending::new();
        assert!(ending.is_open());
        ending.close(End::new(CLOSE_BYE, "first"));
        ending.close(End::new(CLOSE_SILENT, "second"));
        let stays = ending.end(End::new(CLOSE_SILENT, "third"));
        assert_eq!(stays, End::new(CLOSE_BYE, "first"));
        assert_eq!(ending.end(End::new(CLOSE_SILENT, "fourth")), stays);
        assert_eq!(ending.closing().await.reason, "first");
        assert_eq!(ending.ended().await, End::new(CLOSE_BYE, "first"));
    }
}
