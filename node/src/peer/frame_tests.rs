//! Goal: what was framed comes out again however the stream was cut, and nothing that was not framed comes out, panics, or
//! makes the decoder allocate more than it was sent.
//! Method: random payloads in random pieces; random bytes; single flipped bits; headers with chosen lengths.

use proptest::prelude::{any, prop, prop_assert, prop_assert_eq, proptest};

use super::{CHECKED_BYTES, Decoder, FrameError, HEADER_BYTES, LZ4, checksum, encode};

const LIMIT: usize = 1 << 20;

fn framed(raw: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    encode(raw, &mut out);
    out
}

/// A frame with a right checksum and whatever else is asked for.
fn forged(version: u8, flags: u8, payload_claim: u32, raw_claim: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![version, flags];
    frame.extend_from_slice(&payload_claim.to_le_bytes());
    frame.extend_from_slice(&raw_claim.to_le_bytes());
    let sum = checksum(&frame, payload);
    frame.extend_from_slice(&sum.to_le_bytes());
    frame.extend_from_slice(payload);
    frame
}

fn decode(bytes: &[u8]) -> Result<Option<Vec<u8>>, FrameError> {
    let mut decoder = Decoder::new(LIMIT);
    decoder.feed(bytes);
    decoder
        .next()
        .map(|payload| payload.map(|bytes| bytes.to_vec()))
}

proptest! {
    #[test]
    fn payloads_survive_any_cutting_of_the_stream(
        payloads in prop::collection::vec(prop::collection::vec(0_u8..4, 0..3000), 0..8),
        piece in 1_usize..700,
    ) {
        let stream: Vec<u8> = payloads.iter().flat_map(|raw| framed(raw)).collect();
        let mut decoder = Decoder::new(LIMIT);
        let mut decoded = Vec::new();
        for bytes in stream.chunks(piece) {
            decoder.feed(bytes);
            while let Some(payload) = decoder.next().unwrap() {
                decoded.push(payload.to_vec());
            }
        }
        prop_assert_eq!(decoded, payloads);
        prop_assert!(decoder.is_empty());
    }

    #[test]
    fn random_bytes_never_panic_or_yield_a_payload(bytes in prop::collection::vec(any::<u8>(), 0..4000)) {
        prop_assert!(!matches!(decode(&bytes), Ok(Some(_))));
    }

    #[test]
    fn a_flipped_bit_is_noticed(
        raw in prop::collection::vec(any::<u8>(), 0..2000),
        position in any::<prop::sample::Index>(),
        bit in 0_u8..8,
    ) {
        let mut frame = framed(&raw);
        let position = position.index(frame.len());
        frame[position] ^= 1 << bit;
        prop_assert!(!matches!(decode(&frame), Ok(Some(_))));
    }

    #[test]
    fn random_headers_and_blocks_never_panic(
        flags in 0_u8..3,
        payload_claim in 0_u32..3000,
        raw_claim in any::<u32>(),
        payload in prop::collection::vec(any::<u8>(), 0..3000),
    ) {
        if let Ok(Some(out)) = decode(&forged(1, flags, payload_claim, raw_claim, &payload)) {
            prop_assert_eq!(out.len(), raw_claim as usize);
        }
    }

    #[test]
    fn arbitrary_lengths_do_not_allocate(payload_claim in any::<u32>(), raw_claim in any::<u32>(), flags in 0_u8..2) {
        let mut decoder = Decoder::new(usize::MAX);
        decoder.feed(&forged(1, flags, payload_claim, raw_claim, &[]));
        let _verdict = decoder.next();
        prop_assert!(decoder.buffer.capacity() <= 1024);
    }
}

#[test]
fn repetitive_payloads_are_compressed_and_small_or_random_ones_are_not() {
    let repetitive = vec![7_u8; 10_000];
    assert!(framed(&repetitive).len() < 200);
    assert_eq!(decode(&framed(&repetitive)), Ok(Some(repetitive)));
    assert_eq!(framed(&[7; 511]).len(), HEADER_BYTES + 511);
}

#[test]
fn lengths_above_the_limit_are_refused_on_the_header_alone() {
    let too_large = LIMIT + 1;
    let plain = forged(1, 0, too_large as u32, too_large as u32, &[]);
    assert_eq!(
        decode(&plain),
        Err(FrameError::TooLarge {
            claimed: too_large,
            limit: LIMIT
        })
    );
    let bomb = forged(1, LZ4, 100, u32::MAX, &[]);
    assert_eq!(
        decode(&bomb),
        Err(FrameError::TooLarge {
            claimed: u32::MAX as usize,
            limit: LIMIT
        })
    );
}

#[test]
fn lengths_that_contradict_each_other_are_refused_on_the_header_alone() {
    for (flags, payload, raw) in [(0, 5, 6), (LZ4, 6, 6), (LZ4, 10, 2551), (LZ4, 0, 1)] {
        let frame = forged(1, flags, payload, raw, &[]);
        let lengths = FrameError::Lengths {
            payload: payload as usize,
            raw: raw as usize,
        };
        assert_eq!(decode(&frame), Err(lengths));
    }
}

#[test]
fn unknown_versions_and_flags_are_refused() {
    assert_eq!(
        decode(&forged(2, 0, 0, 0, &[])),
        Err(FrameError::Version(2))
    );
    assert_eq!(decode(&forged(1, 2, 0, 0, &[])), Err(FrameError::Flags(2)));
}

#[test]
fn a_block_that_yields_less_than_it_claims_is_refused() {
    let block = lz4_flex::block::compress(&[9; 1000]);
    let frame = forged(1, LZ4, block.len() as u32, 1001, &block);
    assert!(matches!(decode(&frame), Err(FrameError::Compression(_))));
}

#[test]
fn the_bytes_of_a_frame_stay_what_they_are() {
    let golden = [1, 0, 3, 0, 0, 0, 3, 0, 0, 0];
    let frame = framed(b"abc");
    assert_eq!(frame[..CHECKED_BYTES], golden);
    assert_eq!(
        frame[CHECKED_BYTES..HEADER_BYTES],
        crc32fast::hash(&[&golden[..], b"abc"].concat()).to_le_bytes()
    );
    assert_eq!(&frame[HEADER_BYTES..], b"abc");
}
