//! What is to be done, within the bytes of a round.

use bytes::Bytes;

use crate::{
    event::{Event, Output, Target},
    limits::PROBES_MAX,
    view::Counters,
};

#[derive(Debug, Default)]
pub(crate) struct Outbox {
    outputs: Vec<Output>,
    bytes_left: usize,
    probes_left: usize,
    pub(crate) counters: Counters,
}

impl Outbox {
    pub(crate) fn begin_round(&mut self, bytes: usize) {
        self.bytes_left = bytes;
        self.counters.rounds += 1;
    }

    /// What may still be sent in this round.
    pub(crate) fn bytes_left(&self) -> usize {
        self.bytes_left
    }

    pub(crate) fn begin_look(&mut self) {
        self.probes_left = PROBES_MAX;
    }

    /// Takes one of the direct questions that may still be asked; whether there was one.
    pub(crate) fn take_probe(&mut self) -> bool {
        let any = self.probes_left > 0;
        self.probes_left -= usize::from(any);
        any
    }

    /// Sends, unless the round's bytes are used up; whether it did.
    pub(crate) fn send(&mut self, to: Target, bytes: Vec<u8>) -> bool {
        if bytes.len() > self.bytes_left {
            self.counters.withheld += 1;
            return false;
        }
        debug_assert!(!bytes.is_empty(), "a datagram says something");
        self.bytes_left -= bytes.len();
        self.counters.datagrams_sent += 1;
        self.counters.bytes_sent += bytes.len() as u64;
        let bytes = Bytes::from(bytes);
        self.outputs.push(Output::Send { to, bytes });
        true
    }

    pub(crate) fn event(&mut self, event: Event) {
        self.outputs.push(Output::Event(event));
    }

    pub(crate) fn take(&mut self) -> Vec<Output> {
        std::mem::take(&mut self.outputs)
    }
}
