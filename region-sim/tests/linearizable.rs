//! Goal: inside a region, at LOCAL_QUORUM, a register that one client writes is linearizable; and what says so can be believed.
//!
//! Method: stateright's tester, which searches through all orders, judges random histories beside this project's check, and the
//! beginnings of what simulated worlds recorded: its search takes exponential time, so not more of them. The same worlds at
//! level ONE are the control: there both must find what is wrong.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use node::level::Level;
use proptest::prelude::*;
use region_sim::{
    check::linear::{Access, accesses, judge},
    sim::{self, plan::Plan, trace::TraceMode, variation::Variation},
    workload::Family,
};
use stateright::semantics::{
    ConsistencyTester, LinearizabilityTester,
    register::{Register, RegisterOp, RegisterRet},
};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn the_check_agrees_with_a_search_through_all_orders(accesses in history()) {
        prop_assert_eq!(judge(&accesses).is_ok(), is_linearizable(&accesses), "{:#?}", accesses);
    }
}

#[test]
fn registers_of_one_writer_are_linearizable_at_local_quorum() {
    let mut judged = 0;
    for register in registers(0..220, &Variation::default()) {
        let beginning = beginning(&register, SEARCHED_MAX);
        assert!(is_linearizable(&beginning), "{beginning:#?}");
        judged += beginning.len();
    }
    assert!(
        judged > 500,
        "{judged} accesses are too few to say anything"
    );
}

#[test]
fn some_registers_are_not_linearizable_at_level_one() {
    let control = Variation {
        level: Some(Level::Replicas(std::num::NonZeroU8::MIN)),
        ..Variation::default()
    };
    let mut caught = 0;
    for register in registers(0..150, &control) {
        let shortest = (1..=register.len())
            .map(|length| beginning(&register, length))
            .find(|beginning| judge(beginning).is_err());
        let Some(shortest) = shortest.filter(|shortest| shortest.len() <= REFUTED_MAX) else {
            continue;
        };
        assert!(!is_linearizable(&shortest), "{shortest:#?}");
        caught += 1;
    }
    assert!(caught > 5, "{caught} registers: the check finds too little");
}

/// The registers with one writer of worlds of one region with several replicas.
fn registers(
    seeds: std::ops::Range<u64>,
    variation: &Variation,
) -> impl Iterator<Item = Vec<Access>> {
    let variation = variation.clone();
    let plans = seeds.map(move |seed| (seed, Plan::draw(seed, &variation), variation.clone()));
    let worlds = plans.filter(|(_, plan, _)| plan.replicas > 1 && plan.region_count() == 1);
    worlds.flat_map(|(seed, plan, variation)| {
        let recorded = sim::outcomes_of(seed, &variation, TraceMode::Off).history;
        let history = recorded.promised(|operation| plan.overlaps(operation.op.level));
        let keys = history.keys().into_iter();
        let owned = keys.filter(|(_, family)| *family == Family::Owned);
        let registers: Vec<_> = owned.map(|(key, _)| accesses(&history, &key)).collect();
        registers
    })
}

/// The first accesses. What went on when the last of them ended is unfinished.
fn beginning(register: &[Access], count: usize) -> Vec<Access> {
    let mut ends: Vec<Duration> = register.iter().filter_map(|access| access.ended).collect();
    ends.sort();
    let Some(&now) = ends.get(count.min(ends.len()).wrapping_sub(1)) else {
        return Vec::new();
    };
    let begun = register.iter().filter(|access| access.begun < now);
    let seen = begun.map(|access| Access {
        ended: access.ended.filter(|ended| *ended <= now),
        ..access.clone()
    });
    seen.filter(|access| access.is_write || access.ended.is_some())
        .collect()
}

