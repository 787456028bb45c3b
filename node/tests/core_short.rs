//! Goal: a replica that lacks writes for good says so, is asked only where whole ones do not suffice, and never makes up a quorum without
//! enough of them.
//!
//! Method: replicas over memory storage, joined by hand. One is wiped, or away until rows for it are dropped; then reads and writes go through
//! it and around it.

mod core_support;

use std::{num::NonZeroU8, time::Duration};

use core_support::{Region, bulk, incr, place_of, replicas::Replicas, set};
use node::{
    core::{
        RequestId,
        message::Message,
        op::{Action, Read},
        reply::{Refusal, Reply},
        ship::OutboxBounds,
    },
    level::Level,
    storage::record::shortage::Shortage,
};

const ONE: Level = Level::Replicas(NonZeroU8::MIN);

/// Replicas of everything, of which the last one is wiped and told so by the others when it is joined again.
fn with_a_wiped_one(count: u8) -> Replicas {
    let nodes: Vec<String> = (1..=count).map(|node| format!("us-{node}")).collect();
    let nodes: Vec<&str> = nodes.iter().map(String::as_str).collect();
    let places = nodes
        .iter()
        .map(|node| core_support::home("us", node, &[("us", &nodes)], count));
    let mut replicas = Replicas::joined(places);
    assert_eq!(replicas.write(0, "k", set("old")), Reply::Ok);
    let wiped = nodes.len() - 1;
    replicas.lose(wiped);
    replicas.nodes[wiped].wipe(99);
    replicas.nodes[wiped].forget();
    replicas.join();
    replicas
}

fn read_at(replicas: &mut Replicas, node: usize, level: Level) -> RequestId {
    let id = replicas.nodes[node].request_at("k", Action::Read(Read::Get), level);
    replicas.nodes[node].close();
    replicas.deliver();
    id
}

fn is_unmet(reply: Option<Reply>) -> bool {
    matches!(reply, Some(Reply::Error(Refusal::NoQuorum { .. })))
}

#[test]
fn a_read_at_one_through_a_short_replica_asks_a_whole_one() {
    let mut three = with_a_wiped_one(3);
    let id = read_at(&mut three, 2, ONE);
    assert_eq!(three.reply(2, id), Some(bulk("old")));
}

#[test]
fn one_that_can_ask_nobody_answers_at_one_from_what_it_has() {
    let mut three = with_a_wiped_one(3);
    three.nodes[2].wipe(98);
    three.nodes[2].forget();
    let id = read_at(&mut three, 2, ONE);
    assert_eq!(three.reply(2, id), Some(Reply::Nil));
    let id = read_at(&mut three, 2, Level::LocalQuorum);
    assert!(is_unmet(three.reply(2, id)));
}

#[test]
fn a_short_replica_does_not_make_up_a_quorum_of_three() {
    // The one that has the write is away: whoever is left does not know it.
    let mut three = with_a_wiped_one(3);
    three.lose(0);
    for node in [1, 2] {
        let id = read_at(&mut three, node, Level::LocalQuorum);
        assert!(is_unmet(three.reply(node, id)), "through us-{}", node + 1);
        let id = three.begin(node, "k", Action::Write(set("new")));
        three.deliver();
        assert!(is_unmet(three.reply(node, id)), "through us-{}", node + 1);
    }
}

#[test]
fn two_of_three_meet_every_level_without_the_short_one() {
    let mut three = with_a_wiped_one(3);
    three.cut_off(2);
    assert_eq!(three.write(0, "k", set("new")), Reply::Ok);
    assert_eq!(three.get(1, "k"), bulk("new"));
}

#[test]
fn of_two_replicas_one_may_be_short_because_the_other_one_has_everything() {
    let mut two = with_a_wiped_one(2);
    assert_eq!(two.get(1, "k"), bulk("old"));
    for node in [0, 1] {
        assert_eq!(two.write(node, "k", set("new")), Reply::Ok);
        assert_eq!(two.get(1 - node, "k"), bulk("new"));
    }
}

