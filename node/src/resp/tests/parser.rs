//! Goal: bytes from anyone, cut anywhere, give the same requests, never a panic, and never memory beyond the limits.
//! Method: requests are collected into owned values, from the whole input and from arbitrary cuts of it.

use proptest::prelude::*;

use super::*;

const SMALL: Limits = Limits {
    value_bytes: 64,
    command_bytes: 256,
    clients: 1,
    output_bytes: 1,
    stuck_after: std::time::Duration::ZERO,
};

#[derive(Debug, Clone, PartialEq, Eq)]
enum Seen {
    Command(Vec<Vec<u8>>),
    TooLarge,
    Broken(ProtocolError),
}

/// Everything that `parts`, one after the other, hold.
fn seen(parts: &[&[u8]], limits: &Limits) -> Vec<Seen> {
    let mut parser = Parser::new(limits);
    let mut buffer = BytesMut::new();
    let mut all = Vec::new();
    for part in parts {
        buffer.extend_from_slice(part);
        loop {
            match parser.next(&mut buffer) {
                Ok(None) => break,
                Ok(Some(Request::Command(args))) => {
                    all.push(Seen::Command(args.from(0).map(<[u8]>::to_vec).collect()));
                }
                Ok(Some(Request::TooLarge(_))) => all.push(Seen::TooLarge),
                Err(error) => {
                    all.push(Seen::Broken(error));
                    return all;
                }
            }
        }
        // What is kept of an incomplete command: it, and one argument or line of what follows.
        let kept_max = limits.command_bytes + limits.value_bytes + LINE_BYTES_MAX;
        assert!(buffer.len() <= kept_max + part.len());
    }
    all
}

fn whole(bytes: &[u8]) -> Vec<Seen> {
    seen(&[bytes], &Limits::default())
}

fn command(words: &[&str]) -> Seen {
    Seen::Command(words.iter().map(|word| word.as_bytes().to_vec()).collect())
}

fn encoded(words: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        bytes.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        bytes.extend_from_slice(word);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes
}

#[test]
fn arrays_and_lines_are_requests_and_empty_ones_are_none() {
    let bytes = b"*1\r\n$4\r\nPING\r\n*0\r\n\r\n  \r\n*-1\r\n*-10\r\nset k 'a b'\r\n*2\r\n$3\r\nget\r\n$0\r\n\r\nping\n";
    assert_eq!(
        whole(bytes),
        [
            command(&["PING"]),
            command(&["set", "k", "a b"]),
            command(&["get", ""]),
            command(&["ping"]),
        ]
    );
}

#[test]
fn headers_are_refused_before_anything_is_reserved() {
    use ProtocolError::{ExpectedBulk, InvalidCount, InvalidLength};
    for (bytes, error) in [
        (&b"*1000000000\r\n"[..], InvalidCount),
        (b"*3000000000\r\n", InvalidCount),
        (b"*99999999999999999999\r\n", InvalidCount),
        (b"*abc\r\n", InvalidCount),
        (b"*+1\r\n", InvalidCount),
        (b"*\r\n", InvalidCount),
        (b"*1\r\n$99999999999\r\n", InvalidLength),
        (b"*1\r\n$2000000000\r\n", InvalidLength),
        (b"*1\r\n$-1\r\n", InvalidLength),
        (b"*1\r\n$blabla\r\n", InvalidLength),
        (b"*1\r\nfooz\r\n", ExpectedBulk(b'f')),
        (b"*1\r\n\r\n\r\n", ExpectedBulk(b'\r')),
        (b"set \"a\r\n", ProtocolError::UnbalancedQuotes),
    ] {
        let mut parser = Parser::new(&Limits::default());
        let mut buffer = BytesMut::from(bytes);
        assert_eq!(parser.next(&mut buffer).err(), Some(error), "{bytes:?}");
        assert!(buffer.capacity() <= bytes.len() && parser.spans.capacity() <= 4);
    }
}

#[test]
fn the_texts_are_those_of_redis() {
    let text = |error: ProtocolError| error.refusal().to_string();
    assert_eq!(
        text(ProtocolError::ExpectedBulk(b'f')),
        "ERR Protocol error: expected '$', got 'f'"
    );
    assert_eq!(
        text(ProtocolError::InvalidCount),
        "ERR Protocol error: invalid multibulk length"
    );
    assert_eq!(
        text(ProtocolError::UnbalancedQuotes),
        "ERR Protocol error: unbalanced quotes in request"
    );
}

