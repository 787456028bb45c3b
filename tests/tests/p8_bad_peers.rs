//! Peers that are none, or that say anything: refused or ended with a reason in the logs, while the good ones are served.
//!
//! Goal: whoever reaches the peers' door without belonging there changes nothing, and whoever belongs there and is broken harms
//! nobody but itself.
//! Method: real nodes, and a stranger that speaks QUIC by itself, with frames written by hand as the protocol says.

#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, its helpers too"
)]

use std::{
    fs,
    net::{SocketAddr, UdpSocket},
    path::Path,
    sync::Arc,
};

use node::tls::{ALPN_PEER, Credentials};
use quinn::{Connection, ConnectionError, Endpoint, crypto::rustls::QuicClientConfig};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    version::TLS13,
};
use tests::hostile::{PATIENCE, Plan, Reply, Running, Site, noise, pair, quoted};
use tokio::{runtime::Runtime, time::timeout};

/// Fails unless writes go both ways between these nodes.
fn they_replicate(left: &Running, right: &Running) {
    let key = format!("k{}", rand::random::<u64>());
    let back = format!("{key}-back");
    assert_eq!(left.client().ask(&["SET", &key, "there"]), Reply::ok());
    assert_eq!(right.client().ask(&["SET", &back, "here"]), Reply::ok());
    right.comes_to_hold(&key, "there");
    left.comes_to_hold(&back, "here");
}

#[test]
fn random_datagrams_do_not_disturb_a_node() {
    let site = Site::new();
    let [(_, us), (_, eu)] = pair(site.node("us-1"), site.node("eu-1"));
    they_replicate(&us, &eu);
    let before = us.resident();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    for round in 0..5_000u64 {
        let mut datagram = noise((round as usize * 7) % 1_400 + 1, round);
        // Headers of QUIC version 1, of a version nobody knows, of short packets, and none.
        let header: &[u8] = match round % 4 {
            0 => &[0xc3, 0, 0, 0, 1, 8],
            1 => &[0xc3, 0xba, 0xda, 0x55, 0xed, 8],
            2 => &[0x43],
            _ => &[],
        };
        let kept = header.len().min(datagram.len());
        datagram[..kept].copy_from_slice(&header[..kept]);
        // The system may drop it, as any network.
        let _ = socket.send_to(&datagram, us.quic);
    }
    they_replicate(&us, &eu);
    assert!(us.resident() < before + (64 << 20));
    assert!(!us.log().contains("panicked"));
}

/// Speaks QUIC, and then whatever it likes.
struct Stranger {
    connection: Connection,
    _endpoint: Endpoint,
}

impl Stranger {
    async fn dial(
        tls: ClientConfig,
        name: &str,
        address: SocketAddr,
    ) -> Result<Self, ConnectionError> {
        let mut endpoint = Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
        let crypto = QuicClientConfig::try_from(tls).unwrap();
        endpoint.set_default_client_config(quinn::ClientConfig::new(Arc::new(crypto)));
        let connecting = endpoint.connect(address, name).unwrap();
        let connection = timeout(PATIENCE, connecting).await.unwrap()?;
        Ok(Self {
            connection,
            _endpoint: endpoint,
        })
    }

    /// With the certificate of a node of the site.
    async fn of(site: &Site, name: &str, address: SocketAddr) -> Self {
        let tls = site.tls();
        let file = |extension: &str| tls.join(format!("{name}.{extension}"));
        let (cluster, node) = ("demo".parse().unwrap(), name.parse().unwrap());
        let credentials = Credentials::load(
            &tls.join("ca.pem"),
            &file("pem"),
            &file("key"),
            &cluster,
            &node,
        );
        let tls = credentials.unwrap().dialling(None).unwrap();
        Self::dial(tls, "demo.meridian", address).await.unwrap()
    }

    /// Why the node closed the connection.
    async fn closed(&self) -> String {
        let error = timeout(PATIENCE, self.connection.closed()).await;
        error.expect("the node closes the connection").to_string()
    }
}

/// A frame as the protocol says: version, flags, length as carried and as it was, checksum, payload.
fn framed(payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![1, 0];
    for _ in 0..2 {
        frame.extend_from_slice(&(payload.len() as u32).to_le_bytes());
    }
    let checksum = crc32(frame.iter().chain(payload));
    frame.extend_from_slice(&checksum.to_le_bytes());
    frame.extend_from_slice(payload);
    frame
}

