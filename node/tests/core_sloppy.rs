//! Goal: with `consistency.sloppy` nodes that are no replicas take writes in the place of replicas that are away, count for what they
//! were sent in their place and for nothing else, and hand it back.
//!
//! Method: five nodes of one region with three replicas of each key, joined by hand; two of a key's replicas are away.

#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, its helpers too"
)]

mod core_support;

use std::{collections::BTreeSet, sync::Arc};

use core_support::{home, replicas::Replicas, set};
use node::{
    core::{
        Input,
        op::Action,
        reply::{Refusal, Reply},
    },
    level::Level,
    names::NodeName,
    placement::Partition,
};

const NODES: [&str; 5] = ["us-1", "us-2", "us-3", "us-4", "us-5"];
const KEY: &str = "k";

/// Five nodes, as indices: those that hold the key, best first, then those that stand in, in their order.
struct Five {
    nodes: Replicas,
    holds: [usize; 3],
    stand_ins: [usize; 2],
}

impl Five {
    fn new(is_sloppy: bool) -> Self {
        let place = |node| {
            let mut home = home("us", node, &[("us", &NODES)], 3);
            home.is_sloppy = is_sloppy;
            home
        };
        let homes: Vec<_> = NODES.into_iter().map(place).collect();
        let region = homes[0].placement.region(&homes[0].region).unwrap();
        let index = |node: &NodeName| NODES.iter().position(|name| *name == node.as_str());
        let partition = Partition::of(KEY.as_bytes());
        let order: Vec<usize> = region
            .preferred_nodes(partition)
            .chain(region.stand_ins(partition))
            .filter_map(index)
            .collect();
        Self {
            nodes: Replicas::joined(homes.clone().into_iter()),
            holds: order[..3].try_into().unwrap(),
            stand_ins: order[3..].try_into().unwrap(),
        }
    }

    /// Nothing gets to or from the second and the third replica.
    fn cut_off(&mut self) {
        self.holds[1..]
            .iter()
            .for_each(|away| self.nodes.cut_off(*away));
    }

    /// Everybody believes that just these live.
    fn trust(&mut self, alive: &[usize]) {
        let trusted: BTreeSet<NodeName> =
            alive.iter().map(|at| NODES[*at].parse().unwrap()).collect();
        let trusted = Arc::new(trusted);
        for node in &mut self.nodes.nodes {
            node.input(Input::Trusted(Arc::clone(&trusted)));
        }
        self.nodes.deliver();
    }

    fn lose_two(&mut self) {
        self.cut_off();
        self.trust(&[self.holds[0], self.stand_ins[0], self.stand_ins[1]]);
    }

    fn value(&self, at: usize) -> Option<String> {
        self.nodes.nodes[at].storage_value(KEY)
    }
}

#[test]
fn stand_ins_take_a_write_and_hand_it_back() {
    let mut five = Five::new(true);
    five.lose_two();
    assert_eq!(five.nodes.write(five.holds[0], KEY, set("v")), Reply::Ok);
    for stand_in in five.stand_ins {
        assert_eq!(five.value(stand_in), None, "a hint is no copy");
        let owed = five.nodes.nodes[stand_in].hints(NODES[five.holds[1]]);
        assert_eq!(owed, 1, "through {}", NODES[stand_in]);
    }
    // The only replica that has it dies with its disk: the stand-ins are enough.
    five.nodes.cut.clear();
    five.nodes.cut_off(five.holds[0]);
    let [dead, others @ ..] = five.holds;
    five.trust(&[others[0], others[1], five.stand_ins[0], five.stand_ins[1]]);
    five.nodes.deliver();
    for other in others {
        assert_eq!(five.value(other), Some("v".to_owned()));
    }
    five.nodes.mend();
    five.trust(&[0, 1, 2, 3, 4]);
    for stand_in in five.stand_ins {
        for node in [dead, others[0], others[1]] {
            let owed = five.nodes.nodes[stand_in].hints(NODES[node]);
            assert_eq!(owed, 0, "{} owes {}", NODES[stand_in], NODES[node]);
        }
    }
}

#[test]
fn a_stand_in_that_died_still_hands_back_what_it_took() {
    let mut five = Five::new(true);
    five.lose_two();
    assert_eq!(five.nodes.write(five.holds[0], KEY, set("v")), Reply::Ok);
    five.nodes.lose(five.holds[0]);
    five.nodes.cut.clear();
    five.nodes.cut_off(five.holds[0]);
    let stand_in = five.stand_ins[0];
    five.nodes.nodes[stand_in].restart();
    five.nodes.cut_off(five.stand_ins[1]);
    five.nodes.join();
    assert_eq!(five.value(five.holds[1]), Some("v".to_owned()));
}

#[test]
fn nobody_stands_in_where_that_is_not_wanted() {
    let mut five = Five::new(false);
    five.lose_two();
    let reply = five.nodes.write(five.holds[0], KEY, set("v"));
    assert!(
        matches!(reply, Reply::Error(Refusal::NoQuorum { applied: None, .. })),
        "{reply:?}"
    );
}

