//! What nodes say to each other, and how it is written.
//!
//! ```text
//!   dialler                                       acceptor
//!      │── QUIC, TLS 1.3, both certificates ─────────▶│
//!      │── control stream: Hello ────────────────────▶│   who am I, what do I speak
//!      │◀───────────────── Welcome (or a close) ──────│   who am I, what I know of you
//!      │◀─ control stream: Ping, Pong, Bye ──────────▶│   every 500 ms; written before everything else
//!      │── message stream: Message … ────────────────▶│   each side opens its own
//!      │◀──────────────────────── Message … ──────────│
//! ```
//!
//! Control and messages are streams of their own, so that a reader who is behind with messages still hears that the
//! other side lives, and says so itself. A refusal is a QUIC close whose code is the reason and whose text is a sentence: that form needs no common
//! version. Another kind of stream (bulk transfer, say) is another first byte of a stream; gossip is
//! datagrams of the same connection; users will be another ALPN of the same endpoint.

use std::ops::RangeInclusive;

use crdt::{ActorId, codec};
use serde::{Deserialize, Serialize};

use super::{
    Peer,
    limits::{ACTORS_MAX, FORMER_MAX},
};
use crate::{
    core::{
        identity::DirectoryId,
        message::{Message, Recollection},
    },
    names::{ClusterName, NodeName, RegionName},
};

/// The versions of messages and control letters that this release speaks. Of two nodes' ranges the highest common one is
/// spoken. Raise the end with every change of [`Message`]; raise the start when an old form is dropped.
pub(super) const VERSIONS: RangeInclusive<u8> = 7..=7;

/// The first byte of a stream that carries messages. On the wire: keep stable.
pub(super) const STREAM_MESSAGES: u8 = 1;

/// Who a node says it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct NodeInfo {
    pub(super) cluster: ClusterName,
    /// Has to be what the certificate says.
    pub(super) node: NodeName,
    pub(super) region: RegionName,
    pub(super) directory: DirectoryId,
    /// The directory's numbers before that one.
    pub(super) former: Vec<DirectoryId>,
    /// Drawn when the process started: a node recognises itself by it, and nobody else.
    pub(super) instance: u64,
    pub(super) actors: Vec<ActorId>,
}

impl NodeInfo {
    pub(super) fn into_peer(self) -> Peer {
        Peer {
            name: self.node,
            region: self.region,
            directory: self.directory,
            former: self.former,
            actors: self.actors,
        }
    }
}

/// The first frame in each direction of the control stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Greeting {
    /// The dialler introduces itself.
    Hello(NodeInfo),
    /// The acceptor introduces itself, and says what it knows of the dialler.
    Welcome(NodeInfo, Recollection),
}

/// A greeting as it came, before its body was looked at: kind and versions are where they are in every release.
#[derive(Debug)]
pub(super) struct Envelope<'a> {
    kind: u8,
    /// What the speaker speaks.
    pub(super) versions: RangeInclusive<u8>,
    body: &'a [u8],
}

/// Everything on the control stream after the greetings. Times are Unix microseconds of the sender's clock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Control {
    /// I live.
    Ping { sequence: u32, sent_us: u64 },
    /// I got that, at `at_us` by my clock.
    Pong {
        sequence: u32,
        sent_us: u64,
        at_us: u64,
    },
    /// I shall say nothing more and close when you have read what I said.
    Bye { reason: String },
}

/// Why bytes are nothing that a peer may say. *Fatal* to the session, never to the node.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum WireError {
    /// Not what the version says, or of a version that was not agreed on.
    #[error("{what}: {source}")]
    Codec {
        what: &'static str,
        #[source]
        source: codec::CodecError,
    },
    /// A greeting too short to have its fixed part, or with versions in the wrong order.
    #[error("a greeting of {0} bytes without kind and versions")]
    Envelope(usize),
    /// A greeting where the other one was due, or none that is known.
    #[error("a greeting of kind {0} is not expected here")]
    Kind(u8),
    /// More actors than a node can have.
    #[error("{0} actors are above the limit of {ACTORS_MAX}")]
    Actors(usize),
    /// More former numbers than a directory is introduced with.
    #[error("{0} former directories are above the limit of {FORMER_MAX}")]
    Former(usize),
}

impl Greeting {
    /// Kind, versions, and then the body in the newest version of this release's handshake.
    pub(super) fn encode(&self) -> Vec<u8> {
        let kind = match self {
            Self::Hello(_) => HELLO,
            Self::Welcome(..) => WELCOME,
        };
        let mut bytes = vec![kind, *VERSIONS.start(), *VERSIONS.end()];
        match self {
            Self::Hello(card) => codec::encode_into(&mut bytes, GREETING_VERSION, card),
            Self::Welcome(card, recollection) => {
                codec::encode_into(&mut bytes, GREETING_VERSION, &(card, recollection));
            }
        }
        bytes
    }
}

impl<'a> Envelope<'a> {
    /// Splits a greeting; its versions have to be compared before its body is opened.
    pub(super) fn open(bytes: &'a [u8]) -> Result<Self, WireError> {
        match *bytes {
            [kind, low, high, ref body @ ..] if low <= high => Ok(Self {
                kind,
                versions: low..=high,
                body,
            }),
            _ => Err(WireError::Envelope(bytes.len())),
        }
    }

