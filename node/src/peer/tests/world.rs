//! Nodes, certificates and a link that can be cut, for the tests beside this file.

use std::{collections::BTreeMap, fs, net::SocketAddr, path::Path, sync::Arc, time::Duration};

use crdt::{ActorId, Hlc};
use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, Issuer, KeyPair};
use tempfile::TempDir;
use tokio::{
    net::UdpSocket,
    sync::{mpsc, watch},
    task::JoinHandle,
    time::{sleep, timeout},
};

use crate::{
    core::{
        identity::DirectoryId,
        message::{Message, Ship},
    },
    names::{ClusterName, NodeName},
    peer::{
        Datagram, Direction, Event, Identity, KnownPosition, Peer, PeerLink, PeerTarget, Peers,
        PeersConfig, Recollection, Refused, SessionId, StartError, SystemClock, WallClock,
    },
    storage::record::shortage::Shortage,
    tls::{self, Credentials, DAYS_DEFAULT},
};

/// Longer than anything takes that works.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

/// A folder with the CA of cluster `demo`, and certificates as they are asked for.
pub(super) struct Certificates(TempDir);

impl Certificates {
    pub(super) fn new() -> Self {
        let dir = TempDir::new().unwrap();
        tls::init(dir.path(), None).unwrap();
        Self(dir)
    }

    pub(super) fn path(&self) -> &Path {
        self.0.path()
    }

    /// What a node of `demo` should have.
    pub(super) fn proper(&self, name: &str) -> Credentials {
        let node: NodeName = name.parse().unwrap();
        if !self.path().join(format!("{node}.pem")).exists() {
            tls::issue(self.path(), &node, DAYS_DEFAULT).unwrap();
        }
        self.load(name, "demo", name)
    }

    /// A certificate signed by this CA, as `change` wants it, for a node that takes itself for `name` of `cluster`.
    pub(super) fn odd(
        &self,
        cluster: &str,
        name: &str,
        change: impl FnOnce(&mut CertificateParams),
    ) -> Credentials {
        let ca_key =
            KeyPair::from_pem(&fs::read_to_string(self.path().join("ca.key")).unwrap()).unwrap();
        let ca_pem = fs::read_to_string(self.path().join("ca.pem")).unwrap();
        let issuer = Issuer::from_ca_cert_pem(&ca_pem, ca_key).unwrap();
        let mut params =
            CertificateParams::new(vec![format!("{name}.{cluster}.meridian")]).unwrap();
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let file = format!("odd-{name}");
        fs::write(
            self.path().join(format!("{file}.pem")),
            params.signed_by(&key, &issuer).unwrap().pem(),
        )
        .unwrap();
        fs::write(self.path().join(format!("{file}.key")), key.serialize_pem()).unwrap();
        self.load(&file, cluster, name)
    }

    fn load(&self, file: &str, cluster: &str, name: &str) -> Credentials {
        let cluster: ClusterName = cluster.parse().unwrap();
        let (certificate, key) = (
            self.path().join(format!("{file}.pem")),
            self.path().join(format!("{file}.key")),
        );
        Credentials::read(
            &self.path().join("ca.pem"),
            &certificate,
            &key,
            &cluster,
            &name.parse().unwrap(),
        )
        .unwrap()
    }
}

/// How a node is to be; everything that is not said is usual.
pub(super) struct Plan {
    pub(super) credentials: Credentials,
    pub(super) region: &'static str,
    pub(super) directory: u64,
    pub(super) listen: SocketAddr,
    pub(super) targets: Vec<PeerTarget>,
    pub(super) clock: Arc<dyn WallClock>,
    pub(super) events_max: usize,
    pub(super) datagrams_max: usize,
}

impl Plan {
    pub(super) fn new(credentials: Credentials) -> Self {
        Self {
            credentials,
            region: "us",
            directory: 1,
            listen: "127.0.0.1:0".parse().unwrap(),
            targets: Vec::new(),
            clock: Arc::new(SystemClock),
            events_max: 1024,
            datagrams_max: 1024,
        }
    }

    pub(super) fn seed(mut self, address: impl ToString) -> Self {
        self.targets.push(PeerTarget {
            address: address.to_string(),
            expect: None,
        });
        self
    }

    pub(super) fn named(mut self, name: &str, address: SocketAddr) -> Self {
        let expect = Some(name.parse().unwrap());
        self.targets.push(PeerTarget {
            address: address.to_string(),
            expect,
        });
        self
    }

    pub(super) fn region(mut self, region: &'static str) -> Self {
        self.region = region;
        self
    }

    pub(super) fn directory(mut self, directory: u64) -> Self {
        self.directory = directory;
        self
    }