fn crc32<'a>(bytes: impl Iterator<Item = &'a u8>) -> u32 {
    !bytes.fold(!0, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| {
            (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg())
        })
    })
}

/// The greeting of a node: kind, versions, and its card.
fn hello(cluster: &str, node: &str, region: &str) -> Vec<u8> {
    let mut hello = vec![1, 7, 7, 3];
    for word in [cluster, node, region] {
        hello.push(word.len() as u8);
        hello.extend_from_slice(word.as_bytes());
    }
    // Directory, no former ones, instance, and one actor: the directory's first.
    hello.extend_from_slice(&[9, 0, 9, 1, 252]);
    hello.extend_from_slice(&(9u32 << 16).to_le_bytes());
    framed(&hello)
}

/// What a stranger says, on the control stream and on the message stream, and what the node's log says of it.
type Nonsense = (Vec<u8>, Option<Vec<u8>>, &'static [&'static str]);

fn nonsense() -> Vec<Nonsense> {
    let greeting = hello("demo", "us-9", "us");
    let mut huge = vec![1, 0];
    huge.extend_from_slice(&[0xff; 12]);
    let mut damaged = framed(b"a message");
    *damaged.last_mut().unwrap() ^= 1;
    let said = |messages: &[u8]| Some([&[1], messages].concat());
    vec![
        (
            noise(5_000, 1),
            None,
            &["refused a peer", "us-9", "malformed"],
        ),
        (framed(&noise(300, 2)), None, &["refused a peer", "us-9"]),
        (huge.clone(), None, &["refused a peer", "above the limit"]),
        (
            hello("prod", "us-9", "us"),
            None,
            &["refused a peer", "'prod'", "'demo'"],
        ),
        (
            hello("demo", "us-8", "us"),
            None,
            &["refused a peer", "'us-8'", "'us-9'"],
        ),
        (greeting.clone(), Some(vec![99]), &["us-9", "not known"]),
        (
            greeting.clone(),
            said(&noise(5_000, 3)),
            &["us-9", "malformed frame"],
        ),
        (greeting.clone(), said(&damaged), &["us-9", "checksum"]),
        (greeting.clone(), said(&huge), &["us-9", "above the limit"]),
        (
            greeting.clone(),
            said(&framed(&noise(700, 4))),
            &["us-9", "malformed content"],
        ),
        (
            greeting,
            said(&framed(&[4, 250])),
            &["us-9", "malformed content"],
        ),
    ]
}

#[test]
fn a_peer_with_a_good_certificate_that_talks_nonsense_is_ended_with_a_reason() {
    let site = Site::new();
    let [(_, us), (_, eu)] = pair(site.node("us-1"), site.node("eu-1"));
    site.node("us-9");
    let runtime = Runtime::new().unwrap();
    let before = eu.resident();
    for (control, messages, words) in nonsense() {
        // Only the first of the same refusals in a minute is logged: what the stranger hears tells them apart.
        let heard = runtime.block_on(async {
            let stranger = Stranger::of(&site, "us-9", eu.quic).await;
            let (mut sender, _answers) = stranger.connection.open_bi().await.unwrap();
            sender.write_all(&control).await.unwrap();
            if let Some(bytes) = &messages {
                let mut sender = stranger.connection.open_uni().await.unwrap();
                sender.write_all(bytes).await.unwrap();
                return stranger.closed().await;
            }
            stranger.closed().await
        });
        let word = words.last().unwrap();
        let is_told = heard.contains(word) || *word == "us-9";
        assert!(is_told, "'{word}' is not in what was heard: {heard}");
        eu.logged(&["us-9"]);
    }
    eu.logged(&["refused a peer", "us-9", "malformed"]);
    eu.logged(&["us-9", "malformed frame"]);
    eu.logged(&["us-9", "malformed content"]);
    they_replicate(&us, &eu);
    assert!(eu.resident() < before + (64 << 20));
    assert!(!eu.log().contains("panicked"));
}

/// A client's TLS that checks little and shows what it is told to.
fn careless(ca: &Path, certificate: &Path, key: &Path) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_file(ca).unwrap())
        .unwrap();
    let chain = vec![CertificateDer::from_pem_file(certificate).unwrap()];
    let mut tls = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, PrivateKeyDer::from_pem_file(key).unwrap())
        .unwrap();
    tls.alpn_protocols = vec![ALPN_PEER.to_vec()];
    tls
}

