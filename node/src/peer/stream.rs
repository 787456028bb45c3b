//! Frames on a QUIC stream.

use std::mem;

use bytes::Bytes;
use metrics::Counter;
use quinn::{ConnectionError, ReadError, ReadExactError, RecvStream, SendStream, WriteError};

use super::{
    close::End,
    frame::{self, Decoder, FrameError},
    limits::READ_BYTES,
    refusal::{CLOSE_BYE, CLOSE_PROTOCOL, Refusal, printable},
    wire::WireError,
};

/// Why a stream yields or takes nothing more. *Fatal* to the session, never to the node.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum StreamError {
    /// The connection ended.
    #[error("{}", connection_text(.0))]
    Lost(#[from] ConnectionError),
    /// The peer gave the stream up while the connection lived.
    #[error("the peer gave up a stream")]
    Abandoned,
    /// The stream ended inside a frame.
    #[error("the stream ended in the middle of a frame")]
    Truncated,
    /// What came is no frame.
    #[error("malformed frame: {0}")]
    Frame(#[from] FrameError),
    /// What came in a frame is nothing that a peer may say.
    #[error("malformed content: {0}")]
    Wire(#[from] WireError),
    /// Something that the protocol does not allow at this point.
    #[error("protocol violation: {0}")]
    Violation(&'static str),
}

impl StreamError {
    /// How a session ends because of it.
    pub(super) fn into_end(self) -> End {
        let code = match self {
            Self::Lost(_) => CLOSE_BYE,
            Self::Abandoned
            | Self::Truncated
            | Self::Frame(_)
            | Self::Wire(_)
            | Self::Violation(_) => CLOSE_PROTOCOL,
        };
        End::new(code, self.to_string())
    }
}

/// Reads frames. Dropping a pending read loses nothing.
pub(super) struct FrameReader {
    stream: RecvStream,
    decoder: Decoder,
    received: Counter,
}

impl FrameReader {
    pub(super) fn new(stream: RecvStream, limit: usize) -> Self {
        Self {
            stream,
            decoder: Decoder::new(limit),
            received: Counter::noop(),
        }
    }

    /// From here on frames have at most `limit` bytes and are counted.
    pub(super) fn go_on(&mut self, limit: usize, received: Counter) {
        self.decoder.limit(limit);
        self.received = received;
    }

    /// What comes before the first frame: a stream's first byte.
    pub(super) async fn first(&mut self) -> Result<u8, StreamError> {
        let mut byte = [0];
        match self.stream.read_exact(&mut byte).await {
            Ok(()) => Ok(byte[0]),
            Err(ReadExactError::ReadError(ReadError::ConnectionLost(error))) => Err(error.into()),
            Err(_) => Err(StreamError::Abandoned),
        }
    }

    /// The next payload; none at the stream's end.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, StreamError> {
        loop {
            if let Some(payload) = self.decoder.next()? {
                return Ok(Some(payload));
            }
            match self.stream.read_chunk(READ_BYTES, true).await {
                Ok(Some(chunk)) => {
                    self.received.increment(chunk.bytes.len() as u64);
                    self.decoder.feed(&chunk.bytes);
                }
                Ok(None) if self.decoder.is_empty() => return Ok(None),
                Ok(None) => return Err(StreamError::Truncated),
                Err(ReadError::ConnectionLost(error)) => return Err(error.into()),
                Err(_) => return Err(StreamError::Abandoned),
            }
        }
    }
}

/// Writes frames.
pub(super) struct FrameWriter {
    stream: SendStream,
    buffer: Vec<u8>,
    sent: Counter,
}

impl FrameWriter {
    pub(super) fn new(stream: SendStream) -> Self {
        Self {
            stream,
            buffer: Vec::new(),
            sent: Counter::noop(),
        }
    }

    /// From here on bytes are counted.
    pub(super) fn go_on(&mut self, sent: Counter) {
        self.sent = sent;
    }

    /// Writes payloads, each in a frame, in one go. Waits while the peer does not read. Not to be dropped half-way.
    pub(super) async fn write(&mut self, payloads: &[impl AsRef<[u8]>]) -> Result<(), StreamError> {
        for payload in payloads {
            frame::encode(payload.as_ref(), &mut self.buffer);
        }
        let bytes = mem::take(&mut self.buffer);
        self.write_raw(bytes).await
    }

    /// Writes bytes as they are: a stream's first byte.
    pub(super) async fn write_raw(&mut self, bytes: Vec<u8>) -> Result<(), StreamError> {
        self.sent.increment(bytes.len() as u64);
        self.stream
            .write_chunk(Bytes::from(bytes))
            .await
            .map_err(|error| match error {
                WriteError::ConnectionLost(error) => error.into(),
                WriteError::Stopped(_) | WriteError::ClosedStream | WriteError::ZeroRttRejected => {
                    StreamError::Abandoned
                }
            })
    }

    /// Says that nothing follows.
    pub(super) fn finish(&mut self) -> Result<(), StreamError> {
        self.stream.finish().map_err(|_| StreamError::Abandoned)
    }
}

/// A connection's end in words.
pub(super) fn connection_text(error: &ConnectionError) -> String {
    if let Some((_, refusal)) = Refusal::behind(error) {
        return refusal.text;
    }
    match error {
        ConnectionError::ApplicationClosed(close) if !close.reason.is_empty() => {
            format!("closed by the peer: {}", printable(&close.reason))
        }
        ConnectionError::TimedOut => "nothing comes back from there".to_owned(),
        ConnectionError::Reset => "the peer restarted".to_owned(),
        ConnectionError::ConnectionClosed(_)
        | ConnectionError::ApplicationClosed(_)
        | ConnectionError::TransportError(_)
        | ConnectionError::VersionMismatch
        | ConnectionError::LocallyClosed
        | ConnectionError::CidsExhausted => printable(error.to_string().as_bytes()),
    }
}
