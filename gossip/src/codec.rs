//! Versioned bytes: the only place that knows bincode.
//!
//! ```text
//!   ┌──────────┬──────────────────────────────┐
//!   │ wire = 1 │ bincode 2, standard config   │   a message
//!   ├──────────┼──────┬───────────────────────┤
//!   │ wire = 0 │ kind │ a sentence in UTF-8   │   a refusal: the one format that every release reads, whatever else changes
//!   └──────────┴──────┴───────────────────────┘
//! ```
//!
//! Bytes are trusted with nothing: at most a datagram is looked at, lists grow with what was really read and never by a length
//! that was only told, and what is left over is an error.

use bincode::{
    config::{Configuration, Limit, LittleEndian, Varint, standard},
    error::DecodeError,
};
use thiserror::Error;

use crate::{
    limits::{DATAGRAM_BYTES_MAX, DETAIL_BYTES_MAX},
    message::Message,
    refusal::{Refusal, RefusalKind},
};

/// Why bytes are no datagram of ours.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CodecError {
    /// Nothing at all. *State unchanged.*
    #[error("there are no bytes")]
    Empty,
    /// Longer than any message. *State unchanged.*
    #[error("{bytes} bytes are more than a datagram")]
    TooLong {
        /// How many came.
        bytes: usize,
    },
    /// Another wire format: an older or newer release. *State unchanged.*
    #[error("wire format {found} is not {WIRE}, the one spoken here")]
    Wire {
        /// The format of the bytes.
        found: u8,
    },
    /// No message: cut short, too long, or against an invariant of its type. *State unchanged.*
    #[error("malformed bytes: {detail}")]
    Malformed {
        /// What is wrong.
        detail: String,
    },
    /// A message, and then more. *State unchanged.*
    #[error("{bytes} bytes are left over")]
    TrailingBytes {
        /// How many.
        bytes: usize,
    },
}

/// What a datagram holds.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Datagram {
    Message(Message),
    Refusal(Refusal),
}

pub(crate) fn encode(message: &Message) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(message.wire_bytes());
    bytes.push(WIRE);
    let body = bincode::serde::encode_to_vec(message, standard())
        .expect("writing to memory does not fail, and every type of a message knows its lengths");
    bytes.extend_from_slice(&body);
    bytes
}

pub(crate) fn encode_refusal(refusal: &Refusal) -> Vec<u8> {
    let detail = refusal.detail.as_bytes();
    debug_assert!(detail.len() <= DETAIL_BYTES_MAX);
    let mut bytes = Vec::with_capacity(2 + detail.len());
    bytes.extend_from_slice(&[WIRE_REFUSAL, refusal.kind.code()]);
    bytes.extend_from_slice(detail);
    bytes
}

pub(crate) fn decode(bytes: &[u8]) -> Result<Datagram, CodecError> {
    if bytes.len() > DATAGRAM_BYTES_MAX {
        return Err(CodecError::TooLong { bytes: bytes.len() });
    }
    match bytes.split_first() {
        None => Err(CodecError::Empty),
        Some((&WIRE, body)) => decode_message(body).map(Datagram::Message),
        Some((&WIRE_REFUSAL, body)) => decode_refusal(body).map(Datagram::Refusal),
        Some((&found, _)) => Err(CodecError::Wire { found }),
    }
}

fn decode_message(body: &[u8]) -> Result<Message, CodecError> {
    let decoded: Result<(Message, usize), DecodeError> =
        bincode::serde::decode_from_slice(body, BOUNDED);
    let (message, read) = decoded.map_err(|error| CodecError::Malformed {
        detail: error.to_string(),
    })?;
    match body.len() - read {
        0 => Ok(message),
        bytes => Err(CodecError::TrailingBytes { bytes }),
    }
}

fn decode_refusal(body: &[u8]) -> Result<Refusal, CodecError> {
    let malformed = |detail: &str| CodecError::Malformed {
        detail: detail.to_owned(),
    };
    let (&code, detail) = body
        .split_first()
        .ok_or_else(|| malformed("a refusal without a kind"))?;
    let detail = std::str::from_utf8(detail).map_err(|_| malformed("a refusal that is no text"))?;
    if detail.len() > DETAIL_BYTES_MAX || detail.chars().any(char::is_control) {
        return Err(malformed("a refusal that is no sentence"));
    }
    Ok(Refusal::new(
        RefusalKind::from_code(code),
        detail.to_owned(),
    ))
}

/// The wire format spoken here.
pub(crate) const WIRE: u8 = 1;
/// Refusals have a format of their own, so that a release can say no to one that it does not understand.
const WIRE_REFUSAL: u8 = 0;
/// Integers count with their full size against the limit, not with what they take on the wire.
const CLAIM_FACTOR: usize = 8;
const BOUNDED: Configuration<LittleEndian, Varint, Limit<{ CLAIM_FACTOR * DATAGRAM_BYTES_MAX }>> =
    standard().with_limit::<{ CLAIM_FACTOR * DATAGRAM_BYTES_MAX }>();