    /// The highest version that both sides speak.
    pub(super) fn common_version(&self) -> Option<u8> {
        let highest = *self.versions.end().min(VERSIONS.end());
        (highest >= *self.versions.start() && highest >= *VERSIONS.start()).then_some(highest)
    }

    /// The body of a `Hello`.
    pub(super) fn hello(&self) -> Result<NodeInfo, WireError> {
        self.expect(HELLO)?;
        let card: NodeInfo = decode("hello", GREETING_VERSION, self.body)?;
        check_card(&card)?;
        Ok(card)
    }

    /// The body of a `Welcome`.
    pub(super) fn welcome(&self) -> Result<(NodeInfo, Recollection), WireError> {
        self.expect(WELCOME)?;
        let (card, recollection): (NodeInfo, Recollection) =
            decode("welcome", GREETING_VERSION, self.body)?;
        check_card(&card)?;
        check_actors(recollection.held.len())?;
        Ok((card, recollection))
    }

    fn expect(&self, kind: u8) -> Result<(), WireError> {
        if self.kind == kind {
            Ok(())
        } else {
            Err(WireError::Kind(self.kind))
        }
    }
}

pub(super) fn encode_message(version: u8, message: &Message) -> Vec<u8> {
    codec::encode(version, message)
}

pub(super) fn decode_message(version: u8, bytes: &[u8]) -> Result<Message, WireError> {
    decode("message", version, bytes)
}

pub(super) fn encode_control(version: u8, control: &Control) -> Vec<u8> {
    codec::encode(version, control)
}

pub(super) fn decode_control(version: u8, bytes: &[u8]) -> Result<Control, WireError> {
    decode("control", version, bytes)
}

fn decode<T: serde::de::DeserializeOwned>(
    what: &'static str,
    version: u8,
    bytes: &[u8],
) -> Result<T, WireError> {
    codec::decode(version, bytes).map_err(|source| WireError::Codec { what, source })
}

fn check_card(card: &NodeInfo) -> Result<(), WireError> {
    if card.former.len() > FORMER_MAX {
        return Err(WireError::Former(card.former.len()));
    }
    check_actors(card.actors.len())
}

fn check_actors(count: usize) -> Result<(), WireError> {
    if count <= ACTORS_MAX {
        Ok(())
    } else {
        Err(WireError::Actors(count))
    }
}

/// On the wire: keep stable.
const HELLO: u8 = 1;
const WELCOME: u8 = 2;
/// The form of the greetings' bodies.
const GREETING_VERSION: u8 = 3;

#[cfg(test)]
mod tests {
    use crate::{core::message::KnownPosition, storage::record::shortage::Shortage};
    use crdt::Hlc;
    use proptest::prelude::{any, prop, proptest};

    use super::*;

    fn card(actors: usize) -> NodeInfo {
        NodeInfo {
            cluster: "demo".parse().unwrap(),
            node: "us-1".parse().unwrap(),
            region: "us".parse().unwrap(),
            directory: DirectoryId(7),
            former: vec![DirectoryId(u64::MAX); FORMER_MAX],
            instance: 9,
            actors: (0..actors)
                .map(|index| ActorId::new(u64::MAX, index as u16))
                .collect(),
        }
    }

    #[test]
    fn greetings_come_out_as_they_went_in_even_at_their_largest() {
        let held: Vec<KnownPosition> = (0..ACTORS_MAX as u16)
            .map(|index| KnownPosition {
                actor: ActorId::new(u64::MAX, index),
                taken: Hlc::MAX,
                passed: Hlc::MAX,
                newest: Hlc::MAX,
            })
            .collect();
        let recollection = Recollection {
            held,
            replaced: Some(DirectoryId(u64::MAX)),
            shortage: Shortage::FORGOTTEN,
        };
        let bytes = Greeting::Welcome(card(ACTORS_MAX), recollection.clone()).encode();
        assert!(bytes.len() <= super::super::limits::GREETING_BYTES_MAX);
        let envelope = Envelope::open(&bytes).unwrap();
        assert_eq!(envelope.welcome(), Ok((card(ACTORS_MAX), recollection)));
        assert_eq!(envelope.hello(), Err(WireError::Kind(WELCOME)));
    }

    #[test]
    fn too_many_actors_are_refused() {
        let bytes = Greeting::Hello(card(ACTORS_MAX + 1)).encode();
        assert_eq!(
            Envelope::open(&bytes).unwrap().hello(),
            Err(WireError::Actors(ACTORS_MAX + 1))
        );
    }

    #[test]
    fn versions_are_compared_without_opening_the_body() {
        let ours = *VERSIONS.end();
        let common = |low, high| {
            Envelope::open(&[HELLO, low, high, 0xff])
                .unwrap()
                .common_version()
        };
        assert_eq!(common(ours, ours + 3), Some(ours));
        assert_eq!(common(ours + 1, ours + 3), None);
        assert_eq!(common(0, 0), None);
        assert!(Envelope::open(&[HELLO, 2, 1]).is_err());
        assert!(Envelope::open(&[HELLO, 1]).is_err());
    }

    proptest! {
        #[test]
        fn random_bytes_are_an_error_and_never_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
            if let Ok(envelope) = Envelope::open(&bytes) {
                let _opened = (envelope.hello().is_ok(), envelope.welcome().is_ok());
            }
            let _decoded = (decode_message(1, &bytes).is_ok(), decode_control(1, &bytes).is_ok());
        }
    }
}
