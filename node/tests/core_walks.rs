//! Goal: three replicas answer one connection at a time like a single copy, whoever missed what (P7).
//!
//! Method: random commands on one key, a few at once through one replica, another time through another one, whose clock differs. One of the
//! other two may hear nothing meanwhile; what was on its way to it arrives later, also in the middle of other commands. Each answer is what a
//! model of one copy says. Counts that depend on what others had not heard yet (of DEL, SADD, SREM) are not looked at.

#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, its helpers too"
)]

mod core_support;

use std::collections::BTreeSet;

use core_support::{
    WALL_MS, add, bulk, bytes,
    missed::{Held, arrive, members},
    remove,
    replicas::Replicas,
    set,
};
use node::core::{
    op::{Action, Condition, Read, SetExpiry, Write},
    reply::Reply,
};
use proptest::prelude::*;

/// What is asked at once, and what happens meanwhile.
#[derive(Debug, Clone)]
struct Round<T> {
    through: usize,
    /// One of the others hears nothing.
    is_missed: bool,
    asked: Vec<T>,
    /// What was held back arrives behind the first so many messages of this round, if at all in this round.
    arrives_after: Option<usize>,
}

#[derive(Debug, Clone)]
enum OnString {
    Set(u8),
    SetIfAbsent(u8),
    Append(u8),
    Delete,
    Get,
}

#[derive(Debug, Clone)]
enum OnSet {
    Add(u8),
    Remove(u8),
    Delete,
    Members,
}

/// A single copy.
trait Copy: Default {
    type Asked: Clone + std::fmt::Debug;

    fn action(asked: &Self::Asked) -> Action;
    /// Carries it out; gives the answer where it is always the same.
    fn answer(&mut self, asked: &Self::Asked) -> Option<Reply>;
    /// What all replicas are to show in the end.
    fn shown(&self) -> (Read, Reply);
}

#[derive(Default)]
struct OneString(Option<String>);

impl Copy for OneString {
    type Asked = OnString;

    fn action(asked: &OnString) -> Action {
        match asked {
            OnString::Set(value) => Action::Write(set(&value.to_string())),
            OnString::SetIfAbsent(value) => Action::Write(Write::Set {
                value: bytes(&value.to_string()),
                expiry: SetExpiry::Clear,
                condition: Condition::IfAbsent,
                return_old: false,
            }),
            OnString::Append(value) => Action::Write(Write::Append {
                value: bytes(&value.to_string()),
            }),
            OnString::Delete => Action::Write(Write::Delete),
            OnString::Get => Action::Read(Read::Get),
        }
    }

    fn answer(&mut self, asked: &OnString) -> Option<Reply> {
        match asked {
            OnString::Set(value) => {
                self.0 = Some(value.to_string());
                Some(Reply::Ok)
            }
            OnString::SetIfAbsent(_) if self.0.is_some() => Some(Reply::Nil),
            OnString::SetIfAbsent(value) => {
                self.0 = Some(value.to_string());
                Some(Reply::Ok)
            }
            OnString::Append(value) => {
                let text = self.0.get_or_insert_default();
                text.push_str(&value.to_string());
                Some(Reply::Int(text.len() as i64))
            }
            OnString::Delete => {
                self.0 = None;
                None
            }
            OnString::Get => Some(self.shown().1),
        }
    }

    fn shown(&self) -> (Read, Reply) {
        let value = self.0.as_deref().map_or(Reply::Nil, bulk);
        (Read::Get, value)
    }
}

#[derive(Default)]
struct OneSet(BTreeSet<String>);

impl Copy for OneSet {
    type Asked = OnSet;

    fn action(asked: &OnSet) -> Action {
        match asked {
            OnSet::Add(member) => Action::Write(add(&[&member.to_string()])),
            OnSet::Remove(member) => Action::Write(remove(&[&member.to_string()])),
            OnSet::Delete => Action::Write(Write::Delete),
            OnSet::Members => Action::Read(Read::Members),
        }
    }

