//! Whom this node dials: what its configuration lists, and nodes that come and go while it runs.
//!
//! A target is one dialler's, from its start to its end. A node's name is on one target at most; a move to another
//! address is told to the target's dialler, so the number of diallers is bounded however often nodes move.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
};

use quinn::ClientConfig;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::{
    PeerTarget, StartError, course::Course, endpoint::client_config, limits::TARGETS_MAX, lock,
};
use crate::{names::NodeName, tls::Credentials};

/// A peer to dial, ready to be.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) expect: Option<NodeName>,
    pub(super) course: Arc<Course>,
    pub(super) config: ClientConfig,
    pub(super) server_name: String,
    /// One of [`TARGETS_MAX`], taken until the dialler has ended.
    _seat: OwnedSemaphorePermit,
}

/// The targets by name, and the way to new diallers.
#[derive(Debug)]
pub(super) struct Targets {
    named: Mutex<BTreeMap<NodeName, Named>>,
    seats: Arc<Semaphore>,
    added: mpsc::Sender<Target>,
}

#[derive(Debug)]
struct Named {
    course: Arc<Course>,
    /// Then nothing but the configuration changes it.
    is_configured: bool,
}

impl Targets {
    /// None yet; those that are added while the node runs are received at the other end.
    pub(super) fn new() -> (Self, mpsc::Receiver<Target>) {
        // Whatever is in the channel has a seat, so it is never full.
        let (added, received) = mpsc::channel(TARGETS_MAX);
        let targets = Self {
            named: Mutex::default(),
            seats: Arc::new(Semaphore::new(TARGETS_MAX)),
            added,
        };
        (targets, received)
    }

    /// Checks the targets of the configuration against each other and sets up how each is dialled. An address that is
    /// listed twice counts once.
    pub(super) fn configure(
        &self,
        credentials: &Credentials,
        listed: Vec<PeerTarget>,
    ) -> Result<Vec<Target>, StartError> {
        let mut seeds = BTreeSet::new();
        let mut named = lock(&self.named);
        let mut targets = Vec::new();
        for PeerTarget { address, expect } in listed {
            if let Some(name) = &expect {
                refuse_itself(credentials, name)?;
                if named.contains_key(name) {
                    return Err(StartError::Target {
                        name: name.clone(),
                        problem: "is listed twice",
                    });
                }
            } else if !seeds.insert(address.clone()) {
                continue;
            }
            let target = self.target(credentials, &address, expect)?;
            named.extend(target.entry(true));
            targets.push(target);
        }
        Ok(targets)
    }

    /// Somebody has heard of a node: if it is waited for, it is dialled at once.
    pub(super) fn give_sign(&self, node: &NodeName) {
        if let Some(known) = lock(&self.named).get(node) {
            known.course.give_sign();
        }
    }

    /// Adds a node, or moves it to another address. A node of the configuration stays as it is.
    pub(super) fn dial(
        &self,
        credentials: &Credentials,
        node: &NodeName,
        address: &str,
    ) -> Result<(), StartError> {
        refuse_itself(credentials, node)?;
        let mut named = lock(&self.named);
        if let Some(known) = named.get(node) {
            if !known.is_configured {
                known.course.redirect(address);
            }
            return Ok(());
        }
        let target = self.target(credentials, address, Some(node.clone()))?;
        let entry = target.entry(false);
        // Fails only once nobody starts diallers any more: the node stops.
        if self.added.try_send(target).is_ok() {
            named.extend(entry);
        }
        Ok(())
    }

    /// Takes a node away that was added; false if there is none.
    pub(super) fn undial(&self, node: &NodeName, reason: &str) -> bool {
        let mut named = lock(&self.named);
        if named.get(node).is_none_or(|known| known.is_configured) {
            return false;
        }
        if let Some(known) = named.remove(node) {
            known.course.stop(reason);
        }
        true
    }

    /// Whether the configuration says at which address the node is dialled.
    pub(super) fn is_configured(&self, node: &NodeName) -> bool {
        lock(&self.named)
            .get(node)
            .is_some_and(|known| known.is_configured)
    }

    fn target(
        &self,
        credentials: &Credentials,
        address: &str,
        expect: Option<NodeName>,
    ) -> Result<Target, StartError> {
        let seat = self.seats.clone().try_acquire_owned();
        let seat = seat.map_err(|_| StartError::TooManyTargets {
            address: address.to_owned(),
        })?;
        Ok(Target {
            config: client_config(credentials, expect.as_ref())?,
            server_name: credentials.server_name(expect.as_ref())?,
            course: Arc::new(Course::new(address)),
            expect,
            _seat: seat,
        })
    }
}

impl Target {
    fn entry(&self, is_configured: bool) -> Option<(NodeName, Named)> {
        let course = self.course.clone();
        let named = Named {
            course,
            is_configured,
        };
        self.expect.clone().map(|name| (name, named))
    }
}

fn refuse_itself(credentials: &Credentials, name: &NodeName) -> Result<(), StartError> {
    if name == credentials.node() {
        return Err(StartError::Target {
            name: name.clone(),
            problem: "is this node itself",
        });
    }
    Ok(())
}
