//! Goal: what a clock far ahead stamped, and nobody took, is taken by the other regions once the clock is right: each write
//! once, with the value that was acknowledged, whatever was taken before and wherever the process dies.
//!
//! Method: two or three shards and their inboxes, message by message; one of them begins with its clock an hour ahead.

#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, its helpers too"
)]

mod core_support;

use core_support::{
    Region, acknowledge, add, bulk, connect, deliver, incr, remove, set, ship, take,
};
use crdt::{Hlc, KeyState, Rows, Tag};
use node::{
    core::{
        Event, Input, Output,
        identity::DirectoryId,
        message::{Message, SessionId},
        op::{Action, ExpireCondition, Read, Write},
        recover,
        reply::Reply,
    },
    level::Level,
    placement::Position,
    storage::{
        Family, Storage,
        memory::CommitOutcome,
        prefix_end,
        record::{head, row},
    },
};

const HOUR_MS: u64 = 3_600_000;

fn pair() -> (Region, Region) {
    (Region::new("us", &["eu"], 1), Region::new("eu", &["us"], 2))
}

/// The region's process ends, and starts again with its clock off by so much more.
fn restart_with_clock(region: &mut Region, by_ms: i64) {
    region.wall_ms = region.wall_ms.checked_add_signed(by_ms).unwrap();
    region.restart();
}

/// Lets the region be refused by another one and notice it. Gives whether it asks for new actors.
fn is_refused(from: &mut Region, to: &mut Region, session: u64) -> bool {
    ship(from, to, session);
    from.tick();
    from.renewals_asked > 0
}

/// The shard is given a new actor, and the session begins anew.
fn replay(from: &mut Region, to: &mut Region, directory: u64, session: u64) {
    from.renew(directory);
    from.close();
    from.input(Input::SessionDown {
        session: SessionId(session),
    });
    ship(from, to, session + 1);
}

fn outbox(region: &Region) -> Vec<(u64, Hlc)> {
    let mut rows = Vec::new();
    let scanned = region
        .storage
        .scan(Family::Outbox, b"", None, &mut |key, _| {
            let actor = u64::from_be_bytes(*key.first_chunk().unwrap());
            let last = node::storage::record::outbox::last_stamp(key).unwrap();
            rows.push((crdt::ActorId::from_u64(actor).directory(), last));
            std::ops::ControlFlow::Continue(())
        });
    scanned.unwrap();
    rows
}

/// Everything that is stored of a key.
fn state(region: &Region, key: &str) -> KeyState {
    let position = Position::of(key.as_bytes());
    let stored = head::stored_key(&position, key.as_bytes());
    let value = region.storage.get(Family::Head, &stored).unwrap();
    let head = head::Head::decode(key.as_bytes(), &value.unwrap()).unwrap();
    let prefix = row::prefix(&position, Tag::SET, key.as_bytes());
    let mut rows = std::collections::BTreeMap::new();
    let end = prefix_end(&prefix);
    let scanned = region.storage.scan(
        Family::Row,
        &prefix,
        end.as_deref(),
        &mut |stored, value| {
            let (_, element) = row::element(stored, prefix.len()).unwrap();
            rows.insert(
                bytes::Bytes::copy_from_slice(element),
                row::decode(stored, value).unwrap(),
            );
            std::ops::ControlFlow::Continue(())
        },
    );
    scanned.unwrap();
    assert_eq!(rows.len() as u64, head.set.live);
    KeyState {
        string: head.string,
        set: Rows {
            context: head.set.context,
            rows,
            created: head.set.created,
        },
        expiry: head.expiry,
        ..KeyState::default()
    }
}

fn assert_equal(us: &Region, eu: &Region, keys: &[&str]) {
    for key in keys {
        assert_eq!(state(us, key), state(eu, key), "{key}");
    }
    for region in [us, eu] {
        let counted = recover::tallies(&region.storage, 0, 1, false).unwrap();
        assert_eq!(counted.total(), region.shard.tallies().total());
    }
    assert_eq!(us.shard.tallies().total(), eu.shard.tallies().total());
}

