//! Peers that this node dials: one task per target, so that one that is away holds up nobody.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    ops::ControlFlow,
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};

use quinn::{Connection, Endpoint};
use rand::{SeedableRng, rngs::StdRng};
use tokio::{
    net::lookup_host,
    time::{sleep, timeout},
};
use tracing::info;

use super::{
    Direction, LinkState, Recollection, Refusal, RefusalKind, Refuser,
    backoff::Backoff,
    handshake::{self, Greeted, GreetingError, within},
    knock::knock,
    limits::{ATTEMPT_MAX, LIVED},
    link::Line,
    roster::Claim,
    session::Session,
    session_task,
    shared::Shared,
    target::Target,
};
use crate::names::NodeName;

/// Dials a target until the node stops, or the target is taken away or turns out to be none.
pub(super) async fn run(shared: Arc<Shared>, endpoint: Endpoint, target: Target) {
    let Some(address) = target.course.address() else {
        return;
    };
    let line = Line::new(address.clone(), target.expect.clone());
    let mut dialler = Dialler {
        line: shared.roster.add_line(line),
        shared,
        endpoint,
        target,
        address,
    };
    while dialler.persist().await.is_continue() && !dialler.shared.is_stopping() {
        match dialler.target.course.address() {
            Some(address) => dialler.move_to(address),
            None => return dialler.shared.roster.remove_line(dialler.line),
        }
    }
}

struct Dialler {
    shared: Arc<Shared>,
    endpoint: Endpoint,
    target: Target,
    line: u64,
    /// What is dialled now; where the course leads may be another one already.
    address: String,
}

/// How an attempt and the session that it led to went.
enum Outcome {
    /// There was a session for a while.
    Lived,
    /// There was none, or not for long.
    Failed,
    /// Another target leads to this node.
    Spare(NodeName),
    /// A name leads to this node itself, or to one for which the configuration has an address.
    Elsewhere,
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
    /// Dials one address again and again, until the node stops or the course leads elsewhere. Breaks if nothing is to be
    /// dialled here.
    async fn persist(&self) -> ControlFlow<()> {
        let mut backoff = Backoff::new();
        let mut random = StdRng::from_os_rng();
        let mut attempts = 0_usize;
        while !self.is_over() {
            let attempt = attempts;
            attempts = attempts.wrapping_add(1);
            let outcome = self.once(attempt).await;
            let is_unreached = matches!(outcome, Outcome::Lived | Outcome::Failed);
            match outcome {
                Outcome::Lived => backoff.reset(),
                Outcome::Failed => {}
                Outcome::Spare(name) => {
                    self.or_over(self.spared(&name)).await;
                    // Ahead of seeds, which pause: whoever is dialled by name is expected to be reached that way.
                    if self.target.expect.is_some() {
                        continue;
                    }
                }
                Outcome::Elsewhere => self.or_over(sleep(LOOK_AGAIN)).await,
                Outcome::Dropped => return ControlFlow::Break(()),
            }
            let pause = sleep(backoff.pause(&mut random));
            let paused = async {
                if is_unreached {
                    self.knock(attempt).await;
                }
                pause.await;
            };
            let was_signed = tokio::select! { biased;
                () = self.or_over(paused) => false,
                () = self.target.course.sign() => true,
            };
            if was_signed {
                backoff.reset();
            }
        }
        ControlFlow::Continue(())
    }

    /// Finds out what the address does behind which nobody greeted.
    async fn knock(&self, attempt: usize) {
        if self.is_over() {
            return;
        }
        let Ok(address) = self.resolve(attempt).await else {
            return;
        };
        let unreached = knock(address).await;
        self.shared
            .roster
            .line(self.line, |line| line.tried(unreached));
    }

    fn move_to(&mut self, address: String) {
        let line = address.clone();
        self.shared
            .roster
            .line(self.line, |current| current.moved(line));
        self.address = address;
    }

    /// One attempt, and the session if it succeeds.
    async fn once(&self, attempt: usize) -> Outcome {
        if let Some(name) = &self.target.expect
            && self.shared.roster.is_claimed(name)
        {
            return self.spare(name);
        }
        self.shared.roster.line(self.line, Line::connecting);
        let reached = tokio::select! { biased;
            _ = self.over() => return Outcome::Failed,
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
            None => handshake::certified_name(&self.shared, &connection)
                .map_err(|error| self.give_up(&connection, None, &error))?,
        };
        let claim = self.claim(&connection, &name)?;
        Ok(Reached {
            connection,
            name,
            claim,
        })
    }

    /// One of the target's addresses, another one each time. A resolver may give them in any order.
    async fn resolve(&self, attempt: usize) -> Result<SocketAddr, String> {
        let from = self
            .endpoint
            .local_addr()
            .map_err(|error| error.to_string())?;
        let found = lookup_host(&self.address)
            .await
            .map_err(|error| error.to_string())?;
        let fitting: BTreeSet<SocketAddr> = found
            .filter(|address| address.is_ipv4() || from.is_ipv6())
            .collect();
        let turn = attempt % fitting.len().max(1);
        fitting
            .into_iter()
            .nth(turn)
            .ok_or_else(|| "it has no address that listen.quic can reach (IPv4 or IPv6)".to_owned())
    }

