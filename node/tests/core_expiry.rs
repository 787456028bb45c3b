//! Goal: keys end as Redis has it, and an end takes only what it saw.
//!
//! Method: one shard over the memory storage under a clock that is set by hand; where regions meet, two of them.

#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, its helpers too"
)]

mod core_support;

use std::time::Duration;

use core_support::{Region, WALL_MS, add, bulk, bytes, incr, set, ship};
use node::core::{
    Input,
    op::{Action, Condition, ExpireCondition, Read, SetExpiry, Write},
    reply::Reply,
};

fn region() -> Region {
    Region::new("us", &["eu"], 1)
}

fn pair() -> (Region, Region) {
    (Region::new("us", &["eu"], 1), Region::new("eu", &["us"], 2))
}

fn meet(us: &mut Region, eu: &mut Region) {
    ship(us, eu, 1);
    ship(eu, us, 2);
    assert_eq!(us.shard.tallies().total(), eu.shard.tallies().total());
}

fn expire_at(at_ms: u64) -> Write {
    expire_if(at_ms, ExpireCondition::Always)
}

fn expire_if(at_ms: u64, condition: ExpireCondition) -> Write {
    Write::Expire {
        at_ms: at_ms as i64,
        condition,
    }
}

fn set_with(value: &str, expiry: SetExpiry) -> Write {
    Write::Set {
        value: bytes(value),
        expiry,
        condition: Condition::Always,
        return_old: false,
    }
}

#[test]
fn a_key_ends_in_its_very_millisecond() {
    let mut us = region();
    us.write("k", set("v"));
    assert_eq!(us.read("k", Read::ExpiresAtMs), Reply::Int(-1));
    assert_eq!(us.write("k", expire_at(WALL_MS + 100)), Reply::Int(1));
    let at = Reply::Int((WALL_MS + 100) as i64);
    assert_eq!(us.read("k", Read::ExpiresAtMs), at);
    us.pass(99);
    assert_eq!(us.get("k"), bulk("v"));
    us.pass(1);
    assert_eq!(us.get("k"), Reply::Nil);
    assert_eq!(us.read("k", Read::ExpiresAtMs), Reply::Int(-2));
    assert_eq!(us.write("k", Write::Delete), Reply::Int(0));
}

#[test]
fn an_end_in_the_past_deletes_and_none_without_a_key_does_nothing() {
    let mut us = region();
    assert_eq!(us.write("k", expire_at(WALL_MS + 100)), Reply::Int(0));
    us.write("k", set("v"));
    assert_eq!(us.write("k", expire_at(WALL_MS)), Reply::Int(1));
    assert_eq!(us.read("k", Read::Exists), Reply::Int(0));
    us.write("k", incr(1));
    let long_ago = Write::Expire {
        at_ms: -5,
        condition: ExpireCondition::Always,
    };
    assert_eq!(us.write("k", long_ago), Reply::Int(1));
    assert_eq!(us.read("k", Read::Exists), Reply::Int(0));
}

#[test]
fn an_expire_has_its_conditions() {
    use ExpireCondition::{IfEarlier, IfLater, IfNone, IfSome, IfSomeAndEarlier, IfSomeAndLater};
    let (early, middle, late) = (WALL_MS + 100, WALL_MS + 200, WALL_MS + 300);
    let table = [
        // what it has, what is asked, whether it applies
        (None, middle, IfNone, 1),
        (Some(middle), late, IfNone, 0),
        (None, middle, IfSome, 0),
        (Some(middle), late, IfSome, 1),
        (None, late, IfLater, 0),
        (Some(middle), late, IfLater, 1),
        (Some(middle), middle, IfLater, 0),
        (Some(middle), early, IfLater, 0),
        (None, late, IfEarlier, 1),
        (Some(middle), early, IfEarlier, 1),
        (Some(middle), late, IfEarlier, 0),
        (None, early, IfSomeAndEarlier, 0),
        (Some(middle), early, IfSomeAndEarlier, 1),
        (None, late, IfSomeAndLater, 0),
        (Some(middle), late, IfSomeAndLater, 1),
    ];
    for (has, at_ms, condition, expected) in table {
        let mut us = region();
        us.write("k", set("v"));
        if let Some(has) = has {
            us.write("k", expire_at(has));
        }
        let applied = us.write("k", expire_if(at_ms, condition));
        assert_eq!(applied, Reply::Int(expected), "{has:?} {condition:?}");
        let now = if expected == 1 { Some(at_ms) } else { has };
        let shown = Reply::Int(now.map_or(-1, |at_ms| at_ms as i64));
        assert_eq!(us.read("k", Read::ExpiresAtMs), shown);
    }
}

