//! One shard over the memory storage, with the inbox of its node: what a driver does, by hand and one thing at a time.

#![allow(
    dead_code,
    clippy::unwrap_used,
    reason = "each test uses its share; a test fails by panicking, its helpers too"
)]

pub mod minority;
pub mod missed;
pub mod replicas;

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::ControlFlow,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use crdt::{ActorId, Hlc};
use node::{
    core::{
        Event, Input, Now, Output, ReadBounds, RequestId, Shard, ShardConfig,
        fixed::FixedRead,
        identity::{DirectoryId, relay_of},
        inbox::{Applied, Done, Inbox, InboxEvent, Intent, Ticket},
        message::{Message, SessionId},
        op::{Action, Condition, Op, Read, SetExpiry, Write},
        read::read,
        reply::Reply,
        ship::{Destination, Home, Lag, Met, OutboxBounds},
        view::Committed,
    },
    level::Level,
    names::{NodeName, RegionName},
    placement::Placement,
    storage::{Durability, Family, Storage, memory::MemoryStorage, record::shortage::Shortage},
};

/// A node of one shard, alone in its region.
pub struct Region {
    pub name: RegionName,
    pub node: NodeName,
    pub storage: MemoryStorage,
    pub directory: DirectoryId,
    pub former: Vec<DirectoryId>,
    pub shard: Shard,
    pub inbox: Inbox,
    pub wall_ms: u64,
    pub mono: Duration,
    /// Sent on sessions that this node dialled.
    pub sent: Vec<(SessionId, Message)>,
    /// Sent back on sessions that others dialled.
    pub returned: Vec<(SessionId, Message)>,
    pub events: Vec<Event>,
    pub inbox_events: Vec<InboxEvent>,
    pub replies: Vec<(RequestId, Reply)>,
    /// Reads that are fixed and not carried out yet.
    pub fixed: Vec<(RequestId, FixedRead)>,
    /// How often the shard asked for a new actor.
    pub renewals_asked: usize,
    bounds: OutboxBounds,
    reads: ReadBounds,
    home: Home,
    next_id: u64,
}

pub const WALL_MS: u64 = 1_700_000_000_000;
pub const MAX_SKEW_MS: u64 = 1000;
pub const UNBOUNDED: OutboxBounds = OutboxBounds {
    window: Duration::from_secs(3 * 3600),
    bytes_max: 1 << 30,
};

/// Nearly every read of a set is one of many rows.
pub const READS: ReadBounds = ReadBounds {
    rows_at_once: 1,
    page_bytes: 256 << 10,
};

impl Region {
    /// A new node that ships to `others`.
    pub fn new(name: &str, others: &[&str], directory: u64) -> Self {
        Self::bounded(name, others, directory, UNBOUNDED)
    }

    pub fn bounded(name: &str, others: &[&str], directory: u64, bounds: OutboxBounds) -> Self {
        let directory = DirectoryId(directory);
        let node = format!("{name}-1");
        let regions: Vec<(&str, &[&str])> = others.iter().map(|name| (*name, &[][..])).collect();
        let home = home(name, &node, &regions, 1);
        Self::at(home, directory, bounds)
    }

    /// A new node at a place of a cluster.
    pub fn at(home: Home, directory: DirectoryId, bounds: OutboxBounds) -> Self {
        Self::reading(home, directory, bounds, READS)
    }

    pub fn reading(
        home: Home,
        directory: DirectoryId,
        bounds: OutboxBounds,
        reads: ReadBounds,
    ) -> Self {
        let storage = MemoryStorage::new();
        let shard = open(&storage, directory, &[], &home, (bounds, reads));
        let inbox = open_inbox(&storage, directory, &[]);
        Self {
            name: home.region.clone(),
            node: home.node.clone(),
            storage,
            directory,
            former: Vec::new(),
            shard,
            inbox,
            wall_ms: WALL_MS,
            mono: Duration::ZERO,
            sent: Vec::new(),
            returned: Vec::new(),
            events: Vec::new(),
            inbox_events: Vec::new(),
            replies: Vec::new(),
            fixed: Vec::new(),
            renewals_asked: 0,
            bounds,
            reads,
            home,
            next_id: 0,
        }
    }

    pub fn actor(&self) -> ActorId {
        self.shard.actor()
    }

    pub fn now(&self) -> Now {
        Now {
            mono: self.mono,
            wall_ms: self.wall_ms,
        }
    }

    pub fn pass(&mut self, millis: u64) {
        self.mono += Duration::from_millis(millis);
        self.wall_ms += millis;
    }

