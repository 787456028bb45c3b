//! Requests out of bytes: RESP arrays of bulk strings, and inline commands.
//!
//! The parser never copies and never looks twice at a byte: it remembers how far it understood the command at the front
//! of the buffer, and where each argument lies. When the last byte is there it takes the whole command off the buffer as
//! one frame; arguments are slices of it. What a header announces is checked before anything is
//! reserved for it; what is too large is dropped as it comes in, without being stored.

use bytes::{Buf, Bytes, BytesMut};

use super::{
    args::{Args, Span},
    inline,
    limits::{ARGS_MAX, BULK_HEADER_MAX, LINE_BYTES_MAX, Limits},
    number::parse_i64,
};
use crate::{config::Size, core::reply::Refusal};

/// A complete request.
#[derive(Debug)]
pub(super) enum Request<'a> {
    /// A command within the limits.
    Command(Args<'a>),
    /// A command that was skipped because it or one of its arguments is too large.
    TooLarge(Refusal),
}

/// The bytes are not a request and nothing after them can be trusted. *Fatal* for the connection; state unchanged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum ProtocolError {
    /// The number of arguments is no number, or too many. *Fatal.*
    #[error("invalid multibulk length")]
    InvalidCount,
    /// The length of an argument is no number, negative, or beyond everything allowed. *Fatal.*
    #[error("invalid bulk length")]
    InvalidLength,
    /// An argument does not begin with a dollar sign. *Fatal.*
    #[error("expected '$', got '{}'", printable(*.0))]
    ExpectedBulk(u8),
    /// A line without an end. *Fatal.*
    #[error("too big inline request")]
    LineTooLong,
    /// A header without an end, where the number of arguments was expected. *Fatal.*
    #[error("too big mbulk count string")]
    CountTooLong,
    /// A header without an end, where the length of an argument was expected. *Fatal.*
    #[error("too big bulk count string")]
    LengthTooLong,
    /// An inline command with a quote left open. *Fatal.*
    #[error("unbalanced quotes in request")]
    UnbalancedQuotes,
}

impl ProtocolError {
    /// What the client is told.
    pub(super) fn refusal(self) -> Refusal {
        Refusal::Redis(format!("ERR Protocol error: {self}"))
    }
}

fn printable(byte: u8) -> char {
    match byte {
        b'\r' | b'\n' => ' ',
        byte if byte.is_ascii() => char::from(byte),
        _ => '?',
    }
}

/// Where the parser is in the command at the front of the buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// At its first byte.
    Start,
    /// At the header of an argument; this many are missing, this one included.
    Header { missing: usize },
    /// In an argument of so many bytes, line end included.
    Payload { missing: usize, bytes: usize },
}

/// A parser of one connection's input.
#[derive(Debug)]
pub(super) struct Parser {
    value_bytes: usize,
    command_bytes: usize,
    state: State,
    /// Bytes of the buffer that are understood; what lies before belongs to the current command.
    understood: usize,
    /// Bytes in which no line end was found yet, beyond `understood`.
    searched: usize,
    /// Set once the current command is known to be too large: from then on nothing of it is kept.
    too_large: Option<Refusal>,
    spans: Vec<Span>,
    frame: Bytes,
}

