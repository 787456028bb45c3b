//! Peers that this node dials: one task per target, so that one that is away holds up nobody.

use std::{collections::BTreeSet, net::SocketAddr, sync::Arc, time::Instant};

use quinn::{ClientConfig, Connection, Endpoint};
use rand::{SeedableRng, rngs::StdRng};
use tokio::{
    net::lookup_host,
    time::{sleep, timeout},
};
use tracing::info;

use super::{
    Direction, LinkState, PeerTarget, Refusal, RefusalKind, Refuser, StartError,
    backoff::Backoff,
    endpoint::client_config,
    greeting::{self, GreetingError, within},
    limits::{ATTEMPT_MAX, LIVED},
    link::Line,
    roster::Claim,
    session,
    shared::Shared,
};
use crate::{names::NodeName, tls::Credentials};

/// A peer to dial, ready to be.
pub(super) struct Target {
    address: String,
    expect: Option<NodeName>,
    config: ClientConfig,
    server_name: String,
}

impl Target {
    pub(super) fn expected(&self) -> Option<NodeName> {
        self.expect.clone()
    }
}

/// Checks the targets against each other and sets up how each is dialled. An address that is listed twice counts once.
pub(super) fn targets(
    credentials: &Credentials,
    listed: Vec<PeerTarget>,
) -> Result<Vec<Target>, StartError> {
    let (mut names, mut seeds) = (BTreeSet::new(), BTreeSet::new());
    let mut targets = Vec::new();
    for PeerTarget { address, expect } in listed {
        match &expect {
            Some(name) if name == credentials.node() => {
                return Err(StartError::Target {
                    name: name.clone(),
                    problem: "is this node itself",
                });
            }
            Some(name) if !names.insert(name.clone()) => {
                return Err(StartError::Target {
                    name: name.clone(),
                    problem: "is listed twice",
                });
            }
            None if !seeds.insert(address.clone()) => continue,
            Some(_) | None => {}
        }
        let config = client_config(credentials, expect.as_ref())?;
        let server_name = credentials.server_name(expect.as_ref())?;
        targets.push(Target {
            address,
            expect,
            config,
            server_name,
        });
    }
    Ok(targets)
}

/// Dials a target again and again, until the node stops or the target turns out to be none.
pub(super) async fn run(shared: Arc<Shared>, endpoint: Endpoint, target: Target) {
    let line = shared
        .roster
        .add_line(Line::new(target.address.clone(), target.expect.clone()));
    let dialler = Dialler {
        shared,
        endpoint,
        target,
        line,
    };
    let mut backoff = Backoff::new();
    let mut random = StdRng::from_os_rng();
    let mut attempts = 0_usize;
    while !dialler.shared.is_stopping() {
        let outcome = dialler.once(attempts).await;
        attempts = attempts.wrapping_add(1);
        match outcome {
            Outcome::Lived => backoff.reset(),
            Outcome::Failed => {}
            Outcome::Spare(name) => {
                dialler
                    .or_stop(dialler.shared.roster.unclaimed(&name))
                    .await
            }
            Outcome::Dropped => return,
        }
        dialler.or_stop(sleep(backoff.pause(&mut random))).await;
    }
}

struct Dialler {
    shared: Arc<Shared>,
    endpoint: Endpoint,
    target: Target,
    line: usize,
}

/// How an attempt and the session that it led to went.
enum Outcome {
    /// There was a session for a while.
    Lived,
    /// There was none, or not for long.
    Failed,
    /// Another target leads to this node.
    Spare(NodeName),
    /// Nothing is to be dialled here.
    Dropped,
}

/// A connection to the right node, with the right to greet it.
struct Reached {
    connection: Connection,
    name: NodeName,
    claim: Claim,
}

impl Dialler {
    /// One attempt, and the session if it succeeds.
    async fn once(&self, attempt: usize) -> Outcome {
        self.shared.roster.line(self.line, Line::connecting);
        let reached = tokio::select! { biased;
            () = self.shared.stopped() => return Outcome::Failed,
            reached = timeout(ATTEMPT_MAX, self.reach(attempt)) => reached,
        };
        match reached {
            Ok(Ok(reached)) => self.converse(reached).await,
            Ok(Err(outcome)) => outcome,
            Err(_) => self.unreachable(&format!("no answer within {ATTEMPT_MAX:?}")),
        }
    }

    /// Connects, and finds out whether this is a node to greet.
    async fn reach(&self, attempt: usize) -> Result<Reached, Outcome> {
        let address = self
            .resolve(attempt)
            .await
            .map_err(|text| self.unreachable(&text))?;
        let (config, name) = (self.target.config.clone(), &self.target.server_name);
        let connecting = self
            .endpoint
            .connect_with(config, address, name)
            .map_err(|error| self.unreachable(&error.to_string()))?;
        let connection = connecting
            .await
            .map_err(|error| self.failed(address, None, &error.into()))?;
        let name = match &self.target.expect {
            Some(name) => name.clone(),
            None => greeting::certified_name(&self.shared, &connection)
                .map_err(|error| self.give_up(&connection, None, &error))?,
        };
        let claim = self.claim(&connection, &name)?;
        Ok(Reached {
            connection,
            name,
            claim,
        })
    }