    /// One operation in a batch of its own.
    pub fn ask(&mut self, key: &str, action: Action) -> Reply {
        let id = self.request(key, action);
        self.close();
        self.reply(id).unwrap()
    }

    /// What a request was answered with, if it was. What is fixed is carried out only now.
    pub fn reply(&mut self, id: RequestId) -> Option<Reply> {
        if let Some(at) = self.fixed.iter().position(|(other, _)| *other == id) {
            return Some(self.fixed.remove(at).1.answer(&|| true));
        }
        let at = self.replies.iter().position(|(other, _)| *other == id)?;
        Some(self.replies.remove(at).1)
    }

    pub fn write(&mut self, key: &str, write: Write) -> Reply {
        self.ask(key, Action::Write(write))
    }

    pub fn read(&mut self, key: &str, read: Read) -> Reply {
        self.ask(key, Action::Read(read))
    }

    /// One operation of a batch that stays open.
    pub fn request(&mut self, key: &str, action: Action) -> RequestId {
        self.request_at(key, action, Level::default())
    }

    pub fn request_at(&mut self, key: &str, action: Action, level: Level) -> RequestId {
        self.next_id += 1;
        let id = RequestId(self.next_id);
        let op = Op {
            key: Bytes::copy_from_slice(key.as_bytes()),
            action,
            level,
        };
        self.input(Input::Request { id, op });
        id
    }

    /// Ends the batch and commits it.
    pub fn close(&mut self) {
        self.input(Input::Close);
    }

    /// A tick and what it leads to.
    pub fn tick(&mut self) {
        self.input(Input::Tick);
        self.close();
    }

    /// A turn that the shard asked for, if it wants one now.
    pub fn wake(&mut self) -> bool {
        let is_wanted = self.shard.wake_at().is_some_and(|at| at <= self.mono);
        if is_wanted {
            self.input(Input::Wake);
            self.close();
        }
        is_wanted
    }

    /// Takes an input; a commit succeeds at once.
    pub fn input(&mut self, input: Input) {
        let mut out = Vec::new();
        self.shard
            .handle(&self.storage, input, self.now(), &mut out);
        for output in out {
            match output {
                Output::Reply { id, reply } => self.replies.push((id, reply)),
                Output::Read { id, read } => self.fixed.push((id, read)),
                Output::Applied { ticket, done } => self.applied(ticket, done),
                Output::Relocated { kept, place } => self.inbox.relocated(0, kept, place),
                Output::Relayed(mark) => {
                    let intents = self.inbox.relayed(0, mark);
                    self.intend(intents);
                }
                Output::Send { session, message } => self.sent.push((session, message)),
                Output::Renew => self.renewals_asked += 1,
                Output::Report(event) => self.events.push(event),
                Output::Commit(batch) => {
                    let committed = self.storage.commit(&batch, Durability::Process);
                    let input = match committed {
                        Ok(()) => Input::Committed,
                        Err(error) => Input::CommitFailed(error.to_string()),
                    };
                    self.input(input);
                }
            }
        }
    }

    /// A message arrives on a session that another node dialled; what it brings is not committed yet.
    pub fn receive(&mut self, session: SessionId, message: Message) {
        let intents = self.inbox.message(session, message, self.wall_ms);
        self.intend(intents);
    }

    pub fn applied(&mut self, ticket: Ticket, done: Done) {
        let intents = self.inbox.applied(0, ticket, done);
        self.intend(intents);
    }

    /// A part was not taken.
    pub fn refused(&mut self, ticket: Ticket) {
        let done = Done {
            applied: Applied::Refused,
            place: None,
            taught: Vec::new(),
        };
        self.applied(ticket, done);
    }

    fn intend(&mut self, intents: Vec<Intent>) {
        for intent in intents {
            match intent {
                Intent::Apply {
                    ticket,
                    deltas,
                    purpose,
                    ..
                } => self.input(Input::Remote {
                    ticket,
                    deltas,
                    purpose,
                }),
                Intent::Send { session, message } => self.returned.push((session, message)),
                Intent::Report(event) => self.inbox_events.push(event),
                Intent::FallShort(shortage) => self.input(Input::Short(shortage)),
            }
        }
    }

    /// It lost what it had acknowledged, as its peers tell it when they greet it.
    pub fn forget(&mut self) {
        let intents = self.inbox.fall_short(Shortage::FORGOTTEN);
        self.intend(intents);
    }

