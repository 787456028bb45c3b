//! P2: hosts that exchanged everything hold equal content, whatever the order, loss or duplication.
//!
//! Two ways. Every host must hold, key by key, the join of exactly those rows that it wrote or took: more than equality, because
//! it also finds what all have lost. And where every host has everything, their digests must be one.

use std::collections::{BTreeMap, BTreeSet};

use crdt::KeyState;
use node::core::op::Key;

use super::{
    Violation,
    holding::{Ending, Holder},
};

/// What is wrong.
pub fn check(ending: &Ending<'_>) -> Vec<Violation> {
    let mut wrong = Vec::new();
    for host in &ending.hosts {
        // One that is alone ships nothing: nobody knows its rows.
        if ending.hosts.len() > 1 {
            wrong.extend(compare(ending, host));
        }
        if host.tally != host.recounted {
            wrong.push(Violation::new(
                "P2",
                format!(
                    "n{} counted {:?} along the way and holds {:?}",
                    host.index, host.tally, host.recounted
                ),
            ));
        }
    }
    wrong.extend(compare_digests(ending));
    wrong
}

fn compare(ending: &Ending<'_>, host: &Holder) -> Vec<Violation> {
    let mut expected: BTreeMap<Key, KeyState> = BTreeMap::new();
    let mut doubtful: BTreeSet<&Key> = BTreeSet::new();
    for row in ending.ledger.standing() {
        // What an origin lost may have been taken before, and what it dropped too; that a host took it, a crash may have made it
        // forget. An actor whose old copy nobody missed goes on over what it lost, until a read brings it back.
        let is_own = row.origin == host.index;
        let is_here_or_not = (row.is_lost && (!is_own || ending.asks_others))
            || (!is_own && ending.ledger.is_in_hole(host.index, row));
        if row.is_doubtful || is_here_or_not {
            doubtful.extend(row.deltas.iter().map(|delta| &delta.key));
        }
        if ending.must_have(host, row) {
            for delta in row.deltas.iter().filter(|delta| host.holds(&delta.key)) {
                expected.entry(delta.key.clone()).or_default().join(delta);
            }
        }
    }
    let nothing = KeyState::default();
    let keys: BTreeSet<&Key> = expected.keys().chain(host.keys.keys()).collect();
    keys.difference(&doubtful)
        .filter_map(|key| {
            let must = expected.get(*key).unwrap_or(&nothing);
            let does = host.keys.get(*key).unwrap_or(&nothing);
            (must != does).then(|| {
                let detail = format!(
                    "n{} holds under {key:?}\n    {does:?}\n  and wrote or took\n    {must:?}",
                    host.index
                );
                Violation::new("P2", detail).about(key)
            })
        })
        .collect()
}

fn compare_digests(ending: &Ending<'_>) -> Option<Violation> {
    let has_everything = |host: &Holder| {
        let region = host.home.placement.region(&host.home.region);
        let holds_everything = region.is_some_and(|region| region.is_whole());
        holds_everything
            && ending
                .ledger
                .standing()
                .all(|row| !row.is_doubtful && !row.is_lost && ending.must_have(host, row))
    };
    let whole: Vec<&Holder> = ending
        .hosts
        .iter()
        .filter(|host| has_everything(host))
        .collect();
    let differ = whole
        .windows(2)
        .any(|pair| pair[0].tally != pair[1].tally || pair[0].keys != pair[1].keys);
    differ.then(|| {
        let digests: Vec<String> = whole
            .iter()
            .map(|host| format!("n{} {:?}", host.index, host.tally))
            .collect();
        Violation::new(
            "P2",
            format!("hosts that have everything differ: {}", digests.join(", ")),
        )
    })
}
