//! Datagrams on their way: each leaves through its outlet when it is due, earliest first, ties in the
//! order in which they came.

use std::{
    cmp::{Ordering, Reverse},
    collections::BinaryHeap,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::{Buf, Bytes};
use quinn_udp::EcnCodepoint;

use super::{
    lane::{Lane, Run},
    pacer::Alarm,
    socket::{Socket, Train},
};

/// The line behind one receiving socket.
#[derive(Debug)]
pub(super) struct DelayLine {
    lane: Arc<Lane>,
    parcels: BinaryHeap<Reverse<Parcel>>,
    order: u64,
    runs: Vec<Run>,
    alarm: Alarm,
}

/// Where datagrams leave.
#[derive(Debug, Clone)]
pub(super) struct Outlet {
    pub socket: Arc<Socket>,
    pub to: SocketAddr,
}

impl DelayLine {
    /// An empty line whose datagrams `lane` judges.
    pub fn new(lane: Arc<Lane>, alarm: Alarm) -> Self {
        Self {
            lane,
            parcels: BinaryHeap::new(),
            order: 0,
            runs: Vec::new(),
            alarm,
        }
    }

    /// An empty line of the same pacer.
    pub fn another(&self, lane: Arc<Lane>) -> Self {
        Self::new(lane, self.alarm.another())
    }

    /// The lane that judges.
    pub fn lane(&self) -> &Lane {
        &self.lane
    }

    /// Judges a train and sends, keeps or drops each of its datagrams.
    pub fn enter(&mut self, train: Train<'_>, outlet: &Outlet) {
        let now = Instant::now();
        let mut runs = std::mem::take(&mut self.runs);
        self.lane
            .judge(now, train.bytes.len(), train.stride, &mut runs);
        for run in runs.drain(..) {
            let part = Train {
                bytes: &train.bytes[run.start..run.end],
                ..train
            };
            self.forward(part, now, run.delay, outlet);
        }
        self.runs = runs;
    }

    fn forward(&mut self, train: Train<'_>, now: Instant, delay: Duration, outlet: &Outlet) {
        let mut sent = 0;
        if delay.is_zero() && self.parcels.is_empty() {
            sent = self.send(train, outlet);
        }
        if sent < train.bytes.len() {
            self.keep(
                Train {
                    bytes: &train.bytes[sent..],
                    ..train
                },
                now + delay,
                outlet,
            );
        }
    }

    fn keep(&mut self, train: Train<'_>, due: Instant, outlet: &Outlet) {
        if !self.lane.reserve(train.bytes.len()) {
            self.lane
                .counters()
                .queue_full
                .add(datagrams(train.bytes.len(), train.stride));
            return;
        }
        let parcel = Parcel {
            due,
            order: self.order,
            contents: Bytes::copy_from_slice(train.bytes),
            stride: train.stride,
            ecn: train.ecn,
            outlet: outlet.clone(),
        };
        self.order += 1;
        self.parcels.push(Reverse(parcel));
    }

    /// Sends what is due and sets the alarm for what is due next.
    pub fn flush(&mut self) {
        if self.parcels.is_empty() {
            return;
        }
        let cut = self.lane.is_cut();
        let now = Instant::now();
        let mut next = None;
        while let Some(Reverse(parcel)) = self.parcels.pop() {
            if parcel.due > now {
                next = Some(parcel.due);
                self.parcels.push(Reverse(parcel));
                break;
            }
            if let Some(rest) = self.deliver(parcel, cut) {
                next = Some(now + RETRY);
                self.parcels.push(Reverse(rest));
                break;
            }
        }
        self.alarm.set(next);
    }

    /// Sends a parcel, or drops it where the link was cut meanwhile; what the socket does not take comes back.
    fn deliver(&self, mut parcel: Parcel, cut: bool) -> Option<Parcel> {
        let bytes = parcel.contents.len();
        if cut {
            self.lane
                .counters()
                .cut
                .add(datagrams(bytes, parcel.stride));
            self.lane.release(bytes);
            return None;
        }
        let sent = self.send(parcel.train(), &parcel.outlet);
        self.lane.release(sent);
        parcel.contents.advance(sent);
        parcel.contents.has_remaining().then_some(parcel)
    }

    /// Bytes that need no further care: sent, or refused for good.
    fn send(&self, train: Train<'_>, outlet: &Outlet) -> usize {
        match outlet.socket.send(train, outlet.to) {
            Ok(sent) => {
                self.lane
                    .counters()
                    .passed
                    .add(datagrams(sent, train.stride));
                sent
            }
            // Nobody listens there any more. Datagrams to a dead host vanish.
            Err(_) => {
                self.lane
                    .counters()
                    .unsent
                    .add(datagrams(train.bytes.len(), train.stride));
                train.bytes.len()
            }
        }
    }

    /// Waits until something is due.
    pub async fn due(&mut self) {
        self.alarm.rings().await;
    }
}

impl Drop for DelayLine {
    fn drop(&mut self) {
        let waiting = self
            .parcels
            .iter()
            .map(|Reverse(parcel)| parcel.contents.len())
            .sum();
        self.lane.release(waiting);
    }
}

#[derive(Debug)]
struct Parcel {
    due: Instant,
    order: u64,
    contents: Bytes,
    stride: usize,
    ecn: Option<EcnCodepoint>,
    outlet: Outlet,
}

impl Parcel {
    fn train(&self) -> Train<'_> {
        Train {
            from: self.outlet.to,
            bytes: &self.contents,
            stride: self.stride,
            ecn: self.ecn,
        }
    }

    fn key(&self) -> (Instant, u64) {
        (self.due, self.order)
    }
}

impl PartialEq for Parcel {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for Parcel {}

impl PartialOrd for Parcel {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Parcel {
    fn cmp(&self, other: &Self) -> Ordering {
        self.key().cmp(&other.key())
    }
}

fn datagrams(bytes: usize, stride: usize) -> usize {
    bytes.div_ceil(stride.max(1))
}

/// How soon a full socket is tried again.
const RETRY: Duration = Duration::from_millis(1);
