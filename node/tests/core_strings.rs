//! Goal: strings answer as Redis does, and across regions as the algebra says.
//!
//! Method: one shard over the memory storage, command by command; where regions meet, two shards and their inboxes by hand.

#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, its helpers too"
)]

mod core_support;

use core_support::{Region, add, bulk, bytes, connect, deliver, incr, set, ship};
use node::core::{
    op::{Condition, Read, SetExpiry, Write},
    reply::{Refusal, Reply},
};

fn region() -> Region {
    Region::new("us", &["eu"], 1)
}

fn pair() -> (Region, Region) {
    (Region::new("us", &["eu"], 1), Region::new("eu", &["us"], 2))
}

/// Ships everything both ways.
fn meet(us: &mut Region, eu: &mut Region) {
    ship(us, eu, 1);
    ship(eu, us, 2);
}

fn set_if(value: &str, condition: Condition, return_old: bool) -> Write {
    Write::Set {
        value: bytes(value),
        expiry: SetExpiry::Clear,
        condition,
        return_old,
    }
}

#[test]
fn a_value_reads_as_it_was_written() {
    let mut us = region();
    assert_eq!(us.get("k"), Reply::Nil);
    assert_eq!(us.write("k", set("v")), Reply::Ok);
    assert_eq!(us.get("k"), bulk("v"));
    assert_eq!(us.read("k", Read::Type), Reply::Simple("string"));
    assert_eq!(us.read("k", Read::Strlen), Reply::Int(1));
    assert_eq!(us.read("k", Read::Exists), Reply::Int(1));
    assert_eq!(us.write("k", Write::Delete), Reply::Int(1));
    assert_eq!(us.write("k", Write::Delete), Reply::Int(0));
    assert_eq!(us.get("k"), Reply::Nil);
    assert_eq!(us.read("k", Read::Type), Reply::Simple("none"));
}

#[test]
fn a_set_with_a_condition_writes_only_where_it_holds() {
    let mut us = region();
    let absent = |value| set_if(value, Condition::IfAbsent, false);
    let present = |value| set_if(value, Condition::IfPresent, false);
    assert_eq!(us.write("k", present("a")), Reply::Nil);
    assert_eq!(us.get("k"), Reply::Nil);
    assert_eq!(us.write("k", absent("b")), Reply::Ok);
    assert_eq!(us.write("k", absent("c")), Reply::Nil);
    assert_eq!(us.get("k"), bulk("b"));
    assert_eq!(us.write("k", present("d")), Reply::Ok);
    assert_eq!(us.get("k"), bulk("d"));
}

#[test]
fn a_set_that_returns_the_old_value_does_so_whether_it_writes_or_not() {
    let mut us = region();
    let get = |value, condition| set_if(value, condition, true);
    assert_eq!(us.write("k", get("a", Condition::Always)), Reply::Nil);
    assert_eq!(us.write("k", get("b", Condition::IfAbsent)), bulk("a"));
    assert_eq!(us.get("k"), bulk("a"));
    assert_eq!(us.write("k", get("c", Condition::IfPresent)), bulk("a"));
    assert_eq!(us.get("k"), bulk("c"));
    us.write("s", add(&["m"]));
    let refused = us.write("s", get("d", Condition::Always));
    assert_eq!(refused, Refusal::WrongType.into());
    assert_eq!(us.members("s"), ["m"]);
}

#[test]
fn a_plain_set_replaces_a_set() {
    let mut us = region();
    us.write("k", add(&["m", "n"]));
    assert_eq!(us.write("k", set("v")), Reply::Ok);
    assert_eq!(us.get("k"), bulk("v"));
    assert_eq!(us.write("k", Write::Delete), Reply::Int(1));
    assert_eq!(us.read("k", Read::Exists), Reply::Int(0));
}

