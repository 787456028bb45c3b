//! Goal: inside a region of three replicas an acknowledged write is seen by every later read and undone by none that was
//! acknowledged before it began, although messages are late, lost or of a slower clock.
//!
//! Method: three shards over memory storage, joined by hand; each test holds back just the messages that would show the fault.
//! Each of them broke a simpler rule.

mod core_support;

use std::collections::BTreeSet;

use core_support::{WALL_MS, add, bulk, incr, remove, replicas::Replicas, set};
use node::{
    core::{
        RequestId,
        message::{Message, SessionId},
        op::{Action, Read, Write},
        reply::{Refusal, Reply},
    },
    storage::Storage,
};

fn members(reply: &Reply) -> BTreeSet<String> {
    let Reply::Set(items) = reply else {
        panic!("no set: {reply:?}");
    };
    items.iter().map(core_support::text).collect()
}

#[test]
fn a_write_is_acknowledged_when_a_majority_has_it() {
    let mut three = Replicas::three();
    three.cut_off(2);
    assert_eq!(three.write(0, "k", set("v")), Reply::Ok);
    assert_eq!(three.nodes[1].storage_value("k"), Some("v".to_owned()));
    assert_eq!(three.nodes[2].storage_value("k"), None);
    three.mend();
    assert_eq!(three.nodes[2].storage_value("k"), Some("v".to_owned()));
}

#[test]
fn a_write_is_not_acknowledged_before_that() {
    let mut three = Replicas::three();
    three.cut_off(0);
    let id = three.begin(0, "k", Action::Write(set("v")));
    three.deliver();
    assert_eq!(three.reply(0, id), None);
    three.mend();
    assert_eq!(three.reply(0, id), Some(Reply::Ok));
}

#[test]
fn a_read_through_a_replica_that_missed_a_write_sees_it_and_leaves_it_on_a_majority() {
    let mut three = Replicas::three();
    three.cut_off(2);
    assert_eq!(three.write(0, "k", set("v")), Reply::Ok);
    // What was shipped to it stays under way; questions and answers come through.
    let held: Vec<_> = (0..2)
        .map(|node| std::mem::take(&mut three.nodes[node].sent))
        .collect();
    three.cut.clear();
    assert_eq!(three.get(2, "k"), bulk("v"));
    assert_eq!(three.nodes[2].storage_value("k"), Some("v".to_owned()));
    for (node, held) in held.into_iter().enumerate() {
        three.nodes[node].sent.extend(held);
    }
    three.deliver();
    assert_eq!(three.get(2, "k"), bulk("v"));
}

#[test]
fn a_read_brings_what_it_shows_to_the_replica_that_lacks_it() {
    let mut three = Replicas::three();
    three.cut_off(0);
    // An unfinished write: it may be shown, and then by every read that follows.
    let id = three.begin(0, "k", Action::Write(set("v")));
    let held = std::mem::take(&mut three.nodes[0].sent);
    three.cut.clear();
    assert_eq!(three.get(0, "k"), bulk("v"));
    three.cut_off(0);
    assert_eq!(three.get(1, "k"), bulk("v"));
    assert_eq!(three.get(2, "k"), bulk("v"));
    three.nodes[0].sent.extend(held);
    three.mend();
    assert_eq!(three.reply(0, id), Some(Reply::Ok));
}

#[test]
fn a_set_through_a_slow_clock_wins_over_one_that_was_acknowledged_before_it_began() {
    let mut three = Replicas::three();
    three.nodes[0].wall_ms = WALL_MS + 600;
    three.cut_off(2);
    assert_eq!(three.write(0, "k", set("first")), Reply::Ok);
    let held = std::mem::take(&mut three.nodes[0].sent);
    three.cut.clear();
    assert_eq!(three.write(2, "k", set("second")), Reply::Ok);
    three.nodes[0].sent.extend(held);
    three.deliver();
    for node in 0..3 {
        assert_eq!(three.get(node, "k"), bulk("second"), "through {node}");
    }
}

