//! A UDP relay: what one node dials instead of another, so that a link's faults can be played to
//! processes that know nothing of it.
//!
//! ```text
//!   us-1 ──────► listener ──[ lane us-1→eu-1 ]──► upstream socket ──────► eu-1
//!        ◄────── listener ◄─[ lane eu-1→us-1 ]─── upstream socket ◄──────
//! ```
//!
//! A node dials every other, so a pair of nodes has two relays, one for what each of them dials; both
//! share the pair's two lanes. Each client address is a flow with an upstream socket of its own, and
//! answers leave through the listener, because a QUIC client takes them from the address it dialled only.
//! Flows are bounded in number and end when idle; a client that comes back gets a new one, which to
//! the node looks like a client that changed its port. Empty datagrams are not relayed; QUIC has none.

mod delay_line;
mod lane;
mod pacer;
mod socket;

use std::{
    collections::HashMap,
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use quinn_udp::EcnCodepoint;
use tokio::{
    sync::watch,
    task::{AbortHandle, JoinHandle, JoinSet},
    time::{Interval, MissedTickBehavior},
};

use self::{
    delay_line::{DelayLine, Outlet},
    socket::{Socket, Train},
};

pub use self::{
    lane::{Lane, Tally},
    pacer::Pacer,
};

/// A relay in front of one node for one other. Dropping it closes its sockets.
#[derive(Debug)]
pub struct Relay {
    local: SocketAddr,
    target: watch::Sender<Option<SocketAddr>>,
    listener: JoinHandle<()>,
}

/// The bounds of a relay.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Flows kept at a time. A node dials from one port, so a handful serves; datagrams of further
    /// clients are dropped until a flow is idle.
    pub flows: usize,
    /// A flow without a datagram for this long ends. It must outlast the connections' own idle timeout.
    pub idle: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            flows: 64,
            idle: Duration::from_secs(60),
        }
    }
}

impl Relay {
    /// Binds a relay on loopback whose clients' datagrams `there` judges and whose answers `back` does.
    /// It drops everything until it has a target. Call it inside a tokio runtime.
    ///
    /// # Errors
    /// If the system has no port or descriptor left.
    pub fn bind(
        there: Arc<Lane>,
        back: Arc<Lane>,
        pacer: &Pacer,
        bounds: Bounds,
    ) -> io::Result<Self> {
        let socket = Arc::new(Socket::bind()?);
        let local = socket.local();
        let (target, target_changes) = watch::channel(None);
        let listener = Listener {
            socket,
            line: DelayLine::new(there, pacer.alarm()),
            back,
            flows: Flows::new(bounds),
            target: target_changes,
        };
        Ok(Self {
            local,
            target,
            listener: tokio::spawn(listener.run()),
        })
    }

    /// What clients dial.
    pub fn local(&self) -> SocketAddr {
        self.local
    }

    /// Relays to `target` from now on. Flows to another target end.
    pub fn set_target(&self, target: SocketAddr) {
        self.target
            .send_if_modified(|current| current.replace(target) != Some(target));
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.listener.abort();
    }
}

/// The task behind the socket that clients dial. It owns the flows.
struct Listener {
    socket: Arc<Socket>,
    line: DelayLine,
    back: Arc<Lane>,
    flows: Flows,
    target: watch::Receiver<Option<SocketAddr>>,
}

enum Wake {
    Readable(io::Result<()>),
    Due,
    NewTarget,
    Sweep,
    Closed,
}

impl Listener {
    async fn run(mut self) {
        loop {
            let failed = match self.wake().await {
                Wake::Readable(Ok(())) => self.take_in().await.err(),
                Wake::Readable(Err(e)) => Some(e),
                Wake::Due => None,
                Wake::NewTarget => {
                    self.flows.clear();
                    None
                }
                Wake::Sweep => {
                    self.flows.sweep();
                    None
                }
                Wake::Closed => return,
            };
            self.line.flush();
            rest_after(failed).await;
        }
    }

    async fn wake(&mut self) -> Wake {
        tokio::select! {
            biased;
            () = self.line.due() => Wake::Due,
            changed = self.target.changed() => if changed.is_ok() { Wake::NewTarget } else { Wake::Closed },
            _ = self.flows.sweep_due.tick() => Wake::Sweep,
            readable = self.socket.readable() => Wake::Readable(readable),
        }
    }

    async fn take_in(&mut self) -> io::Result<()> {
        let mut strangers = Vec::new();
        for _ in 0..ROUNDS {
            let (flows, line) = (&self.flows, &mut self.line);
            let more = self
                .socket
                .receive(|train| match flows.outlet(train.from) {
                    Some(outlet) => line.enter(train, outlet),
                    None => strangers.push(Stranger::new(train)),
                })?;
            for stranger in strangers.drain(..) {
                self.welcome(stranger).await?;
            }
            if !more {
                break;
            }
        }
        Ok(())
    }

