//! Sessions that work: messages, order, backpressure, ends and returns.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{
    sync::mpsc::error::TryRecvError,
    time::{sleep, timeout},
};

use super::world::{Certificates, Node, PATIENCE, Plan, Relay, held, identity, promise, ship};
use crate::{
    core::identity::DirectoryId,
    peer::{
        Direction::{Accepted, Dialled},
        LinkState, SendError, SessionId, SystemClock, WallClock,
        limits::{FRAME_BYTES_MAX, QUEUE_BYTES_MAX, SILENCE_MAX},
    },
    storage::record::shortage::Shortage,
};

/// Two nodes, of which the first dials the second, and their session's number at each.
pub(super) async fn pair() -> (Certificates, Node, SessionId, Node, SessionId) {
    let certificates = Certificates::new();
    let mut eu = Plan::new(certificates.proper("eu-1"))
        .region("eu")
        .directory(2)
        .start();
    let mut us = Plan::new(certificates.proper("us-1"))
        .named("eu-1", eu.address)
        .start();
    let (here, ..) = us.up(Dialled).await;
    let (there, ..) = eu.up(Accepted).await;
    (certificates, us, here, eu, there)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_nodes_introduce_themselves_and_talk_both_ways_in_order() {
    let certificates = Certificates::new();
    let mut eu = Plan::new(certificates.proper("eu-1"))
        .region("eu")
        .directory(2)
        .start();
    let mut us = Plan::new(certificates.proper("us-1"))
        .seed(eu.address)
        .start();
    let (here, peer, answer) = us.up(Dialled).await;
    assert_eq!((peer.name.as_str(), peer.region.as_str()), ("eu-1", "eu"));
    assert_eq!(
        (peer.directory, peer.actors),
        (DirectoryId(2), identity(2).actors)
    );
    assert_eq!(answer.held, [held(identity(1).actors[0])]);
    assert_eq!(answer.shortage, Shortage::MISSED);
    let (there, peer, answer) = eu.up(Accepted).await;
    assert_eq!(
        (peer.name.as_str(), peer.region.as_str(), answer.held.len()),
        ("us-1", "us", 0)
    );
    for number in 0..1000 {
        us.peers.try_send(here, &promise(number)).unwrap();
        eu.peers.try_send(there, &promise(number + 5000)).unwrap();
    }
    for number in 0..1000 {
        assert_eq!(eu.message(there).await, promise(number));
        assert_eq!(us.message(here).await, promise(number + 5000));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_nodes_that_dial_each_other_have_a_session_each_way() {
    let certificates = Certificates::new();
    let us = Plan::new(certificates.proper("us-1")).start();
    let us_address = us.address;
    us.peers.shutdown().await;
    drop(us);
    let mut eu = Plan::new(certificates.proper("eu-1"))
        .region("eu")
        .directory(2)
        .seed(us_address)
        .start();
    let mut us = Plan::new(certificates.proper("us-1"))
        .listen(us_address)
        .seed(eu.address)
        .start_again()
        .await;
    for node in [&mut us, &mut eu] {
        let (dialled, ..) = node.up(Dialled).await;
        let (accepted, ..) = node.up(Accepted).await;
        assert_ne!(dialled, accepted);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_messages_pass_and_larger_ones_are_refused_at_the_sender() {
    let (_certificates, us, here, mut eu, there) = pair().await;
    let large = ship(4 << 20);
    us.peers.try_send(here, &large).unwrap();
    assert!(eu.message(there).await == large);
    let larger = ship(QUEUE_BYTES_MAX + (4 << 20));
    us.peers.try_send(here, &larger).unwrap();
    assert!(
        eu.message(there).await == larger,
        "one message may be larger than the queue"
    );
    let refused = us.peers.try_send(here, &ship(FRAME_BYTES_MAX));
    assert!(
        matches!(refused, Err(SendError::TooLarge { .. })),
        "{refused:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_who_stalls_fills_the_senders_queue_but_is_not_taken_for_dead() {
    let certificates = Certificates::new();
    let mut plan = Plan::new(certificates.proper("eu-1"))
        .region("eu")
        .directory(2);
    plan.events_max = 1;
    let mut eu = plan.start();
    let mut us = Plan::new(certificates.proper("us-1"))
        .seed(eu.address)
        .start();
    let (here, ..) = us.up(Dialled).await;
    let (there, ..) = eu.up(Accepted).await;
    let message = ship(1 << 20);
    let mut sent = 0;
    let fill = async {
        // Full for good, not just until the writer has taken some: a second in which nothing fits.
        let mut fitted = Instant::now();
        while fitted.elapsed() < Duration::from_secs(1) {
            match us.peers.try_send(here, &message) {
                Ok(()) => (sent, fitted) = (sent + 1, Instant::now()),
                Err(error) => {
                    assert_eq!(error, SendError::Full);
                    tokio::task::yield_now().await;
                }
            }
        }
    };
    timeout(PATIENCE, fill).await.expect("the queue fills");
    assert!(sent < 64, "{sent} MiB were taken without a reader");
    // What is tested is that time passes and nothing happens.
    sleep(SILENCE_MAX + Duration::from_millis(1500)).await;
    assert_eq!(us.events.try_recv(), Err(TryRecvError::Empty));
    for link in us.peers.status().iter().chain(&eu.peers.status()) {
        assert_eq!(link.state, LinkState::Up);
        assert!(
            link.last_heard.unwrap() < SILENCE_MAX / 2 && link.rtt_ms.is_some(),
            "{link:?}"
        );
    }
    for _ in 0..sent {
        assert!(eu.message(there).await == message);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shutdown_hands_over_what_is_queued_and_says_goodbye() {
    let (_certificates, mut us, here, mut eu, there) = pair().await;
    for number in 0..1000 {
        us.peers.try_send(here, &promise(number)).unwrap();
    }
    let began = Instant::now();
    us.peers.shutdown().await;
    assert!(began.elapsed() < SILENCE_MAX);
    for number in 0..1000 {
        assert_eq!(eu.message(there).await, promise(number));
    }
    let reason = eu.down(there).await;
    assert!(reason.contains("said goodbye: the node stops"), "{reason}");
    us.down(here).await;
    assert_eq!(us.peers.try_send(here, &promise(0)), Err(SendError::Closed));
    assert_eq!(
        eu.peers.try_send(there, &promise(0)),
        Err(SendError::Closed)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_closed_session_tells_both_sides_why_and_is_dialled_again() {
    let (_certificates, mut us, here, mut eu, there) = pair().await;
    eu.peers.try_send(there, &promise(1)).unwrap();
    eu.peers.close(there, "the stream went wrong");
    assert_eq!(us.message(here).await, promise(1));
    assert!(us.down(here).await.contains("the stream went wrong"));
    assert_eq!(eu.down(there).await, "the stream went wrong");
    us.up(Dialled).await;
    eu.up(Accepted).await;
}

/// On one thread, so that nothing happens between the two closes: neither goodbye is there when the other is said.
#[tokio::test]
async fn two_sides_that_close_at_once_each_keep_the_reason_they_were_given() {
    let (_certificates, mut us, here, mut eu, there) = pair().await;
    us.peers.close(here, "ours");
    eu.peers.close(there, "theirs");
    assert_eq!(us.down(here).await, "ours");
    assert_eq!(eu.down(there).await, "theirs");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_restarts_on_its_port_is_dialled_again() {
    let (certificates, mut us, here, eu, _) = pair().await;
    let address = eu.address;
    eu.peers.shutdown().await;
    drop(eu);
    us.down(here).await;
    us.link(|link| link.state == LinkState::Waiting && link.last_error.is_some())
        .await;
    let mut eu = Plan::new(certificates.proper("eu-1"))
        .region("eu")
        .directory(3)
        .listen(address)
        .start_again()
        .await;
    let (_, peer, _) = us.up(Dialled).await;
    assert_eq!(peer.directory, DirectoryId(3));
    eu.up(Accepted).await;
}

#[test]
fn a_killed_peer_that_is_back_is_noticed_before_its_silence_would_be() {
    let runtime = || {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap()
    };
    let (here, there) = (runtime(), runtime());
    let certificates = Certificates::new();
    let eu = there.block_on(async {
        Plan::new(certificates.proper("eu-1"))
            .region("eu")
            .directory(2)
            .start()
    });
    let address = eu.address;
    let mut us =
        here.block_on(async { Plan::new(certificates.proper("us-1")).seed(address).start() });
    let (session, ..) = here.block_on(us.up(Dialled));
    // Without a runtime nothing is sent any more, as if the process had been killed.
    there.shutdown_timeout(PATIENCE);
    drop(eu);
    let plan = Plan::new(certificates.proper("eu-1"))
        .region("eu")
        .directory(3)
        .listen(address);
    let eu = here.block_on(plan.start_again());
    let began = Instant::now();
    let reason = here.block_on(us.down(session));
    assert!(
        began.elapsed() < SILENCE_MAX - Duration::from_millis(500),
        "{:?}",
        began.elapsed()
    );
    assert!(reason.contains("restarted"), "{reason}");
    let (_, peer, _) = here.block_on(us.up(Dialled));
    assert_eq!(peer.directory, DirectoryId(3));
    drop(eu);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cut_is_noticed_and_a_healed_path_is_used_again_within_seconds() {
    let certificates = Certificates::new();
    let mut eu = Plan::new(certificates.proper("eu-1"))
        .region("eu")
        .directory(2)
        .start();
    let relay = Relay::to(eu.address).await;
    let mut us = Plan::new(certificates.proper("us-1"))
        .named("eu-1", relay.address)
        .start();
    let (here, ..) = us.up(Dialled).await;
    let (there, ..) = eu.up(Accepted).await;
    relay.cut(true);
    let cut = Instant::now();
    assert!(us.down(here).await.contains("nothing was heard"));
    assert!(eu.down(there).await.contains("nothing was heard"));
    assert!(
        cut.elapsed() < Duration::from_secs(5),
        "{:?}",
        cut.elapsed()
    );
    us.link(|link| {
        link.last_error
            .as_deref()
            .is_some_and(|error| error.contains("no answer"))
    })
    .await;
    relay.cut(false);
    let healed = Instant::now();
    us.up(Dialled).await;
    eu.up(Accepted).await;
    assert!(
        healed.elapsed() < Duration::from_secs(5),
        "{:?}",
        healed.elapsed()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_whose_path_has_grown_is_opened_again() {
    let certificates = Certificates::new();
    let mut eu = Plan::new(certificates.proper("eu-1"))
        .region("eu")
        .directory(2)
        .start();
    let relay = Relay::to(eu.address).await;
    let mut us = Plan::new(certificates.proper("us-1"))
        .named("eu-1", relay.address)
        .start();
    let (here, ..) = us.up(Dialled).await;
    let (there, ..) = eu.up(Accepted).await;
    let short = async {
        while us.peers.status()[0].rtt_ms.is_none() {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, short).await.expect("a first heartbeat");
    relay.delay(Duration::from_millis(200));
    let reason = us.down(here).await;
    assert!(reason.contains("the round trip has grown"), "{reason}");
    let reason = eu.down(there).await;
    assert!(reason.contains("the round trip has grown"), "{reason}");
    us.up(Dialled).await;
    eu.up(Accepted).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_is_away_does_not_hold_up_another() {
    let certificates = Certificates::new();
    let eu = Plan::new(certificates.proper("eu-1"))
        .region("eu")
        .directory(2)
        .start();
    // Takes packets and never answers.
    let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut us = Plan::new(certificates.proper("us-1"))
        .named("ap-1", silent.local_addr().unwrap())
        .named("eu-1", eu.address)
        .start();
    let (_, peer, _) = us.up(Dialled).await;
    assert_eq!(peer.name.as_str(), "eu-1");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_renewed_identity_is_announced_to_every_peer() {
    let (_certificates, mut us, here, mut eu, there) = pair().await;
    us.identity.send_replace(identity(77));
    assert!(us.down(here).await.contains("renewed"));
    assert!(eu.down(there).await.contains("renewed"));
    let (_, peer, _) = eu.up(Accepted).await;
    assert_eq!(
        (peer.directory, peer.actors),
        (DirectoryId(77), identity(77).actors)
    );
    let (_, _, answer) = us.up(Dialled).await;
    assert_eq!(answer.held, [held(identity(77).actors[0])]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn seeds_that_lead_to_this_node_or_to_a_known_one_are_dropped() {
    let certificates = Certificates::new();
    let eu = Plan::new(certificates.proper("eu-1"))
        .region("eu")
        .directory(2)
        .start();
    let ap = Plan::new(certificates.proper("ap-1"))
        .region("ap")
        .directory(3)
        .start();
    let other_way = Relay::to(ap.address).await;
    let itself = std::net::UdpSocket::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let us = Plan::new(certificates.proper("us-1"))
        .listen(itself)
        .seed(itself)
        .named("eu-1", eu.address)
        .seed(eu.address)
        .seed(ap.address)
        .seed(other_way.address)
        .start();
    let links = us
        .until("every target settled", |peers| {
            let links = peers.status();
            let settled = |link: &&crate::peer::PeerLink| {
                matches!(
                    link.state,
                    LinkState::Up | LinkState::Dropped | LinkState::Spare
                )
            };
            (links.iter().filter(settled).count() == 5).then_some(links)
        })
        .await;
    let states = |state| links.iter().filter(|link| link.state == state).count();
    assert_eq!(
        (
            states(LinkState::Up),
            states(LinkState::Dropped),
            states(LinkState::Spare)
        ),
        (2, 2, 1),
        "{links:#?}"
    );
}

/// `localhost` may have two addresses, of which nodes here listen on one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_seed_that_is_a_name_is_looked_up_and_kept_whomever_it_leads_to() {
    let certificates = Certificates::new();
    let eu = Plan::new(certificates.proper("eu-1"))
        .region("eu")
        .directory(2)
        .start();
    let itself = std::net::UdpSocket::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let name = |address: std::net::SocketAddr| format!("localhost:{}", address.port());
    let us = Plan::new(certificates.proper("us-1"))
        .listen(itself)
        .seed(name(itself))
        .seed(name(eu.address))
        .start();
    let state = |peers: &crate::peer::Peers, address: &str| {
        let links = peers.status();
        let link = links.into_iter().find(|link| link.address == address);
        link.map(|link| link.state)
    };
    us.until("the name of another leads there", |peers| {
        (state(peers, &name(eu.address)) == Some(LinkState::Up)).then_some(())
    })
    .await;
    us.until("its own name is kept for later", |peers| {
        (state(peers, &name(itself)) == Some(LinkState::Spare)).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_is_ahead_shows_in_the_status_of_its_peers() {
    struct Ahead;
    impl WallClock for Ahead {
        fn now_us(&self) -> u64 {
            SystemClock.now_us() + 300_000
        }
    }
    let certificates = Certificates::new();
    let mut plan = Plan::new(certificates.proper("eu-1"))
        .region("eu")
        .directory(2);
    plan.clock = Arc::new(Ahead);
    let eu = plan.start();
    let mut us = Plan::new(certificates.proper("us-1"))
        .seed(eu.address)
        .start();
    us.up(Dialled).await;
    let measured = async {
        loop {
            if let Some(offset_ms) = us.peers.status()[0].clock_offset_ms {
                return offset_ms;
            }
            tokio::task::yield_now().await;
        }
    };
    let offset_ms = timeout(PATIENCE, measured).await.unwrap();
    assert!((200.0..400.0).contains(&offset_ms), "{offset_ms}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_in_use_is_named() {
    let certificates = Certificates::new();
    let us = Plan::new(certificates.proper("us-1")).start();
    let plan = Plan::new(certificates.proper("us-2")).listen(us.address);
    let error = plan.try_start().err().expect("the port is taken");
    assert!(
        error.to_string().contains(&us.address.to_string()),
        "{error}"
    );
}
