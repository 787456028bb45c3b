//! Goal: bytes from outside are read safely, and sizes are known before anything is written.
//!
//! Method: arbitrary messages go there and back; arbitrary bytes, damaged messages and lying lengths are read.

use bytes::Bytes;
use proptest::{collection::vec, option, prelude::*};

use crate::{
    codec::{CodecError, Datagram, decode, encode, encode_refusal},
    identity::{
        Directory, Generation, Heartbeat, Identity, Protocol, SettingsDigest, Tag, Version,
    },
    limits::{DATAGRAM_BYTES_MAX, DETAIL_BYTES_MAX, VALUE_BYTES_MAX},
    message::{
        Body, ClusterDigest, Delta, DigestEntry, Entry, Envelope, Gone, Hello, Introduction,
        Message, Status, Want,
    },
    refusal::{Refusal, RefusalKind},
    settings::Settings,
};

fn tag() -> impl Strategy<Value = Tag> {
    any::<[u8; 6]>().prop_map(Tag::from)
}

/// Numbers of all lengths.
fn number() -> impl Strategy<Value = u64> {
    (any::<u64>(), 0_u32..64).prop_map(|(number, shift)| number >> shift)
}

fn version() -> impl Strategy<Value = Version> {
    number().prop_map(Version)
}

fn heartbeat() -> impl Strategy<Value = Heartbeat> {
    any::<u32>().prop_map(Heartbeat)
}

fn identity() -> impl Strategy<Value = Identity> {
    let texts = ("[a-zé0-9-]{1,30}", "[a-z0-9]{1,32}", "[a-z0-9:.]{1,64}");
    let numbers = (any::<u64>(), number(), any::<u64>(), any::<[u16; 2]>());
    (texts, numbers).prop_map(|(texts, numbers)| Identity {
        node: texts.0.parse().expect("a name"),
        directory: Directory(numbers.0),
        generation: Generation(numbers.1),
        region: texts.1.parse().expect("a region"),
        address: texts.2.parse().expect("an address"),
        settings: SettingsDigest(numbers.2),
        protocol: Protocol {
            speaks: numbers.3[0],
            accepts: numbers.3[1],
        },
    })
}

fn hello() -> impl Strategy<Value = Hello> {
    let settings = prop::collection::btree_map("[a-z]{1,8}", "[a-z]{1,8}", 0..8);
    (identity(), settings).prop_map(|(identity, settings)| Hello {
        cluster: "demo".parse().expect("a name"),
        identity,
        settings: Settings::try_from(settings).expect("few and short"),
    })
}

fn mention() -> impl Strategy<Value = DigestEntry> {
    (tag(), heartbeat(), version()).prop_map(|(tag, heartbeat, version)| DigestEntry {
        tag,
        heartbeat,
        version,
    })
}

fn want() -> impl Strategy<Value = Want> {
    (tag(), version()).prop_map(|(tag, version)| Want { tag, version })
}

fn entry() -> impl Strategy<Value = Entry> {
    let value = option::of(vec(any::<u8>(), 0..=VALUE_BYTES_MAX));
    (version(), "[a-z.]{1,64}", value).prop_map(|(version, key, value)| Entry {
        version,
        key: key.parse().expect("a key"),
        value: value.map(Bytes::from),
    })
}

fn delta() -> impl Strategy<Value = Delta> {
    let introduction = (identity(), heartbeat(), number());
    let introduction = introduction.prop_map(|(identity, heartbeat, silence_ms)| Introduction {
        identity,
        heartbeat,
        silence_ms,
    });
    let status = prop_oneof![Just(Status::Up), Just(Status::Leaving), Just(Status::Left)];
    let versions = (version(), version(), version());
    (
        tag(),
        option::of(introduction),
        status,
        versions,
        vec(entry(), 0..4),
    )
        .prop_map(
            |(tag, introduction, status, (from, to, floor), entries)| Delta {
                tag,
                introduction,
                status,
                from,
                to,
                floor,
                entries,
            },
        )
}

fn body() -> impl Strategy<Value = Body> {
    let ask = (option::of(hello()), any::<bool>(), vec(mention(), 0..100)).prop_map(
        |(hello, complete, digest)| Body::Ask {
            hello: hello.map(Box::new),
            complete,
            digest,
        },
    );
    let head = (tag(), number(), number());
    let answer = (
        head,
        vec(mention(), 0..50),
        vec(want(), 0..24),
        vec(delta(), 0..5),
    )
        .prop_map(
            |((to, echo, wall_ms), digest, wants, deltas)| Body::Answer {
                to,
                echo,
                wall_ms,
                digest,
                wants,
                deltas,
            },
        );
    let tell = (vec(want(), 0..24), vec(delta(), 0..5))
        .prop_map(|(wants, deltas)| Body::Tell { wants, deltas });
    prop_oneof![ask, answer, tell]
}

fn message() -> impl Strategy<Value = Message> {
    let envelope = (any::<[u8; 8]>(), tag(), heartbeat(), version(), number());
    let gone = (tag(), "[a-z0-9-]{1,64}", any::<u64>()).prop_map(|(tag, node, directory)| Gone {
        tag,
        node: node.parse().expect("a name"),
        directory: Directory(directory),
    });
    (envelope, vec(gone, 0..4), body()).prop_map(|(envelope, gone, body)| Message {
        envelope: Envelope {
            cluster: ClusterDigest(envelope.0),
            from: envelope.1,
            heartbeat: envelope.2,
            version: envelope.3,
            stamp: envelope.4,
        },
        gone,
        body,
    })
}

