//! Replies as bytes, in either version of the protocol.

use std::fmt::Write as _;

use super::output::Output;
use crate::core::reply::{Refusal, Reply};

/// The version of the protocol that a connection speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Protocol {
    /// Before `HELLO 3`.
    #[default]
    Resp2,
    /// After it.
    Resp3,
}

impl Protocol {
    pub(super) fn version(self) -> i64 {
        match self {
            Self::Resp2 => 2,
            Self::Resp3 => 3,
        }
    }
}

/// Appends `reply` to `output`.
pub(super) fn write(output: &mut Output, reply: Reply, protocol: Protocol) {
    use Protocol::{Resp2, Resp3};
    match (reply, protocol) {
        (Reply::Ok, _) => output.put(b"+OK\r\n"),
        (Reply::Simple(text), _) => line(output, b'+', text.as_bytes()),
        (Reply::Nil, Resp2) => output.put(b"$-1\r\n"),
        (Reply::NilArray, Resp2) => output.put(b"*-1\r\n"),
        (Reply::Nil | Reply::NilArray, Resp3) => output.put(b"_\r\n"),
        (Reply::Int(value), _) => number(output, b':', value),
        (Reply::Bulk(bytes), _) | (Reply::Verbatim(bytes), Resp2) => {
            length(output, b'$', bytes.len());
            output.put_shared(bytes);
            output.put(b"\r\n");
        }
        (Reply::Verbatim(bytes), Resp3) => {
            length(output, b'=', bytes.len() + VERBATIM.len());
            output.put(VERBATIM);
            output.put_shared(bytes);
            output.put(b"\r\n");
        }
        (Reply::Array(items), _) | (Reply::Set(items), Resp2) => {
            sequence(output, b'*', items, protocol);
        }
        (Reply::Set(items), Resp3) => sequence(output, b'~', items, protocol),
        (Reply::Map(pairs), _) => map(output, pairs, protocol),
        (Reply::Error(refusal), _) => error(output, &refusal),
    }
}

/// Appends the header of an array whose items follow one by one.
pub(super) fn array_header(output: &mut Output, items: usize) {
    length(output, b'*', items);
}

fn sequence(output: &mut Output, kind: u8, items: Vec<Reply>, protocol: Protocol) {
    length(output, kind, items.len());
    for item in items {
        write(output, item, protocol);
    }
}

fn map(output: &mut Output, pairs: Vec<(Reply, Reply)>, protocol: Protocol) {
    match protocol {
        Protocol::Resp2 => length(output, b'*', pairs.len() * 2),
        Protocol::Resp3 => length(output, b'%', pairs.len()),
    }
    for (key, value) in pairs {
        write(output, key, protocol);
        write(output, value, protocol);
    }
}

/// `-` and the text on one line: a line break inside would end the reply early.
fn error(output: &mut Output, refusal: &Refusal) {
    let mut text = String::new();
    // Writing to a string does not fail.
    let _ = write!(text, "{refusal}");
    let text = text.trim_matches(['\r', '\n']).replace(['\r', '\n'], " ");
    line(output, b'-', text.as_bytes());
}

fn line(output: &mut Output, kind: u8, text: &[u8]) {
    output.put(&[kind]);
    output.put(text);
    output.put(b"\r\n");
}

fn number(output: &mut Output, kind: u8, value: i64) {
    // A kind, at most 20 digits with a sign, and a line end.
    let mut buffer = itoa::Buffer::new();
    line(output, kind, buffer.format(value).as_bytes());
}

fn length(output: &mut Output, kind: u8, length: usize) {
    let mut buffer = itoa::Buffer::new();
    line(output, kind, buffer.format(length).as_bytes());
}

const VERBATIM: &[u8] = b"txt:";

#[cfg(test)]
mod tests {
    use bytes::{Buf, Bytes};

    use super::*;

    fn written(reply: Reply, protocol: Protocol) -> String {
        let mut output = Output::default();
        write(&mut output, reply, protocol);
        let bytes = output.copy_to_bytes(output.remaining());
        String::from_utf8(bytes.to_vec()).expect("text")
    }

    fn bulk(text: &'static str) -> Reply {
        Reply::Bulk(Bytes::from_static(text.as_bytes()))
    }

    #[test]
    fn every_reply_has_its_form_in_both_versions() {
        let set = || Reply::Set(vec![bulk("a"), Reply::Int(-3)]);
        let map = || Reply::Map(vec![(bulk("k"), Reply::Nil)]);
        let text = || Reply::Verbatim(Bytes::from_static(b"hi"));
        for (reply, two, three) in [
            (Reply::Ok, "+OK\r\n", "+OK\r\n"),
            (Reply::Simple("none"), "+none\r\n", "+none\r\n"),
            (Reply::Nil, "$-1\r\n", "_\r\n"),
            (Reply::NilArray, "*-1\r\n", "_\r\n"),
            (
                Reply::Int(i64::MIN),
                ":-9223372036854775808\r\n",
                ":-9223372036854775808\r\n",
            ),
            (bulk(""), "$0\r\n\r\n", "$0\r\n\r\n"),
            (
                Reply::Array(vec![Reply::Nil]),
                "*1\r\n$-1\r\n",
                "*1\r\n_\r\n",
            ),
            (
                set(),
                "*2\r\n$1\r\na\r\n:-3\r\n",
                "~2\r\n$1\r\na\r\n:-3\r\n",
            ),
            (map(), "*2\r\n$1\r\nk\r\n$-1\r\n", "%1\r\n$1\r\nk\r\n_\r\n"),
            (text(), "$2\r\nhi\r\n", "=6\r\ntxt:hi\r\n"),
        ] {
            assert_eq!(written(reply.clone(), Protocol::Resp2), two);
            assert_eq!(written(reply, Protocol::Resp3), three);
        }
    }

    #[test]
    fn an_error_stays_on_its_line() {
        let refusal = Refusal::Redis("ERR a\r\nb\n".to_owned());
        assert_eq!(
            written(Reply::Error(refusal), Protocol::Resp2),
            "-ERR a  b\r\n"
        );
    }
}
