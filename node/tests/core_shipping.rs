//! Goal: what a region wrote reaches the others, once it is committed, however sessions, processes and clocks behave.
//!
//! Method: two shards and their inboxes, message by message: lost, doubled, reordered, refused.

#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, its helpers too"
)]

mod core_support;

use std::sync::Arc;

use core_support::{
    Region, UNBOUNDED, acknowledge, bulk, connect, deliver, home, incr, maintain, outbox_rows,
    pair, position, set, ship, take, whole,
};
use crdt::Hlc;
use node::{
    core::{
        Event, Input,
        identity::{DirectoryId, relay_of},
        inbox::InboxEvent,
        message::{Ack, Message, NackReason, SessionId},
        op::Action,
        reply::{Refusal, Reply},
        ship::{Met, ShipEvent},
    },
    placement::Partition,
};

fn ships(messages: &[Message]) -> usize {
    messages
        .iter()
        .filter(|message| matches!(message, Message::Ship(_)))
        .count()
}

#[test]
fn nothing_is_shipped_or_answered_before_it_is_committed() {
    let (mut us, eu) = pair();
    connect(&mut us, &eu, 1);
    us.sent.clear();
    us.request("k", Action::Write(set("v")));
    let mut out = Vec::new();
    let now = us.now();
    us.shard.handle(&us.storage, Input::Close, now, &mut out);
    assert!(
        matches!(out[..], [node::core::Output::Commit(_)]),
        "{out:?}"
    );
}

#[test]
fn rows_ship_in_order_and_the_same_message_twice_changes_nothing() {
    let (mut us, mut eu) = pair();
    connect(&mut us, &eu, 1);
    us.sent.clear();
    for by in 1..=3 {
        us.write("c", incr(by));
    }
    let messages = take(&mut us.sent, 1);
    assert_eq!(ships(&messages), 3);
    for message in messages.iter().chain(&messages) {
        eu.receive(SessionId(1), message.clone());
        eu.close();
    }
    assert_eq!(eu.get("c"), bulk("6"));
    let last = take(&mut eu.returned, 1).pop();
    let Some(Message::Ack(Ack { taken, .. })) = last else {
        panic!("a message that was taken before is answered: {last:?}");
    };
    assert_eq!(taken, position(&us, &eu));
}

#[test]
fn a_gap_is_declined_and_filled() {
    let (mut us, mut eu) = pair();
    ship(&mut us, &mut eu, 1);
    us.write("a", set("1"));
    us.write("b", set("2"));
    let messages = take(&mut us.sent, 1);
    eu.receive(SessionId(1), messages[1].clone());
    let declined = take(&mut eu.returned, 1);
    assert!(matches!(
        declined[..],
        [Message::Nack {
            reason: NackReason::Gap,
            ..
        }]
    ));
    acknowledge(&mut us, 1, declined[0].clone());
    assert!(us.sent.is_empty(), "not again at once");
    us.pass(3000);
    us.tick();
    deliver(&mut us, &mut eu, 1);
    assert_eq!(eu.get("b"), bulk("2"));
    assert_eq!((us.lag("eu").rows, us.lag("eu").since), (0, None));
}

#[test]
fn a_gap_does_not_disturb_what_was_accepted_before_it() {
    let (mut us, mut eu) = pair();
    connect(&mut us, &eu, 1);
    us.sent.clear();
    for value in ["1", "2", "3"] {
        us.write("k", set(value));
    }
    let messages = take(&mut us.sent, 1);
    eu.receive(SessionId(1), messages[0].clone()); // accepted, not durable yet
    eu.receive(SessionId(1), messages[2].clone());
    eu.close();
    let returned = take(&mut eu.returned, 1);
    assert!(
        matches!(
            returned[..],
            [
                Message::Nack {
                    taken: Hlc::ZERO,
                    ..
                },
                Message::Ack { .. }
            ]
        ),
        "{returned:?}"
    );
    assert!(position(&us, &eu) > Hlc::ZERO);
}