#[test]
fn a_string_is_appended_to_and_written_into() {
    let mut us = region();
    let append = |text: &str| Write::Append { value: bytes(text) };
    assert_eq!(us.write("k", append("ab")), Reply::Int(2));
    assert_eq!(us.write("k", append("cd")), Reply::Int(4));
    let range = |offset, text: &str| Write::SetRange {
        offset,
        value: bytes(text),
    };
    assert_eq!(us.write("k", range(6, "x")), Reply::Int(7));
    assert_eq!(us.get("k"), bulk("abcd\0\0x"));
    assert_eq!(us.write("k", range(0, "")), Reply::Int(7));
    assert_eq!(us.write("none", range(5, "")), Reply::Int(0));
    assert_eq!(us.read("none", Read::Exists), Reply::Int(0));
    let too_long = us.write("k", range(1 << 20, "x"));
    assert_eq!(too_long, Refusal::StringTooLong.into());
    us.write("n", incr(5));
    assert_eq!(us.write("n", append("0")), Reply::Int(2));
    assert_eq!(us.write("n", incr(1)), Reply::Int(51));
}

#[test]
fn a_range_has_both_ends_and_counts_negative_ones_from_the_end() {
    let mut us = region();
    us.write("k", set("This is a string"));
    let table = [
        (0, 3, "This"),
        (-3, -1, "ing"),
        (0, -1, "This is a string"),
        (10, 100, "string"),
        (5, 3, ""),
        (-1, -5, ""),
        (0, -100, "T"),
        (-100, 0, "T"),
        (16, 20, ""),
    ];
    for (start, end, expected) in table {
        let range = us.read("k", Read::GetRange { start, end });
        assert_eq!(range, bulk(expected), "{start} to {end}");
    }
    assert_eq!(
        us.read("none", Read::GetRange { start: 0, end: -1 }),
        bulk("")
    );
}

#[test]
fn an_increment_counts_on_from_an_integer_and_refuses_everything_else() {
    let mut us = region();
    assert_eq!(us.write("k", incr(0)), Reply::Int(0));
    assert_eq!(us.get("k"), bulk("0"));
    assert_eq!(us.write("k", incr(-7)), Reply::Int(-7));
    us.write("k", set("10"));
    assert_eq!(us.write("k", incr(5)), Reply::Int(15));
    for text in [
        "abc",
        "",
        " 1",
        "1 ",
        "01",
        "+1",
        "-0",
        "1.5",
        "9223372036854775808",
    ] {
        us.write("t", set(text));
        let refused = us.write("t", incr(1));
        assert_eq!(refused, Refusal::NotAnInteger.into(), "{text:?}");
        assert_eq!(us.get("t"), bulk(text));
    }
    us.write("s", add(&["m"]));
    assert_eq!(us.write("s", incr(1)), Refusal::WrongType.into());
}

#[test]
fn an_increment_keeps_to_64_bits() {
    let mut us = region();
    us.write("k", set(&i64::MAX.to_string()));
    assert_eq!(us.write("k", incr(1)), Refusal::Overflow.into());
    assert_eq!(us.write("k", incr(-1)), Reply::Int(i64::MAX - 1));
    us.write("k", set(&i64::MIN.to_string()));
    assert_eq!(us.write("k", incr(-1)), Refusal::Overflow.into());
    assert_eq!(us.write("k", incr(i64::MAX)), Reply::Int(-1));
}

#[test]
fn regions_together_may_leave_64_bits_and_only_come_back() {
    let (mut us, mut eu) = pair();
    us.write("k", incr(i64::MAX));
    eu.write("k", incr(i64::MAX));
    meet(&mut us, &mut eu);
    let sum = (i128::from(i64::MAX) * 2).to_string();
    assert_eq!(us.get("k"), bulk(&sum));
    assert_eq!(eu.get("k"), bulk(&sum));
    assert_eq!(us.write("k", incr(1)), Refusal::Overflow.into());
    let less = (i128::from(i64::MAX) * 2 - 1).to_string();
    assert_eq!(us.write("k", incr(-1)), bulk(&less));
}

