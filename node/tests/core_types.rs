//! Goal: what was acknowledged is not hidden by a value of another type, and what is added is refused only for what others did before.
//!
//! Method: three replicas of one region, message by message; one misses how the key came to its type, and is added through.

#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, its helpers too"
)]

mod core_support;

use core_support::{
    add, bulk, bytes, incr,
    missed::{arrive, members, missed_by, of, only},
    remove,
    replicas::Replicas,
    set,
};
use node::core::{
    op::{Action, Read, Write},
    reply::{Refusal, Reply},
};

#[test]
fn p7_a_string_that_was_acknowledged_is_not_hidden_by_an_add_through_a_replica_that_missed_it() {
    let mut three = Replicas::three();
    let held = missed_by(&mut three, 2, set("v"), &Reply::Ok);
    let added = three.write(2, "k", add(&["a"]));
    for node in 0..3 {
        assert_eq!(
            three.get(node, "k"),
            bulk("v"),
            "through {node} after {added:?}"
        );
    }
    arrive(&mut three, held);
    assert_eq!(three.get(0, "k"), bulk("v"));
}

#[test]
fn p4_a_set_that_was_acknowledged_is_not_hidden_by_an_increment_through_a_replica_that_missed_it() {
    let mut three = Replicas::three();
    let held = missed_by(&mut three, 2, add(&["a"]), &Reply::Int(1));
    let counted = three.write(2, "k", incr(1));
    for node in 0..3 {
        let shown = three.read(node, "k", Read::Members);
        assert_eq!(
            shown,
            Reply::Set(vec![bulk("a")]),
            "through {node} after {counted:?}"
        );
    }
    arrive(&mut three, held);
}

#[test]
fn p4_an_element_is_shown_that_was_added_through_a_replica_that_missed_how_the_set_became_a_string()
{
    let mut three = Replicas::three();
    three.write(0, "k", add(&["a"]));
    let held = missed_by(&mut three, 2, set("v"), &Reply::Ok);
    let added = three.write(2, "k", add(&["b"]));
    arrive(&mut three, held);
    let shown = three.read(0, "k", Read::Members);
    // Either it is refused, as the others know better, or it is there.
    assert!(
        matches!(added, Reply::Error(_)) || matches!(shown, Reply::Set(_)),
        "{added:?}, and then {shown:?}"
    );
}

#[test]
fn an_increment_is_not_refused_for_text_that_a_number_has_replaced() {
    let mut three = Replicas::three();
    three.write(0, "k", set("text"));
    let held = missed_by(&mut three, 2, set("5"), &Reply::Ok);
    let counted = three.write(2, "k", incr(1));
    assert!(matches!(counted, Reply::Int(_)), "{counted:?}");
    arrive(&mut three, held);
}

#[test]
fn an_add_is_not_refused_for_a_string_that_was_deleted() {
    let mut three = Replicas::three();
    three.write(0, "k", set("v"));
    let held = missed_by(&mut three, 2, Write::Delete, &Reply::Int(1));
    assert_eq!(three.write(2, "k", add(&["a"])), Reply::Int(1));
    arrive(&mut three, held);
}

#[test]
fn p7_an_element_is_removed_through_a_replica_that_still_has_the_string_that_was_there_before() {
    let mut three = Replicas::three();
    three.write(0, "k", set("v"));
    let mut held = missed_by(&mut three, 2, Write::Delete, &Reply::Int(1));
    held.extend(missed_by(&mut three, 2, add(&["a"]), &Reply::Int(1)));
    assert_eq!(three.write(2, "k", remove(&["a"])), Reply::Int(1));
    drop(held);
}

const WRONG: Reply = Reply::Error(Refusal::WrongType);

