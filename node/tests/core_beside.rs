//! Goal: an addition beside another one, or beside what replaced the value, is accepted or refused as its client will find the key afterwards, and
//! hides nothing that was acknowledged.
//!
//! Method: three replicas of one region, or two regions, message by message; what each of them has heard is decided by hand.

#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, its helpers too"
)]

mod core_support;

use core_support::{
    add, bulk, bytes, incr,
    missed::{Held, answers_held, arrive, give, missed_by, only, pass},
    replicas::Replicas,
    set,
};
use node::{
    core::{
        RequestId,
        message::Message,
        op::{Action, Read, Write},
        reply::{Refusal, Reply},
    },
    level::Level,
};

fn types(three: &mut Replicas) -> Vec<Reply> {
    (0..3)
        .map(|node| three.read(node, "k", Read::Type))
        .collect()
}

/// INCR AT all and INCR behind it are refused for a set that was acknowledged beside them, and neither stays.
#[test]
fn p4_increments_behind_one_that_will_be_refused_are_refused_with_it() {
    let mut three = Replicas::three();
    // INCR asks first and is told that there is nothing.
    let first = three.nodes[0].request_at("k", Action::Write(incr(1)), Level::All);
    three.nodes[0].close();
    let answers = answers_held(&mut three, 0);
    three.cut_off(0);
    let added = three.begin(1, "k", Action::Write(add(&["a"])));
    three.deliver();
    three.live(0..3, 3);
    assert_eq!(three.reply(1, added), Some(Reply::Int(1)));
    let held: Vec<Held> = (0..3).map(|node| three.hold(node)).collect();
    three.cut.clear();
    three.cut.extend([(0, 2), (2, 0)]);
    pass(&mut three, 50);

    give(&mut three, 0, answers);
    let second = three.begin(0, "k", Action::Write(incr(1)));
    three.deliver();
    three.live(0..3, 3);
    let replies = (three.reply(0, first), three.reply(0, second));
    three.mend();
    arrive(&mut three, held);
    three.live(0..3, 40);
    let firsts = three.reply(0, first);
    let types = types(&mut three);
    let values = [three.read(1, "k", Read::Members), three.get(1, "k")];
    assert!(
        !matches!(replies.1, Some(Reply::Int(_))),
        "{replies:?} {firsts:?} {types:?} {values:?}"
    );
    assert_eq!(types[0], Reply::Simple("set"), "{replies:?} {firsts:?}");
}

/// P4. The first of two SADDs that begin a key is refused, and says that the string begins anew: that is no string of its own connection.
#[test]
fn p4_the_second_of_two_adds_beside_a_counter_is_refused_too() {
    let mut three = Replicas::three();
    assert_eq!(three.write(0, "k", set("v")), Reply::Ok);
    assert_eq!(three.write(0, "k", Write::Delete), Reply::Int(1));
    three.live(0..3, 10);
    let first = three.begin(0, "k", Action::Write(add(&["a"])));
    let second = three.begin(0, "k", Action::Write(add(&["b"])));
    let answers = answers_held(&mut three, 0);
    three.cut_off(0);
    let counted = three.begin(1, "k", Action::Write(incr(5)));
    three.deliver();
    three.live(0..3, 3);
    assert_eq!(three.reply(1, counted), Some(Reply::Int(5)));
    let held: Vec<Held> = (0..3).map(|node| three.hold(node)).collect();
    three.cut.clear();
    pass(&mut three, 50);
    give(&mut three, 0, answers);
    three.deliver();
    three.live(0..3, 3);
    let replies = (three.reply(0, first), three.reply(0, second));
    arrive(&mut three, held);
    three.live(0..3, 40);
    let refused = Some(Reply::Error(Refusal::WrongType));
    assert_eq!(replies, (refused.clone(), refused));
    assert_eq!(types(&mut three), vec![Reply::Simple("string"); 3]);
}