    /// Commits where the inbox is.
    pub fn save_inbox(&mut self) {
        let batch = self.inbox.unsaved();
        self.storage.commit(&batch, Durability::Power).unwrap();
        self.inbox.saved();
    }

    /// The directory gets another number because a shard asked for it; what is replayed is not committed yet.
    pub fn renew(&mut self, directory: u64) {
        self.renewals_asked = 0;
        self.former.push(self.directory);
        self.directory = DirectoryId(directory);
        self.input(Input::Renew {
            actor: self.directory.actor(0),
            newest: Hlc::ZERO,
            replays: true,
        });
    }

    /// The process is killed and starts again.
    pub fn restart(&mut self) {
        self.sent.clear();
        self.returned.clear();
        self.storage.reopen().unwrap();
        self.shard = open(
            &self.storage,
            self.directory,
            &self.former,
            &self.home,
            (self.bounds, self.reads),
        );
        self.inbox = open_inbox(&self.storage, self.directory, &self.former);
        self.mono = Duration::ZERO;
    }

    /// The data directory is deleted.
    pub fn wipe(&mut self, directory: u64) {
        self.storage = MemoryStorage::new();
        self.directory = DirectoryId(directory);
        self.former.clear();
        self.restart();
    }

    pub fn lag(&self, region: &str) -> Lag {
        let mut lags = self.shard.shipper().lags();
        let region = Destination::Region(region.parse().unwrap());
        lags.find(|(to, _)| **to == region).unwrap().1
    }

    /// Rows that another node of the region has not taken.
    pub fn hints(&self, node: &str) -> u64 {
        let node = Destination::Replica(node.parse().unwrap());
        let mut lags = self.shard.shipper().lags();
        lags.find(|(to, _)| **to == node).unwrap().1.rows
    }

    /// Element rows that are committed here.
    pub fn rows(&self) -> usize {
        let mut rows = 0;
        let scanned = self.storage.scan(Family::Row, b"", None, &mut |_, _| {
            rows += 1;
            std::ops::ControlFlow::Continue(())
        });
        scanned.unwrap();
        rows
    }

    /// The text that is committed here under a key.
    pub fn storage_value(&self, key: &str) -> Option<String> {
        let view = Committed(&self.storage);
        match read(&view, key.as_bytes(), &Read::Get, self.wall_ms).unwrap() {
            Reply::Bulk(value) => Some(String::from_utf8(value.to_vec()).unwrap()),
            _ => None,
        }
    }

    pub fn get(&mut self, key: &str) -> Reply {
        self.read(key, Read::Get)
    }

    pub fn members(&mut self, key: &str) -> Vec<String> {
        let Reply::Set(items) = self.read(key, Read::Members) else {
            panic!("no set under {key}");
        };
        let mut members: Vec<String> = items.iter().map(text).collect();
        members.sort();
        members
    }
}

/// Opens the session on which `from` ships to `to`.
pub fn connect(from: &mut Region, to: &Region, session: u64) {
    let mut actors = vec![from.actor()];
    actors.extend(from.former.iter().map(|former| former.actor(0)));
    actors.extend(actors.clone().into_iter().map(relay_of));
    from.input(Input::SessionUp(Met {
        region: to.name.clone(),
        node: to.node.clone(),
        session: SessionId(session),
        directory: to.directory,
        held: to.inbox.held(&actors),
        shortage: to.inbox.shortage(),
    }));
}

/// Delivers everything on a session, both ways, until nothing is under way.
pub fn deliver(from: &mut Region, to: &mut Region, session: u64) {
    loop {
        let sent = take(&mut from.sent, session);
        let is_quiet = sent.is_empty();
        for message in sent {
            to.receive(SessionId(session), message);
            to.close();
        }
        let returned = take(&mut to.returned, session);
        if is_quiet && returned.is_empty() {
            return;
        }
        for message in returned {
            acknowledge(from, session, message);
        }
    }
}

/// An answer arrives at the node that dialled.
pub fn acknowledge(from: &mut Region, session: u64, message: Message) {
    from.input(Input::Acknowledged {
        session: SessionId(session),
        message,
    });
}

/// Connects and delivers.
pub fn ship(from: &mut Region, to: &mut Region, session: u64) {
    connect(from, to, session);
    deliver(from, to, session);
}

/// What was sent on a session.
pub fn take(messages: &mut Vec<(SessionId, Message)>, session: u64) -> Vec<Message> {
    let (mine, others): (Vec<_>, Vec<_>) = std::mem::take(messages)
        .into_iter()
        .partition(|(id, _)| id.0 == session);
    *messages = others;
    mine.into_iter().map(|(_, message)| message).collect()
}