#[test]
fn an_element_that_was_acknowledged_elsewhere_is_removed_through_a_replica_that_missed_it() {
    let mut three = Replicas::three();
    three.cut_off(2);
    assert_eq!(three.write(0, "s", add(&["e"])), Reply::Int(1));
    let held = std::mem::take(&mut three.nodes[0].sent);
    three.cut.clear();
    assert_eq!(
        three.write(2, "s", remove(&["e"])),
        Reply::Int(1),
        "the quorum knew it"
    );
    three.nodes[0].sent.extend(held);
    three.deliver();
    for node in 0..3 {
        assert_eq!(
            members(&three.read(node, "s", Read::Members)),
            BTreeSet::new()
        );
    }
}

#[test]
fn a_key_that_was_acknowledged_elsewhere_is_deleted_through_a_replica_that_missed_it() {
    for write in [set("v"), add(&["a", "b"])] {
        let mut three = Replicas::three();
        three.cut_off(2);
        three.write(0, "k", write);
        let held = std::mem::take(&mut three.nodes[0].sent);
        three.cut.clear();
        assert_eq!(three.write(2, "k", Write::Delete), Reply::Int(1));
        three.nodes[0].sent.extend(held);
        three.deliver();
        for node in 0..3 {
            assert_eq!(three.read(node, "k", Read::Exists), Reply::Int(0));
        }
    }
}

/// A set that the other two acknowledged and the third one missed; what was shipped to it is held back.
fn with_a_set_that_one_missed() -> (Replicas, Vec<(SessionId, Message)>) {
    let mut three = Replicas::three();
    three.nodes[0].wall_ms = WALL_MS + 600;
    three.cut_off(2);
    assert_eq!(three.write(0, "k", add(&["a", "b"])), Reply::Int(2));
    let held = std::mem::take(&mut three.nodes[0].sent);
    three.cut.clear();
    (three, held)
}

#[test]
fn a_set_of_a_string_through_a_slow_clock_ends_the_set_that_only_others_know() {
    let (mut three, held) = with_a_set_that_one_missed();
    assert_eq!(three.write(2, "k", set("v")), Reply::Ok);
    three.nodes[0].sent.extend(held);
    three.deliver();
    for node in 0..3 {
        assert_eq!(three.get(node, "k"), bulk("v"), "through {node}");
        assert_eq!(three.nodes[node].rows(), 0, "no element is left at {node}");
    }
}

#[test]
fn a_delete_that_is_taught_empties_the_set_although_a_later_write_took_its_place() {
    let (mut three, held) = with_a_set_that_one_missed();
    let deleted = three.nodes[2].request("k", Action::Write(Write::Delete));
    three.nodes[2].close();
    let written = three.nodes[2].request("k", Action::Write(set("v")));
    three.nodes[2].close();
    three.deliver();
    assert_eq!(three.reply(2, deleted), Some(Reply::Int(1)));
    assert_eq!(three.reply(2, written), Some(Reply::Ok));
    three.nodes[0].sent.extend(held);
    three.deliver();
    for node in 0..3 {
        assert_eq!(three.get(node, "k"), bulk("v"), "through {node}");
        assert_eq!(three.nodes[node].rows(), 0, "no element is left at {node}");
    }
}

#[test]
fn an_add_through_a_replica_that_missed_a_remove_stays() {
    let mut three = Replicas::three();
    three.write(0, "s", add(&["e"]));
    three.cut_off(2);
    assert_eq!(three.write(0, "s", remove(&["e"])), Reply::Int(1));
    let held = std::mem::take(&mut three.nodes[0].sent);
    three.cut.clear();
    three.write(2, "s", add(&["e"]));
    three.nodes[0].sent.extend(held);
    three.deliver();
    for node in 0..3 {
        let shown = members(&three.read(node, "s", Read::Members));
        assert_eq!(shown, BTreeSet::from(["e".to_owned()]));
    }
}

