//! The task of a session: what two nodes say to each other between their greeting and their goodbye.

use std::{
    sync::{Arc, OnceLock, atomic::Ordering},
    time::{Duration, Instant},
};

use bytes::Bytes;
use quinn::Connection;
use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{self, Interval, MissedTickBehavior, interval_at, sleep, timeout, timeout_at},
};
use tracing::{info, warn};

use super::{
    Datagram, Direction, Event, Recollection, Refused, WallClock,
    close::End,
    handshake::Greeted,
    heartbeat::Verdict,
    limits::{
        CONTROL_BYTES_MAX, DATAGRAM_BYTES_MAX, DRAIN_MAX, FRAME_BYTES_MAX, HEARTBEAT,
        HEARTBEAT_ACCEPTED, SILENCE_MAX, WRITE_BYTES,
    },
    lock,
    path::{Grown, Path},
    refusal::{CLOSE_BYE, CLOSE_INTERNAL, CLOSE_PATH, CLOSE_SILENT, Refusal, printable},
    session::{Session, goodbye},
    shared::Shared,
    stream::{FrameReader, FrameWriter, StreamError},
    wire::{Control, STREAM_MESSAGES, decode_control, decode_message, encode_control},
};
use crate::metrics::PEER_DATAGRAMS_DROPPED_TOTAL;

/// Runs a session that the roster has admitted, from `Up` to `Down`. Returns why it ended.
pub(super) async fn run(
    shared: &Shared,
    session: &Arc<Session>,
    greeted: Greeted,
    recollection: Recollection,
) -> End {
    info!(session = session.id.0, peer = %session.peer.name, region = %session.peer.region, address = %session.address,
        direction = ?session.direction, "peer is up");
    let Greeted {
        connection,
        mut reader,
        mut writer,
        ..
    } = greeted;
    // Set here and nowhere else, and a session runs once.
    let _first = session.connection.set(connection.clone());
    reader.go_on(CONTROL_BYTES_MAX, session.received.clone());
    writer.go_on(session.sent.clone());
    let (pongs, pongs_due) = mpsc::channel(PONGS_MAX);
    let mut tasks = JoinSet::new();
    tasks.spawn(beat(
        session.clone(),
        shared.clock.clone(),
        writer,
        pongs_due,
    ));
    tasks.spawn(write_messages(session.clone(), connection.clone()));
    let mut taking = JoinSet::new();
    taking.spawn(take_datagrams(
        session.clone(),
        connection.clone(),
        shared.datagrams.clone(),
    ));
    // Owned here and not by `listen` and `deliver`, so that they outlive the connection, which `finish` closes. A reader that
    // is dropped before that tells the peer that nobody reads its stream any more, and if this comes there ahead of
    // the close, the peer says that a stream was given up, and not why.
    let mut messages = None;
    let found = tokio::select! { biased;
        end = session.ending.ended() => end,
        end = say_goodbye(session, &connection) => end,
        end = listen(shared, session, &mut reader, pongs) => end,
        end = deliver(shared, session, &connection, &mut messages, recollection) => end,
        end = outgrow(session, &connection) => end,
        end = broken(&mut tasks) => end,
    };
    let end = finish(shared, session, &connection, found).await;
    tasks.shutdown().await;
    // Not cut off: a goodbye may be among the datagrams that came before the end.
    while let Some(taken) = taking.join_next().await {
        if let Err(error) = taken {
            shared.failed(&format!("a task panicked: {error}")).await;
        }
    }
    end
}

/// Everyone learns of the end: tasks, senders, the peer, the log, the driver. Returns why the session ended.
async fn finish(shared: &Shared, session: &Session, connection: &Connection, found: End) -> End {
    session.queue.close();
    // Said in any case: a fault is one even in a session that was about to end.
    let fault = (found.code == CLOSE_INTERNAL).then(|| found.reason.clone());
    // What was found is not the reason if this node was asked to close: the peer answers a goodbye by closing the
    // connection, and any branch of `run` may notice that first. Polling `say_goodbye` before the others does not make it
    // the one that does, since the connection may close just after it was polled. So `Ending` decides, which knows what was
    // asked, and log, status page and driver all say that; otherwise they would blame the peer for this node's own close.
    let end = session.ending.end(found);
    shared.roster.remove(session.id);
    if let Some((by, refusal)) = connection.close_reason().as_ref().and_then(Refusal::behind) {
        let (direction, address, name) = (
            session.direction,
            session.address,
            Some(session.peer.name.clone()),
        );
        shared.refused(Refused {
            by,
            direction,
            address,
            name,
            refusal,
            times: 1,
        });
    }
    connection.close(end.code, end.reason.as_bytes());
    log_end(session, &end);
    if let Some(fault) = fault {
        shared.failed(&fault).await;
    }
    if session.announced.load(Ordering::Relaxed) {
        let (session, peer, reason) = (session.id, session.peer.name.clone(), end.reason.clone());
        shared
            .emit(Event::Down {
                session,
                peer,
                reason,
            })
            .await;
    }
    end
}