#[test]
fn a_message_is_taken_only_when_every_part_of_it_is_durable() {
    let (mut us, mut eu) = pair();
    connect(&mut us, &eu, 1);
    us.sent.clear();
    us.write("k", set("v"));
    for message in take(&mut us.sent, 1) {
        eu.receive(SessionId(1), message);
    }
    assert!(eu.returned.is_empty());
    assert_eq!(position(&us, &eu), Hlc::ZERO);
    eu.close();
    assert_eq!(eu.returned.len(), 1);
    assert!(position(&us, &eu) > Hlc::ZERO);
}

#[test]
fn a_region_that_cannot_write_declines_and_goes_on_later() {
    let (mut us, mut eu) = pair();
    ship(&mut us, &mut eu, 1);
    eu.input(Input::ReadOnly(Some("the disk is full".to_owned())));
    assert_eq!(
        eu.write("mine", set("v")),
        Refusal::ReadOnly("the disk is full".to_owned()).into()
    );
    us.write("k", set("v"));
    deliver(&mut us, &mut eu, 1);
    assert_eq!(eu.get("k"), Reply::Nil);
    assert!(us.events.iter().any(|event| matches!(
        event,
        Event::Ship(ShipEvent::Declined {
            reason: NackReason::ReadOnly,
            ..
        })
    )));
    eu.input(Input::ReadOnly(None));
    us.pass(3000);
    us.tick();
    deliver(&mut us, &mut eu, 1);
    assert_eq!(eu.get("k"), bulk("v"));
    assert_eq!(eu.write("mine", set("v")), Reply::Ok);
}

#[test]
fn a_node_whose_clock_is_wrong_refuses_writes_and_still_takes_what_others_wrote() {
    let (mut us, mut eu) = pair();
    ship(&mut us, &mut eu, 1);
    eu.input(Input::ClockSkew(Some("5000 ms ahead".to_owned())));
    assert_eq!(
        eu.write("mine", set("v")),
        Refusal::ClockSkew("5000 ms ahead".to_owned()).into()
    );
    us.write("k", set("v"));
    deliver(&mut us, &mut eu, 1);
    assert_eq!(eu.get("k"), bulk("v"));
    eu.input(Input::ClockSkew(None));
    assert_eq!(eu.write("mine", set("v")), Reply::Ok);
}

#[test]
fn every_session_that_waits_hears_that_a_part_was_refused() {
    let (mut us, mut eu) = pair();
    connect(&mut us, &eu, 1);
    us.write("k", set("v"));
    let first = take(&mut us.sent, 1).pop().unwrap();
    us.input(Input::SessionDown {
        session: SessionId(1),
    });
    connect(&mut us, &eu, 2);
    let again = take(&mut us.sent, 2).pop().unwrap();
    eu.input(Input::ReadOnly(Some("full".to_owned())));
    eu.receive(SessionId(1), first);
    eu.receive(SessionId(2), again);
    eu.close();
    for session in [1, 2] {
        let returned = take(&mut eu.returned, session);
        assert!(
            matches!(returned[..], [Message::Nack { .. }]),
            "{returned:?}"
        );
    }
}

#[test]
fn what_was_sent_again_on_another_session_is_acknowledged_there() {
    let (mut us, mut eu) = pair();
    connect(&mut us, &eu, 1);
    us.write("k", set("v"));
    let first = take(&mut us.sent, 1).pop().unwrap();
    eu.receive(SessionId(1), first);
    us.input(Input::SessionDown {
        session: SessionId(1),
    });
    connect(&mut us, &eu, 2);
    let again = take(&mut us.sent, 2).pop().unwrap();
    eu.receive(SessionId(2), again);
    eu.close();
    for answer in take(&mut eu.returned, 2) {
        acknowledge(&mut us, 2, answer);
    }
    assert_eq!(us.lag("eu").rows, 0);
}

