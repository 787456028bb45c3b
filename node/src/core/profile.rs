//! What everybody who handles an operation has to know of it before it is carried out, in one table.
//!
//! A new operation is a new line here, and the compiler asks for it. Whoever queues, forwards, asks or answers looks at the profile and
//! at no operation by name.

use super::op::{Action, Condition, Op, Read, SetExpiry, Write};

/// One operation, as those see it that do not carry it out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Profile {
    /// Whether the reply, or what is done, follows from what is there: other replicas are asked before it is carried out.
    pub asks_first: bool,
    /// Whether the reply tells what is there: it waits while the key shows what may be corrected.
    pub tells: bool,
    /// Whether the reply carries values of the store, whose size the request does not bound.
    pub yields_values: bool,
    /// Whether request or reply may be large: it is forwarded alone.
    pub is_large: bool,
    /// The rows that it looks at.
    pub visits: Visits,
}

/// Rows that an operation looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Visits {
    /// None, or one: the head says it.
    Few,
    /// So many, each looked up by its name.
    Named(usize),
    /// So many at most, one after the other.
    Some(usize),
    /// All of the key.
    All,
}

impl Visits {
    /// Rows that are walked over, of a key that has so many.
    pub fn walked(self, live: u64) -> u64 {
        match self {
            Self::Few | Self::Named(_) => 0,
            Self::Some(count) => live.min(count as u64),
            Self::All => live,
        }
    }

    /// Whether they may be many: such a read does not queue behind writes in a shard, whose next commit would wait for it.
    pub fn are_many(self) -> bool {
        match self {
            Self::Few => false,
            Self::Named(count) => count > LOOKUPS_FEW,
            Self::Some(_) | Self::All => true,
        }
    }
}

impl Op {
    /// Its profile.
    pub fn profile(&self) -> Profile {
        self.action.profile()
    }

    /// What it keeps in memory while it waits, about, in bytes.
    pub fn bytes(&self) -> usize {
        self.key.len() + self.action.bytes() + OP_BYTES
    }
}

impl Action {
    /// Its profile.
    pub fn profile(&self) -> Profile {
        match self {
            Self::Read(read) => read.profile(),
            Self::Write(write) => write.profile(),
        }
    }

    /// Values and elements in it, in bytes. Not in the profile, which is asked for more often than elements should be counted.
    fn bytes(&self) -> usize {
        match self {
            Self::Write(
                Write::Set { value, .. } | Write::Append { value } | Write::SetRange { value, .. },
            ) => value.len(),
            Self::Write(Write::Add { members } | Write::Remove { members }) => {
                members.iter().map(|member| member.len() + OP_BYTES).sum()
            }
            Self::Write(_) | Self::Read(_) => 0,
        }
    }
}

/// Of a read whose reply is small.
const READ: Profile = Profile {
    asks_first: true,
    tells: true,
    yields_values: false,
    is_large: false,
    visits: Visits::Few,
};

/// Of a write that is told by acknowledgements what it did not know.
const WRITE: Profile = Profile {
    asks_first: false,
    tells: true,
    ..READ
};

/// Of a write that decides by what is there.
const DECIDES: Profile = Profile {
    asks_first: true,
    ..WRITE
};

impl Read {
    pub(in crate::core) fn profile(&self) -> Profile {
        let value = Profile {
            yields_values: true,
            is_large: true,
            ..READ
        };
        match self {
            Self::Get | Self::GetOrNil | Self::GetRange { .. } => value,
            Self::Strlen
            | Self::Exists
            | Self::Type
            | Self::RemainingMs
            | Self::ExpiresAtMs
            | Self::Cardinality
            | Self::Encoding
            | Self::MemoryUsage => READ,
            Self::AreMembers { members } => Profile {
                visits: Visits::Named(members.len()),
                ..READ
            },
            Self::ScanMembers { count, .. } => Profile {
                visits: Visits::Some(*count),
                ..value
            },
            Self::Members | Self::RandomMembers { .. } => Profile {
                visits: Visits::All,
                ..value
            },
        }
    }
}

impl Write {
    pub(in crate::core) fn profile(&self) -> Profile {
        match self {
            Self::Set {
                expiry,
                condition,
                return_old,
                ..
            } => {
                let decides =
                    *return_old || *condition != Condition::Always || *expiry == SetExpiry::Keep;
                Profile {
                    asks_first: decides,
                    tells: decides,
                    yields_values: *return_old,
                    is_large: true,
                    ..WRITE
                }
            }
            Self::Append { .. } | Self::SetRange { .. } => Profile {
                is_large: true,
                ..DECIDES
            },
            Self::GetDel | Self::GetEx { .. } | Self::Pop { .. } => Profile {
                yields_values: true,
                is_large: true,
                ..DECIDES
            },
            // What is removed goes where all of it is known: others are asked for theirs.
            Self::Expire { .. } | Self::Persist | Self::Remove { .. } | Self::Delete => DECIDES,
            Self::IncrBy { .. } | Self::Add { .. } => WRITE,
        }
    }
}

/// What an op, or a member in one, takes besides its bytes.
const OP_BYTES: usize = 64;
/// So many elements may be looked up between writes.
const LOOKUPS_FEW: usize = 16;
