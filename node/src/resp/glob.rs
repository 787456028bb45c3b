//! Glob patterns as Redis matches them (`stringmatchlen`): `*`, `?`, `[a-z]`, `[^x]`, `\x`.

/// Whether `text` matches `pattern`. Runs in `pattern × text` at worst: a star gives up once the
/// rest failed at every position, instead of trying each combination of stars.
pub(super) fn matches(pattern: &[u8], text: &[u8], ignore_case: bool) -> bool {
    let (mut pattern, mut text) = (pattern, text);
    // Where to go on when what follows the last star does not fit here.
    let mut retry: Option<(&[u8], &[u8])> = None;
    loop {
        if let [b'*', after @ ..] = pattern {
            pattern = after;
            retry = Some((after, text));
            continue;
        }
        match (step(pattern, text, ignore_case), text) {
            (Some(after), [_, text_after @ ..]) => (pattern, text) = (after, text_after),
            (None, []) if pattern.is_empty() => return true,
            _ => match retry {
                Some((after_star, [_, skipped @ ..])) => {
                    (pattern, text) = (after_star, skipped);
                    retry = Some((after_star, skipped));
                }
                _ => return false,
            },
        }
    }
}

/// The pattern after its first element, if that element matches the first byte of `text`.
fn step<'a>(pattern: &'a [u8], text: &[u8], ignore_case: bool) -> Option<&'a [u8]> {
    let byte = *text.first()?;
    match pattern {
        [] => None,
        [b'?', after @ ..] => Some(after),
        [b'[', class @ ..] => {
            let (found, after) = class_holds(class, byte, ignore_case);
            found.then_some(after)
        }
        [b'\\', literal, after @ ..] | [literal, after @ ..] => {
            same(*literal, byte, ignore_case).then_some(after)
        }
    }
}

/// Whether the class that `class` begins with (after its bracket) holds `byte`, and the pattern behind it.
/// An unclosed class ends with the pattern.
fn class_holds(class: &[u8], byte: u8, ignore_case: bool) -> (bool, &[u8]) {
    let (negated, mut rest) = match class {
        [b'^', rest @ ..] => (true, rest),
        rest => (false, rest),
    };
    let mut found = false;
    loop {
        rest = match rest {
            [] => return (found != negated, rest),
            [b']', after @ ..] => return (found != negated, after),
            [b'\\', literal, after @ ..] => {
                found |= same(*literal, byte, ignore_case);
                after
            }
            [low, b'-', high, after @ ..] => {
                found |= between(*low, *high, byte, ignore_case);
                after
            }
            [literal, after @ ..] => {
                found |= same(*literal, byte, ignore_case);
                after
            }
        }
    }
}

fn same(left: u8, right: u8, ignore_case: bool) -> bool {
    left == right || (ignore_case && left.eq_ignore_ascii_case(&right))
}

fn between(low: u8, high: u8, byte: u8, ignore_case: bool) -> bool {
    let fold = |byte: u8| {
        if ignore_case {
            byte.to_ascii_lowercase()
        } else {
            byte
        }
    };
    let (low, high, byte) = (fold(low), fold(high), fold(byte));
    (low.min(high)..=low.max(high)).contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_redis_matches_them() {
        for (pattern, text, expected) in [
            ("*", "", true),
            ("", "", true),
            ("", "a", false),
            ("h?llo", "hello", true),
            ("h?llo", "hllo", false),
            ("h*llo", "heeeello", true),
            ("h[ae]llo", "hallo", true),
            ("h[ae]llo", "hillo", false),
            ("h[^e]llo", "hallo", true),
            ("h[^e]llo", "hello", false),
            ("h[a-b]llo", "hbllo", true),
            ("h[b-a]llo", "hallo", true),
            ("h\\?llo", "h?llo", true),
            ("h\\?llo", "hello", false),
            ("a*b*c", "aXbXc", true),
            ("a*b*c", "aXcXb", false),
            ("[ab", "a", true),
            ("foo*", "foobar", true),
            ("*bar", "foobar", true),
            ("a", "A", false),
        ] {
            assert_eq!(
                matches(pattern.as_bytes(), text.as_bytes(), false),
                expected,
                "{pattern} {text}"
            );
        }
        assert!(matches(b"SAVE*", b"save", true));
    }

    #[test]
    fn many_stars_do_not_take_for_ever() {
        let pattern = b"*a".repeat(1_000);
        let text = vec![b'a'; 900];
        assert!(!matches(&pattern, &text, false));
    }
}