#[test]
fn a_clock_ahead_is_declined_until_time_has_caught_up() {
    let (mut us, mut eu) = pair();
    us.wall_ms += 5000;
    us.write("k", set("v"));
    ship(&mut us, &mut eu, 1);
    assert_eq!(eu.get("k"), Reply::Nil);
    assert!(
        eu.inbox_events
            .iter()
            .any(|event| matches!(event, InboxEvent::Declined { reason: NackReason::ClockAhead { excess_ms }, .. } if *excess_ms == 4000))
    );
    us.wall_ms -= 5000;
    for _ in 0..45 {
        us.pass(100);
        eu.pass(100);
        us.tick();
        deliver(&mut us, &mut eu, 1);
    }
    assert_eq!(eu.get("k"), bulk("v"));
    assert_eq!(us.lag("eu").rows, 0);
}

#[test]
fn a_receiver_that_is_killed_before_it_saved_its_position_is_sent_the_rest_again() {
    let (mut us, mut eu) = pair();
    ship(&mut us, &mut eu, 1);
    eu.save_inbox();
    for n in 0..5 {
        us.write(&format!("k{n}"), set("v"));
    }
    deliver(&mut us, &mut eu, 1);
    assert_eq!(us.lag("eu").rows, 0);
    maintain(&mut us);
    eu.restart();
    us.input(Input::SessionDown {
        session: SessionId(1),
    });
    us.write("after", set("v"));
    ship(&mut us, &mut eu, 2);
    assert_eq!(eu.get("after"), bulk("v"));
    assert_eq!((us.lag("eu").rows, us.lag("eu").needs_repair), (0, false));
    assert!(us.events.is_empty(), "{:?}", us.events);
}

#[test]
fn an_origin_that_is_killed_ships_what_it_committed() {
    let (mut us, mut eu) = pair();
    us.write("a", set("1"));
    us.restart();
    us.write("b", set("2"));
    ship(&mut us, &mut eu, 1);
    assert_eq!(eu.get("a"), bulk("1"));
    assert_eq!(eu.get("b"), bulk("2"));
    us.restart();
    ship(&mut us, &mut eu, 2);
    assert_eq!(us.lag("eu").rows, 0);
}

#[test]
fn a_wiped_receiver_is_noticed_and_gets_what_is_still_in_the_outbox() {
    let (mut us, mut eu) = pair();
    ship(&mut us, &mut eu, 1);
    us.write("old", set("v"));
    deliver(&mut us, &mut eu, 1);
    eu.save_inbox();
    us.pass(100);
    us.tick();
    deliver(&mut us, &mut eu, 1);
    maintain(&mut us);
    assert_eq!(outbox_rows(&us), 0);
    us.write("new", set("v"));
    deliver(&mut us, &mut eu, 1);
    eu.wipe(9);
    us.input(Input::SessionDown {
        session: SessionId(1),
    });
    ship(&mut us, &mut eu, 2);
    assert_eq!(eu.get("old"), Reply::Nil);
    assert_eq!(eu.get("new"), bulk("v"));
    let is_replaced = |event: &Event| matches!(event, Event::Ship(ShipEvent::Replaced { .. }));
    assert!(us.events.iter().any(is_replaced));
    assert!(us.lag("eu").needs_repair);
    assert!(
        eu.inbox_events
            .iter()
            .any(|event| matches!(event, InboxEvent::Missed { .. }))
    );
}

