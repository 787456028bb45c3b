//! Streams with nothing to carry: what they are promised, and when.

use std::time::Duration;

use crdt::Hlc;

use super::Stream;

impl Stream {
    /// Whether the destination has taken everything up to `newest`, nothing is under way to it, and it takes more. One that is to be told
    /// first where to go on would decline, and be told ever later.
    pub(in crate::core::ship) fn has_all(&self, newest: Hlc, now: Duration) -> bool {
        let has_taken = self.cursor.taken >= newest && self.in_flight.is_empty();
        has_taken && self.is_taking(now) && !self.is_bridging()
    }

    /// Whether it is time for a promise: at each tick at first, then once a second. Each promise of each shard wakes both nodes, and of a
    /// stream that is idle for long a watermark of a second ago is as good.
    pub(in crate::core::ship) fn wants_promise(&self, now: Duration) -> bool {
        self.promises < PROMISES_AT_ONCE || now >= self.promised_at + PROMISE_INTERVAL
    }

    /// Whether nothing is under way, and all is said that is said at once.
    pub(in crate::core::ship) fn is_at_rest(&self, is_promised: bool) -> bool {
        let has_said_all = !is_promised || self.promises >= PROMISES_AT_ONCE;
        has_said_all && self.pending_rows == 0 && self.in_flight.is_empty()
    }

    /// It was promised something.
    pub(in crate::core::ship) fn promised(&mut self, now: Duration) {
        self.promised_at = now;
        self.promises = self.promises.saturating_add(1);
    }
}

/// An idle stream is promised something at each tick so many times, and then once in this interval.
const PROMISES_AT_ONCE: u32 = 20;
const PROMISE_INTERVAL: Duration = Duration::from_secs(1);
