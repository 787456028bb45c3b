//! Goal: one connection's commands see each other, in their order, whatever comes to the node between them.
//!
//! Method: requests of one connection through one replica, without waiting between them; others know something that it does not, and say so early or late.

#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, its helpers too"
)]

mod core_support;

use core_support::{
    WALL_MS, add, bulk, bytes, incr,
    missed::{Held, ONE, arrive, members, missed_by, of},
    remove,
    replicas::Replicas,
    set,
};
use node::{
    core::{
        message::Message,
        op::{Action, Condition, Read, SetExpiry, Write},
        reply::Reply,
    },
    level::Level,
};

/// The second node's clock is ahead, and a key was deleted through it that the first one still has, or never had.
fn deleted_ahead() -> (Replicas, Held) {
    let mut three = Replicas::three();
    three.nodes[1].wall_ms = WALL_MS + 600;
    three.cut_off(0);
    assert_eq!(three.write(1, "k", set("x")), Reply::Ok);
    assert_eq!(three.write(1, "k", Write::Delete), Reply::Int(1));
    let held = three.hold(1);
    three.cut.clear();
    (three, held)
}

#[test]
fn a_connection_reads_what_it_wrote_before_in_one_pipeline() {
    let (mut three, held) = deleted_ahead();
    let written = three.nodes[0].request("k", Action::Write(set("a")));
    let seen = three.nodes[0].request("k", Action::Read(Read::Get));
    three.nodes[0].close();
    three.deliver();
    three.live(0..3, 5);
    assert_eq!(three.reply(0, written), Some(Reply::Ok));
    assert_eq!(three.reply(0, seen), Some(bulk("a")));
    drop(held);
}

#[test]
fn a_set_if_absent_finds_what_the_connection_set_before_in_one_pipeline() {
    let (mut three, held) = deleted_ahead();
    let written = three.nodes[0].request("k", Action::Write(set("a")));
    let if_absent = Write::Set {
        value: bytes("b"),
        expiry: SetExpiry::Clear,
        condition: Condition::IfAbsent,
        return_old: false,
    };
    let again = three.nodes[0].request("k", Action::Write(if_absent));
    three.nodes[0].close();
    three.deliver();
    three.live(0..3, 5);
    assert_eq!(three.reply(0, written), Some(Reply::Ok));
    assert_eq!(three.reply(0, again), Some(Reply::Nil));
    assert_eq!(three.get(0, "k"), bulk("a"));
    drop(held);
}

#[test]
fn p7_an_append_appends_to_what_the_connection_set_before_in_one_pipeline() {
    let (mut three, held) = deleted_ahead();
    let written = three.nodes[0].request("k", Action::Write(set("a")));
    let longer = three.nodes[0].request("k", Action::Write(Write::Append { value: bytes("b") }));
    three.nodes[0].close();
    three.deliver();
    three.live(0..3, 5);
    assert_eq!(three.reply(0, written), Some(Reply::Ok));
    assert_eq!(three.reply(0, longer), Some(Reply::Int(2)));
    assert_eq!(three.get(0, "k"), bulk("ab"));
    drop(held);
}

/// Two requests of one connection through the first node, one after the other, without waiting between them.
fn pipeline(three: &mut Replicas, first: Write, second: Action) -> (Reply, Reply) {
    let first = three.nodes[0].request("k", Action::Write(first));
    let second = three.nodes[0].request("k", second);
    three.nodes[0].close();
    three.deliver();
    three.live(0..3, 5);
    let first = three.reply(0, first).expect("the first is answered");
    (
        first,
        three.reply(0, second).expect("the second is answered"),
    )
}

#[test]
fn p7_an_append_behind_a_delete_in_one_pipeline_does_not_bring_back_what_was_deleted() {
    let mut three = Replicas::three();
    let held = missed_by(&mut three, 0, set("old"), &Reply::Ok);
    let append = Action::Write(Write::Append {
        value: bytes("new"),
    });
    let (deleted, length) = pipeline(&mut three, Write::Delete, append);
    assert_eq!(deleted, Reply::Int(1));
    for node in 0..3 {
        let shown = three.get(node, "k");
        assert_eq!(shown, bulk("new"), "through {node}, of length {length:?}");
    }
    drop(held);
}