#[test]
fn another_node_goes_on_behind_what_the_first_took_although_each_key_is_on_one_of_them() {
    let place = |region, node| {
        home(
            region,
            node,
            &[("us", &["us-1"]), ("eu", &["eu-1", "eu-2"])],
            1,
        )
    };
    let open = |region, node, directory| {
        Region::at(place(region, node), DirectoryId(directory), UNBOUNDED)
    };
    let (mut us, mut first) = (open("us", "us-1", 1), open("eu", "eu-1", 2));
    let mut second = open("eu", "eu-2", 3);
    let key_of = |node| {
        let keys = (0..).map(|number: u32| number.to_string());
        let mut held = keys.filter(|key| place("eu", node).holds(Partition::of(key.as_bytes())));
        held.next().unwrap()
    };
    ship(&mut us, &mut first, 1);
    us.write(&key_of("eu-1"), set("v"));
    deliver(&mut us, &mut first, 1);
    first.save_inbox();
    us.pass(100);
    us.tick();
    deliver(&mut us, &mut first, 1);
    maintain(&mut us);
    assert_eq!(outbox_rows(&us), 0);

    us.input(Input::SessionDown {
        session: SessionId(1),
    });
    us.write(&key_of("eu-2"), set("w"));
    ship(&mut us, &mut second, 2);
    assert_eq!(second.get(&key_of("eu-2")), bulk("w"));
    assert!(!us.lag("eu").needs_repair);
    let is_missed = |event: &InboxEvent| matches!(event, InboxEvent::Missed { .. });
    assert!(!second.inbox_events.iter().any(is_missed));
}

#[test]
fn an_old_copy_of_a_receiver_is_sent_what_it_lacks_although_its_number_is_the_same() {
    let (mut us, mut eu) = pair();
    ship(&mut us, &mut eu, 1);
    us.write("a", set("1"));
    deliver(&mut us, &mut eu, 1);
    eu.save_inbox();
    us.pass(100);
    us.tick();
    deliver(&mut us, &mut eu, 1);
    us.write("b", set("2"));
    deliver(&mut us, &mut eu, 1);
    let mut copy = Region::new("eu", &["us"], 2);
    us.input(Input::SessionDown {
        session: SessionId(1),
    });
    ship(&mut us, &mut copy, 2);
    us.pass(200);
    us.tick();
    deliver(&mut us, &mut copy, 2);
    assert_eq!(copy.get("a"), bulk("1"));
    assert_eq!(copy.get("b"), bulk("2"));
}

/// The other region takes a write for good, and nothing of it is kept.
fn write_for_good(us: &mut Region, eu: &mut Region, key: &str) {
    us.write(key, set("v"));
    deliver(us, eu, 1);
    eu.save_inbox();
    us.pass(100);
    us.tick();
    deliver(us, eu, 1);
    maintain(us);
    assert_eq!(outbox_rows(us), 0);
}

#[test]
fn an_old_copy_of_a_receiver_that_lacks_what_is_gone_is_noticed() {
    let (mut us, mut eu) = pair();
    ship(&mut us, &mut eu, 1);
    write_for_good(&mut us, &mut eu, "k");
    us.input(Input::SessionDown {
        session: SessionId(1),
    });
    let mut copy = Region::new("eu", &["us"], 2);
    ship(&mut us, &mut copy, 2);
    let is_replaced = |event: &Event| matches!(event, Event::Ship(ShipEvent::Replaced { .. }));
    assert!(us.events.iter().any(is_replaced));
    assert!(us.lag("eu").needs_repair);
    us.tick();
    deliver(&mut us, &mut copy, 2);
    let is_missed = |event: &InboxEvent| matches!(event, InboxEvent::Missed { .. });
    assert!(copy.inbox_events.iter().any(is_missed));
}

#[test]
fn a_greeting_that_acknowledgements_overtook_is_of_one_that_lacks_nothing() {
    let (mut us, mut eu) = pair();
    ship(&mut us, &mut eu, 1);
    write_for_good(&mut us, &mut eu, "first");
    let greeting = Met {
        region: eu.name.clone(),
        node: eu.node.clone(),
        session: SessionId(2),
        directory: eu.directory,
        held: eu.inbox.held(&[us.actor()]),
        shortage: eu.inbox.shortage(),
    };
    write_for_good(&mut us, &mut eu, "second");
    us.input(Input::SessionUp(greeting));
    us.write("third", set("v"));
    deliver(&mut us, &mut eu, 2);
    assert!(!us.lag("eu").needs_repair);
    assert_eq!(us.lag("eu").rows, 0);
    assert!(!eu.inbox.shortage().is_any());
    assert_eq!(eu.get("third"), bulk("v"));
}

