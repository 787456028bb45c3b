//! What a client can ask of one key: the commands of the Redis protocol, parsed and reduced to
//! their single-key parts. A command over several keys is several of these and a way to join the replies.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::level::Level;

/// A key: arbitrary bytes. What a [`Read`] carries may be a slice of a connection's read buffer and keeps that alive: copy
/// it before keeping it, in a cache say. What a [`Write`] carries stands by itself.
pub type Key = Bytes;

/// One request on one key.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Op {
    /// The key asked about.
    pub key: Key,
    /// What is asked.
    pub action: Action,
    /// Of how many replicas the answer is to speak.
    pub level: Level,
}

impl Op {
    /// A read at the default level, until it is given its own.
    pub fn reading(key: Key, read: Read) -> Self {
        Self {
            key,
            action: Action::Read(read),
            level: Level::default(),
        }
    }

    /// A write at the default level, until it is given its own.
    pub fn writing(key: Key, write: Write) -> Self {
        Self {
            key,
            action: Action::Write(write),
            level: Level::default(),
        }
    }
}

/// What is asked of a key.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Action {
    /// Changes nothing.
    Read(Read),
    /// May change the key.
    Write(Write),
}

/// Actions that change nothing. The reply follows each arrow.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Read {
    /// → bulk or nil; `WRONGTYPE`.
    Get,
    /// → bulk or nil; nil for a key of another type (MGET).
    GetOrNil,
    /// → integer; `WRONGTYPE`.
    Strlen,
    /// → bulk; both ends inclusive, negative from the end; `WRONGTYPE`.
    GetRange { start: i64, end: i64 },
    /// → 1 or 0 (EXISTS, TOUCH).
    Exists,
    /// → simple string `string`, `set` or `none`.
    Type,
    /// → milliseconds that remain, -1 without expiry, -2 without key.
    RemainingMs,
    /// → Unix milliseconds of the expiry, -1 without expiry, -2 without key.
    ExpiresAtMs,
    /// → array of 1 and 0, one per member; `WRONGTYPE`.
    AreMembers { members: Vec<Bytes> },
    /// → set of bulks; `WRONGTYPE`.
    Members,
    /// → integer; `WRONGTYPE`.
    Cardinality,
    /// → array of two: bulk of the next cursor, array of members; `WRONGTYPE`.
    ScanMembers {
        cursor: u64,
        count: usize,
        pattern: Option<Bytes>,
    },
    /// → array of bulks: `Distinct(n)` at most n different ones, `Repeating(n)` exactly n, picked anew each
    /// time; empty without key; `WRONGTYPE`.
    RandomMembers { pick: Pick, entropy: u64 },
    /// → bulk naming an encoding as Redis would (OBJECT ENCODING), nil without key.
    Encoding,
    /// → estimated bytes (MEMORY USAGE), nil without key.
    MemoryUsage,
}

/// How many random members, and whether one may come twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Pick {
    /// At most this many, all different.
    Distinct(usize),
    /// Exactly this many, drawn with replacement.
    Repeating(usize),
}

/// Actions that may change a key. The reply follows each arrow.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Write {
    /// → `Ok`, or nil when the condition does not hold; with `return_old` the old value or nil in either case,
    /// and `WRONGTYPE` for an old value of another type.
    Set {
        value: Bytes,
        expiry: SetExpiry,
        condition: Condition,
        return_old: bool,
    },
    /// → bulk or nil; `WRONGTYPE`. Deletes the key.
    GetDel,
    /// → bulk or nil; `WRONGTYPE`. Changes the expiry.
    GetEx { expiry: SetExpiry },
    /// → integer, the new length; `WRONGTYPE`.
    Append { value: Bytes },
    /// → integer, the new length; `WRONGTYPE`.
    SetRange { offset: usize, value: Bytes },
    /// → integer, the new value; `WRONGTYPE`, not an integer, overflow.
    IncrBy { by: i64 },
    /// → 1 or 0. Every slot of the key.
    Delete,
    /// → 1 or 0. A time in the past deletes.
    Expire {
        at_ms: i64,
        condition: ExpireCondition,
    },
    /// → 1 or 0.
    Persist,
    /// → integer, how many are new; `WRONGTYPE`.
    Add { members: Vec<Bytes> },
    /// → integer, how many were there; `WRONGTYPE`.
    Remove { members: Vec<Bytes> },
    /// → array of at most `count` bulks, removed; empty without key; `WRONGTYPE`.
    Pop { count: usize, entropy: u64 },
}

/// What becomes of a key's expiry when it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum SetExpiry {
    /// None afterwards (SET; GETEX PERSIST).
    Clear,
    /// As it was (SET KEEPTTL; plain GETEX).
    Keep,
    /// Expires at this Unix time in milliseconds.
    At(u64),
}

/// When a SET applies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Condition {
    /// Always.
    Always,
    /// Only where no key is (NX).
    IfAbsent,
    /// Only where a key is (XX).
    IfPresent,
}

/// When an EXPIRE applies. `Gt` and `Lt` treat a key without expiry as one that expires never.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ExpireCondition {
    /// Always.
    Always,
    /// Only without expiry (NX).
    IfNone,
    /// Only with an expiry (XX).
    IfSome,
    /// Only to a later time (GT).
    IfLater,
    /// Only to an earlier time (LT).
    IfEarlier,
    /// XX and GT.
    IfSomeAndLater,
    /// XX and LT.
    IfSomeAndEarlier,
}

/// Which keys a page of SCAN shows, and how many it looks at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScanFilter {
    /// Keys looked at, about.
    pub count: usize,
    /// Glob that a key must match.
    pub pattern: Option<Bytes>,
    /// Type that a key must have.
    pub kind: Option<Kind>,
}

/// A type of key, as TYPE names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// `string`
    String,
    /// `set`
    Set,
}

impl Kind {
    /// Its name.
    pub const fn word(self) -> &'static str {
        match self {
            Self::String => "string",
            Self::Set => "set",
        }
    }
}