    fn answer(&mut self, asked: &OnSet) -> Option<Reply> {
        match asked {
            OnSet::Add(member) => {
                self.0.insert(member.to_string());
                None
            }
            OnSet::Remove(member) => {
                self.0.remove(&member.to_string());
                None
            }
            OnSet::Delete => {
                self.0.clear();
                None
            }
            OnSet::Members => Some(self.shown().1),
        }
    }

    fn shown(&self) -> (Read, Reply) {
        let members = self.0.iter().map(|member| bulk(member));
        (Read::Members, Reply::Set(members.collect()))
    }
}

/// Replies as they compare: the order of elements says nothing.
fn sorted(reply: Reply) -> Reply {
    match reply {
        Reply::Set(_) => Reply::Set(members(&reply).iter().map(|member| bulk(member)).collect()),
        other => other,
    }
}

fn walk<C: Copy>(clocks: [u64; 3], rounds: Vec<Round<C::Asked>>) -> Result<(), TestCaseError> {
    let mut three = Replicas::three();
    for (node, ahead_ms) in three.nodes.iter_mut().zip(clocks) {
        node.wall_ms = WALL_MS + ahead_ms;
    }
    let mut copy = C::default();
    let mut held: Vec<Vec<Held>> = Vec::new();
    for round in rounds {
        let through = round.through;
        if round.is_missed {
            three.cut_off((through + 1) % 3);
        }
        let ids: Vec<_> = round
            .asked
            .iter()
            .map(|asked| three.nodes[through].request("k", C::action(asked)))
            .collect();
        three.nodes[through].close();
        if let Some(count) = round.arrives_after {
            let mut later = three.hold(through);
            let now: Held = later.drain(..count.min(later.len())).collect();
            three.release(through, now);
            held.drain(..).for_each(|held| arrive(&mut three, held));
            three.release(through, later);
        }
        three.live(0..3, 15);
        for (asked, id) in round.asked.iter().zip(ids) {
            let reply = three.reply(through, id).map(sorted);
            let expected = copy.answer(asked);
            prop_assert!(
                reply.is_some(),
                "{asked:?} through {through} is not answered"
            );
            if expected.is_some() {
                prop_assert_eq!(reply, expected, "{:?} through {}", asked, through);
            }
        }
        if round.is_missed {
            held.push((0..3).map(|node| three.hold(node)).collect());
            three.cut.clear();
        }
    }
    held.drain(..).for_each(|held| arrive(&mut three, held));
    three.live(0..3, 20);
    let (read, expected) = copy.shown();
    for node in 0..3 {
        let shown = sorted(three.read(node, "k", read.clone()));
        prop_assert_eq!(shown, expected.clone(), "in the end, through {}", node);
    }
    Ok(())
}

fn rounds<T: Clone + std::fmt::Debug + 'static>(
    asked: impl Strategy<Value = T> + 'static,
) -> impl Strategy<Value = Vec<Round<T>>> {
    let asked = prop::collection::vec(asked, 1..4);
    let arrives_after = prop::option::of(0_usize..4);
    let round = (0_usize..3, any::<bool>(), asked, arrives_after);
    let round = round.prop_map(|(through, is_missed, asked, arrives_after)| Round {
        through,
        is_missed,
        asked,
        arrives_after,
    });
    prop::collection::vec(round, 1..14)
}

fn clocks() -> impl Strategy<Value = [u64; 3]> {
    prop::array::uniform3(0_u64..800)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: CASES, ..ProptestConfig::default() })]

    #[test]
    fn strings_are_as_one_copy(clocks in clocks(), rounds in rounds(prop_oneof![
        (0_u8..10).prop_map(OnString::Set),
        (0_u8..10).prop_map(OnString::SetIfAbsent),
        (0_u8..10).prop_map(OnString::Append),
        Just(OnString::Delete),
        Just(OnString::Get),
    ])) {
        walk::<OneString>(clocks, rounds)?;
    }

    #[test]
    fn sets_are_as_one_copy(clocks in clocks(), rounds in rounds(prop_oneof![
        (0_u8..4).prop_map(OnSet::Add),
        (0_u8..4).prop_map(OnSet::Remove),
        Just(OnSet::Delete),
        Just(OnSet::Members),
    ])) {
        walk::<OneSet>(clocks, rounds)?;
    }
}

const CASES: u32 = 300;
