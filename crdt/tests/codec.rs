//! Goal: bytes are trusted with nothing. Whatever arrives, decoding gives the value that was encoded or a typed error: it never
//! panics, never allocates by a length that it has only been told, and never lets a broken value in.
//!
//! Method: every persisted type, from random reachable histories: round trips, and hostile bytes of three kinds: arbitrary ones, sound
//! ones that were changed or cut short, and hand-made lengths, which would abort the process if they were believed.

mod common;

use std::{collections::BTreeMap, fmt::Debug};

use bytes::Bytes;
use common::{
    KEY, at, bytes, hlc,
    world::{World, histories},
};
use crdt::{
    ActorId, CodecError, Context, Delta, Dots, Expiry, Hlc, KeyState, Named, Part, Register,
    RowsDelta, Stamp, StringState, Tag, decode, encode, encode_into,
};
use proptest::{collection::vec, prelude::*, sample::Index};
use serde::{Serialize, de::DeserializeOwned};

const VERSION: u8 = 3;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn what_is_encoded_decodes_to_the_same(steps in histories(20)) {
        let world = World::after(&steps);
        for replica in &world.replicas {
            round_trip(&replica.state.string)?;
            round_trip(&replica.state.set.context)?;
            round_trip(&replica.state.expiry)?;
            round_trip(&replica.state.delta(KEY))?;
            for dots in replica.state.set.rows.values() {
                round_trip(dots)?;
            }
        }
        round_trip(&world.pieces)?;
    }

    #[test]
    fn arbitrary_bytes_never_panic(body in vec(any::<u8>(), 0..200)) {
        decode_as_everything(&versioned(&body));
    }

    /// Small numbers are likelier to be a sound tag, count or length than random bytes are.
    #[test]
    fn plausible_bytes_never_panic(body in vec(prop_oneof![9 => 0u8..6, 1 => 249u8..=255], 0..80)) {
        decode_as_everything(&versioned(&body));
    }

    #[test]
    fn changed_bytes_never_let_a_broken_value_in(
        steps in histories(20),
        changes in vec((any::<Index>(), any::<u8>()), 1..4),
    ) {
        let world = World::after(&steps);
        let mut sent = encode(VERSION, &world.replicas[0].state.delta(KEY));
        for (place, value) in changes {
            let place = place.index(sent.len() - 1) + 1;
            sent[place] ^= value;
        }
        decode_as_everything(&sent);
        if let Ok(delta) = decode::<Delta>(VERSION, &sent) {
            joins_once(&delta)?;
        }
    }

    #[test]
    fn bytes_cut_short_are_malformed(steps in histories(20), cut in any::<Index>()) {
        let world = World::after(&steps);
        let sent = encode(VERSION, &world.replicas[0].state.delta(KEY));
        let kept = &sent[..cut.index(sent.len())];
        let refused = decode::<Delta>(VERSION, kept);
        if kept.is_empty() {
            prop_assert_eq!(refused, Err(CodecError::Empty));
        } else {
            let malformed = matches!(refused, Err(CodecError::Malformed { .. }));
            prop_assert!(malformed, "{refused:?}");
        }
    }
}

#[test]
fn lengths_are_not_believed() {
    let lengths = [1u64 << 20, 1 << 32, 1 << 60, u64::MAX];
    for length in lengths {
        let mut told = vec![253];
        told.extend(length.to_le_bytes());
        refused_as_malformed::<Bytes>(&told);
        refused_as_malformed::<String>(&told);
        refused_as_malformed::<Context>(&told);
        refused_as_malformed::<Dots<()>>(&told);
        refused_as_malformed::<Delta>(&told);
        refused_as_malformed::<BTreeMap<Bytes, Dots<()>>>(&told);
        // The parts of a delta with an empty key, and the value of a register.
        refused_as_malformed::<Delta>(&[&[0], &told[..]].concat());
        refused_as_malformed::<StringState>(&[&[1, 1, 1, 1], &told[..]].concat());
        // In a longer input, which has a higher limit.
        told.resize(100 << 10, 1);
        refused_as_malformed::<Bytes>(&told);
        refused_as_malformed::<Context>(&told);
    }
}