/// "INCR and SADD through a replica that had missed a value of the other type are taken back and answered with the error that it deserves."
#[test]
fn p4_a_set_is_not_hidden_by_an_increment_with_a_read_behind_it_in_one_pipeline() {
    let mut three = Replicas::three();
    let held = missed_by(&mut three, 0, add(&["a"]), &Reply::Int(1));
    let increment = three.nodes[0].request("k", Action::Write(incr(1)));
    let read = three.nodes[0].request("k", Action::Read(Read::Get));
    three.nodes[0].close();
    three.deliver();
    three.live(0..3, 5);
    let replies = (three.reply(0, increment), three.reply(0, read));
    arrive(&mut three, held);
    three.live(0..3, 5);
    for node in 0..3 {
        let left = three.read(node, "k", Read::Members);
        assert_eq!(
            left,
            Reply::Set(vec![bulk("a")]),
            "through {node}; {replies:?}"
        );
    }
    assert_eq!(replies.0, Some(WRONG));
}

/// The read may be of another connection.
#[test]
fn p4_a_set_is_not_hidden_by_an_increment_while_another_connection_reads() {
    let mut three = Replicas::three();
    let held = missed_by(&mut three, 0, add(&["a"]), &Reply::Int(1));
    let increment = three.begin(0, "k", Action::Write(incr(1)));
    let sent = three.hold(0); // the increment is on its way
    let read = three.begin(0, "k", Action::Read(Read::Exists));
    three.deliver();
    three.release(0, sent);
    three.live(0..3, 5);
    assert_eq!(three.reply(0, read), Some(Reply::Int(1)));
    let reply = three.reply(0, increment);
    arrive(&mut three, held);
    three.live(0..3, 5);
    for node in 0..3 {
        let left = three.read(node, "k", Read::Members);
        assert_eq!(
            left,
            Reply::Set(vec![bulk("a")]),
            "through {node}; {reply:?}"
        );
    }
}

/// The set may come by its own stream.
#[test]
fn p4_a_set_that_comes_while_an_increment_waits_is_not_hidden() {
    let mut three = Replicas::three();
    let held = missed_by(&mut three, 0, add(&["a"]), &Reply::Int(1));
    let increment = three.begin(0, "k", Action::Write(incr(1)));
    let sent = three.hold(0);
    arrive(&mut three, held);
    three.release(0, sent);
    three.live(0..3, 5);
    let reply = three.reply(0, increment);
    for node in 0..3 {
        let left = three.read(node, "k", Read::Members);
        assert_eq!(
            left,
            Reply::Set(vec![bulk("a")]),
            "through {node}; {reply:?}"
        );
    }
}

/// APPEND never takes the place of a set.
#[test]
fn p4_an_append_behind_an_increment_that_is_taken_back_removes_no_set() {
    let mut three = Replicas::three();
    let held = missed_by(&mut three, 0, add(&["a"]), &Reply::Int(1));
    let increment = three.nodes[0].request("k", Action::Write(incr(1)));
    let append = three.nodes[0].request("k", Action::Write(Write::Append { value: bytes("x") }));
    three.nodes[0].close();
    three.deliver();
    three.live(0..3, 5);
    let replies = (three.reply(0, increment), three.reply(0, append));
    arrive(&mut three, held);
    three.live(0..3, 5);
    for node in 0..3 {
        let kind = three.read(node, "k", Read::Type);
        assert_eq!(kind, Reply::Simple("set"), "through {node}; {replies:?}");
        let left = members(&three.read(node, "k", Read::Members));
        assert_eq!(left, of(&["a"]), "through {node}; {replies:?}");
    }
}

/// A read shows nothing of a write that is refused.
#[test]
fn p7_a_read_behind_an_add_that_is_refused_shows_the_string_that_was_acknowledged() {
    let mut three = Replicas::three();
    let held = missed_by(&mut three, 0, incr(2), &Reply::Int(2));
    let added = three.nodes[0].request("k", Action::Write(add(&["a"])));
    let read = three.nodes[0].request("k", Action::Read(Read::Get));
    three.nodes[0].close();
    three.deliver();
    three.live(0..3, 5);
    assert_eq!(three.reply(0, added), Some(WRONG));
    assert_eq!(three.reply(0, read), Some(bulk("2")));
    arrive(&mut three, held);
}