fn expire(at_ms: u64) -> Write {
    Write::Expire {
        at_ms: i64::try_from(at_ms).unwrap(),
        condition: ExpireCondition::Always,
    }
}

/// Writes of every kind.
fn write_all(region: &mut Region) {
    region.write("s", set("1"));
    region.write("s", set("2"));
    for by in [1, 10, -3] {
        region.write("n", incr(by));
    }
    region.write("m", add(&["a", "b", "c"]));
    region.write("m", remove(&["b"]));
    region.write("m", add(&["a"]));
    region.write("t", set("x"));
    let at_ms = region.wall_ms + 10 * HOUR_MS;
    region.write("t", expire(at_ms));
    region.write("gone", set("y"));
    region.write("gone", Write::Delete);
    region.write("swept", add(&["p", "q"]));
    region.write("swept", Write::Delete);
    region.write("swept", add(&["r"]));
}

const KEYS: [&str; 6] = ["s", "n", "m", "t", "gone", "swept"];

fn assert_values(region: &mut Region) {
    assert_eq!(region.get("s"), bulk("2"));
    assert_eq!(region.get("n"), bulk("8"));
    assert_eq!(region.members("m"), ["a", "c"]);
    assert_eq!(region.get("t"), bulk("x"));
    assert_eq!(region.get("gone"), Reply::Nil);
    assert_eq!(region.members("swept"), ["r"]);
}

#[test]
fn what_was_stamped_alone_by_a_clock_far_ahead_is_taken_once_the_clock_is_right() {
    let (mut us, mut eu) = pair();
    us.wall_ms += HOUR_MS;
    write_all(&mut us);
    restart_with_clock(&mut us, -(HOUR_MS as i64));
    assert!(is_refused(&mut us, &mut eu, 1));
    assert_eq!(eu.get("s"), Reply::Nil);

    replay(&mut us, &mut eu, 11, 1);
    for region in [&mut us, &mut eu] {
        assert_values(region);
    }
    assert_equal(&us, &eu, &KEYS);
    assert_eq!((us.lag("eu").rows, us.lag("eu").since), (0, None));
    assert!(us.shard.newest() <= Hlc::from_millis(us.wall_ms + 1));
    let is_told = |event: &Event| matches!(event, Event::Replayed { rows, ahead_ms } if *rows > 0 && *ahead_ms >= HOUR_MS);
    assert!(us.events.iter().any(is_told), "{:?}", us.events);
}

#[test]
fn what_is_written_after_the_replay_goes_on_from_it() {
    let (mut us, mut eu) = pair();
    us.wall_ms += HOUR_MS;
    write_all(&mut us);
    restart_with_clock(&mut us, -(HOUR_MS as i64));
    assert!(is_refused(&mut us, &mut eu, 1));
    replay(&mut us, &mut eu, 11, 1);
    us.restart();
    us.write("s", set("3"));
    us.write("n", incr(100));
    us.write("m", remove(&["a"]));
    us.write("m", add(&["d"]));
    us.write("t", Write::Delete);
    ship(&mut us, &mut eu, 3);
    assert_eq!((eu.get("s"), eu.get("n")), (bulk("3"), bulk("108")));
    assert_eq!(eu.members("m"), ["c", "d"]);
    assert_eq!(eu.get("t"), Reply::Nil);
    assert_equal(&us, &eu, &KEYS);
}

#[test]
fn what_was_taken_before_counts_once() {
    let (mut us, mut eu) = pair();
    ship(&mut us, &mut eu, 1);
    us.write("n", incr(5));
    us.write("m", add(&["kept", "both"]));
    deliver(&mut us, &mut eu, 1);
    restart_with_clock(&mut us, HOUR_MS as i64);
    for _ in 0..3 {
        us.write("n", incr(7));
    }
    us.write("m", remove(&["both"]));
    us.write("m", add(&["new"]));
    us.write("fresh", incr(2));
    restart_with_clock(&mut us, -(HOUR_MS as i64));
    assert!(is_refused(&mut us, &mut eu, 2));
    assert_eq!(eu.get("n"), bulk("5"));
    eu.write("n", incr(100));
    ship(&mut eu, &mut us, 9);

    replay(&mut us, &mut eu, 11, 2);
    for region in [&mut us, &mut eu] {
        assert_eq!(region.get("n"), bulk("126"));
        assert_eq!(region.get("fresh"), bulk("2"));
        assert_eq!(region.members("m"), ["kept", "new"]);
    }
    assert_equal(&us, &eu, &["n", "m", "fresh"]);
}

