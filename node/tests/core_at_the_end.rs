//! Goal: what comes to a key at its end waits no longer than it has to, and what is added after an end that was missed does not go with it.
//!
//! Method: three replicas of one region, message by message; time is the test's own.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking, its helpers too"
)]

mod core_support;

use core_support::{
    WALL_MS, bulk, incr,
    missed::{
        Held, ONE, arrive, begin_at, carry, expire, is_ship, missed_by, pass, pick, put, set_with,
    },
    replicas::Replicas,
    set,
};
use node::core::{
    RequestId,
    op::{Action, SetExpiry, Write},
    reply::Reply,
};

/// Three that know when a key ends, so long before that, by one clock.
fn before_the_end(millis: u64) -> Replicas {
    let at = WALL_MS + 3000;
    let mut three = Replicas::three();
    three.write(0, "k", set_with("5", SetExpiry::At(at)));
    three.live(0..3, 5);
    let latest = three.nodes.iter().map(|node| node.wall_ms).max().unwrap();
    for node in &mut three.nodes {
        node.sent.clear();
        node.returned.clear();
        let wall_ms = node.wall_ms;
        node.pass(latest - wall_ms);
    }
    pass(&mut three, at - latest - millis);
    three
}

/// Three behind the end of a key, of which us-1 has not heard. Gives what is under way to it.
fn behind_the_end(millis: u64) -> (Replicas, Vec<Held>) {
    let at = WALL_MS + 3000;
    let mut three = Replicas::three();
    three.write(0, "k", set("100"));
    three.live(0..3, 5);
    let held = missed_by(&mut three, 0, expire(at), &Reply::Int(1));
    let now = three.nodes[1].wall_ms;
    pass(&mut three, at + millis - now);
    (three, held)
}

/// An INCR of just before the end arrives at us-3 just behind it. What is asked of us-3 next goes on at once.
#[test]
fn p6_an_addition_of_before_the_end_that_is_late_holds_nobody_up() {
    for next in [incr(1), set("x"), Write::Delete] {
        let mut three = before_the_end(5);
        let begun = three.begin(0, "k", Action::Write(incr(1)));
        let rows = pick(&mut three, 0, 2, is_ship);
        assert!(!rows.is_empty(), "it is carried out");
        carry(&mut three, 0, 1);
        carry(&mut three, 1, 0);
        assert_eq!(three.reply(0, begun), Some(Reply::Int(6)));
        pass(&mut three, 10);
        put(&mut three, 2, rows);
        three.deliver();
        let second = three.begin(2, "k", Action::Write(next.clone()));
        three.live(0..3, 2);
        assert!(three.reply(2, second).is_some(), "{next:?}");
    }
}

/// A rate limiter: INCRs through all three until the end of the window, and on. What was under way at the end arrives behind it.
#[test]
fn p6_a_busy_counter_goes_on_at_the_end_of_its_window() {
    let mut three = before_the_end(10);
    // Every 2 ms each node is asked for an INCR; every message takes 2 ms.
    let mut open: Vec<(usize, RequestId, u64)> = Vec::new();
    let (mut slowest, mut answered) = (0, 0);
    for step in 0..400u64 {
        if step < 300 {
            for node in 0..3 {
                let id = three.begin(node, "k", Action::Write(incr(1)));
                open.push((node, id, step * 2));
            }
        }
        let links = [(0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1)];
        let way = links.map(|(from, to)| (to, pick(&mut three, from, to, |_| true)));
        pass(&mut three, 2);
        for (to, held) in way {
            put(&mut three, to, held);
        }
        for node in 0..3 {
            three.nodes[node].wake();
            if step % 25 == 0 {
                three.nodes[node].tick();
            }
        }
        open.retain(|(node, id, begun)| match three.reply(*node, *id) {
            Some(reply) => {
                assert!(matches!(reply, Reply::Int(_)), "{reply:?}");
                answered += 1;
                slowest = slowest.max(step * 2 - begun);
                false
            }
            None => true,
        });
    }
    assert_eq!((answered, open.len()), (900, 0));
    assert!(slowest <= 100, "the slowest after {slowest} ms");
}

