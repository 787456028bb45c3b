//! A connection's commands and replies, without its stream: requests are taken from a buffer, replies go to a queue.
//!
//! A *round* takes what is in the buffer, within bounds. Three rules keep it right:
//!
//! - Replies leave in the order of their commands. Once one has to wait, all later ones queue behind it.
//! - A read is answered at once only while nothing of the round waits. Once a read had to go to the disk, later
//!   reads go with it, so that none sees an older state than the one before it; once a write is planned, later reads go to
//!   the shards behind it, so that a connection reads what it wrote.
//! - What waits is *settled* together: reads first, then, with one submission, everything from the first write on.

use std::{mem, sync::Arc, time::Instant};

use bytes::{Buf, BytesMut};

use super::{
    aggregate::Aggregate,
    args::Args,
    backend::Backend,
    commands::{Context, Source},
    error,
    levels::{Call, Levels},
    limits::{ROUND_COMMANDS_MAX, ROUND_VALUES_MAX},
    meter::{Outcome, Tally},
    output::Output,
    parser::{Parser, ProtocolError, Request},
    plan::{Ops, Plan},
    server_state::ServerState,
    session::Session,
    table::{CommandIndex, Rejected},
    transaction::Admitted,
    writer::{self, Protocol},
};
use crate::core::{op::Op, profile::Visits, reply::Reply};

/// What a round ended for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// The buffer holds no complete request.
    Input,
    /// The round was long enough; the buffer may hold more.
    Round,
    /// There are more unread replies than allowed.
    Room,
    /// The client asked for the end.
    Close,
    /// The client sent something that is not the protocol.
    CloseBroken,
}

/// One connection, without its stream.
#[derive(Debug)]
pub(super) struct ClientSession<B> {
    backend: B,
    lobby: Arc<ServerState>,
    session: Session,
    parser: Parser,
    output: Output,
    waiting: Waiting,
    long_list: Option<LongList>,
    tally: Tally,
}

/// The commands of the round whose replies are not there yet.
#[derive(Debug, Default)]
struct Waiting {
    slots: Vec<Slot>,
    /// Reads before the first write.
    reads: Vec<Op>,
    /// Everything from the first write on.
    writes: Vec<Op>,
    /// How many of them yield values.
    values: usize,
}

/// The place of one reply.
#[derive(Debug)]
struct Slot {
    command: CommandIndex,
    /// The version in which the reply is written: a HELLO changes that of its own and of later replies.
    protocol: Protocol,
    from: From,
}

/// Where the reply comes from.
#[derive(Debug)]
enum From {
    Ready(Reply),
    Rejected(Reply),
    Reads(usize, Aggregate),
    Writes(usize, Aggregate),
}

/// An MGET whose values are read and written part by part, as the client takes them.
#[derive(Debug)]
struct LongList {
    ops: std::vec::IntoIter<Op>,
    command: CommandIndex,
    protocol: Protocol,
}

/// What the buffer gave.
enum Ack {
    Nothing,
    Broken(ProtocolError),
    /// A client that speaks another protocol.
    Stranger,
    Rejected(Rejected),
    /// The end of a transaction that was refused.
    Discarded,
    Planned {
        command: CommandIndex,
        levels: Levels,
        plan: Plan,
    },
}

impl<B: Backend> ClientSession<B> {
    pub(super) fn new(backend: B, lobby: Arc<ServerState>, session: Session) -> Self {
        let parser = Parser::new(&lobby.limits);
        Self {
            backend,
            lobby,
            session,
            parser,
            output: Output::default(),
            waiting: Waiting::default(),
            long_list: None,
            tally: Tally::default(),
        }
    }

    /// The replies that are to be written.
    pub(super) fn output(&mut self) -> &mut Output {
        &mut self.output
    }

    /// Whether there are more unread replies than allowed.
    pub(super) fn is_full(&self) -> bool {
        self.output.remaining() >= self.lobby.limits.output_bytes
    }

    /// How many bytes the argument that is being received still lacks.
    pub(super) fn lacks(&self, buffered: usize) -> usize {
        self.parser.lacks(buffered)
    }

    /// Carries out what `input` holds. When it returns, every command that it took has its reply in the output,
    /// except an MGET that waits for room.
    pub(super) async fn round(&mut self, input: &mut BytesMut) -> Next {
        let began = Instant::now();
        let next = self.work(input).await;
        self.settle().await;
        let now = Instant::now();
        self.session.client.touch(now);
        let took = now.saturating_duration_since(began);
        self.lobby.meters.settle(&mut self.tally, took);
        next
    }