/// GETDEL on what is a string, through the connection that was refused.
#[test]
fn p3_a_spop_and_an_add_behind_it_leave_the_string_alone() {
    let mut three = Replicas::three();
    let held = missed_by(&mut three, 0, incr(2), &Reply::Int(2));
    let added = three.nodes[0].request("k", Action::Write(add(&["a"])));
    let more = three.nodes[0].request("k", Action::Write(add(&["b"])));
    let expire = three.nodes[0].request(
        "k",
        Action::Write(Write::Pop {
            count: 5,
            entropy: 3,
        }),
    );
    three.nodes[0].close();
    three.deliver();
    three.live(0..3, 10);
    let replies = (
        three.reply(0, added),
        three.reply(0, more),
        three.reply(0, expire),
    );
    arrive(&mut three, held);
    three.live(0..3, 5);
    for node in 0..3 {
        assert_eq!(
            three.get(node, "k"),
            bulk("2"),
            "through {node}: {replies:?}"
        );
    }
    assert_eq!(replies.0, Some(WRONG));
    assert_eq!(replies.1, Some(WRONG));
    assert_eq!(replies.2, Some(WRONG));
}

/// An answer is lost with its session, the rows are sent again: what the same connection did later is no news.
#[test]
fn p3_an_increment_is_not_refused_for_the_text_that_its_connection_set_after_it() {
    let mut three = Replicas::three();
    assert_eq!(three.write(0, "k", incr(5)), Reply::Int(5));
    let increment = three.begin(0, "k", Action::Write(incr(1)));
    let text = three.begin(0, "k", Action::Write(set("text")));
    // Both arrive everywhere; the answers are lost with the sessions.
    three.deliver_from(0);
    for node in 1..3 {
        three.nodes[node].returned.clear();
    }
    three.lose(0);
    three.join();
    three.live(0..3, 10);
    assert_eq!(three.reply(0, text), Some(Reply::Ok));
    assert_eq!(three.reply(0, increment), Some(Reply::Int(6)));
}

/// The same of an add, and one lost message instead of a session.
#[test]
fn p4_an_add_is_not_refused_for_the_string_that_its_connection_set_after_it() {
    let mut three = Replicas::three();
    let added = three.begin(0, "k", Action::Write(add(&["a"])));
    let sent = three.begin(0, "k", Action::Write(set("v")));
    for from in [0, 1, 2, 0] {
        three.deliver_from(from); // the question, and then the rows
    }
    for node in 1..3 {
        // The first answer is lost.
        three.nodes[node].returned.remove(0);
    }
    three.deliver();
    three.live(0..3, 10);
    assert_eq!(three.reply(0, sent), Some(Reply::Ok));
    assert_eq!(three.reply(0, added), Some(Reply::Int(1)));
}

/// A string that was acknowledged, and written again meanwhile, is there: the add has come to a string in whatever order.
#[test]
fn p7_a_string_that_is_set_again_is_not_hidden_by_an_add_that_missed_both() {
    let mut three = Replicas::three();
    let held = missed_by(&mut three, 0, set("v"), &Reply::Ok);
    let added = three.begin(0, "k", Action::Write(add(&["a"])));
    only(&mut three, 0, 2); // us-3 knows "v" and says so
    let answers = std::mem::take(&mut three.nodes[2].returned);
    let more = three.hold(0); // us-2 does not hear of it yet
    arrive(&mut three, held);
    let again = three.begin(1, "k", Action::Write(set("w")));
    three.deliver();
    assert_eq!(three.reply(1, again), Some(Reply::Ok));
    three.nodes[2].returned.extend(answers);
    three.deliver();
    three.release(0, more);
    three.live(0..3, 10);
    let reply = three.reply(0, added);
    for node in 0..3 {
        assert_eq!(three.get(node, "k"), bulk("w"), "through {node}; {reply:?}");
    }
    assert_eq!(reply, Some(WRONG));
}
