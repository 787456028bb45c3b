//! The node as the simplest thing that answers like Redis: maps behind a lock.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use tokio::sync::Semaphore;

use crate::{
    core::{
        glob,
        op::{
            Action, Condition, ExpireCondition, Key, Kind, Op, Pick, Read, ScanFilter, SetExpiry,
            Write,
        },
        reply::{Refusal, Reply},
    },
    resp::{backend::Backend, number::parse_i64},
    status::{ConflictSide, ConflictStatus},
};

/// A node of one shard, in memory.
#[derive(Debug, Clone)]
pub(crate) struct Model {
    state: Arc<State>,
}

#[derive(Debug)]
struct State {
    entries: Mutex<Entries>,
    /// Reads find nothing in memory.
    cold: AtomicBool,
    /// Sizes of the batches that were submitted and that were read.
    submitted: Mutex<Vec<usize>>,
    read: Mutex<Vec<usize>>,
    /// The level of each request that was answered.
    levels: Mutex<Vec<String>>,
    /// Commits wait for a permit each.
    commits: Semaphore,
    entropy: AtomicU64,
    value_bytes: usize,
}

#[derive(Debug, Clone)]
struct Entry {
    value: Value,
    expires_ms: Option<u64>,
}

#[derive(Debug, Clone)]
enum Value {
    Text(Bytes),
    Set(BTreeSet<Bytes>),
}

impl Default for Model {
    fn default() -> Self {
        Self {
            state: Arc::new(State {
                entries: Mutex::default(),
                cold: AtomicBool::new(false),
                submitted: Mutex::default(),
                read: Mutex::default(),
                levels: Mutex::default(),
                commits: Semaphore::new(Semaphore::MAX_PERMITS),
                entropy: AtomicU64::new(1),
                value_bytes: 512 << 20,
            }),
        }
    }
}

impl Model {
    /// From now on no read is answered inline.
    pub(crate) fn turn_cold(&self) {
        self.state.cold.store(true, Ordering::SeqCst);
    }

    /// From now on commits wait until they are allowed.
    pub(crate) fn hold_commits(&self) {
        self.state.commits.forget_permits(Semaphore::MAX_PERMITS);
    }

    /// Lets so many commits happen.
    pub(crate) fn allow_commits(&self, count: usize) {
        self.state.commits.add_permits(count);
    }

    /// `read LEVEL` or `write LEVEL` of each request that was answered since this was last asked.
    pub(crate) fn levels(&self) -> Vec<String> {
        std::mem::take(&mut self.state.levels.lock().expect("no panic"))
    }

    /// Sizes of the batches submitted so far.
    pub(crate) fn submitted(&self) -> Vec<usize> {
        self.state.submitted.lock().expect("no panic").clone()
    }

    /// Sizes of the batches read so far.
    pub(crate) fn batches_read(&self) -> Vec<usize> {
        self.state.read.lock().expect("no panic").clone()
    }

