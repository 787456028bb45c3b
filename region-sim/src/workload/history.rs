//! What clients asked and what they were told, in the order in which they asked.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use node::core::{
    op::{Action, Key, Op, Write},
    reply::{Refusal, Reply},
};

use super::family::{ClientId, Family, OperationId};

/// One thing that a client asked.
#[derive(Debug, Clone, PartialEq)]
pub struct Operation {
    /// Who asked.
    pub client: ClientId,
    /// Of which region.
    pub region: usize,
    /// What.
    pub op: Op,
    /// When it was asked.
    pub invoked: Duration,
    /// When the client knew, if it ever did.
    pub completed: Option<Duration>,
    /// What it knows.
    pub outcome: Outcome,
}

impl Operation {
    /// What it was told, if it was.
    pub fn reply(&self) -> Option<&Reply> {
        match &self.outcome {
            Outcome::Replied(reply) => Some(reply),
            Outcome::Pending | Outcome::Refused | Outcome::Unknown => None,
        }
    }

    /// When it was told that it was done, if it was.
    pub fn acknowledged(&self) -> Option<Duration> {
        match self.reply()? {
            Reply::Error(_) => None,
            _ => self.completed,
        }
    }

    /// Whether it was acknowledged before another one was asked.
    pub fn is_over_before(&self, other: &Self) -> bool {
        self.acknowledged().is_some_and(|end| end < other.invoked)
    }

    /// Whether it may have taken effect before another one was answered.
    pub fn is_begun_before_end_of(&self, other: &Self) -> bool {
        let is_refused = matches!(
            self.outcome,
            Outcome::Refused | Outcome::Replied(Reply::Error(_))
        );
        !is_refused && other.completed.is_none_or(|end| self.invoked < end)
    }

    /// The elements that it adds.
    pub fn added(&self) -> &[Bytes] {
        match &self.op.action {
            Action::Write(Write::Add { members }) => members,
            _ => &[],
        }
    }

    /// The value that it sets.
    pub fn set_value(&self) -> Option<&Bytes> {
        match &self.op.action {
            Action::Write(Write::Set { value, .. }) => Some(value),
            _ => None,
        }
    }
}

/// What a client knows of what it asked.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// Nothing yet.
    Pending,
    /// It was told this.
    Replied(Reply),
    /// Nothing was written.
    Refused,
    /// It may or may not have taken effect.
    Unknown,
}

/// Everything that clients asked, in the order in which they did.
#[derive(Debug, Clone, Default)]
pub struct History {
    /// The operations.
    pub operations: Vec<Operation>,
}

impl History {
    /// A client asks.
    pub fn invoke(
        &mut self,
        client: ClientId,
        region: usize,
        op: Op,
        now: Duration,
    ) -> OperationId {
        self.operations.push(Operation {
            client,
            region,
            op,
            invoked: now,
            completed: None,
            outcome: Outcome::Pending,
        });
        self.operations.len() - 1
    }

    /// A client is told. Nothing changes if it no longer waits.
    pub fn complete(&mut self, id: OperationId, reply: &Reply, now: Duration) -> bool {
        let operation = &mut self.operations[id];
        if operation.outcome != Outcome::Pending {
            return false;
        }
        operation.completed = Some(now);
        operation.outcome = outcome(reply);
        true
    }

    /// A client will not be told.
    pub fn abandon(&mut self, id: OperationId, outcome: Outcome, now: Duration) -> bool {
        let operation = &mut self.operations[id];
        if operation.outcome != Outcome::Pending {
            return false;
        }
        operation.completed = Some(now);
        operation.outcome = outcome;
        true
    }

    /// The operations on a key, in order.
    pub fn of_key<'a>(&'a self, key: &'a [u8]) -> impl Iterator<Item = &'a Operation> {
        self.operations
            .iter()
            .filter(move |operation| operation.op.key == key)
    }

    /// Whether what its client asked just before has no answer yet.
    pub fn is_behind(&self, id: OperationId) -> bool {
        let client = self.operations[id].client;
        let before = self.operations[..id].iter().rev();
        let mut before = before.take_while(|operation| operation.client == client);
        before.any(|operation| operation.outcome == Outcome::Pending)
    }

    /// What quorums promise something about: of the rest, reads are left out, and writes may have been done at any time or never.
    /// `is_promised`: about which.
    pub fn promised(&self, is_promised: impl Fn(&Operation) -> bool) -> Self {
        let mut promised = self.clone();
        promised.operations.retain(|operation| {
            is_promised(operation) || matches!(operation.op.action, Action::Write(_))
        });
        for operation in &mut promised.operations {
            let is_known = matches!(operation.outcome, Outcome::Refused | Outcome::Pending);
            if !is_promised(operation) && !is_known {
                operation.outcome = Outcome::Unknown;
            }
        }
        promised
    }

    /// Every key that was asked about, by its family.
    pub fn keys(&self) -> BTreeMap<Key, Family> {
        let key = |operation: &Operation| {
            let key = operation.op.key.clone();
            let family = Family::of(&key);
            (key, family)
        };
        self.operations.iter().map(key).collect()
    }
}

/// What a reply tells about the write.
fn outcome(reply: &Reply) -> Outcome {
    match reply {
        Reply::Error(refusal) => match refusal {
            Refusal::Busy(_)
            | Refusal::ReadOnly(_)
            | Refusal::ClockSkew(_)
            | Refusal::TooLarge(_)
            | Refusal::Unavailable(_)
            | Refusal::NoQuorum { applied: None, .. } => Outcome::Refused,
            Refusal::Timeout(_)
            | Refusal::NoQuorum {
                applied: Some(_), ..
            } => Outcome::Unknown,
            Refusal::WrongType
            | Refusal::NotAnInteger
            | Refusal::Overflow
            | Refusal::StringTooLong
            | Refusal::Redis(_) => Outcome::Replied(reply.clone()),
        },
        _ => Outcome::Replied(reply.clone()),
    }
}