#[test]
fn an_idle_actor_promises_what_is_below_its_ceiling_and_keeps_the_promise() {
    let (mut us, mut eu) = pair();
    us.write("k", set("v"));
    ship(&mut us, &mut eu, 1);
    us.pass(100);
    us.tick();
    deliver(&mut us, &mut eu, 1);
    let promised = position(&us, &eu);
    assert_eq!(promised, Hlc::from_millis(us.wall_ms));
    us.wall_ms -= 60_000;
    us.write("k", set("w"));
    assert!(us.shard.newest() > promised);
    us.restart();
    us.write("k", set("x"));
    assert!(us.shard.newest() > promised, "after a restart too");
    ship(&mut us, &mut eu, 2);
    assert_eq!(eu.get("k"), bulk("x"));
}

#[test]
fn no_promise_is_made_over_a_stamp_in_flight() {
    let (mut us, mut eu) = pair();
    ship(&mut us, &mut eu, 1);
    us.pass(100);
    us.request("k", Action::Write(set("v")));
    us.input(Input::Tick);
    assert!(take(&mut us.sent, 1).is_empty());
    us.close();
    us.pass(100);
    us.input(Input::Tick);
    let sent = take(&mut us.sent, 1);
    assert!(
        matches!(sent[..], [Message::Ship(_)]),
        "shipped, not acknowledged: no promise: {sent:?}"
    );
}

#[test]
fn no_promise_is_made_over_rows_that_wait_for_a_declined_one() {
    let (mut us, mut eu) = pair();
    ship(&mut us, &mut eu, 1);
    eu.input(Input::ReadOnly(Some("full".to_owned())));
    us.write("k", set("v"));
    for _ in 0..100 {
        us.pass(100);
        us.tick();
        for message in take(&mut us.sent, 1) {
            assert!(!matches!(message, Message::ClosedTimestamp { .. }));
            eu.receive(SessionId(1), message);
            eu.close();
        }
        for answer in take(&mut eu.returned, 1) {
            acknowledge(&mut us, 1, answer);
        }
    }
    assert_eq!(us.lag("eu").rows, 1);
}

#[test]
fn an_answer_to_what_was_sent_before_a_rewind_counts() {
    let (mut us, mut eu) = pair();
    ship(&mut us, &mut eu, 1);
    for n in 0..4 {
        us.write(&format!("k{n}"), set("v"));
    }
    let messages = take(&mut us.sent, 1);
    let unsent = Input::Unsent {
        session: SessionId(1),
        actor: us.actor(),
    };
    us.input(unsent.clone()); // the window is thought lost, and was not
    for message in messages {
        eu.receive(SessionId(1), message);
        eu.close();
    }
    for answer in take(&mut eu.returned, 1).into_iter().take(2) {
        acknowledge(&mut us, 1, answer);
        us.input(unsent.clone());
    }
    us.pass(5000);
    us.tick();
    deliver(&mut us, &mut eu, 1);
    assert_eq!((us.lag("eu").rows, us.lag("eu").since), (0, None));
    assert!(us.shard.shipper().is_drained());
    us.pass(100);
    us.tick();
    assert!(matches!(
        take(&mut us.sent, 1)[..],
        [Message::ClosedTimestamp { .. }]
    ));
}

#[test]
fn an_answer_that_was_lost_is_asked_for_again() {
    let (mut us, mut eu) = pair();
    ship(&mut us, &mut eu, 1);
    us.write("k", set("v"));
    for message in take(&mut us.sent, 1) {
        eu.receive(SessionId(1), message);
        eu.close();
    }
    eu.returned.clear(); // the session had no room for it
    us.tick();
    us.pass(2900);
    us.tick();
    assert!(us.sent.is_empty(), "not yet");
    us.pass(200);
    us.tick();
    deliver(&mut us, &mut eu, 1);
    assert_eq!((us.lag("eu").rows, us.lag("eu").since), (0, None));
    assert_eq!(eu.get("k"), bulk("v"));
}

