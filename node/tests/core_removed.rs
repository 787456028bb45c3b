//! Goal: an element that was removed stays removed, also where the removal knows of an older add only, and is acknowledged by a replica that alone has
//! removed the newer one.
//!
//! Method: three replicas of one region, message by message.

#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, its helpers too"
)]

mod core_support;

use core_support::{
    add, bytes,
    missed::{Held, members, missed_by, of, only},
    remove,
    replicas::Replicas,
};
use node::core::{
    op::{Action, Read, Write},
    reply::Reply,
};

/// us-1 has an older add of `m`; us-2 and us-3 a newer one, which they acknowledged. Then us-2 alone has removed it, and nobody hears of that.
fn removed_by_one_alone() -> Replicas {
    let mut three = Replicas::three();
    assert_eq!(three.write(0, "k", add(&["m", "other"])), Reply::Int(2));
    three.live(0..3, 10);
    let _missed: Vec<Held> = missed_by(&mut three, 0, add(&["m"]), &Reply::Int(0));
    let _alone = three.begin(1, "k", Action::Write(remove(&["m"])));
    let _unheard: Held = three.hold(1);
    three
}

/// What us-1 wrote gets to us-2, and us-2's word back.
fn acknowledged_by_the_second(three: &mut Replicas) {
    only(three, 0, 1);
    let returned = std::mem::take(&mut three.nodes[1].returned);
    for (session, message) in returned {
        three.take(0, false, session, message);
    }
}

/// us-1 removes the element, us-2 acknowledges that, and us-3 hears of nothing. What us-1 asks us-2 is answered. Gives the reply.
fn removed_by_an_older_add(three: &mut Replicas, write: Write) -> Option<Reply> {
    three.cut_off(2);
    let id = three.begin(0, "k", Action::Write(write));
    acknowledged_by_the_second(three);
    // us-1 alone lives on: us-2 answers, and ships nothing again.
    three.live(0..1, 6);
    three.reply(0, id)
}

/// P7. SADD k m (us-2 and us-3), SREM k m (us-2 alone, not answered), SREM k m (us-1, acknowledged by us-2). Then us-2 dies.
#[test]
fn p7_an_element_removed_by_an_older_add_stays_removed() {
    let mut three = removed_by_one_alone();
    let reply = removed_by_an_older_add(&mut three, remove(&["m"]));
    assert_eq!(reply, Some(Reply::Int(1)));
    three.cut.clear();
    three.cut_off(1);
    for node in [0, 2] {
        let read = Read::AreMembers {
            members: vec![bytes("m")],
        };
        let is_there = three.read(node, "k", read);
        assert_eq!(
            is_there,
            Reply::Array(vec![Reply::Int(0)]),
            "through {node}"
        );
        let left = three.read(node, "k", Read::Members);
        assert_eq!(members(&left), of(&["other"]), "through {node}");
    }
}

/// What was added again through the same node behind the removal is not taken for what it was to remove.
#[test]
fn p7_what_was_added_behind_the_removal_stays() {
    let mut three = removed_by_one_alone();
    let removed = three.begin(0, "k", Action::Write(remove(&["m"])));
    let added = three.begin(0, "k", Action::Write(add(&["m"])));
    acknowledged_by_the_second(&mut three);
    // What us-2 was about to remove as well nobody hears of.
    three.cut_off(1);
    three.live(0..1, 10);
    three.live(2..3, 10);
    assert_eq!(three.reply(0, removed), Some(Reply::Int(1)));
    assert_eq!(three.reply(0, added), Some(Reply::Int(1)));
    for node in [0, 2] {
        let there = three.read(node, "k", Read::Members);
        assert_eq!(members(&there), of(&["m", "other"]), "through {node}");
    }
}

/// What the same connection asks behind the removal does not see the element either, although the question for it brings it here.
#[test]
fn p7_what_is_asked_behind_the_removal_does_not_see_the_element() {
    let mut three = removed_by_one_alone();
    let removed = three.begin(0, "k", Action::Write(remove(&["m"])));
    let popped = three.begin(
        0,
        "k",
        Action::Write(Write::Pop {
            count: 1,
            entropy: 1,
        }),
    );
    acknowledged_by_the_second(&mut three);
    three.cut_off(1);
    for _ in 0..10 {
        three.live(0..1, 1);
        three.live(2..3, 1);
    }
    assert_eq!(three.reply(0, removed), Some(Reply::Int(1)));
    let other = Reply::Array(vec![Reply::Bulk(bytes("other"))]);
    assert_eq!(three.reply(0, popped), Some(other));
}

/// Where nobody answers what is left, the client hears that nobody knows.
#[test]
fn a_removal_that_cannot_hear_what_others_removed_is_not_acknowledged() {
    let mut three = removed_by_one_alone();
    three.cut_off(2);
    let id = three.begin(0, "k", Action::Write(remove(&["m"])));
    acknowledged_by_the_second(&mut three);
    three.cut_off(1);
    three.live(0..1, 40);
    let reply = three.reply(0, id);
    assert!(
        matches!(&reply, Some(Reply::Error(refusal)) if refusal.to_string().contains("removal")),
        "{reply:?}"
    );
}