/// P3. The second SADD of the same element finds it here because of the first one, and is refused like that.
#[test]
fn p3_an_element_that_is_added_twice_beside_a_counter_is_refused_twice() {
    let mut three = Replicas::three();
    let first = three.begin(0, "k", Action::Write(add(&["a"])));
    let answers = answers_held(&mut three, 0);
    three.cut_off(0);
    let counted = three.begin(1, "k", Action::Write(incr(5)));
    three.deliver();
    three.live(0..3, 3);
    assert_eq!(three.reply(1, counted), Some(Reply::Int(5)));
    let held: Vec<Held> = (0..3).map(|node| three.hold(node)).collect();
    three.cut.clear();
    pass(&mut three, 50);
    give(&mut three, 0, answers);
    let second = three.begin(0, "k", Action::Write(add(&["a"])));
    three.deliver();
    three.live(0..3, 3);
    let replies = (three.reply(0, first), three.reply(0, second));
    arrive(&mut three, held);
    three.live(0..3, 40);
    let types = types(&mut three);
    assert_eq!(types, vec![Reply::Simple("string"); 3], "{replies:?}");
    assert!(
        !matches!(replies.1, Some(Reply::Int(_))),
        "{replies:?} {types:?}"
    );
}

/// INCR via 1 and via 2 beside SADD via 0.
#[test]
fn p4_of_three_that_begin_a_key_no_two_types_are_accepted() {
    let mut three = Replicas::three();
    // All three ask, and are told that there is nothing.
    let added = three.begin(0, "k", Action::Write(add(&["a"])));
    let zero = answers_held(&mut three, 0);
    let one = three.begin(1, "k", Action::Write(incr(1)));
    let ones = answers_held(&mut three, 1);
    let two = three.begin(2, "k", Action::Write(incr(10)));
    let twos = answers_held(&mut three, 2);
    give(&mut three, 1, ones);
    pass(&mut three, 10);
    give(&mut three, 2, twos);
    pass(&mut three, 10);
    give(&mut three, 0, zero);
    // 1 and 2 meet first; the row of 2 gets to 0, then that of 0 to 1.
    only(&mut three, 1, 2);
    let returned = std::mem::take(&mut three.nodes[2].returned);
    for (session, message) in returned {
        three.take(1, false, session, message);
    }
    only(&mut three, 2, 0);
    only(&mut three, 0, 1);
    let returned = std::mem::take(&mut three.nodes[1].returned);
    for (session, message) in returned {
        three.take(0, false, session, message);
    }
    let early = (
        three.reply(0, added),
        three.reply(1, one),
        three.reply(2, two),
    );
    three.deliver();
    three.live(0..3, 40);
    let late = (
        three.reply(0, added),
        three.reply(1, one),
        three.reply(2, two),
    );
    let types = types(&mut three);
    let is_int = |replies: [&Option<Reply>; 2]| {
        replies
            .iter()
            .any(|reply| matches!(reply, Some(Reply::Int(_))))
    };
    let set_accepted = is_int([&early.0, &late.0]);
    let counted = is_int([&early.1, &late.1]) || is_int([&early.2, &late.2]);
    assert!(!(set_accepted && counted), "{early:?} {late:?} {types:?}");
}

/// INCR behind SET: it is not refused for a set that the SET removed, of a clock that is ahead.
#[test]
fn p7_an_increment_behind_a_set_is_not_refused_for_elements_that_went() {
    for one_batch in [true, false] {
        let mut three = Replicas::three();
        three.nodes[1].wall_ms += 500;
        let held = missed_by(&mut three, 0, add(&["a"]), &Reply::Int(1));
        let written = three.nodes[0].request("k", Action::Write(set("5")));
        if !one_batch {
            three.nodes[0].close();
        }
        let counted = three.nodes[0].request("k", Action::Write(incr(1)));
        three.nodes[0].close();
        three.deliver();
        three.live(0..3, 10);
        let replies = (three.reply(0, written), three.reply(0, counted));
        assert_eq!(replies, (Some(Reply::Ok), Some(Reply::Int(6))));
        for node in 0..3 {
            assert_eq!(three.get(node, "k"), bulk("6"), "through {node}");
        }
        drop(held);
    }
}

