//! A conversation over a stream: bytes in, bytes out.
//!
//! ```text
//!            ┌────────────── stop ─────────────┐
//!            v                                  │
//!   wait ── event ── received ── round ── next ─┴─ input: read and write
//!    ^        ├───── sent                        ├─ round: write what goes, then another round
//!    └────────┴───── stuck: close                ├─ room:  write; read, but carry out nothing
//!                                                └─ close: write the rest, then close
//! ```
//!
//! Waiting returns an event and nothing else; the work happens outside it, so nothing is dropped half done. While replies
//! are unread, requests are still carried out, up to the limit; beyond it the client has to read first. Its requests are taken in
//! meanwhile, up to a limit as well: most clients send a whole pipeline before they read, and would wait for the node to read while
//! it waits for them to.

use std::{future::poll_fn, io, pin::pin, sync::Arc, task::Poll, time::Duration};

use bytes::{Buf, BytesMut};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    select,
    sync::watch,
    task::yield_now,
    time::{Instant, sleep_until, timeout},
};

use super::{
    backend::Backend,
    client_session::{ClientSession, Next},
    limits::{FAREWELL, READ_BYTES, READ_KEPT_MAX},
    output::Output,
    server_state::ServerState,
    session::Session,
};

/// Why a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// The client closed it, or asked for it.
    Client,
    /// The client broke the protocol.
    Broken,
    /// The client did not read its replies.
    Stuck,
    /// The node stops.
    Stopped,
}

/// One client's connection.
#[derive(Debug)]
pub(super) struct Connection<S, B> {
    stream: S,
    input: BytesMut,
    conversation: ClientSession<B>,
    lobby: Arc<ServerState>,
    /// Whether something was sent since the stream was last flushed.
    unflushed: bool,
    /// Whether the client has sent all that it will.
    has_ended: bool,
    /// When the client last took a byte, or room first ran out.
    progress: Instant,
}

#[derive(Debug)]
enum Event {
    Received(usize),
    Sent(usize),
    /// Nothing to wait for: the buffer may hold more requests.
    Again,
    Stuck,
    Stop,
}

impl<S, B> Connection<S, B>
where
    S: AsyncRead + AsyncWrite + Unpin,
    B: Backend,
{
    pub(super) fn new(stream: S, backend: B, lobby: Arc<ServerState>, session: Session) -> Self {
        Self {
            stream,
            input: BytesMut::with_capacity(READ_BYTES),
            conversation: ClientSession::new(backend, Arc::clone(&lobby), session),
            lobby,
            unflushed: false,
            has_ended: false,
            progress: Instant::now(),
        }
    }

    /// Serves the client until it leaves, breaks the protocol, gets stuck, or the node stops.
    pub(super) async fn run(mut self, mut stop: watch::Receiver<bool>) -> io::Result<Ending> {
        let ending = self.serve(&mut stop).await?;
        match ending {
            Ending::Stuck => {}
            Ending::Client | Ending::Stopped => self.say_goodbye().await?,
            Ending::Broken => {
                self.say_goodbye().await?;
                self.linger().await;
            }
        }
        Ok(ending)
    }

    async fn serve(&mut self, stop: &mut watch::Receiver<bool>) -> io::Result<Ending> {
        let mut next = Next::Input;
        loop {
            next = match self.event(next, stop).await? {
                Event::Received(bytes) => self.received(bytes, next).await,
                Event::Sent(bytes) => self.sent(bytes, next).await,
                Event::Again => {
                    // Other connections of this worker get their turn between long rounds.
                    yield_now().await;
                    self.round().await
                }
                Event::Stuck => return Ok(Ending::Stuck),
                Event::Stop => return Ok(self.finish(next).await),
            };
            if next == Next::Input && self.has_ended {
                next = Next::Close;
            }
            match next {
                Next::Close if !self.conversation.output().has_remaining() => {
                    return Ok(Ending::Client);
                }
                Next::CloseBroken => return Ok(Ending::Broken),
                Next::Input | Next::Round | Next::Room | Next::Close => {}
            }
        }
    }

    /// Waits for one thing to happen.
    async fn event(&mut self, next: Next, stop: &mut watch::Receiver<bool>) -> io::Result<Event> {
        let lacks = self.conversation.lacks(self.input.len());
        let reads = match next {
            Next::Input => true,
            // A client that ends while its replies wait is answered all the same.
            Next::Room => !self.has_ended && self.input.len() < self.lobby.limits.command_bytes,
            Next::Round | Next::Close | Next::CloseBroken => false,
        };
        if reads {
            make_room(&mut self.input, lacks);
        }
        let waits_for_client = matches!(next, Next::Room | Next::Close);
        let stuck_at = waits_for_client.then(|| self.progress + self.lobby.limits.stuck_after);
        let mut wire = Wire {
            stream: &mut self.stream,
            input: &mut self.input,
            output: self.conversation.output(),
            unflushed: &mut self.unflushed,
        };
        select! {
            biased;
            // An error means that whoever could ask for the end is gone, which is the end as well.
            _ = stop.wait_for(|stop| *stop) => Ok(Event::Stop),
            event = wire.event(reads, next == Next::Round) => event,
            () = moment(stuck_at) => Ok(Event::Stuck),
        }
    }

    async fn received(&mut self, bytes: usize, next: Next) -> Next {
        self.lobby.traffic.add_received(bytes);
        if bytes == 0 {
            self.has_ended = true;
            // From here on it only has to read.
            self.progress = Instant::now();
            return next;
        }
        match next {
            Next::Room => next,
            Next::Input | Next::Round | Next::Close | Next::CloseBroken => self.round().await,
        }
    }

    async fn sent(&mut self, bytes: usize, next: Next) -> Next {
        self.lobby.traffic.add_sent(bytes);
        self.progress = Instant::now();
        if next == Next::Room && !self.conversation.is_full() {
            return self.round().await;
        }
        next
    }

    async fn round(&mut self) -> Next {
        let next = self.conversation.round(&mut self.input).await;
        self.progress = Instant::now();
        let lacks = self.conversation.lacks(self.input.len());
        give_back(&mut self.input, lacks);
        next
    }

    /// Carries out the requests that are here already. What a client has not been answered, it must assume undone.
    async fn finish(&mut self, mut next: Next) -> Ending {
        while next == Next::Round {
            next = self.round().await;
        }
        Ending::Stopped
    }

    /// Sends the replies that are left and ends this side of the stream.
    async fn say_goodbye(&mut self) -> io::Result<()> {
        let output = self.conversation.output();
        let left = output.remaining();
        let farewell = async {
            self.stream.write_all_buf(output).await?;
            self.stream.flush().await?;
            self.stream.shutdown().await
        };
        match timeout(FAREWELL, farewell).await {
            Ok(sent) => sent?,
            Err(_) => return Err(io::ErrorKind::TimedOut.into()),
        }
        self.lobby.traffic.add_sent(left);
        Ok(())
    }

    /// Reads on for a moment and drops it: a socket that is closed with unread input is reset, and the
    /// reset can overtake the error that says what was wrong.
    async fn linger(&mut self) {
        let mut left = LINGER_BYTES;
        let drained = async {
            while left > 0 {
                self.input.clear();
                self.input.reserve(READ_BYTES);
                match self.stream.read_buf(&mut self.input).await {
                    Ok(bytes) if bytes > 0 => left = left.saturating_sub(bytes),
                    _ => return,
                }
            }
        };
        // Whether the client stopped by itself makes no difference.
        let _ = timeout(LINGER, drained).await;
    }
}

