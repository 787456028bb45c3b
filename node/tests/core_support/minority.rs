//! Five replicas of one region, of which two know what the other three do not.

use super::{
    home,
    missed::{Held, carry, is_ship, pick, put},
    replicas::Replicas,
};
use node::core::message::Message;

pub fn five() -> Replicas {
    let names = ["us-1", "us-2", "us-3", "us-4", "us-5"];
    let places = names.map(|name| home("us", name, &[("us", &names)], 5));
    Replicas::joined(places.into_iter())
}

pub fn lose_all(replicas: &mut Replicas) {
    replicas.nodes.iter_mut().for_each(|node| {
        node.sent.clear();
        node.returned.clear();
    });
}

/// us-1 and us-2 die with what they had under way.
pub fn two_die(five: &mut Replicas) {
    lose_all(five);
    five.cut_off(0);
    five.cut_off(1);
}

/// A node and these others talk; nobody's rows come to it.
pub fn talk(replicas: &mut Replicas, node: usize, others: &[usize], ticks: usize) {
    for _ in 0..ticks {
        replicas.nodes[node].pass(50);
        replicas.nodes[node].tick();
        for _ in 0..4 {
            for other in others {
                carry(replicas, node, *other);
                let said = pick(replicas, *other, node, |message| !is_ship(message));
                put(replicas, node, said);
            }
        }
    }
}

/// us-3 and us-4 are asked by us-1. Gives what they say, which is held back.
pub fn answers_of_two(five: &mut Replicas) -> Vec<Held> {
    let is_asked = |to: usize, five: &Replicas| {
        let session = five.session(0, to);
        let mut sent = five.nodes[0].sent.iter();
        sent.any(|(of, message)| *of == session && matches!(message, Message::Compare(_)))
    };
    for _ in 0..12 {
        if is_asked(2, five) && is_asked(3, five) {
            break;
        }
        five.nodes[0].pass(100);
        five.nodes[0].tick();
    }
    let answer = |other| {
        let asked = pick(five, 0, other, |message| {
            matches!(message, Message::Compare(_))
        });
        assert!(!asked.is_empty(), "{other} is asked");
        put(five, other, asked);
        pick(five, other, 0, |message| !is_ship(message))
    };
    [2, 3].map(answer).into()
}

pub fn rows_arrive(five: &mut Replicas, from: usize, to: &[usize]) {
    for other in to {
        let rows = pick(five, from, *other, is_ship);
        put(five, *other, rows);
    }
}

/// Questions of a node go to these others, and answers come back; rows wait.
pub fn questions(replicas: &mut Replicas, node: usize, others: &[usize], ticks: usize) {
    for _ in 0..ticks {
        replicas.nodes[node].pass(20);
        replicas.nodes[node].tick();
        for _ in 0..3 {
            for other in others {
                let asked = pick(replicas, node, *other, |message| !is_ship(message));
                put(replicas, *other, asked);
                let said = pick(replicas, *other, node, |message| !is_ship(message));
                put(replicas, node, said);
            }
        }
    }
}
