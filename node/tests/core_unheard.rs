//! Goal: what was acknowledged as removed, or as not there, is gone for whoever asks next, also where the one who said so knew it from a write
//! that nobody else has.
//!
//! Method: three replicas of one region, message by message. One of them deletes, and nobody hears of it.

#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, its helpers too"
)]

mod core_support;

use core_support::{
    add, incr,
    missed::{Held, missed_by},
    remove,
    replicas::Replicas,
    set,
};
use node::core::{
    op::{Action, Read, Write},
    reply::Reply,
};

/// us-2 and us-3 have what is written, and us-1 has not heard of it. us-2 removes it, and nobody hears of that. Gives what is under way.
fn removed_unheard(
    three: &mut Replicas,
    write: &Write,
    reply: &Reply,
    removal: &Write,
) -> Vec<Held> {
    let mut held = missed_by(three, 0, write.clone(), reply);
    three.begin(1, "k", Action::Write(removal.clone()));
    for (held, more) in held.iter_mut().zip((0..3).map(|node| three.hold(node))) {
        held.extend(more);
    }
    held
}

/// Through us-1 the removal comes to nothing that it knew; us-3, which still has the value, is asked afterwards.
fn is_gone_for_whoever_asks(write: &Write, removal: &Write) {
    let mut three = Replicas::three();
    let reply = match write {
        Write::Set { .. } => Reply::Ok,
        _ => Reply::Int(1),
    };
    let held = removed_unheard(&mut three, write, &reply, removal);
    three.cut_off(2);
    let again = three.begin(0, "k", Action::Write(removal.clone()));
    three.live(0..3, 3);
    let again = three.reply(0, again);
    assert!(matches!(again, Some(Reply::Int(_))), "{write:?}: {again:?}");
    three.cut.clear();
    three.cut_off(1);
    for node in [2, 0] {
        let there = three.read(node, "k", Read::Exists);
        assert_eq!(
            there,
            Reply::Int(0),
            "{write:?}, {removal:?}, through {node}"
        );
    }
    drop(held);
}

/// P1. DEL was answered; the value does not come back.
#[test]
fn p1_what_a_delete_did_not_find_stays_away() {
    for write in [set("v"), incr(1), add(&["a"])] {
        is_gone_for_whoever_asks(&write, &Write::Delete);
    }
}

/// P1. The same of SREM.
#[test]
fn p1_what_a_removal_did_not_find_stays_away() {
    is_gone_for_whoever_asks(&add(&["a"]), &remove(&["a"]));
}

/// P1. The same where there was something else to delete.
#[test]
fn p1_a_delete_ends_what_another_one_ended_that_nobody_heard_of() {
    for (before, write) in [
        (set("1"), set("v")),
        (set("1"), incr(1)),
        (add(&["a"]), add(&["b"])),
    ] {
        let mut three = Replicas::three();
        three.write(0, "k", before);
        three.live(0..3, 10);
        let held = removed_unheard(&mut three, &write, &expected(&write), &Write::Delete);
        three.cut_off(2);
        let deleted = three.begin(0, "k", Action::Write(Write::Delete));
        three.live(0..3, 5);
        assert_eq!(three.reply(0, deleted), Some(Reply::Int(1)), "{write:?}");
        three.cut.clear();
        three.cut_off(1);
        for node in [2, 0] {
            let there = three.read(node, "k", Read::Exists);
            assert_eq!(there, Reply::Int(0), "{write:?}, through {node}");
        }
        drop(held);
    }
}

fn expected(write: &Write) -> Reply {
    match write {
        Write::Set { .. } => Reply::Ok,
        Write::IncrBy { .. } => Reply::Int(2),
        _ => Reply::Int(1),
    }
}