/// What stateright says of a history.
fn is_linearizable(accesses: &[Access]) -> bool {
    let mut tester = LinearizabilityTester::new(Register(None));
    let mut threads = Threads::default();
    for (at, is_end) in steps(accesses) {
        let access = &accesses[at];
        let op = match access.is_write {
            true => RegisterOp::Write(access.value.clone()),
            false => RegisterOp::Read,
        };
        let ret = match access.is_write {
            true => RegisterRet::WriteOk,
            false => RegisterRet::ReadOk(access.value.clone()),
        };
        let told = if is_end {
            tester.on_return(threads.end(at), ret)
        } else {
            tester.on_invoke(threads.begin(at, access), op)
        };
        told.expect("a thread does one thing after the other");
    }
    tester.is_consistent()
}

/// Beginnings and ends, by time; at one time beginnings come first: only what ended before is over.
fn steps(accesses: &[Access]) -> Vec<(usize, bool)> {
    let is_read = |value: &Option<Bytes>| {
        accesses
            .iter()
            .any(|read| !read.is_write && read.value == *value)
    };
    let mut steps = Vec::new();
    for (at, access) in accesses.iter().enumerate() {
        match access.ended {
            Some(ended) => steps.extend([(access.begun, false, at), (ended, true, at)]),
            // What nobody saw and nobody answered for may as well never have been.
            None if is_read(&access.value) => steps.push((access.begun, false, at)),
            None => {}
        }
    }
    steps.sort();
    steps.into_iter().map(|(_, end, at)| (at, end)).collect()
}

/// Accesses as those of threads, each of which does one thing after the other. The search takes time for each thread.
#[derive(Default)]
struct Threads {
    busy: BTreeMap<usize, usize>,
}

impl Threads {
    fn begin(&mut self, access: usize, what: &Access) -> usize {
        // What never returns keeps its thread, and is tried last.
        let first = if what.ended.is_some() { 0 } else { UNFINISHED };
        let is_busy = |thread: &usize| self.busy.values().any(|busy| busy == thread);
        let free = (first..).find(|thread| !is_busy(thread));
        let thread = free.expect("there are more threads than accesses");
        self.busy.insert(access, thread);
        thread
    }

    fn end(&mut self, access: usize) -> usize {
        self.busy
            .remove(&access)
            .expect("what ends has begun before")
    }
}

/// What a register that works may have recorded, with some of its reads changed.
fn history() -> impl Strategy<Value = Vec<Access>> {
    let access = (
        any::<bool>(),
        1u64..100,
        1u64..40,
        0u64..40,
        prop::bool::weighted(0.8),
    );
    let changes = prop::collection::vec((0usize..10, 0usize..10), 0..2);
    (prop::collection::vec(access, 1..10), changes).prop_map(|(drawn, changes)| {
        let mut moments: Vec<(u64, usize)> = drawn
            .iter()
            .enumerate()
            .map(|(at, (_, begun, length, moment, _))| (begun + moment % length, at))
            .collect();
        moments.sort_unstable();
        let mut shown: Option<Bytes> = None;
        let mut values = vec![None; drawn.len()];
        for (_, at) in moments {
            if drawn[at].0 {
                shown = Some(Bytes::from(at.to_string()));
            }
            values[at].clone_from(&shown);
        }
        for (at, from) in changes {
            let (at, from) = (at % drawn.len(), from % drawn.len());
            if !drawn[at].0 {
                values[at] = values[from].clone();
            }
        }
        let accesses = drawn.iter().zip(values);
        accesses
            .map(|((is_write, begun, length, _, is_known), value)| Access {
                value,
                is_write: *is_write,
                begun: Duration::from_millis(*begun),
                ended: (*is_known || !is_write).then(|| Duration::from_millis(begun + length)),
            })
            .collect()
    })
}

/// Accesses that are searched through, at most.
const SEARCHED_MAX: usize = 40;
/// The same where there is no order to be found: all of them are tried.
const REFUTED_MAX: usize = 16;
/// Threads from here on do one thing and never end it.
const UNFINISHED: usize = 1_000_000;
