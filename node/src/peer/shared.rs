//! What every task of this layer shares.

use std::{sync::Arc, time::Instant};

use tokio::sync::{mpsc, watch};
use tracing::error;

use super::{
    Datagram, Event, Identity, Memory, Refused, WallClock, refusal_log::Journal, roster::Roster,
    target::Targets, wire::NodeInfo,
};
use crate::{names::RegionName, tls::Credentials};

/// What [`Shared`] is made of.
pub(super) struct Parts {
    pub(super) credentials: Credentials,
    pub(super) region: RegionName,
    pub(super) identity: watch::Receiver<Identity>,
    pub(super) clock: Arc<dyn WallClock>,
    pub(super) memory: Arc<dyn Memory>,
    pub(super) events: mpsc::Sender<Event>,
    pub(super) datagrams: mpsc::Sender<Datagram>,
    pub(super) targets: Targets,
}

pub(super) struct Shared {
    pub(super) credentials: Credentials,
    pub(super) clock: Arc<dyn WallClock>,
    pub(super) memory: Arc<dyn Memory>,
    pub(super) targets: Targets,
    /// Where datagrams of peers go.
    pub(super) datagrams: mpsc::Sender<Datagram>,
    pub(super) roster: Arc<Roster>,
    pub(super) journal: Journal,
    pub(super) identity: watch::Receiver<Identity>,
    region: RegionName,
    /// Drawn anew for every process: see [`NodeInfo::instance`].
    instance: u64,
    events: mpsc::Sender<Event>,
    stop: watch::Sender<bool>,
}

impl Shared {
    pub(super) fn new(parts: Parts) -> Self {
        let Parts {
            credentials,
            region,
            identity,
            clock,
            memory,
            events,
            datagrams,
            targets,
        } = parts;
        Self {
            credentials,
            clock,
            memory,
            targets,
            datagrams,
            identity,
            region,
            events,
            roster: Arc::default(),
            journal: Journal::default(),
            instance: rand::random(),
            stop: watch::Sender::new(false),
        }
    }

    /// Who this node says it is, now.
    pub(super) fn card(&self) -> NodeInfo {
        let Identity {
            directory,
            former,
            actors,
        } = self.identity.borrow().clone();
        NodeInfo {
            cluster: self.credentials.cluster().clone(),
            node: self.credentials.node().clone(),
            region: self.region.clone(),
            directory,
            former,
            instance: self.instance,
            actors,
        }
    }

    /// Whether a card that was shown is still true.
    pub(super) fn is_current(&self, card: &NodeInfo) -> bool {
        let identity = self.identity.borrow();
        identity.directory == card.directory
            && identity.former == card.former
            && identity.actors == card.actors
    }

    /// Hands an event to the driver; waits while its queue is full. False when nobody takes events any more.
    pub(super) async fn emit(&self, event: Event) -> bool {
        self.events.send(event).await.is_ok()
    }

    /// A task panicked: this program is at fault, and the node should not go on as if nothing had happened.
    pub(super) async fn failed(&self, reason: &str) {
        error!("a fault in the peer layer: {reason}");
        self.emit(Event::Failed {
            reason: reason.to_owned(),
        })
        .await;
    }

    /// A refusal for the log, the metrics and the status page.
    pub(super) fn refused(&self, refused: Refused) {
        self.journal.refused(refused, Instant::now());
        self.roster.change();
    }

    /// Ends everything, politely.
    pub(super) fn stop(&self) {
        self.stop.send_replace(true);
        self.roster.close_all(super::STOPPING, true);
    }

    pub(super) fn is_stopping(&self) -> bool {
        *self.stop.borrow()
    }

    /// Waits for the stop.
    pub(super) async fn stopped(&self) {
        let mut stop = self.stop.subscribe();
        // An error would say that the sender is gone, but it is borrowed here.
        let _stopped = stop.wait_for(|stop| *stop).await;
    }
}