#[test]
fn a_set_clears_an_expiry_unless_it_keeps_or_sets_one() {
    let mut us = region();
    us.write("k", set_with("a", SetExpiry::At(WALL_MS + 100)));
    us.write("k", set_with("b", SetExpiry::Keep));
    let at = Reply::Int((WALL_MS + 100) as i64);
    assert_eq!(us.read("k", Read::ExpiresAtMs), at);
    us.write("k", set("c"));
    assert_eq!(us.read("k", Read::ExpiresAtMs), Reply::Int(-1));
    us.write("k", expire_at(WALL_MS + 100));
    assert_eq!(us.write("k", Write::Persist), Reply::Int(1));
    assert_eq!(us.write("k", Write::Persist), Reply::Int(0));
    let get_ex = Write::GetEx {
        expiry: SetExpiry::At(WALL_MS + 50),
    };
    assert_eq!(us.write("k", get_ex), bulk("c"));
    us.pass(50);
    assert_eq!(us.get("k"), Reply::Nil);
    us.write("k", incr(1));
    assert_eq!(us.read("k", Read::ExpiresAtMs), Reply::Int(-1));
}

#[test]
fn a_key_without_elements_leaves_no_expiry_to_the_next_of_its_name() {
    let mut us = region();
    us.write("s", add(&["a"]));
    us.write("s", expire_at(WALL_MS + 100));
    us.write(
        "s",
        Write::Remove {
            members: vec![bytes("a")],
        },
    );
    us.write("s", add(&["b"]));
    assert_eq!(us.read("s", Read::ExpiresAtMs), Reply::Int(-1));
}

#[test]
fn an_end_gives_storage_back_without_anybody_asking() {
    let (mut us, mut eu) = pair();
    us.write("s", add(&["a", "b"]));
    us.write("s", expire_at(WALL_MS + 100));
    meet(&mut us, &mut eu);
    let keys = us.shard.tallies().total().keys;
    us.pass(150);
    eu.pass(150);
    for _ in 0..3 {
        us.tick();
    }
    assert_eq!(us.shard.tallies().total().keys, keys - 1);
    meet(&mut us, &mut eu);
    assert_eq!(eu.shard.tallies().total().keys, keys - 1);
}

#[test]
fn an_end_is_found_again_after_a_restart() {
    let mut us = region();
    us.write("k", set("v"));
    us.write("k", expire_at(WALL_MS + 100));
    us.restart();
    us.pass(200);
    for _ in 0..100 {
        us.tick();
    }
    assert_eq!(us.shard.tallies().total().keys, 0);
}

#[test]
fn an_end_does_not_take_a_value_set_beside_it_whatever_the_clocks_say() {
    let (mut us, mut eu) = pair();
    us.write("k", set_with("old", SetExpiry::At(WALL_MS + 100)));
    meet(&mut us, &mut eu);
    // This clock is ahead: here the key ends, there a new value is set, with a stamp of before.
    us.wall_ms += 500;
    us.tick();
    assert_eq!(us.get("k"), Reply::Nil);
    eu.pass(50);
    eu.write("k", set("new"));
    meet(&mut us, &mut eu);
    assert_eq!(us.get("k"), bulk("new"));
    assert_eq!(eu.get("k"), bulk("new"));
}

#[test]
fn an_end_does_not_take_an_increment_made_beside_it() {
    let (mut us, mut eu) = pair();
    us.write("k", incr(10));
    us.write("k", expire_at(WALL_MS + 100));
    meet(&mut us, &mut eu);
    us.pass(200);
    us.tick();
    eu.pass(50);
    eu.write("k", incr(1));
    eu.pass(150);
    meet(&mut us, &mut eu);
    assert_eq!(us.get("k"), bulk("1"));
    assert_eq!(eu.get("k"), bulk("1"));
}

