//! What a command comes to: a reply, requests on keys with a way to join their replies, or an errand.

use super::{aggregate::Aggregate, levels::Levels, multi_key::Errand};
use crate::core::{
    op::{Key, Op, Read, Write},
    reply::Reply,
};

/// What has to be done for one command.
#[derive(Debug)]
pub(super) enum Plan {
    /// Nothing: this is the reply.
    Reply(Reply),
    /// Reads of keys.
    Read(Ops, Aggregate),
    /// Writes of keys (reads may be among them).
    Write(Ops, Aggregate),
    /// Steps that depend on each other, or on the node as a whole.
    Errand(Errand),
    /// The last reply of this connection, if there is one to give.
    Close(Option<Reply>),
}

/// The single-key parts of a command, in the order of their replies. Most commands have one, which needs no list.
#[derive(Debug)]
pub(super) enum Ops {
    One(Op),
    Many(Vec<Op>),
}

impl Ops {
    pub(super) fn len(&self) -> usize {
        match self {
            Self::One(_) => 1,
            Self::Many(ops) => ops.len(),
        }
    }

    pub(super) fn as_slice(&self) -> &[Op] {
        match self {
            Self::One(op) => std::slice::from_ref(op),
            Self::Many(ops) => ops,
        }
    }

    fn as_mut_slice(&mut self) -> &mut [Op] {
        match self {
            Self::One(op) => std::slice::from_mut(op),
            Self::Many(ops) => ops,
        }
    }

    pub(super) fn append_to(self, ops: &mut Vec<Op>) {
        match self {
            Self::One(op) => ops.push(op),
            Self::Many(many) => ops.extend(many),
        }
    }
}

impl Plan {
    /// A read whose reply is the command's.
    pub(super) fn read(key: Key, read: Read) -> Self {
        Self::read_as(key, read, Aggregate::Same)
    }

    /// A read whose reply is turned into the command's.
    pub(super) fn read_as(key: Key, read: Read, join: Aggregate) -> Self {
        Self::Read(Ops::One(Op::reading(key, read)), join)
    }

    /// A write whose reply is the command's.
    pub(super) fn write(key: Key, write: Write) -> Self {
        Self::write_as(key, write, Aggregate::Same)
    }

    /// A write whose reply is turned into the command's.
    pub(super) fn write_as(key: Key, write: Write, join: Aggregate) -> Self {
        Self::Write(Ops::One(Op::writing(key, write)), join)
    }

    /// The same at these levels; an errand is given them when it runs.
    pub(super) fn at(mut self, levels: Levels) -> Self {
        match &mut self {
            Self::Read(ops, _) | Self::Write(ops, _) => {
                ops.as_mut_slice().iter_mut().for_each(|op| levels.mark(op));
            }
            Self::Reply(_) | Self::Errand(_) | Self::Close(_) => {}
        }
        self
    }

    /// An integer.
    pub(super) fn int(value: i64) -> Self {
        Self::Reply(Reply::Int(value))
    }

    /// `+OK`.
    pub(super) fn ok() -> Self {
        Self::Reply(Reply::Ok)
    }
}
