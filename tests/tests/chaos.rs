//! Goal: `region-sim chaos` runs a storm of faults on real processes, judges it and writes its report; and its verdict is not
//! always the same.
//! Method: ten seconds of every kind of fault in two regions; then one write that was acknowledged is taken out of what one node was
//! found to hold, and the same run is judged again.

#![allow(
    clippy::unwrap_used,
    reason = "clippy does not know that helpers of tests are tests"
)]

use std::{collections::BTreeMap, fs, time::Duration};

use region_sim::{
    chaos::{
        self, ChaosArgs, Run,
        clients::history,
        ending::Content,
        judge::{Evidence, Ruling, judge},
    },
    workload::{Family, Outcome},
};
use tempfile::TempDir;
use tokio::runtime::Runtime;

#[test]
fn a_short_storm_keeps_every_promise_and_one_lost_write_would_be_found() {
    let dir = TempDir::new().unwrap();
    let args = ChaosArgs {
        seed: Some(11),
        duration: Some(Duration::from_secs(10)),
        scenario: None,
        faults: Vec::new(),
        regions: vec!["us".to_owned(), "eu".to_owned()],
        nodes: Some(3),
        set: Vec::new(),
        report: dir.path().join("report"),
        meridian: None,
    };
    let (run, page) = Runtime::new().unwrap().block_on(chaos::run(&args)).unwrap();
    let verdicts = &run.verdicts;
    assert!(run.has_passed(), "{}: {verdicts:#?}", run.command);
    assert!(!run.wounds.is_empty(), "no fault struck");
    assert!(run.asked.len() > 200, "only {} commands", run.asked.len());
    assert!(!run.samples.is_empty(), "no node gave a figure");
    look_at_report(&run, &fs::read_to_string(page).unwrap());
    let lines = fs::read_to_string(dir.path().join("report/history.jsonl")).unwrap();
    assert_eq!(lines.lines().count(), run.asked.len());
    lose_a_write(run);
}

fn look_at_report(run: &Run, page: &str) {
    assert!(page.contains("every promise held"));
    assert!(page.contains("<svg"));
    assert!(page.contains("region-sim chaos --seed 11 --duration 10s"));
    for verdict in &run.verdicts {
        assert!(page.contains(verdict.words), "{}", verdict.promise);
    }
    for outside in ["<script", "src=\"http", "href=\"http"] {
        assert!(!page.contains(outside), "{outside}");
    }
}

/// Increments that were acknowledged are taken out of what the last node holds.
fn lose_a_write(mut run: Run) {
    let history = history(&run.asked);
    let mut answered: BTreeMap<&[u8], usize> = BTreeMap::new();
    for operation in &history.operations {
        let is_counter = Family::of(&operation.op.key) == Family::Counter;
        if is_counter && matches!(operation.outcome, Outcome::Replied(_)) {
            *answered.entry(&operation.op.key).or_default() += 1;
        }
    }
    let (key, _) = answered.iter().max_by_key(|(_, count)| **count).unwrap();
    let key = history
        .operations
        .iter()
        .find(|operation| operation.op.key == *key);
    let key = key.unwrap().op.key.clone();
    let last = run.ending.nodes.last_mut().unwrap();
    last.values.insert(key, Content::Text(None));
    let name = last.name.clone();
    let verdicts = judge(&Evidence {
        history,
        replicas: run.scenario.topology().unwrap().most_replicas().into(),
        regions: run.scenario.regions.len(),
        ending: run.ending,
        settle_bound: run.scenario.settle,
        surprises: Vec::new(),
        skew_max_ms: 0,
    });
    let broken = |promise: &str| {
        let verdict = verdicts.iter().find(|verdict| verdict.promise == promise);
        match &verdict.unwrap().ruling {
            Ruling::Broken(details) => details.iter().any(|detail| detail.contains(&name)),
            Ruling::Held | Ruling::NotJudged(_) => false,
        }
    };
    assert!(broken("P3"), "{verdicts:#?}");
    assert!(broken("P2"), "{verdicts:#?}");
}
