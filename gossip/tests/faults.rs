//! Goal: whatever the network, the machines and their clocks do, views become right again by themselves, and nobody is lost for
//! the faults of others.
//!
//! Method: settled clusters in virtual time; a fault; what is reported meanwhile; rounds until all views are right again.

mod common;

use std::time::Duration;

use common::{millis, seconds, settled, world, world::World};
use gossip::{Cause, Event, Standing};

fn all(world: &World) -> Vec<usize> {
    (0..world.hosts.len()).collect()
}

fn assert_heals(world: &mut World, rounds_max: u32, what: &str) {
    let rounds = world.rounds_until(rounds_max, World::is_converged);
    println!("{what}: healed after {rounds:?} rounds");
    assert!(rounds.is_some(), "{what}: not within {rounds_max} rounds");
}

#[test]
fn a_partition_of_minutes_heals_by_itself() {
    for (hosts, loss) in [(3, 0.0), (12, 0.0), (50, 0.2)] {
        let mut world = settled(hosts, loss, 11);
        let far: Vec<usize> = all(&world)
            .into_iter()
            .filter(|host| host % 3 == 2)
            .collect();
        let rest: Vec<usize> = all(&world)
            .into_iter()
            .filter(|host| host % 3 != 2)
            .collect();
        world.network.part(&far, &rest);
        world.run_for(seconds(180));
        assert_eq!(world.standing(0, 2), Some(Standing::Down));
        assert_eq!(world.standing(2, 0), Some(Standing::Down));
        world.network.heal();
        assert_heals(&mut world, 40, &format!("{hosts} hosts, loss {loss}"));
    }
}

#[test]
fn a_cut_off_region_is_suspected_with_the_path_as_the_cause() {
    let mut world = settled(12, 0.0, 12);
    let far: Vec<usize> = all(&world)
        .into_iter()
        .filter(|host| host % 3 == 2)
        .collect();
    let rest: Vec<usize> = all(&world)
        .into_iter()
        .filter(|host| host % 3 != 2)
        .collect();
    let begin = world.now();
    world.network.part(&far, &rest);
    world.run_for(seconds(20));
    let causes = causes(&world, 0, begin);
    let paths = causes
        .iter()
        .filter(|cause| **cause == Some(Cause::PathDown));
    // The first of a region to fall silent cannot be told from one that died.
    assert!(paths.count() >= causes.len() - 2, "{causes:?}");
}

fn causes(world: &World, observer: usize, since: Duration) -> Vec<Option<Cause>> {
    let events = world.reports_of(observer, since);
    let verdicts = events.filter_map(|event| match event {
        Event::Believed(verdict) if verdict.standing == Standing::Suspect => Some(verdict.cause),
        _ => None,
    });
    verdicts.collect()
}

#[test]
fn a_crash_is_suspected_with_the_peer_as_the_cause_and_then_it_is_down() {
    let mut world = settled(12, 0.0, 13);
    let begin = world.now();
    world.kill(5);
    world.run_for(seconds(1));
    assert!(world.all_see(5, Standing::Suspect));
    assert_eq!(causes(&world, 0, begin), [Some(Cause::PeerSlow)]);
    world.run_for(seconds(3));
    assert!(world.all_see(5, Standing::Down));
}

#[test]
fn a_tenth_of_the_nodes_crashes_and_returns() {
    for loss in [0.0, 0.2] {
        let mut world = settled(50, loss, 14);
        for host in [3, 13, 23, 33, 43] {
            world.kill(host);
        }
        world.run_for(seconds(30));
        assert!(world.is_converged(), "the survivors know who lives");
        for host in [3, 13, 23, 33, 43] {
            world.start(host);
        }
        assert_heals(&mut world, 20, &format!("a tenth returns, loss {loss}"));
    }
}

