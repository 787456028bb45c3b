//! Datagrams beside the streams of a session: whose they are, how large they may be, and that nobody waits for them.

use bytes::Bytes;
use quinn::TransportConfig;
use tokio::sync::mpsc::error::TryRecvError;

use super::{
    hostile::{Stranger, framed, noise, visited},
    life::pair,
    world::{Certificates, Node, Plan, promise},
};
use crate::{
    names::NodeName,
    peer::{
        Datagram, DatagramError,
        Direction::{Accepted, Dialled},
        Recipient, RefusalKind,
        limits::{DATAGRAM_BYTES_MAX, DATAGRAM_BYTES_SAFE},
        wire::{STREAM_MESSAGES, VERSIONS, encode_message},
    },
};

fn name(name: &str) -> NodeName {
    name.parse().unwrap()
}

fn send(node: &Node, to: &str, bytes: &[u8]) -> Result<(), DatagramError> {
    let bytes = Bytes::copy_from_slice(bytes);
    node.peers.send_datagram(Recipient::Node(&name(to)), bytes)
}

fn datagram(from: &str, address: impl ToString, bytes: &[u8]) -> Datagram {
    Datagram {
        from: name(from),
        address: address.to_string(),
        bytes: Bytes::copy_from_slice(bytes),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_datagram_arrives_with_the_name_and_the_address_of_its_sender() {
    let (_certificates, mut us, _, mut eu, _) = pair().await;
    // As large as it may be on any path, before the path was measured.
    let bytes = noise(DATAGRAM_BYTES_SAFE, 1);
    send(&us, "eu-1", &bytes).unwrap();
    assert_eq!(eu.datagram().await, datagram("us-1", us.address, &bytes));
    send(&eu, "us-1", &bytes).unwrap();
    assert_eq!(us.datagram().await, datagram("eu-1", eu.address, &bytes));
    let dialled = eu.address.to_string();
    let by_address = |address| {
        us.peers
            .send_datagram(Recipient::Address(address), Bytes::from_static(b"seed"))
    };
    by_address(&dialled).unwrap();
    assert_eq!(eu.datagram().await, datagram("us-1", us.address, b"seed"));
    assert_eq!(by_address("127.0.0.1:1"), Err(DatagramError::NoSession));
    let accepted = us.address.to_string();
    let sent = eu
        .peers
        .send_datagram(Recipient::Address(&accepted), Bytes::new());
    assert_eq!(sent, Err(DatagramError::NoSession), "nothing was dialled");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_datagram_above_what_the_path_takes_is_refused_with_the_limit() {
    let (_certificates, us, _, _eu, _) = pair().await;
    let bytes = DATAGRAM_BYTES_MAX + 1;
    match send(&us, "eu-1", &noise(bytes, 1)) {
        Err(DatagramError::TooLarge { bytes: said, limit }) => {
            assert_eq!(said, bytes);
            assert!((DATAGRAM_BYTES_SAFE..=DATAGRAM_BYTES_MAX).contains(&limit));
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_safe_size_is_what_an_unmeasured_path_takes() {
    let certificates = Certificates::new();
    let eu = Plan::new(certificates.proper("eu-1")).region("eu").start();
    let mut narrow = TransportConfig::default();
    narrow.mtu_discovery_config(None);
    let stranger = Stranger::dial_with(&certificates.proper("us-9"), eu.address, narrow).await;
    let limit = stranger.connection.max_datagram_size();
    assert_eq!(limit, Some(DATAGRAM_BYTES_SAFE));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn none_is_taken_before_a_session_is_agreed_on() {
    let (certificates, mut eu, stranger) = visited().await;
    let early = Bytes::from_static(b"early");
    stranger.connection.send_datagram(early).unwrap();
    assert_eq!(send(&eu, "us-9", b"hello"), Err(DatagramError::NoSession));
    let _control = stranger.open(&noise(5000, 1)).await;
    assert_eq!(stranger.refusal().await, RefusalKind::Malformed);
    let mut us = Plan::new(certificates.proper("us-1"))
        .directory(4)
        .seed(eu.address)
        .start();
    us.up(Dialled).await;
    send(&us, "eu-1", b"proper").unwrap();
    assert_eq!(eu.datagram().await.bytes, b"proper"[..]);
    assert_eq!(eu.datagrams.try_recv(), Err(TryRecvError::Empty));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn datagrams_are_dropped_while_nobody_takes_them_and_nothing_waits_for_it() {
    let certificates = Certificates::new();
    let mut plan = Plan::new(certificates.proper("eu-1"))
        .region("eu")
        .directory(2);
    plan.datagrams_max = 1;
    let mut eu = plan.start();
    let mut us = Plan::new(certificates.proper("us-1"))
        .seed(eu.address)
        .start();
    let (here, ..) = us.up(Dialled).await;
    let (there, ..) = eu.up(Accepted).await;
    for _ in 0..500 {
        send(&us, "eu-1", b"many").unwrap();
    }
    us.peers.try_send(here, &promise(1)).unwrap();
    assert_eq!(eu.message(there).await, promise(1));
    // One is taken for each that is sent, so what waits of the many comes to its end.
    let mut taken = 0;
    loop {
        send(&us, "eu-1", b"last").unwrap();
        taken += 1;
        if eu.datagram().await.bytes == b"last"[..] {
            break;
        }
    }
    assert!(taken <= 500, "{taken}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_takes_no_datagrams_is_a_peer_all_the_same() {
    let certificates = Certificates::new();
    let mut eu = Plan::new(certificates.proper("eu-1")).region("eu").start();
    let mut older = TransportConfig::default();
    older.datagram_receive_buffer_size(None);
    let stranger = Stranger::dial_with(&certificates.proper("us-9"), eu.address, older).await;
    let _control = stranger.greet().await;
    let (session, ..) = eu.up(Accepted).await;
    assert_eq!(send(&eu, "us-9", b"hello"), Err(DatagramError::Unsupported));
    let message = framed(&encode_message(*VERSIONS.end(), &promise(8)));
    let _messages = stranger
        .say(&[vec![STREAM_MESSAGES], message].concat())
        .await;
    assert_eq!(eu.message(session).await, promise(8));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_datagram_above_the_limit_is_ignored_when_it_comes() {
    let certificates = Certificates::new();
    let mut eu = Plan::new(certificates.proper("eu-1")).region("eu").start();
    let mut wide = TransportConfig::default();
    wide.initial_mtu(1452);
    let stranger = Stranger::dial_with(&certificates.proper("us-9"), eu.address, wide).await;
    let _control = stranger.greet().await;
    eu.up(Accepted).await;
    for bytes in [DATAGRAM_BYTES_MAX + 1, DATAGRAM_BYTES_MAX] {
        let bytes = Bytes::from(noise(bytes, 1));
        stranger.connection.send_datagram(bytes).unwrap();
    }
    assert_eq!(eu.datagram().await.bytes.len(), DATAGRAM_BYTES_MAX);
    assert_eq!(eu.datagrams.try_recv(), Err(TryRecvError::Empty));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_is_over_takes_no_datagrams() {
    let (_certificates, mut us, here, mut eu, there) = pair().await;
    eu.peers.shutdown().await;
    us.down(here).await;
    eu.down(there).await;
    for (node, to) in [(&us, "eu-1"), (&eu, "us-1")] {
        assert_eq!(send(node, to, b"hello"), Err(DatagramError::NoSession));
    }
}
