//! Frames: how a byte stream is cut into payloads.
//!
//! ```text
//!   ┌─────────┬───────┬─────────┬──────┬───────┬───────────┐
//!   │ version │ flags │ payload │ raw  │ crc32 │ payload … │
//!   │ u8      │ u8    │ u32     │ u32  │ u32   │           │   little endian
//!   └─────────┴───────┴─────────┴──────┴───────┴───────────┘
//!   flags   bit 0: the payload is one lz4 block; every other bit is zero
//!   payload its length as carried; raw: its length decompressed, equal to the former without lz4
//!   crc32   of the ten bytes before it and the payload as carried
//! ```
//!
//! Nothing is allocated for a length before it was checked, and then only as its bytes arrive: a frame that claims much
//! and sends little costs little.

use bytes::{Bytes, BytesMut};

use super::limits::COMPRESS_BYTES_MIN;

/// Why bytes are no frame. The stream is lost: where the next frame begins is unknown. *Fatal* to the session, never to the node.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum FrameError {
    /// From a release that cuts frames differently.
    #[error("frame format version {0} is not known here, only {FRAME_VERSION}")]
    Version(u8),
    /// Flags that are not defined.
    #[error("frame flags {0:#04x} are not known here")]
    Flags(u8),
    /// More than this stream carries.
    #[error("a frame of {claimed} bytes is above the limit of {limit}")]
    TooLarge { claimed: usize, limit: usize },
    /// The two lengths cannot belong together.
    #[error("a frame cannot carry {raw} bytes in {payload}")]
    Lengths { payload: usize, raw: usize },
    /// Damaged on the way.
    #[error("frame checksum {found:#010x} should be {expected:#010x}")]
    Checksum { found: u32, expected: u32 },
    /// Not lz4, or not of the length that was claimed.
    #[error("a frame does not decompress: {0}")]
    Compression(String),
}

/// Appends a frame that carries `raw`, compressed where that is worth it. `raw` is within the limit of the stream.
pub(super) fn encode(raw: &[u8], out: &mut Vec<u8>) {
    debug_assert!(u32::try_from(raw.len()).is_ok());
    let compressed = compress(raw);
    let (flags, payload) = match &compressed {
        Some(block) => (LZ4, block.as_slice()),
        None => (0, raw),
    };
    let mut head = [FRAME_VERSION, flags, 0, 0, 0, 0, 0, 0, 0, 0];
    head[PAYLOAD].copy_from_slice(&(payload.len() as u32).to_le_bytes());
    head[RAW].copy_from_slice(&(raw.len() as u32).to_le_bytes());
    out.reserve(HEADER_BYTES + payload.len());
    out.extend_from_slice(&head);
    out.extend_from_slice(&checksum(&head, payload).to_le_bytes());
    out.extend_from_slice(payload);
}

/// Cuts a stream into the payloads that it carries.
pub(super) struct Decoder {
    buffer: BytesMut,
    limit: usize,
}

impl Decoder {
    /// For a stream whose payloads have at most `limit` bytes, decompressed.
    pub(super) fn new(limit: usize) -> Self {
        Self {
            buffer: BytesMut::new(),
            limit,
        }
    }

    /// From here on payloads have at most `limit` bytes.
    pub(super) fn limit(&mut self, limit: usize) {
        self.limit = limit;
    }

    /// Takes bytes in, in any pieces.
    pub(super) fn feed(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole payload, decompressed; none if more bytes are needed.
    pub(super) fn next(&mut self) -> Result<Option<Bytes>, FrameError> {
        let Some(header) = self.header()? else {
            return Ok(None);
        };
        if self.buffer.len() < HEADER_BYTES + header.payload {
            return Ok(None);
        }
        let mut frame = self.buffer.split_to(HEADER_BYTES + header.payload);
        self.shrink();
        let payload = frame.split_off(HEADER_BYTES).freeze();
        let expected = checksum(&frame[..CHECKED_BYTES], &payload);
        if header.checksum != expected {
            return Err(FrameError::Checksum {
                found: header.checksum,
                expected,
            });
        }
        if header.compressed {
            decompress(&payload, header.raw).map(Some)
        } else {
            Ok(Some(payload))
        }
    }

    /// Whether the stream may end here: not in the middle of a frame.
    pub(super) fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }

    fn header(&self) -> Result<Option<Header>, FrameError> {
        match self.buffer.first_chunk::<HEADER_BYTES>() {
            Some(bytes) => Header::parse(bytes, self.limit).map(Some),
            None => Ok(None),
        }
    }

    /// One huge message must not hold its memory for the rest of the session.
    fn shrink(&mut self) {
        if self.buffer.is_empty() {
            self.buffer = BytesMut::new();
        }
    }
}

struct Header {
    compressed: bool,
    payload: usize,
    raw: usize,
    checksum: u32,
}

impl Header {
    fn parse(bytes: &[u8; HEADER_BYTES], limit: usize) -> Result<Self, FrameError> {
        let [version, flags, ..] = *bytes;
        if version != FRAME_VERSION {
            return Err(FrameError::Version(version));
        }
        if flags & !LZ4 != 0 {
            return Err(FrameError::Flags(flags));
        }
        let header = Self {
            compressed: flags & LZ4 != 0,
            payload: number(bytes, PAYLOAD) as usize,
            raw: number(bytes, RAW) as usize,
            checksum: number(bytes, CHECKSUM),
        };
        header.check_lengths(limit)?;
        Ok(header)
    }

    fn check_lengths(&self, limit: usize) -> Result<(), FrameError> {
        let (payload, raw) = (self.payload, self.raw);
        let claimed = payload.max(raw);
        if claimed > limit {
            return Err(FrameError::TooLarge { claimed, limit });
        }
        let possible = match self.compressed {
            true => payload < raw && raw <= payload.saturating_mul(LZ4_RATIO_MAX),
            false => payload == raw,
        };
        if possible {
            Ok(())
        } else {
            Err(FrameError::Lengths { payload, raw })
        }
    }
}

fn number(bytes: &[u8; HEADER_BYTES], range: std::ops::Range<usize>) -> u32 {
    let mut number = [0; 4];
    number.copy_from_slice(&bytes[range]);
    u32::from_le_bytes(number)
}

fn checksum(head: &[u8], payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(head);
    hasher.update(payload);
    hasher.finalize()
}

fn compress(raw: &[u8]) -> Option<Vec<u8>> {
    if raw.len() < COMPRESS_BYTES_MIN {
        return None;
    }
    let block = lz4_flex::block::compress(raw);
    (block.len() < raw.len()).then_some(block)
}

fn decompress(block: &[u8], raw_bytes: usize) -> Result<Bytes, FrameError> {
    let mut raw = vec![0; raw_bytes];
    let written = lz4_flex::block::decompress_into(block, &mut raw)
        .map_err(|error| FrameError::Compression(error.to_string()))?;
    if written != raw_bytes {
        return Err(FrameError::Compression(format!(
            "{written} bytes instead of {raw_bytes}"
        )));
    }
    Ok(Bytes::from(raw))
}

/// On the wire: keep stable.
const FRAME_VERSION: u8 = 1;
const LZ4: u8 = 1;
const PAYLOAD: std::ops::Range<usize> = 2..6;
const RAW: std::ops::Range<usize> = 6..10;
const CHECKSUM: std::ops::Range<usize> = 10..14;
const CHECKED_BYTES: usize = 10;
const HEADER_BYTES: usize = 14;
/// One byte of lz4 yields at most 255.
const LZ4_RATIO_MAX: usize = 255;

#[cfg(test)]
#[path = "frame_tests.rs"]
mod tests;
