//! What nodes say to each other about data. The documentation of each variant is the protocol.
//!
//! A session is dialled by the side that ships: `Ship`, `Promise` and what is asked run from the dialler to the acceptor,
//! `Ack`, `Declined` and the answers back. Sessions are ordered and reliable while they live; when one dies, what was in flight
//! may or may not have arrived, so every message is idempotent, and a stream starts again at its cursor.

use bytes::Bytes;
use crdt::{ActorId, Context, Count, Delta, Dots, Hlc, Named, Part, RowsDelta, Stamp, StringState};
use serde::{Deserialize, Serialize};

use super::{
    identity::DirectoryId,
    op::{Key, Op, ScanFilter},
    reply::{Refusal, Reply},
};
use crate::storage::record::shortage::Shortage;

/// One message between two nodes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Message {
    /// Outbox rows of one actor, in order and without a gap.
    Ship(Ship),
    /// How far this region is with the writes of an actor.
    Ack(Ack),
    /// A `Ship` of `actor` was not taken; this region is at `taken`. The sender keeps the rows, waits, and goes on from `taken`.
    Nack {
        actor: ActorId,
        taken: Hlc,
        reason: NackReason,
    },
    /// Nothing of `actor` in `(after, upto]` is to be shipped to the receiver: there is none, nor will there be; or its region has
    /// said that a majority of it has it.
    ClosedTimestamp {
        actor: ActorId,
        after: Hlc,
        upto: Hlc,
    },
    /// Rows in `(after, upto]` were dropped before this region took them. It goes on behind them, but nothing is complete
    /// here beyond `after` until it has been reconciled.
    Gap {
        actor: ActorId,
        after: Hlc,
        upto: Hlc,
        /// Whether the receiver would have taken them for its whole region, as [`Ship::is_for_region`] says of rows.
        is_for_region: bool,
    },
    /// Compare your copy of a key with one that has this digest: asked by a node of the same region before it answers a read.
    Compare(Compare),
    /// The answer: the copies are equal, or this is mine.
    Compared {
        ask: AskId,
        copy: Option<KeyCopy>,
        /// What the speaker lacks, of this key or another one: see [`Ack::shortage`].
        shortage: Shortage,
    },
    /// Join this: you lack it, and an answer is about to speak of it.
    Repair { ask: AskId, delta: Delta },
    /// It is durable here.
    Repaired { ask: AskId },
    /// Run this: it is about keys that you hold and I do not. An answer after this many milliseconds is of no use.
    Forward {
        id: u64,
        within_ms: u32,
        errand: Errand,
    },
    /// What came of it.
    Forwarded { id: u64, answer: Answer },
    /// The answer to a `Compare` or a `Mend` that there is no other to: ask somebody else.
    Unanswered { ask: AskId, why: Unanswered },
}

/// Why a question about a key has no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Unanswered {
    /// The question, the answer or the repair is larger than a message may be.
    #[error("its copy of the key does not fit into one message")]
    TooLarge,
    /// There was no room for it, or nobody to send it to.
    #[error("what it was to be asked could not be sent")]
    NotSent,
    /// A row could not be read.
    #[error("a row of the key is damaged there")]
    Damaged,
    /// The storage there takes nothing now.
    #[error("its storage takes nothing now")]
    ReadOnly,
    /// It has forgotten writes, and was asked by somebody who did not know that.
    #[error("it has lost writes that it had acknowledged")]
    Forgot,
    /// A stamp is too far ahead of the clock there.
    #[error("a stamp of the key is further ahead of its clock than clock.max_skew")]
    ClockAhead,
}

/// Something that one node runs for another.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Errand {
    /// Requests on keys, in order.
    Ops(Vec<Op>),
    /// How many keys each partition that the node holds has.
    Count,
    /// One page of keys of the partitions below `upto`.
    Scan {
        cursor: u64,
        filter: ScanFilter,
        upto: u16,
    },
}

/// What came of an errand.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Answer {
    /// One reply for each request.
    Replies(Vec<Reply>),
    /// Partitions and their keys.
    Counts(Vec<(u16, u64)>),
    /// The next cursor, 0 where the run of partitions ended, and keys.
    Page { next: u64, keys: Vec<Key> },
    /// It was not run, or nobody knows.
    Refused(Refusal),
}