#[test]
fn a_clock_that_is_wrong_twice_is_put_right_twice() {
    let (mut us, mut eu) = pair();
    for session in [1, 10] {
        restart_with_clock(&mut us, HOUR_MS as i64);
        us.write("n", incr(7));
        us.write("m", add(&["a"]));
        us.write("m", remove(&["a"]));
        us.write("m", add(&["b"]));
        restart_with_clock(&mut us, -(HOUR_MS as i64));
        assert!(is_refused(&mut us, &mut eu, session));
        replay(&mut us, &mut eu, 10 + session, session);
        us.input(Input::SessionDown {
            session: SessionId(session + 1),
        });
        assert_equal(&us, &eu, &["n", "m"]);
    }
    assert_eq!(eu.get("n"), bulk("14"));
    assert_eq!(eu.members("m"), ["b"]);
}

#[test]
fn a_set_made_elsewhere_meanwhile_wins_or_loses_by_the_new_stamps() {
    let (mut us, mut eu) = pair();
    us.wall_ms += HOUR_MS;
    us.write("seen", set("ours"));
    us.write("later", set("ours"));
    restart_with_clock(&mut us, -(HOUR_MS as i64));
    eu.write("seen", set("theirs"));
    eu.write("n", incr(4));
    ship(&mut eu, &mut us, 9);
    assert!(is_refused(&mut us, &mut eu, 1));
    us.pass(50);
    eu.pass(50);
    us.renew(11);
    us.close();
    eu.pass(200);
    eu.write("later", set("theirs"));
    us.pass(200);
    us.input(Input::SessionDown {
        session: SessionId(1),
    });
    ship(&mut us, &mut eu, 2);
    deliver(&mut eu, &mut us, 9);
    for region in [&mut us, &mut eu] {
        assert_eq!(
            region.get("seen"),
            bulk("ours"),
            "replayed after it was seen"
        );
        assert_eq!(
            region.get("later"),
            bulk("theirs"),
            "written after the replay"
        );
    }
    assert_equal(&us, &eu, &["seen", "later", "n"]);
}

#[test]
fn a_promise_of_clocks_that_were_ahead_does_not_count_as_what_was_taken() {
    let (mut us, mut eu) = pair();
    us.wall_ms += HOUR_MS;
    eu.wall_ms += HOUR_MS;
    ship(&mut us, &mut eu, 1);
    for _ in 0..3 {
        us.pass(1001);
        eu.pass(1001);
        us.tick();
        deliver(&mut us, &mut eu, 1);
    }
    let promised = eu.inbox.held(&[us.actor()])[0].taken;
    assert!(promised >= Hlc::from_millis(us.wall_ms - 1001));
    eu.save_inbox();
    eu.wall_ms -= HOUR_MS;
    write_all(&mut us);
    restart_with_clock(&mut us, -(HOUR_MS as i64));
    assert!(is_refused(&mut us, &mut eu, 2));
    replay(&mut us, &mut eu, 11, 2);
    assert_values(&mut eu);
    assert_equal(&us, &eu, &KEYS);
}