/// A place in a cluster of these regions and their nodes, each with N replicas of everything. A region of no nodes has one.
pub fn home(region: &str, node: &str, others: &[(&str, &[&str])], replicas: u8) -> Home {
    let mut members: BTreeMap<RegionName, BTreeSet<NodeName>> = BTreeMap::new();
    let own: RegionName = region.parse().unwrap();
    members
        .entry(own.clone())
        .or_default()
        .insert(node.parse().unwrap());
    for (other, nodes) in others {
        let nodes = nodes.iter().map(|node| node.parse().unwrap());
        members
            .entry(other.parse().unwrap())
            .or_default()
            .extend(nodes);
    }
    let counts = members
        .keys()
        .map(|region| (region.clone(), if *region == own { replicas } else { 1 }))
        .collect();
    Home {
        region: own,
        node: node.parse().unwrap(),
        placement: Arc::new(Placement::new(members, &counts)),
        is_sloppy: false,
    }
}

/// The place of one of three replicas of a region that is alone.
pub fn place_of(index: usize) -> Home {
    let nodes = ["us-1", "us-2", "us-3"];
    home("us", nodes[index], &[("us", &nodes)], 3)
}

fn open_inbox(storage: &MemoryStorage, directory: DirectoryId, former: &[DirectoryId]) -> Inbox {
    let actors = former.iter().chain([&directory]).map(|id| id.actor(0));
    let logs = actors.flat_map(|actor| [actor, relay_of(actor)]);
    Inbox::open(storage, 1, logs, MAX_SKEW_MS).unwrap()
}

fn open(
    storage: &MemoryStorage,
    directory: DirectoryId,
    former: &[DirectoryId],
    home: &Home,
    (outbox, reads): (OutboxBounds, ReadBounds),
) -> Shard {
    let config = ShardConfig {
        index: 0,
        shards: 1,
        actor: directory.actor(0),
        former: former.iter().map(|former| former.actor(0)).collect(),
        home: home.clone(),
        timeout: Duration::from_secs(2),
        outbox,
        cache_bytes: 1 << 20,
        value_bytes_max: 1 << 20,
        reads,
        max_skew_ms: MAX_SKEW_MS,
        was_clean: false,
        entropy: 7,
    };
    Shard::open(storage, config).unwrap()
}

/// Two regions that ship to each other, `us` and `eu`.
pub fn pair() -> (Region, Region) {
    (Region::new("us", &["eu"], 1), Region::new("eu", &["us"], 2))
}

/// How many rows a region keeps for others.
pub fn outbox_rows(region: &Region) -> usize {
    let mut rows = 0;
    region
        .storage
        .scan(Family::Outbox, b"", None, &mut |_, _| {
            rows += 1;
            ControlFlow::Continue(())
        })
        .unwrap();
    rows
}

/// Lets the region do what it does once a second. Only its monotonic clock goes on: nobody's wall clock gets ahead.
pub fn maintain(region: &mut Region) {
    region.mono += Duration::from_millis(1001);
    region.close();
}

/// What the second has of the first.
pub fn position(of: &Region, at: &Region) -> Hlc {
    let held = at.inbox.held(&[of.actor()]);
    held.first().map_or(Hlc::ZERO, |held| held.taken)
}

/// A part was taken, and concerns nobody else.
pub fn whole() -> Done {
    Done {
        applied: Applied::Whole,
        place: None,
        taught: Vec::new(),
    }
}

pub fn bulk(text: &str) -> Reply {
    Reply::Bulk(Bytes::copy_from_slice(text.as_bytes()))
}

pub fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

pub fn text(reply: &Reply) -> String {
    let Reply::Bulk(bytes) = reply else {
        panic!("no bulk string: {reply:?}");
    };
    String::from_utf8(bytes.to_vec()).unwrap()
}

pub fn set(value: &str) -> Write {
    Write::Set {
        value: bytes(value),
        expiry: SetExpiry::Clear,
        condition: Condition::Always,
        return_old: false,
    }
}

pub fn incr(by: i64) -> Write {
    Write::IncrBy { by }
}

pub fn add(members: &[&str]) -> Write {
    Write::Add {
        members: members.iter().map(|member| bytes(member)).collect(),
    }
}

pub fn remove(members: &[&str]) -> Write {
    Write::Remove {
        members: members.iter().map(|member| bytes(member)).collect(),
    }
}