/// SET 5, INCR, SET 71: others have text, stamped by a clock that is ahead. The first SET waits for the second to be written above that, and the
/// increment for the first.
#[test]
fn p7_an_increment_between_two_sets_in_one_pipeline_counts_on_the_first() {
    let mut three = Replicas::three();
    three.nodes[1].wall_ms = WALL_MS + 600;
    let held = missed_by(&mut three, 0, set("text"), &Reply::Ok);
    let writes = [set("5"), incr(2), set("71"), incr(3)];
    let ids = writes.map(|write| three.nodes[0].request("k", Action::Write(write)));
    three.nodes[0].close();
    three.deliver();
    three.live(0..3, 5);
    let replies = ids.map(|id| three.reply(0, id).unwrap());
    let expected = [Reply::Ok, Reply::Int(7), Reply::Ok, Reply::Int(74)];
    assert_eq!(replies, expected);
    assert_eq!(three.get(2, "k"), bulk("74"));
    drop(held);
}

#[test]
fn a_set_if_absent_behind_a_delete_in_one_pipeline_sets() {
    let mut three = Replicas::three();
    let held = missed_by(&mut three, 0, set("old"), &Reply::Ok);
    let if_absent = Action::Write(Write::Set {
        value: bytes("new"),
        expiry: SetExpiry::Clear,
        condition: Condition::IfAbsent,
        return_old: false,
    });
    let replies = pipeline(&mut three, Write::Delete, if_absent);
    assert_eq!(replies, (Reply::Int(1), Reply::Ok));
    assert_eq!(three.get(1, "k"), bulk("new"));
    drop(held);
}

#[test]
fn a_connection_does_not_see_what_it_removed_before_in_one_pipeline() {
    let mut three = Replicas::three();
    let held = missed_by(&mut three, 0, add(&["a"]), &Reply::Int(1));
    let (removed, seen) = pipeline(&mut three, remove(&["a"]), Action::Read(Read::Members));
    assert_eq!(removed, Reply::Int(1));
    assert_eq!(
        members(&seen),
        of(&[]),
        "it was removed by the same connection"
    );
    drop(held);
}

#[test]
fn p4_a_pop_behind_a_removal_in_one_pipeline_gives_out_nothing_that_was_removed() {
    let mut three = Replicas::three();
    let held = missed_by(&mut three, 0, add(&["a"]), &Reply::Int(1));
    let pop = Action::Write(Write::Pop {
        count: 1,
        entropy: 7,
    });
    let (removed, popped) = pipeline(&mut three, remove(&["a"]), pop);
    assert_eq!(removed, Reply::Int(1));
    assert_eq!(popped, Reply::Array(Vec::new()), "both got the one element");
    drop(held);
}

/// "What depends on what is there waits while the key does not show what was written before it." What stands over it may come by a stream
/// while the question is under way, instead of with the answer.
#[test]
fn p7_a_read_behind_a_delete_in_one_pipeline_shows_nothing_that_comes_by_a_stream_meanwhile() {
    let mut three = Replicas::three();
    let held = missed_by(&mut three, 0, add(&["a"]), &Reply::Int(1));
    let deleted = three.nodes[0].request("k", Action::Write(Write::Delete));
    let read = three.nodes[0].request("k", Action::Read(Read::Members));
    three.nodes[0].close();
    let sent = three.hold(0);
    let (asked, rows): (Held, Held) = sent
        .into_iter()
        .partition(|(_, message)| matches!(message, Message::Compare(_)));
    arrive(&mut three, held); // us-2's SADD, by its stream
    three.release(0, asked);
    let shown = three.reply(0, read);
    three.release(0, rows);
    three.live(0..3, 5);
    let shown = shown.or_else(|| three.reply(0, read));
    assert_eq!(three.reply(0, deleted), Some(Reply::Int(1)));
    assert_eq!(shown, Some(Reply::Set(vec![])));
}

/// The same of a SET over a value of a clock that is ahead.
#[test]
fn p7_a_read_behind_a_set_in_one_pipeline_shows_nothing_that_comes_by_a_stream_meanwhile() {
    let mut three = Replicas::three();
    three.nodes[1].wall_ms += 500;
    let held = missed_by(&mut three, 0, set("older"), &Reply::Ok);
    let written = three.nodes[0].request("k", Action::Write(set("newer")));
    let read = three.nodes[0].request("k", Action::Read(Read::Get));
    three.nodes[0].close();
    let sent = three.hold(0);
    let (asked, rows): (Held, Held) = sent
        .into_iter()
        .partition(|(_, message)| matches!(message, Message::Compare(_)));
    arrive(&mut three, held);
    three.release(0, asked);
    let shown = three.reply(0, read);
    three.release(0, rows);
    three.live(0..3, 5);
    let shown = shown.or_else(|| three.reply(0, read));
    assert_eq!(three.reply(0, written), Some(Reply::Ok));
    assert_eq!(shown, Some(bulk("newer")));
}

