//! The arguments of one command, as slices of the bytes that came in.

use bytes::Bytes;

use super::{error, number::parse_i64};
use crate::core::{op::Key, reply::Refusal};

/// Where an argument lies in its frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) start: usize,
    pub(super) end: usize,
}

/// A command's arguments, its name first. Never empty.
#[derive(Debug, Clone, Copy)]
pub(super) struct Args<'a> {
    frame: &'a Bytes,
    spans: &'a [Span],
}

impl<'a> Args<'a> {
    pub(super) fn new(frame: &'a Bytes, spans: &'a [Span]) -> Self {
        debug_assert!(!spans.is_empty());
        debug_assert!(spans.iter().all(|span| span.end <= frame.len()));
        Self { frame, spans }
    }

    pub(super) fn len(&self) -> usize {
        self.spans.len()
    }

    /// The arguments without the first: those of `COMMAND GETKEYS …`, say. `None` if none would remain.
    pub(super) fn tail(&self, skip: usize) -> Option<Self> {
        let spans = self.spans.get(skip..).filter(|spans| !spans.is_empty())?;
        Some(Self {
            frame: self.frame,
            spans,
        })
    }

    /// Argument `index`; empty if there is none (arity is checked before a command runs).
    pub(super) fn at(&self, index: usize) -> &'a [u8] {
        self.spans
            .get(index)
            .map_or(&[], |span| &self.frame[span.start..span.end])
    }

    /// Argument `index` without a copy: it keeps the read buffer alive, so it is for what ends with the round.
    pub(super) fn slice(&self, index: usize) -> Bytes {
        self.spans
            .get(index)
            .map_or_else(Bytes::new, |span| self.frame.slice(span.start..span.end))
    }

    /// Argument `index` for what outlives the round, a stored value: a copy unless the argument
    /// is most of what it would keep alive. A slice of three bytes would pin a whole read buffer in a cache.
    pub(super) fn kept(&self, index: usize) -> Bytes {
        let text = self.at(index);
        if text.len() >= SLICE_KEPT_MIN && text.len() >= self.frame.len() / 4 {
            return self.slice(index);
        }
        Bytes::copy_from_slice(text)
    }

    /// The key at `index`, for a read.
    pub(super) fn key(&self, index: usize) -> Key {
        self.slice(index)
    }

    /// Whether argument `index` is this word, in any case.
    pub(super) fn is(&self, index: usize, word: &str) -> bool {
        self.at(index).eq_ignore_ascii_case(word.as_bytes())
    }

    /// Argument `index` as an integer.
    pub(super) fn int(&self, index: usize) -> Result<i64, Refusal> {
        parse_i64(self.at(index)).ok_or(Refusal::NotAnInteger)
    }

    /// Argument `index` as an integer, with an error text of the command's own.
    pub(super) fn int_or(&self, index: usize, text: &str) -> Result<i64, Refusal> {
        parse_i64(self.at(index)).ok_or_else(|| error::err(text))
    }

    /// The arguments from `index` on.
    pub(super) fn from(&self, index: usize) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let frame = self.frame;
        let spans = self.spans.get(index..).unwrap_or(&[]);
        spans.iter().map(|span| &frame[span.start..span.end])
    }
}

/// Smallest argument worth keeping as a slice of its buffer; a read buffer is at most four times as large unless the
/// argument itself made it grow.
const SLICE_KEPT_MIN: usize = 4 << 10;
