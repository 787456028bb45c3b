//! What waits to be sent on one session, bounded in bytes.
//!
//! Acknowledgements have a lane of their own, which is emptied first, and room that nothing else takes: a peer that is sent much must
//! not for that reason stop hearing what it waits for.

use std::{collections::VecDeque, sync::Mutex};

use tokio::sync::Notify;

use super::{
    SendError,
    limits::{ACKNOWLEDGEMENT_BYTES, FRAME_BYTES_MAX, QUEUE_BYTES_MAX, QUEUE_ENTRY_BYTES},
    lock,
};

/// Filled from any thread, emptied by the session's writer. What the writer holds still counts until it was written.
#[derive(Debug, Default)]
pub(super) struct Queue {
    state: Mutex<State>,
    filled: Notify,
}

#[derive(Debug, Default)]
struct State {
    acknowledgements: VecDeque<Vec<u8>>,
    messages: VecDeque<Vec<u8>>,
    bytes: usize,
    closed: bool,
}

/// Which way a message leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lane {
    /// Before all others.
    Acknowledgement,
    /// In the order of messages.
    Bulk,
}

/// Messages that the writer took, to be given back to [`Queue::release`] when written.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) messages: Vec<Vec<u8>>,
    bytes: usize,
}

impl Queue {
    /// Appends an encoded message to its lane. A message is taken if it fits, or if it is alone.
    pub(super) fn push(&self, message: Vec<u8>, lane: Lane) -> Result<(), SendError> {
        if message.len() > FRAME_BYTES_MAX {
            return Err(SendError::TooLarge {
                bytes: message.len(),
            });
        }
        let bytes = message.len() + QUEUE_ENTRY_BYTES;
        let mut state = lock(&self.state);
        if state.closed {
            return Err(SendError::Closed);
        }
        let bytes_max = match lane {
            Lane::Acknowledgement => QUEUE_BYTES_MAX + ACKNOWLEDGEMENT_BYTES,
            Lane::Bulk => QUEUE_BYTES_MAX,
        };
        if state.bytes > 0 && state.bytes + bytes > bytes_max {
            return Err(SendError::Full);
        }
        state.bytes += bytes;
        state.lane(lane).push_back(message);
        drop(state);
        self.filled.notify_one();
        Ok(())
    }

    /// Takes no more messages; what is in it can still be taken out.
    pub(super) fn close(&self) {
        lock(&self.state).closed = true;
        self.filled.notify_one();
    }

    /// Waits for messages and takes the oldest: at least one, and together at most `bytes_max` unless it is one. None
    /// once the queue is closed and empty. For one writer only.
    pub(super) async fn take(&self, bytes_max: usize) -> Option<Batch> {
        loop {
            let filled = self.filled.notified();
            match self.take_now(bytes_max) {
                Ack::Batch(batch) => return Some(batch),
                Ack::Closed => return None,
                Ack::Empty => filled.await,
            }
        }
    }

    /// A batch was written: its bytes are free again.
    pub(super) fn release(&self, batch: Batch) {
        let mut state = lock(&self.state);
        debug_assert!(state.bytes >= batch.bytes);
        state.bytes -= batch.bytes;
    }

    fn take_now(&self, bytes_max: usize) -> Ack {
        let mut state = lock(&self.state);
        let mut batch = Batch {
            messages: Vec::new(),
            bytes: 0,
        };
        for lane in [Lane::Acknowledgement, Lane::Bulk] {
            let waiting = state.lane(lane);
            while let Some(message) = waiting.front() {
                let bytes = message.len() + QUEUE_ENTRY_BYTES;
                if !batch.messages.is_empty() && batch.bytes + bytes > bytes_max {
                    break;
                }
                batch.bytes += bytes;
                batch.messages.extend(waiting.pop_front());
            }
        }
        match (batch.messages.is_empty(), state.closed) {
            (false, _) => Ack::Batch(batch),
            (true, true) => Ack::Closed,
            (true, false) => Ack::Empty,
        }
    }
}

