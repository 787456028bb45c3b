//! Inline commands: a line split into words, with Redis's quoting (`sdssplitargs`).

use super::args::Span;

/// A quote was not closed, or something other than a blank follows a closing one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Unbalanced;

/// Appends the words of `line`, unquoted and back to back, to `words`, and where each lies to `spans`.
pub(super) fn split(
    line: &[u8],
    words: &mut Vec<u8>,
    spans: &mut Vec<Span>,
) -> Result<(), Unbalanced> {
    let mut rest = line;
    loop {
        rest = skip_blanks(rest);
        if rest.is_empty() {
            return Ok(());
        }
        let start = words.len();
        rest = word(rest, words)?;
        let end = words.len();
        spans.push(Span { start, end });
    }
}

/// One word, which may consist of bare and quoted pieces; what follows it is returned.
fn word<'a>(mut rest: &'a [u8], out: &mut Vec<u8>) -> Result<&'a [u8], Unbalanced> {
    while let [byte, after @ ..] = rest {
        match byte {
            b' ' | b'\n' | b'\r' | b'\t' | 0 => return Ok(after),
            b'"' => return double_quoted(after, out),
            b'\'' => return single_quoted(after, out),
            _ => {
                out.push(*byte);
                rest = after;
            }
        }
    }
    Ok(rest)
}

fn double_quoted<'a>(mut rest: &'a [u8], out: &mut Vec<u8>) -> Result<&'a [u8], Unbalanced> {
    loop {
        rest = match rest {
            [b'\\', b'x', high, low, after @ ..] if both_hex(*high, *low) => {
                out.push(hex(*high) << 4 | hex(*low));
                after
            }
            [b'\\', escaped, after @ ..] => {
                out.push(unescape(*escaped));
                after
            }
            [b'"', after @ ..] => return closed(after),
            [byte, after @ ..] => {
                out.push(*byte);
                after
            }
            [] => return Err(Unbalanced),
        }
    }
}

fn single_quoted<'a>(mut rest: &'a [u8], out: &mut Vec<u8>) -> Result<&'a [u8], Unbalanced> {
    loop {
        rest = match rest {
            [b'\\', b'\'', after @ ..] => {
                out.push(b'\'');
                after
            }
            [b'\'', after @ ..] => return closed(after),
            [byte, after @ ..] => {
                out.push(*byte);
                after
            }
            [] => return Err(Unbalanced),
        }
    }
}

/// A closing quote ends its word, so a blank or the end must follow.
fn closed(rest: &[u8]) -> Result<&[u8], Unbalanced> {
    match rest.first() {
        Some(byte) if !is_blank(*byte) => Err(Unbalanced),
        _ => Ok(rest),
    }
}

fn skip_blanks(line: &[u8]) -> &[u8] {
    let blanks = line.iter().take_while(|byte| is_blank(**byte)).count();
    &line[blanks..]
}

/// C's `isspace`, and NUL, which ends a word as it ends a C string.
fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t'..=b'\r' | 0)
}

fn unescape(byte: u8) -> u8 {
    match byte {
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'b' => 8,
        b'a' => 7,
        other => other,
    }
}

fn both_hex(high: u8, low: u8) -> bool {
    high.is_ascii_hexdigit() && low.is_ascii_hexdigit()
}

fn hex(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        other => (other | 0x20) - b'a' + 10,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &[u8]) -> Result<Vec<Vec<u8>>, Unbalanced> {
        let (mut bytes, mut spans) = (Vec::new(), Vec::new());
        split(line, &mut bytes, &mut spans)?;
        let word = |span: &Span| bytes[span.start..span.end].to_vec();
        Ok(spans.iter().map(word).collect())
    }

    #[test]
    fn words_are_split_at_blanks_and_quotes_protect_them() {
        let line = br#"  set  "a b" 'c\'d' "\x00\xfF\n\"" "" e"f g"#;
        assert_eq!(words(line), Err(Unbalanced));
        let line = br#"  set  "a b" 'c\'d' "\x00\xfF\n\"" "" e"f" "#;
        let expected: [&[u8]; 6] = [b"set", b"a b", b"c'd", b"\0\xff\n\"", b"", b"ef"];
        assert_eq!(words(line).expect("balanced"), expected);
    }

    #[test]
    fn a_quote_left_open_or_followed_by_text_is_unbalanced() {
        for line in [
            &b"set \"a"[..],
            b"set 'a",
            b"set \"a\"b",
            b"set 'a'b",
            b"\"a\\",
            br#"set """test-key""" x"#,
        ] {
            assert_eq!(words(line), Err(Unbalanced), "{line:?}");
        }
    }

    #[test]
    fn a_blank_line_has_no_words() {
        assert_eq!(words(b" \t\x0b\x0c "), Ok(Vec::new()));
        assert_eq!(words(b""), Ok(Vec::new()));
    }
}