#[test]
fn a_set_floors_the_increments_that_were_acknowledged_before_it() {
    let mut three = Replicas::three();
    three.cut_off(2);
    assert_eq!(three.write(0, "n", incr(5)), Reply::Int(5));
    let held = std::mem::take(&mut three.nodes[0].sent);
    three.cut.clear();
    assert_eq!(three.write(2, "n", set("100")), Reply::Ok);
    three.nodes[0].sent.extend(held);
    three.deliver();
    for node in 0..3 {
        assert_eq!(three.get(node, "n"), bulk("100"));
    }
}

#[test]
fn an_increment_of_text_that_only_others_know_is_refused_and_counts_nothing() {
    let mut three = Replicas::three();
    three.cut_off(2);
    assert_eq!(three.write(0, "k", set("abc")), Reply::Ok);
    let held = std::mem::take(&mut three.nodes[0].sent);
    three.cut.clear();
    assert_eq!(three.write(2, "k", incr(1)), Refusal::NotAnInteger.into());
    three.nodes[0].sent.extend(held);
    three.deliver();
    for node in 0..3 {
        assert_eq!(three.get(node, "k"), bulk("abc"));
    }
}

#[test]
fn two_writes_of_one_connection_keep_their_order_when_the_first_is_taught() {
    let mut three = Replicas::three();
    three.nodes[0].wall_ms = WALL_MS + 600;
    three.cut_off(2);
    three.write(0, "k", set("old"));
    let held = std::mem::take(&mut three.nodes[0].sent);
    three.cut.clear();
    let first = three.nodes[2].request("k", Action::Write(set("1")));
    three.nodes[2].close();
    let second = three.nodes[2].request("k", Action::Write(set("2")));
    three.nodes[2].close();
    three.deliver();
    assert_eq!(three.reply(2, first), Some(Reply::Ok));
    assert_eq!(three.reply(2, second), Some(Reply::Ok));
    three.nodes[0].sent.extend(held);
    three.deliver();
    for node in 0..3 {
        assert_eq!(three.get(node, "k"), bulk("2"));
    }
}

/// The slow clock's write has arrived at the others, and their words about it are lost with their sessions.
fn with_lost_words() -> (Replicas, RequestId) {
    let mut three = Replicas::three();
    three.nodes[0].wall_ms = WALL_MS + 600;
    three.cut_off(2);
    three.write(0, "k", set("first"));
    three.nodes[0].sent.clear();
    three.cut.clear();
    three.cut.extend([(0, 2), (1, 2)]);
    let id = three.begin(2, "k", Action::Write(set("second")));
    three.deliver();
    assert_eq!(three.reply(2, id), None);
    three.lose(2);
    three.cut.clear();
    (three, id)
}

#[test]
fn what_an_acknowledgement_would_have_taught_is_asked_again_when_it_was_lost_with_its_session() {
    let (mut three, id) = with_lost_words();
    // The handshake alone says that the others have the write, and not that it has lost.
    three.join();
    assert_eq!(three.reply(2, id), Some(Reply::Ok));
    for node in 0..3 {
        assert_eq!(three.get(node, "k"), bulk("second"), "through {node}");
    }
}

#[test]
fn a_write_whose_replicas_stay_away_is_said_to_be_unknown_and_on_how_many_it_is() {
    let (mut three, id) = with_lost_words();
    three.nodes[2].tick();
    assert_eq!(three.reply(2, id), None, "they may be back in a moment");
    three.nodes[2].pass(600);
    three.nodes[2].tick();
    let reply = three.reply(2, id);
    assert!(
        matches!(
            reply,
            Some(Reply::Error(Refusal::NoQuorum {
                applied: Some(1),
                ..
            }))
        ),
        "{reply:?}"
    );
}

#[test]
fn a_level_that_is_known_to_be_out_of_reach_is_refused_and_nothing_is_written() {
    let mut three = Replicas::three();
    three.lose(0);
    let id = three.begin(0, "k", Action::Write(set("v")));
    let refused = three.reply(0, id);
    assert!(
        matches!(
            &refused,
            Some(Reply::Error(Refusal::NoQuorum { applied: None, .. }))
        ),
        "{refused:?}"
    );
    let id = three.begin(0, "k", Action::Read(Read::Get));
    assert!(matches!(
        three.reply(0, id),
        Some(Reply::Error(Refusal::NoQuorum { applied: None, .. }))
    ));
    assert_eq!(three.nodes[0].storage_value("k"), None);
    three.join();
    assert_eq!(three.get(1, "k"), Reply::Nil);
}