#[test]
fn a_large_value_round_trips() {
    let value = Some(Bytes::from(vec![7; 20 << 20]));
    let state = StringState::default().set(at(1, 1), value);
    assert_eq!(decode(VERSION, &encode(VERSION, &state)), Ok(state));
}

/// Each byte of the smallest integers counts as sixteen against the limit.
#[test]
fn values_at_the_edge_of_the_short_limit_round_trip() {
    for count in [65_530usize, 65_535, 65_536, 65_537] {
        let totals = vec![1u128; count];
        assert_eq!(decode(VERSION, &encode(VERSION, &totals)), Ok(totals));
    }
}

#[test]
fn no_bytes_are_empty() {
    assert_eq!(decode::<Expiry>(VERSION, &[]), Err(CodecError::Empty));
}

#[test]
fn other_versions_are_named() {
    let newer = encode(VERSION + 1, &Expiry::default());
    let (found, known) = (VERSION + 1, VERSION);
    assert_eq!(
        decode::<Expiry>(VERSION, &newer),
        Err(CodecError::Newer { found, known })
    );
    let older = encode(VERSION - 1, &Expiry::default());
    let (found, known) = (VERSION - 1, VERSION);
    assert_eq!(
        decode::<Expiry>(VERSION, &older),
        Err(CodecError::Older { found, known })
    );
}

#[test]
fn trailing_bytes_are_counted() {
    let mut sent = encode(VERSION, &Expiry::default());
    sent.extend([0, 0]);
    assert_eq!(
        decode::<Expiry>(VERSION, &sent),
        Err(CodecError::TrailingBytes { count: 2 })
    );
}

#[test]
fn appending_leaves_what_is_there() {
    let mut sent = vec![9, 9];
    encode_into(&mut sent, VERSION, &Expiry::default());
    assert_eq!(sent[..2], [9, 9]);
    assert_eq!(sent[2..], encode(VERSION, &Expiry::default()));
}

#[test]
fn dots_out_of_order_twice_or_at_time_zero_are_refused() {
    let lists = [
        vec![(at(2, 1), ()), (at(1, 1), ())],
        vec![(at(1, 1), ()), (at(1, 1), ())],
        vec![(Stamp::ZERO, ())],
        vec![(at(0, 5), ())],
    ];
    for list in lists {
        refused_as_malformed::<Dots<()>>(&encode(VERSION, &list)[1..]);
    }
}

#[test]
fn a_dot_outside_the_context_of_its_delta_is_refused() {
    let mut context = Context::new();
    context.insert(at(1, 1));
    let delta = RowsDelta {
        context,
        named: Named::Rows(BTreeMap::from([(bytes("x"), Dots::single(at(2, 1), ()))])),
        created: Stamp::ZERO,
    };
    refused_as_malformed::<RowsDelta<()>>(&encode(VERSION, &delta)[1..]);
}

#[test]
fn a_part_of_an_unknown_type_is_kept_as_it_came() {
    // key "k", a part of type 9 with three bytes, and an expiry behind it
    let sent = versioned(b"\x01k\x02\x09\x03abc\x02\x09\x01\x00");
    let delta: Delta = decode(VERSION, &sent).expect("a newer release's delta");
    let Part::Unknown(unknown) = &delta.parts[0] else {
        panic!("type 9 is unknown: {delta:?}");
    };
    assert_eq!(
        (unknown.tag(), &unknown.body()[..]),
        (Tag::new(9), &b"abc"[..])
    );
    assert!(matches!(delta.parts[1], Part::Expiry(_)));
    assert_eq!(encode(VERSION, &delta), sent);
    assert_eq!(delta.newest(), hlc(9));
}