    pub(super) fn listen(mut self, listen: SocketAddr) -> Self {
        self.listen = listen;
        self
    }

    pub(super) fn start(self) -> Node {
        self.try_start().unwrap()
    }

    /// Starts on a port that was just given up, which the system may need a moment for.
    pub(super) async fn start_again(self) -> Node {
        let started = async {
            loop {
                match self.try_start() {
                    Ok(node) => return node,
                    Err(StartError::Listen { .. }) => sleep(Duration::from_millis(5)).await,
                    Err(error) => panic!("{error}"),
                }
            }
        };
        timeout(PATIENCE, started)
            .await
            .expect("the port gets free")
    }

    pub(super) fn try_start(&self) -> Result<Node, StartError> {
        let (events_tx, events) = mpsc::channel(self.events_max);
        let (datagrams_tx, datagrams) = mpsc::channel(self.datagrams_max);
        let identity = watch::Sender::new(identity(self.directory));
        let config = PeersConfig {
            credentials: self.credentials.clone(),
            region: self.region.parse().unwrap(),
            identity: identity.subscribe(),
            targets: self.targets.clone(),
            listen: self.listen,
            clock: self.clock.clone(),
            datagrams: datagrams_tx,
        };
        let peers = Peers::start(config, events_tx, Arc::new(Memory))?;
        let address = peers.local_addr().unwrap();
        Ok(Node {
            peers,
            events,
            datagrams,
            identity,
            address,
            early: BTreeMap::new(),
        })
    }
}

pub(super) fn identity(directory: u64) -> Identity {
    Identity {
        directory: DirectoryId(directory),
        former: Vec::new(),
        actors: vec![ActorId::new(directory, 0)],
    }
}

/// Remembers the same of everyone.
struct Memory;

impl super::super::Memory for Memory {
    fn recollect(&self, peer: &Peer) -> Recollection {
        Recollection {
            held: peer.actors.iter().map(|actor| held(*actor)).collect(),
            replaced: None,
            shortage: Shortage::MISSED,
        }
    }
}

pub(super) fn held(actor: ActorId) -> KnownPosition {
    KnownPosition {
        actor,
        taken: Hlc::from_millis(5),
        passed: Hlc::from_millis(5),
        newest: Hlc::from_millis(7),
    }
}

/// A running node and what happened to it.
pub(super) struct Node {
    pub(super) peers: Peers,
    pub(super) events: mpsc::Receiver<Event>,
    pub(super) datagrams: mpsc::Receiver<Datagram>,
    pub(super) identity: watch::Sender<Identity>,
    pub(super) address: SocketAddr,
    /// `Up`s that came while another was awaited.
    early: BTreeMap<SessionId, (Direction, Peer, Recollection)>,
}

impl Node {
    pub(super) async fn event(&mut self) -> Event {
        timeout(PATIENCE, self.events.recv())
            .await
            .expect("an event in time")
            .expect("a running node")
    }

    /// The next session in a direction, new or already seen by an earlier wait.
    pub(super) async fn up(&mut self, wanted: Direction) -> (SessionId, Peer, Recollection) {
        loop {
            let found = self
                .early
                .iter()
                .find(|(_, (direction, ..))| *direction == wanted)
                .map(|(id, _)| *id);
            if let Some((id, (_, peer, recollection))) =
                found.and_then(|id| self.early.remove_entry(&id))
            {
                return (id, peer, recollection);
            }
            if let Event::Up {
                session,
                direction,
                peer,
                recollection,
            } = self.event().await
            {
                self.early.insert(session, (direction, peer, recollection));
            }
        }
    }

    /// The end of a session, and its reason. Messages before it are thrown away.
    pub(super) async fn down(&mut self, wanted: SessionId) -> String {
        loop {
            match self.event().await {
                Event::Down {
                    session, reason, ..
                } if session == wanted => return reason,
                Event::Up {
                    session,
                    direction,
                    peer,
                    recollection,
                } => {
                    self.early.insert(session, (direction, peer, recollection));
                }
                Event::Down { .. } | Event::Message { .. } => {}
                Event::Failed { reason } => panic!("{reason}"),
            }
        }
    }

    /// The next datagram of any peer.
    pub(super) async fn datagram(&mut self) -> Datagram {
        timeout(PATIENCE, self.datagrams.recv())
            .await
            .expect("a datagram in time")
            .expect("a running node")
    }

    /// The next session that ends.
    pub(super) async fn any_down(&mut self) -> SessionId {
        loop {
            match self.event().await {
                Event::Down { session, .. } => return session,
                Event::Up {
                    session,
                    direction,
                    peer,
                    recollection,
                } => {
                    self.early.insert(session, (direction, peer, recollection));
                }
                Event::Message { .. } => {}
                Event::Failed { reason } => panic!("{reason}"),
            }
        }
    }

