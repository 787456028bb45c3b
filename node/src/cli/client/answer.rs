//! A reply, read from RESP2 or RESP3.

use std::{
    io::{self, BufRead, Read},
    str::FromStr,
};

/// A reply. A type of RESP3 that RESP2 spells otherwise (nil, map) is the same here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// `+`: a short text of the server's own.
    Simple(Vec<u8>),
    /// `-` and `!`: an error.
    Error(Vec<u8>),
    /// `:`: an integer.
    Int(i64),
    /// `$`: bytes.
    Bulk(Vec<u8>),
    /// `=`: text for people, without its format.
    Verbatim(Vec<u8>),
    /// `_`, `$-1`, `*-1`: nothing.
    Nil,
    /// `#`: true or false.
    Bool(bool),
    /// `,`: a double, as it was spelled.
    Double(String),
    /// `(`: an integer of any size, as it was spelled.
    BigNumber(String),
    /// `*`, and `>` (pushed by the server).
    Array(Vec<Answer>),
    /// `~`: an array without order.
    Set(Vec<Answer>),
    /// `%`: pairs.
    Map(Vec<(Answer, Answer)>),
}

/// Why there is no reply.
#[derive(Debug, thiserror::Error)]
pub enum AnswerError {
    /// The connection ended or timed out. *Whether the command was carried out is unknown.*
    #[error("{0}")]
    Io(#[from] io::Error),
    /// What came is not RESP. *Whether the command was carried out is unknown.*
    #[error("this is not the Redis protocol: {0}")]
    Malformed(String),
    /// What came is too long or too deep to be held. *The command was carried out.*
    #[error("the reply is beyond {0}")]
    TooLarge(&'static str),
}

impl Answer {
    /// Reads one reply.
    pub fn read(replies: &mut impl BufRead) -> Result<Self, AnswerError> {
        read_at(replies, 0)
    }
}

fn read_at(replies: &mut impl BufRead, depth: usize) -> Result<Answer, AnswerError> {
    if depth > DEPTH_MAX {
        return Err(AnswerError::TooLarge("32 levels"));
    }
    let line = read_line(replies)?;
    let (kind, rest) = line.split_first().ok_or_else(|| malformed(&line))?;
    match kind {
        b'+' => Ok(Answer::Simple(rest.to_vec())),
        b'-' => Ok(Answer::Error(rest.to_vec())),
        b':' => Ok(Answer::Int(number(rest)?)),
        b'_' => Ok(Answer::Nil),
        b'#' => Ok(Answer::Bool(rest == b"t")),
        b',' => Ok(Answer::Double(text(rest))),
        b'(' => Ok(Answer::BigNumber(text(rest))),
        b'$' => bulk(rest, replies, Answer::Bulk),
        b'!' => bulk(rest, replies, Answer::Error),
        b'=' => bulk(rest, replies, verbatim),
        b'*' | b'>' => elements(rest, replies, depth, Answer::Array),
        b'~' => elements(rest, replies, depth, Answer::Set),
        b'%' => map(rest, replies, depth),
        b'|' => {
            // Attributes say something about the reply that follows; nothing that is shown.
            map(rest, replies, depth)?;
            read_at(replies, depth + 1)
        }
        _ => Err(malformed(&line)),
    }
}

fn bulk(
    length: &[u8],
    replies: &mut impl BufRead,
    wrap: impl FnOnce(Vec<u8>) -> Answer,
) -> Result<Answer, AnswerError> {
    let Some(length) = count(length)? else {
        return Ok(Answer::Nil);
    };
    if length > BULK_BYTES_MAX {
        return Err(AnswerError::TooLarge("512 MiB"));
    }
    // Grows with what comes, not with what is announced.
    let mut bytes = Vec::new();
    let whole = length + 2;
    replies.by_ref().take(whole).read_to_end(&mut bytes)?;
    if bytes.len() as u64 != whole {
        return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
    }
    bytes.truncate(bytes.len() - 2);
    Ok(wrap(bytes))
}

/// `txt:words` without its format.
fn verbatim(bytes: Vec<u8>) -> Answer {
    Answer::Verbatim(bytes.get(4..).unwrap_or_default().to_vec())
}

fn elements(
    length: &[u8],
    replies: &mut impl BufRead,
    depth: usize,
    wrap: impl FnOnce(Vec<Answer>) -> Answer,
) -> Result<Answer, AnswerError> {
    let Some(length) = count(length)? else {
        return Ok(Answer::Nil);
    };
    let elements: Result<_, _> = (0..length).map(|_| read_at(replies, depth + 1)).collect();
    elements.map(wrap)
}

fn map(length: &[u8], replies: &mut impl BufRead, depth: usize) -> Result<Answer, AnswerError> {
    let length = count(length)?.unwrap_or(0);
    let mut pair = || {
        let key = read_at(replies, depth + 1)?;
        Ok((key, read_at(replies, depth + 1)?))
    };
    let pairs: Result<_, AnswerError> = (0..length).map(|_| pair()).collect();
    pairs.map(Answer::Map)
}

fn read_line(replies: &mut impl BufRead) -> Result<Vec<u8>, AnswerError> {
    let mut line = Vec::new();
    let mut bounded = replies.by_ref().take(LINE_BYTES_MAX);
    bounded.read_until(b'\n', &mut line)?;
    if line.ends_with(b"\r\n") {
        line.truncate(line.len() - 2);
        return Ok(line);
    }
    if line.is_empty() {
        let closed = io::Error::new(io::ErrorKind::UnexpectedEof, "the connection was closed");
        return Err(closed.into());
    }
    Err(malformed(&line))
}

/// A length, or `None` for the -1 that is RESP2's nil.
fn count(digits: &[u8]) -> Result<Option<u64>, AnswerError> {
    if digits == b"-1" {
        return Ok(None);
    }
    number(digits).map(Some)
}

fn number<T: FromStr>(digits: &[u8]) -> Result<T, AnswerError> {
    let parsed = std::str::from_utf8(digits)
        .ok()
        .and_then(|digits| digits.parse().ok());
    parsed.ok_or_else(|| malformed(digits))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn malformed(line: &[u8]) -> AnswerError {
    let start = &line[..line.len().min(SHOWN_BYTES)];
    AnswerError::Malformed(format!("'{}'", start.escape_ascii()))
}

const DEPTH_MAX: usize = 32;
const LINE_BYTES_MAX: u64 = 1 << 20;
const BULK_BYTES_MAX: u64 = 512 << 20;
/// What an error shows of bytes that make no sense.
const SHOWN_BYTES: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn read(mut bytes: &[u8]) -> Result<Answer, AnswerError> {
        let answer = Answer::read(&mut bytes);
        assert!(answer.is_err() || bytes.is_empty(), "left over: {bytes:?}");
        answer
    }

    #[test]
    fn every_type_of_both_protocols_is_read() {
        let bulk = |text: &str| Answer::Bulk(text.into());
        for (bytes, answer) in [
            ("+OK\r\n", Answer::Simple("OK".into())),
            ("-ERR no\r\n", Answer::Error("ERR no".into())),
            ("!6\r\nERR no\r\n", Answer::Error("ERR no".into())),
            (":-7\r\n", Answer::Int(-7)),
            ("$5\r\na\r\nbc\r\n", bulk("a\r\nbc")),
            ("$-1\r\n", Answer::Nil),
            ("*-1\r\n", Answer::Nil),
            ("_\r\n", Answer::Nil),
            ("#t\r\n", Answer::Bool(true)),
            (",1.5\r\n", Answer::Double("1.5".to_owned())),
            (
                "(99999999999999999999\r\n",
                Answer::BigNumber("99999999999999999999".to_owned()),
            ),
            ("=8\r\ntxt:text\r\n", Answer::Verbatim("text".into())),
            (
                "*2\r\n:1\r\n*0\r\n",
                Answer::Array(vec![Answer::Int(1), Answer::Array(vec![])]),
            ),
            (">1\r\n:1\r\n", Answer::Array(vec![Answer::Int(1)])),
            ("~1\r\n$1\r\na\r\n", Answer::Set(vec![bulk("a")])),
            (
                "%1\r\n$1\r\nk\r\n$1\r\nv\r\n",
                Answer::Map(vec![(bulk("k"), bulk("v"))]),
            ),
            ("|1\r\n+ttl\r\n:3\r\n:4\r\n", Answer::Int(4)),
        ] {
            assert_eq!(read(bytes.as_bytes()).unwrap(), answer, "{bytes}");
        }
    }

    #[test]
    fn what_is_not_the_protocol_is_refused() {
        for bytes in [
            "HTTP/1.1 400 Bad\r\n",
            "\r\n",
            ":x\r\n",
            "$x\r\n",
            "*-2\r\n",
            "+no end\n",
        ] {
            let error = read(bytes.as_bytes()).unwrap_err();
            assert!(
                matches!(error, AnswerError::Malformed(_)),
                "{bytes}: {error}"
            );
        }
    }

    #[test]
    fn a_reply_that_ends_early_is_none() {
        for bytes in ["", "$5\r\nab", "*2\r\n:1\r\n", "$0\r\n"] {
            let error = read(bytes.as_bytes()).unwrap_err();
            assert!(matches!(error, AnswerError::Io(_)), "{bytes}: {error}");
        }
    }

    #[test]
    fn announced_lengths_reserve_nothing_and_depth_is_bounded() {
        let endless = read(b"*1000000000\r\n").unwrap_err();
        assert!(matches!(endless, AnswerError::Io(_)));
        let large = read(b"$99999999999\r\n").unwrap_err();
        assert!(matches!(large, AnswerError::TooLarge(_)));
        let deep = read("*1\r\n".repeat(100).as_bytes()).unwrap_err();
        assert!(matches!(deep, AnswerError::TooLarge(_)));
    }
}