/// "A connection reads its own writes", also where one of them was at ONE: what its SET at a quorum is about to be written above is shown
/// neither before nor after.
#[test]
fn p7_a_read_behind_a_set_at_one_behind_a_set_shows_what_the_connection_wrote() {
    let mut three = Replicas::three();
    three.nodes[1].wall_ms += 500;
    let held = missed_by(&mut three, 0, set("older"), &Reply::Ok);
    let first = three.nodes[0].request("k", Action::Write(set("newer")));
    let second = three.nodes[0].request_at("k", Action::Write(set("newest")), ONE);
    let read = three.nodes[0].request("k", Action::Read(Read::Get));
    three.nodes[0].close();
    // The question is answered before the rows are.
    let sent = three.hold(0);
    let (asked, rows): (Held, Held) = sent
        .into_iter()
        .partition(|(_, message)| matches!(message, Message::Compare(_)));
    three.release(0, asked);
    let shown = three.reply(0, read);
    three.release(0, rows);
    three.live(0..3, 5);
    let shown = shown.or_else(|| three.reply(0, read));
    assert_eq!(three.reply(0, first), Some(Reply::Ok));
    assert_eq!(three.reply(0, second), Some(Reply::Ok));
    arrive(&mut three, held);
    three.live(0..3, 5);
    assert_eq!(three.get(2, "k"), bulk("newest"), "it stands in the end");
    assert_eq!(shown, Some(bulk("newest")));
}

/// A conditional write that is decided by such a view is lasting: SET NX behind a DEL.
#[test]
fn p7_a_setnx_behind_a_delete_succeeds_whatever_comes_by_a_stream_meanwhile() {
    let mut three = Replicas::three();
    three.nodes[1].wall_ms += 500;
    let held = missed_by(&mut three, 0, set("older"), &Reply::Ok);
    let deleted = three.nodes[0].request("k", Action::Write(Write::Delete));
    let created = three.nodes[0].request(
        "k",
        Action::Write(Write::Set {
            value: bytes("new"),
            expiry: SetExpiry::Clear,
            condition: Condition::IfAbsent,
            return_old: false,
        }),
    );
    three.nodes[0].close();
    let sent = three.hold(0);
    let (asked, rows): (Held, Held) = sent
        .into_iter()
        .partition(|(_, message)| matches!(message, Message::Compare(_)));
    arrive(&mut three, held);
    three.release(0, asked);
    three.release(0, rows);
    three.live(0..3, 10);
    assert_eq!(three.reply(0, deleted), Some(Reply::Int(1)));
    assert_eq!(three.reply(0, created), Some(Reply::Ok));
    for node in 0..3 {
        assert_eq!(three.get(node, "k"), bulk("new"), "through {node}");
    }
}

/// The same of a DEL at ONE between two: SET NX decides by what the DEL did not see.
#[test]
fn p7_a_setnx_behind_a_set_and_a_delete_at_one_decides_by_what_the_connection_wrote() {
    let mut three = Replicas::three();
    three.nodes[1].wall_ms += 500;
    let held = missed_by(&mut three, 0, set("older"), &Reply::Ok);
    let first = three.nodes[0].request("k", Action::Write(set("newer")));
    let second = three.nodes[0].request_at("k", Action::Write(Write::Delete), ONE);
    let created = three.nodes[0].request(
        "k",
        Action::Write(Write::Set {
            value: bytes("new"),
            expiry: SetExpiry::Clear,
            condition: Condition::IfAbsent,
            return_old: false,
        }),
    );
    three.nodes[0].close();
    let sent = three.hold(0);
    let (asked, rows): (Held, Held) = sent
        .into_iter()
        .partition(|(_, message)| matches!(message, Message::Compare(_)));
    three.release(0, asked);
    three.release(0, rows);
    three.live(0..3, 10);
    arrive(&mut three, held);
    let replies = (
        three.reply(0, first),
        three.reply(0, second),
        three.reply(0, created),
    );
    let left = three.get(2, "k");
    assert_eq!(
        (replies, left),
        (
            (Some(Reply::Ok), Some(Reply::Int(1)), Some(Reply::Ok)),
            bulk("new")
        )
    );
}