/// Bytes that a message takes at most beyond what is counted: none; and that are counted beyond what it takes: the slack of
/// numbers whose length is not known beforehand.
fn slack(message: &Message) -> usize {
    let deltas = match &message.body {
        Body::Ask { .. } => 0,
        Body::Answer { deltas, .. } | Body::Tell { deltas, .. } => deltas.len(),
    };
    const HEAD: usize = 64;
    HEAD + 16 * deltas + 3 * 8
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn a_message_comes_back_as_it_went_and_is_as_long_as_foreseen(message in message()) {
        let bytes = encode(&message);
        prop_assert!(bytes.len() <= message.wire_bytes());
        prop_assert!(message.wire_bytes() <= bytes.len() + slack(&message));
        if bytes.len() <= DATAGRAM_BYTES_MAX {
            prop_assert_eq!(decode(&bytes), Ok(Datagram::Message(message)));
        } else {
            let bytes = bytes.len();
            prop_assert_eq!(decode(&vec![1; bytes]), Err(CodecError::TooLong { bytes }));
        }
    }

    #[test]
    fn arbitrary_bytes_never_claim_more_than_they_hold(bytes in vec(any::<u8>(), 0..1_500), wire in 0_u8..3) {
        for bytes in [bytes.clone(), [&[wire], &bytes[..]].concat()] {
            if let Ok(Datagram::Message(message)) = decode(&bytes) {
                prop_assert!(message.wire_bytes() <= bytes.len() + slack(&message));
            }
        }
    }

    #[test]
    fn a_damaged_message_is_read_without_harm(
        message in message(),
        damage in vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut bytes = encode(&message);
        for (position, byte) in damage {
            let position = position.index(bytes.len());
            bytes[position] = byte;
        }
        for bytes in [&bytes[..], &bytes[..cut.index(bytes.len())]] {
            if let Ok(Datagram::Message(message)) = decode(bytes) {
                prop_assert!(message.wire_bytes() <= bytes.len() + slack(&message));
            }
        }
    }

    #[test]
    fn a_refusal_comes_back_as_it_went(code in 0_u8..10, detail in "[^\\pC]{0,60}") {
        let refusal = Refusal::new(RefusalKind::from_code(code), detail);
        let bytes = encode_refusal(&refusal);
        prop_assert!(refusal.detail.len() <= DETAIL_BYTES_MAX);
        prop_assert_eq!(decode(&bytes), Ok(Datagram::Refusal(refusal)));
    }
}

fn envelope() -> Envelope {
    Envelope {
        cluster: ClusterDigest([7; 8]),
        from: Tag::of(0x0102_0304_0506),
        heartbeat: Heartbeat(5),
        version: Version(300),
        stamp: 70_000,
    }
}

#[test]
fn the_bytes_of_a_message_are_the_same_in_every_release() {
    let mention = DigestEntry {
        tag: Tag::of(9),
        heartbeat: Heartbeat(2),
        version: Version(1),
    };
    let body = Body::Ask {
        hello: None,
        complete: true,
        digest: vec![mention],
    };
    let message = Message {
        envelope: envelope(),
        gone: Vec::new(),
        body,
    };
    let expected = [
        &[1][..],                           // wire
        &[7; 8],                            // cluster
        &[6, 5, 4, 3, 2, 1],                // from
        &[5, 0, 0, 0],                      // heartbeat
        &[251, 44, 1],                      // version
        &[252, 112, 17, 1, 0],              // stamp
        &[0],                               // nobody gone
        &[0, 0, 1, 1],                      // ask, no hello, complete, one mention
        &[9, 0, 0, 0, 0, 0, 2, 0, 0, 0, 1], // it
    ];
    assert_eq!(encode(&message), expected.concat());
}

#[test]
fn a_length_that_lies_is_an_error_at_once() {
    let message = |body| Message {
        envelope: envelope(),
        gone: Vec::new(),
        body,
    };
    let empty = message(Body::Tell {
        wants: Vec::new(),
        deltas: Vec::new(),
    });
    let bytes = encode(&empty);
    let list = bytes.len() - 2;
    for claim in [
        &[250][..],
        &[251, 255, 255],
        &[252, 255, 255, 255, 255],
        &[253, 255, 255, 255, 255, 255, 255, 255, 127],
    ] {
        let lying = [&bytes[..list], claim].concat();
        assert!(
            matches!(decode(&lying), Err(CodecError::Malformed { .. })),
            "{claim:?}"
        );
    }
}

#[test]
fn what_is_left_over_is_an_error() {
    let body = Body::Tell {
        wants: Vec::new(),
        deltas: Vec::new(),
    };
    let message = Message {
        envelope: envelope(),
        gone: Vec::new(),
        body,
    };
    let mut bytes = encode(&message);
    bytes.push(0);
    assert_eq!(decode(&bytes), Err(CodecError::TrailingBytes { bytes: 1 }));
    assert_eq!(decode(&[]), Err(CodecError::Empty));
    assert_eq!(decode(&[9, 9]), Err(CodecError::Wire { found: 9 }));
}
