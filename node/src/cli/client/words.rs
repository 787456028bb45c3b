//! A line of commands, split into words: by spaces, except inside `"…"` (with escapes) and `'…'` (with `\'`).

/// A line that cannot be split. *State unchanged.*
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WordsError {
    /// A quote has no end. *State unchanged.*
    #[error("Invalid argument(s): a quote is not closed")]
    Unclosed,
    /// Something follows a closing quote that is no space. *State unchanged.*
    #[error("Invalid argument(s): a space is missing after a closing quote")]
    Unspaced,
}

/// The words of a line.
pub fn split(line: &[u8]) -> Result<Vec<Vec<u8>>, WordsError> {
    let mut words = Vec::new();
    let mut rest = line.trim_ascii();
    while !rest.is_empty() {
        let mut word = Vec::new();
        rest = take_word(rest, &mut word)?.trim_ascii_start();
        words.push(word);
    }
    Ok(words)
}

/// Moves the first word of `rest`, which is not empty, into `word`, and gives what follows.
fn take_word<'a>(mut rest: &'a [u8], word: &mut Vec<u8>) -> Result<&'a [u8], WordsError> {
    while let Some((&byte, after)) = rest.split_first() {
        match byte {
            b'"' => return after_quote(take_double(after, word)?),
            b'\'' => return after_quote(take_single(after, word)?),
            _ if byte.is_ascii_whitespace() => break,
            _ => word.push(byte),
        }
        rest = after;
    }
    Ok(rest)
}

fn after_quote(rest: &[u8]) -> Result<&[u8], WordsError> {
    match rest.first() {
        Some(byte) if !byte.is_ascii_whitespace() => Err(WordsError::Unspaced),
        _ => Ok(rest),
    }
}

fn take_single<'a>(mut rest: &'a [u8], word: &mut Vec<u8>) -> Result<&'a [u8], WordsError> {
    loop {
        rest = match rest {
            [] => return Err(WordsError::Unclosed),
            [b'\'', after @ ..] => return Ok(after),
            [b'\\', b'\'', after @ ..] => {
                word.push(b'\'');
                after
            }
            [byte, after @ ..] => {
                word.push(*byte);
                after
            }
        };
    }
}

fn take_double<'a>(mut rest: &'a [u8], word: &mut Vec<u8>) -> Result<&'a [u8], WordsError> {
    loop {
        rest = match rest {
            [] => return Err(WordsError::Unclosed),
            [b'"', after @ ..] => return Ok(after),
            [b'\\', b'x', high, low, after @ ..] if is_hex(*high, *low) => {
                word.push(hex(*high) << 4 | hex(*low));
                after
            }
            [b'\\', escaped, after @ ..] => {
                word.push(unescaped(*escaped));
                after
            }
            [byte, after @ ..] => {
                word.push(*byte);
                after
            }
        };
    }
}

fn unescaped(byte: u8) -> u8 {
    match byte {
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'b' => 0x08,
        b'a' => 0x07,
        other => other,
    }
}

fn is_hex(high: u8, low: u8) -> bool {
    high.is_ascii_hexdigit() && low.is_ascii_hexdigit()
}

/// The value of a hexadecimal digit.
fn hex(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        _ => digit.to_ascii_lowercase() - b'a' + 10,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_split_as_redis_cli_splits_them() {
        for (line, words) in [
            ("", vec![]),
            ("  \r\n", vec![]),
            ("SET  k\tv\r\n", vec!["SET", "k", "v"]),
            (r#"SET k "a b""#, vec!["SET", "k", "a b"]),
            (r#"SET k """#, vec!["SET", "k", ""]),
            (r#""\x41\n\"\\\q""#, vec!["A\n\"\\q"]),
            (r#""\xZZ""#, vec!["xZZ"]),
            (r"'a\'b\n'", vec![r"a'b\n"]),
            (r#"pre"fix""#, vec!["prefix"]),
        ] {
            let words: Vec<Vec<u8>> = words.into_iter().map(Into::into).collect();
            assert_eq!(split(line.as_bytes()), Ok(words), "{line}");
        }
    }

    #[test]
    fn broken_quotes_are_refused() {
        for line in ["\"a", "'a", "\"a\\\"", "'"] {
            assert_eq!(split(line.as_bytes()), Err(WordsError::Unclosed), "{line}");
        }
        assert_eq!(split(b"\"a\"b"), Err(WordsError::Unspaced));
    }
}
