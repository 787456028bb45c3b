//! The greeting: two nodes that trust each other's certificates find out whether they should talk.

use std::{net::SocketAddr, sync::Arc};

use bytes::Bytes;
use quinn::{Connection, ConnectionError};
use rustls_pki_types::CertificateDer;
use tokio::{task::spawn_blocking, time::timeout};

use super::{
    Direction, Recollection, Refusal, RefusalKind, Refused, Refuser,
    limits::{GREETING_BYTES_MAX, GREETING_MAX},
    session::Session,
    shared::Shared,
    stream::{FrameReader, FrameWriter, StreamError},
    wire::{Envelope, Greeting, NodeInfo, VERSIONS},
};
use crate::{names::NodeName, tls::node_name_of};

/// A peer that introduced itself and may come in, with the streams that it did so on.
pub(super) struct Greeted {
    pub(super) connection: Connection,
    pub(super) reader: FrameReader,
    pub(super) writer: FrameWriter,
    pub(super) card: NodeInfo,
    /// What this node said of itself.
    pub(super) own: NodeInfo,
    pub(super) version: u8,
}

/// Why there is no session. *State unchanged, safe to retry*, though a refusal will often be repeated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum GreetingError {
    /// One side does not want to.
    Refused(Refuser, Refusal),
    /// The connection broke, or took too long.
    Failed(String),
}

impl GreetingError {
    fn refuse(kind: RefusalKind, text: impl Into<String>) -> Self {
        Self::Refused(Refuser::Local, Refusal::new(kind, text))
    }
}

impl From<ConnectionError> for GreetingError {
    fn from(error: ConnectionError) -> Self {
        StreamError::from(error).into()
    }
}

impl From<StreamError> for GreetingError {
    fn from(error: StreamError) -> Self {
        match &error {
            StreamError::Lost(lost) => match Refusal::behind(lost) {
                Some((by, refusal)) => Self::Refused(by, refusal),
                None => Self::Failed(error.to_string()),
            },
            StreamError::Abandoned
            | StreamError::Truncated
            | StreamError::Frame(_)
            | StreamError::Wire(_)
            | StreamError::Violation(_) => Self::refuse(RefusalKind::Malformed, error.to_string()),
        }
    }
}