/// How far a region is with the writes of an actor. All but `answers` and `taught` only grows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ack {
    /// Whose writes.
    pub actor: ActorId,
    /// Everything up to here is durable at the speaker, with hints for the replicas of its region that lack it.
    pub taken: Hlc,
    /// Up to here it is durable on a majority of the replicas of the speaker's region.
    pub majority: Hlc,
    /// Up to here every replica of that region has it.
    pub every: Hlc,
    /// Up to here it was passed on within that region as far as it will be: a majority has it, or what a replica lacks was dropped.
    pub passed: Hlc,
    /// Up to here the speaker remembers for good that it took it: no crash makes it ask again. Behind this and `passed` the sender
    /// may forget.
    pub saved: Hlc,
    /// The interval `(after, last]` of the shipped rows that this answers, and whose teachings are in `taught`.
    pub answers: Option<(Hlc, Hlc)>,
    /// What the speaker knew that those rows did not, where it bears on what they write: the sender corrects itself before it
    /// acknowledges.
    pub taught: Vec<Teaching>,
    /// What the speaker lacks that nobody will ship to it. What it does not know it cannot teach, so it is not as good as a whole replica.
    pub shortage: Shortage,
}

/// What a replica knew about a key that a write of another one did not, as far as it bears on that write: the acknowledgement
/// teaches it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Teaching {
    /// Increments above the write's floors, dots of the elements that it names, an expiry that would win over the write's: to be joined.
    /// Its key is the teaching's.
    pub delta: Delta,
    /// The newest stamp of a register that would win over the write's; of a value of the other type than what was added, when that was begun.
    pub newest: Stamp,
    /// What was seen of the set, where the write removes all of it, or counts beside it.
    pub seen: Option<Context>,
    /// Whether there was something to see under the key.
    pub was_shown: bool,
    /// Whether the value is text that is no integer.
    pub is_text: bool,
    /// Whether a value of the other type than what was added is there.
    pub is_other_type: bool,
    /// Whether it hides what was added.
    pub is_hidden: bool,
    /// The string that is there beside elements that were added, without its text: what of it has been removed elsewhere, is known there.
    pub string: Option<StringState>,
    /// So much of what the writer of a number had added is over there: removed, or overwritten.
    pub ended: Count,
    /// Of the elements that were added, those of which all that was there before is over there.
    pub gone: Vec<Bytes>,
    /// What has ended there of a value of another type than what was added: it may never have come to whoever adds.
    pub over: Vec<Part>,
    /// Whether something is left under the key there, behind a removal that left nothing where it was made.
    pub stays: bool,
    /// Whether the write could not be joined there, because a row of the key is damaged: that replica does not have it.
    pub is_lost: bool,
    /// What kind of write it is about. Others on the same key, shipped with it, learn nothing from it.
    pub about: About,
}

/// Kinds of writes, by what they are taught.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum About {
    /// A value, its absence or an expiry is stated.
    Statement,
    /// Elements are removed.
    Removal,
    /// Elements are added.
    Elements,
    /// A number is added.
    Increment,
}

impl About {
    /// The kind of a write that made this.
    pub fn of(delta: &Delta) -> Self {
        let kind = |part: &Part| match part {
            Part::String(state) if state.register.is_none() && !state.counts.is_empty() => {
                Some(Self::Increment)
            }
            Part::Set(RowsDelta {
                named: Named::Rows(rows),
                ..
            }) => Some(match rows.values().any(|dots| !dots.is_empty()) {
                true => Self::Elements,
                false => Self::Removal,
            }),
            Part::String(_) | Part::Set(_) | Part::Expiry(_) | Part::Unknown(_) => None,
        };
        let kind = delta.parts.iter().find_map(kind);
        kind.unwrap_or(Self::Statement)
    }

    /// Whether nothing is taken away.
    pub fn is_addition(self) -> bool {
        matches!(self, Self::Elements | Self::Increment)
    }
}

impl Teaching {
    /// The write on a key could not be joined.
    pub const fn lost(key: Bytes) -> Self {
        Self {
            delta: Delta {
                key,
                parts: Vec::new(),
            },
            newest: Stamp::ZERO,
            seen: None,
            was_shown: false,
            is_text: false,
            is_other_type: false,
            is_hidden: false,
            string: None,
            ended: Count::new(Hlc::ZERO),
            gone: Vec::new(),
            over: Vec::new(),
            stays: false,
            is_lost: true,
            about: About::Statement,
        }
    }
}

/// A question about one key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Compare {
    /// Names the question.
    pub ask: AskId,
    /// The key.
    pub key: Bytes,
    /// Digest of the asker's head of it; it covers the rows. `None` where it is known that the copies differ.
    pub digest: Option<u128>,
    /// Hash from which rows are wanted if they differ: zero, but for the later pages of a large set.
    pub from: u64,
}

/// Names a question of a shard, for its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct AskId {
    /// The shard that asks.
    pub shard: u16,
    /// Its number there, never used twice in a process.
    pub number: u64,
}

