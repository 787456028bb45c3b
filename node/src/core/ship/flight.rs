//! What a stream has sent and its destination has not answered.

use std::collections::VecDeque;

use crdt::Hlc;

use super::log::FRAME_BYTES;

/// The messages on their way, in the order of the stream.
#[derive(Debug, Default)]
pub(super) struct Flight {
    messages: VecDeque<InFlight>,
    bytes: usize,
}

/// A message on its way: the half-open interval `(after, last]` of the stream.
#[derive(Debug)]
struct InFlight {
    after: Hlc,
    last: Hlc,
    carries: Carries,
    bytes: usize,
}

/// What is in a message on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Carries {
    /// It says where to go on.
    Nothing,
    Rows(u64),
    /// Rows, some of which are in the log no longer.
    Gone,
    /// It says that the destination is to go on behind a row that cannot be read.
    Damaged,
}

impl Carries {
    /// How many rows, where that is known.
    fn count(self) -> Option<u64> {
        match self {
            Self::Nothing => Some(0),
            Self::Rows(count) => Some(count),
            Self::Gone | Self::Damaged => None,
        }
    }

    fn are_rows(self) -> bool {
        matches!(self, Self::Rows(_) | Self::Gone)
    }
}

/// What came with the messages that have arrived.
pub(super) struct Landed {
    /// How many rows; `None` where the messages do not say, because others were sent before a rewind or rows of them are gone.
    pub(super) rows: Option<u64>,
    /// Up to here rows came, one message after the other from the cursor on.
    pub(super) filled: Hlc,
}

impl Flight {
    pub(super) fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// Whether another message may leave.
    pub(super) fn has_room(&self) -> bool {
        self.bytes < WINDOW_BYTES && self.messages.len() < WINDOW_FRAMES
    }

    /// The end of each message, in order.
    pub(super) fn lasts(&self) -> impl Iterator<Item = Hlc> + '_ {
        self.messages.iter().map(|sent| sent.last)
    }

    /// A message leaves.
    pub(super) fn depart(&mut self, after: Hlc, last: Hlc, carries: Carries, bytes: usize) {
        debug_assert!(after < last, "a message carries a part of the stream");
        debug_assert!(
            self.messages.back().is_none_or(|sent| sent.last == after),
            "what is under way has no gap"
        );
        self.messages.push_back(InFlight {
            after,
            last,
            carries,
            bytes,
        });
        self.bytes += bytes;
    }

    /// Messages up to `taken` have arrived at a destination that was at `cursor`.
    pub(super) fn land(&mut self, cursor: Hlc, taken: Hlc) -> Landed {
        let (mut reached, mut filled) = (cursor, cursor);
        let mut rows = Some(0);
        while let Some(done) = self.messages.pop_front_if(|sent| sent.last <= taken) {
            self.bytes -= done.bytes;
            let is_next = done.after == reached;
            rows = rows
                .zip(done.carries.count())
                .filter(|_| is_next)
                .map(|(sum, more)| sum + more);
            if done.after == filled && done.carries.are_rows() {
                filled = done.last;
            }
            reached = done.last;
        }
        debug_assert!(
            self.lasts().all(|last| last > taken),
            "what is left was not taken"
        );
        debug_assert!(
            !self.is_empty() || self.bytes == 0,
            "bytes are those of messages"
        );
        let rows = rows.filter(|_| reached == taken);
        Landed { rows, filled }
    }

    /// Rows up to `upto` are gone from the log.
    pub(super) fn trim(&mut self, upto: Hlc) {
        for sent in &mut self.messages {
            if sent.after < upto && sent.carries.are_rows() {
                sent.carries = Carries::Gone;
            }
        }
    }

    /// Nothing is under way any more, or all of it is in doubt.
    pub(super) fn clear(&mut self) {
        self.messages.clear();
        self.bytes = 0;
    }
}

/// In flight per region and actor: enough for 50 MB/s over 80 ms.
const WINDOW_BYTES: usize = 4 << 20;
/// Messages in flight per region and actor.
const WINDOW_FRAMES: usize = 1024;

const _: () = assert!(FRAME_BYTES <= WINDOW_BYTES);