/// SADD of an element that is here, and that a SET elsewhere removed: refused, also where the first answer is lost.
#[test]
fn p7_an_add_again_is_refused_for_a_string_also_where_its_first_answer_is_lost() {
    for lost in [false, true] {
        let mut three = Replicas::three();
        assert_eq!(three.write(0, "k", add(&["a"])), Reply::Int(1));
        three.live(0..3, 10);
        let held = missed_by(&mut three, 0, set("v"), &Reply::Ok);
        let added = three.begin(0, "k", Action::Write(add(&["a"])));
        three.deliver_from(0);
        if lost {
            three.nodes[1].returned.clear();
            three.nodes[2].returned.clear();
        }
        three.deliver();
        three.live(0..3, 10);
        let reply = three.reply(0, added);
        arrive(&mut three, held);
        three.live(0..3, 40);
        let types = types(&mut three);
        let rows: Vec<usize> = three.nodes.iter().map(|node| node.rows()).collect();
        assert_eq!(
            reply,
            Some(Reply::Error(Refusal::WrongType)),
            "lost {lost}: {types:?} {rows:?}"
        );
    }
}

/// SADD of one element twice, pipelined, where others have a string: both are refused.
#[test]
fn p7_an_element_is_added_again_twice_and_refused_twice() {
    let mut three = Replicas::three();
    assert_eq!(three.write(0, "k", add(&["a"])), Reply::Int(1));
    three.live(0..3, 10);
    let held = missed_by(&mut three, 0, set("v"), &Reply::Ok);
    let first = three.begin(0, "k", Action::Write(add(&["a"])));
    let second = three.begin(0, "k", Action::Write(add(&["a"])));
    three.deliver();
    three.live(0..3, 5);
    let replies = (three.reply(0, first), three.reply(0, second));
    let refused = Some(Reply::Error(Refusal::WrongType));
    assert_eq!(
        replies,
        (refused.clone(), refused),
        "{:?}",
        types(&mut three)
    );
    drop(held);
}

/// An INCR that timed out before makes no later INCR be acknowledged behind text.
#[test]
fn p3_an_increment_behind_one_that_timed_out_is_refused_for_text() {
    let mut three = Replicas::three();
    assert_eq!(three.write(0, "k", set("5")), Reply::Ok);
    three.live(0..3, 10);
    three.cut_off(0);
    let first = three.begin(0, "k", Action::Write(incr(1)));
    pass(&mut three, 50);
    let text = three.begin(1, "k", Action::Write(set("text")));
    three.deliver();
    three.live(0..3, 25);
    assert_eq!(three.reply(1, text), Some(Reply::Ok));
    let first = three.reply(0, first);
    assert!(
        matches!(first, Some(Reply::Error(Refusal::Timeout(_)))),
        "{first:?}"
    );
    // SET has been acknowledged. us-3 is reached again, us-2 is not.
    three.cut.clear();
    three.cut.extend([(0, 1), (1, 0)]);
    let second = three.begin(0, "k", Action::Write(incr(1)));
    three.deliver();
    three.live(0..3, 10);
    let second = three.reply(0, second);
    three.mend();
    three.live(0..3, 40);
    let left = three.get(1, "k");
    assert_eq!(
        second,
        Some(Reply::Error(Refusal::NotAnInteger)),
        "{left:?}"
    );
}

/// INCR AT all; INCR: one replica is slow. The second one is refused for text too.
#[test]
fn p3_an_increment_behind_one_that_still_waits_is_refused_for_text() {
    let mut three = Replicas::three();
    assert_eq!(three.write(0, "k", set("5")), Reply::Ok);
    three.live(0..3, 10);
    let held = missed_by(&mut three, 0, set("text"), &Reply::Ok);
    three.cut.extend([(0, 2), (2, 0)]);
    let first = three.nodes[0].request_at("k", Action::Write(incr(1)), Level::All);
    let second = three.nodes[0].request("k", Action::Write(incr(1)));
    three.nodes[0].close();
    three.deliver();
    three.live(0..3, 3);
    let second = three.reply(0, second);
    three.mend();
    three.live(0..3, 10);
    let first = three.reply(0, first);
    let refused = Some(Reply::Error(Refusal::NotAnInteger));
    assert_eq!((first, second), (refused.clone(), refused));
    drop(held);
}

