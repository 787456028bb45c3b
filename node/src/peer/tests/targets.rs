//! Targets that come, move and go while a node runs.

use std::{collections::BTreeSet, net::SocketAddr, time::Instant};

use super::{
    life::pair,
    world::{Certificates, Node, Plan, Relay, promise},
};
use crate::{
    names::NodeName,
    peer::{
        Direction::{Accepted, Dialled},
        Event, LinkState, PeerLink, SessionId, StartError,
        limits::{ATTEMPT_MAX, TARGETS_MAX},
        target::Targets,
    },
};

/// An address that fails at once and without a packet: the nodes here listen on IPv4.
const UNREACHABLE: &str = "[::1]:1";

fn eu_1() -> NodeName {
    "eu-1".parse().unwrap()
}

fn dial(node: &Node, address: impl ToString) {
    node.peers.dial(&eu_1(), &address.to_string()).unwrap();
}

/// Nodes `us-1` and `eu-1`, neither of which dials the other.
fn strangers() -> (Certificates, Node, Node) {
    let certificates = Certificates::new();
    let eu = Plan::new(certificates.proper("eu-1"))
        .region("eu")
        .directory(2)
        .start();
    let us = Plan::new(certificates.proper("us-1")).start();
    (certificates, us, eu)
}

/// Waits until a node dials exactly these addresses, in these states.
async fn dials(node: &Node, wanted: &[(SocketAddr, LinkState)]) {
    let is_dialled = |link: &PeerLink| link.direction == Dialled;
    node.until("the targets", |peers| {
        let mut links = peers.status();
        links.retain(is_dialled);
        let found = links.iter().map(|link| (link.address.clone(), link.state));
        let wanted = wanted
            .iter()
            .map(|(address, state)| (address.to_string(), *state));
        found.eq(wanted).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_dialled_while_running_is_reached_and_dialled_once() {
    let (_certificates, mut us, mut eu) = strangers();
    for _ in 0..10 {
        dial(&us, eu.address);
    }
    let (here, peer, _) = us.up(Dialled).await;
    assert_eq!(peer.name, eu_1());
    let (there, ..) = eu.up(Accepted).await;
    dial(&us, eu.address);
    dials(&us, &[(eu.address, LinkState::Up)]).await;
    us.peers.try_send(here, &promise(1)).unwrap();
    assert_eq!(eu.message(there).await, promise(1));
    assert_eq!(us.peers.status().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_moves_is_dialled_at_its_new_address_and_only_there() {
    let (_certificates, mut us, mut eu) = strangers();
    let relay = Relay::to(eu.address).await;
    dial(&us, eu.address);
    let (here, ..) = us.up(Dialled).await;
    let (there, ..) = eu.up(Accepted).await;
    us.peers.try_send(here, &promise(1)).unwrap();
    dial(&us, relay.address);
    let moved = relay.address.to_string();
    assert_eq!(eu.message(there).await, promise(1), "said before it moved");
    let reason = eu.down(there).await;
    assert!(
        reason.contains("goodbye") && reason.contains(&moved),
        "{reason}"
    );
    assert!(us.down(here).await.contains(&moved));
    let (again, ..) = us.up(Dialled).await;
    assert_ne!(again, here);
    dials(&us, &[(relay.address, LinkState::Up)]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_cannot_be_reached_is_dialled_at_its_new_address_at_once() {
    let (_certificates, mut us, eu) = strangers();
    dial(&us, UNREACHABLE);
    us.link(|link| link.state == LinkState::Waiting).await;
    for port in 1..200 {
        dial(&us, format!("[::1]:{port}"));
    }
    // Takes packets and never answers: the attempt is broken off.
    let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let silent = silent.local_addr().unwrap();
    let began = Instant::now();
    dial(&us, silent);
    dials(&us, &[(silent, LinkState::Connecting)]).await;
    dial(&us, eu.address);
    us.up(Dialled).await;
    assert!(began.elapsed() < ATTEMPT_MAX, "{:?}", began.elapsed());
    dials(&us, &[(eu.address, LinkState::Up)]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_given_up_is_told_and_dialled_no_more_until_it_is_back() {
    let certificates = Certificates::new();
    let mut us = Plan::new(certificates.proper("us-1")).start();
    let mut eu = Plan::new(certificates.proper("eu-1"))
        .region("eu")
        .directory(2)
        .named("us-1", us.address)
        .start();
    let (theirs, ..) = us.up(Accepted).await;
    dial(&us, eu.address);
    let (ours, ..) = us.up(Dialled).await;
    let (there, ..) = eu.up(Accepted).await;
    us.peers.undial(&eu_1(), "it left the cluster");
    us.peers.undial(&eu_1(), "it left twice");
    assert!(eu.down(there).await.contains("it left the cluster"));
    for _ in 0..2 {
        // Either order: the two are closed at once.
        let session = us.any_down().await;
        assert!(session == ours || session == theirs);
    }
    dials(&us, &[]).await;
    // It may still dial us: whether that is good is not for this layer to say.
    us.up(Accepted).await;
    dial(&us, eu.address);
    us.up(Dialled).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_is_given_up_in_the_middle_of_an_attempt() {
    let (_certificates, us, _eu) = strangers();
    let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let silent = silent.local_addr().unwrap();
    dial(&us, silent);
    dials(&us, &[(silent, LinkState::Connecting)]).await;
    us.peers.undial(&eu_1(), "it left the cluster");
    dials(&us, &[]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_configured_address_of_a_node_stays() {
    let (_certificates, us, here, mut eu, there) = pair().await;
    dial(&us, UNREACHABLE);
    us.peers.undial(&eu_1(), "it left the cluster");
    us.peers.undial(&"ap-1".parse().unwrap(), "never heard of");
    dials(&us, &[(eu.address, LinkState::Up)]).await;
    us.peers.try_send(here, &promise(1)).unwrap();
    assert_eq!(eu.message(there).await, promise(1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_a_seed_has_reached_is_dialled_by_name_when_the_seed_is_lost() {
    let (certificates, _, mut eu) = strangers();
    let relay = Relay::to(eu.address).await;
    let mut us = Plan::new(certificates.proper("us-1"))
        .directory(3)
        .seed(relay.address)
        .start();
    let (here, ..) = us.up(Dialled).await;
    let (there, ..) = eu.up(Accepted).await;
    dial(&us, eu.address);
    let (seed, named) = (relay.address, eu.address);
    dials(&us, &[(seed, LinkState::Up), (named, LinkState::Spare)]).await;
    us.peers.try_send(here, &promise(1)).unwrap();
    assert_eq!(
        eu.message(there).await,
        promise(1),
        "the seed's session stays"
    );
    relay.cut(true);
    us.peers.close(here, "its path is cut");
    us.down(here).await;
    let (again, ..) = us.up(Dialled).await;
    relay.cut(false);
    dials(&us, &[(seed, LinkState::Spare), (named, LinkState::Up)]).await;
    // The seed is a spare now, and takes over in its turn when the name is dialled no more.
    us.peers.undial(&eu_1(), "moved away");
    us.down(again).await;
    us.up(Dialled).await;
    dials(&us, &[(seed, LinkState::Up)]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_stops_dials_nobody_and_says_goodbye_to_those_it_dialled() {
    let (_certificates, mut us, mut eu) = strangers();
    dial(&us, eu.address);
    let (here, ..) = us.up(Dialled).await;
    let (there, ..) = eu.up(Accepted).await;
    us.peers.shutdown().await;
    assert!(us.down(here).await.contains("stops"));
    assert!(eu.down(there).await.contains("said goodbye"));
    dial(&us, UNREACHABLE);
    us.peers.undial(&eu_1(), "it left the cluster");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_session_that_came_up_goes_down_once_however_often_a_node_moves() {
    let (_certificates, mut us, eu) = strangers();
    let relay = Relay::to(eu.address).await;
    for round in 0..30 {
        let mut address = [eu.address, relay.address][round % 2];
        dial(&us, address);
        if round % 5 == 0 {
            us.peers.undial(&eu_1(), "it left the cluster");
            address = relay.address;
            dial(&us, address);
        }
        // In the other rounds it moves while an attempt is under way or a session ends.
        if round % 3 == 0 {
            dials(&us, &[(address, LinkState::Up)]).await;
        }
    }
    us.peers.undial(&eu_1(), "it left the cluster");
    dials(&us, &[]).await;
    us.peers.shutdown().await;
    let mut open = BTreeSet::new();
    while let Ok(event) = us.events.try_recv() {
        follow(event, &mut open);
    }
    assert!(open.is_empty(), "{open:?}");
}

/// Keeps the open sessions, of which there is one at most.
fn follow(event: Event, open: &mut BTreeSet<SessionId>) {
    match event {
        Event::Up { session, .. } => {
            assert!(open.is_empty(), "{open:?}");
            open.insert(session);
        }
        Event::Down { session, .. } => assert!(open.remove(&session), "{session:?}"),
        Event::Message { .. } | Event::Failed { .. } => panic!("{event:?}"),
    }
}

#[test]
fn targets_are_bounded_and_none_is_this_node() {
    let certificates = Certificates::new();
    let us = certificates.proper("us-1");
    let (targets, mut added) = Targets::new();
    let dial = |name: &str| targets.dial(&us, &name.parse().unwrap(), UNREACHABLE);
    assert!(matches!(dial("us-1"), Err(StartError::Target { .. })));
    for number in 0..TARGETS_MAX {
        dial(&format!("eu-{number}")).unwrap();
    }
    let refused = dial("ap-1").unwrap_err();
    assert!(
        matches!(refused, StartError::TooManyTargets { .. }),
        "{refused}"
    );
    dial("eu-0").unwrap();
    // Its place is free when its dialler has ended.
    assert!(targets.undial(&"eu-0".parse().unwrap(), "it left"));
    assert!(dial("ap-1").is_err());
    drop(added.try_recv().unwrap());
    dial("ap-1").unwrap();
}