impl Parser {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            value_bytes: limits.value_bytes,
            command_bytes: limits.command_bytes.max(limits.value_bytes),
            state: State::Start,
            understood: 0,
            searched: 0,
            too_large: None,
            spans: Vec::new(),
            frame: Bytes::new(),
        }
    }

    /// How many bytes the argument that is being received still lacks; 0 outside of one and in one that is skipped.
    pub(super) fn lacks(&self, buffered: usize) -> usize {
        match self.state {
            State::Payload { bytes, .. } if self.too_large.is_none() => {
                (self.understood + bytes).saturating_sub(buffered)
            }
            _ => 0,
        }
    }

    /// The next request of `input`, which is consumed up to its end; `None` when it is not complete.
    pub(super) fn next(
        &mut self,
        input: &mut BytesMut,
    ) -> Result<Option<Request<'_>>, ProtocolError> {
        // The frame of the previous request would keep the read buffer from being reused.
        self.frame = Bytes::new();
        loop {
            let progressed = match self.state {
                State::Start if input.is_empty() => None,
                State::Start if input[0] == b'*' => self.count(input)?,
                State::Start => self.inline(input)?,
                State::Header { missing } => self.header(input, missing)?,
                State::Payload { missing, bytes } => self.payload(input, missing, bytes),
            };
            match progressed {
                None => return Ok(None),
                Some(Progress::Within) => {}
                Some(Progress::Complete) => return Ok(Some(self.complete(input))),
            }
        }
    }

    /// `*<count>\r\n`. A command of no arguments is none.
    fn count(&mut self, input: &mut BytesMut) -> Result<Option<Progress>, ProtocolError> {
        let Some(end) = self.line_end(input, b'\r', ProtocolError::CountTooLong)? else {
            return Ok(None);
        };
        let count = parse_i64(&input[1..end]).filter(|count| *count <= ARGS_MAX);
        let count = count.ok_or(ProtocolError::InvalidCount)?;
        self.advance_to(end + 2);
        match usize::try_from(count) {
            Ok(missing) if missing > 0 => {
                self.begin();
                self.state = State::Header { missing };
            }
            _ => self.forget(input),
        }
        Ok(Some(Progress::Within))
    }

    /// `$<length>\r\n`.
    fn header(
        &mut self,
        input: &mut BytesMut,
        missing: usize,
    ) -> Result<Option<Progress>, ProtocolError> {
        let at = self.understood;
        let Some(end) = self.line_end(input, b'\r', ProtocolError::LengthTooLong)? else {
            return Ok(None);
        };
        if input[at] != b'$' {
            return Err(ProtocolError::ExpectedBulk(input[at]));
        }
        let length = parse_i64(&input[at + 1..end]).filter(|length| *length <= BULK_HEADER_MAX);
        let length = length.and_then(|length| usize::try_from(length).ok());
        let length = length.ok_or(ProtocolError::InvalidLength)?;
        self.advance_to(end + 2);
        self.state = State::Payload {
            missing,
            bytes: length + 2,
        };
        self.admit(input, length);
        Ok(Some(Progress::Within))
    }

    /// Decides whether an argument of `length` bytes is kept.
    fn admit(&mut self, input: &mut BytesMut, length: usize) {
        if self.too_large.is_none() {
            self.too_large = self.excess(length);
        }
        if self.too_large.is_some() {
            self.spans.clear();
            self.forget(input);
        }
    }

    fn excess(&self, length: usize) -> Option<Refusal> {
        if length > self.value_bytes {
            return Some(value_too_large(length, self.value_bytes));
        }
        let command = self.understood + length + 2;
        (command > self.command_bytes).then(|| {
            Refusal::TooLarge(format!(
                "a command of more than {} is over limits.command_bytes; nothing was written",
                size(self.command_bytes)
            ))
        })
    }

    fn payload(&mut self, input: &mut BytesMut, missing: usize, bytes: usize) -> Option<Progress> {
        if self.too_large.is_some() {
            return self.skip(input, missing, bytes);
        }
        let start = self.understood;
        if input.len() < start + bytes {
            return None;
        }
        let end = start + bytes - 2;
        self.spans.push(Span { start, end });
        self.advance_to(start + bytes);
        Some(self.argument_done(missing))
    }

    /// Drops what came of an argument that is too large.
    fn skip(&mut self, input: &mut BytesMut, missing: usize, bytes: usize) -> Option<Progress> {
        let dropped = bytes.min(input.len());
        input.advance(dropped);
        if dropped == bytes {
            return Some(self.argument_done(missing));
        }
        self.state = State::Payload {
            missing,
            bytes: bytes - dropped,
        };
        None
    }

    fn argument_done(&mut self, missing: usize) -> Progress {
        if missing == 1 {
            return Progress::Complete;
        }
        self.state = State::Header {
            missing: missing - 1,
        };
        Progress::Within
    }

    /// Takes the finished command off the buffer. An inline command has left it already.
    fn complete(&mut self, input: &mut BytesMut) -> Request<'_> {
        self.state = State::Start;
        if let Some(refusal) = self.too_large.take() {
            return Request::TooLarge(refusal);
        }
        if self.understood > 0 {
            self.frame = input.split_to(self.understood).freeze();
            self.advance_to(0);
        }
        Request::Command(Args::new(&self.frame, &self.spans))
    }

    /// A line that is a command by itself. An empty one is none.
    fn inline(&mut self, input: &mut BytesMut) -> Result<Option<Progress>, ProtocolError> {
        let Some(end) = self.line_end(input, b'\n', ProtocolError::LineTooLong)? else {
            return Ok(None);
        };
        let line = input.split_to(end + 1);
        self.advance_to(0);
        self.begin();
        let line = line[..end].strip_suffix(b"\r").unwrap_or(&line[..end]);
        let mut words = Vec::with_capacity(line.len());
        inline::split(line, &mut words, &mut self.spans)
            .map_err(|inline::Unbalanced| ProtocolError::UnbalancedQuotes)?;
        let Some(longest) = self.spans.iter().map(|span| span.end - span.start).max() else {
            return Ok(Some(Progress::Within));
        };
        if longest > self.value_bytes {
            self.too_large = Some(value_too_large(longest, self.value_bytes));
        }
        self.frame = Bytes::from(words);
        Ok(Some(Progress::Complete))
    }

    /// Where the line that begins at `understood` ends; a line that ends in `\r` has one more byte in the buffer.
    fn line_end(
        &mut self,
        input: &BytesMut,
        ending: u8,
        too_long: ProtocolError,
    ) -> Result<Option<usize>, ProtocolError> {
        let from = self.searched.max(self.understood);
        let found = input[from..].iter().position(|byte| *byte == ending);
        let end = found.map_or(input.len(), |offset| from + offset);
        if end - self.understood > LINE_BYTES_MAX {
            return Err(too_long);
        }
        self.searched = end;
        let last = if ending == b'\r' { end + 1 } else { end };
        Ok((found.is_some() && last < input.len()).then_some(end))
    }

    fn advance_to(&mut self, offset: usize) {
        self.understood = offset;
        self.searched = offset;
    }

    /// Drops the understood bytes.
    fn forget(&mut self, input: &mut BytesMut) {
        input.advance(self.understood);
        self.advance_to(0);
    }

    fn begin(&mut self) {
        self.spans.clear();
        self.spans.shrink_to(SPANS_KEPT_MAX);
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    /// Something was understood, and there is more to do.
    Within,
    /// The command's last byte was understood.
    Complete,
}

fn value_too_large(bytes: usize, limit: usize) -> Refusal {
    Refusal::TooLarge(format!(
        "an argument of {bytes} bytes is over limits.value_bytes ({}); nothing was written",
        size(limit)
    ))
}

/// A limit as the configuration writes it.
fn size(limit: usize) -> Size {
    Size::new(limit as u64)
}

/// Places for arguments that are kept from one command to the next.
const SPANS_KEPT_MAX: usize = 1024;

#[cfg(test)]
#[path = "tests/parser.rs"]
mod tests;
