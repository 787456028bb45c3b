//! Goal: no order in which messages arrive, are lost or come twice, and no process that ends between, undoes what was acknowledged.
//!
//! Method: stories by chance about one key of three replicas: pipelines through each of them, one message at a time, links that are slow for
//! a while, clocks that differ. Then peace, mostly with two of them. Every read must be explained by the writes beside it and before it. A world
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

fn tell_all(trouble: Trouble, flavour: Flavour) {
    tell(seeds(0..STORIES), trouble, flavour);
}

fn tell(seeds: Range<u64>, trouble: Trouble, flavour: Flavour) {
    let wrong = |seed| {
        let told = Story::new(seed, trouble, flavour).tell();
        told.err().map(|wrong| (seed, wrong))
    };
    let wrong: Vec<(u64, String)> = seeds.filter_map(wrong).collect();
    let seeds: Vec<u64> = wrong.iter().map(|(seed, _)| *seed).collect();
    if let Some((seed, first)) = wrong.first() {
        panic!("seed {seed}: {first}\nand so {trouble:?} {flavour:?} {seeds:?}");
    }
}

#[test]
fn an_element_in_any_order_of_messages() {
    tell_all(Trouble::Order, Flavour::Element);
}

#[test]
fn an_element_with_lost_and_doubled_messages() {
    tell_all(Trouble::Loss, Flavour::Element);
}

#[test]
fn an_element_with_crashes() {
    tell_all(Trouble::Crashes, Flavour::Element);
}

#[test]
fn a_register_in_any_order_of_messages() {
    tell_all(Trouble::Order, Flavour::Register);
}

#[test]
fn a_register_with_lost_and_doubled_messages() {
    tell_all(Trouble::Loss, Flavour::Register);
}

#[test]
fn a_register_with_crashes() {
    tell_all(Trouble::Crashes, Flavour::Register);
}

#[test]
#[ignore = "takes minutes"]
fn ten_thousand_stories_of_each_kind() {
    for flavour in [Flavour::Element, Flavour::Register] {
        for trouble in [Trouble::Order, Trouble::Loss, Trouble::Crashes] {
            tell(seeds(STORIES..STORIES + 10_000), trouble, flavour);
        }
    }
}

/// So many take some seconds without optimization.
const STORIES: u64 = 600;
