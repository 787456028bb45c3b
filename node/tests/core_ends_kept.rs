//! Goal: an end stays with what it was said of, is not taken by what began that, and does not come to what is begun next.
//!
//! Method: three replicas of one region, message by message.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking, its helpers too"
)]

mod core_support;

use core_support::{
    WALL_MS, add, incr,
    missed::{answers_held, begin_at, carry, expire, give, is_ship, pick, put, set_with},
    replicas::Replicas,
    set,
};
use node::{
    core::{
        op::{Action, Read, SetExpiry, Write},
        reply::Reply,
    },
    level::Level,
};

/// Two nodes talk with each other; time passes for the one of them.
fn converse(three: &mut Replicas, node: usize, other: usize) {
    for _ in 0..10 {
        carry(three, node, other);
        carry(three, other, node);
        three.nodes[node].pass(30);
        three.nodes[node].tick();
    }
}

/// The same; what us-2 says to this node is slow, and given.
fn converse_beside_slow(
    three: &mut Replicas,
    node: usize,
    other: usize,
) -> Vec<core_support::missed::Held> {
    let mut slow = Vec::new();
    for _ in 0..4 {
        let asked = pick(three, node, 1, |message| !is_ship(message));
        put(three, 1, asked);
        slow.push(pick(three, 1, node, |_| true));
        let asked = pick(three, node, other, |message| !is_ship(message));
        put(three, other, asked);
        let answer = pick(three, other, node, |message| !is_ship(message));
        put(three, node, answer);
        three.nodes[node].pass(50);
        three.nodes[node].tick();
    }
    slow
}

fn ends(three: &mut Replicas) -> Vec<Reply> {
    (0..3)
        .map(|node| three.read(node, "k", Read::ExpiresAtMs))
        .collect()
}

fn getex(at_ms: u64) -> Write {
    Write::GetEx {
        expiry: SetExpiry::At(at_ms),
    }
}

/// P1. us-1 begins a key. us-3 hears of that, and a client has the key end there, which us-2 hears of before the beginning.
#[test]
fn p1_an_end_that_comes_before_what_it_is_about_stays() {
    let at = WALL_MS + 600_000;
    let cases = [
        (add(&["m"]), expire(at)),
        (incr(1), expire(at)),
        (incr(1), getex(at)),
    ];
    for (first, end) in cases {
        let mut three = Replicas::three();
        let begun = three.begin(0, "k", Action::Write(first.clone()));
        let answers = answers_held(&mut three, 0);
        give(&mut three, 0, answers);
        let late = pick(&mut three, 0, 1, is_ship);
        assert!(!late.is_empty(), "it is carried out");
        let rows = pick(&mut three, 0, 2, is_ship);
        put(&mut three, 2, rows);
        let said = pick(&mut three, 2, 0, |_| true);
        let ended = three.begin(2, "k", Action::Write(end.clone()));
        for slow in converse_beside_slow(&mut three, 2, 0) {
            put(&mut three, 2, slow);
        }
        let rows = pick(&mut three, 2, 1, is_ship);
        assert!(!rows.is_empty(), "it is carried out");
        put(&mut three, 1, rows);
        let taken = pick(&mut three, 1, 2, |message| !is_ship(message));
        put(&mut three, 2, taken);
        let ended = three.reply(2, ended);
        assert!(
            matches!(ended, Some(Reply::Int(1) | Reply::Bulk(_))),
            "{ended:?}"
        );
        put(&mut three, 1, late);
        let taken = pick(&mut three, 1, 0, |message| !is_ship(message));
        put(&mut three, 0, taken);
        put(&mut three, 0, said);
        three.live(0..3, 20);
        let begun = three.reply(0, begun);
        let left = ends(&mut three);
        assert_eq!(
            left,
            vec![Reply::Int(at as i64); 3],
            "{first:?} {begun:?}, {end:?}"
        );
    }
}

/// P4. EXPIRE (GETEX) at ALL, beside a PERSIST. Another client sees that end, deletes the key and begins it anew; then the word of the last
/// replica arrives.
#[test]
fn p4_an_end_is_not_stated_again_over_what_was_begun_behind_a_delete() {
    let far = WALL_MS + 500_000;
    let cases = [
        (set("100"), expire(far), incr(2)),
        (set("100"), getex(far), incr(2)),
        (set("100"), expire(far), set("new")),
        (add(&["a"]), expire(far), add(&["b"])),
    ];
    for (first, end, anew) in cases {
        let mut three = Replicas::three();
        three.write(0, "k", first.clone());
        let later = three.write(0, "k", expire(WALL_MS + 900_000));
        assert_eq!(later, Reply::Int(1));
        three.live(0..3, 5);
        let stays = three.begin(1, "k", Action::Write(Write::Persist));
        three.nodes[1].pass(100);
        for _ in 0..2 {
            three.nodes[1].tick();
        }
        carry(&mut three, 1, 2);
        let ended = begin_at(&mut three, 0, Action::Write(end.clone()), Level::All);
        let links = [(0, 1), (0, 2), (1, 0), (2, 0), (0, 2), (2, 0), (2, 1)];
        for (from, to) in links {
            carry(&mut three, from, to);
        }
        let mut sent = three.nodes[1].sent.iter();
        assert!(
            sent.any(|(_, message)| is_ship(message)),
            "PERSIST is carried out"
        );
        let mut told = Vec::new();
        for action in [
            Action::Read(Read::ExpiresAtMs),
            Action::Write(Write::Delete),
            Action::Write(anew.clone()),
        ] {
            let id = three.begin(2, "k", action);
            converse(&mut three, 2, 0);
            told.push(three.reply(2, id));
        }
        assert_eq!(
            told[..2],
            [Some(Reply::Int(far as i64)), Some(Reply::Int(1))]
        );
        three.live(0..3, 10);
        let (ended, stays) = (three.reply(0, ended), three.reply(1, stays));
        let left = ends(&mut three);
        assert_eq!(
            left,
            vec![Reply::Int(-1); 3],
            "{end:?} {ended:?}, PERSIST {stays:?}, {anew:?} {told:?}"
        );
    }
}