/// "An acknowledged SET … is never undone by one that was acknowledged before it began", whatever the same connection wrote at ONE since.
/// Without any question: the older value comes by its own stream before the acknowledgements.
#[test]
fn p7_a_set_with_one_at_one_behind_it_is_not_undone_by_an_older_one_that_comes_meanwhile() {
    let mut three = Replicas::three();
    three.nodes[1].wall_ms += 500;
    let held = missed_by(&mut three, 0, set("older"), &Reply::Ok);
    let first = three.begin(0, "k", Action::Write(set("newer")));
    let second = three.nodes[0].request_at("k", Action::Write(set("newest")), ONE);
    three.nodes[0].close();
    let sent = three.hold(0);
    arrive(&mut three, held);
    three.release(0, sent);
    three.live(0..3, 10);
    assert_eq!(three.reply(0, first), Some(Reply::Ok));
    assert_eq!(three.reply(0, second), Some(Reply::Ok));
    for node in 0..3 {
        let left = three.get(node, "k");
        assert_ne!(left, bulk("older"), "through {node}");
    }
}

/// The same with DEL at ONE behind a DEL: what was deleted at a quorum is back.
#[test]
fn p7_a_delete_with_a_set_and_a_delete_at_one_behind_it_is_not_undone() {
    let mut three = Replicas::three();
    three.nodes[1].wall_ms += 500;
    three.write(0, "k", set("first"));
    let held = missed_by(&mut three, 0, set("older"), &Reply::Ok);
    let first = three.begin(0, "k", Action::Write(Write::Delete));
    let second = three.nodes[0].request_at("k", Action::Write(set("x")), ONE);
    let third = three.nodes[0].request_at("k", Action::Write(Write::Delete), ONE);
    three.nodes[0].close();
    let sent = three.hold(0);
    arrive(&mut three, held);
    three.release(0, sent);
    three.live(0..3, 10);
    assert_eq!(three.reply(0, first), Some(Reply::Int(1)));
    assert!(three.reply(0, second).is_some() && three.reply(0, third).is_some());
    for node in 0..3 {
        assert_eq!(three.get(node, "k"), Reply::Nil, "through {node}");
    }
}

/// "A connection reads its own writes", at ONE too: what came by a stream stands over its SET, which is about to be written above that.
#[test]
fn p7_a_read_at_one_behind_a_set_shows_what_the_connection_wrote() {
    let mut three = Replicas::three();
    three.nodes[1].wall_ms += 500;
    let held = missed_by(&mut three, 0, set("older"), &Reply::Ok);
    let written = three.begin(0, "k", Action::Write(set("newer")));
    let rows = three.hold(0);
    arrive(&mut three, held);
    let read = three.nodes[0].request_at("k", Action::Read(Read::Get), ONE);
    three.nodes[0].close();
    three.release(0, rows);
    three.live(0..3, 10);
    assert_eq!(three.reply(0, written), Some(Reply::Ok));
    assert_eq!(three.reply(0, read), Some(bulk("newer")));
}

/// The same, and it is lasting: APPEND at ONE appends to what is about to be replaced, and stands above the SET.
#[test]
fn p7_an_append_at_one_behind_a_set_appends_to_what_the_connection_wrote() {
    let mut three = Replicas::three();
    three.nodes[1].wall_ms += 500;
    let held = missed_by(&mut three, 0, set("older"), &Reply::Ok);
    let written = three.begin(0, "k", Action::Write(set("newer")));
    let rows = three.hold(0);
    arrive(&mut three, held);
    let longer =
        three.nodes[0].request_at("k", Action::Write(Write::Append { value: bytes("!") }), ONE);
    three.nodes[0].close();
    three.release(0, rows);
    three.live(0..3, 10);
    let replies = (three.reply(0, written), three.reply(0, longer));
    for node in 0..3 {
        assert_eq!(
            three.get(node, "k"),
            bulk("newer!"),
            "through {node}; {replies:?}"
        );
    }
}

/// And with a removal: what the connection removed is popped again.
#[test]
fn p4_a_pop_at_one_behind_a_removal_gives_nothing_that_the_connection_removed() {
    let mut three = Replicas::three();
    let held = missed_by(&mut three, 0, add(&["a"]), &Reply::Int(1));
    let removed = three.begin(0, "k", Action::Write(remove(&["a"])));
    let rows = three.hold(0);
    arrive(&mut three, held);
    let popped = three.nodes[0].request_at(
        "k",
        Action::Write(Write::Pop {
            count: 1,
            entropy: 1,
        }),
        ONE,
    );
    three.nodes[0].close();
    three.release(0, rows);
    three.live(0..3, 10);
    assert_eq!(three.reply(0, removed), Some(Reply::Int(1)));
    assert_eq!(three.reply(0, popped), Some(Reply::Array(vec![])));
}

