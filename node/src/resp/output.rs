//! Replies on their way out: a queue of bytes that is written as fast as the client reads.

use std::{collections::VecDeque, io::IoSlice};

use bytes::{Buf, Bytes, BytesMut};

/// Bytes to write. Small replies are gathered in one tail; large values are queued as they are, without a copy.
#[derive(Debug, Default)]
pub(super) struct Output {
    chunks: VecDeque<Bytes>,
    tail: BytesMut,
    queued: usize,
}

impl Output {
    /// Appends bytes.
    pub(super) fn put(&mut self, bytes: &[u8]) {
        self.tail.extend_from_slice(bytes);
        if self.tail.len() >= CHUNK_BYTES {
            self.cut();
        }
    }

    /// Appends bytes without copying them, if they are many.
    pub(super) fn put_shared(&mut self, bytes: Bytes) {
        if bytes.len() < SHARED_MIN {
            return self.put(&bytes);
        }
        self.cut();
        self.queued += bytes.len();
        self.chunks.push_back(bytes);
    }

    /// Ends the tail, so that a growing queue never moves what it holds.
    fn cut(&mut self) {
        if !self.tail.is_empty() {
            self.queued += self.tail.len();
            self.chunks.push_back(self.tail.split().freeze());
        }
    }
}

impl Buf for Output {
    fn remaining(&self) -> usize {
        self.queued + self.tail.len()
    }

    fn chunk(&self) -> &[u8] {
        self.chunks.front().map_or(&self.tail[..], |chunk| chunk)
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let tail = Some(&self.tail[..]).filter(|tail| !tail.is_empty());
        let parts = self.chunks.iter().map(|chunk| &chunk[..]).chain(tail);
        let filled = slices.iter_mut().zip(parts);
        filled
            .map(|(slice, part)| *slice = IoSlice::new(part))
            .count()
    }

    fn advance(&mut self, count: usize) {
        let mut left = count;
        while let Some(chunk) = self.chunks.front_mut() {
            if left < chunk.len() {
                chunk.advance(left);
                self.queued -= left;
                return;
            }
            left -= chunk.len();
            self.queued -= chunk.len();
            self.chunks.pop_front();
        }
        self.tail.advance(left);
        if self.tail.is_empty() {
            self.tail.clear();
        }
    }
}

/// A tail of this size is ended.
const CHUNK_BYTES: usize = 64 << 10;

/// A value of this size is queued without a copy; below, the copy is cheaper than one more slice per write.
const SHARED_MIN: usize = 16 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_out_in_the_order_they_went_in() {
        let mut output = Output::default();
        let mut expected = Vec::new();
        for (index, size) in [3, SHARED_MIN, 0, CHUNK_BYTES + 7, 5, SHARED_MIN + 1]
            .into_iter()
            .enumerate()
        {
            let bytes = vec![index as u8; size];
            expected.extend_from_slice(&bytes);
            if index % 2 == 0 {
                output.put(&bytes);
            } else {
                output.put_shared(Bytes::from(bytes));
            }
        }
        assert_eq!(output.remaining(), expected.len());
        let mut slices = [IoSlice::new(&[]); 16];
        let filled = output.chunks_vectored(&mut slices);
        let seen: usize = slices[..filled].iter().map(|slice| slice.len()).sum();
        assert_eq!(seen, expected.len());

        let mut drained = Vec::new();
        while output.has_remaining() {
            let part = output.chunk().len().min(10_000);
            drained.extend_from_slice(&output.chunk()[..part]);
            output.advance(part);
        }
        assert_eq!(drained, expected);
        assert_eq!(output.remaining(), 0);
    }
}