/// The name in the certificate that the other side showed.
pub(super) fn certified_name(
    shared: &Shared,
    connection: &Connection,
) -> Result<NodeName, GreetingError> {
    let chain = connection
        .peer_identity()
        .and_then(|identity| identity.downcast::<Vec<CertificateDer<'static>>>().ok());
    chain
        .as_ref()
        .and_then(|chain| chain.first())
        .and_then(|leaf| node_name_of(leaf, shared.credentials.cluster()))
        .ok_or_else(|| {
            GreetingError::refuse(RefusalKind::Certificate, "no node's certificate was shown")
        })
}

/// The dialler's part: says hello, reads the welcome.
pub(super) async fn dial(
    shared: &Shared,
    connection: &Connection,
    certified: &NodeName,
) -> Result<(Greeted, Recollection), GreetingError> {
    let own = shared.card();
    let (stream, reading) = connection.open_bi().await?;
    let mut writer = control_writer(stream);
    let mut reader = FrameReader::new(reading, GREETING_BYTES_MAX);
    writer
        .write(&[Greeting::Hello(own.clone()).encode()])
        .await?;
    let bytes = next(&mut reader).await?;
    let envelope = Envelope::open(&bytes).map_err(StreamError::from)?;
    let version = agree(shared, certified, &envelope)?;
    let (card, recollection) = envelope.welcome().map_err(StreamError::from)?;
    check(&own, &card, certified)?;
    let connection = connection.clone();
    Ok((
        Greeted {
            connection,
            reader,
            writer,
            card,
            own,
            version,
        },
        recollection,
    ))
}

/// The acceptor's part: reads the hello.
pub(super) async fn answer(
    shared: &Shared,
    connection: &Connection,
    certified: &NodeName,
) -> Result<Greeted, GreetingError> {
    let own = shared.card();
    let (stream, reading) = connection.accept_bi().await?;
    let writer = control_writer(stream);
    let mut reader = FrameReader::new(reading, GREETING_BYTES_MAX);
    let bytes = next(&mut reader).await?;
    let envelope = Envelope::open(&bytes).map_err(StreamError::from)?;
    let version = agree(shared, certified, &envelope)?;
    let card = envelope.hello().map_err(StreamError::from)?;
    check(&own, &card, certified)?;
    let connection = connection.clone();
    Ok(Greeted {
        connection,
        reader,
        writer,
        card,
        own,
        version,
    })
}

/// Takes the peer in, as one that this node dialled at some address or that dialled it.
pub(super) fn admit(
    shared: &Shared,
    greeted: &Greeted,
    dialled_at: Option<&str>,
) -> Result<Arc<Session>, GreetingError> {
    let direction = match dialled_at {
        Some(_) => Direction::Dialled,
        None => Direction::Accepted,
    };
    let peer = greeted.card.clone().into_peer();
    let address = greeted.connection.remote_address();
    let id = shared.roster.next_id();
    let session = Session::new(id, direction, peer, address, greeted.version);
    let session = Arc::new(session.dialled_at(dialled_at));
    shared
        .roster
        .admit(&session, std::time::Instant::now())
        .map_err(|refusal| GreetingError::Refused(Refuser::Local, refusal))?;
    // A renewal that came in between has ended the sessions that it found, and did not find this one.
    if !shared.is_current(&greeted.own) {
        session.close(RENEWED);
    }
    Ok(session)
}

/// The acceptor's last word, after which the session runs.
pub(super) async fn welcome(
    greeted: &mut Greeted,
    recollection: Recollection,
) -> Result<(), GreetingError> {
    let welcome = Greeting::Welcome(greeted.own.clone(), recollection).encode();
    within(async { Ok(greeted.writer.write(&[welcome]).await?) }).await
}

/// What this node knows of the dialler. Asked on a thread that may block.
pub(super) async fn recollect(
    shared: &Shared,
    card: &NodeInfo,
) -> Result<Recollection, GreetingError> {
    let (memory, peer) = (shared.memory.clone(), card.clone().into_peer());
    let answer = spawn_blocking(move || {
        let mut answer = memory.recollect(&peer);
        answer.held.retain(|held| peer.actors.contains(&held.actor));
        answer
    });
    match answer.await {
        Ok(recollection) => Ok(recollection),
        Err(error) => {
            shared
                .failed(&format!(
                    "what is known of a peer could not be told: {error}"
                ))
                .await;
            Err(GreetingError::refuse(
                RefusalKind::NotNow,
                "the node has an internal fault, see its log",
            ))
        }
    }
}

/// Puts the deadline of greetings on a step.
pub(super) async fn within<T>(
    step: impl Future<Output = Result<T, GreetingError>>,
) -> Result<T, GreetingError> {
    timeout(GREETING_MAX, step).await.unwrap_or_else(|_| {
        Err(GreetingError::Failed(format!(
            "no greeting within {GREETING_MAX:?}"
        )))
    })
}

/// Closes a connection that does not become a session. What was refused is recorded, on whichever side.
pub(super) fn give_up(
    shared: &Shared,
    connection: &Connection,
    direction: Direction,
    name: Option<&NodeName>,
    error: &GreetingError,
) {
    match error {
        GreetingError::Refused(by, refusal) => {
            record(
                shared,
                connection.remote_address(),
                direction,
                name,
                *by,
                refusal,
            );
            connection.close(refusal.close_code(), refusal.text.as_bytes());
        }
        GreetingError::Failed(text) => connection.close(super::CLOSE_BYE, text.as_bytes()),
    }
}

/// Records a refusal.
pub(super) fn record(
    shared: &Shared,
    address: SocketAddr,
    direction: Direction,
    name: Option<&NodeName>,
    by: Refuser,
    refusal: &Refusal,
) {
    let (name, refusal) = (name.cloned(), refusal.clone());
    shared.refused(Refused {
        by,
        direction,
        address,
        name,
        refusal,
        times: 1,
    });
}

/// Before everything else of the connection, or a full message stream would delay heartbeats.
fn control_writer(stream: quinn::SendStream) -> FrameWriter {
    // Fails only for a stream that is over, which its first write will say.
    let _closed = stream.set_priority(CONTROL_PRIORITY);
    FrameWriter::new(stream)
}

async fn next(reader: &mut FrameReader) -> Result<Bytes, StreamError> {
    reader.next().await?.ok_or(StreamError::Violation(
        "the control stream ended before the greeting",
    ))
}

/// The version to speak.
fn agree(shared: &Shared, peer: &NodeName, envelope: &Envelope<'_>) -> Result<u8, GreetingError> {
    envelope.common_version().ok_or_else(|| {
        let (own, theirs) = (shared.credentials.node(), &envelope.versions);
        let text = format!(
            "node '{own}' speaks protocol versions {} to {}, node '{peer}' {} to {}: upgrade the older one",
            VERSIONS.start(),
            VERSIONS.end(),
            theirs.start(),
            theirs.end(),
        );
        GreetingError::refuse(RefusalKind::Version, text)
    })
}

/// Whether two nodes with these cards may talk, whatever other sessions there are.
fn check(own: &NodeInfo, peer: &NodeInfo, certified: &NodeName) -> Result<(), GreetingError> {
    if peer.cluster != own.cluster {
        let text = format!(
            "node '{}' is of cluster '{}', node '{}' of cluster '{}': correct [node] cluster, or take the address out of [peers]",
            own.node, own.cluster, peer.node, peer.cluster
        );
        return Err(GreetingError::refuse(RefusalKind::Cluster, text));
    }
    if peer.node != *certified {
        let text = format!(
            "a node says it is '{}', but its certificate is for '{certified}': correct [node] name or [tls] cert there",
            peer.node
        );
        return Err(GreetingError::refuse(RefusalKind::Name, text));
    }
    if peer.node == own.node {
        return Err(namesake(own, peer));
    }
    Ok(())
}

fn namesake(own: &NodeInfo, peer: &NodeInfo) -> GreetingError {
    if peer.instance == own.instance {
        return GreetingError::refuse(
            RefusalKind::Itself,
            format!("node '{}' dialled itself", own.node),
        );
    }
    let text = format!(
        "two nodes are called '{}': give one of them another name and certificate",
        own.node
    );
    GreetingError::refuse(RefusalKind::OwnName, text)
}

pub(super) const RENEWED: &str = "the node renewed its identity";
const CONTROL_PRIORITY: i32 = 10;
