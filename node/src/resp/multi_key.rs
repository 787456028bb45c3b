//! Commands of several dependent steps, and commands that ask the node as a whole.

use std::collections::HashSet;

use bytes::Bytes;

use super::{
    backend::Backend, commands::page, error, info::Sections, levels::Levels,
    server_state::ServerState,
};
use crate::{
    core::{
        op::{Key, Op, Read, ScanFilter, Write},
        reply::{Refusal, Reply},
    },
    status::{ConflictSide, ConflictStatus},
};

/// One such command.
#[derive(Debug)]
pub(super) enum Errand {
    /// KEYS
    Keys { pattern: Option<Bytes> },
    /// SCAN
    Scan { cursor: u64, filter: ScanFilter },
    /// RANDOMKEY
    RandomKey { entropy: u64 },
    /// DBSIZE
    KeyCount,
    /// FLUSHALL, FLUSHDB
    Flush,
    /// CLUSTER.STATUS
    Status,
    /// CONFLICTS
    Conflicts { count: usize },
    /// INFO
    Info { sections: Sections },
    /// SINTER, SUNION, SDIFF
    Combine { keys: Vec<Key>, algebra: Algebra },
    /// SINTERCARD
    IntersectionSize {
        keys: Vec<Key>,
        limit: Option<usize>,
    },
    /// SMOVE
    Move {
        source: Key,
        target: Key,
        member: Bytes,
    },
}

/// What becomes of several sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Algebra {
    Intersection,
    Union,
    Difference,
}

impl Errand {
    /// Runs it to its reply, its reads and writes at these levels. Everything that the connection asked for before has its
    /// reply by now.
    pub(super) async fn run<B: Backend>(
        self,
        backend: &B,
        lobby: &ServerState,
        levels: Levels,
    ) -> Reply {
        let node = Node { backend, levels };
        let reply = match self {
            Self::Keys { pattern } => node.keys(pattern).await,
            Self::Scan { cursor, filter } => node.scan(cursor, filter).await,
            Self::RandomKey { entropy } => node.random_key(entropy).await,
            Self::KeyCount => node.key_count().await,
            Self::Flush => node.flush().await,
            Self::Status => Ok(Reply::Bulk(Bytes::from(backend.status_json().await))),
            Self::Conflicts { count } => {
                let last = backend.conflicts(count).into_iter();
                Ok(Reply::Array(last.map(conflict).collect()))
            }
            Self::Info { sections } => Ok(sections.report(backend, lobby).await),
            Self::Combine { keys, algebra } => node.combine(&keys, algebra).await,
            Self::IntersectionSize { keys, limit } => node.intersection_size(&keys, limit).await,
            Self::Move {
                source,
                target,
                member,
            } => node.move_member(source, target, member).await,
        };
        reply.unwrap_or_else(Reply::Error)
    }
}

/// The node, asked step by step.
struct Node<'a, B> {
    backend: &'a B,
    levels: Levels,
}

type Answer = Result<Reply, Refusal>;