#[test]
fn certificates_that_a_node_would_not_start_with_are_refused_from_others_too() {
    let site = Site::new();
    let plan = site.node("eu-1");
    let others = Site::new();
    others.node("us-1");
    site.issue("old", &["us-7.demo.meridian"], 2020..2021);
    site.issue("new", &["us-7.demo.meridian"], 2090..2091);
    site.issue("prod", &["us-7.prod.meridian"], 2020..2090);
    let runtime = Runtime::new().unwrap();
    for (folder, label, words) in [
        (&site, "old", "expired"),
        (&site, "new", "not valid yet"),
        (&site, "prod", "us-7.prod.meridian"),
        (&others, "us-1", "unknown CA"),
    ] {
        // A node logs the same kind of refusal of one host once a minute: each has its own.
        let eu = plan.start();
        let file = |extension: &str| folder.tls().join(format!("{label}.{extension}"));
        let tls = careless(&site.tls().join("ca.pem"), &file("pem"), &file("key"));
        let refused = runtime.block_on(async {
            match Stranger::dial(tls, "eu-1.demo.meridian", eu.quic).await {
                Ok(stranger) => stranger.closed().await,
                Err(error) => error.to_string(),
            }
        });
        assert!(
            refused.contains("error") || refused.contains("alert"),
            "{label}: {refused}"
        );
        eu.logged(&["refused a peer", "reason=\"certificate\"", words]);
        eu.serves();
    }
}

/// Fails unless both logs have a refusal with these words, one by each side.
fn both_logged(refuser: &Running, refused: &Running, words: &[&str]) {
    refuser.logged(&[&["WARN", "refused a peer"], words].concat());
    refused.logged(&[&["WARN", "a peer refused this node"], words].concat());
}

fn two(left: &Plan, right: &Plan) -> (Running, Running) {
    let right = right.start();
    (left.clone().seed(right.quic).start(), right)
}

#[test]
fn a_node_of_another_authority_is_refused_in_both_logs() {
    let (site, others) = (Site::new(), Site::new());
    let (us, eu) = two(&others.node("us-1"), &site.node("eu-1"));
    both_logged(&us, &eu, &["reason=\"certificate\"", "unknown CA"]);
    us.serves();
    eu.serves();
}

#[test]
fn a_node_of_another_cluster_is_refused_in_both_logs() {
    let site = Site::new();
    // One authority and certificates for both: only the configuration says another cluster.
    site.issue(
        "us-both",
        &["us-1.prod.meridian", "us-1.demo.meridian"],
        2020..2090,
    );
    site.issue(
        "eu-both",
        &["eu-1.demo.meridian", "eu-1.prod.meridian"],
        2020..2090,
    );
    let us = site.node("us-1").certificate(&site.tls(), "us-both");
    let eu = site.node("eu-1").certificate(&site.tls(), "eu-both");
    let (us, eu) = two(&us.set("node.cluster", quoted("prod")), &eu);
    both_logged(
        &eu,
        &us,
        &["reason=\"cluster\"", "'demo'", "'prod'", "[node] cluster"],
    );
    us.serves();
    eu.serves();
}

#[test]
fn a_second_node_of_one_name_is_refused_in_both_logs() {
    let site = Site::new();
    let first = site.node("us-1");
    let second = first.clone().label("second");
    let second = second.set(
        "node.data_dir",
        quoted(site.path().join("second").display()),
    );

    // By the node that has the name itself.
    let (other, one) = two(&second, &first);
    both_logged(
        &one,
        &other,
        &["reason=\"own_name\"", "'us-1'", "another name"],
    );
    assert!(other.stop().success());
    assert!(one.stop().success());

    // By a third one that knows the first.
    let eu_plan = site.node("eu-1");
    let eu = eu_plan.start();
    let one = first.seed(eu.quic).start();
    one.logged(&["peer is up", "eu-1"]);
    let other = second.seed(eu.quic).start();
    both_logged(&eu, &other, &["reason=\"duplicate_name\"", "'us-1'"]);
    assert_eq!(one.client().ask(&["SET", "k", "v"]), Reply::ok());
    eu.comes_to_hold("k", "v");
    assert!(fs::exists(site.path().join("second")).unwrap());
}
