use std::collections::BTreeSet;

use node::{
    core::{
        op::{Action, Condition, Op, Read, SetExpiry, Write},
        reply::Reply,
    },
    level::Level,
};

use super::*;
use crate::workload::Outcome;

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// A run of two nodes that ended well.
fn run() -> Evidence {
    let node = |name: &str| NodeEnding {
        name: name.to_owned(),
        ..NodeEnding::default()
    };
    Evidence {
        ending: Ending {
            settled_after: Some(ms(900)),
            nodes: vec![node("us-1"), node("us-2")],
            ..Ending::default()
        },
        replicas: 2,
        regions: 1,
        settle_bound: ms(30_000),
        ..Evidence::default()
    }
}

impl Evidence {
    fn asked(mut self, at: u64, key: &'static str, action: Action, reply: Option<Reply>) -> Self {
        let op = Op {
            key: Key::from_static(key.as_bytes()),
            action,
            level: Level::default(),
        };
        let id = self.history.invoke(0, 0, op, ms(at));
        match reply {
            Some(reply) => self.history.complete(id, &reply, ms(at + 5)),
            None => self.history.abandon(id, Outcome::Unknown, ms(at + 5)),
        };
        self
    }

    fn holds(mut self, key: &'static str, content: [Content; 2]) -> Self {
        for (node, content) in self.ending.nodes.iter_mut().zip(content) {
            node.values
                .insert(Key::from_static(key.as_bytes()), content);
        }
        self
    }

    fn broken(&self) -> Vec<(&'static str, String)> {
        let verdicts = judge(self);
        let broken = verdicts
            .into_iter()
            .filter_map(|verdict| match verdict.ruling {
                Ruling::Broken(details) => Some((verdict.promise, details.join("; "))),
                Ruling::Held | Ruling::NotJudged(_) => None,
            });
        broken.collect()
    }

    fn broken_promises(&self) -> Vec<&'static str> {
        self.broken()
            .into_iter()
            .map(|(promise, _)| promise)
            .collect()
    }
}

fn set(value: &'static str) -> Action {
    Action::Write(Write::Set {
        value: Bytes::from_static(value.as_bytes()),
        expiry: SetExpiry::Clear,
        condition: Condition::Always,
        return_old: false,
    })
}

fn increment(by: i64) -> Action {
    Action::Write(Write::IncrBy { by })
}

fn add(member: &'static str) -> Action {
    Action::Write(Write::Add {
        members: vec![Bytes::from_static(member.as_bytes())],
    })
}

fn text(text: &'static str) -> Content {
    Content::Text(Some(Bytes::from_static(text.as_bytes())))
}

fn members(members: &[&'static str]) -> Content {
    let bytes = members
        .iter()
        .map(|member| Bytes::from_static(member.as_bytes()));
    Content::Members(bytes.collect::<BTreeSet<_>>())
}

#[test]
fn a_run_in_which_all_is_well_is_held() {
    let evidence = run()
        .asked(0, "r1@0", set("v1"), Some(Reply::Ok))
        .asked(10, "c1@0", increment(3), Some(Reply::Int(3)))
        .asked(20, "c1@0", increment(2), None)
        .asked(30, "u1@0", add("e1"), Some(Reply::Int(1)))
        .holds("r1@0", [text("v1"), text("v1")])
        .holds("c1@0", [text("5"), text("5")])
        .holds("u1@0", [members(&["e1"]), members(&["e1"])]);
    let verdicts = judge(&evidence);
    assert_eq!(verdicts.len(), PROMISES.len());
    assert!(
        verdicts
            .iter()
            .all(|verdict| verdict.ruling == Ruling::Held),
        "{verdicts:?}"
    );
}

#[test]
fn a_lost_acknowledged_write_is_found_in_the_node_that_lost_it() {
    let evidence = run()
        .asked(0, "r1@0", set("v1"), Some(Reply::Ok))
        .asked(10, "r1@0", set("v2"), Some(Reply::Ok))
        .holds("r1@0", [text("v2"), text("v1")]);
    let broken = evidence.broken();
    let lost: Vec<_> = broken
        .iter()
        .filter(|(promise, _)| *promise == "P1")
        .collect();
    assert_eq!(lost.len(), 1, "{broken:?}");
    assert!(
        lost[0].1.starts_with("us-2 under") && lost[0].1.contains("overwritten"),
        "{broken:?}"
    );
    // And the two show different things, though nothing waits.
    assert!(evidence.broken_promises().contains(&"P2"));
}

#[test]
fn a_write_that_nobody_knows_of_may_be_there_or_not() {
    for value in ["v1", "v2"] {
        let evidence = run()
            .asked(0, "r1@0", set("v1"), Some(Reply::Ok))
            .asked(10, "r1@0", set("v2"), None)
            .holds("r1@0", [text(value), text(value)]);
        assert_eq!(evidence.broken(), []);
    }
}

#[test]
fn increments_and_members_that_were_acknowledged_and_are_missing_are_found() {
    let evidence = run()
        .asked(0, "c1@0", increment(3), Some(Reply::Int(3)))
        .asked(10, "u1@0", add("e1"), Some(Reply::Int(1)))
        .holds("c1@0", [text("2"), text("2")])
        .holds("u1@0", [members(&[]), members(&[])]);
    assert_eq!(evidence.broken_promises(), ["P3", "P4"]);
}

#[test]
fn a_stale_read_is_found_unless_clocks_were_too_far_off() {
    let stale = Reply::Bulk(Bytes::from_static(b"v1"));
    let mut evidence = run()
        .asked(0, "r1@0", set("v1"), Some(Reply::Ok))
        .asked(10, "r1@0", set("v2"), Some(Reply::Ok))
        .asked(20, "r1@0", Action::Read(Read::Get), Some(stale))
        .holds("r1@0", [text("v2"), text("v2")]);
    assert_eq!(evidence.broken_promises(), ["P7"]);
    evidence.skew_max_ms = 301;
    assert_eq!(evidence.broken(), []);
}

#[test]
fn what_waits_or_differs_or_died_in_the_end_is_found() {
    let mut evidence = run();
    evidence.ending.settled_after = None;
    evidence.ending.nodes[1]
        .waiting
        .push("keeps 3 hints for us-1".to_owned());
    evidence
        .ending
        .differences
        .push("partition 7: us-1 0a, us-2 0b".to_owned());
    evidence.surprises.push("us-2 died by itself".to_owned());
    let broken = evidence.broken();
    let promises: Vec<_> = broken.iter().map(|(promise, _)| *promise).collect();
    assert_eq!(promises, ["P2", "P6", ALIVE]);
    assert!(broken[1].1.contains("us-2: keeps 3 hints"), "{broken:?}");
}
