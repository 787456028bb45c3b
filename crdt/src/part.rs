//! One slot's share of a delta, and the bytes that carry its type.
//!
//! ```text
//!   tag u8 · body                        string, set, expiry: the types that every release knows
//!   tag u8 · length · body               every other type
//! ```
//! A release that does not know a tag skips the body by its length. It keeps the part as it came and passes it on, so that a
//! cluster may be upgraded node by node. Format and tags are persisted and shipped: never reuse a tag, never change a body.

use bytes::Bytes;
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{Error, SeqAccess, Visitor},
    ser::SerializeTuple,
};

use crate::{
    codec::{self, CodecError},
    expiry::Expiry,
    rows::{Named, RowsDelta},
    stamp::{Hlc, Stamp},
    string::StringState,
};

/// The number of a data type, in everything that is stored or shipped: 0 to 250.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Tag(u8);

impl Tag {
    /// The string: register and counter.
    pub const STRING: Self = Self(0);
    /// The set.
    pub const SET: Self = Self(1);
    /// The expiry, which is of all slots.
    pub const EXPIRY: Self = Self(2);

    /// The tag of this number, whether a type of this release has it or not.
    pub const fn new(number: u8) -> Self {
        Self(number)
    }

    /// Its number.
    pub const fn number(self) -> u8 {
        self.0
    }

    /// Whether this release knows the type.
    pub fn is_known(self) -> bool {
        self <= Self::EXPIRY
    }
}

/// One slot's share of a [`Delta`](crate::Delta).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// Of the string slot.
    String(StringState),
    /// Of the set slot.
    Set(RowsDelta<()>),
    /// Of the expiry.
    Expiry(Expiry),
    /// Of a type that a newer release has.
    Unknown(UnknownPart),
}

/// A part that this release cannot join: its bytes, as they came.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct UnknownPart {
    tag: Tag,
    body: Bytes,
}

impl UnknownPart {
    /// Its type.
    pub fn tag(&self) -> Tag {
        self.tag
    }

    /// Its bytes, behind tag and length.
    pub fn body(&self) -> &Bytes {
        &self.body
    }
}

impl Part {
    /// The part whose body this is: one that an earlier release kept without knowing its type, or another unknown one.
    ///
    /// # Errors
    /// Where the type is known and the body is none of it.
    pub fn from_body(tag: Tag, body: Bytes) -> Result<Self, CodecError> {
        Ok(match tag {
            Tag::STRING => Self::String(codec::decode_bare(&body)?),
            Tag::SET => Self::Set(codec::decode_bare(&body)?),
            Tag::EXPIRY => Self::Expiry(codec::decode_bare(&body)?),
            tag => Self::Unknown(UnknownPart { tag, body }),
        })
    }

    /// Its type.
    pub fn tag(&self) -> Tag {
        match self {
            Self::String(_) => Tag::STRING,
            Self::Set(_) => Tag::SET,
            Self::Expiry(_) => Tag::EXPIRY,
            Self::Unknown(unknown) => unknown.tag,
        }
    }

    /// The newest time in it, of anything that could push a clock. Of an unknown part nothing is known: whoever comes to know its type
    /// looks then.
    pub fn newest(&self) -> Hlc {
        match self {
            Self::String(state) => state.newest(),
            Self::Set(rows) => rows.newest(),
            Self::Expiry(expiry) => expiry.stamp.hlc,
            Self::Unknown(_) => Hlc::ZERO,
        }
    }

    /// Whether joining it changes nothing, whatever it is joined into: it was made to ask, not to tell.
    pub fn says_nothing(&self) -> bool {
        match self {
            Self::String(state) => *state == StringState::default(),
            Self::Set(rows) => rows.context.is_empty() && rows.created == Stamp::ZERO,
            Self::Expiry(expiry) => *expiry == Expiry::default(),
            Self::Unknown(_) => false,
        }
    }

    /// About how many bytes it takes encoded: for bounds, not for formats.
    pub(crate) fn approximate_bytes(&self) -> usize {
        match self {
            Self::String(state) => {
                let value = state
                    .register
                    .as_ref()
                    .and_then(|register| register.value.as_ref());
                value.map_or(0, Bytes::len)
                    + (state.counts.len() + state.floors.len() + 2) * ENTRY_BYTES
            }
            Self::Set(rows) => {
                let named = match &rows.named {
                    Named::Rows(rows) => {
                        rows.keys().map(|element| element.len() + ENTRY_BYTES).sum()
                    }
                    Named::All => 0,
                };
                named + rows.context.intervals().count() * ENTRY_BYTES
            }
            Self::Expiry(_) => ENTRY_BYTES,
            Self::Unknown(unknown) => unknown.body.len() + ENTRY_BYTES,
        }
    }
}

impl Serialize for Part {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut tuple = serializer.serialize_tuple(2)?;
        tuple.serialize_element(&self.tag())?;
        match self {
            Self::String(state) => tuple.serialize_element(state)?,
            Self::Set(rows) => tuple.serialize_element(rows)?,
            Self::Expiry(expiry) => tuple.serialize_element(expiry)?,
            Self::Unknown(unknown) => tuple.serialize_element(&unknown.body)?,
        }
        tuple.end()
    }
}

impl<'de> Deserialize<'de> for Part {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_tuple(2, PartVisitor)
    }
}

struct PartVisitor;

impl<'de> Visitor<'de> for PartVisitor {
    type Value = Part;

    fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("the tag of a data type and a part of that type")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Part, A::Error> {
        let tag = next(&mut sequence)?;
        Ok(match tag {
            Tag::STRING => Part::String(next(&mut sequence)?),
            Tag::SET => Part::Set(next(&mut sequence)?),
            Tag::EXPIRY => Part::Expiry(next(&mut sequence)?),
            tag => Part::Unknown(UnknownPart {
                tag,
                body: next(&mut sequence)?,
            }),
        })
    }
}

fn next<'de, T: Deserialize<'de>, A: SeqAccess<'de>>(sequence: &mut A) -> Result<T, A::Error> {
    sequence
        .next_element()?
        .ok_or_else(|| A::Error::custom("a part ends behind its tag"))
}

/// What an entry of a map takes: an actor or a stamp, and two numbers.
const ENTRY_BYTES: usize = 40;
