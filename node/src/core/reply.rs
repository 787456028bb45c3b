//! What a client is told, before it is bytes of one protocol version or the other.

use std::fmt;

use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A reply to a client.
#[derive(Debug, Clone, PartialEq)]
pub enum Reply {
    /// `+OK`
    Ok,
    /// A simple string.
    Simple(&'static str),
    /// Nil: `$-1` in RESP2, `_` in RESP3.
    Nil,
    /// A nil array: `*-1` in RESP2, `_` in RESP3.
    NilArray,
    /// An integer.
    Int(i64),
    /// A bulk string.
    Bulk(Bytes),
    /// An array.
    Array(Vec<Reply>),
    /// A set: an array in RESP2.
    Set(Vec<Reply>),
    /// A map: a flat array in RESP2.
    Map(Vec<(Reply, Reply)>),
    /// Text for people: a verbatim string (`txt`) in RESP3, a bulk string in RESP2.
    Verbatim(Bytes),
    /// An error.
    Error(Refusal),
}

impl Reply {
    /// What it keeps in memory, about, in bytes.
    pub fn bytes(&self) -> usize {
        let own = match self {
            Self::Bulk(text) | Self::Verbatim(text) => text.len(),
            Self::Array(items) | Self::Set(items) => items.iter().map(Self::bytes).sum(),
            Self::Map(pairs) => pairs
                .iter()
                .map(|(key, value)| key.bytes() + value.bytes())
                .sum(),
            Self::Ok
            | Self::Simple(_)
            | Self::Nil
            | Self::NilArray
            | Self::Int(_)
            | Self::Error(_) => 0,
        };
        own + size_of::<Self>()
    }
}

/// Why a command was not carried out, with the exact words a client sees.
///
/// Redis's own errors come first; ours follow, each with what is known about the write.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Refusal {
    /// The key holds another type. *State unchanged.*
    WrongType,
    /// The value is not an integer or out of range. *State unchanged.*
    NotAnInteger,
    /// The result would leave 64 bits. *State unchanged.*
    Overflow,
    /// The resulting string would be longer than `limits.value_bytes`. *State unchanged.*
    StringTooLong,
    /// Any other error of Redis, with its prefix (`ERR …`). *State unchanged.*
    Redis(String),
    /// The shard's queue is full. *State unchanged, safe to retry.*
    Busy(String),
    /// The disk is full or the storage failed; reads go on. *State unchanged, safe to retry.*
    ReadOnly(String),
    /// The clock of this node differs from the majority's. *State unchanged; another node takes the write.*
    ClockSkew(String),
    /// A value or command over its limit. *State unchanged.*
    TooLarge(String),
    /// No replica could be asked. *State unchanged, safe to retry.*
    Unavailable(String),
    /// Fewer replicas than the level asks for. `applied` is `None` where that was known beforehand (*State unchanged, safe to
    /// retry*), else how many replicas had the write when others failed (*The write may take effect*).
    NoQuorum {
        /// What was asked for, and which replicas or region could not give it.
        detail: String,
        /// Replicas that have the write; `None` if it was sent to none.
        applied: Option<u8>,
    },
    /// No answer in time. *The write may take effect.*
    Timeout(String),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WrongType => {
                f.write_str("WRONGTYPE Operation against a key holding the wrong kind of value")
            }
            Self::NotAnInteger => f.write_str("ERR value is not an integer or out of range"),
            Self::Overflow => f.write_str("ERR increment or decrement would overflow"),
            Self::StringTooLong => {
                f.write_str("ERR string exceeds maximum allowed size (proto-max-bulk-len)")
            }
            Self::Redis(text) => f.write_str(text),
            Self::Busy(detail) => write!(f, "BUSY {detail}"),
            Self::ReadOnly(detail) => write!(f, "READONLY {detail}"),
            Self::ClockSkew(detail) => write!(f, "CLOCKSKEW {detail}"),
            Self::TooLarge(detail) => write!(f, "TOOLARGE {detail}"),
            Self::Unavailable(detail) => write!(f, "UNAVAILABLE {detail}"),
            Self::NoQuorum {
                detail,
                applied: None,
            } => write!(f, "NOQUORUM {detail}"),
            Self::NoQuorum {
                detail,
                applied: Some(applied),
            } => write!(f, "NOQUORUM {detail} applied={applied}"),
            Self::Timeout(detail) => write!(f, "TIMEOUT {detail}"),
        }
    }
}

/// A reply on its way between two nodes.
#[derive(Serialize, Deserialize)]
enum SentReply {
    Ok,
    Simple(String),
    Nil,
    NilArray,
    Int(i64),
    Bulk(Bytes),
    Array(Vec<Reply>),
    Set(Vec<Reply>),
    Map(Vec<(Reply, Reply)>),
    Verbatim(Bytes),
    Error(Refusal),
}

impl Serialize for Reply {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        SentReply::from(self.clone()).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Reply {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        SentReply::deserialize(deserializer)?
            .try_into()
            .map_err(de::Error::custom)
    }
}

impl From<Reply> for SentReply {
    fn from(reply: Reply) -> Self {
        match reply {
            Reply::Ok => Self::Ok,
            Reply::Simple(text) => Self::Simple(text.to_owned()),
            Reply::Nil => Self::Nil,
            Reply::NilArray => Self::NilArray,
            Reply::Int(number) => Self::Int(number),
            Reply::Bulk(bytes) => Self::Bulk(bytes),
            Reply::Array(items) => Self::Array(items),
            Reply::Set(items) => Self::Set(items),
            Reply::Map(pairs) => Self::Map(pairs),
            Reply::Verbatim(text) => Self::Verbatim(text),
            Reply::Error(refusal) => Self::Error(refusal),
        }
    }
}

impl TryFrom<SentReply> for Reply {
    type Error = String;

    fn try_from(sent: SentReply) -> Result<Self, String> {
        Ok(match sent {
            SentReply::Ok => Self::Ok,
            SentReply::Simple(word) => Self::Simple(type_word(&word)?),
            SentReply::Nil => Self::Nil,
            SentReply::NilArray => Self::NilArray,
            SentReply::Int(number) => Self::Int(number),
            SentReply::Bulk(bytes) => Self::Bulk(bytes),
            SentReply::Array(items) => Self::Array(items),
            SentReply::Set(items) => Self::Set(items),
            SentReply::Map(pairs) => Self::Map(pairs),
            SentReply::Verbatim(text) => Self::Verbatim(text),
            SentReply::Error(refusal) => Self::Error(refusal),
        })
    }
}

/// The simple strings that requests on keys are answered with; no others come from another node.
fn type_word(word: &str) -> Result<&'static str, String> {
    let mut known = ["none", "string", "set"].into_iter();
    known
        .find(|known| *known == word)
        .ok_or_else(|| format!("'{word}' is no type of key"))
}

impl From<Refusal> for Reply {
    fn from(refusal: Refusal) -> Self {
        Self::Error(refusal)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missed_level_says_how_many_replicas_have_the_write_if_any_was_asked() {
        let refusal = |applied| {
            let detail = "level 4 asks for more replicas than region us keeps (3)".to_owned();
            Refusal::NoQuorum { detail, applied }.to_string()
        };
        let beforehand = "NOQUORUM level 4 asks for more replicas than region us keeps (3)";
        assert_eq!(refusal(None), beforehand);
        assert_eq!(refusal(Some(0)), format!("{beforehand} applied=0"));
    }
}