/// P4. DEL beside an EXPIRE, both acknowledged; the key is gone, as a quorum says. Then something is begun through the replica that has not
/// heard of the DEL.
#[test]
fn p4_a_delete_beside_an_expire_leaves_no_end_to_what_is_begun_next() {
    for (first, anew) in [
        (add(&["m"]), add(&["n"])),
        (incr(100), incr(1)),
        (set("100"), incr(1)),
    ] {
        let mut three = Replicas::three();
        three.write(0, "k", first.clone());
        three.live(0..3, 5);
        for node in &mut three.nodes {
            node.sent.clear();
            node.returned.clear();
        }
        let soon = three.nodes[0].wall_ms + 9000;
        // DEL through us-1 has asked us-2, which has answered.
        let gone = three.begin(0, "k", Action::Write(Write::Delete));
        let mut slow = Vec::new();
        for _ in 0..3 {
            carry(&mut three, 0, 1);
            slow = pick(&mut three, 1, 0, |message| !is_ship(message));
            if !slow.is_empty() {
                break;
            }
            three.nodes[0].pass(50);
            three.nodes[0].tick();
        }
        assert!(!slow.is_empty(), "us-2 answers");
        let ended = three.begin(2, "k", Action::Write(expire(soon)));
        converse(&mut three, 2, 1);
        assert_eq!(three.reply(2, ended), Some(Reply::Int(1)));
        put(&mut three, 0, slow);
        converse(&mut three, 0, 1);
        assert_eq!(three.reply(0, gone), Some(Reply::Int(1)));
        let seen = three.begin(1, "k", Action::Read(Read::Type));
        converse(&mut three, 1, 0);
        assert_eq!(three.reply(1, seen), Some(Reply::Simple("none")));
        let made = three.begin(2, "k", Action::Write(anew.clone()));
        three.live(0..3, 20);
        let made = three.reply(2, made);
        let left = ends(&mut three);
        assert_eq!(
            left,
            vec![Reply::Int(-1); 3],
            "{first:?}, {anew:?} {made:?}"
        );
    }
}

/// P1. DEL (GETDEL, EXPIRE in the past) through us-1, known to us-2. Through us-2 the key is begun anew and given an end, which us-3
/// acknowledges before it hears of the DEL. Gives who reads which end then.
fn ends_behind_a_deletion(deletion: &Write, first: Write, anew: &[Write]) -> Vec<Reply> {
    let mut three = Replicas::three();
    three.write(0, "k", first);
    three.live(0..3, 5);
    for node in &mut three.nodes {
        node.sent.clear();
        node.returned.clear();
    }
    let gone = three.begin(0, "k", Action::Write(deletion.clone()));
    let mut late = Vec::new();
    for _ in 0..5 {
        let asked = pick(&mut three, 0, 1, |message| !is_ship(message));
        put(&mut three, 1, asked);
        let said = pick(&mut three, 1, 0, |message| !is_ship(message));
        put(&mut three, 0, said);
        late.extend(pick(&mut three, 0, 2, is_ship));
        if !late.is_empty() {
            break;
        }
        three.nodes[0].pass(50);
        three.nodes[0].tick();
    }
    assert!(!late.is_empty(), "it is carried out");
    let rows = pick(&mut three, 0, 1, is_ship);
    put(&mut three, 1, rows);
    let slow = pick(&mut three, 1, 0, |message| !is_ship(message));
    assert_eq!(three.reply(0, gone), None);
    for write in anew {
        let id = three.begin(1, "k", Action::Write(write.clone()));
        converse(&mut three, 1, 2);
        assert!(three.reply(1, id).is_some(), "{write:?} is answered");
    }
    let rows = pick(&mut three, 1, 0, is_ship);
    put(&mut three, 2, late);
    let word = pick(&mut three, 2, 0, |message| !is_ship(message));
    for held in [word, slow, rows] {
        put(&mut three, 0, held);
    }
    three.live(0..3, 20);
    ends(&mut three)
}

#[test]
fn p1_a_deletion_does_not_take_the_end_of_what_it_leaves() {
    let far = WALL_MS + 900_000;
    let with_end = set_with("w", SetExpiry::At(far));
    let (gone, taken, past) = (Write::Delete, Write::GetDel, expire(1));
    for (deletion, first, anew) in [
        (&gone, add(&["a"]), vec![with_end.clone()]),
        (&gone, add(&["a"]), vec![incr(1), expire(far)]),
        (&gone, set("v"), vec![add(&["m"]), expire(far)]),
        (&taken, set("v"), vec![add(&["m"]), expire(far)]),
        (&past, set("v"), vec![add(&["m"]), expire(far)]),
        (&gone, set("v"), vec![with_end]),
        (&gone, add(&["a"]), vec![add(&["b"]), expire(far)]),
        (&gone, set("5"), vec![incr(1), expire(far)]),
    ] {
        let left = ends_behind_a_deletion(deletion, first.clone(), &anew);
        let kept = vec![Reply::Int(far as i64); 3];
        assert_eq!(left, kept, "{first:?}, {deletion:?}, {anew:?}");
    }
}
