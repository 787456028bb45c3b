//! The task that drives the gossip, and what comes of what it says.
//!
//! ```text
//!   peers ── datagrams ──▶ ┌────────┐ ── Send ──▶ a datagram on the session with that node, if there is one
//!   timer ── wake ───────▶ │ Gossip │ ── Met ───▶ dial it        Removed ──▶ no longer
//!   verbs ── forget ─────▶ └────────┘ ── Forgot ▶ remember it    Believed ──▶ log
//! ```
//! Datagrams travel on the sessions that exist: a node that is met through others is dialled first. One that is lost is made up for
//! by the next round.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use gossip::{
    ClockStanding, Directory, Event, Identity, Input, NodeId, Output, RefusalKind, Source,
    Standing, Target, Verdict,
};
use tokio::{sync::mpsc, task::spawn_blocking, time::sleep_until};

use super::{
    context::Node,
    drain::published_by,
    health,
    joining::Joining,
    membership::{FORGOTTEN, Membership, address_of, name_of, now},
    queue::Work,
    telling::{self, Told},
};
use crate::{
    core::{self, identity::DirectoryId},
    names::NodeName,
    peer::{Datagram, Peers, Recipient},
    storage::{
        Batch, Durability, Storage, StorageError,
        record::{forgotten, met::Met},
        rocks::RocksStorage,
    },
};

impl Membership {
    /// Says goodbye to everybody, so that nobody waits for suspicion.
    pub fn depart(&self, node: &Node) {
        let outputs = self.lock().depart(now(&self.clock));
        perform(node, outputs);
    }

    /// Forgets a node that will never return, here and everywhere. Gives its data directory, to be stored.
    pub fn forget(&self, node: &Node, name: &NodeId) -> Result<DirectoryId, gossip::ForgetError> {
        let (directory, outputs) = {
            let mut gossip = self.lock();
            let member = gossip.member(name).map(|member| member.identity.directory);
            let met = name_of(name).and_then(|name| node.inner().known.of(&name));
            let directory = member.or(met.map(|met| Directory(met.directory.0)));
            let directory = directory.ok_or_else(|| gossip::ForgetError::Unknown(name.clone()))?;
            let outputs = gossip.forget_remembered(name, directory, now(&self.clock))?;
            (directory, outputs)
        };
        perform(node, outputs);
        self.nudge.notify_one();
        Ok(DirectoryId(directory.0))
    }

    /// A session with a node opened: it is asked at once what it knows.
    pub fn reached(&self, node: &Node, name: &NodeName, address: &str) {
        let target = name
            .as_str()
            .parse()
            .and_then(|name| Ok((name, address_of(address)?)));
        let Ok((name, address)) = target else {
            return; // no name that gossip could use: it is met through nobody else either
        };
        let target = Target {
            node: Some(name),
            address,
        };
        let outputs = self.lock().handle(Input::Reached(target), now(&self.clock));
        perform(node, outputs);
        self.nudge.notify_one();
    }

    /// Is not ready until those whom the settings name have answered, or cannot be reached.
    fn join(&self, node: &Node, joining: &mut Joining) {
        if joining.reason().is_none() {
            return;
        }
        let peers = node.inner().outbound.peers();
        let links = peers.map(Peers::status).unwrap_or_default();
        joining.look(&links, |name| self.has_answered(name));
        match joining.reason() {
            Some(detail) => node.inner().health.fail(health::JOINING, detail),
            None => node.inner().health.mend(health::JOINING),
        }
    }

    /// Gossips until the other end of `datagrams` is dropped.
    pub async fn run(
        self: Arc<Self>,
        node: Node,
        mut datagrams: mpsc::Receiver<Datagram>,
        mut joining: Joining,
    ) {
        let mut is_skewed = false;
        let mut told = Told::default();
        let mut told_at = Instant::now();
        loop {
            let due = self.clock.instant(self.lock().next_wakeup());
            let mut is_news = false;
            let input = tokio::select! {
                biased;
                () = sleep_until(due.into()) => Input::Wake,
                () = self.nudge.notified() => {
                    is_news = true;
                    Input::Wake
                }
                datagram = datagrams.recv() => match datagram.map(received) {
                    Some(Some(input)) => input,
                    Some(None) => continue,
                    None => return,
                },
            };
            let outputs = self.lock().handle(input, now(&self.clock));
            is_news |= outputs
                .iter()
                .any(|output| matches!(output, Output::Event(_)));
            perform(&node, outputs);
            // Most datagrams say nothing new. What is no news of gossip's own, like a session that ended, is looked at from time to time.
            if !is_news && told_at.elapsed() < TELL_EVERY {
                continue;
            }
            told_at = Instant::now();
            telling::tell(&node, &self, &mut told);
            self.join(&node, &mut joining);
            is_skewed = self.judge_clock(&node, is_skewed);
        }
    }

