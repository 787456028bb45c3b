//! Sessions that must not be: each is refused for its reason, and both sides say so.

use std::fs;

use rcgen::SanType;
use time::{Duration, OffsetDateTime};

use super::world::{Certificates, Node, Plan};
use crate::peer::{
    Direction::{Accepted, Dialled},
    LinkState, PeerTarget, RefusalKind, Refuser, StartError,
};

/// Waits until the dialler and the acceptor each have a refusal of this kind, by different sides, with these words in it.
async fn both_refused(
    dialler: &Node,
    acceptor: &Node,
    kind: RefusalKind,
    by_dialler: bool,
    words: &[&str],
) {
    let (dialler_saw, acceptor_saw) = match by_dialler {
        true => (Refuser::Local, Refuser::Remote),
        false => (Refuser::Remote, Refuser::Local),
    };
    for (node, by, direction) in [
        (dialler, dialler_saw, Dialled),
        (acceptor, acceptor_saw, Accepted),
    ] {
        let refused = node
            .refused(|refused| {
                (refused.by, refused.direction, refused.refusal.kind) == (by, direction, kind)
            })
            .await;
        for word in words {
            assert!(
                refused.refusal.text.contains(word),
                "'{word}' is not in: {}",
                refused.refusal.text
            );
        }
    }
    let link = dialler.link(|link| link.last_refusal.is_some()).await;
    assert_eq!(link.last_refusal.unwrap().kind, kind);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_of_another_authority_is_refused() {
    let (certificates, others) = (Certificates::new(), Certificates::new());
    let eu = Plan::new(certificates.proper("eu-1")).start();
    let us = Plan::new(others.proper("us-1")).seed(eu.address).start();
    both_refused(
        &us,
        &eu,
        RefusalKind::Certificate,
        true,
        &["UnknownIssuer", "unknown CA"],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_trusts_us_but_is_of_another_authority_is_refused() {
    let (certificates, others) = (Certificates::new(), Certificates::new());
    let eu = Plan::new(certificates.proper("eu-1")).start();
    let both = [&others, &certificates]
        .map(|folder| fs::read_to_string(folder.path().join("ca.pem")).unwrap());
    fs::write(others.path().join("ca.pem"), both.concat()).unwrap();
    let us = Plan::new(others.proper("us-1")).seed(eu.address).start();
    both_refused(
        &us,
        &eu,
        RefusalKind::Certificate,
        false,
        &["UnknownIssuer", "unknown CA"],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_expired_certificate_is_refused_whoever_has_it() {
    let certificates = Certificates::new();
    let expired = |name| {
        certificates.odd("demo", name, |params| {
            params.not_before = OffsetDateTime::now_utc() - Duration::days(2);
            params.not_after = OffsetDateTime::now_utc() - Duration::days(1);
        })
    };
    let eu = Plan::new(certificates.proper("eu-1")).start();
    let us = Plan::new(expired("us-1")).named("eu-1", eu.address).start();
    both_refused(
        &us,
        &eu,
        RefusalKind::Certificate,
        false,
        &["certificate expired"],
    )
    .await;
    let eu = Plan::new(expired("eu-1")).start();
    let us = Plan::new(certificates.proper("us-1"))
        .named("eu-1", eu.address)
        .start();
    both_refused(
        &us,
        &eu,
        RefusalKind::Certificate,
        true,
        &["certificate expired"],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_of_another_cluster_is_refused_even_under_one_authority() {
    let certificates = Certificates::new();
    let eu = Plan::new(certificates.proper("eu-1")).start();
    let us = Plan::new(certificates.odd("prod", "us-1", |_| {}))
        .seed(eu.address)
        .start();
    both_refused(
        &us,
        &eu,
        RefusalKind::Certificate,
        true,
        &["prod.meridian", "eu-1.demo.meridian"],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_of_another_cluster_is_refused_even_with_a_certificate_for_both() {
    let certificates = Certificates::new();
    let of_both = |cluster: &str, name: &str, other: String| {
        certificates.odd(cluster, name, |params| {
            params
                .subject_alt_names
                .push(SanType::DnsName(other.try_into().unwrap()));
        })
    };
    let eu = Plan::new(of_both("demo", "eu-1", "eu-1.prod.meridian".to_owned())).start();
    let us = Plan::new(of_both("prod", "us-1", "us-1.demo.meridian".to_owned()))
        .seed(eu.address)
        .start();
    both_refused(
        &us,
        &eu,
        RefusalKind::Cluster,
        false,
        &["'demo'", "'prod'", "[node] cluster"],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_node_than_the_one_that_was_dialled_is_refused() {
    let certificates = Certificates::new();
    let eu = Plan::new(certificates.proper("eu-1")).start();
    let us = Plan::new(certificates.proper("us-1"))
        .named("eu-2", eu.address)
        .start();
    both_refused(
        &us,
        &eu,
        RefusalKind::Certificate,
        true,
        &["eu-2.demo.meridian", "eu-1.demo.meridian"],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_says_another_name_than_its_certificate_is_refused() {
    let certificates = Certificates::new();
    let eu = Plan::new(certificates.proper("eu-1")).start();
    let liar = certificates.odd("demo", "us-1", |params| {
        params.subject_alt_names = vec![SanType::DnsName("us-9.demo.meridian".try_into().unwrap())];
    });
    let us = Plan::new(liar).named("eu-1", eu.address).start();
    both_refused(&us, &eu, RefusalKind::Name, false, &["'us-1'", "'us-9'"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_node_with_this_nodes_name_is_refused() {
    let certificates = Certificates::new();
    let one = Plan::new(certificates.proper("us-1")).start();
    let other = Plan::new(certificates.proper("us-1"))
        .directory(2)
        .seed(one.address)
        .start();
    both_refused(
        &other,
        &one,
        RefusalKind::OwnName,
        false,
        &["'us-1'", "another name"],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_node_of_a_name_is_refused_while_the_first_lives() {
    let certificates = Certificates::new();
    let mut eu = Plan::new(certificates.proper("eu-1")).region("eu").start();
    let first = Plan::new(certificates.proper("us-1"))
        .directory(2)
        .seed(eu.address)
        .start();
    let (session, ..) = eu.up(Accepted).await;
    let mut second = Plan::new(certificates.proper("us-1"))
        .directory(3)
        .seed(eu.address)
        .start();
    both_refused(
        &second,
        &eu,
        RefusalKind::DuplicateName,
        false,
        &["'us-1'", "data directories"],
    )
    .await;
    first.peers.shutdown().await;
    eu.down(session).await;
    let (_, peer, _) = eu.up(Accepted).await;
    assert_eq!(peer.directory.0, 3);
    second.up(Dialled).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_dials_again_replaces_its_older_session() {
    let certificates = Certificates::new();
    let mut eu = Plan::new(certificates.proper("eu-1")).region("eu").start();
    let _first = Plan::new(certificates.proper("us-1"))
        .directory(2)
        .seed(eu.address)
        .start();
    let (older, ..) = eu.up(Accepted).await;
    // The same data directory: the node was restarted, and its end was not noticed yet.
    let _second = Plan::new(certificates.proper("us-1"))
        .directory(2)
        .seed(eu.address)
        .start();
    assert!(eu.down(older).await.contains("newer session"));
    let (newer, ..) = eu.up(Accepted).await;
    assert!(newer > older);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_changes_its_region_is_refused() {
    let certificates = Certificates::new();
    let mut eu = Plan::new(certificates.proper("eu-1")).region("eu").start();
    let before = Plan::new(certificates.proper("us-1"))
        .directory(2)
        .seed(eu.address)
        .start();
    let (session, ..) = eu.up(Accepted).await;
    before.peers.shutdown().await;
    eu.down(session).await;
    let after = Plan::new(certificates.proper("us-1"))
        .region("ap")
        .directory(2)
        .seed(eu.address)
        .start();
    both_refused(&after, &eu, RefusalKind::Region, false, &["'us'", "'ap'"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_node_goes_on_trying_and_is_counted_once() {
    let (certificates, others) = (Certificates::new(), Certificates::new());
    let eu = Plan::new(certificates.proper("eu-1")).start();
    let us = Plan::new(others.proper("us-1")).seed(eu.address).start();
    eu.refused(|refused| refused.times >= 3).await;
    assert_eq!(eu.peers.refusals().len(), 1, "repetitions are one entry");
    us.link(|link| link.state == LinkState::Waiting).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn targets_that_cannot_be_are_refused_at_the_start() {
    let certificates = Certificates::new();
    let target = |name: &str| PeerTarget {
        address: "127.0.0.1:1".to_owned(),
        expect: Some(name.parse().unwrap()),
    };
    for (targets, problem) in [
        (vec![target("us-1")], "itself"),
        (vec![target("eu-1"), target("eu-1")], "twice"),
    ] {
        let mut plan = Plan::new(certificates.proper("us-1"));
        plan.targets = targets;
        let error = plan.try_start().err().expect("a wrong target");
        assert!(
            matches!(error, StartError::Target { .. }) && error.to_string().contains(problem),
            "{error}"
        );
    }
}