/// INCRs at ONE through us-1, which cannot hear of the EXPIRE, again and again; INCR through us-3 is answered within its time.
#[test]
fn p6_additions_of_one_that_hears_nothing_do_not_starve_those_through_another() {
    let (mut three, _held) = behind_the_end(10);
    three.cut.extend([(1, 0), (2, 0)]); // what us-1 says arrives
    begin_at(&mut three, 0, Action::Write(incr(1)), ONE);
    three.deliver();
    let second = three.begin(2, "k", Action::Write(incr(1)));
    for _ in 0..80 {
        begin_at(&mut three, 0, Action::Write(incr(1)), ONE);
        three.deliver();
        three.live(0..3, 1);
    }
    let reply = three.reply(2, second);
    assert!(matches!(reply, Some(Reply::Int(_))), "{reply:?}");
}

/// us-1 adds after an end that it missed; us-2, which set the end, hears of that, its word is slow, and it is about to have the key end.
#[test]
fn p3_a_key_is_not_ended_under_an_addition_that_may_have_missed_the_end() {
    let (mut three, held) = behind_the_end(2950);
    let begun = three.begin(0, "k", Action::Write(incr(1)));
    let words = [1, 2].map(|other| {
        let rows = pick(&mut three, 0, other, is_ship);
        assert!(!rows.is_empty(), "it is carried out");
        put(&mut three, other, rows);
        pick(&mut three, other, 0, |_| true)
    });
    three.cut_off(0);
    for _ in 0..30 {
        three.nodes[0].pass(50);
        for node in 1..3 {
            three.nodes[node].pass(50);
            three.nodes[node].tick();
        }
        for _ in 0..3 {
            carry(&mut three, 1, 2);
            carry(&mut three, 2, 1);
        }
    }
    three.cut.clear();
    for word in words {
        put(&mut three, 0, word);
    }
    three.deliver();
    arrive(&mut three, held);
    three.live(0..3, 40);
    let reply = three.reply(0, begun);
    for node in 0..3 {
        let left = three.get(node, "k");
        let is_lost = matches!(reply, Some(Reply::Int(_))) && left == Reply::Nil;
        assert!(!is_lost, "{reply:?}, {left:?} through {node}");
    }
}

/// us-1 adds after an end that it missed. us-3 knows the end, and hears of the addition by the answer to its own question.
#[test]
fn p3_an_addition_that_came_by_an_answer_is_not_ended_by_the_next_one() {
    for order in 0..6 {
        let (mut three, held) = behind_the_end(10);
        let begun = three.begin(0, "k", Action::Write(incr(1)));
        let late = [1, 2].map(|other| pick(&mut three, 0, other, is_ship));
        assert!(
            late.iter().all(|rows| !rows.is_empty()),
            "it is carried out"
        );
        let [late_2, late_3] = late;
        // us-2 hears of it early, and its word is slow; or late.
        let mut word = Vec::new();
        if order % 2 == 0 {
            put(&mut three, 1, late_2.clone());
            word = pick(&mut three, 1, 0, |message| !is_ship(message));
        }
        let second = three.begin(2, "k", Action::Write(incr(2)));
        let mut rows = Vec::new();
        for _ in 0..12 {
            let asked = pick(&mut three, 2, 0, |message| !is_ship(message));
            put(&mut three, 0, asked);
            let said = pick(&mut three, 0, 2, |message| !is_ship(message));
            put(&mut three, 2, said);
            rows.extend(pick(&mut three, 2, 0, is_ship));
            three.nodes[2].pass(50);
            three.nodes[2].tick();
        }
        let in_turn = match order / 2 {
            0 => [word, rows],
            1 => [rows, word],
            _ => {
                carry(&mut three, 2, 1);
                carry(&mut three, 1, 2);
                [word, rows]
            }
        };
        for held in in_turn {
            put(&mut three, 0, held);
        }
        if order % 2 == 1 {
            put(&mut three, 1, late_2);
        }
        put(&mut three, 2, late_3);
        three.live(0..3, 5);
        arrive(&mut three, held);
        three.live(0..3, 20);
        let replies = (three.reply(0, begun), three.reply(2, second));
        for node in 0..3 {
            let left = three.get(node, "k");
            let is_good = [bulk("3"), bulk("103")].contains(&left);
            assert!(
                is_good,
                "order {order}: {replies:?}, {left:?} through {node}"
            );
        }
    }
}