#[test]
fn a_process_that_dies_at_any_step_loses_and_doubles_nothing() {
    for dies_after in 0..4 {
        let (mut us, mut eu) = pair();
        us.write("n", incr(1000));
        ship(&mut us, &mut eu, 1);
        us.input(Input::SessionDown {
            session: SessionId(1),
        });
        restart_with_clock(&mut us, HOUR_MS as i64);
        write_all(&mut us);
        restart_with_clock(&mut us, -(HOUR_MS as i64));
        assert!(is_refused(&mut us, &mut eu, 2));
        match dies_after {
            // The new number is stored, and no shard has heard of it.
            0 => {
                us.former.push(us.directory);
                us.directory = DirectoryId(11);
            }
            // The renewal was handled, its batch was not committed.
            1 => {
                let mut out = Vec::new();
                us.former.push(us.directory);
                us.directory = DirectoryId(11);
                let renew = Input::Renew {
                    actor: us.directory.actor(0),
                    newest: Hlc::ZERO,
                    replays: true,
                };
                let now = us.now();
                us.shard.handle(&us.storage, renew, now, &mut out);
                us.shard.handle(&us.storage, Input::Close, now, &mut out);
                assert!(matches!(out.last(), Some(Output::Commit(_))), "{out:?}");
            }
            // The commit failed, and was written all the same.
            2 => {
                us.storage.plan_commits([CommitOutcome::FailsWritten]);
                us.renew(11);
                us.close();
            }
            // It is committed, and nothing was sent.
            _ => {
                us.renew(11);
                us.close();
            }
        }
        us.restart();
        us.write("n", incr(20_000));
        if is_refused(&mut us, &mut eu, 3) {
            assert!(dies_after < 2);
            replay(&mut us, &mut eu, 12, 3);
        }
        for region in [&mut us, &mut eu] {
            assert_eq!(region.get("n"), bulk("21008"), "dies after {dies_after}");
            assert_eq!(region.members("m"), ["a", "c"]);
            assert_eq!(region.get("s"), bulk("2"));
            assert_eq!(region.members("swept"), ["r"]);
        }
        assert_equal(&us, &eu, &KEYS);
        let own = us.directory.0;
        assert!(
            outbox(&us).iter().all(|(directory, last)| *directory == own
                || *last < Hlc::from_millis(us.wall_ms + 1000))
        );
    }
}

#[test]
fn a_region_that_was_away_gets_what_was_kept_and_what_was_replayed() {
    let mut us = Region::new("us", &["eu", "ap"], 1);
    let (mut eu, mut ap) = (Region::new("eu", &["us"], 2), Region::new("ap", &["us"], 3));
    us.write("n", incr(5));
    ship(&mut us, &mut eu, 1);
    restart_with_clock(&mut us, HOUR_MS as i64);
    us.write("n", incr(7));
    us.write("m", add(&["x"]));
    restart_with_clock(&mut us, -(HOUR_MS as i64));
    assert!(is_refused(&mut us, &mut eu, 2));
    replay(&mut us, &mut eu, 11, 2);
    ship(&mut us, &mut ap, 7);
    for region in [&mut eu, &mut ap] {
        assert_eq!(region.get("n"), bulk("12"));
        assert_eq!(region.members("m"), ["x"]);
    }
    assert_equal(&us, &eu, &["n", "m"]);
    assert_equal(&us, &ap, &["n", "m"]);
    assert_eq!((us.lag("ap").rows, us.lag("ap").needs_repair), (0, false));
}

#[test]
fn what_a_region_took_although_it_was_far_ahead_stays_and_waits_for_its_time() {
    let mut us = Region::new("us", &["eu", "ap"], 1);
    let (mut eu, mut ap) = (Region::new("eu", &["us"], 2), Region::new("ap", &["us"], 3));
    (us.wall_ms, ap.wall_ms) = (us.wall_ms + HOUR_MS, ap.wall_ms + HOUR_MS);
    us.write("n", incr(5));
    ship(&mut us, &mut ap, 7);
    assert_eq!(ap.get("n"), bulk("5"));
    us.pass(1001);
    us.close(); // how far the region is gets stored
    us.input(Input::SessionDown {
        session: SessionId(7),
    });
    us.write("n", incr(7));
    restart_with_clock(&mut us, -(HOUR_MS as i64));
    assert!(
        !is_refused(&mut us, &mut eu, 1),
        "new stamps would be as far ahead"
    );
    us.pass(HOUR_MS);
    eu.pass(HOUR_MS + 1001);
    us.tick();
    deliver(&mut us, &mut eu, 1);
    assert_eq!(eu.get("n"), bulk("12"));
}