#[test]
fn everybody_restarts_at_once() {
    for down in [0, 60] {
        let mut world = settled(50, 0.1, 15);
        all(&world).into_iter().for_each(|host| world.kill(host));
        world.run_for(seconds(down));
        world.start_all();
        assert_heals(&mut world, 30, &format!("all were away for {down} s"));
    }
}

#[test]
fn a_link_that_works_one_way_only_makes_nobody_down() {
    let mut world = settled(12, 0.0, 16);
    let begin = world.now();
    world.network.cut(1, 7);
    world.network.cut(2, 8);
    world.run_for(seconds(120));
    assert_eq!(world.suspicions(begin, &all(&world)), 0, "others hear it");
    let verdict = world.gossip(1).verdict(&world.hosts[7].name);
    let verdict = verdict.expect("it is known");
    assert_eq!(
        verdict.cause,
        Some(Cause::PathDown),
        "it does not answer here"
    );
    assert!(!verdict.is_usable());
    world.network.heal();
    world.run_for(seconds(10));
    let verdict = world.gossip(1).verdict(&world.hosts[7].name);
    assert!(verdict.expect("it is known").is_usable());
}

#[test]
fn half_of_all_datagrams_lost_for_half_a_minute_loses_nobody() {
    for seed in 0..2 {
        let mut world = settled(50, 0.0, 17 + seed);
        let begin = world.now();
        world.network.lose(0.5);
        world.run_for(seconds(30));
        world.network.lose(0.0);
        world.run_for(seconds(10));
        let down = world.reports.iter().filter(|(at, _, event)| {
            let is_down = matches!(event, Event::Believed(v) if v.standing == Standing::Down);
            *at >= begin && is_down
        });
        assert_eq!(down.count(), 0);
        println!("{} suspicions", world.suspicions(begin, &all(&world)));
        assert!(world.is_converged());
    }
}

#[test]
fn fifteen_per_cent_loss_and_jitter_between_regions_for_two_minutes_make_nobody_down() {
    let mut world = settled(9, 0.0, 20);
    let begin = world.now();
    world.network.far.loss = 0.15;
    world.network.far.jitter = millis(50);
    world.run_for(seconds(120));
    assert_eq!(world.suspicions(begin, &all(&world)), 0);
}

#[test]
fn a_paused_process_is_suspected_and_back_at_once_and_suspects_nobody_itself() {
    for hosts in [3, 12, 50] {
        let mut world = settled(hosts, 0.0, 21);
        let begin = world.now();
        world.pause(2, seconds(20));
        world.run_for(seconds(20));
        assert!(world.all_see(2, Standing::Down));
        let rounds = world.rounds_until(20, World::is_converged);
        println!("{hosts} hosts: back after {rounds:?} rounds");
        assert!(rounds.is_some_and(|rounds| rounds <= 6), "{rounds:?}");
        world.run_for(seconds(30));
        let others: Vec<usize> = all(&world).into_iter().filter(|host| *host != 2).collect();
        assert_eq!(world.suspicions(begin, &others), 0);
        let slept = world.reports_of(2, begin);
        let slept = slept.filter(|event| matches!(event, Event::Slept(_)));
        assert_eq!(slept.count(), 1);
    }
}

/// Connections die in a long sleep, and are made anew: half a second more in which nothing comes in.
#[test]
fn a_process_that_has_to_reconnect_after_a_sleep_doubts_itself_before_others() {
    let mut world = settled(12, 0.0, 27);
    let begin = world.now();
    let others: Vec<usize> = all(&world).into_iter().filter(|host| *host != 4).collect();
    world.network.part(&[4], &others);
    world.pause(4, seconds(20));
    world.run_for(millis(20_600));
    world.network.heal();
    world.run_for(seconds(30));
    assert_eq!(world.suspicions(begin, &others), 0);
    assert!(world.is_converged());
}

