//! What one replica misses and the others acknowledge.

use std::{
    collections::{BTreeMap, BTreeSet},
    num::NonZeroU8,
    sync::Arc,
};

use super::{Region, UNBOUNDED, bytes, replicas::Replicas};
use node::{
    core::{
        RequestId,
        identity::DirectoryId,
        message::{Message, SessionId},
        op::{Action, Condition, ExpireCondition, SetExpiry, Write},
        reply::Reply,
        ship::{Home, OutboxBounds},
    },
    level::Level,
    names::{NodeName, RegionName},
    placement::Placement,
};

pub const ONE: Level = Level::Replicas(NonZeroU8::MIN);

pub type Held = Vec<(SessionId, Message)>;

pub fn members(reply: &Reply) -> BTreeSet<String> {
    let Reply::Set(items) = reply else {
        panic!("no set: {reply:?}");
    };
    items.iter().map(super::text).collect()
}

pub fn of(elements: &[&str]) -> BTreeSet<String> {
    elements
        .iter()
        .map(|element| (*element).to_owned())
        .collect()
}

pub fn expire(at_ms: u64) -> Write {
    Write::Expire {
        at_ms: at_ms as i64,
        condition: ExpireCondition::Always,
    }
}

pub fn set_with(value: &str, expiry: SetExpiry) -> Write {
    Write::Set {
        value: bytes(value),
        expiry,
        condition: Condition::Always,
        return_old: false,
    }
}

pub fn setnx(value: &str) -> Write {
    Write::Set {
        value: bytes(value),
        expiry: SetExpiry::Clear,
        condition: Condition::IfAbsent,
        return_old: false,
    }
}

/// The others acknowledge a write that one node misses. Gives what is under way to it.
pub fn missed_by(three: &mut Replicas, node: usize, write: Write, reply: &Reply) -> Vec<Held> {
    three.cut_off(node);
    let through = (node + 1) % 3;
    let id = three.begin(through, "k", Action::Write(write));
    three.deliver();
    for _ in 0..2 {
        for other in (0..3).filter(|other| *other != node) {
            three.nodes[other].pass(100);
            three.nodes[other].tick();
        }
        three.nodes[node].pass(100); // its clock runs too
        three.deliver();
    }
    assert_eq!(three.reply(through, id).as_ref(), Some(reply));
    let held = (0..3).map(|node| three.hold(node)).collect();
    three.cut.clear();
    held
}

pub fn arrive(three: &mut Replicas, held: Vec<Held>) {
    for (node, held) in held.into_iter().enumerate() {
        three.release(node, held);
    }
}

pub fn pass(three: &mut Replicas, millis: u64) {
    three.nodes.iter_mut().for_each(|node| node.pass(millis));
}

/// One node in `us`, and three in `eu` with three replicas of each key: all joined. They keep so much of their outboxes.
pub fn two_regions(bounds: OutboxBounds) -> Replicas {
    let (us, eu): (RegionName, RegionName) =
        ("us".parse().expect("a name"), "eu".parse().expect("a name"));
    let node = |name: &str| -> NodeName { name.parse().expect("a name") };
    let eus: BTreeSet<NodeName> = ["eu-1", "eu-2", "eu-3"].map(node).into();
    let members = BTreeMap::from([
        (us.clone(), BTreeSet::from([node("us-1")])),
        (eu.clone(), eus.clone()),
    ]);
    let counts = BTreeMap::from([(us.clone(), 1), (eu.clone(), 3)]);
    let placement = Arc::new(Placement::new(members, &counts));
    let place = |region: &RegionName, node: &NodeName| Home {
        region: region.clone(),
        node: node.clone(),
        placement: Arc::clone(&placement),
        is_sloppy: false,
    };
    let mut places = vec![place(&us, &node("us-1"))];
    places.extend(eus.iter().map(|node| place(&eu, node)));
    let mut world = Replicas::joined(places.clone().into_iter());
    world.nodes = places
        .into_iter()
        .zip(10..)
        .map(|(place, id)| {
            let is_us = place.node.as_str() == "us-1";
            let bounds = if is_us { UNBOUNDED } else { bounds };
            Region::at(place, DirectoryId(id), bounds)
        })
        .collect();
    world.join();
    world
}

/// What a node sent on its way to one other, and nothing else, arrives.
pub fn only(three: &mut Replicas, from: usize, to: usize) {
    let sent = three.hold(from);
    let session = three.session(from, to);
    let (now, later): (Held, Held) = sent.into_iter().partition(|(of, _)| *of == session);
    for (session, message) in now {
        three.take(to, true, session, message);
    }
    three.nodes[from].sent.extend(later);
}

/// The questions are answered, and the answers are held back: gives them.
pub fn answers_held(three: &mut Replicas, node: usize) -> Vec<(usize, Held)> {
    let sent = three.hold(node);
    let is_question = |message: &Message| matches!(message, Message::Compare(_));
    let (questions, rest): (Held, Held) = sent
        .into_iter()
        .partition(|(_, message)| is_question(message));
    three.nodes[node].sent = rest;
    for (session, message) in questions {
        let to = session.0 as usize % 10;
        three.take(to, true, session, message);
    }
    (0..3)
        .filter(|other| *other != node)
        .map(|other| {
            let sent = std::mem::take(&mut three.nodes[other].sent);
            let is_answer = |message: &Message| {
                matches!(
                    message,
                    Message::Compared { .. }
                        | Message::Repaired { .. }
                        | Message::Unanswered { .. }
                )
            };
            let (answers, rest): (Held, Held) = sent.into_iter().partition(|(session, message)| {
                session.0 as usize / 10 % 10 == node && is_answer(message)
            });
            three.nodes[other].sent = rest;
            (other, answers)
        })
        .collect()
}

/// These answers arrive.
pub fn give(three: &mut Replicas, node: usize, answers: Vec<(usize, Held)>) {
    for (_, held) in answers {
        for (session, message) in held {
            three.take(node, false, session, message);
        }
    }
}

/// A request at a level, carried out or put to others.
pub fn begin_at(three: &mut Replicas, node: usize, action: Action, level: Level) -> RequestId {
    let id = three.nodes[node].request_at("k", action, level);
    three.nodes[node].close();
    id
}

/// What a node has under way to another one, of this kind, as the dialler or as the acceptor.
pub fn pick(
    three: &mut Replicas,
    from: usize,
    to: usize,
    is_wanted: impl Fn(&Message) -> bool,
) -> Held {
    let dialled = three.session(from, to);
    let accepted = three.session(to, from);
    let node = &mut three.nodes[from];
    let mut picked = Vec::new();
    for queue in [&mut node.sent, &mut node.returned] {
        let (wanted, rest): (Held, Held) = std::mem::take(queue)
            .into_iter()
            .partition(|(of, message)| (*of == dialled || *of == accepted) && is_wanted(message));
        *queue = rest;
        picked.extend(wanted);
    }
    picked
}

/// These arrive.
pub fn put(three: &mut Replicas, to: usize, held: Held) {
    for (session, message) in held {
        let is_asked = session.0 as usize % 10 == to;
        three.take(to, is_asked, session, message);
    }
}

/// All that one node has under way to another arrives.
pub fn carry(three: &mut Replicas, from: usize, to: usize) {
    let held = pick(three, from, to, |_| true);
    put(three, to, held);
}

/// Whether it brings rows.
pub fn is_ship(message: &Message) -> bool {
    matches!(message, Message::Ship(_))
}
