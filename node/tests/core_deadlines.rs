//! Goal: a client is told within `consistency.timeout` what became of its command, however many others it waits behind.
//!
//! Method: three replicas of one region; one is cut off from the others while commands on one key queue.

#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, its helpers too"
)]

mod core_support;

use core_support::{bytes, missed::setnx, replicas::Replicas, set};
use node::core::{
    op::{Action, Write},
    reply::Reply,
};

/// A client waits for others no longer than `consistency.timeout`, two seconds here, however many commands it has sent at once.
#[test]
fn p6_commands_that_wait_behind_each_other_time_out_together() {
    let mut three = Replicas::three();
    three.write(0, "k", set("v"));
    three.live(0..3, 10);
    three.cut_off(0);
    let ids: Vec<_> = (0..40)
        .map(|_| three.begin(0, "k", Action::Write(setnx("w"))))
        .collect();
    three.live(0..3, 25);
    let answered = ids
        .iter()
        .filter(|id| three.nodes[0].replies.iter().any(|(other, _)| other == *id))
        .count();
    let mut more = 0;
    while more < 200
        && ids
            .iter()
            .any(|id| !three.nodes[0].replies.iter().any(|(other, _)| other == id))
    {
        three.live(0..3, 1);
        more += 1;
    }
    assert_eq!(
        answered,
        40,
        "after 2.5 s; the last one {} ms later",
        more * 100
    );
}

/// A command that waited behind others for longer than `timeout` is not carried out afterwards: or its client was told nothing in time.
#[test]
fn p6_a_command_is_not_carried_out_after_its_time() {
    let mut three = Replicas::three();
    three.write(0, "k", set("v"));
    three.live(0..3, 10);
    three.cut_off(0);
    let ids: Vec<_> = (0..40)
        .map(|_| three.begin(0, "k", Action::Write(Write::Append { value: bytes("x") })))
        .collect();
    three.live(0..3, 25);
    three.mend();
    three.live(0..3, 30);
    let late = ids
        .iter()
        .filter(|id| {
            three.nodes[0]
                .replies
                .iter()
                .any(|(other, reply)| other == *id && matches!(reply, Reply::Int(_)))
        })
        .count();
    assert_eq!(late, 0, "{:?}", three.get(1, "k"));
}
