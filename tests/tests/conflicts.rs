//! Goal: whoever loses a write to another region can find out which, and how often.
//! Method: real processes in three regions that are cut off from each other, write the same keys, and are joined again.

#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, its helpers too"
)]

use tests::{
    client::Value,
    patience::{eventually, holds},
    world::{LIMIT, World},
};

fn field(map: &Value, name: &str) -> Value {
    let Value::Array(items) = map else {
        panic!("no map: {map:?}");
    };
    let mut pairs = items.chunks_exact(2);
    let pair = pairs.find(|pair| pair[0].text().as_deref() == Some(name));
    pair.unwrap_or_else(|| panic!("no {name} in {map:?}"))[1].clone()
}

fn conflicts(world: &World, node: &str) -> Vec<Value> {
    let Value::Array(all) = world.client(node).call(&["CONFLICTS"]) else {
        panic!("{node} answers no array");
    };
    all
}

#[test]
fn a_value_that_was_overwritten_unseen_is_shown_where_it_lost() {
    let world = World::start();
    let [mut us, mut eu, _] = world.clients();
    us.call(&["SET", "seen", "first"]);
    world.await_everywhere(LIMIT, &["GET", "seen"], "first");
    eu.call(&["SET", "seen", "second"]);
    world.await_converged();
    assert!(conflicts(&world, "us-1").is_empty() && conflicts(&world, "eu-1").is_empty());

    world.partition_all();
    us.call(&["SET", "unseen", "lost"]);
    us.call(&["SADD", "types", "member"]);
    // Later by the clocks, which are one here.
    eu.call(&["SET", "unseen", "kept"]);
    eu.call(&["SET", "types", "text"]);
    world.heal();
    world.await_everywhere(LIMIT, &["GET", "unseen"], "kept");
    eventually(LIMIT, "eu-1 shows both", || {
        let all = conflicts(&world, "eu-1");
        holds(all.len() == 2, || format!("{all:?}"))
    });
    let all = conflicts(&world, "eu-1");
    let of = |kind: &str| {
        let is_it = |conflict: &&Value| field(conflict, "kind").text().as_deref() == Some(kind);
        all.iter()
            .find(is_it)
            .unwrap_or_else(|| panic!("no {kind} in {all:?}"))
    };
    let region = |conflict: &Value, side: &str| field(&field(conflict, side), "region").text();
    let overwritten = of("overwritten");
    assert_eq!(field(overwritten, "key").text().as_deref(), Some("unseen"));
    assert_eq!(region(overwritten, "kept").as_deref(), Some("eu"));
    assert_eq!(region(overwritten, "lost").as_deref(), Some("us"));
    assert_eq!(
        field(of("two_types"), "key").text().as_deref(),
        Some("types")
    );

    let counted = |node: &str| world.metric(node, "meridian_conflicts_total", "overwritten");
    let sum: f64 = ["us-1", "eu-1", "ap-1"].into_iter().map(counted).sum();
    assert!(
        (sum - 1.0).abs() < f64::EPSILON,
        "once in the cluster: {sum}"
    );
    let over_http = world.http("eu-1", "/v1/conflicts?count=10").unwrap();
    let over_http: serde_json::Value = serde_json::from_str(&over_http).unwrap();
    let kinds: Vec<_> = over_http
        .as_array()
        .unwrap()
        .iter()
        .map(|one| &one["kind"])
        .collect();
    assert_eq!(kinds.len(), 2, "{over_http}");
    assert!(
        kinds.iter().any(|kind| *kind == "overwritten"),
        "{over_http}"
    );
}