    async fn work(&mut self, input: &mut BytesMut) -> Next {
        self.continue_long_list().await;
        for _ in 0..ROUND_COMMANDS_MAX {
            if self.long_list.is_some() || self.is_full() {
                return Next::Room;
            }
            match self.take(input) {
                Ack::Nothing => return Next::Input,
                Ack::Broken(error) => {
                    let reply = Reply::Error(error.refusal());
                    self.place(CommandIndex::UNKNOWN, From::Rejected(reply));
                    return Next::CloseBroken;
                }
                Ack::Rejected(Rejected { index, refusal }) => {
                    self.place(index, From::Rejected(Reply::Error(refusal)));
                }
                Ack::Discarded => self.place(CommandIndex::UNKNOWN, From::Ready(Reply::Ok)),
                Ack::Stranger => return Next::Close,
                Ack::Planned {
                    command,
                    plan: Plan::Close(reply),
                    ..
                } => {
                    if let Some(reply) = reply {
                        self.place(command, From::Ready(reply));
                    }
                    return Next::Close;
                }
                Ack::Planned {
                    command,
                    levels,
                    plan,
                } => self.carry_out(command, levels, plan).await,
            }
        }
        Next::Round
    }

    /// Takes the next request off the buffer and plans it.
    fn take(&mut self, input: &mut BytesMut) -> Ack {
        let args = match self.parser.next(input) {
            Ok(Some(Request::Command(args))) => args,
            Ok(Some(Request::TooLarge(refusal))) => {
                let index = CommandIndex::UNKNOWN;
                return Ack::Rejected(Rejected { index, refusal });
            }
            Ok(None) => return Ack::Nothing,
            Err(error) => return Ack::Broken(error),
        };
        let call = match self.session.transaction.admit(args) {
            Ok(Admitted::Run) => Call::of(args, self.session.levels),
            Ok(Admitted::Discarded) => return Ack::Discarded,
            Err(rejected) => Err(rejected),
        };
        let call = match call {
            Ok(call) => call,
            Err(_) if is_http(args) => return Ack::Stranger,
            Err(rejected) => return Ack::Rejected(rejected),
        };
        let Call {
            found,
            args,
            levels,
        } = call;
        self.session.client.begin(found.index);
        let mut context = Context {
            session: &mut self.session,
            lobby: &self.lobby,
            source: &self.backend,
            command: found.command,
        };
        let planned = (found.command.run)(&mut context, args);
        let plan = planned.unwrap_or_else(|refusal| Plan::Reply(Reply::Error(refusal)));
        Ack::Planned {
            command: found.index,
            levels,
            plan: plan.at(levels),
        }
    }

    async fn carry_out(&mut self, command: CommandIndex, levels: Levels, plan: Plan) {
        match plan {
            Plan::Reply(reply) => self.place(command, From::Ready(reply)),
            Plan::Read(ops, join) => self.read(command, ops, join).await,
            Plan::Write(ops, join) => self.write(command, ops, join).await,
            Plan::Errand(errand) => {
                self.settle().await;
                // Boxed: errands are rare, and would make every connection's task larger.
                let errand = Box::pin(errand.run(&self.backend, &self.lobby, levels));
                let reply = errand.await;
                self.place(command, From::Ready(reply));
            }
            Plan::Close(reply) => {
                debug_assert!(false, "closing is not carried out but ends a round");
                self.place(command, From::Ready(reply.unwrap_or(Reply::Nil)));
            }
        }
    }

    async fn read(&mut self, command: CommandIndex, ops: Ops, join: Aggregate) {
        let mut visits = ops.as_slice().iter().map(|op| op.profile().visits);
        if !self.waiting.writes.is_empty() && visits.any(Visits::are_many) {
            self.settle().await;
        }
        if matches!(join, Aggregate::List) && ops.len() > ROUND_VALUES_MAX {
            return self.begin_long_list(command, ops).await;
        }
        if self.waiting.slots.is_empty()
            && let Some(reply) = self.read_inline(&ops, &join)
        {
            return self.place(command, From::Ready(reply));
        }
        self.make_room_for_values(&ops).await;
        let count = ops.len();
        if self.waiting.writes.is_empty() {
            ops.append_to(&mut self.waiting.reads);
            self.place(command, From::Reads(count, join));
        } else {
            ops.append_to(&mut self.waiting.writes);
            self.place(command, From::Writes(count, join));
        }
    }

    /// Answers a read from memory, if it can be.
    fn read_inline(&self, ops: &Ops, join: &Aggregate) -> Option<Reply> {
        match ops {
            Ops::One(op) => Some(join.of_one(self.backend.try_read(op)?)),
            Ops::Many(ops) => {
                let replies = ops.iter().map(|op| self.backend.try_read(op));
                let replies = replies.collect::<Option<Vec<_>>>()?;
                Some(join.of(ops.len(), &mut replies.into_iter()))
            }
        }
    }

