//! Peers that send anything: the session ends with a reason, the node goes on.

use std::{net::SocketAddr, sync::Arc};

use quinn::{
    Connection, ConnectionError, Endpoint, TransportConfig, crypto::rustls::QuicClientConfig,
};
use rand::{RngCore, SeedableRng, rngs::StdRng};
use tokio::{net::UdpSocket, time::timeout};

use super::world::{Certificates, Node, PATIENCE, Plan, identity, promise};
use crate::{
    core::identity::DirectoryId,
    peer::{
        Direction::{Accepted, Dialled},
        Refusal, RefusalKind, frame,
        wire::{
            Control, Greeting, NodeInfo, STREAM_MESSAGES, VERSIONS, encode_control, encode_message,
        },
    },
    tls::Credentials,
};

/// Speaks QUIC with a good certificate, and then whatever it likes.
pub(super) struct Stranger {
    pub(super) connection: Connection,
    _endpoint: Endpoint,
}

impl Stranger {
    async fn dial(credentials: &Credentials, address: SocketAddr) -> Self {
        Self::dial_with(credentials, address, TransportConfig::default()).await
    }

    pub(super) async fn dial_with(
        credentials: &Credentials,
        address: SocketAddr,
        transport: TransportConfig,
    ) -> Self {
        let mut endpoint = Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
        let crypto = QuicClientConfig::try_from(credentials.dialling(None).unwrap()).unwrap();
        let mut config = quinn::ClientConfig::new(Arc::new(crypto));
        config.transport_config(Arc::new(transport));
        endpoint.set_default_client_config(config);
        let connecting = endpoint.connect(address, "demo.meridian").unwrap();
        let connection = timeout(PATIENCE, connecting).await.unwrap().unwrap();
        Self {
            connection,
            _endpoint: endpoint,
        }
    }

    async fn closed(&self) -> ConnectionError {
        timeout(PATIENCE, self.connection.closed())
            .await
            .expect("the node closes the connection")
    }

    /// Why the node refused.
    pub(super) async fn refusal(&self) -> RefusalKind {
        let error = self.closed().await;
        let refusal: Option<(_, Refusal)> = Refusal::behind(&error);
        refusal.unwrap_or_else(|| panic!("{error}")).1.kind
    }

    /// Opens the control stream with these bytes.
    pub(super) async fn open(&self, bytes: &[u8]) -> (quinn::SendStream, quinn::RecvStream) {
        let (mut control, answers) = self.connection.open_bi().await.unwrap();
        control.write_all(bytes).await.unwrap();
        (control, answers)
    }

    /// Greets as `us-9` should.
    pub(super) async fn greet(&self) -> (quinn::SendStream, quinn::RecvStream) {
        self.open(&framed(&Greeting::Hello(card()).encode())).await
    }

    /// Opens the message stream with these bytes.
    pub(super) async fn say(&self, bytes: &[u8]) -> quinn::SendStream {
        let mut messages = self.connection.open_uni().await.unwrap();
        messages.write_all(bytes).await.unwrap();
        messages
    }
}

fn card() -> NodeInfo {
    NodeInfo {
        cluster: "demo".parse().unwrap(),
        node: "us-9".parse().unwrap(),
        region: "us".parse().unwrap(),
        directory: DirectoryId(9),
        former: Vec::new(),
        instance: 9,
        actors: identity(9).actors,
    }
}

pub(super) fn framed(payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    frame::encode(payload, &mut frame);
    frame
}

pub(super) fn noise(bytes: usize, seed: u64) -> Vec<u8> {
    let mut noise = vec![0; bytes];
    StdRng::seed_from_u64(seed).fill_bytes(&mut noise);
    noise
}

/// A node of `demo`, and a stranger with a certificate for `us-9`.
pub(super) async fn visited() -> (Certificates, Node, Stranger) {
    let certificates = Certificates::new();
    let node = Plan::new(certificates.proper("eu-1")).region("eu").start();
    let stranger = Stranger::dial(&certificates.proper("us-9"), node.address).await;
    (certificates, node, stranger)
}

