//! Redis's glob: `*`, `?`, `[a-z]`, `[^a]`, `\x`.

/// Whether `text` matches `pattern`, byte by byte. Linear in the text for every `*` but the last one, never exponential:
/// only the last `*` seen is gone back to.
pub fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut at_pattern, mut at_text) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while at_text < text.len() {
        if pattern.get(at_pattern) == Some(&b'*') {
            star = Some((at_pattern + 1, at_text));
            at_pattern += 1;
            continue;
        }
        if let Some(next) = match_one(pattern, at_pattern, text[at_text]) {
            (at_pattern, at_text) = (next, at_text + 1);
            continue;
        }
        let Some((after_star, from)) = star else {
            return false;
        };
        star = Some((after_star, from + 1));
        (at_pattern, at_text) = (after_star, from + 1);
    }
    pattern[at_pattern..].iter().all(|&byte| byte == b'*')
}

/// The pattern's next place if its element at `at` matches `byte`.
fn match_one(pattern: &[u8], at: usize, byte: u8) -> Option<usize> {
    match pattern.get(at)? {
        b'?' => Some(at + 1),
        b'[' => match_class(pattern, at + 1, byte),
        b'\\' if at + 1 < pattern.len() => (pattern[at + 1] == byte).then_some(at + 2),
        &literal => (literal == byte).then_some(at + 1),
    }
}

/// The place after a class if it matches. As in Redis, a class that is never closed ends with the pattern.
fn match_class(pattern: &[u8], mut at: usize, byte: u8) -> Option<usize> {
    let is_negated = pattern.get(at) == Some(&b'^');
    at += usize::from(is_negated);
    let mut is_member = false;
    loop {
        match pattern.get(at) {
            None => break,
            Some(b']') => {
                at += 1;
                break;
            }
            Some(b'\\') if at + 1 < pattern.len() => {
                is_member |= pattern[at + 1] == byte;
                at += 2;
            }
            Some(&low) if pattern.get(at + 1) == Some(&b'-') && at + 2 < pattern.len() => {
                let high = pattern[at + 2];
                is_member |= (low.min(high)..=low.max(high)).contains(&byte);
                at += 3;
            }
            Some(&literal) => {
                is_member |= literal == byte;
                at += 1;
            }
        }
    }
    (is_member != is_negated).then_some(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_in_redis() {
        for (pattern, text, expected) in [
            ("*", "", true),
            ("h?llo", "hello", true),
            ("h?llo", "hllo", false),
            ("h*llo", "heeeello", true),
            ("h[ae]llo", "hallo", true),
            ("h[^e]llo", "hello", false),
            ("h[a-c]llo", "hbllo", true),
            ("h[c-a]llo", "hbllo", true),
            (r"h\*llo", "h*llo", true),
            (r"h\*llo", "hello", false),
            ("[a", "a", true),
            ("a*b*c", "axxbyyc", true),
            ("a*b*c", "axxbyy", false),
            ("", "a", false),
        ] {
            assert_eq!(
                matches(pattern.as_bytes(), text.as_bytes()),
                expected,
                "{pattern} on {text}"
            );
        }
    }

    #[test]
    fn many_stars_take_no_exponential_time() {
        assert!(!matches(
            "a*".repeat(40)
                .as_bytes()
                .iter()
                .copied()
                .chain(*b"b")
                .collect::<Vec<_>>()
                .as_slice(),
            &[b'a'; 4000]
        ));
    }
}