/// us-1 and us-2 acknowledge a set. us-3, which had asked before it, counts beside it; us-1 and us-2 have that row too, and what they answer to it is
/// under way. Gives the increment, and these answers.
fn counter_to_be_taken_back(three: &mut Replicas) -> (RequestId, [Held; 2]) {
    let refused = three.begin(2, "k", Action::Write(incr(1)));
    let answers = answers_held(three, 2); // there is nothing
    three.cut_off(2);
    let added = three.begin(1, "k", Action::Write(add(&["a"])));
    three.deliver();
    three.live(0..3, 1);
    assert_eq!(three.reply(1, added), Some(Reply::Int(1)));
    for node in 0..3 {
        three.hold(node);
        three.nodes[node].returned.clear();
    }
    three.cut.clear();
    give(three, 2, answers);
    // Its row arrives; the answers to it are under way for a while.
    only(three, 2, 0);
    only(three, 2, 1);
    let answers = [0, 1].map(|node: usize| std::mem::take(&mut three.nodes[node].returned));
    (refused, answers)
}

/// A counter that will be taken back is added to.
#[test]
fn p4_an_increment_of_a_counter_that_will_be_taken_back_keeps_no_set_hidden() {
    let mut three = Replicas::three();
    let (refused, answers) = counter_to_be_taken_back(&mut three);
    let counted = three.begin(0, "k", Action::Write(incr(1)));
    only(&mut three, 0, 1);
    let back = std::mem::take(&mut three.nodes[1].returned);
    for (session, message) in back {
        three.take(0, false, session, message);
    }
    let early = three.reply(0, counted);
    for held in answers {
        for (session, message) in held {
            three.take(2, false, session, message);
        }
    }
    three.deliver();
    three.live(0..3, 40);
    let replies = (early, three.reply(0, counted), three.reply(2, refused));
    let types = types(&mut three);
    assert_eq!(types, vec![Reply::Simple("set"); 3], "{replies:?}");
}

/// APPEND to a number that will be taken back removes no element that was acknowledged before it began.
#[test]
fn p4_an_append_to_a_number_that_will_be_taken_back_removes_no_set() {
    let mut three = Replicas::three();
    let (refused, answers) = counter_to_be_taken_back(&mut three);
    three.cut_off(2);
    let appended = three.begin(0, "k", Action::Write(Write::Append { value: bytes("x") }));
    three.deliver();
    three.live(0..3, 2);
    three.cut.clear();
    for held in answers {
        for (session, message) in held {
            three.take(2, false, session, message);
        }
    }
    three.deliver();
    three.live(0..3, 40);
    let replies = (three.reply(0, appended), three.reply(2, refused));
    let types = types(&mut three);
    assert_eq!(
        types,
        vec![Reply::Simple("set"); 3],
        "{replies:?} {:?}",
        three.get(1, "k")
    );
}

/// SET that did not know of a set, and SADD to that set between its row and its correction: one of the two is what the key shows, and the other
/// one was refused.
#[test]
fn p1_a_set_is_not_hidden_by_an_add_between_its_row_and_its_correction() {
    let mut three = Replicas::three();
    assert_eq!(three.write(0, "k", set("old")), Reply::Ok);
    three.live(0..3, 10);
    let mut held = missed_by(&mut three, 0, Write::Delete, &Reply::Int(1));
    held.extend(missed_by(&mut three, 0, add(&["a"]), &Reply::Int(1)));
    pass(&mut three, 50);
    let written = three.begin(0, "k", Action::Write(set("v")));
    only(&mut three, 0, 1);
    only(&mut three, 0, 2);
    three.cut_off(0);
    let added = three.begin(1, "k", Action::Write(add(&["b"])));
    three.deliver();
    three.live(0..3, 1);
    let added = three.reply(1, added);
    three.mend();
    three.live(0..3, 10);
    let written = three.reply(0, written);
    let types = types(&mut three);
    assert_eq!(
        types,
        vec![Reply::Simple("string"); 3],
        "{written:?} {added:?}"
    );
    drop(held);
}

/// An increment with a DEL or SET of the same connection behind it is refused for text that was acknowledged before.
#[test]
fn p7_an_increment_with_a_statement_behind_it_is_refused_for_text_that_was_there() {
    for behind in [Write::Delete, set("2")] {
        let mut three = Replicas::three();
        assert_eq!(three.write(0, "k", set("1")), Reply::Ok);
        three.live(0..3, 10);
        let held = missed_by(&mut three, 0, set("text"), &Reply::Ok);
        let counted = three.nodes[0].request("k", Action::Write(incr(1)));
        three.nodes[0].request("k", Action::Write(behind.clone()));
        three.nodes[0].close();
        three.deliver();
        three.live(0..3, 10);
        let counted = three.reply(0, counted);
        let refused = Some(Reply::Error(Refusal::NotAnInteger));
        assert_eq!(counted, refused, "{behind:?}");
        drop(held);
    }
}