impl<B: Backend> Node<'_, B> {
    async fn keys(&self, pattern: Option<Bytes>) -> Answer {
        let filter = ScanFilter {
            count: KEYS_PAGE,
            pattern,
            kind: None,
        };
        let mut found = Vec::new();
        let mut cursor = 0;
        loop {
            let page = self.backend.scan(cursor, filter.clone()).await;
            let (next, keys) = page.map_err(refusal)?;
            found.extend(keys.into_iter().map(Reply::Bulk));
            if next == 0 {
                return Ok(Reply::Array(found));
            }
            cursor = next;
        }
    }

    async fn scan(&self, cursor: u64, filter: ScanFilter) -> Answer {
        let (next, keys) = self.backend.scan(cursor, filter).await.map_err(refusal)?;
        Ok(page(next, keys.into_iter().map(Reply::Bulk).collect()))
    }

    async fn random_key(&self, entropy: u64) -> Answer {
        let key = self.backend.random_key(entropy).await.map_err(refusal)?;
        Ok(key.map_or(Reply::Nil, Reply::Bulk))
    }

    async fn key_count(&self) -> Answer {
        let count = self.backend.key_count().await.map_err(refusal)?;
        Ok(Reply::Int(i64::try_from(count).unwrap_or(i64::MAX)))
    }

    async fn flush(&self) -> Answer {
        self.backend.flush_all().await.map_err(refusal)?;
        Ok(Reply::Ok)
    }

    async fn combine(&self, keys: &[Key], algebra: Algebra) -> Answer {
        let members = match algebra {
            Algebra::Intersection => self.intersection(keys).await,
            Algebra::Union => self.union(keys).await,
            Algebra::Difference => self.difference(keys).await,
        }?;
        Ok(Reply::Set(members.into_iter().map(Reply::Bulk).collect()))
    }

    async fn intersection_size(&self, keys: &[Key], limit: Option<usize>) -> Answer {
        let size = self.intersection(keys).await?.len();
        let size = limit.map_or(size, |limit| size.min(limit));
        Ok(Reply::Int(i64::try_from(size).unwrap_or(i64::MAX)))
    }

    /// From the smallest set, what each of the others holds as well.
    async fn intersection(&self, keys: &[Key]) -> Result<Vec<Bytes>, Refusal> {
        let sizes = self.sizes(keys).await?;
        let mut sets: Vec<(usize, &Key)> = sizes.into_iter().zip(keys).collect();
        sets.sort_by_key(|(size, _)| *size);
        let Some(((smallest_size, smallest), others)) = sets.split_first() else {
            return Ok(Vec::new());
        };
        if *smallest_size == 0 {
            return Ok(Vec::new());
        }
        let mut left = self.members(smallest).await?;
        for (size, key) in others {
            if key != smallest {
                left = self.sift(left, key, *size, true).await?;
            }
        }
        Ok(left)
    }

    async fn union(&self, keys: &[Key]) -> Result<Vec<Bytes>, Refusal> {
        let sizes = self.sizes(keys).await?;
        let mut seen = HashSet::new();
        for (size, key) in sizes.into_iter().zip(keys) {
            if size > 0 {
                seen.extend(self.members(key).await?);
            }
        }
        Ok(seen.into_iter().collect())
    }

    /// From the first set, what none of the others holds.
    async fn difference(&self, keys: &[Key]) -> Result<Vec<Bytes>, Refusal> {
        let sizes = self.sizes(keys).await?;
        let Some((first, others)) = keys.split_first() else {
            return Ok(Vec::new());
        };
        if sizes[0] == 0 || others.contains(first) {
            return Ok(Vec::new());
        }
        let mut left = self.members(first).await?;
        for (size, key) in sizes[1..].iter().zip(others) {
            if *size > 0 {
                left = self.sift(left, key, *size, false).await?;
            }
        }
        Ok(left)
    }

    /// The members of `left` that the set at `key`, of about `size` members, holds (or does not, if `held` is false).
    async fn sift(
        &self,
        left: Vec<Bytes>,
        key: &Key,
        size: usize,
        held: bool,
    ) -> Result<Vec<Bytes>, Refusal> {
        if left.is_empty() {
            return Ok(left);
        }
        // Walking through a set costs less per member than looking members up, until it is much larger.
        if size / WALK_OVER_LOOKUP <= left.len() {
            let other: HashSet<Bytes> = self.members(key).await?.into_iter().collect();
            return Ok(keep(left, |member| other.contains(member) == held));
        }
        let members = left.clone();
        let read = Read::AreMembers { members };
        let flags = items(self.read(Op::reading(key.clone(), read)).await?)?;
        if flags.len() != left.len() {
            return Err(error::no_reply());
        }
        let flags = flags.into_iter().map(|flag| flag == Reply::Int(1));
        let pairs = left.into_iter().zip(flags);
        Ok(pairs
            .filter_map(|(member, found)| (found == held).then_some(member))
            .collect())
    }

    /// Each set's number of members; refuses keys of another type.
    async fn sizes(&self, keys: &[Key]) -> Result<Vec<usize>, Refusal> {
        let ops = keys
            .iter()
            .map(|key| Op::reading(key.clone(), Read::Cardinality));
        let replies = self.read_all(ops.collect()).await;
        if replies.len() != keys.len() {
            return Err(error::no_reply());
        }
        replies.into_iter().map(size).collect()
    }

    async fn members(&self, key: &Key) -> Result<Vec<Bytes>, Refusal> {
        let reply = self.read(Op::reading(key.clone(), Read::Members)).await?;
        let member = |item| match item {
            Reply::Bulk(member) => Ok(member),
            _ => Err(error::no_reply()),
        };
        items(reply)?.into_iter().map(member).collect()
    }

    /// Moves a member between sets, which may belong to different shards: no step covers both. It is added to the target
    /// first and removed from the source once that is durable; a crash in between leaves it in both, never in neither. When
    /// another client takes it from the source meanwhile, both have moved it.
    async fn move_member(&self, source: Key, target: Key, member: Bytes) -> Answer {
        let held = Read::AreMembers {
            members: vec![member.clone()],
        };
        let before = self
            .read_all(vec![
                Op::reading(source.clone(), Read::Cardinality),
                Op::reading(target.clone(), Read::Cardinality),
                Op::reading(source.clone(), held),
            ])
            .await;
        let [source_size, target_size, held] =
            <[Reply; 3]>::try_from(before).map_err(|_| error::no_reply())?;
        if size(source_size)? == 0 {
            return Ok(Reply::Int(0));
        }
        size(target_size)?;
        let held = items(held)?.first() == Some(&Reply::Int(1));
        if !held || source == target {
            return Ok(Reply::Int(i64::from(held)));
        }
        let members = vec![member];
        let add = Write::Add {
            members: members.clone(),
        };
        self.write(Op::writing(target, add)).await?;
        self.write(Op::writing(source, Write::Remove { members }))
            .await?;
        Ok(Reply::Int(1))
    }

    async fn read(&self, mut op: Op) -> Answer {
        self.levels.mark(&mut op);
        if let Some(reply) = self.backend.try_read(&op) {
            return accepted(reply);
        }
        only(self.backend.read(vec![op]).await)
    }

    async fn read_all(&self, mut ops: Vec<Op>) -> Vec<Reply> {
        ops.iter_mut().for_each(|op| self.levels.mark(op));
        let inline: Option<Vec<Reply>> = ops.iter().map(|op| self.backend.try_read(op)).collect();
        match inline {
            Some(replies) => replies,
            None => self.backend.read(ops).await,
        }
    }

    async fn write(&self, mut op: Op) -> Answer {
        self.levels.mark(&mut op);
        only(self.backend.submit(vec![op]).await)
    }
}