    fn entries(&self) -> MutexGuard<'_, Entries> {
        self.state.entries.lock().expect("no panic")
    }

    fn now_ms(&self) -> u64 {
        Backend::wall_us(self) / 1000
    }

    fn apply(&self, op: &Op) -> Reply {
        let kind = match op.action {
            Action::Read(_) => "read",
            Action::Write(_) => "write",
        };
        let levels = &self.state.levels;
        let level = format!("{kind} {}", op.level);
        levels.lock().expect("no panic").push(level);
        let mut entries = self.entries();
        let now = self.now_ms();
        entries.retain(|_, entry| entry.expires_ms.is_none_or(|at| at > now));
        let reply = match &op.action {
            Action::Read(read) => self.answer(entries.get(&op.key), read, now),
            Action::Write(write) => self.change(&mut entries, &op.key, write, now),
        };
        reply.unwrap_or_else(Reply::Error)
    }

    fn answer(&self, entry: Option<&Entry>, read: &Read, now: u64) -> Result<Reply, Refusal> {
        let text = || text(entry);
        let set = || set(entry);
        Ok(match read {
            Read::Get => text()?.map_or(Reply::Nil, |text| Reply::Bulk(text.clone())),
            Read::GetOrNil => match text() {
                Ok(Some(text)) => Reply::Bulk(text.clone()),
                _ => Reply::Nil,
            },
            Read::Strlen => int(text()?.map_or(0, Bytes::len)),
            Read::GetRange { start, end } => {
                let text = text()?.cloned().unwrap_or_default();
                Reply::Bulk(range(&text, *start, *end))
            }
            Read::Exists => int(usize::from(entry.is_some())),
            Read::Type => Reply::Simple(match entry.map(|entry| &entry.value) {
                None => "none",
                Some(Value::Text(_)) => "string",
                Some(Value::Set(_)) => "set",
            }),
            Read::RemainingMs => expiry(entry, |at| at.saturating_sub(now)),
            Read::ExpiresAtMs => expiry(entry, |at| at),
            Read::AreMembers { members } => {
                let set = set()?.cloned().unwrap_or_default();
                let flags = members
                    .iter()
                    .map(|member| int(usize::from(set.contains(member))));
                Reply::Array(flags.collect())
            }
            Read::Members => {
                let set = set()?.cloned().unwrap_or_default();
                Reply::Set(set.into_iter().map(Reply::Bulk).collect())
            }
            Read::Cardinality => int(set()?.map_or(0, BTreeSet::len)),
            Read::ScanMembers {
                cursor,
                count,
                pattern,
            } => {
                let set = set()?.cloned().unwrap_or_default();
                let matching = |member: &Bytes| {
                    let pattern = pattern.as_ref();
                    pattern.is_none_or(|pattern| glob::matches(pattern, member))
                };
                let (next, members) = page(set, *cursor, *count);
                let members = members.into_iter().filter(matching).map(Reply::Bulk);
                Reply::Array(vec![
                    Reply::Bulk(Bytes::from(next.to_string())),
                    Reply::Array(members.collect()),
                ])
            }
            Read::RandomMembers { pick, entropy } => {
                let set: Vec<Bytes> = set()?.cloned().unwrap_or_default().into_iter().collect();
                Reply::Array(random(&set, *pick, *entropy))
            }
            Read::Encoding => entry.map_or(Reply::Nil, |entry| {
                Reply::Bulk(Bytes::from_static(encoding(&entry.value).as_bytes()))
            }),
            Read::MemoryUsage => entry.map_or(Reply::Nil, |_| int(64)),
        })
    }

    fn change(
        &self,
        entries: &mut Entries,
        key: &Key,
        write: &Write,
        now: u64,
    ) -> Result<Reply, Refusal> {
        match write {
            Write::Set { .. } | Write::GetDel | Write::GetEx { .. } => replace(entries, key, write),
            Write::Append { .. } | Write::SetRange { .. } | Write::IncrBy { .. } => {
                self.edit(entries, key, write)
            }
            Write::Delete => Ok(int(usize::from(entries.remove(key).is_some()))),
            Write::Expire { .. } | Write::Persist => Ok(expire(entries, key, write, now)),
            Write::Add { .. } | Write::Remove { .. } | Write::Pop { .. } => {
                change_set(entries, key, write)
            }
        }
    }

    fn edit(&self, entries: &mut Entries, key: &Key, write: &Write) -> Result<Reply, Refusal> {
        let entry = entries.get(key);
        let expires_ms = entry.and_then(|entry| entry.expires_ms);
        let old = text(entry)?.cloned();
        let mut text = old.clone().unwrap_or_default().to_vec();
        let reply = match write {
            Write::Append { value } => {
                text.extend_from_slice(value);
                int(text.len())
            }
            Write::SetRange { value, .. } if value.is_empty() => return Ok(int(text.len())),
            Write::SetRange { offset, value } => {
                if offset.saturating_add(value.len()) > self.state.value_bytes {
                    return Err(Refusal::StringTooLong);
                }
                text.resize(text.len().max(offset + value.len()), 0);
                text[*offset..offset + value.len()].copy_from_slice(value);
                int(text.len())
            }
            Write::IncrBy { by } => {
                let old = old.unwrap_or(Bytes::from_static(b"0"));
                let value = parse_i64(&old).ok_or(Refusal::NotAnInteger)?;
                let value = value.checked_add(*by).ok_or(Refusal::Overflow)?;
                text = value.to_string().into_bytes();
                Reply::Int(value)
            }
            other => panic!("not an edit: {other:?}"),
        };
        put(entries, key, Value::Text(text.into()), expires_ms);
        Ok(reply)
    }
}

type Entries = BTreeMap<Key, Entry>;

fn put(entries: &mut Entries, key: &Key, value: Value, expires_ms: Option<u64>) {
    entries.insert(key.clone(), Entry { value, expires_ms });
}

fn replace(entries: &mut Entries, key: &Key, write: &Write) -> Result<Reply, Refusal> {
    let entry = entries.get(key).cloned();
    let entry = entry.as_ref();
    let expires_ms = entry.and_then(|entry| entry.expires_ms);
    let old = text(entry).map(|old| old.cloned());
    let bulk = |old: Option<Bytes>| old.map_or(Reply::Nil, Reply::Bulk);
    Ok(match write {
        Write::Set {
            value,
            expiry,
            condition,
            return_old,
        } => {
            let old = if *return_old { bulk(old?) } else { Reply::Ok };
            let holds = match condition {
                Condition::Always => true,
                Condition::IfAbsent => entry.is_none(),
                Condition::IfPresent => entry.is_some(),
            };
            if !holds {
                return Ok(if *return_old { old } else { Reply::Nil });
            }
            let expires_ms = after(*expiry, expires_ms);
            put(entries, key, Value::Text(value.clone()), expires_ms);
            old
        }
        Write::GetDel => {
            let old = old?;
            entries.remove(key);
            bulk(old)
        }
        Write::GetEx { expiry } => {
            let old = old?;
            if let Some(text) = &old {
                let expires_ms = after(*expiry, expires_ms);
                put(entries, key, Value::Text(text.clone()), expires_ms);
            }
            bulk(old)
        }
        other => panic!("not a replacement: {other:?}"),
    })
}