#[test]
fn the_old_value_is_given_out_as_it_is_deleted_or_kept() {
    let mut us = region();
    let get_ex = |expiry| Write::GetEx { expiry };
    assert_eq!(us.write("k", Write::GetDel), Reply::Nil);
    assert_eq!(us.write("k", get_ex(SetExpiry::Keep)), Reply::Nil);
    us.write("k", set("v"));
    assert_eq!(us.write("k", get_ex(SetExpiry::Keep)), bulk("v"));
    assert_eq!(us.write("k", Write::GetDel), bulk("v"));
    assert_eq!(us.get("k"), Reply::Nil);
    us.write("s", add(&["m"]));
    assert_eq!(us.write("s", Write::GetDel), Refusal::WrongType.into());
    assert_eq!(
        us.write("s", get_ex(SetExpiry::Clear)),
        Refusal::WrongType.into()
    );
    assert_eq!(us.get("s"), Refusal::WrongType.into());
    assert_eq!(us.read("s", Read::GetOrNil), Reply::Nil);
}

#[test]
fn the_last_set_wins_everywhere_and_increments_of_both_regions_count() {
    let (mut us, mut eu) = pair();
    us.write("r", set("first"));
    eu.pass(5);
    eu.write("r", set("second"));
    for by in 1..=4 {
        us.write("c", incr(by));
        eu.write("c", incr(10 * by));
    }
    meet(&mut us, &mut eu);
    for region in [&mut us, &mut eu] {
        assert_eq!(region.get("r"), bulk("second"));
        assert_eq!(region.get("c"), bulk("110"));
    }
    assert_eq!(us.shard.tallies().total(), eu.shard.tallies().total());
}

#[test]
fn an_increment_that_a_set_did_not_see_survives_it() {
    let (mut us, mut eu) = pair();
    us.write("k", incr(5));
    meet(&mut us, &mut eu);
    eu.write("k", incr(3));
    us.write("k", set("100"));
    meet(&mut us, &mut eu);
    assert_eq!(us.get("k"), bulk("103"));
    assert_eq!(eu.get("k"), bulk("103"));
    us.write("k", Write::Delete);
    eu.write("k", incr(1));
    meet(&mut us, &mut eu);
    assert_eq!(us.get("k"), bulk("1"));
    assert_eq!(eu.get("k"), bulk("1"));
}

#[test]
fn text_shows_and_increments_that_it_did_not_see_wait_behind_it() {
    let (mut us, mut eu) = pair();
    us.write("k", set("text"));
    eu.write("k", incr(4));
    meet(&mut us, &mut eu);
    for region in [&mut us, &mut eu] {
        assert_eq!(region.get("k"), bulk("text"));
        assert_eq!(region.write("k", incr(1)), Refusal::NotAnInteger.into());
    }
    us.write("k", set("7"));
    meet(&mut us, &mut eu);
    assert_eq!(eu.get("k"), bulk("7"), "the SET had seen the increments");
}

#[test]
fn an_actor_that_was_renewed_goes_on_counting() {
    let (mut us, mut eu) = pair();
    us.write("k", incr(5));
    meet(&mut us, &mut eu);
    let newest = us.shard.newest();
    us.former.push(us.directory);
    us.directory = node::core::identity::DirectoryId(9);
    us.input(node::core::Input::Renew {
        actor: us.directory.actor(0),
        newest,
        replays: false,
    });
    us.write("k", incr(2));
    assert_eq!(us.get("k"), bulk("7"));
    connect(&mut us, &eu, 3);
    deliver(&mut us, &mut eu, 3);
    assert_eq!(eu.get("k"), bulk("7"));
}

#[test]
fn a_renewed_actor_writes_after_everything_that_its_directory_wrote() {
    let mut us = region();
    us.wall_ms += 5000; // the clock was ahead, and the machine lost power
    us.write("k", set("before"));
    us.former.push(us.directory);
    us.directory = node::core::identity::DirectoryId(9);
    us.wall_ms -= 5000;
    us.restart();
    us.write("k", set("after"));
    assert_eq!(us.get("k"), bulk("after"));
}

#[test]
fn a_restarted_actor_writes_after_everything_that_it_wrote() {
    let mut us = region();
    us.write("k", set("before"));
    us.wall_ms -= 60_000;
    us.restart();
    us.write("k", set("after"));
    assert_eq!(us.get("k"), bulk("after"));
}