    /// The next message of a session.
    pub(super) async fn message(&mut self, wanted: SessionId) -> Message {
        loop {
            match self.event().await {
                Event::Message { session, message } if session == wanted => return message,
                Event::Up {
                    session,
                    direction,
                    peer,
                    recollection,
                } => {
                    self.early.insert(session, (direction, peer, recollection));
                }
                Event::Down {
                    session, reason, ..
                } => assert_ne!(session, wanted, "{reason}"),
                Event::Message { .. } => {}
                Event::Failed { reason } => panic!("{reason}"),
            }
        }
    }

    /// Waits until the node says something of its refusals or links that is awaited.
    pub(super) async fn until<T>(&self, what: &str, found: impl Fn(&Peers) -> Option<T>) -> T {
        let mut changes = self.peers.changes();
        let wait = async {
            loop {
                changes.borrow_and_update();
                if let Some(found) = found(&self.peers) {
                    return found;
                }
                changes.changed().await.unwrap();
            }
        };
        match timeout(PATIENCE, wait).await {
            Ok(found) => found,
            Err(_) => panic!(
                "{what}: {:#?} {:#?}",
                self.peers.refusals(),
                self.peers.status()
            ),
        }
    }

    /// Waits for a refusal.
    pub(super) async fn refused(&self, wanted: impl Fn(&Refused) -> bool) -> Refused {
        self.until("a refusal", |peers| {
            peers.refusals().into_iter().find(|refused| wanted(refused))
        })
        .await
    }

    /// Waits for a link.
    pub(super) async fn link(&self, wanted: impl Fn(&PeerLink) -> bool) -> PeerLink {
        self.until("a link", |peers| {
            peers.status().into_iter().find(|link| wanted(link))
        })
        .await
    }
}

/// A numbered message.
pub(super) fn promise(number: u64) -> Message {
    Message::ClosedTimestamp {
        actor: ActorId::new(1, 1),
        after: Hlc::ZERO,
        upto: Hlc::from_u64(number),
    }
}

/// A message of about so many bytes, which lz4 cannot make smaller.
pub(super) fn ship(bytes: usize) -> Message {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut noise = Vec::with_capacity(bytes + 8);
    while noise.len() < bytes {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        noise.extend_from_slice(&state.to_le_bytes());
    }
    noise.truncate(bytes);
    Message::Ship(Ship {
        actor: ActorId::new(1, 1),
        after: Hlc::ZERO,
        last: Hlc::from_millis(1),
        rows: vec![noise.into()],
        is_for_region: true,
    })
}

/// A UDP relay in front of an address, which can be cut and made longer.
pub(super) struct Relay {
    pub(super) address: SocketAddr,
    way: watch::Sender<Way>,
    task: JoinHandle<()>,
}

/// What becomes of packets, in each direction.
#[derive(Debug, Clone, Copy, Default)]
struct Way {
    is_cut: bool,
    delay: Duration,
}

impl Relay {
    pub(super) async fn to(target: SocketAddr) -> Self {
        let front = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
        let back = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
        let (address, way) = (
            front.local_addr().unwrap(),
            watch::Sender::new(Way::default()),
        );
        let task = tokio::spawn(relay(front, back, target, way.subscribe()));
        Self { address, way, task }
    }

    pub(super) fn cut(&self, is_cut: bool) {
        self.way.send_modify(|way| way.is_cut = is_cut);
    }

    /// From now on every packet takes so long.
    pub(super) fn delay(&self, delay: Duration) {
        self.way.send_modify(|way| way.delay = delay);
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn relay(
    front: Arc<UdpSocket>,
    back: Arc<UdpSocket>,
    target: SocketAddr,
    way: watch::Receiver<Way>,
) {
    let (mut there, mut here) = (vec![0; 65_536], vec![0; 65_536]);
    let mut client = None;
    loop {
        let (socket, packet, to) = tokio::select! {
            Ok((bytes, from)) = front.recv_from(&mut there) => {
                client = Some(from);
                (&back, &there[..bytes], Some(target))
            }
            Ok((bytes, _)) = back.recv_from(&mut here) => (&front, &here[..bytes], client),
        };
        let Way { is_cut, delay } = *way.borrow();
        let Some(to) = to.filter(|_| !is_cut) else {
            continue;
        };
        if delay.is_zero() {
            let _lost = socket.send_to(packet, to).await;
            continue;
        }
        let (socket, packet) = (socket.clone(), packet.to_vec());
        tokio::spawn(async move {
            sleep(delay).await;
            let _lost = socket.send_to(&packet, to).await;
        });
    }
}