#[test]
fn one_replica_may_be_down_and_gets_its_hints_when_it_returns() {
    let mut three = Replicas::three();
    three.lose(2);
    for number in 0..20 {
        let key = format!("k{number}");
        assert_eq!(three.write(number % 2, &key, set("v")), Reply::Ok);
    }
    assert!(three.nodes[0].hints("us-3") > 0);
    three.nodes[2].restart();
    three.join();
    assert_eq!(
        three.nodes[0].hints("us-3") + three.nodes[1].hints("us-3"),
        0
    );
    for number in 0..20 {
        let key = format!("k{number}");
        assert_eq!(three.nodes[2].storage_value(&key), Some("v".to_owned()));
    }
    let digests: BTreeSet<u128> = three
        .nodes
        .iter()
        .map(|node| node.shard.tallies().total().digest)
        .collect();
    assert_eq!(digests.len(), 1);
}

#[test]
fn a_write_that_runs_out_of_time_says_so() {
    let mut three = Replicas::three();
    three.cut_off(0);
    let id = three.begin(0, "k", Action::Write(set("v")));
    three.nodes[0].pass(2_100);
    three.nodes[0].tick();
    assert!(matches!(
        three.reply(0, id),
        Some(Reply::Error(Refusal::Timeout(_)))
    ));
}

#[test]
fn commands_of_one_key_keep_their_order_behind_a_question() {
    let mut three = Replicas::three();
    three.write(0, "k", set("a"));
    let append = |text: &str| {
        Action::Write(Write::Append {
            value: core_support::bytes(text),
        })
    };
    let ids = [
        three.nodes[1].request("k", append("b")),
        three.nodes[1].request("k", Action::Read(Read::Get)),
        three.nodes[1].request("k", Action::Write(set("z"))),
        three.nodes[1].request("k", append("y")),
        three.nodes[1].request("k", Action::Read(Read::Get)),
    ];
    three.nodes[1].close();
    three.deliver();
    let replies = ids.map(|id| three.reply(1, id).expect("all are answered"));
    assert_eq!(
        replies,
        [
            Reply::Int(2),
            bulk("ab"),
            Reply::Ok,
            Reply::Int(2),
            bulk("zy")
        ]
    );
}

#[test]
fn nothing_waits_where_all_is_said() {
    let mut three = Replicas::three();
    three.write(0, "k", set("v"));
    three.get(1, "k");
    three.get(2, "missing");
    for node in &mut three.nodes {
        node.pass(3_000);
        node.tick();
        assert!(node.replies.is_empty(), "{:?}", node.replies);
        assert!(node.storage.usage().bytes > 0);
        let mut rows = 0;
        node.storage
            .scan(node::storage::Family::Outbox, b"", None, &mut |_, _| {
                rows += 1;
                std::ops::ControlFlow::Continue(())
            })
            .expect("memory can be read");
        assert!(
            rows <= 1,
            "what everybody has is trimmed, once it is saved: {rows}"
        );
    }
}

#[test]
fn a_node_whose_replicas_do_not_answer_refuses_what_it_has_no_room_for_and_still_takes_what_others_send()
 {
    let mut three = Replicas::three();
    three.cut_off(0);
    let large = "x".repeat(1 << 20);
    let mut taken = 0;
    let refusal = loop {
        let key = format!("k{taken}");
        let id = three.begin(0, &key, Action::Write(set(&large)));
        match three.reply(0, id) {
            None => taken += 1,
            Some(reply) => break reply,
        }
        assert!(taken < 300, "{taken} values of 1 MB wait");
    };
    assert!(
        matches!(refusal, Reply::Error(Refusal::Busy(_))),
        "{refusal:?}"
    );
    assert!(taken > 10, "{taken}");
    // Others are not refused, nor is what asks nobody.
    three.cut.clear();
    assert_eq!(three.write(1, "other", set("v")), Reply::Ok);
    assert_eq!(three.nodes[0].storage_value("other"), Some("v".to_owned()));
    three.deliver();
    assert_eq!(
        three.write(0, "k", set("v")),
        Reply::Ok,
        "there is room again"
    );
}