fn expire(entries: &mut Entries, key: &Key, write: &Write, now: u64) -> Reply {
    let Some(entry) = entries.get_mut(key) else {
        return Reply::Int(0);
    };
    match write {
        Write::Expire { at_ms, condition } => {
            if !applies(*condition, *at_ms, entry.expires_ms) {
                return Reply::Int(0);
            }
            let at = u64::try_from(*at_ms).unwrap_or(0);
            entry.expires_ms = Some(at);
            if at <= now {
                entries.remove(key);
            }
            Reply::Int(1)
        }
        _ => Reply::Int(i64::from(entry.expires_ms.take().is_some())),
    }
}

fn change_set(entries: &mut Entries, key: &Key, write: &Write) -> Result<Reply, Refusal> {
    let entry = entries.get(key);
    let expires_ms = entry.and_then(|entry| entry.expires_ms);
    let mut set = set(entry)?.cloned().unwrap_or_default();
    let before = set.len();
    let reply = match write {
        Write::Add { members } => {
            set.extend(members.iter().cloned());
            int(set.len() - before)
        }
        Write::Remove { members } => {
            set.retain(|member| !members.contains(member));
            int(before - set.len())
        }
        Write::Pop { count, entropy } => {
            let members: Vec<Bytes> = set.iter().cloned().collect();
            let popped = random(&members, Pick::Distinct(*count), *entropy);
            set.retain(|member| !popped.contains(&Reply::Bulk(member.clone())));
            Reply::Array(popped)
        }
        other => panic!("not on a set: {other:?}"),
    };
    match set.is_empty() {
        true => drop(entries.remove(key)),
        false => put(entries, key, Value::Set(set), expires_ms),
    }
    Ok(reply)
}

impl Backend for Model {
    fn try_read(&self, op: &Op) -> Option<Reply> {
        let cold = self.state.cold.load(Ordering::SeqCst);
        let reads = matches!(op.action, Action::Read(_));
        (reads && !cold).then(|| self.apply(op))
    }

    async fn read(&self, ops: Vec<Op>) -> Vec<Reply> {
        let sizes = &self.state.read;
        sizes.lock().expect("no panic").push(ops.len());
        ops.iter().map(|op| self.apply(op)).collect()
    }

    fn submit(&self, ops: Vec<Op>) -> impl Future<Output = Vec<Reply>> + Send + 'static {
        let sizes = &self.state.submitted;
        sizes.lock().expect("no panic").push(ops.len());
        let model = self.clone();
        async move {
            let commit = model.state.commits.acquire().await.expect("never closed");
            commit.forget();
            ops.iter().map(|op| model.apply(op)).collect()
        }
    }

    async fn key_count(&self) -> Result<u64, Reply> {
        Ok(self.entries().len() as u64)
    }

    async fn scan(&self, cursor: u64, filter: ScanFilter) -> Result<(u64, Vec<Key>), Reply> {
        let entries = self.entries();
        let (next, keys) = page(entries.keys().cloned(), cursor, filter.count);
        let wanted = |key: &Key| {
            let kind = match entries[key].value {
                Value::Text(_) => Kind::String,
                Value::Set(_) => Kind::Set,
            };
            let pattern = filter.pattern.as_ref();
            filter.kind.is_none_or(|wanted| wanted == kind)
                && pattern.is_none_or(|pattern| glob::matches(pattern, key))
        };
        Ok((next, keys.into_iter().filter(wanted).collect()))
    }

    async fn random_key(&self, entropy: u64) -> Result<Option<Key>, Reply> {
        let entries = self.entries();
        let at = entropy as usize % entries.len().max(1);
        Ok(entries.keys().nth(at).cloned())
    }

    async fn flush_all(&self) -> Result<(), Reply> {
        self.entries().clear();
        Ok(())
    }

    fn conflicts(&self, count: usize) -> Vec<ConflictStatus> {
        let side = |stamp: &str, region: Option<&str>| ConflictSide {
            stamp: stamp.to_owned(),
            region: region.map(|region| region.parse().expect("a region")),
        };
        let of = |key: &'static str, kind: &str| ConflictStatus {
            key: Bytes::from_static(key.as_bytes()),
            kind: kind.to_owned(),
            kept: side("2.0@a/0", Some("us")),
            lost: side("1.0@b/0", None),
            at_ms: 7,
        };
        let mut all = vec![of("newer", "overwritten"), of("older", "two_types")];
        all.truncate(count);
        all
    }

    async fn status_json(&self) -> String {
        "{\"node\":\"model\"}".to_owned()
    }

    fn info(&self) -> Vec<(&'static str, Vec<(String, String)>)> {
        let field = |name: &str| vec![(name.to_owned(), "1".to_owned())];
        vec![
            ("Replication", field("meridian_lag_seconds")),
            ("Meridian", field("meridian_epoch")),
        ]
    }

    fn wall_us(&self) -> u64 {
        let now = std::time::SystemTime::UNIX_EPOCH.elapsed();
        now.expect("after 1970").as_micros() as u64
    }

    fn entropy(&self) -> u64 {
        let step = self.state.entropy.fetch_add(1, Ordering::SeqCst);
        step.wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }
}

