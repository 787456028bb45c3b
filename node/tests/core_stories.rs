//! Goal: no order in which messages arrive, are lost or come twice, and no process that ends between, undoes what was acknowledged.
//!
//! Method: stories by chance about one key of three replicas, or five: pipelines through each of them, one message at a time, links that are slow for
//! a while, clocks that differ. Then peace, mostly without a minority of them. Every read must be explained by the writes beside it and before it. A world
//! of the simulator has hundreds of keys and honest queues; here everything is about one, in orders that no queue gives.
//!
//! `MERIDIAN_STORIES=40000..80000` tells those of these seeds instead.

#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking, its helpers too"
)]

mod core_support;
mod stories;

use std::ops::Range;

use stories::{Flavour, Story, Trouble};

fn seeds(usual: Range<u64>) -> Range<u64> {
    let Ok(asked) = std::env::var("MERIDIAN_STORIES") else {
        return usual;
    };
    let (from, to) = asked
        .split_once("..")
        .expect("MERIDIAN_STORIES is FROM..TO");
    from.parse().expect("a number")..to.parse().expect("a number")
}

fn tell(trouble: Trouble, seeds: Range<u64>) {
    for flavour in Flavour::ALL {
        let wrong = |seed| {
            let told = Story::new(seed, trouble, flavour).tell();
            told.err().map(|wrong| (seed, wrong))
        };
        let wrong: Vec<(u64, String)> = seeds.clone().filter_map(wrong).collect();
        let seeds: Vec<u64> = wrong.iter().map(|(seed, _)| *seed).collect();
        if let Some((seed, first)) = wrong.first() {
            panic!("seed {seed}: {first}\nand so {trouble:?} {flavour:?} {seeds:?}");
        }
    }
}

#[test]
fn in_any_order_of_messages() {
    tell(Trouble::Order, seeds(0..STORIES));
}

#[test]
fn with_lost_and_doubled_messages() {
    tell(Trouble::Loss, seeds(0..STORIES));
}

#[test]
fn with_crashes() {
    tell(Trouble::Crashes, seeds(0..STORIES));
}

#[test]
#[ignore = "takes minutes"]
fn ten_thousand_stories_of_each_kind() {
    for trouble in Trouble::ALL {
        tell(trouble, seeds(STORIES..STORIES + 10_000));
    }
}

/// So many take some seconds without optimization.
const STORIES: u64 = 400;