#[test]
fn sets_of_several_pages_that_differ_are_brought_together() {
    let mut three = Replicas::three();
    let elements = |who: &str| -> Vec<String> {
        let wide = "x".repeat(50_000);
        (0..40).map(|n| format!("{who}{n}{wide}")).collect()
    };
    let mut wanted = BTreeSet::new();
    let mut held = Vec::new();
    for (writer, away) in [(0, 2), (2, 0)] {
        three.cut_off(away);
        let elements = elements(&format!("by {writer}: "));
        let added = elements.iter().map(String::as_str).collect::<Vec<_>>();
        assert_eq!(three.write(writer, "s", add(&added)), Reply::Int(40));
        wanted.extend(elements);
        held.push((writer, std::mem::take(&mut three.nodes[writer].sent)));
        three.cut.clear();
    }
    for reader in [0, 2] {
        let found = members(&three.read(reader, "s", Read::Members));
        assert!(found == wanted, "{} of 80 through {reader}", found.len());
    }
    for (writer, held) in held {
        three.nodes[writer].sent.extend(held);
    }
    three.deliver();
    assert!(members(&three.read(1, "s", Read::Members)) == wanted);
}

#[test]
fn answers_that_wait_take_room_too() {
    let mut three = Replicas::three();
    let large = "x".repeat(1 << 20);
    for n in 0..300 {
        assert_eq!(three.write(0, &format!("k{n}"), set(&large)), Reply::Ok);
    }
    three.cut_off(0);
    let get = |n: usize| (format!("k{n}"), Action::Read(Read::Get));
    let refused = (0..300).find_map(|n| {
        let (key, read) = get(n);
        let id = three.begin(0, &key, read);
        Some((n, three.reply(0, id)?))
    });
    let (waiting, refusal) = refused.expect("300 MB do not wait");
    assert!(
        matches!(refusal, Reply::Error(Refusal::Busy(_))),
        "{refusal:?}"
    );
    assert!(waiting > 10, "{waiting}");
    three.mend();
    assert_eq!(three.get(0, "k0"), bulk(&large), "there is room again");
}

/// Five replicas of everything; the fourth begins a write that reaches the first one alone while that one is asking about the key.
fn with_a_write_that_only_the_reader_has() -> (Replicas, RequestId) {
    let nodes = ["us-1", "us-2", "us-3", "us-4", "us-5"];
    let places = nodes.map(|node| core_support::home("us", node, &[("us", &nodes)], 5));
    let mut five = Replicas::joined(places.into_iter());
    for node in 0..5 {
        five.cut_off(node);
    }
    let read = five.begin(0, "k", Action::Read(Read::Get));
    five.begin(4, "k", Action::Write(set("unfinished")));
    five.cut.remove(&(4, 0));
    five.deliver();
    assert_eq!(
        five.nodes[0].storage_value("k"),
        Some("unfinished".to_owned())
    );
    five.cut.clear();
    five.cut_off(4);
    (five, read)
}

#[test]
fn a_read_does_not_show_what_came_after_the_others_were_asked() {
    let (mut five, read) = with_a_write_that_only_the_reader_has();
    five.deliver();
    assert_eq!(five.reply(0, read), Some(Reply::Nil));
}

#[test]
fn a_read_that_shows_an_unfinished_write_leaves_it_on_a_majority_of_five() {
    let (mut five, read) = with_a_write_that_only_the_reader_has();
    five.deliver();
    assert_eq!(five.reply(0, read), Some(Reply::Nil));
    assert_eq!(five.get(0, "k"), bulk("unfinished"));
    // Whoever is asked from now on: three have it, and three are asked.
    five.cut_off(0);
    for node in 1..4 {
        assert_eq!(five.get(node, "k"), bulk("unfinished"), "through {node}");
    }
}