/// The stream with the buffers on both sides of it.
struct Wire<'a, S> {
    stream: &'a mut S,
    input: &'a mut BytesMut,
    output: &'a mut Output,
    unflushed: &'a mut bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<'_, S> {
    /// The first thing that happens: sending goes before receiving. Nothing is lost when this is dropped.
    async fn event(&mut self, reads: bool, goes_on: bool) -> io::Result<Event> {
        poll_fn(|context| {
            if self.output.has_remaining() {
                let write = pin!(self.stream.write_buf(self.output));
                if let Poll::Ready(sent) = write.poll(context) {
                    *self.unflushed = true;
                    return Poll::Ready(sent.and_then(some_sent));
                }
            } else if *self.unflushed {
                let flush = pin!(self.stream.flush());
                if let Poll::Ready(flushed) = flush.poll(context) {
                    *self.unflushed = false;
                    if let Err(error) = flushed {
                        return Poll::Ready(Err(error));
                    }
                }
            }
            if goes_on {
                return Poll::Ready(Ok(Event::Again));
            }
            if !reads {
                return Poll::Pending;
            }
            let read = pin!(self.stream.read_buf(self.input));
            read.poll(context).map_ok(Event::Received)
        })
        .await
    }
}

fn some_sent(bytes: usize) -> io::Result<Event> {
    match bytes {
        0 => Err(io::ErrorKind::WriteZero.into()),
        bytes => Ok(Event::Sent(bytes)),
    }
}

async fn moment(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// Makes room to read into. A large argument grows the buffer as it comes in, to twice what is there at
/// most: a header alone reserves nothing.
fn make_room(input: &mut BytesMut, lacks: usize) {
    let spare = input.capacity() - input.len();
    if spare < READ_BYTES / 2 {
        input.reserve(READ_BYTES.max(lacks.min(input.len())));
    }
}

/// Gives a buffer back that a large argument made grow, once it is not needed any more.
fn give_back(input: &mut BytesMut, lacks: usize) {
    if lacks == 0 && input.capacity() > READ_KEPT_MAX && input.len() <= READ_BYTES {
        let mut smaller = BytesMut::with_capacity(READ_BYTES);
        smaller.extend_from_slice(input);
        *input = smaller;
    }
}

/// How long a broken connection is read on, and how much of it.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES: usize = 4 << 20;
