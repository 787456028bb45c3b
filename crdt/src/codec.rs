//! Versioned bytes: the only place that knows bincode.
//!
//! ```text
//!   ┌─────────┬──────────────────────────────┐
//!   │ version │ bincode 2, standard config   │   little endian, variable-length integers
//!   └─────────┴──────────────────────────────┘
//! ```
//!
//! Bytes are trusted with nothing: a length is checked against a limit before anything is allocated for it, and what is left over
//! is an error. Two rules for encoded types: byte strings are `Bytes` (a plain `Vec<u8>` goes byte by byte), and no list has elements of no size (a length alone would then cost the reader its time).

use bincode::{
    config::{Configuration, Limit, LittleEndian, Varint, standard},
    enc::write::Writer,
    error::{DecodeError, EncodeError},
};
use serde::{Serialize, de::DeserializeOwned};
use thiserror::Error;

/// The most that one decoded value may take, in bytes. Above every batch that a node commits or ships: what was
/// encoded must always decode. Integers count with their full size.
pub const LIMIT_BYTES: usize = 512 << 20;

/// Why bytes do not decode.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CodecError {
    /// There is not even a version. *State unchanged.*
    #[error("there are no bytes, not even a version")]
    Empty,
    /// Written by a newer release. *State unchanged.*
    #[error("format version {found} is newer than {known}, the newest known here")]
    Newer {
        /// The version in the bytes.
        found: u8,
        /// The newest that the reader knows.
        known: u8,
    },
    /// Written in a format that this reader no longer, or never, understood. *State unchanged.*
    #[error("format version {found} is older than {known}, the one expected here")]
    Older {
        /// The version in the bytes.
        found: u8,
        /// The one that the reader knows.
        known: u8,
    },
    /// The bytes are no such value: cut short, too long, or against an invariant of its type. *State unchanged.*
    #[error("malformed bytes: {detail}")]
    Malformed {
        /// What is wrong.
        detail: String,
    },
    /// A value, and then more. *State unchanged.*
    #[error("{count} bytes are left over after the value")]
    TrailingBytes {
        /// How many bytes.
        count: usize,
    },
}

/// The value's bytes, its format version first.
pub fn encode<T: Serialize + ?Sized>(version: u8, value: &T) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(TYPICAL_BYTES);
    encode_into(&mut bytes, version, value);
    bytes
}

/// Appends the value's bytes, its format version first.
pub fn encode_into<T: Serialize + ?Sized>(bytes: &mut Vec<u8>, version: u8, value: &T) {
    let start = bytes.len();
    bytes.push(version);
    bincode::serde::encode_into_writer(value, Appender(bytes), standard())
        .expect("writing to memory does not fail, and every type encoded here knows its lengths");
    debug_assert!(
        bytes.len() - start <= LIMIT_BYTES / CLAIM_FACTOR_USUAL,
        "what is encoded must decode"
    );
}

/// The value in `bytes`, which must be of version `known` and hold nothing else.
pub fn decode<T: DeserializeOwned>(known: u8, bytes: &[u8]) -> Result<T, CodecError> {
    let (found, body) = bytes.split_first().ok_or(CodecError::Empty)?;
    check_version(*found, known)?;
    decode_bare(body)
}

/// The value in bytes without a version: what holds them has one.
pub(crate) fn decode_bare<T: DeserializeOwned>(body: &[u8]) -> Result<T, CodecError> {
    let (value, read) = decode_body(body).map_err(malformed)?;
    debug_assert!(read <= body.len());
    match body.len() - read {
        0 => Ok(value),
        count => Err(CodecError::TrailingBytes { count }),
    }
}

/// A short input has a low limit, so that a few hostile bytes cannot ask for much memory.
fn decode_body<T: DeserializeOwned>(body: &[u8]) -> Result<(T, usize), DecodeError> {
    if body.len() <= SHORT_BYTES {
        bincode::serde::decode_from_slice(body, SHORT)
    } else {
        bincode::serde::decode_from_slice(body, LONG)
    }
}

fn check_version(found: u8, known: u8) -> Result<(), CodecError> {
    match found.cmp(&known) {
        std::cmp::Ordering::Equal => Ok(()),
        std::cmp::Ordering::Greater => Err(CodecError::Newer { found, known }),
        std::cmp::Ordering::Less => Err(CodecError::Older { found, known }),
    }
}

fn malformed(error: DecodeError) -> CodecError {
    let detail = error.to_string();
    CodecError::Malformed { detail }
}

struct Appender<'a>(&'a mut Vec<u8>);

impl Writer for Appender<'_> {
    #[inline]
    fn write(&mut self, bytes: &[u8]) -> Result<(), EncodeError> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }
}

type Limited<const BYTES: usize> = Configuration<LittleEndian, Varint, Limit<BYTES>>;

const SHORT: Limited<SHORT_LIMIT_BYTES> = standard().with_limit::<SHORT_LIMIT_BYTES>();
const LONG: Limited<LIMIT_BYTES> = standard().with_limit::<LIMIT_BYTES>();

const SHORT_BYTES: usize = 64 << 10;
const SHORT_LIMIT_BYTES: usize = SHORT_BYTES * CLAIM_FACTOR_MAX;

/// One encoded byte counts as at most this many against the limit: a small u128.
const CLAIM_FACTOR_MAX: usize = 16;
/// In long values, which are mostly byte strings and stamps, far fewer.
const CLAIM_FACTOR_USUAL: usize = 2;

/// What most heads, rows and deltas fit in.
const TYPICAL_BYTES: usize = 128;

const _: () = assert!(SHORT_LIMIT_BYTES <= LIMIT_BYTES);