    /// A seed that leads to a node for which the configuration has an address is not needed; one that leads to a node
    /// which another target has reached is, later perhaps.
    fn claim(&self, connection: &Connection, name: &NodeName) -> Result<Claim, Outcome> {
        let is_needless = self.target.expect.is_none() && self.shared.targets.is_configured(name);
        let claim = if is_needless {
            None
        } else {
            self.shared.roster.claim(name)
        };
        claim.ok_or_else(|| {
            let refusal = Refusal::new(RefusalKind::Redundant, elsewhere(name));
            connection.close(refusal.close_code(), refusal.text.as_bytes());
            if is_needless {
                return self.drop_target(&refusal.text);
            }
            self.spare(name)
        })
    }

    fn spare(&self, name: &NodeName) -> Outcome {
        self.without(LinkState::Spare, elsewhere(name), None);
        Outcome::Spare(name.clone())
    }

    /// Greets, and runs the session to its end.
    async fn converse(&self, reached: Reached) -> Outcome {
        let Reached {
            connection,
            name,
            claim,
        } = reached;
        let greeted = tokio::select! { biased;
            reason = self.over() => Err(GreetingError::Failed(reason)),
            greeted = within(handshake::dial(&self.shared, &connection, &name)) => greeted,
        };
        let admitted = greeted.and_then(|(greeted, recollection)| {
            let session = handshake::admit(&self.shared, &greeted, Some(&self.address))?;
            Ok((session, greeted, recollection))
        });
        let outcome = match admitted {
            Ok((session, greeted, recollection)) => {
                self.accompany(&session, greeted, recollection).await
            }
            Err(error) => self.give_up(&connection, Some(&name), &error),
        };
        drop(claim);
        outcome
    }

    /// Runs a session to its end, which comes politely when the course leads elsewhere.
    async fn accompany(
        &self,
        session: &Arc<Session>,
        greeted: Greeted,
        recollection: Recollection,
    ) -> Outcome {
        self.shared.roster.line(self.line, |line| line.up(session));
        let began = Instant::now();
        let mut run = pin!(session_task::run(
            &self.shared,
            session,
            greeted,
            recollection
        ));
        let ended = tokio::select! { biased;
            end = &mut run => Ok(end),
            reason = self.target.course.left(&self.address) => Err(reason),
        };
        let end = match ended {
            Ok(end) => end,
            Err(reason) => {
                session.close(&reason);
                run.await
            }
        };
        self.shared
            .roster
            .line(self.line, |line| line.down(session, end.reason));
        if began.elapsed() >= LIVED {
            Outcome::Lived
        } else {
            Outcome::Failed
        }
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
        handshake::record(&self.shared, address, Direction::Dialled, name, by, refusal);
        // A named target is some other node, whatever it says of itself.
        if refusal.kind == RefusalKind::Itself && self.target.expect.is_none() {
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
        if !self.is_over() {
            self.shared
                .journal
                .unreachable(&self.address, text, Instant::now());
        }
        self.without(LinkState::Waiting, text.to_owned(), None);
        Outcome::Failed
    }

    /// A name is kept: it may lead to another node the next time.
    fn drop_target(&self, text: &str) -> Outcome {
        if self.is_named() {
            self.without(LinkState::Spare, text.to_owned(), None);
            return Outcome::Elsewhere;
        }
        info!(target = %self.address, "not dialled any more: {text}");
        self.without(LinkState::Dropped, text.to_owned(), None);
        Outcome::Dropped
    }

    fn without(&self, state: LinkState, error: String, refusal: Option<Refusal>) {
        self.shared
            .roster
            .line(self.line, |line| line.without(state, error, refusal));
    }

    /// Whether this is a seed that is looked up.
    fn is_named(&self) -> bool {
        self.target.expect.is_none() && self.address.parse::<SocketAddr>().is_err()
    }

    /// Waits until no other dialler has a node; a name is looked up again before that, as it may lead to somebody else by then.
    async fn spared(&self, name: &NodeName) {
        let unclaimed = self.shared.roster.unclaimed(name);
        if self.is_named() {
            // Either way it is tried.
            let _ = timeout(LOOK_AGAIN, unclaimed).await;
        } else {
            unclaimed.await;
        }
    }

    /// Whether this address is not to be dialled any more.
    fn is_over(&self) -> bool {
        self.shared.is_stopping() || !self.target.course.leads_to(&self.address)
    }

    /// Waits until it is not; returns why.
    async fn over(&self) -> String {
        tokio::select! { biased;
            () = self.shared.stopped() => super::STOPPING.to_owned(),
            reason = self.target.course.left(&self.address) => reason,
        }
    }

    /// Waits for something, or until this address is not to be dialled any more.
    async fn or_over(&self, wait: impl Future<Output = ()>) {
        tokio::select! { biased;
            _ = self.over() => {}
            () = wait => {}
        }
    }
}

fn elsewhere(name: &NodeName) -> String {
    format!("node '{name}' is dialled at another address already")
}

/// How soon a name that led to nobody new is looked up again.
const LOOK_AGAIN: Duration = Duration::from_secs(10);
