//! A naive Redis for keys that only one region writes: there nothing is concurrent, so every reply must be Redis's own.
//!
//! It follows the replies in the order in which the shard gave them. What was asked and not answered when a process died may or
//! may not have happened, all of it or none, because it was one batch.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use node::{
    core::{
        op::{Action, Condition, ExpireCondition, Key, Op, Pick, Read, SetExpiry, Write},
        read::read,
        reply::{Refusal, Reply},
        view::Committed,
    },
    storage::Storage,
};

/// What each host's own keys must read as.
#[derive(Debug, Default)]
pub struct Reference {
    keys: BTreeMap<(usize, Key), Known>,
}

#[derive(Debug, Default)]
struct Known {
    state: State,
    /// Asked, in this order; all of it happened, or nothing.
    in_doubt: Vec<(Action, u64)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum State {
    Sure(Option<Entry>),
    /// A clock went back over an expiry: the key may be there or not.
    Unsure,
}

impl Default for State {
    fn default() -> Self {
        Self::Sure(None)
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    value: Value,
    pub(super) expires_ms: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Value {
    Text(Vec<u8>),
    Set(BTreeSet<Bytes>),
}

impl Reference {
    /// A host answered. Gives what is wrong about the answer.
    pub fn replied(&mut self, host: usize, op: &Op, wall_ms: u64, reply: &Reply) -> Option<String> {
        let known = self.keys.entry((host, op.key.clone())).or_default();
        match reply {
            Reply::Error(
                Refusal::Busy(_)
                | Refusal::ReadOnly(_)
                | Refusal::ClockSkew(_)
                | Refusal::TooLarge(_)
                | Refusal::Unavailable(_)
                | Refusal::NoQuorum { applied: None, .. },
            ) => return None,
            Reply::Error(
                Refusal::Timeout(_)
                | Refusal::NoQuorum {
                    applied: Some(_), ..
                },
            ) => {
                known.in_doubt.push((op.action.clone(), wall_ms));
                return None;
            }
            // While a storage is opened again, what was in doubt may show or not.
            _ if !known.in_doubt.is_empty() && matches!(op.action, Action::Read(_)) => return None,
            _ => {}
        }
        let State::Sure(entry) = &mut known.state else {
            known.state = determined(&op.action, reply);
            return None;
        };
        let before = entry.clone();
        let expected = apply(entry, &op.action, wall_ms, reply);
        (!agree(&expected, reply)).then(|| {
            format!(
                "{:?} on {:?} holding {before:?} at {wall_ms} was answered {reply:?}, not {expected:?}",
                op.action, op.key
            )
        })
    }

    /// A host asked for something and died: whether it happened shows later.
    pub fn in_doubt(&mut self, host: usize, op: &Op, wall_ms: u64) {
        let known = self.keys.entry((host, op.key.clone())).or_default();
        known.in_doubt.push((op.action.clone(), wall_ms));
    }

    /// A host's clock went back: what had expired by then may be gone or not.
    pub fn clock_went_back(&mut self, host: usize, from_ms: u64) {
        for ((_, _), known) in self.of_host(host) {
            let has_expired = matches!(&known.state, State::Sure(Some(entry))
                if entry.expires_ms.is_some_and(|at_ms| at_ms <= from_ms));
            if has_expired || !known.in_doubt.is_empty() {
                known.state = State::Unsure;
            }
        }
    }

    /// Compares what a host holds with what it must, under those keys that `is_asked` of, and goes on from there. Gives what is
    /// wrong.
    pub fn verify(
        &mut self,
        host: usize,
        storage: &dyn Storage,
        wall_ms: u64,
        is_asked: impl Fn(&Key) -> bool,
    ) -> Vec<String> {
        let mut wrong = Vec::new();
        for ((_, key), known) in self.of_host(host).filter(|((_, key), _)| is_asked(key)) {
            let held = held(storage, key);
            let in_doubt = std::mem::take(&mut known.in_doubt);
            if let State::Sure(expected) = &known.state {
                let visible = seen(&held, wall_ms);
                let is_as_before = visible == seen(expected, wall_ms);
                let mut after = expected.clone();
                let is_known = in_doubt.iter().all(|(action, at_ms)| {
                    apply(&mut after, action, *at_ms, &Reply::Nil);
                    !matches!(action, Action::Write(Write::Pop { .. }))
                });
                let is_as_after =
                    !in_doubt.is_empty() && (!is_known || visible == seen(&after, wall_ms));
                if !is_as_before && !is_as_after {
                    wrong.push(format!(
                        "n{host} holds {held:?} under {key:?}, and must hold {expected:?}, or that after {in_doubt:?}"
                    ));
                }
            }
            known.state = State::Sure(held);
        }
        wrong
    }

    /// Goes on from what a host holds, whatever that is: it lost data in a way that nothing is promised for.
    pub fn adopt(&mut self, host: usize, storage: &dyn Storage) {
        for ((_, key), known) in self.of_host(host) {
            known.in_doubt.clear();
            known.state = State::Sure(held(storage, key));
        }
    }

    fn of_host(&mut self, host: usize) -> impl Iterator<Item = (&(usize, Key), &mut Known)> {
        self.keys
            .range_mut((host, Key::new())..(host + 1, Key::new()))
    }
}

/// What is certain after an answer, where nothing was before.
pub(super) fn determined(action: &Action, reply: &Reply) -> State {
    match (action, reply) {
        (
            Action::Write(Write::Set {
                value,
                expiry: SetExpiry::Clear,
                condition: Condition::Always,
                return_old: false,
            }),
            Reply::Ok,
        ) => State::Sure(Some(text(value.to_vec(), None))),
        (Action::Write(Write::Delete), _) => State::Sure(None),
        _ => State::Unsure,
    }
}

/// What a host holds under a key, expired or not.
fn held(storage: &dyn Storage, key: &Key) -> Option<Entry> {
    let ask = |what: Read| {
        read(&Committed(storage), key, &what, 0).expect("the simulated disk can be read")
    };
    let expires_ms = match ask(Read::ExpiresAtMs) {
        Reply::Int(at_ms) => u64::try_from(at_ms).ok(),
        _ => None,
    };
    let value = match ask(Read::Type) {
        Reply::Simple("string") => match ask(Read::Get) {
            Reply::Bulk(bytes) => Value::Text(bytes.to_vec()),
            _ => return None,
        },
        Reply::Simple("set") => Value::Set(bulks(&ask(Read::Members)).into_iter().collect()),
        _ => return None,
    };
    Some(Entry { value, expires_ms })
}

pub(super) fn seen(entry: &Option<Entry>, wall_ms: u64) -> Option<&Entry> {
    entry
        .as_ref()
        .filter(|entry| entry.expires_ms.is_none_or(|at_ms| at_ms > wall_ms))
}

pub(super) fn agree(expected: &Reply, reply: &Reply) -> bool {
    match (expected, reply) {
        (Reply::Set(_), Reply::Set(_)) => {
            let (mut expected, mut reply) = (bulks(expected), bulks(reply));
            expected.sort();
            reply.sort();
            expected == reply
        }
        _ => expected == reply,
    }
}

fn bulks(reply: &Reply) -> Vec<Bytes> {
    let (Reply::Set(items) | Reply::Array(items)) = reply else {
        return Vec::new();
    };
    items
        .iter()
        .filter_map(|item| match item {
            Reply::Bulk(bytes) => Some(bytes.clone()),
            _ => None,
        })
        .collect()
}

fn text(bytes: Vec<u8>, expires_ms: Option<u64>) -> Entry {
    Entry {
        value: Value::Text(bytes),
        expires_ms,
    }
}

/// Does what an action does, and gives the reply. Where Redis draws by lot, `actual` says what was drawn.
pub(super) fn apply(
    slot: &mut Option<Entry>,
    action: &Action,
    wall_ms: u64,
    actual: &Reply,
) -> Reply {
    match action {
        Action::Read(what) => look(seen(slot, wall_ms), what, actual),
        Action::Write(write) if seen(slot, wall_ms).is_some() => {
            change(slot, write, wall_ms, actual).unwrap_or_else(Reply::from)
        }
        Action::Write(write) => {
            // A clock may be wrong: what has ended by it is over for good only where something takes its place, or it is deleted.
            let mut fresh = None;
            let reply = change(&mut fresh, write, wall_ms, actual);
            if fresh.is_some() || is_deletion(write) {
                *slot = fresh;
            }
            reply.unwrap_or_else(Reply::from)
        }
    }
}

fn is_deletion(write: &Write) -> bool {
    matches!(write, Write::Delete | Write::GetDel | Write::Remove { .. })
}

fn look(entry: Option<&Entry>, what: &Read, actual: &Reply) -> Reply {
    let none = BTreeSet::new();
    let (is_text, is_set, bytes, members): (_, _, &[u8], _) = match entry.map(|entry| &entry.value)
    {
        Some(Value::Text(bytes)) => (true, false, bytes, &none),
        Some(Value::Set(members)) => (false, true, b"", members),
        None => (false, false, b"", &none),
    };
    match what {
        Read::Exists => Reply::Int(i64::from(entry.is_some())),
        Read::Type if is_set => Reply::Simple("set"),
        Read::Type if is_text => Reply::Simple("string"),
        Read::Type => Reply::Simple("none"),
        Read::ExpiresAtMs => Reply::Int(entry.map_or(-2, |entry| {
            entry.expires_ms.map_or(-1, |at_ms| at_ms as i64)
        })),
        Read::Get | Read::Strlen | Read::GetRange { .. } if is_set => Refusal::WrongType.into(),
        Read::Get if is_text => Reply::Bulk(Bytes::copy_from_slice(bytes)),
        Read::Get => Reply::Nil,
        Read::Strlen => Reply::Int(bytes.len() as i64),
        Read::GetRange { start, end } => Reply::Bulk(slice(bytes, *start, *end)),
        Read::Members
        | Read::Cardinality
        | Read::AreMembers { .. }
        | Read::RandomMembers { .. }
            if is_text =>
        {
            Refusal::WrongType.into()
        }
        Read::Members => Reply::Set(members.iter().cloned().map(Reply::Bulk).collect()),
        Read::Cardinality => Reply::Int(members.len() as i64),
        Read::AreMembers { members: asked } => Reply::Array(
            asked
                .iter()
                .map(|member| Reply::Int(i64::from(members.contains(member))))
                .collect(),
        ),
        Read::RandomMembers {
            pick: Pick::Distinct(count),
            ..
        } => drawn(members, *count, actual),
        Read::GetOrNil
        | Read::RemainingMs
        | Read::ScanMembers { .. }
        | Read::RandomMembers { .. }
        | Read::Encoding
        | Read::MemoryUsage => actual.clone(),
    }
}

/// `actual`, if so many different ones of the members can be drawn so.
fn drawn(members: &BTreeSet<Bytes>, count: usize, actual: &Reply) -> Reply {
    let chosen: BTreeSet<Bytes> = bulks(actual).into_iter().collect();
    let is_possible = matches!(actual, Reply::Array(items) if items.len() == chosen.len())
        && chosen.len() == count.min(members.len())
        && chosen.is_subset(members);
    if is_possible {
        actual.clone()
    } else {
        Reply::Array(members.iter().cloned().map(Reply::Bulk).collect())
    }
}

/// GETRANGE as Redis 7.0 does it: both ends included, negative ones from the end, and then none below the first byte.
fn slice(bytes: &[u8], start: i64, end: i64) -> Bytes {
    if start < 0 && end < 0 && start > end {
        return Bytes::new();
    }
    let length = bytes.len() as i64;
    let index = |at: i64| if at < 0 { (at + length).max(0) } else { at };
    (index(start)..=index(end).min(length - 1))
        .filter_map(|at| bytes.get(at as usize).copied())
        .collect()
}

fn change(
    slot: &mut Option<Entry>,
    write: &Write,
    wall_ms: u64,
    actual: &Reply,
) -> Result<Reply, Refusal> {
    match write {
        Write::Set {
            value,
            expiry,
            condition,
            return_old,
        } => set(slot, value, *expiry, *condition, *return_old),
        Write::GetDel => {
            let old = string(slot)?.map(|(bytes, _)| bytes);
            *slot = None;
            Ok(bulk(old))
        }
        Write::GetEx { expiry } => get_expire(slot, *expiry, wall_ms),
        Write::Append { value } => {
            let (mut bytes, expires_ms) = string(slot)?.unwrap_or_default();
            bytes.extend_from_slice(value);
            Ok(store_text(slot, bytes, expires_ms))
        }
        Write::SetRange { offset, value } => {
            let (mut bytes, expires_ms) = string(slot)?.unwrap_or_default();
            if value.is_empty() {
                return Ok(Reply::Int(bytes.len() as i64));
            }
            let end = offset + value.len();
            bytes.resize(bytes.len().max(end), 0);
            bytes[*offset..end].copy_from_slice(value);
            Ok(store_text(slot, bytes, expires_ms))
        }
        Write::IncrBy { by } => increment(slot, *by),
        Write::Delete => Ok(Reply::Int(i64::from(slot.take().is_some()))),
        Write::Expire { at_ms, condition } => Ok(expire(slot, *at_ms, *condition, wall_ms)),
        Write::Persist => {
            let had = slot.as_mut().and_then(|entry| entry.expires_ms.take());
            Ok(Reply::Int(i64::from(had.is_some())))
        }
        Write::Add { members } => add(slot, members),
        Write::Remove { members } => {
            let removed = with_members(slot, |set| {
                members.iter().filter(|member| set.remove(*member)).count()
            })?;
            Ok(Reply::Int(removed as i64))
        }
        Write::Pop { count, .. } => with_members(slot, |set| {
            let reply = drawn(set, *count, actual);
            for member in bulks(&reply) {
                set.remove(&member);
            }
            reply
        }),
    }
}

fn set(
    slot: &mut Option<Entry>,
    value: &Bytes,
    expiry: SetExpiry,
    condition: Condition,
    return_old: bool,
) -> Result<Reply, Refusal> {
    let old = if return_old {
        Some(bulk(string(slot)?.map(|(bytes, _)| bytes)))
    } else {
        None
    };
    let holds = match condition {
        Condition::Always => true,
        Condition::IfAbsent => slot.is_none(),
        Condition::IfPresent => slot.is_some(),
    };
    if holds {
        let kept = slot.as_ref().and_then(|entry| entry.expires_ms);
        *slot = Some(text(value.to_vec(), expires(expiry, kept)));
    }
    Ok(old.unwrap_or(if holds { Reply::Ok } else { Reply::Nil }))
}

fn get_expire(slot: &mut Option<Entry>, expiry: SetExpiry, wall_ms: u64) -> Result<Reply, Refusal> {
    let old = string(slot)?;
    if let (Some(entry), Some((_, kept))) = (slot.as_mut(), &old) {
        entry.expires_ms = expires(expiry, *kept);
    }
    if seen(slot, wall_ms).is_none() {
        *slot = None;
    }
    Ok(bulk(old.map(|(bytes, _)| bytes)))
}

fn increment(slot: &mut Option<Entry>, by: i64) -> Result<Reply, Refusal> {
    let (bytes, expires_ms) = string(slot)?.unwrap_or((b"0".to_vec(), None));
    let number = std::str::from_utf8(&bytes)
        .ok()
        .and_then(|text| text.parse::<i64>().ok().filter(|n| n.to_string() == text))
        .ok_or(Refusal::NotAnInteger)?;
    let sum = number.checked_add(by).ok_or(Refusal::Overflow)?;
    *slot = Some(text(sum.to_string().into_bytes(), expires_ms));
    Ok(Reply::Int(sum))
}

fn expire(slot: &mut Option<Entry>, at_ms: i64, condition: ExpireCondition, wall_ms: u64) -> Reply {
    let Some(entry) = slot else {
        return Reply::Int(0);
    };
    let old = entry.expires_ms.map(|old| old as i64);
    let applies = match condition {
        ExpireCondition::Always => true,
        ExpireCondition::IfNone => old.is_none(),
        ExpireCondition::IfSome => old.is_some(),
        ExpireCondition::IfLater | ExpireCondition::IfSomeAndLater => {
            old.is_some_and(|old| at_ms > old)
        }
        ExpireCondition::IfEarlier => old.is_none_or(|old| at_ms < old),
        ExpireCondition::IfSomeAndEarlier => old.is_some_and(|old| at_ms < old),
    };
    if applies {
        entry.expires_ms = Some(at_ms.max(0) as u64);
        if seen(slot, wall_ms).is_none() {
            *slot = None;
        }
    }
    Reply::Int(i64::from(applies))
}

fn add(slot: &mut Option<Entry>, members: &[Bytes]) -> Result<Reply, Refusal> {
    if slot.is_none() {
        *slot = Some(Entry {
            value: Value::Set(BTreeSet::new()),
            expires_ms: None,
        });
    }
    let added = with_members(slot, |set| {
        members
            .iter()
            .filter(|member| set.insert(Bytes::clone(member)))
            .count()
    })?;
    Ok(Reply::Int(added as i64))
}

/// Changes a set; one that is empty afterwards is no key.
fn with_members<T>(
    slot: &mut Option<Entry>,
    change: impl FnOnce(&mut BTreeSet<Bytes>) -> T,
) -> Result<T, Refusal> {
    let mut none = BTreeSet::new();
    let set = match slot {
        Some(Entry {
            value: Value::Set(set),
            ..
        }) => set,
        Some(_) => return Err(Refusal::WrongType),
        None => &mut none,
    };
    let result = change(set);
    if set.is_empty() {
        *slot = None;
    }
    Ok(result)
}

/// The string under a key and its expiry.
#[allow(clippy::type_complexity)] // two parts that are always used together
fn string(slot: &Option<Entry>) -> Result<Option<(Vec<u8>, Option<u64>)>, Refusal> {
    match slot {
        None => Ok(None),
        Some(Entry {
            value: Value::Text(bytes),
            expires_ms,
        }) => Ok(Some((bytes.clone(), *expires_ms))),
        Some(_) => Err(Refusal::WrongType),
    }
}

fn store_text(slot: &mut Option<Entry>, bytes: Vec<u8>, expires_ms: Option<u64>) -> Reply {
    let length = bytes.len() as i64;
    *slot = Some(text(bytes, expires_ms));
    Reply::Int(length)
}

fn expires(expiry: SetExpiry, kept: Option<u64>) -> Option<u64> {
    match expiry {
        SetExpiry::Clear => None,
        SetExpiry::Keep => kept,
        SetExpiry::At(at_ms) => Some(at_ms),
    }
}

fn bulk(bytes: Option<Vec<u8>>) -> Reply {
    bytes.map_or(Reply::Nil, |bytes| Reply::Bulk(Bytes::from(bytes)))
}