fn log_end(session: &Session, end: &End) {
    let (id, peer, reason) = (session.id.0, &session.peer.name, &end.reason);
    if end.code == CLOSE_BYE || end.code == CLOSE_PATH {
        info!(session = id, %peer, address = %session.address, direction = ?session.direction, "peer is down: {reason}");
    } else {
        warn!(session = id, %peer, address = %session.address, direction = ?session.direction, "session closed: {reason}");
    }
}

/// When asked to close: the writers say what is left and goodbye, the peer reads that and closes, or takes too long.
async fn say_goodbye(session: &Session, connection: &Connection) -> End {
    let end = session.ending.closing().await;
    if timeout(DRAIN_MAX, connection.closed()).await.is_err() {
        info!(session = session.id.0, peer = %session.peer.name, "the peer did not answer a goodbye in time");
    }
    end
}

/// Reads the control stream, answers pings, and notices silence. Not held up by messages that nobody takes.
async fn listen(
    shared: &Shared,
    session: &Session,
    reader: &mut FrameReader,
    pongs: mpsc::Sender<Control>,
) -> End {
    loop {
        let deadline = lock(&session.pulse).deadline();
        match timeout_at(deadline.into(), reader.next()).await {
            Ok(Ok(Some(bytes))) => match heard(shared, session, &bytes, &pongs) {
                Ok(None) => {}
                Ok(Some(end)) => {
                    // Its messages come on another stream: `deliver` ends the session when it has read them.
                    sleep(DRAIN_MAX).await;
                    return end;
                }
                Err(error) => return error.into_end(),
            },
            Ok(Ok(None)) => {
                return StreamError::Violation("the control stream ended without a goodbye")
                    .into_end();
            }
            Ok(Err(error)) => return error.into_end(),
            Err(_) => match lock(&session.pulse).judge(deadline, Instant::now()) {
                Verdict::Wait(_) => {}
                Verdict::Silent => {
                    return End::new(
                        CLOSE_SILENT,
                        format!("nothing was heard for {SILENCE_MAX:?}"),
                    );
                }
            },
        }
    }
}

/// Takes one control letter; an end, if it is a goodbye.
fn heard(
    shared: &Shared,
    session: &Session,
    bytes: &[u8],
    pongs: &mpsc::Sender<Control>,
) -> Result<Option<End>, StreamError> {
    session.hear();
    match decode_control(session.version, bytes)? {
        Control::Ping { sequence, sent_us } => {
            // Full only while we cannot write: then the peer has our silence to judge by, and an answer would be late anyway.
            let _full = pongs.try_send(Control::Pong {
                sequence,
                sent_us,
                at_us: shared.clock.now_us(),
            });
            Ok(None)
        }
        Control::Pong {
            sequence,
            sent_us,
            at_us,
        } => {
            let wall_us = shared.clock.now_us();
            lock(&session.pulse).pong(sequence, sent_us, at_us, Instant::now(), wall_us);
            Ok(None)
        }
        Control::Bye { reason } => {
            let reason = printable(reason.as_bytes());
            session.queue.close();
            session.goodbye.send_replace(Some(reason.clone()));
            Ok(Some(goodbye(&reason)))
        }
    }
}

/// Hands the peer's messages on, in order. While nobody takes events, the stream is not read, and the peer has to wait.
async fn deliver(
    shared: &Shared,
    session: &Session,
    connection: &Connection,
    messages: &mut Option<FrameReader>,
    recollection: Recollection,
) -> End {
    let (id, direction, peer) = (session.id, session.direction, session.peer.clone());
    if !shared
        .emit(Event::Up {
            session: id,
            direction,
            peer,
            recollection,
        })
        .await
    {
        return End::new(CLOSE_BYE, super::STOPPING);
    }
    session.announced.store(true, Ordering::Relaxed);
    match read_messages(shared, session, connection, messages).await {
        Ok(()) => session.goodbye().await.unwrap_or_else(|| {
            StreamError::Violation("the messages ended without a goodbye").into_end()
        }),
        Err(error) => error.into_end(),
    }
}

/// Returns when the peer has said all, or nobody takes events any more.
async fn read_messages(
    shared: &Shared,
    session: &Session,
    connection: &Connection,
    messages: &mut Option<FrameReader>,
) -> Result<(), StreamError> {
    let stream = connection.accept_uni().await?;
    let reader = messages.insert(FrameReader::new(stream, FRAME_BYTES_MAX));
    if reader.first().await? != STREAM_MESSAGES {
        return Err(StreamError::Violation(
            "a stream of a kind that is not known here",
        ));
    }
    reader.go_on(FRAME_BYTES_MAX, session.received.clone());
    while let Some(bytes) = reader.next().await? {
        session.hear();
        let message = decode_message(session.version, &bytes)?;
        if !shared
            .emit(Event::Message {
                session: session.id,
                message,
            })
            .await
        {
            session.close(super::STOPPING);
            return Ok(());
        }
    }
    Ok(())
}