    /// One of the target's addresses, another one each time.
    async fn resolve(&self, attempt: usize) -> Result<SocketAddr, String> {
        let from = self
            .endpoint
            .local_addr()
            .map_err(|error| error.to_string())?;
        let found = lookup_host(&self.target.address)
            .await
            .map_err(|error| error.to_string())?;
        let fitting: Vec<SocketAddr> = found
            .filter(|address| address.is_ipv4() || from.is_ipv6())
            .collect();
        match fitting.len() {
            0 => Err("it has no address that listen.quic can reach (IPv4 or IPv6)".to_owned()),
            count => Ok(fitting[attempt % count]),
        }
    }

    /// A seed that leads to a node which is dialled by name, or by another seed, is not needed.
    fn claim(&self, connection: &Connection, name: &NodeName) -> Result<Claim, Outcome> {
        let by_name = self.target.expect.is_none() && self.shared.named.contains(name);
        let claim = if by_name {
            None
        } else {
            self.shared.roster.claim(name)
        };
        claim.ok_or_else(|| {
            let text = format!("node '{name}' is dialled at another address already");
            let refusal = Refusal::new(RefusalKind::Redundant, text.clone());
            connection.close(refusal.close_code(), refusal.text.as_bytes());
            if by_name {
                return self.drop_target(&text);
            }
            self.without(LinkState::Spare, text, None);
            Outcome::Spare(name.clone())
        })
    }

    /// Greets, and runs the session to its end.
    async fn converse(&self, reached: Reached) -> Outcome {
        let Reached {
            connection,
            name,
            claim,
        } = reached;
        let greeted = tokio::select! { biased;
            () = self.shared.stopped() => Err(GreetingError::Failed(super::STOPPING.to_owned())),
            greeted = within(greeting::dial(&self.shared, &connection, &name)) => greeted,
        };
        let admitted = greeted.and_then(|(greeted, held)| {
            let session = greeting::admit(&self.shared, &greeted, Direction::Dialled)?;
            Ok((session, greeted, held))
        });
        let outcome = match admitted {
            Ok((session, greeted, held)) => {
                self.shared.roster.line(self.line, |line| line.up(&session));
                let began = Instant::now();
                let end = session::run(&self.shared, &session, greeted, held).await;
                self.shared
                    .roster
                    .line(self.line, |line| line.down(&session, end.reason));
                if began.elapsed() >= LIVED {
                    Outcome::Lived
                } else {
                    Outcome::Failed
                }
            }
            Err(error) => self.give_up(&connection, Some(&name), &error),
        };
        drop(claim);
        outcome
    }

    fn give_up(
        &self,
        connection: &Connection,
        name: Option<&NodeName>,
        error: &GreetingError,
    ) -> Outcome {
        if let GreetingError::Refused(Refuser::Local, refusal) = error {
            connection.close(refusal.close_code(), refusal.text.as_bytes());
        } else {
            connection.close(super::CLOSE_BYE, b"");
        }
        self.failed(connection.remote_address(), name, error)
    }

    fn failed(
        &self,
        address: SocketAddr,
        name: Option<&NodeName>,
        error: &GreetingError,
    ) -> Outcome {
        let (by, refusal) = match error {
            GreetingError::Failed(text) => return self.unreachable(text),
            GreetingError::Refused(by, refusal) => (*by, refusal),
        };
        greeting::record(&self.shared, address, Direction::Dialled, name, by, refusal);
        if refusal.kind == RefusalKind::Itself {
            return self.drop_target(&refusal.text);
        }
        self.without(
            LinkState::Waiting,
            refusal.text.clone(),
            Some(refusal.clone()),
        );
        Outcome::Failed
    }

    fn unreachable(&self, text: &str) -> Outcome {
        self.shared
            .journal
            .unreachable(&self.target.address, text, Instant::now());
        self.without(LinkState::Waiting, text.to_owned(), None);
        Outcome::Failed
    }

    fn drop_target(&self, text: &str) -> Outcome {
        info!(target = %self.target.address, "not dialled any more: {text}");
        self.without(LinkState::Dropped, text.to_owned(), None);
        Outcome::Dropped
    }

    fn without(&self, state: LinkState, error: String, refusal: Option<Refusal>) {
        self.shared
            .roster
            .line(self.line, |line| line.without(state, error, refusal));
    }

    /// Waits for something, or for the node to stop.
    async fn or_stop(&self, wait: impl Future<Output = ()>) {
        tokio::select! { biased;
            () = self.shared.stopped() => {}
            () = wait => {}
        }
    }
}