    /// Follows a step of the wall clock once the others confirm it, and stops coordinating while they contradict it.
    fn judge_clock(&self, node: &Node, was_skewed: bool) -> bool {
        let standing = self.clock_standing();
        let detail = match standing {
            ClockStanding::Undecided => return was_skewed,
            ClockStanding::Agrees => {
                if let Some(ms) = self.clock.follow() {
                    tracing::warn!(
                        ms,
                        "the wall clock was set, and the other nodes' clocks confirm it: it is followed"
                    );
                }
                None
            }
            ClockStanding::Deviates { ahead_ms } => Some(format!(
                "the clock of this node is {} ms {} those of most nodes, clock.max_skew is {:?}: set it right (NTP)",
                ahead_ms.unsigned_abs(),
                if ahead_ms < 0 { "behind" } else { "ahead of" },
                self.max_skew
            )),
        };
        let is_skewed = detail.is_some();
        if is_skewed == was_skewed || !tell_shards(node, detail.as_ref()) {
            return was_skewed;
        }
        match detail {
            Some(detail) => {
                tracing::error!("{detail}; writes are refused until it is");
                node.inner().health.fail(health::CLOCK, detail);
            }
            None => {
                tracing::info!("the clock of this node agrees with the others: writes are taken");
                node.inner().health.mend(health::CLOCK);
            }
        }
        is_skewed
    }
}

/// Whether every shard knows why writes are refused, or that they are not.
fn tell_shards(node: &Node, detail: Option<&String>) -> bool {
    node.inner().shards.iter().all(|shard| {
        let told = shard.send(Work::Input(core::Input::ClockSkew(detail.cloned())));
        if let Err(error) = &told {
            tracing::warn!(%error, "a shard was not told about the clock; it is tried again");
        }
        told.is_ok()
    })
}

fn received(datagram: Datagram) -> Option<Input> {
    let address = address_of(&datagram.address).ok()?;
    let node = Some(datagram.from.as_str().parse().ok()?);
    let from = Source { address, node };
    Some(Input::Received {
        from,
        bytes: datagram.bytes,
    })
}

fn perform(node: &Node, outputs: Vec<Output>) {
    for output in outputs {
        match output {
            Output::Send { to, bytes } => send(node, &to, bytes),
            Output::Event(event) => happened(node, event),
        }
    }
}

/// A node without a session is being dialled; what is not sent now is made up for by a later round.
fn send(node: &Node, to: &Target, bytes: Bytes) {
    let Some(peers) = node.inner().outbound.peers() else {
        return;
    };
    let name = to.node.as_ref().and_then(name_of);
    let membership = node.inner().membership();
    let dialled = membership.and_then(|membership| membership.seeds.get(&to.address));
    let recipient = match &name {
        Some(name) => Recipient::Node(name),
        None => Recipient::Address(dialled.map_or(to.address.as_str(), String::as_str)),
    };
    if let Err(error) = peers.send_datagram(recipient, bytes) {
        tracing::trace!(to = %to.address, %error, "a gossip datagram was not sent");
    }
}

fn removed(node: &Node, name: &NodeId) {
    tracing::info!(node = %name, "a node is no longer known");
    if let (Some(peers), Some(name)) = (node.inner().outbound.peers(), name_of(name)) {
        peers.undial(&name, "it is no longer a member");
    }
}

fn happened(node: &Node, event: Event) {
    match event {
        Event::Met(identity) => met(node, &identity),
        Event::Believed(verdict) => believed(node, &verdict),
        Event::Published { node: name, keys } => {
            tracing::debug!(node = %name, ?keys, "a node published values");
            note_debts(node, &name);
        }
        Event::Forgot {
            node: name,
            directory,
        } => remember(node, &name, directory),
        Event::Removed(name) => removed(node, &name),
        Event::Refused(refused) => {
            tracing::warn!(node = ?refused.node, address = %refused.address, reason = %refused.refusal, "a node was refused as a member")
        }
        Event::RefusedBy { address, refusal } => {
            tracing::warn!(%address, reason = %refusal, "this node was refused as a member");
            if refusal.kind == RefusalKind::Forgotten {
                forgotten_here(node);
            }
        }
        Event::Renewed(generation) => {
            tracing::warn!(
                generation = generation.0,
                "others believed what this node had not said: it begins a new life"
            )
        }
        Event::NameContested(_) => {
            tracing::error!(node = %node.inner().name, "another process uses the name of this node, or did with a clock ahead: give one of them another name and certificate")
        }
        Event::Forgotten => forgotten_here(node),
        Event::Slept(pause) => {
            tracing::warn!(
                ?pause,
                "this process was stopped, or its clock jumped: nobody is suspected for it"
            )
        }
    }
}