impl State {
    fn lane(&mut self, lane: Lane) -> &mut VecDeque<Vec<u8>> {
        match lane {
            Lane::Acknowledgement => &mut self.acknowledgements,
            Lane::Bulk => &mut self.messages,
        }
    }
}

enum Ack {
    Batch(Batch),
    Empty,
    Closed,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn messages_leave_in_order_and_together() {
        let queue = Queue::default();
        for byte in 0..5 {
            queue.push(vec![byte], Lane::Bulk).unwrap();
        }
        let batch = queue.take(3 * (1 + QUEUE_ENTRY_BYTES)).await.unwrap();
        assert_eq!(batch.messages, [[0], [1], [2]]);
        assert_eq!(
            queue.take(1).await.unwrap().messages,
            [[3]],
            "one always leaves"
        );
    }

    #[tokio::test]
    async fn bytes_count_until_they_are_written() {
        let queue = Queue::default();
        queue
            .push(vec![0; QUEUE_BYTES_MAX / 2], Lane::Bulk)
            .unwrap();
        assert!(matches!(
            queue.push(vec![0; QUEUE_BYTES_MAX / 2], Lane::Bulk),
            Err(SendError::Full)
        ));
        let batch = queue.take(usize::MAX).await.unwrap();
        assert!(matches!(
            queue.push(vec![0; QUEUE_BYTES_MAX / 2], Lane::Bulk),
            Err(SendError::Full)
        ));
        queue.release(batch);
        queue
            .push(vec![0; QUEUE_BYTES_MAX / 2], Lane::Bulk)
            .unwrap();
    }

    #[test]
    fn a_message_larger_than_the_queue_passes_alone_and_one_larger_than_a_frame_never() {
        let queue = Queue::default();
        queue
            .push(vec![0; QUEUE_BYTES_MAX + 1], Lane::Bulk)
            .unwrap();
        assert!(matches!(
            queue.push(Vec::new(), Lane::Bulk),
            Err(SendError::Full)
        ));
        let huge = vec![0; FRAME_BYTES_MAX + 1];
        assert!(matches!(
            Queue::default().push(huge, Lane::Bulk),
            Err(SendError::TooLarge { .. })
        ));
    }

    #[test]
    fn empty_messages_are_bounded_too() {
        let queue = Queue::default();
        let taken = (0..)
            .take_while(|_| queue.push(Vec::new(), Lane::Bulk).is_ok())
            .count();
        assert_eq!(taken, QUEUE_BYTES_MAX / QUEUE_ENTRY_BYTES);
    }

    #[tokio::test]
    async fn acknowledgements_leave_first_and_find_room_where_nothing_else_does() {
        let queue = Queue::default();
        queue.push(vec![0; QUEUE_BYTES_MAX], Lane::Bulk).unwrap();
        assert!(matches!(
            queue.push(vec![1], Lane::Bulk),
            Err(SendError::Full)
        ));
        for word in [2, 3] {
            queue.push(vec![word], Lane::Acknowledgement).unwrap();
        }
        let room = ACKNOWLEDGEMENT_BYTES / QUEUE_ENTRY_BYTES;
        let more = (0..).take_while(|_| queue.push(Vec::new(), Lane::Acknowledgement).is_ok());
        assert!(more.count() < room, "their room has an end too");
        let first = queue.take(2 * (1 + QUEUE_ENTRY_BYTES)).await.unwrap();
        assert_eq!(first.messages, [[2], [3]], "in their own order");
    }

    #[tokio::test]
    async fn a_closed_queue_is_emptied_and_then_ends() {
        let queue = Queue::default();
        queue.push(vec![1], Lane::Bulk).unwrap();
        queue.close();
        assert!(matches!(
            queue.push(vec![2], Lane::Bulk),
            Err(SendError::Closed)
        ));
        assert_eq!(queue.take(10).await.unwrap().messages, [[1]]);
        assert!(queue.take(10).await.is_none());
    }
}