#[test]
fn an_old_copy_is_told_by_what_it_recalled_not_by_what_it_wrote_since() {
    let (mut us, mut eu) = pair();
    us.write("k", incr(1));
    let mut fresh = Region::new("us", &["eu"], 1);
    fresh.restart();
    ship(&mut us, &mut eu, 1);
    let held = eu.inbox.held(&[us.actor()])[0];
    assert!(fresh.shard.recalled()[&us.actor()].lacks_rows(&held));
    us.restart();
    let recalled = us.shard.recalled()[&us.actor()];
    assert!(!recalled.may_repeat(&held), "no copy, only a restart");
    let mut copy = Region::new("us", &["eu"], 1);
    copy.pass(60_000);
    copy.write("k", incr(1));
    assert!(held.newest < copy.shard.newest());
    assert!(copy.shard.recalled()[&us.actor()].lacks_rows(&held));
}

#[test]
fn a_copy_of_a_moment_ago_is_told_by_its_rows_although_its_bound_is_ahead_of_them() {
    let (mut us, mut eu) = pair();
    us.write("k", incr(1));
    let bound = us.shard.newest();
    us.pass(1);
    us.write("k", incr(1));
    ship(&mut us, &mut eu, 1);
    let held = eu.inbox.held(&[us.actor()])[0];
    assert!(held.newest > bound && held.newest.millis() < bound.millis() + 100);
    let mut copy = Region::new("us", &["eu"], 1);
    copy.write("k", incr(1));
    copy.restart();
    let recalled = copy.shard.recalled()[&us.actor()];
    assert!(recalled.lacks_rows(&held) && recalled.may_repeat(&held));
}

#[test]
fn a_copy_that_lacks_only_promises_lacks_no_rows_and_does_not_go_on_under_its_number() {
    let (mut us, mut eu) = pair();
    us.write("k", incr(1));
    ship(&mut us, &mut eu, 1);
    let mut copy = Region::new("us", &["eu"], 1);
    copy.write("k", incr(1));
    copy.restart();
    for _ in 0..50 {
        us.pass(100);
        us.tick();
        deliver(&mut us, &mut eu, 1);
    }
    let held = eu.inbox.held(&[us.actor()])[0];
    let recalled = copy.shard.recalled()[&us.actor()];
    assert!(!recalled.lacks_rows(&held));
    assert!(
        recalled.may_repeat(&held),
        "it would stamp where it has promised not to"
    );
}

#[test]
fn rows_of_a_renewed_actor_still_ship() {
    let (mut us, mut eu) = pair();
    us.write("old", set("v"));
    us.former.push(us.directory);
    us.directory = DirectoryId(9);
    us.restart();
    us.write("new", set("v"));
    ship(&mut us, &mut eu, 1);
    assert_eq!(eu.get("old"), bulk("v"));
    assert_eq!(eu.get("new"), bulk("v"));
    assert!(us.shard.shipper().is_drained());
}

#[test]
fn a_peer_that_is_not_asked_about_a_former_actor_has_what_it_took_unless_it_was_wiped() {
    for is_wiped in [false, true] {
        let (mut us, mut eu) = pair();
        us.write("old", set("v"));
        ship(&mut us, &mut eu, 1);
        eu.save_inbox();
        us.write("end", set("v"));
        deliver(&mut us, &mut eu, 1);
        eu.save_inbox();
        us.pass(100);
        us.tick();
        deliver(&mut us, &mut eu, 1);
        maintain(&mut us);
        assert_eq!(outbox_rows(&us), 0);
        us.former.push(us.directory);
        us.directory = DirectoryId(9);
        us.restart();
        if is_wiped {
            eu.wipe(10);
        }
        us.input(Input::SessionUp(Met {
            region: eu.name.clone(),
            node: eu.node.clone(),
            session: SessionId(2),
            directory: eu.directory,
            held: eu.inbox.held(&[us.actor(), relay_of(us.actor())]),
            shortage: eu.inbox.shortage(),
        }));
        us.write("new", set("v"));
        deliver(&mut us, &mut eu, 2);
        assert_eq!(eu.get("new"), bulk("v"));
        let lag = us.lag("eu");
        assert_eq!((lag.rows, lag.needs_repair), (0, is_wiped));
        assert!(us.shard.shipper().is_drained());
    }
}