#[test]
fn an_end_acts_on_both_slots_of_a_key() {
    let (mut us, mut eu) = pair();
    us.write("k", set("text"));
    eu.pass(5);
    eu.write("k", add(&["m"]));
    meet(&mut us, &mut eu);
    us.pass(5);
    us.write("k", expire_at(WALL_MS + 100));
    us.pass(100);
    eu.pass(100);
    us.tick();
    assert_eq!(us.read("k", Read::Exists), Reply::Int(0));
    us.write("k", incr(1));
    assert_eq!(us.get("k"), bulk("1"));
    meet(&mut us, &mut eu);
    assert_eq!(eu.get("k"), bulk("1"));
}

/// A region alone, with so many keys that end in 100 ms.
fn ending_soon(keys: usize) -> Region {
    let mut us = Region::new("us", &[], 1);
    for batch in (0..keys).collect::<Vec<_>>().chunks(1000) {
        for number in batch {
            let end = SetExpiry::At(WALL_MS + 100);
            us.request(&format!("k{number}"), Action::Write(set_with("v", end)));
        }
        us.close();
        us.replies.clear();
    }
    us
}

fn keys(us: &Region) -> u64 {
    us.shard.tallies().total().keys
}

/// Ticks once and gives every turn that is asked for at once; how many keys each turn ended.
fn turns(us: &mut Region) -> Vec<u64> {
    let mut ended = Vec::new();
    let mut before = keys(us);
    us.tick();
    loop {
        ended.push(before - keys(us));
        before = keys(us);
        if !us.wake() {
            return ended;
        }
    }
}

/// Lets the walk over all keys that follows a start come to its end.
fn settle(us: &mut Region) {
    us.tick();
    for _ in 0..1000 {
        let Some(at) = us.shard.wake_at() else {
            return;
        };
        us.mono = us.mono.max(at);
        assert!(us.wake(), "it wants what it asked for");
    }
    panic!("a shard with nothing to do wants to be woken for ever");
}

#[test]
fn all_that_is_due_ends_at_once_in_turns_that_are_bounded() {
    let mut us = ending_soon(5_000);
    settle(&mut us);
    us.pass(100);
    let ended = turns(&mut us);
    assert_eq!(keys(&us), 0, "after {} turns", ended.len());
    assert!(ended.len() < 15, "{} turns", ended.len());
    assert!(ended.iter().all(|count| *count <= 512), "{ended:?}");
    assert_eq!(us.shard.wake_at(), None, "there is nothing left to do");
}

#[test]
fn more_than_can_be_remembered_ends_without_another_tick() {
    let mut us = ending_soon(80_000);
    settle(&mut us);
    us.pass(100);
    us.tick();
    for _ in 0..1000 {
        let Some(at) = us.shard.wake_at() else {
            break;
        };
        assert!(at <= us.mono + Duration::from_millis(10), "it goes on soon");
        us.mono = us.mono.max(at);
        us.wake();
    }
    assert_eq!(keys(&us), 0);
    assert_eq!(us.shard.wake_at(), None, "there is nothing left to do");
}

#[test]
fn who_asks_while_many_keys_end_waits_for_one_turn() {
    let mut us = ending_soon(5_000);
    settle(&mut us);
    us.write("other", set("v"));
    us.pass(100);
    us.tick();
    assert!(keys(&us) > 4_000, "not everything ends in one turn");
    assert_eq!(us.get("other"), bulk("v"));
    assert!(keys(&us) > 4_000, "a request is answered between two turns");
    turns(&mut us);
    assert_eq!(keys(&us), 1);
}

#[test]
fn a_turn_ends_early_where_a_few_keys_are_much_work() {
    let mut us = Region::new("us", &[], 1);
    let members: Vec<String> = (0..500).map(|number| format!("m{number}")).collect();
    let members: Vec<&str> = members.iter().map(String::as_str).collect();
    for number in 0..100 {
        let key = format!("s{number}");
        us.write(&key, add(&members));
        us.write(&key, expire_at(WALL_MS + 100));
    }
    settle(&mut us);
    us.pass(100);
    let ended = turns(&mut us);
    assert_eq!(keys(&us), 0);
    assert!(ended.iter().all(|count| *count < 40), "{ended:?}");
}

#[test]
fn a_shard_that_takes_no_writes_does_not_ask_to_be_woken_for_what_it_may_not_end() {
    let mut us = ending_soon(1000);
    settle(&mut us);
    us.pass(100);
    us.input(Input::ReadOnly(Some("the disk is full".to_owned())));
    assert_eq!(turns(&mut us), [0]);
    us.input(Input::ReadOnly(None));
    turns(&mut us);
    assert_eq!(keys(&us), 0);
}