/// A node that was mistreated still takes good peers.
async fn still_serves(certificates: &Certificates, node: &mut Node) {
    let mut us = Plan::new(certificates.proper("us-1"))
        .directory(4)
        .seed(node.address)
        .start();
    let (here, ..) = us.up(Dialled).await;
    loop {
        let (there, peer, _) = node.up(Accepted).await;
        if peer.name.as_str() == "us-1" {
            us.peers.try_send(here, &promise(1)).unwrap();
            assert_eq!(node.message(there).await, promise(1));
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_datagrams_do_not_disturb_a_node() {
    let certificates = Certificates::new();
    let mut node = Plan::new(certificates.proper("eu-1")).region("eu").start();
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    for round in 0..2000 {
        let mut datagram = noise((round * 7) % 1400 + 1, round as u64);
        if round % 2 == 0 {
            // A long header of QUIC version 1, then noise.
            let header = [0xc3, 0, 0, 0, 1, 8];
            let kept = header.len().min(datagram.len());
            datagram[..kept].copy_from_slice(&header[..kept]);
        }
        socket.send_to(&datagram, node.address).await.unwrap();
    }
    still_serves(&certificates, &mut node).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn noise_instead_of_a_greeting_is_refused() {
    let (certificates, mut node, stranger) = visited().await;
    let _control = stranger.open(&noise(5000, 1)).await;
    assert_eq!(stranger.refusal().await, RefusalKind::Malformed);
    let refused = node
        .refused(|refused| refused.refusal.kind == RefusalKind::Malformed)
        .await;
    assert_eq!(refused.name.unwrap().as_str(), "us-9");
    still_serves(&certificates, &mut node).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn noise_in_a_good_frame_is_refused_as_a_greeting() {
    for (seed, payload) in [
        (0, vec![]),
        (1, noise(3, 1)),
        (2, [vec![1, 1, 1], noise(400, 2)].concat()),
    ] {
        let (_certificates, _node, stranger) = visited().await;
        let _control = stranger.open(&framed(&payload)).await;
        let kind = stranger.refusal().await;
        assert!(
            matches!(kind, RefusalKind::Malformed | RefusalKind::Version),
            "{seed}: {kind:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_greeting_that_claims_to_be_huge_is_refused_on_its_header() {
    let (_certificates, _node, stranger) = visited().await;
    let mut header = vec![1, 0];
    header.extend_from_slice(&u32::MAX.to_le_bytes());
    header.extend_from_slice(&u32::MAX.to_le_bytes());
    header.extend_from_slice(&[0; 4]);
    let _control = stranger.open(&header).await;
    assert_eq!(stranger.refusal().await, RefusalKind::Malformed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_of_a_future_release_is_told_so_without_its_greeting_being_read() {
    let (_certificates, node, stranger) = visited().await;
    let mut hello = Greeting::Hello(card()).encode();
    (hello[1], hello[2]) = (200, 201);
    hello.truncate(20);
    let _control = stranger.open(&framed(&hello)).await;
    assert_eq!(stranger.refusal().await, RefusalKind::Version);
    let refused = node
        .refused(|refused| refused.refusal.kind == RefusalKind::Version)
        .await;
    assert!(
        refused.refusal.text.contains("200 to 201") && refused.refusal.text.contains("upgrade"),
        "{refused:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_never_greets_is_closed() {
    let (_certificates, _node, stranger) = visited().await;
    let error = stranger.closed().await;
    assert!(error.to_string().contains("no greeting within"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn malformed_messages_end_the_session_and_not_the_node() {
    let good = encode_message(*VERSIONS.end(), &promise(1));
    let mut bad_checksum = framed(&good);
    *bad_checksum.last_mut().unwrap() ^= 1;
    let mut newer = good.clone();
    newer[0] = VERSIONS.end() + 1;
    let mut unknown = good.clone();
    unknown[1] = 250;
    let streams = [
        (vec![99], "of a kind that is not known"),
        (
            [vec![STREAM_MESSAGES], noise(2000, 7)].concat(),
            "malformed frame",
        ),
        ([vec![STREAM_MESSAGES], bad_checksum].concat(), "checksum"),
        ([vec![STREAM_MESSAGES], framed(&newer)].concat(), "newer"),
        (
            [vec![STREAM_MESSAGES], framed(&unknown)].concat(),
            "malformed content",
        ),
        (
            [vec![STREAM_MESSAGES], framed(&noise(900, 8))].concat(),
            "malformed content",
        ),
        (
            [vec![STREAM_MESSAGES], framed(&[])].concat(),
            "malformed content",
        ),
    ];
    for (bytes, words) in streams {
        let (certificates, mut node, stranger) = visited().await;
        let _control = stranger.greet().await;
        let (session, ..) = node.up(Accepted).await;
        let _messages = stranger.say(&bytes).await;
        let reason = node.down(session).await;
        assert!(reason.contains(words), "'{words}' is not in: {reason}");
        assert!(stranger.closed().await.to_string().contains(words));
        still_serves(&certificates, &mut node).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn malformed_control_letters_end_the_session() {
    for bytes in [
        noise(100, 3),
        framed(&noise(100, 4)),
        framed(&vec![0; 5000]),
    ] {
        let (_certificates, mut node, stranger) = visited().await;
        let (mut control, _answers) = stranger.greet().await;
        let (session, ..) = node.up(Accepted).await;
        control.write_all(&bytes).await.unwrap();
        let reason = node.down(session).await;
        assert!(reason.contains("malformed"), "{reason}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_said_well_before_the_noise_is_delivered() {
    let (_certificates, mut node, stranger) = visited().await;
    let _control = stranger.greet().await;
    let (session, ..) = node.up(Accepted).await;
    let good = framed(&encode_message(*VERSIONS.end(), &promise(8)));
    let _messages = stranger
        .say(&[vec![STREAM_MESSAGES], good, noise(500, 5)].concat())
        .await;
    assert_eq!(node.message(session).await, promise(8));
    assert!(node.down(session).await.contains("malformed frame"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_acknowledges_packets_but_says_nothing_is_down_after_three_seconds() {
    let (_certificates, mut node, stranger) = visited().await;
    let _control = stranger.greet().await;
    let (session, ..) = node.up(Accepted).await;
    assert!(node.down(session).await.contains("nothing was heard"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_goodbye_after_which_nothing_ends_is_ended() {
    let (_certificates, mut node, stranger) = visited().await;
    let (mut control, _answers) = stranger.greet().await;
    let (session, ..) = node.up(Accepted).await;
    let bye = Control::Bye {
        reason: "so\nlong".repeat(200),
    };
    control
        .write_all(&framed(&encode_control(*VERSIONS.end(), &bye)))
        .await
        .unwrap();
    let reason = node.down(session).await;
    assert!(
        reason.starts_with("the peer said goodbye: so long") && reason.len() < 600,
        "{reason}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_protocol_is_turned_away_by_tls() {
    let certificates = Certificates::new();
    let node = Plan::new(certificates.proper("eu-1")).start();
    let mut tls = certificates.proper("us-9").dialling(None).unwrap();
    tls.alpn_protocols = vec![b"h3".to_vec()];
    let crypto = QuicClientConfig::try_from(tls).unwrap();
    let endpoint = Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
    let config = quinn::ClientConfig::new(Arc::new(crypto));
    let connecting = endpoint
        .connect_with(config, node.address, "demo.meridian")
        .unwrap();
    let error = timeout(PATIENCE, connecting).await.unwrap().unwrap_err();
    assert!(
        Refusal::behind(&error)
            .unwrap()
            .1
            .text
            .contains("not a Meridian peer"),
        "{error}"
    );
}