/// An addition to what the key shows is not refused for a value of the other type that was deleted before, and that its replica never had.
#[test]
fn p7_an_addition_is_not_refused_for_what_was_deleted() {
    for (other, begins, again) in [
        (add(&["c"]), set("1"), incr(1)),
        (set("v"), add(&["a"]), add(&["b"])),
    ] {
        let mut three = Replicas::three();
        let id = three.begin(2, "k", Action::Write(other.clone()));
        three.cut_off(0);
        // The question, where there is one, and the row reach us-2 alone.
        three.deliver();
        three.live(0..3, 2);
        assert!(three.reply(2, id).is_some());
        let lost = three.hold(2);
        three.cut.clear();
        three.cut_off(2);
        assert_eq!(three.write(1, "k", Write::Delete), Reply::Int(1));
        let begun = three.write(1, "k", begins);
        assert!(matches!(begun, Reply::Ok | Reply::Int(1)), "{begun:?}");
        three.live(0..3, 1);
        let late = three.hold(1);
        three.cut.clear();
        three.cut_off(1);
        let reply = three.write(0, "k", again.clone());
        assert!(
            matches!(reply, Reply::Int(_)),
            "{again:?} beside {other:?}: {reply:?}"
        );
        drop((lost, late));
    }
}

/// Two regions: an INCR that is refused in eu flips no type. us counts, eu has not heard of that, and adds an element.
#[test]
fn p4_a_refused_increment_does_not_hide_the_set_behind_an_older_counter() {
    for is_refused_beside in [false, true] {
        let types = types_after_a_refusal(is_refused_beside);
        assert_eq!(types, vec![Reply::Simple("set"); 4], "{is_refused_beside}");
    }
}

fn types_after_a_refusal(is_refused_beside: bool) -> Vec<Reply> {
    let mut world = core_support::missed::two_regions(core_support::UNBOUNDED);
    world.cut_off(0);
    let counted = world.begin(0, "k", Action::Write(incr(5)));
    world.deliver();
    assert_eq!(world.reply(0, counted), Some(Reply::Int(5)));
    for node in 0..4 {
        world.nodes[node].pass(50);
    }
    // eu-3 is told that there is nothing; SADD through eu-1 is acknowledged; INCR through eu-3 is refused.
    let refused = world.begin(3, "k", Action::Write(incr(1)));
    let is_question = |message: &Message| matches!(message, Message::Compare(_));
    let (questions, rest): (Held, Held) = world
        .hold(3)
        .into_iter()
        .partition(|(_, message)| is_question(message));
    world.nodes[3].sent = rest;
    let mut answers = Vec::new();
    for (session, message) in questions {
        let to = session.0 as usize % 10;
        world.take(to, true, session, message);
        let sent = std::mem::take(&mut world.nodes[to].sent);
        let (answer, rest): (Held, Held) = sent
            .into_iter()
            .partition(|(_, message)| matches!(message, Message::Compared { .. }));
        world.nodes[to].sent = rest;
        answers.extend(answer);
    }
    for other in [1, 2] {
        world.cut.extend([(3, other), (other, 3)]);
    }
    let added = world.begin(1, "k", Action::Write(add(&["a"])));
    world.deliver();
    assert_eq!(world.reply(1, added), Some(Reply::Int(1)));
    for node in 0..4 {
        world.nodes[node].pass(50);
    }
    for (session, message) in answers {
        if is_refused_beside {
            world.take(3, false, session, message);
        }
    }
    world.cut.clear();
    world.cut_off(0);
    world.live(0..4, 10);
    assert_eq!(
        world.reply(3, refused),
        Some(Reply::Error(Refusal::WrongType))
    );
    world.cut.clear();
    world.live(0..4, 40);
    (0..4)
        .map(|node| world.read(node, "k", Read::Type))
        .collect()
}