fn only(replies: Vec<Reply>) -> Answer {
    accepted(replies.into_iter().next().ok_or_else(error::no_reply)?)
}

fn accepted(reply: Reply) -> Answer {
    match reply {
        Reply::Error(refusal) => Err(refusal),
        reply => Ok(reply),
    }
}

fn size(reply: Reply) -> Result<usize, Refusal> {
    match accepted(reply)? {
        Reply::Int(size) => usize::try_from(size).map_err(|_| error::no_reply()),
        _ => Err(error::no_reply()),
    }
}

fn items(reply: Reply) -> Result<Vec<Reply>, Refusal> {
    match accepted(reply)? {
        Reply::Array(items) | Reply::Set(items) => Ok(items),
        _ => Err(error::no_reply()),
    }
}

fn keep(members: Vec<Bytes>, wanted: impl Fn(&Bytes) -> bool) -> Vec<Bytes> {
    members.into_iter().filter(wanted).collect()
}

/// The node's errors over all keys come as replies.
fn refusal(reply: Reply) -> Refusal {
    match reply {
        Reply::Error(refusal) => refusal,
        _ => error::no_reply(),
    }
}

fn conflict(conflict: ConflictStatus) -> Reply {
    let name = |name: &'static str| Reply::Bulk(Bytes::from_static(name.as_bytes()));
    let text = |text: String| Reply::Bulk(Bytes::from(text));
    let side = |side: ConflictSide| {
        let region = side.region.map(|region| text(region.to_string()));
        Reply::Map(vec![
            (name("stamp"), text(side.stamp)),
            (name("region"), region.unwrap_or(Reply::Nil)),
        ])
    };
    let at_ms = i64::try_from(conflict.at_ms).unwrap_or(i64::MAX);
    Reply::Map(vec![
        (name("key"), Reply::Bulk(conflict.key)),
        (name("kind"), text(conflict.kind)),
        (name("kept"), side(conflict.kept)),
        (name("lost"), side(conflict.lost)),
        (name("at-ms"), Reply::Int(at_ms)),
    ])
}

/// Keys looked at per page by KEYS.
const KEYS_PAGE: usize = 10_000;

/// How many members of a set can be walked over in the time of looking one up.
const WALK_OVER_LOOKUP: usize = 8;