    async fn write(&mut self, command: CommandIndex, ops: Ops, join: Aggregate) {
        self.make_room_for_values(&ops).await;
        let count = ops.len();
        ops.append_to(&mut self.waiting.writes);
        self.place(command, From::Writes(count, join));
    }

    /// Settles what waits if more values than a round may hold would wait with these.
    async fn make_room_for_values(&mut self, ops: &Ops) {
        let values = ops
            .as_slice()
            .iter()
            .filter(|op| op.profile().yields_values)
            .count();
        if values > 0 && self.waiting.values + values > ROUND_VALUES_MAX {
            self.settle().await;
        }
        self.waiting.values += values;
    }

    async fn begin_long_list(&mut self, command: CommandIndex, ops: Ops) {
        self.settle().await;
        let Ops::Many(ops) = ops else {
            debug_assert!(false, "one is not many");
            return;
        };
        writer::array_header(&mut self.output, ops.len());
        self.long_list = Some(LongList {
            ops: ops.into_iter(),
            command,
            protocol: self.session.protocol,
        });
        self.continue_long_list().await;
    }

    /// Reads and writes more of a long list, as long as there is room.
    async fn continue_long_list(&mut self) {
        while let Some(mut list) = self.long_list.take() {
            let ops: Vec<Op> = list.ops.by_ref().take(ROUND_VALUES_MAX).collect();
            if ops.is_empty() {
                return self.tally.count(list.command, Outcome::Ok);
            }
            let count = ops.len();
            let mut replies = self.read_now(ops).await.into_iter();
            for _ in 0..count {
                let reply = replies.next();
                let reply = reply.unwrap_or_else(|| Reply::Error(error::no_reply()));
                writer::write(&mut self.output, reply, list.protocol);
            }
            self.long_list = Some(list);
            if self.is_full() {
                return;
            }
        }
    }

    async fn read_now(&self, ops: Vec<Op>) -> Vec<Reply> {
        let inline: Option<Vec<Reply>> = ops.iter().map(|op| self.backend.try_read(op)).collect();
        match inline {
            Some(replies) => replies,
            None => self.backend.read(ops).await,
        }
    }

    /// Writes a reply that is there, if nothing waits before it; else it queues.
    fn place(&mut self, command: CommandIndex, from: From) {
        let protocol = self.session.protocol;
        match from {
            From::Ready(reply) if self.waiting.slots.is_empty() => {
                let outcome = Outcome::of(&reply);
                self.emit(command, outcome, reply, protocol);
            }
            From::Rejected(reply) if self.waiting.slots.is_empty() => {
                self.emit(command, Outcome::Rejected, reply, protocol);
            }
            from => self.waiting.slots.push(Slot {
                command,
                protocol,
                from,
            }),
        }
    }

    fn emit(&mut self, command: CommandIndex, outcome: Outcome, reply: Reply, protocol: Protocol) {
        self.tally.count(command, outcome);
        writer::write(&mut self.output, reply, protocol);
    }

    /// Carries out everything that waits and writes the replies.
    async fn settle(&mut self) {
        if self.waiting.slots.is_empty() {
            return;
        }
        let Waiting {
            slots,
            reads,
            writes,
            values: _,
        } = mem::take(&mut self.waiting);
        let reads = match reads.is_empty() {
            true => Vec::new(),
            false => self.backend.read(reads).await,
        };
        let writes = match writes.is_empty() {
            true => Vec::new(),
            false => self.backend.submit(writes).await,
        };
        let (mut reads, mut writes) = (reads.into_iter(), writes.into_iter());
        for slot in slots {
            let (outcome, reply) = match slot.from {
                From::Rejected(reply) => (Outcome::Rejected, reply),
                From::Ready(reply) => (Outcome::of(&reply), reply),
                From::Reads(count, join) => of_joined(join.of(count, &mut reads)),
                From::Writes(count, join) => of_joined(join.of(count, &mut writes)),
            };
            self.emit(slot.command, outcome, reply, slot.protocol);
        }
    }
}

fn of_joined(reply: Reply) -> (Outcome, Reply) {
    (Outcome::of(&reply), reply)
}

impl<B: Backend> Source for B {
    fn wall_us(&self) -> u64 {
        Backend::wall_us(self)
    }

    fn entropy(&self) -> u64 {
        Backend::entropy(self)
    }
}

/// Whether this is the beginning of an HTTP request: a web page was tricked into talking to this port, and what follows
/// may be commands. Redis closes such connections without a word.
fn is_http(args: Args<'_>) -> bool {
    args.is(0, "post") || args.is(0, "host:")
}