    /// Opens a flow for a client that has none, if there is a target and room.
    async fn welcome(&mut self, stranger: Stranger) -> io::Result<()> {
        let target = *self.target.borrow();
        if self.flows.outlet(stranger.from).is_none() {
            let Some(target) = target.filter(|_| self.flows.has_room()) else {
                self.line.lane().counters().unsent.add(1);
                return Ok(());
            };
            let upstream = Arc::new(Socket::connected(target).await?);
            let answers = Outlet {
                socket: self.socket.clone(),
                to: stranger.from,
            };
            let line = self.line.another(self.back.clone());
            self.flows.open(
                Outlet {
                    socket: upstream,
                    to: target,
                },
                answers,
                line,
            );
        }
        if let Some(outlet) = self.flows.outlet(stranger.from) {
            self.line.enter(stranger.train(), outlet);
        }
        Ok(())
    }
}

/// A train whose sender has no flow yet, out of the receive buffer.
struct Stranger {
    from: SocketAddr,
    bytes: Vec<u8>,
    stride: usize,
    ecn: Option<EcnCodepoint>,
}

impl Stranger {
    fn new(train: Train<'_>) -> Self {
        Self {
            from: train.from,
            bytes: train.bytes.to_vec(),
            stride: train.stride,
            ecn: train.ecn,
        }
    }

    fn train(&self) -> Train<'_> {
        Train {
            from: self.from,
            bytes: &self.bytes,
            stride: self.stride,
            ecn: self.ecn,
        }
    }
}

/// The flows of a relay, by client.
struct Flows {
    bounds: Bounds,
    open: HashMap<SocketAddr, Flow>,
    tasks: JoinSet<()>,
    sweep_due: Interval,
    clock: Clock,
}

struct Flow {
    upstream: Outlet,
    used: Arc<AtomicU64>,
    task: AbortHandle,
}

impl Flows {
    fn new(bounds: Bounds) -> Self {
        let mut sweep_due = tokio::time::interval((bounds.idle / 4).max(Duration::from_millis(1)));
        sweep_due.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            bounds,
            open: HashMap::new(),
            tasks: JoinSet::new(),
            sweep_due,
            clock: Clock(Instant::now()),
        }
    }

    /// The way to the target for a client that has a flow, which is used by asking.
    fn outlet(&self, client: SocketAddr) -> Option<&Outlet> {
        let flow = self.open.get(&client)?;
        flow.used.store(self.clock.now_ms(), Ordering::Relaxed);
        Some(&flow.upstream)
    }

    fn has_room(&self) -> bool {
        self.open.len() < self.bounds.flows
    }

    fn open(&mut self, upstream: Outlet, answers: Outlet, line: DelayLine) {
        let used = Arc::new(AtomicU64::new(self.clock.now_ms()));
        let client = answers.to;
        let backflow = Backflow {
            socket: upstream.socket.clone(),
            answers,
            line,
            used: used.clone(),
            clock: self.clock,
        };
        let task = self.tasks.spawn(backflow.run());
        self.open.insert(
            client,
            Flow {
                upstream,
                used,
                task,
            },
        );
    }

    /// Ends the flows that were idle for too long.
    fn sweep(&mut self) {
        let oldest_ms = self
            .clock
            .now_ms()
            .saturating_sub(self.bounds.idle.as_millis() as u64);
        self.open.retain(|_, flow| {
            let alive = flow.used.load(Ordering::Relaxed) >= oldest_ms;
            if !alive {
                flow.task.abort();
            }
            alive
        });
        while self.tasks.try_join_next().is_some() {}
    }

    fn clear(&mut self) {
        self.open.clear();
        self.tasks.abort_all();
        while self.tasks.try_join_next().is_some() {}
    }
}

/// The task behind an upstream socket: answers on their way to the client.
struct Backflow {
    socket: Arc<Socket>,
    answers: Outlet,
    line: DelayLine,
    used: Arc<AtomicU64>,
    clock: Clock,
}

impl Backflow {
    async fn run(mut self) {
        loop {
            let readable = tokio::select! {
                biased;
                () = self.line.due() => None,
                readable = self.socket.readable() => Some(readable),
            };
            let failed = readable.and_then(|readable| readable.and_then(|()| self.take_in()).err());
            self.line.flush();
            rest_after(failed).await;
        }
    }

    fn take_in(&mut self) -> io::Result<()> {
        self.used.store(self.clock.now_ms(), Ordering::Relaxed);
        for _ in 0..ROUNDS {
            let (line, answers) = (&mut self.line, &self.answers);
            if !self.socket.receive(|train| line.enter(train, answers))? {
                break;
            }
        }
        Ok(())
    }
}

#[derive(Debug, Clone, Copy)]
struct Clock(Instant);

impl Clock {
    fn now_ms(self) -> u64 {
        self.0.elapsed().as_millis() as u64
    }
}

/// A socket that fails is tried again, but not in a tight loop.
async fn rest_after(failed: Option<io::Error>) {
    if let Some(e) = failed {
        tracing::warn!(error = %e, "relay socket failed, trying again");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Receive calls in a row before what is due gets its turn.
const ROUNDS: usize = 4;

#[cfg(test)]
mod tests;
