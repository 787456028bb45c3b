//! Refusals: why two nodes do not talk, in words that say what to do, on both sides.

use std::fmt;

use quinn::{ApplicationClose, ConnectionError, VarInt};

use super::limits::TEXT_BYTES_MAX;

/// Why a session did not come about. The text is written by the side that refuses and shown on both.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The reason, for programs.
    pub kind: RefusalKind,
    /// What is wrong and what to do, for people.
    pub text: String,
}

/// The reasons, with their numbers on the wire: keep stable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum RefusalKind {
    /// The other node is of another cluster.
    Cluster = 1,
    /// No protocol version is common to both.
    Version = 2,
    /// TLS refused the certificate: unknown CA, expired, another name. Never on the wire under this number: TLS has its own.
    Certificate = 3,
    /// The node says another name than its certificate.
    Name = 4,
    /// Another node goes by this node's name.
    OwnName = 5,
    /// The node dialled itself.
    Itself = 6,
    /// Two live nodes go by one name.
    DuplicateName = 7,
    /// The node says another region than before.
    Region = 8,
    /// No room for another session.
    Full = 9,
    /// The greeting could not be read.
    Malformed = 10,
    /// The node is reached by another address already.
    Redundant = 11,
    /// The node cannot take sessions just now: it starts, stops, or renews its identity. Trying again helps.
    NotNow = 12,
    /// An operator had the node forgotten: it needs a new data directory.
    Forgotten = 13,
    /// A reason that this release does not know.
    Unknown = 255,
}

/// Who refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refuser {
    /// This node.
    Local,
    /// The peer.
    Remote,
}

impl Refusal {
    pub(super) fn new(kind: RefusalKind, text: impl Into<String>) -> Self {
        Self {
            kind,
            text: text.into(),
        }
    }

    /// How it travels.
    pub(super) fn close_code(&self) -> VarInt {
        VarInt::from_u32(CLOSE_REFUSED + self.kind as u32)
    }

    /// The refusal behind a connection's end, if it is one: TLS's own, ours, or the peer's.
    pub(super) fn behind(error: &ConnectionError) -> Option<(Refuser, Self)> {
        match error {
            ConnectionError::TransportError(error) => {
                let alert = alert_of(u64::from(error.code))?;
                Some((Refuser::Local, Self::certificate(alert, &error.reason)))
            }
            ConnectionError::ConnectionClosed(close) => {
                let alert = alert_of(u64::from(close.error_code))?;
                Some((
                    Refuser::Remote,
                    Self::certificate(alert, &printable(&close.reason)),
                ))
            }
            ConnectionError::ApplicationClosed(close) => {
                Self::received(close).map(|refusal| (Refuser::Remote, refusal))
            }
            ConnectionError::VersionMismatch => Some((
                Refuser::Remote,
                Self::new(RefusalKind::Version, "no QUIC version is common to both"),
            )),
            ConnectionError::Reset
            | ConnectionError::TimedOut
            | ConnectionError::LocallyClosed
            | ConnectionError::CidsExhausted => None,
        }
    }

    fn received(close: &ApplicationClose) -> Option<Self> {
        let number = close
            .error_code
            .into_inner()
            .checked_sub(u64::from(CLOSE_REFUSED))?;
        Some(Self::new(
            RefusalKind::from_number(number),
            printable(&close.reason),
        ))
    }

    fn certificate(alert: u8, reason: &str) -> Self {
        let text = format!("TLS: {reason} ({})", advice(alert));
        Self::new(RefusalKind::Certificate, text)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl RefusalKind {
    /// Its name in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cluster => "cluster",
            Self::Version => "version",
            Self::Certificate => "certificate",
            Self::Name => "name",
            Self::OwnName => "own_name",
            Self::Itself => "itself",
            Self::DuplicateName => "duplicate_name",
            Self::Region => "region",
            Self::Full => "full",
            Self::Malformed => "malformed",
            Self::Redundant => "redundant",
            Self::NotNow => "not_now",
            Self::Forgotten => "forgotten",
            Self::Unknown => "unknown",
        }
    }

