//! Goal: what is written after the end of a key stays, and what has ended does not come back.
//!
//! Method: three replicas of one region, message by message; who writes has not heard of everything.

#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, its helpers too"
)]

mod core_support;

use core_support::{
    WALL_MS, add, bulk, bytes, incr,
    missed::{answers_held, arrive, expire, give, members, missed_by, only, pass, set_with, setnx},
    remove,
    replicas::Replicas,
    set,
};
use node::core::{
    op::{Action, Read, SetExpiry, Write},
    reply::Reply,
};

fn types(three: &mut Replicas) -> Vec<Reply> {
    (0..3)
        .map(|node| three.read(node, "k", Read::Type))
        .collect()
}

/// "A key that has ended is asked about before it is ended, and before anything is written to it": the question was answered before the end,
/// a PERSIST was acknowledged well before the end, and the write is carried out after it. Also where the key has been written to so often meanwhile
/// that it is not asked about again for that.
#[test]
fn p1_a_persist_before_the_end_stands_beside_a_write_that_asked_before_it() {
    let append = Write::Append { value: bytes("x") };
    let set_range = Write::SetRange {
        offset: 1,
        value: bytes("x"),
    };
    let writes = [setnx("w"), append, set_range];
    for (write, changes) in writes.iter().flat_map(|write| [(write, 0), (write, 2)]) {
        let mut three = Replicas::three();
        let at = WALL_MS + 5000;
        let begun = three.write(0, "k", set_with("5", SetExpiry::At(at)));
        assert_eq!(begun, Reply::Ok);
        three.live(0..3, 10);
        let now = three.nodes[0].wall_ms;
        pass(&mut three, at - now - 900);
        let asked = three.begin(0, "k", Action::Write(write.clone()));
        for change in 0..changes {
            let answers = answers_held(&mut three, 0);
            let counted = three.begin(2, "k", Action::Write(incr(1)));
            three.deliver();
            assert_eq!(three.reply(2, counted), Some(Reply::Int(6 + change)));
            pass(&mut three, 10);
            give(&mut three, 0, answers);
            assert_eq!(three.reply(0, asked), None);
        }
        let answers = answers_held(&mut three, 0);
        three.cut_off(0);
        assert_eq!(three.write(1, "k", Write::Persist), Reply::Int(1));
        assert!(three.nodes[1].wall_ms + 500 < at, "well before the end");
        let now = three.nodes[0].wall_ms;
        pass(&mut three, at + 1 - now);
        give(&mut three, 0, answers);
        three.mend();
        three.live(0..3, 10);
        let reply = three.reply(0, asked);
        let left: Vec<Reply> = (0..3).map(|node| three.get(node, "k")).collect();
        let good = ["", "x"].map(|end| bulk(&format!("{}{end}", 5 + changes)));
        assert!(
            left.iter().all(|left| good.contains(left)),
            "{write:?}, {changes} changes: {reply:?} {left:?}"
        );
    }
}

/// SADD through a replica that missed that the set was replaced by a string, which has ended since.
#[test]
fn p4_an_add_after_the_end_of_a_string_that_replaced_the_set_stays() {
    let mut three = Replicas::three();
    assert_eq!(three.write(0, "k", add(&["b"])), Reply::Int(1));
    three.live(0..3, 10);
    let at = three.nodes[0].wall_ms + 1000;
    let held = missed_by(&mut three, 0, set_with("v", SetExpiry::At(at)), &Reply::Ok);
    pass(&mut three, 2000);
    let added = three.write(0, "k", add(&["a"]));
    three.live(0..3, 10);
    arrive(&mut three, held);
    three.live(0..3, 10);
    let types = types(&mut three);
    let value = three.get(1, "k");
    assert_eq!(added, Reply::Int(1));
    assert_eq!(types, vec![Reply::Simple("set"); 3], "{value:?}");
}

/// The same with text and a counter.
#[test]
fn p3_an_increment_after_the_end_of_text_begins_anew() {
    let mut three = Replicas::three();
    assert_eq!(three.write(0, "k", set("5")), Reply::Ok);
    three.live(0..3, 10);
    let at = three.nodes[0].wall_ms + 1000;
    let held = missed_by(
        &mut three,
        0,
        set_with("text", SetExpiry::At(at)),
        &Reply::Ok,
    );
    pass(&mut three, 2000);
    let counted = three.write(0, "k", incr(1));
    three.live(0..3, 10);
    arrive(&mut three, held);
    three.live(0..3, 10);
    let left: Vec<Reply> = (0..3).map(|node| three.get(node, "k")).collect();
    assert!(
        left.iter().all(|left| *left != bulk("text")),
        "{counted:?} {left:?}"
    );
}

/// DEL of a key that has ended deletes nothing.
#[test]
fn p7_a_delete_of_a_key_that_has_ended_deletes_nothing() {
    let mut three = Replicas::three();
    let at = three.nodes[0].wall_ms + 1000;
    let held = missed_by(&mut three, 0, set_with("v", SetExpiry::At(at)), &Reply::Ok);
    pass(&mut three, 2000);
    let deleted = three.write(0, "k", Write::Delete);
    assert_eq!(deleted, Reply::Int(0));
    drop(held);
}

/// SREM of an element of a key that has ended removes nothing.
#[test]
fn p7_a_removal_from_a_key_that_has_ended_removes_nothing() {
    let mut three = Replicas::three();
    let at = three.nodes[0].wall_ms + 1000;
    let mut held = missed_by(&mut three, 0, add(&["a"]), &Reply::Int(1));
    held.extend(missed_by(&mut three, 0, expire(at), &Reply::Int(1)));
    pass(&mut three, 2000);
    let removed = three.write(0, "k", remove(&["a"]));
    assert_eq!(removed, Reply::Int(0));
    drop(held);
}

/// "A value that is written after the end stays": an addition through a replica that had the value and had not heard of its expiry, while the
/// one that set the expiry asks whether the key ends.
#[test]
fn p1_an_addition_beside_the_end_of_its_key_stays() {
    for (value, addition) in [(set("5"), incr(1)), (add(&["a"]), add(&["b"]))] {
        let mut three = Replicas::three();
        three.write(0, "k", value);
        three.live(0..3, 10);
        let at = three.nodes[0].wall_ms + 1000;
        let held = missed_by(&mut three, 2, expire(at), &Reply::Int(1)); // through us-1
        // It has ended long ago: us-1 asks us-2, which knows nothing else.
        let now = three.nodes[0].wall_ms;
        pass(&mut three, at + 3100 - now);
        three.nodes[0].tick();
        let answers = answers_held(&mut three, 0);
        three.hold(0);
        assert!(
            matches!(&answers[..], [(1, held), (2, none)] if held.len() == 1 && none.is_empty())
        );
        // INCR through us-3: its row arrives at us-1 before that answer.
        let added = three.begin(2, "k", Action::Write(addition.clone()));
        only(&mut three, 2, 0);
        give(&mut three, 0, answers);
        three.deliver();
        three.live(0..3, 10);
        let reply = three.reply(2, added);
        arrive(&mut three, held);
        three.live(0..3, 20);
        let types = types(&mut three);
        assert!(
            !matches!(reply, Some(Reply::Int(_))) || !types.contains(&Reply::Simple("none")),
            "{addition:?}: {reply:?} {types:?}"
        );
        let shown = three.read(0, "k", Read::Members);
        assert!(matches!(addition, Write::IncrBy { .. }) || members(&shown).contains("b"));
    }
}