#[test]
fn a_stand_in_does_not_count_for_what_it_was_sent_before_it_stood_in() {
    let mut five = Five::new(true);
    five.cut_off();
    // Nobody knows yet that two are away: those who stand in later are sent nothing of this write.
    let id = five
        .nodes
        .begin(five.holds[0], KEY, Action::Write(set("v")));
    five.trust(&[five.holds[0], five.stand_ins[0], five.stand_ins[1]]);
    five.nodes.deliver();
    assert_eq!(five.nodes.reply(five.holds[0], id), None);
    assert_eq!(five.nodes.write(five.holds[0], KEY, set("w")), Reply::Ok);
    assert_eq!(five.nodes.reply(five.holds[0], id), None);
    five.nodes.mend();
    five.trust(&[0, 1, 2, 3, 4]);
    five.nodes.deliver();
    assert_eq!(five.nodes.reply(five.holds[0], id), Some(Reply::Ok));
}

/// A node that was believed dead for a moment, on a session that goes on: its answer to what it was sent before comes late.
#[test]
fn a_stand_in_does_not_count_for_a_late_answer_to_what_it_was_sent_before_it_stood_in() {
    let mut five = Five::new(true);
    let through = five.holds[0];
    five.cut_off();
    let id = five.nodes.begin(through, KEY, Action::Write(set("v")));
    five.nodes.deliver_from(through);
    let late = five
        .stand_ins
        .map(|at| std::mem::take(&mut five.nodes.nodes[at].returned));
    assert!(late.iter().all(|answers| !answers.is_empty()));
    for alive in [
        &[through][..],
        &[through, five.stand_ins[0], five.stand_ins[1]],
    ] {
        let trusted = alive.iter().map(|at| NODES[*at].parse().unwrap());
        let trusted = Arc::new(trusted.collect::<BTreeSet<NodeName>>());
        five.nodes.nodes[through].input(Input::Trusted(trusted));
    }
    // What it is sent again now, as a hint, is under way.
    let again = five.nodes.hold(through);
    for (at, answers) in five.stand_ins.into_iter().zip(late) {
        five.nodes.nodes[at].returned.extend(answers);
    }
    five.nodes.deliver();
    assert_eq!(five.nodes.reply(through, id), None, "nobody else has it");
    five.nodes.release(through, again);
    five.nodes.mend();
    five.trust(&[0, 1, 2, 3, 4]);
    five.nodes.deliver();
    assert_eq!(five.nodes.reply(through, id), Some(Reply::Ok));
}

#[test]
fn all_means_replicas() {
    let mut five = Five::new(true);
    five.lose_two();
    let node = &mut five.nodes.nodes[five.holds[0]];
    let id = node.request_at(KEY, Action::Write(set("v")), Level::All);
    node.close();
    let reply = five.nodes.reply(five.holds[0], id);
    assert!(
        matches!(
            reply,
            Some(Reply::Error(Refusal::NoQuorum { applied: None, .. }))
        ),
        "{reply:?}"
    );
}

/// Sloppy: those who stand in were sent the write before that, without its row; they leave the placement and come back within their
/// sessions; their answers come late.
#[test]
fn p1_a_stand_in_that_was_placed_anew_does_not_count_for_late_answers() {
    let place = |node: &str, nodes: &[&str]| {
        let mut home = home("us", node, &[("us", nodes)], 3);
        home.is_sloppy = true;
        home
    };
    let homes: Vec<_> = NODES.iter().map(|node| place(node, &NODES)).collect();
    let region = homes[0].placement.region(&homes[0].region).unwrap();
    let partition = Partition::of(b"k");
    let index = |node: &NodeName| {
        NODES
            .iter()
            .position(|name| *name == node.as_str())
            .unwrap()
    };
    let order: Vec<usize> = region
        .preferred_nodes(partition)
        .chain(region.stand_ins(partition))
        .map(index)
        .collect();
    let mut five = Replicas::joined(homes.clone().into_iter());
    let through = order[0];
    five.cut_off(order[1]);
    five.cut_off(order[2]);
    let id = five.begin(through, "k", Action::Write(set("v")));
    five.deliver_from(through);
    let late: Vec<_> = order[3..]
        .iter()
        .map(|at| (*at, std::mem::take(&mut five.nodes[*at].returned)))
        .collect();
    assert!(late.iter().all(|(_, answers)| !answers.is_empty()));
    // The two are not placed for a moment.
    let three: Vec<&str> = order[..3].iter().map(|at| NODES[*at]).collect();
    let before = Arc::clone(&homes[0].placement);
    let fewer = place(NODES[through], &three).placement;
    five.nodes[through].input(Input::Placed(fewer));
    five.nodes[through].input(Input::Placed(before));
    let trusted = [through, order[3], order[4]].map(|at| NODES[at].parse().unwrap());
    let trusted: BTreeSet<NodeName> = trusted.into();
    five.nodes[through].input(Input::Trusted(Arc::new(trusted)));
    let again = five.hold(through);
    for (at, answers) in late {
        five.nodes[at].returned.extend(answers);
    }
    five.deliver();
    assert_eq!(five.reply(through, id), None, "nobody else has it");
    drop(again);
}
