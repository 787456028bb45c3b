//! The error texts of Redis that are not about one key's state.

use crate::core::reply::Refusal;

/// `ERR` and a sentence.
pub(super) fn err(text: impl AsRef<str>) -> Refusal {
    Refusal::Redis(format!("ERR {}", text.as_ref()))
}

pub(super) fn syntax() -> Refusal {
    err("syntax error")
}

pub(super) fn arity(command: &str) -> Refusal {
    err(format!("wrong number of arguments for '{command}' command"))
}

pub(super) fn invalid_expire(command: &str) -> Refusal {
    err(format!("invalid expire time in '{command}' command"))
}

pub(super) fn must_be_positive() -> Refusal {
    err("value is out of range, must be positive")
}

/// The node answered with fewer or other replies than it was asked for.
pub(super) fn no_reply() -> Refusal {
    Refusal::Unavailable("this node gave no usable answer; what it did is unknown".to_owned())
}

/// At most `max` bytes as C's `%s` shows them: up to the first NUL.
pub(super) fn shown(text: &[u8], max: usize) -> String {
    let end = text.iter().position(|byte| *byte == 0);
    let end = end.unwrap_or(text.len()).min(max);
    String::from_utf8_lossy(&text[..end]).into_owned()
}