#[test]
fn a_part_that_was_unknown_is_read_by_whoever_knows_its_type() {
    let part = Part::from_body(Tag::EXPIRY, Bytes::from_static(b"\x09\x01\x00"));
    let expiry = Expiry {
        stamp: at(9, 1),
        at_ms: None,
    };
    assert_eq!(part, Ok(Part::Expiry(expiry)));
    for body in [&b"\x09"[..], b"\x09\x01\x00\x00"] {
        Part::from_body(Tag::EXPIRY, Bytes::from_static(body)).expect_err("no expiry");
    }
}

#[test]
fn parts_of_unknown_types_join_in_any_order_and_twice() {
    let part = |body: &'static [u8]| Delta {
        key: KEY,
        parts: vec![Part::from_body(Tag::new(9), Bytes::from_static(body)).expect("unknown")],
    };
    let (mut ab, mut ba) = (KeyState::default(), KeyState::default());
    [b"a", b"b", b"a"]
        .iter()
        .for_each(|body| ab.join(&part(*body)));
    [b"b", b"a"].iter().for_each(|body| ba.join(&part(*body)));
    assert_eq!(ab, ba);
    let mut whole = KeyState::default();
    whole.join(&ab.delta(KEY));
    assert_eq!(whole, ab);
    let mut merged = part(b"a");
    merged.merge(part(b"b"));
    let mut once = KeyState::default();
    once.join(&merged);
    assert_eq!(once, ab);
}

#[test]
fn a_length_that_is_not_there_is_no_unknown_part() {
    refused_as_malformed::<Delta>(b"\x01k\x01\x09\x04abc");
    refused_as_malformed::<Delta>(b"\x01k\x01\x09");
}

#[test]
fn a_plain_string_costs_little_beside_its_bytes() {
    let text = || Some(bytes("value"));
    let created = StringState::default().set(real(1), text());
    let overwritten = created.set(real(2), text());
    assert_eq!(encode(VERSION, &created).len(), "value".len() + 42);
    assert_eq!(encode(VERSION, &overwritten).len(), "value".len() + 26);
}

/// A stamp as they really are: today's time, a random actor.
fn real(day: u64) -> Stamp {
    let time = Hlc::from_millis(1_800_000_000_000 + day * 86_400_000);
    Stamp::new(time, ActorId::new(0xfedc_ba98_7654, 3))
}

fn versioned(body: &[u8]) -> Vec<u8> {
    [&[VERSION], body].concat()
}

fn round_trip<T>(value: &T) -> Result<(), TestCaseError>
where
    T: Serialize + DeserializeOwned + PartialEq + Debug,
{
    let decoded = decode::<T>(VERSION, &encode(VERSION, value));
    prop_assert_eq!(decoded.as_ref(), Ok(value));
    Ok(())
}

#[track_caller]
fn refused_as_malformed<T: DeserializeOwned + Debug>(body: &[u8]) {
    let refused = decode::<T>(VERSION, &versioned(body));
    assert!(
        matches!(refused, Err(CodecError::Malformed { .. })),
        "{refused:?}"
    );
}

/// Decodes as each type; a value that does decode encodes and decodes to itself again.
fn decode_as_everything(sent: &[u8]) {
    fn attempt<T: Serialize + DeserializeOwned + PartialEq + Debug>(sent: &[u8]) {
        if let Ok(value) = decode::<T>(VERSION, sent) {
            assert_eq!(
                decode::<T>(VERSION, &encode(VERSION, &value)).as_ref(),
                Ok(&value)
            );
        }
    }
    attempt::<Stamp>(sent);
    attempt::<Context>(sent);
    attempt::<Dots<()>>(sent);
    attempt::<Register>(sent);
    attempt::<StringState>(sent);
    attempt::<RowsDelta<()>>(sent);
    attempt::<RowsDelta<Bytes>>(sent);
    attempt::<Expiry>(sent);
    attempt::<Part>(sent);
    attempt::<Delta>(sent);
}

/// A delta that decodes may be joined, wherever it came from, and joining it again changes nothing.
fn joins_once(delta: &Delta) -> Result<(), TestCaseError> {
    let mut once = KeyState::default();
    once.join(delta);
    let mut twice = once.clone();
    twice.join(delta);
    prop_assert_eq!(once, twice);
    Ok(())
}
