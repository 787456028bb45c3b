//! Peers that dial this node.

use std::sync::Arc;

use quinn::{Connection, Endpoint, Incoming, crypto::rustls::HandshakeData};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    task::{JoinError, JoinSet},
};
use tracing::debug;

use super::{
    Direction, Recollection, Refusal, RefusalKind, Refuser,
    handshake::{self, Greeted, GreetingError, within},
    limits::{HANDSHAKES_MAX, HANDSHAKES_UNPROVEN_MAX},
    session::Session,
    session_task,
    shared::Shared,
};
use crate::{names::NodeName, tls::ALPN_PEER};

/// Accepts until the node stops, then waits for its sessions to end.
pub(super) async fn run(shared: Arc<Shared>, endpoint: Endpoint) {
    let handshakes = Arc::new(Semaphore::new(HANDSHAKES_MAX));
    let mut tasks = JoinSet::new();
    loop {
        let next = tokio::select! { biased;
            () = shared.stopped() => Next::Stop,
            Some(done) = tasks.join_next() => Next::Done(done),
            incoming = endpoint.accept() => Next::Incoming(incoming.map(Box::new)),
        };
        match next {
            Next::Incoming(Some(incoming)) => {
                admit_handshake(&shared, &handshakes, *incoming, &mut tasks)
            }
            Next::Done(done) => check(&shared, done).await,
            Next::Stop | Next::Incoming(None) => break,
        }
    }
    endpoint.set_server_config(None);
    while let Some(done) = tasks.join_next().await {
        check(&shared, done).await;
    }
}

enum Next {
    Stop,
    Done(Result<(), JoinError>),
    Incoming(Option<Box<Incoming>>),
}

/// Starts a handshake if there is room, and asks for a proof of address when there is little.
fn admit_handshake(
    shared: &Arc<Shared>,
    handshakes: &Arc<Semaphore>,
    incoming: Incoming,
    tasks: &mut JoinSet<()>,
) {
    let under_way = HANDSHAKES_MAX - handshakes.available_permits();
    if under_way >= HANDSHAKES_UNPROVEN_MAX
        && incoming.may_retry()
        && !incoming.remote_address_validated()
    {
        // Fails only for those that may not be asked, which was looked at.
        let _asked = incoming.retry();
        return;
    }
    match handshakes.clone().try_acquire_owned() {
        Ok(permit) => {
            tasks.spawn(serve(shared.clone(), incoming, permit));
        }
        Err(_) => incoming.refuse(),
    }
}

async fn check(shared: &Shared, done: Result<(), JoinError>) {
    if let Err(error) = done
        && error.is_panic()
    {
        shared
            .failed(&format!("a session's task panicked: {error}"))
            .await;
    }
}

/// One peer from its first packet to its last.
async fn serve(shared: Arc<Shared>, incoming: Incoming, permit: OwnedSemaphorePermit) {
    let address = incoming.remote_address();
    let handshake = async { Ok(incoming.accept()?.await?) };
    let connection = match within(handshake).await {
        Ok(connection) => connection,
        Err(GreetingError::Refused(by, refusal)) => {
            return handshake::record(&shared, address, Direction::Accepted, None, by, &refusal);
        }
        Err(GreetingError::Failed(text)) => {
            return debug!(%address, "a handshake came to nothing: {text}");
        }
    };
    match protocol(&connection).as_deref() {
        Some(ALPN_PEER) => serve_peer(&shared, connection, permit).await,
        // TLS lets no other protocol through; users come in here one day.
        Some(_) | None => connection.close(super::CLOSE_BYE, b"unknown protocol"),
    }
}

fn protocol(connection: &Connection) -> Option<Vec<u8>> {
    let data = connection
        .handshake_data()?
        .downcast::<HandshakeData>()
        .ok()?;
    data.protocol
}

async fn serve_peer(shared: &Arc<Shared>, connection: Connection, permit: OwnedSemaphorePermit) {
    let name = match handshake::certified_name(shared, &connection) {
        Ok(name) => name,
        Err(error) => {
            return handshake::give_up(shared, &connection, Direction::Accepted, None, &error);
        }
    };
    let greeted = take_in(shared, &connection, &name).await;
    drop(permit);
    match greeted {
        Ok((session, greeted)) => {
            session_task::run(shared, &session, greeted, Recollection::default()).await;
        }
        Err(error) => {
            if let GreetingError::Failed(text) = &error {
                debug!(peer = %name, address = %connection.remote_address(), "a greeting came to nothing: {text}");
            }
            handshake::give_up(
                shared,
                &connection,
                Direction::Accepted,
                Some(&name),
                &error,
            );
        }
    }
}

async fn take_in(
    shared: &Shared,
    connection: &Connection,
    name: &NodeName,
) -> Result<(Arc<Session>, Greeted), GreetingError> {
    let (mut greeted, recollection) = within(async {
        let greeted = handshake::answer(shared, connection, name).await?;
        let recollection = handshake::recollect(shared, &greeted.card).await?;
        Ok((greeted, recollection))
    })
    .await?;
    if shared.is_stopping() {
        let refusal = Refusal::new(RefusalKind::NotNow, super::STOPPING);
        return Err(GreetingError::Refused(Refuser::Local, refusal));
    }
    let session = handshake::admit(shared, &greeted, None)?;
    match handshake::welcome(&mut greeted, recollection).await {
        Ok(()) => Ok((session, greeted)),
        Err(error) => {
            shared.roster.remove(session.id);
            Err(error)
        }
    }
}