/// Ends the session once its path has become too long for its connection. Only the side that dialled does, since it is the one that ships.
async fn outgrow(session: &Session, connection: &Connection) -> End {
    if session.direction == Direction::Accepted {
        return std::future::pending().await;
    }
    let mut path = Path::default();
    let mut samples = together(HEARTBEAT);
    loop {
        samples.tick().await;
        let Some(answer) = session.reading().answer else {
            continue;
        };
        if let Some(Grown { from, to }) = path.sample(connection.rtt(), answer) {
            let reason = format!("the round trip has grown from {from:?} to {to:?}: opened again");
            return End::new(CLOSE_PATH, reason);
        }
    }
}

/// The side that dialled asks for signs of life, and each side hears the other by that: the accepter the questions, the dialler their
/// answers. The accepter asks now and then only, for the round trip and the clock.
fn heartbeat_of(direction: Direction) -> Duration {
    match direction {
        Direction::Dialled => HEARTBEAT,
        Direction::Accepted => HEARTBEAT_ACCEPTED,
    }
}

/// Ticks that fall together with those of all sessions of this process: the thread wakes once for all of them.
fn together(every: Duration) -> Interval {
    static FIRST: OnceLock<time::Instant> = OnceLock::new();
    let now = time::Instant::now();
    let passed = now.duration_since(*FIRST.get_or_init(|| now)).as_nanos() % every.as_nanos();
    let left = every - Duration::from_nanos(passed as u64);
    let mut ticks = interval_at(now + left, every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    ticks
}

/// Writes heartbeats and answers, and at the end a goodbye.
async fn beat(
    session: Arc<Session>,
    clock: Arc<dyn WallClock>,
    mut writer: FrameWriter,
    mut pongs: mpsc::Receiver<Control>,
) -> Result<(), StreamError> {
    let ping = || Control::Ping {
        sequence: lock(&session.pulse).ping(Instant::now()),
        sent_us: clock.now_us(),
    };
    // At once: the round trip is to be known.
    let mut letter = ping();
    let mut beats = together(heartbeat_of(session.direction));
    loop {
        writer
            .write(&[encode_control(session.version, &letter)])
            .await?;
        if matches!(letter, Control::Bye { .. }) {
            return writer.finish();
        }
        letter = tokio::select! { biased;
            end = session.ending.closing() => Control::Bye { reason: end.reason },
            Some(pong) = pongs.recv() => pong,
            _ = beats.tick() => ping(),
        };
    }
}

/// Writes what is queued, many messages at a time, until the queue is closed and empty.
async fn write_messages(session: Arc<Session>, connection: Connection) -> Result<(), StreamError> {
    let mut writer = FrameWriter::new(connection.open_uni().await?);
    writer.go_on(session.sent.clone());
    // At once, and not with the first message: the peer waits for the stream.
    writer.write_raw(vec![STREAM_MESSAGES]).await?;
    while let Some(batch) = session.queue.take(WRITE_BYTES).await {
        writer.write(&batch.messages).await?;
        session.queue.release(batch);
    }
    writer.finish()
}

/// Waits for a task to fail. Those that are done, the writers after a goodbye, are no failure.
async fn broken(tasks: &mut JoinSet<Result<(), StreamError>>) -> End {
    while let Some(done) = tasks.join_next().await {
        match done {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return error.into_end(),
            Err(error) => {
                return End::new(CLOSE_INTERNAL, format!("a fault of this program: {error}"));
            }
        }
    }
    std::future::pending().await
}

/// Hands the peer's datagrams on until the connection is closed, and those that had come by then. What nobody takes in time is dropped:
/// it is not worth waiting for.
async fn take_datagrams(
    session: Arc<Session>,
    connection: Connection,
    sink: mpsc::Sender<Datagram>,
) {
    // At the connection's end the streams are lost too, and they say so.
    while let Ok(bytes) = connection.read_datagram().await {
        session.hear_datagram(bytes.len());
        if bytes.len() > DATAGRAM_BYTES_MAX {
            dropped("large");
        } else if sink
            .try_send(received(&session, &connection, bytes))
            .is_err()
        {
            dropped("full");
        }
        // A flood is read a piece at a time, so that other tasks get their turn.
        tokio::task::coop::consume_budget().await;
    }
}

fn received(session: &Session, connection: &Connection, bytes: Bytes) -> Datagram {
    // Without a target the peer dialled, and its path may have moved since.
    let address = session
        .target
        .clone()
        .unwrap_or_else(|| connection.remote_address().to_string());
    Datagram {
        from: session.peer.name.clone(),
        address,
        bytes,
    }
}

fn dropped(reason: &'static str) {
    metrics::counter!(PEER_DATAGRAMS_DROPPED_TOTAL, "reason" => reason).increment(1);
}

/// Answers to pings that wait to be written.
const PONGS_MAX: usize = 8;