/// Under a new number, within its sessions.
#[test]
fn p7_a_renewed_actor_is_taught_as_before() {
    let mut three = Replicas::three();
    three.nodes[1].wall_ms += 500;
    assert_eq!(three.write(0, "c", incr(5)), Reply::Int(5));
    three.nodes[0].renew(99);
    three.nodes[0].close();
    three.live(0..3, 3);
    let held = missed_by(&mut three, 0, set("older"), &Reply::Ok);
    let written = three.begin(0, "k", Action::Write(set("newer")));
    three.deliver_from(0);
    for node in 1..3 {
        three.nodes[node].returned.clear(); // the answers are lost
    }
    three.live(0..3, 15);
    assert_eq!(three.reply(0, written), Some(Reply::Ok));
    assert_eq!(three.write(0, "c", incr(1)), Reply::Int(6));
    for node in 0..3 {
        assert_eq!(three.get(node, "k"), bulk("newer"), "through {node}");
        assert_eq!(three.get(node, "c"), bulk("6"), "through {node}");
    }
    arrive(&mut three, held);
    three.live(0..3, 10);
    for node in 0..3 {
        assert_eq!(three.get(node, "k"), bulk("newer"), "through {node}");
    }
}

/// SREM at a quorum, SADD at ONE behind it: what the removal is taught does not take the element away again.
#[test]
fn p7_an_add_at_one_behind_a_removal_stays() {
    let mut three = Replicas::three();
    three.nodes[1].wall_ms += 500;
    let held = missed_by(&mut three, 0, add(&["a", "b"]), &Reply::Int(2));
    let removed = three.nodes[0].request("k", Action::Write(remove(&["a"])));
    let added = three.nodes[0].request_at("k", Action::Write(add(&["a"])), ONE);
    let read = three.nodes[0].request("k", Action::Read(Read::Members));
    three.nodes[0].close();
    three.deliver();
    three.live(0..3, 10);
    assert_eq!(three.reply(0, removed), Some(Reply::Int(1)));
    assert_eq!(three.reply(0, added), Some(Reply::Int(1)));
    assert_eq!(members(&three.reply(0, read).unwrap()), of(&["a", "b"]));
    drop(held);
}

/// "Commands of one connection keep their order at local_quorum, pipelined too. So do commands at one behind them."
#[test]
fn p7_a_delete_at_one_behind_a_set_that_is_overlaid_deletes_it() {
    let (replies, left) = del_behind_a_set_that_is_overlaid(ONE);
    assert_eq!(left, vec![Reply::Nil; 3], "{replies:?}");
}

/// The same at a quorum: the key is gone, and DEL says that it was there.
#[test]
fn p7_a_delete_behind_a_set_that_is_overlaid_says_that_it_was_there() {
    let (replies, left) = del_behind_a_set_that_is_overlaid(Level::LocalQuorum);
    assert_eq!(left, vec![Reply::Nil; 3], "{replies:?}");
    assert_eq!(replies, (Some(Reply::Ok), Some(Reply::Int(1))));
}

/// SET x, DEL through us-2, whose clock is ahead: us-1 misses both. Then SET v, DEL through us-1, at this level.
fn del_behind_a_set_that_is_overlaid(level: Level) -> ((Option<Reply>, Option<Reply>), Vec<Reply>) {
    let mut three = Replicas::three();
    three.nodes[1].wall_ms += 500;
    let mut held = missed_by(&mut three, 0, set("x"), &Reply::Ok);
    let more = missed_by(&mut three, 0, Write::Delete, &Reply::Int(1));
    for (held, more) in held.iter_mut().zip(more) {
        held.extend(more);
    }
    let written = three.begin(0, "k", Action::Write(set("v")));
    let rows = three.hold(0);
    arrive(&mut three, held);
    let deleted = three.nodes[0].request_at("k", Action::Write(Write::Delete), level);
    three.nodes[0].close();
    three.release(0, rows);
    three.live(0..3, 10);
    let replies = (three.reply(0, written), three.reply(0, deleted));
    let left = (0..3).map(|node| three.get(node, "k")).collect();
    (replies, left)
}