#[test]
fn an_application_that_nobody_waits_for_any_more_is_ignored() {
    let (mut us, mut eu) = pair();
    connect(&mut us, &eu, 1);
    us.sent.clear();
    us.write("k", set("v"));
    let message = take(&mut us.sent, 1).pop().unwrap();
    let intents = eu.inbox.message(SessionId(1), message, eu.wall_ms);
    let ticket = intents
        .iter()
        .find_map(|intent| match intent {
            node::core::inbox::Intent::Apply { ticket, .. } => Some(*ticket),
            _ => None,
        })
        .unwrap();
    eu.refused(ticket);
    eu.returned.clear();
    eu.applied(ticket, whole());
    assert!(eu.returned.is_empty());
    assert_eq!(position(&us, &eu), Hlc::ZERO);
}

#[test]
fn an_answer_that_comes_again_late_takes_nothing_back() {
    let (mut us, mut eu) = pair();
    connect(&mut us, &eu, 1);
    us.write("early", set("v"));
    for message in take(&mut us.sent, 1) {
        eu.receive(SessionId(1), message);
        eu.close();
    }
    let early = take(&mut eu.returned, 1);
    early
        .iter()
        .for_each(|message| acknowledge(&mut us, 1, message.clone()));
    us.write("late", set("v"));
    deliver(&mut us, &mut eu, 1);
    eu.save_inbox();
    us.write("end", set("v"));
    deliver(&mut us, &mut eu, 1);
    maintain(&mut us);
    assert_eq!(outbox_rows(&us), 1, "what is saved there is gone here");
    early
        .into_iter()
        .for_each(|message| acknowledge(&mut us, 1, message));
    // The node is not believed to live for a moment, and is chosen again on the session that it has.
    for trusted in [&[][..], &[eu.node.clone()][..]] {
        let trusted = trusted.iter().cloned().collect();
        us.input(Input::Trusted(Arc::new(trusted)));
    }
    us.write("more", set("v"));
    deliver(&mut us, &mut eu, 1);
    assert_eq!(eu.get("more"), bulk("v"));
    assert!(!us.lag("eu").needs_repair, "it lacks nothing");
}

#[test]
fn a_refusal_that_comes_again_late_holds_nothing_up() {
    let (mut us, mut eu) = pair();
    connect(&mut us, &eu, 1);
    us.sent.clear();
    us.write("first", set("v"));
    us.sent.clear(); // it is lost
    us.write("second", set("v"));
    for message in take(&mut us.sent, 1) {
        eu.receive(SessionId(1), message);
        eu.close();
    }
    let refusal = take(&mut eu.returned, 1);
    assert!(matches!(refusal[..], [Message::Nack { .. }]));
    for message in &refusal {
        acknowledge(&mut us, 1, message.clone());
    }
    us.pass(1000);
    eu.pass(1000);
    us.tick();
    deliver(&mut us, &mut eu, 1);
    assert_eq!(eu.get("second"), bulk("v"));
    for message in refusal {
        acknowledge(&mut us, 1, message);
    }
    us.write("third", set("v"));
    for _ in 0..50 {
        us.pass(100);
        eu.pass(100);
        us.tick();
        deliver(&mut us, &mut eu, 1);
    }
    assert_eq!(eu.get("third"), bulk("v"));
    assert_eq!(us.lag("eu").rows, 0);
}