    fn from_number(number: u64) -> Self {
        let known = [
            Self::Cluster,
            Self::Version,
            Self::Certificate,
            Self::Name,
            Self::OwnName,
            Self::Itself,
            Self::DuplicateName,
            Self::Region,
            Self::Full,
            Self::Malformed,
            Self::Redundant,
            Self::NotNow,
            Self::Forgotten,
        ];
        let found = known.into_iter().find(|kind| *kind as u64 == number);
        found.unwrap_or(Self::Unknown)
    }
}

/// Text of a peer, fit for a log: one line, and not too long.
pub(super) fn printable(bytes: &[u8]) -> String {
    let kept = &bytes[..bytes.len().min(TEXT_BYTES_MAX)];
    String::from_utf8_lossy(kept)
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

/// The TLS alert in a QUIC error code (RFC 9001 §4.8).
fn alert_of(code: u64) -> Option<u8> {
    match code {
        0x100..=0x1ff => Some((code & 0xff) as u8),
        _ => None,
    }
}

/// What to do about a TLS alert (RFC 8446 §6.2).
fn advice(alert: u8) -> &'static str {
    match alert {
        42 | 46 => {
            "bad certificate: check that [node] name and cluster, [peers.dial] and the certificates agree"
        }
        43 => "certificate not made for this use: issue it with `meridian tls issue`",
        44 => "certificate revoked",
        45 => "certificate expired or not valid yet: issue a new one, or check the clocks",
        48 | 51 => "unknown CA: both nodes need certificates of the same cluster's CA, see [tls]",
        70 => "TLS 1.3 is required",
        116 => "no certificate was shown: nodes need one, see [tls]",
        120 => "not a Meridian peer: check the address in [peers]",
        _ => "TLS handshake failed",
    }
}

/// Closes a session that did nothing wrong.
pub(super) const CLOSE_BYE: VarInt = VarInt::from_u32(0);
/// Closes a session whose peer said something that cannot be understood.
pub(super) const CLOSE_PROTOCOL: VarInt = VarInt::from_u32(1);
/// Closes a session whose peer was silent for too long.
pub(super) const CLOSE_SILENT: VarInt = VarInt::from_u32(2);
/// Closes a session that a newer one of the same node replaces.
pub(super) const CLOSE_REPLACED: VarInt = VarInt::from_u32(3);
/// Closes a session because of a fault of this node.
pub(super) const CLOSE_INTERNAL: VarInt = VarInt::from_u32(4);
/// The path has grown: a new connection fits it better.
pub(super) const CLOSE_PATH: VarInt = VarInt::from_u32(5);
/// From here on the code is a refusal, less this.
const CLOSE_REFUSED: u32 = 0x100;

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn a_refusal_arrives_as_it_was_sent() {
        let sent = Refusal::new(RefusalKind::DuplicateName, "two nodes");
        let close = ApplicationClose {
            error_code: sent.close_code(),
            reason: Bytes::from(sent.text.clone()),
        };
        let error = ConnectionError::ApplicationClosed(close);
        assert_eq!(Refusal::behind(&error), Some((Refuser::Remote, sent)));
    }

    #[test]
    fn a_reason_of_a_newer_release_is_still_a_refusal() {
        let close = ApplicationClose {
            error_code: VarInt::from_u32(0x100 + 77),
            reason: Bytes::from("new\nkind"),
        };
        let (_, refusal) = Refusal::behind(&ConnectionError::ApplicationClosed(close)).unwrap();
        assert_eq!(refusal, Refusal::new(RefusalKind::Unknown, "new kind"));
    }

    #[test]
    fn a_goodbye_is_no_refusal() {
        let close = ApplicationClose {
            error_code: CLOSE_INTERNAL,
            reason: Bytes::new(),
        };
        assert_eq!(
            Refusal::behind(&ConnectionError::ApplicationClosed(close)),
            None
        );
        assert_eq!(Refusal::behind(&ConnectionError::TimedOut), None);
    }

    #[test]
    fn text_of_a_peer_is_cut_and_cleaned() {
        let text = printable(&[b'\n'; 10_000]);
        assert_eq!(text.len(), TEXT_BYTES_MAX);
        assert!(text.chars().all(|c| c == ' '));
    }
}