/// Remembers what a node that goes has not delivered.
fn note_debts(node: &Node, name: &NodeId) {
    let Some(name) = name_of(name) else { return };
    if let Some(published) = published_by(node.inner(), &name) {
        node.inner().legacies.note(name, published);
    }
}

/// An operator had this node forgotten: nobody takes what it writes.
pub fn forgotten_here(node: &Node) {
    let detail = "an operator had this node forgotten: it needs a new data directory".to_owned();
    tracing::error!("{detail}");
    node.inner().health.fail(health::FORGOTTEN, detail);
}

fn met(node: &Node, identity: &Identity) {
    tracing::info!(node = %identity.node, region = %identity.region, address = %identity.address, "a node is known");
    let (Some(peers), Some(name)) = (node.inner().outbound.peers(), name_of(&identity.node)) else {
        return;
    };
    if let Ok(region) = identity.region.as_str().parse() {
        let met = Met {
            region,
            directory: DirectoryId(identity.directory.0),
            address: identity.address.to_string(),
            replaced: None, // as is known already
        };
        if !node.inner().known.meet(&name, met) {
            tracing::warn!(node = %name, "too many nodes are remembered: forget those that never return");
        }
    }
    if let Err(error) = peers.dial(&name, identity.address.as_str()) {
        tracing::warn!(node = %name, %error, "a node cannot be dialled");
    }
}

fn believed(node: &Node, verdict: &Verdict) {
    let Verdict {
        node: name,
        standing,
        cause,
        ..
    } = verdict;
    let phi = node
        .inner()
        .membership()
        .and_then(|membership| membership.lock().member(name).map(|member| member.phi));
    match standing {
        Standing::Suspect | Standing::Down => {
            tracing::warn!(node = %name, ?standing, ?cause, phi, "a node is silent")
        }
        Standing::Joining | Standing::Up | Standing::Leaving | Standing::Left => {
            tracing::info!(node = %name, ?standing, ?cause, "a node's standing changed");
            if let (Some(peers), Some(name)) = (node.inner().outbound.peers(), name_of(name)) {
                peers.give_sign(&name);
            }
        }
    }
}

/// Its data directory is refused from now on. Stored off the asynchronous workers. Should that fail, the others remember it.
fn remember(node: &Node, name: &NodeId, directory: Directory) {
    let Some(name) = name_of(name) else { return };
    if let Some(peers) = node.inner().outbound.peers() {
        peers.forget(DirectoryId(directory.0), FORGOTTEN);
    }
    let known = &node.inner().known;
    let is_it = |met: Met| met.directory == DirectoryId(directory.0);
    if known.of(&name).is_some_and(is_it) {
        known.forget(&name, DirectoryId(directory.0));
        if let Some(peers) = node.inner().outbound.peers() {
            // One that only an earlier life of this node met is no member here, and goes all the same.
            peers.undial(&name, FORGOTTEN);
        }
    }
    let storage = Arc::clone(&node.inner().storage);
    spawn_blocking(
        move || match store(&storage, &name, DirectoryId(directory.0)) {
            Ok(()) => tracing::info!(node = %name, "a node is forgotten"),
            Err(error) => {
                tracing::error!(node = %name, %error, "a node is forgotten, but that could not be stored: forget it again once storage works")
            }
        },
    );
}

/// Remembers a forgotten node for good. Blocks.
pub fn store(
    storage: &RocksStorage,
    node: &NodeName,
    directory: DirectoryId,
) -> Result<(), StorageError> {
    let mut batch = Batch::default();
    forgotten::store(&mut batch, node, directory);
    storage.commit(&batch, Durability::Power)
}

/// How often the shards are told what has changed, where gossip itself has no news. Each time costs a look at every node and session.
const TELL_EVERY: Duration = Duration::from_millis(200);