fn int(value: usize) -> Reply {
    Reply::Int(value as i64)
}

fn text(entry: Option<&Entry>) -> Result<Option<&Bytes>, Refusal> {
    match entry.map(|entry| &entry.value) {
        None => Ok(None),
        Some(Value::Text(text)) => Ok(Some(text)),
        Some(Value::Set(_)) => Err(Refusal::WrongType),
    }
}

fn set(entry: Option<&Entry>) -> Result<Option<&BTreeSet<Bytes>>, Refusal> {
    match entry.map(|entry| &entry.value) {
        None => Ok(None),
        Some(Value::Set(set)) => Ok(Some(set)),
        Some(Value::Text(_)) => Err(Refusal::WrongType),
    }
}

fn expiry(entry: Option<&Entry>, show: impl Fn(u64) -> u64) -> Reply {
    match entry.map(|entry| entry.expires_ms) {
        None => Reply::Int(-2),
        Some(None) => Reply::Int(-1),
        Some(Some(at)) => Reply::Int(show(at) as i64),
    }
}

fn after(expiry: SetExpiry, before: Option<u64>) -> Option<u64> {
    match expiry {
        SetExpiry::Clear => None,
        SetExpiry::Keep => before,
        SetExpiry::At(at) => Some(at),
    }
}

fn applies(condition: ExpireCondition, at: i64, current: Option<u64>) -> bool {
    let current = current.map(|current| current as i64);
    match condition {
        ExpireCondition::Always => true,
        ExpireCondition::IfNone => current.is_none(),
        ExpireCondition::IfSome => current.is_some(),
        ExpireCondition::IfLater | ExpireCondition::IfSomeAndLater => {
            current.is_some_and(|current| at > current)
        }
        ExpireCondition::IfEarlier => current.is_none_or(|current| at < current),
        ExpireCondition::IfSomeAndEarlier => current.is_some_and(|current| at < current),
    }
}

fn range(text: &Bytes, start: i64, end: i64) -> Bytes {
    let length = text.len() as i64;
    if start < 0 && end < 0 && start > end {
        return Bytes::new();
    }
    let from_end = |at: i64| if at < 0 { (length + at).max(0) } else { at };
    let (start, end) = (from_end(start), from_end(end).min(length - 1));
    if start > end || length == 0 {
        return Bytes::new();
    }
    text.slice(start as usize..=end as usize)
}

fn page<T>(items: impl IntoIterator<Item = T>, cursor: u64, count: usize) -> (u64, Vec<T>) {
    let mut rest = items.into_iter().skip(cursor as usize).peekable();
    let page: Vec<T> = rest.by_ref().take(count).collect();
    let next = if rest.peek().is_some() {
        cursor + count as u64
    } else {
        0
    };
    (next, page)
}

fn random(members: &[Bytes], pick: Pick, entropy: u64) -> Vec<Reply> {
    let start = entropy as usize;
    let bulk = |at: usize| Reply::Bulk(members[start.wrapping_add(at) % members.len()].clone());
    match pick {
        Pick::Distinct(count) => (0..count.min(members.len())).map(bulk).collect(),
        Pick::Repeating(_) if members.is_empty() => Vec::new(),
        Pick::Repeating(count) => (0..count).map(bulk).collect(),
    }
}

fn encoding(value: &Value) -> &'static str {
    match value {
        Value::Text(text) if parse_i64(text).is_some() => "int",
        Value::Text(text) if text.len() <= 44 => "embstr",
        Value::Text(_) => "raw",
        Value::Set(set) if set.iter().all(|member| parse_i64(member).is_some()) => "intset",
        Value::Set(_) => "hashtable",
    }
}