/// A process with a clock far ahead, to which nobody writes, and the next one, with a right clock, that begins a session.
fn idle_with_a_clock_that_came_down(us: &mut Region, eu: &mut Region) {
    restart_with_clock(us, HOUR_MS as i64);
    us.close();
    restart_with_clock(us, -(HOUR_MS as i64));
    ship(us, eu, 1);
    us.tick();
    deliver(us, eu, 1);
    us.tick();
}

#[test]
fn a_clock_that_was_far_ahead_is_put_right_before_anybody_writes() {
    let (mut us, mut eu) = pair();
    us.write("k", set("before"));
    ship(&mut us, &mut eu, 0);
    idle_with_a_clock_that_came_down(&mut us, &mut eu);
    assert!(
        is_refused(&mut us, &mut eu, 2),
        "nobody told it of its clock"
    );

    replay(&mut us, &mut eu, 11, 2);
    us.write("k", set("after"));
    ship(&mut us, &mut eu, 4);
    assert_eq!(eu.get("k"), bulk("after"));
    assert!(us.shard.newest() <= Hlc::from_millis(us.wall_ms + 1));
}

#[test]
fn a_clock_that_came_down_below_all_others_is_not_followed() {
    let (mut us, mut eu) = pair();
    // Here it was right while it was "ahead", and the one that it starts with now is an hour behind.
    eu.wall_ms += HOUR_MS;
    idle_with_a_clock_that_came_down(&mut us, &mut eu);
    assert!(!is_refused(&mut us, &mut eu, 2));
    us.wall_ms += HOUR_MS;
    us.write("k", set("v"));
    ship(&mut us, &mut eu, 3);
    assert_eq!(eu.get("k"), bulk("v"));
}

#[test]
fn a_little_ahead_is_waited_for() {
    let (mut us, mut eu) = pair();
    us.wall_ms += 10_000;
    us.write("k", set("v"));
    us.wall_ms -= 10_000;
    assert!(!is_refused(&mut us, &mut eu, 1));
}

#[test]
fn a_peer_whose_clock_is_behind_is_no_reason_to_doubt_the_own_one() {
    let (mut us, mut eu) = pair();
    eu.wall_ms -= HOUR_MS;
    us.write("k", set("v"));
    assert!(!is_refused(&mut us, &mut eu, 1));
    assert_eq!(eu.get("k"), Reply::Nil);
}

#[test]
fn a_clock_that_is_still_ahead_is_not_put_right() {
    let (mut us, mut eu) = pair();
    us.wall_ms += HOUR_MS;
    us.write("k", set("v"));
    assert!(!is_refused(&mut us, &mut eu, 1));
}

#[test]
fn a_renewal_for_another_reason_takes_nothing_back() {
    let (mut us, mut eu) = pair();
    us.write("k", set("v"));
    let before = outbox(&us);
    us.renew(11);
    us.close();
    assert_eq!(outbox(&us), before);
    ship(&mut us, &mut eu, 1);
    assert_eq!(eu.get("k"), bulk("v"));
}

#[test]
fn an_answer_that_was_under_way_does_not_disturb_the_closed_stream() {
    let (mut us, mut eu) = pair();
    ship(&mut us, &mut eu, 1);
    us.write("k", set("v"));
    let sent = take(&mut us.sent, 1);
    for message in sent {
        eu.receive(SessionId(1), message);
    }
    eu.close();
    let answers = take(&mut eu.returned, 1);
    assert!(matches!(answers[..], [Message::Ack { .. }]));
    restart_with_clock(&mut us, HOUR_MS as i64);
    us.request("k", Action::Write(set("w")));
    us.close();
    restart_with_clock(&mut us, -(HOUR_MS as i64));
    assert!(is_refused(&mut us, &mut eu, 2));
    us.renew(11);
    us.close();
    for answer in answers {
        acknowledge(&mut us, 2, answer);
    }
    us.input(Input::SessionDown {
        session: SessionId(2),
    });
    connect(&mut us, &eu, 3);
    deliver(&mut us, &mut eu, 3);
    assert_eq!(eu.read("k", Read::Get), bulk("w"));
    assert_equal(&us, &eu, &["k"]);
}