#[test]
fn a_line_without_an_end_is_cut_off() {
    let endless = |first: &[u8]| [first, &[b'a'; LINE_BYTES_MAX + 1]].concat();
    assert_eq!(
        whole(&endless(b"")),
        [Seen::Broken(ProtocolError::LineTooLong)]
    );
    assert_eq!(
        whole(&endless(b"*")),
        [Seen::Broken(ProtocolError::CountTooLong)]
    );
    assert_eq!(
        whole(&endless(b"*1\r\n$")),
        [Seen::Broken(ProtocolError::LengthTooLong)]
    );
}

#[test]
fn what_is_too_large_is_skipped_without_being_stored_and_the_next_request_lives() {
    let large = encoded(&[b"set".to_vec(), b"k".to_vec(), vec![b'x'; 65]]);
    let many = encoded(&vec![vec![b'x'; 60]; 5]);
    let ping = encoded(&[b"ping".to_vec()]);
    let bytes = [&large[..], &ping, &many, &ping].concat();
    let expected = [
        Seen::TooLarge,
        command(&["ping"]),
        Seen::TooLarge,
        command(&["ping"]),
    ];
    assert_eq!(seen(&[&bytes], &SMALL), expected);
    let single: Vec<&[u8]> = bytes.chunks(1).collect();
    assert_eq!(seen(&single, &SMALL), expected);

    let mut parser = Parser::new(&SMALL);
    let mut buffer = BytesMut::from(&b"*2\r\n$3\r\nset\r\n$100000000\r\n"[..]);
    for _ in 0..1_000 {
        buffer.extend_from_slice(&[b'x'; 1_000]);
        assert!(matches!(parser.next(&mut buffer), Ok(None)));
        assert!(buffer.is_empty());
    }
    assert_eq!(parser.lacks(0), 0);
}

#[test]
fn an_inline_argument_over_the_limit_is_too_large_as_well() {
    let line = [&b"set k "[..], &[b'x'; 65], b"\r\nping\r\n"].concat();
    assert_eq!(seen(&[&line], &SMALL), [Seen::TooLarge, command(&["ping"])]);
}

#[test]
fn a_command_that_comes_in_parts_says_what_it_lacks() {
    let mut parser = Parser::new(&Limits::default());
    let mut buffer = BytesMut::from(&b"*2\r\n$3\r\nget\r\n$1000\r\nab"[..]);
    assert!(matches!(parser.next(&mut buffer), Ok(None)));
    assert_eq!(parser.lacks(buffer.len()), 1_000);
    buffer.extend_from_slice(&[b'x'; 1_000]);
    assert!(matches!(parser.next(&mut buffer), Ok(Some(_))));
    assert_eq!((buffer.len(), parser.lacks(0)), (0, 0));
}

#[test]
fn many_empty_lines_do_not_exhaust_the_stack() {
    let bytes = [&b"\r\n".repeat(500_000)[..], b"ping\r\n"].concat();
    assert_eq!(whole(&bytes), [command(&["ping"])]);
}

/// Bytes that look like requests more often than chance has it.
fn almost_requests() -> impl Strategy<Value = Vec<u8>> {
    let words: [&[u8]; 14] = [
        b"*1\r\n",
        b"*2\r\n",
        b"*-1\r\n",
        b"*999\r\n",
        b"$3\r\n",
        b"$0\r\n",
        b"$70\r\n",
        b"$-1\r\n",
        b"GET",
        b"\r\n",
        b"\"",
        b"'",
        b" k ",
        b"\n",
    ];
    let piece = prop_oneof![
        4 => proptest::sample::select(words.to_vec()).prop_map(<[u8]>::to_vec),
        1 => proptest::collection::vec(any::<u8>(), 0..100),
        2 => proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..80), 1..5)
            .prop_map(|words| encoded(&words)),
    ];
    proptest::collection::vec(piece, 0..20).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn any_cut_of_any_bytes_gives_the_same_requests(
        bytes in almost_requests(),
        cuts in proptest::collection::vec(any::<proptest::sample::Index>(), 0..20),
    ) {
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
        cuts.extend([0, bytes.len()]);
        cuts.sort_unstable();
        let parts: Vec<&[u8]> = cuts.windows(2).map(|cut| &bytes[cut[0]..cut[1]]).collect();
        prop_assert_eq!(seen(&parts, &SMALL), seen(&[&bytes], &SMALL));
    }

    #[test]
    fn what_is_encoded_is_parsed_back(
        commands in proptest::collection::vec(
            proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..64), 1..6),
            1..6,
        ),
    ) {
        let bytes: Vec<u8> = commands.iter().flat_map(|words| encoded(words)).collect();
        let expected: Vec<Seen> = commands.into_iter().map(Seen::Command).collect();
        prop_assert_eq!(whole(&bytes), expected);
    }
}
