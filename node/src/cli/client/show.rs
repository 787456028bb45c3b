//! Replies as text, as `redis-cli` shows them.

use std::io::{self, Write};

use super::answer::Answer;

/// How replies are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// With quotes, types and numbers: for people.
    Typed,
    /// As they are, an element a line: for scripts.
    Raw,
}

impl Style {
    /// Writes one reply, with a newline at its end; a text for people may bring its own.
    pub fn write(self, answer: &Answer, out: &mut impl Write) -> io::Result<()> {
        let mut text = match self {
            Self::Typed => typed(answer, 0),
            Self::Raw => raw(answer),
        };
        let ended = matches!(answer, Answer::Verbatim(text) if text.ends_with(b"\n"));
        if !ended {
            text.push(b'\n');
        }
        out.write_all(&text)?;
        out.flush()
    }
}

/// A reply with quotes and types; lines after the first are indented by `indent`.
fn typed(answer: &Answer, indent: usize) -> Vec<u8> {
    match answer {
        Answer::Simple(text) | Answer::Verbatim(text) => text.clone(),
        Answer::Error(text) => [b"(error) ", text.as_slice()].concat(),
        Answer::Int(number) => format!("(integer) {number}").into_bytes(),
        Answer::Bulk(bytes) => quoted(bytes),
        Answer::Nil => b"(nil)".to_vec(),
        Answer::Bool(value) => format!("({value})").into_bytes(),
        Answer::Double(number) => format!("(double) {number}").into_bytes(),
        Answer::BigNumber(number) => format!("(big number) {number}").into_bytes(),
        Answer::Array(elements) if elements.is_empty() => b"(empty array)".to_vec(),
        Answer::Set(elements) if elements.is_empty() => b"(empty set)".to_vec(),
        Answer::Map(pairs) if pairs.is_empty() => b"(empty hash)".to_vec(),
        Answer::Array(elements) => numbered(elements, ')', indent, typed),
        Answer::Set(elements) => numbered(elements, '~', indent, typed),
        Answer::Map(pairs) => numbered(pairs, '#', indent, typed_pair),
    }
}

/// `key => value`, with a value of several lines below its key.
fn typed_pair((key, value): &(Answer, Answer), indent: usize) -> Vec<u8> {
    let below = matches!(value, Answer::Array(_) | Answer::Set(_) | Answer::Map(_));
    let margin = match below {
        true => format!(" => \n{:indent$}", ""),
        false => " => ".to_owned(),
    };
    [typed(key, indent), typed(value, indent)].join(margin.as_bytes())
}

fn numbered<T>(
    elements: &[T],
    mark: char,
    indent: usize,
    show: impl Fn(&T, usize) -> Vec<u8>,
) -> Vec<u8> {
    let width = elements.len().to_string().len();
    let lines: Vec<_> = (1..)
        .zip(elements)
        .map(|(number, element)| {
            let margin = if number == 1 { 0 } else { indent };
            let mut line = format!("{:margin$}{number:>width$}{mark} ", "").into_bytes();
            line.extend(show(element, indent + width + 2));
            line
        })
        .collect();
    lines.join(b"\n".as_slice())
}

fn quoted(bytes: &[u8]) -> Vec<u8> {
    let mut text = vec![b'"'];
    for &byte in bytes {
        match byte {
            b'\\' | b'"' => text.extend([b'\\', byte]),
            b'\n' => text.extend(b"\\n"),
            b'\r' => text.extend(b"\\r"),
            b'\t' => text.extend(b"\\t"),
            0x07 => text.extend(b"\\a"),
            0x08 => text.extend(b"\\b"),
            b' '..=b'~' => text.push(byte),
            _ => text.extend(format!("\\x{byte:02x}").into_bytes()),
        }
    }
    text.push(b'"');
    text
}

fn raw(answer: &Answer) -> Vec<u8> {
    match answer {
        Answer::Simple(text)
        | Answer::Verbatim(text)
        | Answer::Error(text)
        | Answer::Bulk(text) => text.clone(),
        Answer::Int(number) => number.to_string().into_bytes(),
        Answer::Nil => Vec::new(),
        Answer::Bool(value) => format!("({value})").into_bytes(),
        Answer::Double(number) | Answer::BigNumber(number) => number.clone().into_bytes(),
        Answer::Array(elements) | Answer::Set(elements) => {
            let lines: Vec<_> = elements.iter().map(raw).collect();
            lines.join(b"\n".as_slice())
        }
        Answer::Map(pairs) => {
            let line = |(key, value): &(Answer, Answer)| [raw(key), raw(value)].join(&b' ');
            let lines: Vec<_> = pairs.iter().map(line).collect();
            lines.join(b"\n".as_slice())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(style: Style, answer: &Answer) -> String {
        let mut out = Vec::new();
        style.write(answer, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    fn bulk(text: &str) -> Answer {
        Answer::Bulk(text.into())
    }

    #[test]
    fn scalars_are_shown_with_their_types() {
        for (answer, text) in [
            (Answer::Simple("OK".into()), "OK\n"),
            (Answer::Error("ERR no".into()), "(error) ERR no\n"),
            (Answer::Int(-7), "(integer) -7\n"),
            (bulk("a\"\\\n\u{1}é"), "\"a\\\"\\\\\\n\\x01\\xc3\\xa9\"\n"),
            (Answer::Nil, "(nil)\n"),
            (Answer::Bool(true), "(true)\n"),
            (Answer::Double("1.5".to_owned()), "(double) 1.5\n"),
            (Answer::Verbatim("two\nlines".into()), "two\nlines\n"),
            (Answer::Verbatim("a line\n".into()), "a line\n"),
            (Answer::Array(vec![]), "(empty array)\n"),
            (Answer::Set(vec![]), "(empty set)\n"),
            (Answer::Map(vec![]), "(empty hash)\n"),
        ] {
            assert_eq!(shown(Style::Typed, &answer), text);
        }
    }

    #[test]
    fn nested_elements_are_numbered_and_aligned() {
        let inner = Answer::Array(vec![bulk("b"), Answer::Nil]);
        let answer = Answer::Array(vec![bulk("a"), inner, Answer::Int(3)]);
        assert_eq!(
            shown(Style::Typed, &answer),
            "1) \"a\"\n2) 1) \"b\"\n   2) (nil)\n3) (integer) 3\n"
        );
        let ten = Answer::Set((0..10).map(Answer::Int).collect());
        assert!(shown(Style::Typed, &ten).starts_with(" 1~ (integer) 0\n 2~"));
    }

    #[test]
    fn maps_are_shown_as_pairs() {
        let answer = Answer::Map(vec![
            (bulk("a"), Answer::Int(1)),
            (
                bulk("b"),
                Answer::Array(vec![Answer::Int(2), Answer::Int(3)]),
            ),
        ]);
        assert_eq!(
            shown(Style::Typed, &answer),
            "1# \"a\" => (integer) 1\n2# \"b\" => \n   1) (integer) 2\n   2) (integer) 3\n"
        );
        assert_eq!(shown(Style::Raw, &answer), "a 1\nb 2\n3\n");
    }

    #[test]
    fn raw_replies_are_the_bytes_themselves() {
        assert_eq!(shown(Style::Raw, &bulk("a\"b")), "a\"b\n");
        assert_eq!(shown(Style::Raw, &Answer::Nil), "\n");
        let answer = Answer::Array(vec![bulk("a"), Answer::Int(1)]);
        assert_eq!(shown(Style::Raw, &answer), "a\n1\n");
    }
}