/// A key as one replica holds it: a view. It is compared with another replica's row by row, each row under the context that was
/// read with it, and never joined as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyCopy {
    /// The stored head.
    pub head: Bytes,
    /// Elements of the set and their dots, in the order of their hashes, from the hash that was asked for.
    pub rows: Vec<(Bytes, Dots<()>)>,
    /// The hash from which more rows follow, if there are any.
    pub next: Option<u64>,
}

/// Outbox rows of one actor: the half-open interval `(after, last]` of its stamps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ship {
    /// Whose writes these are.
    pub actor: ActorId,
    /// The receiver must have taken everything up to here, else it declines.
    pub after: Hlc,
    /// The last stamp in `rows`.
    pub last: Hlc,
    /// Stored outbox rows, as stored: each decodes to the deltas of one commit batch, or to those that concern the receiver.
    pub rows: Vec<Bytes>,
    /// Whether the receiver takes them for its whole region, and passes them on within it. Else it takes them for itself, and clients
    /// may wait for its word: it answers for just these rows, and says what it knew that they do not.
    pub is_for_region: bool,
}

/// Why a `Ship` was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum NackReason {
    /// Rows between `taken` and `after` never came.
    Gap,
    /// A stamp is further ahead of the receiver's clock than `clock.max_skew` allows, by this many milliseconds.
    ClockAhead { excess_ms: u64 },
    /// The receiver cannot write: its disk is full or its storage failed.
    ReadOnly,
    /// The receiver's queues are full.
    Busy,
    /// A row could not be decoded.
    Malformed,
}

/// A session's number, never used twice in a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub u64);

/// How far a node has taken an actor's writes, as it tells the actor's node in the handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownPosition {
    /// Whose.
    pub actor: ActorId,
    /// Everything up to here is durable at the speaker.
    pub taken: Hlc,
    /// The actor has said that it makes no row any more up to here.
    pub passed: Hlc,
    /// The last stamp of the newest row of it that the speaker took; one that is newer than all rows that the actor recalls means that
    /// the actor forgot. What was only promised says nothing about that.
    pub newest: Hlc,
}

impl KnownPosition {
    /// Of an actor that the speaker has never heard of.
    pub const fn nothing(actor: ActorId) -> Self {
        Self {
            actor,
            taken: Hlc::ZERO,
            passed: Hlc::ZERO,
            newest: Hlc::ZERO,
        }
    }
}

/// What a node that is dialled tells the dialler about the two of them.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Recollection {
    /// How far the speaker is with the dialler's actors; nothing of those that it never heard of.
    pub held: Vec<KnownPosition>,
    /// The data directory that the dialler's name had when the speaker knew it before, where that is none of the dialler's own: it was
    /// wiped, or another machine took its place.
    pub replaced: Option<DirectoryId>,
    /// What the speaker lacks: see [`Ack::shortage`].
    pub shortage: Shortage,
}

impl Message {
    /// Whether somebody waits for just this word before they go on: it is small, and not to be held up by what is large.
    pub fn is_acknowledgement(&self) -> bool {
        matches!(
            self,
            Self::Ack(_) | Self::Nack { .. } | Self::Repaired { .. }
        )
    }

    /// Whose stream it is about, if it is about a stream.
    pub fn actor(&self) -> Option<ActorId> {
        match self {
            Self::Ship(ship) => Some(ship.actor),
            Self::Ack(taken) => Some(taken.actor),
            Self::Nack { actor, .. }
            | Self::ClosedTimestamp { actor, .. }
            | Self::Gap { actor, .. } => Some(*actor),
            Self::Compare(_)
            | Self::Compared { .. }
            | Self::Repair { .. }
            | Self::Repaired { .. }
            | Self::Forward { .. }
            | Self::Forwarded { .. }
            | Self::Unanswered { .. } => None,
        }
    }

    /// The question about a key that it asks or answers. Where it cannot be sent, whoever waits for the answer is to be told:
    /// [`Message::Unanswered`].
    pub fn ask(&self) -> Option<AskId> {
        match self {
            Self::Compare(Compare { ask, .. })
            | Self::Repair { ask, .. }
            | Self::Compared { ask, .. }
            | Self::Repaired { ask } => Some(*ask),
            Self::Ship(_)
            | Self::Ack(_)
            | Self::Nack { .. }
            | Self::ClosedTimestamp { .. }
            | Self::Gap { .. }
            | Self::Forward { .. }
            | Self::Forwarded { .. }
            | Self::Unanswered { .. } => None,
        }
    }

    /// Whether it asks about a key: then the one that waits is its sender.
    pub fn is_question(&self) -> bool {
        matches!(self, Self::Compare(_) | Self::Repair { .. })
    }
}