#[test]
fn a_write_through_a_short_replica_is_taught_by_whole_ones_what_it_overwrites() {
    let mut three = with_a_wiped_one(3);
    assert_eq!(three.write(0, "n", incr(5)), Reply::Int(5));
    // Its clock is behind: its SET would lose to the register that it forgot.
    three.nodes[2].wall_ms -= 300;
    assert_eq!(three.write(2, "k", set("new")), Reply::Ok);
    for node in 0..3 {
        assert_eq!(three.get(node, "k"), bulk("new"));
    }
}

#[test]
fn who_is_asked_as_a_whole_replica_and_is_not_says_so_and_another_one_is_asked() {
    let mut five = with_a_wiped_one(5);
    // Of the first four only the wiped one is thought of as whole, by the first: it fell short after they met.
    let mut again = Replicas::joined((0..3).map(place_of));
    assert_eq!(again.write(0, "k", set("v")), Reply::Ok);
    again.nodes[1].wipe(98);
    again.nodes[1].forget();
    let id = read_at(&mut again, 0, Level::LocalQuorum);
    assert_eq!(again.reply(0, id), Some(bulk("v")));
    assert!(
        again.nodes[0]
            .shard
            .shipper()
            .shortage(&again.nodes[1].node)
            .has_forgotten
    );
    // And from then on it is not asked as long as there are others.
    let id = again.begin(0, "k", Action::Read(Read::Get));
    let asked = |node: &Region| {
        let questions = node.sent.iter();
        let questions = questions.filter(|(_, message)| matches!(message, Message::Compare(_)));
        questions
            .map(|(session, _)| session.0 % 10)
            .collect::<Vec<_>>()
    };
    assert_eq!(asked(&again.nodes[0]), [2]);
    again.deliver();
    assert_eq!(again.reply(0, id), Some(bulk("v")));
    assert_eq!(five.get(0, "k"), bulk("old"));
}

#[test]
fn an_acknowledgement_of_one_that_fell_short_since_does_not_count() {
    let mut three = Replicas::three();
    three.cut_off(1);
    three.nodes[2].forget();
    let id = three.begin(0, "k", Action::Write(set("v")));
    three.deliver();
    assert_eq!(
        three.reply(0, id),
        None,
        "us-1 and the short one are no quorum"
    );
    three.mend();
    assert_eq!(three.reply(0, id), Some(Reply::Ok));
}

#[test]
fn one_that_was_away_until_rows_for_it_were_dropped_is_short_also_after_its_restart() {
    let mut three = Replicas::bounded(OutboxBounds {
        window: Duration::from_secs(60),
        bytes_max: 400,
    });
    three.lose(2);
    for round in 0..20 {
        let value = format!("{round:0>100}");
        assert_eq!(three.write(0, &format!("k{round}"), set(&value)), Reply::Ok);
    }
    // The bounds are looked at once a second; what the other replica remembers for good is trimmed.
    three.live(0..2, 12);
    three.nodes[1].save_inbox();
    assert_eq!(three.write(0, "last", set("v")), Reply::Ok);
    three.live(0..2, 24);
    three.join();
    three.live(0..3, 5);
    let shortage = Shortage::MISSED;
    assert_eq!(three.nodes[2].inbox.shortage(), shortage);
    assert_eq!(three.get(2, "k0"), bulk(&format!("{:0>100}", 0)));
    three.nodes[2].save_inbox();
    three.nodes[2].restart();
    assert_eq!(three.nodes[2].inbox.shortage(), shortage);
}

#[test]
fn replicas_that_get_everything_are_not_short_however_late_it_comes() {
    let mut three = Replicas::three();
    three.cut_off(2);
    for round in 0..20 {
        assert_eq!(three.write(0, "k", set(&round.to_string())), Reply::Ok);
    }
    three.live(0..2, 50);
    three.mend();
    three.lose(2);
    three.nodes[2].restart();
    three.join();
    three.live(0..3, 10);
    for node in &three.nodes {
        assert_eq!(node.inbox.shortage(), Shortage::NONE);
    }
    assert_eq!(three.get(2, "k"), bulk("19"));
}