#[test]
fn a_clock_that_jumps_makes_its_node_suspect_nobody() {
    for forward in [true, false] {
        let mut world = world(12, 0.0, 22);
        world.hosts[4].monotonic_ahead = seconds(7_200);
        world.start_all();
        assert!(world.rounds_until(50, World::is_converged).is_some());
        world.run_for(seconds(20));
        let begin = world.now();
        world.hosts[4].monotonic_ahead = if forward { seconds(9_000) } else { seconds(0) };
        world.run_for(seconds(30));
        assert_eq!(
            world.suspicions(begin, &all(&world)),
            0,
            "forward: {forward}"
        );
        assert!(world.is_converged());
    }
}

#[test]
fn a_node_that_keeps_falling_and_rising_is_believed_later_each_time() {
    let mut world = settled(6, 0.0, 23);
    let mut waits = Vec::new();
    for _ in 0..6 {
        world.pause(5, seconds(2));
        world.run_for(seconds(2));
        assert!(!world.all_see(5, Standing::Up));
        let back = world.now();
        let rounds = world.rounds_until(400, |world| world.all_see(5, Standing::Up));
        assert!(rounds.is_some(), "it is believed again some time");
        waits.push(world.now() - back);
    }
    println!("waits: {waits:?}");
    assert!(waits[0] <= seconds(1));
    assert!(waits[5] >= 3 * waits[0]);
}

#[test]
fn a_dead_node_is_not_brought_back_by_old_datagrams() {
    let mut world = settled(12, 0.0, 24);
    world.tape = Some(Vec::new());
    world.run_for(seconds(5));
    let tape = world.tape.take().unwrap_or_default();
    world.kill(5);
    world.run_for(seconds(10));
    let begin = world.now();
    for (source, to, bytes) in tape {
        if to != 5 {
            world.inject(source, to, bytes);
        }
        world.run_for(millis(2));
    }
    world.run_for(seconds(10));
    let risen = world.reports.iter().filter(|(at, _, event)| {
        let is_it = |v: &gossip::Verdict| v.node == world.hosts[5].name;
        *at >= begin
            && matches!(event, Event::Believed(v) if is_it(v) && v.standing == Standing::Up)
    });
    assert_eq!(risen.count(), 0);
    assert!(world.all_see(5, Standing::Down));
}

#[test]
fn a_seed_gives_the_same_run_twice() {
    let run = || {
        let mut world = settled(12, 0.2, 25);
        world.kill(3);
        world.run_for(seconds(20));
        (world.reports, world.network.fate(0, 1))
    };
    assert_eq!(run(), run());
}

#[test]
fn clocks_are_compared_and_the_one_that_differs_from_the_majority_knows_it() {
    use gossip::ClockStanding::{Agrees, Deviates};
    let mut world = settled(6, 0.0, 26);
    let skew = seconds(1);
    assert!(
        all(&world)
            .iter()
            .all(|host| world.gossip(*host).clock_standing(skew) == Agrees)
    );
    world.hosts[3].wall_ahead_ms = 60_000;
    // Its own step shows at its next wakeup; that of another with the next exchanges, and accuses nobody who is right.
    world.run_for(millis(100));
    let Deviates { ahead_ms } = world.gossip(3).clock_standing(skew) else {
        panic!("its clock is wrong");
    };
    assert!((59_900..60_100).contains(&ahead_ms), "{ahead_ms}");
    world.run_for(seconds(60));
    assert!(matches!(
        world.gossip(3).clock_standing(skew),
        Deviates { .. }
    ));
    assert_eq!(world.gossip(0).clock_standing(skew), Agrees);
    let member = world.gossip(0).member(&world.hosts[3].name);
    let offset = member
        .and_then(|member| member.clock_offset)
        .expect("it was measured");
    assert!(
        (offset.ahead_ms - 60_000).unsigned_abs() <= offset.error_ms + 1,
        "{offset:?}"
    );
    let rtt = member
        .and_then(|member| member.rtt)
        .expect("it was measured");
    assert!(
        (millis(2)..millis(5)).contains(&rtt),
        "both are in one region: {rtt:?}"
    );
}
