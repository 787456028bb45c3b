//! Datagrams: what is better lost than late. They go beside the streams of a session, each in one packet.

use bytes::Bytes;
use quinn::Connection;

use super::limits::DATAGRAM_BYTES_MAX;
use crate::names::NodeName;

/// A datagram that a peer sent in a session that is agreed on. It may be lost, doubled or late.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Datagram {
    /// Who sent it, proven by its certificate.
    pub from: NodeName,
    /// Where the sender is reached: what this node dialled if it did, as it was configured or said, else where the
    /// connection comes from.
    pub address: String,
    /// What it says; at most [`DATAGRAM_BYTES_MAX`] bytes.
    pub bytes: Bytes,
}

/// Whom a datagram is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recipient<'a> {
    /// This node, whoever dialled.
    Node(&'a NodeName),
    /// Whoever answered at this address, which this node dialled.
    Address(&'a str),
}

/// Why a datagram was not sent. *State unchanged.*
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DatagramError {
    /// There is no session with the recipient. Try again when there is.
    #[error("there is no session with the recipient")]
    NoSession,
    /// The peer takes no datagrams: an older release. Trying again in this session is of no use.
    #[error("the peer takes no datagrams")]
    Unsupported,
    /// More than the path takes in one packet now, or more than [`DATAGRAM_BYTES_MAX`].
    #[error("a datagram of {bytes} bytes is above the path's limit of {limit}")]
    TooLarge {
        /// The datagram's bytes.
        bytes: usize,
        /// The most that would be sent now; never less than [`super::limits::DATAGRAM_BYTES_SAFE`] to a node of this release.
        limit: usize,
    },
    /// The session's connection just ended. Try again when there is another.
    #[error("the session is closed")]
    Closed,
}

/// Queues a datagram on a connection; QUIC drops the oldest if too many wait. Never waits.
pub(super) fn send(connection: &Connection, bytes: Bytes) -> Result<(), DatagramError> {
    let path = connection.max_datagram_size();
    let limit = path
        .ok_or(DatagramError::Unsupported)?
        .min(DATAGRAM_BYTES_MAX);
    let too_large = DatagramError::TooLarge {
        bytes: bytes.len(),
        limit,
    };
    if bytes.len() > limit {
        return Err(too_large);
    }
    connection
        .send_datagram(bytes)
        .map_err(|error| match error {
            quinn::SendDatagramError::UnsupportedByPeer | quinn::SendDatagramError::Disabled => {
                DatagramError::Unsupported
            }
            // The path has shrunk since it was asked.
            quinn::SendDatagramError::TooLarge => too_large,
            quinn::SendDatagramError::ConnectionLost(_) => DatagramError::Closed,
        })
}
