//! Goal: sets answer as Redis does, and an element stays until a remove saw it.
//!
//! Method: one shard over the memory storage, command by command; where regions meet, two shards and their inboxes by hand.

#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, its helpers too"
)]

mod core_support;

use std::collections::BTreeSet;

use bytes::Bytes;
use core_support::{Region, add, bulk, bytes, connect, deliver, incr, remove, set, ship, text};
use node::core::{
    op::{Action, Pick, Read, Write},
    recover,
    reply::{Refusal, Reply},
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

fn many(count: usize) -> Write {
    Write::Add {
        members: (0..count).map(|n| Bytes::from(format!("m{n}"))).collect(),
    }
}

#[test]
fn members_are_added_once_and_removed_once() {
    let mut us = region();
    assert_eq!(us.write("s", add(&["a", "b", "a"])), Reply::Int(2));
    assert_eq!(us.write("s", add(&["b", "c"])), Reply::Int(1));
    assert_eq!(us.members("s"), ["a", "b", "c"]);
    assert_eq!(us.read("s", Read::Cardinality), Reply::Int(3));
    assert_eq!(us.read("s", Read::Type), Reply::Simple("set"));
    let are = us.read(
        "s",
        Read::AreMembers {
            members: vec![bytes("a"), bytes("x")],
        },
    );
    assert_eq!(are, Reply::Array(vec![Reply::Int(1), Reply::Int(0)]));
    assert_eq!(us.write("s", remove(&["a", "x", "a"])), Reply::Int(1));
    assert_eq!(us.members("s"), ["b", "c"]);
    assert_eq!(us.write("s", remove(&["b", "c"])), Reply::Int(2));
    assert_eq!(us.read("s", Read::Exists), Reply::Int(0));
    assert_eq!(us.write("s", remove(&["b"])), Reply::Int(0));
}

#[test]
fn commands_on_another_type_are_refused() {
    let mut us = region();
    us.write("k", set("v"));
    let pop = Write::Pop {
        count: 1,
        entropy: 0,
    };
    for write in [add(&["m"]), remove(&["m"]), pop] {
        assert_eq!(us.write("k", write), Refusal::WrongType.into());
    }
    for read in [Read::Members, Read::Cardinality] {
        assert_eq!(us.read("k", read), Refusal::WrongType.into());
    }
    us.write("s", add(&["m"]));
    assert_eq!(us.write("s", incr(1)), Refusal::WrongType.into());
    assert_eq!(us.get("k"), bulk("v"));
}

#[test]
fn a_pop_removes_what_it_gives() {
    let mut us = region();
    us.write("s", many(20));
    let mut seen = BTreeSet::new();
    for entropy in 0..10 {
        let Reply::Array(popped) = us.write("s", Write::Pop { count: 2, entropy }) else {
            panic!("a pop gives an array");
        };
        assert_eq!(popped.len(), 2);
        assert!(popped.iter().all(|member| seen.insert(text(member))));
    }
    assert_eq!(us.read("s", Read::Exists), Reply::Int(0));
    let nothing = us.write(
        "s",
        Write::Pop {
            count: 2,
            entropy: 1,
        },
    );
    assert_eq!(nothing, Reply::Array(Vec::new()));
}

#[test]
fn a_random_choice_is_of_members_and_distinct_where_asked() {
    let mut us = region();
    us.write("s", many(5000));
    let choose = |us: &mut Region, pick| {
        let reply = us.read("s", Read::RandomMembers { pick, entropy: 5 });
        let Reply::Array(items) = reply else {
            panic!("a choice is an array");
        };
        items.iter().map(text).collect::<Vec<_>>()
    };
    let distinct = choose(&mut us, Pick::Distinct(100));
    assert_eq!(distinct.iter().collect::<BTreeSet<_>>().len(), 100);
    assert_eq!(choose(&mut us, Pick::Repeating(300)).len(), 300);
    assert_eq!(choose(&mut us, Pick::Distinct(9000)).len(), 5000);
    assert!(distinct.iter().all(|member| member.starts_with('m')));
}

#[test]
fn a_scan_shows_every_member_that_stays() {
    let mut us = region();
    us.write("s", many(500));
    let (mut cursor, mut seen) = (0, BTreeSet::new());
    loop {
        let page = us.read(
            "s",
            Read::ScanMembers {
                cursor,
                count: 7,
                pattern: None,
            },
        );
        let Reply::Array(parts) = page else {
            panic!("a page is an array")
        };
        let [next, Reply::Array(items)] = &parts[..] else {
            panic!("a page is a cursor and members")
        };
        seen.extend(items.iter().map(text));
        cursor = text(next).parse().unwrap();
        us.write("s", remove(&[&format!("m{}", 400 + seen.len() % 100)]));
        if cursor == 0 {
            break;
        }
    }
    assert!((0..400).all(|n| seen.contains(&format!("m{n}"))));
}

#[test]
fn a_batch_reads_its_own_adds_removes_and_clears() {
    let mut us = region();
    us.write("s", many(600)); // more than are deleted one by one
    let requests = [
        Action::Write(Write::Delete),
        Action::Read(Read::Cardinality),
        Action::Write(add(&["m3", "new"])),
        Action::Read(Read::Members),
        Action::Write(remove(&["m3"])),
        Action::Read(Read::Members),
        Action::Write(Write::Pop {
            count: 5,
            entropy: 1,
        }),
        Action::Read(Read::Exists),
    ];
    let ids = requests.map(|request| us.request("s", request));
    us.close();
    // Reads of many rows are carried out when all of it is committed.
    let replies = ids.map(|id| us.reply(id).unwrap());
    let Reply::Set(both) = &replies[3] else {
        panic!("members are a set")
    };
    assert_eq!(both.len(), 2);
    assert_eq!(replies[1], Reply::Int(0));
    assert_eq!(replies[5], Reply::Set(vec![bulk("new")]));
    assert_eq!(replies[6], Reply::Array(vec![bulk("new")]));
    assert_eq!(replies[7], Reply::Int(0));
    us.restart();
    assert_eq!(us.read("s", Read::Exists), Reply::Int(0));
}

#[test]
fn an_element_that_a_remove_did_not_see_stays() {
    let (mut us, mut eu) = pair();
    us.write("s", add(&["a", "b"]));
    meet(&mut us, &mut eu);
    us.write("s", remove(&["a"]));
    eu.write("s", remove(&["a"]));
    eu.write("s", add(&["a"]));
    meet(&mut us, &mut eu);
    assert_eq!(us.members("s"), ["a", "b"]);
    assert_eq!(eu.members("s"), ["a", "b"]);
    us.write("s", remove(&["a"]));
    meet(&mut us, &mut eu);
    assert_eq!(eu.members("s"), ["b"]);
}

#[test]
fn a_whole_key_remove_takes_what_it_saw_and_no_more() {
    let (mut us, mut eu) = pair();
    us.write("s", add(&["seen", "too"]));
    meet(&mut us, &mut eu);
    eu.write("s", add(&["beside"]));
    us.write("s", Write::Delete);
    meet(&mut us, &mut eu);
    assert_eq!(us.members("s"), ["beside"]);
    assert_eq!(eu.members("s"), ["beside"]);
}

#[test]
fn a_whole_key_remove_of_many_rows_is_one_small_delta_and_leaves_none() {
    let (mut us, mut eu) = pair();
    us.write("s", many(2000));
    meet(&mut us, &mut eu);
    us.write("s", Write::Delete);
    let bytes_before = us.storage.usage().bytes;
    meet(&mut us, &mut eu);
    for region in [&mut us, &mut eu] {
        assert_eq!(region.read("s", Read::Cardinality), Reply::Int(0));
        let (from, to) = (Vec::new(), None);
        let mut rows = 0;
        node::storage::Storage::scan(
            &region.storage,
            node::storage::Family::Row,
            &from,
            to,
            &mut |_, _| {
                rows += 1;
                std::ops::ControlFlow::Continue(())
            },
        )
        .unwrap();
        assert_eq!(rows, 0);
    }
    assert!(bytes_before < 400_000, "{bytes_before}");
}

#[test]
fn adds_of_one_command_are_removed_apart() {
    let (mut us, mut eu) = pair();
    us.write("s", add(&["x", "y"]));
    meet(&mut us, &mut eu);
    eu.write("s", remove(&["x"]));
    meet(&mut us, &mut eu);
    assert_eq!(us.members("s"), ["y"]);
}

#[test]
fn two_types_under_one_key_show_the_newer_one_and_a_delete_takes_both() {
    let (mut us, mut eu) = pair();
    us.write("k", set("text"));
    eu.pass(5);
    eu.write("k", add(&["m"]));
    meet(&mut us, &mut eu);
    for region in [&mut us, &mut eu] {
        assert_eq!(region.read("k", Read::Type), Reply::Simple("set"));
        assert_eq!(region.get("k"), Refusal::WrongType.into());
    }
    us.write("k", Write::Delete);
    meet(&mut us, &mut eu);
    for region in [&mut us, &mut eu] {
        assert_eq!(region.read("k", Read::Exists), Reply::Int(0));
        assert_eq!(region.get("k"), Reply::Nil);
    }
    eu.write("k", set("again"));
    meet(&mut us, &mut eu);
    assert_eq!(us.get("k"), bulk("again"));
}

#[test]
fn a_set_over_two_types_leaves_only_the_string() {
    let (mut us, mut eu) = pair();
    us.write("k", set("text"));
    eu.pass(5);
    eu.write("k", add(&["m"]));
    meet(&mut us, &mut eu);
    us.pass(10);
    us.write("k", set("new"));
    meet(&mut us, &mut eu);
    assert_eq!(eu.get("k"), bulk("new"));
    eu.write("k", Write::Delete);
    assert_eq!(eu.read("k", Read::Exists), Reply::Int(0));
}

#[test]
fn tallies_follow_every_change_and_are_what_a_recount_finds() {
    let (mut us, mut eu) = pair();
    for n in 0..40 {
        us.write(&format!("s{}", n % 7), add(&[&format!("m{n}"), "both"]));
        eu.write(&format!("s{}", n % 5), remove(&["both"]));
        eu.write(&format!("k{}", n % 5), incr(n));
        us.write(&format!("k{}", n % 3), Write::Delete);
        if n % 9 == 0 {
            meet(&mut us, &mut eu);
        }
    }
    meet(&mut us, &mut eu);
    for region in [&us, &eu] {
        let recounted = recover::tallies(&region.storage, 0, 1, false).unwrap();
        assert_eq!(region.shard.tallies(), &recounted);
        assert!(recounted.total().keys > 0);
    }
}

#[test]
fn tallies_that_an_orderly_stop_stored_are_taken_up() {
    let mut us = region();
    us.write("s", add(&["a", "b"]));
    us.write("k", set("v"));
    let before = us.shard.tallies().clone();
    us.input(node::core::Input::Stop);
    let stored = recover::tallies(&us.storage, 0, 1, true).unwrap();
    assert_eq!(stored, before);
}

#[test]
fn a_hot_key_costs_one_delta_a_batch() {
    let (mut us, mut eu) = pair();
    connect(&mut us, &eu, 1);
    deliver(&mut us, &mut eu, 1);
    for n in 0..300 {
        us.request("c", Action::Write(incr(1)));
        us.request("s", Action::Write(add(&[&format!("m{n}")])));
        us.request("s", Action::Write(remove(&[&format!("m{}", n / 2)])));
    }
    us.close();
    let shipped = core_support::take(&mut us.sent, 1);
    let [node::core::message::Message::Ship(message)] = &shipped[..] else {
        panic!("one batch is one message: {shipped:?}");
    };
    let deltas = node::storage::record::outbox::decode(&message.rows[0]).unwrap();
    assert_eq!((message.rows.len(), deltas.len()), (1, 2));
    for message in shipped {
        eu.receive(node::core::message::SessionId(1), message);
        eu.close();
    }
    assert_eq!(eu.get("c"), bulk("300"));
    assert_eq!(eu.members("s"), us.members("s"));
}