#[test]
fn a_clock_far_ahead_does_not_end_what_another_region_keeps() {
    let (mut us, mut eu) = pair();
    eu.write("k", set("v"));
    let at_ms = eu.wall_ms + HOUR_MS / 2;
    eu.write("k", expire(at_ms));
    ship(&mut eu, &mut us, 9);
    restart_with_clock(&mut us, HOUR_MS as i64);
    assert_eq!(us.get("k"), Reply::Nil, "by the reader's clock");
    for _ in 0..40 {
        us.pass(2000);
        us.tick();
    }
    us.write("own", set("w"));
    restart_with_clock(&mut us, -(HOUR_MS as i64));
    eu.pass(80_000);
    assert!(is_refused(&mut us, &mut eu, 1));
    replay(&mut us, &mut eu, 11, 1);
    for region in [&mut us, &mut eu] {
        assert_eq!(region.get("k"), bulk("v"));
    }
    assert_equal(&us, &eu, &["k", "own"]);
}

#[test]
fn what_another_region_does_not_end_is_ended_once_its_stamps_have_passed_the_time() {
    let (mut us, mut eu) = pair();
    eu.write("k", set("v"));
    let at_ms = eu.wall_ms + 10_000;
    eu.write("k", expire(at_ms));
    ship(&mut eu, &mut us, 9);
    for region in [&mut us, &mut eu] {
        region.pass(20_000);
    }
    eu.write("other", set("w"));
    deliver(&mut eu, &mut us, 9);
    for _ in 0..40 {
        us.pass(2000);
        us.tick();
    }
    assert_eq!(state(&us, "k").expiry.at_ms, None);
    assert!(state(&eu, "k").expiry.at_ms.is_some());
    ship(&mut us, &mut eu, 1);
    eu.pass(80_000);
    deliver(&mut us, &mut eu, 1);
    assert_eq!(eu.get("k"), Reply::Nil);
}

/// EACH_QUORUM: more than half of N in every region. eu-1 takes for eu while its clock is an hour ahead, is put right, and goes on under its
/// third number; nobody else of eu has heard of the write.
#[test]
fn p1_what_a_taker_stamps_anew_is_on_no_majority_yet() {
    for (renewed_before, restarts) in [(false, false), (false, true), (true, false), (true, true)] {
        let mut world = core_support::missed::two_regions(core_support::UNBOUNDED);
        if renewed_before {
            world.nodes[1].renew(50);
            world.nodes[1].close();
            world.join();
        }
        for other in [2, 3] {
            let session = world.session(0, other);
            world.nodes[0].input(node::core::Input::SessionDown { session });
        }
        world.nodes[1].wall_ms += 3_600_000;
        let id = world.nodes[0].request_at("k", Action::Write(set("v")), Level::EachQuorum);
        world.nodes[0].close();
        world.live(0..4, 3);
        assert_eq!(world.reply(0, id), None);
        world.nodes[1].wall_ms -= 3_600_000;
        if restarts {
            world.nodes[1].save_inbox();
            world.lose(1);
            world.nodes[1].restart();
            world.join();
            for other in [2, 3] {
                let session = world.session(0, other);
                world.nodes[0].input(node::core::Input::SessionDown { session });
            }
        }
        for _ in 0..10 {
            if world.nodes[1].renewals_asked > 0 {
                break;
            }
            world.live(0..4, 1);
        }
        assert!(world.nodes[1].renewals_asked > 0);
        for other in [2, 3] {
            world.cut.extend([(1, other), (other, 1)]);
        }
        world.nodes[1].renew(60);
        world.nodes[1].close();
        world.live(0..4, 4);
        assert_eq!(world.nodes[2].storage_value("k"), None);
        assert_eq!(world.nodes[3].storage_value("k"), None);
        assert_eq!(
            world.reply(0, id),
            None,
            "renewed before: {renewed_before}, restarted: {restarts}"
        );
    }
}
